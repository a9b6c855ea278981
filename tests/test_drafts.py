"""Drafts: declarations that are not applied, on a sample of events, with the values that they will have once applied."""

import importlib
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest
from pandera.typing import Series

from feature_store import (
    DeclarationError,
    Entity,
    EventSource,
    FeatureService,
    FeatureStore,
    FeatureView,
    InputError,
    Label,
    LakeError,
    Registry,
    Settings,
    SettingsError,
    UnknownNameError,
    agg,
    ratio,
)
from feature_store.clock import ManualClock
from feature_store.lake import Lake
from feature_store.time_rule import to_us

START, DAYS = datetime(2026, 1, 1, tzinfo=UTC), 20
END = START + timedelta(days=DAYS)
NOWHERE = "redis://127.0.0.1:1/0"
TIME = pa.timestamp("us", tz="UTC")


class Payment(pandera.DataFrameModel):
    payment_id: Series[str]
    user: Series[str]
    merchant: Series[str]
    amount: Series[float]
    paid_at: Series[pd.DatetimeTZDtype] = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})


class Channelled(Payment):
    channel: Series[str] = pandera.Field(nullable=True)


def payments(count=4000, users=40):
    """Payments of twenty days, the last users' rarely; 1 in 20 arrives a day late."""
    draw = np.random.default_rng(5)
    paid_us = to_us(START) + np.sort(draw.integers(0, DAYS * 86_400_000_000, count))
    late_us = np.where(draw.random(count) < 0.05, 86_400_000_000, 0)
    return pa.table(
        {
            "payment_id": [f"p{n:05d}" for n in range(count)],
            "user": [f"u{n}" for n in (draw.pareto(1.5, count) * users / 6).astype(int) % users],
            "merchant": [f"m{n}" for n in draw.integers(0, 7, count)],
            "amount": draw.integers(1, 10_000, count) / 4,
            "paid_at": pa.array(paid_us).cast(TIME),
            "seen_at": pa.array(paid_us + late_us).cast(TIME),
        }
    )


