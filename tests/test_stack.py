"""The long-lived stack, run for real: what dies is started again, nothing is left behind, the data is found again."""

import importlib.util
import json
import os
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path

import pytest
import redis
from feature_store_deploy.stack.backfill import backfill
from feature_store_deploy.stack.guard import check_ports, one_stack
from feature_store_deploy.stack.procfile import Procfile, read_procfile
from feature_store_deploy.stack.valkey import ServerProcess, find_orphan, server_directory
from feature_store_deploy.streams.succession import SUPERSEDED

from feature_store import FeatureReader
from feature_store.clock import SystemClock
from feature_store.embedded import HOST, EmbeddedValkey, free_port
from feature_store.errors import FeatureStoreError, InputError, SettingsError
from feature_store.settings import PREFIX, Settings
from feature_store.status import Status
from feature_store.time_rule import from_us

ROOT = Path(__file__).parent.parent
KEEP = [sys.executable, "-m", "feature_store_deploy.stack.keep", "--"]
PROCFILE = """
release: feature-store apply
valkey: python -m feature_store_deploy.stack.keep -- python -m feature_store_deploy.stack.valkey
flow: python -m feature_store_deploy.stack.keep -- python -m feature_store_deploy.streams flow
archive: python -m feature_store_deploy.stack.keep -- python -m feature_store_deploy.streams archive --every 0.5
api: python -m feature_store_deploy.stack.keep -- python -m feature_store.serving
"""
PATIENCE_S = 120.0


def until(condition: Callable[[], object], *, seconds: float = PATIENCE_S) -> None:
    deadline = time.perf_counter() + seconds
    while not condition():
        assert time.perf_counter() < deadline, "it did not happen in time"
        time.sleep(0.05)


def processes_of(home: Path) -> dict[int, str]:
    """The living processes that have this home in their environment: pid -> command line."""
    mark = f"{PREFIX}HOME={home}".encode()
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue
    return {pid: line for pid, line in found.items() if line}


