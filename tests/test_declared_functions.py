"""What a declaration of on-demand features may say, and every way in which it may be wrong."""

import dataclasses
import sys
from datetime import datetime

import numpy as np
import pytest
from demanded import registry, service, several, share, spending, times_usual

from feature_store import (
    DeclarationError,
    FeatureService,
    InputError,
    Registry,
    SettingsError,
    encode,
    filled,
    on_demand,
    request,
)
from feature_store.changes import meanings
from feature_store.reader.given import functions_of, load_functions
from feature_store.transforms.compiled import compile_registry


def declared(*features, compiled=False, **options):
    made = Registry(views=[spending], services=[FeatureService("fraud", features=list(features), **options)])
    return compile_registry(made) if compiled else made


def test_the_function_is_called_as_it_is_written():
    assert times_usual(np.array([3.0]), np.array([2.0])).tolist() == [3.0]
    assert times_usual.description == "How many times the usual amount a payment is."


def test_a_feature_of_several_has_a_name_of_its_own():
    assert [feature.name for feature in several.features][:2] == ["several_large", "several_shop"]
    assert several["since"].name == "several_since"


def test_the_same_function_with_other_inputs_is_another_feature():
    recipient = spending.keyed(customer="recipient", prefix="to_")
    other = times_usual.given("to_times_usual", usual=recipient["amount_mean_24h"])

    [own, theirs] = declared(times_usual, other).resolve([times_usual, other])

    assert (own.of.function.digest, own.meaning) != (theirs.of.function.digest, theirs.meaning)
    assert own.of.function.digest == theirs.of.function.digest
    assert [ref.read_id for ref in theirs.refs] == ["to_spending@1"]


def test_meanings_tell_functions_inputs_and_empty_values_apart():
    def meaning(feature):
        return meanings(declared(feature)).services["fraud@1"][0]

    def made(*, amount="amount", usual=spending["amount_mean_24h"], empty=None):
        @on_demand(inputs={"amount": request(float, amount), "usual": usual}, returns=float, empty=empty)
        def f(amount, usual):
            return amount - usual

        return f

    others = [made(amount="sum"), made(usual=spending["count_1h"]), made(usual=filled(spending["amount_mean_24h"], 1.0)),
              made(empty=0.0)]  # fmt: skip
    assert meaning(made()) == meaning(made())
    assert len({meaning(each) for each in [made(), *others]}) == 5


def plain(a, b):
    return a + b


NUMBER = {"a": request(float), "b": request(float)}


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: on_demand(inputs={"a": request(float)}, returns=float)(plain),
         "on-demand feature 'plain': `inputs` must be the function's parameters a, b, got a"),
        (lambda: on_demand(inputs=NUMBER, returns=complex)(plain), "`returns` must be int, float, bool, str, datetime or date"),
        (lambda: on_demand(inputs=NUMBER, returns={})(plain), "`returns` must have at least one output"),
        (lambda: on_demand(inputs=NUMBER, returns={"a b": int})(plain), "an output must be letters, digits and _, got 'a b'"),
        (lambda: on_demand(inputs=NUMBER, returns=int, empty=0.5)(plain), "`empty` must be an integer of 64 bits, got 0.5"),
        (lambda: on_demand(inputs=NUMBER, returns=int, empty={"a": 1})(plain), "`empty` must be one value for one output"),
        (lambda: on_demand(inputs=NUMBER, returns={"a": int}, empty={"b": 1})(plain), "`empty` must be of its outputs a"),
        (lambda: on_demand(inputs=NUMBER, returns=datetime, empty="x")(plain), "`empty` must be None for a time or a date"),
        (lambda: on_demand(inputs={"a": 7, "b": request(float)}, returns=float)(plain), "`a` must be a feature such as"),
        (lambda: on_demand(inputs={"a": several, "b": request(float)}, returns=float)(plain),
         "choose one of its outputs, such as several['large']"),
        (lambda: on_demand(inputs={"a": "nonsense", "b": request(float)}, returns=float)(plain), "`a`: a feature must be named as"),
        (lambda: on_demand(inputs={}, returns=float)(lambda *rows: rows), "a parameter must be a plain name without default"),
        (lambda: request(list), "`request` must be int, float, bool, str, datetime or date, got <class 'list'>"),
        (lambda: request(int, default="x"), "`default` must be an integer of 64 bits, got 'x'"),
        (lambda: filled(request(int), 1), "a column of the request has `default=`"),
        (lambda: filled(share, None), "`filled` takes a feature and a value"),
        (lambda: times_usual.given("other", amounts=request(float)), "'other' has the inputs amount, usual, got `amounts`"),
        (lambda: several["larger"], "has the outputs large, shop, since, at, day, whole, got 'larger'"),
    ],
)  # fmt: skip
def test_a_wrong_function_is_refused_where_it_is_declared(declare, said):
    with pytest.raises(InputError) as error:
        declare()

    assert said in str(error.value)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ([times_usual, encode.hashing("h", request(str, "amount"), buckets=9)],
         "column 'amount' of the request is asked for as float and as str"),
        ([times_usual, times_usual], "feature 'times_usual' stands twice"),
        ([dataclasses.replace(times_usual, name="no name")], "feature `name` must be letters, digits and _, got 'no name'"),
        ([encode.hashing("h", request(str, "a b"), buckets=9)], "a column of the request must be letters, digits and _, got 'a b'"),
        ([encode.hashing("h", request(str, "h"), buckets=9)], "column 'h' of the request has the name of a feature"),
        ([spending["count_1h"], encode.hashing("h", request(str, "customer", default="x"), buckets=9)],
         "column 'customer' of the request is a join key, so it has no default"),
        ([times_usual.given("t", usual="spending:nothing")], "unknown feature of view 'spending' 'nothing'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused_by_the_registry(features, said):
    with pytest.raises(DeclarationError) as error:
        declared(*features)

    assert said in str(error.value)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ([encode.hashing("h", spending["amount_mean_24h"], buckets=9)],
         "on-demand feature 'h': `value` takes int or str or bool, got float"),
        ([encode.cyclical("c", spending["paid_at_last"], period=24)], "`value` takes int or float, got timestamp"),
        ([encode.bucketing("b", spending["amount_last_3_24h"], edges=[1])], "`value` takes int or float, got list of float"),
        ([times_usual.given("t", usual=filled(spending["count_1h"], "x"))],
         "on-demand feature 't': `usual` is int, and what it is filled with must be an integer of 64 bits, got 'x'"),
        ([times_usual.given("t", usual=filled(spending["paid_at_last"], 0))], "is timestamp, which cannot be filled, got 0"),
        ([spending["count_1h"], encode.bucketing("b", request(int, "customer"), edges=[1])],
         "column 'customer' of the request is asked for as int, but as a join key of entity 'customer' it is str"),
    ],
)  # fmt: skip
def test_inputs_of_the_wrong_kind_are_refused_when_views_are_compiled(features, said):
    with pytest.raises(DeclarationError) as error:
        declared(*features, compiled=True)

    assert said in str(error.value)


