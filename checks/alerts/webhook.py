"""Delivery of one message, and what the receiver's answer means."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from feature_store_deploy.checks.alerts.state import Message

if TYPE_CHECKING:
    import httpx

TIMEOUT_S = 5.0
BUSY = (408, 425, 429)
"""Answers that say: later."""
CLOSED = (401, 403, 404, 410)
"""Answers about the address, such as that of a Slack webhook that was revoked, which is a 404."""


class Answer(NamedTuple):
    """What came of one attempt."""

    verdict: Literal["delivered", "away", "closed", "refused"]
    """away: nobody takes any message now; closed: nor ever at this address; refused: this message is not taken."""
    said: str = ""
    after_s: float = 0.0
    """How long the receiver asks to be left alone."""


Post = Callable[[Message], Answer]


def webhook(url: str) -> Post:
    """Posts JSON to an address. The header `Idempotency-Key` is the message's `id`."""

    def post(message: Message) -> Answer:
        import httpx  # takes a tenth of a second

        headers = {"Idempotency-Key": str(message["id"])}
        try:
            reply = _client().post(url, json=message, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Answer("away", f"{type(error).__name__}: {error}")
        if reply.is_success:
            return Answer("delivered")
        said = f"{reply.status_code} {reply.reason_phrase}".strip()
        if reply.is_server_error or reply.status_code in BUSY:
            return Answer("away", said, _seconds(reply.headers.get("Retry-After", "")))
        return Answer("closed" if reply.status_code in CLOSED else "refused", said)

    return post


@cache
def _client() -> "httpx.Client":
    """One for all; a connection that the receiver may have closed meanwhile is not kept."""
    import httpx

    return httpx.Client(timeout=TIMEOUT_S, limits=httpx.Limits(max_keepalive_connections=0))


def _seconds(text: str) -> float:
    return float(text) if text.isdigit() and len(text) < 10 else 0.0
