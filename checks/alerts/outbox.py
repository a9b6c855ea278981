"""Delivery of what waits: in order, until the receiver has said 2xx.

A receiver that is away (no connection, 5xx, 408, 425, 429) is left alone for a while, and nothing is overtaken. So is an
address that is closed (401, 403, 404, 410), for as long as it takes somebody to name another; but the next message that
is tried is another one, in case the answer was about the message after all. A message that is refused (any other answer)
stands back: later messages about other things go on, those about the same thing wait behind it. It is tried again ever
more rarely for a day, then given up.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from feature_store_deploy.checks.alerts.state import State, Waiting
from feature_store_deploy.checks.alerts.webhook import Answer, Post

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 60.0
"""Of a receiver that is away; what it asks for itself may be longer, up to the next."""
LONGEST_ASKED_S = 600.0
FIRST_REFUSED_S = 60.0
LONGEST_REFUSED_S = 3600.0
GIVEN_UP_AFTER_S = 86_400.0
BUDGET_S = 20.0
"""How long one tick delivers; Dagster ends a tick after a minute."""


@dataclass(slots=True)
class Delivery:
    """What one tick has delivered."""

    sent: int = 0
    given_up: list[Waiting] = field(default_factory=list)


def deliver(state: State, post: Post, *, now_s: float, save: Callable[[], None]) -> Delivery:
    """Deliver what can be delivered now, and note each success at once: a crash repeats one message at most.

    Args:
        state: whose `waiting` is delivered and shortened; its `problem` says why something is left.
        post: delivers one message.
        now_s: the time, seconds since the epoch.
        save: keeps the state.
    """
    done = Delivery()
    if now_s < state.retry_s:
        return done
    end, behind = time.monotonic() + BUDGET_S, set[str]()
    for each in list(state.waiting):
        about = str(each.message["key"])
        if about in behind or each.retry_s > now_s:
            behind.add(about)
            continue
        if time.monotonic() > end:
            break
        answer = post(each.message)
        state.problem = answer.said or state.problem
        if answer.verdict in ("away", "closed"):
            _stand_off(state, answer, now_s)
            if answer.verdict == "closed":
                each.retry_s = state.retry_s + LONGEST_PAUSE_S
            save()
            break
        state.failures, state.retry_s = 0, 0.0
        if answer.verdict == "delivered":
            state.waiting.remove(each)
            done.sent += 1
        else:
            behind.add(about)
            if _refuse(each, now_s):
                state.waiting.remove(each)
                state.given_up += 1
                done.given_up.append(each)
        if not state.waiting:
            state.problem = ""
        save()
    return done


def _stand_off(state: State, answer: Answer, now_s: float) -> None:
    pause = min(FIRST_PAUSE_S * 2**state.failures, LONGEST_PAUSE_S)
    state.failures = min(state.failures + 1, 16)
    state.retry_s = now_s + max(pause, min(answer.after_s, LONGEST_ASKED_S))


def _refuse(each: Waiting, now_s: float) -> bool:
    """Note a refusal; returns whether it is the last one."""
    each.refused_s = each.refused_s or now_s
    each.retry_s = now_s + min(FIRST_REFUSED_S * 2**each.refusals, LONGEST_REFUSED_S)
    each.refusals = min(each.refusals + 1, 16)
    return now_s - each.refused_s >= GIVEN_UP_AFTER_S
