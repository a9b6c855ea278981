"""What all checks of a day's values cost, beside loading and building that day."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.payments import build, deployment, evaluate, train
from benchmarks.results import Result, median, row

PER_DAY, HISTORY, MEASURED = 200_000, 35, 3
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
        list(evaluate(store, HISTORY - 1))  # imports, and what a process does once
        built, checked, by_owner = [], [], {}
        for day in range(HISTORY, days):
            begun = time.perf_counter()
            build(store, day, day + 1)
            built.append(time.perf_counter() - begun)
            begun = last = time.perf_counter()
            for owner, _ in evaluate(store, day):
                now = time.perf_counter()
                by_owner[owner] = by_owner.get(owner, 0.0) + (now - last) / MEASURED
                last = now
            checked.append(time.perf_counter() - begun)
    print({owner: round(seconds, 3) for owner, seconds in by_owner.items()}, built, checked)
    ratio = median([ours / theirs for ours, theirs in zip(checked, built, strict=True)])
    yield row(
        f"all checks of a day of {size:,} payments, beside loading and building it",
        median(checked),
        "s",
        floor=median(built),
        ratio=ratio,
        limit=LIMIT,
    )
