"""Directed runs, each without one guard of the product: what the guard keeps away must show in the counts."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from chaos.backfill import backfill_once
from chaos.disorder import all_sent, rest, wait, wait_for_commits
from chaos.judge import judge
from chaos.publisher import sent_up_to
from chaos.watch import Watch

if TYPE_CHECKING:
    from chaos.findings import Findings
    from chaos.stack import Stack

BATCHES = 25
"""What is published between two steps."""


def run_without(stack: Stack, findings: Findings, guard: str) -> None:
    """Let happen what the guard is there for, then judge."""
    backfill_once(stack.store)
    stack.start("publish", "archive", "flow")
    watch = Watch(stack)
    watch.start()
    publish_some(stack, findings)
    stack.place.quiet.touch()
    SCENES[guard](stack, findings)
    rest(stack, findings)
    watch.stop()
    wait_for_commits(stack, findings)
    judge(stack, watch, findings)


def publish_some(stack: Stack, findings: Findings) -> None:
    """Wait until some more has been published."""
    goal = sent_up_to(stack.place) + BATCHES
    wait(stack, findings, "the publisher publishes", lambda stack: sent_up_to(stack.place) >= goal)


def no_fault(stack: Stack, findings: Findings) -> None:
    """The publisher's own duplicates are enough."""


def woken_flow(stack: Stack, findings: Findings) -> None:
    """A flow is stopped, its successor takes over and serves what comes; then the first one wakes up."""
    rest(stack, findings)
    stack.children["flow"].signal(signal.SIGSTOP)
    former = stack.succeed_flow()
    findings.faults["flow woken after its successor took over"] += 1
    stack.place.quiet.unlink()
    publish_some(stack, findings)
    rest(stack, findings)
    former.signal(signal.SIGCONT)
    time.sleep(5.0)


def lost_tail(stack: Stack, findings: Findings) -> None:
    """The log loses everything and is filled again from its beginning."""
    rest(stack, findings)
    stack.lose(stack.empty_server)
    findings.faults["server emptied"] += 1
    stack.place.quiet.unlink()
    publish_some(stack, findings)


def crash_before_commit(stack: Stack, findings: Findings) -> None:
    """The archiver dies with records in its hands that the lake does not have."""
    stack.place.quiet.unlink()
    stack.place.armed("archive-before-commit").touch()
    findings.faults["fail point archive-before-commit"] += 1
    publish_some(stack, findings)
    wait(stack, findings, "everything is sent", all_sent)


SCENES: Mapping[str, Callable[[Stack, Findings], None]] = {
    "dedup": no_fault,
    "fence": woken_flow,
    "tail": lost_tail,
    "ack": crash_before_commit,
}
