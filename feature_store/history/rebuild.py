"""A training set made again from its manifest: the same bytes, or an error that says why not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.errors import InputError
from feature_store.history.definitions import changed, definitions
from feature_store.history.spine import read_spine
from feature_store.history.training import TrainingSet, get_historical_features
from feature_store.history.workers import ALONE, Workers

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import pyarrow as pa

    from feature_store.declare.service import FeatureService
    from feature_store.history.manifest import Manifest
    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled


def rebuild(
    compiled: Compiled,
    lake: Lake,
    manifest: Manifest,
    spine: pd.DataFrame | pa.Table | Path | str,
    *,
    features: Sequence[object] | None = None,
    workers: Workers = ALONE,
) -> TrainingSet:
    """The training set of a manifest, from the events, rows and declarations that it was made from.

    Args:
        compiled: the declarations; versions of views that were used must still be among them.
        lake: still has the manifest's snapshot.
        manifest: of the training set.
        spine: its rows, the same in the same order.
        features: what was asked for, where that was a list with ratios or roles, which have no name of their own.
        workers: as in `get_historical_features`.

    Raises:
        InputError: the spine is another one, or definitions have changed, by name.
        UnknownNameError: a service, view, feature or label is not declared any more.
        LakeError: the snapshot is gone.
    """
    rows = read_spine(spine, lake=lake, time_column=manifest.time_column)
    if rows.digest != manifest.spine_digest:
        raise InputError(
            f"the spine is not that of the manifest: {len(rows)} rows with digest {rows.digest}, "
            f"the manifest has {manifest.rows} with {manifest.spine_digest}"
        )
    asked = _asked(compiled, manifest, features)
    _check_definitions(compiled, manifest, asked)
    return get_historical_features(
        compiled,
        lake,
        rows.table,
        asked,
        knowledge=manifest.knowledge,
        time_column=manifest.time_column,
        statuses=manifest.statuses,
        allow_incomplete=manifest.allow_incomplete,
        snapshot=manifest.snapshot,
        workers=workers,
        labels=list(manifest.labels),
        now_us=manifest.until_us,
    )


def _asked(
    compiled: Compiled, manifest: Manifest, features: Sequence[object] | None
) -> FeatureService | Sequence[object]:
    if features is not None:
        return features
    return list(manifest.features) if manifest.service is None else compiled.registry.service(manifest.service)


def _check_definitions(compiled: Compiled, manifest: Manifest, asked: FeatureService | Sequence[object]) -> None:
    resolved = compiled.registry.resolve(asked)
    labels = [compiled.registry.label(name) for name in manifest.labels]
    others = changed(manifest.fingerprints, definitions(compiled, asked, resolved, labels))
    if others:
        listed = ", ".join(f"'{name}'" for name in others)
        raise InputError(
            f"the training set cannot be made again: the definition has changed of {listed}; "
            "declare it as it was (an old version of a view may stand beside its successor)"
        )
