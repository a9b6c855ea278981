"""What operating a store takes beside its parts: recording definitions, publishing events, saying how things stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, cast

import pyarrow as pa

from feature_store.catalog.book import new_rows
from feature_store.changes import Meanings, meanings, source_changes
from feature_store.changing.applied import (
    Applied,
    conflict,
    feature_of,
    publish,
    read_applied,
    record,
    recorded_features,
    view_of,
    with_declared,
)
from feature_store.decoders import json
from feature_store.decoders.confluent import ConfluentAvroDecoder
from feature_store.errors import DeclarationError, FeatureStoreError, InputError, LogError, LogGap, LogTailLost
from feature_store.fold.drive import stream_fingerprint
from feature_store.fold.intake import no_events
from feature_store.history.kept import start_us
from feature_store.log.binding import open_log
from feature_store.log.placing import place_text, place_texts
from feature_store.log.protocol import Record, unpack_offset
from feature_store.online.keys import layouts_key
from feature_store.online.layout import layouts_in_use, service_layout, view_layout
from feature_store.online.ready import ReadyRecord, read_ready
from feature_store.online.rollout import settle
from feature_store.online.server import check_server, inspect_server
from feature_store.schema import arrow_schema, innermost
from feature_store.time_rule import format_duration

if TYPE_CHECKING:
    import pandas as pd
    from redis import Redis

    from feature_store.clock import Clock
    from feature_store.declare.source import EventSource
    from feature_store.evolution import Reader
    from feature_store.lake import Lake
    from feature_store.log.protocol import EventLog, Position
    from feature_store.transforms.compiled import Compiled


def apply(
    compiled: Compiled, lake: Lake, client: Redis, *, env: str, clock: Clock, expected: int | None = None
) -> list[str]:
    """Record definitions, create the sources' tables, publish layouts and services; says which features are new.

    Definitions and tables are one commit of the lake, which comes first: if this dies before Redis is written, applying again completes it.

    Args:
        compiled: what is declared.
        lake: of the environment.
        client: of its online store.
        env: the environment.
        clock: stamps the definitions.
        expected: the version of the registry that `plan` was seen at; the newest by default.

    Raises:
        DeclarationError: a feature changed its meaning under the same version of its view, or is gone though a service
            reads it, a service has other features under the same version, or a source changed so that old events would not
            read the same, or a view that is served has become personal data or is none any more; nothing was written.
        ApplyConflict: the registry is not at `expected`, or somebody else applied meanwhile; nothing was written.
        OnlineStoreError: Redis is away, evicts, or cannot expire a field.
        SchemaRegistryError: a source's schema registry cannot be asked; nothing was written.
    """
    check_server(client)
    registry, before, known = compiled.registry, read_applied(lake), recorded_features(lake)
    if expected is not None and before.version != expected:
        raise conflict(lake, expected)
    declared = meanings(registry)
    problems = [
        *_changed(declared, known),
        *_still_read(declared, before),
        *_repinned(declared, before),
        *_incompatible(declared, before, registry.readers),
        *_refused(compiled),
        *_moved(compiled, client, env),
        *_looking_back(compiled, lake, clock.now_us()),
    ]
    if problems:
        raise DeclarationError(problems)
    versions: dict[str, list[int]] = {}
    for service in registry.services:
        versions.setdefault(service.name, []).append(service.version)
    after = Applied(meanings=with_declared(before, declared), rollouts=settle(before.rollouts, versions))
    at_us = clock.now_us()
    definitions = new_rows(compiled, lake, at_us=at_us)
    now = record(lake, before, after, at_us=at_us, sources=compiled.schemas, definitions=definitions)
    publish(
        client,
        env,
        lake,
        views=[view_layout(plan) for plan in compiled.plans.values() if plan.view.online is not None],
        services=[service_layout(service, registry) for service in registry.services],
        stream=(now.version, stream_fingerprint(compiled)),  # a running flow that computes others builds them
    )
    return [name for name in declared.features if name not in known]


def _changed(declared: Meanings, known: Mapping[str, str]) -> list[str]:
    return [
        f"view '{view_of(name)}', feature '{feature_of(name)}': its meaning has changed; give the view a new `version`"
        for name, digest in declared.features.items()
        if known.get(name, digest) != digest
    ]


def _incompatible(declared: Meanings, before: Applied, readers: Sequence[Reader]) -> list[str]:
    """What of the sources would make something else of old events."""
    changes = source_changes(before.meanings, declared, readers)
    return [f"source '{name}': {change}" for name, change in changes if change.kind == "incompatible"]


def _refused(compiled: Compiled) -> list[str]:
    """What a schema registry has against the schemas that records are read as."""
    decoders = {name: innermost(source.decode) for name, source in compiled.registry.sources.items()}
    return [
        f"source '{name}': {problem}"
        for name, decoder in decoders.items()
        if isinstance(decoder, ConfluentAvroDecoder)
        for problem in decoder.refusals()
    ]


def _moved(compiled: Compiled, client: Redis, env: str) -> list[str]:
    """Views that would leave their values where others may read them, or where nobody looks."""
    layouts = [view_layout(plan) for plan in compiled.plans.values() if plan.view.online is not None]
    served = cast(
        "list[bytes | None]", client.hmget(layouts_key(env), [each.id for each in layouts]) if layouts else []
    )
    return [
        f"view '{new.view}': its values stand in Redis as {'' if not new.personal else 'not '}personal data, under keys of "
        f"which others are granted (tag `pii`); give the view a new `version`, and retire version {new.version}"
        for new, old in zip(layouts, served, strict=True)
        for before in layouts_in_use({} if old is None else {new.id.encode(): old}).values()
        if before.personal != new.personal
    ]


def _looking_back(compiled: Compiled, lake: Lake, now_us: int) -> list[str]:
    """Views whose windows hold events that retention has removed."""
    kept = {name: lake.kept_from(name) for name in compiled.registry.sources}
    problems = []
    for view in compiled.registry.views:
        since, span = kept[view.source.name], view.longest_window_us
        if since is not None and (span is None or now_us - span < start_us(since)):
            reads = "every event" if span is None else f"back over {format_duration(span)}"
            problems.append(
                f"view '{view.id}': it reads {reads} of source '{view.source.name}', whose events before {since} were "
                "removed by its retention; shorten the windows, or wait"
            )
    return problems


def _still_read(declared: Meanings, before: Applied) -> list[str]:
    """What is declared no more, though an applied service reads it."""
    return [
        f"feature '{name}' is gone, but service '{service}' reads it; declare it (is this older than what is "
        f"applied?), or retire the service first with `feature-store retire {service} --service`"
        for name, services in before.meanings.readers.items()
        if name not in declared.features
        for service in services
        if service not in declared.services
    ]


def _repinned(declared: Meanings, before: Applied) -> list[str]:
    """Services that would give the models that name them another vector."""
    applied = before.meanings.services
    return [
        f"service '{service}': it is applied with the features {', '.join(applied[service])}, now it has "
        f"{', '.join(features)}; give it a new `version`"
        for service, features in declared.services.items()
        if service in applied and list(applied[service]) != list(features)
    ]


def publish_events(
    source: EventSource,
    log: EventLog,
    rows: Sequence[Mapping[str, object]] | pa.Table | pd.DataFrame,
    *,
    clock: Clock,
) -> Sequence[Position]:
    """Append rows to a source's log; each arrives now, and goes to the partition of its event id.

    Raises:
        InputError: a row has no event id, or no form in the log; nothing was published.
        LogFull: the log has no room.
    """
    events = _plain_rows(rows)
    for number, row in enumerate(events):
        for name in source.id_columns:
            if row.get(name) is None:
                raise InputError(f"row {number}: the event id `{name}` is missing")
    payloads = (source.decode or json()).encode(events)
    now_us, schema = clock.now_us(), arrow_schema(source)
    return log.publish(
        [
            Record(place_text(source, schema, row) or _decoded_place(source, schema, payload), payload, now_us)
            for row, payload in zip(events, payloads, strict=True)
        ]
    )


def _decoded_place(source: EventSource, schema: pa.Schema, payload: bytes) -> str:
    """What places a payload; one that is no event is rejected wherever it goes."""
    decoded = (source.decode or json()).decode([payload], schema).table
    return place_texts(source, decoded)[0] if decoded.num_rows else ""


def _plain_rows(rows: Sequence[Mapping[str, object]] | pa.Table | pd.DataFrame) -> Sequence[Mapping[str, object]]:
    """Rows as mappings. A frame goes through Arrow, which knows a missing integer from NaN."""
    if isinstance(rows, pa.Table):
        return cast("list[dict[str, object]]", rows.to_pylist())
    if hasattr(rows, "columns") and hasattr(rows, "index"):
        return cast("list[dict[str, object]]", pa.Table.from_pandas(rows, preserve_index=False).to_pylist())
    return cast("Sequence[Mapping[str, object]]", rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """How a source stands."""

    name: str
    days_loaded: int
    first_day: date | None
    last_day: date | None
    positions: Mapping[int, int]
    """Partition -> the first offset that the lake does not have."""
    lag: Mapping[int, int]
    """Partition -> records of the log that the lake does not have; empty without a log or if it cannot be read."""
    problem: str = ""
    """Why the log cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """How a deployment stands."""

    snapshot: int
    sources: Sequence[SourceStatus]
    ready: Mapping[str, ReadyRecord]
    """Shard or batch view -> what it vouches for."""
    server: str
    """The online store's server and version, or why it does not answer."""


