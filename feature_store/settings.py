"""The settings of a deployment, from environment variables `FEATURE_STORE_*`."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from feature_store.clock import Clock, ReplayClock, SystemClock
from feature_store.errors import SettingsError

PREFIX = "FEATURE_STORE_"
ENVIRONMENT_RULE = "must be lower-case letters, digits and _ (at most 31)"


class Settings(BaseSettings):
    """Where things are and what they are called; every field can be given as `FEATURE_STORE_<FIELD>`.

    Raises:
        SettingsError: for a value that breaks a rule, in one line.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    home: Path = Path(".feature_store")
    """What this deployment keeps on disk: the lake, the embedded server's data, reports."""
    lake_catalog: str | None = None
    """Of a lake of several machines: `postgres:env:NAME` or another `kind:where` without a password; none: in `home`."""
    lake_data: str | None = None
    """Of a lake of several machines: `s3://bucket/prefix`, or a directory that all of them have."""
    environment: str = "dev"
    """Part of every Redis key, lake schema and asset prefix: dev, staging, prod."""
    redis_url: str = "redis://127.0.0.1:6390/0"
    declarations: str = "features:registry"
    """`module:attribute` of the registry."""
    functions: str | None = None
    """`module`, or `module:attribute`, of the on-demand features whose functions the HTTP API and `get` may run."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes of the flow, all on one machine; each keeps its share of the entities."""
    ui_port: int = Field(default=3000, ge=1, le=65535)
    """The loopback port of Dagster's web UI, as `make up` starts it."""
    api_host: str = "127.0.0.1"
    """Where the HTTP API listens: a loopback address, or another if there are API keys."""
    api_port: int = Field(default=8700, ge=0, le=65535)
    """Its port; 0: a free one."""
    api_workers: int = Field(default=1, ge=1, le=256)
    """Its processes, all on one machine."""
    api_grpc_port: int | None = Field(default=None, ge=0, le=65535)
    """The port of the gRPC API, beside the HTTP API; 0: a free one, none: there is no such API."""
    api_publish: bool = False
    """Whether it takes events; it then needs the declarations."""
    api_drain_s: float = Field(default=0.0, ge=0, le=600)
    """For how long, asked to stop, it says that it is not ready and answers still."""
    api_keys_required: bool = False
    """Whether it asks for a key even if nobody ever made one; it does on any but a loopback address."""
    api_tls_certificate: Path | None = None
    """A file with its certificate and those between it and the authority (PEM): it then speaks HTTPS alone, and
    gRPC over TLS alone.
    """
    api_tls_key: Path | None = None
    """The file with the certificate's private key (PEM, without a password)."""
    audit_log: str | None = None
    """A file, or `stderr`: who read, published or changed keys, a line of JSON each."""
    alert_webhook_url: str | None = None
    """Where failed checks and their recovery are posted."""
    backfill_days: int = Field(default=31, ge=1, le=3660)
    """Days that one run of a backfill loads or builds: what a failed run loses, and what a process is started for."""
    drift_days: int = Field(default=28, ge=1)
    """Days that a drift check compares, with as many days before them."""
    drift_threshold: float = Field(default=0.5, gt=0)
    """The distance between two distributions that is called drift, unless the declaration says otherwise."""
    training_bucket_events: int = Field(default=8_000_000, ge=1000)
    """Events that a training set or batch rows hold in memory at once, in all workers together."""
    batch_workers: int | None = Field(default=None, ge=1, le=1024)
    """Processes that compute what does not fit one bucket; 1: none but the caller's. One per core by default."""
    batch_memory_mb: int | None = Field(default=None, ge=256)
    """What DuckDB may use of the memory, here and in the workers together, before it spills to disk; four fifths by default."""

    def __init__(self, **values: object) -> None:
        try:
            super().__init__(**values)  # type: ignore[arg-type]
        except ValidationError as error:
            raise SettingsError(
                "; ".join(_sentence(problem["loc"], problem["msg"]) for problem in error.errors())
            ) from error

    @field_validator("environment")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not is_environment_name(value):
            raise ValueError(f"{ENVIRONMENT_RULE}, got {value!r}")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, value: str) -> str:
        if not re.match(r"(rediss?|unix|redis\+sentinel)://", value):
            raise ValueError(f"must start with redis://, rediss://, unix:// or redis+sentinel://, got {value!r}")
        return value

    replay: str | None = None
    """`origin_us/started_us/speed`: live in a past that runs again instead of now; a demo's or a test's clock."""

    @field_validator("replay")
    @classmethod
    def _replay_clock(cls, value: str | None) -> str | None:
        return None if value is None else str(ReplayClock.parse(value))

    @property
    def clock(self) -> Clock:
        """The clock that everything of this deployment runs on."""
        return SystemClock() if self.replay is None else ReplayClock.parse(self.replay)

    @property
    def lake_directory(self) -> Path:
        """Where the lake is; of a lake of several machines, what this one keeps of it while it works."""
        return self.home / "lake"


def is_environment_name(text: str) -> bool:
    """Whether a text can name an environment."""
    return re.fullmatch(r"[a-z][a-z0-9_]{0,30}", text) is not None


def _sentence(location: tuple[int | str, ...], message: str) -> str:
    name = ".".join(map(str, location))
    rule = message.removeprefix("Value error, ")
    return f"setting `{name}` ({PREFIX}{name.upper()}): {rule[:1].lower()}{rule[1:]}"
