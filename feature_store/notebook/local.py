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
    *,
    lake: Lake | Path | str | None,
    sample: float | None,
    start: datetime | str | None,
    end: datetime | str | None,
    settings: Settings,
    now_us: int,
) -> Draft:
    """See `FeatureStore.local`."""
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
