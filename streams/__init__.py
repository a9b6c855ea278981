"""Where the stream runs: a Bytewax dataflow around `feature_store.fold`, and the archiver beside it.

log partitions --read, accept, split--> rows per shard --fold--> writes --> Redis
ticks ---------------------------------^
"""
