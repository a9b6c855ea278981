"""`dead-letters list | show | replay`: what was rejected, why, and once more after the fix."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from feature_store.cli.days import moment
from feature_store.cli.looks import age, counted, plain_table
from feature_store.cli.reveal import Reveal, note_reveal
from feature_store.dead_letters import KINDS, Wanted, count_letters, find_letter, place_name, place_of, replay
from feature_store.dead_letters.shown import letter_text, shown_counts, shown_reasons
from feature_store.errors import InputError
from feature_store.masked import REVEAL
from feature_store.store import FeatureStore
from feature_store.time_rule import from_us, to_us

app = typer.Typer(help="Records that were no events: list them, show one, publish them again after a fix.")

SHOWN_REASONS, SHOWN_BYTES = 20, 2000

Source = Annotated[str, typer.Argument(help="A source with a log")]
Reason = Annotated[str | None, typer.Option(help="A part of the reason")]
Since = Annotated[str | None, typer.Option(help="Arrived at this time with zone, or later")]
Until = Annotated[str | None, typer.Option(help="Arrived before this time with zone")]


@app.callback()
def dead_letters() -> None:
    """Records that were no events: list them, show one, publish them again after a fix."""


@app.command("list")
def list_letters(
    source: Annotated[str | None, typer.Argument(help="A source; all by default")] = None,
    *,
    kind: Annotated[str | None, typer.Option(help="rejected, duplicate or conflict")] = None,
    reason: Reason = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Count the dead letters by source, kind and reason; of each the place of the newest one is named."""
    if kind is not None and kind not in KINDS:
        raise InputError(f"`--kind` must be one of {', '.join(KINDS)}, got '{kind}'")
    with FeatureStore() as store:
        if source is not None:
            store.registry.source(source)
        wanted = Wanted(
            source=source, kind=kind, reason=reason, since_us=_us("--since", since), until_us=_us("--until", until)
        )
        found, now_us = shown_counts(store.registry, count_letters(store.lake, wanted)), store.clock.now_us()
    console = Console(highlight=False, soft_wrap=True)
    if not found:
        console.print("no dead letters")
        return
    table = plain_table("source", "kind", "letters", "replayed", "newest", "at", "reason")
    for one in found[:SHOWN_REASONS]:
        newest = "-" if one.last_us is None else age(now_us - one.last_us)
        places = (one.example or "loaded", _safe(one.reason))
        table.add_row(one.source, one.kind, f"{one.letters:,}", f"{one.replayed:,}", newest, *places)
    console.print(table)
    if len(found) > SHOWN_REASONS:
        rest = sum(one.letters for one in found[SHOWN_REASONS:])
        console.print(
            f"and {counted(rest, 'letter')} with {len(found) - SHOWN_REASONS} other reasons; narrow it by --reason"
        )


@app.command()
def show(
    source: Source,
    place: Annotated[str, typer.Argument(help="As `list` names it, such as 0:3-1200")],
    *,
    reveal: Reveal = False,
) -> None:
    """Show one dead letter: its place, arrival, reason and payload (what is not printable is escaped)."""
    with FeatureStore() as store:
        store.registry.source(source)
        letter = find_letter(store.lake, source, place_of(place))
        if reveal and store.registry.is_personal(source):
            note_reveal(store.settings, f"dead letter of {source} at {place}")
        told = letter_text(store.registry, letter, reveal=reveal)
    lines = {
        "place": f"{source} {place_name(letter.partition, letter.offset)}",
        "arrived": from_us(letter.arrived_us).isoformat(),
        "kind": letter.kind,
        "reason": _safe(told.reason),
        "replayed": "no" if letter.replayed_us is None else from_us(letter.replayed_us).isoformat(),
        "payload": _safe(told.payload[:SHOWN_BYTES]),
    }
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for name, text in lines.items():
        console.print(f"{name:<9}{text}")
    if (rest := len(told.payload) - SHOWN_BYTES) > 0:
        console.print(f"{'':<9}... and {counted(rest, 'character')}")
    if told.is_masked:
        console.print(f"***: {REVEAL}")


@app.command("replay")
def replay_letters(
    source: Source,
    place: Annotated[str | None, typer.Argument(help="One letter, such as 0:3-1200; all by default")] = None,
    *,
    reason: Reason = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Publish rejected records again that are events by the declarations of now; each arrives now, and is marked.

    Start flow and archiver with the mended declarations first.
    """
    with FeatureStore() as store:
        store.registry.source(source)
        wanted = Wanted(
            source=source,
            reason=reason,
            since_us=_us("--since", since),
            until_us=_us("--until", until),
            place=None if place is None else place_of(place),
        )
        registry = store.registry
        done = replay(store.compiled, store.lake, store.log(source), wanted, clock=store.clock)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(f"{source}: {counted(done.published, 'record')} published again")
    for why, letters in shown_reasons(registry, source, done.unfit)[:SHOWN_REASONS]:
        console.print(f"  {counted(letters, 'letter')} still rejected: {_safe(why)}")


def _us(option: str, text: str | None) -> int | None:
    return None if text is None else to_us(moment(text, name=option))


def _safe(text: str) -> str:
    """Text without what a terminal would obey."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
