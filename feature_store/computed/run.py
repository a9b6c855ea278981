"""Runs a function over columns: its outputs are checked, and a row on which it fails does not take others with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from feature_store.computed.kinds import blank, checked
from feature_store.errors import FunctionFailed, InputError

if TYPE_CHECKING:
    from feature_store.computed.function import Function
    from feature_store.computed.kinds import Bools, Column

SAMPLED = 16
"""So many rows of a training set are computed alone as well."""


class Outcome(NamedTuple):
    """What a function gave for some rows."""

    columns: list[Column]
    """One for each output."""
    nulls: list[Bools]
    """Where each has no value."""
    failed: Bools
    """On which rows the function failed; they have no value."""
    error: FunctionFailed | None
    """Of the first of them."""


def run(function: Function, columns: Sequence[Column], *, rows: int) -> Outcome:
    """A function over columns; where it fails for all of them, row by row."""
    import numpy as np

    with np.errstate(all="ignore"):
        try:
            found = _called(function, columns, rows)
        except FunctionFailed as error:
            return _failed(function, error, rows) if rows == 1 else _each(function, columns, rows)
    return Outcome([column for column, _ in found], [null for _, null in found], np.zeros(rows, dtype=bool), None)


def run_strictly(function: Function, columns: Sequence[Column], *, rows: int) -> Outcome:
    """A function over the columns of a training set: a failure is an error, and so is a row that depends on others.

    Raises:
        FunctionFailed: on a row, or on all of them together; names the function and, if it is one, the row.
    """
    import numpy as np

    with np.errstate(all="ignore"):
        try:
            found = _called(function, columns, rows)
        except FunctionFailed as error:
            raise _first_failure(function, columns, rows) or error from error.__cause__
        for row in sorted({row * (rows - 1) // (SAMPLED - 1) for row in range(SAMPLED)}) if rows > 1 else ():
            _check_alone(function, columns, found, row)
    return Outcome([column for column, _ in found], [null for _, null in found], np.zeros(rows, dtype=bool), None)


def _called(function: Function, columns: Sequence[Column], rows: int) -> list[tuple[Column, Bools]]:
    """The checked outputs of one call."""
    try:
        result = function.call(*columns)
    except Exception as error:
        raise FunctionFailed(function.name, f"raised {type(error).__name__}: {error}") from error
    outputs = function.outputs
    parts = [result] if not outputs[0].suffix else _parts(function, result)
    found = []
    for output, part in zip(outputs, parts, strict=True):
        try:
            found.append(checked(part, output.kind, rows=rows))
        except (InputError, TypeError, ValueError, OverflowError) as error:
            which = f"output '{output.suffix}' " if output.suffix else ""
            raise FunctionFailed(function.name, f"{which}{error}") from error
    return found


def _parts(function: Function, result: object) -> list[object]:
    """The outputs of a function that has several, in their order."""
    names = [output.suffix for output in function.outputs]
    if isinstance(result, dict):
        if result.keys() == set(names):
            return [result[name] for name in names]
        raise FunctionFailed(
            function.name, f"must return the outputs {', '.join(names)}, got {', '.join(map(str, result))}"
        )
    if isinstance(result, tuple | list) and len(result) == len(names):
        return list(result)
    raise FunctionFailed(function.name, f"must return a mapping or a tuple of {', '.join(names)}, got {result!r:.80}")


def _each(function: Function, columns: Sequence[Column], rows: int) -> Outcome:
    """Row by row, after all together have failed."""
    import numpy as np

    alone = [run(function, [column[row : row + 1] for column in columns], rows=1) for row in range(rows)]
    places = range(len(function.outputs))
    failed = np.concatenate([each.failed for each in alone])
    errors = [each.error.at(row) for row, each in enumerate(alone) if each.error is not None]
    return Outcome(
        [np.concatenate([each.columns[i] for each in alone]) for i in places],
        [np.concatenate([each.nulls[i] for each in alone]) for i in places],
        failed,
        errors[0] if errors else None,
    )


def _failed(function: Function, error: FunctionFailed, rows: int) -> Outcome:
    import numpy as np

    every = np.ones(rows, dtype=bool)
    columns = [blank(output.kind, rows) for output in function.outputs]
    return Outcome(columns, [every for _ in columns], every, error)


def _first_failure(function: Function, columns: Sequence[Column], rows: int) -> FunctionFailed | None:
    """The failure on the first row that fails alone; found by halves. None: no row does."""
    first, last = 0, rows
    while last - first > 1:
        middle = (first + last) // 2
        try:
            _called(function, [column[first:middle] for column in columns], middle - first)
        except FunctionFailed:
            last = middle
        else:
            first = middle
    try:
        _called(function, [column[first:last] for column in columns], 1)
    except FunctionFailed as error:
        return error.at(first)
    return None


def _check_alone(
    function: Function, columns: Sequence[Column], found: Sequence[tuple[Column, Bools]], row: int
) -> None:
    """Compare a row's outputs with what the function gives for that row alone, as it does when it serves."""
    alone = _called(function, [column[row : row + 1] for column in columns], 1)
    for output, (column, null), (single, single_null) in zip(function.outputs, found, alone, strict=True):
        if null[row] != single_null[0] or (not null[row] and not _same(column[row], single[0])):
            shown = [
                None if is_null else value for value, is_null in ((column[row], null[row]), (single[0], single_null[0]))
            ]
            which = f"output '{output.suffix}' " if output.suffix else ""
            reason = f"{which}must depend on its own row only, but is {shown[0]!r} among {len(column)} rows and {shown[1]!r} alone"
            raise FunctionFailed(function.name, reason).at(row)


def _same(one: object, other: object) -> bool:
    """Whether two values have the same bits; -0.0 is not 0.0."""
    return repr(one) == repr(other)
