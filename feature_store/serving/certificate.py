"""The certificate with which the API speaks HTTPS, and gRPC over TLS."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, NamedTuple

from feature_store.errors import SettingsError

if TYPE_CHECKING:
    from feature_store.settings import Settings

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: with forward secrecy and authenticated encryption. Those of TLS 1.3 all are so."""


class Certificate(NamedTuple):
    """Two PEM files."""

    file: str
    key: str


def certificate_of(settings: Settings) -> Certificate | None:
    """The certificate that the settings name; None if they name none.

    Raises:
        SettingsError: only one of the files is named, one cannot be read, or they do not belong together.
    """
    file, key = settings.api_tls_certificate, settings.api_tls_key
    if file is None and key is None:
        return None
    if file is None or key is None:
        missing = "api_tls_certificate" if file is None else "api_tls_key"
        raise SettingsError(f"setting `{missing}` is missing: a certificate and its key are named together")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file, key, password=_no_password)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise SettingsError(
            f"settings `api_tls_certificate` and `api_tls_key`: '{file}' and '{key}' are no certificate with its key ({why})"
        ) from error
    return Certificate(str(file), str(key))


def _no_password() -> str:
    raise ValueError("the key has a password")
