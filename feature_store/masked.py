"""What stands in the place of personal data wherever it is shown without being asked for: logs, previews, reports.

Data itself is not changed: whoever may read a view gets its values from readers, training sets and frames.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Final

_QUOTE = re.compile(r"""['"]""")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\w.+-]*")
_GOT = re.compile(r"\b(got|found|was) .*", re.DOTALL)


class Masked:
    """Is shown as `***`, whichever way it is shown."""

    def __repr__(self) -> str:
        return "***"


MASK: Final = Masked()
REVEAL: Final = "personal data; `--reveal` shows it"
"""What commands say where they mask."""


def masked(value: object, *, personal: bool) -> object:
    """The value, or the mask if it is personal. That there is none is not: the status beside it says so.

    >>> masked(7, personal=False), masked(7, personal=True), masked(None, personal=True)
    (7, ***, None)
    """
    return MASK if personal and value is not None else value


def masked_keys(entity: Mapping[str, object], *, personal: bool) -> dict[str, object]:
    """Join keys with their values masked."""
    return {name: masked(value, personal=personal) for name, value in entity.items()}


def masked_payload(payload: str) -> str:
    """A record with its form alone: the names of its fields, if it is JSON, else its length.

    >>> masked_payload('{"customer": "ada", "cards": [{"number": 4711}], "note": null}')
    '{"customer": "***", "cards": [{"number": "***"}], "note": null}'
    """
    try:
        found = json.loads(payload)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return f"*** ({len(payload)} characters that are no JSON object)"
    return json.dumps(_form(found))


def masked_reason(reason: str, *, known: Collection[str]) -> str:
    """Why a record was rejected, without what it held: quoted texts but those that are known names, numbers, what came.

    >>> masked_reason("column 'amount': must be at least 0, got -5", known={"amount"})
    "column 'amount': must be at least ***, got ***"
    >>> masked_reason("event id 'o'brien' was seen before with another payload", known={"amount"})
    "event id '***' was ***"
    """
    text = _GOT.sub(lambda found: f"{found[1]} {MASK}", reason)
    return _NUMBER.sub(str(MASK), _without_quoted(text, known))


def _without_quoted(text: str, known: Collection[str]) -> str:
    """Text whose quoted parts are known names. A quote inside of one that is not hides where it ends, so all goes."""
    quotes = [found.start() for found in _QUOTE.finditer(text)]
    for first, second in zip(quotes[::2], quotes[1::2], strict=False):
        if text[first + 1 : second] not in known:
            return f"{text[:first]}'{MASK}'{text[quotes[-1] + 1 :]}"
    return text if len(quotes) % 2 == 0 else f"{text[: quotes[-1]]}'{MASK}'"


def _form(value: object) -> object:
    if isinstance(value, dict):
        return {name: _form(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_form(each) for each in value]
    return None if value is None else str(MASK)
