"""A hundred million served values, each computed again from the lake.

The deployment of `tests/proof_world.py` lives through some hours, once for each seed: history, a stream with late, early
and repeated events, restarts with another archive behind them, batch views, roles, composite and global entities; every
aggregate is in its views. `python -m benchmarks agreement --size 1000000` stops after fewer values.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.results import Result, row
from feature_store.embedded import EmbeddedValkey
from feature_store.proof import Proof, prove
from feature_store.time_rule import MINUTE_US, SECOND_US

if TYPE_CHECKING:
    from proof_world import World

VALUES = 100_000_000
READS, HOURS, ORACLE_SAMPLE = 500, 8, 500
AHEAD_US = 10 * MINUTE_US
"""Values are asked for times up to so far ahead: their steps are compared, not just what holds now."""


@dataclass(slots=True)
class Tally:
    """What the proofs of all seeds have found."""

    seeds: int = 0
    values: int = 0
    unequal: int = 0
    oracle_values: int = 0
    oracle_unequal: int = 0
    missed: int = 0
    """Planted faults that were not found."""

    def add(self, proof: Proof) -> None:
        """Count one more seed."""
        self.seeds += 1
        self.values += proof.values
        self.unequal += proof.unequal
        self.oracle_values += proof.oracle.values
        self.oracle_unequal += proof.oracle_unequal
        self.missed += len(proof.faults) - proof.controls


def rows(size: int = VALUES) -> Iterator[Result]:
    """All measurements of this file."""
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    tally = Tally()
    while tally.values < size:
        tally.add(_proof_of(tally.seeds))
        print(f"seed {tally.seeds - 1}: {tally.values:,} values, {tally.unequal} unequal", file=sys.stderr, flush=True)
    seeds = f"seeds 0 to {tally.seeds - 1}"
    yield row(f"unequal among {tally.values:,} served values, {seeds}", tally.unequal, "values", limit=0)
    yield row(f"unequal among the {tally.oracle_values:,} asked of SQL", tally.oracle_unequal, "values", limit=0)
    yield row(f"planted faults that were not found, of {3 * tally.seeds}", tally.missed, "faults", limit=0)


def _proof_of(seed: int) -> Proof:
    from proof_world import World, lived

    class Busy(World):
        """Reads many vectors where the tests read some."""

        def read(self) -> None:
            _read_many(self)

    with tempfile.TemporaryDirectory() as folder, EmbeddedValkey(Path(folder) / "valkey") as server:
        world = Busy(server.url, Path(folder) / "home", "agreement", seed=seed)
        try:
            served = lived(world, hours=HOURS)
            return prove(world.store.compiled, world.store.lake, served, sample=ORACLE_SAMPLE, seed=seed)
        finally:
            world.close()


def _read_many(world: World) -> None:
    from proof_world import CITIES, SERVICE

    now, pick = world.clock.now_us(), world.random.choice
    cities = [*CITIES, "nowhere", None]
    requests = [{"city": pick(cities), "kind": pick([1, 2, None]), "rival": pick(cities)} for _ in range(READS)]
    ahead = [now + world.random.randrange(1, AHEAD_US) for _ in range(READS)]
    times = [pick([None, now, now + 1, now + 2 * SECOND_US, now - MINUTE_US, later]) for later in ahead]
    vectors = world.reader.get_online_features_batch(SERVICE, requests, as_of=times)
    for request, at, vector in zip(requests, times, vectors, strict=True):
        world.served.add(request, vector, as_of_us=at)
