"""API keys: `fsk_<id>_<secret>`. The id stands in logs and books, the secret nowhere: only a digest of the whole is kept.

A secret has 256 random bits, so nobody finds it by trying, and one SHA-256 hides it as well as a slow hash would; slow
hashes are for what people can remember. So a key is checked anew with each request, in about two microseconds.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator

import msgspec

from feature_store.access.grants import Grants
from feature_store.errors import InputError
from feature_store.time_rule import EARLIEST_US, LATEST_US

PREFIX = "fsk"
_FORM = re.compile(r"fsk_([a-z0-9]{8})_[A-Za-z0-9_-]{43}")
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_NAMED = 80


class Secret(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A digest that a key is known by."""

    digest: str
    until_us: int | None = None
    """When it ends, of one that was rotated out."""


class ApiKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key as it is kept."""

    id: str
    name: str
    """Who or what has it, in words."""
    grants: Grants
    secrets: tuple[Secret, ...]
    created_us: int
    created_by: str
    expires_us: int | None = None
    revoked_us: int | None = None

    def __post_init__(self) -> None:
        for time_us in (self.created_us, self.expires_us, self.revoked_us):
            if time_us is not None and not EARLIEST_US <= time_us <= LATEST_US:
                raise ValueError(f"times must lie in the years 1 to 9999, got {time_us}")

    def state(self, now_us: int) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_us is not None:
            return "revoked"
        return "expired" if self.expires_us is not None and now_us >= self.expires_us else "active"


def make_key(name: str, grants: Grants, *, now_us: int, by: str, expires_us: int | None = None) -> tuple[ApiKey, str]:
    """A new key, and the text that its holder is given: it cannot be had again.

    Raises:
        InputError: the name is empty, too long or not printable, or the key would have expired already.
    """
    if not name.strip() or not name.isprintable() or len(name) > _NAMED:
        raise InputError(f"`name` must be printable text of at most {_NAMED} characters, got {name!r}")
    if expires_us is not None and expires_us <= now_us:
        raise InputError("`expires` must be in the future")
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    text = _text(key_id)
    key = ApiKey(
        id=key_id,
        name=name.strip(),
        grants=grants,
        secrets=(Secret(digest=digest(text)),),
        created_us=now_us,
        created_by=by,
        expires_us=expires_us,
    )
    return key, text


def rotated(key: ApiKey, *, now_us: int, overlap_us: int) -> tuple[ApiKey, str]:
    """The key with a new secret, and its text. The old secret works for `overlap_us` more; those before it no more.

    Raises:
        InputError: it is revoked or has expired.
    """
    if (state := key.state(now_us)) != "active":
        raise InputError(f"key '{key.id}' is {state}; create another")
    text = _text(key.id)
    kept = [msgspec.structs.replace(key.secrets[0], until_us=now_us + overlap_us)] if overlap_us else []
    return msgspec.structs.replace(key, secrets=(Secret(digest=digest(text)), *kept)), text


def revoked(key: ApiKey, *, now_us: int) -> ApiKey:
    """The key, of no use any more and without any digest.

    Raises:
        InputError: it is revoked already.
    """
    if key.revoked_us is not None:
        raise InputError(f"key '{key.id}' is revoked already")
    return msgspec.structs.replace(key, revoked_us=now_us, secrets=())


def id_of(text: str) -> str | None:
    """The id in the text of a key; None if that has another form."""
    found = _FORM.fullmatch(text)
    return found[1] if found else None


def is_secret_of(text: str, key: ApiKey, *, now_us: int) -> bool:
    """Whether a text is one that the key is known by now."""
    given = digest(text)
    return any(hmac.compare_digest(given, known) for known in _digests(key, now_us))


def digest(text: str) -> str:
    """As which a text is kept."""
    return hashlib.sha256(text.encode()).hexdigest()


def _digests(key: ApiKey, now_us: int) -> Iterator[str]:
    return (each.digest for each in key.secrets if each.until_us is None or now_us < each.until_us)


def _text(key_id: str) -> str:
    return f"{PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
