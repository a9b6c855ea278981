"""What a key may do. Nothing follows from anything else: who administers reads no value, who reads a view publishes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import msgspec

from feature_store.errors import InputError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATTERN = re.compile(r"[A-Za-z0-9_*]+")


class Grants(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a key may do; names of services, views and sources without versions, in which `*` stands for any text.

    >>> str(Grants(services=("fraud", "risk_*"), metrics=True))
    'service:fraud service:risk_* metrics'
    """

    services: tuple[str, ...] = ()
    """That it reads."""
    views: tuple[str, ...] = ()
    """Whose features it reads without a service."""
    sources: tuple[str, ...] = ()
    """To which it publishes events."""
    personal: tuple[str, ...] = ()
    """Views with personal data that it may read as far as the others allow it; full names, no `*`."""
    metrics: bool = False
    """Whether it reads the server's metrics."""
    admin: bool = False
    """Whether it sees all that is described, and who has which key."""

    def __str__(self) -> str:
        listed = (
            ("service", self.services),
            ("view", self.views),
            ("source", self.sources),
            ("personal", self.personal),
        )
        told = [f"{kind}:{name}" for kind, names in listed for name in names]
        return " ".join([*told, *(["metrics"] if self.metrics else []), *(["admin"] if self.admin else [])])


def check_grants(grants: Grants) -> None:
    """Refuse grants that cannot be meant.

    Raises:
        InputError: there are none, or a name has characters that no name has.
    """
    if not str(grants):
        raise InputError("a key must be granted something: services, views, sources, metrics or admin, got nothing")
    for kind, names in (("service", grants.services), ("view", grants.views), ("source", grants.sources)):
        for name in names:
            if not _PATTERN.fullmatch(name):
                raise InputError(f"`{kind}` must be a name, in which `*` stands for any text, got '{name}'")
    for name in grants.personal:
        if not _NAME.fullmatch(name):
            raise InputError(f"`personal` must be the name of one view, got '{name}'")


def exact(names: Iterable[str]) -> list[str]:
    """Those that name one thing."""
    return [name for name in names if "*" not in name]


def _matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    parts = [".*".join(map(re.escape, pattern.split("*"))) for pattern in patterns]
    matches = re.compile("|".join(parts) if parts else r"(?!)", re.DOTALL).fullmatch
    return lambda name: matches(name) is not None


class Allowed:
    """Grants made ready to be asked, some hundred nanoseconds each time."""

    __slots__ = ("admin", "metrics", "personal", "service", "source", "view")

    def __init__(self, grants: Grants) -> None:
        self.service: Callable[[str], bool] = _matcher(grants.services)
        self.view: Callable[[str], bool] = _matcher(grants.views)
        self.source: Callable[[str], bool] = _matcher(grants.sources)
        self.personal: Callable[[str], bool] = frozenset(grants.personal).__contains__
        self.metrics, self.admin = grants.metrics or grants.admin, grants.admin


ANYONE = Allowed(Grants(services=("*",), views=("*",), sources=("*",), metrics=True, admin=True))
"""Everything but personal data: who asks a server that nobody made keys for."""
