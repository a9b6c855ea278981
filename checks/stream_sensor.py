"""The sensor that observes the stream: what it sees becomes observations and evaluations, without a run.

It looks every ten seconds. Dagster keeps what is reported for ever, so a look is reported when the check changes, and else once
a minute (observations) and every five (evaluations).
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dagster as dg
import msgspec
from feature_store_deploy.assets.keys import stream_key
from feature_store_deploy.checks.declared import OWNER, told_figures
from feature_store_deploy.checks.stream import NAME, away, judge, sla_of, speed_of, told

from feature_store.clock import Clock
from feature_store.declare import EventSource
from feature_store.errors import FeatureStoreError
from feature_store.fold.run import live_sources
from feature_store.log.binding import open_log
from feature_store.log.protocol import EventLog
from feature_store.online.address import connect, disconnect
from feature_store.registry import Registry
from feature_store.settings import Settings
from feature_store.stream_progress import StreamProgress, read_vouchers, stream_progress
from feature_store.time_rule import SECOND_US

if TYPE_CHECKING:
    from redis import Redis

INTERVAL_S = 10
OBSERVED_EVERY_US = 60 * SECOND_US
EVALUATED_EVERY_US = 300 * SECOND_US
PATIENCE_S = 3.0
"""How long Redis may take to answer."""

Event = dg.AssetObservation | dg.AssetCheckEvaluation


class Seen(msgspec.Struct, kw_only=True):
    """What is remembered of a source."""

    positions: dict[int, int] = {}
    at_us: int = 0
    """When it stood there, by the clock of the deployment."""
    since_us: int = 0
    """When there was a first look."""
    begun: bool = False
    passed: bool | None = None
    observed_us: int = 0
    evaluated_us: int = 0


class Watch:
    """Sees the stream of a deployment. Keeps its connections for the next look."""

    def __init__(self, registry: Registry, settings: Settings, *, clock: Clock | None = None) -> None:
        self.sources = [registry.source(name) for name in live_sources(registry)]
        self._sla_s = {source.name: sla_of(source, registry) for source in self.sources}
        self._settings, self._env = settings, settings.environment
        self._clock = clock or settings.clock
        self._speed = speed_of(self._clock)
        self._logs: dict[str, EventLog] = {}

    @cached_property
    def _client(self) -> "Redis":
        return connect(self._settings.redis_url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S)

    def _log(self, source: EventSource) -> EventLog:
        if source.name not in self._logs:
            self._logs[source.name] = open_log(self._client, self._env, source)
        return self._logs[source.name]

    def close(self) -> None:
        """Close what was opened; another look opens it again."""
        if "_client" in self.__dict__:
            disconnect(self.__dict__.pop("_client"))
        self._logs.clear()

    def look(self, cursor: str | None) -> tuple[list[Event], str]:
        """What there is to report now, and what to remember, given what was remembered."""
        memory = {} if cursor is None else msgspec.json.decode(cursor, type=dict[str, Seen])
        seen = {source.name: memory.get(source.name, Seen()) for source in self.sources}
        found = self._progress(seen)
        events = [each for source in self.sources for each in self._of(source, seen[source.name], found[source.name])]
        return events, msgspec.json.encode(seen).decode()

    def _progress(self, seen: Mapping[str, Seen]) -> Mapping[str, StreamProgress | Exception]:
        """How far the stream has come with each source, or why that cannot be seen."""
        from redis.exceptions import RedisError  # takes a third of a second

        found: dict[str, StreamProgress | Exception] = {}
        for source in self.sources:
            try:
                vouchers = read_vouchers(self._client, self._env)
                found[source.name] = stream_progress(
                    vouchers, self._log(source), source.name, since=seen[source.name].positions
                )
            except (RedisError, FeatureStoreError) as error:
                found[source.name] = error
        return found

    def _of(self, source: EventSource, seen: Seen, found: StreamProgress | Exception) -> Iterator[Event]:
        now_us = self._clock.now_us()
        seen.since_us = seen.since_us or now_us
        if isinstance(found, Exception):
            verdict, metadata = away(found), dict[str, Any]()
        else:
            verdict = judge(
                found,
                now_us=now_us,
                speed=self._speed,
                before=seen.positions,
                known=seen.begun,
                sla_s=self._sla_s[source.name],
                since_us=seen.since_us,
            )
            metadata = told(found, events_per_s=self._rate(found, seen, now_us))
            seen.positions, seen.at_us, seen.begun = dict(found.positions), now_us, seen.begun or found.begun
        changed, seen.passed = verdict.passed is not seen.passed, verdict.passed
        key = stream_key(self._env, source)
        if changed or now_us - seen.observed_us >= OBSERVED_EVERY_US * self._speed:
            seen.observed_us = now_us
            yield dg.AssetObservation(key, description=verdict.said, metadata=metadata)
        if changed or now_us - seen.evaluated_us >= EVALUATED_EVERY_US * self._speed:
            seen.evaluated_us = now_us
            yield dg.AssetCheckEvaluation(
                asset_key=key,
                check_name=NAME,
                passed=verdict.passed,
                description=verdict.said,
                metadata={OWNER: source.owner or "nobody", **told_figures(verdict.figures)},
            )

    def _rate(self, found: StreamProgress, seen: Seen, now_us: int) -> float | None:
        """Records a second of real time since the last look."""
        passed_s = (now_us - seen.at_us) / (SECOND_US * self._speed)
        return found.advanced / passed_s if seen.at_us and passed_s > 0 else None


def build_stream_sensor(registry: Registry, settings: Settings, *, clock: Clock | None = None) -> dg.SensorDefinition:
    """The sensor of an environment.

    Args:
        registry: whose streamed sources are observed.
        settings: where Redis is.
        clock: of the flow; the settings' by default.
    """
    watch = Watch(registry, settings, clock=clock)

    @dg.sensor(
        name=f"{settings.environment}__stream",
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Watermark, lag and throughput of the stream, and whether it is alive",
    )
    def stream(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        events, cursor = watch.look(context.cursor)
        said = f"{len(watch.sources)} sources seen, {len(events)} events reported"
        return dg.SensorResult(asset_events=events, cursor=cursor, skip_reason=said)

    return stream
