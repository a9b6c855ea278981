"""The HTTP API over a real Valkey: every answer is what the Python reader says, every wrong request one typed problem."""

import asyncio
import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx
import jsonschema
import msgspec
import pyarrow as pa
import pytest
from online_world import NOW_US, World, departures, item, legs, ratio, service, weather

from feature_store.catalog.document import DECLARED, Catalog, ServiceEntry, pack
from feature_store.errors import OnlineStoreError
from feature_store.online.keys import catalog_key
from feature_store.online.layout import KeyedItem
from feature_store.online.rollout import Rollout, rollout_fields
from feature_store.reader import FeatureReader
from feature_store.serving.about import State
from feature_store.serving.app import build_app
from feature_store.serving.limits import Limits
from feature_store.status import Status
from feature_store.time_rule import SECOND_US, from_us

COUNT, MEAN = item("departures", "count_1h"), item("departures", "mean_1h")
JFK = {"origin": "JFK"}


@pytest.fixture
def world(valkey, environment):
    made = World(valkey.url, environment)
    view, route = departures(), legs()
    made.publish(
        view,
        route,
        weather(),
        services=[
            service(COUNT, MEAN, ratio("share", COUNT, MEAN), item("weather", "wind"), defaults={"weather:wind": 7.0}),
            service(COUNT, version=2, name="delay"),
            service(item("legs", "count_1d"), COUNT, name="trip"),
        ],
    )
    made.client.hset(f"services:{environment}", "delay", 1)
    made.put(view, "JFK", 3, 12.0)
    made.put(route, "JFK|LAX", 2)
    made.ready()
    return made


@asynccontextmanager
async def api(world, **options):
    app = build_app(world.url, env=world.env, clock=world.clock, **options)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


def ask(world, method, path, **options):
    """The answer to one request."""

    async def run():
        settings = {name: options.pop(name) for name in ("limits", "state") if name in options}
        async with api(world, **settings) as client:
            return await client.request(method, path, **options)

    return asyncio.run(run())


def post(world, path, body, **options):
    return ask(world, "POST", path, json=body, **options)


def test_a_service_is_read_by_name_with_values_and_statuses(world):
    answer = post(world, "/v1/services/delay/features", {"keys": JFK})

    assert answer.status_code == 200
    assert answer.json() == {
        "service": "delay@1",
        "values": {"departures:count_1h": 3, "departures:mean_1h": 12.0, "share": 0.25, "weather:wind": 7.0},
        "statuses": {
            "departures:count_1h": "PRESENT", "departures:mean_1h": "PRESENT", "share": "PRESENT", "weather:wind": "UNKNOWN"
        },
    }  # fmt: skip


def test_a_version_is_read_by_its_number_and_tells_event_times_when_asked(world):
    answer = post(world, "/v1/services/delay/versions/2/features", {"keys": JFK, "event_times": True})

    told = answer.json()
    assert (told["service"], told["values"]) == ("delay@2", {"departures:count_1h": 3})
    assert datetime.fromisoformat(told["event_times"]["departures:count_1h"]) == from_us(NOW_US - 2 * SECOND_US)


def test_many_rows_are_what_the_reader_says_in_their_order(world):
    rows = [{"origin": "JFK", "dest": "LAX"}, {"origin": "EWR", "dest": "LAX"}, {"origin": None, "dest": "LAX"}]

    answer = post(world, "/v1/services/trip/features/batch", {"rows": rows}).json()

    with FeatureReader(world.url, env=world.env, clock=world.clock) as reader:
        expected = reader.get_online_features_batch("trip", rows)
    assert answer["features"] == {"trip@1": list(expected[0].names)}
    assert [row["values"] for row in answer["rows"]] == [vector.values for vector in expected]
    assert [row["statuses"] for row in answer["rows"]] == [[s.name for s in vector.statuses] for vector in expected]


def test_any_features_are_read_without_a_service(world):
    answer = post(world, "/v1/features", {"features": ["departures:count_1h", "departures@1:mean_1h"], "rows": [JFK]})

    assert answer.json()["rows"] == [{"service": "features@1", "values": [3, 12.0], "statuses": ["PRESENT", "PRESENT"]}]


def test_the_time_asked_decides_what_a_value_is_worth(world):
    long_ago = datetime(2001, 1, 1, tzinfo=UTC).isoformat()

    answer = post(world, "/v1/services/delay/versions/2/features", {"keys": JFK, "as_of": long_ago})

    assert answer.json()["statuses"] == {"departures:count_1h": "AHEAD"}


