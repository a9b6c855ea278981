"""What expressions of declarations may contain, and of what type they are."""

import pyarrow as pa
import pytest

from feature_store.transforms import expressions
from feature_store.transforms.expressions import Expressions

SCHEMA = pa.schema([("fare", pa.decimal128(10, 2)), ("seats", pa.int32()), ("city", pa.string())])
GOOD = ("fare * 2", "seats > 3", "length(city)", "fare")


def test_expressions_that_are_expected_are_typed_in_one_question(monkeypatch):
    alone = [Expressions(SCHEMA).type_of(each) for each in GOOD]
    monkeypatch.setattr(expressions, "_type_of", lambda *_: pytest.fail("asked again"))

    assert [Expressions(SCHEMA, [*GOOD, *GOOD]).type_of(each) for each in GOOD] == alone


@pytest.mark.parametrize(
    "odd",
    ["nothing + 1", "fare, seats", "fare) AS x0, (seats", "fare -- seats", "fare) AS y, TRY(seats", "count(*)", "("],
)
def test_what_is_no_expression_is_refused_alike_and_spoils_no_other(odd):
    looked_ahead, alone = Expressions(SCHEMA, [GOOD[0], odd, GOOD[1]]), Expressions(SCHEMA)

    assert looked_ahead.problem(odd) == alone.problem(odd)
    assert [looked_ahead.type_of(each) for each in GOOD] == [alone.type_of(each) for each in GOOD]
