"""What a decoder is, and what it gives back. A payload that does not fit costs only itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, get_args

from feature_store.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

ROW = "_row"
"""The column of a decoded table that says which payload a row came from."""
UNKNOWN = "_unknown"
"""The column of a decoded table with what a payload had beside the columns, as JSON; where a decoder keeps it."""
UnknownFields = Literal["ignore", "reject", "keep"]
"""What becomes of fields that no column comes from: nothing, the payload is rejected, or they are kept beside the row."""


class Rejected(NamedTuple):
    """A payload that is no row of the source."""

    row: int
    """Its index in the payloads."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What came of some payloads: each is either a row of `table` or in `rejected`."""

    table: pa.Table
    """The schema's columns, `_row`, the index of the payload (int64), and `_unknown` (text) where that is kept."""
    rejected: Sequence[Rejected]


class Decoder(Protocol):
    """The format of a source's payloads: a frozen value, so that it can be part of a declaration."""

    def decode(self, payloads: Sequence[bytes], schema: pa.Schema) -> Decoded:
        """Payloads as rows of `schema`, in order. No payloads: what is wrong with the decoder itself is raised all the same.

        Raises:
            InputError: a column cannot come from this format, or not from the field it is said to come from.
            SchemaRegistryError: the schema of a payload could not be asked for; nothing was decided about any payload.
        """

    def encode(self, rows: Iterable[Mapping[str, object]]) -> list[bytes]:
        """Rows as payloads, in order.

        Raises:
            InputError: a value has no place in this format; names row and column.
            SchemaRegistryError: the schema to write could not be asked for.
        """


def checked_choice(choice: str, *, among: Sequence[str] = get_args(UnknownFields), why: str = "") -> str:
    """A declared choice of what becomes of unknown fields; `why` says why others are none for this format.

    Raises:
        InputError: it is none, or none for this format.
    """
    if choice not in among:
        told = f"; {why}" if why else ""
        raise InputError(f"`unknown_fields` must be one of {', '.join(among)} for this format, got {choice!r}{told}")
    return choice
