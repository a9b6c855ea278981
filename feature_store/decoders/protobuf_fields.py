"""A Protobuf message type, and its fields as columns."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter, methodcaller
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from feature_store.decoders.columns import arrow_family
from feature_store.decoders.paths import Path, dotted
from feature_store.errors import InputError, unknown_name

if TYPE_CHECKING:
    import pyarrow as pa

TIMESTAMP = "google.protobuf.Timestamp"
_INTEGER, _FLOAT = ("integer", "float", "decimal"), ("float",)
_FITS = {  # google.protobuf.descriptor.FieldDescriptor.CPPTYPE_* -> what a column of it may be; the rest is looked at
    1: _INTEGER,
    2: _INTEGER,
    3: _INTEGER,
    4: _INTEGER,
    5: _FLOAT,
    6: _FLOAT,
    7: ("boolean",),
    8: ("string", "integer"),  # an enum's value by its name or its number
}
_TYPE_BYTES, _CPPTYPE_ENUM, _CPPTYPE_STRING = 12, 8, 9
_WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799  # the years 1 to 9999, as the Timestamp type itself is bounded


@lru_cache(maxsize=256)
def message_class(message: str, descriptor: bytes | FilePath | None) -> Any:
    """The class of a message type: of a FileDescriptorSet, or, without one, the generated class of a dotted path.

    Raises:
        InputError: there is none.
    """
    protobuf_library()
    from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]

    if descriptor is None:
        try:
            found = pkgutil.resolve_name(message)
        except (ImportError, AttributeError, ValueError) as error:
            raise InputError(f"`message` must be a generated message class, '{message}' is none: {error}") from error
        if not (isinstance(found, type) and issubclass(found, Message)):
            raise InputError(f"`message` must be a generated message class, '{message}' is {found!r}")
        return found
    try:
        data = descriptor.read_bytes() if isinstance(descriptor, FilePath) else descriptor
        return _class_in(data, message)
    except (OSError, DecodeError, TypeError) as error:
        raise InputError(f"`descriptor` must be a FileDescriptorSet with all that it imports: {error}") from error


def _class_in(data: bytes, message: str) -> Any:
    from google.protobuf import descriptor_pool, message_factory  # type: ignore[import-untyped]
    from google.protobuf.descriptor_pb2 import FileDescriptorSet  # type: ignore[import-untyped]

    pool = descriptor_pool.DescriptorPool()
    files = {file.name: file for file in FileDescriptorSet.FromString(data).file}
    names: list[str] = []

    def add(name: str) -> None:
        file = files.pop(name, None)
        if file is None:
            return
        for imported in file.dependency:
            if imported not in files and imported.startswith("google/protobuf/"):
                files.update(_well_known(imported, [*names, *files]))
            add(imported)
        pool.AddSerializedFile(file.SerializeToString())
        names.append(name)

    for name in list(files):
        add(name)
    try:
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(message))
    except KeyError:
        known = [kind.full_name for name in names for kind in pool.FindFileByName(name).message_types_by_name.values()]
        raise InputError(unknown_name("message", message, known)) from None


def _well_known(name: str, present: Sequence[str]) -> dict[str, Any]:
    """The library's own file of this name, for a set that was written without its imports."""
    import importlib

    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    if name in present:
        return {}
    try:
        module = importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
    except ModuleNotFoundError:
        return {}
    return {name: FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)}


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A field on the way to a value, or the value's own."""

    field: Any
    """Its descriptor."""

    @property
    def repeated(self) -> bool:
        """Whether it is a list (or a map)."""
        known = getattr(self.field, "is_repeated", None)  # since 6.31, which deprecates `label`
        return bool(self.field.label == 3 if known is None else known)

    @property
    def wraps(self) -> str:
        """The full name of the message type in it, empty for other types."""
        return "" if self.field.message_type is None else str(self.field.message_type.full_name)

    @property
    def kind(self) -> str:
        """The type as a `.proto` file writes it."""
        return ("repeated " if self.repeated else "") + (self.wraps or _said(self.field))

    @property
    def wire(self) -> str:
        """The type, and whether the payload says that nothing was given."""
        return f"optional {self.kind}" if self.has_presence else self.kind

    @property
    def has_presence(self) -> bool:
        """Whether it says that nothing was given, apart from the type's default."""
        return bool(self.field.has_presence)

    def inside(self, messages: Sequence[Any]) -> list[Any]:
        """Its value in each message; None where there is no message, or nothing was given."""
        get: Callable[[Any], Any] = attrgetter(self.field.name)
        has = methodcaller("HasField", self.field.name) if self.has_presence else lambda _: True
        if None not in messages and (not self.has_presence or all(map(has, messages))):
            return list(map(get, messages))
        return [get(one) if one is not None and has(one) else None for one in messages]


