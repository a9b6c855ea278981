"""`python -m chaos.process flow|archive|publish|backfill ...`: one process of a run, with what breaks it in place."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from chaos.place import Place


def main() -> int:
    """Prepare this process, then be what the first argument says."""
    role, place = sys.argv[1], Place.of_process()
    if role != "flow":  # which only starts what is prepared
        from chaos.launcher import prepare

        prepare(place, role)
    if role == "publish":
        from chaos.publisher import publish

        publish(place)
        return 0
    if role == "backfill":
        from chaos.backfill import backfill

        backfill(place)
        return 0
    from feature_store_deploy.streams import cluster, succession
    from feature_store_deploy.streams.__main__ import main as run

    for module in (cluster, succession):
        module.subprocess = SimpleNamespace(**vars(subprocess) | {"Popen": _start_prepared})  # type: ignore[assignment]
    return run()


def _start_prepared(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """What the flow starts is prepared as the flow is."""
    return subprocess.Popen([*command[:2], "chaos.process", *command[3:]], **options)


if __name__ == "__main__":
    sys.exit(main())
