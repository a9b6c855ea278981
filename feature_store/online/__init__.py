"""The online store: keys, layouts, packed values, the writer, and what says that a shard can be believed."""
