"""Whatever stands in Redis, readers and APIs answer: with a status, or with an error that is theirs. Nothing crashes, hangs or grows."""

import asyncio
import functools
import json
import resource
import zlib
from contextlib import contextmanager, suppress
from datetime import date, datetime

import grpc
import httpx
import msgspec
import pytest
from access_world import JFK, KEYS, bearer
from api_server import running
from fuzzing import BOMBS, DEEP, damaged, edited, json_values, packed_values, tried
from hypothesis import given
from hypothesis import strategies as st
from online_world import features_key
from typed_world import COLUMNS, ITEMS, KINDS, ROW, TypedWorld

from feature_store import AsyncFeatureReader
from feature_store.catalog.document import DECLARED, history_field
from feature_store.declare.key import entity_key
from feature_store.errors import FeatureStoreError, OnlineStoreError
from feature_store.online.keys import (
    access_key,
    catalog_key,
    generation_key,
    layouts_key,
    ready_key,
    services_key,
    statistics_key,
)
from feature_store.online.packing import encode_rows
from feature_store.reader import FeatureReader, Status
from feature_store.reader.plan import KNOWN as PLAN_KNOWN
from feature_store.serving.grpc.v1 import features_pb2 as pb
from feature_store.serving.grpc.v1 import features_pb2_grpc as rpc
from feature_store.serving.grpc.values import value_of

ASKED = {
    "account": ROW,
    "asked": {**ROW, "amount": 3.0, "due": None, "code": 5},
    "halves": ROW,
    "score": {**JFK},
    "trip": KEYS["trip"],
    "account@1": ROW,
}
TYPES = {
    "int": {int}, "float": {float, int}, "bool": {bool}, "str": {str}, "timestamp": {datetime}, "date": {date}
}  # fmt: skip
CATALOG = ["/v1/catalog", "/v1/catalog/freshness", "/v1/catalog/views/legs"]
INPUTS = {"amount", "due", "code"}
CODES = {
    grpc.StatusCode.OK,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
}


@pytest.fixture(scope="module")
def world(valkey, module_environment):
    return TypedWorld(valkey.url, module_environment)


@pytest.fixture(scope="module")
def key(world):
    return world.key(services=["*"], views=["*"], personal=["guests"], admin=True)


@pytest.fixture(scope="module")
def api(world, key):
    with running(world) as api:
        yield api


