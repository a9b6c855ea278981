"""The page and the lines that `make bench` writes."""

import json
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest

from benchmarks import agreement, scale, training
from benchmarks.__main__ import demo_row, report
from benchmarks.load import GrpcConnection, HttpConnection, Load
from benchmarks.memory import Peak
from benchmarks.results import row


def test_a_rate_must_reach_its_limit_and_everything_else_must_stay_below():
    assert row("rate", 60, "events/s", floor=100, limit=0.5, at_least=True)["ok"]
    assert not row("rate", 40, "events/s", floor=100, limit=0.5, at_least=True)["ok"]
    assert row("time", 150, "us", floor=100, limit=1.6) == {
        "name": "time",
        "value": 150,
        "unit": "us",
        "floor": 100,
        "ratio": 1.5,
        "limit": 1.6,
        "ok": True,
    }
    assert not row("memory", 700, "B", limit=600)["ok"]


def test_the_page_names_what_falls_short():
    lines = [
        row("slow", 200, "us", floor=100, limit=1.6),
        row("rate", 70, "events/s", floor=100, limit=0.5, at_least=True),
    ]

    page = report([{"part": "stream", "measured": "then"} | line for line in lines])

    assert "## Stream" in page
    assert "Measured then." in page

    assert "| slow | 200 us | 100 us | 2.0 | ≤ 1.6 | **no** |" in page
    assert "| rate | 70 events/s | 100 events/s | 0.7 | ≥ 0.5 | yes |" in page
    assert "- slow: 200 us, ratio 2.0, limit ≤ 1.6" in page
    assert all(json.loads(json.dumps(line)) == line for line in lines)


def test_the_demo_s_time_is_read_from_its_last_line():
    assert demo_row("demo: auc_static=0.64 controls=3/3 seconds=200.5")["value"] == 200.5


def test_a_hundred_million_payments_are_measured_as_twenty_thousand_are(tmp_path):
    events = 20_000

    assert scale.generate(tmp_path, events)["rate"] > 0
    backfill = scale.backfill(tmp_path, events)
    training = scale.training(tmp_path, events)

    assert backfill["rate"] > 0
    assert training["rows"] == pytest.approx(events / scale.SPINE_SHARE, rel=0.2)
    assert 50 < training["peak_mb"] < scale.LIMIT_MB


def test_a_training_set_as_served_is_measured_with_late_events(tmp_path):
    training.prepare(tmp_path, hot=True, late=True, events=20_000, spine=2_000)

    late = training.measure_late(tmp_path)

    assert min(late["served"], late["ours"]) > 0
    assert late["differing"] > 0
    assert late["declared"] == 2_000


def test_the_peak_of_memory_counts_what_other_processes_hold():
    hold = [
        sys.executable,
        "-c",
        "import sys; held = bytearray(b'x' * 200_000_000); print(1, flush=True); sys.stdin.read()",
    ]
    with Peak() as alone:
        pass

    with Peak() as together, subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        wait_until(lambda: together.mb > alone.mb + 150)
        process.stdin.close()

    assert together.mb > alone.mb + 150


def wait_until(look):
    deadline = time.monotonic() + 120
    while not look() and time.monotonic() < deadline:
        time.sleep(0.05)


def test_the_agreement_run_proves_every_value_it_serves(monkeypatch):
    monkeypatch.setattr(agreement, "READS", 5)
    monkeypatch.setattr(agreement, "HOURS", 1)

    unequal, oracle, missed = agreement.rows(size=1)

    assert (unequal["value"], oracle["value"], missed["value"]) == (0, 0, 0)
    assert re.fullmatch(r"unequal among \d[\d,]+ served values, seeds 0 to 0", unequal["name"])


def test_what_was_due_while_an_answer_took_long_counts_as_slow():
    with answering(held_up=(10, 0.2)) as port:
        taken = load(port).paced(per_s=100, seconds=0.5)

    assert len(taken) == 50
    assert sum(each > 50_000 for each in taken) >= 15  # due in the first 150 ms of the pause
    assert max(taken) > 150_000


def test_a_rate_is_what_was_answered():
    with answering(each_s=0.02) as port:
        one, four = (load(port, connections).rate(0.5) for connections in (1, 4))

    assert 0 < one <= 50 < four <= 200


def test_an_answer_that_is_an_error_ends_a_measurement():
    with answering(status=503) as port, pytest.raises(AssertionError, match="503"):
        load(port).rate(1.0)


def test_grpc_s_load_is_understood_by_its_server_and_an_error_ends_it():
    calls = []

    class Echo(grpc.GenericRpcHandler):
        def service(self, details):
            calls.append((details.method, dict(details.invocation_metadata)["word"]))
            if details.method == "/of/Echo":
                return grpc.unary_unary_rpc_method_handler(lambda request, _: request * 100_000)
            return None  # it is not implemented

    server = grpc.server(ThreadPoolExecutor(4), handlers=[Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    headers = [("word", "long" * 100)]
    try:
        taken = Load(partial(GrpcConnection, port, "/of/Echo", headers), 2, [b"abc"]).paced(per_s=100, seconds=0.3)
        with pytest.raises(AssertionError):
            Load(partial(GrpcConnection, port, "/of/Other", headers), 1, [b"abc"]).rate(1.0)
    finally:
        server.stop(None).wait()

    assert len(taken) == 30
    assert calls == [("/of/Echo", "long" * 100)] * 30 + [("/of/Other", "long" * 100)]


def load(port, connections=1):
    request = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
    return Load(partial(HttpConnection, port), connections, [request])


@contextmanager
def answering(*, status=200, each_s=0.0, held_up=(0, 0.0)):
    """A server that holds one answer up, or takes its time for each."""
    answered = 0

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self):
            nonlocal answered
            answered += 1
            number, seconds = held_up
            time.sleep(seconds if answered == number else each_s)
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
