"""The commands that fetch the rows of a read: one by one for whoever takes them so, or all at once as they are sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from feature_store.reader.plan import ReadPlan

Command = tuple[str | bytes, ...]
Pack = Callable[[Command], bytes]


class Lookups(Sequence[Command]):
    """What `commands_of` gives for rows of which no key is null, and a command behind them."""

    __slots__ = ("_keys", "_last", "_plan")

    def __init__(self, plan: ReadPlan, keys: Sequence[str], last: Command) -> None:
        self._plan, self._keys, self._last = plan, keys, last

    def __len__(self) -> int:
        return len(self._keys) // len(self._plan.entities) * len(self._plan.fetches) + 1

    def __iter__(self) -> Iterator[Command]:
        return chain(commands_of(self._plan, self._keys), (self._last,))

    @overload
    def __getitem__(self, index: int) -> Command: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Command]: ...
    def __getitem__(self, index: int | slice) -> Command | Sequence[Command]:
        return [*self][index]

    def packed(self, pack: Pack) -> bytes:
        """All of them as they are sent: only lengths and keys differ, so nothing else is packed anew."""
        keys, width = self._keys, len(self._plan.entities)
        columns = [fetch.heads.commands(keys[fetch.entity :: width]) for fetch in self._plan.fetches]
        text = "".join(columns[0] if len(columns) == 1 else chain.from_iterable(zip(*columns, strict=True)))
        if text.isascii():  # else its lengths are none of bytes
            return text.encode() + pack(self._last)
        return b"".join([pack(command) for command in self])


class Heads(dict[int, str]):
    """What stands before a key in the command that looks it up, by the length of the key."""

    def __init__(self, prefix: str, fields: Sequence[str]) -> None:
        self._prefix = prefix
        self._begin = f"*{len(fields) + 2}\r\n$5\r\nHMGET\r\n$"
        self._end = "}\r\n" + "".join(f"${len(field)}\r\n{field}\r\n" for field in fields)

    def __missing__(self, length: int) -> str:
        head = self[length] = f"{self._begin}{len(self._prefix) + length + 1}\r\n{self._prefix}"
        return head

    def commands(self, keys: Sequence[str]) -> list[str]:
        """One for each key."""
        end = self._end
        return [f"{self[len(key)]}{key}{end}" for key in keys]


def commands_of(plan: ReadPlan, keys: Sequence[str | None]) -> list[Command]:
    """One HMGET for every row, entity and kind of key, except for null keys; row by row."""
    return [
        ("HMGET", f"{fetch.prefix}{key}}}", *fetch.fields)
        for start in range(0, len(keys), len(plan.entities) or 1)
        for fetch in plan.fetches
        if (key := keys[start + fetch.entity]) is not None
    ]


def packed(commands: Sequence[Command], pack: Pack) -> bytes:
    """Commands as they are sent, each packed by `pack`."""
    return commands.packed(pack) if isinstance(commands, Lookups) else b"".join([pack(command) for command in commands])
