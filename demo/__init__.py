"""The whole pipeline on the flights of 2013, with two commands: `make demo` runs this.

stage.py      where it runs: its own home, an embedded Valkey, a console
story.py      from beginning to end; 5: every served vector recomputed, and three planted faults found
lake.py       1-2: lake and features by a Dagster backfill
history.py    3: training set, models
replay.py     publishing, scoring and daily upkeep, for the stepped days and the live one
december.py   4: December, most days stepped in this process
checks.py     4: Dagster's checks, of the weeks before December while it is stepped, and of what readers get
day.py        4: one day in a minute, by three processes (publisher.py, the flow, scorer.py)
"""
