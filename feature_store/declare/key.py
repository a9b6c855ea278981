"""The canonical text of an entity: the same in SQL, in Python and in Arrow, and different for different entities.

A join key is an integer, text, a boolean, a date or bytes. Floats, decimals and times are no keys: they have several
texts for one value, or several values that look alike.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from typing import Literal, SupportsIndex, cast

from feature_store.computed.kinds import plain
from feature_store.errors import InputError, shown

KeyKind = Literal["int", "str", "bool", "date", "bytes"]
"""What a join key is. A UUID is text."""

WHOLE_FLOAT = 2**53
"""Whole floats up to here are exact; pandas makes floats of integers with nulls."""

LONGEST = 4_096
"""Bytes of the text of an entity: longer ones cannot be asked for, in serving or in training."""

_ESCAPES = str.maketrans({"%": "%25", "|": "%7C", "{": "%7B", "}": "%7D"})
_NAMED: Mapping[KeyKind, str] = {
    "int": "an integer",
    "str": "text",
    "bool": "a boolean",
    "date": "a date",
    "bytes": "bytes",
}


def entity_key(parts: Sequence[object], kinds: Sequence[KeyKind], *, columns: Sequence[str]) -> str | None:
    """Join key values as one text: `%|{}` are percent-escaped, parts are joined by `|`; None if a part is null.

    Raises:
        InputError: a value is no key of its kind, which names its column; or all of them together are too long.
    """
    texts: list[str] = []
    is_null = False
    for part, kind, column in zip(parts, kinds, columns, strict=True):
        try:
            text = key_text(part, kind)
        except InputError as error:
            raise InputError(f"`{column}` {error}") from None
        is_null |= text is None
        texts.append((text or "").translate(_ESCAPES))
    if is_null:
        return None
    key = "|".join(texts)
    if len(key) > LONGEST // 4 and len(key.encode()) > LONGEST:
        raise InputError(f"`{', '.join(columns)}` must be at most {LONGEST:,} bytes as text, got {len(key.encode()):,}")
    return key


def entity_key_sql(kinds: Mapping[str, KeyKind]) -> str:
    """The same text as `entity_key`, as a SQL expression over the join key columns (null if one is null)."""
    return joined_sql([key_sql(name, kind) for name, kind in kinds.items()])


def key_text(value: object, kind: KeyKind) -> str | None:
    """The text of one join key: of a value of its kind, or of a value of another kind that has the same text.

    >>> key_text(7, "int"), key_text("7", "int"), key_text(7.0, "int"), key_text(float("nan"), "int")
    ('7', '7', '7', None)
    >>> key_text(date(2013, 1, 31), "date"), key_text(True, "bool"), key_text(b"ab", "bytes")
    ('2013-01-31', 'true', '6162')

    Raises:
        InputError: it is of another kind.
    """
    if type(value) is str:
        return _checked(value, kind)
    bare = plain(value)
    if bare is None:
        return None
    if isinstance(bare, bytes | bytearray | memoryview):
        if kind == "bytes":
            return bytes(bare).hex()
    elif isinstance(bare, float):
        if kind == "int" and bare.is_integer() and abs(bare) <= WHOLE_FLOAT:
            return str(int(bare))
    elif (text := _text(bare)) is not None and kind != "bytes" and (kind == "date" or not isinstance(bare, datetime)):
        return _checked(text, kind, given=value)
    raise _misfit(value, kind)


def is_canonical(text: str, kind: KeyKind) -> bool:
    """Whether text is that of a key of a kind: `7` but not `07`, `2013-01-31` but not `20130131`."""
    return _CANONICAL[kind](text)


def _checked(text: str, kind: KeyKind, *, given: object = None) -> str:
    if not is_canonical(text, kind):
        raise _misfit(text if given is None else given, kind)
    return text


def _misfit(value: object, kind: KeyKind) -> InputError:
    return InputError(f"must be {_NAMED[kind]} or its canonical text, got {shown(value)}")


def _text(value: object) -> str | None:
    """The canonical text of a plain value; None if it has none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    with suppress(TypeError, ValueError):  # ValueError: more digits than Python writes
        return str(operator.index(cast("SupportsIndex", value)))
    if isinstance(value, datetime):
        midnight = value.tzinfo is None and value == datetime(value.year, value.month, value.day)  # noqa: DTZ001
        return value.date().isoformat() if midnight else None
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        return str(value)
    from uuid import UUID

    return str(value) if isinstance(value, UUID) else None


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


_CANONICAL: Mapping[KeyKind, Callable[[str], bool]] = {
    "int": lambda text: re.fullmatch(r"0|-?[1-9][0-9]*", text) is not None,
    "str": _is_text,
    "bool": lambda text: text in ("true", "false"),
    "date": _is_date,
    "bytes": lambda text: re.fullmatch(r"([0-9a-f]{2})*", text) is not None,
}


def joined_sql(parts: Sequence[str]) -> str:
    """Texts as one text, as SQL."""
    return " || '|' || ".join(parts) or "''"


def key_sql(column: str, kind: KeyKind) -> str:
    """The text of one join key as it stands in a key, as SQL."""
    if kind == "bytes":
        return f'lower(hex("{column}"))'
    sql = f'"{column}"::VARCHAR'
    if kind == "str":
        for plain, escaped in (("%", "%25"), ("|", "%7C"), ("{", "%7B"), ("}", "%7D")):
            sql = f"replace({sql}, '{plain}', '{escaped}')"
    return sql
