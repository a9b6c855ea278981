"""The functions that a reader is given: on-demand features as they are declared, or everything that declares some."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from feature_store.computed.functions import Functions
from feature_store.declare.computed import Computed, OnDemand
from feature_store.declare.computed import functions_of as declared_in
from feature_store.errors import InputError


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


def functions_of(declared: Declared) -> Functions:
    """The functions of on-demand features, with those that they take inputs from.

    Raises:
        InputError: among them is something else.
    """
    if isinstance(declared, Functions):
        return declared
    if not isinstance(declared, Iterable):
        items = [item for service in declared.services for item in service.features]
        declared = [item for item in items if isinstance(item, OnDemand | Computed)]
    given = []
    for item in declared:
        if not isinstance(item, OnDemand | Computed):
            raise InputError(f"`functions` must be on-demand features or a registry, got {item!r:.80}")
        given.append(item.features[0] if isinstance(item, OnDemand) else item)
    return Functions(each.function for each in declared_in(given))
