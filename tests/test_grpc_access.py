"""Keys over gRPC: role x method x service or view, from the descriptor of the service; details, audit and counts as over HTTP."""

import asyncio
import json
from contextlib import asynccontextmanager

import grpc
import pytest
from access_world import KEYS, ROLES, SERVICES, UNKNOWN, VIEWS, AccessWorld, ask, keys_of_roles
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status as RpcStatus
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from feature_store.access.audit import AuditLog
from feature_store.online.keys import access_key
from feature_store.serving.about import State
from feature_store.serving.app import build_app
from feature_store.serving.grpc.api import GrpcApi
from feature_store.serving.grpc.v1 import features_pb2 as pb
from feature_store.serving.grpc.v1 import features_pb2_grpc as rpc
from feature_store.serving.grpc.values import column_of, value_of
from feature_store.serving.grpc.visit import _host

METHODS = {method.name: method for method in pb.DESCRIPTOR.services_by_name["FeatureStore"].methods}
READ = pb.GetFeaturesRequest(service="delay", keys={"origin": value_of("JFK")})
CODES = {200: "OK", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}


@pytest.fixture(scope="module")
def world(valkey, module_environment):
    return AccessWorld(valkey.url, module_environment)


@asynccontextmanager
async def api(world, *, audit=None, app=None):
    """A running server and a channel to it; `app` is given the application."""
    state = State()
    made = build_app(world.url, env=world.env, clock=world.clock, state=state, audit=audit)
    if app is not None:
        app.append(made)
    server = GrpcApi(made.state.reads, state, door=made.state.door)
    async with made.router.lifespan_context(made):
        port = await server.start("127.0.0.1:0")
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield channel
        finally:
            await server.stop()


def sent(key):
    return [] if key is None else [("authorization", f"Bearer {key}")]


async def answer(channel, method, request, key=None):
    """The answer to a call, or its error."""
    asked = getattr(rpc.FeatureStoreStub(channel), method)(request, timeout=10, metadata=sent(key))
    return (await asyncio.gather(asked, return_exceptions=True))[0]


def code(answered):
    return answered.code().name if isinstance(answered, grpc.RpcError) else "OK"


def info(error):
    """The reason of an error, and what else machines are told."""
    found = ErrorInfo()
    assert RpcStatus.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"]).details[0].Unpack(found)
    return found.reason, dict(found.metadata)


def requests_of(method):
    """What a method lets one ask for: (what it takes, request), once for each service, version and view."""
    kind = method.input_type._concrete_class
    fields = method.input_type.fields_by_name
    if method.name == "ListServices":
        return [("", kind())]
    if method.name == "GetService":
        return [(f"describe {name}", kind(service=each)) for name in SERVICES for each in (name, f"{name}@1")]
    assert {"service", "features", "keys"} <= set(fields), f"{method.name} is new: say here what it takes"
    is_column = fields["keys"].message_type.fields_by_name["value"].message_type.name == "Values"

    def keys(row):
        return {name: column_of(name, "str", [of]) if is_column else value_of(of) for name, of in row.items()}

    everything = {"origin": "JFK", "dest": "LAX"}
    return [
        *(
            (f"service {name}", kind(service=each, keys=keys(row)))
            for name, row in KEYS.items()
            for each in (name, f"{name}@1")
        ),
        *((f"view {view}", kind(features=[f"{view}:{name}"], keys=keys(everything))) for view, name in VIEWS.items()),
    ]


def expected(role, takes):
    if role in UNKNOWN:
        return "UNAUTHENTICATED"
    allowed = ROLES[role][1]
    kind, _, name = takes.partition(" ")
    granted = not takes or takes in allowed or (kind == "describe" and f"service {name}" in allowed)
    return "OK" if granted else "PERMISSION_DENIED"


