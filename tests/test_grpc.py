"""The gRPC API over a real Valkey: every answer is what the Python reader says, every wrong call one code with its reason."""

import asyncio
import re
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status as RpcStatus
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_tools import protoc
from hypothesis import given
from hypothesis import strategies as st
from online_world import NOW_US, World, departures, item, legs, ratio, service, weather

from feature_store.computed.encodings import bucketing
from feature_store.errors import InputError
from feature_store.online.layout import FunctionLayout, InputLayout, OnDemandItem, OutputLayout, RequestItem
from feature_store.online.rollout import Rollout, rollout_fields
from feature_store.reader import FeatureReader, Status
from feature_store.serving.about import State
from feature_store.serving.app import build_app
from feature_store.serving.grpc.api import SERVICE, GrpcApi
from feature_store.serving.grpc.v1 import features_pb2 as pb
from feature_store.serving.grpc.v1 import features_pb2_grpc as rpc
from feature_store.serving.grpc.values import column_of, python_column, python_value, value_of
from feature_store.serving.limits import Limits
from feature_store.time_rule import SECOND_US, from_us, to_us

COUNT, MEAN = item("departures", "count_1h"), item("departures", "mean_1h")
KINDS = ("last_tail", "last_at", "day", "tails")
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
PROTO = "feature_store/serving/grpc/v1/features.proto"
ROOT = Path(__file__).parent.parent


@pytest.fixture
def world(valkey, environment):
    made = World(valkey.url, environment)
    view, route = departures(), legs()
    kinds = departures(features=KINDS, name="kinds")
    made.publish(
        view,
        route,
        kinds,
        weather(),
        services=[
            service(COUNT, MEAN, ratio("share", COUNT, MEAN), item("weather", "wind"), defaults={"weather:wind": 7}),
            service(COUNT, version=2, name="delay"),
            service(item("legs", "count_1d"), COUNT, name="trip"),
            service(*(item("kinds", name) for name in KINDS), name="kinds"),
        ],
    )
    made.client.hset(f"services:{environment}", "delay", 1)
    made.put(view, "JFK", 3, 12.0)
    made.put(route, "JFK|LAX", 2)
    made.put(kinds, "JFK", "N1", NOW_US, 19_000, [["N1", "N2"]])
    made.ready()
    return made


@asynccontextmanager
async def api(world, *, limits=None, state=None, counts=None):
    """A running server, and a channel to it; `counts` is given what reads its metrics."""
    state = state or State()
    app = build_app(world.url, env=world.env, clock=world.clock, limits=limits, state=state)
    if counts is not None:
        counts.append(lambda: app.state.reads.metrics.text().decode())
    server = GrpcApi(app.state.reads, state, door=app.state.door)
    async with app.router.lifespan_context(app):
        port = await server.start("127.0.0.1:0")
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield channel
        finally:
            await server.stop()


def call(world, method, request, *, timeout=10, **options):
    """The answer to one call."""

    async def run():
        async with api(world, **options) as channel:
            asked = getattr(rpc.FeatureStoreStub(channel), method)(request, timeout=timeout)
            return (await asyncio.gather(asked, return_exceptions=True))[0]

    answer = asyncio.run(run())
    if isinstance(answer, BaseException):
        raise answer
    return answer


