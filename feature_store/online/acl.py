"""Who may do what in Redis: rules for the users of an environment, by what they are for.

Redis grants by key and by command. A reader's rules name the keys that `features_key` gives plain views, so a view with
personal data is out of its reach whatever it asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from feature_store.errors import UnknownNameError

_READS = ("get", "hget", "hmget", "hgetall", "ping", "select", "client|setinfo", "client|setname")
_READ_KEYS = ("%R~features:{env}:*", *(f"%R~{name}:{{env}}" for name in ("layouts", "services", "ready", "generation")))
_PERSONAL_KEYS = ("%R~features-pii:{env}:*", "%W~served-pii:{env}")
_DESCRIBED_KEYS = ("%R~access:{env}", "%R~catalog:{env}", "%R~statistics:{env}")
_SAMPLE_KEYS = ("%W~served:{env}",)
# What the scripts of the log call. Without XRANGE and XREAD, who publishes reads no event.
_PUBLISHES = (
    *("eval", "evalsha", "script|load", "time", "exists", "waitaof", "xadd", "xlen", "xinfo|stream"),
    *("xgroup|create", "xgroup|destroy", "hget", "hgetall", "hmget", "hset", "ping", "select"),
    *("client|setinfo", "client|setname"),
)
_LOG_KEYS = ("~log:{env}:*", "~logmeta:{env}:*")
_ALL_KEYS = (
    *(f"~{name}:{{env}}:*" for name in ("features", "features-pii", "log", "logmeta", "tail", "built")),
    *(f"~{name}:{{env}}" for name in ("access", "applied", "commits", "evictions", "generation", "layouts", "owner")),
    *(f"~{name}:{{env}}" for name in ("ready", "runs", "served", "served-pii", "services", "under_way")),
    *(f"~{name}:{{env}}" for name in ("catalog", "statistics")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What one kind of user of an environment may do."""

    name: str
    about: str
    keys: Sequence[str]
    commands: Sequence[str]
    """As rules: `+get`, `+@all`, `-@admin`."""

    def user(self, env: str) -> str:
        """The name of its user."""
        return f"{env}-{self.name}"

    def rules(self, env: str) -> str:
        """The arguments of `ACL SETUSER`: what it may do and nothing else; its passwords stay as they are."""
        keys = " ".join(key.format(env=env) for key in self.keys)
        return f"{self.user(env)} on resetkeys resetchannels {keys} -@all {' '.join(self.commands)}"


def _plus(*commands: str) -> tuple[str, ...]:
    return tuple(f"+{command}" for command in dict.fromkeys(commands))


_EVERYTHING = ("+@all", "-@admin", "-@dangerous", "+info")
ROLES = {
    role.name: role
    for role in (
        Role(
            name="reader",
            about="model services that read with the Python reader; no personal data",
            keys=(*_READ_KEYS, *_SAMPLE_KEYS),
            commands=_plus(*_READS, "xadd"),
        ),
        Role(
            name="personal-reader",
            about="the same, with personal data",
            keys=(*_READ_KEYS, *_SAMPLE_KEYS, *_PERSONAL_KEYS),
            commands=_plus(*_READS, "xadd"),
        ),
        Role(
            name="publisher",
            about="who publishes events by `store.publish` or `feature-store publish`; reads none",
            keys=_LOG_KEYS,
            commands=_plus(*_PUBLISHES, "info", "hsetex"),
        ),
        Role(
            name="api",
            about="`feature-store serve`: reads all, as its keys allow, and publishes",
            keys=(*_DESCRIBED_KEYS, *_READ_KEYS, *_SAMPLE_KEYS, *_PERSONAL_KEYS, *_LOG_KEYS),
            commands=_plus(*_READS, *_PUBLISHES),
        ),
        Role(name="stream", about="the flow and the archiver", keys=_ALL_KEYS, commands=_EVERYTHING),
        Role(
            name="operator",
            about="Dagster and the commands: apply, keys, materialize",
            keys=_ALL_KEYS,
            commands=_EVERYTHING,
        ),
    )
}
"""By their names, those who may least first."""


def role(name: str) -> Role:
    """A role by its name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in ROLES:
        raise UnknownNameError("role", name, ROLES)
    return ROLES[name]
