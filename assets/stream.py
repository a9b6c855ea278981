"""`stream/<source>`: the live events on their way to the online values. Dagster makes nothing here, it observes."""

import dagster as dg
from feature_store_deploy.assets import declared
from feature_store_deploy.assets.keys import stream_key

from feature_store.declare import EventSource
from feature_store.declare.log import KafkaBinding
from feature_store.transforms.compiled import Compiled


def build_stream_asset(source: EventSource, compiled: Compiled, *, env: str) -> dg.AssetSpec:
    """The asset on which the stream's progress with a source is reported."""
    views = [view.name for view in compiled.registry.views_of(source.name) if view.online == "stream"]
    return dg.AssetSpec(
        key=stream_key(env, source),
        description=f"{source.description or source.name}\n\nThe live events, which the stream folds into {', '.join(views)}.",
        group_name="sources",
        owners=declared.owners(source.owner),
        kinds={"bytewax", "kafka" if isinstance(source.log, KafkaBinding) else "redis"},
        code_version=declared.source_version(source, compiled.schemas[source.name]),
        metadata={"views": ", ".join(views)},
    )
