"""On-demand features over a real store: readers, the HTTP API, training sets, the log of served vectors and its proof."""

import asyncio
import dataclasses
import json
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta

import httpx
import jsonschema
import msgspec
import pyarrow as pa
import pytest
from demanded import registry, service, spending, times_usual

from feature_store import (
    AsyncFeatureReader,
    FeatureReader,
    FeatureStore,
    FunctionFailed,
    InputError,
    Registry,
    Settings,
    Status,
    on_demand,
    request,
)
from feature_store.changes import compare, meanings
from feature_store.cli.app import run
from feature_store.clock import ManualClock
from feature_store.decoders import json as json_decoder
from feature_store.fold.archive import Archiver, CommitArchiver
from feature_store.fold.run import LocalStream
from feature_store.log.protocol import Record
from feature_store.proof.served_archive import ServedArchiver
from feature_store.proof.served_table import SERVED_TABLE
from feature_store.proof.verify import verify
from feature_store.reader.given import functions_of
from feature_store.serving.app import build_app
from feature_store.serving.worker import _functions
from feature_store.time_rule import MINUTE_US, SECOND_US, from_us, to_us

BEGIN = datetime(2026, 3, 1, 6, tzinfo=UTC)
DUE = datetime(2026, 3, 5, 12, 30, 1, 250, tzinfo=UTC)
ASKED = {
    "amount": 120.5, "born": date(1990, 2, 28), "code": 5, "channel": "app", "due": DUE, "angle": 12.25
}  # fmt: skip
DECLARED = Registry(views=[spending], services=[dataclasses.replace(service, log_rate=1.0)])


def paid(number, customer, minutes, **values):
    return {
        "payment_id": f"p{number}", "customer": customer, "merchant": f"m{number}", "amount": 10.0 * number, "home": True,
        "paid_at": BEGIN + timedelta(minutes=minutes), **values,
    }  # fmt: skip


EVENTS = [paid(1, "ada", 0), paid(2, "ada", 30, merchant=None), paid(3, "bob", 50, amount=None), paid(4, "ada", 58)]


class World:
    """A store with some events; all reads are logged."""

    def __init__(self, url, home, environment):
        self.clock = ManualClock(to_us(BEGIN) + 60 * MINUTE_US + 7 * SECOND_US)
        settings = Settings(home=home, redis_url=url, environment=environment)
        self.store = FeatureStore(DECLARED, settings=settings, clock=self.clock)
        self.store.apply()
        payloads = json_decoder().encode(EVENTS)
        self.store.log("payments").publish(
            [Record(e["payment_id"], p, to_us(e["paid_at"])) for e, p in zip(EVENTS, payloads, strict=True)]
        )
        self.stream = LocalStream(
            self.store.compiled, self.store.lake, self.store.redis, env=environment, clock=self.clock
        )
        self.stream.step()

    def archive(self):
        store, environment = self.store, self.store.settings.environment
        Archiver(store.compiled, store.lake, store.log("payments"), source="payments").step()
        CommitArchiver(store.lake, store.redis, environment).step()
        served = ServedArchiver(store.compiled, store.lake, store.redis, environment)
        while served.step():
            pass

    def reader(self, **options):
        settings = self.store.settings
        options = {"functions": self.store.registry, "log_served": False, **options}
        return FeatureReader(settings.redis_url, env=settings.environment, clock=self.clock, **options)


@pytest.fixture(scope="module")
def world(valkey, tmp_path_factory, module_environment):
    made = World(valkey.url, tmp_path_factory.mktemp("demanded"), module_environment)
    with made.store.reader() as reader:
        rows = [{"customer": name, **ASKED, "code": 2**60 + i} for i, name in enumerate(["ada", "bob", "nobody", None])]
        reader.get_online_features_batch("fraud", rows)
        made.clock.move_to(made.clock.now_us() + MINUTE_US + 1)
        made.stream.step()
        reader.get_online_features_batch("fraud", [*rows, {**rows[0], "code": 13, "due": None}])
        reader.get_online_features("fraud", rows[0], as_of=to_us(BEGIN) + 100 * MINUTE_US)
    made.archive()
    yield made
    made.store.close()


