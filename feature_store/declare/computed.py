"""On-demand features: what a function of stored features and of the request gives, in training and in serving alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from feature_store.computed.function import Function, Output, Value, digest, python_function
from feature_store.computed.kinds import Kind, kind_of
from feature_store.declare.feature import FeatureRef, Ratio
from feature_store.declare.outputs import constant, outputs_of
from feature_store.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInput:
    """A column of the request, and of a training set's spine."""

    column: str
    """Empty where it is called as the parameter is."""
    kind: Kind
    default: Value = None
    """Taken where the column is null or missing; None: a null counts as no value, and the column must be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedTime:
    """The time for which features are asked: `as_of` or now of a read, the time of a row of a spine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A feature with what stands for it where it has no value."""

    of: Source
    value: Value


asked_time = AskedTime()


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What a parameter of a function is given."""

    source: Source
    fill: Value = None
    """Taken where the source has no value."""

    @property
    def meaning(self) -> list[object]:
        """What it is, as JSON."""
        source = self.source
        if isinstance(source, FeatureRef):
            return ["stored", source.meaning, self.fill]
        if isinstance(source, Ratio):
            return ["ratio", source.numerator.meaning, source.denominator.meaning, source.empty, self.fill]
        if isinstance(source, RequestInput):
            return ["request", source.column, source.kind, source.default, self.fill]
        return ["asked time" if isinstance(source, AskedTime) else source.meaning, self.fill]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDemand:
    """A function with its inputs: a feature for each output. Called, it is the function itself."""

    name: str
    function: Function
    inputs: tuple[Input, ...]
    """In the order of the function's parameters."""
    description: str = ""

    @property
    def features(self) -> tuple[Computed, ...]:
        """Its features, in the order of the function's outputs."""
        return tuple(Computed(of=self, place=place) for place in range(len(self.function.outputs)))

    def __getitem__(self, output: str) -> Computed:
        """A handle on one of several outputs.

        Raises:
            InputError: it has no such output.
        """
        for feature in self.features:
            if feature.output.suffix == output:
                return feature
        raise InputError(f"on-demand feature '{self.name}' has the outputs {self._listed()}, got '{output}'")

    def given(self, name: str, **inputs: Given) -> OnDemand:
        """The same function under another name with other inputs; those that are not given stay.

        Raises:
            InputError: an input is no parameter of the function, or nothing that can be one.
        """
        for parameter in inputs:
            if parameter not in self.function.parameters:
                known = ", ".join(self.function.parameters)
                raise InputError(f"on-demand feature '{name}' has the inputs {known}, got `{parameter}`")
        found = [
            as_input(inputs[parameter], f"on-demand feature '{name}': `{parameter}`", column=parameter)
            if parameter in inputs
            else own
            for parameter, own in zip(self.function.parameters, self.inputs, strict=True)
        ]
        return replace(self, name=name, inputs=tuple(found))

    @property
    def meaning(self) -> str:
        """A digest of the function and of what it is given."""
        return digest([self.function.digest, *(each.meaning for each in self.inputs)])

    def __call__(self, *columns: object, **named: object) -> Any:
        return self.function.call(*columns, **named)

    def _listed(self) -> str:
        return ", ".join(each.output.suffix for each in self.features) or "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """One feature of an `OnDemand`."""

    of: OnDemand
    place: int
    """Among the outputs of the function."""

    @property
    def output(self) -> Output:
        """What the function declares of it."""
        return self.of.function.outputs[self.place]

    @property
    def name(self) -> str:
        """Under which it is served."""
        return f"{self.of.name}_{self.output.suffix}" if self.output.suffix else self.of.name

    @property
    def description(self) -> str:
        """Of the function."""
        return self.of.description

    @property
    def meaning(self) -> str:
        """`name=` and a digest of the function and its inputs."""
        return f"{self.name}={self.of.meaning}"

    @property
    def refs(self) -> tuple[FeatureRef, ...]:
        """The stored features that it is made of, each once."""
        found = (each.source.refs for each in self.of.inputs if isinstance(each.source, FeatureRef | Ratio | Computed))
        return tuple(dict.fromkeys(ref for refs in found for ref in refs))

    @property
    def requests(self) -> tuple[RequestInput, ...]:
        """The columns of the request that it is made of, each once."""
        found: list[RequestInput] = []
        for each in self.of.inputs:
            if isinstance(each.source, RequestInput):
                found.append(each.source)
            elif isinstance(each.source, Computed):
                found += each.source.requests
        return tuple(dict.fromkeys(found))


Source = FeatureRef | Ratio | RequestInput | AskedTime | Computed
Given = Any
"""What a declaration takes for an input: a `Source`, 'view:feature', a `Filled`, an on-demand feature with one output."""


def request(kind: type, column: str = "", *, default: Value = None) -> RequestInput:
    """A column of the request: int, float, bool, str, datetime (aware) or date.

    Args:
        kind: its type. A column of the spine must have it, and so must the request's value.
        column: its name, that of the parameter by default.
        default: taken where the value is null or missing.

    Raises:
        InputError: another type, or a default of another type.
    """
    found = kind_of(kind, name="`request`")
    return RequestInput(column=column, kind=found, default=constant(default, found, "`default`"))


def filled(of: Given, value: Value) -> Filled:
    """A feature, and the value that stands for it where it has none: an empty window, a null. Not where it is UNKNOWN."""
    source = as_input(of, "`filled`", column="").source
    if value is None or isinstance(source, RequestInput | AskedTime):
        raise InputError(f"`filled` takes a feature and a value; a column of the request has `default=`, got {of!r}")
    return Filled(of=source, value=value)


def on_demand(
    *,
    inputs: Mapping[str, Given],
    returns: type | Mapping[str, type],
    empty: Value | Mapping[str, Value] = None,
    name: str | None = None,
    version: str | None = None,
) -> Callable[[Callable[..., Any]], OnDemand]:
    """Make a function of NumPy columns an on-demand feature: it runs in `get_historical_features` and in every reader.

    The function gets a column for each parameter, with only those rows in which every input has a value, and returns a
    column of as many values; what it gives for a row must depend on that row alone.

    Args:
        inputs: parameter -> a stored feature (`view["count_1h"]`, 'view:count_1h', of a role too), a ratio, another on-demand
            feature, `request(float)`, `asked_time`, or one of the features as `filled(..., value)`.
        returns: int, float, bool, str, datetime or date; or a mapping of outputs to their types, for a function that
            returns a mapping or a tuple. Each output is a feature, `<name>_<output>`.
        empty: the value where an input has none or the function gives none (NaN, None, NaT, masked); by output where
            there are several.
        name: of the feature, that of the function by default.
        version: stands for objects that the function uses and whose values cannot be told apart, such as a model.

    Raises:
        InputError: inputs are not the function's parameters, a type is none of these, or it cannot be said what it means.
    """
    from inspect import cleandoc  # which a reader does without

    def declare(function: Callable[..., Any]) -> OnDemand:
        called = name if name is not None else str(getattr(function, "__name__", ""))
        made = python_function(function, name=called, outputs=outputs_of(called, returns, empty), version=version)
        if set(inputs) != set(made.parameters):
            raise InputError(
                f"on-demand feature '{called}': `inputs` must be the function's parameters {', '.join(made.parameters)}, "
                f"got {', '.join(inputs) or 'none'}"
            )
        return demanded(called, made, inputs, description=cleandoc(function.__doc__ or ""))

    return declare


def demanded(name: str, function: Function, inputs: Mapping[str, Given], *, description: str) -> OnDemand:
    """A function with its inputs.

    Raises:
        InputError: an input is nothing that can be one.
    """
    found = [
        as_input(inputs[parameter], f"on-demand feature '{name}': `{parameter}`", column=parameter)
        for parameter in function.parameters
    ]
    return OnDemand(name=name, function=function, inputs=tuple(found), description=description)


def as_input(given: Given, told: str, *, column: str) -> Input:
    """An input as it is declared; a column of the request without a name is called as said.

    Raises:
        InputError: it is nothing that can be one.
    """
    if isinstance(given, Filled):
        return Input(source=given.of, fill=given.value)
    if isinstance(given, str):
        try:
            return Input(source=FeatureRef.parse(given))
        except InputError as error:
            raise InputError(f"{told}: {error}") from None
    if isinstance(given, RequestInput):
        return Input(source=given if given.column else replace(given, column=column))
    if isinstance(given, OnDemand) and len(given.function.outputs) == 1:
        return Input(source=given.features[0])
    if isinstance(given, FeatureRef | Ratio | AskedTime | Computed):
        return Input(source=given)
    several = ""
    if isinstance(given, OnDemand):
        several = f"; choose one of its outputs, such as {given.name}['{given.function.outputs[0].suffix}']"
    raise InputError(
        f"{told} must be a feature such as view['count_1h'], `request(float)` or `asked_time`, got {given!r:.80}{several}"
    )


def pinned(item: Computed, pin: Callable[[FeatureRef], FeatureRef]) -> Computed:
    """The same feature with the versions of the views that it is made of."""

    def source(found: Source) -> Source:
        if isinstance(found, FeatureRef):
            return pin(found)
        if isinstance(found, Ratio):
            return replace(found, numerator=pin(found.numerator), denominator=pin(found.denominator))
        return pinned(found, pin) if isinstance(found, Computed) else found

    inputs = tuple(replace(each, source=source(each.source)) for each in item.of.inputs)
    return replace(item, of=replace(item.of, inputs=inputs))


def functions_of(items: Sequence[object]) -> Iterator[OnDemand]:
    """The functions that features are made of, each once, none before those that it takes its inputs from."""
    seen: set[OnDemand] = set()

    def walk(item: OnDemand) -> Iterator[OnDemand]:
        if item not in seen:
            seen.add(item)
            for each in item.inputs:
                if isinstance(each.source, Computed):
                    yield from walk(each.source.of)
            yield item

    for item in items:
        if isinstance(item, Computed):
            yield from walk(item.of)