def status(compiled: Compiled, lake: Lake, client: Redis, *, env: str) -> StoreStatus:
    """What lake, log and online store hold; an online store that does not answer is part of the status."""
    ready: Mapping[str, ReadyRecord] = {}
    try:
        facts = inspect_server(client)
        server, answers = f"{facts.name} {facts.version}", True
        ready = read_ready(client, env)
    except FeatureStoreError as error:
        server, answers = str(error), False
    sources = [
        _source_status(source, lake, client if answers else None, env) for source in compiled.registry.sources.values()
    ]
    return StoreStatus(snapshot=lake.snapshot(), sources=sources, ready=ready, server=server)


def _source_status(source: EventSource, lake: Lake, client: Redis | None, env: str) -> SourceStatus:
    days = lake.days(source.name).loaded
    positions = lake.positions(source.name)
    lag: dict[int, int] = {}
    problem = ""
    if client is not None and source.log is not None:
        try:
            log = open_log(client, env, source)
            lag = {p: log.lag(p, positions[p] if p in positions else log.begin(p)) for p in range(log.partitions)}
        except LogError as error:
            problem = str(error)
    return SourceStatus(
        name=source.name,
        days_loaded=len(days),
        first_day=days[0] if days else None,
        last_day=days[-1] if days else None,
        positions=positions,
        lag=lag,
        problem=problem,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """What a partition lost to retention before the lake had it."""

    position: int
    """Where the lake stood."""
    first: int
    """Where it goes on: the first record that is left."""
    arrived_us: int | None
    """When that one arrived; None if there is none yet."""

    @property
    def records(self) -> int | None:
        """How many are gone; None if that cannot be said, because an epoch ended among them."""
        (epoch, n), (first_epoch, first_n) = unpack_offset(self.position), unpack_offset(self.first)
        return first_n - n if epoch == first_epoch else None


def resume(compiled: Compiled, lake: Lake, log: EventLog, source: str) -> dict[int, GivenUp]:
    """Go on where the log begins, in every partition whose retention has passed the lake's position.

    The records between are given up; load their days from the source's history. Stop the archiver before.

    Raises:
        PositionConflict: an archiver has committed meanwhile; nothing was changed.
        LogError: the log cannot be read.
    """
    positions = lake.positions(source)
    given_up = {p: gap for p, position in positions.items() if (gap := _given_up(log, p, position)) is not None}
    if given_up:
        lake.append_live(
            source,
            no_events(compiled.registry.source(source), compiled.schemas[source]),
            owner="resume",
            start={p: gap.position for p, gap in given_up.items()},
            end={p: gap.first for p, gap in given_up.items()},
        )
    return given_up


def _given_up(log: EventLog, partition: int, position: int) -> GivenUp | None:
    try:
        log.read(partition, position, max_records=1)
    except LogGap as gap:
        left = log.read(partition, gap.first, max_records=1)
        arrived_us = left[0].arrived_us if left else None
        return GivenUp(position=position, first=gap.first, arrived_us=arrived_us)
    except LogTailLost:
        return None  # nothing that the lake lacks is gone; the stream goes on by itself
    return None
