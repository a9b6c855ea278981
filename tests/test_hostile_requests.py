"""Requests that nobody should send, to a real server: each is answered by a problem of its own, in time, in bounded memory."""

import json
import resource
import socket
import struct
import time

import httpx
import msgspec
import pytest
from access_world import JFK, SOURCE, bearer
from api_server import running
from fuzzing import BOMBS, DEEP, noise
from typed_world import ROW, TypedWorld

from feature_store.reader.core import LISTS
from feature_store.serving.limits import Limits

READ = "/v1/services/account/features"
LIMITS = Limits(body_s=0.3, head_s=0.3)


@pytest.fixture(scope="module")
def world(valkey, module_environment):
    return TypedWorld(valkey.url, module_environment)


@pytest.fixture(scope="module")
def key(world):
    return world.key(services=["*"], views=["*"], personal=["guests"], sources=[SOURCE], admin=True)


@pytest.fixture(scope="module")
def api(world, key):
    with running(world, limits=LIMITS) as api:
        yield api


@pytest.fixture(scope="module")
def client(api, key):
    with httpx.Client(base_url=api.url, headers=bearer(key), timeout=20) as client:
        yield client


@pytest.fixture
def wire(api, key):
    """A connection on which anything can be sent, and what comes back until it is closed."""
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as opened:
        yield Wire(opened, key)


class Wire:
    def __init__(self, opened, key):
        self.socket, self.key = opened, key

    def send(self, data):
        self.socket.sendall(data)

    def head(self, path=READ, *more):
        lines = [f"POST {path} HTTP/1.1", "host: api", f"authorization: Bearer {self.key}", *more, "", ""]
        self.send("\r\n".join(lines).encode())

    def rest(self):
        received = b""
        try:
            while data := self.socket.recv(1 << 16):
                received += data
        except ConnectionResetError:
            pass
        return received

    def status(self):
        return int(self.rest().split(b" ", 2)[1])


def problem(answer, status, kind):
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert answer.json()["type"] == f"/problems/{kind}"
    return answer.json()["detail"]


PATHS = [READ, f"{READ}/batch", "/v1/features", f"/v1/sources/{SOURCE}/events"]


@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_is_a_bomb_is_malformed_or_invalid_in_every_format(client, path):
    for bomb in [*BOMBS, noise(1_000)]:
        for media in ("application/json", "application/msgpack"):
            answer = client.post(path, content=bomb, headers={"content-type": media})
            assert answer.status_code in (400, 422), (bomb[:20], media, answer.text)
            assert answer.json()["type"] in ("/problems/malformed", "/problems/invalid")


def nested(depth, opening, closing):
    return opening * depth + closing * depth


@pytest.mark.parametrize("depth", [10, 300, 700, 900, 950, 1_000, DEEP])
def test_values_that_are_nested_are_refused_at_every_depth(client, depth):
    deep = nested(depth, "[", "]")
    listed = f'{{"features": ["legs:count_1d"], "rows": [{{"origin": {deep}, "dest": "LAX"}}]}}'
    events = f'{{"events": [{{"uid": {deep}, "at": "2023-11-14T20:00:00Z"}}]}}'
    unknown = f'{{"keys": {{"unknown": {deep}}}}}'

    for path, body in (("/v1/features", listed), (f"/v1/sources/{SOURCE}/events", events), (READ, unknown)):
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422), answer.text
        assert len(answer.content) < 2_000


