"""Whether the data can be believed: Dagster asset checks and their alerts, generated from the registry."""
