"""Reads of one view: what a row, or a missing one, is worth at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vectors.building import (
    ALL,
    FROM,
    GENERATION,
    HOUR,
    NOW,
    SLA,
    Json,
    S,
    read,
    ready,
    row,
    service,
    store,
    view,
)

from feature_store.online.packed import ERROR
from feature_store.time_rule import EARLIEST_US


def rows_that_are_there() -> Iterable[dict[str, Json]]:
    orders = view("count:int=0", "mean:float")
    kept = {
        "ada": row(orders, [[5, 60, 2, 120, None]], [[2.5, 60, None]], until_s=200),
        "bob": row(orders, [[ERROR, 20, 3]], [1.5]),
        "eve": row(orders, [None], [None], age_us=None),
        "sam": row(orders, [None], [None], from_us=EARLIEST_US, age_us=None),  # nothing has ever happened
    }
    edge = (FROM // S) * S  # steps count from the second of `from_us`
    yield store(
        "a row of a stream view, by the time asked",
        [orders],
        [service(orders)],
        rows=kept,
        # A beat in the middle of its life, so that it is neither too old nor too young below.
        ready={"0": ready([orders], beat_us=edge + 150 * S)},
        reads=[
            read({"user": "ada"}, [5, 2.5], "PRESENT PRESENT"),
            read({"user": "ada"}, [5, 2.5], "PRESENT PRESENT", as_of=FROM),
            read({"user": "ada"}, [5, 2.5], "AHEAD AHEAD", as_of=FROM - 1),
            read({"user": "ada"}, [5, 2.5], "PRESENT PRESENT", now=FROM - 1),
            read({"user": "ada"}, [5, 2.5], "PRESENT PRESENT", as_of=edge + 60 * S - 1),
            read({"user": "ada"}, [2, None], "PRESENT EMPTY", as_of=edge + 60 * S),
            read({"user": "ada"}, [0, None], "EMPTY EMPTY", as_of=edge + 120 * S),
            read({"user": "ada"}, [0, None], "EMPTY EMPTY", as_of=edge + 200 * S - 1),
            read({"user": "ada"}, [0, None], "STALE STALE", as_of=edge + 200 * S),
            read({"user": "bob"}, [None, 1.5], "ERROR PRESENT"),
            read({"user": "bob"}, [3, 1.5], "PRESENT PRESENT", as_of=edge + 20 * S),
            read({"user": "bob"}, [None, 1.5], "ERROR AHEAD", as_of=FROM - 1),
            read({"user": "bob"}, [3, 1.5], "PRESENT PRESENT", as_of=edge + 450 * S),
            read({"user": "bob"}, [3, 1.5], "STALE STALE", as_of=edge + 450 * S + 1),
            read({"user": "eve"}, [0, None], "EMPTY EMPTY"),
            read({"user": "sam"}, [0, None], "EMPTY EMPTY"),
            read({"user": "sam"}, [0, None], "EMPTY EMPTY", as_of=FROM - HOUR),
            read({"user": "eve"}, [0, None], "STALE STALE", as_of=NOW + HOUR),
            read({"user": "eve"}, [0, None], "AHEAD AHEAD", as_of=FROM - HOUR),
        ],
    )
    old = view("count:int=0")
    yield store(
        "before the epoch seconds are floored, too",
        [old],
        [service(old)],
        rows={"ada": row(old, [[1, 1, 2]], from_us=-1_500_000, until_s=3)},
        ready={"0": ready([old], beat_us=0)},
        reads=[
            read({"user": "ada"}, [1], "PRESENT", as_of=-1_000_001),
            read({"user": "ada"}, [2], "PRESENT", as_of=-1_000_000),
            read({"user": "ada"}, [2], "STALE", as_of=1_000_000),
        ],
    )


def kinds_of_values() -> Iterable[dict[str, Json]]:
    kinds = view("i:int=0", "f:float", "b:bool", "s:str", "t:timestamp", "d:date")
    lists = view("i:int[]", "f:float[]", "b:bool[]", "s:str[]", "t:timestamp[]", "d:date[]", name="lists")
    big, small = 2**63 - 1, -(2**63)
    rows = {
        "plain": row(kinds, [7], [-1.5], [True], ["N14228"], [1_357_041_600_000_001], [15_706]),
        "limits": row(kinds, [big], [float("inf")], [False], [""], [-1], [-719_162]),
        "least": row(
            kinds, [small], [float("-inf")], [False], ["Zürich\n\0漢𝄞"], [253_402_300_799_999_999], [2_932_896]
        ),
        "nan": row(kinds, [2**53 + 1], [float("nan")], [None], ["x" * 300], [0], [0]),
        "zero": row(kinds, [-(2**53) - 1], [-0.0], [True], ["a|b{}%"], [1], [1]),
        "tiny": row(kinds, [-1], [5e-324], [True], ["\x7f"], [1], [-1]),
        "large": row(kinds, [65_536], [1.7976931348623157e308], [True], ["s" * 40], [1], [1]),
    }
    yield store(
        "kinds of values, and their limits",
        [kinds],
        [service(kinds)],
        rows=rows,
        ready={"0": ready([kinds])},
        reads=[
            read({"user": "plain"}, [7, -1.5, True, "N14228", 1_357_041_600_000_001, 15_706], ALL[:6]),
            read({"user": "limits"}, [big, float("inf"), False, "", -1, -719_162], ALL[:6]),
            read(
                {"user": "least"},
                [small, float("-inf"), False, "Zürich\n\0漢𝄞", 253_402_300_799_999_999, 2_932_896],
                ALL[:6],
            ),
            read({"user": "nan"}, [2**53 + 1, float("nan"), None, "x" * 300, 0, 0], "PRESENT PRESENT EMPTY PRESENT PRESENT PRESENT"),
            read({"user": "zero"}, [-(2**53) - 1, -0.0, True, "a|b{}%", 1, 1], ALL[:6]),
            read({"user": "tiny"}, [-1, 5e-324, True, "\x7f", 1, -1], ALL[:6]),
            read({"user": "large"}, [65_536, 1.7976931348623157e308, True, "s" * 40, 1, 1], ALL[:6]),
        ],
    )  # fmt: skip
    full = row(lists, [[[1, big]]], [[[0.5, -0.0]]], [[[True]]], [[["a", "b"], 20, ["b"]]], [[[1, 2]]], [[[0, -1]]])
    gone = row(lists, *[[[["x"], 5, None]] for _ in range(6)])
    yield store(
        "lists always stand in steps, and an empty one is no null",
        [lists],
        [service(lists)],
        rows={"full": full, "gone": gone, "empty": row(lists, *[[[[]]] for _ in range(6)])},
        ready={"0": ready([lists])},
        reads=[
            read({"user": "full"}, [[1, big], [0.5, -0.0], [True], ["a", "b"], [1, 2], [0, -1]], ALL[:6]),
            read({"user": "full"}, [[1, big], [0.5, -0.0], [True], ["b"], [1, 2], [0, -1]], ALL[:6], as_of=NOW + 10 * S),
            read({"user": "gone"}, [[], [], [], [], [], []], "EMPTY EMPTY EMPTY EMPTY EMPTY EMPTY"),
            read({"user": "empty"}, [[], [], [], [], [], []], ALL[:6]),
            read({"user": "nobody"}, [[], [], [], [], [], []], "EMPTY EMPTY EMPTY EMPTY EMPTY EMPTY"),
        ],
    )  # fmt: skip


def rows_that_are_missing() -> Iterable[dict[str, Json]]:
    orders = view("count:int=0", "sum:float=0", "mean:float")
    empty = [0, 0.0, None]
    nothing = ([None] * 3, "UNKNOWN UNKNOWN UNKNOWN")

    def of(name: str, record: bytes | None, *reads: Json, generation: str = GENERATION) -> dict[str, Json]:
        records = {} if record is None else {"0": record}
        return store(name, [orders], [service(orders)], ready=records, reads=reads, generation=generation)

    yield of(
        "a missing row under a ready record",
        ready([orders], beat_us=NOW - 20 * S),
        read({"user": "ada"}, empty, "EMPTY EMPTY EMPTY"),
        read({"user": "ada"}, empty, "EMPTY EMPTY EMPTY", as_of=NOW - 20 * S + SLA),
        read({"user": "ada"}, *nothing, as_of=NOW - 20 * S + SLA + 1),
        # An hour before the beat a row of that time may have expired since.
        read({"user": "ada"}, empty, "EMPTY EMPTY EMPTY", as_of=NOW - 20 * S - HOUR),
        read({"user": "ada"}, empty, "AHEAD AHEAD AHEAD", as_of=NOW - 20 * S - HOUR - 1),
        read({"user": "ada"}, empty, "EMPTY EMPTY EMPTY", now=NOW - 20 * S - HOUR - 1),
        read({"user": None}, *nothing),
    )
    yield of(
        "a missing row while the shard has records to read",
        ready([orders], beat_us=NOW, oldest_unread_us=NOW - SLA),
        read({"user": "ada"}, empty, "EMPTY EMPTY EMPTY"),
        read({"user": "ada"}, empty, "STALE STALE STALE", as_of=NOW + 1),
        read({"user": "ada"}, *nothing, as_of=NOW + SLA + 1),
    )
    for name, record in (
        ("no ready record", None),
        ("a shard that catches up", ready([orders], caught_up=False)),
        ("a server that may evict", ready([orders], evicts=True)),
        ("a view of which not all rows are there", ready([])),
        ("a ready record that is damaged", ready([orders])[:-4]),
    ):
        yield of(f"a missing row and {name}", record, read({"user": "ada"}, *nothing))
    yield of(
        "a missing row and a record of another store",
        ready([orders]),
        read({"user": "ada"}, *nothing),
        generation="decade",
    )


def what_the_shards_say() -> Iterable[dict[str, Json]]:
    orders = view("count:int=0")
    rows = {"ada": row(orders, [5]), "dan": row(orders, [6])}

    def of(name: str, records: Mapping[str, bytes | str], *reads: Json) -> dict[str, Json]:
        return store(name, [orders], [service(orders)], rows=rows, ready=records, reads=reads)

    yield of("a row without a ready record", {}, read({"user": "ada"}, [5], "STALE"))
    yield of(
        "a row that begins after the reader's own time was written just now",
        {},
        read({"user": "ada"}, [5], "PRESENT", now=FROM - 1),
        read({"user": "ada"}, [5], "AHEAD", as_of=FROM - 1),
    )
    for name, record in (
        ("that catches up", ready([orders], caught_up=False)),
        ("on a server that may evict", ready([orders], evicts=True)),
        ("of which not all rows are there", ready([])),
    ):
        yield of(f"a row of a shard {name}", {"0": record}, read({"user": "ada"}, [5], "PRESENT"))
    yield of(
        "a row of a shard that has records to read",
        {"0": ready([orders], beat_us=NOW, oldest_unread_us=NOW - SLA - 1)},
        read({"user": "ada"}, [5], "STALE"),
        read({"user": "ada"}, [5], "PRESENT", as_of=NOW - 1),
    )
    yield of(
        "two shards: CRC-32 of user:ada is even, of user:dan odd",
        {"shards": "2", "0": ready([orders]), "1": ready([orders], field="1", beat_us=NOW - SLA - 1)},
        read({"user": "ada"}, [5], "PRESENT"),
        read({"user": "dan"}, [6], "STALE"),
    )
    yield of(
        "a number of shards that is none",
        {"shards": "2x", "0": ready([orders])},
        read({"user": "dan"}, [6], "PRESENT"),
    )


def batch_rows() -> Iterable[dict[str, Json]]:
    daily = view("count:int=0", online="batch")
    beat = NOW - 5 * S
    yield store(
        "rows of a batch view need no shard",
        [daily],
        [service(daily)],
        rows={"ada": row(daily, [5], from_us=beat, age_us=None)},
        ready={"orders@1": ready([daily], field="orders@1", beat_us=beat)},
        reads=[
            read({"user": "ada"}, [5], "PRESENT"),
            read({"user": "ada"}, [5], "PRESENT", as_of=beat + SLA),
            read({"user": "ada"}, [5], "STALE", as_of=beat + SLA + 1),
            read({"user": "ada"}, [5], "STALE", as_of=beat + SLA + HOUR),
            read({"user": "ada"}, [None], "UNKNOWN", as_of=beat + SLA + HOUR + 1),
            read({"user": "ada"}, [5], "AHEAD", as_of=beat - 1),
            read({"user": "bob"}, [0], "EMPTY"),
            read({"user": "bob"}, [0], "EMPTY", as_of=beat),
            read({"user": "bob"}, [0], "AHEAD", as_of=beat - 1),
            read({"user": "bob"}, [0], "EMPTY", now=beat - 1),
            read({"user": "bob"}, [0], "STALE", as_of=beat + SLA + 1),
            read({"user": "bob"}, [0], "STALE", as_of=beat + SLA + HOUR),
            read({"user": "bob"}, [None], "UNKNOWN", as_of=beat + SLA + HOUR + 1),
        ],
    )
    yield store(
        "rows of a batch view whose record is gone",
        [daily],
        [service(daily)],
        rows={"ada": row(daily, [ERROR], from_us=beat)},
        ready={"0": ready([daily])},
        reads=[
            read({"user": "ada"}, [None], "ERROR"),
            read({"user": "ada"}, [None], "UNKNOWN", as_of=beat + SLA + HOUR + 1),
            read({"user": "bob"}, [None], "UNKNOWN"),
        ],
    )


def older_layouts() -> Iterable[dict[str, Json]]:
    before, now = view("mean:float", "count:int=0"), view("count:int=0", "last:str", "mean:float")
    other = view("else:int")
    rows = {"ada": row(before, [1.5], [4]), "eve": row(now, [5], ["x"], [2.5]), "ida": row(other, [9])}
    yield store(
        "a row of an older layout: by name, what it has",
        [now],
        [service(now, defaults={"orders:last": "none"})],
        older=[before],
        rows=rows,
        ready={"0": ready([now])},
        reads=[
            read({"user": "ada"}, [4, "none", 1.5], "PRESENT UNKNOWN PRESENT"),
            read({"user": "ada"}, [4, "none", 1.5], "AHEAD UNKNOWN AHEAD", as_of=FROM - 1),
            read({"user": "eve"}, [5, "x", 2.5], "PRESENT PRESENT PRESENT"),
            read({"user": "bob"}, [0, None, None], "EMPTY EMPTY EMPTY"),
            # Of a layout that nobody knows there is nothing to be said.
            read({"user": "ida"}, [None, "none", None], "UNKNOWN UNKNOWN UNKNOWN"),
        ],
    )
    yield store(
        "a missing row that is vouched for with an older layout",
        [now],
        [service(now, defaults={"orders:last": "none"})],
        older=[before],
        ready={"0": ready([before])},
        reads=[
            read({"user": "bob"}, [0, "none", None], "EMPTY UNKNOWN EMPTY"),
            read({"user": "bob"}, [None, "none", None], "UNKNOWN UNKNOWN UNKNOWN", as_of=NOW + SLA + 1),
        ],
    )


def damaged_rows() -> Iterable[dict[str, Json]]:
    orders = view("count:int=0", "mean:float")
    good = row(orders, [5], [2.5])
    head = good[: -len(b"\x05\xcb\x40\x04\0\0\0\0\0\0")]
    damaged = {
        "cut": good[:-1],
        "longer": good + b"\0",
        "none": b"",
        "text": b"\xa3abc",
        "map": b"\x80",
        "short": b"\x95" + head[1:-1],
        "head": good.replace(b"\x02\x03", b"\xc0\x03", 1),
        "changes that are no bytes": good.replace(b"\0\xc0\xc0\x05", b"\0\x01\xc0\x05"),
        "own that is no bytes": good.replace(b"\0\xc0\xc0\x05", b"\0\xc0\x90\x05"),
        "changes without a time": good.replace(b"\0\xc0\xc0\x05", b"\xc0\xc4\x01\x90\xc0\x05"),
        "changes that are cut": good.replace(b"\0\xc0\xc0\x05", b"\x01\xc4\x01\x92\xc0\x05"),
        "changes that are no threes": good.replace(b"\0\xc0\xc0\x05", b"\x01\xc4\x05\x94\x01\0\x07\x01\xc0\x05"),
        "a change of no feature": good.replace(b"\0\xc0\xc0\x05", b"\x01\xc4\x04\x93\x01\x02\x07\xc0\x05"),
        "a change of a feature below": good.replace(b"\0\xc0\xc0\x05", b"\x01\xc4\x04\x93\x01\xff\x07\xc0\x05"),
        "a change at a text": good.replace(b"\0\xc0\xc0\x05", b"\x01\xc4\x05\x93\xa11\0\x07\xc0\x05"),
        "a change to another type": good.replace(b"\0\xc0\xc0\x05", b"\x01\xc4\x05\x93\x01\0\xa1a\xc0\x05"),
        "fewer": bytes([head[0] - 1]) + head[1:] + b"\x05",
        "foreign": good.replace(b"\x05\xcb", b"\xd4\x07\0\xcb"),
        "utf8": bytes([head[0]]) + head[1:] + b"\xa1\xff\xc0",
        "text for a number": good.replace(b"\x05\xcb", b"\xa1a\xcb"),
        "a boolean for a number": good.replace(b"\x05\xcb", b"\xc3\xcb"),
        "a map": good.replace(b"\x05\xcb", b"\x80\xcb"),
        "a list for a number": good.replace(b"\x05\xcb", b"\x91\x91\x05\xcb"),
        "arrays in arrays": b"\x91" * 5_000,
        "a time that is none": row(orders, [5], [2.5], from_us=300_000_000_000_000_000),
    }
    yield store(
        "damaged rows say so, whatever they are worth",
        [orders],
        [service(orders, defaults={"orders:count": -1})],
        rows={"good": good, **damaged},
        ready={"0": ready([orders])},
        reads=[
            read({"user": "good"}, [5, 2.5], "PRESENT PRESENT"),
            *(read({"user": name}, [None, None], "ERROR ERROR") for name in damaged),
            *(read({"user": name}, [None, None], "ERROR ERROR", as_of=NOW + HOUR) for name in damaged),
        ],
    )
