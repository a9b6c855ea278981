"""All declarations of a deployment, checked together: one value, no global state."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import get_args

from feature_store.declare.check import SERVICE_CHECKS, SOURCE_CHECKS, VIEW_CHECKS, check_problems
from feature_store.declare.computed import Computed, OnDemand, pinned
from feature_store.declare.entity import GLOBAL, Entity
from feature_store.declare.feature import Feature, FeatureRef, Ratio
from feature_store.declare.keyed import KeyedView
from feature_store.declare.label import Label, label_view
from feature_store.declare.requests import request_problems
from feature_store.declare.service import FeatureService, Policy
from feature_store.declare.source import EventSource
from feature_store.declare.view import FeatureView
from feature_store.errors import DeclarationError, InputError, SettingsError, UnknownNameError, unknown_name
from feature_store.time_rule import DAY_US, format_duration

Resolved = FeatureRef | Ratio | Computed


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Registry:
    """The views, services and labels of a deployment, with the sources and entities that they name.

    Building it checks everything that can be checked without data; all problems come in one report. Expressions are
    checked by `transforms` when the registry is compiled, which `compile_registry` does.
    """

    views: Sequence[FeatureView]
    services: Sequence[FeatureService] = field(default=())
    labels: Sequence[Label] = field(default=())
    _versions: Mapping[str, Sequence[FeatureView]] = field(init=False, compare=False)
    """The views of each name: a deployment of hundreds looks for one thousands of times."""

    def __post_init__(self) -> None:
        for name in ("views", "services", "labels"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        versions: dict[str, list[FeatureView]] = {}
        for view in self.views:
            versions.setdefault(view.name, []).append(view)
        object.__setattr__(self, "_versions", versions)
        problems = [
            *self._name_problems(),
            *self._view_problems(),
            *self._retention_problems(),
            *self._service_problems(),
            *self._label_problems(),
            *self._check_problems(),
        ]
        if problems:
            raise DeclarationError(problems)

    def __repr__(self) -> str:
        counted = (("views", self.views), ("services", self.services), ("labels", self.labels))
        return f"Registry({', '.join(f'{name}: {len(each)}' for name, each in counted)})"

    def _repr_html_(self) -> str:
        from feature_store.declare.shown import registry_html

        return registry_html(self.views, self.services, self.labels)

    @property
    def sources(self) -> Mapping[str, EventSource]:
        """The sources by name."""
        return {source.name: source for source in self._all_sources}

    @property
    def readers(self) -> list[FeatureView | Label]:
        """What has expressions over the columns of sources."""
        return [*self.views, *self.labels]

    @property
    def _all_sources(self) -> list[EventSource]:
        return [reader.source for reader in self.readers]

    @property
    def entities(self) -> Mapping[str, Entity]:
        """The entities by name."""
        return {view.entity.name: view.entity for view in self.views}

    def source(self, name: str) -> EventSource:
        """The source of that name, or UnknownNameError."""
        if name not in self.sources:
            raise UnknownNameError("source", name, self.sources)
        return self.sources[name]

    def view(self, name: str) -> FeatureView:
        """The view called `name` (its newest version) or `name@version`, or UnknownNameError."""
        bare, _, version = name.partition("@")
        found = [v for v in self._versions.get(bare, ()) if not version or str(v.version) == version]
        if not found:
            raise UnknownNameError("view", name, {v.id if version else v.name for v in self.views})
        return max(found, key=lambda v: v.version)

    def service(self, name: str) -> FeatureService:
        """The service called `name` (its newest version) or `name@version`, or UnknownNameError."""
        bare, _, version = name.partition("@")
        found = [s for s in self.services if s.name == bare and (not version or str(s.version) == version)]
        if not found:
            raise UnknownNameError("service", name, {s.id if version else s.name for s in self.services})
        return max(found, key=lambda s: s.version)

    def label(self, name: str) -> Label:
        """The label of that name, or UnknownNameError."""
        for label in self.labels:
            if label.name == name:
                return label
        raise UnknownNameError("label", name, [label.name for label in self.labels])

    def is_personal(self, source: str) -> bool:
        """Whether a source's events hold personal data: a view of them is tagged so."""
        return any(view.is_personal for view in self.views_of(source))

    def views_of(self, source: str) -> tuple[FeatureView, ...]:
        """The views that read a source."""
        return tuple(view for view in self.views if view.source.name == source)

    def resolve(self, features: FeatureService | Sequence[object]) -> tuple[Resolved, ...]:
        """The features of a service or a list, in order, each with its view's version pinned.

        Raises:
            InputError: for a text that names no feature.
            UnknownNameError: for a view or feature that is not declared.
        """
        items = features.features if isinstance(features, FeatureService) else features
        return tuple(resolved for item in items for resolved in self._resolve_item(item))

    def reads(self, resolved: Sequence[Resolved]) -> tuple[KeyedView, ...]:
        """What resolved features are read from: each view once in every role.

        Raises:
            InputError: the prefix of a role gives a view the name under which something else is read.
        """
        reads: dict[str, KeyedView] = {}
        for ref in (ref for item in resolved for ref in item.refs):
            read = KeyedView(self.view(ref.view_id), ref.role)
            other = reads.setdefault(ref.read_id, read)
            if (other.view.id, other.columns) != (read.view.id, read.columns):
                raise InputError(
                    f"'{ref.read_id}' is the name of two reads, {_described(other)} and {_described(read)}; "
                    "choose another `prefix`"
                )
        return tuple(reads.values())

    def _resolve_item(self, item: object) -> Iterator[Resolved]:
        if isinstance(item, FeatureView | KeyedView):
            yield from (self._pin(item[feature.name]) for feature in item.declared)
        elif isinstance(item, Ratio):
            yield replace(item, numerator=self._pin(item.numerator), denominator=self._pin(item.denominator))
        elif isinstance(item, OnDemand | Computed):
            features = item.features if isinstance(item, OnDemand) else (item,)
            yield from (pinned(feature, self._pin) for feature in features)
        else:
            yield self._pin(item if isinstance(item, FeatureRef) else FeatureRef.parse(str(item)))

    def _pin(self, ref: FeatureRef) -> FeatureRef:
        return replace(self.view(ref.view_id)[ref.feature], role=ref.role)

    def _name_problems(self) -> Iterator[str]:
        for kind, pairs in (
            ("view", [(v.id, v) for v in self.views]),
            ("service", [(s.id, s) for s in self.services]),
        ):
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    yield f"{kind} '{name}' is declared twice"
                seen.add(name)
                if not re.fullmatch(r"[A-Za-z_]\w*@[1-9]\d*", name):
                    yield f"{kind} `name` must be letters, digits and _ and `version` at least 1, got '{name}'"
        yield from self._homonyms("source", self._all_sources)
        yield from self._homonyms("entity", [view.entity for view in self.views])

    def _homonyms(self, kind: str, things: Sequence[EventSource | Entity]) -> Iterator[str]:
        first: dict[str, EventSource | Entity] = {}
        for thing in things:
            if not re.fullmatch(r"[A-Za-z_]\w*", thing.name):
                yield f"{kind} `name` must be letters, digits and _, got '{thing.name}'"
            if first.setdefault(thing.name, thing) != thing:
                yield f"two different {kind} declarations are called '{thing.name}'"

    def _view_problems(self) -> Iterator[str]:
        for view in self.views:
            yield from view.problems
            yield from _feature_problems(view)
            yield from _duration_problems(view)
            yield from _column_problems(view)

    def _retention_problems(self) -> Iterator[str]:
        for source in self.sources.values():
            try:
                retention_us = source.retention_us
            except ValueError as error:
                yield f"source '{source.name}': {error}"
                continue
            if retention_us is not None:
                yield from self._too_long(source.name, retention_us)

    def _too_long(self, source: str, retention_us: int) -> Iterator[str]:
        """What reads events of a source for longer than it keeps them."""
        spans = [(f"view '{view.name}'", view) for view in self.views if view.source.name == source]
        with suppress(ValueError):  # of a label that is wrong in itself, which is said elsewhere
            spans += [
                (f"label '{label.name}'", label_view(label)) for label in self.labels if label.source.name == source
            ]
        for what, view in spans:
            longest = None if view.problems else view.longest_window_us
            if view.problems or (longest is not None and longest + DAY_US <= retention_us):
                continue
            reads = "every event, over the lifetime" if longest is None else f"back over {format_duration(longest)}"
            yield (
                f"source '{source}': `retention` must be a day longer than every window, got "
                f"{format_duration(retention_us)}, but {what} reads {reads}"
            )

    def _service_problems(self) -> Iterator[str]:
        for service in self.services:
            found: list[Resolved] = []
            for item in service.features:
                try:
                    found.extend(self._resolve_item(item))
                except (UnknownNameError, InputError) as error:
                    yield f"service '{service.name}': {error}"
            try:
                self.reads(found)
            except InputError as error:
                yield f"service '{service.name}': {error}"
                continue
            names = [str(item) if isinstance(item, FeatureRef) else item.name for item in found]
            yield from request_problems(service.name, found, self.reads(found))
            for name in sorted({name for name in names if names.count(name) > 1}):
                yield f"service '{service.name}': feature '{name}' stands twice"
            yield from _policy_problems(service)
            if type(service.log_rate) not in (int, float) or not 0 <= service.log_rate <= 1:
                yield f"service '{service.name}': `log_rate` must be a share from 0 to 1, got {service.log_rate!r}"
            known = {*names, *(re.sub(r"@\d+", "", name) for name in names)}
            for name in service.defaults:
                if name not in known:
                    yield f"service '{service.name}': {unknown_name('feature in `defaults`', name, sorted(known))}"

    def _label_problems(self) -> Iterator[str]:
        names = [label.name for label in self.labels]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"label '{name}' is declared twice"
        for label in self.labels:
            if not re.fullmatch(r"[A-Za-z_]\w*", label.name):
                yield f"label `name` must be letters, digits and _, got '{label.name}'"
                continue
            try:
                view = label_view(label)
            except ValueError as error:
                yield f"label '{label.name}': {error}"
                continue
            yield from _column_problems(view)

    def _check_problems(self) -> Iterator[str]:
        for source in {each.name: each for each in self._all_sources}.values():
            columns = list(source.schema.to_schema().columns)
            yield from check_problems(
                f"source '{source.name}'",
                source.checks,
                known=SOURCE_CHECKS,
                names=columns,
                without=[name for name in ("load", "log") if getattr(source, name) is None],
                drift=source.drift,
            )
        for view in self.views:
            features = [feature.name for feature in view.declared]
            yield from check_problems(
                f"view '{view.name}'",
                view.checks,
                known=VIEW_CHECKS,
                names=features,
                without=["online"] if view.online is None else [],
                drift=view.drift,
            )
        for service in (each for each in self.services if each.checks):
            try:
                names = [item.name for item in self.resolve(service)]
            except (UnknownNameError, InputError):
                continue  # said of the service itself
            yield from check_problems(f"service '{service.name}'", service.checks, known=SERVICE_CHECKS, names=names)


