"""On-demand features over a view with values of every kind, and three ways to compute them from the same inputs."""

from datetime import UTC, date, datetime
from typing import Annotated

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
from pandera.typing import Series

from feature_store import (
    Entity,
    EventSource,
    FeatureService,
    FeatureView,
    Registry,
    agg,
    asked_time,
    encode,
    filled,
    on_demand,
    ratio,
    request,
)
from feature_store.declare import redis_stream
from feature_store.declare.computed import Computed
from feature_store.history.answers import Answer
from feature_store.history.columns import shown_as
from feature_store.history.computed import ComputedAnswers
from feature_store.online.layout import service_layout, view_layout
from feature_store.reader.computing import compute
from feature_store.reader.decode import _Draft
from feature_store.reader.given import functions_of
from feature_store.reader.plan import plan_read
from feature_store.status import Status
from feature_store.testing.naive_functions import on_demand as naive
from feature_store.time_rule import from_us
from feature_store.transforms.compiled import compile_registry

Time = Annotated[pd.DatetimeTZDtype, "us", "UTC"]


class Payment(pandera.DataFrameModel):
    payment_id: Series[str]
    customer: Series[str]
    merchant: Series[str] = pandera.Field(nullable=True)
    amount: Series[float] = pandera.Field(nullable=True)
    home: Series[pd.BooleanDtype] = pandera.Field(nullable=True)
    paid_at: Series[Time]


payments = EventSource(
    "payments", schema=Payment, event_time="paid_at", event_id="payment_id", log=redis_stream("payments")
)
spending = FeatureView(
    "spending",
    entity=Entity("customer", join_keys=["customer"]),
    source=payments,
    features=[
        agg.count(over=["1h", "24h"]),
        agg.mean("amount", over="24h"),
        agg.last("merchant"),
        agg.last("home"),
        agg.last("paid_at"),
        agg.last("CAST(paid_at AS DATE)", name="last_day"),
        agg.last_n("amount", n=3, over="24h"),
    ],
)
share = ratio("share", spending["count_1h"], spending["count_24h"])
UNIT = 2.0


@on_demand(inputs={"amount": request(float), "usual": spending["amount_mean_24h"]}, returns=float)
def times_usual(amount, usual):
    """How many times the usual amount a payment is."""
    return amount / usual * UNIT


@on_demand(
    inputs={
        "amount": request(float),
        "tip": request(float, default=1.5),
        "shop": filled(spending["merchant_last"], "nowhere"),
        "at": spending["paid_at_last"],
        "now": asked_time,
        "day": request(date, "born"),
    },
    returns={"large": bool, "shop": str, "since": float, "at": datetime, "day": date, "whole": int},
    empty={"large": False, "shop": "none", "whole": -1},
)
def several(amount, tip, shop, at, now, day):
    since = (now - at) / np.timedelta64(1, "s")
    return {
        "large": amount + tip > 50,
        "shop": np.where(amount < 0, None, shop),
        "since": np.sqrt(since),
        "at": np.where(amount > 90, np.datetime64("NaT"), at),
        "day": day + np.timedelta64(1, "D"),
        "whole": np.ma.array(np.clip(np.nan_to_num(amount), -9, 9).astype(np.int32), mask=amount == 0),
    }


@on_demand(inputs={"count": spending["count_24h"], "code": request(int)}, returns=int)
def fragile(count, code):
    if (code == 13).any():
        raise ValueError("thirteen")
    return count * 2 + code


@on_demand(inputs={"amounts": spending["amount_last_3_24h"], "home": spending["home_last"]}, returns=float, empty=-2.0)
def spread(amounts, home):
    return np.array([max(each, default=0.0) - min(each, default=0.0) for each in amounts]) + home


@on_demand(inputs={"one": share, "other": times_usual, "code": request(int)}, returns=float)
def together(one, other, code):
    return one * other - code


