"""What the lake's tables of a view are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feature_store.declare.view import FeatureView

TILES, ROWS = "tiles_", "rows_"


def tiles_table(view: FeatureView) -> str:
    """The table of a view's tiles."""
    return f"{TILES}{view.name}_v{view.version}"


def rows_table(view: FeatureView) -> str:
    """The table of a batch view's rows."""
    return f"{ROWS}{view.name}_v{view.version}"


def built_table(view: FeatureView) -> str:
    """The table that a view's days are built in: rows of a batch view, tiles of any other."""
    return rows_table(view) if view.is_batch else tiles_table(view)


def tables_of(view_id: str) -> list[str]:
    """The tables that a view may have, by its `name@version`; it need not be declared."""
    name = "_v".join(view_id.split("@"))
    return [TILES + name, ROWS + name]
