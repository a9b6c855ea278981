"""What an alert says: one JSON object that Slack and its kin show, and that other receivers can take apart."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from feature_store_deploy.checks.alerts.state import Message

FAILED, RECOVERED = "failed", "recovered"
LONGEST_DESCRIPTION = 1000
FIGURES_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing that has failed or recovered."""

    kind: str
    """The name of the check, `run_failed` or `run_overdue`; the runbook's page is called so."""
    state: str
    """`FAILED` or `RECOVERED`."""
    name: str
    """The asset, job or schedule."""
    days: str
    """The partition or range; '' for none."""
    severity: str = "ERROR"
    """`ERROR` or `WARN`."""
    owner: str
    groups: str
    """The views that are concerned."""
    said: str
    """What was found."""
    figure: str = ""
    """The number that was found; '' where there is none,"""
    limit: str = ""
    """and the one that was allowed."""
    link: str
    """Where it is seen in Dagster."""
    about: str = ""
    """What tells this thing from others of the same kind and name, such as a run's id."""
    more: Mapping[str, str] = field(default_factory=dict)
    """What else is linked, by its name in the message: a report, a manifest."""
    at_s: float
    """When it happened, seconds since the epoch."""

    def message(self, *, env: str, runbook_url: str) -> Message:
        """The JSON that is posted; the same alert always gives the same `id`."""
        facts: Message = {
            "state": self.state,
            "check": self.kind,
            "asset": self.name,
            "partition": self.days,
            "severity": self.severity,
            "owner": self.owner,
            "feature_group": self.groups,
            "description": self.said[:LONGEST_DESCRIPTION],
            "figure": self.figure,
            "limit": self.limit,
            "link": self.link,
            **self.more,
            "runbook": f"{runbook_url}/{self.kind}.md",
            "environment": env,
            "at": datetime.fromtimestamp(self.at_s, UTC).isoformat(timespec="seconds"),
            "key": ":".join(part for part in (self.name, self.kind, self.about) if part),
        }
        told = json.dumps([env, facts["key"], self.state, self.days, self.severity, self.at_s])
        facts["id"] = hashlib.sha256(told.encode()).hexdigest()[:24]
        return {"text": _text(facts, self.more)} | facts


def _text(facts: Mapping[str, str], more: Mapping[str, str]) -> str:
    """What people read. The characters that Slack gives a meaning (`<!channel>`) are escaped: data may hold them."""
    days = f" ({facts['partition']})" if facts["partition"] else ""
    said = f"{facts['state'].upper()}: {facts['check']} of {facts['asset']}{days}: {facts['description']}"
    named = {
        "severity": facts["severity"],
        "owner": facts["owner"],
        "feature group": facts["feature_group"],
        "figure": facts["figure"],
        "limit": facts["limit"],
    }
    lines = [
        said,
        ", ".join(f"{name}: {value}" for name, value in named.items() if value),
        facts["link"],
        *(f"{name}: {where}" for name, where in more.items()),
        f"next step: {facts['runbook']}" if facts["state"] == FAILED else "",
    ]
    text = "\n".join(line for line in lines if line)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def shown(figures: object, limits: object = None) -> str:
    """Numbers by name as text, those that are over their limits if any are: `fare: 0.31, seats: 0.2 and 3 more`.

    >>> shown({"fare": 0.3125, "seats": 0.1}, {"fare": 0.25, "seats": 0.25})
    'fare: 0.3125'
    >>> shown(7)
    '7'
    """
    if not isinstance(figures, Mapping):
        return "" if figures is None else _number(figures)
    over = figures
    if isinstance(limits, Mapping):
        over = {name: value for name, value in figures.items() if _is_over(value, limits.get(name))} or figures
    told = [f"{name}: {_number(value)}" for name, value in list(over.items())[:FIGURES_SHOWN]]
    more = f" and {len(over) - len(told)} more" if len(over) > len(told) else ""
    return ", ".join(told) + more


def _is_over(value: object, limit: object) -> bool:
    return isinstance(value, int | float) and isinstance(limit, int | float) and value > limit


def _number(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) and math.isfinite(value) else str(value)
