"""Declarations as the catalog has them: pure, and with nothing in it that only this machine should know."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from feature_store.catalog import names
from feature_store.catalog.document import (
    ColumnEntry,
    EntityEntry,
    Entry,
    FeatureEntry,
    ServedEntry,
    ServiceEntry,
    SourceEntry,
    Value,
    ViewEntry,
)
from feature_store.computed.kinds import LIST
from feature_store.declare.computed import AskedTime, Computed, Input, RequestInput
from feature_store.declare.feature import FeatureRef, Ratio
from feature_store.declare.log import RedisStreamBinding
from feature_store.declare.requests import requests_of
from feature_store.declare.service import defaults_of, served_names
from feature_store.time_rule import format_duration, parse_duration

if TYPE_CHECKING:
    from feature_store.declare.service import FeatureService
    from feature_store.declare.source import EventSource
    from feature_store.declare.view import FeatureView
    from feature_store.transforms.compiled import Compiled
    from feature_store.transforms.plan import FeaturePlan, ViewPlan

LONGEST = 4_000
"""Characters of a description or of a function's code; what is longer ends in an ellipsis."""


def entries(compiled: Compiled) -> Iterator[Entry]:
    """An entry for each view, service, source and entity."""
    for plan in compiled.plans.values():
        yield _view(plan)
    for service in compiled.registry.services:
        yield _service(service, compiled)
    for source in compiled.registry.sources.values():
        yield _source(source, compiled)
    for entity in compiled.registry.entities.values():
        yield EntityEntry(name=entity.name, join_keys=list(entity.join_keys), description=shortened(entity.description))


def shortened(text: str) -> str:
    """A text with at most `LONGEST` characters.

    >>> len(shortened("a" * 10_000)), shortened(" a word ")
    (4000, 'a word')
    """
    text = text.strip()
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _view(plan: ViewPlan) -> ViewEntry:
    view = plan.view
    lateness = None if view.lateness is None else format_duration(parse_duration(view.lateness, name="lateness"))
    return ViewEntry(
        name=view.name,
        version=view.version,
        entity=view.entity.name,
        source=view.source.name,
        where=view.where,
        online=view.online,
        every=format_duration(view.every_us) if view.is_batch else None,
        sla=format_duration(view.freshness_sla_us),
        late_events=view.late_events,
        lateness=lateness,
        score_own_event=view.score_own_event,
        owner=view.owner,
        description=shortened(view.description),
        tags=dict(view.tags),
        personal=view.is_personal,
        assets=_view_assets(view),
        features=[_feature(each) for each in plan.features],
    )


def _view_assets(view: FeatureView) -> list[names.Path]:
    return [names.history_path(view), *([] if view.online is None else [names.online_path(view)])]


def _feature(plan: FeaturePlan) -> FeatureEntry:
    feature, empty = plan.feature, plan.aggregate.empty
    return FeatureEntry(
        name=feature.name,
        aggregate=feature.aggregate,
        column=feature.column,
        window=None if feature.window_us is None else format_duration(feature.window_us),
        hop=None if feature.window_us is None else format_duration(feature.hop_us),
        window_error=feature.window_error,
        cap=feature.cap,
        dtype=f"{LIST if plan.is_list else ''}{plan.kind}",
        empty=list(empty) if isinstance(empty, tuple) else empty,  # type: ignore[arg-type]
        description=shortened(feature.description),
    )


def _service(service: FeatureService, compiled: Compiled) -> ServiceEntry:
    registry = compiled.registry
    resolved = registry.resolve(service)
    reads = registry.reads(resolved)
    served = zip(served_names(resolved), resolved, defaults_of(service, resolved), strict=True)
    keys = dict.fromkeys(column for read in reads for column in read.columns.values())
    asked = requests_of(resolved)
    return ServiceEntry(
        name=service.name,
        version=service.version,
        owner=service.owner,
        description=shortened(service.description),
        on_stale=service.on_stale,
        on_ahead=service.on_ahead,
        log_rate=service.log_rate,
        personal=sorted({read.view.name for read in reads if read.view.is_personal}),
        keys=list(keys),
        requests={name: each.kind for name, each in asked.items() if name not in keys},
        assets=[names.service_path(service), names.training_path(service), names.served_vectors_path(service)],
        features=[_served(name, item, compiled, default=default) for name, item, default in served],
    )


def _served(name: str, item: FeatureRef | Ratio | Computed, compiled: Compiled, *, default: Value) -> ServedEntry:
    inputs: Mapping[str, str] = {}
    columns, code, description = {}, "", ""
    if isinstance(item, FeatureRef):
        kind, columns, dtype = "stored", dict(item.role.columns), _stored_type(item, compiled)
    elif isinstance(item, Ratio):
        kind, dtype, description = "ratio", "float", item.description
        inputs = {"numerator": item.numerator.meaning, "denominator": item.denominator.meaning}
    else:
        kind = "encoding" if item.of.function.encoding else "on_demand"
        dtype, description, code = item.output.kind, item.description, _code(item)
        given = zip(item.of.function.parameters, item.of.inputs, strict=True)
        inputs = {parameter: _input(each) for parameter, each in given}
    return ServedEntry(
        name=name,
        kind=kind,
        reads=[f"{ref.view_id}:{ref.feature}" for ref in item.refs],
        inputs=inputs,
        columns=columns,
        dtype=dtype,
        default=default,
        code=shortened(code),
        description=shortened(description),
    )


def _stored_type(ref: FeatureRef, compiled: Compiled) -> str:
    plans = compiled.plans[compiled.registry.view(ref.view_id).id].features
    plan = next(each for each in plans if each.feature.name == ref.feature)
    return f"{LIST if plan.is_list else ''}{plan.kind}"


def _input(given: Input) -> str:
    source = given.source
    filled = "" if given.fill is None else f", else {given.fill!r}"
    if isinstance(source, RequestInput):
        default = "" if source.default is None else f", else {source.default!r}"
        return f"{source.column}: {source.kind} of the request{default}"
    if isinstance(source, AskedTime):
        return "the time asked"
    return f"{source.meaning if isinstance(source, FeatureRef) else source.name}{filled}"


def _code(item: Computed) -> str:
    """The code of a function, or the name and options of an encoding."""
    function = item.of.function
    if function.encoding:
        return function.encoding
    try:
        return inspect.cleandoc(inspect.getsource(function.call))
    except (OSError, TypeError):
        return ""


def _source(source: EventSource, compiled: Compiled) -> SourceEntry:
    declared = source.schema.to_schema().columns
    schema = compiled.schemas[source.name]
    return SourceEntry(
        name=source.name,
        owner=source.owner,
        description=shortened(source.description),
        event_time=source.event_time,
        event_id=list(source.id_columns),
        history=None if source.load is None else getattr(source.load, "__name__", type(source.load).__name__),
        log=_log(source),
        personal=compiled.registry.is_personal(source.name),
        assets=[names.events_path(source)],
        columns=[
            ColumnEntry(
                name=field.name,
                dtype=str(field.type),
                nullable=field.nullable,
                description=shortened(declared[field.name].description or "") if field.name in declared else "",
            )
            for field in schema
        ],
    )


def _log(source: EventSource) -> str | None:
    if source.log is None:
        return None
    kind = "Redis Streams" if isinstance(source.log, RedisStreamBinding) else "Kafka"
    return f"{kind}: {source.log.topic}"