def test_a_vector_is_the_training_row_of_its_time(world):
    rows = [{"customer": name, **ASKED} for name in ("ada", "bob", "nobody", None)]
    with world.reader() as reader:
        vectors = reader.get_online_features_batch("fraud", rows)
    now = from_us(world.clock.now_us())
    spine = pa.table(
        {
            **{name: pa.array([row[name] for row in rows]) for name in rows[0]},
            "event_timestamp": pa.array([now] * 4, pa.timestamp("us", tz="UTC")),
        }
    )

    found = world.store.get_historical_features(spine, "fraud", statuses=True, allow_incomplete=True)

    assert list(found.feature_columns) == list(vectors[0].names)
    for name in found.feature_columns:
        column = [v.astimezone(UTC) if isinstance(v, datetime) else v for v in found.table.column(name).to_pylist()]
        assert repr(column) == repr([vector[name].value for vector in vectors]), name
        assert found.table.column(f"{name}__status").to_pylist() == [vector[name].status for vector in vectors], name
    assert vectors.to_arrow().schema.names == list(found.feature_columns)


def test_the_asyncio_reader_and_the_http_api_say_the_same(world):
    row = {"customer": "ada", **ASKED}
    settings = world.store.settings

    async def read():
        async with AsyncFeatureReader(
            settings.redis_url, env=settings.environment, clock=world.clock, functions=registry, log_served=False
        ) as reader:
            return await reader.get_online_features("fraud", row)

    with world.reader() as reader:
        expected = reader.get_online_features("fraud", row)
    found = asyncio.run(read())
    told = post(world, "/v1/services/fraud/features", {"keys": {"customer": "ada"}, "inputs": ASKED}).json()

    assert (found.values, found.statuses) == (expected.values, expected.statuses)
    assert told["values"] == json.loads(msgspec.json.encode(expected.to_dict()))
    assert told["statuses"] == {name: expected[name].status.name for name in expected.names}


def test_what_was_served_is_proved_and_a_wrong_value_is_found_to_be_wrong_logic(world):
    [verdict] = verify(world.store.compiled, world.store.lake)

    assert (verdict.vectors, verdict.unequal, verdict.defects, verdict.pending) == (10, 0, 0, 0)
    assert {each.feature: each.values for each in verdict.features}["hour_sin"] == 10

    with world.store.lake.cursor() as cursor:
        cursor.execute(
            f"UPDATE {SERVED_TABLE} SET times_usual = times_usual + 1, hour_sin = 0.5 WHERE customer = 'ada'"
        )
    [verdict] = verify(world.store.compiled, world.store.lake)

    wrong = {each.feature: dict(each.causes) for each in verdict.features if each.unequal}
    # One of the four was served as STALE, and says itself that it may be wrong.
    assert wrong == {"times_usual": {"logic": 3}, "hour_sin": {"logic": 4}}


def test_a_function_that_was_changed_is_another_feature_and_served_values_are_not_its(world):
    @on_demand(
        inputs={"amount": request(float), "usual": spending["amount_mean_24h"]}, returns=float, name="times_usual"
    )
    def changed(amount, usual):
        return amount / usual * 3

    features = [changed if item is times_usual else item for item in service.features]
    after = Registry(views=[spending], services=[dataclasses.replace(service, features=features)])

    [change] = compare(meanings(registry), meanings(after))

    assert (change.what, change.breaking) == ("service fraud@1", True)
    assert "times_usual" in change.reason


