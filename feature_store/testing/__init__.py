"""How teams test their declarations: a handful of events in, values at times out, no servers.

`replay` computes every value asked in three independent ways and raises `ReplayMismatch` unless they agree to the last
bit. The pytest fixture of the same name comes with the installed library. `docs/testing.md` shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from feature_store.testing.arrived import Arrived, Event
from feature_store.testing.mismatch import ReplayMismatch

if TYPE_CHECKING:
    from feature_store.declare.view import FeatureView
    from feature_store.registry import Registry
    from feature_store.testing.replays import Replay

__all__ = ["Arrived", "ReplayMismatch", "replay"]


def replay(
    declarations: Registry | FeatureView | Sequence[FeatureView],
    events: Mapping[str, Sequence[Event | Arrived]],
    *,
    seed: int = 0,
    allow_rejected: bool = False,
) -> Replay:
    """The events as they would have come, ready to be asked for values at any time.

    Args:
        declarations: a registry, a view or several.
        events: source -> its events, in the order in which they came; a source that is not named has none. An event
            is a mapping of column -> value; times are aware datetimes or ISO 8601 text with a zone, a column that may
            be null may be left out, NaN is null. It arrives when it happens, or when the source's `arrival` column
            says so, or when `Arrived(event, at=...)` does.
        seed: of the order and the sizes of the stream's micro-batches.
        allow_rejected: keep events that the source's schema rejects in `Replay.rejected` instead of raising.

    Raises:
        DeclarationError: everything that is wrong with the declarations.
        UnknownNameError: no such source or column.
        InputError: a column is missing, a value or time does not fit, or an event is rejected.
        ReplayMismatch: loading and the stream do not take the same events.
        ImportError: the extra `lake` is not installed.
    """
    try:  # Late: pytest imports this package in every project of an environment.
        from feature_store.testing.replays import Replay
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("feature_store"):
            raise
        raise ImportError(f"`replay` needs more than reading does ({error}): install feature-store[lake]") from error
    return Replay(declarations, events, seed=seed, allow_rejected=allow_rejected)
