"""A view compiled: the SQL that turns events into partials, and which partial columns each feature needs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from feature_store.computed.kinds import Kind
from feature_store.declare.feature import Feature
from feature_store.declare.key import KeyKind, entity_key_sql
from feature_store.declare.view import FeatureView
from feature_store.errors import DeclarationError
from feature_store.schema import key_kind
from feature_store.transforms.catalogue import CATALOGUE, FLOAT_SCALE, Aggregate
from feature_store.transforms.expressions import Expressions, isolated_sql
from feature_store.transforms.rowset import Merge

_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT"}
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialColumn:
    """One column of partials: physical name, SQL of one event's contribution, merge operation."""

    name: str
    sql: str
    merge: Merge
    cap: int | None = None
    kind: Kind = "int"

    @property
    def in_tiles(self) -> bool:
        """True if its merged value has one slot a tile; the others are families of rows of their own."""
        return self.merge not in (Merge.DISTINCT, Merge.LAST_N)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturePlan:
    """A feature and where its partials are: partial name -> physical column."""

    feature: Feature
    aggregate: Aggregate
    columns: Mapping[str, PartialColumn]
    scale: int
    kind: Kind
    """Type of the finished value (of the elements, for `last_n`)."""

    @property
    def is_list(self) -> bool:
        """True if the value is a list."""
        return self.feature.aggregate == "last_n"


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPlan:
    """How rows of partials become values. It names none of the user's code, so any process can be given it."""

    columns: tuple[PartialColumn, ...]
    """Distinct partial columns, in a stable order; shared by features over the same expression."""
    features: tuple[FeaturePlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewPlan(WindowPlan):
    """Everything both paths need to know about a view."""

    view: FeatureView
    key_kinds: Mapping[str, KeyKind]
    """Join key -> what it is, in the order in which they form the key."""
    key_sql: str
    where_sql: str
    operands: Mapping[str, str]
    """Column -> SQL of each expression of the view; `where_sql` and the partials read these columns."""

    @property
    def windows(self) -> WindowPlan:
        """The part that computes."""
        return WindowPlan(columns=self.columns, features=self.features)

    @property
    def hops_us(self) -> tuple[int, ...]:
        """The different hops of the features; each has its own tiles."""
        return tuple(sorted({plan.feature.hop_us for plan in self.features}))

    def at_hop(self, hop_us: int) -> tuple[FeaturePlan, ...]:
        """The features whose tiles have this hop."""
        return tuple(plan for plan in self.features if plan.feature.hop_us == hop_us)

    def columns_at(self, hop_us: int) -> tuple[PartialColumn, ...]:
        """The columns that these tiles have, in the order of `columns`."""
        wanted = {column.name for feature in self.at_hop(hop_us) for column in feature.columns.values()}
        return tuple(column for column in self.columns if column.name in wanted)


def compile_view(view: FeatureView, expressions: Expressions) -> ViewPlan:
    """Compile a view whose source has the columns that `expressions` knows.

    Raises:
        DeclarationError: with every expression and join key of the view that is not allowed or has an unusable type.
    """
    problems = list(view.problems)
    kinds: dict[str, KeyKind] = {}
    for name in view.entity.join_keys:
        try:
            kinds[name] = key_kind(expressions.schema.field(name).type)
        except ValueError as error:
            problems.append(f"view '{view.name}': join key '{name}': {error}")
    if view.where is not None:
        problem = expressions.problem(view.where)
        problems.extend([f"view '{view.name}': `where` {view.where!r}: {problem}"] if problem else [])
    plans: list[FeaturePlan] = []
    for feature in view.declared:
        try:
            plans.append(_compile_feature(feature, expressions))
        except ValueError as error:
            problems.append(f"view '{view.name}', feature '{feature.name}': {error}")
    if problems:
        raise DeclarationError(problems)
    columns = {column.name: column for plan in plans for column in plan.columns.values()}
    expressions_used = [expression for expression in (view.where, *(f.column for f in view.declared)) if expression]
    return ViewPlan(
        view=view,
        key_kinds=kinds,
        key_sql=entity_key_sql(kinds),
        where_sql="TRUE" if view.where is None else f"coalesce({_operand(view.where)}, FALSE)",
        operands={_operand(expression): isolated_sql(expression) for expression in expressions_used},
        columns=tuple(columns[name] for name in sorted(columns)),
        features=tuple(plans),
    )


def _compile_feature(feature: Feature, expressions: Expressions) -> FeaturePlan:
    if feature.aggregate not in CATALOGUE:
        raise ValueError(f"unknown aggregate '{feature.aggregate}' (known: {', '.join(CATALOGUE)})")
    aggregate = CATALOGUE[feature.aggregate]
    if feature.column is None:
        return FeaturePlan(feature=feature, aggregate=aggregate, columns={}, scale=1, kind="int")
    problem = expressions.problem(feature.column)
    if problem:
        raise ValueError(f"`{feature.column}`: {problem}")
    if feature.cap is not None and not 0 < feature.cap <= 100_000:
        raise ValueError(f"`{'n' if feature.aggregate == 'last_n' else 'cap'}` must be 1 to 100000, got {feature.cap}")
    typed = _Typed.of(feature.column, expressions.type_of(feature.column))
    if aggregate.numeric and typed.kind not in ("int", "float", "bool"):
        raise ValueError(f"{feature.aggregate} takes numbers, but `{feature.column}` is {typed.duckdb}")
    columns = {
        partial: _column(partial, template.row, template.merge, typed, feature.cap)
        for partial, template in aggregate.partials.items()
    }
    return FeaturePlan(
        feature=feature,
        aggregate=aggregate,
        columns=columns,
        scale=1 if feature.aggregate in ("min", "max") and typed.is_float else typed.scale,
        kind=_result_kind(feature, typed),
    )


def _operand(expression: str) -> str:
    """The name of the column that holds an expression's value."""
    return f"_x_{hashlib.blake2b(expression.encode(), digest_size=8).hexdigest()}"


def _column(partial: str, template: str, merge: Merge, typed: _Typed, cap: int | None) -> PartialColumn:
    sql = template.format(
        x=typed.sql, v=typed.scaled, m=typed.comparable, largest=typed.largest, smallest=typed.smallest
    )
    # The digest makes features over the same expression share a column, in any order of declaration.
    digest = hashlib.blake2b(f"{merge}|{cap}|{sql}".encode(), digest_size=4).hexdigest()
    kind: Kind = typed.kind if partial == "value" else "int"
    if merge in (Merge.MIN, Merge.MAX):
        kind = "float" if typed.is_float else "int"
    return PartialColumn(name=f"{partial}_{merge.value}_{digest}", sql=sql, merge=merge, cap=cap, kind=kind)


def _result_kind(feature: Feature, typed: _Typed) -> Kind:
    if feature.aggregate == "count_distinct":
        return "int"
    if feature.aggregate in ("mean", "variance", "stddev"):
        return "float"
    if feature.aggregate in ("sum", "min", "max"):
        return "int" if typed.scale == 1 and not typed.is_float else "float"
    return typed.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class _Typed:
    """An expression and its type."""

    sql: str
    """The value, null where the expression fails or is not finite."""
    duckdb: str
    kind: Kind
    scale: int
    exact: str | None = None
    """How a decimal becomes an integer."""

    @classmethod
    def of(cls, expression: str, duckdb_type: str) -> _Typed:
        value = _operand(expression)
        if duckdb_type in _INTEGERS:
            return cls(sql=f"TRY_CAST({value} AS BIGINT)", duckdb=duckdb_type, kind="int", scale=1)
        if duckdb_type == "BOOLEAN":
            return cls(sql=value, duckdb=duckdb_type, kind="bool", scale=1)
        if duckdb_type in ("FLOAT", "DOUBLE"):
            # Adding zero turns -0.0 into 0.0, so equal values have equal bytes.
            finite = f"CASE WHEN isfinite({value}::DOUBLE) THEN {value}::DOUBLE + 0.0 END"
            return cls(sql=finite, duckdb=duckdb_type, kind="float", scale=FLOAT_SCALE)
        decimal = re.fullmatch(r"DECIMAL\(\d+,(\d+)\)", duckdb_type)
        if decimal:
            scale = 10 ** int(decimal[1])
            # Widened first: the product of a full DECIMAL(18, 2) and 100 does not fit its own type.
            exact = f"TRY(TRY_CAST(({value})::DECIMAL(38,{decimal[1]}) * {scale} AS BIGINT))"
            return cls(sql=f"({value})::DOUBLE", duckdb=duckdb_type, kind="float", scale=scale, exact=exact)
        if duckdb_type in ("VARCHAR", "UUID"):
            return cls(sql=f"{value}::VARCHAR", duckdb=duckdb_type, kind="str", scale=1)
        if duckdb_type == "DATE":
            return cls(sql=f"({value} - DATE '1970-01-01')::BIGINT", duckdb=duckdb_type, kind="date", scale=1)
        if duckdb_type.startswith("TIMESTAMP"):
            return cls(sql=f"epoch_us({value})", duckdb=duckdb_type, kind="timestamp", scale=1)
        raise ValueError(f"`{expression}` has the type {duckdb_type}, which no aggregate takes")

    @property
    def is_float(self) -> bool:
        return self.kind == "float" and self.exact is None

    @property
    def scaled(self) -> str:
        """The value as an integer in units of 1/scale."""
        if self.kind == "bool":
            return f"({self.sql})::BIGINT"
        if self.is_float:
            return f"TRY_CAST(round_even(({self.sql}) * {FLOAT_SCALE}, 0) AS BIGINT)"
        return self.exact or self.sql

    @property
    def comparable(self) -> str:
        """What min and max compare: floats as they are, everything else as integers."""
        return f"({self.sql})" if self.is_float else f"({self.scaled})"

    @property
    def largest(self) -> str:
        return "'inf'::DOUBLE" if self.is_float else str(_INT64_MAX)

    @property
    def smallest(self) -> str:
        return "'-inf'::DOUBLE" if self.is_float else f"({-_INT64_MAX} - 1)"