def test_numbers_times_and_names_of_any_size_are_refused_with_a_short_word(client):
    row = {**ROW, "day": "2024-02-29", "token": ""}

    def read(**changes):
        return client.post(READ, content=json.dumps({"keys": row, "event_times": True} | changes).encode())

    for as_of in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        assert "years 1 to 9999" in problem(read(as_of=as_of), 422, "invalid")
    assert read(as_of="0001-01-01T00:00:00Z").status_code == 200
    for at in ("0001-01-01T00:00:00+00:03", "9999-12-31T23:59:59-14:00"):
        body = {"events": [{"uid": "far", "at": at}, {"uid": "near", "at": "2023-11-14T20:00:00Z"}]}
        answer = client.post(f"/v1/sources/{SOURCE}/events", json=body)
        problem(answer, 422, "invalid")
        assert answer.json()["events"] == [{"event": 0, "reason": "column 'at': must lie in the years 1 to 9999, UTC"}]
    for due in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        body = {"keys": row, "inputs": {"amount": 1.0, "code": 1, "due": due}}
        told = problem(client.post("/v1/services/asked/features", content=json.dumps(body).encode()), 422, "invalid")
        assert "`due` must be a datetime with a time zone" in told
    assert read(keys=row | {"number": 10**300}).status_code == 200
    assert "4,096 bytes" in problem(read(keys=row | {"shop": "x" * 5_000}), 422, "invalid")
    assert read(keys=row | {"shop": "\x00\r\n|{}%\U0010ffff" * 200}).status_code == 200
    problem(read(keys=row | {"number": float("nan")}), 400, "malformed")
    problem(client.post(f"/v1/services/account/versions/{'9' * 5_000}/features", json={}), 404, "unknown-name")
    for name in ("%00", "%ff", "a" * 5_000, "%f0%9f%98%80", "account@" + "9" * 5_000, "' OR 1=1 --"):
        problem(client.post(f"/v1/services/{name}/features", json={}), 404, "unknown-name")
        problem(client.get(f"/v1/services/{name}"), 404, "unknown-name")
    problem(client.get("/v1/services/..%2f..%2fkeys"), 404, "no-such-path")
    names = {"features": ["legs:count_1d\x00"], "rows": []}
    problem(client.post("/v1/features", json=names), 422, "invalid")


def test_headers_of_any_kind_are_refused_or_ignored(client):
    many = {f"x-{i}": "v" for i in range(200)}
    odd = ["*/*;q=nan", "*/*;q=1e999", ",;,;=", "application/json;q=0.0000001", ";" * 5_000, "é".encode()]

    assert client.get("/v1/services", headers=many).status_code == 200
    for accept in odd:
        assert client.post(READ, content=b"{}", headers={"accept": accept}).status_code in (406, 422)
    for media in (
        "application/json; charset=utf-16",
        "multipart/form-data; boundary=x",
        "",
        "a" * 5_000,
        "application/json;",
    ):
        assert client.post(READ, content=b"{}", headers={"content-type": media}).status_code in (415, 422)
    for given in ("", "Bearer", "Basic " + "a" * 5_000, "Bearer " + "\xff" * 10):
        assert client.get("/v1/key", headers={"authorization": given.encode("latin-1")}).status_code == 401


def test_lists_of_features_are_limited_and_so_is_what_is_remembered_of_them(api, client):
    many = {"features": ["legs:count_1d"] * 1_001, "rows": [{"origin": "JFK", "dest": "LAX"}]}

    assert (
        problem(client.post("/v1/features", json=many), 413, "too-large") == "`features` may be 1000 at most, got 1001"
    )
    routes = api.app.state.reads.reader._core._routes
    for count in range(1, LISTS + 20):
        listed = {"features": ["legs:count_1d"] * count, "rows": [JFK | {"dest": "LAX"}]}
        assert client.post("/v1/features", json=listed).status_code == 200
    assert len([name for name in routes if isinstance(name, tuple)]) <= LISTS


def test_a_body_beyond_the_limit_is_not_read_whether_it_says_its_length_or_not(wire):
    wire.head(READ, "transfer-encoding: chunked")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chunk = b"40000\r\n" + b" " * 0x40000 + b"\r\n"
    sent = 0
    try:
        for _ in range(400):
            wire.send(chunk)
            sent += len(chunk)
    except (BrokenPipeError, ConnectionResetError):
        pass

    assert sent < 20 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 << 10  # KiB