service = FeatureService(
    "fraud",
    features=[
        times_usual,
        several,
        fragile,
        spread,
        together,
        encode.bucketing("level", times_usual, edges=[0.5, 1, 10]),
        encode.one_hot("channel", request(str), values=["web", "app"], other=True),
        encode.cyclical("hour", asked_time, period="24h"),
        encode.cyclical("week", request(datetime, "due"), period="7d"),
        encode.cyclical("turn", request(float, "angle"), period=360),
        encode.hashing("shop", spending["merchant_last"], buckets=97, seed=3),
        encode.target_rate("rate", positives=spending["count_1h"], count=spending["count_24h"], prior=0.1, weight=0),
    ],
)
registry = Registry(views=[spending], services=[service])
compiled = compile_registry(registry)
resolved = [item for item in registry.resolve(service) if isinstance(item, Computed)]
STORED = [feature.feature.name for feature in compiled.plan(spending).features]
REQUESTED = {asked.column: asked for item in resolved for asked in item.requests}
PLAN = plan_read("test", service_layout(service, registry), {spending.id: view_layout(compiled.plan(spending))})


def served(rows, functions=None, plan=PLAN):
    """What a reader makes of rows, all at once: for each (value, status) of the service's features, in order.

    A row is (stored: feature -> (value, status), request: column -> value, time in µs).
    """
    drafts = []
    for stored, _, _ in rows:
        draft = _Draft(plan.width)
        for slot, name in ((slot, STORED[slot.item]) for slot in plan.fetches[0].views[0].slots):
            draft.values[slot.position], draft.statuses[slot.position] = stored[name]
        for position, top, bottom, empty in plan.ratios:
            from feature_store.computed.ratio import ratio as divided

            draft.values[position], draft.statuses[position] = divided(
                (draft.values[top], draft.statuses[top]), (draft.values[bottom], draft.statuses[bottom]), empty=empty
            )
        drafts.append(draft)
    compute(
        plan,
        drafts,
        requests=[[row[1][each.column] for row in rows] for each in plan.requests],
        times_us=[row[2] for row in rows],
        functions=functions or functions_of(resolved),
    )
    width = len(plan.service.features)
    return [list(zip(draft.values[:width], draft.statuses[:width], strict=True)) for draft in drafts]


def trained(rows, *, strict=False):
    """What a training set makes of the same rows."""
    kinds = {f.feature.name: (f.kind, f.is_list) for f in compiled.plan(spending).features}

    def stored(ref):
        kind, is_list = kinds[ref.feature]
        kind = pa.list_(shown_as(kind)) if is_list else shown_as(kind)
        pairs = [row[0][ref.feature] for row in rows]
        return Answer(
            column=pa.array([value for value, _ in pairs], kind), status=np.array([s for _, s in pairs], dtype=np.int8)
        )

    answers = ComputedAnswers(
        stored=stored,
        requested=lambda asked: pa.array([row[1][asked.column] for row in rows], shown_as(asked.kind)),
        asked_us=np.array([row[2] for row in rows], dtype=np.int64),
        strict=strict,
    )
    columns = [
        [(_utc(value), Status(s)) for value, s in zip(found.column.to_pylist(), found.status.tolist(), strict=True)]
        for found in map(answers.of, resolved)
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def _utc(value):
    """Arrow's own zone has another name for UTC."""
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def by_hand(rows):
    """The same one value at a time, by the naive twin."""

    def value(source, row):
        stored, asked, time_us = row
        if isinstance(source, Computed):
            return one(source, row)
        if hasattr(source, "feature"):
            return stored[source.feature]
        if hasattr(source, "column"):
            found = asked[source.column]
            return found, Status.EMPTY if found is None else Status.PRESENT
        if hasattr(source, "numerator"):
            from feature_store.testing.naive_path import _quotient

            doubted = [stored[part.feature] for part in (source.numerator, source.denominator)]
            found, status = _quotient(*doubted, source.empty)
            lost = status in (Status.ERROR, Status.UNKNOWN)
            return found, Status.AHEAD if Status.AHEAD in (doubted[0][1], doubted[1][1]) and not lost else status
        return from_us(time_us).astimezone(UTC), Status.PRESENT

    def one(item, row):
        inputs = [(each, *value(each.source, row)) for each in item.of.inputs]
        given = [(each.fill if found is None else found, status) for each, found, status in inputs]
        try:
            return naive(item, given)
        except ValueError:
            return None, Status.ERROR

    return [[one(item, row) for item in resolved] for row in rows]


def bits(found):
    """What is equal only for the same values of the same types, to the last bit."""
    return repr(found)
