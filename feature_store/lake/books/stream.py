"""The stream's books: what its shards had read, and when readers saw it. `fold` writes them, `history` and `proof` read."""

from __future__ import annotations

STREAM_COMMITS = "stream_commits"
"""Table: one row per commit of a shard and partition: what had been read, and when readers saw it."""
STREAM_RUNS = "stream_runs"
"""Table: one row per run of the stream: how many shards, and as of which snapshot it knew loaded events."""
