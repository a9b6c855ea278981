"""What `FeatureStore.local` does: find the events, copy a sample of them, make a draft."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.lake import Lake, LakeLocation
from feature_store.lake.memory import MemoryLake
from feature_store.notebook.declared import registry_of
from feature_store.notebook.draft import Draft
from feature_store.notebook.filling import Origin, copied, loaded_apart, share_for, unfit
from feature_store.notebook.sample import Sample
from feature_store.time_rule import moment_us
from feature_store.transforms.compiled import compile_registry

if TYPE_CHECKING:
    from datetime import datetime

    from feature_store.notebook.declared import Declarations
    from feature_store.settings import Settings
    from feature_store.transforms.compiled import Compiled


def make_draft(
    declarations: Declarations | None,
    lake: Lake | Path | str | None,
    *,
    sample: float | None,
    start: datetime | str | None,
    end: datetime | str | None,
    settings: Settings,
    now_us: int,
) -> Draft:
    """Declarations that need not be applied, computed at once on a sample of events, in memory.

    The lake is only read; nothing is written to it, to a log or to Redis. A source that the lake does not have, or not
    with the columns declared now, is loaded by its loader, for the span from `start` to `end`.

    Args:
        declarations: a registry, a module (read again from its file), `module:attribute`, a view, or a list of views,
            services and labels; by default what the setting `declarations` names.
        lake: an open lake, or the directory of one; the deployment's by default.
        sample: the share of the entities, more than 0 and at most 1, chosen by a hash of their keys; what windows of
            these entities hold is there whole. By default all, or so many as make about five million events.
        start: the first time that may be asked about, an aware datetime or ISO 8601 text with a zone; events before it
            are there as far as windows reach. By default everything that the lake has.
        end: the last one.
        settings: of the deployment.
        now_us: the present, up to which features can be asked for.

    Raises:
        DeclarationError: everything that is wrong with the declarations.
        InputError: a time is naive, the share is none, or a source can neither be read nor loaded.
        LakeError: the lake cannot be read.
    """
    compiled = compile_registry(registry_of(settings.declarations if declarations is None else declarations))
    chosen = Sample(
        share=1.0 if sample is None else sample,
        start_us=None if start is None else moment_us(start, "start"),
        end_us=None if end is None else moment_us(end, "end"),
    )
    with ExitStack() as opened:
        origins = _origins(compiled, chosen, _shared_lake(lake, settings, opened), opened)
        if sample is None:
            chosen = replace(chosen, share=share_for(origins, compiled, chosen))
        memory = MemoryLake(threads=None, snapshot=origins[0].snapshot)
        filled = [copied(memory, origin, compiled, chosen) for origin in origins]
    return Draft(
        compiled,
        memory,
        sample=chosen,
        filled=filled,
        now_us=now_us,
        bucket_events=settings.training_bucket_events,
    )


def _origins(compiled: Compiled, sample: Sample, shared: Lake | None, opened: ExitStack) -> list[Origin]:
    """The lake of every source, in the order in which they are declared."""
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="feature_store_draft_")))
    snapshot = 0 if shared is None else shared.snapshot()
    origins = []
    for source in compiled.registry.sources.values():
        why = "there is no lake yet" if shared is None else unfit(shared, source, compiled)
        if shared is not None and not why:
            origins.append(Origin(source=source, lake=shared, snapshot=snapshot))
        else:
            origins.append(loaded_apart(folder, source, compiled, sample, why=why))
            opened.callback(origins[-1].lake.close)
    return origins


def _shared_lake(lake: Lake | Path | str | None, settings: Settings, opened: ExitStack) -> Lake | None:
    """The lake to read, opened for reading only; None where there is none."""
    if isinstance(lake, Lake):
        return lake
    place = LakeLocation.of(settings) if lake is None else LakeLocation(Path(lake))
    if not place.is_shared and not place.directory.exists():
        return None
    return opened.enter_context(Lake.open(place, env=settings.environment, read_only=True))
