"""How a source may change while its events live on: two descriptions of it compared, column by column.

A change is compatible if every old event reads the same under the new declaration, in the lake and from the log, and every new
one is understood whichever of producer and consumer is first. See `docs/evolution.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from feature_store.declare.label import Label
from feature_store.declare.view import FeatureView
from feature_store.schema import arrow_schema, default_of, innermost
from feature_store.time_rule import format_duration
from feature_store.transforms.expressions import takes_any_width

if TYPE_CHECKING:
    from feature_store.declare.source import EventSource

Reader = FeatureView | Label
"""What has expressions over the columns of a source."""
Computed = tuple[str, Sequence[str]]
"""`view 'spending@1'` and its expressions."""
Kind = Literal["unchanged", "added", "widened", "relaxed", "policy", "incompatible"]

_FAMILIES = (
    tuple(f"int{bits}" for bits in (8, 16, 32, 64)),
    tuple(f"uint{bits}" for bits in (8, 16, 32, 64)),
    ("float", "double"),
)
_DECIMAL = re.compile(r"decimal128\((\d+), (\d+)\)")
_WIRE = ({"int32", "int64"}, {"uint32", "uint64"}, {"sint32", "sint64"})
"""Protobuf types that read each other's bytes, for values that both have."""
_FOR_EVER = "for ever"
ELSEWHERE = "declare a new source for what is different"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSchema:
    """A column as it was declared."""

    type: str
    """As Arrow writes it."""
    nullable: bool
    default: str | None = None
    """What stands where an event has no value, as text."""
    path: str = ""
    """Where in a payload it comes from."""
    wire: str = ""
    """How the payload carries it, where numbers count and not names: `4 optional int32`, from the outermost field inwards."""

    def __str__(self) -> str:
        kind = f"{self.type}, {'nullable' if self.nullable else 'required'}"
        return kind if self.default is None else f"{self.type}, default '{self.default}'"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSchema:
    """What old events of a source rest on; it is recorded when declarations are applied."""

    columns: Mapping[str, ColumnSchema]
    event_time: str
    event_id: Sequence[str]
    timezone: str
    format: str
    """How payloads are read: `json`, `protobuf shop.Payment`, `gzip json`; empty without a log."""
    retention: str = ""
    """How long events stay, `90d` or `for ever`; empty in what was recorded before that was compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnChange:
    """What becomes of one column, or of the source (`column` is then the option's name)."""

    column: str
    kind: Kind
    before: str = ""
    after: str = ""
    reason: str = field(default="")
    """The rule, where it is incompatible; what will happen, where an option changes that may."""

    def __str__(self) -> str:
        what = f"'{self.column}'" if self.kind in ("incompatible", "policy") else f"column '{self.column}' {self.kind}"
        change = f"{self.before} -> {self.after}" if self.before and self.after else self.before or self.after
        return f"{what}: {change}" + (f"; {self.reason}" if self.reason else "")


def source_schema(source: EventSource) -> SourceSchema:
    """The description of a source.

    Raises:
        DeclarationError: a column has no type in the lake.
    """
    schema = arrow_schema(source)
    places = {} if source.log is None else _places(source, schema.names)
    columns = {
        each.name: ColumnSchema(
            type=str(each.type),
            nullable=each.nullable and default_of(each) is None,
            default=default_of(each),
            path=places.get(each.name, ("", ""))[0],
            wire=places.get(each.name, ("", ""))[1],
        )
        for each in schema
    }
    return SourceSchema(
        columns=columns,
        event_time=source.event_time,
        event_id=list(source.id_columns),
        timezone=source.timezone,
        format="" if source.log is None else _format(source.decode),
        retention=_FOR_EVER if source.retention_us is None else format_duration(source.retention_us),
    )


def compare_sources(before: SourceSchema, after: SourceSchema, readers: Iterable[Reader] = ()) -> list[ColumnChange]:
    """What becomes of each column, in the order of `before`, then what is new.

    Args:
        before: as it was applied.
        after: as it is declared.
        readers: views and labels of the source; an expression may not compute with a column that is widened.
    """
    computed = [_expressions(reader) for reader in readers]
    changes = [*_roles(before, after), *_retention(before.retention, after.retention)]
    numbers = {column.wire.partition(" ")[0]: name for name, column in before.columns.items() if column.wire}
    for name, old in before.columns.items():
        new = after.columns.get(name)
        if new is None:
            reason = f"a column stays, for events have it; where it comes no more, let it be null, or {ELSEWHERE}"
            changes.append(ColumnChange(column=name, kind="incompatible", before=str(old), after="gone", reason=reason))
        else:
            changes.append(_column(name, old, new, computed))
    for name, new in after.columns.items():
        if name not in before.columns:
            changes.append(_added(name, new, numbers))
    return changes


def _roles(before: SourceSchema, after: SourceSchema) -> Iterator[ColumnChange]:
    rules = (
        ("event_time", "old events happened at another time"),
        ("event_id", "old events would be other ones"),
        ("timezone", "naive times of history would be other ones"),
        ("format", "payloads that are in the log already could not be read"),
    )
    for name, reason in rules:
        old, new = (_said(getattr(side, name)) for side in (before, after))
        if old != new and not (name == "format" and "" in (old, new)):
            label = "decode" if name == "format" else name
            yield ColumnChange(
                column=label, kind="incompatible", before=old, after=new, reason=f"{reason}; {ELSEWHERE}"
            )


def _retention(before: str, after: str) -> Iterator[ColumnChange]:
    if before and before != after:
        then = "no event goes any more"
        if after != _FOR_EVER:
            then = f"events older than {after} go for good with the next housekeeping, as far as nothing needs them"
        yield ColumnChange(column="retention", kind="policy", before=before, after=after, reason=then)


def _said(value: object) -> str:
    return value if isinstance(value, str) else ", ".join(value)  # type: ignore[arg-type]


def _column(name: str, old: ColumnSchema, new: ColumnSchema, computed: Sequence[Computed]) -> ColumnChange:
    reason = _why_not(name, old, new, computed)
    kind: Kind = "incompatible"
    if not reason:
        same = (old.type, old.nullable, old.default) == (new.type, new.nullable, new.default)
        kind = "unchanged" if same else "widened" if old.type != new.type else "relaxed"
    before, after = (f"{side}{_from(side, old, new)}" for side in (old, new))
    return ColumnChange(column=name, kind=kind, before=before, after=after, reason=reason)


def _from(side: ColumnSchema, old: ColumnSchema, new: ColumnSchema) -> str:
    if old.path and new.path and (old.path, old.wire) != (new.path, new.wire):
        return f", from `{side.path}`" + (f" ({side.wire})" if side.wire else "")
    return ""


def _why_not(name: str, old: ColumnSchema, new: ColumnSchema, computed: Sequence[Computed]) -> str:
    """Why old events would not read the same, or empty."""
    if old.type != new.type and not _widens(old.type, new.type):
        narrowed = "a type may be widened, not narrowed" if _widens(new.type, old.type) else _types_rule(old, new)
        return f"{narrowed}; give the new one another name"
    if old.default is not None and new.default != old.default:
        return "a default stays, for old events have it"
    if old.nullable and new.default is not None:
        return "a default cannot be given later: old events with null would mean something else; give the new one another name"
    if old.nullable and not new.nullable:
        return "a column that may be null stays so, for old events may have none"
    if old.path and new.path:
        moved = _moved(old, new)
        if moved:
            return moved
    if old.type != new.type:
        return _computed_with(name, old.type, computed)
    return ""


def _types_rule(old: ColumnSchema, new: ColumnSchema) -> str:
    if old.type in (*_FAMILIES[0], *_FAMILIES[1]) and new.type in _FAMILIES[2]:
        return "integers do not become floats, whose sums are rounded"
    return "a type may only be widened (a larger integer of the same sign, a double, more digits before the point)"


def _moved(old: ColumnSchema, new: ColumnSchema) -> str:
    """Why payloads that are in the log would be read as something else."""
    if not (old.wire and new.wire):
        return "old payloads have it in another field" if old.path != new.path else ""
    (number, kind), (now, then) = (side.wire.split(" ", 1) for side in (old, new))
    if number != now:
        return "a field keeps its number, by which old payloads are read"
    if kind.startswith("optional ") != then.startswith("optional "):
        return (
            "whether a field says that nothing was given stays, for old payloads would be null instead of zero, or zero"
        )
    plain = {kind.removeprefix("optional "), then.removeprefix("optional ")}
    if len(plain) > 1 and not any(plain <= group for group in _WIRE):
        return f"Protobuf does not read {kind} as {then}"
    return ""


def _added(name: str, new: ColumnSchema, numbers: Mapping[str, str]) -> ColumnChange:
    reason, number = "", new.wire.partition(" ")[0]
    if not new.nullable and new.default is None:
        reason = "a new column must be nullable or have a default, for old events do not have it"
    elif number and number in numbers:
        reason = f"number {number} was that of column '{numbers[number]}', and old payloads would be read as this one"
    elif number and " optional " not in new.wire:
        reason = "the field must be `optional`, for old payloads would have zero there and history null"
    return ColumnChange(column=name, kind="incompatible" if reason else "added", after=str(new), reason=reason)


def _widens(narrow: str, wide: str) -> bool:
    for family in _FAMILIES:
        if narrow in family and wide in family:
            return family.index(narrow) < family.index(wide)
    old, new = _DECIMAL.fullmatch(narrow), _DECIMAL.fullmatch(wide)
    return bool(old and new and old[2] == new[2] and int(old[1]) < int(new[1]))


def _computed_with(name: str, kind: str, computed: Sequence[Computed]) -> str:
    """The first expression whose value would depend on the width of the column."""
    exact = kind not in _FAMILIES[2]
    for who, expressions in computed:
        for expression in expressions:
            if not takes_any_width(expression, name, compared=exact):
                return (
                    f"{who} computes `{expression}`, which rounds or overflows otherwise with a wider type; "
                    "give the new one another name"
                )
    return ""


def _expressions(reader: Reader) -> Computed:
    if isinstance(reader, Label):
        who, found = f"label '{reader.name}'", [reader.outcome.where, reader.outcome.column]
    else:
        who, found = f"view '{reader.id}'", [reader.where, *(each.column for each in reader.declared)]
    return who, [expression for expression in found if expression]


def _places(source: EventSource, names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Column -> its path in a payload, and its field numbers and type where the format has them."""
    decoder = innermost(source.decode)
    paths = {name: name for name in names} | dict(getattr(decoder, "fields", ()))
    numbered = getattr(decoder, "wire", None)
    return {name: (path, numbered(path) if numbered else "") for name, path in paths.items() if name in names}


def _format(decoder: object) -> str:
    if decoder is None:
        return "json"
    inner = getattr(decoder, "decoder", None)
    if inner is not None:
        return f"{getattr(decoder, 'codec', '')} {_format(inner)}".strip()
    written = getattr(decoder, "written_by", "")
    if written:
        return f"avro of schema {written}"
    framed = " framed" if getattr(decoder, "confluent", False) else ""
    return type(decoder).__name__.removesuffix("Decoder").lower() + framed
