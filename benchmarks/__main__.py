"""`python -m benchmarks [part ...]`: measure, print, and write RESULTS.md and results.jsonl, where other parts keep their rows."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.results import Result, load, machine, processor, row

HERE = Path(__file__).parent
PARTS = (
    "training",
    "reader",
    "http",
    "grpc",
    "catalog",
    "feast",
    "endurance",
    "stream",
    "publishing",
    "handover",
    "recovery",
    "kafka",
    "decoders",
    "alerting",
    "scale",
    "agreement",
    "checks",
    "alarms",
    "project",
    "backfill",
    "views",
)
LONG = ("endurance", "scale", "agreement", "checks", "alarms", "backfill")
"""These take a quarter of an hour, so they are measured when they are named."""
RESULTS = HERE / "results.jsonl"
DEMO_LINE = HERE / "demo.txt"
"""The demo's last line, if somebody has kept it."""

HOW = {
    "training": "An equal lake and spine for both sides; the best of three taken in turn, each case in a process of "
    "its own. The floor is DuckDB's ASOF join of the same rows, of the hot key the even case, "
    "of the set as served the same set as corrected (a twentieth of the events arrive up to six hours late), "
    "of tiles whose late events are counted the same build without that.",
    "reader": "A real server on loopback; reader and raw pipeline take turns of a hundred calls. The floor is a "
    "redis-py pipeline that fetches the same bytes, of the first read a bare start of the interpreter, of "
    "logging the same reads by a reader that does not log, in turns of a hundred.",
    "http": "A worker of `feature-store serve`, a bare ASGI handler and the server of features, each a process of its own; 16 connections "
    "are kept open, with a request under way on each all the time, in turns of two seconds; the median of the turns' ratios. The floor "
    "parses the same body, fetches the same bytes by a pipeline of `redis.asyncio`, and sends them as they are. Latency is from the time at "
    "which a request was due, evenly spaced to the microsecond; the median of the p99s of five times ten seconds, in turns with the floor.",
    "grpc": "A worker of `feature-store serve` and a bare handler of `grpc.aio`, each a process of its own; 8 connections with "
    "a call under way on each all the time, in turns of two seconds; the median of the turns' ratios. The floor fetches the same bytes by "
    "`redis.asyncio` and sends them as they are. Latency as in Http.",
    "catalog": "A hundred views of twenty features with a sentence for each, applied and served by a process of its own; Chromium without a window, "
    "on the same machine. Eight words are typed five times, a key every 60 ms; from the key's event to the first message after the frame in which the results "
    "were drawn, so waiting for the next frame (up to 17 ms) is in it.",
    "feast": "Feast in an environment of its own, over the same Redis server; ten features that are floats, values held as of now. The reader against "
    "`FeatureStore.get_online_features(...).to_dict()`, from rows of keys, which both have before, to dicts, in turns of two hundred reads of one entity and "
    "of a hundred reads of a hundred, as many as in Reader: after a pause the first find nothing in the processor's caches; a worker of `feature-store serve` against `feast serve` with one worker "
    "that is not restarted and keeps no access log, loaded as in Http.",
    "endurance": "As Http, at a fixed rate; the resident memory of the server at the end of each minute.",
    "publishing": "As the stream, but every event is published over HTTP, by requests with fifty events each, one after the other.",
    "stream": "The real flow, server, publisher and reader, each a process of its own; medians of three. Throughput: "
    "the flow is stopped, the log filled, the flow let go; until the last value is acknowledged. The floor writes the "
    "same bytes by a redis-py pipeline of single-field `HSETEX`; of two workers, one. Workers and server share the machine's "
    "processors. Bytewax's operators fold the same events in sliding "
    "windows with the same hops, without emitting or writing anything. Visible is what a reader in another process "
    "has been given; the time runs from just before the event is published.",
    "handover": "As the stream; after ten seconds another view of the same events is declared and applied, and the running flow starts a "
    "successor, which builds both views beside it and takes over while the events go on.",
    "recovery": "In one process, with a server of its own. History of a day, ten events an entity, each event in tiles of its own in two hops; six "
    "windowed features. From the begin of a run to its state, and until all entities are written and vouched for; an emptied server, until all are written "
    "again from memory; a backlog of 100,000 events, until the last value is acknowledged. Checked and unchecked writes take turns.",
    "kafka": "As the stream, over a topic of four partitions of a single broker (Apache Kafka 4.1, KRaft) on the same machine.",
    "decoders": "Ten thousand payloads of five columns, one of them a time, to an Arrow table; decoder and floor take turns. "
    "The floor is the library alone, to one Python dict a payload: `msgspec.json.decode`, `fastavro.schemaless_reader`, "
    "Protobuf's `FromString` and reading the fields.",
    "alerting": "Flow, Redis, Dagster's daemon and the receiver, each a process (the receiver a thread) of its own. The flow is stopped by SIGSTOP, "
    "continued, and after the message of its recovery killed by SIGKILL; until the message is at the receiver.",
    "project": "What docs/project.md describes, in an empty folder: the wheel with its extras into a bare environment (by uv, the packages "
    "in its cache already), `feature-store init`, `up` until it says that everything answers, `publish`, and `get` until it shows "
    "the published event.",
    "scale": "The payments example: its generator, its five views, its service; late, repeated and contradictory payments in it. "
    "Two cores, and 6 GB for a process and all that it starts (proportional set size, polled). The backfill loads all "
    "sources and builds all tiles; the training set asks at one payment in twenty. Two processes against one: the same "
    "bytes in the same buckets, the floor is the time of one; DuckDB's pass that makes the buckets has all cores in both.",
    "agreement": "The deployment of tests/proof_world.py lives through eight hours for each seed: late, early and repeated events, "
    "restarts, batch views, roles, every aggregate. Each served value is computed again from the lake by the kernel with the "
    "knowledge that its commit had, a sample by SQL that shares no code with it, and three faults are planted for each seed.",
    "backfill": "A source and a view, 730 days of each, 31 days a run, two runs at a time, each process of DuckDB's held to 1,000 MB. The twin runs first, alone; then "
    "another deployment's backfill is killed with all of its processes (SIGKILL), and `--resume` goes on. Times are those of both, without the pause between. Rows are "
    "compared by count and two digests over all columns. A partition is a day of events or of tiles. Memory is that of all processes at once (proportional set size, polled).",
    "views": "A registry of 500 views with three features each of five sources, and fifty services of ten views. `dagster definitions validate`, a process of its own; "
    "a webserver, from its start until the query of its asset graph is answered.",
    "checks": "The payments example. A day is loaded and the tiles of its five views are built; then all checks of its three sources, five views and "
    "the service are evaluated, in the same process, with the samples of earlier days kept as they are in daily operation. The floor is "
    "loading and building; the median of three days. Evidently is not asked, since nothing has moved.",
    "alarms": "The payments example, 149 payments a day, its merchants selling what they sold on the first day: 120 days, a training set that is pinned, and "
    "210 days in which nothing happens, each with all checks of its sources, views and service; then days whose amounts are half a standard deviation larger.",
    "demo": "Seconds in the last line of `make demo`, kept from a run of its own.",
}


