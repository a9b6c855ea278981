"""The columns of the request that a service's on-demand features are made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from feature_store.declare.computed import Computed, RequestInput
from feature_store.declare.feature import FeatureRef, Ratio
from feature_store.declare.keyed import KeyedView


def requests_of(resolved: Sequence[FeatureRef | Ratio | Computed]) -> dict[str, RequestInput]:
    """The columns of the request that resolved features are made of, by name."""
    found = (each for item in resolved if isinstance(item, Computed) for each in item.requests)
    return {each.column: each for each in found}


def request_problems(
    service: str, found: Sequence[FeatureRef | Ratio | Computed], reads: Sequence[KeyedView]
) -> Iterator[str]:
    """What is wrong with on-demand features: their names, and columns of the request that mean two things."""
    computed = [item for item in found if isinstance(item, Computed)]
    for item in computed:
        if not re.fullmatch(r"[A-Za-z_]\w*", item.name):
            yield f"service '{service}': feature `name` must be letters, digits and _, got '{item.name}'"
    named = requests_of(found)
    for each in dict.fromkeys(each for item in computed for each in item.requests):
        if each != (last := named[each.column]):
            two = f"as {each.kind} and as {last.kind}" if each.kind != last.kind else "with two defaults"
            yield f"service '{service}': column '{each.column}' of the request is asked for {two}"
    taken = {f"{ref.role.prefix}{ref.view}__{ref.feature}" for ref in found if isinstance(ref, FeatureRef)}
    taken |= {item.name for item in found if not isinstance(item, FeatureRef)}
    keys = {column for read in reads for column in read.columns.values()}
    for column, each in named.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", column):
            yield f"service '{service}': a column of the request must be letters, digits and _, got '{column}'"
        if column in taken:
            yield f"service '{service}': column '{column}' of the request has the name of a feature"
        if column in keys and each.default is not None:
            yield f"service '{service}': column '{column}' of the request is a join key, so it has no default"
