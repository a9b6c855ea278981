"""The catalog's web page: files of this package, the same for everybody. What it shows it asks the API for."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from feature_store.serving.problem import Problem

START = "index.html"
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Nothing is loaded from elsewhere, no script or style stands in the page, and a text cannot become markup."""


class _File(NamedTuple):
    body: bytes
    media_type: str
    etag: str


class Site:
    """The page's files, read once."""

    def __init__(self) -> None:
        found = [each for each in (files("feature_store.serving") / "page").iterdir() if each.is_file()]
        self._files = {each.name: _file(each.name, each.read_bytes()) for each in found}

    async def start(self, request: Request) -> Response:
        """The page itself."""
        return self._answer(request, START)

    async def file(self, request: Request) -> Response:
        """A script, a style or a picture of it."""
        return self._answer(request, request.path_params["file"])

    def _answer(self, request: Request, name: str) -> Response:
        found = self._files.get(name)
        if found is None:
            raise Problem("no-such-path", f"the catalog has no file '{name}'")
        headers = HEADERS | {"ETag": found.etag}
        if request.headers.get("if-none-match") == found.etag:
            return Response(status_code=304, headers=headers)
        return Response(found.body, media_type=found.media_type, headers=headers)


def _file(name: str, body: bytes) -> _File:
    return _File(body, _TYPES[name.rpartition(".")[2]], f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"')
