"""Events for the lake's tests, and the processes that write and read them side by side."""

import atexit
import functools
import os
import shutil
import signal
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from feature_store.lake import Lake, LakeLocation, session, staging

SCHEMA = pa.schema([("airport", pa.string()), ("delay", pa.float64()), ("at", pa.timestamp("us", "UTC"))])
DAY0 = date(2024, 1, 1)
DAY0_US = 1_704_067_200_000_000
HOUR_US = 3_600_000_000

local_only = pytest.mark.parametrize("place", ["local"], indirect=True)
"""For rules about what is given, which no catalog sees."""


@functools.cache
def _template(*, departures: bool) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="lake-template-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    with Lake.open(directory / "lake") as lake:
        if departures:
            lake.ensure_source("departures", SCHEMA)
    return directory / "lake"


def begun(home: Path, env: str = "dev") -> Path:
    """A home whose lake has been opened once and is empty. What is there already stays, and other environments than `dev` begin anew."""
    if env == "dev" and not (home / "lake").exists():
        shutil.copytree(_template(departures=False), home / "lake")
    return home


def local_copy(directory: Path) -> LakeLocation:
    """An empty lake that knows `departures`. Copied, because a lake may be moved and a copy is quicker than a new one."""
    shutil.copytree(_template(departures=True), directory)
    return LakeLocation(directory)


def open_lake(place: LakeLocation, **options) -> Lake:
    """A lake in which this process has declared `departures`."""
    lake = Lake.open(place, **options)
    lake.ensure_source("departures", SCHEMA)
    return lake


def new_lake(directory: Path, **options) -> Lake:
    """An empty lake in a directory that knows `departures`."""
    return open_lake(local_copy(directory), **options)


def day(number: int) -> date:
    return DAY0 + timedelta(days=number)


def events(count: int, *, start_hour: int = 0, prefix: str = "e", delay: float | None = None) -> pa.Table:
    """One event an hour, ids `<prefix><hour>`."""
    hours = range(start_hour, start_hour + count)
    times = [DAY0_US + hour * HOUR_US for hour in hours]
    return pa.table(
        {
            "airport": pa.array(["JFK" if hour % 2 else "LGA" for hour in hours], pa.string()),
            "delay": pa.array([float(hour) if delay is None else delay for hour in hours], pa.float64()),
            "at": pa.array(times, pa.timestamp("us", "UTC")),
            "_event_id": pa.array([f"{prefix}{hour}" for hour in hours], pa.string()),
            "_event_us": pa.array(times, pa.int64()),
        }
    )


def live(count: int, *, start_hour: int = 0, prefix: str = "e", first: int = 0, partition: int = 0) -> pa.Table:
    """The same events as they come over the log, at offsets from `first`."""
    rows = events(count, start_hour=start_hour, prefix=prefix)
    rows = rows.append_column("_arrived_us", rows["_event_us"])
    rows = rows.append_column("_partition", pa.array([partition] * count, pa.int32()))
    return rows.append_column("_offset", pa.array(range(first, first + count), pa.int64()))


def rejected(*kinds: str) -> pa.Table:
    return pa.table(
        {
            "source": ["departures"] * len(kinds),
            "partition": pa.array([0] * len(kinds), pa.int32()),
            "offset": pa.array(range(len(kinds)), pa.int64()),
            "arrived_us": pa.array([1] * len(kinds), pa.int64()),
            "reason": ["because"] * len(kinds),
            "payload": pa.array([b"{"] * len(kinds), pa.binary()),
            "kind": list(kinds),
        }
    )


def append_for_a_while(place: LakeLocation, commits: int, every_s: float) -> None:
    """A live writer: one commit of two events each `every_s`."""
    with Lake.open(place) as lake:
        for number in range(commits):
            rows = live(2, start_hour=number, prefix=f"live{number}-", first=2 * number)
            lake.append_live(
                "departures", rows, owner="w", start={0: 2 * number}, end={0: 2 * number + 2}, rejected=None
            )
            time.sleep(every_s)


def replace_for_a_while(place: LakeLocation, first_day: int, generations: int) -> None:
    """A loader: replaces three days again and again; all rows of one load carry its number."""
    days = [day(first_day + number) for number in range(3)]
    with Lake.open(place) as lake:
        for generation in range(1, generations + 1):
            rows = events(72, start_hour=24 * first_day, prefix="bulk", delay=float(generation))
            lake.replace_loaded("departures", rows, days=days)


def append_then_hold(place: LakeLocation, ready: Path) -> None:
    """Take the commit lock and keep it until killed."""
    with Lake.open(place) as lake, lake._session.commit_lock():
        ready.touch()
        time.sleep(60)


def die_while_replacing(place: LakeLocation, moment: str) -> None:
    """Replace two days, and be killed by SIGKILL at one of four moments."""

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def die_after(target: object, name: str) -> None:
        original = getattr(target, name)

        def patched(*args: object, **kwargs: object) -> object:
            result = original(*args, **kwargs)
            die()
            return result

        setattr(target, name, patched)

    lake = Lake.open(place)
    match moment:
        case "staged":
            staging.commit_staged = die
            die_after(staging, "check_days")
        case "moved":
            die_after(staging, "_place")
        case "registered":
            die_after(staging, "_register")
        case "committed":
            die_after(session, "_transact")
    from feature_store.lake import loaded

    loaded.check_days = staging.check_days
    lake.replace_loaded("departures", events(48, prefix="new", delay=2.0), days=[day(0), day(1)])
