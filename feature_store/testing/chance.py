"""Randomness that a seed decides, the same in every run and on every machine."""

from __future__ import annotations

import random


def chance(seed: int, *what: object) -> random.Random:
    """A generator of its own for every purpose, so that one question does not change the answer of another."""
    return random.Random("|".join(map(str, (seed, *what))))  # noqa: S311 - an order of events is no secret