def test_a_reader_without_a_function_serves_all_else_and_says_what_it_lacks(world, caplog):
    with world.reader(functions=[]) as reader:
        vector = reader.get_online_features("fraud", {"customer": "ada", **ASKED})
        reader.get_online_features("fraud", {"customer": "ada", **ASKED})

    lacking = {name for name in vector.names if vector[name].status is Status.ERROR}
    assert {"times_usual", "several_large", "together", "level"} <= lacking
    assert (vector["channel_app"], vector["hour_sin"].status) == ((1, Status.PRESENT, None), Status.PRESENT)
    [told] = [record.message for record in caplog.records if "'times_usual' is ERROR" in record.message]
    assert "this reader has no function that means what was applied" in told
    assert "the setting FEATURE_STORE_FUNCTIONS" in told


def test_a_function_that_fails_on_a_row_takes_no_other_with_it(world, caplog):
    rows = [{"customer": "ada", **ASKED, "code": code} for code in (None, 1, 13, 2)]
    with world.reader() as reader:
        vectors = reader.get_online_features_batch("fraud", rows)
        runs = reader.runs["fragile"]

    assert [vector["fragile"].value for vector in vectors] == [None, 7, None, 8]
    assert [vector["fragile"].status.name for vector in vectors] == ["EMPTY", "PRESENT", "ERROR", "PRESENT"]
    assert {v["times_usual"].status for v in vectors} == {Status.PRESENT}
    assert (runs.calls, runs.rows, runs.failed) == (1, 3, 1)
    assert "on-demand function 'fragile', row 2: raised ValueError: thirteen" in caplog.text


def test_in_training_the_error_names_function_and_row(world):
    spine = pa.table(
        {
            "customer": ["nobody", "ada", "ada", "ada"], "code": [13, 1, 13, 13],
            "event_timestamp": pa.array([BEGIN + timedelta(hours=1)] * 4, pa.timestamp("us", tz="UTC")),
        }
    )  # fmt: skip

    # Nobody has paid nothing, so he has a count, and the first row fails; only then the third.
    for first, expected in ((0, 0), (1, 1)):
        with pytest.raises(FunctionFailed, match=r"'fragile', row .: raised ValueError: thirteen") as error:
            world.store.get_historical_features(spine.slice(first), [service.features[2]], allow_incomplete=True)
        assert error.value.row == expected


@on_demand(inputs={"amount": request(float)}, returns=float)
def share_of_all(amount):
    return amount / amount.sum()


@on_demand(inputs={"amount": request(float)}, returns=int)
def half(amount):
    return amount / 2


@on_demand(inputs={"amount": request(float)}, returns=float)
def one_number(amount):
    return float(amount[0])


@on_demand(inputs={"amount": request(float)}, returns={"a": float, "b": float})
def misnamed(amount):
    return {"a": amount, "c": amount}


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        (
            share_of_all,
            "'share_of_all', row 0: must depend on its own row only, but is .*0.25.* among 4 rows and .*1.0.* alone",
        ),
        (half, "'half', row 0: must return int, got float64"),
        (one_number, "'one_number', row 0: must return a column of 1 value, got the single value 1.0"),
        (misnamed, "'misnamed', row 0: must return the outputs a, b, got a, c"),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_a_function_that_is_no_function_of_its_row_or_not_of_its_type_is_refused(world, feature, said):
    times = pa.array([BEGIN] * 4, pa.timestamp("us", tz="UTC"))

    with pytest.raises(FunctionFailed, match=said):
        world.store.get_historical_features(
            pa.table({"amount": [1.0] * 4, "event_timestamp": times}), [feature], allow_incomplete=True
        )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"amount": "120"}, "service 'fraud': `amount` must be a number, got '120'"),
        ({"amount": True}, "service 'fraud': `amount` must be a number, got True"),
        ({"code": 1.5}, "service 'fraud': `code` must be an integer of 64 bits, got 1.5"),
        ({"code": 2**63}, "service 'fraud': `code` must be an integer of 64 bits"),
        ({"due": datetime(2026, 3, 1)}, "service 'fraud': `due` must be a datetime with a time zone"),  # noqa: DTZ001
        ({"born": DUE}, "service 'fraud': `born` must be a date"),
        ({"channel": 7}, "service 'fraud': `channel` must be text, got 7"),
    ],
)  # fmt: skip
def test_a_request_of_another_type_is_refused_in_serving_and_in_training(world, changes, said):
    row = {"customer": "ada", **ASKED, **changes}
    with world.reader() as reader, pytest.raises(InputError) as error:
        reader.get_online_features("fraud", row)
    assert said in str(error.value)
    [name] = changes
    columns = {key: pa.array([row[key]], pa.uint64() if row[key] == 2**63 else None) for key in row}
    spine = pa.table({**columns, "event_timestamp": pa.array([BEGIN], pa.timestamp("us", tz="UTC"))})
    with pytest.raises(InputError, match=f"spine column '{name}' must be"):
        world.store.get_historical_features(spine, "fraud", allow_incomplete=True)


