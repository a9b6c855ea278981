"""`python -m demo`: one declaration, two paths, on 336,776 real flights."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from feature_store.errors import FeatureStoreError


def _stop(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does, so that the servers that were started end too."""
    del frame
    sys.exit(128 + number)


if __name__ == "__main__":
    # Beside other work on the machine, threads of the model that wait by spinning take ten times as long. The model's
    # library reads this once, when it is loaded, which the story's import does.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from demo.story import tell

    signal.signal(signal.SIGTERM, _stop)
    try:
        tell()
    except FeatureStoreError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
