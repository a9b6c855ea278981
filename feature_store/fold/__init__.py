"""What the stream does, without the engine that runs it.

    log records --Intake--> accepted events --Splitter--> rows per shard --Shard.fold--> writes
                     |                 |
                     dead letters      Archiver --> lake

State is a function of the log: `fold(batch, now)` is the only way to it, and `rebuild` makes it from the lake.
"""
