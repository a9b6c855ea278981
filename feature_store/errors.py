"""Every error this library raises on purpose.

    FeatureStoreError
    ├── DeclarationError      something declared is wrong; carries every problem found
    ├── UnknownNameError      a look-up by name failed; carries what exists
    ├── InputError            an argument or a row a user gave breaks a rule
    │   └── FunctionFailed    an on-demand function raised, or gave something else than it declares
    ├── SettingsError         a setting is wrong or names something that is not there
    ├── LakeError             the lake cannot be read or written
    │   ├── PositionConflict  another owner committed these offsets
    │   └── ApplyConflict     somebody else applied declarations meanwhile
    ├── LogError              the event log cannot be read or written
    │   ├── LogFull           publishing is refused until a consumer catches up
    │   ├── LogGap            records before the wanted offset are gone
    │   ├── LogTailLost       the log ends before a position that was already reached
    │   └── LogUnavailable    the log does not answer; what it holds is read once it does
    ├── WorkerError           an executor's worker was lost or cannot work; nothing was written
    ├── OnlineStoreError      Redis is missing, too old, or configured to lose data
    │   ├── StoreUnavailable  Redis does not take writes at the moment; it is tried again
    │   ├── StoreLost         Redis has lost what was written before; all of it is written again
    │   └── ValueRefused      a value is STALE or AHEAD, and the service says that this fails a read
    ├── AccessError           who asks may not
    │   ├── KeyRefused        a key is missing or wrong
    │   └── NotGranted        a key does not allow this
    ├── FlowSuperseded        a newer run of the stream owns the online store
    └── SchemaRegistryError   the schema of a payload cannot be asked for; no record was decided about

Bad *data* is not an error: a record that does not fit is a value with a reason (dead letters).
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping, Sequence

EPOCH_BITS = 46
"""An offset of the log is `epoch << EPOCH_BITS | n`; see `feature_store.log.protocol`."""


_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 200


def shown(value: object) -> str:
    """What came, for a message: short, whatever its size and depth.

    >>> shown("7"), shown("ab" * 500)[-5:], shown([[[[[[[[1]]]]]]]])
    ("'7'", "abab'", '[[[[[[[...]]]]]]]')
    """
    try:
        return _repr.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return f"<{type(value).__name__}>"


class FeatureStoreError(Exception):
    """Base of every error of this library; its text is fit to show to a user."""


class DeclarationError(FeatureStoreError):
    """The declarations are wrong. `problems` lists all of them, one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the declarations:{lines}")


class UnknownNameError(FeatureStoreError):
    """No such thing. Says what exists and the nearest match."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(sorted(known))
        super().__init__(unknown_name(kind, name, self.known))


class InputError(FeatureStoreError):
    """An argument, a file or a row breaks a rule."""


class FunctionFailed(InputError):  # noqa: N818
    """An on-demand function raised, or its output is not what it declares; `row` is the first row, if it is one."""

    def __init__(self, function: str, reason: str, *, row: int | None = None) -> None:
        self.function, self.reason, self.row = function, reason, row
        place = "" if row is None else f", row {row}"
        super().__init__(f"on-demand function '{function}'{place}: {reason}")

    def at(self, row: int) -> FunctionFailed:
        """The same failure, on a row."""
        failed = FunctionFailed(self.function, self.reason, row=row)
        failed.__cause__ = self.__cause__
        return failed


class SettingsError(FeatureStoreError):
    """A setting is wrong."""


class LakeError(FeatureStoreError):
    """The lake cannot be opened, read or written."""


class SnapshotGone(LakeError):  # noqa: N818 - that is what it is
    """A snapshot of the lake was expired, or never was: what was read then cannot be read again."""


class PositionConflict(LakeError):  # noqa: N818 - a conflict is what it is
    """The offsets to commit do not start where the lake's committed positions end."""

    def __init__(self, source: str, expected: Mapping[int, int], found: Mapping[int, int]) -> None:
        self.source, self.expected, self.found = source, dict(expected), dict(found)
        super().__init__(
            f"source '{source}': commit starts at {self.expected}, but the lake stands at {self.found}; "
            "another process owns this source or has already committed this batch"
        )


class ApplyConflict(LakeError):  # noqa: N818
    """Somebody else changed what is applied since it was read. `found` is the version of the registry now."""

    def __init__(self, *, expected: int, found: int, others: Sequence[str]) -> None:
        self.expected, self.found, self.others = expected, found, tuple(others)
        meanwhile = f". Meanwhile: {'; '.join(self.others)}" if self.others else ""
        super().__init__(
            f"the registry was at version {expected} when it was read and is at {found} now; nothing was written. "
            f"Look again with `feature-store plan`{meanwhile}"
        )


class LogError(FeatureStoreError):
    """The event log cannot be read or written."""