TABLE = payments()
source = EventSource(
    "payments", schema=Payment, event_time="paid_at", event_id="payment_id", load=lambda _start, _end: TABLE,
    arrival="seen_at", history_start=START.date(),
)  # fmt: skip
user, merchant = Entity("user", join_keys=["user"]), Entity("merchant", join_keys=["merchant"])
spending = FeatureView(
    "spending",
    entity=user,
    source=source,
    features=[
        agg.count(over=["1d", "7d"], description="payments"),
        agg.mean("amount", over="7d"),
        agg.last("merchant", over="1d"),
        agg.count(over=None, name="ever"),
        agg.last_n("amount", n=2, over="7d"),
    ],
)
daily = FeatureView(
    "daily", entity=user, source=source, features=[agg.sum("amount", over="3d")], online="batch", every="12h",
    freshness_sla="2d",
)  # fmt: skip
takings = FeatureView("takings", entity=merchant, source=source, features=[agg.count(over="7d")])
burst = ratio("burst", spending["count_1d"], spending["count_7d"], empty=0.0)
again = Label("again", source.count(on="user", within="2d"))
registry = Registry(
    views=[spending, daily, takings],
    services=[FeatureService("risk", features=[spending, daily, burst])],
    labels=[again],
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A deployment whose lake is loaded and materialized."""
    home = tmp_path_factory.mktemp("deployment") / "home"
    with FeatureStore(registry, settings=settings(home), clock=clock()) as store:
        store.load("payments", start=START, end=END)
        store.materialize("daily", start=START, end=END)
    return home


def settings(home):
    return Settings(home=home, redis_url=NOWHERE)


def clock():
    return ManualClock(to_us(END))


def draft(home, declarations=registry, **options):
    return FeatureStore.local(declarations, settings=settings(home), clock=clock(), **options)


def spine(names=range(40), times=60):
    draw = np.random.default_rng(11)
    moments = to_us(START) + 8 * 86_400_000_000 + draw.integers(0, 11 * 86_400_000_000, times)
    return pa.table(
        {
            "user": [f"u{n}" for n in draw.choice(list(names), times)],
            "event_timestamp": pa.array(moments).cast(TIME),
        }
    )


def tree(folder):
    """Every file with its bytes; SQLite's two companions of a catalog that is being read are no content."""
    files = [path for path in Path(folder).rglob("*") if path.is_file() and not re.search(r"-(wal|shm)$", path.name)]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


# ---- the same values


@pytest.mark.parametrize("knowledge", ["served", "corrected"])
def test_a_draft_has_the_bits_that_the_applied_store_has(home, knowledge):
    asked = {"knowledge": knowledge, "statuses": True, "labels": ["again"]}
    with FeatureStore(registry, settings=settings(home), clock=clock()) as store:
        expected = store.get_historical_features(spine(), "risk", **asked)

    with draft(home) as made:
        found = made.get_historical_features(spine(), "risk", **asked)

    assert found.table.equals(expected.table)
    assert found.manifest.fingerprints == expected.manifest.fingerprints
    assert found.manifest.snapshot == expected.manifest.snapshot
    assert found.manifest.labels == expected.manifest.labels


def test_where_there_is_no_lake_the_loader_gives_the_events(home, tmp_path):
    with draft(home) as from_lake, draft(tmp_path / "none", start=START, end=END) as loaded:
        expected = from_lake.get_historical_features(spine(), "risk", labels=["again"])
        found = loaded.get_historical_features(spine(), "risk", labels=["again"])

    assert found.table.equals(expected.table)
    assert "there is no lake yet" in loaded._repr_html_()
    assert list(tmp_path.iterdir()) == []


def test_a_span_holds_all_that_its_windows_reach(home):
    view = FeatureView(
        "week", entity=user, source=source, features=[agg.count(over="7d"), agg.max("amount", over="7d")]
    )
    start, end = START + timedelta(days=10), START + timedelta(days=12)
    rows = pa.table({"user": ["u0", "u1", "u0"], "event_timestamp": pa.array([start, end, end], TIME)})
    with draft(home, view) as whole, draft(home, view, start=start, end=end) as part:
        assert part.get_historical_features(rows, view).table.equals(whole.get_historical_features(rows, view).table)
        assert part._filled[0].events < whole._filled[0].events

        with pytest.raises(
            InputError, match=r"knows the times from 2026-01-11 to 2026-01-13, but 2026-01-13 00:00:01 was"
        ):
            part.features(view, at=end + timedelta(seconds=1))


def test_a_share_of_the_entities_has_their_values_whole(home):
    with draft(home, spending) as whole, draft(home, spending, sample=0.5) as part:
        inside = part.entities("spending", limit=100)
        expected = whole.get_historical_features(spine(), spending).to_pandas()
        found = part.get_historical_features(spine(), spending, only_sampled=True)

        assert 5 < len(inside) < 35
        kept = expected[expected["user"].isin(inside["user"])].reset_index(drop=True)
        assert 0 < len(kept) < len(expected)
        pd.testing.assert_frame_equal(found.to_pandas(), kept)
        assert f"draft on 50 % of the entities ({len(inside)} user)" in found.sample
        assert found.sample in found._repr_html_()
        with pytest.raises(
            InputError, match=r"rows are about entities 'user' outside the sample of 50 %, such as \{'user'"
        ):
            part.get_historical_features(spine(), spending)


def test_a_larger_share_has_the_entities_of_a_smaller_one(home):
    def users(share):
        with draft(home, spending, sample=share) as made:
            return set(made.entities("spending", limit=100)["user"])

    assert users(0.3) < users(0.7)


def test_too_many_events_make_a_share_by_themselves(home, monkeypatch):
    monkeypatch.setattr("feature_store.notebook.filling.MOST_EVENTS", 1000)

    with draft(home, spending) as made:
        assert made.sample.share == 0.25


# ---- nothing is written


def test_a_draft_writes_nothing(home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = tree(home)

    with draft(home) as made:
        made.features("spending", at=END)
        made.distribution("daily:amount_sum_3d", at=END)

    assert tree(home) == before
    assert list(tmp_path.iterdir()) == []


def test_a_lake_that_is_only_read_refuses_to_be_written(home):
    with (
        Lake.open(home / "lake", read_only=True) as lake,
        pytest.raises(LakeError, match="is open for reading only; nothing was written"),
    ):
        lake.ensure_source("other", pa.schema([("id", pa.string())]))


def test_a_folder_that_may_not_be_written_is_read_or_says_why(home):
    """As another user: root may write everywhere."""
    script = (
        "import os, sys\nfrom feature_store.lake import Lake\nimport duckdb, pathlib\n"
        "from feature_store.lake import session\n"
        "os.setuid(65534)\n"
        "print(Lake.open(pathlib.Path(sys.argv[1]), read_only=True).sources())"
    )
    if subprocess.run(["id", "-u"], capture_output=True, text=True, check=True).stdout.strip() != "0":
        pytest.skip("only root may become another user")
    for parent in [home, *home.parents][:4]:
        parent.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", script, home / "lake"], capture_output=True, text=True, check=False, cwd="/"
    )
    assert "['payments']" in done.stdout or "cannot be opened" in done.stderr or "cannot be read (" in done.stderr, (
        done.stderr
    )


def test_no_such_lake_or_environment_is_named(home, tmp_path):
    with pytest.raises(LakeError, match="there is no lake at"):
        Lake.open(tmp_path, read_only=True)
    with pytest.raises(LakeError, match=r"unknown environment 'prod' \(known: dev\)"):
        Lake.open(home / "lake", env="prod", read_only=True)


# ---- declarations in whatever form


def test_a_module_is_read_again_as_it_is_now(home, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = "from test_drafts_declared import spending, registry\nfrom feature_store import FeatureView, agg\n"
    text += (
        "mine = FeatureView('mine', entity=spending.entity, source=spending.source, features=[agg.count(over='{}')])\n"
    )
    monkeypatch.setitem(sys.modules, "test_drafts_declared", sys.modules[__name__])
    (tmp_path / "my_features.py").write_text(text.format("1d"))
    module = importlib.import_module("my_features")
    module.__dict__.pop("registry")
    module.__dict__.pop("spending")
    (tmp_path / "my_features.py").write_text(text.format("2d") + "del registry, spending\n")

    with draft(home, module) as made:
        assert [feature.name for feature in made.registry.view("mine").declared] == ["count_2d"]
    (tmp_path / "my_features.py").write_text(text.format("3d"))
    with draft(home, "my_features:registry") as made:
        assert [view.name for view in made.registry.views] == ["spending", "daily", "takings"]
        assert module.mine.declared[0].name == "count_3d"
    del sys.modules["my_features"]


def test_views_services_and_labels_of_a_cell_are_declarations_too(home):
    with draft(home, [spending, FeatureService("s", features=[spending]), again]) as made:
        assert made.get_historical_features(spine(), "s", labels=["again"]).label_columns == ("again",)


@pytest.mark.parametrize(
    ("declarations", "error", "says"),
    [
        ([], InputError, "`declarations` must have a view, got none"),
        ([7], InputError, "must be a registry, a module, 'module:attribute', or views, services and labels, got 7"),
        ("no_such_module:registry", SettingsError, "must name a module and a registry in it"),
        (
            [
                FeatureView("a", entity=user, source=source, features=[agg.count(over="0h")]),
                FeatureView(
                    "b", entity=Entity("x", join_keys=["nobody"]), source=source, features=[agg.count(over="1h")]
                ),
            ],
            DeclarationError,
            "(?s)2 problems in the declarations.*'0h'.*nobody",
        ),
    ],
)
def test_what_is_no_declaration_is_refused(home, declarations, error, says):
    with pytest.raises(error, match=says):
        draft(home, declarations)


def test_a_column_that_the_lake_does_not_have_is_loaded(home):
    table = TABLE.append_column("channel", pa.array(["app", None] * 2000))
    wider = EventSource(
        "payments", schema=Channelled, event_time="paid_at", event_id="payment_id", load=lambda _start, _end: table
    )
    view = FeatureView("channels", entity=user, source=wider, features=[agg.last("channel", over="7d")])

    with pytest.raises(
        InputError, match="has to be loaded, because its column 'channel' is VARCHAR, in the lake missing"
    ):
        draft(home, view)
    with draft(home, view, start=START, end=END) as made:
        assert "app" in made.features(view, at=END).to_pandas()["channels__channel_last_7d"].tolist()
        assert "in the lake missing" in made._repr_html_()


def test_a_source_without_lake_and_loader_has_nothing_to_draft_with(tmp_path):
    bare = EventSource("bare", schema=Payment, event_time="paid_at", event_id="payment_id")
    view = FeatureView("v", entity=user, source=bare, features=[agg.count(over="1h")])

    with pytest.raises(InputError, match="source 'bare' has no `load=`, and there is no lake yet"):
        draft(tmp_path, view)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sample": 0}, "`sample` must be a share of the entities, more than 0 and at most 1, got 0"),
        ({"sample": "10 %"}, "`sample` must be a share of the entities, .* got '10 %'"),
        ({"start": datetime(2026, 1, 1)}, "`start` must carry a time zone"),  # noqa: DTZ001
        ({"start": "2026-01-05T00:00Z", "end": "2026-01-05T00:00Z"}, "`start` must lie before `end`, got 2026-01-05"),
    ],
)
def test_a_sample_that_is_none_is_refused(home, options, says):
    with pytest.raises(InputError, match=says):
        draft(home, **options)