def test_a_join_key_may_be_an_input_too():
    found = declared(spending["count_1h"], encode.hashing("h", request(str, "customer"), buckets=9), compiled=True)

    assert found.registry.services


def test_defaults_are_by_the_name_of_the_feature():
    assert declared(times_usual, defaults={"times_usual": 0.5}).services
    with pytest.raises(DeclarationError, match="unknown feature in `defaults` 'times'; did you mean 'times_usual'"):
        declared(times_usual, defaults={"times": 0.5})


def test_declarations_show_their_features_by_name():
    shown = service._repr_html_()

    assert "several_since" in shown
    assert "hour_cos" in shown


# ---- the functions of a reader


def test_functions_come_from_a_registry_a_list_or_a_module(tmp_path, monkeypatch):
    text = "from demanded import registry, several, service, times_usual\nchosen = [times_usual]\nwrong = [7]\n"
    (tmp_path / "own_functions.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    digest = times_usual.function.digest
    for found in (
        functions_of(registry),
        functions_of([times_usual]),
        load_functions("own_functions"),
        load_functions("own_functions:registry"),
        load_functions("own_functions:chosen"),
        load_functions("own_functions:times_usual"),
    ):
        assert found.find("times_usual", digest, "") == times_usual.function
    assert functions_of([service.features[4]]).find("times_usual", digest, "") is not None  # `together` takes it
    sys.modules.pop("own_functions", None)


@pytest.mark.parametrize(
    "path", ["no_such_module", "demanded:nothing", "demanded:NOW", "demanded:STORED", "demanded:UNIT", ""]
)
def test_a_setting_that_names_no_functions_is_refused(path):
    with pytest.raises(SettingsError, match="`functions` must name"):
        load_functions(path)


def test_a_name_that_the_store_gives_runs_nothing(caplog):
    found = functions_of([])

    assert found.find("os:system", "0" * 16, "") is None
    assert found.find("os:system", "0" * 16, '{"encoding": "system"}') is None
    other = encode.hashing("h", request(str), buckets=9).function.encoding
    assert found.find("h", "0" * 16, other) is None
    assert len([record for record in caplog.records if "is ERROR" in record.message]) == 2


def test_a_reader_without_numpy_has_no_functions_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr("feature_store.computed.functions._has_numpy", lambda: False)
    encoding = encode.hashing("h", request(str), buckets=9).function

    assert functions_of([times_usual]).find("times_usual", times_usual.function.digest, "") is None
    assert functions_of([]).find("h", encoding.digest, encoding.encoding) is None
    assert "on-demand feature 'h' is ERROR: functions need NumPy" in caplog.text
