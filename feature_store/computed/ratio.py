"""One stored feature divided by another: the one definition that serving and training share."""

from __future__ import annotations

from feature_store.status import Status

Result = tuple[object, Status]
"""A value and what it is worth."""


def ratio(numerator: Result, denominator: Result, *, empty: float | None) -> Result:
    """One feature divided by another, both taken as doubles.

    The quotient is worth as little as the lesser of its parts: ERROR, else UNKNOWN (both without a value), else AHEAD,
    else STALE (both with the quotient of the values there are). Otherwise it is PRESENT, or EMPTY with the value
    `empty` where there is no quotient: a part without a number, or a denominator of zero.

    >>> ratio((3, Status.PRESENT), (4.0, Status.PRESENT), empty=None)
    (0.75, <Status.PRESENT: 0>)
    >>> ratio((3, Status.PRESENT), (0, Status.EMPTY), empty=0.0)
    (0.0, <Status.EMPTY: 1>)
    """
    (top, top_status), (bottom, bottom_status) = numerator, denominator
    for status in (Status.ERROR, Status.UNKNOWN):
        if status in (top_status, bottom_status):
            return None, status
    value = quotient(top, bottom)
    plain = Status.EMPTY if value is None else Status.PRESENT
    for status in (Status.AHEAD, Status.STALE):
        if status in (top_status, bottom_status):
            plain = status
            break
    return (empty if value is None else value), plain


def quotient(top: object, bottom: object) -> float | None:
    """`top / bottom` as doubles; None without two numbers or with a zero below."""
    if not isinstance(top, int | float) or not isinstance(bottom, int | float) or bottom == 0:
        return None
    return float(top) / float(bottom)
