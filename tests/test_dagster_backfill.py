"""A backfill from code, where no daemon runs: real runs in Dagster's books, progress, errors in one line."""

import os
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from feature_store_deploy.assets import backfill
from feature_store_deploy.assets.backfill import Span, run_backfill, submit
from feature_store_deploy.assets.instance import dagster_instance, prepare_dagster_home

from feature_store.errors import FeatureStoreError, InputError
from feature_store.settings import Settings
from feature_store.store import FeatureStore

ROOT = Path(__file__).parent.parent
FIRST, END = date(2013, 1, 1), date(2013, 2, 5)
ASSETS = [dg.AssetKey(["dev", "events", "cancellations"]), dg.AssetKey(["dev", "tiles", "airport_cancellations"])]


@pytest.fixture
def home(tmp_path, flights_home, monkeypatch):
    (tmp_path / "flights").symlink_to(flights_home / "flights")
    monkeypatch.setenv("FEATURE_STORE_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    return tmp_path


def test_a_backfill_without_a_daemon_materializes_exactly_its_days_and_tells_how_far_it_is(home, capfd):
    told = []

    asked = Span(start=FIRST, end=END, assets=ASSETS, title="from code")
    done = run_backfill(Settings(), asked, on_progress=told.append)

    assert done.ok
    assert (done.done, done.failed, done.total) == (70, 0, 70)
    assert (done.runs, done.runs_done) == (2, 2)  # 31 days and 4
    assert [each.done for each in told] == sorted(each.done for each in told)
    assert told[-1] == done
    assert capfd.readouterr() == ("", "")
    with FeatureStore(settings=Settings()) as store:
        assert store.lake.days("cancellations").loaded == [FIRST + timedelta(days=n) for n in range(35)]
        assert len(store.lake.builds.fresh_days("tiles_airport_cancellations_v1", source="cancellations")) == 35
    with dg.DagsterInstance.from_config(str(prepare_dagster_home(Settings()))) as instance:
        [noted] = instance.get_backfills()
        assert (noted.title, noted.status.value) == ("from code", "COMPLETED_SUCCESS")
        for key in ASSETS:
            assert len(instance.get_materialized_partitions(key)) == 35


@pytest.mark.parametrize(
    ("cores", "concurrency", "setting", "threads"),
    [(8, 2, None, "4"), (2, 2, None, "1"), (2, 4, None, "1"), (8, 2, 3, "3")],
    ids=["divided", "one each", "no less than one", "as the setting says"],
)
def test_runs_at_a_time_share_the_cores(cores, concurrency, setting, threads, tmp_path, monkeypatch):
    told = {}

    def start(*_):
        told.update(os.environ)
        raise FeatureStoreError("no further")

    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(backfill, "code_location", start)
    settings = Settings(home=tmp_path, batch_threads=setting)

    with pytest.raises(FeatureStoreError, match="no further"):
        run_backfill(settings, Span(start=FIRST, end=END), concurrency=concurrency)

    assert told["FEATURE_STORE_BATCH_THREADS"] == threads
    assert "FEATURE_STORE_BATCH_THREADS" not in os.environ


def test_days_that_end_before_they_begin_are_refused():
    with pytest.raises(InputError, match=r"`start` must lie before `end`, got 2013-02-05 and 2013-01-01"):
        Span(start=END, end=FIRST)


# Dagster warns of itself where it loads definitions in the process that asks.
@pytest.mark.filterwarnings("ignore:Property .ScheduleDefinition.environment_vars. is deprecated:DeprecationWarning")
def test_assets_and_days_that_are_not_there_are_named(home):
    definitions = LoadableTargetOrigin(python_file=str(ROOT / "definitions.py"), working_directory=str(ROOT))
    here = InProcessWorkspaceLoadTarget(InProcessCodeLocationOrigin(definitions))
    with dagster_instance(Settings()) as instance, WorkspaceProcessContext(instance, here) as context:
        for path, first, message in (
            (["events", "departure"], FIRST, "no asset with daily partitions is called dev/events/departure"),
            (["online", "carrier_arrivals"], FIRST, "no asset with daily partitions is called dev/online/carrier_arrivals"),
            (["events", "cancellations"], date(2012, 12, 31), "there is no partition 2012-12-31: partitions reach from"),
        ):  # fmt: skip
            with pytest.raises(InputError, match=message):
                submit(context, first=first, last=END, assets=[dg.AssetKey(["dev", *path])])
        assert instance.get_backfills() == []
