"""`FeatureStore`: one object for a deployment's declarations, lake, log and online store. It only delegates."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from feature_store.clock import Clock
from feature_store.registry import Registry, load_registry
from feature_store.settings import Settings
from feature_store.time_rule import to_us
from feature_store.transforms.compiled import Compiled, compile_registry

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from datetime import date, timedelta
    from types import TracebackType

    import pandas as pd
    import pyarrow as pa
    from redis import Redis

    from feature_store.catalog.statistics import ViewStatistics
    from feature_store.changing.applied import Applied
    from feature_store.changing.planned import Planned
    from feature_store.changing.retire import Retired
    from feature_store.costs.report import Costs
    from feature_store.declare.service import FeatureService
    from feature_store.history.baseline import Baseline
    from feature_store.history.explain import Explanation
    from feature_store.history.late import LateEvents
    from feature_store.history.loading import LoadResult
    from feature_store.history.manifest import Knowledge, Manifest
    from feature_store.history.outdated import Reason
    from feature_store.history.publish import PublishResult
    from feature_store.history.training import TrainingSet
    from feature_store.history.workers import Workers
    from feature_store.housekeeping.task import Premises
    from feature_store.lake import Commit, Lake
    from feature_store.log.protocol import EventLog, Position
    from feature_store.notebook import Distribution, Draft, OverTime
    from feature_store.notebook.declared import Declarations
    from feature_store.notebook.entities import Asked
    from feature_store.operate import GivenUp, StoreStatus
    from feature_store.proof.verify import Verdict
    from feature_store.reader import FeatureReader, FeatureVector


class FeatureStore:
    """A deployment's feature store. Opens lake and Redis when they are first needed; close it, or use it with `with`."""

    def __init__(
        self, registry: Registry | None = None, *, settings: Settings | None = None, clock: Clock | None = None
    ) -> None:
        """Check the declarations; nothing is opened yet.

        Args:
            registry: by default the one that the setting `declarations` names.
            settings: from the environment by default.
            clock: the settings' clock by default, which is the machine's.

        Raises:
            SettingsError: the registry cannot be found.
            DeclarationError: everything that is wrong with the declarations.
        """
        self.settings = settings or Settings()
        self.clock = clock or self.settings.clock
        self.registry = registry if registry is not None else load_registry(self.settings.declarations)
        self.compiled: Compiled = compile_registry(self.registry)
        self._opened = ExitStack()
        self._logs: dict[str, EventLog] = {}

    @cached_property
    def lake(self) -> Lake:
        """The lake, opened on first use."""
        from feature_store.lake import Lake, LakeLocation

        memory = self.settings.batch_memory_mb
        lake = Lake.open(
            LakeLocation.of(self.settings),
            env=self.settings.environment,
            clock=self.clock,
            threads=self.settings.batch_threads,
            memory_limit=None if memory is None else f"{memory}MB",
        )
        return self._opened.enter_context(lake)

    @cached_property
    def redis(self) -> Redis:
        """A client of the online store and the log.

        Raises:
            OnlineStoreError: its address cannot be read.
        """
        from feature_store.online.address import connect, disconnect

        client = connect(self.settings.redis_url)
        self._opened.callback(disconnect, client)
        return client

    @cached_property
    def _reader(self) -> FeatureReader:
        reader = self.reader()
        self._opened.callback(reader.close)
        return reader

    def close(self) -> None:
        """Close what was opened; what is needed again opens again."""
        self._opened.close()
        for name in ("lake", "redis", "_reader"):
            self.__dict__.pop(name, None)
        self._logs.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- drafts

    @classmethod
    def local(
        cls,
        declarations: Declarations | None = None,
        *,
        lake: Lake | Path | str | None = None,
        sample: float | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> Draft:
        """Declarations that need not be applied, computed at once on a sample of events, in memory.

        The lake is only read; nothing is written to it, to a log or to Redis. A source that the lake does not have, or not
        with the columns declared now, is loaded by its loader, for the span from `start` to `end`.

        Args:
            declarations: a registry, a module (read again from its file), `module:attribute`, a view, or a list of views,
                services and labels; by default what the setting `declarations` names.
            lake: an open lake, or the directory of one; the deployment's by default.
            sample: the share of the entities, more than 0 and at most 1, chosen by a hash of their keys; what windows of
                these entities hold is there whole. By default all, or so many as make about five million events.
            start: the first time that may be asked about, an aware datetime or ISO 8601 text with a zone; events before it
                are there as far as windows reach. By default everything that the lake has.
            end: the last one.
            settings: from the environment by default.
            clock: the settings' clock by default.

        Raises:
            DeclarationError: everything that is wrong with the declarations.
            InputError: a time is naive, the share is none, or a source can neither be read nor loaded.
            LakeError: the lake cannot be read.
        """
        from feature_store.notebook.local import make_draft

        settings = settings or Settings()
        now_us = (clock or settings.clock).now_us()
        return make_draft(
            declarations, lake=lake, sample=sample, start=start, end=end, settings=settings, now_us=now_us
        )

    def over_time(
        self,
        feature: Asked,
        *,
        entity: Mapping[str, object],
        start: datetime | str,
        end: datetime | str,
        every: str | timedelta | None = None,
        knowledge: Knowledge = "served",
    ) -> OverTime:
        """One feature of one entity from `start` to `end`, to look at or to plot. See `notebook.over_time`."""
        from feature_store.notebook.over_time import over_time

        ask = partial(self.get_historical_features, statuses=True, knowledge=knowledge)
        return over_time(self.compiled, ask, feature, entity=entity, start=start, end=end, every=every)

    def distribution(
        self,
        feature: Asked,
        *,
        at: datetime | str | None = None,
        spine: pd.DataFrame | pa.Table | Path | str | None = None,
        knowledge: Knowledge = "served",
    ) -> Distribution:
        """One feature of the entities that have had an event by a time, or at the rows of a spine: to look at or to plot.

        See `notebook.distribution`.
        """
        from feature_store.notebook.distribution import distribution

        ask = partial(self.get_historical_features, statuses=True, knowledge=knowledge)
        return distribution(self.compiled, self.lake, ask, feature, at=at, spine=spine)

    # ---- declarations

    def apply(self, *, expected: int | None = None) -> list[str]:
        """Record the definitions, publish layouts and services for the readers; returns what is new. See `operate.apply`.

        Raises:
            DeclarationError: a feature changed its meaning under the same version of its view, or is gone though a
                service reads it, or a service has other features under the same version; nothing was written.
            ApplyConflict: the registry is not at version `expected`, or somebody else applied meanwhile.
            OnlineStoreError: Redis is away.
        """
        from feature_store.operate import apply

        return apply(
            self.compiled, self.lake, self.redis, env=self.settings.environment, clock=self.clock, expected=expected
        )

    def applied(self) -> Applied:
        """What is applied to this environment, and the version of the registry."""
        from feature_store.changing.applied import read_applied

        return read_applied(self.lake)

    def plan(self) -> Planned:
        """What `apply` would change, and what building that takes; nothing is written. See `changing.planned.plan_here`."""
        from feature_store.changing.planned import plan_here

        return plan_here(
            self.compiled, self.lake, self.redis, env=self.settings.environment, now_us=self.clock.now_us()
        )

    def retire(self, name: str, *, service: bool = False) -> Retired:
        """Give back what a view (or a service) that is declared no more takes up. See `changing.retire`.

        Args:
            name: `name@version`.
            service: whether that is a service.

        Raises:
            UnknownNameError: it was never applied.
            InputError: it is declared, in use, or a running stream still writes it.
        """
        from feature_store.changing.retire import retire_service, retire_view

        retire = retire_service if service else retire_view
        return retire(
            name,
            registry=self.registry,
            lake=self.lake,
            client=self.redis,
            env=self.settings.environment,
            clock=self.clock,
        )

    @property
    def premises(self) -> Premises:
        """This environment, for `housekeeping`."""
        from feature_store.housekeeping.task import Premises

        return Premises(
            compiled=self.compiled,
            lake=self.lake,
            env=self.settings.environment,
            clock=self.clock,
            redis=lambda: self.redis,
            log=self.log,
        )

    def costs(self, *, days: int = 30) -> Costs:
        """What each feature takes in Redis and lake, and who has read it in some days. See `costs.report.costs`."""
        from feature_store.costs.report import costs

        settings, now_us = self.settings, self.clock.now_us()
        folder = settings.home / "training" / settings.environment
        return costs(
            self.compiled,
            self.lake,
            self.redis,
            env=settings.environment,
            manifests=folder,
            now_us=now_us,
            days=days,
        )

    def publish_statistics(self) -> Mapping[str, ViewStatistics | None]:
        """Compute how the values of features are distributed, for the catalog. See `catalog.statistics`."""
        from feature_store.catalog.statistics import publish_statistics

        return publish_statistics(self.compiled, self.lake, self.redis, env=self.settings.environment)

    def rebuild_online(self) -> Mapping[str, int]:
        """Write everything in the online store again from lake and logs. See `restore.rebuild_online`."""
        from feature_store.restore import rebuild_online

        return rebuild_online(self.compiled, self.lake, self.redis, env=self.settings.environment, clock=self.clock)

    def status(self) -> StoreStatus:
        """What lake, log and online store hold, as far as they answer."""
        from feature_store.operate import status

        return status(self.compiled, self.lake, self.redis, env=self.settings.environment)

    # ---- history

    def load(self, source: str, *, start: datetime, end: datetime) -> LoadResult:
        """Replace the loaded events of the whole UTC days in [start, end). See `history.loading.load`."""
        from feature_store.history.loading import load

        return load(self.compiled, self.lake, source, start=start, end=end)

    def materialize(
        self, view: str, *, start: datetime, end: datetime, executor: Executor | None = None
    ) -> list[Commit]:
        """Build the whole UTC days in [start, end) of a view anew: rows of a batch view, tiles of any other.

        `executor` computes rows as in `get_historical_features`; tiles are one query, which DuckDB runs on all cores.
        """
        from feature_store.history.loading import whole_days
        from feature_store.history.rows import materialize_rows
        from feature_store.history.tiles import materialize_tiles

        declared, days = self.registry.view(view), whole_days(start, end)
        if not declared.is_batch:
            return materialize_tiles(self.compiled, self.lake, declared, days=days)
        return materialize_rows(
            self.compiled,
            self.lake,
            declared,
            days=days,
            now_us=self.clock.now_us(),
            workers=self._workers(executor),
        )

    def outdated_days(self, view: str) -> dict[date, frozenset[Reason]]:
        """Past days of a view that should be built again, in order, and why. See `history.outdated.outdated_days`."""
        from feature_store.history.outdated import outdated_days

        return outdated_days(self.lake, self.registry.view(view), now_us=self.clock.now_us())

    def late_events(self, view: str, *, start: datetime, end: datetime) -> LateEvents:
        """What came late of the days in [start, end), and what it changed. See `history.late.late_events`."""
        from feature_store.history.late import late_events

        return late_events(self.lake, self.registry.view(view), start=start, end=end)

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
        labels: Sequence[str] = (),
        executor: Executor | None = None,
    ) -> TrainingSet:
        """The features at every row of a spine, in its order. See `history.training.get_historical_features`.

        What is more than a bucket (`training_bucket_events`) is computed by `executor`, any of `concurrent.futures` whose
        workers see the lake's directory, such as a Dask client's; without one, by `batch_workers` processes. The bytes
        are the same.
        """
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
            workers=self._workers(executor),
            labels=labels,
            now_us=self.clock.now_us(),
        )

    def pin(self, manifest: Manifest) -> None:
        """Keep the snapshot of a training set through every expiry, so that `rebuild` finds it."""
        self.lake.pin(
            manifest.snapshot, reason=f"training set {manifest.service or 'of a list'}, spine {manifest.spine_digest}"
        )

    def training_folder(self, service: FeatureService) -> Path:
        """Where Dagster keeps the training sets of a service, each with its manifest."""
        return self.settings.home / "training" / self.settings.environment / service.id

    def pin_baseline(self, service: str, manifest: Path) -> Baseline:
        """Measure the drift of a service against the training set of a manifest. See `history.baseline.pin_baseline`."""
        from feature_store.history.baseline import pin_baseline

        declared = self.registry.service(service)
        return pin_baseline(self.compiled, self.lake, declared, manifest, clock=self.clock)

    def baselines(self, service: str) -> tuple[Baseline | None, Baseline | None]:
        """The baseline that is pinned for a service, and the newest training set, unless it is the pinned one.

        A training set that was made from other definitions is none.
        """
        from feature_store.errors import InputError
        from feature_store.history.baseline import newest_manifest, pinned_baseline, read_baseline

        declared = self.registry.service(service)
        pinned, path = pinned_baseline(self.lake, declared), newest_manifest(self.training_folder(declared))
        if path is None or (pinned is not None and pinned.path == str(path.absolute())):
            return pinned, None
        try:
            return pinned, read_baseline(self.compiled, declared, path)
        except InputError:
            return pinned, None

    def rebuild(
        self,
        manifest: Manifest,
        spine: pd.DataFrame | pa.Table | Path | str,
        *,
        features: Sequence[object] | None = None,
        executor: Executor | None = None,
    ) -> TrainingSet:
        """The training set of a manifest once more, byte by byte. See `history.rebuild.rebuild`."""
        from feature_store.history.rebuild import rebuild

        workers = self._workers(executor)
        return rebuild(self.compiled, self.lake, manifest, spine, features=features, workers=workers)

    def _workers(self, executor: Executor | None) -> Workers:
        from feature_store.history.workers import Workers

        return Workers(
            executor=executor,
            count=self.settings.batch_workers or os.cpu_count() or 1,
            bucket_events=self.settings.training_bucket_events,
            memory_mb=self.settings.batch_memory_mb,
        )

    def verify(
        self, service: str | None = None, *, since_us: int | None = None, until_us: int | None = None
    ) -> list[Verdict]:
        """Recompute the vectors of a service, or of all, that were served in a time. See `proof.verify`."""
        from feature_store.proof.verify import verify

        return verify(self.compiled, self.lake, service=service, since_us=since_us, until_us=until_us)

    # ---- the present

    def log(self, source: str) -> EventLog:
        """The log of a source, opened on first use.

        Raises:
            InputError: it has none.
            LogError: something that it needs is not there.
        """
        from feature_store.log.binding import open_log

        if source not in self._logs:
            self._logs[source] = open_log(self.redis, self.settings.environment, self.registry.source(source))
        return self._logs[source]

    def publish(
        self, source: str, rows: Sequence[Mapping[str, object]] | pa.Table | pd.DataFrame
    ) -> Sequence[Position]:
        """Append events to a source's log, stamped with the clock's time; says where each one stands.

        Raises:
            InputError: the source has no log, or a row has no event id or no form in the log.
            LogFull: the log has no room.
        """
        from feature_store.operate import publish_events

        return publish_events(self.registry.source(source), self.log(source), rows, clock=self.clock)

    def resume(self, source: str) -> Mapping[int, GivenUp]:
        """Go on where the log begins, where its retention has passed the lake. See `operate.resume`."""
        from feature_store.operate import resume

        return resume(self.compiled, self.lake, self.log(source), source)

    def publish_view(self, view: str) -> PublishResult:
        """Write a batch view's newest rows to the online store. See `history.publish.publish_rows`."""
        from feature_store.history.publish import publish_rows

        return publish_rows(
            self.compiled,
            self.lake,
            self.redis,
            self.registry.view(view),
            env=self.settings.environment,
            clock=self.clock,
        )

    def explain(self, feature: str, entity: Mapping[str, object], *, as_of: datetime | None = None) -> Explanation:
        """Where one value comes from: what is served, its events, and the lake's value. See `history.explain.explain`."""
        from feature_store.history.explain import explain

        return explain(
            self.compiled,
            self.lake,
            lambda: self.get_online_features([feature], entity, as_of=as_of),
            feature,
            entity,
            as_of_us=self.clock.now_us() if as_of is None else to_us(as_of),
        )

    def reader(self) -> FeatureReader:
        """A reader of this environment, with the declared on-demand functions; the caller closes it."""
        from feature_store.reader import FeatureReader

        return FeatureReader(
            self.settings.redis_url, env=self.settings.environment, clock=self.clock, functions=self.registry
        )

    def get_online_features(
        self, features: str | Sequence[str], row: Mapping[str, object], *, as_of: datetime | None = None
    ) -> FeatureVector:
        """The features of one row, now or at a time. See `FeatureReader.get_online_features`."""
        return self._reader.get_online_features(features, row, as_of=as_of)
