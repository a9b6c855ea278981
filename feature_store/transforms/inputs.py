"""Whether the inputs of on-demand features and the defaults of services are of the kinds that they must be: known once views are compiled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

from feature_store.computed.kinds import LIST, of_kind
from feature_store.declare.computed import AskedTime, Computed, Input, OnDemand, RequestInput, functions_of
from feature_store.declare.feature import FeatureRef, Ratio
from feature_store.declare.outputs import refuse_other
from feature_store.declare.requests import requests_of
from feature_store.declare.service import defaults_of
from feature_store.errors import InputError

if TYPE_CHECKING:
    from feature_store.computed.kinds import Kind
    from feature_store.declare.service import FeatureService
    from feature_store.registry import Registry
    from feature_store.transforms.plan import ViewPlan


def input_problems(registry: Registry, plans: Mapping[str, ViewPlan]) -> Iterator[str]:
    """What is wrong with the inputs of the on-demand features of all services."""
    for service in registry.services:
        resolved = registry.resolve(service)
        for demanded in functions_of(resolved):
            for parameter, given in zip(demanded.function.parameters, demanded.inputs, strict=True):
                for problem in _problems(demanded, parameter, given, plans):
                    yield f"service '{service.name}': on-demand feature '{demanded.name}': `{parameter}` {problem}"
        yield from _key_problems(registry, service, plans)


def default_problems(registry: Registry, plans: Mapping[str, ViewPlan]) -> Iterator[str]:
    """Defaults of services that are no values of their features: a reader would serve them, a training set could not."""
    for service in registry.services:
        resolved = registry.resolve(service)
        for item, default in zip(resolved, defaults_of(service, resolved), strict=True):
            try:
                refuse_other(default, kind_of_source(Input(source=item), plans), f"the default of '{item.name}'")
            except InputError as error:
                yield f"service '{service.name}': {error}"


def _problems(demanded: OnDemand, parameter: str, given: Input, plans: Mapping[str, ViewPlan]) -> Iterator[str]:
    kind, taken = kind_of_source(given, plans), demanded.function.takes.get(parameter)
    if taken is not None and kind not in taken:
        yield f"takes {' or '.join(taken)}, got {kind}"
    if given.fill is None:
        return
    if kind.startswith(LIST) or kind in ("timestamp", "date"):
        yield f"is {kind}, which cannot be filled, got {given.fill!r}"
        return
    try:
        of_kind(given.fill, cast("Kind", kind))
    except InputError as error:
        yield f"is {kind}, and what it is filled with {error}"


def kind_of_source(given: Input, plans: Mapping[str, ViewPlan]) -> str:
    """What an input is: a kind, or `list of` one."""
    source = given.source
    if isinstance(source, FeatureRef):
        [plan] = [plan for plan in plans[source.view_id].features if plan.feature.name == source.feature]
        return f"{LIST}{plan.kind}" if plan.is_list else plan.kind
    if isinstance(source, Computed):
        return source.output.kind
    if isinstance(source, RequestInput):
        return source.kind
    return {Ratio: "float", AskedTime: "timestamp"}[type(source)]


def _key_problems(registry: Registry, service: FeatureService, plans: Mapping[str, ViewPlan]) -> Iterator[str]:
    """Columns of the request that are join keys too, of another kind."""
    resolved = registry.resolve(service)
    asked = requests_of(resolved)
    for read in registry.reads(resolved):
        for key, column in read.columns.items():
            kind = plans[read.view.id].key_kinds[key]
            if column in asked and asked[column].kind != kind:
                yield (
                    f"service '{service.name}': column '{column}' of the request is asked for as {asked[column].kind}, "
                    f"but as a join key of {read.told} it is {kind}"
                )
