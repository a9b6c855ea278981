"""What a client is told when something is wrong: problem details (RFC 9457), one type for each kind of problem."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from starlette.responses import Response

from feature_store.errors import (
    FeatureStoreError,
    InputError,
    KeyRefused,
    LogUnavailable,
    NotGranted,
    OnlineStoreError,
    UnknownNameError,
    ValueRefused,
)

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
CHALLENGE = "WWW-Authenticate"
REALM = "feature-store"


class Kind(NamedTuple):
    """A type of problem."""

    status: int
    title: str
    about: str


KINDS: Mapping[str, Kind] = {
    "malformed": Kind(400, "The request cannot be read", "The body is not of the media type that it claims to be."),
    "unauthenticated": Kind(
        401, "Nobody knows who asks", "The header `Authorization: Bearer <key>` must name a key that works."
    ),
    "forbidden": Kind(403, "The key does not allow this", "`grant` is what it would take."),
    "not-local": Kind(
        403,
        "Only this machine is answered",
        "There are no API keys: `Host`, and `Origin` where it is sent, must be a loopback address or localhost.",
    ),
    "unknown-name": Kind(404, "There is no such thing", "`known` lists what there is."),
    "no-such-path": Kind(404, "There is no such path", "The OpenAPI document lists all paths."),
    "wrong-method": Kind(405, "The path has another method", "The header Allow lists its methods."),
    "too-slow": Kind(408, "The request does not come", "Its headers and its body must come in time."),
    "not-acceptable": Kind(406, "No such media type is offered", "The header Accept names none of those in `offered`."),
    "value-refused": Kind(
        409, "A value must not be served", "It is STALE or AHEAD, and the service says that this fails the read."
    ),
    "too-large": Kind(413, "The request is too large", "`limit` says what is allowed."),
    "unsupported-media-type": Kind(415, "The body's media type is not read", "`offered` lists those that are."),
    "invalid": Kind(422, "The request breaks a rule", "`detail` names the place, the rule and what came."),
    "log-full": Kind(
        429, "The log has no room", "Its readers must catch up first; try again after `Retry-After` seconds."
    ),
    "headers-too-large": Kind(431, "The headers are too large", "`limit` says what is allowed."),
    "internal": Kind(500, "The server failed", "It is noted in the server's log."),
    "store-unavailable": Kind(503, "The online store does not answer", "Try again after `Retry-After` seconds."),
    "stopping": Kind(503, "The server is about to stop", "Another one answers, or this one once it runs again."),
    "log-unavailable": Kind(
        503, "The log does not answer", "Publish again after `Retry-After` seconds; an event id counts once."
    ),
    "deadline": Kind(504, "The answer took too long", "Nothing was changed; try again."),
}
"""Each stands at `/problems/<name>`, which is the `type` of the problem."""


@dataclass(slots=True)
class Problem(Exception):  # noqa: N818 - RFC 9457's word for it
    """A request that is not answered."""

    kind: str
    detail: str
    fields: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """Of the answer."""
        return KINDS[self.kind].status


def problem_of(error: FeatureStoreError) -> Problem:
    """The problem that an error of the library is to a client; one that is none of his is noted in the server's log."""
    if isinstance(error, KeyRefused):
        challenge = _challenge() if error.is_missing else _challenge("invalid_token", str(error))
        return Problem("unauthenticated", str(error), headers={CHALLENGE: challenge})
    if isinstance(error, NotGranted) and error.key is None:
        return Problem("unauthenticated", str(error), {"grant": error.grant}, {CHALLENGE: _challenge()})
    if isinstance(error, NotGranted):
        headers = {CHALLENGE: _challenge("insufficient_scope", str(error))}
        return Problem("forbidden", str(error), {"grant": error.grant}, headers)
    if isinstance(error, UnknownNameError):
        return Problem("unknown-name", str(error), {"name": error.name, "known": list(error.known)})
    if isinstance(error, InputError):
        return Problem("invalid", str(error))
    if isinstance(error, ValueRefused):
        return Problem("value-refused", str(error), {"feature": error.feature, "status_of_value": error.status})
    if isinstance(error, OnlineStoreError | LogUnavailable):
        kind = "store-unavailable" if isinstance(error, OnlineStoreError) else "log-unavailable"
        return Problem(kind, str(error), headers={"Retry-After": "1"})
    logger.error("a request failed: %s", error, exc_info=error)
    return Problem("internal", str(error))


def _challenge(error: str = "", said: str = "") -> str:
    """What a client must do to be known (RFC 6750, section 3), in the characters that a header may have."""
    plain = "".join(char for char in said if " " <= char <= "~" and char not in '"\\')
    told = f', error="{error}", error_description="{plain}"' if error else ""
    return f'Bearer realm="{REALM}"{told}'


def answer(problem: Problem) -> Response:
    """The problem as a response."""
    body = {
        "type": f"/problems/{problem.kind}",
        "title": KINDS[problem.kind].title,
        "status": problem.status,
        "detail": problem.detail,
        **problem.fields,
    }
    return Response(
        msgspec.json.encode(body), status_code=problem.status, headers=dict(problem.headers), media_type=MEDIA_TYPE
    )
