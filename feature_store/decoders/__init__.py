"""How a log record's payload becomes a row, and a row a payload. A payload that does not fit costs only itself."""

from feature_store.decoders.avro_records import AvroDecoder, avro
from feature_store.decoders.compression import CompressedDecoder, compressed
from feature_store.decoders.confluent import ConfluentAvroDecoder, confluent_avro
from feature_store.decoders.json_objects import JsonDecoder, json
from feature_store.decoders.protobuf_messages import ProtobufDecoder, protobuf
from feature_store.decoders.protocol import ROW, Decoded, Decoder, Rejected

__all__ = [
    "ROW",
    "AvroDecoder",
    "CompressedDecoder",
    "ConfluentAvroDecoder",
    "Decoded",
    "Decoder",
    "JsonDecoder",
    "ProtobufDecoder",
    "Rejected",
    "avro",
    "compressed",
    "confluent_avro",
    "json",
    "protobuf",
]
