"""A schema registry, asked over HTTP: schemas by their id, ids by their subject (the REST interface of Confluent's)."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote, urlsplit

from feature_store.decoders.avro_schema import AvroSchema, Misfit, parse_schema
from feature_store.errors import InputError, SchemaRegistryError, SettingsError

if TYPE_CHECKING:
    from urllib.error import HTTPError
    from urllib.request import Request

_NOT_THERE = {40401, 40402, 40403}
"""The registry's own codes for a subject, a version, a schema that it does not have."""
T = TypeVar("T")

_MAX_ANSWER = 10_000_000
_TYPE = "application/vnd.schemaregistry.v1+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaRegistry:
    """Where the schemas are. Credentials are read from the environment for each request and kept nowhere."""

    url: str
    user_env: str | None = None
    """The environment variable with the user's name, for basic authentication."""
    password_env: str | None = None
    timeout_s: float = 5.0
    """Of one attempt."""
    attempts: int = 3
    _known: dict[int, AvroSchema | str] = field(default_factory=dict, init=False, repr=False, compare=False)
    """A schema never changes under its id, nor what is wrong with it."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError("`registry_url` must be an http or https address")
        if "@" in parts.netloc:
            raise InputError(
                "`registry_url` must not carry credentials; name their variables by `user_env`, `password_env`"
            )
        if (self.user_env is None) != (self.password_env is None):
            raise InputError("`user_env` and `password_env` must be given together")

    def by_id(self, schema_id: int) -> AvroSchema:
        """The Avro schema of an id; asked for once.

        Raises:
            Misfit: there is none, or it is no schema of Avro records.
            SchemaRegistryError: the registry cannot be asked.
        """
        known = self._known.get(schema_id)
        if known is None:
            answer = self._ask(f"/schemas/ids/{schema_id}")
            if answer is None:  # not kept: the registry may be told of it later
                raise Misfit("the schema registry knows no such id")
            known = self._known[schema_id] = self._parsed(answer)
        if isinstance(known, str):
            raise Misfit(known)
        return known

    def latest(self, subject: str) -> tuple[int, AvroSchema]:
        """The newest schema of a subject, and its id.

        Raises:
            InputError: there is none that records can be written by.
        """
        answer = self._ask(f"/subjects/{quote(subject, safe='')}/versions/latest")
        if answer is None:
            raise InputError(f"the schema registry at {self.url} has no subject '{subject}'")
        parsed = self._parsed(answer)
        if isinstance(parsed, str):
            raise InputError(f"subject '{subject}': {parsed}")
        return self._of(answer, "id", int), parsed

    def id_of(self, subject: str, schema: str, *, register: bool) -> int:
        """The id of a schema under its subject.

        Raises:
            InputError: it is not registered there and `register` is false, or it may not be.
        """
        path = f"/subjects/{quote(subject, safe='')}"
        answer = self._ask(f"{path}/versions" if register else path, {"schema": schema})
        if answer is None:
            hint = "; register it there, or give `register=True`"
            raise InputError(f"the schema registry at {self.url} does not have this schema under '{subject}'{hint}")
        return self._of(answer, "id", int)

    def refusals(self, subject: str, schema: str) -> list[str]:
        """Why a schema is not compatible with the subject's newest one, by the subject's own rule; empty if it is.

        A subject without schemas refuses nothing.

        Raises:
            SchemaRegistryError: the registry cannot be asked.
        """
        path = f"/compatibility/subjects/{quote(subject, safe='')}/versions/latest?verbose=true"
        answer = self._ask(path, {"schema": schema})
        if answer is None or self._of(answer, "is_compatible", bool):
            return []
        return [str(message) for message in answer.get("messages") or ["it is not compatible with the newest schema"]]

    def _parsed(self, answer: Mapping[str, Any]) -> AvroSchema | str:
        kind = answer.get("schemaType") or "AVRO"
        if kind != "AVRO":
            return f"the schema is of type {kind}, not AVRO"
        named: dict[tuple[str, int], object] = {}
        self._collect(answer, named)
        try:
            return parse_schema(json.loads(self._of(answer, "schema", str)), named=list(named.values()))
        except ValueError as error:
            return f"the schema is none of Avro records: {error}"

    def _collect(self, answer: Mapping[str, Any], named: dict[tuple[str, int], object]) -> None:
        """The schemas that this one refers to, each after those that it refers to itself."""
        for reference in answer.get("references") or ():
            place = (str(reference["subject"]), int(reference["version"]))
            if place in named:
                continue
            inner = self._ask(f"/subjects/{quote(place[0], safe='')}/versions/{place[1]}")
            if inner is None:
                raise SchemaRegistryError(
                    self.url, f"version {place[1]} of subject '{place[0]}' is referred to and missing"
                )
            self._collect(inner, named)
            named[place] = json.loads(self._of(inner, "schema", str))

    def _of(self, answer: Mapping[str, Any], name: str, kind: type[T]) -> T:
        value = answer.get(name)
        if not isinstance(value, kind):
            raise SchemaRegistryError(self.url, f"its answer has no `{name}`")
        return value

    def _ask(self, path: str, body: Mapping[str, object] | None = None) -> Mapping[str, Any] | None:
        """The registry's answer; None if it does not have what was asked for.

        Raises:
            SchemaRegistryError: no answer, or one that says nothing about it, in any attempt.
        """
        from http.client import HTTPException
        from urllib.error import HTTPError

        problem = ""
        for attempt in range(self.attempts):
            time.sleep(0.0 if attempt == 0 else 0.1 * 2**attempt)
            try:
                return self._once(path, body)
            except HTTPError as error:
                code, problem = _said(error)
                if error.code == 404 and code in _NOT_THERE:
                    return None
                if error.code in (409, 422):
                    raise InputError(f"the schema registry at {self.url} refuses the schema ({problem})") from None
                if error.code < 500 and error.code not in (408, 429):
                    raise SchemaRegistryError(self.url, problem) from None
            except (OSError, HTTPException, ValueError) as error:
                problem = str(getattr(error, "reason", error)) or type(error).__name__
        raise SchemaRegistryError(self.url, f"{problem}, after {self.attempts} attempts")

    def _once(self, path: str, body: Mapping[str, object] | None) -> Mapping[str, Any]:
        from urllib.request import urlopen

        with urlopen(self._request(path, body), timeout=self.timeout_s) as response:  # noqa: S310 - http and https only
            answer = json.loads(response.read(_MAX_ANSWER))
        if not isinstance(answer, dict):
            raise ValueError("the answer is no JSON object")  # noqa: TRY004 - as any answer that is not a registry's
        return cast("Mapping[str, Any]", answer)

    def _request(self, path: str, body: Mapping[str, object] | None) -> Request:
        from urllib.request import Request

        data = None if body is None else json.dumps(body).encode()
        request = Request(self.url.rstrip("/") + path, data=data, headers={"Accept": _TYPE})  # noqa: S310 - see above
        if data is not None:
            request.add_header("Content-Type", _TYPE)
        if self.user_env is not None and self.password_env is not None:
            secret = f"{_variable(self.user_env)}:{_variable(self.password_env)}".encode()
            # Not to whomever the registry redirects to.
            request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(secret).decode())
        return request


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise SettingsError(
            f"environment variable '{name}', which the schema registry's credentials come from, is not set"
        )
    return value


def _said(error: HTTPError) -> tuple[int | None, str]:
    """The registry's own code and words, where the answer has them."""
    try:
        answer = json.loads(error.read(_MAX_ANSWER))
        return int(answer["error_code"]), f"HTTP {error.code}: {str(answer.get('message'))[:200]}"
    except (OSError, ValueError, LookupError, TypeError):
        return None, f"HTTP {error.code}: {error.reason}"
