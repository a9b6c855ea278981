"""What all checks of a day's values cost, beside loading and building that day."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.payments import at, build, deployment, evaluate, train
from benchmarks.results import Result, median, row

PER_DAY, HISTORY, LOOKED_BACK, MEASURED = 500_000, 29, 4, 3
LIMIT = 0.2


class Spent(NamedTuple):
    """Seconds on the clock, and of all processors together."""

    wall_s: float
    cpu_s: float

    @classmethod
    def now(cls) -> Spent:
        """Since some time."""
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.wall_s - other.wall_s, self.cpu_s - other.cpu_s)


def rows(size: int = PER_DAY) -> Iterator[Result]:
    """The median over some days, each of which is built and then checked; `size` payments a day."""
    days = HISTORY + MEASURED
    with (
        tempfile.TemporaryDirectory() as folder,
        deployment(Path(folder), payments=size * days, days=days) as store,
    ):
        build(store, 0, HISTORY)
        train(store, HISTORY)
        for day in range(HISTORY - LOOKED_BACK, HISTORY):
            list(evaluate(store, day))  # imports, and samples that later days look back at
        spent: dict[str, list[Spent]] = {name: [] for name in ("load", "build", "checks of the load", "checks")}
        for day in range(HISTORY, days):
            begun = Spent.now()
            store.load("payments", start=at(day), end=at(day + 1))
            spent["load"].append(Spent.now() - begun)
            begun = Spent.now()
            build(store, day, day + 1)
            spent["build"].append(Spent.now() - begun)
            begun = last = Spent.now()
            of_load = Spent(0.0, 0.0)
            for owner, _ in evaluate(store, day):
                now = Spent.now()
                if owner == "payments":
                    of_load = Spent(of_load.wall_s + now.wall_s - last.wall_s, of_load.cpu_s + now.cpu_s - last.cpu_s)
                last = now
            spent["checks of the load"].append(of_load)
            spent["checks"].append(last - begun)
    for what, floor, told in (
        ("checks of the load", "load", "checks that run with the load of a day of {:,} payments, beside the load"),
        ("checks", "build", "all checks of a day of {:,} payments, beside loading and building it"),
    ):
        for kind, unit in (("wall_s", ""), ("cpu_s", ", CPU")):
            ours, theirs = ([getattr(each, kind) for each in spent[name]] for name in (what, floor))
            ratio = median([each / its for each, its in zip(ours, theirs, strict=True)])
            yield row(told.format(size) + unit, median(ours), "s", floor=median(theirs), ratio=ratio, limit=LIMIT)