def main() -> int:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", choices=[*PARTS, []], default=[], help=f"all but {' and '.join(LONG)} unless named"
    )
    parser.add_argument(
        "--size",
        type=int,
        help="payments of `scale`, values of `agreement`, payments a day of `checks` and `alarms`, events of `backfill`",
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep what was measured at another size, too; the rows say at which"
    )
    parser.add_argument("--strict", action="store_true", help="exit code 1 if something falls short")
    options = parser.parse_args()
    lines: list[Result] = []
    for part in options.parts or [part for part in PARTS if part not in LONG]:
        size = {"size": options.size} if options.size and part in LONG else {}
        measured = measure(part, **size)
        lines += measured
        if options.keep or not size:
            keep(measured)
    if DEMO_LINE.exists():
        keep([demo_row(DEMO_LINE.read_text())])
    short = [str(line["name"]) for line in lines if not line["ok"]]
    print(f"{len(lines) - len(short)} of {len(lines)} hold" + "".join(f"\n  falls short: {name}" for name in short))
    return 1 if short and options.strict else 0


def measure(part: str, **size: int) -> list[Result]:
    """The rows of one module, of another size than its own if one is given; each says when and beside what it was measured."""
    busy, results = load(), []
    for line in importlib.import_module(f"benchmarks.{part}").rows(**size):
        print(json.dumps(line), flush=True)
        results.append(line)
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC on {processor()}, {max(busy, load()):.1f} processes wanting a CPU"
    return [{"part": part, "measured": when} | line for line in results]