# ---- looking


@pytest.fixture(scope="module")
def made(home):
    with draft(home) as made:
        yield made


def test_entities_and_the_events_behind_one(made):
    busiest = made.entities("spending", limit=3)
    events = made.events(spending, entity={"user": "u0"}, before=END - timedelta(days=1), limit=5)

    rows = TABLE.to_pandas()
    assert busiest.iloc[0].tolist()[:2] == ["u0", int((rows["user"] == "u0").sum())]
    expected = rows[(rows["user"] == "u0") & (rows["paid_at"] < END - timedelta(days=1))].tail(5)
    assert events["payment_id"].tolist() == expected["payment_id"].tolist()
    assert events["_arrived_at"].tolist() == expected["seen_at"].tolist()


def test_a_feature_over_time_is_the_training_set_of_these_times(made, home):
    found = made.over_time(
        "spending:count_1d", entity={"user": "u0"}, start=END - timedelta(days=2), end=END, every="6h"
    )

    times = [END - timedelta(days=2) + timedelta(hours=6) * n for n in range(9)]
    rows = pa.table({"user": ["u0"] * 9, "event_timestamp": pa.array(times, TIME)})
    with FeatureStore(registry, settings=settings(home), clock=clock()) as store:
        expected = store.get_historical_features(rows, ["spending:count_1d"]).table.column("spending__count_1d")
        same = store.over_time("spending:count_1d", entity={"user": "u0"}, start=times[0], end=END, every="6h")
    assert found.table.column("value").equals(expected)
    assert same.table.equals(found.table)
    assert (same.sample, found.sample) == ("", made.rests_on)
    assert found.to_pandas()["status"].unique().tolist() == ["PRESENT"]
    assert repr(found) == "OverTime(spending:count_1d of user u0: 9 values, every 6h)"


