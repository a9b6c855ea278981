"""What results and declarations look like: a line as text, a table in a notebook, and nothing of it is markup."""

from datetime import timedelta

import pytest
from test_drafts import END, START, again, clock, registry, settings, source, spending, spine

from feature_store import FeatureService, FeatureStore, FeatureView, Registry, Status, agg
from feature_store.history.loading import LoadResult
from feature_store.html_table import html_table
from feature_store.reader.vector import FeatureVector, Names
from feature_store.time_rule import to_us


def vector(value="<b>&"):
    names = Names(
        service="risk",
        features=("spending:count_1d", "burst"),
        positions={"spending:count_1d": 0, "burst": 1},
        views=("spending@1",),
        view_of=(0, None),
    )
    sources = [1, 2, to_us(END), 0, to_us(START)]
    return FeatureVector([3, value], [Status.PRESENT, Status.UNKNOWN], names, sources)


def test_a_table_escapes_whatever_it_shows():
    shown = html_table("<title>", ["<column>"], [["<script>alert(1)</script>"], [None], [0]], notes=["a & b", ""])

    assert "<script>" not in shown
    assert "&lt;title&gt;" in shown
    assert "&lt;column&gt;" in shown
    assert "a &amp; b" in shown
    assert shown.count("<td") == 3
    assert ">0</td>" in shown


def test_a_vector_is_a_table_of_values_statuses_and_times():
    shown = vector()._repr_html_()

    for text in (
        "Features of risk",
        "spending:count_1d",
        "PRESENT",
        "UNKNOWN",
        START.isoformat(sep=" "),
        "&lt;b&gt;&amp;",
    ):
        assert f">{text}<" in shown


@pytest.mark.parametrize(
    ("thing", "line", "tells"),
    [
        (
            spending,
            "FeatureView(spending@1 of user from payments: count_1d, count_7d, amount_mean_7d, merchant_last_1d, ever, amount_last_2_7d)",
            ["user (user) from payments", "amount_mean_7d", "mean(amount)", "7d", "lifetime", "4.2%", "payments"],
        ),
        (
            source,
            "EventSource(payments: Payment by paid_at, each with payment_id)",
            ["Event source payments", "amount", "float64", "event time", "event id", "history: function", "not live"],
        ),
        (
            registry,
            "Registry(views: 3, services: 1, labels: 1)",
            ["spending@1", "daily@1", "risk@1", "again", "merchant"],
        ),
        (registry.service("risk"), None, ["Feature service risk@1", "spending@1", "burst"]),
        (
            FeatureService("s", features=[spending["count_1d"]], defaults={"spending:count_1d": 7}),
            None,
            [">spending@1:count_1d<", ">7<"],
        ),
    ],
    ids=["view", "source", "registry", "service", "defaults"],
)
def test_a_declaration_is_a_line_and_a_table(thing, line, tells):
    shown = thing._repr_html_()

    assert line is None or repr(thing) == line
    assert "\n" not in repr(thing)
    for text in tells:
        assert text in shown


def test_what_a_user_wrote_is_text():
    view = FeatureView(
        "v", entity=spending.entity, source=source, description="<img src=x>", where="amount < 5",
        features=[agg.count(over="1h", description="<i>")],
    )  # fmt: skip

    for shown in (view._repr_html_(), Registry(views=[view], labels=[again])._repr_html_()):
        assert "<img" not in shown
        assert "<i>" not in shown
        assert "&lt;img src=x&gt;" in shown


def test_a_load_is_told_in_a_line():
    days = tuple((START + timedelta(days=n)).date() for n in range(3))

    assert repr(LoadResult(rows=5, rejected=1, duplicates=2, conflicts=0, snapshot=7, days=days)) == (
        "LoadResult(rows=5, rejected=1, duplicates=2, conflicts=0, 2026-01-01 to 2026-01-03, snapshot=7)"
    )


def test_a_training_set_tells_what_it_was_made_from_and_what_is_missing(tmp_path):
    with FeatureStore(registry, settings=settings(tmp_path / "home"), clock=clock()) as store:
        store.load("payments", start=START, end=END)
        late = spine(names=[0, 99], times=50)
        found = store.get_historical_features(late, [spending], labels=["again"])

    shown = found._repr_html_()
    nulls = found.table.column("spending__amount_mean_7d").null_count
    assert 0 < nulls < 50
    assert repr(found) == f"TrainingSet(rows: 50, features: 6, labels: 1, served, snapshot {found.manifest.snapshot})"
    assert f">{nulls / 50:.1%}<" in shown
    assert f"label again: {found.manifest.labels['again']} rows whose window has not closed" in shown
    assert f"snapshot {found.manifest.snapshot}" in shown
    assert "First 5 rows" in shown