def _described(read: KeyedView) -> str:
    keys = ", ".join(f"{key} = {column}" for key, column in read.columns.items())
    return f"view '{read.view.id}' ({keys})" if keys else f"view '{read.view.id}'"


def _policy_problems(service: FeatureService) -> Iterator[str]:
    if not service.features:
        yield f"service '{service.name}' has no feature"
    for name, policy in (("on_stale", service.on_stale), ("on_ahead", service.on_ahead)):
        if policy not in get_args(Policy):
            yield f"service '{service.name}': `{name}` must be 'serve', 'default' or 'fail', got {policy!r}"


def _feature_problems(view: FeatureView) -> Iterator[str]:
    names = [feature.name for feature in view.declared]
    if not names and not view.problems:
        yield f"view '{view.name}' declares no feature"
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"view '{view.name}': feature '{name}' is declared twice; give one of them a `name`"
    for feature in view.declared:
        if not re.fullmatch(r"[A-Za-z_]\w*", feature.name):
            yield f"view '{view.name}': feature `name` must be letters, digits and _, got '{feature.name}'"


def _duration_problems(view: FeatureView) -> Iterator[str]:
    found: dict[str, int] = {}
    for name in ("every", *(["freshness_sla"] if view.freshness_sla is not None else [])):
        try:
            found[name] = getattr(view, f"{name}_us")
        except ValueError as error:
            yield f"view '{view.name}': {error}"
    every, sla = found.get("every", DAY_US), found.get("freshness_sla")
    if DAY_US % every:
        yield f"view '{view.name}': `every` must divide a day, got {format_duration(every)}"
    if view.is_batch and sla is not None and sla < every:
        yield (
            f"view '{view.name}': `freshness_sla` must be at least `every`, {format_duration(every)}, in which a batch view "
            f"publishes once, got {format_duration(sla)}"
        )
    if view.score_own_event and view.online != "stream":
        yield f"view '{view.name}': `score_own_event` is for views with online='stream', got online={view.online!r}"
    if view.late_events == "ignore" and view.lateness is None:
        yield f"view '{view.name}': `lateness` must be given with late_events='ignore'"


