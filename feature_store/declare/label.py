"""What a model shall predict: a named outcome, computed for training by the kernel that computes features."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from feature_store.declare.entity import Entity
from feature_store.declare.feature import Feature
from feature_store.declare.view import FeatureView
from feature_store.time_rule import parse_duration

if TYPE_CHECKING:
    from feature_store.declare.outcome import Outcome
    from feature_store.declare.source import EventSource


@dataclass(frozen=True, slots=True)
class Label:
    """A column of training sets that looks ahead: `Label("charged_back", disputes.any(on="payment_id", within="60d"))`.

    A row whose time has not run out yet is null, never false; so is one with a null key.
    """

    name: str
    outcome: Outcome
    description: str = field(default="", kw_only=True)

    @property
    def source(self) -> EventSource:
        """Whose events it looks at."""
        return self.outcome.source

    @property
    def within_us(self) -> int:
        """How far it looks ahead, in microseconds.

        Raises:
            ValueError: `within` is no duration.
        """
        return parse_duration(self.outcome.within, name="within")


def label_view(label: Label) -> FeatureView:
    """The view whose value at the end of the window is the label: hops of a microsecond make both its ends exact.

    Raises:
        ValueError: `within` is no duration.
    """
    outcome = label.outcome
    return FeatureView(
        f"label_{label.name}",
        entity=Entity(f"label_{label.name}", join_keys=outcome.on),
        source=outcome.source,
        features=[
            Feature(
                name=label.name,
                aggregate="count" if outcome.aggregate == "any" else outcome.aggregate,
                column=outcome.column,
                window_us=label.within_us,
                hop_us=1,
            )
        ],
        where=outcome.where,
        online=None,
        description=label.description,
    )
