"""`stream`: the stream is alive, and what waits in the log is read. Pure over what was seen now and at the last look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from feature_store_deploy.assets.keys import stream_key
from feature_store_deploy.checks.declared import Figure, outcome, spec_metadata, told_figures
from feature_store_deploy.checks.steps import Checks, Step

from feature_store.clock import Clock, ReplayClock
from feature_store.declare import EventSource
from feature_store.errors import FeatureStoreError
from feature_store.registry import Registry
from feature_store.store import FeatureStore
from feature_store.stream_progress import StreamProgress, read_vouchers, stream_progress
from feature_store.time_rule import SECOND_US, from_us

NAME = "stream"
SILENT_S = 20.0
"""A shard beats each second; one that has not for so long is down."""
STALLED_S = 20.0
"""How old the oldest unread record may be while the positions stand still between two looks."""

HEARTBEAT, UNREAD, SILENT, UNSEEN = "heartbeat_age_s", "unread_for_s", "silent_shards", "unseen_streams"
"""The figures: of time in seconds, of what is not there how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the stream of a source is well."""

    passed: bool
    said: str
    figures: Sequence[Figure] = ()


def judge(
    found: StreamProgress,
    *,
    now_us: int,
    speed: float = 1.0,
    before: Mapping[int, int] | None = None,
    known: bool = False,
    sla_s: float = STALLED_S,
    since_us: int = 0,
) -> Verdict:
    """Whether the stream is down or stalled, or was never started though it should have been.

    Args:
        found: what was seen now.
        now_us: the time, by the clock of the flow.
        speed: how much faster than life that clock runs.
        before: the positions at the last look; without one a stall is not seen.
        known: whether a stream was seen earlier, though the store may have forgotten it since.
        sla_s: how long a record may wait for the first stream to begin.
        since_us: when there was a first look; what a log had before it has not waited for this deployment.
    """
    waiting_us = found.waiting_us and max(found.waiting_us, since_us)
    age_s, unread_s, waiting_s = (
        max(now_us - (now_us if at is None else at), 0) / (SECOND_US * speed)
        for at in (found.beat_us, found.watermark_us, waiting_us)
    )
    if found.silent and not (found.begun or known):
        figure = Figure(name=UNREAD, value=waiting_s, limit=sla_s)
        waits = f": {found.lag:,} records wait, the oldest for {waiting_s:,.0f} s" if figure.is_over else ""
        return Verdict(passed=not figure.is_over, said=f"no stream has run yet{waits}", figures=[figure])
    if found.silent:
        said = f"shards {list(found.silent)} vouch for nothing: the stream is down, or catches up"
        figure = Figure(name=SILENT, value=len(found.silent), limit=0)
        return Verdict(passed=False, said=said, figures=[figure])
    figures = [
        Figure(name=HEARTBEAT, value=age_s, limit=SILENT_S),
        Figure(name=UNREAD, value=unread_s, limit=STALLED_S),
    ]
    if age_s >= SILENT_S:
        return Verdict(passed=False, said=f"the stream is down: no heartbeat for {age_s:,.0f} s", figures=figures)
    if found.lag and unread_s >= STALLED_S and before == found.positions:
        said = f"the stream is stalled: {found.lag:,} records wait, the oldest for {unread_s:,.0f} s"
        return Verdict(passed=False, said=said, figures=figures)
    return Verdict(passed=True, said=f"alive, {found.lag:,} records behind", figures=figures)


def away(error: Exception) -> Verdict:
    """What an unreachable Redis or log comes to."""
    figure = Figure(name=UNSEEN, value=1, limit=0)
    return Verdict(passed=False, said=f"the stream cannot be seen: {error}", figures=[figure])


def sla_of(source: EventSource, registry: Registry) -> float:
    """The shortest freshness SLA of the views that a source's stream keeps, in seconds."""
    streamed = (view for view in registry.views_of(source.name) if view.online == "stream")
    return min((view.freshness_sla_us / SECOND_US for view in streamed), default=STALLED_S)


def speed_of(clock: Clock) -> float:
    """How much faster than life a clock runs."""
    return clock.speed if isinstance(clock, ReplayClock) and clock.speed > 0 else 1.0


def told(found: StreamProgress, *, events_per_s: float | None) -> dict[str, Any]:
    """Metadata of an observation."""
    metadata: dict[str, Any] = {"lag": found.lag, "shards": found.shards, "silent_shards": len(found.silent)}
    if found.run is not None:
        metadata["run"] = found.run
    if found.watermark_us is not None:
        metadata["watermark"] = dg.MetadataValue.timestamp(from_us(found.watermark_us))
    if found.beat_us is not None:
        metadata["heartbeat"] = dg.MetadataValue.timestamp(from_us(found.beat_us))
    if events_per_s is not None:
        metadata["throughput"] = events_per_s
    return metadata


def build_stream_check(source: EventSource, *, env: str) -> Checks:
    """The check by hand, from the UI; the sensor evaluates it all the time and sees a stall, too."""
    described = f"The stream of '{source.name}' beats, and reads what waits in the log"
    key = stream_key(env, source)
    spec = dg.AssetCheckSpec(NAME, asset=key, description=described, metadata=spec_metadata(source.owner))

    def stream(step: Step) -> dg.AssetCheckResult:
        verdict = _now(source, step.store)
        metadata = told_figures(verdict.figures)
        return outcome(passed=verdict.passed, description=verdict.said, owner=source.owner, metadata=metadata)

    return Checks.of_one(spec, stream)


def _now(source: EventSource, store: FeatureStore) -> Verdict:
    from redis.exceptions import RedisError  # takes a third of a second

    try:
        vouchers = read_vouchers(store.redis, store.settings.environment)
        found = stream_progress(vouchers, store.log(source.name), source.name)
    except (RedisError, FeatureStoreError) as error:
        return away(error)
    return judge(found, now_us=store.clock.now_us(), speed=speed_of(store.clock), sla_s=sla_of(source, store.registry))
