"""Where a run keeps what its processes share: a folder and the settings of the deployment in it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from chaos.declared import BEGIN
from feature_store.clock import ReplayClock
from feature_store.settings import Settings
from feature_store.time_rule import HOUR_US, to_us

PREFIX = "FEATURE_STORE_"
FOLDER = "CHAOS_FOLDER"
BREAK = "CHAOS_BREAK"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The folder of a run and what stands in it."""

    folder: Path
    url: str
    seed: int
    replay: str
    guard: str | None = None
    """The guard that is removed, if one is."""

    @classmethod
    def new(cls, folder: Path, *, url: str, seed: int, guard: str | None = None) -> Place:
        """Lay out a run that begins now."""
        for name in ("armed", "logs"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        # The replayed past began an hour ago, so that the clock can be set back.
        began = ReplayClock(origin_us=to_us(BEGIN) - HOUR_US, started_us=time.time_ns() // 1000 - HOUR_US)
        return cls(folder=folder, url=url, seed=seed, replay=str(began), guard=guard)

    @classmethod
    def of_process(cls) -> Place:
        """The run of which this process is a part."""
        settings = Settings()
        return cls(
            folder=Path(os.environ[FOLDER]),
            url=settings.redis_url,
            seed=int(os.environ["CHAOS_SEED"]),
            replay=settings.replay or "",
            guard=os.environ.get(BREAK) or None,
        )

    @property
    def settings(self) -> Settings:
        """The settings of the deployment."""
        return Settings(
            home=self.folder / "home",
            redis_url=self.url,
            environment="chaos",
            declarations="chaos.declared:registry",
            replay=self.replay,
        )

    def environment(self, *, workers: int) -> dict[str, str]:
        """The environment of a process of this run."""
        settings = self.settings
        given = {
            "HOME": settings.home,
            "REDIS_URL": settings.redis_url,
            "ENVIRONMENT": settings.environment,
            "DECLARATIONS": settings.declarations,
            "REPLAY": settings.replay,
            "WORKERS": workers,
        }
        own = {FOLDER: str(self.folder), BREAK: self.guard or "", "CHAOS_SEED": str(self.seed)}
        path = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
        return os.environ | {PREFIX + name: str(value) for name, value in given.items()} | own | {"PYTHONPATH": path}

    @property
    def catalog(self) -> Path:
        """The catalog of the lake."""
        return self.settings.lake_directory / "catalog.sqlite"

    @property
    def outbox(self) -> Path:
        """What the publisher has sent or is about to send, a batch a line."""
        return self.folder / "outbox.jsonl"

    @property
    def sent(self) -> Path:
        """Acknowledged batches of the outbox, a line each: number, time of arrival."""
        return self.folder / "sent"

    @property
    def rewind(self) -> Path:
        """While it is there: the batch with which the publisher is to begin again."""
        return self.folder / "rewind"

    @property
    def quiet(self) -> Path:
        """While it is there, the publisher makes no new events, and no backfill begins."""
        return self.folder / "quiet"

    @property
    def clock_shift(self) -> Path:
        """By how many microseconds everybody's clock is wrong."""
        return self.folder / "clock_shift"

    @property
    def hits(self) -> Path:
        """The fail points that were met, a line each."""
        return self.folder / "hits"

    def armed(self, point: str) -> Path:
        """The file that arms a fail point; who meets the point takes it away."""
        return self.folder / "armed" / point

    def log(self, name: str) -> Path:
        """What a process says."""
        return self.folder / "logs" / f"{name}.log"
