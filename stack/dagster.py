"""`python -m stack.dagster webserver` and `... daemon`: Dagster's two processes, with their books in the store's home."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from assets.instance import WORKSPACE, prepare_dagster_home
from feature_store.embedded import HOST
from feature_store.errors import FeatureStoreError
from feature_store.settings import Settings


def command(process: str, settings: Settings) -> list[str]:
    """The command line of a process."""
    programs = Path(sys.executable).parent
    if process == "webserver":
        port = str(settings.ui_port)
        quiet = ["--log-level", "warning", "--dagster-log-level", "warning"]
        return [str(programs / "dagster-webserver"), "-h", HOST, "-p", port, "-w", str(WORKSPACE), *quiet]
    return [str(programs / "dagster-daemon"), "run", "-w", str(WORKSPACE), "--log-level", "warning"]


def main(process: str) -> None:
    """Become the process."""
    settings = Settings()
    os.environ["DAGSTER_HOME"] = str(prepare_dagster_home(settings.home))
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # a hundred lines about what is beta; the tests look at warnings
    line = command(process, settings)
    os.execv(line[0], line)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    if sys.argv[1:] not in (["webserver"], ["daemon"]):
        sys.stderr.write("usage: python -m stack.dagster webserver|daemon\n")
        sys.exit(2)
    try:
        main(sys.argv[1])
    except FeatureStoreError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
