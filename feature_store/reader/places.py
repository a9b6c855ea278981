"""Where the values of a service go: a position for each feature, and behind them for what only others are made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, NamedTuple

from feature_store.computed.kinds import LIST, Kind
from feature_store.declare.key import LONGEST, KeyKind, entity_key
from feature_store.errors import InputError, OnlineStoreError, UnknownNameError, shown
from feature_store.online.layout import (
    AskedItem,
    FeatureLayout,
    FunctionLayout,
    InputLayout,
    KeyedItem,
    OnDemandItem,
    RatioItem,
    RequestItem,
    ServiceLayout,
    StoredItem,
    Value,
    ViewLayout,
)
from feature_store.time_rule import from_us

Convert = Callable[[Any], object]
_PLAIN = re.compile(r"[^%|{}\x80-\U0010ffff]*").fullmatch
EntityId = tuple[str, tuple[str, ...]]
"""An entity and the columns of a request that name it."""


class RowRefused(InputError):  # noqa: N818
    """A row of a request is wrong; `row` is its position among those that were looked at."""

    def __init__(self, row: int, reason: str) -> None:
        self.row = row
        super().__init__(reason)


class Slot(NamedTuple):
    """One feature of a packed row and where its value goes."""

    position: int
    """In the vector; parts of what is computed that are not served stand behind the served ones."""
    item: int
    """Among the items of a packed row; -1: rows of this layout do not have it."""
    kind: type
    """Of its items; another type is damage."""
    convert: Convert | None
    """Of timestamps and dates, from the integers as which they travel; of lists, from theirs."""
    empty: Value | list[Value]
    """The value of an empty window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityRead:
    """One entity that a request must name."""

    told: str
    """What it is, for errors."""
    join_keys: tuple[str, ...]
    columns: tuple[str, ...]
    """Of the request, which hold their values."""
    kinds: tuple[KeyKind, ...]

    def keys(self, rows: Sequence[Mapping[str, object]]) -> list[str | None]:
        """The canonical keys of the entities of rows; None if a join key is null.

        Raises:
            RowRefused: if a column is missing, or its value is no key of its kind.
        """
        if self.kinds == ("str",):
            try:
                texts: list[Any] = [row[self.columns[0]] for row in rows]
            except KeyError:
                texts = []
            if (
                set(map(type, texts)) == {str}
                and _PLAIN(whole := "".join(texts))
                and (len(whole) <= LONGEST or max(map(len, texts)) <= LONGEST)
            ):
                return texts  # one text each, and nothing in any to escape
        try:
            return [self._key(row) for row in rows]
        except InputError:
            raise self._refused(rows) from None

    def _refused(self, rows: Sequence[Mapping[str, object]]) -> Exception:
        """The error of the first row that has no key."""
        for number, row in enumerate(rows):
            try:
                self._key(row)
            except InputError as error:
                return RowRefused(number, str(error))
        return InputError(f"{self.told}: the rows were changed while they were read")

    def _key(self, row: Mapping[str, object]) -> str | None:
        try:
            parts = [row[name] for name in self.columns]
        except KeyError as error:
            raise self._missing(error.args[0], row) from None
        try:
            return entity_key(parts, self.kinds, columns=self.columns)
        except InputError as error:
            raise InputError(f"{self.told}: {error}") from None

    def _missing(self, column: str, row: Mapping[str, object]) -> InputError:
        key = self.join_keys[self.columns.index(column)]
        needs = f"the join key `{key}`" if key == column else f"the column `{column}` for its join key `{key}`"
        return InputError(f"{self.told} needs {needs}, got {_listed(row)}")


class RatioRead(NamedTuple):
    """A quotient and the positions of its parts."""

    position: int
    numerator: int
    denominator: int
    empty: float | None


class RequestRead(NamedTuple):
    """A column of the request that a function takes."""

    position: int
    column: str
    kind: Kind
    default: Value


class InputRead(NamedTuple):
    """What a parameter of a function is given."""

    position: int
    kind: str
    """As `Names.kinds` says."""
    fill: Value


