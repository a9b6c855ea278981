"""A client generated from the API's own document: strictly typed, and what it reads over a real port is what the reader says."""

import dataclasses
import importlib
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx
import msgspec
import pytest
from access_world import SOURCE, bearer
from api_server import running
from typed_world import COLUMNS, ROW, TypedWorld

from feature_store.declare.key import entity_key
from feature_store.online.rollout import is_in_share
from feature_store.reader import FeatureReader

TESTS = Path(__file__).parent
# What is checked is the client's types, not those of the HTTP library below them, which take most of the time.
CONFIGURATION = "[mypy]\nstrict = true\n[mypy-httpx.*]\nfollow_imports = skip\n"


@pytest.fixture(scope="module")
def world(valkey, module_environment):
    return TypedWorld(valkey.url, module_environment)


@pytest.fixture(scope="module")
def key(world):
    return world.key(services=["account", "asked", "halves"], views=["legs"], sources=[SOURCE])


@pytest.fixture(scope="module")
def url(world):
    with running(world) as api:
        yield api.url


@pytest.fixture(scope="module")
def generated(url, key, tmp_path_factory):
    """The folder of the client, and what the generator had to say."""
    folder = tmp_path_factory.mktemp("client")
    document = folder / "openapi.json"
    document.write_bytes(httpx.get(f"{url}/openapi.json", headers=bearer(key)).content)
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta=none"]
    (folder / "config.yml").write_text("post_hooks: []\n")
    options = [f"--path={document}", f"--output-path={folder / 'feature_client'}", f"--config={folder / 'config.yml'}"]
    done = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
    return folder, done.stdout + done.stderr


@pytest.fixture(scope="module")
def program(generated):
    folder, _ = generated
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("client_program")
    finally:
        sys.path.remove(str(folder))
        for name in [each for each in sys.modules if each.startswith(("feature_client", "client_program"))]:
            del sys.modules[name]


@pytest.fixture
def client(program, url, key):
    with sys.modules["feature_client"].AuthenticatedClient(base_url=url, token=key) as client:
        yield client


def test_the_generator_takes_everything_in_the_document_but_messagepack(generated):
    folder, said = generated
    problems = Counter(
        line for line in said.splitlines() if re.match("Unsupported|Cannot|Could not|Unable|Unknown", line)
    )

    assert set(problems) == {"Unsupported content type application/msgpack"}
    nameless = [path.stem for path in (folder / "feature_client" / "models").glob("*_type_*.py")]
    assert nameless == []


def test_a_program_on_the_client_passes_a_strict_type_checker_and_each_misuse_does_not(generated, tmp_path):
    folder, _ = generated
    (tmp_path / "mypy.ini").write_text(CONFIGURATION)
    programs = [TESTS / "client_program.py", TESTS / "client_misused.py"]
    command = [sys.executable, "-m", "mypy", "--config-file", str(tmp_path / "mypy.ini"), f"--cache-dir={os.devnull}"]
    environment = os.environ | {"MYPYPATH": f"{folder}:{TESTS}"}
    done = subprocess.run([*command, *programs], capture_output=True, text=True, env=environment, check=False)

    found = set(re.findall(r"(\w+)\.py:(\d+): error: .*\[([\w-]+)\]", done.stdout))
    lines = enumerate(programs[1].read_text().splitlines(), start=1)
    marked = {("client_misused", str(n), said[1]) for n, line in lines if (said := re.search(r"  # ([\w-]+)$", line))}
    assert found == marked, done.stdout + done.stderr
    assert len(marked) == 13


def test_one_row_has_the_values_of_the_reader_with_their_types(world, program, client):
    keys = sys.modules["feature_client.models.account_v1_keys"].AccountV1Keys
    found = program.account(client, keys(**{**ROW, "token": program.encoded(ROW["token"])}))

    with FeatureReader(world.url, env=world.env, clock=world.clock) as reader:
        vector = reader.get_online_features("account", ROW)
    expected = [*vector.values, vector.statuses[3].name, vector["ledger:label"].event_time]
    told = dataclasses.astuple(found)
    assert list(told) == expected
    assert [type(value) for value in told[:8]] == [type(value) for value in vector.values]


def test_many_rows_and_a_service_that_is_split_are_read_by_their_types(world, program, client):
    keys = sys.modules["feature_client.models.account_v1_keys"].AccountV1Keys
    half = sys.modules["feature_client.models.halves_v1_keys"].HalvesV1Keys
    given = {**ROW, "token": program.encoded(ROW["token"])}
    rows = [given, {**given, "number": 5}, {**given, "day": None}]
    split = [{**given, "number": number} for number in range(20)]

    statuses = program.accounts(client, [keys(**row) for row in rows])
    versions = program.halves(client, [half(**row) for row in split])

    with FeatureReader(world.url, env=world.env, clock=world.clock) as reader:
        vectors = reader.get_online_features_batch("account", [{**row, "token": ROW["token"]} for row in rows])
    assert statuses == [[status.name for status in vector.statuses] for vector in vectors]
    kinds = ["str", "int", "bool", "date", "bytes"]
    texts = [entity_key([*{**ROW, "number": n}.values()], kinds, columns=COLUMNS) for n in range(20)]
    assert versions == {f"halves@{2 if is_in_share('halves', text, 50.0) else 1}" for text in texts}
    assert versions == {"halves@1", "halves@2"}


def test_requests_of_functions_lists_events_and_keys_are_typed_and_so_are_problems(world, program, client):
    keys = sys.modules["feature_client.models.asked_v1_keys"].AskedV1Keys
    given = keys(**{**ROW, "token": program.encoded(ROW["token"])})

    assert [program.level(client, given, amount) for amount in (0.1, 3.0, 30.0)] == [0, 1, 2]
    assert program.listed(client, {"origin": "JFK", "dest": "LAX"}) == 2
    place = program.publish(client, "typed")
    assert re.fullmatch(r"\d+-\d+", place.offset)
    problem = program.refusal(client)
    assert (problem.status, problem.type_, problem.events[0].event) == (422, "/problems/invalid", 0)
    assert "level" in problem.events[0].reason
    assert program.may(client) == ("a test", ["account@1"])
    assert msgspec.json.decode(httpx.get(f"{client._base_url}/health").content) == {"status": "ok"}
