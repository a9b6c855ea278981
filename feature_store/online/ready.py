"""What says that online values can be believed: the ready record of a shard, and the generation of the store.

A shard writes its record with every batch and every tick. It withdraws it while it catches up, so that nobody takes
what is not there yet for an empty window. A batch view has a record of its own, written after its rows.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import msgspec

from feature_store.online.keys import generation_key, ready_key
from feature_store.time_rule import EARLIEST_US, LATEST_US
from feature_store.untrusted import decoded

if TYPE_CHECKING:
    from redis import Redis

SHARDS = "shards"
"""The field of `ready:<env>` that says how many shards there are."""

MOST_SHARDS = 1 << 16
"""That a reader believes in: it looks for the record of each."""

EXPIRY_SLACK_US = 3_600_000_000
"""How much longer than its validity a value must stay in Redis at least, by the clock of the flow. A read of a time
not longer ago than this can take a missing value for an empty one."""

STALE_US = 3_600_000_000
"""How long past its SLA a row of a batch view is served as STALE; after that it is worth nothing, whether or not Redis
still has it. So what a read says does not depend on when a server reclaims memory."""

Positions = dict[str, dict[int, int]]
"""Source -> partition -> next offset to read."""


class ReadyRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a shard (or the publisher of a batch view) vouches for."""

    field: str
    """The number of the shard, or `view@version` of a batch view."""
    generation: str
    """The store in which the values were written."""
    fingerprint: str = ""
    """Of the definitions that the values follow."""
    views: dict[str, int] = {}
    """`view@version` -> layout of the views whose values are all there; a missing value of another is UNKNOWN."""
    run: int = 0
    n: int = 0
    positions: Positions = {}
    beat_us: int
    """When the record was written, by the clock of the flow; of a batch view, the time of its rows."""
    oldest_unread_us: int | None = None
    """Arrival of the oldest record that the values do not know yet; None: everything was read."""
    caught_up: bool = True
    evicts: bool = False
    """The server may drop values when memory is short."""

    def __post_init__(self) -> None:
        for time_us in (self.beat_us, self.oldest_unread_us):
            if time_us is not None and not EARLIEST_US <= time_us <= LATEST_US:
                raise ValueError(f"times must lie in the years 1 to 9999, got {time_us}")


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ReadyRecord).decode


def encode_ready(record: ReadyRecord) -> bytes:
    """The record as it stands in Redis."""
    return _encode(record)


def decode_ready(value: bytes) -> ReadyRecord:
    """The record that `encode_ready` made.

    Raises:
        msgspec.DecodeError: if it is none.
    """
    return decoded(_decode, value)


def write_ready(client: Redis, env: str, record: ReadyRecord) -> None:
    """Write one record outside of a batch."""
    client.hset(ready_key(env), record.field, encode_ready(record))


def read_ready(client: Redis, env: str) -> dict[str, ReadyRecord]:
    """All ready records by their field; one that cannot be read counts as missing."""
    return parse_ready(cast("dict[bytes, bytes]", client.hgetall(ready_key(env))))


def parse_ready(fields: Mapping[bytes, bytes]) -> dict[str, ReadyRecord]:
    """The records of the hash `ready:<env>`."""
    records: dict[str, ReadyRecord] = {}
    for field, value in fields.items():
        if field == SHARDS.encode():
            continue
        try:
            records[field.decode()] = decode_ready(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # no record at all is what such bytes are worth
    return records


def shards_of(fields: Mapping[bytes, bytes]) -> int:
    """The number of shards that the hash `ready:<env>` names; 1 if it names none."""
    value = fields.get(SHARDS.encode(), b"1")
    return int(value) if value.isdigit() and len(value) <= 5 and 0 < int(value) <= MOST_SHARDS else 1


def store_generation(client: Redis, env: str) -> str:
    """The generation of the store; a store without one gets a new one, so an emptied store is another."""
    key = generation_key(env)
    client.set(key, secrets.token_hex(8), nx=True)
    found = client.get(key)
    return found.decode() if isinstance(found, bytes) else str(found)
