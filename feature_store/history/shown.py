"""What a training set looks like in a notebook: what it was made from, what is missing, its first rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_store.html_table import html_table
from feature_store.masked import masked

if TYPE_CHECKING:
    from feature_store.history.training import TrainingSet

_HEAD = 5


def training_set_html(found: TrainingSet) -> str:
    """A table of features and labels with their types and shares of nulls, and the first rows."""
    manifest, table = found.manifest, found.table
    rows = max(len(found), 1)
    listed = [
        [name, kind, str(table.schema.field(name).type), f"{table.column(name).null_count / rows:.1%}"]
        for kind, names in (("feature", found.feature_columns), ("label", found.label_columns))
        for name in names
    ]
    notes = [
        f"{manifest.knowledge} knowledge, snapshot {manifest.snapshot}"
        + (f", service {manifest.service}" if manifest.service else ""),
        *(
            f"label {name}: {count:,} rows whose window has not closed"
            for name, count in manifest.labels.items()
            if count
        ),
        *(
            f"{view}: {len(days)} days whose rows are older than their events"
            for view, days in manifest.stale_days.items()
            if days
        ),
        found.sample,
    ]
    head = table.slice(0, _HEAD)
    summary = html_table(f"Training set of {len(found):,} rows", ["column", "", "type", "null"], listed, notes=notes)
    first = html_table(
        f"First {head.num_rows} rows",
        table.schema.names,
        [[masked(value, personal=name in found.personal) for name, value in row.items()] for row in head.to_pylist()],
    )
    return summary + first
