"""Payloads that are compressed one by one, around any other decoder; what a log compresses, it unpacks itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from feature_store.decoders.protocol import ROW, Decoded, Decoder, Rejected
from feature_store.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

Codec = Literal["gzip", "zstd", "lz4", "brotli", "bz2"]


@dataclass(frozen=True, slots=True)
class CompressedDecoder:
    """Unpacks each payload by Arrow's codecs before `decoder` reads it."""

    decoder: Decoder
    codec: Codec
    max_bytes: int

    def decode(self, payloads: Sequence[bytes], schema: pa.Schema) -> Decoded:
        """See `Decoder.decode`."""
        import pyarrow as pa

        bodies, kept, rejected = [], [], []
        for index, payload in enumerate(payloads):
            try:
                with pa.CompressedInputStream(pa.BufferReader(payload), self.codec) as stream:
                    body = stream.read(self.max_bytes + 1)
            except (OSError, ValueError) as error:
                rejected.append(Rejected(index, f"no {self.codec} payload: {error}"))
                continue
            if len(body) > self.max_bytes:
                rejected.append(Rejected(index, f"more than {self.max_bytes} bytes when unpacked"))
                continue
            bodies.append(body)
            kept.append(index)
        found = self.decoder.decode(bodies, schema)
        rejected += [Rejected(kept[row], reason) for row, reason in found.rejected]
        rows = pa.array(kept, pa.int64()).take(found.table.column(ROW).combine_chunks())
        number = found.table.schema.get_field_index(ROW)
        table = found.table.set_column(number, found.table.schema.field(number), rows)
        return Decoded(table=table, rejected=sorted(rejected))

    def encode(self, rows: Iterable[Mapping[str, object]]) -> list[bytes]:
        """See `Decoder.encode`."""
        import pyarrow as pa

        return [pa.compress(payload, codec=self.codec, asbytes=True) for payload in self.decoder.encode(rows)]


def compressed(decoder: Decoder, *, codec: Codec, max_bytes: int = 16_000_000) -> CompressedDecoder:
    """The decoder of payloads that are compressed one by one.

    Args:
        decoder: what reads them once they are unpacked.
        codec: one of gzip, zstd, lz4 (frames), brotli, bz2.
        max_bytes: how large a payload may be when it is unpacked; a larger one is rejected, unread beyond.
    """
    if codec not in get_args(Codec):
        raise InputError(f"`codec` must be one of {', '.join(get_args(Codec))}, got '{codec}'")
    return CompressedDecoder(decoder, codec, max_bytes)
