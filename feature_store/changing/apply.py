"""What is declared becomes what is applied: recorded in the lake, and published for the readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

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
from feature_store.decoders.confluent import ConfluentAvroDecoder
from feature_store.errors import DeclarationError
from feature_store.fold.drive import stream_fingerprint
from feature_store.history.kept import start_us
from feature_store.online.keys import layouts_key
from feature_store.online.layout import layouts_in_use, service_layout, view_layout
from feature_store.online.rollout import settle
from feature_store.online.server import check_server
from feature_store.schema import innermost
from feature_store.time_rule import format_duration

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.clock import Clock
    from feature_store.evolution import Reader
    from feature_store.lake import Lake
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
    kept = {name: lake.retention.kept_from(name) for name in compiled.registry.sources}
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
