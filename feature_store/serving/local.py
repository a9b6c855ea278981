"""What this machine is called, for a server that has no keys: all that keeps a page in somebody's browser away from it.

A page whose own name is made to stand for 127.0.0.1 (DNS rebinding) is, to a browser, at home on the server; the name
stays in what it sends. Browsers speak no gRPC, so there is nothing to look at in its calls.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from feature_store.errors import shown
from feature_store.serving.problem import Problem

if TYPE_CHECKING:
    from starlette.datastructures import Headers


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host.

    >>> is_loopback("127.0.0.2"), is_loopback("::1"), is_loopback("localhost"), is_loopback("localhost.example")
    (True, True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_local(headers: Headers) -> None:
    """Refuse what was not addressed to this machine, or comes from a page of another.

    Raises:
        Problem: `Host` is not a name or an address of the loopback, or `Origin` is there and is not.
    """
    for name, given in (("Host", headers.get("host", "")), ("Origin", headers.get("origin"))):
        if given is not None and not _is_local(given):
            raise Problem(
                "not-local",
                f"without API keys only this machine is answered: `{name}` must be a loopback address or localhost, "
                f"got {shown(given)}; make a key with `feature-store keys create`",
            )


@lru_cache(maxsize=64)
def _is_local(given: str) -> bool:
    """Whether `host:port`, or `scheme://host:port`, is on this machine."""
    try:
        host = urlsplit(given if "://" in given else f"//{given}").hostname
    except ValueError:
        return False
    return host is not None and is_loopback(host.removesuffix("."))
