"""`feature-store serve` as a real server: workers that are replaced, a stop that fails no request."""

import asyncio
import gc
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import httpx
import pytest
import trustme
import uvicorn
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from online_world import World, departures, item, service

from feature_store.access.grants import Grants
from feature_store.access.keyring import Keyring, encode_keyring
from feature_store.access.keys import make_key
from feature_store.clock import ReplayClock
from feature_store.errors import InputError, OnlineStoreError, SettingsError
from feature_store.online.keys import access_key
from feature_store.serving.about import State
from feature_store.serving.grpc.v1.features_pb2 import GetFeaturesRequest, Value
from feature_store.serving.grpc.v1.features_pb2_grpc import FeatureStoreStub
from feature_store.serving.server import serve
from feature_store.serving.worker import DrainingServer
from feature_store.settings import Settings

COUNT = item("departures", "count_1h")
BODY = {"keys": {"origin": "JFK"}}
CLI = "from feature_store.cli import main; main()"
READ = "/v1/services/delay/features"


@pytest.fixture
def world(valkey, environment):
    made = World(valkey.url, environment)
    view = departures()
    made.publish(view, services=[service(COUNT)])
    made.put(view, "JFK", 3, 12.0)
    made.ready()
    return made


@contextmanager
def serving(world, *options, **settings):
    """A running server and its URL."""
    replay = ReplayClock(origin_us=world.clock.now_us(), started_us=time.time_ns() // 1000)
    given = {"REDIS_URL": world.url, "ENVIRONMENT": world.env, "REPLAY": str(replay), **settings}
    environment = os.environ | {f"FEATURE_STORE_{name}": str(value) for name, value in given.items()}
    command = [sys.executable, "-c", CLI, "serve", "--port=0", *options]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            line = server.stdout.readline()
            assert line, server.stderr.read()
            yield server, line.split()[2]
        finally:
            if server.poll() is None:
                server.kill()


def wait_until_ready(url, *, seconds=60, verify=True):
    deadline = time.monotonic() + seconds
    while True:
        try:
            if httpx.get(f"{url}/ready", verify=verify).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "the server did not become ready"
        time.sleep(0.05)


def children(pid):
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_stop_fails_no_request_and_is_told_to_a_balancer_first(world):
    with serving(world, "--drain=1.5") as (server, url), httpx.Client(base_url=url) as client:
        wait_until_ready(url)
        statuses, readiness = [], []
        until = None
        while until is None or time.monotonic() < until:
            statuses.append(client.post(READ, json=BODY).status_code)
            readiness.append(client.get("/ready").status_code)
            if len(statuses) == 20:
                server.send_signal(signal.SIGTERM)
                until = time.monotonic() + 1.0

        assert server.wait(30) == 0
        assert set(statuses) == {200}
        assert readiness[:20] == [200] * 20
        assert readiness[-1] == 503
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health")


async def test_what_a_server_has_when_it_is_ready_is_never_looked_through_by_the_collector_again():
    async def app(scope, receive, send):
        raise AssertionError("nobody asks")

    server = DrainingServer(uvicorn.Config(app, lifespan="off", log_level="error"), State(), drain_s=0)
    gc.unfreeze()
    threshold = gc.get_threshold()
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        while not server.started:  # noqa: ASYNC110 - an attribute is all that uvicorn has
            await asyncio.sleep(0.01)
        frozen, wakes = gc.get_freeze_count(), gc.get_threshold()
        gc.unfreeze()
        gc.set_threshold(*threshold)
        server.should_exit = True
        await serving

    assert frozen > 10_000
    assert wakes[0] > 100 * 100  # a batch of a hundred rows makes some containers for each


def test_a_worker_that_dies_is_replaced_and_counts_go_on(world):
    with serving(world, "--workers=2") as (server, url):
        wait_until_ready(url)
        first = children(server.pid)
        assert httpx.post(f"{url}{READ}", json=BODY).json()["values"] == {"departures:count_1h": 3}
        os.kill(first[0], signal.SIGKILL)
        deadline = time.monotonic() + 60
        while (now := children(server.pid)) == first or len(now) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for _ in range(10):
            with httpx.Client(base_url=url, transport=httpx.HTTPTransport(retries=3)) as client:
                assert client.post(READ, json=BODY).status_code == 200
        counted = httpx.get(f"{url}/metrics").text
        server.send_signal(signal.SIGTERM)

        assert server.wait(30) == 0
        assert f"worker {first[0]} has ended (by SIGKILL); another takes its place" in server.stderr.read()
        assert 'http_requests_total{operation="read",status="200"} 11.0' in counted
        assert all(not Path(f"/proc/{pid}").exists() for pid in [*first, *now])


def test_workers_end_with_a_server_that_is_killed(world):
    with serving(world, "--workers=2") as (server, url):
        wait_until_ready(url)
        workers = children(server.pid)
        server.kill()
        deadline = time.monotonic() + 30
        while any(Path(f"/proc/{pid}").exists() for pid in workers):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_port_that_is_taken_is_said_in_one_line(world):
    with serving(world) as (server, url):
        wait_until_ready(url)
        port = url.rpartition(":")[2]
        command = [sys.executable, "-c", CLI, "serve", f"--port={port}"]
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        server.send_signal(signal.SIGINT)

        assert (second.returncode, second.stdout) == (2, "")
        assert second.stderr == (
            f"error: `port` {port} of 127.0.0.1 cannot be had: Address already in use; name another with --port\n"
        )
        assert server.wait(30) == 0


GRPC_READ = GetFeaturesRequest(service="delay", keys={"origin": Value(string_value="JFK")})


def grpc_address(server):
    """Where a server says that it serves gRPC."""
    said = server.stdout.readline()
    assert said.startswith("serving gRPC at "), said
    return said.split()[3]


def grpc_code(channel):
    """With what a read ends."""
    try:
        return FeatureStoreStub(channel).GetFeatures.with_call(GRPC_READ, timeout=10)[1].code().name
    except grpc.RpcError as error:
        return error.code().name


def health_of(channel):
    answer = HealthStub(channel).Check(HealthCheckRequest(), timeout=10)
    return HealthCheckResponse.ServingStatus.Name(answer.status)


def test_workers_share_the_port_of_the_grpc_api_and_a_stop_fails_no_call(world):
    with serving(world, "--workers=2", "--grpc-port=0", "--drain=1.5") as (server, url):
        address = grpc_address(server)
        wait_until_ready(url)
        with grpc.insecure_channel(address) as channel:
            assert health_of(channel) == "SERVING"
            for _ in range(12):  # each a connection of its own, so that both workers have some
                with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as another:
                    assert FeatureStoreStub(another).GetFeatures(GRPC_READ, timeout=10).features[0].value.int_value == 3
            counted = httpx.get(f"{url}/metrics").text
            port = address.rpartition(":")[2]
            command = [sys.executable, "-c", CLI, "serve", "--port=0", f"--grpc-port={port}"]
            second = subprocess.run(command, capture_output=True, text=True, check=False)
            server.send_signal(signal.SIGTERM)
            until, codes = time.monotonic() + 1.0, set()
            while time.monotonic() < until:
                codes.add(FeatureStoreStub(channel).GetFeatures.with_call(GRPC_READ, timeout=10)[1].code())
            drained = health_of(channel)

            assert server.wait(30) == 0
            assert codes == {grpc.StatusCode.OK}
            assert drained == "NOT_SERVING"
            assert 'grpc_requests_total{code="OK",operation="GetFeatures"} 12.0' in counted
            assert (second.returncode, second.stdout) == (2, "")
            assert (
                f"`port` {port} of 127.0.0.1 cannot be had: Address already in use; name another with --grpc-port"
                in second.stderr
            )
            with pytest.raises(grpc.RpcError):
                FeatureStoreStub(channel).GetFeatures(GRPC_READ, timeout=10)


def test_a_call_under_way_is_answered_before_the_server_ends(world):
    with serving(world, "--grpc-port=0") as (server, url), grpc.insecure_channel(grpc_address(server)) as channel:
        wait_until_ready(url)
        stub = FeatureStoreStub(channel)
        stub.GetFeatures(GRPC_READ, timeout=10)
        world.client.client_pause(600)
        under_way = stub.GetFeatures.future(GRPC_READ, timeout=10)
        time.sleep(0.2)
        server.send_signal(signal.SIGTERM)

        assert under_way.result().features[0].value.int_value == 3
        assert server.wait(30) == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
def test_what_others_can_reach_is_served_only_once_there_are_keys(world, host):
    settings = Settings(redis_url=world.url, environment=world.env)

    with pytest.raises(InputError, match="`host` must be a loopback address as long as the environment"):
        serve(settings, host=host, port=0, workers=1, drain_s=0, said=print)


def test_nobody_listens_for_others_while_redis_does_not_say_whether_there_are_keys():
    settings = Settings(redis_url="redis://127.0.0.1:1/0", environment="dev")

    with pytest.raises(OnlineStoreError, match="nobody says whether there are API keys: Redis does not answer"):
        serve(settings, host="0.0.0.0", port=0, workers=1, drain_s=0, said=print)


def test_an_audit_log_that_cannot_be_written_is_said_before_the_server_listens(tmp_path):
    with pytest.raises(SettingsError, match="setting `audit_log` must be 'stderr' or a file that can be written"):
        serve(Settings(audit_log=str(tmp_path)), host="127.0.0.1", port=0, workers=1, drain_s=0, said=print)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 with its key, and the authority that made it, as files."""
    folder, authority = tmp_path_factory.mktemp("tls"), trustme.CA()
    made = authority.issue_cert("127.0.0.1", "localhost")
    made.cert_chain_pems[0].write_to_path(folder / "server.pem")
    made.private_key_pem.write_to_path(folder / "server.key")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    return folder


def test_every_worker_of_a_server_for_others_asks_for_keys_over_https(world, certificate, tmp_path):
    key, text = make_key("a test", Grants(services=("delay",)), now_us=world.clock.at_us, by="a test")
    world.client.set(access_key(world.env), encode_keyring(Keyring().with_key(key)))
    audit = tmp_path / "audit.jsonl"
    tls = {"API_TLS_CERTIFICATE": certificate / "server.pem", "API_TLS_KEY": certificate / "server.key"}
    trusted = ssl.create_default_context(cafile=certificate / "authority.pem")

    with serving(world, "--workers=2", "--host=0.0.0.0", "--grpc-port=0", AUDIT_LOG=audit, **tls) as (server, shown):
        assert shown.startswith("https://0.0.0.0:")
        url = shown.replace("0.0.0.0", "127.0.0.1")
        address = grpc_address(server).replace("0.0.0.0", "127.0.0.1")
        wait_until_ready(url, verify=trusted)
        authority = grpc.ssl_channel_credentials((certificate / "authority.pem").read_bytes())
        mine = grpc.composite_channel_credentials(authority, grpc.access_token_call_credentials(text))
        for credentials, code in ((authority, "UNAUTHENTICATED"), (mine, "OK")) * 3:
            apart = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
            with grpc.secure_channel(address, credentials, apart) as channel:
                assert grpc_code(channel) == code
        with grpc.insecure_channel(address) as channel:
            assert grpc_code(channel) == "UNAVAILABLE"
        for _ in range(6):
            sent = ({}, {"authorization": f"Bearer {text}"})
            answers = [httpx.post(f"{url}{READ}", json=BODY, headers=headers, verify=trusted) for headers in sent]
            assert [answer.status_code for answer in answers] == [401, 200]
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            httpx.get(f"{url}/health")
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url.replace('https', 'http')}/health")
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0

    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert sorted(line["status"] for line in lines if line["did"] == "read") == [200] * 6 + [401] * 6
    assert sorted(line["status"] for line in lines if line["did"] == "GetFeatures") == [200] * 3 + [401] * 3
    assert {line.get("key") for line in lines} == {None, key.id}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("server.pem", None), "setting `api_tls_key` is missing: a certificate and its key are named together"),
        ((None, "server.key"), "setting `api_tls_certificate` is missing"),
        (("server.pem", "none.key"), "are no certificate with its key (No such file or directory)"),
        (("authority.pem", "server.key"), "are no certificate with its key (KEY_VALUES_MISMATCH)"),
        (("server.key", "server.key"), "are no certificate with its key ("),
    ],
)
def test_a_certificate_that_is_of_no_use_is_said_before_the_server_listens(certificate, files, said):
    named = [None if name is None else certificate / name for name in files]
    settings = Settings(api_tls_certificate=named[0], api_tls_key=named[1])

    with pytest.raises(SettingsError, match=re.escape(said)):
        serve(settings, host="127.0.0.1", port=0, workers=1, drain_s=0, said=print)