def keep(lines: Sequence[Result]) -> None:
    """Put these rows in the place of those of their part."""
    parts = {line["part"] for line in lines}
    kept = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    rows = [line for line in kept if line["part"] not in parts] + list(lines)
    rows.sort(key=lambda line: [*PARTS, "demo"].index(line["part"]))
    RESULTS.write_text("".join(json.dumps(line) + "\n" for line in rows))
    (HERE / "RESULTS.md").write_text(report(rows))


def demo_row(line: str) -> Result:
    """The demo's own time."""
    seconds = re.search(r"\bseconds=([\d.]+)", line)
    if seconds is None:
        raise SystemExit(f"{DEMO_LINE.name} must hold the demo's last line, got {line[:80]!r}")
    line_of_demo = row("`make demo` after installation", float(seconds[1]), "s", limit=360.0)
    return {"part": "demo", "measured": "in a run of its own"} | line_of_demo


def report(lines: Sequence[Result]) -> str:
    """The rows of all parts as a page."""
    text = ["# Benchmarks", "", "Written by `make bench`; the same rows for machines are in `results.jsonl`.", ""]
    text += ["What the newest rows were measured on; a part that names no processor was measured on another one.", ""]
    text += [f"- {name}: {value}" for name, value in machine().items()]
    text += [
        "",
        "The limit is on the ratio to the floor where there is one, else on the value; of the first read on the value too.",
        "Where more processes wanted a CPU than there are, times say too much.",
    ]
    for part in dict.fromkeys(str(line["part"]) for line in lines):
        mine = [line for line in lines if line["part"] == part]
        text += ["", f"## {part.capitalize()}", "", HOW[part], "", f"Measured {mine[0]['measured']}.", ""]
        text += ["| what | value | floor | ratio | limit | holds |", "| --- | ---: | ---: | ---: | ---: | --- |"]
        text += [_line(line) for line in mine]
    return "\n".join([*text, *_short(lines)]) + "\n"


def _short(lines: Sequence[Result]) -> list[str]:
    short = [line for line in lines if not line["ok"]]
    return ["", "## What falls short", "", *map(_shortfall, short)] if short else []


def _shortfall(line: Result) -> str:
    ratio = "" if line["ratio"] is None else f", ratio {line['ratio']}"
    return f"- {line['name']}: {line['value']} {line['unit']}{ratio}, limit {_limit(line)}"


def _line(line: Result) -> str:
    value, floor, ratio = (line[name] for name in ("value", "floor", "ratio"))
    floor_text = "" if floor is None else f"{floor:,} {line['unit']}"
    cells = (line["name"], f"{value:,} {line['unit']}", floor_text, "" if ratio is None else ratio, _limit(line))
    return f"| {' | '.join(str(cell) for cell in cells)} | {'yes' if line['ok'] else '**no**'} |"


def _limit(line: Result) -> str:
    """The limit with its direction: rates must reach it, everything else must stay below."""
    return f"{'≥' if str(line['unit']).endswith('/s') else '≤'} {line['limit']}"


if __name__ == "__main__":
    sys.exit(main())