class LogFull(LogError):  # noqa: N818
    """A partition has reached its limit. `written` records of the refused call, its first ones, are in the log:
    0 unless several publishers filled the partition at once.
    """

    def __init__(self, source: str, partition: int, *, limit: int, slowest: str | None, written: int = 0) -> None:
        self.source, self.partition, self.limit, self.slowest, self.written = source, partition, limit, slowest, written
        remedy = f"until consumer '{slowest}' has read on" if slowest else "until a consumer is registered and reads"
        super().__init__(
            f"log '{source}' partition {partition} has no room within its limit of {limit} records; "
            f"publishing is refused {remedy} ({written} records of this call were written)"
        )


class LogGap(LogError):  # noqa: N818
    """Records between the wanted offset and the first one kept are gone."""

    def __init__(self, source: str, partition: int, wanted: int, first: int) -> None:
        self.source, self.partition, self.wanted, self.first = source, partition, wanted, first
        super().__init__(
            f"log '{source}' partition {partition}: offset {_offset(wanted)} was asked for, but the next one kept is {_offset(first)}; "
            "the records between are gone: load them from their origin with `feature-store backfill`, and go on where "
            "the log begins with `feature-store resume`"
        )


class LogTailLost(LogError):  # noqa: N818
    """The log ended before a position that had been reached. `resume` is the first offset of the epoch after the loss."""

    def __init__(self, source: str, partition: int, *, reached: int, end: int, resume: int) -> None:
        self.source, self.partition = source, partition
        self.reached, self.end, self.resume = reached, end, resume
        super().__init__(
            f"log '{source}' partition {partition} ended at {_offset(end)}, but {_offset(reached)} had been reached: the log lost its "
            f"last records; what was published since stands from {_offset(resume)} on"
        )


class LogUnavailable(LogError):  # noqa: N818
    """The log's server does not answer. Nothing is lost by it: reading and publishing go on once it does."""


class WorkerError(FeatureStoreError):
    """A worker of a batch was lost, or cannot do what it was given."""


class OnlineStoreError(FeatureStoreError):
    """Redis cannot be reached, is too old, or may lose data."""


class StoreUnavailable(OnlineStoreError):  # noqa: N818
    """Redis does not answer, or has no room at the moment. Nothing is lost by it: what was refused is written later."""


class ValueRefused(OnlineStoreError):  # noqa: N818
    """A value is STALE or AHEAD, and its service says that this fails a read. `status` is its name."""

    def __init__(self, service: str, feature: str, status: str) -> None:
        self.service, self.feature, self.status = service, feature, status
        super().__init__(f"feature '{feature}' is {status}, and service '{service}' says on_{status.lower()}='fail'")


class StoreLost(OnlineStoreError):  # noqa: N818
    """Redis does not hold any more what this writer had written: it was emptied, or went back to an older state."""


class AccessError(FeatureStoreError):
    """Who asks may not have it."""


class KeyRefused(AccessError):  # noqa: N818
    """Nobody knows who asks. `key` is the id of the key that was claimed, if there is such a key; `is_missing`: none was given."""

    def __init__(self, why: str, key: str | None = None, *, is_missing: bool = False) -> None:
        self.key, self.is_missing = key, is_missing
        super().__init__(why)


class NotGranted(AccessError):  # noqa: N818
    """A key does not allow this. `key` is its id, None of somebody without one; `grant` what would allow it."""

    def __init__(self, key: str | None, grant: str) -> None:
        self.key, self.grant = key, grant
        super().__init__(
            f"this takes a key with the grant '{grant}'" if key is None else f"key '{key}' has not the grant '{grant}'"
        )


class FlowSuperseded(FeatureStoreError):  # noqa: N818
    """A newer run has taken the online store over; this one wrote nothing since."""

    def __init__(self, run: int, by: int) -> None:
        self.run, self.by = run, by
        super().__init__(f"run {run} has been superseded by run {by}; this flow ends")


class SchemaRegistryError(FeatureStoreError):
    """The schema registry does not answer, or not as one. What it was asked for is unknown, so no record is rejected:
    reading stops before the records in hand, and goes on with them once it answers.
    """

    def __init__(self, url: str, problem: str) -> None:
        self.url, self.problem = url, problem
        super().__init__(
            f"the schema registry at {url} cannot be asked ({problem}); no record was skipped or rejected, "
            "start it or correct `registry_url`"
        )


def unknown_name(kind: str, name: str, known: Sequence[str]) -> str:
    """The sentence for a name that was not found: what exists, and the nearest match."""
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    listed = ", ".join(known) if known else "none"
    return f"unknown {kind} '{name}'{hint} (known: {listed})"


def _offset(offset: int) -> str:
    """An offset of the log as its epoch and the record's number in it."""
    return f"{offset >> EPOCH_BITS}-{offset & (1 << EPOCH_BITS) - 1}"
