"""The features of this project, at times that matter: no server, a fraction of a second."""

from features import registry

EVENTS = {
    "payments": [
        {"payment_id": "p1", "customer": "ada", "amount": 10.0, "paid_at": "2026-01-01T09:00:00Z"},
        {"payment_id": "p2", "customer": "ada", "amount": 20.0, "paid_at": "2026-01-01T09:40:00Z"},
    ]
}


def test_a_payment_counts_from_the_moment_after_it(replay) -> None:
    result = replay(registry, EVENTS)

    assert result.at("spending:count_1h", time="2026-01-01T09:40:00Z", customer="ada") == 1
    assert result.at("spending:count_1h", time="2026-01-01T09:40:01Z", customer="ada") == 2
    assert result.at("spending:amount_mean_7d", time="2026-01-02T00:00:00Z", customer="ada") == 15.0
