"""Where time comes from: one injected clock serves publisher, flow, expiry and reader."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Tells the time. Code that needs `now` takes it from here or as an argument, never from the system."""

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The machine's own clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayClock:
    """A past that runs again, `speed` times faster than life.

    A pure function of the machine's clock, so several processes given the same three numbers share one time.
    """

    origin_us: int
    """The replayed time at which the replay starts."""
    started_us: int
    """The machine's time at that moment."""
    speed: float = 1.0

    @classmethod
    def parse(cls, text: str) -> ReplayClock:
        """Read what `str()` of a replay clock gives: `origin_us/started_us/speed`.

        Raises:
            ValueError: for any other form.
        """
        try:
            origin, started, speed = text.split("/")
            return cls(origin_us=int(origin), started_us=int(started), speed=float(speed))
        except ValueError as error:
            raise ValueError(f"a replay must be given as 'origin_us/started_us/speed', got {text!r}") from error

    def __str__(self) -> str:
        return f"{self.origin_us}/{self.started_us}/{self.speed}"

    def now_us(self) -> int:
        elapsed = max(0, time.time_ns() // 1000 - self.started_us)
        return self.origin_us + int(elapsed * self.speed)


@dataclass(slots=True)
class ManualClock:
    """A clock that stands still until it is told to move: tests and stepped replays."""

    at_us: int

    def now_us(self) -> int:
        return self.at_us

    def move_to(self, at_us: int) -> None:
        """Set the clock; going back is allowed, as real clocks do."""
        self.at_us = at_us
