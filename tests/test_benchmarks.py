"""The page and the lines that `make bench` writes."""

import json
import re
import subprocess
import sys
import time

import pytest

from benchmarks import agreement, scale, training
from benchmarks.__main__ import demo_row, report
from benchmarks.memory import Peak
from benchmarks.results import row


def test_a_rate_must_reach_its_limit_and_everything_else_must_stay_below():
    assert row("rate", 60, "events/s", floor=100, limit=0.5, at_least=True)["ok"]
    assert not row("rate", 40, "events/s", floor=100, limit=0.5, at_least=True)["ok"]
    assert row("time", 150, "us", floor=100, limit=1.6) == {
        "name": "time",
        "value": 150,
        "unit": "us",
        "floor": 100,
        "ratio": 1.5,
        "limit": 1.6,
        "ok": True,
    }
    assert not row("memory", 700, "B", limit=600)["ok"]


def test_the_page_names_what_falls_short():
    lines = [
        row("slow", 200, "us", floor=100, limit=1.6),
        row("rate", 70, "events/s", floor=100, limit=0.5, at_least=True),
    ]

    page = report([{"part": "stream", "measured": "then"} | line for line in lines])

    assert "## Stream" in page
    assert "Measured then." in page

    assert "| slow | 200 us | 100 us | 2.0 | ≤ 1.6 | **no** |" in page
    assert "| rate | 70 events/s | 100 events/s | 0.7 | ≥ 0.5 | yes |" in page
    assert "- slow: 200 us, ratio 2.0, limit ≤ 1.6" in page
    assert all(json.loads(json.dumps(line)) == line for line in lines)


def test_the_demo_s_time_is_read_from_its_last_line():
    assert demo_row("demo: auc_static=0.64 controls=3/3 seconds=200.5")["value"] == 200.5


def test_a_hundred_million_payments_are_measured_as_twenty_thousand_are(tmp_path):
    events = 20_000

    assert scale.generate(tmp_path, events)["rate"] > 0
    backfill = scale.backfill(tmp_path, events)
    training = scale.training(tmp_path, events)

    assert backfill["rate"] > 0
    assert training["rows"] == pytest.approx(events / scale.SPINE_SHARE, rel=0.2)
    assert 50 < training["peak_mb"] < scale.LIMIT_MB


def test_a_training_set_as_served_is_measured_with_late_events(tmp_path):
    training.prepare(tmp_path, hot=True, late=True, events=20_000, spine=2_000)

    late = training.measure_late(tmp_path)

    assert min(late["served"], late["ours"]) > 0
    assert late["differing"] > 0
    assert late["declared"] == 2_000


def test_the_peak_of_memory_counts_what_other_processes_hold():
    hold = [
        sys.executable,
        "-c",
        "import sys; held = bytearray(b'x' * 200_000_000); print(1, flush=True); sys.stdin.read()",
    ]
    with Peak() as alone:
        pass

    with Peak() as together, subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        wait_until(lambda: together.mb > alone.mb + 150)
        process.stdin.close()

    assert together.mb > alone.mb + 150


def wait_until(look):
    deadline = time.monotonic() + 120
    while not look() and time.monotonic() < deadline:
        time.sleep(0.05)


def test_the_agreement_run_proves_every_value_it_serves(monkeypatch):
    monkeypatch.setattr(agreement, "READS", 5)
    monkeypatch.setattr(agreement, "HOURS", 1)

    unequal, oracle, missed = agreement.rows(size=1)

    assert (unequal["value"], oracle["value"], missed["value"]) == (0, 0, 0)
    assert re.fullmatch(r"unequal among \d[\d,]+ served values, seeds 0 to 0", unequal["name"])
