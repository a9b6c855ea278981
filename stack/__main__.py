"""`python -m feature_store_deploy.stack`: the long-lived stack of the Procfile, until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from feature_store_deploy.stack.procfile import read_procfile
from feature_store_deploy.stack.run import run

from feature_store.errors import FeatureStoreError
from feature_store.settings import Settings


def main() -> int:
    """Run the stack; exit code 2 with one clear line if it cannot start."""
    parser = argparse.ArgumentParser(prog="feature-store up", description="The long-lived stack, until Ctrl-C.")
    parser.add_argument("--procfile", type=Path, default=Path("Procfile"), help="what to run (./Procfile)")
    parser.add_argument("--verbose", action="store_true", help="show also what the processes say in passing")
    options = parser.parse_args()
    try:
        return run(read_procfile(options.procfile), Settings(), verbose=options.verbose)
    except FeatureStoreError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
