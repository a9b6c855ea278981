"""Keys that nobody reads: values of views that are unknown or retired, and records of shards that there are no more.

Only keys of this environment are looked at, by the prefixes that `online.keys` gives; anything else on the server is
somebody else's. Fields are deleted by name, never a whole hash, so a value that is written meanwhile stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, cast

from redis.exceptions import ResponseError

from feature_store.changing.applied import read_applied, recorded_features, view_of
from feature_store.housekeeping.task import Kept, Options, Tidied, counted
from feature_store.online.keys import layouts_key, ready_key, statistics_key, tail_key
from feature_store.online.owner import read_owner
from feature_store.online.packed import decode_row
from feature_store.online.ready import SHARDS, parse_ready, shards_of
from feature_store.online.server import check_server

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import Pipeline

    from feature_store.deployment import Deployment

BATCH = 1000
"""Keys that are looked at, and fields that are deleted, in one round trip."""
_UNKNOWN = "the stream of another declaration may still write it"


@dataclass(slots=True)
class _Count:
    """What was found."""

    keys: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    """View -> values that go."""
    size_bytes: int = 0
    foreign: Counter[str] = field(default_factory=Counter)
    """View -> values that stay, because nobody can say whose they are."""
    strange: int = 0
    """Keys under our prefix that are no hashes."""


def remove_orphans(deployment: Deployment, options: Options) -> Tidied:
    """Delete values of views that are known no more, and records of shards beyond those that there are."""
    client, env = deployment.redis, deployment.env
    check_server(client)
    views = _Views(deployment, client)
    count = _Count()
    keys = _scan(client, env)
    while some := list(islice(keys, BATCH)):
        _sweep(views, client, some, count, dry_run=options.dry_run)
    records = _records(views, client, env, dry_run=options.dry_run)
    tails = _tails(client, env, dry_run=options.dry_run)
    kept = [Kept(f"{counted(number, 'value')} of {view}", _UNKNOWN) for view, number in sorted(count.foreign.items())]
    if count.strange:
        kept.append(Kept(counted(count.strange, "key"), "they have our prefix, but are no hashes of values"))
    return Tidied(
        task="keys",
        figures={
            "values": count.fields.total(),
            "bytes": count.size_bytes,
            "records": records + tails,
        },
        examined=count.keys,
        details={view: counted(number, "value") for view, number in sorted(count.fields.items())},
        kept=kept,
    )


class _Views:
    """Whose values stay."""

    def __init__(self, deployment: Deployment, client: Redis) -> None:
        self._client, self.env = client, deployment.env
        applied = {view_of(name) for name in read_applied(deployment.lake).meanings.features}
        self._standing = applied | {view.id for view in deployment.compiled.registry.views}
        self._recorded = {view_of(name) for name in recorded_features(deployment.lake)}

    def known(self) -> set[str]:
        """Views that were declared or applied when this began, and those that are published or written by a stream now.

        Whoever applies one publishes it before a stream writes it.
        """
        fields = cast("list[bytes]", self._client.hkeys(layouts_key(self.env)))
        published = {each.decode().partition("#")[0] for each in fields}
        ready = parse_ready(cast("dict[bytes, bytes]", self._client.hgetall(ready_key(self.env))))
        written = {view for record in ready.values() for view in record.views}
        return self._standing | published | written

    def is_orphan(self, view: str, value: bytes | None, run: int) -> bool:
        """Whether a value of a view that is not known belongs to nobody: the view was retired, or an older run wrote it."""
        if view in self._recorded:
            return True
        try:
            return value is not None and 0 < decode_row(value).run < run
        except ValueError:
            return False


def _scan(client: Redis, env: str) -> Iterator[bytes]:
    for name in ("features", "features-pii"):
        yield from cast("Iterator[bytes]", client.scan_iter(f"{name}:{env}:{{*", count=BATCH))


def _sweep(views: _Views, client: Redis, keys: Sequence[bytes], count: _Count, *, dry_run: bool) -> None:
    """Look at some hashes, and delete what is nobody's. If a view is published meanwhile, look again."""

    def look(pipe: Pipeline) -> None:
        found[0] = _Count()
        known, owner = views.known(), read_owner(client, views.env)
        orphans = list(_orphans(views, client, keys, known, 0 if owner is None else owner.run, found[0]))
        pipe.multi()
        if not dry_run:
            for key, fields in orphans:
                pipe.hdel(key, *fields)

    found = [_Count()]
    client.transaction(look, layouts_key(views.env))
    count.keys += found[0].keys
    count.fields += found[0].fields
    count.size_bytes += found[0].size_bytes
    count.foreign += found[0].foreign
    count.strange += found[0].strange


def _orphans(
    views: _Views, client: Redis, keys: Sequence[bytes], known: set[str], run: int, count: _Count
) -> Iterator[tuple[bytes, list[bytes]]]:
    """The fields of each hash that are nobody's."""
    for key, fields in _fields(client, keys, count):
        unknown = [each for each in fields if each.decode(errors="replace") not in known]
        values = cast("list[bytes | None]", client.hmget(key, unknown)) if unknown else []
        gone = []
        for name, value in zip(unknown, values, strict=True):
            view = name.decode(errors="replace")
            if views.is_orphan(view, value, run):
                gone.append(name)
                count.fields[view] += 1
                count.size_bytes += len(value or b"")
            else:
                count.foreign[view] += 1
        if gone:
            yield key, gone


def _fields(client: Redis, keys: Sequence[bytes], count: _Count) -> Iterator[tuple[bytes, list[bytes]]]:
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.hkeys(key)
    for key, fields in zip(keys, pipeline.execute(raise_on_error=False), strict=True):
        if isinstance(fields, ResponseError):
            count.strange += 1
        else:
            count.keys += 1
            yield key, fields


def _records(views: _Views, client: Redis, env: str, *, dry_run: bool) -> int:
    """Statistics and ready records of views that are retired."""
    total = 0
    for key in (statistics_key(env), ready_key(env)):
        known = views.known()
        fields = [each for each in cast("list[bytes]", client.hkeys(key)) if b"@" in each]
        gone = [each for each in fields if each.decode() not in known and views.is_orphan(each.decode(), None, 0)]
        total += len(gone)
        if gone and not dry_run:
            client.hdel(key, *gone)
    return total


def _tails(client: Redis, env: str, *, dry_run: bool) -> int:
    """The marks of shards beyond those that there are; none if Redis does not say how many there are."""
    gone: list[str] = []

    def look(pipe: Pipeline) -> None:
        ready = cast("dict[bytes, bytes]", pipe.hgetall(ready_key(env)))
        shards = shards_of(ready) if SHARDS.encode() in ready else None
        prefix = tail_key(env, 0)[:-1]
        found = [each.decode() for each in client.scan_iter(f"{prefix}*", count=BATCH)]
        numbers = {each: each.removeprefix(prefix) for each in found}
        gone[:] = [each for each, n in numbers.items() if shards is not None and n.isdigit() and int(n) >= shards]
        pipe.multi()
        if gone and not dry_run:
            pipe.unlink(*gone)

    client.transaction(look, ready_key(env))
    return len(gone)
