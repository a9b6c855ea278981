"""The page and the lines that `make bench` writes."""

import json

from benchmarks.__main__ import demo_row, report
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

    page = report({"stream": lines}, seconds=61, busy=0.4)

    assert "| slow | 200 us | 100 us | 2.0 | ≤ 1.6 | **no** |" in page
    assert "| rate | 70 events/s | 100 events/s | 0.7 | ≥ 0.5 | yes |" in page
    assert "- slow: 200 us, ratio 2.0, limit ≤ 1.6" in page
    assert all(json.loads(json.dumps(line)) == line for line in lines)


def test_the_demo_s_time_is_read_from_its_last_line():
    assert demo_row("demo: auc_static=0.64 controls=3/3 seconds=200.5")["value"] == 200.5
