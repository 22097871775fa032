"""What confluent-kafka's client of a Schema Registry asks for, and its serializers, without any Kafka."""

import json
import sys

from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

client = SchemaRegistryClient({"url": sys.argv[1]})


def refused(code, call):
    try:
        answer = call()
    except SchemaRegistryError as error:
        assert error.error_code == code, (code, error)
        return error
    raise AssertionError(f"expected {code}, got {answer}")


def context(topic):
    return SerializationContext(topic, MessageField.VALUE)


USER = json.dumps({
    "type": "record", "name": "User", "namespace": "test",
    "fields": [{"name": "name", "type": "string"}, {"name": "age", "type": ["null", "int"], "default": None}],
})

# ---- Avro, without Kafka
serializer = AvroSerializer(client, USER)
data = serializer({"name": "Ada", "age": 36}, context("users"))
assert data[0] == 0
user_id = int.from_bytes(data[1:5], "big")
assert AvroDeserializer(SchemaRegistryClient({"url": sys.argv[1]}))(data, context("users")) == {"name": "Ada", "age": 36}

latest = client.get_latest_version("users-value")
assert (latest.schema_id, latest.version, latest.subject) == (user_id, 1, "users-value"), latest
assert json.loads(latest.schema.schema_str) == json.loads(USER)
assert client.get_schema(user_id, "users-value").schema_type == "AVRO"
found = client.lookup_schema("users-value", Schema(USER, "AVRO"))
assert (found.schema_id, found.version) == (user_id, 1)
assert client.register_schema("users-value", Schema(USER.replace(" ", ""), "AVRO")) == user_id
assert json.loads(client.get_schema_by_guid(latest.guid).schema_str) == json.loads(latest.schema.schema_str)

# ---- a serializer that takes the latest version
serializer = AvroSerializer(client, None, conf={"auto.register.schemas": False, "use.latest.version": True})
assert int.from_bytes(serializer({"name": "Bob", "age": None}, context("users"))[1:5], "big") == user_id

# ---- compatibility
narrower = json.dumps({"type": "record", "name": "User", "namespace": "test",
                       "fields": [{"name": "name", "type": "string"}, {"name": "mail", "type": "string"}]})
assert client.test_compatibility("users-value", Schema(narrower, "AVRO")) is False
assert client.test_compatibility_all_versions("users-value", Schema(USER, "AVRO")) is True
error = refused(409, lambda: client.register_schema("users-value", Schema(narrower, "AVRO")))
for part in ["READER_FIELD_MISSING_DEFAULT_VALUE", "'/fields/1: ", "'mail'", "oldSchemaVersion: 1", "BACKWARD"]:
    assert part in str(error), error
assert client.get_compatibility() == "BACKWARD"
client.set_compatibility("users-value", "FORWARD")
assert client.get_compatibility("users-value") == "FORWARD"
assert client.get_config("users-value").compatibility_level == "FORWARD"
second = client.register_schema("users-value", Schema(narrower, "AVRO"))
assert client.get_versions("users-value") == [1, 2]
client.delete_config("users-value")
refused(40408, lambda: client.get_compatibility("users-value"))

# ---- JSON
PERSON = json.dumps({
    "$schema": "http://json-schema.org/draft-07/schema#", "title": "Person", "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}}, "required": ["name"],
})
serializer = JSONSerializer(PERSON, client, to_dict=lambda value, _: value)
data = serializer({"name": "Eve", "age": 5}, context("persons"))
deserializer = JSONDeserializer(PERSON, from_dict=lambda value, _: value, schema_registry_client=client)
assert deserializer(data, context("persons")) == {"name": "Eve", "age": 5}
assert client.get_latest_version("persons-value").schema.schema_type == "JSON"

# ---- Protobuf, with an import that everybody has and one that is registered
part = descriptor_pb2.FileDescriptorProto(name="part.proto", package="test", syntax="proto3")
message = part.message_type.add(name="Part")
message.field.add(name="name", number=1, type=9, label=1, json_name="name")
file = descriptor_pb2.FileDescriptorProto(
    name="order.proto", package="test", syntax="proto3",
    dependency=["google/protobuf/timestamp.proto", "part.proto"])
