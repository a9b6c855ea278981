"""What has become of a declaration: its revisions compared, each with the one before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from feature_store.catalog.document import Revision

_UNTOLD = {"assets", "name", "version", "window_error"}
"""Fields that follow from others."""


class FieldChange(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a definition that has another value."""

    of: str
    """The feature or column; empty for the declaration itself."""
    field: str
    before: Any
    after: Any


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A revision, and what it changed of the one before; of the newest version before, if it begins one."""

    id: str
    applied_us: int
    applied_by: str | None
    """None: whoever asks need not know."""
    changes: Sequence[FieldChange]


def versions(history: Sequence[Revision]) -> list[Version]:
    """The revisions of one name, newest first.

    The first of version 2 is compared with the last of version 1, and so on: with what was there before it.
    """
    told: list[Version] = []
    last: dict[str, Mapping[str, Any]] = {}
    for revision in history:
        definition = msgspec.json.decode(revision.definition)
        before = last.get(revision.id) or _predecessor(revision.id, last)
        last[revision.id] = definition
        told.append(
            Version(
                id=revision.id,
                applied_us=revision.applied_us,
                applied_by=revision.applied_by,
                changes=[] if before is None else list(compared(before, definition)),
            )
        )
    return told[::-1]


def compared(before: Mapping[str, Any], after: Mapping[str, Any], of: str = "") -> Iterator[FieldChange]:
    """What differs between two definitions; features and columns are compared by their names.

    >>> old = {"owner": "a", "features": [{"name": "count_1h", "window": "1h"}]}
    >>> new = {"owner": "a", "features": [{"name": "count_1h", "window": "2h"}]}
    >>> [(change.of, change.field, change.before, change.after) for change in compared(old, new)]
    [('count_1h', 'window', '1h', '2h')]
    """
    for field in dict.fromkeys([*before, *after]):
        old, new = before.get(field), after.get(field)
        if field in _UNTOLD or old == new:
            continue
        if _is_named(old) and _is_named(new):
            yield from _members(old or [], new or [])
        else:
            yield FieldChange(of=of, field=field, before=old, after=new)


def _members(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Iterator[FieldChange]:
    old, new = ({each["name"]: each for each in group} for group in (before, after))
    for name in dict.fromkeys([*old, *new]):
        if name in old and name in new:
            yield from compared(old[name], new[name], of=name)
        else:
            yield FieldChange(of=name, field="", before=old.get(name), after=new.get(name))
    if list(old) != list(new) and set(old) == set(new):
        yield FieldChange(of="", field="order", before=list(old), after=list(new))


def _is_named(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) and "name" in each for each in value)


def _predecessor(name: str, last: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The definition of the newest version before."""
    number = _number(name)
    earlier = [each for each in last if _number(each) < number]
    return last[max(earlier, key=_number)] if earlier else None


def _number(name: str) -> int:
    return int(name.partition("@")[2] or 1)
