"""The whole pipeline on the flights of 2013, with two commands: `make demo` runs this.

stage.py      where it runs: its own home, an embedded Valkey, a console
history.py    1-3: lake and features by a Dagster backfill, training set, models
replay.py     publishing, scoring and daily upkeep, for the stepped days and the live one
december.py   4: December, most days stepped in this process
day.py        4: one day at 720 times the speed of life, by three processes (publisher.py, the flow, scorer.py)
proof.py      5: every served vector recomputed, after three planted faults were found
"""
