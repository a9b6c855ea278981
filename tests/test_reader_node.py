"""The reader in JavaScript, which knows the wire format only: over the vectors, and beside the Python reader on a real Valkey."""

import itertools
import json
import math
import subprocess
from collections import Counter
from datetime import date, datetime
from pathlib import Path

import pytest
from absent import NO_NODE, NODE
from proof_world import CITIES, SERVICE, World

from feature_store.reader import FeatureReader
from feature_store.time_rule import DAY_US, HOUR_US, MINUTE_US, SECOND_US, to_us

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "examples" / "reader-node"

pytestmark = pytest.mark.skipif(NODE is None, reason=NO_NODE)

ROWS = [
    {"city": city, "kind": kind, "rival": rival}
    for city, kind, rival in itertools.product([*CITIES, "nowhere", None], [1, 2, None], ["york", "nowhere", None])
]


@pytest.fixture(scope="module")
def world(valkey, tmp_path_factory, module_environment):
    """A deployment that has lived for a while: events from the log, folded, and batch rows from the lake."""
    made = World(valkey.url, tmp_path_factory.mktemp("node"), module_environment, seed=3)
    made.restart()
    made.publish_rows()
    for _ in range(3):
        made.happen(40, over_us=10 * MINUTE_US)
        made.step(by_us=10 * MINUTE_US, reads=0)
    yield made
    made.close()


class NodeReader:
    """The process that reads in JavaScript."""

    def __init__(self, world):
        command = [NODE, str(HERE / "node_reader.mjs"), world.url, world.environment]
        self.clock = world.clock
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self, rows, as_of_us=None, service=SERVICE):
        self.process.stdin.write(json.dumps([service, rows, as_of_us, self.clock.now_us()]) + "\n")
        self.process.stdin.flush()
        vectors = parsed(self.process.stdout.readline())
        assert isinstance(vectors, list), vectors
        return [(each["service"], each["names"], each["values"], each["statuses"]) for each in vectors]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self.process:  # closes its pipes
            self.process.stdin.close()
            assert self.process.wait(10) == 0


def parsed(line):
    """What JavaScript printed: it writes large doubles without a point, and large integers otherwise."""
    return json.loads(line, parse_int=lambda digits: int(digits) if abs(int(digits)) < 2**53 else float(digits))


def as_shown(value):
    """A value of the Python reader as the one in JavaScript shows it."""
    if isinstance(value, list):
        return [as_shown(each) for each in value]
    if isinstance(value, datetime):
        return as_shown(to_us(value))
    if isinstance(value, date):
        return (value - date(1970, 1, 1)).days
    if isinstance(value, int) and abs(value) >= 2**53:
        return {"int": str(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[repr(value)]}
    return {"float": "-0"} if isinstance(value, float) and value == 0 and math.copysign(1, value) < 0 else value


def told(vectors):
    """What the Python reader said."""
    return [
        (each.service, list(each.names), as_shown(each.values), [status.name for status in each.statuses])
        for each in vectors
    ]


def differences(mine, its):
    """(row, feature, what the one reader said, what the other)."""
    assert [each[:2] for each in mine] == [each[:2] for each in its]
    pairs = [
        (number, name, one, other)
        for number, (left, right) in enumerate(zip(mine, its, strict=True))
        for name, one, other in zip(left[1], zip(*left[2:], strict=True), zip(*right[2:], strict=True), strict=True)
    ]
    return [each for each in pairs if each[2] != each[3]]


def test_the_vectors_are_read_as_they_say():
    done = subprocess.run([NODE, "--test"], cwd=EXAMPLE, capture_output=True, text=True, check=False)

    assert done.returncode == 0, [line for line in done.stdout.splitlines() if "not ok" in line]
    count = int(next(line for line in done.stdout.splitlines() if line.startswith("# pass ")).split()[2])
    assert count >= 185


def test_every_entity_is_read_as_the_python_reader_reads_it(world):
    now = world.clock.now_us()
    seen = Counter()
    times = [None, now, now - 3 * MINUTE_US, now - 2 * HOUR_US, now + SECOND_US, now + 7 * MINUTE_US, now + 3 * DAY_US]

    with NodeReader(world) as node, world.store.reader() as reader:
        for as_of in times:
            expected = told(reader.get_online_features_batch(SERVICE, ROWS, as_of=as_of))
            assert differences(node.read(ROWS, as_of), expected) == []
            seen.update(status for _, _, _, statuses in expected for status in statuses)

    assert set(seen) == {"PRESENT", "EMPTY", "UNKNOWN", "STALE", "AHEAD", "ERROR"}
    assert seen["PRESENT"] > 1000


def test_a_server_that_may_have_lost_its_last_writes_is_doubted_alike(world):
    def statuses(answers):
        return Counter(status for _, _, _, all_of_one in answers for status in all_of_one)

    def both(node, reader):
        mine, its = node.read(ROWS), told(reader.get_online_features_batch(SERVICE, ROWS))
        assert differences(mine, its) == []
        return statuses(mine)

    with NodeReader(world) as node, FeatureReader(world.url, env=world.environment, clock=world.clock) as reader:
        before = both(node, reader)
        redis = world.store.redis
        readers = [each["id"] for each in redis.client_list() if each["cmd"] == "get"]  # with which every read ends
        assert len(readers) >= 2
        for number in readers:
            redis.client_kill_filter(_id=number)
        doubted = both(node, reader)
        world.step(by_us=SECOND_US, reads=0)
        world.clock.move_to(world.clock.now_us() + 2 * SECOND_US)
        again = both(node, reader)

    assert before["PRESENT"] > 0
    assert before["STALE"] == 0
    assert doubted["STALE"] > 0
    assert again["STALE"] == 0


def test_its_command_prints_a_vector_a_line(world):
    rows = [{**ROWS[0], "as_of_us": world.clock.now_us()}, {**ROWS[-1], "as_of_us": world.clock.now_us()}]
    command = [NODE, str(EXAMPLE / "read.js"), world.url, world.environment, SERVICE, *map(json.dumps, rows)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    shown = [parsed(line) for line in done.stdout.splitlines()]
    with world.store.reader() as reader:
        expected = told(reader.get_online_features_batch(SERVICE, [ROWS[0], ROWS[-1]], as_of=world.clock.now_us()))
    assert [(each["service"], each["names"], each["values"], each["statuses"]) for each in shown] == expected
    wrong = subprocess.run([*command[:4], "none", "{}"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr) == (1, "error: service none is not published\n")
