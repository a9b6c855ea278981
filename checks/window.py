"""Which days a check looks at."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    BACKFILL_ID_TAG,
    PARTITION_NAME_TAG,
)

from feature_store.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """Whole UTC days, the last one included."""

    first: date
    last: date

    def __str__(self) -> str:
        return f"{self.first}/{self.last}" if self.first != self.last else str(self.first)

    @property
    def count(self) -> int:
        """How many they are."""
        return (self.last - self.first).days + 1

    @property
    def each(self) -> list[date]:
        """They, one by one."""
        return [self.first + timedelta(days=n) for n in range(self.count)]

    @property
    def start(self) -> datetime:
        """Midnight at which they begin."""
        return datetime(self.first.year, self.first.month, self.first.day, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """Midnight after them."""
        return datetime(self.last.year, self.last.month, self.last.day, tzinfo=UTC) + timedelta(days=1)

    def before(self, count: int) -> "Days":
        """The `count` days that precede them."""
        return Days(first=self.first - timedelta(days=count), last=self.first - timedelta(days=1))

    @classmethod
    def up_to(cls, last: date, count: int) -> "Days":
        """The `count` days that end with `last`."""
        return cls(first=last - timedelta(days=count - 1), last=last)

    @classmethod
    def parse(cls, text: str) -> "Days":
        """Read `2013-01-01/2013-01-31` or one day.

        Raises:
            ValueError: for any other form.
        """
        first, _, last = text.partition("/")
        return cls(first=date.fromisoformat(first), last=date.fromisoformat(last or first))


def asked_days(text: str | None, name: str) -> Days | None:
    """The days that a setting called `name` says.

    Raises:
        InputError: it says none.
    """
    try:
        return None if text is None else Days.parse(text)
    except ValueError as error:
        raise InputError(f"`{name}` must be days such as '2013-03-01/2013-03-31', got {text!r}") from error


def days_of_run(run: dg.DagsterRun) -> Days | None:
    """The partitions of a run; None if it has none."""
    tags = run.tags
    first = tags.get(ASSET_PARTITION_RANGE_START_TAG, tags.get(PARTITION_NAME_TAG))
    last = tags.get(ASSET_PARTITION_RANGE_END_TAG, first)
    return None if first is None or last is None else Days.parse(f"{first}/{last}")


def is_backfill(run: dg.DagsterRun) -> bool:
    """Whether the run belongs to a backfill, which says nothing about how things stand now."""
    return BACKFILL_ID_TAG in run.tags


def is_built_too(context: dg.AssetCheckExecutionContext, key: dg.AssetKey) -> bool:
    """Whether the asset of a check is loaded or built in the same run, which should not wait long for the check."""
    return key in context.job_def.asset_layer.selected_asset_keys