def test_a_column_that_is_missing_is_named_with_what_needs_it(world):
    row = {"customer": "ada", **{name: value for name, value in ASKED.items() if name != "code"}}

    with world.reader() as reader, pytest.raises(InputError) as error:
        reader.get_online_features_batch("fraud", [{**row, "code": 1}, row])

    assert "row 1: service 'fraud' needs the column `code` (int) for 'fragile', 'together', got `customer`" in str(
        error.value
    )


@pytest.mark.parametrize(
    ("variable", "named", "status"),
    [
        ("FUNCTIONS", "demanded:registry", "PRESENT"),
        ("DECLARATIONS", "demanded:registry", "PRESENT"),
        ("DECLARATIONS", "nowhere:registry", "ERROR"),
    ],
)
def test_the_command_line_runs_the_functions_that_are_at_hand(world, monkeypatch, capsys, variable, named, status):
    settings = world.store.settings
    monkeypatch.setenv("FEATURE_STORE_REDIS_URL", settings.redis_url)
    monkeypatch.setenv("FEATURE_STORE_ENVIRONMENT", settings.environment)
    monkeypatch.setenv(f"FEATURE_STORE_{variable}", named)

    given = [f"{name}={value.isoformat() if isinstance(value, date) else value}" for name, value in ASKED.items()]

    assert run(["get", "fraud", "customer=ada", *given, "--as-of", from_us(world.clock.now_us()).isoformat()]) == 0

    [line] = [line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["times_usual"]]
    assert status in line


def test_the_command_line_reads_what_functions_take_by_their_types(world, monkeypatch, capsys):
    settings = world.store.settings
    monkeypatch.setenv("FEATURE_STORE_REDIS_URL", settings.redis_url)
    monkeypatch.setenv("FEATURE_STORE_ENVIRONMENT", settings.environment)
    monkeypatch.setenv("FEATURE_STORE_FUNCTIONS", "demanded:registry")
    given = [f"{name}={value.isoformat() if isinstance(value, date) else value}" for name, value in ASKED.items()]

    assert run(["get", "fraud", "customer=ada", *given, "--as-of", from_us(world.clock.now_us()).isoformat()]) == 0
    shown = capsys.readouterr().out
    assert run(["get", "fraud", "customer=ada", *given, "code=x"]) == 2

    assert "several_day" in shown
    assert "1990-03-01" in shown
    assert "`code` must be int, got 'x'" in capsys.readouterr().err


def test_a_server_runs_the_functions_of_its_settings_or_of_its_declarations():
    digest = times_usual.function.digest
    for changes in ({"functions": "demanded:registry"}, {"api_publish": True, "declarations": "demanded:registry"}):
        found = functions_of(_functions(Settings(**changes)))
        assert found.find("times_usual", digest, "") == times_usual.function
    assert _functions(Settings(declarations="demanded:registry")) == ()


# ---- HTTP


