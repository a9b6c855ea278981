"""What `apply` has recorded of definitions: which one of a feature was in force when a vector was served."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from feature_store.registry import fingerprint

if TYPE_CHECKING:
    from feature_store.declare.view import FeatureView
    from feature_store.lake import Lake
    from feature_store.transforms.compiled import Compiled
    from feature_store.transforms.plan import ViewPlan

VERSIONS = "registry_versions"
"""A row for every feature that was ever applied, with its fingerprint."""


class Definitions:
    """The recorded fingerprints, by (`view@version`, feature), each with when it was applied."""

    def __init__(self, recorded: Mapping[tuple[str, str], Sequence[tuple[int, str]]]) -> None:
        self._recorded = recorded

    @classmethod
    def of(cls, lake: Lake, *, snapshot: int) -> Definitions:
        """Read them from the lake as of a snapshot."""
        recorded: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
        if lake.exists(VERSIONS):
            with lake.reading() as cursor:
                rows = cursor.execute(
                    "SELECT view, feature, applied_us, fingerprint FROM "
                    f"{lake.table_sql(VERSIONS, snapshot=snapshot)} ORDER BY applied_us"
                ).fetchall()
            for view, feature, applied_us, digest in rows:
                recorded[view, feature].append((applied_us, digest))
        return cls(recorded)

    def other_at(self, view: FeatureView, feature: str, served_us: int | None) -> str | None:
        """What to say if a feature meant something else than it is declared to mean now; None if it did not."""
        known = self._recorded.get((view.id, feature), ())
        before = [digest for applied_us, digest in known if served_us is None or applied_us <= served_us]
        if not before or before[-1] == fingerprint(view, view.feature(feature)):
            return None
        return f"when it was served, {view.id}:{feature} had another definition ({before[-1]}) than is declared now"

    def versions(self, compiled: Compiled, view: FeatureView) -> Iterator[ViewPlan]:
        """Other versions of a view over the same source and entity that were applied."""
        applied = {name for name, _ in self._recorded}
        for plan in compiled.plans.values():
            other = plan.view
            alike = (other.name, other.entity, other.source.name) == (view.name, view.entity, view.source.name)
            if alike and other.version != view.version and other.id in applied:
                yield plan
