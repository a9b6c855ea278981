"""What all checks of a day's values cost, beside loading and building that day."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.payments import at, build, deployment, evaluate, train
from benchmarks.results import Result, median, row

PER_DAY, HISTORY, LOOKED_BACK, MEASURED = 500_000, 29, 4, 3
LIMIT = 0.2


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
        built, checked, loaded, of_load = [], [], [], []
        for day in range(HISTORY, days):
            begun = time.perf_counter()
            store.load("payments", start=at(day), end=at(day + 1))
            loaded.append(time.perf_counter() - begun)
            build(store, day, day + 1)
            built.append(time.perf_counter() - begun - loaded[-1])
            begun = last = time.perf_counter()
            of_load.append(0.0)
            for owner, _ in evaluate(store, day):
                now = time.perf_counter()
                of_load[-1] += (now - last) * (owner == "payments")
                last = now
            checked.append(last - begun)
    for what, ours, theirs in (
        ("checks that run with the load of a day of", of_load, loaded),
        ("all checks of a day of", checked, built),
    ):
        ratio = median([each / floor for each, floor in zip(ours, theirs, strict=True)])
        name = f"{what} {size:,} payments, beside {'the load' if ours is of_load else 'loading and building it'}"
        yield row(name, median(ours), "s", floor=median(theirs), ratio=ratio, limit=LIMIT)
