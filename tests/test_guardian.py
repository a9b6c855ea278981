"""A run of the tests that is killed leaves no server behind."""

import subprocess
import sys
import time
from pathlib import Path

from guardian import marked

RUN = """
import os, subprocess, sys
from guardian import guarded
with guarded(str(os.getpid())):
    left = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(1000)"], start_new_session=True)
    print(left.pid, flush=True)
    if sys.stdin.readline():
        left.kill()
"""


def run() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=Path(__file__).parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_what_a_killed_run_has_started_is_ended() -> None:
    with run() as worker:
        left = int(worker.stdout.readline()) if worker.stdout else 0
        assert list(marked(str(worker.pid))) == [left]

        worker.kill()

    deadline = time.monotonic() + 60
    while list(marked(str(worker.pid))):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_run_that_ends_well_is_left_alone() -> None:
    with run() as worker:
        said, _ = worker.communicate("end\n", timeout=60)

    assert worker.returncode == 0
    assert int(said) > 0
