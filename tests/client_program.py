"""A program on the client that is generated from the API's own document: type-checked strictly, run against a real server."""

import base64
from dataclasses import dataclass
from datetime import UTC, date, datetime

from feature_client import AuthenticatedClient
from feature_client.api.about import describe_key, list_services
from feature_client.api.account import read_account, read_account_batch
from feature_client.api.asked import read_asked
from feature_client.api.features import get_online_features
from feature_client.api.halves import read_halves_batch
from feature_client.api.readings import publish_readings
from feature_client.models.account_v1_batch import AccountV1Batch
from feature_client.models.account_v1_batch_request import AccountV1BatchRequest
from feature_client.models.account_v1_keys import AccountV1Keys
from feature_client.models.account_v1_request import AccountV1Request
from feature_client.models.account_v1_vector import AccountV1Vector
from feature_client.models.asked_v1_inputs import AskedV1Inputs
from feature_client.models.asked_v1_keys import AskedV1Keys
from feature_client.models.asked_v1_request import AskedV1Request
from feature_client.models.asked_v1_vector import AskedV1Vector
from feature_client.models.batch import Batch
from feature_client.models.halves_batch import HalvesBatch
from feature_client.models.halves_v1_batch_request import HalvesV1BatchRequest
from feature_client.models.halves_v1_keys import HalvesV1Keys
from feature_client.models.key import Key
from feature_client.models.listed import Listed
from feature_client.models.listed_rows_item import ListedRowsItem
from feature_client.models.place import Place
from feature_client.models.problem_details import ProblemDetails
from feature_client.models.published import Published
from feature_client.models.readings_event import ReadingsEvent
from feature_client.models.readings_events import ReadingsEvents
from feature_client.models.status_name import StatusName
from feature_client.types import Unset

AT = datetime(2023, 11, 14, 22, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Account:
    """What the service `account` says."""

    count: int | None
    mean: float | None
    flag: bool | None
    label: str | None
    at: datetime | None
    on: date | None
    sizes: list[float | None] | None
    share: float | None
    label_status: StatusName
    newest: datetime | None


def account(client: AuthenticatedClient, keys: AccountV1Keys) -> Account:
    """One row: every value has its type."""
    found = read_account.sync(client=client, body=AccountV1Request(keys=keys, event_times=True))
    if not isinstance(found, AccountV1Vector) or isinstance(found.event_times, Unset):
        raise TypeError(f"no vector: {found}")
    values = found.values
    return Account(
        count=values.ledgercount_1h,
        mean=values.ledgermean_1h,
        flag=values.ledgerflag,
        label=values.ledgerlabel,
        at=values.ledgerat,
        on=values.ledgeron,
        sizes=values.ledgersizes,
        share=values.share,
        label_status=found.statuses.ledgerlabel,
        newest=found.event_times["ledger:label"],
    )


def accounts(client: AuthenticatedClient, rows: list[AccountV1Keys]) -> list[list[str]]:
    """Many rows: the statuses of each."""
    found = read_account_batch.sync(client=client, body=AccountV1BatchRequest(rows=rows))
    if not isinstance(found, AccountV1Batch):
        raise TypeError(f"no batch: {found}")
    return [[status.value for status in row.statuses] for row in found.rows]


def halves(client: AuthenticatedClient, rows: list[HalvesV1Keys]) -> set[str]:
    """Which versions served the rows of a service that is split."""
    found = read_halves_batch.sync(client=client, body=HalvesV1BatchRequest(rows=rows))
    if not isinstance(found, HalvesBatch):
        raise TypeError(f"no batch: {found}")
    return {row.service for row in found.rows}


def level(client: AuthenticatedClient, keys: AskedV1Keys, amount: float) -> int | None:
    """What an on-demand feature makes of the request."""
    inputs = AskedV1Inputs(amount=amount, due=AT, code=5)
    found = read_asked.sync(client=client, body=AskedV1Request(keys=keys, inputs=inputs, as_of=AT))
    if not isinstance(found, AskedV1Vector):
        raise TypeError(f"no vector: {found}")
    return found.values.level


def listed(client: AuthenticatedClient, row: dict[str, str]) -> object:
    """A value of a feature that is named."""
    asked = ListedRowsItem()
    asked.additional_properties.update(row)
    found = get_online_features.sync(client=client, body=Listed(features=["legs:count_1d"], rows=[asked]))
    if not isinstance(found, Batch):
        raise TypeError(f"no batch: {found}")
    return found.rows[0].values[0]


def publish(client: AuthenticatedClient, event_id: str) -> Place:
    """Where an event stands."""
    event = ReadingsEvent(uid=event_id, at=AT, site="north", level=3, load=None)
    found = publish_readings.sync(client=client, body=ReadingsEvents(events=[event]))
    if not isinstance(found, Published):
        raise TypeError(f"not published: {found}")
    return found.positions[0]


def refusal(client: AuthenticatedClient) -> ProblemDetails:
    """What an event that does not fit is answered."""
    event = ReadingsEvent(uid="u2", at=AT, level=-1000)
    found = publish_readings.sync(client=client, body=ReadingsEvents(events=[event]))
    if not isinstance(found, ProblemDetails):
        raise TypeError(f"no problem: {found}")
    return found


def may(client: AuthenticatedClient) -> tuple[str, list[str]]:
    """What the key is called, and which services it reads."""
    key, services = describe_key.sync(client=client), list_services.sync(client=client, q="ACCOUNT")
    if not isinstance(key, Key) or not isinstance(services, list):
        raise TypeError(f"no key: {key}, {services}")
    return key.name, [service.id for service in services]


def encoded(token: bytes) -> str:
    """Bytes as JSON has them."""
    return base64.b64encode(token).decode()
