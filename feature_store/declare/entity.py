"""What features are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from feature_store.errors import InputError

_ESCAPES = str.maketrans({"%": "%25", "|": "%7C", "{": "%7B", "}": "%7D"})


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing that has features: a customer, an airport, or a pair such as (origin, carrier)."""

    name: str
    join_keys: Sequence[str] = field(kw_only=True)
    """Columns that identify it, in the order in which they form its key."""
    description: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        keys = (self.join_keys,) if isinstance(self.join_keys, str) else tuple(self.join_keys)
        object.__setattr__(self, "join_keys", keys)

    def key(self, values: Mapping[str, object]) -> str | None:
        """The canonical text of one entity, or None if a join key is null: nothing has a null key.

        Raises:
            InputError: if a join key is missing.
        """
        missing = [name for name in self.join_keys if name not in values]
        if missing:
            raise InputError(
                f"entity '{self.name}' needs the join keys {', '.join(self.join_keys)}; missing: {', '.join(missing)}"
            )
        return entity_key([values[name] for name in self.join_keys])


def entity_key(parts: Sequence[object]) -> str | None:
    """Join key values as one text: `%|{}` are percent-escaped, parts are joined by `|`; None if a part is null."""
    if any(part is None for part in parts):
        return None
    return "|".join(_text(part).translate(_ESCAPES) for part in parts)


def entity_key_sql(join_keys: Sequence[str]) -> str:
    """The same text as `entity_key`, as a SQL expression over the join key columns (null if one is null)."""
    return " || '|' || ".join(_escaped_sql(f'"{key}"') for key in join_keys)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _escaped_sql(column: str) -> str:
    sql = f"{column}::VARCHAR"
    for plain, escaped in (("%", "%25"), ("|", "%7C"), ("{", "%7B"), ("}", "%7D")):
        sql = f"replace({sql}, '{plain}', '{escaped}')"
    return sql
