"""Keys kept in the lake: a row for every change, with who made it. Redis holds a copy, written again whenever it is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from feature_store.access.actor import whoever
from feature_store.access.keyring import Keyring, decode_keyring, encode_keyring
from feature_store.errors import LakeError
from feature_store.online.keys import access_key
from feature_store.online.server import check_server

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import Pipeline

    from feature_store.clock import Clock
    from feature_store.lake import Lake

BOOK = "access_keys"
"""Table: a row for every version of the keyring: when, by whom, what was done, and the whole of it."""
_ATTEMPTS = 10

Result = TypeVar("Result")
Change = Callable[[Keyring], tuple[Keyring, str, Result]]
"""The next version, what is done in words, and what the caller wants of it."""


def read_keyring(lake: Lake) -> Keyring:
    """The keys that there are now, revoked ones too."""
    if not lake.exists(BOOK):
        return Keyring()
    with lake.reading() as cursor:
        row = cursor.execute(f"SELECT keyring FROM {lake.table_sql(BOOK)} ORDER BY version DESC LIMIT 1").fetchone()
    return Keyring() if row is None else decode_keyring(row[0])


def change_keys(change: Change[Result], *, lake: Lake, client: Redis, env: str, clock: Clock) -> Result:
    """Change the keys: in the lake, then for the servers. If it dies in between, any other change or `apply` completes it.

    Raises:
        OnlineStoreError: Redis is away; nothing was written.
        LakeError: others change keys all the time; nothing was written.
    """
    check_server(client)
    for _ in range(_ATTEMPTS):
        before = read_keyring(lake)
        after, what, result = change(before)
        rows = {BOOK: _row(after, what, at_us=clock.now_us())}
        if lake.append_next(rows, book=BOOK, after=before.version) is not None:
            publish_keyring(client, env, lake)
            return result
    raise LakeError("others change keys all the time; nothing was written, try again")


def publish_keyring(client: Redis, env: str, lake: Lake) -> None:
    """Write what the lake says for the servers of an environment; of two who do so at once, the newest wins."""

    def write(pipeline: Pipeline) -> None:
        newest = encode_keyring(read_keyring(lake).published())  # while Redis is watched
        pipeline.multi()
        pipeline.set(access_key(env), newest)

    client.transaction(write, access_key(env))


def _row(keyring: Keyring, what: str, *, at_us: int) -> pa.Table:
    return pa.table(
        {
            "version": pa.array([keyring.version], type=pa.int64()),
            "changed_us": pa.array([at_us], type=pa.int64()),
            "changed_by": [whoever()],
            "what": [what],
            "keyring": [encode_keyring(keyring).decode()],
        }
    )