class FunctionRead(NamedTuple):
    """A function and the positions of what it takes and gives."""

    layout: FunctionLayout
    inputs: tuple[InputRead, ...]
    outputs: tuple[int, ...]
    personal: bool = False
    """Whether an input is personal data, and so are the outputs."""


class Places:
    """Where the features of a service go, collected while it is walked through."""

    def __init__(self, service: ServiceLayout, layouts: Mapping[str, ViewLayout]) -> None:
        self.width = len(service.features)
        self.reads: dict[str, tuple[ViewLayout, EntityId]] = {}
        self.slots: dict[str, list[Slot]] = {}
        self.entities: dict[EntityId, EntityRead] = {}
        self.ratios: list[RatioRead] = []
        self.requests: list[RequestRead] = []
        self.functions: list[FunctionRead] = []
        self.asked: int | None = None
        self._service, self._layouts = service, layouts
        self._positions: dict[tuple[str, str], int] = {}

    def walk(self) -> None:
        """Give everything that the service reads and computes its place."""
        for position, item in enumerate(self._service.features):
            if isinstance(item, StoredItem):
                self.place(item, position)
        for position, item in enumerate(self._service.features):
            if isinstance(item, RatioItem):
                self._divide(item, position)
        served = {
            (item.function, item.output): position
            for position, item in enumerate(self._service.features)
            if isinstance(item, OnDemandItem)
        }
        for item in self._service.features:
            if isinstance(item, OnDemandItem):
                self._check(item, below=len(self._service.functions))
        for number, function in enumerate(self._service.functions):
            inputs = tuple(self._input(each) for each in function.inputs)
            outputs = tuple(
                served[number, output] if (number, output) in served else self._behind()
                for output in range(len(function.outputs))
            )
            self.functions.append(FunctionRead(function, inputs, outputs))
        for number, read in enumerate(self.functions):  # now that all views are known
            self.functions[number] = read._replace(
                personal=any(self.is_personal(each.source) for each in read.layout.inputs)
            )

    def find(self, item: StoredItem) -> int:
        """Where a feature stands; behind all others if it is not served itself."""
        key = (item.read_id, item.feature)
        if key not in self._positions:
            self.place(item, self._behind())
        return self._positions[key]

    def kind(self, item: StoredItem | RatioItem | OnDemandItem) -> str:
        """What a value is, as `Names.kinds` says."""
        if isinstance(item, RatioItem):
            return "float"
        if isinstance(item, OnDemandItem):
            return self._service.functions[item.function].outputs[item.output].dtype
        [feature] = [each for each in self._layouts[item.view_id].features if each.name == item.feature]
        return f"{LIST}{feature.dtype}" if feature.is_list else feature.dtype

    def is_personal(self, item: StoredItem | RatioItem | OnDemandItem | RequestItem | AskedItem) -> bool:
        """Whether a value is personal data, once all is walked: of a view with such, a key of one, or made of either."""
        if isinstance(item, RatioItem):
            return self.is_personal(item.numerator) or self.is_personal(item.denominator)
        if isinstance(item, OnDemandItem):
            return self.functions[item.function].personal
        if isinstance(item, RequestItem):
            keys = (columns for view, (_, columns) in self.reads.values() if view.personal)
            return any(item.column in columns for columns in keys)
        return isinstance(item, StoredItem) and self._layouts[item.view_id].personal

    def _check(self, item: OnDemandItem, *, below: int) -> None:
        """Refuse an output that there is not: what stands in Redis is not `apply`'s."""
        if not (0 <= item.function < below) or not (
            0 <= item.output < len(self._service.functions[item.function].outputs)
        ):
            raise OnlineStoreError(
                f"service '{self._service.id}' is published with function {item.function} and its output {item.output}, "
                "which it does not have"
            )

    def _behind(self) -> int:
        self.width += 1
        return self.width - 1

    def _divide(self, item: RatioItem, position: int) -> int:
        parts = (self.find(item.numerator), self.find(item.denominator))
        self.ratios.append(RatioRead(position, *parts, item.empty))
        return position

    def _input(self, given: InputLayout) -> InputRead:
        source = given.source
        if isinstance(source, RequestItem):
            return InputRead(self._request(source), source.dtype, given.fill)
        if isinstance(source, AskedItem):
            self.asked = self._behind() if self.asked is None else self.asked
            return InputRead(self.asked, "timestamp", given.fill)
        if isinstance(source, OnDemandItem):
            self._check(source, below=len(self.functions))
            position = self.functions[source.function].outputs[source.output]
        elif isinstance(source, RatioItem):
            position = self._divide(source, self._behind())
        else:
            position = self.find(source)
        return InputRead(position, self.kind(source), given.fill)

    def _request(self, item: RequestItem) -> int:
        for each in self.requests:
            if each.column == item.column:
                return each.position
        self.requests.append(RequestRead(self._behind(), item.column, item.dtype, item.default))
        return self.requests[-1].position

    def place(self, item: StoredItem, position: int) -> None:
        """Put a feature at a position."""
        if item.view_id not in self._layouts:
            raise UnknownNameError("online view", item.view_id, self._layouts)
        view = self._layouts[item.view_id]
        names = [feature.name for feature in view.features]
        if item.feature not in names:
            raise UnknownNameError(f"feature of view '{item.view_id}'", item.feature, names)
        if item.read_id not in self.reads:
            self.reads[item.read_id] = (view, self._entity(item, view))
        index = names.index(item.feature)
        self.slots.setdefault(item.read_id, []).append(_slot(position, index, view.features[index]))
        self._positions.setdefault((item.read_id, item.feature), position)

    def _entity(self, item: StoredItem, view: ViewLayout) -> EntityId:
        """The entity of which a view is read: views that take it from the same columns share it."""
        told, renamed = f"entity '{view.entity}'", dict[str, str]()
        if isinstance(item, KeyedItem):
            told, renamed = f"service '{self._service.name}', role '{item.prefix}': {told}", item.columns
        columns = tuple(renamed.get(key, key) for key in view.join_keys)
        kinds: list[KeyKind] = view.key_kinds or ["str"] * len(columns)
        self.entities.setdefault(
            (view.entity, columns),
            EntityRead(told=told, join_keys=tuple(view.join_keys), columns=columns, kinds=tuple(kinds)),
        )
        return view.entity, columns


