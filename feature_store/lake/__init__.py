"""The lake: events, tiles and batch rows in DuckLake tables, written by day in short commits, read at snapshots."""

from feature_store.lake.commit import Commit
from feature_store.lake.location import LakeLocation
from feature_store.lake.store import Lake

__all__ = ["Commit", "Lake", "LakeLocation"]
