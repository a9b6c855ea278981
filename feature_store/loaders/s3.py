"""Files in S3 or in a server that speaks its protocol: where it is, and whose credentials open it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from feature_store.errors import InputError

if TYPE_CHECKING:
    import duckdb

SCHEME = "s3://"
_CODE = re.compile(r"\b(NoSuchBucket|NoSuchKey|InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|ExpiredToken)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3:
    """A server of objects. What is None comes from the standard environment variables; credentials always do."""

    endpoint: str | None = None
    """`http://127.0.0.1:9000`; None: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, or Amazon itself."""
    region: str | None = None
    """None: `AWS_REGION`, `AWS_DEFAULT_REGION`, or `us-east-1`."""
    url_style: Literal["path", "vhost"] | None = None
    """Whether the bucket stands in the path or in the host's name. None: `path` with an endpoint, `vhost` without."""
    key_env: str = "AWS_ACCESS_KEY_ID"
    """The environment variable that holds the access key; without one, objects are read anonymously."""
    secret_env: str = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 - a name, no secret
    token_env: str = "AWS_SESSION_TOKEN"  # noqa: S105

    def connect(self, connection: duckdb.DuckDBPyConnection, *, extra: str = "s3") -> None:
        """Let the connection read and write `s3://` paths.

        Args:
            connection: without secrets so far.
            extra: of this library, which brings the package.

        Raises:
            InputError: the package is missing, the endpoint is no URL, or a key comes without its secret.
        """
        from feature_store.duck import literal, load_extension

        load_extension(connection, "duckdb_extension_httpfs", extra=extra, error=InputError)
        # Nothing but what is declared here. (Forbidding persistent secrets breaks a later ATTACH of Postgres.)
        connection.execute(f"SET secret_directory = {literal(f'{os.devnull}/none')}")
        listed = ", ".join(f"{name} {literal(value)}" for name, value in self._options().items())
        connection.execute(f"CREATE TEMPORARY SECRET declared (TYPE s3, PROVIDER config, {listed})")

    def address(self) -> str:
        """The endpoint, for messages."""
        return self._endpoint() or "https://s3.amazonaws.com"

    def explained(self, path: str, problem: str) -> str:
        """What went wrong with an `s3://` path, from DuckDB's words."""
        return self.refusal(path, problem) or f"files '{path}' cannot be read: {problem.splitlines()[0]}"

    def refusal(self, path: str, problem: str) -> str | None:
        """The sentence for a bucket that is missing, or a server that refuses or is away; None for anything else."""
        bucket = path.removeprefix(SCHEME).partition("/")[0]
        code = _CODE.search(problem)
        status = re.search(r"\(HTTP (?:code )?(\d+)", problem)
        if code and code[1] == "NoSuchBucket":
            return f"bucket '{bucket}' does not exist at {self.address()} (wanted for '{path}')"
        if (code and code[1] != "NoSuchKey") or (status and status[1] in {"400", "401", "403"}):
            said = code[1] if code else f"HTTP {status[1] if status else ''}"
            return (
                f"S3 at {self.address()} refuses to read '{path}' ({said}); "
                f"correct {self.key_env} and {self.secret_env}, or what they may read"
            )
        if re.search(r"Could not (connect|resolve|establish)", problem):
            return f"no S3 server answers at {self.address()} (wanted for '{path}'); start it, or correct the endpoint"
        return None

    def secrets(self) -> list[str]:
        """What no message may show."""
        return [os.environ.get(name, "") for name in (self.secret_env, self.token_env)]

    def _endpoint(self) -> str | None:
        return self.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None

    def _options(self) -> dict[str, str]:
        region = self.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        options = {"REGION": region, **self._credentials()}
        endpoint = self._endpoint()
        if endpoint is not None:
            url = urlsplit(endpoint)
            if url.scheme not in ("http", "https") or not url.netloc or url.path.strip("/"):
                raise InputError(f"S3 `endpoint` must be like http://127.0.0.1:9000, got '{endpoint}'")
            options |= {"ENDPOINT": url.netloc, "USE_SSL": str(url.scheme == "https").lower()}
        options["URL_STYLE"] = self.url_style or ("path" if endpoint else "vhost")
        return options

    def _credentials(self) -> dict[str, str]:
        key, secret, token = (os.environ.get(name, "") for name in (self.key_env, self.secret_env, self.token_env))
        if bool(key) != bool(secret):
            given, missing = (self.key_env, self.secret_env) if key else (self.secret_env, self.key_env)
            raise InputError(f"environment variable '{missing}' is not set, but '{given}' is; S3 needs both or none")
        options = {"KEY_ID": key, "SECRET": secret, "SESSION_TOKEN": token}
        return {name: value for name, value in options.items() if value}
