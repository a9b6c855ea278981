"""Who asks: the key in a request's header becomes what its holder may do.

Keys are looked up every second, in one round trip for all requests, and a request is refused when that has not succeeded
for five: so a key that was revoked is of no use after that time, whatever happens to Redis.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from feature_store.access.grants import ANYONE, Allowed
from feature_store.access.keyring import Keyring, decode_keyring
from feature_store.errors import KeyRefused, NotGranted, OnlineStoreError
from feature_store.online.keys import access_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from feature_store.access.keys import ApiKey
    from feature_store.clock import Clock
    from feature_store.reader.async_transport import AsyncTransport

LOOK_S = 1.0
"""How often keys are looked up."""
TRUST_S = 5.0
"""For how long they are believed without a look that succeeded."""
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/=-]{1,512})", re.IGNORECASE)


@dataclass(slots=True)
class Caller:
    """Who sent a request, what he may do, and what he wanted, for the audit log."""

    key: ApiKey | None
    """None: somebody on this machine, asking a server that nobody made keys for."""
    may: Allowed
    what: str = ""
    rows: int = 0

    @property
    def id(self) -> str | None:
        """Of the key."""
        return None if self.key is None else self.key.id

    def needs(self, grant: str, *, has: bool) -> None:
        """Refuse what is not granted. It is asked before names are looked up, so no answer tells which there are.

        Raises:
            NotGranted: it is not.
        """
        if not has:
            raise NotGranted(self.id, grant)

    def reads_service(self, name: str) -> None:
        """As `needs`, of a service by its bare name."""
        self.needs(f"service:{name}", has=self.may.service(name))

    def reads_view(self, name: str) -> None:
        """As `needs`, of a view."""
        self.needs(f"view:{name}", has=self.may.view(name))

    def reads_personal(self, views: Iterable[str]) -> None:
        """As `needs`, of views with personal data."""
        for view in views:
            self.needs(f"personal:{view}", has=self.may.personal(view))

    def sees_service(self, name: str, personal: Iterable[str]) -> bool:
        """Whether a service is described to him: he can read it, or administers."""
        return self.may.admin or (self.may.service(name) and all(map(self.may.personal, personal)))

    def sees_view(self, name: str, *, personal: bool) -> bool:
        """Whether a view is described to him."""
        return self.may.admin or (self.may.view(name) and (not personal or self.may.personal(name)))

    def sees_source(self, name: str) -> bool:
        """Whether a source is described to him."""
        return self.may.admin or self.may.source(name)


@dataclass(slots=True)
class Guard:
    """Knows the keys of an environment."""

    transport: AsyncTransport
    env: str
    clock: Clock
    is_required: bool = False
    """Whether a key is asked for even if nobody made one."""
    _keyring: Keyring | None = None
    _raw: bytes | None = None
    _allowed: dict[str, Allowed] = field(default_factory=dict)
    _seen: dict[bytes, tuple[ApiKey | None, Allowed]] = field(default_factory=dict)
    """Digest of a header -> whose key was in it, since the last look: a request that comes again costs two microseconds."""
    _look_at_s: float = 0.0
    _confirmed_s: float = -TRUST_S
    _problem: str = "they were not looked up yet"
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def caller(self, authorization: Sequence[str]) -> Caller:
        """Who sent a request.

        Args:
            authorization: the headers of that name.

        Raises:
            KeyRefused: nobody who is known.
            OnlineStoreError: the keys cannot be looked up.
        """
        now_s = time.monotonic()
        if now_s >= self._look_at_s or now_s >= self._confirmed_s + TRUST_S:
            await self.keyring()
        seen = hashlib.sha256(authorization[0].encode()).digest() if len(authorization) == 1 else b""
        found = self._seen.get(seen)
        if found is None:
            found = self._find(authorization)
            if found[0] is not None:
                self._seen[seen] = found
        return Caller(*found)

    def _find(self, authorization: Sequence[str]) -> tuple[ApiKey | None, Allowed]:
        keyring = self._keyring
        assert keyring is not None
        if keyring.is_open and not self.is_required:
            return None, ANYONE
        key = keyring.find(_given(authorization), now_us=self.clock.now_us())
        return key, self._allowed[key.id]

    async def keyring(self) -> Keyring:
        """The keys, as they were a second ago at most; five seconds while Redis does not say.

        Raises:
            OnlineStoreError: it has not said for longer.
        """
        # Who comes while somebody looks waits for it only where nothing else is to be believed.
        if not self._is_trusted if self._looking.locked() else time.monotonic() >= self._look_at_s:
            async with self._looking:
                if time.monotonic() >= self._look_at_s:
                    await self._look()
        if self._keyring is None or not self._is_trusted:
            raise OnlineStoreError(f"the API keys of the environment '{self.env}' are not known: {self._problem}")
        return self._keyring

    @property
    def _is_trusted(self) -> bool:
        return time.monotonic() - self._confirmed_s < TRUST_S

    async def _look(self) -> None:
        self._seen.clear()
        self._look_at_s = time.monotonic() + LOOK_S
        try:
            [raw] = await self.transport.exchange([("GET", access_key(self.env))])
            self._learn(raw)
        except OnlineStoreError as error:
            self._problem = str(error)
        except msgspec.DecodeError as error:
            self._problem = f"what stands in Redis cannot be read: {error}"

    def _learn(self, raw: object) -> None:
        """Take what was found; an emptied store, or an older one, says nothing."""
        if not isinstance(raw, bytes):
            self._problem = "nothing stands in Redis; run `feature-store apply`"
            return
        if raw != self._raw:
            found = decode_keyring(raw)
            if self._keyring is not None and found.version < self._keyring.version:
                self._problem = "what stands in Redis is older than what was known; run `feature-store apply`"
                return
            self._allowed = {key.id: Allowed(key.grants) for key in found.keys.values()}
            self._keyring, self._raw = found, raw
            self._seen.clear()  # of what was seen while we waited
        self._confirmed_s = time.monotonic()


def _given(authorization: Sequence[str]) -> str:
    """The key in the header.

    Raises:
        KeyRefused: there is none, or the header has another form; what came is not repeated, it may be a password.
    """
    if not authorization:
        raise KeyRefused("a key is needed: the header `Authorization: Bearer <key>`", is_missing=True)
    found = _BEARER.fullmatch(authorization[0].strip()) if len(authorization) == 1 else None
    if found is None:
        got = f"{len(authorization)} of them" if len(authorization) > 1 else "something else"
        raise KeyRefused(f"`Authorization` must be `Bearer <key>`, got {got}")
    return found[1]
