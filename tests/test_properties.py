"""How many examples the properties try that promise exactness: fewer would promise less."""

import importlib

from hypothesis import is_hypothesis_test

PROPERTIES = {
    "disorder": [
        "time_rule", "parity", "packed", "kernel", "rowset", "disorder", "fold_shard", "fold_intake", "fold_known_ids",
        "training_parity", "history_late",
    ],
    "knowledge": ["history_visibility"],
    "redefinition": ["redefinition"],
    "backfill": ["backfill_safety"],
}  # fmt: skip


def examples(name: str) -> int:
    """Of every property of a module; not counted are those that a test draws for each row of a catalogue."""
    found = [each for each in vars(importlib.import_module(f"test_{name}")).values() if is_hypothesis_test(each)]
    return sum(each._hypothesis_internal_use_settings.max_examples for each in found)


def test_the_properties_of_exactness_try_two_thousand_examples():
    tried = {what: sum(map(examples, names)) for what, names in PROPERTIES.items()}

    assert min(tried.values()) > 0
    assert sum(tried.values()) >= 2000, tried
