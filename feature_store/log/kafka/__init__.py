"""The event log on Apache Kafka: a topic, whose leader epochs and offsets are the log's.

A partition's leader gets a new epoch with each election, and every record carries the epoch under which it was
written. So (leader epoch, offset) only grows, also where an election has cut off a tail and others wrote in its place; a
consumer that starts with both is told if the log no longer holds what it has read (KIP-320). A topic that was deleted and
created again is known by its id (`lives`). Offsets that a transaction's markers and aborted records take are left out by
Kafka itself and are no loss; in a compacted topic loss and compaction look alike, so it is refused.

Positions are the lake's. What is acknowledged is also committed to a consumer group without members,
`feature-store.<env>.<topic>.<consumer>`, where Kafka's tools show its lag.
"""

from feature_store.log.kafka.log import KafkaLog

__all__ = ["KafkaLog"]