def test_a_body_without_end_that_nobody_wants_ends_the_connection(wire):
    wire.head("/v1/nothing", "transfer-encoding: chunked")
    sent = 0
    try:
        while sent < 50 << 20:
            wire.send(b"40000\r\n" + b" " * 0x40000 + b"\r\n")
            sent += 0x40000
    except (BrokenPipeError, ConnectionResetError):
        pass

    assert sent < 20 << 20


def test_a_body_that_is_too_large_is_a_problem_and_ends_the_connection(wire):
    wire.head(READ, "content-length: 2000000")
    wire.send(b" " * 1_200_000)

    answer = wire.rest()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"/problems/too-large" in answer


@pytest.mark.parametrize("length", ["content-length: 100", "transfer-encoding: chunked"])
def test_a_body_that_does_not_come_is_not_waited_for(wire, length):
    began = time.monotonic()
    wire.head(READ, length)

    assert wire.status() == 408
    assert time.monotonic() - began < 5


def test_a_body_that_comes_drop_by_drop_has_a_deadline(wire):
    began = time.monotonic()
    wire.head(READ, "content-length: 1000")
    try:
        while time.monotonic() - began < 3:
            wire.send(b" ")
            time.sleep(0.05)
    except (BrokenPipeError, ConnectionResetError):
        pass

    assert wire.rest().startswith(b"HTTP/1.1 408 ") or time.monotonic() - began < 2


@pytest.mark.parametrize(
    "begun", [b"", b"GET", b"GET /health HTTP/1.1\r\nhost: api\r\n", b"GET /health HTTP/1.1\r\nhost: api\r\nx: "]
)
def test_a_request_that_is_begun_and_not_ended_is_not_waited_for(wire, begun):
    began = time.monotonic()
    wire.send(begun)

    wire.rest()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("part", [b"x: " + b"a" * 1_000 + b"\r\n", b"a" * 1_000])
def test_headers_without_end_are_not_read(wire, part):
    wire.send(b"GET /health HTTP/1.1\r\nhost: api\r\n" + (b"x: " if b"\r" not in part else b""))
    sent = 0
    try:
        while sent < 50 << 20:
            wire.send(part * 100)
            sent += len(part) * 100
    except (BrokenPipeError, ConnectionResetError):
        pass

    assert sent < 10 << 20


def test_an_address_without_end_is_not_read(wire):
    sent = 0
    try:
        wire.send(b"GET /")
        while sent < 50 << 20:
            wire.send(b"a" * 100_000)
            sent += 100_000
    except (BrokenPipeError, ConnectionResetError):
        pass

    assert sent < 10 << 20


@pytest.mark.parametrize(
    "sent",
    [
        noise(500),
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST /v1/features HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/features HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST /v1/features HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST /v1/features HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        struct.pack(">I", 0x16030100) * 20,
    ],
)
def test_what_is_no_http_is_answered_by_400_or_by_nothing(wire, client, sent):
    wire.send(sent)

    answer = wire.rest()
    assert not answer or 400 <= int(answer.split(b" ", 2)[1]) < 500, answer
    assert client.get("/health").status_code == 200


def test_the_server_answers_others_while_some_are_slow(wire, client):
    wire.head(READ, "content-length: 100")

    found = client.post(READ, content=msgspec.json.encode({"keys": ROW}))
    assert found.status_code == 200


def test_a_body_that_nobody_wants_and_that_does_not_come_ends_the_connection(wire):
    began = time.monotonic()
    wire.head("/v1/nothing", "content-length: 100")

    assert wire.status() == 404
    assert time.monotonic() - began < 3


def test_an_answer_is_one_write(wire):
    body = json.dumps({"keys": {**ROW, "day": "2024-02-29", "token": ""}}).encode()
    for _ in range(20):
        wire.head(READ, f"content-length: {len(body)}")
        wire.send(body)
        head, _, answered = wire.socket.recv(1 << 16).partition(b"\r\n\r\n")
        assert b" 200 " in head[:16]
        assert len(answered) == int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]) > 0
