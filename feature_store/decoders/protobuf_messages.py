"""Protobuf messages as rows, decoded by Google's library (upb)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Literal

from feature_store.decoders.columns import decoded
from feature_store.decoders.confluent import HEAD, unframed
from feature_store.decoders.paths import Fields, Path, column_paths, declared_fields, dotted
from feature_store.decoders.protobuf_fields import Step, leaf_reader, message_class, put, steps_to, unknown_numbers
from feature_store.decoders.protocol import Decoded, Rejected, checked_choice
from feature_store.decoders.values import plain_row
from feature_store.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


_NOT_KEPT = (
    "a field that the message type does not have comes as a number and bytes, without name and type, so no column could be "
    "found in it later: say 'reject', and replay the dead letters once `descriptor` and column are there"
)


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class ProtobufDecoder:
    """One Protobuf message per payload.

    A field without presence (a proto3 field that is not `optional`) that was not written has its type's default, so an
    empty payload is a message; a field with presence is null. Time stamps are cut to the column's unit.
    """

    message: str
    descriptor: bytes | FilePath | None = None
    fields: Fields = ()
    confluent: bool = False
    schema_id: int | None = None
    unknown_fields: str = "ignore"

    def __repr__(self) -> str:
        options = ""
        if self.descriptor is not None:
            data = self.descriptor
            options += f", descriptor={f'<{len(data)} bytes>' if isinstance(data, bytes) else repr(str(data))}"
        options += f", fields={dict(self.fields)}" if self.fields else ""
        options += ", confluent=True" if self.confluent else ""
        return f"protobuf(message={self.message!r}{options})"

    def wire(self, path: str) -> str:
        """The field numbers on the way to a path, and the type there: `4.1 optional int32`.

        Raises:
            InputError: there is no such field.
        """
        steps = steps_to(message_class(self.message, self.descriptor).DESCRIPTOR, tuple(path.split(".")))
        return f"{'.'.join(str(step.field.number) for step in steps)} {steps[-1].wire}"

    def decode(self, payloads: Sequence[bytes], schema: pa.Schema) -> Decoded:
        """See `Decoder.decode`."""
        kind = message_class(self.message, self.descriptor)
        paths = column_paths(schema, self.fields)
        steps = [steps_to(kind.DESCRIPTOR, path) for path in paths]
        readers = [
            leaf_reader(way[-1], field, place=f"`{dotted(path)}` of message '{kind.DESCRIPTOR.full_name}'")
            for way, field, path in zip(steps, schema, paths, strict=True)
        ]
        rejected: list[Rejected] = []
        messages, kept = self._messages(payloads, kind, rejected)
        levels: dict[Path, list[Any]] = {(): messages}
        columns = [
            list(read(_inside(levels, way, path))) for read, way, path in zip(readers, steps, paths, strict=True)
        ]
        return decoded(columns, kept, schema=schema, paths=paths, rejected=rejected)

    def _messages(self, payloads: Sequence[bytes], kind: Any, rejected: list[Rejected]) -> tuple[list[Any], list[int]]:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

        parse, heads = kind.FromString, _heads(kind.DESCRIPTOR) if self.confluent else None
        bodies: list[tuple[int, bytes]] = []
        for index, payload in enumerate(payloads):
            body = payload if heads is None else _body(payload, heads)
            if body is None:
                rejected.append(Rejected(index, _misframed(payload, kind.DESCRIPTOR)))
            else:
                bodies.append((index, body))
        messages, kept = [], []
        for index, body in bodies:
            try:
                message = parse(body)
            except DecodeError as error:
                rejected.append(Rejected(index, f"no message '{kind.DESCRIPTOR.full_name}': {error}"))
                continue
            numbers = unknown_numbers(message) if self.unknown_fields == "reject" else []
            if numbers:
                rejected.append(
                    Rejected(index, f"message '{kind.DESCRIPTOR.full_name}' has no field of number {numbers[0]}")
                )
            else:
                messages.append(message)
                kept.append(index)
        return messages, kept

    def encode(self, rows: Iterable[Mapping[str, object]]) -> list[bytes]:
        """See `Decoder.encode`. A null in a field without presence has no place."""
        kind = message_class(self.message, self.descriptor)
        head = self._head(kind.DESCRIPTOR)
        ways: dict[str, list[Step]] = {}
        declared = dict(self.fields)
        payloads = []
        for index, row in enumerate(rows):
            message = kind()
            for column, value in plain_row(row, index).items():
                if column not in ways:
                    path = tuple(declared[column].split(".")) if column in declared else (column,)
                    ways[column] = steps_to(kind.DESCRIPTOR, path)
                try:
                    put(message, ways[column], value)
                except (ValueError, TypeError, AttributeError) as error:
                    raise InputError(f"row {index}: `{column}`: {error}") from error
            payloads.append(head + message.SerializeToString(deterministic=True))
        return payloads

    def _head(self, descriptor: Any) -> bytes:
        if not self.confluent:
            return b""
        if self.schema_id is None:
            raise InputError("`schema_id` must be given to write messages in Confluent's wire format")
        return b"\x00" + self.schema_id.to_bytes(4, "big") + _heads(descriptor)[0]


def protobuf(
    *,
    message: str,
    descriptor: bytes | str | FilePath | None = None,
    fields: Mapping[str, str] | None = None,
    confluent: bool = False,
    schema_id: int | None = None,
    unknown_fields: Literal["ignore", "reject"] = "ignore",
) -> ProtobufDecoder:
    """The decoder of Protobuf messages.

    Args:
        message: the type's full name in `descriptor`, `shop.Payment`; without one, the dotted path of a generated class,
            `shop_pb2.Payment`.
        descriptor: a FileDescriptorSet, as `protoc --include_imports --descriptor_set_out` writes it: its bytes, or the
            path of a file, read when it is first used.
        fields: column -> dotted path in the message, `{"amount": "payment.amount.value"}`; any other column comes from the
            field of its own name. Where a message on the way is not there, the column is null.
        confluent: whether byte 0, a schema id and the message's index stand before each message. The id is not looked up:
            Protobuf reads older and newer messages by field numbers.
        schema_id: the id to write.
        unknown_fields: what becomes of fields whose number the message type does not have: `ignore`, or `reject` the
            payload.
    """
    checked_choice(unknown_fields, among=("ignore", "reject"), why=_NOT_KEPT)
    return ProtobufDecoder(
        message=message,
        descriptor=FilePath(descriptor) if isinstance(descriptor, str) else descriptor,
        fields=declared_fields(fields),
        confluent=confluent,
        schema_id=schema_id,
        unknown_fields=unknown_fields,
    )


def _inside(levels: dict[Path, list[Any]], steps: Sequence[Step], path: Path) -> list[Any]:
    """The values at `path`; the messages on the way are kept in `levels` for the next path."""
    for end in range(1, len(path)):
        if path[:end] not in levels:
            levels[path[:end]] = steps[end - 1].inside(levels[path[: end - 1]])
    return steps[-1].inside(levels[path[:-1]])


def _heads(descriptor: Any) -> tuple[bytes, ...]:
    """What stands between schema id and message: how many indices, and those of the type in its file, as zigzag varints."""
    indices: list[int] = []
    kind = descriptor
    while kind is not None:
        outer = kind.containing_type
        siblings = list(descriptor.file.message_types_by_name.values()) if outer is None else list(outer.nested_types)
        indices.insert(0, [one.full_name for one in siblings].index(kind.full_name))
        kind = outer
    long = b"".join(map(_varint, [len(indices), *indices]))
    return (b"\x00", long) if indices == [0] else (long,)


def _varint(value: int) -> bytes:
    value <<= 1  # zigzag of what is not negative
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def _body(payload: bytes, heads: Sequence[bytes]) -> bytes | None:
    if len(payload) > HEAD and not payload[0]:
        for head in heads:
            if payload.startswith(head, HEAD):
                return payload[HEAD + len(head) :]
    return None


def _misframed(payload: bytes, descriptor: Any) -> str:
    if len(payload) < HEAD or payload[0]:
        return unframed(payload)
    schema_id = int.from_bytes(payload[1:HEAD], "big")
    return f"the message index after schema id {schema_id} is not that of '{descriptor.full_name}'"
