"""`python -m demo`: one declaration, two paths, on 336,776 real flights."""

from __future__ import annotations

import sys

from demo.story import tell
from feature_store.errors import FeatureStoreError

if __name__ == "__main__":
    try:
        tell()
    except FeatureStoreError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