def test_a_distribution_is_over_entities_or_over_a_spine(made, home):
    at = made.distribution("spending:count_7d", at=END)
    over = made.distribution(burst, spine=spine())
    with FeatureStore(registry, settings=settings(home), clock=clock()) as store:
        same = store.distribution("spending:count_7d", at=END)

    users = set(TABLE.column("user").to_pylist())
    assert set(at.to_pandas()["user"]) == users
    assert same.table.equals(at.table)
    assert at.summary()["max"] == max(at.table.column("value").to_pylist())
    expected = made.get_historical_features(spine(), [burst]).table.column("burst")
    assert over.table.column("value").equals(expected)
    merchants = made.distribution("spending:merchant_last_1d", at=END)
    assert sum(merchants.summary().values()) + merchants.nulls == len(users)
    assert merchants.nulls > 0


@pytest.mark.parametrize(
    ("look", "error", "says"),
    [
        (lambda d: d.over_time("spending:nothing", entity={"user": "u0"}, start=START, end=END), UnknownNameError, "unknown feature of view 'spending' 'nothing'"),
        (lambda d: d.over_time("spending", entity={"user": "u0"}, start=START, end=END), InputError, "must be named as 'view:feature'"),
        (lambda d: d.over_time(spending, entity={"user": "u0"}, start=START, end=END), InputError, "`feature` must be 'view:feature', a handle"),
        (lambda d: d.over_time("spending:ever", entity={}, start=START, end=END), InputError, "`entity` must have a value for 'user', the join key 'user' of entity 'user', got"),
        (lambda d: d.over_time("spending:ever", entity={"user": None}, start=START, end=END), InputError, "must have a value for 'user'"),
        (lambda d: d.over_time("spending:ever", entity={"user": "u0", "shop": 1}, start=START, end=END), UnknownNameError, "unknown join key 'shop'"),
        (lambda d: d.over_time("spending:ever", entity={"user": "u0"}, start=END, end=START), InputError, "`start` must lie before `end`"),
        (lambda d: d.over_time("spending:ever", entity={"user": "u0"}, start=START, end=END, every="1s"), InputError, "`every` must leave at most 100,000 times"),
        (lambda d: d.over_time("spending:ever", entity={"user": "u0"}, start=START, end=END, every="often"), InputError, "`every` must be a positive duration"),
        (lambda d: d.over_time("spending:ever", entity={"user": "u0"}, start=START, end=END + timedelta(days=1)), InputError, "complete until 2026-01-21T00:00:00"),
        (lambda d: d.features(spending, at=START.replace(tzinfo=None)), InputError, "`at` must carry a time zone"),
        (lambda d: d.features([spending, takings], at=END), InputError, r"several entities \(merchant, user\): say which one with `entity`"),
        (lambda d: d.features(spending, at=START), InputError, "no entity of view 'spending' has an event before"),
        (lambda d: d.distribution("spending:ever"), InputError, "`at` a time, or over a `spine`: give one of them"),
        (lambda d: d.distribution("spending:amount_last_2_7d", at=END).plot(), InputError, "has lists for values"),
        (lambda d: d.distribution("spending:ever", spine=spine().append_column("value", [[1] * 60])), InputError, "spine column 'value' has the name of"),
        (lambda d: d.entities("spendings"), UnknownNameError, "did you mean 'spending'"),
        (lambda d: d.get_historical_features(spine(), "risky"), UnknownNameError, "did you mean 'risk'"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_at_is_said(made, look, error, says):
    with pytest.raises(error, match=says):
        look(made)


# ---- plots


@pytest.fixture
def pyplot(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    from matplotlib import pyplot as plt

    yield plt
    plt.close("all")


def test_over_time_is_drawn_as_steps_with_gaps(made, pyplot):
    start = END - timedelta(days=8)
    quiet = made.entities("spending", limit=100).iloc[-1]["user"]
    found = made.over_time("spending:amount_mean_7d", entity={"user": quiet}, start=start, end=END, every="1d")
    axes = found.plot()

    (line,) = axes.get_lines()
    values = [None if np.isnan(value) else value for value in line.get_ydata()]
    assert line.get_drawstyle() == "steps-post"
    assert values[:-1] == found.table.column("value").to_pylist()
    assert None in values
    assert axes.get_title(loc="left") == f"spending:amount_mean_7d of user {quiet}"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("UTC", "mean of amount")
    assert made.rests_on in [text.get_text() for text in axes.texts]


def test_values_that_are_text_have_their_names_on_the_axis(made, pyplot):
    found = made.over_time("spending:merchant_last_1d", entity={"user": "u0"}, start=END - timedelta(days=1), end=END)
    axes = found.plot(pyplot.subplots()[1])

    names = sorted({name for name in found.table.column("value").to_pylist() if name})
    assert [label.get_text() for label in axes.get_yticklabels()] == names


def test_a_distribution_is_drawn_with_every_value_once(made, pyplot):
    whole = made.distribution("spending:count_7d", at=END)
    bars = made.distribution("spending:merchant_last_1d", at=END)

    drawn = [sum(patch.get_height() for patch in whole.plot().patches)]
    drawn.append(sum(patch.get_width() for patch in bars.plot().patches))

    assert drawn == [whole.table.num_rows, bars.table.num_rows - bars.nulls]
    assert f"{bars.nulls:,} without a value" in pyplot.gca().texts[0].get_text()


def test_names_with_dollars_are_no_mathematics(made, pyplot):
    found = made.over_time("spending:ever", entity={"user": "$u_{0$"}, start=START, end=END)

    found.plot().figure.canvas.draw()


def test_without_matplotlib_the_extra_is_named(made, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(ImportError, match=r"install feature-store\[notebook\]"):
        made.distribution("spending:ever", at=END).plot()
