"""The rows of an answer as Arrow columns, which say all that JSON does: what was served, values, statuses, event times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from feature_store.errors import InputError
from feature_store.reader.batch import arrow_column
from feature_store.reader.vector import feature_column, status_column
from feature_store.status import Status

if TYPE_CHECKING:
    import pyarrow as pa

    from feature_store.reader import FeatureBatch, FeatureVector

SERVICE = "service"
"""The column that says what was served, unless a feature has this name."""


def table_of(batch: FeatureBatch, declared: Mapping[str, str], *, event_times: bool) -> pa.Table:
    """A row for each vector, in their order; null where the version that was served has not the feature.

    Args:
        batch: of one version of a service, or of two while it is split.
        declared: feature -> the kind of its values, of what may be served: columns that are there without any row, too.
        event_times: whether to tell them.

    Raises:
        InputError: two versions have a feature of one name and of different kinds, or a default is not of its kind.
    """
    import pyarrow as pa

    services = [vector.service for vector in batch]
    versions = {vector.service: vector for vector in batch}
    places = {service: {name: i for i, name in enumerate(vector.names)} for service, vector in versions.items()}
    kinds = {**declared, **_kinds(versions)}
    columns = {} if SERVICE in kinds else {SERVICE: pa.array(services, type=pa.string())}
    for name, kind in kinds.items():
        at = [places[service].get(name) for service in services]
        found = list(zip(batch, at, strict=True))
        columns[feature_column(name)] = arrow_column(
            name, kind, [None if i is None else row.values[i] for row, i in found]
        )
        columns[status_column(name)] = _statuses([None if i is None else int(row.statuses[i]) for row, i in found])
        if event_times:
            times = [None if i is None else row[name].event_time for row, i in found]
            columns[f"{feature_column(name)}__event_time"] = pa.array(times, type=pa.timestamp("us", tz="UTC"))
    return pa.table(columns)


def _kinds(versions: Mapping[str, FeatureVector]) -> dict[str, str]:
    """Of all features that were served, by one vector of each version."""
    found: dict[str, str] = {}
    for service, vector in versions.items():
        for name, kind in vector.kinds.items():
            if found.setdefault(name, kind) != kind:
                raise InputError(
                    f"feature '{name}' is {kind} in {service} and {found[name]} in another version that served some of the "
                    "rows, so they have no common columns; name one version, or accept JSON"
                )
    return found


def _statuses(found: Sequence[int | None]) -> pa.Array:
    """Statuses by name, each once."""
    import pyarrow as pa

    names = pa.array([status.name for status in Status], type=pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(found, type=pa.int8()), names)
