"""Payments and chargebacks of any volume, as untidy as real ones: late, repeated, contradictory, out of order.

The same seed gives the same events. `python generator.py --payments 100000` writes a Parquet file per month of each source
below `data/`, in the order of arrival. With `--daily` it holds one day's events in memory at a time, however many there
are, and writes a file per day on which they happened: more than a million payments a second.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

DAY_US = 86_400_000_000
TIME = pa.timestamp("us", tz="UTC")
START = datetime(2026, 1, 1, tzinfo=UTC)

LATE_SHARE, REPEATED_SHARE, CONTRADICTED_SHARE, CHARGED_BACK_SHARE = 0.05, 0.01, 0.001, 0.02


@dataclass(frozen=True, slots=True)
class Events:
    """What arrived, in that order (`arrived_at`), and what merchants are since when."""

    payments: pa.Table
    chargebacks: pa.Table
    merchants: pa.Table


def generate(*, payments: int, days: int = 120, seed: int = 0) -> Events:
    """Events of a span that begins with 2026.

    Of the payments 5 % arrive up to three days late and the others within 20 s, 1 % come twice, and one in a thousand comes
    again with another amount; 2 % are charged back 1 to 60 days later. A user has few devices; merchants and users are
    of unequal weight. A merchant's category changes up to twice, and some have none for a while.

    Args:
        payments: how many different ones.
        days: how long the span is.
        seed: of the random numbers.
    """
    parts = list(generate_daily(payments=payments, days=days, seed=seed))
    return Events(
        payments=pa.concat_tables([part.payments for part in parts]).sort_by("arrived_at"),
        chargebacks=pa.concat_tables([part.chargebacks for part in parts]).sort_by("arrived_at"),
        merchants=pa.concat_tables([part.merchants for part in parts]),
    )


def generate_daily(*, payments: int, days: int = 120, seed: int = 0) -> Iterator[Events]:
    """The same events day after day: the payments that happened on it, their copies and their chargebacks, what merchants began to be."""
    users, merchants = max(payments // 50, 1), max(payments // 500, 1)
    start_us = int(START.timestamp()) * 1_000_000
    versions = _merchants(merchants, np.random.default_rng([seed, days]), start_us, days * DAY_US)
    began = (versions.column("valid_from").cast(pa.int64()).to_numpy() - start_us) // DAY_US
    for day in range(days):
        draw = np.random.default_rng([seed, day])
        numbers = np.arange(payments * day // days, payments * (day + 1) // days)
        columns = _paid(draw, numbers, users=users, merchants=merchants, start_us=start_us + day * DAY_US)
        yield Events(
            payments=_payments(_with_copies(columns, draw)),
            chargebacks=_chargebacks(columns, draw, start_us + days * DAY_US),
            merchants=versions.filter(began == day),
        )


def _paid(
    draw: np.random.Generator, numbers: np.ndarray, *, users: int, merchants: int, start_us: int
) -> dict[str, np.ndarray]:
    """The payments of a day, each once, in the order of their times."""
    count = len(numbers)
    user = (draw.pareto(1.5, count) * users / 8).astype(np.int64) % users
    columns = {
        "number": numbers,
        "user": user,
        "device": user * 4 + np.minimum(draw.geometric(0.7, count) - 1, 3),
        "merchant": (draw.pareto(1.2, count) * merchants / 8).astype(np.int64) % merchants,
        "amount": np.maximum((draw.lognormal(8, 1, count)).astype(np.int64), 1),
        "paid_us": start_us + np.sort(draw.integers(0, DAY_US, count)),
    }
    columns["arrived_us"] = columns["paid_us"] + _delays(draw, count)
    return columns


def write_daily(parts: Iterable[Events], folder: Path) -> None:
    """A Parquet file per day and source, `payments/2026-01-01.parquet`: chargebacks stand with their payments' day, of merchants what began on it."""
    for day, events in enumerate(parts):
        for name, table in (
            ("payments", events.payments),
            ("chargebacks", events.chargebacks),
            ("merchants", events.merchants),
        ):
            (folder / name).mkdir(parents=True, exist_ok=True)
            pq.write_table(table, folder / name / f"{START.date() + timedelta(days=day)}.parquet")


