"""Two who apply to one project at once, each in a process of its own: one is first, the other is told, nothing is lost."""

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pandera.pandas as pandera
import pytest
from changing_world import Click, Deployment, clicks, user
from registry_server import schema_registry
from test_evolution_applied import WRITTEN

from feature_store import DeclarationError, FeatureView, Registry, agg
from feature_store.decoders import confluent_avro
from feature_store.online.keys import layouts_key

HERE = Path(__file__).parent


class Priced(Click):
    price: float = pandera.Field(nullable=True)


class Charged(Click):
    charge: float = pandera.Field(default=0.5)


class Both(Priced, Charged):
    pass


DECLARED = {
    "before": (Click, 1),
    "priced": (Priced, 1),
    "charged": (Charged, 1),
    "added": (Click, 2),
    "both": (Both, 1),
}
"""Declarations by name: the schema of the source, and how many views read it."""


def declared(name):
    """The registry of that name; records of its source are read by a schema that the schema registry is asked about."""
    schema, views = DECLARED[name]
    extra = [
        {"name": column, "type": ["null", "double"], "default": None}
        for column in ("price", "charge")
        if column in schema.to_schema().columns
    ]
    decoder = confluent_avro(
        registry_url=os.environ["SCHEMA_REGISTRY"],
        subject="clicks-value",
        reader_schema=WRITTEN | {"fields": [*WRITTEN["fields"], *extra]},
    )
    source = replace(clicks, schema=schema, decode=decoder)
    names = ["live", f"more_{name}"][:views]
    return Registry(
        views=[FeatureView(each, entity=user, source=source, features=[agg.count(over="1h")]) for each in names]
    )


@pytest.fixture
def place(valkey, tmp_path, environment):
    made = Deployment(valkey.url, tmp_path, environment)
    yield made
    made.close()


@pytest.fixture
def subject(monkeypatch):
    with schema_registry() as server:
        server.register("clicks-value", WRITTEN)
        monkeypatch.setenv("SCHEMA_REGISTRY", server.url)
        yield server


def started(place, name):
    """`feature-store apply` of the declarations of a name."""
    module = place.home / f"declared_{name}.py"
    module.write_text(f"from test_apply_processes import declared\nregistry = declared('{name}')\n")
    settings = {"HOME": place.home, "ENVIRONMENT": place.env, "REDIS_URL": place.url}
    settings["DECLARATIONS"] = f"declared_{name}:registry"
    return subprocess.Popen(
        [Path(sys.executable).parent / "feature-store", "apply"],
        env=os.environ
        | {f"FEATURE_STORE_{key}": str(value) for key, value in settings.items()}
        | {"PYTHONPATH": f"{HERE}{os.pathsep}{place.home}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("names", [("priced", "charged"), ("priced", "added")])
def test_of_two_processes_that_apply_at_once_one_is_told_and_leaves_no_trace(place, subject, names):
    # both:  read version 1, ask the schema registry, wait there for each other | write
    place.store(declared("before")).apply()
    subject.together = threading.Barrier(2)

    running = [started(place, name) for name in names]
    said = [process.communicate(timeout=120) for process in running]

    codes = [process.returncode for process in running]
    assert sorted(codes) == [0, 2], said
    first, second = (names[codes.index(code)] for code in (0, 2))
    assert "at version 1 when it was read and is at 2 now" in said[codes.index(2)][1]
    wanted = set(DECLARED[first][0].to_schema().columns)
    for table in ("events_clicks_live", "events_clicks_loaded"):
        assert {name for name in place._lake.columns(table) if not name.startswith("_")} == wanted
    applied = place.store(declared(first)).applied()
    assert (applied.version, set(applied.meanings.sources["clicks"].columns)) == (2, wanted)
    assert set(applied.meanings.features) == {f"{view.id}:count_1h" for view in declared(first).views}
    layouts = place.store(declared(first)).redis.hkeys(layouts_key(place.env))
    assert {name.decode().partition("#")[0] for name in layouts} == {view.id for view in declared(first).views}

    # Whoever was told goes on from what the first did; declarations without it are refused.
    subject.together = None
    if first == "added":
        assert place.store(declared(second)).apply() == []
    else:
        with pytest.raises(DeclarationError, match=r"'price'|'charge'"):
            place.store(declared(second)).apply()
    place.store(declared("both")).apply()
    assert {"price", "charge"} <= place._lake.columns("events_clicks_live").keys()