def test_messagepack_and_arrow_carry_the_same(world):
    body = msgspec.msgpack.encode({"rows": [JFK, {"origin": "EWR"}]})
    headers = {"content-type": "application/msgpack"}
    path = "/v1/services/delay/versions/2/features/batch"

    packed = ask(world, "POST", path, content=body, headers={**headers, "accept": "application/msgpack"})
    headers |= {"accept": "application/vnd.apache.arrow.stream, */*;q=0.1"}
    arrow = ask(world, "POST", path, content=body, headers=headers)

    assert packed.headers["content-type"] == "application/msgpack"
    assert [row["values"] for row in msgspec.msgpack.decode(packed.content)["rows"]] == [[3], [0]]
    assert pa.ipc.open_stream(arrow.content).read_all().to_pydict() == {
        "service": ["delay@2"] * 2, "departures__count_1h": [3, 0], "departures__count_1h__status": ["PRESENT", "EMPTY"],
    }  # fmt: skip


def columns(world, path, **body):
    """The columns of an answer."""
    answer = post(world, path, body, headers={"accept": "application/vnd.apache.arrow.stream"})
    assert answer.status_code == 200, answer.text
    return pa.ipc.open_stream(answer.content).read_all()


def split(world, *, share):
    """Serve a share of the entities the second version of `delay`."""
    rollout = Rollout(serve=1, mode="split", to=2, share=share)
    world.client.hset(f"services:{world.env}", mapping=rollout_fields({"delay": rollout}))


def test_arrow_tells_event_times_when_they_are_asked_for(world):
    rows, path = [JFK, {"origin": "EWR"}], "/v1/services/delay/versions/2/features/batch"

    told = columns(world, path, rows=rows, event_times=True)

    assert told.schema.field("departures__count_1h__event_time").type == pa.timestamp("us", tz="UTC")
    assert told["departures__count_1h__event_time"].to_pylist() == [from_us(NOW_US - 2 * SECOND_US), None]


def test_arrow_has_the_columns_of_both_versions_while_a_service_is_split(world):
    split(world, share=50)
    rows = [{"origin": f"airport {n}"} for n in range(20)] + [JFK]
    path = "/v1/services/delay/features/batch"

    told, plain = columns(world, path, rows=rows), post(world, path, {"rows": rows}).json()

    assert {row["service"] for row in plain["rows"]} == {"delay@1", "delay@2"}
    assert told["service"].to_pylist() == [row["service"] for row in plain["rows"]]
    for name, column in (("departures:count_1h", "departures__count_1h"), ("weather:wind", "weather__wind")):
        features = plain["features"]
        places = [
            features[row["service"]].index(name) if name in features[row["service"]] else None for row in plain["rows"]
        ]
        for key, suffix in (("values", ""), ("statuses", "__status")):
            expected = [None if at is None else row[key][at] for at, row in zip(places, plain["rows"], strict=True)]
            assert told[f"{column}{suffix}"].to_pylist() == expected


def test_arrow_has_its_columns_without_any_row(world):
    split(world, share=0)
    paths = ("services/delay/features/batch", "services/delay/versions/2/features/batch")

    both, second = (columns(world, f"/v1/{path}", rows=[], event_times=True).schema for path in paths)
    some = columns(world, "/v1/services/delay/features/batch", rows=[JFK], event_times=True).schema
    listed = [columns(world, "/v1/features", rows=rows, features=["departures:mean_1h"]).schema for rows in ([], [JFK])]

    assert both == some
    assert len(both) == 1 + 3 * 4
    assert second.names == [
        "service", "departures__count_1h", "departures__count_1h__status", "departures__count_1h__event_time"
    ]  # fmt: skip
    assert listed[0] == listed[1]
    assert listed[0].field("departures__mean_1h").type == pa.float64()


def test_two_versions_with_a_feature_of_two_kinds_have_no_common_columns(world):
    other = KeyedItem(
        view="departures", version=1, feature="mean_1h", name="departures:count_1h", prefix="", columns={"origin": "origin"}
    )  # fmt: skip
    world.publish(services=[service(other, version=2)])
    split(world, share=50)
    rows = [{"origin": f"airport {n}"} for n in range(20)]
    headers = {"accept": "application/vnd.apache.arrow.stream"}

    answer = post(world, "/v1/services/delay/features/batch", {"rows": rows}, headers=headers)

    assert answer.status_code == 422
    assert re.search(
        "feature 'departures:count_1h' is (int|float) in delay@. and .* accept JSON", answer.json()["detail"]
    )


