"""A run of the stream among the consumers of a log: what it still has to read is not trimmed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feature_store.log.protocol import EventLog


def stream_consumer(env: str, run: int) -> str:
    """The name of a run among the consumers of a log, from which it needs records while it builds."""
    return f"stream:{env}:{run}"


def retire_consumers(logs: Iterable[EventLog], env: str, run: int) -> None:
    """Let the logs trim what only older runs have kept them from."""
    for log in logs:
        for name in log.consumers():
            kind, _, number = name.rpartition(":")
            if kind == f"stream:{env}" and number.isdigit() and int(number) < run:
                log.unregister(name)
