"""`FeatureStore`: one object for a deployment's declarations, lake, log and online store. It only delegates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.clock import Clock, SystemClock
from feature_store.registry import Registry, load_registry
from feature_store.settings import Settings
from feature_store.transforms.compiled import Compiled, compile_registry

if TYPE_CHECKING:
    from types import TracebackType

    import pandas as pd
    import pyarrow as pa

    from feature_store.declare.service import FeatureService
    from feature_store.history.loading import LoadResult
    from feature_store.history.manifest import Knowledge
    from feature_store.history.training import TrainingSet
    from feature_store.lake import Lake


class FeatureStore:
    """A deployment's feature store. Opens lake and Redis when they are first needed; close it, or use it with `with`."""

    def __init__(
        self, registry: Registry | None = None, *, settings: Settings | None = None, clock: Clock | None = None
    ) -> None:
        """The store of these declarations.

        Args:
            registry: by default the one that the setting `declarations` names.
            settings: from the environment by default.
            clock: the machine's by default.

        Raises:
            SettingsError, DeclarationError: what is wrong with either, all of it.
        """
        self.settings = settings or Settings()
        self.clock = clock or SystemClock()
        self.registry = registry if registry is not None else load_registry(self.settings.declarations)
        self.compiled: Compiled = compile_registry(self.registry)

    @cached_property
    def lake(self) -> Lake:
        """The lake, opened on first use."""
        from feature_store.lake import Lake

        return Lake.open(self.settings.lake_directory, env=self.settings.environment, clock=self.clock)

    def close(self) -> None:
        """Close what was opened."""
        if "lake" in self.__dict__:
            self.lake.close()
            del self.__dict__["lake"]

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def load(self, source: str, *, start: datetime, end: datetime) -> LoadResult:
        """Replace the loaded events of the whole UTC days in [start, end). See `history.loading.load`."""
        from feature_store.history.loading import load

        return load(self.compiled, self.lake, source, start=start, end=end)

    def get_historical_features(
        self,
        spine: pd.DataFrame | pa.Table | Path | str,
        features: FeatureService | str | Sequence[object],
        *,
        knowledge: Knowledge = "served",
        time_column: str = "event_timestamp",
        statuses: bool = False,
        allow_incomplete: bool = False,
        snapshot: int | None = None,
    ) -> TrainingSet:
        """The features at every row of a spine, in its order. See `history.training.get_historical_features`."""
        from feature_store.history.training import get_historical_features

        return get_historical_features(
            self.compiled,
            self.lake,
            spine,
            features,
            knowledge=knowledge,
            time_column=time_column,
            statuses=statuses,
            allow_incomplete=allow_incomplete,
            snapshot=snapshot,
            bucket_events=self.settings.training_bucket_events,
        )
