"""`python -m feature_store_deploy.checks.alerts HOME ENVIRONMENT`: what nobody has received yet and whether somebody still looks, as JSON, for `feature-store doctor`."""

import json
import sys
from pathlib import Path

from feature_store_deploy.assets.instance import dagster_home, dagster_instance
from feature_store_deploy.checks.alerts.state import State, load

from feature_store.settings import Settings


def main(home: str, environment: str) -> None:
    """Say it; books that nobody has begun are not made."""
    settings, state = Settings(home=Path(home), environment=environment), None
    if dagster_home(settings).exists():
        with dagster_instance(settings) as instance:
            state = load(instance, environment)
    state = state or State()
    told = {
        "waiting": len(state.waiting),
        "problem": state.problem,
        "given_up": state.given_up,
        "evaluated_s": state.evaluated_s,
    }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