def steps_to(descriptor: Any, path: Path) -> list[Step]:
    """The fields on the way from a message type to a value.

    Raises:
        InputError: there is no such field, or it lies in a list.
    """
    steps: list[Step] = []
    for depth, name in enumerate(path):
        place = descriptor if not steps else steps[-1].field.message_type
        if place is None or (steps and steps[-1].repeated) or name not in place.fields_by_name:
            known = f" (known: {', '.join(place.fields_by_name)})" if place is not None else ""
            raise InputError(f"message '{descriptor.full_name}' has no field `{dotted(path[: depth + 1])}`{known}")
        steps.append(Step(place.fields_by_name[name]))
    return steps


def leaf_reader(step: Step, field: pa.Field, *, place: str) -> Callable[[list[Any]], Iterable[object]]:
    """What makes Arrow's values of a field's values.

    Raises:
        InputError: they are of another kind than the column's; `place` says where they are.
    """
    family = arrow_family(field.type)
    item = field.type.value_type if step.repeated and family == "list" else field.type
    if step.repeated == (family == "list") and _fits(step, arrow_family(item)):
        if step.wraps == TIMESTAMP:
            return _times(_UNITS[item.unit])
        if step.wraps in _WRAPPERS:
            return lambda values: [None if value is None else value.value for value in values]
        if step.field.cpp_type == _CPPTYPE_ENUM and arrow_family(item) == "string":
            return _names(step)
        return (lambda values: [None if value is None else list(value) for value in values]) if step.repeated else list
    raise InputError(f"column '{field.name}' has type {field.type}, but {place} is `{step.kind}`")


def _fits(step: Step, family: str) -> bool:
    if step.wraps == TIMESTAMP:
        return not step.repeated and family == "time"
    if step.wraps in _WRAPPERS:
        return not step.repeated and _fits(Step(step.field.message_type.fields_by_name["value"]), family)
    if step.field.cpp_type == _CPPTYPE_STRING:
        return family == ("binary" if step.field.type == _TYPE_BYTES else "string")
    return family in _FITS.get(step.field.cpp_type, ())


def _said(field: Any) -> str:
    names = {value: name for name, value in vars(type(field)).items() if name.startswith("TYPE_")}
    return str(names.get(field.type, field.type)).removeprefix("TYPE_").lower()


def _names(step: Step) -> Callable[[list[Any]], Iterable[object]]:
    names = {value.number: value.name for value in step.field.enum_type.values}
    if step.repeated:
        return lambda values: [None if value is None else [names.get(one, one) for one in value] for value in values]
    return lambda values: [names.get(value, value) for value in values]  # a number without a name fits no text column


def _times(per_second: int) -> Callable[[list[Any]], Iterable[object]]:
    nanos_per_tick = 10**9 // per_second

    def tick(value: Any) -> object:
        if value is None or not (_FIRST_S <= value.seconds <= _LAST_S and 0 <= value.nanos < 10**9):
            return value  # what is no time fits no time column
        return value.seconds * per_second + value.nanos // nanos_per_tick

    def ticks(values: list[Any]) -> list[object]:
        if None in values or not values:
            return list(map(tick, values))
        seconds, nanos = (list(map(attrgetter(name), values)) for name in ("seconds", "nanos"))
        if min(seconds) < _FIRST_S or max(seconds) > _LAST_S or min(nanos) < 0 or max(nanos) >= 10**9:
            return list(map(tick, values))
        return [second * per_second + nano // nanos_per_tick for second, nano in zip(seconds, nanos, strict=True)]

    return ticks


def put(message: Any, steps: Sequence[Step], value: object) -> None:
    """Set a field of a message.

    Raises:
        ValueError, TypeError: it cannot hold the value.
    """
    *outer, step = steps
    if value is None and not step.has_presence:
        raise ValueError("must not be null: the field cannot say that nothing was given, declare it `optional`")
    if value is None:
        return
    for one in outer:
        message = getattr(message, one.field.name)
    name = step.field.name
    if step.wraps == TIMESTAMP:
        getattr(message, name).FromDatetime(value)
    elif step.wraps in _WRAPPERS:
        getattr(message, name).value = value
        getattr(message, name).SetInParent()
    elif step.repeated and isinstance(value, list):
        getattr(message, name).extend(_number(step, one) for one in value)
    else:
        setattr(message, name, _number(step, value))


def _number(step: Step, value: object) -> object:
    if step.field.cpp_type != _CPPTYPE_ENUM or not isinstance(value, str):
        return value
    found = step.field.enum_type.values_by_name.get(value)
    if found is None:
        raise ValueError(unknown_name("value", value, list(step.field.enum_type.values_by_name)))
    return found.number


def unknown_numbers(message: Any) -> list[int]:
    """The numbers of fields that a message has and its type does not."""
    from google.protobuf.unknown_fields import UnknownFieldSet  # type: ignore[import-untyped]

    return [field.field_number for field in UnknownFieldSet(message)]


def protobuf_library() -> None:
    """Raises ImportError if it is not installed; names the extra."""
    try:
        import google.protobuf  # type: ignore[import-untyped]  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError("Protobuf payloads need protobuf: install feature-store[protobuf]") from error
