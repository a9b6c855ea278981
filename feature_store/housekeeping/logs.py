"""The logs behind the lake: records that the lake has and that no consumer still has to read are removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_store.declare.log import RedisStreamBinding
from feature_store.fold.archive import CONSUMER
from feature_store.housekeeping.task import Kept, Options, Tidied, counted
from feature_store.log.protocol import EventLog

if TYPE_CHECKING:
    from feature_store.deployment import Deployment


def trim_logs(deployment: Deployment, options: Options) -> Tidied:
    """Trim every log of Redis Streams behind the lake and the flow; Kafka removes by its topic's own retention.

    A running archiver does the same every few seconds; this says what is left to trim, and who holds the rest.
    """
    removed: dict[str, int] = {}
    kept: list[Kept] = []
    for name, source in deployment.compiled.registry.sources.items():
        if source.log is None:
            continue
        if not isinstance(source.log, RedisStreamBinding):
            kept.append(
                Kept(f"log {name}", f"Kafka removes records by `retention.ms` of its topic '{source.log.topic}'")
            )
            continue
        log = deployment.log(name)
        kept += _holders(name, log)
        removed[name] = trimmable(log) if options.dry_run else log.trim(behind=CONSUMER)
    return Tidied(
        task="logs",
        figures={"records": sum(removed.values())},
        details={name: counted(count, "record") for name, count in removed.items() if count},
        kept=kept,
    )


def trimmable(log: EventLog) -> int:
    """How many records `trim` would remove: those before what the slowest consumer has acknowledged."""
    consumers = log.consumers()
    if CONSUMER not in consumers:
        return 0
    return sum(_before(log, p, min(read[p] for read in consumers.values() if p in read)) for p in range(log.partitions))


def _before(log: EventLog, partition: int, position: int) -> int:
    return max(log.lag(partition, log.begin(partition)) - log.lag(partition, position), 0)


def _holders(name: str, log: EventLog) -> list[Kept]:
    """The consumers that have not read a log to its end."""
    consumers = log.consumers()
    if CONSUMER not in consumers:
        return [Kept(f"log {name}", "no archiver reads it (`feature-store stream --archive`)")]
    unread = {each: sum(log.lag(p, at) for p, at in positions.items()) for each, positions in consumers.items()}
    return [
        Kept(f"log {name}", f"consumer '{each}' has {counted(count, 'record')} to read")
        for each, count in unread.items()
        if count
    ]
