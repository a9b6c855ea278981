"""TLS to Redis, by the options of a `rediss://` URL that redis-py has too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_store.errors import InputError

if TYPE_CHECKING:
    import ssl

CA, CERTIFICATE, KEY = "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"
OPTIONS = (CA, CERTIFICATE, KEY)
"""Files in PEM: the authorities that are believed instead of the machine's; a certificate of our own and its key."""


def tls_context(options: dict[str, str], *, shown: str) -> ssl.SSLContext:
    """What a connection is secured by: the server's certificate is checked, and its name.

    Args:
        options: of the URL, some of OPTIONS.
        shown: the URL without secrets, for errors.

    Raises:
        InputError: a file cannot be read or is no PEM, or one of a certificate and its key is missing.
    """
    import ssl

    if (CERTIFICATE in options) != (KEY in options):
        raise InputError(f"`{CERTIFICATE}` and `{KEY}` of a URL are given together, got one of them in '{shown}'")
    try:
        context = ssl.create_default_context(cafile=options.get(CA))
        if CERTIFICATE in options:
            context.load_cert_chain(options[CERTIFICATE], options[KEY], password=_no_password)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        files = ", ".join(f"`{name}` '{path}'" for name, path in options.items())
        raise InputError(f"{files} of '{shown}' are of no use: {why}") from error
    return context


def _no_password() -> str:
    raise ValueError("the key has a password")