def write(events: Events, folder: Path) -> None:
    """A Parquet file per month of arrival and source, `payments/2026-01.parquet`; of merchants a full snapshot per month."""
    for name, table in (("payments", events.payments), ("chargebacks", events.chargebacks)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        months = pc.strftime(table.column("arrived_at"), format="%Y-%m")
        for month in pc.unique(months).to_pylist():
            pq.write_table(table.filter(pc.equal(months, month)), folder / name / f"{month}.parquet")
    (folder / "merchants").mkdir(parents=True, exist_ok=True)
    begun = pc.strftime(events.merchants.column("valid_from"), format="%Y-%m")
    for month in pc.unique(begun).to_pylist():
        known = events.merchants.filter(pc.less_equal(begun, month))
        pq.write_table(known, folder / "merchants" / f"{month}.parquet")


def _delays(draw: np.random.Generator, count: int) -> np.ndarray:
    prompt = draw.integers(0, 20_000_000, count)
    return np.where(draw.random(count) < LATE_SHARE, draw.integers(0, 3 * DAY_US, count), prompt)


def _with_copies(columns: dict[str, np.ndarray], draw: np.random.Generator) -> dict[str, np.ndarray]:
    """The same events, some of them again: as they were, or with another amount. Copies come later."""
    count = len(columns["number"])
    repeated = np.flatnonzero(draw.random(count) < REPEATED_SHARE)
    contradicted = np.flatnonzero(draw.random(count) < CONTRADICTED_SHARE)
    rows = np.concatenate([np.arange(count), repeated, contradicted])
    taken = {name: values[rows] for name, values in columns.items()}
    copies = slice(count, None)
    taken["arrived_us"][copies] += draw.integers(1_000_000, DAY_US, len(rows) - count)
    taken["amount"][count + len(repeated) :] += 1
    return taken


def _payments(columns: dict[str, np.ndarray]) -> pa.Table:
    columns = _by_arrival(columns)
    return pa.table(
        {
            "payment_id": _names("p", columns["number"]),
            "user": _names("u", columns["user"]),
            "device": _names("d", columns["device"]),
            "merchant": _names("m", columns["merchant"]),
            "amount": columns["amount"],
            "paid_at": pa.array(columns["paid_us"]).cast(TIME),
            "arrived_at": pa.array(columns["arrived_us"]).cast(TIME),
        }
    )


def _chargebacks(columns: dict[str, np.ndarray], draw: np.random.Generator, end_us: int) -> pa.Table:
    """Those that come before the span ends; each is known a day after it happened at the latest."""
    count = len(columns["number"])
    back_us = columns["paid_us"] + draw.integers(DAY_US, 60 * DAY_US, count)
    rows = np.flatnonzero((draw.random(count) < CHARGED_BACK_SHARE) & (back_us < end_us))
    found = _by_arrival(
        {
            "number": columns["number"][rows],
            "merchant": columns["merchant"][rows],
            "back_us": back_us[rows],
            "arrived_us": back_us[rows] + draw.integers(0, DAY_US, len(rows)),
        }
    )
    return pa.table(
        {
            "chargeback_id": _names("c", found["number"]),
            "payment_id": _names("p", found["number"]),
            "merchant": _names("m", found["merchant"]),
            "charged_back_at": pa.array(found["back_us"]).cast(TIME),
            "arrived_at": pa.array(found["arrived_us"]).cast(TIME),
        }
    )


def _merchants(count: int, draw: np.random.Generator, start_us: int, span_us: int) -> pa.Table:
    """Every merchant from the start on, and its changes."""
    changed = np.repeat(np.arange(count), draw.integers(0, 3, count))
    since_us = np.concatenate([np.zeros(count, dtype=np.int64), draw.integers(1, span_us, len(changed))])
    categories = pa.array(["toys", "food", "travel", "games", None])
    return pa.table(
        {
            "merchant": _names("m", np.concatenate([np.arange(count), changed])),
            "category": categories.take(pa.array(draw.integers(0, len(categories), len(since_us)))),
            "valid_from": pa.array(start_us + since_us).cast(TIME),
        }
    )


def _by_arrival(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    order = np.argsort(columns["arrived_us"], kind="stable")
    return {name: values[order] for name, values in columns.items()}


def _names(letter: str, numbers: np.ndarray) -> pa.Array:
    return pc.binary_join_element_wise(letter, pa.array(numbers).cast(pa.string()), "")


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description="Write payments and chargebacks below data/.")
    parser.add_argument("--payments", type=int, default=20_000)
    parser.add_argument("--days", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--daily", action="store_true", help="a file per day, for more payments than memory holds")
    options = parser.parse_args()
    if options.daily:
        write_daily(generate_daily(payments=options.payments, days=options.days, seed=options.seed), Path("data"))
        return
    events = generate(payments=options.payments, days=options.days, seed=options.seed)
    write(events, Path("data"))
    print(f"data/: {events.payments.num_rows:,} payments, {events.chargebacks.num_rows:,} chargebacks")  # noqa: T201


if __name__ == "__main__":
    main()
