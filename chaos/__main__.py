"""`python -m chaos`: disorder for some seconds and seeds; the last line says what was found, the exit code whether it was nothing."""

from __future__ import annotations

import argparse
import math
import signal
import sys
import tempfile
import time
from pathlib import Path

from chaos.disorder import run_seed
from chaos.faults import FAULTS
from chaos.findings import Findings
from chaos.guards import run_scene
from chaos.launcher import GUARDS, shift_clock
from chaos.stack import Stack

LOST_S = 60.0
"""How long a deployment without a guard may take to come to rest: it may never do."""


def main() -> int:
    """Run; 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of disorder, for each seed")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="the first of them; `--seeds 1` replays one")
    parser.add_argument("--workers", type=int, default=2, help="processes of the flow")
    parser.add_argument("--fault", action="append", choices=list(FAULTS), help="only these; all by default")
    parser.add_argument("--without", choices=[*GUARDS, ""], default="", help="a guard to remove: it must be noticed")
    parser.add_argument("--scene", choices=GUARDS, help="what such a guard is there for, and nothing else")
    parser.add_argument(
        "--hits", type=int, default=0, help="how often each fail point must be met, by all seeds together"
    )
    parser.add_argument("--rate", type=float, default=0, help="faults a minute that must happen at least")
    parser.add_argument("--keep", type=Path, help="keep the folders of the runs here")
    parser.add_argument("--patience", type=float, default=180.0, help="seconds in which a deployment must come to rest")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end_early)
    findings, began = Findings(), time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as scratch:
            for seed in range(options.seed, options.seed + options.seeds):
                run_one(options, findings, seed=seed, folder=(options.keep or Path(scratch)) / f"seed{seed}")
    finally:  # also of a run that is ended: what it has found until then
        report(findings, minutes=(time.monotonic() - began) / 60)
    return 0 if findings.is_clean and is_enough(findings, options) else 1


def end_early(*_: object) -> None:
    """End in order, so that no process is left behind and what was found is told; once, however often it is asked."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(1)


def run_one(options: argparse.Namespace, findings: Findings, *, seed: int, folder: Path) -> None:
    """Run one seed in a folder of its own."""
    with open_stack(folder, options, seed) as stack:
        shift_clock(stack.place)
        if options.without or options.scene:
            run_scene(stack, findings, options.without or options.scene)
        else:
            names = options.fault or list(FAULTS)
            hits = math.ceil(options.hits * (findings.seeds + 1) / options.seeds)  # by now
            run_seed(stack, findings, seconds=options.seconds, names=names, seed=seed, hits=hits)
    findings.seeds += 1


def is_enough(findings: Findings, options: argparse.Namespace) -> bool:
    """Whether as much has happened as was asked for."""
    names = [name for name in options.fault or FAULTS if FAULTS[name].point]
    return findings.rate >= options.rate and all(findings.faults[name] >= options.hits for name in names)


def open_stack(folder: Path, options: argparse.Namespace, seed: int) -> Stack:
    """The deployment of a seed. Without a guard one worker shows it, and nothing need come to rest."""
    guard = options.without or None
    workers, patience_s = (1, min(options.patience, LOST_S)) if guard else (options.workers, options.patience)
    return Stack(folder, seed=seed, workers=workers, guard=guard, patience_s=patience_s)


def sum_of_points(findings: Findings) -> int:
    """How often fail points were met."""
    return sum(count for name, count in findings.faults.items() if FAULTS[name].point)


def report(findings: Findings, *, minutes: float) -> None:
    """Print everything; the line with the counts last."""
    for name, count in sorted(findings.faults.items()):
        sys.stdout.write(f"{count:6} {name}\n")
    if findings.disorder_s:
        said = f"{findings.rate:.0f} faults a minute in {findings.disorder_s / 60:.1f} minutes of disorder"
        sys.stdout.write(f"{said}, fail points met {sum_of_points(findings)} times\n")
    sys.stdout.write(
        f"{findings.judged} vectors judged, {findings.excused} excused, {minutes:.1f} minutes\n{findings}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