@asynccontextmanager
async def api(world):
    settings = world.store.settings
    app = build_app(settings.redis_url, env=settings.environment, clock=world.clock, functions=registry)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


def post(world, path, body, then=None):
    async def run():
        async with api(world) as client:
            headers = {"content-type": "application/json"}
            answer = await client.post(path, content=msgspec.json.encode(body), headers=headers)
            return answer if then is None else (answer, await client.get(then))

    return asyncio.run(run())


def test_what_functions_take_are_typed_fields_of_the_request(world):
    inputs = {**ASKED, "tip": 2.5}
    answer = post(world, "/v1/services/fraud/features/batch", {"rows": [{"customer": "ada", **inputs}] * 2})
    missing = post(world, "/v1/services/fraud/features", {"keys": {"customer": "ada"}, "inputs": {"amount": 1}})
    wrong = post(world, "/v1/services/fraud/features", {"keys": {"customer": "ada"}, "inputs": {**ASKED, "code": "x"}})
    none = post(world, "/v1/services/fraud/features", {"keys": {"customer": "ada"}})

    assert answer.status_code == 200
    with world.reader() as reader:
        expected = reader.get_online_features("fraud", {"customer": "ada", **inputs})
    assert answer.json()["rows"][0]["values"] == json.loads(msgspec.json.encode(expected.values))
    assert [each.status_code for each in (missing, wrong, none)] == [422] * 3
    assert "missing required field `born`" in missing.json()["detail"]
    assert wrong.json()["detail"] == "`inputs.code`: expected `int | null`, got `str`"
    assert "missing required field `inputs`" in none.json()["detail"]


def test_a_misspelt_input_that_may_be_left_out_is_not_its_default(world):
    path, keys = "/v1/services/fraud/features", {"customer": "ada"}

    one = post(world, path, {"keys": keys, "inputs": {**ASKED, "tipp": 2.5}})
    many = post(world, f"{path}/batch", {"rows": [{**keys, **ASKED}, {**keys, **ASKED, "tipp": 2.5}]})

    assert (one.status_code, one.json()["detail"]) == (422, "`inputs`: object contains unknown field `tipp`")
    assert (many.status_code, many.json()["detail"]) == (422, "`rows[1]`: object contains unknown field `tipp`")


def test_the_document_has_the_inputs_and_the_list_of_services_too(world):
    async def run():
        async with api(world) as client:
            return (await client.get("/openapi.json")).json(), (await client.get("/v1/services/fraud")).json()

    document, told = asyncio.run(run())

    asked = document["components"]["schemas"]["FraudV1Inputs"]
    assert set(asked["required"]) == ASKED.keys()  # `tip` has a default
    assert asked["properties"]["tip"]["default"] == 1.5
    for name in ("FraudV1Inputs", "FraudV1Row"):
        assert document["components"]["schemas"][name]["additionalProperties"] is False
    assert asked["properties"]["due"]["anyOf"][0]["format"] == "date-time"
    assert told["inputs"] == {
        "amount": "float", "tip": "float", "born": "date", "code": "int", "channel": "str", "due": "timestamp",
        "angle": "float",
    }  # fmt: skip
    body = json.loads(msgspec.json.encode({"keys": {"customer": "ada"}, "inputs": ASKED}))
    schema = {"$ref": "#/components/schemas/FraudV1Request", "components": document["components"]}
    jsonschema.validate(body, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**body, "inputs": {**body["inputs"], "code": "x"}}, schema)


def test_runs_of_functions_are_in_the_metrics(world):
    _, metrics = post(
        world, "/v1/services/fraud/features", {"keys": {"customer": "ada"}, "inputs": {**ASKED, "code": 13}}, "/metrics"
    )

    assert 'on_demand_seconds_count{feature="times_usual"} 1.0' in metrics.text
    assert 'on_demand_failures_total{feature="fragile"} 1.0' in metrics.text
