"""The exporter: tells Prometheus what no process counts, because it is seen from outside.

books.py   from Dagster's books: newest evaluations of checks, materializations, runs, heartbeats of the daemon
declared.py whose each view is
stream.py  from Redis: how far the stream and the archiver have come, also when neither of them runs
cached.py  asks both again when Prometheus asks, at most every ten seconds

It reads neither the lake nor a value of an entity. What is not known yet is left out: no figure is invented.
"""
