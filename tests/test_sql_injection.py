"""SQL comes from declarations: what a request, a key, an event or a search says never becomes a part of it."""

import contextlib
import json
from datetime import UTC, datetime, timedelta

import duckdb
import httpx
import msgspec
import pandas as pd
import pandera.pandas as pa
import pytest
import shop
from access_world import JFK, SOURCE, bearer
from api_server import running
from typed_world import ROW, TypedWorld

from feature_store import DeclarationError, Entity, EventSource, FeatureStore, FeatureView, Registry, agg, csv
from feature_store.cli.app import run
from feature_store.errors import FeatureStoreError
from feature_store.settings import PREFIX
from feature_store.transforms.compiled import compile_registry

CANARY = "zq'\"canary\"'); DROP TABLE x; --"
RUNNERS = ["execute", "executemany", "sql", "query", "from_query"]
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def statements(monkeypatch):
    """Every SQL text that DuckDB is given from now on, in any thread."""
    given = []

    def watched(original):
        def call(connection, query, *more, **options):
            given.append(str(query))
            return original(connection, query, *more, **options)

        return call

    for name in RUNNERS:
        monkeypatch.setattr(duckdb.DuckDBPyConnection, name, watched(getattr(duckdb.DuckDBPyConnection, name)))
    duckdb.connect().execute("SELECT 42")
    assert given == ["SELECT 42"]
    given.clear()
    return given


def test_no_request_of_the_api_runs_any_sql(valkey, module_environment, statements):
    world = TypedWorld(valkey.url, module_environment)
    key = world.key(services=["*"], views=["*"], personal=["guests"], sources=[SOURCE], admin=True)
    event = {"uid": CANARY, "at": "2023-11-14T20:00:00Z", "site": CANARY, "tag": CANARY}

    with running(world) as api, httpx.Client(base_url=api.url, headers=bearer(key)) as client:
        statements.clear()  # of what was compiled for the declarations
        answers = [
            client.post(
                "/v1/services/account/features", content=msgspec.json.encode({"keys": {**ROW, "shop": CANARY}})
            ),
            client.post("/v1/features", json={"features": ["departures:count_1h"], "rows": [JFK | {"origin": CANARY}]}),
            client.post("/v1/features", json={"features": [CANARY], "rows": []}),
            client.post(f"/v1/sources/{SOURCE}/events", json={"events": [event]}),
            client.post(f"/v1/sources/{SOURCE}/events", json={"events": [event | {CANARY: 1, "level": CANARY}]}),
            client.get("/v1/services", params={"q": CANARY}),
            client.get("/openapi.json"),
            client.get(f"/v1/services/{CANARY}"),
        ]

    assert [answer.status_code for answer in answers] == [200, 200, 422, 200, 422, 200, 200, 404]
    assert statements == []


@pytest.fixture
def store(valkey, environment, tmp_path, monkeypatch):
    (tmp_path / "payments.csv").write_text("payment_id,customer,amount,paid_at\np1,ada,10.0,2026-03-01 09:00:00Z\n")
    monkeypatch.chdir(tmp_path)
    given = {
        "HOME": tmp_path / "home",
        "REDIS_URL": valkey.url,
        "ENVIRONMENT": environment,
        "DECLARATIONS": "shop:registry",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"{PREFIX}{name}", str(value))
    with FeatureStore() as store:
        store.apply()
        store.load("payments", start=BEGIN, end=BEGIN + timedelta(days=1))
        yield store


def test_values_of_keys_events_and_searches_are_bound_and_never_part_of_sql(store, statements, tmp_path):
    at = BEGIN + timedelta(hours=12)
    spine = pd.DataFrame({"customer": [CANARY, "ada"], "event_timestamp": [at, at], CANARY: [1, 2]})
    event = {"payment_id": CANARY, "customer": CANARY, "amount": 1.0, "paid_at": "2026-03-02T09:00:00Z"}
    (tmp_path / "events.jsonl").write_text(json.dumps(event))

    found = store.get_historical_features(spine, "risk", allow_incomplete=True)
    assert found.to_pandas().customer.tolist() == [CANARY, "ada"]
    with contextlib.suppress(FeatureStoreError):
        store.explain("spending:count_1h", {"customer": CANARY})
    for command in (
        ["publish", "payments", "events.jsonl"],
        ["explain", f"spending:{CANARY}", "customer=ada"],
        ["get", "risk", f"customer={CANARY}"],
        ["dead-letters", "list", "payments", "--reason", CANARY],
        ["dead-letters", "list", CANARY],
        ["keys", "create", CANARY, "--service", "risk"],
        ["keys", "revoke", CANARY],
        ["rollout", "report", "risk", "--label", CANARY],
        ["verify", "--service", CANARY],
        ["materialize", CANARY, "--start", "2026-03-01", "--end", "2026-03-02"],
    ):
        assert run(command) in (0, 2)

    assert len(statements) > 20
    assert [each for each in statements if "canary" in each] == []


def test_names_in_declarations_have_no_quotation_marks():
    class Odd(pa.DataFrameModel):
        payment_id: str
        customer: str = pa.Field(alias=CANARY)
        paid_at: pd.DatetimeTZDtype = pa.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})

    odd = EventSource("odd", schema=Odd, event_time="paid_at", event_id="payment_id", load=csv("x.csv"))
    count = {"source": shop.payments, "features": [agg.count(over="1h")]}
    customer = Entity("customer", join_keys=["customer"])
    for views in (
        [FeatureView(CANARY, entity=customer, **count)],
        [FeatureView("v", entity=Entity(CANARY, join_keys=["customer"]), **count)],
        [FeatureView("v", entity=Entity("e", join_keys=[CANARY]), source=odd, features=[agg.count(over="1h")])],
        [FeatureView("v", entity=customer, source=EventSource(CANARY, schema=shop.Payment, event_time="paid_at", event_id="payment_id"), features=[agg.count(over="1h")])],
    ):  # fmt: skip
        with pytest.raises(DeclarationError, match="DROP TABLE"):
            compile_registry(Registry(views=views))
