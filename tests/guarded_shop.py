"""The shop with a view of personal data, for tests of the command line."""

import shop

from feature_store import FeatureService, FeatureView, Registry, agg, on_demand, request

profile = FeatureView(
    "profile",
    entity=shop.customer,
    source=shop.payments,
    features=[agg.count(over="24h"), agg.last("payment_id", over="7d")],
    tags={"pii": "behaviour"},
    score_own_event=True,
)


@on_demand(inputs={"payment": profile["payment_id_last_7d"]}, returns=str)
def newest(payment):
    return payment


@on_demand(inputs={"payment": newest}, returns=str)
def again(payment):
    return payment


@on_demand(inputs={"who": request(str, "customer")}, returns=str)
def named(who):
    return who


@on_demand(inputs={"amount": request(float)}, returns=float)
def doubled(amount):
    return amount * 2


@on_demand(inputs={"payment": profile["payment_id_last_7d"]}, returns=str)
def failing(payment):
    raise ValueError(f"cannot take {payment[0]}")


risk = FeatureService("risk", version=1, features=[shop.spending])
person = FeatureService("person", version=1, features=[shop.spending["count_24h"], profile])
scored = FeatureService("scored", version=1, features=[again, named, doubled])
broken = FeatureService("broken", version=1, features=[failing])
registry = Registry(views=[shop.spending, profile], services=[risk, person, scored, broken])
