"""Whether checks of values are believed: no alarm in thirty weeks in which nothing happens, and an alarm within two days when something does."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.payments import at, build, deployment, evaluate, train
from benchmarks.results import Result, row
from feature_store import FeatureStore

PER_DAY, WARM, WATCHED, SHIFTED = 149, 120, 210, 2
"""Payments a day; days before the training set that is pinned, days that are watched, and days with another distribution."""
SHIFT = 0.5
"""In standard deviations."""


def rows(size: int = PER_DAY) -> Iterator[Result]:
    """Every check of every source, view and service, for each day; `size` payments a day."""
    days = WARM + WATCHED + SHIFTED
    with (
        tempfile.TemporaryDirectory() as folder,
        deployment(Path(folder), payments=size * days, days=days, seed=1) as store,
    ):
        stay(Path(folder) / "data" / "merchants")
        build(store, 0, WARM + WATCHED)
        train(store, WARM)
        alarms: Counter[str] = Counter()
        evaluated = 0
        for day in range(WARM, WARM + WATCHED):
            for owner, said in evaluate(store, day):
                evaluated += 1
                if not said.passed:
                    alarms[f"{owner}:{said.check_name}"] += 1
                    print(f"{at(day).date()}, {owner}, {said.check_name}: {said.description}", flush=True)
        found = days_until_found(store, Path(folder), WARM + WATCHED)
    print(f"{evaluated:,} evaluations; alarms: {dict(+alarms)}")
    weeks = WATCHED // 7
    yield row(f"{size} payments a day, alarms in {weeks} weeks, every day", alarms.total(), "alarms", limit=0)
    yield row(f"amounts that move by {SHIFT} sd, until they are found", found, "days", limit=2)


def stay(folder: Path) -> None:
    """Let merchants be what they were on the first day: when one with a twentieth of the payments sells something else, a shift is what happens."""
    for path in sorted(folder.glob("*.parquet"))[1:]:
        pq.write_table(pq.read_table(path).slice(0, 0), path)


def days_until_found(store: FeatureStore, folder: Path, first: int) -> int:
    """Load days whose amounts have moved, one by one, until the source's drift is red."""
    for day in range(first, first + SHIFTED):
        move(folder / "data" / "payments" / f"{at(day).date()}.parquet")
        build(store, day, day + 1)
        if any(
            (owner, said.check_name, said.passed) == ("payments", "drift", False)
            for owner, said in evaluate(store, day)
        ):
            return day - first + 1
    return SHIFTED + 1


def move(path: Path) -> None:
    """Rewrite a day's payments with amounts that are `SHIFT` standard deviations larger; those of a log-normal distribution."""
    table = pq.read_table(path)
    spread = float(np.sqrt((np.e - 1) * np.exp(17)))  # of `generator._paid`: mu 8, sigma 1
    moved = pc.cast(pc.add(table.column("amount"), pa.scalar(int(SHIFT * spread))), pa.int64())
    pq.write_table(table.set_column(table.schema.get_field_index("amount"), "amount", moved), path)
