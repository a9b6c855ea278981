"""What the alerts remember between two looks. It stands in Dagster's books, so it outlives every process.

Not in the sensor's cursor: Dagster keeps that after a tick alone, so a tick that died, or took too long for Dagster, would
post all of its messages again. This is written before the first message of a tick is posted, and after each.
"""

from typing import Any

import dagster as dg
import msgspec

Message = dict[str, Any]
"""What is posted, as JSON."""


class Held(msgspec.Struct, kw_only=True):
    """A check that failed for some days."""

    severity: str
    left: list[str]
    """Of these days, the ranges for which it has not passed since."""


class FailedRun(msgspec.Struct, kw_only=True):
    """A run that failed, until others have made up for it."""

    name: str
    """Its job, or its assets."""
    days: str
    owner: str
    groups: str
    left: dict[str, list[str]]
    """Asset (or check, or job) -> the ranges of its days that no run has built since."""


class Waiting(msgspec.Struct, kw_only=True):
    """A message that has not been delivered."""

    message: Message
    refusals: int = 0
    retry_s: float = 0.0
    """When it is tried again, after it was refused."""
    refused_s: float = 0.0
    """When it was refused first."""


class State(msgspec.Struct, kw_only=True):
    """All of it."""

    read: int = 0
    """The last event read, by its number in Dagster's books."""
    failing: dict[str, dict[str, Held]] = {}
    """`asset:check` -> the days for which it failed, as they were told ('' for none)."""
    runs: dict[str, FailedRun] = {}
    """By run id."""
    overdue: dict[str, Message] = {}
    """What is overdue now -> what was said of it."""
    schedules: dict[str, float] = {}
    """Schedule -> when it was seen first: what should have run before is no business of this deployment's."""
    evaluated_s: float = 0.0
    """When the sensor last got through what it looks at; 0 before that."""
    looked_s: float = 0.0
    """When somebody looked last for what is overdue,"""
    awake_s: float = 0.0
    """and since when somebody does without a pause: Dagster may still catch up with what it missed before."""
    waiting: list[Waiting] = []
    """In the order in which things happened."""
    failures: int = 0
    """How often in a row the receiver did not answer,"""
    retry_s: float = 0.0
    """and when it is tried again."""
    problem: str = ""
    """What it said last to a message that waits; '' while none does."""
    given_up: int = 0
    """Messages that were given up, ever."""


def key(env: str) -> str:
    """Under which the state of an environment stands."""
    return f"feature_store/alerts/{env}"


def load(instance: dg.DagsterInstance, env: str) -> State | None:
    """The state; None if there is none yet."""
    found = instance.daemon_cursor_storage.get_cursor_values({key(env)}).get(key(env))
    return None if found is None else msgspec.json.decode(found, type=State)


def save(instance: dg.DagsterInstance, env: str, state: State) -> None:
    """Keep it."""
    instance.daemon_cursor_storage.set_cursor_values({key(env): msgspec.json.encode(state).decode()})
