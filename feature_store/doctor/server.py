"""Redis as a deployment needs it, its clock, and the logs that it keeps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from feature_store.doctor.finding import Finding, Findings, State, guarded
from feature_store.log.binding import open_log
from feature_store.online.address import connected
from feature_store.online.server import address, check_server

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.declare.source import EventSource
    from feature_store.registry import Registry
    from feature_store.settings import Settings

APART_WARNING_S, APART_PROBLEM_S = 1.0, 10.0
"""How far the clocks of this machine and of Redis may be apart."""
SLOW_MS = 5.0
"""A round trip to Redis that takes longer is told."""
FULL = 0.8
"""The share of Redis's memory above which it is told."""
_NO_FIELD = ("FXX", "FIELDS", 1, "doctor", "")
_WRITES = {
    "publish events": ("EVALSHA", "0" * 40, 1, "log:{env}:doctor"),
    "write values": ("HSETEX", "features:{env}:doctor", *_NO_FIELD),
    "apply declarations": ("HSETEX", "layouts:{env}", *_NO_FIELD),
}
"""What the roles that write do -> such a command that changes nothing: of a script that is not there, on a field that is
not there. Redis looks first whether the user may. (`ACL DRYRUN` would say it, too, to users who may everything anyway.)
"""


def server_findings(settings: Settings, registries: Sequence[Registry]) -> Findings:
    """What is seen of Redis.

    Args:
        settings: where it is.
        registries: whose sources have logs; none where they cannot be loaded.
    """
    with connected(settings.redis_url, socket_timeout=5, socket_connect_timeout=5) as client:
        facts = check_server(client)
        weak = [*_weaknesses(client), *_permissions(client, settings.environment)]
        yield from weak
        if not weak:
            yield Finding("Redis", State.OK, f"{facts.name} {facts.version} at {address(client)}")
        yield from _clock(client)
        for source in (each for registry in registries for each in registry.sources.values() if each.log is not None):
            yield from guarded(f"log {source.name}", partial(_log, client, settings.environment, source))


def _weaknesses(client: Redis) -> Findings:
    info = client.info()
    if info.get("role") == "slave":
        said = f"{address(client)} is a replica, which takes no writes"
        yield Finding("Redis", State.PROBLEM, said, "name its primary by FEATURE_STORE_REDIS_URL")
    if not info.get("aof_enabled") and _saves(client) == "":
        said = f"{address(client)} keeps nothing on disk: a restart loses the log and all values"
        yield Finding("Redis", State.WARNING, said, "set appendonly to yes")
    used, most = int(info["used_memory"]), int(info.get("maxmemory", 0))
    if most and used > FULL * most:
        said = f"{address(client)} uses {used / most:.0%} of its maxmemory ({most / 2**20:,.0f} MiB)"
        yield Finding("Redis", State.WARNING, said, "give it more memory, or retire what nobody reads")
    if (taken_ms := _round_trip_ms(client)) > SLOW_MS:
        said = f"{address(client)} answers in {taken_ms:.1f} ms"
        yield Finding("Redis", State.WARNING, said, "bring readers and server nearer together")


def _permissions(client: Redis, env: str) -> Findings:
    """What this user may not do that somebody of a deployment does."""
    denied = {what: said for what, command in _WRITES.items() if (said := _denied(client, command, env))}
    if denied:
        state = State.PROBLEM if len(denied) == len(_WRITES) else State.WARNING
        said = f"this user may not {', '.join(denied)} ({next(iter(denied.values()))})"
        yield Finding(
            "Redis", state, said, "give it a role, or name another user: `feature-store acl` prints the rules"
        )


def _denied(client: Redis, command: Sequence[str | int], env: str) -> str:
    """Why the user may not; '' if it may, whatever else is wrong."""
    try:
        client.execute_command(*(str(part).format(env=env) for part in command))  # type: ignore[no-untyped-call]
    except NoPermissionError as error:
        return str(error)
    except ResponseError:  # such as NOSCRIPT
        return ""
    return ""


def _saves(client: Redis) -> str | None:
    """When the server writes its data to disk; None where it does not say."""
    try:
        return str(client.config_get("save").get("save", ""))
    except RedisError:
        return None


def _round_trip_ms(client: Redis) -> float:
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        client.ping()
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)[2]


def _clock(client: Redis) -> Findings:
    before = time.time()
    seconds, micros = client.time()
    apart = abs(seconds + micros / 1e6 - (before + time.time()) / 2)
    said = f"this machine and Redis are {apart:.1f} s apart"
    if apart <= APART_WARNING_S:
        yield Finding("clock", State.OK, said)
        return
    state = State.PROBLEM if apart > APART_PROBLEM_S else State.WARNING
    yield Finding("clock", state, said, "synchronise both by NTP: events seem late or of the future, values stale")


def _log(client: Redis, env: str, source: EventSource) -> Findings:
    log = open_log(client, env, source)
    partitions = range(log.partitions)
    held = sum(log.lag(each, log.begin(each)) for each in partitions)
    yield Finding(f"log {source.name}", State.OK, f"{held:,} records in {len(partitions)} partitions")
