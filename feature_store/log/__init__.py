"""The event log: partitions, dense offsets, retention behind every registered consumer."""
