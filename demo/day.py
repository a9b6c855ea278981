"""One whole day as it happened, in a minute: publisher, flow and scorer run at once and never wait for each other."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from demo.replay import DAY
from demo.stage import Stage
from feature_store.clock import ReplayClock
from feature_store.errors import FeatureStoreError
from feature_store.online.ready import read_ready
from feature_store.settings import PREFIX
from feature_store.time_rule import SECOND_US, to_us
from features.model import DelayModel

SPEED = 1440.0
HEAD_START_S = 12.0
"""The flow rebuilds its state and the others start up before midnight; at this speed it is almost five hours."""


ENDING_S = 40.0
"""For how long a process may end: the flow gives its own run twenty seconds, and then kills it."""


def replay_day(stage: Stage, model: DelayModel, *, day: datetime) -> tuple[pa.Table, pd.DataFrame]:
    """Replay a day; returns the vectors that were served and the scores that were given.

    Raises:
        FeatureStoreError: a process ended early; names it and its log file.
    """
    home = stage.home / "served"
    home.mkdir(parents=True, exist_ok=True)
    (home / "model.pickle").write_bytes(pickle.dumps(model))
    started_us = time.time_ns() // 1000
    origin_us = to_us(day) - int(HEAD_START_S * SPEED * SECOND_US)
    clock = ReplayClock(origin_us=origin_us, started_us=started_us, speed=SPEED)
    environment = {**os.environ, f"{PREFIX}REPLAY": str(clock)}
    with _processes(home, environment, day) as processes:
        _watch(stage, processes, clock, day)
    return pq.read_table(home / "live.parquet"), pd.read_parquet(home / "live_scores.parquet")


@contextmanager
def _processes(home: Path, environment: dict[str, str], day: datetime) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    commands: dict[str, Sequence[str]] = {
        "flow": ["feature_store_deploy.streams", "flow", "--tick", "0.25"],
        "publisher": ["demo.publisher", day.isoformat()],
        "scorer": ["demo.scorer", day.isoformat(), str(home)],
    }
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            with (home / f"{name}.log").open("wb") as log:
                running[name] = subprocess.Popen(
                    [sys.executable, "-m", *command], env=environment, stdout=log, stderr=subprocess.STDOUT
                )
        yield running
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            try:
                process.wait(timeout=ENDING_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _watch(stage: Stage, processes: dict[str, subprocess.Popen[bytes]], clock: ReplayClock, day: datetime) -> None:
    minutes = int(DAY.total_seconds()) // 60
    client = stage.client()
    with stage.progress() as progress:
        task = progress.add_task("one day, continuously", total=minutes)
        while processes["scorer"].poll() is None:
            _complain(stage, processes)
            passed = (clock.now_us() - to_us(day)) // (60 * SECOND_US)
            progress.update(task, completed=min(max(passed, 0), minutes))
            time.sleep(0.2)
        progress.update(task, completed=minutes)
    _complain(stage, processes)
    processes["publisher"].wait(timeout=30)
    beats = read_ready(client, stage.settings.environment)
    stage.say(
        f"publisher, flow and scorer, three processes at once; the flow wrote {max(record.n for field, record in beats.items() if field.isdigit()):,} commits"
    )


def _complain(stage: Stage, processes: dict[str, subprocess.Popen[bytes]]) -> None:
    for name, process in processes.items():
        if process.poll() not in (None, 0):
            log = stage.home / "served" / f"{name}.log"
            last = (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
            raise FeatureStoreError(f"the {name} ended with exit code {process.returncode}: {last} (see {log})")
