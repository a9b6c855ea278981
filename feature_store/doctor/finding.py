"""What was seen of a part of a deployment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import NamedTuple

from redis.exceptions import RedisError

from feature_store.errors import FeatureStoreError
from feature_store.online.refusal import worded


class State(IntEnum):
    """How a part stands; the worse, the higher."""

    OK = 0
    WARNING = 1
    PROBLEM = 2


class Finding(NamedTuple):
    """What was seen of a part."""

    part: str
    state: State
    said: str
    do: str = ""
    """What to do about it."""


Findings = Iterator[Finding]


def guarded(part: str, look: Callable[[], Findings]) -> Findings:
    """The findings of a part; what it raises is one."""
    try:
        yield from look()
    except (FeatureStoreError, RedisError, OSError) as error:
        yield Finding(part, State.PROBLEM, worded(error) if isinstance(error, RedisError) else str(error))
