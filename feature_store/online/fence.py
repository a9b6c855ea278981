"""Who may write the values of stream views: one run at a time, checked by the server with every write.

The key `owner:<env>` names that run. A writer WATCHes it, and the number of its own last write, and sends what it
writes as one transaction, which the server drops if either was touched. Both are read again behind the transaction, in
the same packet, so the check costs no round trip: a run that was stopped, superseded and woken up changes nothing, and
a store that was emptied or went back to an older state is noticed before the next write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from feature_store.errors import FlowSuperseded, StoreLost
from feature_store.online.commands import pack_command
from feature_store.online.keys import owner_key, tail_key


class Owner(NamedTuple):
    """A run and the generation of the store that it writes to."""

    run: int
    generation: str

    def encode(self) -> bytes:
        """As it stands in Redis."""
        return f"{self.run} {self.generation}".encode()


def parse_owner(value: bytes | None) -> Owner | None:
    """The owner that stands in Redis; None if there is none."""
    run, _, generation = (value or b"").decode().partition(" ")
    return Owner(int(run), generation) if run.isdigit() else None


class Fence:
    """The right of one shard of a run to write. It remembers what it wrote last."""

    def __init__(self, env: str, owner: Owner, shard: int) -> None:
        self.owner = owner
        keys = (owner_key(env).encode(), tail_key(env, shard).encode())
        self._tail_key = keys[1]
        self.watch = pack_command((b"WATCH", *keys)) + pack_command((b"MGET", *keys))
        """Two commands: what `check` wants is the reply to the second."""
        self._number = 0
        self._written: list[bytes | None] = []
        """What may stand there as the last write; two after one whose fate is unknown, anything before the first."""

    def wrap(self, commands: bytes) -> bytes:
        """A transaction of these commands that leaves a new number: three commands more."""
        self._number += 1
        number = b"%d-%d" % (self.owner.run, self._number)
        self._written = [*self._written[-1:], number]
        mark = pack_command((b"SET", self._tail_key, number))
        return b"".join((pack_command((b"MULTI",)), commands, mark, pack_command((b"EXEC",)), self.watch))

    def check(self, reply: Sequence[bytes | None]) -> None:
        """Judge what stands in the store.

        Raises:
            FlowSuperseded: a newer run owns it.
            StoreLost: it is not what this shard left there.
        """
        found, tail = parse_owner(reply[0]), reply[1]
        if found is not None and found.run > self.owner.run:
            raise FlowSuperseded(self.owner.run, found.run)
        if found is None:
            raise StoreLost("the online store was emptied")
        if found != self.owner or (self._written and tail not in self._written):
            raise StoreLost("the online store went back to an older state")
        self._written = [tail]
