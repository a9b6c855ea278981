"""Which training set drift is measured against: pinned by hand, else the newest; and what cannot be one."""

import json
import re
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from feature_store_deploy.assets.training import default_spine, write_training_set
from orders_world import Shop, midnight

from feature_store import FeatureService, InputError, Registry, agg
from feature_store.cli.app import run
from feature_store.history.baseline import feature_columns, newest_manifest
from feature_store.store import FeatureStore


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    shop = Shop(tmp_path_factory.mktemp("baseline"))
    with shop.store() as store:
        store.load("orders", start=midnight(0), end=midnight(9))
    return shop


@pytest.fixture
def store(shop):
    with shop.store() as store:
        yield store


def train(store, name, *, folder=None):
    """A training set as the asset writes it; returns its manifest."""
    service = store.registry.service("pricing")
    found = store.get_historical_features(default_spine(service, store), service, allow_incomplete=True)
    written = write_training_set(found, folder or store.training_folder(service), name)
    return written.with_suffix(".json")


def test_the_newest_training_set_counts_until_one_is_pinned_and_then_it_is_the_candidate(store):
    assert store.baselines("pricing") == (None, None)
    first = train(store, "first")
    pinned, newest = store.baselines("pricing")
    assert (pinned, newest.path, newest.pinned_us) == (None, str(first.absolute()), None)

    store.pin_baseline("pricing", first)
    pinned, newest = store.baselines("pricing")
    assert (pinned.path, newest) == (str(first.absolute()), None)
    assert pinned.rows.num_rows == 9 * 150
    assert pinned.manifest.snapshot in store.lake.pins()

    second = train(store, "second")
    pinned, newest = store.baselines("pricing")
    assert (pinned.path, newest.path) == (str(first.absolute()), str(second.absolute()))
    store.pin_baseline("pricing", second)
    assert store.baselines("pricing")[0].path == str(second.absolute())


def test_what_is_pinned_needs_its_files_no_longer(store, tmp_path):
    manifest = train(store, "elsewhere", folder=tmp_path)
    store.pin_baseline("pricing", manifest)
    rows = pq.read_table(manifest.with_suffix(".parquet"))
    manifest.unlink()
    manifest.with_suffix(".parquet").unlink()

    pinned, _ = store.baselines("pricing")

    names = list(feature_columns(store.compiled, store.registry.service("pricing")))
    assert names == ["spending__count_1d", "spending__amount_mean_1d", "spending__kind"]
    assert pinned.rows.select(names).equals(rows.select(names))


def refused(store, manifest, said):
    with pytest.raises(InputError, match=re.escape(said)):
        store.pin_baseline("pricing", manifest)


def test_what_is_no_training_set_of_the_service_as_it_is_now_is_refused(store, tmp_path, shop):
    manifest = train(store, "good", folder=tmp_path)
    text = manifest.read_text()
    refused(
        store, tmp_path / "none.json", f"the manifest '{tmp_path}/none.json' cannot be read: No such file or directory"
    )
    (tmp_path / "other.json").write_text("{}")
    refused(store, tmp_path / "other.json", "this is no manifest of a training set")
    manifest.write_text(json.dumps({**json.loads(text), "service": "pricing@2"}))
    refused(store, manifest, f"'{manifest}' must be a manifest of service 'pricing@1', but it is one of 'pricing@2'")
    manifest.write_text(text)

    view = shop.registry.view("spending")
    other = replace(view, features=[*view.declared[1:], *agg.count(over="1d", hop="6h").features()])
    registry = Registry(views=[other], services=[FeatureService("pricing", features=[other])])
    with FeatureStore(registry, settings=shop.settings, clock=shop.clock) as changed:
        refused(changed, manifest, "was made when these were defined otherwise: spending@1:count_1d; train again")

    manifest.with_suffix(".parquet").unlink()
    refused(store, manifest, f"the rows of '{manifest}' must stand beside it, in 'good.parquet'")
    assert newest_manifest(tmp_path) is None


def test_the_command_does_not_vouch_for_what_was_made_while_drift_was_over_its_limit(tmp_path, monkeypatch, capsys):
    shop = Shop(tmp_path / "shop")
    monkeypatch.setattr("feature_store.cli.baseline.FeatureStore", shop.store)
    with shop.store() as store:
        store.load("orders", start=midnight(0), end=midnight(2))
        newest = train(store, "newest")

    assert run(["baseline", "pricing"]) == 0

    counts, unless, candidate = capsys.readouterr().out.splitlines()
    assert counts.endswith("; the newest training set, nothing is pinned")
    assert "while drift was over its limit, it does not count yet" in unless
    assert candidate.endswith(f"; accept it with `feature-store baseline pricing {newest.absolute()}`")
    assert run(["baseline", "pricing", str(newest)]) == 0
    capsys.readouterr()
    assert run(["baseline", "pricing"]) == 0
    [pinned] = capsys.readouterr().out.splitlines()
    assert pinned.endswith("pinned 0 s ago")


def test_the_command_shows_pins_and_names_the_candidate(store, shop, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("feature_store.cli.baseline.FeatureStore", shop.store)
    manifest = train(store, "shown", folder=tmp_path)

    assert run(["baseline", "pricing", str(manifest)]) == 0
    assert f"pricing@1: {manifest}, 1,350 rows of snapshot" in capsys.readouterr().out
    candidate = train(store, "later")
    assert run(["baseline", "pricing"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith("pinned 0 s ago")
    assert told[1].startswith(f"candidate: {candidate.absolute()}, 1,350 rows")
    assert run(["baseline", "pricing", "nowhere.json"]) == 2
    assert "the manifest 'nowhere.json' cannot be read" in capsys.readouterr().err
    assert run(["baseline", "prices"]) == 2
    assert "unknown service 'prices'" in capsys.readouterr().err
