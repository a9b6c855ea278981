"""Events over HTTP, into a real log: all of a request or none, with their places, and each id counts once."""

import asyncio
import logging
from dataclasses import replace

import httpx
import msgspec
import pytest
from stream_world import NOW_US, SOURCE, World, compiled, rows

from feature_store import Registry
from feature_store import kafka as kafka_topic
from feature_store.access.keyring import Keyring, encode_keyring
from feature_store.errors import LogError
from feature_store.log.binding import open_log
from feature_store.online.keys import access_key
from feature_store.online.layout import publish_layouts, view_layout
from feature_store.serving.app import build_app
from feature_store.serving.limits import Limits
from feature_store.serving.publishing import Publishing
from feature_store.time_rule import DAY_US, from_us
from feature_store.transforms.compiled import compile_registry

PATH = f"/v1/sources/{SOURCE}/events"


@pytest.fixture
def world(valkey, tmp_path, environment):
    made = World(valkey.url, tmp_path, environment)
    made.client.set(access_key(environment), encode_keyring(Keyring()))
    yield made
    made.close()


def ask(world, method, path, *, limits=None, declared=compiled, times=1, **options):
    """The answer to one request, or to the last of several."""
    limits = limits or Limits()
    publishing = Publishing(compiled=declared, client=world.client, env=world.env, clock=world.clock, limits=limits)

    async def run():
        app = build_app(world.url, env=world.env, clock=world.clock, limits=limits, publishing=publishing)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            answers = [await client.request(method, path, **options) for _ in range(times)]
            return answers[-1]

    return asyncio.run(run())


def post(world, events, **options):
    body = msgspec.json.encode({"events": events})
    return ask(world, "POST", PATH, content=body, headers={"content-type": "application/json"}, **options)


def held(world):
    return sum(world.log.lag(partition, world.log.begin(partition)) for partition in range(world.log.partitions))


def test_events_are_in_the_log_when_the_answer_comes_and_served_by_the_stream(world):
    some = rows(20)
    stream = world.stream()

    answer = post(world, some)

    positions = answer.json()["positions"]
    assert (answer.status_code, len(positions), held(world)) == (200, 20, 20)
    assert {each["partition"] for each in positions} <= set(range(4))
    stream.step()
    served = world.values()
    assert served
    assert post(world, some).status_code == 200  # the answer may have been lost
    stream.step()
    assert world.values() == served


def test_a_request_with_an_event_that_is_none_publishes_nothing_and_names_it(world):
    good = rows(3)
    late = {**good[0], "uid": "ahead", "at": from_us(NOW_US + DAY_US)}
    bad = [
        {**good[1], "uid": None},
        {**good[1], "level": -1000},
        {**good[2], "speed": 3},
        {**good[2], "at": "noon"},
        late,
    ]

    answer = post(world, [good[0], *bad])

    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, "/problems/invalid")
    assert problem["detail"] == "5 of 6 events do not fit; nothing was published"
    assert [each["event"] for each in problem["events"]] == [1, 2, 3, 4, 5]
    reasons = [each["reason"] for each in problem["events"]]
    assert reasons[0] == "column 'uid': must not be null"
    assert "level" in reasons[1]
    assert reasons[2].startswith("unknown column 'speed'")
    assert "'at'" in reasons[3]
    assert "in the future" in reasons[4]
    assert held(world) == 0


def test_what_cannot_be_taken_is_a_problem(world):
    unknown = ask(world, "POST", "/v1/sources/nothing/events", json={"events": [{}]})
    empty = post(world, [])
    many = post(world, rows(5), limits=Limits(rows=4))

    unsaid = ask(world, "POST", PATH, content=msgspec.json.encode({"events": rows(1)}))
    assert [answer.status_code for answer in (unknown, empty, many, unsaid)] == [404, 422, 413, 415]
    assert held(world) == 0
    assert unknown.json()["known"] == [SOURCE]
    assert many.json()["detail"] == "`events` may be 4 at most, got 5"


