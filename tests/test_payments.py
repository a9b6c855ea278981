"""The payments example against loops over its events, at ten thousand moments."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from bisect import bisect_left
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import redis

from feature_store import FeatureStore, Settings
from feature_store.clock import ManualClock
from feature_store.online.ready import read_ready
from feature_store.time_rule import to_us

EXAMPLE = Path(__file__).parent.parent / "examples" / "payments"
PAYMENTS, DAYS, MOMENTS = 20_000, 120, 10_000
HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
END = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=DAYS)


def module(name: str):
    """A file of the example, which is no package of this repository."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def events():
    return module("generator").generate(payments=PAYMENTS, days=DAYS, seed=7)


def rows_of(table, *names):
    """Rows as tuples, times in microseconds, in order of arrival."""
    columns = [table.column(name) for name in names]
    return list(
        zip(*(column.cast("int64").to_pylist() if name.endswith(("_at", "valid_from")) else column.to_pylist()
              for name, column in zip(names, columns, strict=True)), strict=True)
    )  # fmt: skip


def first_of_each(rows):
    """The first delivery of each id, which is the first column."""
    kept = {}
    for row in rows:
        kept.setdefault(row[0], row)
    return list(kept.values())


class Loops:
    """What the features are by their definition: counting, in Python integers."""

    def __init__(self, events) -> None:
        names = ("payment_id", "user", "device", "merchant", "amount", "paid_at", "arrived_at")
        self.paid = first_of_each(rows_of(events.payments, *names))
        self.by_user, self.by_device = defaultdict(list), defaultdict(list)
        self.by_merchant, self.back_by_merchant = defaultdict(list), defaultdict(list)
        for _, user, device, merchant, amount, at, arrived in self.paid:
            self.by_user[user].append((at, arrived, amount))
            self.by_device[user, device].append((at, arrived, 1))
            self.by_merchant[merchant].append((at, arrived, 1))
        self.is_since = defaultdict(list)
        for merchant, category, since in rows_of(events.merchants, "merchant", "category", "valid_from"):
            self.is_since[merchant].append((since, category))
        names = ("chargeback_id", "payment_id", "merchant", "charged_back_at", "arrived_at")
        self.back = {}
        for _, payment, merchant, at, arrived in rows_of(events.chargebacks, *names):
            self.back_by_merchant[merchant].append((at, arrived, 1))
            self.back[payment] = at
        for known in self.is_since.values():
            known.sort(key=lambda row: row[0])
        for groups in (self.by_user, self.by_device, self.by_merchant, self.back_by_merchant):
            for group in groups.values():
                group.sort()

    @staticmethod
    def window(group, at, *, days, hop, served):
        tail = -(10**18) if days is None else (at - days * DAY_US) // hop * hop
        held = group[bisect_left(group, (tail,)) : bisect_left(group, (at,))]
        return [value for _, arrived, value in held if not served or arrived <= at]

    def row(self, payment, *, served):
        _, user, device, merchant, _, at, _ = payment
        week = self.window(self.by_user[user], at, days=7, hop=6 * HOUR_US, served=served)
        quarter = self.window(self.by_user[user], at, days=90, hop=DAY_US, served=served)
        seen = self.window(self.by_device[user, device], at, days=None, hop=DAY_US, served=served)
        taken = self.window(self.by_merchant[merchant], at, days=30, hop=DAY_US, served=served)
        back = self.window(self.back_by_merchant[merchant], at, days=30, hop=DAY_US, served=served)
        known = [category for since, category in self.is_since[merchant] if since < at]
        return (
            len(week),
            float(Fraction(sum(quarter), len(quarter))) if quarter else None,
            len(seen),
            len(back) / len(taken) if taken else 0.0,
            known[-1] if known else None,
        )

    def label(self, payment):
        at, back = payment[5], self.back.get(payment[0])
        if at + 60 * DAY_US > to_us(END):
            return None
        return back is not None and at <= back < at + 60 * DAY_US


