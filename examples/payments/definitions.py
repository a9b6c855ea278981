"""What `workspace.yaml` names: this deployment, as its settings describe it."""

from pathlib import Path

import dagster as dg
from feature_store_deploy.stack.definitions import load_definitions


@dg.definitions
def definitions() -> dg.Definitions:
    """Assets, checks, schedules and alerts; merge what else this deployment has with `dg.Definitions.merge`."""
    return load_definitions(Path(__file__).parent)
