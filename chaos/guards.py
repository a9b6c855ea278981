"""Directed runs, each for one guard of the product: without it, what it keeps away must show in the counts."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from chaos.backfill import backfill_once
from chaos.declared import SOURCE
from chaos.disorder import all_sent, reach_the_end, rest, wait, wait_for_commits
from chaos.judge import judge
from chaos.publisher import sent_up_to
from chaos.watch import Watch
from feature_store.online.owner import read_owner
from feature_store.online.ready import read_ready

if TYPE_CHECKING:
    from chaos.findings import Findings
    from chaos.stack import Stack

BATCHES = 25
"""What is published between two steps."""


def run_scene(stack: Stack, findings: Findings, guard: str) -> None:
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
    """A flow is stopped, its successor takes over and serves what comes; then the first one wakes up and reads on."""
    rest(stack, findings)
    stack.children["archive"].signal(signal.SIGSTOP)  # or what the first one has still to read may be trimmed
    stack.children["flow"].signal(signal.SIGSTOP)
    former = stack.succeed_flow()
    findings.faults["flow woken after its successor took over"] += 1
    stack.place.quiet.unlink()
    publish_some(stack, findings)
    wait(stack, findings, "the successor has read all of the log", _successor_leads)
    former.signal(signal.SIGCONT)
    publish_some(stack, findings)
    publish_some(stack, findings)
    stack.place.quiet.touch()
    stack.children["archive"].signal(signal.SIGCONT)


def _successor_leads(stack: Stack) -> bool:
    """Whether the second run owns the store, and has vouched for values in it."""
    owner = read_owner(stack.store.redis, "chaos")
    records = read_ready(stack.store.redis, "chaos").values()
    return owner is not None and owner.run > 1 and any(record.run == owner.run for record in records)


def lost_tail(stack: Stack, findings: Findings) -> None:
    """The log loses everything and is filled again from its beginning, beyond what had been read of it."""
    rest(stack, findings)
    goal = 2 * sent_up_to(stack.place) + BATCHES
    stack.lose(stack.empty_server)
    findings.faults["server emptied"] += 1
    stack.place.quiet.unlink()
    wait(stack, findings, "the log is longer than it was", lambda stack: sent_up_to(stack.place) >= goal)
    stack.place.quiet.touch()


def crash_before_commit(stack: Stack, findings: Findings) -> None:
    """The archiver dies with records in its hands that the lake does not have and the flow does not need any more."""
    rest(stack, findings)
    archiver = stack.children["archive"]
    archiver.signal(signal.SIGSTOP)
    stack.place.quiet.unlink()
    publish_some(stack, findings)
    stack.place.quiet.touch()
    wait(stack, findings, "everything is sent", all_sent)
    wait(stack, findings, "the flow needs nothing of the log any more", _flow_has_acknowledged)
    stack.place.armed("archive-before-commit").touch()
    findings.faults["fail point archive-before-commit"] += 1
    archiver.signal(signal.SIGCONT)


def _flow_has_acknowledged(stack: Stack) -> bool:
    log = stack.store.log(SOURCE)
    flows = [at for name, at in log.consumers().items() if name.startswith("stream:")]
    return bool(flows) and all(reach_the_end(log, positions) for positions in flows)


SCENES: Mapping[str, Callable[[Stack, Findings], None]] = {
    "dedup": no_fault,
    "fence": woken_flow,
    "tail": lost_tail,
    "ack": crash_before_commit,
}
