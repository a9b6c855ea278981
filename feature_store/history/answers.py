"""Answers for the rows of a spine: Arrow columns with statuses, and what a service makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_store.errors import InputError
from feature_store.history.columns import shown_type, stored_column, to_shown
from feature_store.status import Status
from feature_store.transforms.catalogue import Values

if TYPE_CHECKING:
    from feature_store.declare.service import Default
    from feature_store.transforms.plan import FeaturePlan

Policy = Literal["serve", "default", "fail"]
Statuses = NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One feature at every row of a spine."""

    column: pa.Array
    status: Statuses


def answer(plan: FeaturePlan, values: Values) -> Answer:
    """A feature's values as they are shown."""
    return Answer(column=to_shown(plan, stored_column(plan, values)), status=values.status)


def missing(plan: FeaturePlan, size: int) -> Answer:
    """A feature about which nothing is known."""
    return Answer(column=pa.nulls(size, type=shown_type(plan)), status=np.full(size, np.int8(Status.UNKNOWN)))


def ratio(numerator: Answer, denominator: Answer, *, empty: float | None) -> Answer:
    """`on_demand.ratio` for every row."""
    top, bottom = _doubles(numerator), _doubles(denominator)
    whole = ~np.isnan(top) & ~np.isnan(bottom) & (bottom != 0)
    quotient = np.full(len(top), np.nan if empty is None else float(empty))
    np.divide(top, bottom, out=quotient, where=whole)
    status = np.where(whole, np.int8(Status.PRESENT), np.int8(Status.EMPTY))
    # The later in this order wins.
    for worse in (Status.STALE, Status.AHEAD, Status.UNKNOWN, Status.ERROR):
        status[(numerator.status == worse) | (denominator.status == worse)] = worse
    lost = (status == Status.UNKNOWN) | (status == Status.ERROR) | (~whole & (empty is None))
    return Answer(column=pa.array(quotient, type=pa.float64(), mask=lost), status=status)


def with_defaults(found: Answer, *, default: Default, on_stale: Policy, on_ahead: Policy, name: str) -> Answer:
    """An answer as a service serves it: the default where nothing is known, and where its policy says so.

    Where the policy says 'fail' a reader would refuse the row; here it keeps its place without a value.

    Raises:
        InputError: the default does not have the feature's type.
    """
    replaced = found.status == Status.UNKNOWN
    failed = np.zeros(len(replaced), dtype=bool)
    for status, policy in ((Status.STALE, on_stale), (Status.AHEAD, on_ahead)):
        if policy == "default":
            replaced |= found.status == status
        elif policy == "fail":
            failed |= found.status == status
    if not replaced.any() and not failed.any():
        return found
    try:
        value = _exact(default, found.column.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise InputError(f"the default of '{name}' must be {found.column.type}, got {default!r}") from error
    column = pc.if_else(pa.array(replaced), value, found.column)
    column = pc.if_else(pa.array(failed), pa.scalar(None, type=column.type), column)
    return Answer(column=column, status=found.status)


def _exact(default: Default, kind: pa.DataType) -> pa.Scalar:
    """A default as a value of a feature's type, the one that a reader serves; Arrow alone makes 0 of 0.5."""
    value = pa.scalar(default, type=kind)
    if value.as_py() != default or (type(default) is bool and not pa.types.is_boolean(kind)):
        raise pa.ArrowInvalid("another value")
    return value


def _doubles(found: Answer) -> NDArray[np.float64]:
    """Numbers as doubles, NaN where there is none."""
    kind = found.column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return np.full(len(found.column), np.nan)
    numbers = found.column.cast(pa.uint8()) if pa.types.is_boolean(kind) else found.column
    doubles: NDArray[np.float64] = pc.fill_null(numbers.cast(pa.float64(), safe=False), np.nan).to_numpy(
        zero_copy_only=False
    )
    return doubles
