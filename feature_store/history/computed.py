"""On-demand features and ratios at every row of a spine, or of a record of served vectors: Arrow columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.computed.kinds import LIST, blank, column_of
from feature_store.computed.run import Outcome, run, run_strictly
from feature_store.computed.worth import LOST, OF_RANK, RANK
from feature_store.declare.computed import AskedTime, Computed, Input, OnDemand, RequestInput
from feature_store.declare.feature import FeatureRef, Ratio
from feature_store.errors import FunctionFailed
from feature_store.history.answers import Answer, ratio
from feature_store.history.columns import shown_as
from feature_store.status import Status
from feature_store.transforms.catalogue import Ints

if TYPE_CHECKING:
    from feature_store.computed.function import Output
    from feature_store.computed.kinds import Bools, Column

_RANKS = np.array([RANK[status] for status in Status], dtype=np.int8)
_STATUSES = np.array(OF_RANK, dtype=np.int8)


class ComputedAnswers:
    """Answers of what is computed from stored features and the rows themselves; each function runs once."""

    def __init__(
        self,
        *,
        stored: Callable[[FeatureRef], Answer],
        requested: Callable[[RequestInput], pa.Array],
        asked_us: Ints,
        strict: bool,
    ) -> None:
        """Answers for some rows.

        Args:
            stored: a stored feature at every row.
            requested: a column of the request, of its kind's type.
            asked_us: int64[rows], the time that each row asks for.
            strict: whether a function that fails is an error, as in a training set, or its value is ERROR, as in a read.
        """
        self._stored, self._requested, self._asked_us, self._strict = stored, requested, asked_us, strict
        self._known: dict[OnDemand, list[Answer]] = {}

    def of(self, item: FeatureRef | Ratio | Computed) -> Answer:
        """One feature at every row.

        Raises:
            FunctionFailed: a function did, if that is an error; names it and the row.
        """
        if isinstance(item, FeatureRef):
            return self._stored(item)
        if isinstance(item, Ratio):
            return ratio(self._stored(item.numerator), self._stored(item.denominator), empty=item.empty)
        if item.of not in self._known:
            self._known[item.of] = self._run(item.of)
        return self._known[item.of][item.place]

    def _run(self, demanded: OnDemand) -> list[Answer]:
        inputs = [self._input(each) for each in demanded.inputs]
        worst = np.zeros(len(self._asked_us), dtype=np.int8)
        whole = np.ones(len(worst), dtype=bool)
        for each in inputs:
            worst = np.maximum(worst, _RANKS[each.status])
            whole &= each.column.is_valid().to_numpy(zero_copy_only=False)
        ready = np.flatnonzero(whole & (worst < LOST))
        outcome = self._outcome(demanded, inputs, ready)
        worst[ready[outcome.failed]] = RANK[Status.ERROR]
        return [
            _answer(output, worst, ready, column, null)
            for output, column, null in zip(demanded.function.outputs, outcome.columns, outcome.nulls, strict=True)
        ]

    def _outcome(self, demanded: OnDemand, inputs: list[Answer], ready: Ints) -> Outcome:
        function = demanded.function
        if not len(ready):
            none = [blank(output.kind, 0) for output in function.outputs]
            return Outcome(none, [np.zeros(0, dtype=bool) for _ in none], np.zeros(0, dtype=bool), None)
        taken = [as_numpy(each.column.take(pa.array(ready))) for each in inputs]
        if not self._strict:
            return run(function, taken, rows=len(ready))
        try:
            return run_strictly(function, taken, rows=len(ready))
        except FunctionFailed as error:
            raise (error if error.row is None else error.at(int(ready[error.row]))) from error.__cause__

    def _input(self, given: Input) -> Answer:
        source = given.source
        if isinstance(source, RequestInput):
            column = self._requested(source)
            status = np.where(column.is_valid().to_numpy(zero_copy_only=False), Status.PRESENT, Status.EMPTY)
            found = Answer(column=column, status=status.astype(np.int8))
        elif isinstance(source, AskedTime):
            column = pa.array(self._asked_us).cast(shown_as("timestamp"))
            found = Answer(column=column, status=np.zeros(len(column), dtype=np.int8))
        else:
            found = self.of(source)
        column = found.column.combine_chunks() if isinstance(found.column, pa.ChunkedArray) else found.column
        if given.fill is not None:
            column = pc.fill_null(column, pa.scalar(given.fill, type=column.type))
        return Answer(column=column, status=found.status)


def as_numpy(column: pa.Array) -> Column:
    """Values, none of them null, as the column that a function takes."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        micros: Column = (
            column.cast(pa.timestamp("us", tz=kind.tz)).cast(pa.int64()).to_numpy().astype("datetime64[us]")
        )
        return micros
    if pa.types.is_date(kind):
        days: Column = column.cast(pa.int32()).to_numpy().astype("datetime64[D]")
        return days
    if pa.types.is_list(kind):
        return column_of(LIST, column.to_pylist())
    found: Column = column.to_numpy(zero_copy_only=False)
    return found.astype(object) if pa.types.is_string(kind) else found


def _answer(output: Output, worst: Column, ready: Ints, column: Column, null: Bools) -> Answer:
    """One output at every row: what the function gave where it ran, else the empty value or nothing."""
    values, nulls = blank(output.kind, len(worst)), np.ones(len(worst), dtype=bool)
    values[ready], nulls[ready] = column, null
    status = _STATUSES[worst]
    status[nulls & (worst == 0)] = Status.EMPTY
    lost = worst >= LOST
    if output.empty is not None:
        values[nulls & ~lost] = output.empty
        nulls = nulls & lost
    return Answer(column=pa.array(values, type=shown_as(output.kind), mask=nulls | lost), status=status)
