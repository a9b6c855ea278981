"""The long-lived stack: what the Procfile names, under honcho, until Ctrl-C. `make up` runs `python -m feature_store_deploy.stack`.

procfile.py  which processes there are
guard.py     what is checked before anything starts: ports, and one stack per home
run.py       starts, watches and ends everything; prints the addresses once things answer
console.py   what of the processes' output reaches the terminal; all of it goes to a file
keep.py      the supervisor of one process: starts it again when it dies, passes signals on
family.py    processes that end with the one that started them
valkey.py    the embedded server as a process; takes over one that has lost its wrapper
exporter/    tells Prometheus what is seen from outside
healthy.py   whether a process does its work, for health checks
dagster.py   the webserver and the daemon as processes
example.py   an entity that has values now, for the command that is printed

It knows no feature and no flight: what feeds it is a line of the Procfile.
"""