@pytest.mark.parametrize(
    ("path", "content", "headers", "status", "kind", "said"),
    [
        ("services/delay/features", b"{", {}, 400, "malformed", "the body is no json: Input data was truncated"),
        ("services/delay/features", b"\xc1", {"content-type": "application/msgpack"}, 400, "malformed", "the body is no msgpack"),
        ("services/delay/features", b"{}", {}, 422, "invalid", "object missing required field `keys`"),
        ("services/delay/features", b'{"keys":{}}', {}, 422, "invalid", "`keys`: object missing required field `origin`"),
        ("services/delay/features", b'{"keys":{"origin":7}}', {}, 422, "invalid", "`keys.origin`: expected `str | null`, got `int`"),
        ("services/delay/features", b'{"keys":{"origin":"a"},"x":1}', {}, 422, "invalid", "object contains unknown field `x`"),
        ("services/delay/features", b'{"keys":{"origin":"a"},"as_of":"2024-01-01T00:00:00"}', {}, 422, "invalid", "`as_of`: expected `datetime` with a timezone component"),
        ("services/delays/features", b"{}", {}, 404, "unknown-name", "unknown service 'delays'"),
        ("services/delay/versions/9/features", b"{}", {}, 404, "unknown-name", "unknown service 'delay@9'"),
        ("features", b'{"features":["departures"],"rows":[]}', {}, 422, "invalid", "departures"),
        ("features", b'{"features":["departures:none"],"rows":[]}', {}, 404, "unknown-name", "unknown feature of view 'departures@1' 'none'"),
        ("features", b'{"features":["departures:count_1h"],"rows":[{"origin":1.5}]}', {}, 422, "invalid", "`origin` must be text"),
        ("services/delay/features", b"{}", {"content-type": "text/xml"}, 415, "unsupported-media-type", "got 'text/xml'"),
        ("services/delay/features", b"{}", {"accept": "text/html"}, 406, "not-acceptable", "got 'text/html'"),
        ("nothing", b"", {}, 404, "no-such-path", "there is nothing at /v1/nothing"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_a_problem_that_names_place_and_rule(world, path, content, headers, status, kind, said):
    answer = ask(world, "POST", f"/v1/{path}", content=content, headers=headers)

    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["type"]) == (status, status, f"/problems/{kind}")
    assert said.lower() in problem["detail"].lower()


def test_every_type_of_problem_is_explained_where_it_points(world):
    problem = post(world, "/v1/services/delay/features", {}).json()

    assert ask(world, "GET", problem["type"]).json()["title"] == problem["title"]
    assert ask(world, "GET", "/v1/features").json()["type"] == "/problems/wrong-method"


def test_requests_beyond_the_limits_are_refused_before_they_cost_anything(world):
    limits, path = Limits(rows=2, body_bytes=200), "/v1/services/delay/features/batch"

    rows = post(world, path, {"rows": [JFK] * 3}, limits=limits)
    large = post(world, path, {"rows": [{"origin": "x" * 300}]}, limits=limits)

    assert [answer.status_code for answer in (rows, large)] == [413, 413]
    assert rows.json()["detail"] == "`rows` may be 2 at most, got 3"
    assert large.json()["limit"] == 200


def test_a_store_that_is_away_is_said_and_reads_go_on_when_it_is_back(world, tmp_path):
    from feature_store.embedded import EmbeddedValkey

    server = EmbeddedValkey(tmp_path, port=0)
    server.start()
    url = server.url
    away = World(url, world.env)
    view = departures()
    away.publish(view, services=[service(COUNT)])
    away.put(view, "JFK", 3, 1.0)
    away.ready()

    async def run():
        async with api(away) as client:
            path = "/v1/services/delay/features"
            answers = [await client.post(path, json={"keys": JFK}), await client.get("/ready")]
            server.kill()
            answers += [
                await client.post(path, json={"keys": JFK}),
                await client.get("/ready"),
                await client.get("/health"),
            ]
            server.start()
            answers += [await client.post(path, json={"keys": JFK})]
            return answers

    try:
        answers = asyncio.run(run())
    finally:
        server.stop()
    assert [answer.status_code for answer in answers] == [200, 200, 503, 503, 200, 200]
    assert answers[2].json()["type"] == "/problems/store-unavailable"
    assert answers[2].headers["retry-after"] == "1"


def test_a_slow_store_does_not_hold_a_read_beyond_its_deadline(world):
    world.client.client_pause(3_000)

    answer = post(world, "/v1/services/delay/features", {"keys": JFK}, limits=Limits(deadline_s=0.2))

    world.client.client_unpause()
    assert answer.status_code in (503, 504)


def test_a_value_that_its_service_must_not_serve_fails_with_the_feature_named(world):
    world.publish(services=[service(COUNT, name="strict", on_ahead="fail")])
    body = {"keys": JFK, "as_of": "2001-01-01T00:00:00Z"}

    problem = post(world, "/v1/services/strict/features", body)

    assert problem.status_code == 409
    assert (problem.json()["feature"], problem.json()["status_of_value"]) == ("departures:count_1h", "AHEAD")


def test_a_server_that_is_about_to_stop_is_not_ready_and_answers_still(world):
    state = State()
    state.draining = True

    answer = ask(world, "GET", "/ready", state=state)
    assert (answer.status_code, answer.json()["title"]) == (503, "The server is about to stop")
    assert post(world, "/v1/services/delay/features", {"keys": JFK}, state=state).status_code == 200


LOCAL = (
    {"host": "127.0.0.1:8700"},
    {"host": "[::1]:8700"},
    {"host": "LOCALHOST."},
    {"origin": "http://localhost:3000"},
)
FOREIGN = (
    {"host": "evil.example"}, {"host": "127.0.0.1.evil.example:8700"}, {"host": "127.0.0.1@evil.example"}, {"host": ""}, {"host": "[::"},
    {"origin": "http://evil.example"}, {"origin": "null"}, {"host": "localhost", "origin": "https://localhost.example"},
)  # fmt: skip


def test_without_keys_only_what_is_addressed_to_this_machine_is_answered(world):
    async def run():
        async with api(world) as client:
            statuses = [
                [(await client.get("/v1/key", headers=each)).status_code for each in some] for some in (LOCAL, FOREIGN)
            ]
            read = await client.post("/v1/services/delay/features", json={"keys": JFK}, headers=FOREIGN[0])
            return *statuses, read, await client.get("/health", headers=FOREIGN[0])

    local, foreign, read, health = asyncio.run(run())

    assert set(local) == {200}
    assert set(foreign) == {403}
    assert (read.status_code, read.json()["type"]) == (403, "/problems/not-local")
    assert "`Host` must be a loopback address or localhost, got 'evil.example'" in read.json()["detail"]
    assert health.status_code == 200


def test_services_are_listed_and_described(world):
    declare(world, owner="team:roads", description="What the route model reads")
    listed = ask(world, "GET", "/v1/services").json()
    one = ask(world, "GET", "/v1/services/trip").json()

    assert [(each["name"], each["versions"]) for each in listed] == [
        ("delay", ["delay@1", "delay@2"]),
        ("trip", ["trip@1"]),
    ]
    assert listed[0]["defaults"] == {"weather:wind": 7.0}
    assert one == {
        "name": "trip", "id": "trip@1", "versions": ["trip@1"], "keys": {"origin": "str", "dest": "str"},
        "inputs": {}, "features": {"legs:count_1d": "int", "departures:count_1h": "int"},
        "owner": "team:roads", "description": "What the route model reads",
        "defaults": {}, "on_stale": "serve", "on_ahead": "serve",
    }  # fmt: skip


def declare(world, **said):
    """Put what somebody says of `trip` into the catalog."""
    entry = ServiceEntry(
        name="trip", version=1, on_stale="serve", on_ahead="serve", log_rate=0.0, personal=[], keys=[], requests={},
        assets=[], features=[], **said,
    )  # fmt: skip
    world.client.hset(catalog_key(world.env), DECLARED, pack(Catalog(services=[entry])))


def test_services_are_found_by_what_they_are_and_not_by_how_they_are_told(world):
    declare(world, owner="team:roads", description="What the route model reads")
    texts = ("LEGS", "delay@2", "Team:Roads", "what the", "dest", "versions", "keys", "on_stale", "{")

    async def run():
        async with api(world) as client:
            return [(await client.get("/v1/services", params={"q": text})).json() for text in texts]

    found = [[each["name"] for each in some] for some in asyncio.run(run())]

    assert found == [["trip"], ["delay"], ["trip"], ["trip"], ["trip"], [], [], [], []]


def test_what_is_published_later_is_found_without_a_restart(world):
    async def run():
        async with api(world) as client:
            path = "/v1/services/new/features"
            before = await client.post(path, json={"keys": JFK})
            world.publish(services=[service(COUNT, name="new")])
            await asyncio.sleep(1.1)
            return before, await client.post(path, json={"keys": JFK})

    before, after = asyncio.run(run())

    assert (before.status_code, after.status_code) == (404, 200)


def test_the_document_has_a_path_for_each_service_with_its_types(world):
    document = ask(world, "GET", "/openapi.json").json()

    operation = document["paths"]["/v1/services/trip/features"]["post"]
    schemas = document["components"]["schemas"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/TripV1Request"
    }
    assert schemas["TripV1Keys"]["required"] == ["dest", "origin"]
    assert schemas["TripV1Values"]["properties"]["legs:count_1d"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert schemas["DelayV1Statuses"]["properties"]["share"] == {"$ref": "#/components/schemas/StatusName"}
    assert set(schemas["StatusName"]["enum"]) == set(Status.__members__)
    assert schemas["TripV1BatchRow"]["properties"]["values"]["prefixItems"] == [
        *schemas["TripV1Values"]["properties"].values()
    ]
    assert set(operation["responses"]) == {
        "200",
        *("400", "401", "403", "404", "406", "408", "409", "413", "415", "422"),
        *("500", "503", "504"),
    }
    assert "/v1/services/delay/versions/2/features/batch" in document["paths"]


def test_requests_and_answers_are_what_the_document_says(world):
    document = ask(world, "GET", "/openapi.json").json()

    def check(name, value):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(value)

    for service_id, title, keys in (("delay", "DelayV1", JFK), ("trip", "TripV1", {"origin": "JFK", "dest": None})):
        request = {"keys": keys, "as_of": from_us(NOW_US).isoformat(), "event_times": True}
        check(f"{title}Request", request)
        check(f"{title}Vector", post(world, f"/v1/services/{service_id}/features", request).json())
        batch = {"rows": [keys], "event_times": True}
        check(f"{title}BatchRequest", batch)
        check(f"{title}Batch", post(world, f"/v1/services/{service_id}/features/batch", batch).json())
    check("ProblemDetails", post(world, "/v1/services/delay/features", {}).json())
    with pytest.raises(jsonschema.ValidationError, match="7 is not valid"):
        check("DelayV1Request", {"keys": {"origin": 7}})


def test_services_of_any_names_have_operations_and_types_of_their_own(world):
    names = ["fraud", "fraud_batch", "fraud_v1", "features", "about", "a_b", "aB", "AB", "A_B", "a1", "a_1", "größe"]
    world.publish(services=[service(COUNT, name=name) for name in names])

    document = ask(world, "GET", "/openapi.json").json()

    operations = [each["operationId"] for path in document["paths"].values() for each in path.values()]
    bodies = [
        path["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for name, path in document["paths"].items()
        if name.endswith("versions/1/features")
    ]
    assert len(set(operations)) == len(operations)
    assert len(set(bodies)) == len(bodies) == len(names) + 2
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for name in document["components"]["schemas"])


def test_a_view_in_a_role_asks_for_the_columns_of_the_role(world):
    keyed = KeyedItem(
        view="departures", version=1, feature="count_1h", name="dest_departures:count_1h", prefix="dest_", columns={"origin": "dest"}
    )  # fmt: skip
    world.publish(services=[service(COUNT, keyed, name="both")])

    answer = post(world, "/v1/services/both/features", {"keys": {"origin": "EWR", "dest": "JFK"}})

    assert list(answer.json()["values"].values()) == [0, 3]


def test_reads_are_counted_with_their_time_for_prometheus(world):
    async def run():
        async with api(world) as client:
            await client.post("/v1/services/delay/features", json={"keys": JFK})
            await client.post("/v1/services/delay/features", json={})
            return (await client.get("/metrics")).text

    text = asyncio.run(run())

    assert 'http_requests_total{operation="read",status="200"} 1.0' in text
    assert 'http_requests_total{operation="read",status="422"} 1.0' in text
    assert "online_store_latency_seconds_count 1.0" in text


def test_how_fresh_views_are_is_told_to_prometheus(world):
    world.ready(oldest_unread_us=NOW_US - 90_000_000)
    told = ask(world, "GET", "/metrics").text

    assert 'feature_freshness_seconds{view="departures@1"} 90.0' in told
    assert 'feature_freshness_sla_seconds{view="departures@1"} 300.0' in told

    world.client.delete(f"ready:{world.env}")  # the stream has withdrawn what it vouched for
    assert 'feature_freshness_seconds{view="departures@1"} +Inf' in ask(world, "GET", "/metrics").text


def test_counts_are_told_while_redis_does_not_say_how_fresh_views_are(world, monkeypatch):
    async def away(*_, **__):
        raise OnlineStoreError("Redis is away")

    monkeypatch.setattr("feature_store.serving.about.freshness_now", away)

    told = ask(world, "GET", "/metrics").text

    assert "online_store_latency_seconds" in told
    assert "feature_freshness_seconds{" not in told
