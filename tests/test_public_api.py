"""What `import feature_store` offers: sorted, complete, and each name with a docstring."""

import inspect
import itertools
import subprocess
import sys

import pytest

import feature_store


def test_the_public_names_are_sorted_and_unique():
    assert list(feature_store.__all__) == sorted(set(feature_store.__all__))


@pytest.mark.parametrize("name", feature_store.__all__)
def test_a_public_name_exists_and_says_what_it_is(name):
    value = getattr(feature_store, name)

    assert inspect.ismodule(value) or inspect.getdoc(value), f"`{name}` has no docstring"
    assert name in dir(feature_store)


@pytest.mark.parametrize(
    "order", list(itertools.permutations(["feature_store", "pandera.pandas", "pyarrow"])), ids="-".join
)
def test_arrow_respects_zones_in_whatever_order_pandera_is_imported(order):
    script = f"""
import {", ".join(order)}
from datetime import datetime
import pyarrow as pa
times = pa.array([datetime.fromisoformat("2026-03-01T10:00:00-05:00")], pa.timestamp("us", tz="UTC"))
print(times.cast(pa.string())[0])
"""

    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)

    assert done.stdout.startswith("2026-03-01 15:00:00")
