"""Faults at random instants over a running deployment of real processes, and whether every promise held. `make chaos`."""
