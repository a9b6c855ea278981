"""A view in the role in which a service reads it: `airport_departures.keyed(origin="dest", prefix="dest_")`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from feature_store.declare.feature import OWN, FeatureRef, Role

if TYPE_CHECKING:
    from feature_store.declare.feature import Feature
    from feature_store.declare.view import FeatureView


@dataclass(frozen=True, slots=True)
class KeyedView:
    """A view and the columns of a row that name its entity; by default those of its own join keys."""

    view: FeatureView
    role: Role = OWN

    @property
    def id(self) -> str:
        """`view@version`, with the role's prefix: what tells reads of one view apart."""
        return f"{self.role.prefix}{self.view.id}"

    @property
    def columns(self) -> Mapping[str, str]:
        """Join key -> the column of a request or a spine that holds its value."""
        renamed = dict(self.role.columns)
        return {key: renamed.get(key, key) for key in self.view.entity.join_keys}

    @property
    def told(self) -> str:
        """What needs these columns, for errors."""
        entity = f"entity '{self.view.entity.name}'"
        return f"{entity} in role '{self.role.prefix}'" if self.role.prefix else entity

    @property
    def declared(self) -> tuple[Feature, ...]:
        """The view's features."""
        return self.view.declared

    def __getitem__(self, feature: str) -> FeatureRef:
        """A handle on one feature in this role; the name is checked at once."""
        self.view.feature(feature)
        return FeatureRef(view=self.view.name, version=self.view.version, feature=feature, role=self.role)