@pytest.fixture(scope="module")
def store(events, tmp_path_factory):
    folder = tmp_path_factory.mktemp("payments")
    module("generator").write(events, folder / "data")
    settings = Settings(home=folder / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        registry = module("payments").registry
        with FeatureStore(settings=settings, registry=registry, clock=ManualClock(to_us(END))) as store:
            for source in ("payments", "chargebacks", "merchants"):
                store.load(source, start=END - timedelta(days=DAYS), end=END)
            yield store


@pytest.mark.parametrize("knowledge", ["served", "corrected"])
def test_the_features_are_what_loops_over_the_events_say(store, events, knowledge):
    loops = Loops(events)
    asked = sorted(loops.paid, key=lambda row: row[0])[:MOMENTS]
    names = ["payment_id", "user", "device", "merchant", "amount", "paid_at", "arrived_at"]
    spine = pd.DataFrame(asked, columns=names).drop(columns=["amount", "arrived_at"])
    spine["event_timestamp"] = pd.to_datetime(spine.pop("paid_at"), unit="us", utc=True)

    found = store.get_historical_features(
        spine, "fraud", knowledge=knowledge, labels=["charged_back"], allow_incomplete=True
    )

    columns = [found.table.column(name).to_pylist() for name in (*found.feature_columns, *found.label_columns)]
    expected = [(*loops.row(row, served=knowledge == "served"), loops.label(row)) for row in asked]
    assert len(expected) == MOMENTS
    wrong = [(a, b) for a, b in zip(zip(*columns, strict=True), expected, strict=True) if a != b]
    assert wrong == []
    assert found.manifest.labels["charged_back"] == sum(row[-1] is None for row in expected) > 0


def test_late_repeated_and_contradictory_payments_are_there_to_be_told_apart(store, events):
    ids = events.payments.column("payment_id").to_pylist()
    loops = Loops(events)
    late = sum(arrived - at > HOUR_US for *_, at, arrived in loops.paid)
    differing = sum(loops.row(row, served=True) != loops.row(row, served=False) for row in loops.paid[:MOMENTS])

    assert len(ids) - len(set(ids)) > PAYMENTS / 200
    assert late > PAYMENTS / 50
    assert differing > 0
    rejected = store.lake.table_sql("rejected_events")
    with store.lake.cursor() as cursor:
        conflicts = cursor.execute(f"SELECT count(*) FROM {rejected} WHERE kind = 'conflict'").fetchone()
    assert conflicts is not None
    assert conflicts[0] > 0


def test_the_same_seed_gives_the_same_events(events):
    again = module("generator").generate(payments=PAYMENTS, days=DAYS, seed=7)

    assert again.payments.equals(events.payments)
    assert again.chargebacks.equals(events.chargebacks)
    assert again.merchants.equals(events.merchants)


def test_the_events_are_the_same_when_they_are_made_day_by_day(events):
    days = list(module("generator").generate_daily(payments=PAYMENTS, days=DAYS, seed=7))

    assert len(days) == DAYS
    for name in ("payments", "chargebacks"):
        parts = pa.concat_tables([getattr(day, name) for day in days])
        assert parts.sort_by("arrived_at").equals(getattr(events, name))
        assert parts.num_rows > PAYMENTS / 100
    for n, day in enumerate(days):
        paid = day.payments.column("paid_at").to_pylist()
        assert END - timedelta(days=DAYS - n) <= min(paid) <= max(paid) < END - timedelta(days=DAYS - n - 1)


def is_caught_up(url, environment):
    with redis.Redis.from_url(url) as client:
        ready = read_ready(client, environment)
    return bool(ready) and all(record.caught_up for record in ready.values())


@pytest.mark.timeout(600)
def test_the_commands_of_the_tutorial_run_as_they_stand(tmp_path, valkey, environment):
    folder = tmp_path / "payments"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("data", ".feature_store", "__pycache__"))
    page = (EXAMPLE.parents[1] / "docs" / "tutorial.md").read_text()
    commands = re.findall(r"^```bash\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    variables = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "FEATURE_STORE_REDIS_URL": valkey.url,
        "FEATURE_STORE_ENVIRONMENT": environment,
        "FEATURE_STORE_DECLARATIONS": "payments:registry",
        "FEATURE_STORE_BACKFILL_DAYS": "60",  # one process of a run, instead of two
    }

    def bash(script):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    generate, history, training, live = commands
    bash(generate)
    assert "partitions in" in bash(history)
    assert "of them too young for a label" in bash(training)
    assert "5 views and 1 service applied" in bash("feature-store apply")  # as `up` does first
    with (folder / "stream.log").open("wb") as log:
        stream = subprocess.Popen(
            ["feature-store", "stream"], cwd=folder, env=os.environ | variables, stdout=log, stderr=log
        )
        try:
            deadline = time.monotonic() + 240
            while not is_caught_up(valkey.url, environment):
                assert time.monotonic() < deadline, (folder / "stream.log").read_text()
                time.sleep(0.1)
            assert "caught up" in bash("feature-store status")
            said = bash(live)
        finally:
            stream.terminate()
            stream.wait(120)
    lines = {line.split()[0]: line.split()[1:3] for line in said.splitlines() if "_" in line}
    assert lines["spending:user_7d_transaction_count"] == ["1", "PRESENT"]
    count, status = lines["devices:device_seen_before"]
    assert (int(count) > 1, status) == (True, "PRESENT")
    assert lines["merchant_profile:category"][1] in ("PRESENT", "EMPTY"), "a null is known, too"