def test_a_log_without_room_is_said_with_when_to_try_again(world, monkeypatch):
    narrow = open_log(world.client, world.env, compiled.registry.source(SOURCE))
    narrow._limit = 1
    monkeypatch.setattr("feature_store.serving.publishing.open_log", lambda *_: narrow)

    answer = post(world, rows(20))

    assert (answer.status_code, answer.json()["type"], answer.headers["retry-after"]) == (
        429,
        "/problems/log-full",
        "1",
    )
    assert held(world) == 0


def over_kafka(topic, servers):
    """The same declarations with a log in Kafka."""
    source = replace(compiled.registry.source(SOURCE), log=kafka_topic(topic, bootstrap_servers=servers))
    return compile_registry(Registry(views=[replace(view, source=source) for view in compiled.registry.views]))


@pytest.fixture
def in_kafka(monkeypatch):
    """A log where nobody is; what asks it waits for a moment only."""
    monkeypatch.setattr("feature_store.log.kafka.clients.ANSWER_S", 0.3)
    return over_kafka(SOURCE, "127.0.0.1:1")


def test_events_are_in_kafka_when_the_answer_comes(world, kafka):
    declared = over_kafka(kafka.topic(), kafka.servers)

    answer = post(world, rows(20), declared=declared, times=2)

    log = open_log(world.client, world.env, declared.registry.source(SOURCE))
    assert (answer.status_code, len(answer.json()["positions"])) == (200, 20)
    assert sum(log.lag(partition, log.begin(partition)) for partition in range(log.partitions)) == 40


def test_a_broker_that_is_away_is_said_with_when_to_try_again(world, in_kafka):
    answer = post(world, rows(2), declared=in_kafka)

    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/log-unavailable")
    assert answer.headers["retry-after"] == "1"
    assert "Kafka at 127.0.0.1:1 does not answer" in answer.json()["detail"]


def test_a_log_that_takes_too_long_is_not_waited_for(world, in_kafka):
    limits = Limits(publish_s=0.02)

    answer = post(world, rows(2), declared=in_kafka, limits=limits, times=2)

    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/log-unavailable")
    assert answer.json()["detail"].startswith(f"the log of source '{SOURCE}' did not answer within 0.02 s")


def test_a_log_is_opened_once(world, monkeypatch):
    opened = []
    monkeypatch.setattr(
        "feature_store.serving.publishing.open_log", lambda *given: opened.append(given) or open_log(*given)
    )

    post(world, rows(2), times=3)

    assert len(opened) == 1
    assert held(world) == 6


def test_what_is_wrong_with_the_server_is_noted_in_its_log(world, monkeypatch, caplog):
    def misconfigured(*_):
        raise LogError("environment variable 'KAFKA' is not set")

    monkeypatch.setattr("feature_store.serving.publishing.open_log", misconfigured)
    with caplog.at_level(logging.ERROR, logger="feature_store.serving"):
        answer = post(world, rows(1))

    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal")
    assert "environment variable 'KAFKA' is not set" in caplog.text


def test_the_document_has_the_problems_of_publishing(world):
    publish_layouts(world.client, world.env, [view_layout(plan) for plan in compiled.plans.values()])

    responses = ask(world, "GET", "/openapi.json").json()["paths"][PATH]["post"]["responses"]

    assert {"429", "500", "503"} <= set(responses)
    assert "The log does not answer" in responses["503"]["description"]


def test_the_document_has_the_schema_of_the_events(world):
    publish_layouts(world.client, world.env, [view_layout(plan) for plan in compiled.plans.values()])

    answer = ask(world, "GET", "/openapi.json")

    document = answer.json()
    body = document["paths"][PATH]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/ReadingsEvents"}
    event = document["components"]["schemas"]["ReadingsEvent"]

    assert event["required"] == ["uid", "at"]
    assert event["properties"]["at"] == {"type": "string", "format": "date-time"}
    assert event["properties"]["level"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
