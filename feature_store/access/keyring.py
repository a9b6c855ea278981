"""All keys of an environment as one value with a version: what the lake keeps, and what servers find in Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import msgspec

from feature_store.access.keys import ApiKey, id_of, is_secret_of
from feature_store.errors import KeyRefused, UnknownNameError
from feature_store.online.keys import access_key
from feature_store.time_rule import from_us
from feature_store.untrusted import decoded

if TYPE_CHECKING:
    from redis import Redis


class Keyring(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of an environment. Version 0: nobody ever made one, so none is asked for on a loopback address."""

    version: int = 0
    keys: Mapping[str, ApiKey] = {}
    """By their ids."""

    @property
    def is_open(self) -> bool:
        """Whether nobody ever made a key. What was closed once stays closed, even if all keys are revoked."""
        return self.version == 0

    def key(self, key_id: str) -> ApiKey:
        """A key by its id.

        Raises:
            UnknownNameError: there is none.
        """
        if key_id not in self.keys:
            raise UnknownNameError("key", key_id, self.keys)
        return self.keys[key_id]

    def find(self, text: str, *, now_us: int) -> ApiKey:
        """The key that a text is.

        Raises:
            KeyRefused: it is none, is revoked or has expired. A text that is no known key is never repeated.
        """
        key_id = id_of(text)
        if key_id is None:
            raise KeyRefused("what was given has not the form of a key")
        key = self.keys.get(key_id)
        if key is None or not is_secret_of(text, key, now_us=now_us):
            raise KeyRefused("there is no such key, or it was revoked or rotated", None if key is None else key_id)
        if key.state(now_us) == "expired":
            raise KeyRefused(f"key '{key_id}' expired at {from_us(key.expires_us or 0):%Y-%m-%d %H:%M:%S} UTC", key_id)
        return key

    def with_key(self, key: ApiKey) -> Keyring:
        """The next version, with a key that is new or has changed."""
        return Keyring(version=self.version + 1, keys={**self.keys, key.id: key})

    def published(self) -> Keyring:
        """What servers need of it: nothing of revoked keys."""
        return Keyring(version=self.version, keys={i: key for i, key in self.keys.items() if key.revoked_us is None})


_decode = msgspec.json.Decoder(Keyring).decode


def encode_keyring(keyring: Keyring) -> bytes:
    """As JSON."""
    return msgspec.json.encode(keyring)


def decode_keyring(value: bytes | str) -> Keyring:
    """What `encode_keyring` made.

    Raises:
        msgspec.DecodeError: if it is none.
    """
    return decoded(_decode, value.encode() if isinstance(value, str) else value)


def read_published(client: Redis, env: str) -> Keyring | None:
    """What servers find in Redis; None if nothing is there, or nothing that can be read."""
    value = cast("bytes | None", client.get(access_key(env)))
    try:
        return None if value is None else decode_keyring(value)
    except msgspec.DecodeError:
        return None
