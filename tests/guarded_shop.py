"""The shop with a view of personal data, for tests of the command line."""

import shop

from feature_store import FeatureService, FeatureView, Registry, agg

profile = FeatureView(
    "profile",
    entity=shop.customer,
    source=shop.payments,
    features=[agg.count(over="24h"), agg.last("payment_id", over="7d")],
    tags={"pii": "behaviour"},
)
risk = FeatureService("risk", version=1, features=[shop.spending])
person = FeatureService("person", version=1, features=[shop.spending["count_24h"], profile])
registry = Registry(views=[shop.spending, profile], services=[risk, person])
