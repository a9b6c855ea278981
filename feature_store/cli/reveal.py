"""`--reveal`: personal data as it is, where a command would mask it; who asks for it is noted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from feature_store.access.actor import whoever
from feature_store.access.audit import AuditLog, Entry
from feature_store.time_rule import from_us

if TYPE_CHECKING:
    from feature_store.settings import Settings

Reveal = Annotated[bool, typer.Option("--reveal", help="Show personal data as it is; the audit log says who did")]


def note_reveal(settings: Settings, what: str) -> None:
    """Note that somebody was shown personal data.

    Args:
        settings: name the audit log.
        what: the features or the source; no values and no keys.
    """
    audit = AuditLog(settings.audit_log)
    audit.note(
        Entry(
            at=from_us(settings.clock.now_us()), env=settings.environment, did="reveal", by=whoever(), what=what[:1000]
        )
    )
    audit.close()
