"""What is told of evaluations, runs and what is overdue: the facts of each, as one message."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import dagster as dg
from feature_store_deploy.checks.alerts.concerns import NOBODY, Concern, together
from feature_store_deploy.checks.alerts.failing import told_days
from feature_store_deploy.checks.alerts.message import FAILED, RECOVERED, Alert, shown
from feature_store_deploy.checks.alerts.overdue import Overdue
from feature_store_deploy.checks.alerts.runs import Entity
from feature_store_deploy.checks.alerts.state import FailedRun, Message
from feature_store_deploy.checks.declared import OWNER

RUN_FAILED, RUN_OVERDUE = "run_failed", "run_overdue"
KINDS = (RUN_FAILED, RUN_OVERDUE)
"""Kinds of alerts that are no check."""
LINKED = {"report_link": "report", "baseline": "manifest", "next_step": "proposal"}
"""Metadata of an evaluation that a message links -> its name there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """Knows whom things concern and where people read on."""

    env: str
    concerns: Mapping[dg.AssetKey, Concern]
    ui_url: str
    runbook_url: str
    """Where the runbooks are: a page is `<runbook_url>/<kind>.md`."""
    owner: str | None = None
    """Whom things concern that nobody owns: who runs the deployment."""

    def concern(self, keys: Iterable[Entity]) -> tuple[str, str]:
        """Owner and feature groups of some assets or checks."""
        assets = [key.asset_key if isinstance(key, dg.AssetCheckKey) else key for key in keys]
        found, groups = together(self.concerns[key] for key in assets if key in self.concerns)
        return (self.owner or NOBODY) if found == NOBODY else found, groups

    def of_evaluation(self, found: dg.AssetCheckEvaluation, change: str, *, at_s: float) -> Message:
        """What a check said."""
        said = {name: value.value for name, value in found.metadata.items()}
        owner, groups = self.concern([found.asset_key])
        path = "/".join(found.asset_key.path)
        return self._message(
            Alert(
                kind=found.check_name,
                state=change,
                name=found.asset_key.to_user_string(),
                days=told_days(found),
                severity=found.severity.value,
                owner=str(said.get(OWNER, owner)),
                groups=groups,
                said=found.description or "",
                figure=shown(said.get("figures", said.get("figure")), said.get("limits")),
                limit=shown(said.get("limit")),
                link=f"{self.ui_url}/assets/{path}?view=checks&checkDetail={found.check_name}",
                more={short: str(said[name]) for name, short in LINKED.items() if name in said},
                at_s=at_s,
            )
        )

    def of_run(self, run_id: str, failed: FailedRun, change: str, *, said: str, at_s: float) -> Message:
        """How a run ended, or that others have made up for it."""
        return self._message(
            Alert(
                kind=RUN_FAILED,
                state=change,
                name=failed.name,
                days=failed.days,
                owner=failed.owner,
                groups=failed.groups,
                said=said,
                link=f"{self.ui_url}/runs/{run_id}",
                about=run_id,
                at_s=at_s,
            )
        )

    def of_overdue(self, found: Overdue, *, at_s: float) -> Message:
        """What should be over by now."""
        owner, groups = self.concern(found.of)
        return self._message(
            Alert(
                kind=RUN_OVERDUE,
                state=FAILED,
                name=found.name,
                days=found.days,
                owner=owner,
                groups=groups,
                said=found.said,
                figure=_minutes(found.late_s),
                limit=_minutes(found.limit_s),
                link=f"{self.ui_url}/runs/{found.run_id}" if found.run_id else f"{self.ui_url}/automation",
                about=found.run_id or "",
                at_s=at_s,
            )
        )

    def of_overdue_no_more(self, told: Message, *, at_s: float) -> Message:
        """What was overdue and is so no more, by what was told of it."""
        return self._message(
            Alert(
                kind=RUN_OVERDUE,
                state=RECOVERED,
                name=told["asset"],
                days=told["partition"],
                owner=told["owner"],
                groups=told["feature_group"],
                said="it is over, or on its time again",
                link=told["link"],
                about=told["key"].removeprefix(f"{told['asset']}:{RUN_OVERDUE}").removeprefix(":"),
                at_s=at_s,
            )
        )

    def _message(self, alert: Alert) -> Message:
        return alert.message(env=self.env, runbook_url=self.runbook_url)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.0f} min" if seconds else ""
