"""The pytest plugin: a fixture `replay` in every project that has the library installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from feature_store.testing import replay

if TYPE_CHECKING:
    from feature_store.testing.replays import Replay


@pytest.fixture(name="replay", scope="session")
def replay_fixture() -> Callable[..., Replay]:
    """`feature_store.testing.replay`: events in, values at times out, each computed in three ways that must agree."""
    return replay
