"""What a read of many rows returns: vectors, and their columns as Arrow, pandas or NumPy.

The reader itself needs none of the three; what is asked for is imported then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_store.errors import InputError
from feature_store.reader.vector import FeatureVector, check_numbers, feature_column, status_column

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pandas as pd
    import pyarrow as pa

    from feature_store.status import Status


class FeatureBatch(list[FeatureVector]):
    """The vectors of a read, in the order of the rows that were asked for."""

    @property
    def problems(self) -> list[tuple[int, str, Status]]:
        """(row, feature, status) of every value that is neither PRESENT nor EMPTY, row by row."""
        return [(row, name, status) for row, vector in enumerate(self) for name, status in vector.problems.items()]

    def to_arrow(self, *, statuses: bool = False) -> pa.Table:
        """A column for each feature, named, typed and ordered as in a training set (`view__feature`).

        Args:
            statuses: with each column another one, `<column>__status`, of int8 (`Status`).

        Raises:
            InputError: the rows were served by several versions of the service, or a default is not of its feature's type.
        """
        import pyarrow as pa

        columns: dict[str, pa.Array] = {}
        kinds = self._kinds()
        for position, name in enumerate(self[0].names if self else ()):  # a list may name a feature twice
            columns[feature_column(name)] = arrow_column(
                name, kinds[name], [vector.values[position] for vector in self]
            )
            if statuses:
                found = [int(vector.statuses[position]) for vector in self]
                columns[status_column(name)] = pa.array(found, type=pa.int8())
        return pa.table(columns)

    def to_pandas(self, *, statuses: bool = False) -> pd.DataFrame:
        """The columns of `to_arrow` as a frame, ready for `model.predict`."""
        frame: pd.DataFrame = self.to_arrow(statuses=statuses).to_pandas()
        return frame

    def to_numpy(self) -> np.ndarray:
        """float64[rows, features]: null is NaN, a boolean 0 or 1. What to doubt of it, `problems` says.

        Raises:
            InputError: a feature is no number, or the rows were served by several versions of the service.
        """
        import numpy as np

        check_numbers(self._kinds())
        wide = len(self[0]) if self else 0
        return np.array([vector.values for vector in self], dtype=np.float64).reshape(len(self), wide)

    def _kinds(self) -> Mapping[str, str]:
        services = list(dict.fromkeys(vector.service for vector in self))
        if len(services) > 1:
            raise InputError(
                f"the rows were served by {' and '.join(services)}, so they have no common columns; take them apart by "
                "`vector.service`, or name one version"
            )
        return self[0].kinds if self else {}


def arrow_column(name: str, kind: str, values: list[object]) -> pa.Array:
    """The values of a feature, typed as its kind says.

    Raises:
        InputError: a default is not of the kind.
    """
    import pyarrow as pa

    types = {
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "str": pa.string(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "date": pa.date32(),
    }
    element = types[kind.removeprefix("list of ")]
    try:
        return pa.array(values, type=pa.list_(element) if kind.startswith("list") else element)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f"feature '{name}' is declared as {kind}, and its default is not: {error}") from error
