"""On-demand features of a read: what the request gives, and functions run once over all its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Protocol

from feature_store.computed.functions import Functions
from feature_store.computed.kinds import column_of, of_kind, values_of
from feature_store.computed.worth import LOST, OF_RANK, RANK, status_of
from feature_store.errors import InputError
from feature_store.reader.places import RowRefused
from feature_store.status import Status
from feature_store.time_rule import from_us, to_us

if TYPE_CHECKING:
    from feature_store.computed.function import Function
    from feature_store.computed.kinds import Column
    from feature_store.reader.places import FunctionRead, RequestRead
    from feature_store.reader.plan import ReadPlan

PRESENT, EMPTY, ERROR = Status.PRESENT, Status.EMPTY, Status.ERROR
_EPOCH = date(1970, 1, 1)


class Draft(Protocol):
    """The vector of a row in the making."""

    values: list[object]
    statuses: list[Status]
    plain: bool


def requested(plan: ReadPlan, rows: Sequence[Mapping[str, object]]) -> list[list[object]]:
    """What the rows give for each column that functions take: `requested[column][row]`; None is null.

    Raises:
        RowRefused: a column is missing, or a value is of another type.
    """
    return [[_value(plan, each, row, i) for i, row in enumerate(rows)] for each in plan.requests]


def _value(plan: ReadPlan, each: RequestRead, row: Mapping[str, object], number: int) -> object:
    try:
        value = of_kind(row[each.column], each.kind)
    except KeyError:
        if each.default is not None:
            return each.default
        listed = ", ".join(f"`{name}`" for name in row) or "nothing"
        raise RowRefused(
            number,
            f"service '{plan.service.name}' needs the column `{each.column}` ({each.kind}) for {_needed(plan, each)}, "
            f"got {listed}",
        ) from None
    except InputError as error:
        raise RowRefused(number, f"service '{plan.service.name}': `{each.column}` {error}") from None
    return each.default if value is None else value


def _needed(plan: ReadPlan, each: RequestRead) -> str:
    """The on-demand features that take a column."""
    names = [
        function.layout.name
        for function in plan.functions
        if any(taken.position == each.position for taken in function.inputs)
    ]
    return ", ".join(f"'{name}'" for name in names)


def recorded(value: object) -> object:
    """A value of the request as it is logged: times as microseconds, dates as days since the epoch."""
    if isinstance(value, datetime):
        return to_us(value)
    return (value - _EPOCH).days if isinstance(value, date) else value


def compute(
    plan: ReadPlan,
    drafts: Sequence[Draft],
    *,
    requests: Sequence[Sequence[object]],
    times_us: Sequence[int],
    functions: Functions,
) -> None:
    """Run every function of a service over all rows of a read, before defaults take the place of values.

    Args:
        plan: the service.
        drafts: one for each row, with what is stored.
        requests: as `requested` gives them.
        times_us: the time asked of each row, or now.
        functions: that may be run.
    """
    for each, given in zip(plan.requests, requests, strict=True):
        for draft, value in zip(drafts, given, strict=True):
            draft.values[each.position], draft.statuses[each.position] = value, EMPTY if value is None else PRESENT
    if plan.asked is not None:
        for draft, time_us in zip(drafts, times_us, strict=True):
            draft.values[plan.asked], draft.statuses[plan.asked] = from_us(time_us), PRESENT
    for read in plan.functions:
        _run(read, drafts, functions)


def _run(read: FunctionRead, drafts: Sequence[Draft], functions: Functions, *, first: int = 0) -> None:
    """`first`: which row of the read the first of these is."""
    layout = read.layout
    function = _function(read, functions)
    ready: list[tuple[Draft, int]] = []
    rows: list[list[Any]] = []
    for draft in drafts:
        worst, taken = _inputs(read, draft)
        if function is None:
            worst = RANK[ERROR]
        if worst >= LOST or taken is None:
            _place_nothing(read, draft, worst)
            continue
        ready.append((draft, worst))
        rows.append(taken)
    if function is None or not ready:
        return
    given = _columns(read, rows)
    if given is None:
        _place_damaged(read, drafts, ready, rows, functions)
        return
    outcome = functions.run(
        layout.name,
        function,
        given,
        rows=len(ready),
        personal=read.personal,
        place=lambda row: first + drafts.index(ready[row][0]),
    )
    found = [values_of(output.dtype, column) for output, column in zip(layout.outputs, outcome.columns, strict=True)]
    nulls = [null.tolist() for null in outcome.nulls]
    for i, (draft, worst) in enumerate(ready):
        if outcome.failed[i]:
            _place_nothing(read, draft, RANK[ERROR])
            continue
        for place, position in enumerate(read.outputs):
            has_value = not nulls[place][i]
            draft.values[position] = found[place][i] if has_value else layout.outputs[place].empty
            draft.statuses[position] = status_of(worst, has_value=has_value)
        draft.plain &= worst == 0


def _function(read: FunctionRead, functions: Functions) -> Function | None:
    """The function, if it is here and takes and gives what is published."""
    layout = read.layout
    found = functions.find(layout.name, layout.digest, layout.encoding)
    if found is None or len(found.parameters) != len(read.inputs):
        return None
    return found if [each.kind for each in found.outputs] == [each.dtype for each in layout.outputs] else None


def _columns(read: FunctionRead, rows: Sequence[Sequence[Any]]) -> list[Column] | None:
    """What a function is given; None if a value is not of its kind, as when the bytes in the store are damaged."""
    columns = zip(*rows, strict=True) if read.inputs else ()
    try:
        return [column_of(each.kind, column) for each, column in zip(read.inputs, columns, strict=True)]
    except (AttributeError, OverflowError, TypeError, ValueError):
        return None


def _place_damaged(
    read: FunctionRead,
    drafts: Sequence[Draft],
    ready: Sequence[tuple[Draft, int]],
    rows: Sequence[Sequence[Any]],
    functions: Functions,
) -> None:
    """Run the function over the rows whose values are of their kinds, one by one; the others are ERROR."""
    for (draft, _), taken in zip(ready, rows, strict=True):
        if _columns(read, [taken]) is None:
            _place_nothing(read, draft, RANK[ERROR])
        else:
            _run(read, [draft], functions, first=drafts.index(draft))


def _inputs(read: FunctionRead, draft: Draft) -> tuple[int, list[object] | None]:
    """The rank of the worst input, and what the function is given; None if one has no value."""
    worst, taken, whole = 0, list[object](), True
    values, statuses = draft.values, draft.statuses
    for position, _, fill in read.inputs:
        worst = max(worst, RANK[statuses[position]])
        value = values[position]
        if value is None:
            value = fill
            whole &= fill is not None
        taken.append(value)
    return worst, taken if whole else None


def _place_nothing(read: FunctionRead, draft: Draft, worst: int) -> None:
    """Give the outputs no value, or the declared empty one if that is all that is wrong."""
    for position, output in zip(read.outputs, read.layout.outputs, strict=True):
        draft.values[position] = output.empty if worst < LOST else None
        draft.statuses[position] = EMPTY if worst == 0 else OF_RANK[worst]
    draft.plain &= worst == 0
