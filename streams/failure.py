"""What stopped a process of the stream, in the words of whoever raised it and not of the engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import duckdb
from redis.exceptions import RedisError

from feature_store.errors import FeatureStoreError
from feature_store.online.refusal import worded

FORESEEN = (FeatureStoreError, RedisError, duckdb.IOException)
"""Errors that are no defect: a line says what they are."""

P = ParamSpec("P")
R = TypeVar("R")


def noting_failure(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """A callback of the engine, of an object with a `_context` in whose `failures` its errors are noted.

    The engine wraps what a callback raises and, between several processes, brings none of it back.
    """

    @wraps(method)
    def call(self: Any, /, *args: P.args, **options: P.kwargs) -> R:
        try:
            return method(self, *args, **options)
        except Exception as error:
            self._context.failures.append(error)
            raise

    return call


def in_words(error: Exception) -> str:
    """A line for the user about a foreseen error."""
    if isinstance(error, RedisError):
        return worded(error)
    if isinstance(error, duckdb.IOException):
        return f"the lake cannot be read: {str(error).splitlines()[0]}"
    return str(error)
