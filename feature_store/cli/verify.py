"""`verify`: the proof of what was served, with the cause of each difference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from feature_store.cli.days import moment
from feature_store.cli.looks import counted, plain_table
from feature_store.cli.reveal import Reveal, note_reveal
from feature_store.errors import InputError
from feature_store.masked import REVEAL
from feature_store.store import FeatureStore
from feature_store.time_rule import from_us, to_us

if TYPE_CHECKING:
    from rich.table import Table

    from feature_store.proof.verify import Unequal, Verdict

SHOWN = 10


class Format(StrEnum):
    """How the answer looks."""

    text = "text"
    json = "json"


def verify(
    service: Annotated[str | None, typer.Option(help="`name` or `name@version`; by default all")] = None,
    since: Annotated[
        str | None, typer.Option(help="Served at or after this time, such as 2013-12-24T08:00:00Z")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Served before this time")] = None,
    *,
    shape: Annotated[Format, typer.Option("--format", help="text or json")] = Format.text,
    reveal: Reveal = False,
) -> int:
    """Recompute served vectors from the lake; says what is unequal, and why. Exit code 1 if that is a defect.

    Needs the lake alone. Excused, and listed, are a recorded redefinition and a recorded loss of the store.
    """
    since_us, until_us = _us(since, "--since"), _us(until, "--until")
    if since_us is not None and until_us is not None and since_us >= until_us:
        raise InputError(f"`--since` must lie before `--until`, got {since} and {until}")
    with FeatureStore() as store:
        from feature_store.proof.verify import undeclared

        verdicts = store.verify(service, since_us=since_us, until_us=until_us)
        others = {} if service else undeclared(store.compiled, store.lake)
        personal = [each.service for each in verdicts if any(found.personal for found in each.unequals)]
        if reveal and personal:
            note_reveal(store.settings, f"verify {','.join(personal)}")
    if not reveal:
        verdicts = [each.masked for each in verdicts]
    if shape is Format.json:
        print(json.dumps(as_data(verdicts), default=str, indent=2))  # noqa: T201 - for machines, without rich's wrapping
    else:
        _tell(Console(highlight=False), verdicts, others)
        if personal and not reveal:
            Console(highlight=False).print(f"***: {REVEAL}")
    return int(any(verdict.defects for verdict in verdicts))


def as_data(verdicts: Sequence[Verdict]) -> dict[str, object]:
    """What JSON says: totals, then each service."""
    derived = ("values", "unequal", "defects", "excused", "score", "causes")
    services = [asdict(each) | {name: getattr(each, name) for name in derived} for each in verdicts]
    return {**totals(verdicts), "services": services}


def totals(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """The numbers of the last line."""
    names = (
        "vectors", "values", "unequal", "defects", "excused", "unknown", "stale_unequal", "pending",
        "oracle_values", "oracle_unequal",
    )  # fmt: skip
    return {name: sum(getattr(verdict, name) for verdict in verdicts) for name in names}


def _us(text: str | None, name: str) -> int | None:
    return None if text is None else to_us(moment(text, name=name))


def _left_out(verdict: Verdict) -> str:
    return f"; {verdict.removed:,} vectors rest on events that retention has removed" if verdict.removed else ""


def _tell(console: Console, verdicts: Sequence[Verdict], others: dict[str, int]) -> None:
    for verdict in verdicts:
        if not verdict.vectors:
            waits = f"; {verdict.pending:,} wait for the lake" if verdict.pending else ""
            waits += _left_out(verdict)
            console.print(f"{verdict.service}: no served vectors in this time{waits}")
            continue
        console.print(_features(verdict))
        if verdict.removed:
            console.print(f"{verdict.service}{_left_out(verdict)}")
        for each in verdict.unequals[:SHOWN]:
            _example(console, each)
        if verdict.unequal > SHOWN:
            console.print(f"... and {verdict.unequal - SHOWN:,} more; `--format json` lists some")
    for name, count in others.items():
        console.print(f"{name}: {counted(count, 'vector')} on record, but the service is not declared")
    said = " ".join(f"{name}={number}" for name, number in totals(verdicts).items())
    console.print(f"verify: {said}", soft_wrap=True)


def _features(verdict: Verdict) -> Table:
    table = plain_table("feature", "values", "equal", "unequal", "causes", title=verdict.service)
    for each in verdict.features:
        causes = ", ".join(f"{cause} {count:,}" for cause, count in sorted(each.causes.items()))
        wrong = f"[red]{each.unequal:,}[/red]" if each.unequal else "0"
        table.add_row(each.feature, f"{each.values:,}", f"{each.values - each.unequal:,}", wrong, causes or "-")
    return table


def _example(console: Console, unequal: Unequal) -> None:
    found = unequal.difference
    entity = " ".join(f"{name}={value}" for name, value in unequal.entity.items())
    as_of = "" if found.as_of_us is None else f" --as-of {from_us(found.as_of_us).isoformat()}"
    lines = [
        f"{unequal.cause}: {found.feature} of {entity} (vector {found.vector})",
        f"  served {found.served!r} {found.served_status}, recomputed {found.recomputed!r} {found.recomputed_status}",
        f"  {unequal.detail}",
        f"  feature-store explain {found.feature} {entity}{as_of}",
    ]
    console.print("\n".join(lines), markup=False, soft_wrap=True)
