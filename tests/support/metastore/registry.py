"""Confluent's client and its Avro serializer against a registry: `put` writes, `get` reads what was written."""

import sys

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

url, task = sys.argv[1:3]
client = SchemaRegistryClient({"url": url})
context = SerializationContext("orders", MessageField.VALUE)
text = '{"type": "record", "name": "Order", "fields": [{"name": "id", "type": "long"}]}'
if task == "put":
    message = AvroSerializer(client, text)({"id": 7}, context)
    print(message.hex())
else:
    message = bytes.fromhex(sys.argv[3])
    assert AvroDeserializer(client)(message, context) == {"id": 7}
    assert client.get_subjects() == ["orders-value"]
    latest = client.get_latest_version("orders-value")
    assert (latest.version, latest.schema_id) == (1, int.from_bytes(message[1:5], "big")), latest
    wider = text.replace('"long"}', '"long"}, {"name": "note", "type": "string"}')
    assert not client.test_compatibility("orders-value", Schema(wider, "AVRO"))
    print("ok")