def test_every_cell_of_the_matrix_is_what_the_roles_say_and_each_is_told_what_it_may_read(world):
    keys = keys_of_roles(world)

    async def run():
        cells, listed = {}, {}
        async with api(world) as channel:
            for role, key in keys.items():
                for method in METHODS.values():
                    for takes, request in requests_of(method):
                        found = await answer(channel, method.name, request, key)
                        cells[role, takes, method.name, str(request)] = code(found)
                        if method.name == "ListServices" and code(found) == "OK":
                            listed[role] = {each.name for each in found.services}
        return cells, listed

    cells, listed = asyncio.run(run())

    assert {cell: got for cell, got in cells.items() if got != expected(*cell[:2])} == {}
    assert len(cells) == len(keys) * (2 * (2 * len(SERVICES) + len(VIEWS)) + 2 * len(SERVICES) + 1)
    for role, (_, allowed) in ROLES.items():
        assert listed[role] == {name for name in SERVICES if {f"service {name}", f"describe {name}"} & allowed}, role


def test_a_refusal_says_what_the_http_api_says(world):
    reader, services = world.key(services=["delay"]), world.key(services=["*"])
    asked = {
        "no key": (None, "delay"),
        "a key of nothing": ("fsk_" + "a" * 8, "delay"),
        "another service": (reader, "trip"),
        "no such service": (reader, "nothing"),
        "personal data": (services, "stay"),
        "personal data through functions": (services, "score"),
    }

    async def run():
        async with api(world) as channel:
            keys = {"origin": value_of("JFK")}
            return {
                told: await answer(channel, "GetFeatures", pb.GetFeaturesRequest(service=name, keys=keys), key)
                for told, (key, name) in asked.items()
            }

    found = asyncio.run(run())

    for told, (key, name) in asked.items():
        problem = ask(world, "POST", f"/v1/services/{name}/features", key, json={"keys": {"origin": "JFK"}}).json()
        reason, fields = info(found[told])
        assert code(found[told]) == CODES[problem["status"]], told
        assert found[told].details() == problem["detail"], told
        assert f"/problems/{reason.lower()}" == problem["type"], told
        assert fields == {each: problem[each] for each in ("title", "grant") if each in problem}, told
    assert info(found["personal data through functions"])[1]["grant"] == "personal:guests"


def test_a_wrong_name_lists_only_what_the_key_may_see(world):
    key = world.key(services=["delay", "n*"], views=["legs", "n*"])
    wrong = {
        "GetService": pb.GetServiceRequest(service="nothing"),
        "GetFeatures": pb.GetFeaturesRequest(service="nothing"),
        "GetFeaturesBatch": pb.GetFeaturesBatchRequest(features=["nothing:x"], rows=1),
    }

    async def run():
        async with api(world) as channel:
            return [await answer(channel, method, request, key) for method, request in wrong.items()]

    assert [info(each)[1]["known"] for each in asyncio.run(run())] == ["delay", "delay", "legs"]


def test_what_on_demand_features_take_is_described_and_read_beside_the_keys(world):
    key = world.key(services=["score"], personal=["guests"])

    async def run():
        async with api(world) as channel:
            keys = {"origin": value_of("JFK"), "channel": value_of("app")}
            return (
                await answer(channel, "GetService", pb.GetServiceRequest(service="score"), key),
                await answer(channel, "GetFeatures", pb.GetFeaturesRequest(service="score", keys=keys), key),
            )

    described, vector = asyncio.run(run())

    assert [(each.name, each.kind) for each in described.keys] == [("origin", "str")]
    assert [(each.name, each.kind) for each in described.inputs] == [("channel", "str")]
    found = {each.name: each.value for each in vector.features}
    assert (found["again"].int_value, found["channel_web"].int_value) == (1, 0)


def test_health_is_told_to_everybody_and_the_descriptors_to_who_has_a_key(world):
    key = world.key(services=["delay"])

    async def reflected(channel, key):
        wanted = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        asked = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(wanted, metadata=sent(key))
        [found] = await asyncio.gather(asked.read(), return_exceptions=True)
        return code(found) if isinstance(found, grpc.RpcError) else len(found.list_services_response.service)

    async def run():
        async with api(world) as channel:
            health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
            return health.status, await reflected(channel, None), await reflected(channel, key)

    assert asyncio.run(run()) == (health_pb2.HealthCheckResponse.SERVING, "UNAUTHENTICATED", 3)