def _column_problems(view: FeatureView) -> Iterator[str]:
    columns = list(view.source.schema.to_schema().columns)
    if not view.entity.join_keys and view.entity != GLOBAL:
        yield f"entity '{view.entity.name}' must have at least one join key; a view of everything has entity=None"
    for key in view.entity.join_keys:
        if key not in columns:
            yield f"view '{view.name}': {unknown_name(f'join key of entity {view.entity.name!r}', key, columns)}"
    roles = [("event_time", view.source.event_time), *(("event_id", name) for name in view.source.id_columns)]
    for role, column in roles:
        if column not in columns:
            yield f"source '{view.source.name}': {unknown_name(f'`{role}` column', column, columns)}"
    for column in columns:
        if column.startswith("_"):
            yield f"source '{view.source.name}': column '{column}' must not start with _, which the lake keeps to itself"


def fingerprint(view: FeatureView, feature: Feature) -> str:
    """A stable digest of everything that a feature's values depend on; descriptions and owners are not among it."""
    meaning = {
        "entity": [view.entity.name, *view.entity.join_keys],
        "source": [view.source.name, view.source.event_time, view.source.event_id],
        "where": view.where,
        "late": [view.late_events, None if view.lateness is None else str(view.lateness)],
        "batch": [view.every_us] if view.is_batch else None,
        "aggregate": [feature.aggregate, feature.column, feature.window_us, feature.hop_us, feature.cap],
    }
    return hashlib.blake2b(json.dumps(meaning, sort_keys=True).encode(), digest_size=8).hexdigest()


def meanings_of(view: FeatureView) -> list[str]:
    """What each feature of a view means, `name=fingerprint`, in order."""
    return [f"{feature.name}={fingerprint(view, feature)}" for feature in view.declared]


def view_fingerprint(view: FeatureView) -> str:
    """A stable digest of a view's features in order: what its rows in lake and Redis depend on."""
    return hashlib.blake2b("|".join(meanings_of(view)).encode(), digest_size=8).hexdigest()


def load_registry(path: str) -> Registry:
    """The registry that `module:attribute` names; the attribute may be a function that builds it.

    Raises:
        SettingsError: if it is not there or is not a registry.
        DeclarationError: if the declarations are wrong.
    """
    module_name, _, attribute = path.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute or "registry")
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"`declarations` must name a module and a registry in it, got '{path}': {error}") from error
    registry = found() if callable(found) else found
    if not isinstance(registry, Registry):
        raise SettingsError(f"`declarations` must name a Registry, but '{path}' is a {type(registry).__name__}")
    return registry
