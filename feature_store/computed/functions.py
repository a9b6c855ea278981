"""The functions that a reader has: found by what they mean, run, and counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from feature_store.computed.run import run
from feature_store.errors import FunctionFailed, InputError

if TYPE_CHECKING:
    from feature_store.computed.function import Function
    from feature_store.computed.kinds import Column
    from feature_store.computed.run import Outcome

Watch = Callable[[str, float, int], object]
"""Is told of every run: the name of the on-demand feature, seconds, rows on which it failed."""
NAMES = 200
"""Of so many on-demand features runs are counted apart; of those that come later, together."""
OTHERS = "others"


@dataclass(slots=True)
class Runs:
    """What became of the runs of one on-demand feature."""

    calls: int = 0
    rows: int = 0
    failed: int = 0
    """Rows."""
    seconds: float = 0.0
    slowest_s: float = 0.0


@cache
def _has_numpy() -> bool:
    return find_spec("numpy") is not None


class Functions:
    """The functions that may be run here. Nothing is ever imported or run because somebody else names it."""

    def __init__(self, functions: Iterable[Function] = (), *, watch: Watch | None = None) -> None:
        self._known = {function.digest: function for function in functions}
        self._watch = watch
        self._told: set[tuple[str, str]] = set()
        self.runs: dict[str, Runs] = {}
        """On-demand feature -> what became of its runs."""

    def watched(self, watch: Watch) -> Functions:
        """The same functions, whose runs somebody is told of."""
        return Functions(self._known.values(), watch=watch)

    @property
    def known(self) -> dict[str, Function]:
        """The functions by digest."""
        return dict(self._known)

    def find(self, name: str, digest: str, encoding: str) -> Function | None:
        """The function that means what is published; None if it is not here, which is logged once."""
        found = self._known.get(digest)
        if found is None and encoding:
            found = self._built(name, digest, encoding)
        if found is None:
            self._tell(
                name,
                f"this reader has no function that means what was applied ({digest}); give it with `functions=`, or name "
                "its module in the setting FEATURE_STORE_FUNCTIONS of the process that serves it, in the version that was "
                "applied",
            )
        elif not _has_numpy():
            self._tell(name, "functions need NumPy, which is not installed")
            return None
        return found

    def _tell(self, name: str, why: str) -> None:
        """Log what is wrong with a feature, once."""
        if (name, why) not in self._told and len(self._told) < NAMES:
            import logging  # takes longer than a read

            self._told.add((name, why))
            logging.getLogger(__name__).warning("on-demand feature '%s' is ERROR: %s", name, why)

    def _built(self, name: str, digest: str, encoding: str) -> Function | None:
        from feature_store.computed.encodings import parse

        try:
            built = parse(name, encoding)
        except InputError:
            return None
        if built.digest == digest:
            self._known[digest] = built
        return self._known.get(digest)

    def run(
        self,
        name: str,
        function: Function,
        columns: Sequence[Column],
        *,
        rows: int,
        personal: bool = False,
        place: Callable[[int], int] | None = None,
    ) -> Outcome:
        """Run a function, count it, and log the first failure of each kind; of personal data, without what it said.

        Args:
            name: of the on-demand feature.
            function: what it runs.
            columns: what the function is given.
            rows: how many.
            personal: whether they are made of personal data.
            place: which row of the read one of these is, for the log.
        """
        began = time.perf_counter()
        outcome = run(function, columns, rows=rows)
        seconds = time.perf_counter() - began
        failed = 0 if outcome.error is None else int(outcome.failed.sum())
        if name not in self.runs and len(self.runs) >= NAMES:
            name = OTHERS
        runs = self.runs.setdefault(name, Runs())
        runs.calls, runs.rows, runs.failed = runs.calls + 1, runs.rows + rows, runs.failed + failed
        runs.seconds, runs.slowest_s = runs.seconds + seconds, max(runs.slowest_s, seconds)
        if self._watch is not None:
            self._watch(name, seconds, failed)
        if outcome.error is not None and runs.failed == failed:
            import logging

            reason = "failed on personal data" if personal else outcome.error.reason
            first = int(outcome.failed.argmax())
            said = FunctionFailed(function.name, reason, row=first if place is None else place(first))
            logging.getLogger(__name__).warning("%s; the value is ERROR, others are served", said)
        return outcome
