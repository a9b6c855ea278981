"""The share of reads that failed is about the last five minutes, and nothing while nobody reads."""

from feature_store.serving.error_rate import WINDOW_S, ErrorRate
from feature_store.serving.metrics import Metrics


def counted(reads: int, failed: int) -> bytes:
    return f"online_store_latency_seconds_count {reads}.0\nonline_store_errors_total {failed}.0\n".encode()


def value(text: bytes) -> float | None:
    lines = [line for line in text.decode().splitlines() if line.startswith("online_store_error_rate ")]
    return float(lines[0].split()[1]) if lines else None


def test_it_is_left_out_as_long_as_nobody_has_read():
    assert value(ErrorRate().text(counted(0, 0), at_s=7.0)) is None


def test_at_first_it_is_about_everything_since_the_start():
    rate = ErrorRate()

    assert value(rate.text(counted(10, 1), at_s=0.0)) == 0.1
    assert value(rate.text(counted(20, 1), at_s=15.0)) == 0.05


def test_failures_of_long_ago_are_forgotten():
    rate = ErrorRate()
    rate.text(counted(100, 50), at_s=0.0)
    rate.text(counted(200, 50), at_s=WINDOW_S / 2)

    assert value(rate.text(counted(300, 51), at_s=WINDOW_S * 1.5)) == 0.01
    assert value(rate.text(counted(300, 51), at_s=WINDOW_S * 3)) is None


def test_it_remembers_little_however_often_it_is_asked():
    rate = ErrorRate()
    for number in range(3_000):
        rate.text(counted(number, 0), at_s=number / 10)

    assert len(rate._looks) <= WINDOW_S + 2


def test_it_finds_the_counts_as_the_server_writes_them():
    metrics = Metrics()
    for fails in (False, True):
        try:
            with metrics.reading():
                assert not fails
        except AssertionError:
            pass

    assert value(ErrorRate().text(metrics.text(), at_s=0.0)) == 0.5