message = file.message_type.add(name="Order")
message.field.add(name="at", number=1, type=11, label=1, type_name=".google.protobuf.Timestamp", json_name="at")
message.field.add(name="parts", number=2, type=11, label=3, type_name=".test.Part", json_name="parts")
entry = message.nested_type.add(name="CountsEntry")
entry.options.map_entry = True
entry.field.add(name="key", number=1, type=9, label=1, json_name="key")
entry.field.add(name="value", number=2, type=5, label=1, json_name="value")
message.field.add(name="counts", number=3, type=11, label=3, type_name=".test.Order.CountsEntry", json_name="counts")
pool = descriptor_pool.DescriptorPool()
timestamp = descriptor_pb2.FileDescriptorProto()
timestamp_pb2.DESCRIPTOR.CopyToProto(timestamp)
for one in [timestamp, part, file]:
    pool.Add(one)
Order = message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Order"))
serializer = ProtobufSerializer(Order, client)
order = Order(counts={"a": 1})
order.at.seconds = 7
order.parts.add(name="wheel")
data = serializer(order, context("orders"))
again = ProtobufDeserializer(Order, schema_registry_client=client)(data, context("orders"))
assert again == order, again
registered = client.get_latest_version("orders-value")
assert registered.schema.schema_type == "PROTOBUF"
assert [reference.name for reference in registered.schema.references] == ["part.proto"], registered
assert "map<string, int32> counts = 3;" in registered.schema.schema_str, registered.schema.schema_str
assert client.get_referenced_by(registered.schema.references[0].subject, 1) == [registered.schema_id]

# ---- references of Avro
address = json.dumps({"type": "record", "name": "Address", "namespace": "test", "fields": [{"name": "street", "type": "string"}]})
client.register_schema("address", Schema(address, "AVRO"))
house = json.dumps({"type": "record", "name": "House", "namespace": "test", "fields": [{"name": "at", "type": "test.Address"}]})
reference = SchemaReference("test.Address", "address", 1)
house_id = client.register_schema("house", Schema(house, "AVRO", [reference]))
assert client.get_schema(house_id).references == [reference]
refused(42206, lambda: client.delete_version("address", 1))
serializer = AvroSerializer(client, Schema(house, "AVRO", [reference]))
data = serializer({"at": {"street": "Main"}}, context("houses"))
assert AvroDeserializer(client)(data, context("houses")) == {"at": {"street": "Main"}}

# ---- subjects, versions, deleting
assert set(client.get_subjects()) >= {"users-value", "persons-value", "orders-value", "address", "house"}
assert client.get_subjects_by_schema_id(user_id) == ["users-value"]
assert [(v.subject, v.version) for v in client.get_schema_versions(user_id)] == [("users-value", 1)]
odd = "a/b:c d%ü"
client.register_schema(odd, Schema('"string"', "AVRO"))
assert client.get_versions(odd) == [1]
assert client.delete_version(odd, 1) == 1
refused(40401, lambda: client.get_latest_version(odd))
assert client.delete_version(odd, 1, permanent=True) == 1
assert client.delete_subject("persons-value") == [1]
refused(40404, lambda: client.delete_subject("persons-value"))
assert "persons-value" in client.get_subjects(deleted=True)
assert client.delete_subject("persons-value", permanent=True) == [1]
refused(40401, lambda: client.get_versions("persons-value"))
refused(40403, lambda: client.get_schema(999_999))
refused(42202, lambda: client.get_version("users-value", 0))
refused(42201, lambda: client.register_schema("bad", Schema("{", "AVRO")))

# ---- modes and contexts
assert client.get_global_mode() == "READWRITE"
client.update_mode("users-value", "READONLY")
assert client.get_mode("users-value") == "READONLY"
refused(42205, lambda: client.register_schema("users-value", Schema('"int"', "AVRO")))
client.register_schema(":.other:thing", Schema('"long"', "AVRO"))
assert client.get_contexts() == [".", ".other"]
assert ":.other:thing" in client.get_subjects()
print("ok")
