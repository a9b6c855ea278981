"""What a read returns: values with their statuses, in the order in which the service declares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from feature_store.errors import InputError, UnknownNameError
from feature_store.masked import masked
from feature_store.status import Status
from feature_store.time_rule import from_us

if TYPE_CHECKING:
    import numpy as np

NUMBERS = frozenset({"int", "float", "bool"})
"""Kinds that fit into an array of floats."""


class FeatureValue(NamedTuple):
    """One feature of one entity."""

    value: object
    status: Status
    event_time: datetime | None
    """When the newest event happened that the entity's values know; None if there is none, or for a ratio."""


class Provenance(NamedTuple):
    """What a view's values rest on."""

    run: int
    n: int
    """The commit that wrote them: (run, n); of a missing row, the last commit known to the reader."""
    as_of_us: int
    """The time for which they were given."""
    shard: int | None
    """None for batch views and null keys."""
    event_us: int | None
    """Time of the entity's newest event in the view."""


class Names(NamedTuple):
    """What all vectors of one service share: names and where each value comes from."""

    service: str
    features: tuple[str, ...]
    positions: Mapping[str, int]
    """Of each name, also with its view's version."""
    views: tuple[str, ...]
    view_of: Sequence[int | None]
    """Of each feature, the position of its view; None for a ratio."""
    kinds: tuple[str, ...] = ()
    """What each value is: int, float, bool, str, timestamp, date, or `list of` one of them."""
    personal: frozenset[str] = frozenset()
    """Features of views with personal data, and what is made of such or of their keys: masked where a vector is shown."""
    personal_views: tuple[str, ...] = ()
    """The names of these views."""


class FeatureVector:
    """The features of one row of a request. `values[i]` and `statuses[i]` belong to `names[i]`."""

    __slots__ = ("_names", "_sources", "_statuses", "_values")

    def __init__(
        self,
        values: list[object] | tuple[object, ...],
        statuses: list[Status] | tuple[Status, ...],
        names: Names,
        sources: Sequence[int | None],
    ) -> None:
        # A large read makes hundreds of vectors, of which most are read once: what the rows of a read can share, and what
        # was decoded, is made a list when somebody asks for one. Every further container in each would bring the garbage
        # collector's next pass, and with it a pause, nearer; so the sources are flat, five for each view.
        self._values = values
        self._statuses = statuses
        self._names = names
        self._sources = sources

    @property
    def values(self) -> list[object]:
        """One for each name; what is changed in it is changed in this vector alone."""
        values = self._values
        if type(values) is not list:
            values = self._values = [*values]
        return values

    @property
    def statuses(self) -> list[Status]:
        """What each of them is worth, likewise."""
        statuses = self._statuses
        if type(statuses) is not list:
            statuses = self._statuses = [*statuses]
        return statuses

    @property
    def service(self) -> str:
        """What was served: `name@version` of a service, `features@1` for a list of features."""
        return self._names.service

    @property
    def names(self) -> tuple[str, ...]:
        """The features' names, in declared order."""
        return self._names.features

    @property
    def provenance(self) -> dict[str, Provenance]:
        """For each view (`name@version`): commit, effective time and shard of its values."""
        return {view: self._source(i) for i, view in enumerate(self._names.views)}

    @property
    def sources(self) -> list[int | None]:
        """What `provenance` is made of: five numbers for each of its views."""
        return [*self._sources]

    @property
    def views(self) -> tuple[str, ...]:
        """The views of `provenance`, in its order."""
        return self._names.views

    def to_dict(self) -> dict[str, object]:
        """Feature name -> value."""
        return dict(zip(self._names.features, self._values))  # noqa: B905 - the look at their lengths takes a third of the time

    @property
    def kinds(self) -> dict[str, str]:
        """Feature name -> what its value is: int, float, bool, str, timestamp, date, or `list of` one of them."""
        return dict(zip(self._names.features, self._names.kinds, strict=True))

    @property
    def problems(self) -> dict[str, Status]:
        """Feature name -> status, of the values that are neither PRESENT nor EMPTY, in declared order.

        What stands there is a default, an old value or null, as the service says.
        """
        pairs = zip(self._names.features, self._statuses, strict=True)
        return {name: status for name, status in pairs if status is not Status.PRESENT and status is not Status.EMPTY}

    def to_numpy(self) -> np.ndarray:
        """float64[features], in declared order: null is NaN, a boolean 0 or 1. What to doubt of it, `problems` says.

        Raises:
            InputError: a feature is no number; names it and its kind.
        """
        import numpy as np

        check_numbers(self.kinds)
        return np.array(self._values, dtype=np.float64)

    def __getitem__(self, name: str) -> FeatureValue:
        """One feature by name, also with the version of its view (`view@1:feature`).

        Raises:
            UnknownNameError: listing the features there are.
        """
        position = self._names.positions.get(name)
        if position is None:
            raise UnknownNameError(f"feature of '{self._names.service}'", name, self._names.features)
        view = self._names.view_of[position]
        event_us = None if view is None else self._source(view).event_us
        return FeatureValue(
            self._values[position], self._statuses[position], None if event_us is None else from_us(event_us)
        )

    def _source(self, view: int) -> Provenance:
        run, n, as_of_us, shard, event_us = self._sources[view * 5 : view * 5 + 5]
        return Provenance(run or 0, n or 0, as_of_us or 0, shard, event_us)

    @property
    def personal(self) -> frozenset[str]:
        """The names of features that are personal data."""
        return self._names.personal

    @property
    def personal_views(self) -> tuple[str, ...]:
        """The names of the views with personal data that were read."""
        return self._names.personal_views

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        personal = self._names.personal
        shown = ", ".join(
            f"{name}={masked(value, personal=name in personal)!r} {status.name}"
            for name, value, status in zip(self.names, self.values, self.statuses, strict=True)
        )
        return f"FeatureVector({shown})"

    def _repr_html_(self) -> str:
        from feature_store.html_table import html_table

        return html_table(
            f"Features of {self.service}",
            ["feature", "value", "status", "newest event"],
            [
                [name, masked(each.value, personal=name in self._names.personal), each.status.name, each.event_time]
                for name in self.names
                for each in (self[name],)
            ],
        )


def check_numbers(kinds: Mapping[str, str]) -> None:
    """Refuse features that do not fit into an array of floats.

    Raises:
        InputError: names them and their kinds.
    """
    others = [f"'{name}' ({kind})" for name, kind in kinds.items() if kind not in NUMBERS]
    if others:
        raise InputError(f"only numbers fit into an array, got {', '.join(others)}; take `to_dict` or `to_arrow`")


def feature_column(name: str) -> str:
    """The column of a feature's values, as in a training set: `view__feature`, or the name of a ratio.

    >>> feature_column("spending@2:count_24h")
    'spending_v2__count_24h'
    """
    return name.replace("@", "_v").replace(":", "__")


def status_column(name: str) -> str:
    """The column of a feature's statuses."""
    return f"{feature_column(name)}__status"
