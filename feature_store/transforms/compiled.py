"""A registry with every view compiled: what the lake, the stream and training sets work from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from feature_store.declare.keyed import KeyedView
from feature_store.declare.label import label_view
from feature_store.errors import DeclarationError, InputError
from feature_store.long_keys import Keys, with_keys
from feature_store.schema import arrow_schema, key_kind
from feature_store.time_rule import parse_duration
from feature_store.transforms.expressions import Expressions
from feature_store.transforms.inputs import default_problems, input_problems
from feature_store.transforms.plan import ViewPlan, compile_view

if TYPE_CHECKING:
    import pyarrow as pa

    from feature_store.declare.label import Label
    from feature_store.declare.source import EventSource
    from feature_store.declare.view import FeatureView
    from feature_store.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A registry, the Arrow schema of each source, and the plan of each view (by `view@version`)."""

    registry: Registry
    schemas: Mapping[str, pa.Schema]
    plans: Mapping[str, ViewPlan]
    labels: Mapping[str, ViewPlan]
    """Label -> the plan of the view whose value at the end of the label's window it is."""

    def plan(self, view: FeatureView) -> ViewPlan:
        """The plan of a view."""
        return self.plans[view.id]

    def label_plan(self, label: Label) -> ViewPlan:
        """The plan of a label."""
        return self.labels[label.name]

    def plans_of(self, source: str) -> tuple[ViewPlan, ...]:
        """The plans of the views that read a source."""
        return tuple(self.plans[view.id] for view in self.registry.views_of(source))

    def lateness_us(self, source: str) -> int | None:
        """How late an event of a source may arrive and still count in every view that reads it; None: however late."""
        strict = [view for view in self.registry.views_of(source) if view.late_events == "ignore" and view.lateness]
        return min((parse_duration(view.lateness, name="lateness") for view in strict if view.lateness), default=None)


def compile_registry(registry: Registry) -> Compiled:
    """Compile every view.

    Raises:
        DeclarationError: with every expression and type that is wrong, in all views.
    """
    problems: list[str] = []
    schemas: dict[str, pa.Schema] = {}
    plans: dict[str, ViewPlan] = {}
    labels: dict[str, ViewPlan] = {}
    for name, source in registry.sources.items():
        try:
            schemas[name] = arrow_schema(source)
            expressions = Expressions(
                schemas[name], [each for view in registry.views_of(name) for each in _said_by(view)]
            )
            problems.extend(_time_problems(name, source.event_time, schemas[name]))
            problems.extend(_decoder_problems(source, schemas[name]))
            problems.extend(_id_problems(source, schemas[name]))
        except DeclarationError as error:
            problems.extend(error.problems)
            continue
        for view in registry.views_of(name):
            try:
                plans[view.id] = compile_view(view, expressions)
            except DeclarationError as error:
                problems.extend(error.problems)
        for label in registry.labels:
            if label.outcome.source.name == name:
                try:
                    labels[label.name] = compile_view(label_view(label), expressions)
                except DeclarationError as error:
                    problems.extend(error.problems)
    problems = problems or [*input_problems(registry, plans), *default_problems(registry, plans)]
    if problems:
        raise DeclarationError(problems)
    schemas = {name: with_keys(schema, _keys(registry, name, schema)) for name, schema in schemas.items()}
    return Compiled(registry=registry, schemas=schemas, plans=plans, labels=labels)


def _keys(registry: Registry, source: str, schema: pa.Schema) -> Keys:
    """The entities that events of a source name: those of its views, in every role in which a service reads them."""
    reads = [KeyedView(view) for view in registry.views_of(source)]
    for service in registry.services:
        reads += [read for read in registry.reads(registry.resolve(service)) if read.view.source.name == source]
    found = dict.fromkeys(tuple(read.columns.values()) for read in reads)
    return [columns for columns in found if columns and {*columns} <= {*schema.names}]


def _said_by(view: FeatureView) -> list[str]:
    """The expressions of a view."""
    return [each for each in (view.where, *(feature.column for feature in view.declared)) if each is not None]


def _id_problems(source: EventSource, schema: pa.Schema) -> list[str]:
    """Parts of an event id of several columns that have no one text."""
    problems = []
    for column in source.id_columns if len(source.id_columns) > 1 else ():
        try:
            if not str(schema.field(column).type).startswith("timestamp"):
                key_kind(schema.field(column).type)
        except ValueError as error:
            problems.append(f"source '{source.name}': `event_id` column '{column}': {error}")
    return problems


def _decoder_problems(source: EventSource, schema: pa.Schema) -> list[str]:
    """What a decoder has to say against the source's columns, before any payload has come."""
    if source.decode is None:
        return []
    try:
        source.decode.decode([], schema)
    except InputError as error:
        return [f"source '{source.name}': `decode`: {error}"]
    return []


def _time_problems(source: str, event_time: str, schema: pa.Schema) -> list[str]:
    found = str(schema.field(event_time).type)
    if found.startswith("timestamp"):
        return []
    return [f"source '{source}': `event_time` column '{event_time}' must be a time stamp with zone, but is {found}"]
