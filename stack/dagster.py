"""`python -m feature_store_deploy.stack.dagster webserver` or `daemon`: Dagster's processes, their books in the store's home."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from feature_store_deploy.assets.instance import dagster_instance, prepare_dagster_home, workspace_file

from feature_store.errors import FeatureStoreError
from feature_store.settings import Settings


def command(process: str, settings: Settings) -> list[str]:
    """The command line of a process."""
    programs = Path(sys.executable).parent
    if process == "webserver":
        port = str(settings.ui_port)
        quiet = ["--log-level", "warning", "--dagster-log-level", "warning"]
        return [
            str(programs / "dagster-webserver"),
            "-h",
            settings.ui_host,
            "-p",
            port,
            "-w",
            str(workspace_file()),
            *quiet,
        ]
    return [str(programs / "dagster-daemon"), "run", "-w", str(workspace_file()), "--log-level", "warning"]


def begin_books(settings: Settings) -> Path:
    """The deployment's DAGSTER_HOME, with all databases in it: two processes that create them at once would spoil them."""
    directory = prepare_dagster_home(settings)
    begun = directory / "begun"
    with (directory / "begin.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not begun.exists():
            with dagster_instance(settings):
                begun.touch()
    return directory


def main(process: str) -> None:
    """Become the process."""
    settings = Settings()
    os.environ["DAGSTER_HOME"] = str(begin_books(settings))
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # a hundred lines about what is beta; the tests look at warnings
    line = command(process, settings)
    os.execv(line[0], line)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    if sys.argv[1:] not in (["webserver"], ["daemon"]):
        sys.stderr.write("usage: python -m feature_store_deploy.stack.dagster webserver|daemon\n")
        sys.exit(2)
    try:
        main(sys.argv[1])
    except FeatureStoreError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
