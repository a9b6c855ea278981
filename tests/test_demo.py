"""The demo's process; what it tells is `make demo` itself."""

import os
import subprocess
import sys
from pathlib import Path

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
