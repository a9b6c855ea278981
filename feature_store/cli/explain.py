"""`explain`: where one value comes from."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

from feature_store.cli.days import moment
from feature_store.cli.live import key_pair
from feature_store.cli.reveal import Reveal, note_reveal
from feature_store.masked import REVEAL
from feature_store.store import FeatureStore


def explain(
    feature: Annotated[str, typer.Argument(help="`view:feature` or `view@version:feature`")],
    keys: Annotated[list[str] | None, typer.Argument(help="Join keys as name=value", metavar="KEY=VALUE...")] = None,
    *,
    as_of: Annotated[str | None, typer.Option(help="A time with zone, such as 2013-12-24T08:00:00Z")] = None,
    reveal: Reveal = False,
) -> None:
    """Show where a value comes from: what is served, its tiles and events, and the lake's value beside it."""
    entity = dict(key_pair(key) for key in keys or ())
    with FeatureStore() as store:
        found = store.explain(feature, entity, as_of=None if as_of is None else moment(as_of, name="--as-of"))
        if reveal and found.personal:
            note_reveal(store.settings, f"explain {found.feature}")
    found = replace(found, personal=found.personal and not reveal)
    Console(highlight=False, soft_wrap=True).print(str(found), markup=False)
    if found.personal:
        Console(stderr=True, highlight=False).print(REVEAL)
