"""When and where batch runs: Dagster assets, schedules and backfills, generated from the registry."""
