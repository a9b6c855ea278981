"""A function of columns: what it is called, what it takes and returns, and a digest of what it means."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from feature_store.computed.kinds import Kind
from feature_store.errors import InputError

Value = float | int | str | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One column that a function returns."""

    suffix: str
    """Of the feature's name; empty for the only output of a function."""
    kind: Kind
    empty: Value = None
    """The value where an input has none, or the function gives none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function of columns, row by row: what it gives for a row depends on that row alone."""

    name: str
    """For errors and metrics."""
    parameters: tuple[str, ...]
    outputs: tuple[Output, ...]
    digest: str
    """Of what it means: equal digests give equal values."""
    call: Callable[..., Any] = field(compare=False, repr=False)
    """Takes a NumPy column for each parameter; returns one, or for several outputs a mapping or a tuple of them."""
    encoding: str = ""
    """Of the catalogue: its name and options as JSON. Empty: a Python function."""
    takes: Mapping[str, Sequence[str]] = field(default_factory=dict, compare=False, repr=False)
    """Parameter -> the kinds that it takes; without an entry, any."""


def python_function(
    function: Callable[..., Any], *, name: str, outputs: Sequence[Output], version: str | None
) -> Function:
    """A Python function as a `Function`.

    Args:
        function: has a parameter for each input, and no others.
        name: for errors.
        outputs: what it returns.
        version: stands for everything that it uses and that cannot be told apart otherwise.

    Raises:
        InputError: it has parameters of another sort, or it cannot be said what it means.
    """
    import inspect  # which a reader does without

    from feature_store.computed.source_code import digest_of

    parameters = inspect.signature(function).parameters
    for each in parameters.values():
        if each.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD or each.default is not inspect.Parameter.empty:
            raise InputError(
                f"on-demand function '{name}': a parameter must be a plain name without default, got `{each}`"
            )
    return Function(
        name=name,
        parameters=tuple(parameters),
        outputs=tuple(outputs),
        digest=digest([digest_of(function, name=name, version=version), list(parameters), *map(_meaning, outputs)]),
        call=function,
    )


def digest(meaning: object) -> str:
    """A short stable digest of a JSON-able meaning."""
    return hashlib.blake2b(json.dumps(meaning, sort_keys=True).encode(), digest_size=8).hexdigest()


def _meaning(output: Output) -> list[object]:
    return [output.suffix, output.kind, output.empty]
