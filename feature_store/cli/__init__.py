"""The command line `feature-store`. Wrong input gets one clear line and exit code 2, never a traceback."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Run the command line."""
    # Declarations are modules of the folder in which the command is given, as with `python -m`.
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, folder)
    given = sys.argv[1:]
    try:
        from feature_store.cli import launch

        if launch.starts(given):
            sys.exit(launch.run(given))
        from feature_store.cli.app import run
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(("typer", "click", "rich")):
            raise
        sys.stderr.write("error: the command line needs the extra `cli`: install feature-store[cli]\n")
        sys.exit(2)
    sys.exit(run(given))