def refused(world, method, request, **options):
    """The code of a refused call, its sentence, and its details for machines."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        call(world, method, request, **options)
    return caught.value.code(), caught.value.details(), details(caught.value)


def details(error):
    found = RpcStatus.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert (found.code, found.message) == (error.code().value[0], error.details())
    info = ErrorInfo()
    assert found.details[0].Unpack(info)
    assert info.domain == "feature-store"
    return info


def keys(**row):
    return {name: value_of(value) for name, value in row.items()}


def columns(kind="str", **named):
    return {name: column_of(name, kind, values) for name, values in named.items()}


def told(answer):
    """A vector as (name, value, status)."""
    return [(each.name, python_value(each.value), Status(each.status - 1)) for each in answer.features]


def rows_of(part):
    """Rows as the reader has them: values and statuses of each."""
    values = zip(*(python_column(column.values) for column in part.columns), strict=True)
    statuses = zip(*([Status(each - 1) for each in column.statuses] for column in part.columns), strict=True)
    return [(list(value), list(status)) for value, status in zip(values, statuses, strict=True)]


def expected(world, name, rows, **options):
    with FeatureReader(world.url, env=world.env, clock=world.clock) as reader:
        return reader.get_online_features_batch(name, rows, **options)


def test_a_row_of_a_service_has_values_and_statuses(world):
    answer = call(world, "GetFeatures", pb.GetFeaturesRequest(service="delay", keys=keys(origin="JFK")))

    assert answer.service == "delay@1"
    assert told(answer) == [
        ("departures:count_1h", 3, Status.PRESENT),
        ("departures:mean_1h", 12.0, Status.PRESENT),
        ("share", 0.25, Status.PRESENT),
        ("weather:wind", 7, Status.UNKNOWN),
    ]


def test_values_of_every_kind_come_as_they_are(world):
    one = call(world, "GetFeatures", pb.GetFeaturesRequest(service="kinds", keys=keys(origin="JFK")))
    rows = [{"origin": "JFK"}, {"origin": "EWR"}, {"origin": None}]
    many = call(
        world,
        "GetFeaturesBatch",
        pb.GetFeaturesBatchRequest(service="kinds", keys=columns(origin=["JFK", "EWR", None])),
    )

    assert [value for _, value, _ in told(one)] == ["N1", from_us(NOW_US), date(2022, 1, 8), ["N1", "N2"]]
    assert rows_of(many.served[0]) == [(v.values, v.statuses) for v in expected(world, "kinds", rows)]
    assert [column.values.WhichOneof("kind") for column in many.served[0].columns] == [
        "strings", "timestamps_us", "dates_days", "lists",
    ]  # fmt: skip


def test_many_rows_are_columns_of_what_the_reader_says(world):
    rows = [{"origin": "JFK", "dest": "LAX"}, {"origin": "EWR", "dest": "LAX"}, {"origin": None, "dest": "LAX"}]
    request = pb.GetFeaturesBatchRequest(
        service="trip", keys=columns(origin=["JFK", "EWR", None], dest=["LAX"] * 3), event_times=True
    )

    answer = call(world, "GetFeaturesBatch", request)

    [part] = answer.served
    vectors = expected(world, "trip", rows)
    assert (part.service, list(part.rows)) == ("trip@1", [])
    assert [column.name for column in part.columns] == list(vectors[0].names)
    assert rows_of(part) == [(vector.values, vector.statuses) for vector in vectors]
    times = [python_column(column.event_times) for column in part.columns]
    assert times == [[vector[name].event_time for vector in vectors] for name in vectors[0].names]


def test_rows_of_a_service_that_is_split_say_which_version_served_them(world):
    rollout = Rollout(serve=1, mode="split", to=2, share=50.0)
    world.client.hset(f"services:{world.env}", mapping=rollout_fields({"delay": rollout}))
    origins = ["JFK", *(f"A{i}" for i in range(9))]

    answer = call(world, "GetFeaturesBatch", pb.GetFeaturesBatchRequest(service="delay", keys=columns(origin=origins)))

    found = {
        row: (part.service, each) for part in answer.served for row, each in zip(part.rows, rows_of(part), strict=True)
    }
    vectors = expected(world, "delay", [{"origin": origin} for origin in origins])
    assert {part.service for part in answer.served} == {"delay@1", "delay@2"}
    assert found == {row: (vector.service, (vector.values, vector.statuses)) for row, vector in enumerate(vectors)}


def test_any_features_and_a_version_are_read_by_their_names(world):
    names = ["departures:count_1h", "departures@1:mean_1h"]
    listed = call(world, "GetFeatures", pb.GetFeaturesRequest(features=names, keys=keys(origin="JFK")))
    version = call(world, "GetFeatures", pb.GetFeaturesRequest(service="delay@2", keys=keys(origin="JFK")))

    assert (listed.service, told(listed)) == (
        "features@1",
        [(names[0], 3, Status.PRESENT), (names[1], 12.0, Status.PRESENT)],
    )
    assert (version.service, told(version)) == ("delay@2", [("departures:count_1h", 3, Status.PRESENT)])


def test_the_time_asked_decides_and_event_times_are_told_when_asked(world):
    past = to_us(datetime(2001, 1, 1, tzinfo=UTC))
    request = pb.GetFeaturesRequest(service="delay@2", keys=keys(origin="JFK"), as_of_us=past, event_times=True)

    [feature] = call(world, "GetFeatures", request).features

    assert feature.status == pb.STATUS_AHEAD
    assert feature.event_time_us == NOW_US - 2 * SECOND_US
    request.event_times = False
    assert not call(world, "GetFeatures", request).features[0].HasField("event_time_us")


WRONG = [
    ("GetFeatures", {"service": "delays"}, "NOT_FOUND", "UNKNOWN_NAME", "unknown service 'delays'; did you mean 'delay'?"),
    ("GetFeatures", {"service": "delay@9"}, "NOT_FOUND", "UNKNOWN_NAME", "unknown service 'delay@9'"),
    ("GetFeatures", {"features": ["departures:none"]}, "NOT_FOUND", "UNKNOWN_NAME", "unknown feature of view 'departures@1'"),
    ("GetFeatures", {"features": ["departures"]}, "INVALID_ARGUMENT", "INVALID", "departures"),
    ("GetFeatures", {}, "INVALID_ARGUMENT", "INVALID", "either `service` or `features`, got neither"),
    ("GetFeatures", {"service": "delay", "features": ["a:b"]}, "INVALID_ARGUMENT", "INVALID", "got both"),
    ("GetFeatures", {"service": "delay"}, "INVALID_ARGUMENT", "INVALID", "entity 'airport' needs the join key `origin`"),
    ("GetFeatures", {"service": "delay", "keys": keys(origin=1.5)}, "INVALID_ARGUMENT", "INVALID", "`origin` must be text"),
    ("GetFeatures", {"service": "delay", "keys": keys(origin=["JFK"])}, "INVALID_ARGUMENT", "INVALID", "`origin` must be text"),
    ("GetFeatures", {"service": "delay", "as_of_us": 2**62}, "INVALID_ARGUMENT", "INVALID", "`as_of_us` must lie in the years 1 to 9999"),
    ("GetFeatures", {"service": "delay", "keys": {"origin": pb.Value(date_days=2**31 - 1)}}, "INVALID_ARGUMENT", "INVALID", "years 1 to 9999"),
    ("GetFeaturesBatch", {"service": "trip", "keys": columns(origin=["a", "b"], dest=["c"])}, "INVALID_ARGUMENT", "INVALID",
     "the same length, which `rows` may say: `dest` has 1, `origin` has 2"),
    ("GetFeaturesBatch", {"service": "delay", "keys": columns(origin=["a"]), "rows": 2}, "INVALID_ARGUMENT", "INVALID", "`rows` has 2"),
    ("GetFeaturesBatch", {"service": "delay", "keys": {"origin": pb.Values(nulls=[7])}}, "INVALID_ARGUMENT", "INVALID", "`keys.origin`: `nulls` must be positions among 1 rows"),
    ("GetFeaturesBatch", {"service": "delay", "keys": columns(origin=["a"] * 4)}, "INVALID_ARGUMENT", "TOO_LARGE", "`rows` may be 3 at most, got 4"),
    ("GetFeaturesBatch", {"service": "delay", "rows": 2**32 - 1}, "INVALID_ARGUMENT", "TOO_LARGE", "`rows` may be 3 at most, got 4"),
    ("GetService", {"service": "none"}, "NOT_FOUND", "UNKNOWN_NAME", "unknown service 'none'"),
    ("GetService", {}, "NOT_FOUND", "UNKNOWN_NAME", "unknown service ''"),
]  # fmt: skip


def test_a_wrong_call_has_a_code_a_sentence_and_a_reason(world):
    types = {
        "GetFeatures": pb.GetFeaturesRequest,
        "GetFeaturesBatch": pb.GetFeaturesBatchRequest,
        "GetService": pb.GetServiceRequest,
    }

    async def run():
        async with api(world, limits=Limits(rows=3)) as channel:
            stub, found = rpc.FeatureStoreStub(channel), []
            for method, fields, *_ in WRONG:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await getattr(stub, method)(types[method](**fields), timeout=10)
                found.append((caught.value.code().name, details(caught.value).reason, caught.value.details()))
            return found

    for (_, fields, code, reason, said), got in zip(WRONG, asyncio.run(run()), strict=True):
        assert got[:2] == (code, reason), fields
        assert said in got[2]


def test_an_unknown_name_lists_what_there_is_without_growing_beyond_a_trailer(world):
    world.publish(services=[service(COUNT, name=f"service_with_a_long_name_{i}") for i in range(500)])

    code, said, info = refused(world, "GetFeatures", pb.GetFeaturesRequest(service="nothing"))

    assert code is grpc.StatusCode.NOT_FOUND
    assert info.metadata["name"] == "nothing"
    assert info.metadata["known"].startswith("delay, kinds, service_with_a_long_name_0")
    assert len(said) < 1100
    assert len(info.metadata["known"]) < 1100


def test_a_message_beyond_the_limit_is_refused_before_it_is_read(world):
    request = pb.GetFeaturesRequest(service="delay", keys=keys(origin="x" * 300))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        call(world, "GetFeatures", request, limits=Limits(body_bytes=200))

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_slow_store_holds_a_call_no_longer_than_its_deadline_and_the_next_one_is_answered(world):
    request = pb.GetFeaturesRequest(service="delay", keys=keys(origin="JFK"))

    async def run():
        codes, counts = [], []
        async with api(world, limits=Limits(deadline_s=0.4), counts=counts) as channel:
            stub = rpc.FeatureStoreStub(channel)
            await stub.GetFeatures(request)
            world.client.client_pause(1_500)
            for timeout in (0.15, None):
                began = asyncio.get_running_loop().time()
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stub.GetFeatures(request, timeout=timeout)
                codes.append((caught.value.code().name, asyncio.get_running_loop().time() - began < 1.0))
                await asyncio.sleep(0.05)
                given_up = re.findall(
                    r'grpc_requests_total{code="(?:CANCELLED|DEADLINE_EXCEEDED)".*} (.*)', counts[0]()
                )
                codes.append(sum(map(float, given_up)))  # by the server, too, while the store is silent still
            codes.append(details(caught.value).reason)
            world.client.client_unpause()
            await stub.GetFeatures(request, timeout=10)
        return codes

    assert asyncio.run(run()) == [("DEADLINE_EXCEEDED", True), 1, ("DEADLINE_EXCEEDED", True), 2, "DEADLINE"]


def test_a_value_that_its_service_must_not_serve_fails_with_the_feature_named(world):
    world.publish(services=[service(COUNT, name="strict", on_ahead="fail")])

    code, said, info = refused(
        world, "GetFeatures", pb.GetFeaturesRequest(service="strict", keys=keys(origin="JFK"), as_of_us=0)
    )

    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "is AHEAD" in said
    assert dict(info.metadata) == {
        "title": "A value must not be served", "feature": "departures:count_1h", "status_of_value": "AHEAD"
    }  # fmt: skip


def test_a_default_that_a_column_cannot_hold_is_said(world):
    world.publish(services=[service(COUNT, name="odd", defaults={"departures:count_1h": "none"})])
    row = keys(origin=None)

    one = call(world, "GetFeatures", pb.GetFeaturesRequest(service="odd", keys=row))
    code, said, _ = refused(
        world, "GetFeaturesBatch", pb.GetFeaturesBatchRequest(service="odd", keys=columns(origin=[None]))
    )

    assert told(one) == [("departures:count_1h", "none", Status.UNKNOWN)]
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "feature 'departures:count_1h' is declared as int, and one of its values or its default is not" in said


def test_a_store_that_is_away_is_said_with_when_to_ask_again_and_shows_in_the_health(world, tmp_path):
    from feature_store.embedded import EmbeddedValkey

    server = EmbeddedValkey(tmp_path, port=0)
    server.start()
    away = World(server.url, world.env)
    view = departures()
    away.publish(view, services=[service(COUNT)])
    away.put(view, "JFK", 3, 1.0)
    away.ready()
    request = pb.GetFeaturesRequest(service="delay", keys=keys(origin="JFK"))

    async def run():
        async with api(away) as channel:
            stub, health = rpc.FeatureStoreStub(channel), health_pb2_grpc.HealthStub(channel)
            found = [(await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))).status]
            await stub.GetFeatures(request)
            server.kill()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetFeatures(request)
            found.append((await health.Check(health_pb2.HealthCheckRequest())).status)
            server.start()
            await stub.GetFeatures(request)
            return caught.value, found

    try:
        error, found = asyncio.run(run())
    finally:
        server.stop()
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert details(error).reason == "STORE_UNAVAILABLE"
    again = RetryInfo()
    status = RpcStatus.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert status.details[1].Unpack(again)
    assert again.retry_delay.seconds == 1
    assert found == [SERVING, NOT_SERVING]


def test_a_server_that_is_about_to_stop_tells_those_who_watch_and_answers_still(world):
    state = State()

    async def run():
        async with api(world, state=state) as channel:
            watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
            first = [each async for each in _until(watched, SERVING)]
            state.draining = True
            answer = await rpc.FeatureStoreStub(channel).GetFeatures(
                pb.GetFeaturesRequest(service="delay", keys=keys(origin="JFK"))
            )
            last = [each async for each in _until(watched, NOT_SERVING)]
            watched.cancel()
            return first[-1], answer.service, last[-1]

    assert asyncio.run(run()) == (SERVING, "delay@1", NOT_SERVING)


async def _until(watched, wanted):
    while True:
        status = (await watched.read()).status
        yield status
        if status == wanted:
            return


def test_services_are_listed_searched_and_described(world):
    listed = call(world, "ListServices", pb.ListServicesRequest())
    found = call(world, "ListServices", pb.ListServicesRequest(query="LEGS"))
    one = call(world, "GetService", pb.GetServiceRequest(service="trip"))

    assert [(each.name, list(each.versions)) for each in listed.services] == [
        ("delay", ["delay@1", "delay@2"]), ("kinds", ["kinds@1"]), ("trip", ["trip@1"]),
    ]  # fmt: skip
    assert [each.name for each in found.services] == ["trip"]
    assert one == pb.Service(
        name="trip",
        id="trip@1",
        versions=["trip@1"],
        keys=[pb.Field(name="origin", kind="str"), pb.Field(name="dest", kind="str")],
        features=[pb.Field(name="legs:count_1d", kind="int"), pb.Field(name="departures:count_1h", kind="int")],
    )


def test_what_on_demand_features_take_is_a_column_beside_the_keys(world):
    """The function is on no server, so that its feature is ERROR; `bucketing` is of the catalogue, which every server has."""
    taken = InputLayout(source=RequestItem(column="minutes", dtype="float"))
    encoding = bucketing("bucket", edges=[1.0, 5.0])
    functions = [
        FunctionLayout(name="unknown", digest="0" * 16, inputs=[taken], outputs=[OutputLayout(dtype="int")]),
        FunctionLayout(
            name="bucket",
            digest=encoding.digest,
            encoding=encoding.encoding,
            inputs=[taken],
            outputs=[OutputLayout(dtype="int")],
        ),
    ]
    items = [OnDemandItem(name=each.name, function=i, output=0) for i, each in enumerate(functions)]
    world.publish(services=[service(COUNT, *items, name="scoring", functions=functions)])
    row = keys(origin="JFK", minutes=3.0)
    batch = columns(origin=["JFK", "EWR"]) | columns("float", minutes=[7.0, None])

    one = call(world, "GetFeatures", pb.GetFeaturesRequest(service="scoring", keys=row))
    many = call(world, "GetFeaturesBatch", pb.GetFeaturesBatchRequest(service="scoring", keys=batch))
    code, said, _ = refused(world, "GetFeatures", pb.GetFeaturesRequest(service="scoring", keys=keys(origin="JFK")))

    strange = keys(origin="JFK", minutes=3.0, minute=4.0)
    for call_, asked in (
        ("GetFeatures", pb.GetFeaturesRequest(service="scoring", keys=strange)),
        ("GetFeaturesBatch", pb.GetFeaturesBatchRequest(service="scoring", keys=batch | columns("float", minute=[7.0, 1.0]))),
    ):  # fmt: skip
        assert refused(world, call_, asked)[:2] == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "unknown column of service 'scoring' 'minute'; did you mean 'minutes'? (known: origin, minutes)",
        )
    assert told(one)[1:] == [("unknown", None, Status.ERROR), ("bucket", 1, Status.PRESENT)]
    assert [values for values, _ in rows_of(many.served[0])] == [[3, None, 2], [0, None, None]]
    assert (code, "needs the column `minutes` (float)" in said) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    described = call(world, "GetService", pb.GetServiceRequest(service="scoring"))
    assert list(described.inputs) == [pb.Field(name="minutes", kind="float")]


def test_calls_are_counted_by_their_codes_and_reflection_names_the_service(world):
    async def run():
        counts = []
        async with api(world, counts=counts) as channel:
            stub = rpc.FeatureStoreStub(channel)
            await stub.GetFeatures(pb.GetFeaturesRequest(service="delay", keys=keys(origin="JFK")))
            for wrong in (pb.GetFeaturesRequest(service="none"), pb.GetFeaturesRequest(service="delay")):
                with pytest.raises(grpc.aio.AioRpcError):
                    await stub.GetFeatures(wrong)
            reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
            await reflect.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            named = {each.name for each in (await reflect.read()).list_services_response.service}
            await reflect.done_writing()
            return counts[0](), named

    counted, named = asyncio.run(run())

    assert 'grpc_requests_total{code="OK",operation="GetFeatures"} 1.0' in counted
    assert 'grpc_requests_total{code="NOT_FOUND",operation="GetFeatures"} 1.0' in counted
    assert 'grpc_requests_total{code="INVALID_ARGUMENT",operation="GetFeatures"} 1.0' in counted
    assert "online_store_latency_seconds_count 2.0" in counted
    assert "online_store_errors_total 0.0" in counted
    assert {SERVICE, "grpc.health.v1.Health"} <= named


INTEGERS = st.integers(-(2**63), 2**63 - 1)
VALUES = {
    "int": INTEGERS,
    "float": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "str": st.text(),
    "timestamp": st.datetimes(timezones=st.just(UTC)),
    "date": st.dates(),
    "bytes": st.binary(),
    "list of str": st.lists(st.text()),
    "list of timestamp": st.lists(st.datetimes(timezones=st.just(UTC))),
}


@given(st.sampled_from(list(VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), st.lists(st.none() | VALUES[kind]))))
def test_values_and_columns_come_back_as_they_were(drawn):
    kind, values = drawn

    column = pb.Values.FromString(column_of("f", kind, values).SerializeToString())
    assert python_column(column) == values
    assert [python_value(pb.Value.FromString(value_of(value).SerializeToString())) for value in values] == values
    assert [type(value) for value in python_column(column)] == [type(value) for value in values]


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, {"a": 1}, object()])
def test_what_no_message_has_is_an_error(value):
    with pytest.raises(InputError, match="a value must be a boolean, an integer of 64 bits"):
        value_of(value)


def test_the_generated_code_is_that_of_the_proto(tmp_path):
    assert protoc.main(["", f"-I{ROOT}", f"--descriptor_set_out={tmp_path / 'set'}", str(ROOT / PROTO)]) == 0
    [compiled] = FileDescriptorSet.FromString((tmp_path / "set").read_bytes()).file
    committed = FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)
    for each in (compiled, committed):
        for message in each.message_type:
            for field in (*message.field, *(inner for nested in message.nested_type for inner in nested.field)):
                field.ClearField("json_name")

    assert committed == compiled, "run `python tests/grpc_code.py`"
    methods = [method.name for method in compiled.service[0].method]
    stub = rpc.FeatureStoreStub(grpc.insecure_channel("127.0.0.1:1"))
    assert sorted(vars(stub)) == sorted(methods)
    stubs = (ROOT / PROTO).with_name("features_pb2.pyi").read_text()
    assert all(f"class {message.name}(" in stubs for message in compiled.message_type)
    assert all(f"    {each.name}: " in stubs for message in compiled.message_type for each in message.field)


def test_a_client_loads_neither_the_server_nor_anything_heavy():
    heavy = ("starlette", "uvicorn", "prometheus_client", "redis", "numpy", "pandas", "pyarrow", "duckdb", "msgspec")
    code = (
        "import sys, feature_store.serving.grpc.v1.features_pb2_grpc, feature_store.serving.grpc.values\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
