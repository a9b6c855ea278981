"""What a computed value is worth: as little as the least of its inputs. One rule, for single values and for columns.

ERROR, UNKNOWN      no value: one of its inputs has none that could be believed
AHEAD, STALE        the value that follows from what there is, under that status
PRESENT             it was computed from inputs that all have a value
EMPTY               an input has no value, or the function gave none: the declared empty value
"""

from __future__ import annotations

from collections.abc import Mapping

from feature_store.status import Status

RANK: Mapping[Status, int] = {
    Status.PRESENT: 0,
    Status.EMPTY: 0,
    Status.STALE: 1,
    Status.AHEAD: 2,
    Status.UNKNOWN: 3,
    Status.ERROR: 4,
}
"""How bad an input is; the worst one decides."""
LOST = RANK[Status.UNKNOWN]
"""From here on there is no value."""
OF_RANK: tuple[Status, ...] = (Status.PRESENT, Status.STALE, Status.AHEAD, Status.UNKNOWN, Status.ERROR)
"""Rank -> status of a value that was computed."""


def status_of(worst: int, *, has_value: bool) -> Status:
    """The status of a value, given the rank of its worst input and whether the function gave one.

    >>> status_of(0, has_value=False), status_of(RANK[Status.STALE], has_value=False)
    (<Status.EMPTY: 1>, <Status.STALE: 3>)
    """
    return Status.EMPTY if worst == 0 and not has_value else OF_RANK[worst]
