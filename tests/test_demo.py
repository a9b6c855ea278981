"""The demo's process; what it tells is `make demo` itself."""

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console

from feature_store.settings import PREFIX

ROOT = Path(__file__).parents[1]


def test_threads_of_the_demo_s_model_do_not_spin_while_they_wait(tmp_path):
    # A setting that is refused ends it after its imports. OpenMP's library tells what it found when it was loaded.
    asked = {"PYTHONPATH": str(ROOT), "OMP_DISPLAY_ENV": "VERBOSE", f"{PREFIX}ENVIRONMENT": "no name"}
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}

    ended = subprocess.run(
        [sys.executable, "-m", "demo"],
        check=False,
        cwd=tmp_path,
        env={**environment, **asked},
        capture_output=True,
        text=True,
    )

    assert ended.returncode == 2, ended.stderr
    assert "GOMP_SPINCOUNT = '0'" in ended.stderr


def test_a_check_that_is_not_green_is_told_with_where_to_look(tmp_path):
    from feature_store_deploy.checks.evaluate import Verdict

    from demo.checks import say_checks
    from demo.stage import Stage

    said = StringIO()
    stage = Stage(tmp_path, None, None, Console(file=said))
    of = {"asset": "dev/events/weather", "severity": "WARN", "description": "precip: 0.7, allowed are 0.1"}

    say_checks(stage, "November", [Verdict(check="range", passed=passed, **of) for passed in (True, False)])

    summary, red, where = said.getvalue().splitlines()
    assert summary.strip() == "checks of November, green: range 1 of 2"
    assert red.strip() == "not green: dev/events/weather range: precip: 0.7, allowed are 0.1"
    assert "docs/runbooks/<check>.md" in where
