"""Media types: what a body is read as, and what an answer is written as."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from feature_store.serving.problem import Problem

if TYPE_CHECKING:
    import pyarrow as pa

JSON, MSGPACK, ARROW = "application/json", "application/msgpack", "application/vnd.apache.arrow.stream"
READ = (JSON, MSGPACK)
"""Of bodies."""
WRITTEN = (JSON, MSGPACK)
"""Of answers about one row; those about many are also written as ARROW."""

encode: dict[str, Callable[[object], bytes]] = {JSON: msgspec.json.encode, MSGPACK: msgspec.msgpack.encode}


def body_type(header: str | None, *, default: str = JSON) -> str:
    """What the header Content-Type names.

    Args:
        header: of the request.
        default: what is taken without one; '' where it must be there: a page in a browser can post what has none anywhere.

    Raises:
        Problem: another type.
    """
    named = (header or default).partition(";")[0].strip().lower()
    if named not in READ:
        raise Problem(
            "unsupported-media-type", f"`Content-Type` must be {_listed(READ)}, got '{named}'", {"offered": READ}
        )
    return named


def answer_type(header: str | None, offered: Sequence[str] = WRITTEN) -> str:
    """The one of the offered types that the header Accept wants most; the first without one.

    Raises:
        Problem: it wants none of them.
    """
    if header is None or header == offered[0]:
        return offered[0]
    wanted = []
    for number, part in enumerate(header.lower().split(",")):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((_quality(each[2:]) for each in parameters if each.startswith("q=")), 1.0)
        if quality > 0:
            wanted.append((-quality, number, name))
    for _, _, name in sorted(wanted):
        for each in offered:
            if name in (each, "*/*", f"{each.partition('/')[0]}/*"):
                return each
    raise Problem(
        "not-acceptable", f"`Accept` must name {_listed(offered)}, got '{header}'", {"offered": list(offered)}
    )


def arrow_stream(table: pa.Table) -> bytes:
    """A table as an Arrow IPC stream."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _listed(names: Sequence[str]) -> str:
    return " or ".join(names)
