"""The packed value: a view's whole row as a function of time, in one MessagePack array.

    [layout, run, n, from_us, age_us, until_s, feature 0, feature 1, ...]

It holds from `from_us` on: until `until_s` seconds after the second of `from_us`, or with `until_s` 0 without end.
`age_us` is how long before `from_us` the entity's newest event happened. A feature is a constant, or a list of steps
`[v0, s1, v1, s2, v2, ...]`: v0 until s1 seconds after the second of `from_us`, then v1 until s2, and so on; windows
change at whole seconds only. nil is an empty window, the extension type 1 a value that cannot be expressed.
Behind the features there may be one more element, the extension type 2: what they were just before the newest event.
`docs/wire-format.md` is the specification for readers in other languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Final, NamedTuple

import msgspec

from feature_store.time_rule import EARLIEST_US, LATEST_US, SECOND_US

Scalar = int | float | str | bool | None | msgspec.msgpack.Ext
Item = object
"""A scalar, or a list of steps."""

HEAD = 6
"""Where the features begin."""

ERROR: Final = msgspec.msgpack.Ext(1, b"")
"""A value that cannot be expressed, such as a sum beyond 64 bits."""

OWN: Final = 2
"""The extension type of what the features were at the time of the newest event, before it."""


class PackedRow(NamedTuple):
    """One entity's row of a view, as it was written."""

    layout_id: int
    run: int
    n: int
    from_us: int
    age_us: int | None
    until_s: int
    items: list[Item]
    """One for each feature of the layout."""


_encode = msgspec.msgpack.Encoder().encode


def _extension(code: int, data: memoryview) -> msgspec.msgpack.Ext:
    if code == ERROR.code:
        return ERROR
    if code != OWN:
        raise ValueError(f"extension type {code} is not known")
    return msgspec.msgpack.Ext(code, bytes(data))


_decode = msgspec.msgpack.Decoder(list, ext_hook=_extension).decode


def encode_rows(
    layout_id: int,
    run: int,
    n: int,
    from_us: Sequence[int],
    age_us: Sequence[int | None],
    until_s: Sequence[int],
    features: Sequence[Sequence[Item]],
) -> list[bytes]:
    """Packed values of q entities.

    Args:
        layout_id: the view's layout.
        run: the commit that writes them,
        n: with its number in the run.
        from_us: q times since when the values hold.
        age_us: q ages of the newest event at `from_us`; None where it has left every window.
        until_s: q ends of validity in seconds after the second of `from_us`; 0: none.
        features: for every feature of the layout, in its order, q items: scalar, None (empty), `ERROR` or a list of
            steps. Values that are lists (`last_n`) always stand in steps.

    Raises:
        ValueError: if the columns differ in length.
    """
    columns = (from_us, age_us, until_s, *features)
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"all columns must have the same length, got {[len(column) for column in columns]}")
    return list(map(_encode, zip(repeat(layout_id), repeat(run), repeat(n), *columns, strict=False)))


def encode_own(items: Sequence[Item]) -> msgspec.msgpack.Ext:
    """What the features were just before the newest event: an item each, lists as a single step; the last item of a row."""
    return msgspec.msgpack.Ext(OWN, _encode(items))


def own_row(row: PackedRow, at_us: int) -> PackedRow | None:
    """The row as it was at the time of its newest event, if that is the time asked and the row has kept it.

    Raises:
        ValueError: what it has kept is damaged.
    """
    if row.age_us is None or at_us != row.from_us - row.age_us or not row.items:
        return None
    kept = row.items[-1]
    if not isinstance(kept, msgspec.msgpack.Ext) or kept.code != OWN:
        return None
    try:
        return row._replace(items=_decode(kept.data))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"not a packed value: {error}") from error


def decode_row(value: bytes) -> PackedRow:
    """The row in a packed value.

    Raises:
        ValueError: if the bytes are no packed value.
    """
    try:
        row = _decode(value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"not a packed value: {error}") from error
    if len(row) < HEAD:
        raise ValueError(f"not a packed value: it has {len(row)} elements, at least {HEAD} are needed")
    layout_id, run, n, from_us, age_us, until_s, *items = row
    whole = type(layout_id) is type(run) is type(n) is type(from_us) is type(until_s) is int
    if not whole or (age_us is not None and type(age_us) is not int):
        raise ValueError(f"not a packed value: it begins with {row[:HEAD]}, integers are needed")
    if not (EARLIEST_US <= from_us <= LATEST_US and EARLIEST_US <= from_us - (age_us or 0) <= LATEST_US):
        raise ValueError(f"not a packed value: it begins with {row[:HEAD]}, times of the years 1 to 9999 are needed")
    return PackedRow(layout_id, run, n, from_us, age_us, until_s, items)


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