@pytest.fixture(scope="module")
def http(api, key):
    with httpx.Client(base_url=api.url, headers=bearer(key), timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def stub(api):
    with grpc.insecure_channel(api.grpc) as channel:
        yield rpc.FeatureStoreStub(channel)


class Hostile:
    """Puts things where they do not belong, and back."""

    def __init__(self, world, api):
        self.world, self.api = world, api
        env, entity = world.env, features_key(world.env, "account", world.account)
        self.places = {
            "a row": (entity, "ledger@1"),
            "a row of an airport": (features_key(env, "airport", "JFK"), "departures@1"),
            "a row of a person": (features_key(env, "airport", "JFK", personal=True), "guests@1"),
            "a layout": (layouts_key(env), "ledger@1"),
            "a service": (services_key(env), "account@1"),
            "a service with functions": (services_key(env), "asked@1"),
            "a service that is personal": (services_key(env), "score@1"),
            "a version": (services_key(env), "account"),
            "a rollout": (services_key(env), "halves#rollout"),
            "a ready record": (ready_key(env), "0"),
            "the number of shards": (ready_key(env), "shards"),
            "the generation": (generation_key(env), None),
            "the keys": (access_key(env), None),
            "the catalog": (catalog_key(env), DECLARED),
            "a history": (catalog_key(env), history_field("view", "legs")),
            "statistics": (statistics_key(env), "legs@1"),
        }

    def found(self, place):
        name, field = self.places[place]
        return (self.world.client.get(name) if field is None else self.world.client.hget(name, field)) or b""

    def put(self, place, value):
        name, field = self.places[place]
        if not value and place in ("a history", "statistics"):
            self.world.client.hdel(name, field)
        elif field is None:
            self.world.client.set(name, value)
        else:
            self.world.client.hset(name, field, value)

    def forget(self):
        """As after a start, and a moment later."""
        reads, guard = self.api.app.state.reads, self.api.app.state.door.guard
        reads.published._until_s, reads.published._raw = 0.0, None
        reads.reader._core._routes.clear()
        reads.reader._core.connection_lost()
        guard._look_at_s, guard._raw = 0.0, None
        for route in self.api.app.routes:
            if route.path == "/v1/catalog":
                catalog = route.endpoint.__closure__[0].cell_contents.__self__
                catalog._until_s, catalog._raw = 0.0, None


@pytest.fixture(scope="module")
def hostile(world, api):
    return Hostile(world, api)


def check_vector(vector):
    """Each value is of its feature's kind, or none; whatever is ERROR has none."""
    told = list(zip(vector.kinds.items(), vector.values, vector.statuses, strict=True))
    strange = [each for each in told if each[1] is not None and not is_of(each[0][1], each[1])]
    assert strange == []
    assert all(value is None for _, value, status in told if status is Status.ERROR)
    assert all(isinstance(status, Status) for status in vector.statuses)
    assert all(isinstance(vector[name].event_time, datetime | None) for name in vector.names)


def is_of(kind, value):
    if kind.startswith("list of "):
        return type(value) is list and all(is_of(kind.removeprefix("list of "), each) for each in value)
    return type(value) in TYPES[kind]


def check_reads(hostile, http, stub, key):
    """Ask in every way; each answer is one that the documents know."""
    hostile.forget()
    world = hostile.world
    with FeatureReader(world.url, env=world.env, clock=world.clock, timeout_s=5, log_served=False) as reader:
        for name, row in ASKED.items():
            for as_of in (None, world.clock.at_us - 2_000_000):
                with suppress(FeatureStoreError):
                    check_vector(reader.get_online_features(name, row, as_of=as_of))
    asyncio.run(check_async_reader(world))
    for name, row in ASKED.items():
        check_paths(http, name, row)
        check_call(stub, key, name, row)
    for path in ("/openapi.json", "/v1/services", "/v1/services/account", "/v1/keys", "/v1/key", "/ready", *CATALOG):
        check_answer(http.get(path))


async def check_async_reader(world):
    async with AsyncFeatureReader(world.url, env=world.env, clock=world.clock, log_served=False) as reader:
        for name, row in ASKED.items():
            with suppress(FeatureStoreError):
                for vector in await reader.get_online_features_batch(name, [row, row]):
                    check_vector(vector)


def check_paths(http, name, row):
    path = f"/v1/services/{name}/features"
    inputs = {each: row[each] for each in row if each in INPUTS}
    body = {"keys": {each: row[each] for each in row if each not in INPUTS}, "event_times": True}
    check_answer(http.post(path, content=msgspec.json.encode(body | ({"inputs": inputs} if inputs else {}))))
    rows = msgspec.msgpack.encode({"rows": [row, row]})
    for accept in ("application/msgpack", "application/vnd.apache.arrow.stream"):
        headers = {"content-type": "application/msgpack", "accept": accept}
        check_answer(http.post(f"{path}/batch", content=rows, headers=headers))


def check_call(stub, key, name, row):
    asked = pb.GetFeaturesRequest(
        service=name, keys={each: value_of(value) for each, value in row.items()}, event_times=True
    )
    try:
        stub.GetFeatures(asked, timeout=20, metadata=[("authorization", f"Bearer {key}")])
    except grpc.RpcError as error:
        code = error.code()
    else:
        code = grpc.StatusCode.OK
    assert code in CODES


def check_answer(answer):
    assert answer.status_code in {200, 401, 403, 404, 409, 422, 503}, answer.text
    if answer.status_code == 200 and answer.headers["content-type"] == "application/json":
        told = answer.json()
        rows = told.get("rows", [told]) if isinstance(told, dict) else []
        assert all(set(_statuses(row)) <= set(Status.__members__) for row in rows if "statuses" in row)


def _statuses(row):
    return row["statuses"].values() if isinstance(row["statuses"], dict) else row["statuses"]


@contextmanager
def having(hostile, place, value):
    """Redis with something else at a place."""
    whole = hostile.found(place)
    hostile.put(place, value)
    try:
        yield
    finally:
        hostile.put(place, whole)


ROWS = ["a row", "a row of an airport", "a row of a person"]
JSON_PLACES = [
    "a layout",
    "a service",
    "a service with functions",
    "a service that is personal",
    "a rollout",
    "the keys",
]


@tried(25)
@given(st.data())
def test_anything_anywhere_is_a_status_or_a_typed_error(hostile, http, stub, key, data):
    place = data.draw(st.sampled_from(list(hostile.places)))
    value = data.draw(st.one_of(st.sampled_from(BOMBS), damaged(hostile.found(place)), st.binary(max_size=40)))

    with having(hostile, place, value):
        check_reads(hostile, http, stub, key)


@tried(25)
@given(st.data())
def test_rows_with_other_things_in_them_are_statuses(hostile, http, stub, key, data):
    place = data.draw(st.sampled_from(ROWS))
    row = msgspec.msgpack.decode(hostile.found(place))
    value = data.draw(edited(row, packed_values).filter(lambda each: each != row))

    with having(hostile, place, msgspec.msgpack.encode(value)):
        check_reads(hostile, http, stub, key)


@tried(20)
@given(st.data())
def test_layouts_services_rollouts_and_keys_with_other_things_in_them_are_typed_errors(hostile, http, stub, key, data):
    place = data.draw(st.sampled_from(JSON_PLACES))
    found = msgspec.json.decode(hostile.found(place))
    value = data.draw(edited(found, json_values))

    with having(hostile, place, json.dumps(value).encode()):
        check_reads(hostile, http, stub, key)


@functools.cache
def packed_bomb():
    packer = zlib.compressobj(1)
    return b"".join([*(packer.compress(b" " * (1 << 20)) for _ in range(400)), packer.flush()])


@pytest.mark.parametrize("place", ["the catalog", "a history", "statistics"])
@pytest.mark.parametrize(
    "value", [b"\xff", packed_bomb, zlib.compress(b"[" * DEEP), zlib.compress(b'[{"at": 1}]')[:-3], b"[1]"]
)
def test_a_catalog_that_cannot_be_read_is_a_store_that_says_nothing(hostile, http, place, value):
    value = value() if callable(value) else value
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with having(hostile, place, value):
        hostile.forget()
        statuses = [http.get(path).status_code for path in CATALOG]

    assert set(statuses) <= {200, 503}
    assert 503 in statuses
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 250 << 10  # KiB
    hostile.forget()
    assert http.get("/v1/catalog").status_code == 200


def test_rows_of_layouts_that_nobody_knows_cost_neither_memory_nor_a_read_without_end(world):
    """One layout is that of another row, as `apply` never writes it; of a hundred there is none."""
    strange = [world.ledger.layout_id + number for number in range(1, 101)]
    world.client.hset(layouts_key(world.env), f"ledger@1#{strange[0]}", msgspec.json.encode(world.ledger))
    rows = [{**ROW, "number": number} for number in range(100)]
    for row, layout_id in zip(rows, strange, strict=True):
        key = entity_key([*row.values()], KINDS, columns=COLUMNS)
        [value] = encode_rows(layout_id, 1, 7, [world.clock.at_us], [0], [0], [[item] for _, item in ITEMS.values()])
        world.put_bytes(world.ledger, key, value)

    with FeatureReader(world.url, env=world.env, clock=world.clock, log_served=False) as reader:
        vectors = reader.get_online_features_batch("account", rows)
        [view] = [view for fetch in reader._core._routes["account"].plan.fetches for view in fetch.views]

    assert {status for vector in vectors for status in vector.statuses} == {Status.UNKNOWN}
    assert len(view.layouts) <= PLAN_KNOWN


def test_what_stands_in_the_place_of_another_is_taken_for_neither(hostile, http, world):
    other_view = msgspec.json.encode(msgspec.structs.replace(world.views["legs@1"], features=[]))
    other_service = world.client.hget(services_key(world.env), "trip@1")

    with having(hostile, "a layout", other_view):
        hostile.forget()
        named = {"features": ["ledger:count_1h"], "rows": [ROW | {"day": "2024-02-29", "token": ""}]}
        assert "unknown online view 'ledger'" in http.post("/v1/features", json=named).json()["detail"]
        legs = {"features": ["legs:count_1d"], "rows": [KEYS["trip"]]}
        assert http.post("/v1/features", json=legs).json()["rows"][0]["values"] == [2]
    with having(hostile, "a service", other_service):
        hostile.forget()
        reader = FeatureReader(world.url, env=world.env, clock=world.clock)
        with reader, pytest.raises(OnlineStoreError, match="in the place of service 'account@1' stands 'trip@1'"):
            reader.get_online_features("account", ROW)
        paths = http.get("/openapi.json").json()["paths"]
        assert "/v1/services/trip/features" in paths
        assert "/v1/services/account/features" not in paths
