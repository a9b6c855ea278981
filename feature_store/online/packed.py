"""The packed value: a view's whole row as a function of time, in one MessagePack array.

    [layout, run, n, from_us, age_us, until_s, change_s, changes, own, first 0, first 1, ...]

It holds from `from_us` on: until `until_s` seconds after the second of `from_us`, or with `until_s` 0 without end.
`age_us` is how long before `from_us` the entity's newest event happened. `first i` is the value of feature i until
it changes for the first time; windows change at whole seconds only. Nothing changes before `change_s` seconds after
the second of `from_us` (0: nothing ever does), so a read before it need not look at `changes`. That is MessagePack
within MessagePack, `[d1, i1, v1, d2, i2, v2, ...]` in the order of time: d1 seconds after the second of `from_us`
feature i1 becomes v1, d2 seconds after that i2 becomes v2, and so on. `own`, packed in the same way, is what the
features were just before the newest event; nil where it is not kept. A value that is nil is an empty window, the
extension type 1 one that cannot be expressed. `packing.py` writes it; `docs/wire-format.md` is the specification for
readers in other languages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Final, NamedTuple, Optional

import msgspec

from feature_store.time_rule import EARLIEST_US, LATEST_US, SECOND_US

Scalar = int | float | str | bool | None | msgspec.msgpack.Ext
Item = object
"""A scalar, or a list of steps `[v0, s1, v1, s2, v2, ...]`; a value that is itself a list always stands in steps."""

HEAD = 9
"""Where the features begin."""

ERROR: Final = msgspec.msgpack.Ext(1, b"")
"""A value that cannot be expressed, such as a sum beyond 64 bits."""


class PackedRow(NamedTuple):
    """One entity's row of a view, as it was written."""

    layout_id: int
    run: int
    n: int
    from_us: int
    age_us: int | None
    until_s: int
    change_s: int
    changes: bytes | None
    own: bytes | None
    firsts: Sequence[object]
    """The first value of each feature of the layout."""

    @property
    def items(self) -> list[Item]:
        """Each feature with its steps, if it has any.

        Raises:
            IndexError, TypeError, ValueError: the changes are damaged.
        """
        items: list[list[Any]] = [[first] for first in self.firsts]
        if self.changes is not None:
            second = 0
            for after_s, feature, value in changes_of(self.changes):
                second += after_s
                items[feature] += [second, value]
        return [item[0] if len(item) == 1 and type(item[0]) is not list else item for item in items]

    def values_at(self, seconds: int) -> Sequence[object]:
        """The value of each feature `seconds` after the second of `from_us`.

        Raises:
            IndexError, TypeError, ValueError: the changes are damaged.
        """
        if self.changes is None or seconds < self.change_s:
            return self.firsts
        return later_values(self.firsts, self.changes, seconds)


def _extension(code: int, data: memoryview) -> msgspec.msgpack.Ext:  # noqa: ARG001 - it has none
    if code != ERROR.code:
        raise ValueError(f"extension type {code} is not known")
    return ERROR


_decode = msgspec.msgpack.Decoder(list, ext_hook=_extension).decode


def own_row(row: PackedRow, at_us: int) -> PackedRow | None:
    """The row as it was at the time of its newest event, if that is the time asked and the row has kept it.

    Raises:
        ValueError: what it has kept is damaged.
    """
    if row.age_us is None or row.own is None or at_us != row.from_us - row.age_us:
        return None
    return row._replace(firsts=unpacked(row.own), change_s=0, changes=None)


def decode_row(value: bytes) -> PackedRow:
    """The row in a packed value.

    Raises:
        ValueError: if the bytes are no packed value.
    """
    row = unpacked(value)
    if len(row) < HEAD:
        raise ValueError(f"not a packed value: it has {len(row)} elements, at least {HEAD} are needed")
    layout_id, run, n, from_us, age_us, until_s, change_s, changes, own, *firsts = row
    whole = type(layout_id) is type(run) is type(n) is type(from_us) is type(until_s) is type(change_s) is int
    if not whole or (age_us is not None and type(age_us) is not int):
        raise ValueError(f"not a packed value: it begins with {row[:7]}, integers are needed")
    if not all(part is None or type(part) is bytes for part in (changes, own)):
        raise ValueError(f"not a packed value: bytes are needed for changes and own, got {row[7:HEAD]}")
    if not (EARLIEST_US <= from_us <= LATEST_US and EARLIEST_US <= from_us - (age_us or 0) <= LATEST_US):
        raise ValueError(f"not a packed value: it begins with {row[:7]}, times of the years 1 to 9999 are needed")
    return PackedRow(layout_id, run, n, from_us, age_us, until_s, change_s, changes, own, firsts)


def row_decoder(layout_id: int, features: Sequence[object]) -> Callable[[bytes], tuple[Any, ...]]:
    """Decodes packed values of one layout to tuples of their elements, about four times as fast as `decode_row`.

    It refuses more: another layout, an `ERROR` among the values, what only some features lack or have of another type, and
    what holds from before 1970 on, or knows an event that is not older than that or older than there are times.

    Args:
        layout_id: the layout.
        features: for each of its features, the type of its values.
    """
    this = Annotated[int, msgspec.Meta(ge=layout_id, le=layout_id)]
    time_us = Annotated[int, msgspec.Meta(ge=0, le=LATEST_US)]
    age_us = Annotated[int, msgspec.Meta(ge=1, le=-EARLIEST_US)]
    kinds: list[Any] = [this, int, int, time_us, Optional[age_us], int, int, bytes | None, bytes | None]  # noqa: UP045
    kinds += [Optional[each] for each in features]  # noqa: UP045
    row: Any = tuple.__class_getitem__(tuple(kinds))
    return msgspec.msgpack.Decoder(row).decode


def later_values(firsts: Sequence[object], changes: bytes, seconds: int) -> list[object]:
    """As `PackedRow.values_at`, where something may have changed."""
    values = list(firsts)
    for after_s, feature, value in changes_of(changes):
        seconds -= after_s
        if seconds < 0:
            break
        if not 0 <= feature < len(values):
            raise ValueError(f"not a packed value: feature {feature} of {len(values)} changes")
        values[feature] = value
    return values


def changes_of(changes: bytes) -> Iterator[tuple[int, int, Any]]:
    """What changes: seconds after the change before it, the feature, and what that becomes.

    Raises:
        ValueError: the bytes are no such changes.
    """
    found = unpacked(changes)
    if len(found) % 3:
        raise ValueError(f"not a packed value: changes come in threes, got {len(found)} elements")
    parts = iter(found)
    return zip(parts, parts, parts, strict=True)


def unpacked(value: bytes) -> list[Any]:
    """An array.

    Raises:
        ValueError: the bytes are none.
    """
    try:
        return _decode(value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"not a packed value: {error}") from error


def item_at(item: Item, seconds: int) -> Item:
    """The value of a feature `seconds` after the second of `from_us`: a scalar or, for `last_n`, a list."""
    if type(item) is not list:
        return item
    value: Item = item[0]
    for i in range(1, len(item), 2):
        if seconds < item[i]:
            break
        value = item[i + 1]
    return value


def seconds_since(from_us: int, time_us: int) -> int:
    """Whole seconds from the second of `from_us` to the second of `time_us`."""
    return time_us // SECOND_US - from_us // SECOND_US


def is_valid_at(from_us: int, until_s: int, time_us: int) -> bool:
    """Whether a value that holds from `from_us` for `until_s` seconds (0: for ever) holds at a time."""
    return time_us >= from_us and (until_s == 0 or seconds_since(from_us, time_us) < until_s)
