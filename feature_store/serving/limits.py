"""What a request may be, and ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may be, and ask for."""

    rows: int = 1_000
    """Of one request."""
    features: int = 1_000
    """That a request may list."""
    head_bytes: int = 1 << 16
    """Of the address and the headers of a request."""
    head_s: float = 10.0
    """In which they must have come."""
    body_s: float = 10.0
    """In which its body must have come."""
    body_bytes: int = 1 << 20
    deadline_s: float = 2.0
    """In which a read must have ended."""
    store_s: float = 1.0
    """In which Redis must answer."""
    publish_s: float = 5.0
    """In which the log must have taken the events of a request."""
