"""The settings of a deployment, from environment variables `FEATURE_STORE_*` and a file."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from feature_store.clock import Clock, ReplayClock, SystemClock
from feature_store.errors import SettingsError

PREFIX = "FEATURE_STORE_"
FILE = "feature_store.toml"
"""Settings of the working folder, by their names in small letters."""
CONFIG = f"{PREFIX}CONFIG"
"""The variable that names another file instead."""
Rebuild = Literal["none", "events", "all"]
ENVIRONMENT_RULE = "must be lower-case letters, digits and _ (at most 31)"


class Settings(BaseSettings):
    """Where things are and what they are called. A variable `FEATURE_STORE_<FIELD>` comes before the file, an argument before both.

    Raises:
        SettingsError: for a value that breaks a rule, in one line; the file cannot be read.
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
    ui_host: str = "127.0.0.1"
    """Where Dagster's web UI listens, which asks nobody who he is."""
    ui_port: int = Field(default=3000, ge=1, le=65535)
    """Its port."""
    ui_url: str | None = None
    """Where people reach that UI, for links to it; by default on the machine's loopback address."""
    api_url: str | None = None
    """Where people reach the HTTP API and its catalog, for links to it; by default at `api_host` and `api_port`."""
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
    metrics_host: str = "127.0.0.1"
    """Where the endpoints for Prometheus listen, those of the flow, the archiver and the exporter; they ask for no key."""
    metrics_port: int = Field(default=8701, ge=1, le=65535)
    """The port of the exporter: what checks, materializations and the stream look like from outside."""
    flow_metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """The port on which the flow says what it counts; none: it counts nothing."""
    archive_metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """The port on which the archiver does."""
    owner: str | None = None
    """Who runs the deployment, an e-mail address or `team:name`: whose the lake's health, housekeeping and all else is
    that no declaration owns.
    """
    alert_webhook_url: str | None = None
    """Where alerts are posted: failed checks, failed and overdue runs, and their recovery."""
    alert_overdue_minutes: int = Field(default=60, ge=5, le=10_080)
    """How long a run may wait or work, and a daily schedule be late, before an alert says so."""
    runbook_url: str = "docs/runbooks"
    """Where people reach the runbooks that alerts link: `<runbook_url>/<kind>.md`."""
    backfill_days: int = Field(default=31, ge=1, le=3660)
    """Days that one run of a backfill loads or builds: what a failed run loses, and what a process is started for."""
    rebuild: Rebuild = "events"
    """Which outdated days a sensor has built again by itself: those that events have changed or that were missed, `all`
    (also those that another definition made), `none`. The others are proposed.
    """
    drift_days: int = Field(default=28, ge=1)
    """Days that say what is usual: those before what a check looks at."""
    drift_threshold: float = Field(default=0.3, gt=0)
    """The distance between two distributions that is called drift, unless the declaration says otherwise."""
    retraining: Literal["propose", "start", "off"] = "propose"
    """What happens when the drift of a service goes over its limit: it is told, or `training/<service>` runs too, or nothing."""
    training_bucket_events: int = Field(default=8_000_000, ge=1000)
    """Events that a training set or batch rows hold in memory at once, in all workers together."""
    batch_workers: int | None = Field(default=None, ge=1, le=1024)
    """Processes that compute what does not fit one bucket; 1: none but the caller's. One per core by default."""
    batch_memory_mb: int | None = Field(default=None, ge=256)
    """What DuckDB may use of the memory, here and in the workers together, before it spills to disk; four fifths by default."""
    batch_threads: int | None = Field(default=None, ge=1, le=1024)
    """Threads with which DuckDB reads and writes the lake in each process; one per core by default.

    Threads that have nothing to do look for work for a while before they sleep, which costs whatever else wants the processor.
    """

    def __init__(self, **values: object) -> None:
        try:
            super().__init__(**values)  # type: ignore[arg-type]
        except ValidationError as error:
            problems = [_sentence(str(each["loc"][0]), each["msg"], each["type"], values) for each in error.errors()]
            raise SettingsError("; ".join(problems)) from error

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, variables, the file: who comes first has it."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=dict(file_values()))

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

    @field_validator("ui_url", "api_url")
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", value):
            raise ValueError(f"must be an http:// or https:// address without `?` and `#`, got {value!r}")
        return None if value is None else value.rstrip("/")

    @field_validator("owner")
    @classmethod
    def _dagsters_owner(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"team:\S+|[^@\s:]+@[^@\s]+\.[^@\s]+", value):
            raise ValueError(f"must be an e-mail address or team:name, got {value!r}")
        return value

    @field_validator("alert_webhook_url")
    @classmethod
    def _web_hook(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https?://[^\s/?#]", value):
            raise ValueError("must be an http:// or https:// address")  # what came may be a secret
        return value

    @field_validator("runbook_url")
    @classmethod
    def _pages(cls, value: str) -> str:
        if not value.strip("/") or re.search(r"\s", value):
            raise ValueError(f"must be an address or a path, without spaces, got {value!r}")
        return value.rstrip("/")

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
    def dagster_url(self) -> str:
        """Where people reach Dagster's web UI."""
        return self.ui_url or f"http://127.0.0.1:{self.ui_port}"

    @property
    def catalog_url(self) -> str:
        """Where people reach the catalog."""
        scheme = "http" if self.api_tls_certificate is None else "https"
        host = f"[{self.api_host}]" if ":" in self.api_host else self.api_host
        return f"{self.api_url or f'{scheme}://{host}:{self.api_port}'}/catalog"

    @property
    def lake_directory(self) -> Path:
        """Where the lake is; of a lake of several machines, what this one keeps of it while it works."""
        return self.home / "lake"


def is_environment_name(text: str) -> bool:
    """Whether a text can name an environment."""
    return re.fullmatch(r"[a-z][a-z0-9_]{0,30}", text) is not None


def settings_file() -> Path | None:
    """The file with settings: the one that is named, else that of the working folder if there is one."""
    named = os.environ.get(CONFIG)
    if named:
        return Path(named)
    return Path(FILE) if Path(FILE).exists() else None


def file_values() -> Mapping[str, object]:
    """What stands in the file; nothing without one.

    Raises:
        SettingsError: it cannot be read, or is no TOML.
    """
    path = settings_file()
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"{CONFIG} names a file that cannot be read: {error.strerror or error}: {path}") from error
    except ValueError as error:  # TOML, or the bytes of a text
        raise SettingsError(f"{path} is no TOML: {error}") from error


def origin_of(name: str, given: Mapping[str, object] = {}) -> str:
    """Where a setting comes from: `argument`, a variable, a file, or `default`.

    Args:
        name: of the setting.
        given: the arguments.
    """
    if name in given:
        return "argument"
    variables = {variable.upper() for variable in os.environ}  # of which pydantic takes small letters too
    if f"{PREFIX}{name.upper()}" in variables:
        return f"{PREFIX}{name.upper()}"
    return str(settings_file()) if name in file_values() else "default"


def meant(name: str, known: Mapping[str, object] | list[str]) -> str:
    """A question whether a known name was meant, after a word that is none; nothing where none is near.

    >>> meant("worker", ["workers", "replay"])
    '; did you mean `workers`?'
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _sentence(name: str, message: str, kind: str, given: Mapping[str, object]) -> str:
    origin = origin_of(name, given)
    place = origin if origin not in ("argument", "default") else f"{PREFIX}{name.upper()}"
    if kind == "extra_forbidden":
        return f"setting `{name}` ({place}) is not known{meant(name, Settings.model_fields)}"
    rule = message.removeprefix("Value error, ")
    return f"setting `{name}` ({place}): {rule[:1].lower()}{rule[1:]}"