def test_a_store_that_does_not_say_who_may_answers_nobody_and_shows_in_the_health(valkey, environment):
    world = AccessWorld(valkey.url, environment)
    world.client.delete(access_key(environment))

    async def run():
        async with api(world) as channel:
            health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
            return health.status, await answer(channel, "GetFeatures", READ)

    health, refused = asyncio.run(run())

    assert health == health_pb2.HealthCheckResponse.NOT_SERVING
    assert (code(refused), info(refused)[0]) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
    assert refused.details().endswith("run `feature-store apply`")


@pytest.mark.parametrize(
    ("peer", "host"),
    [("ipv4:10.0.3.17:5000", "10.0.3.17"), ("ipv6:%5B::1%5D:5000", "::1"), ("unix:/run/store", "unix:/run/store")],
)
def test_the_host_of_who_calls_is_told_without_its_port(peer, host):
    assert _host(peer) == host


def test_calls_are_on_record_and_counted_by_who_made_them(world, tmp_path):
    path = tmp_path / "audit.jsonl"
    reader, guest = world.key(services=["delay"]), world.key(views=["guests"], personal=["guests"])
    columns = {"origin": column_of("origin", "str", ["JFK", "JFK"])}

    async def run():
        apps = []
        async with api(world, audit=AuditLog(str(path)), app=apps) as channel:
            await answer(channel, "GetFeatures", READ, reader)
            listed = pb.GetFeaturesBatchRequest(features=["guests:count_1h"], keys=columns)
            await answer(channel, "GetFeaturesBatch", listed, guest)
            await answer(channel, "GetFeaturesBatch", listed, reader)
            await answer(channel, "GetFeatures", READ, f"{reader[:-3]}xyz")
            await answer(channel, "GetFeatures", READ)
            await answer(channel, "GetService", pb.GetServiceRequest(service="trip"), reader)
            await answer(channel, "ListServices", pb.ListServicesRequest(), reader)
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
            return apps[0].state.reads.metrics.text().decode()

    counted = asyncio.run(run())

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    one, two = reader.split("_")[1], guest.split("_")[1]
    assert [
        (line["did"], line.get("key"), line.get("what"), line.get("rows"), line["status"], line.get("problem"))
        for line in lines
    ] == [
        ("GetFeatures", one, "delay@1", 1, 200, None),
        ("GetFeaturesBatch", two, "guests:count_1h", 2, 200, None),
        ("GetFeaturesBatch", one, "guests:count_1h", None, 403, "forbidden"),
        ("GetFeatures", None, None, None, 401, "unauthenticated"),
        ("GetFeatures", None, None, None, 401, "unauthenticated"),
        ("GetService", one, "trip", None, 403, "forbidden"),
        ("ListServices", one, None, None, 200, None),
    ]
    assert [line.get("claimed") for line in lines] == [None, None, None, one, None, None, None]
    assert {line["peer"] for line in lines} == {"127.0.0.1"}
    assert "JFK" not in path.read_text()
    assert 'grpc_requests_total{code="UNAUTHENTICATED",operation="GetFeatures"} 2.0' in counted
    assert 'grpc_requests_total{code="PERMISSION_DENIED",operation="GetFeaturesBatch"} 1.0' in counted


def test_a_caller_who_waits_no_longer_is_on_record(world, tmp_path):
    path = tmp_path / "audit.jsonl"
    key = world.key(services=["delay"])

    async def run():
        async with api(world, audit=AuditLog(str(path))) as channel:
            await answer(channel, "GetFeatures", READ, key)
            world.client.client_pause(400)
            asked = rpc.FeatureStoreStub(channel).GetFeatures(READ, timeout=0.1, metadata=sent(key))
            [found] = await asyncio.gather(asked, return_exceptions=True)
            world.client.client_unpause()
            return code(found)

    told = asyncio.run(run())
    lines = [json.loads(line) for line in path.read_text().splitlines()]

    assert told == "DEADLINE_EXCEEDED"
    assert [line["status"] for line in lines] in ([200, 499], [200, 504])
    assert lines[1]["key"] == key.split("_")[1]
