"""What a row is worth when it is read, and for which time it answers: the rule of statuses, pure.

It follows from three times: the time asked (or the reader's own, but never before the row begins), the row's own
span, and how far its shard had read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from feature_store.online.packed import PackedRow, seconds_since
from feature_store.online.ready import EXPIRY_SLACK_US, STALE_US
from feature_store.status import Status

if TYPE_CHECKING:
    from feature_store.reader.plan import ViewRead
    from feature_store.reader.readiness import Readiness, Vouched

# Looking a member up in an enum costs more than all else that is done for a value.
PRESENT, EMPTY, UNKNOWN, STALE, AHEAD, ERROR = Status

Worth = tuple[Status, int]
"""A status and the time, in µs, for which the row's values are given."""


class Moment(NamedTuple):
    """When a row of a request is answered, and what is known then."""

    at_us: int
    """The time asked, or now."""
    exact: bool
    """Whether it was asked; else a value that begins later answers for its beginning."""
    readiness: Readiness
    """Never younger than the rows: else a row written in between would have seemed missing, and empty."""


def worth_of_row(view: ViewRead, row: PackedRow, moment: Moment, vouched: Vouched | None) -> Worth:
    """PRESENT, STALE or AHEAD, for a row that is there; UNKNOWN for one of a batch view that counts as expired."""
    at_us = moment.at_us
    if at_us < row.from_us:
        return (AHEAD if moment.exact else PRESENT), row.from_us
    if row.until_s and seconds_since(row.from_us, at_us) >= row.until_s:
        return STALE, at_us
    if not view.is_stream:
        known_us = row.from_us
        if at_us - known_us > view.layout.sla_us + STALE_US:
            return UNKNOWN, at_us
    elif vouched is None:
        return STALE, at_us
    else:
        known_us = vouched.known_us
    return (STALE if at_us - known_us > view.layout.sla_us else PRESENT), at_us


def worth_of_own(view: ViewRead, moment: Moment, vouched: Vouched | None) -> Worth:
    """PRESENT or STALE, for what a row was just before its newest event, at that event's time."""
    at_us = moment.at_us
    if vouched is None or at_us - vouched.known_us > view.layout.sla_us:
        return STALE, at_us
    return PRESENT, at_us


def worth_of_nothing(view: ViewRead, moment: Moment, vouched: Vouched | None) -> Worth:
    """EMPTY, UNKNOWN, STALE or AHEAD, for a row that is missing.

    It is taken for empty windows only if somebody vouches that all rows of the view are there, has done so while none
    can have expired (of a stream within the SLA), and a row of the time asked cannot have expired since. Of features that
    are not in the layout which is vouched for, nothing is known.
    """
    at_us, sla_us = moment.at_us, view.layout.sla_us
    vouched_for_us = sla_us if view.is_stream else sla_us + STALE_US
    if (
        vouched is None
        or not vouched.complete
        or view.id not in vouched.views
        or at_us - vouched.beat_us > vouched_for_us
    ):
        return UNKNOWN, at_us
    since_us = vouched.beat_us - (EXPIRY_SLACK_US if view.is_stream else 0)
    if at_us < since_us:
        return (AHEAD if moment.exact else EMPTY), since_us
    return (STALE if at_us - vouched.known_us > sla_us else EMPTY), at_us
