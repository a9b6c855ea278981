"""Every row of the tables in docs/bad-input.md: what is said, and that lake and Redis are as before."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import redis
import shop

from feature_store import FeatureStore, Settings
from feature_store.cli.app import run
from feature_store.clock import ManualClock
from feature_store.embedded import HOST, EmbeddedValkey, free_port
from feature_store.fold.archive import Archiver
from feature_store.fold.run import LocalStream
from feature_store.lake import Lake
from feature_store.log.protocol import Record
from feature_store.settings import PREFIX
from feature_store.status import Status
from feature_store.time_rule import to_us

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/bad-input.md").read_text()
EVENT = '{"payment_id":"e1","customer":"ada","amount":5,"paid_at":"2026-03-02T09:00:00Z"}\n'
HEADER = "payment_id,customer,amount,paid_at\n"
FILES = {
    "payments.csv": HEADER + "p1,ada,10.0,2026-03-01 09:00:00Z\n",
    "good.jsonl": EVENT,
    "column.jsonl": EVENT + EVENT.replace("amount", "amuont").replace("e1", "e2"),
    "missing.csv": "payment_id,customer,paid_at\np1,ada,2026-03-01 09:00:00Z\n",
    "type.jsonl": EVENT.replace(":5", ':"five"'),
    "type.csv": HEADER + "p1,ada,five,2026-03-01 09:00:00Z\n",
    "range.jsonl": EVENT.replace(":5", ":-5"),
    "null.jsonl": EVENT.replace('"ada"', "null"),
    "long.jsonl": EVENT.replace("ada", "a" * 4_097),
    "naive.jsonl": EVENT.replace("00Z", "00"),
    "garbage.jsonl": EVENT + '{"payment_id":\n',
    "future.jsonl": EVENT.replace("2026", "2126"),
    "conflict.jsonl": EVENT + EVENT.replace(":5", ":6"),
    "empty.jsonl": "",
    "header.csv": HEADER,
    "Procfile": f"valkey: {sys.executable} -m feature_store_deploy.stack.keep -- {sys.executable} -m feature_store_deploy.stack.valkey\n",
    "in the way": "a file\n",
}


@dataclass(frozen=True)
class Row:
    """A row of a table of the page."""

    cells: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.cells[0]


def table(title: str) -> list[Row]:
    """The rows of the table in a section of the page."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [Row(tuple(plain(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1])) for line in lines[2:]]


def plain(cell: str) -> str:
    """A cell without the marks of code."""
    code = re.fullmatch(r"(`+) ?(.*?) ?\1", cell.strip())
    return code[2] if code else cell.strip()


def says(pattern: str, text: str) -> bool:
    """Whether a text is what the page says, `...` standing for anything."""
    return re.fullmatch(re.escape(pattern).replace(r"\.\.\.", ".*"), text) is not None


@dataclass(frozen=True)
class Project:
    """The shop in a folder of its own, applied, with a day of history and a published event."""

    folder: Path
    environment: dict[str, str]
    lake: Lake
    client: redis.Redis

    def state(self) -> tuple[object, ...]:
        """All of Redis, and the newest snapshot of the lake: every write makes one."""
        keys = {key: self.client.dump(key) for key in self.client.scan_iter()}
        return keys, self.lake.snapshot()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("shop")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    for name, times in {
        "naive.parquet": pd.to_datetime(["2026-03-01 10:00"]),
        "late.parquet": pd.to_datetime(["2026-05-01 10:00Z"]),
    }.items():
        pd.DataFrame({"customer": ["ada"], "event_timestamp": times}).to_parquet(folder / name)
    with EmbeddedValkey(folder / "valkey") as server, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        environment = {
            f"{PREFIX}HOME": str(folder / "home"),
            f"{PREFIX}REDIS_URL": server.url,
            f"{PREFIX}DECLARATIONS": "shop:registry",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        }
        for name, value in environment.items():
            patch.setenv(name, value)
        assert run(["apply"]) == 0
        with FeatureStore() as store:
            start = datetime(2026, 3, 1, tzinfo=UTC)
            store.load("payments", start=start, end=start + timedelta(days=1))
            yield Project(folder, environment, store.lake, store.redis)


COMMANDS = table("At the command line")
IN_PROCESS = [row for row in COMMANDS if row.cells[1] != "up"]


