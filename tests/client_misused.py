"""Uses of the generated client that a type checker refuses: the comment says what it says of the line, and of no other."""

from client_program import AT
from feature_client import AuthenticatedClient
from feature_client.api.account import read_account
from feature_client.api.readings import publish_readings
from feature_client.models.account_v1_keys import AccountV1Keys
from feature_client.models.account_v1_request import AccountV1Request
from feature_client.models.account_v1_values import AccountV1Values
from feature_client.models.asked_v1_inputs import AskedV1Inputs
from feature_client.models.readings_event import ReadingsEvent


def misuse(client: AuthenticatedClient, keys: AccountV1Keys, values: AccountV1Values) -> None:
    """Nothing of this runs."""
    AccountV1Keys(shop=7, number=1, is_open=True, day=AT.date(), token="")  # arg-type
    AccountV1Keys(shop="a", number="1", is_open=True, day=AT.date(), token="")  # arg-type
    AccountV1Keys(shop="a", number=1, is_open=True, day=AT.date())  # call-arg
    AccountV1Keys(shop="a", number=1, is_open=True, day=AT.date(), token="", merchant="b")  # call-arg
    AccountV1Request(keys=keys, as_of="2023-11-14")  # arg-type
    AskedV1Inputs(amount="much", due=AT, code=5)  # arg-type
    AskedV1Inputs(amount=1.0, due=AT)  # call-arg
    total: int = values.ledgerlabel  # assignment
    total = values.ledgercount_1h + 1  # operator
    print(values.ledgercount_2h, total)  # attr-defined
    ReadingsEvent(uid="u1", at=AT, level="high")  # arg-type
    publish_readings.sync(client=client, body=[ReadingsEvent(uid="u1", at=AT)])  # arg-type
    found = read_account.sync(client=client, body=AccountV1Request(keys=keys))
    print(found.values)  # union-attr
