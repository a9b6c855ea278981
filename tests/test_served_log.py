"""The record of served vectors keeps what the reader returned, types and all."""

import uuid
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.errors import InputError
from feature_store.history.join_keys import as_key
from feature_store.proof.served_log import ServedLog, _request_column, view_column
from feature_store.reader import FeatureVector, Provenance, Status
from feature_store.reader.vector import Names, feature_column, status_column

AT = Provenance(3, 17, 1_700_000_000_000_000, 1, 1_699_999_999_000_000)
NAMES = Names("delay", ("v:x", "v@2:x", "share"), {}, ("v@1", "v@2"), (0, 1, None))


def vector(x, y=1, share=0.5, *, statuses=(0, 0, 0), names=NAMES, sources=(AT, AT)):
    return FeatureVector(
        [x, y, share], [Status(s) for s in statuses], names, [part for source in sources for part in source]
    )


def record(*vectors, **rows):
    log = ServedLog()
    for i, each in enumerate(vectors):
        log.add({name: values[i] for name, values in rows.items()}, each, as_of_us=None if i else 5)
    return log.table()


def test_a_row_holds_request_provenance_values_and_statuses():
    table = record(vector(1.5), vector(None, statuses=(1, 0, 0)), origin=["JFK", None])

    assert table.column("origin").to_pylist() == ["JFK", None]
    assert table.column("service").to_pylist() == ["delay", "delay"]
    assert table.column("requested_us").to_pylist() == [5, None]
    assert table.column(view_column("v@1", "n")).to_pylist() == [17, 17]
    assert table.column("v_v2__shard").to_pylist() == [1, 1]
    assert table.column("v__x").to_pylist() == [1.5, None]
    assert table.column("v_v2__x").to_pylist() == [1, 1]
    assert table.column("v__x__status").to_pylist() == [0, 1]
    assert table.column("share").to_pylist() == [0.5, 0.5]
    assert len(set(table.column("vector_id").to_pylist())) == 2


def test_names_of_columns_need_no_quotes():
    assert feature_column("v:x") == "v__x"
    assert feature_column("v@2:x") == "v_v2__x"
    assert status_column("share") == "share__status"


@pytest.mark.parametrize(
    ("values", "statuses", "kept"),
    [
        ([1.5, 2.5, 3], [0, 0, 0], [1.5, 2.5, None]),  # a whole number among floats was not served by a float feature
        ([1.5, 2.5, 3], [0, 0, Status.UNKNOWN], [1.5, 2.5, 3.0]),  # a default may be one
        ([1, 2, True], [0, 0, 0], [1, 2, None]),
        ([1, 2, "3"], [0, 0, 0], [1, 2, None]),
        ([["a"], [], ["b", "c"]], [0, 1, 0], [["a"], [], ["b", "c"]]),
        ([None, None, None], [2, 2, 2], [None, None, None]),
        ([date(2024, 1, 2), None, date(2024, 1, 3)], [0, 1, 0], [date(2024, 1, 2), None, date(2024, 1, 3)]),
    ],
)
def test_values_keep_their_types(values, statuses, kept):
    table = record(*(vector(x, statuses=(s, 0, 0)) for x, s in zip(values, statuses, strict=True)))

    found = table.column("v__x").to_pylist()
    assert found == kept
    assert [type(value) for value in found] == [type(value) for value in kept]


def test_times_stay_times_and_nan_is_no_key():
    moment = datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC)

    table = record(vector(moment), key=[float("nan")])

    assert table.column("v__x").to_pylist() == [moment]
    assert table.column("key").to_pylist() == [None]


def test_a_file_holds_the_same_and_a_log_can_be_emptied(tmp_path):
    log = ServedLog("delay@1")
    log.add({"origin": "JFK"}, vector(1.5), vector_id="mine")

    assert log.write(tmp_path / "served.parquet") == 1
    assert pq.read_table(tmp_path / "served.parquet").equals(log.table())
    assert log.table().column("service").to_pylist() == ["delay@1"]
    assert log.table().column("vector_id").to_pylist() == ["mine"]
    log.clear()
    assert (len(log), log.table().num_rows) == (0, 0)


def test_vectors_of_several_services_are_refused():
    other = NAMES._replace(features=("v:x", "v@2:x", "other"))

    with pytest.raises(InputError, match="`vector` must be of the same service as those before it"):
        record(vector(1.5), vector(1.5, names=other))


def test_a_request_with_a_columns_name_is_refused():
    with pytest.raises(InputError, match="would have two columns 'v__x'"):
        record(vector(1.5), v__x=[3])


def test_join_keys_of_every_spelling_are_recorded_as_the_entity_that_was_read():
    uid = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
    for kind, values, expected in (
        (pa.int64(), [7, "7", 7.0, None, float("nan")], [7, 7, 7, None, None]),
        (pa.int64(), [7, 7.0, None], [7, 7, None]),
        (pa.string(), [uid, None], [str(uid), None]),
        (pa.string(), [uid, "a", 7, True], [str(uid), "a", "7", "true"]),
        (pa.date32(), [date(2024, 1, 2), "2024-01-02"], [date(2024, 1, 2)] * 2),
        (pa.binary(), [b"\x00a", "0061"], [b"\x00a"] * 2),
        (pa.bool_(), [True, "true"], [True, True]),
    ):
        column = pa.chunked_array([_request_column("key", values)])

        assert as_key(column, kind, "key", of="record").to_pylist() == expected