@pytest.fixture
def surroundings(request: pytest.FixtureRequest, project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes what the row is about: most rows are about a file that is there already."""
    match request.getfixturevalue("row").name:
        case "Redis not running":
            monkeypatch.setenv(f"{PREFIX}REDIS_URL", f"redis://{HOST}:{free_port()}/0")
            yield
        case "Redis without field expiry":
            with EmbeddedValkey(project.folder / "old", options={"rename-command": ("HSETEX", "")}) as old:
                monkeypatch.setenv(f"{PREFIX}REDIS_URL", old.url)
                yield
                with redis.Redis.from_url(old.url) as client:
                    assert client.dbsize() == 0
        case "Redis that evicts":
            project.client.config_set("maxmemory-policy", "allkeys-lru")
            yield
            project.client.config_set("maxmemory-policy", "noeviction")
        case "lake path not writable":
            monkeypatch.setenv(f"{PREFIX}HOME", str(project.folder / "in the way"))
            yield
            assert (project.folder / "in the way").read_text() == FILES["in the way"]
        case "half of a shared lake (`FEATURE_STORE_LAKE_DATA` alone)":
            monkeypatch.setenv(f"{PREFIX}LAKE_DATA", "s3://team/lake")
            yield
        case "Postgres of a shared lake not running":
            monkeypatch.setenv(f"{PREFIX}LAKE_CATALOG", "postgres:host=127.0.0.1 port=1")
            monkeypatch.setenv(f"{PREFIX}LAKE_DATA", "s3://team/lake")
            yield
        case "wrong setting":
            monkeypatch.setenv(f"{PREFIX}ENVIRONMENT", "Live!")
            yield
        case _:
            yield


@pytest.mark.parametrize("row", IN_PROCESS, ids=lambda row: row.name)
def test_wrong_input_gets_one_line_and_changes_nothing(
    row: Row, project: Project, surroundings: None, capsys: pytest.CaptureFixture[str]
) -> None:
    before = project.state()
    capsys.readouterr()

    code = run(row.cells[1].split())

    said = capsys.readouterr()
    assert says(f"error: {row.cells[3]}\n", said.err), said.err
    assert (str(code), said.out) == (row.cells[2], "")
    assert project.state() == before
    assert not (project.folder / "set.parquet").exists()


@pytest.mark.parametrize("process", ["flow", "archive"])
@pytest.mark.parametrize("trouble", ["away", "evicts", "old"])
def test_flow_and_archiver_say_the_same_of_a_wrong_redis(
    process: str,
    trouble: str,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    options = {"away": {}, "evicts": {"maxmemory-policy": "allkeys-lru"}, "old": {"rename-command": ("HSETEX", "")}}
    expected = {"away": "no Redis answers at", "evicts": "may evict", "old": "has no field expiry"}[trouble]
    with EmbeddedValkey(tmp_path, options=options[trouble]) as server:
        if trouble == "away":
            server.stop()
        monkeypatch.setenv(f"{PREFIX}REDIS_URL", server.url)
        command = [sys.executable, "-m", "feature_store_deploy.streams", process]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), str(project.folder)]))
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (said.returncode, said.stdout) == (2, "")
        assert re.fullmatch(f"error: .*{expected}.*\n", said.stderr), said.stderr
        if trouble != "away":
            with redis.Redis.from_url(server.url) as client:
                assert client.dbsize() == 0


def test_publish_refuses_a_redis_that_is_away(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", f"redis://{HOST}:{free_port()}/0")

    assert run(["publish", "payments", "good.jsonl"]) == 2
    assert capsys.readouterr().err.startswith("error: no Redis answers at")


def test_a_port_in_use_is_named_before_anything_starts(project: Project, tmp_path: Path) -> None:
    row = next(row for row in COMMANDS if row.cells[1] == "up")
    with socket.create_server((HOST, 0)) as taken:
        url = f"redis://{HOST}:{taken.getsockname()[1]}/0"

        done = started("up", project, {f"{PREFIX}REDIS_URL": url, f"{PREFIX}HOME": str(tmp_path)})

    assert says(f"error: {row.cells[3]}\n", done.stderr), done.stderr
    assert (str(done.returncode), done.stdout) == (row.cells[2], "")
    assert [path.name for path in tmp_path.iterdir()] == ["stack.lock"]


def test_the_installed_program_says_it_too(project: Project) -> None:
    done = started("publish paymnets good.jsonl", project, {})

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown source 'paymnets'; did you mean 'payments'? (known: payments, refunds)\n"


def started(command: str, project: Project, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    program = Path(sys.executable).parent / "feature-store"
    return subprocess.run(
        [program, *command.split()],
        env={**os.environ, **project.environment, **environment},
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


RECORDS = {
    "no JSON": "garbage",
    "unknown column in place of a known one": EVENT.replace("amount", "amuont"),
    "wrong type": FILES["type.jsonl"],
    "value out of range": FILES["range.jsonl"],
    "null key": FILES["null.jsonl"],
    "key that is too long": FILES["long.jsonl"],
    "naive time": FILES["naive.jsonl"],
    "event in the future": FILES["future.jsonl"],
    "conflicting duplicate": EVENT.replace(":5", ":6"),
    "duplicate": EVENT,
}


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)
    assert len(named) > 5

    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / "tests" / file).read_text()]

    assert missing == []


def test_every_row_about_the_stream_has_a_record() -> None:
    assert [row.name for row in table("In the stream")] == list(RECORDS)


def test_a_bad_record_never_stops_the_stream(valkey: EmbeddedValkey, environment: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, redis_url=valkey.url, environment=environment)
    now = datetime(2026, 3, 2, 9, 1, tzinfo=UTC)
    last = EVENT.replace("e1", "e9")
    with FeatureStore(shop.registry, settings=settings, clock=ManualClock(to_us(now))) as store:
        store.apply()
        log = store.log("payments")
        records = [EVENT, *RECORDS.values(), last]
        log.publish([Record(str(n), text.encode(), to_us(now)) for n, text in enumerate(records)])
        stream = LocalStream(store.compiled, store.lake, store.redis, env=environment, clock=store.clock)
        archiver = Archiver(store.compiled, store.lake, log, source="payments")

        assert stream.step() == len(records)
        assert archiver.step() == len(records)

        served = store.get_online_features("risk", {"customer": "ada"})["spending:count_24h"]
        assert (served.value, served.status) == (2, Status.PRESENT)
        with store.lake.cursor() as cursor:
            kept = cursor.execute(
                f"SELECT _event_id FROM ({store.lake.events_sql('payments')}) ORDER BY ALL"
            ).fetchall()
            letters = cursor.execute('SELECT payload, kind, reason FROM rejected_events ORDER BY "offset"').fetchall()
    assert kept == [("e1",), ("e9",)]
    assert [payload for payload, _, _ in letters] == [text.encode() for text in RECORDS.values()]
    for row, (_, kind, reason) in zip(table("In the stream"), letters, strict=True):
        assert (kind, says(row.cells[2], reason)) == (row.cells[1], True), reason