class Deployment:
    """A folder with a Procfile and the settings to start it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.port, self.api_port = folder, folder / "home", free_port(), free_port()
        self.output = folder / "output.txt"
        (folder / "Procfile").write_text(PROCFILE)
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            f"{PREFIX}HOME": str(self.home),
            f"{PREFIX}REDIS_URL": self.url,
            f"{PREFIX}API_PORT": str(self.api_port),
            f"{PREFIX}DECLARATIONS": "shop:registry",
        }

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @contextmanager
    def up(self) -> Iterator[subprocess.Popen[bytes]]:
        """The stack from when it says that it is up; whatever happens, nothing of it is left."""
        with self.output.open("wb") as output:
            stack = subprocess.Popen(
                [sys.executable, "-m", "feature_store_deploy.stack"],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=output,
            )
        try:
            until(lambda: "The stack is up" in self.said() or stack.poll() is not None)
            assert stack.poll() is None, self.said()
            yield stack
        finally:
            stack.terminate()
            stack.wait(PATIENCE_S)
            for pid in processes_of(self.home):
                os.kill(pid, signal.SIGKILL)

    def up_to_its_end(self) -> subprocess.CompletedProcess[str]:
        """A stack that cannot start."""
        return subprocess.run(
            [sys.executable, "-m", "feature_store_deploy.stack"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def said(self) -> str:
        return self.output.read_text()

    def pid_of(self, command: str) -> int | None:
        """The process of a command, not its supervisor."""
        found = [pid for pid, line in processes_of(self.home).items() if line.endswith(command) and "keep" not in line]
        return found[0] if found else None

    def run(self, *command: str) -> str:
        done = subprocess.run(
            ["feature-store", *command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def count(self) -> object:
        """How many payments of Ada are served."""
        with FeatureReader(self.url) as reader:
            found = reader.get_online_features("risk", {"customer": "ada"})["spending:count_24h"]
        return found.value if found.status is Status.PRESENT else found.status

    def asked(self) -> object:
        """The same over HTTP."""
        body = b'{"keys": {"customer": "ada"}}'
        url = f"http://{HOST}:{self.api_port}/v1/services/risk/features"
        request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)["values"]["spending:count_24h"]

    def pay(self, name: str) -> None:
        moment = from_us(SystemClock().now_us()).isoformat()
        line = f'{{"payment_id":"{name}","customer":"ada","amount":1,"paid_at":"{moment}"}}\n'
        (self.folder / "pay.jsonl").write_text(line)
        self.run("publish", "payments", "pay.jsonl")


def test_the_stack_from_the_first_start_to_a_crash(tmp_path: Path) -> None:
    shop = Deployment(tmp_path)
    with shop.up() as stack:
        assert f"  Redis      {shop.url}" in shop.said()
        assert "  features   feature-store get risk customer=..." in shop.said()
        shop.pay("p1")
        until(lambda: shop.count() == 1)

        kill_and_wait(lambda: shop.pid_of("streams flow"))
        kill_and_wait(lambda: shop.pid_of("feature_store_deploy.stack.valkey"))
        assert "was ended by SIGKILL" in shop.said()
        until(lambda: "took over the Valkey that runs already" in shop.said())
        kill_and_wait(lambda: server_pid(shop))
        shop.pay("p2")
        until(lambda: shop.count() == 2)

        second = shop.up_to_its_end()
        assert (second.returncode, second.stdout) == (2, "")
        assert second.stderr == (
            f"error: another stack (pid {stack.pid}) runs in '{shop.home}'; "
            "stop it, or choose another directory with FEATURE_STORE_HOME\n"
        )

        stack.send_signal(signal.SIGTERM)
        assert stack.wait(PATIENCE_S) == 0, shop.said()
        assert shop.said().endswith("Ending ...\nThe stack has ended.\n")
        assert processes_of(shop.home) == {}

    with shop.up() as stack:
        assert shop.count() == 2
        assert shop.asked() == 2
        assert "  features   feature-store get risk customer=ada" in shop.said()

        stack.kill()

        until(lambda: processes_of(shop.home) == {}, seconds=60)


def kill_and_wait(find: Callable[[], int | None]) -> None:
    """Kill a process as a crash does, and wait for its successor."""
    killed = find()
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    until(lambda: find() not in (None, killed))


def server_pid(shop: Deployment) -> int | None:
    try:
        with redis.Redis.from_url(shop.url, retry=None) as client:
            return int(client.info("server")["process_id"])
    except redis.RedisError:
        return None


def test_the_procfile_names_modules_and_programs_that_exist() -> None:
    procfile = read_procfile(ROOT / "Procfile")

    assert list(procfile.processes) == ["valkey", "flow", "archive", "api", "replay", "webserver", "daemon", "exporter"]
    commands = [shlex.split(command) for command in procfile.processes.values()]
    for command in commands:
        assert command[:4] == ["python", "-m", "feature_store_deploy.stack.keep", "--"]
        assert command[4:6] == ["python", "-m"]
    modules = [command[6] for command in commands] + ["feature_store_deploy.stack.keep", "demo.live"]
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []
    assert procfile.release == "feature-store apply && python -m demo.live prepare"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("valkey: a\nflow\n", "line 2: must be `name: command`, got 'flow'"),
        ("a: b\n\n# a comment\na: c\n", "line 4: process 'a' stands twice"),
        ("release: b\n", "names no process"),
    ],
)
def test_a_wrong_procfile_is_refused_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "Procfile"
    path.write_text(text)

    with pytest.raises(InputError, match=re.escape(message)):
        read_procfile(path)


def test_a_release_that_fails_starts_nothing(tmp_path: Path) -> None:
    shop = Deployment(tmp_path)
    (tmp_path / "Procfile").write_text(
        "release: exit 3\nvalkey: python -m feature_store_deploy.stack.keep -- python -m feature_store_deploy.stack.valkey\n"
    )

    done = shop.up_to_its_end()

    assert (done.returncode, done.stderr) == (2, "error: the stack does not start: `exit 3` ended with exit code 3\n")
    assert processes_of(shop.home) == {}


def test_the_port_of_the_web_ui_is_checked_too(tmp_path: Path) -> None:
    procfile = Procfile(release=None, processes={"webserver": "python -m feature_store_deploy.stack.dagster webserver"})
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"port {port} for the web UI is in use .* with FEATURE_STORE_UI_PORT"):
            check_ports(procfile, Settings(home=tmp_path, ui_port=port))


def test_the_embedded_server_needs_an_address_of_this_machine(tmp_path: Path) -> None:
    procfile = Procfile(release=None, processes={"valkey": "python -m feature_store_deploy.stack.valkey"})
    with pytest.raises(FeatureStoreError, match=r"is no address of the embedded Valkey; .* remove the process"):
        check_ports(procfile, Settings(home=tmp_path, redis_url="redis://redis.example:6379/0"))


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SettingsError, match=r"'.*/file' cannot be written"),
        one_stack(Settings(home=tmp_path / "file")),
    ):
        pass


def test_a_server_left_behind_on_another_port_is_ended_and_started_anew(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, redis_url=f"redis://{HOST}:{free_port()}/0")
    left = EmbeddedValkey(server_directory(settings)).start()
    with redis.Redis.from_url(left.url) as client:
        client.set("key", "value")
    server = ServerProcess(settings)

    server.start()

    with redis.Redis.from_url(settings.redis_url) as client:
        assert client.get("key") == b"value"
    server.stop()
    left.stop()
    assert find_orphan(server_directory(settings)) is None


def kept(*command: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen([*KEEP, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]


def test_a_supervisor_does_not_start_again_what_another_has_superseded() -> None:
    supervisor = kept(sys.executable, "-c", f"raise SystemExit({SUPERSEDED})")
    lines = [supervisor.stdout.readline() for _ in range(2)] if supervisor.stdout else []
    supervisor.terminate()
    rest, _ = supervisor.communicate(timeout=PATIENCE_S)

    assert lines[1].endswith("is not started again: a newer one has taken its place\n")
    assert (rest, supervisor.returncode) == ("", 0)


def test_a_supervisor_starts_what_ends_again_after_longer_and_longer_pauses() -> None:
    supervisor = kept(sys.executable, "-c", "print('here', flush=True); raise SystemExit(3)")
    lines = [supervisor.stdout.readline() for _ in range(7)] if supervisor.stdout else []
    supervisor.terminate()
    supervisor.communicate(timeout=PATIENCE_S)

    assert [line.split("` ")[-1].strip() for line in lines] == [
        "here",
        "ended with exit code 3",
        "starts again in 0.5 s",
        "here",
        "ended with exit code 3",
        "starts again in 1 s",
        "here",
    ]
    assert supervisor.returncode == 0


def test_a_supervisor_ends_what_its_command_left_behind() -> None:
    script = "import subprocess, time; print(subprocess.Popen(['sleep', '1000']).pid, flush=True); time.sleep(1000)"
    supervisor = kept(sys.executable, "-c", script)
    grandchild = int(supervisor.stdout.readline()) if supervisor.stdout else 0

    supervisor.terminate()
    supervisor.communicate(timeout=PATIENCE_S)

    assert supervisor.returncode == 0
    until(lambda: not alive(grandchild), seconds=10)


def test_a_command_ends_with_its_supervisor() -> None:
    supervisor = kept(sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(1000)")
    child = int(supervisor.stdout.readline()) if supervisor.stdout else 0

    supervisor.kill()
    supervisor.communicate(timeout=PATIENCE_S)

    until(lambda: not alive(child), seconds=10)


def test_a_command_that_cannot_be_started_is_named() -> None:
    supervisor = kept("no-such-program")
    line = supervisor.stdout.readline() if supervisor.stdout else ""
    supervisor.terminate()
    supervisor.communicate(timeout=PATIENCE_S)

    assert line == "`no-such-program` cannot be started: No such file or directory\n"


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.parametrize(
    ("names", "start", "end", "message"),
    [
        (
            ["events/paymnets"],
            "2026-03-01",
            "2026-03-02",
            "unknown asset 'events/paymnets'; did you mean 'events/payments'",
        ),
        ([], "2026-03-02", "2026-03-02", "`--start` must lie before `--end`, got 2026-03-02 and 2026-03-02"),
        (
            [],
            "2019-12-31",
            "2020-01-02",
            "`--start` must not lie before 2020-01-01, where the history of the sources begins",
        ),
        ([], "2026-03-01", "2199-01-01", "because today is the last day, got 2199-01-01"),
    ],
)
def test_a_wrong_backfill_is_refused_before_dagster_starts(
    names: list[str], start: str, end: str, message: str, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, declarations="shop:registry")

    with pytest.raises(FeatureStoreError, match=re.escape(message)):
        backfill(settings, names, start=date.fromisoformat(start), end=date.fromisoformat(end))
    assert list(tmp_path.iterdir()) == []


def test_dagsters_books_are_begun_by_one_process(tmp_path: Path) -> None:
    code = "import sys; from feature_store_deploy.stack.dagster import begin_books; from feature_store import Settings; begin_books(Settings(home=sys.argv[1]))"
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT) for _ in range(2)]

    assert [process.wait(PATIENCE_S) for process in both] == [0, 0]
    for database in ("schedules/schedules.db", "history/runs.db", "history/runs/index.db"):
        with closing(sqlite3.connect(tmp_path / "dagster" / "dev" / database)) as connection:
            assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