def fitting(item: object, kind: type) -> object:
    """An item of a packed row as one of its feature's type.

    Raises:
        TypeError: it is of another; a whole number may stand for a float.
    """
    if type(item) is kind:
        return item
    if kind is float and type(item) is int:
        return float(item)
    raise TypeError(f"must be {kind.__name__}, got {shown(item)}")


def _slot(position: int, index: int, feature: FeatureLayout) -> Slot:
    kind, convert = _TRAVELS[feature.dtype]
    if feature.is_list:
        return Slot(position, index, list, _each(kind, convert), feature.empty)
    return Slot(position, index, kind, convert, feature.empty)


def kind_of(feature: FeatureLayout) -> type:
    """Of its values in packed rows; of a list, of its elements."""
    return _TRAVELS[feature.dtype][0]


def is_converted(feature: FeatureLayout) -> bool:
    """Whether its values travel as something else."""
    return _TRAVELS[feature.dtype][1] is not None


def _to_time(micros: int) -> object:
    return from_us(micros)


def _to_date(days: int) -> object:
    return date(1970, 1, 1) + timedelta(days=days)


def _each(kind: type, convert: Convert | None) -> Convert:
    if convert is None:
        return lambda values: [fitting(value, kind) for value in values]
    return lambda values: [convert(fitting(value, kind)) for value in values]


_TRAVELS: Mapping[str, tuple[type, Convert | None]] = {
    "int": (int, None),
    "float": (float, None),
    "bool": (bool, None),
    "str": (str, None),
    "timestamp": (int, _to_time),
    "date": (int, _to_date),
}
"""Kind of a feature -> the type of its items, and what makes values of them."""


def _listed(row: Mapping[str, object]) -> str:
    return ", ".join(f"`{name}`" for name in row) or "no keys"
