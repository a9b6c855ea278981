"""The functions that a reader is given: on-demand features as they are declared, or everything that declares some."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Protocol

from feature_store.computed.functions import Functions, Watch
from feature_store.declare.computed import Computed, OnDemand
from feature_store.declare.computed import functions_of as declared_in
from feature_store.errors import InputError, SettingsError


class Service(Protocol):
    """What a registry has of a feature service."""

    @property
    def features(self) -> Iterable[object]:
        """Its items."""


class Registry(Protocol):
    """What a registry has for a reader."""

    @property
    def services(self) -> Iterable[Service]:
        """The feature services."""


Declared = Registry | Iterable[object] | Functions


def functions_of(declared: Declared, *, watch: Watch | None = None) -> Functions:
    """The functions of on-demand features, with those that they take inputs from; `watch` is told of every run.

    Raises:
        InputError: among them is something else.
    """
    if isinstance(declared, Functions):
        return declared if watch is None else declared.watched(watch)
    if not isinstance(declared, Iterable):
        items = [item for service in declared.services for item in service.features]
        declared = [item for item in items if isinstance(item, OnDemand | Computed)]
    given = []
    for item in declared:
        if not isinstance(item, OnDemand | Computed):
            raise InputError(f"`functions` must be on-demand features or a registry, got {item!r:.80}")
        given.append(item.features[0] if isinstance(item, OnDemand) else item)
    return Functions((each.function for each in declared_in(given)), watch=watch)


def load_functions(path: str, *, watch: Watch | None = None) -> Functions:
    """The functions that a module declares, or what `module:attribute` names: a registry, on-demand features, or one.

    Raises:
        SettingsError: it is not there, or declares none.
    """
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
        found = (
            getattr(module, attribute) if attribute else [v for v in vars(module).values() if isinstance(v, OnDemand)]
        )
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"`functions` must name a module with on-demand features, got '{path}': {error}") from error
    try:
        return functions_of([found] if isinstance(found, OnDemand) else found, watch=watch)
    except (InputError, AttributeError) as error:
        raise SettingsError(f"`functions` must name on-demand features or a registry, got '{path}': {error}") from error
