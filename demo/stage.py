"""Where the demo runs: a home of its own, an embedded Valkey, and a console to speak to."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from feature_store.clock import Clock
from feature_store.embedded import EmbeddedValkey
from feature_store.settings import PREFIX, Settings
from feature_store.store import FeatureStore

HOME = Path(".feature_store") / "demo"


@dataclass(frozen=True, slots=True)
class Stage:
    """The demo's surroundings."""

    home: Path
    server: EmbeddedValkey
    settings: Settings
    console: Console
    started_s: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Since the demo began."""
        return time.perf_counter() - self.started_s

    def store(self, clock: Clock | None = None) -> FeatureStore:
        """A feature store on this stage; close it after use."""
        return FeatureStore(settings=self.settings, clock=clock)

    def client(self) -> redis.Redis:
        """A client of the embedded server."""
        return redis.Redis.from_url(self.server.url)

    def title(self, number: int, text: str) -> None:
        """Announce a part."""
        self.console.print(f"\n[bold]{number}. {text}[/bold]")

    def say(self, text: str) -> None:
        """One line of plain words."""
        self.console.print(f"   {text}", soft_wrap=True)

    def progress(self) -> Progress:
        """A progress bar."""
        return Progress(
            TextColumn("   {task.description:<34}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
        )


@contextmanager
def open_stage(home: Path = HOME) -> Iterator[Stage]:
    """A fresh stage; what an earlier demo left is removed, except the prepared flights."""
    home = home.resolve()
    for left in ("lake", "valkey", "dagster", "reports", "served"):
        shutil.rmtree(home / left, ignore_errors=True)
    home.mkdir(parents=True, exist_ok=True)
    with EmbeddedValkey(home / "valkey") as server:
        # The processes that the demo starts are told by the same variables that a user would set.
        os.environ[f"{PREFIX}HOME"] = str(home)
        os.environ[f"{PREFIX}REDIS_URL"] = server.url
        # A run costs seconds to start: with half of the history in each, the demo's backfill takes half the time.
        os.environ[f"{PREFIX}BACKFILL_DAYS"] = "167"
        # Two processes are at work nearly always.
        os.environ[f"{PREFIX}BATCH_THREADS"] = "1"
        yield Stage(home, server, Settings(), Console(highlight=False))
