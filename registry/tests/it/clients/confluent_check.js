// What Confluent's JavaScript client asks of a registry, its serializers, and those of the KafkaJS client, without Kafka.
const assert = require('node:assert');
const { create, createFileRegistry, createMutableRegistry, fromBinary } = require('@bufbuild/protobuf');
const { FileDescriptorProtoSchema } = require('@bufbuild/protobuf/wkt');
const {
  AvroDeserializer, AvroSerializer, Compatibility, JsonDeserializer, JsonSerializer, ProtobufDeserializer, ProtobufSerializer,
  RestError, SchemaRegistryClient, SerdeType,
} = require('@confluentinc/schemaregistry');

const url = process.argv[2];
const connected = () => new SchemaRegistryClient({ baseURLs: [url], maxRetries: 0 });
const client = connected();

async function refused(code, call) {
  try {
    await call();
  } catch (error) {
    assert.ok(error instanceof RestError, error);
    assert.strictEqual(error.errorCode, code, error.message);
    return;
  }
  assert.fail(`expected ${code}`);
}

const USER = JSON.stringify({
  type: 'record', name: 'User', namespace: 'test',
  fields: [{ name: 'name', type: 'string' }, { name: 'age', type: ['null', 'int'], default: null }],
});

async function avro() {
  const id = await client.register('users-value', { schemaType: 'AVRO', schema: USER }, false);
  const serializer = new AvroSerializer(client, SerdeType.VALUE, { useLatestVersion: true });
  const message = await serializer.serialize('users', { name: 'Ada', age: 36 });
  assert.strictEqual(message.readInt32BE(1), id);
  const decoded = await new AvroDeserializer(connected(), SerdeType.VALUE, {}).deserialize('users', message);
  assert.strictEqual(decoded.name, 'Ada');
  const derived = new AvroSerializer(client, SerdeType.VALUE, { autoRegisterSchemas: true });
  const other = await derived.serialize('derived', { a: 'x', n: 1 });
  assert.strictEqual((await new AvroDeserializer(connected(), SerdeType.VALUE, {}).deserialize('derived', other)).a, 'x');

  const latest = await client.getLatestSchemaMetadata('users-value');
  assert.deepStrictEqual([latest.id, latest.version, latest.subject], [id, 1, 'users-value']);
  assert.deepStrictEqual(JSON.parse((await connected().getByGuid(latest.guid)).schema), JSON.parse(USER));
  assert.deepStrictEqual(JSON.parse((await connected().getBySubjectAndId('users-value', id)).schema), JSON.parse(USER));
  assert.strictEqual(await connected().getId('users-value', { schemaType: 'AVRO', schema: USER }, false), id);
  assert.strictEqual(await connected().getVersion('users-value', { schemaType: 'AVRO', schema: USER }, false, false), 1);
  const narrower = USER.replace('"int"', '"string"').replace('"name":"age"', '"name":"mail"').replace(',"default":null', '');
  assert.strictEqual(await client.testSubjectCompatibility('users-value', { schemaType: 'AVRO', schema: narrower }), false);
  assert.strictEqual(await client.testCompatibility('users-value', 1, { schemaType: 'AVRO', schema: USER }), true);
  await refused(409, () => client.register('users-value', { schemaType: 'AVRO', schema: narrower }, false));
  const tagged = { schemaType: 'AVRO', schema: USER, metadata: { properties: { owner: 'me' } } };
  await client.register('users-value', tagged, false);
  assert.strictEqual((await client.getLatestWithMetadata('users-value', { owner: 'me' }, false)).version, 2);
}

async function json() {
  const schema = JSON.stringify({ type: 'object', properties: { a: { type: 'string' } }, required: ['a'] });
  await client.register('objects-value', { schemaType: 'JSON', schema }, false);
  const serializer = new JsonSerializer(client, SerdeType.VALUE, { useLatestVersion: true, validate: true });
  const message = await serializer.serialize('objects', { a: 'x' });
  const deserializer = new JsonDeserializer(connected(), SerdeType.VALUE, { validate: true });
  assert.deepStrictEqual(await deserializer.deserialize('objects', message), { a: 'x' });
  await assert.rejects(serializer.serialize('objects', { a: 1 }));
}

async function protobuf() {
  const part = 'syntax = "proto3"; package p; message Part { int64 n = 1; }';
  await client.register('part.proto', { schemaType: 'PROTOBUF', schema: part }, false);
  const text = 'syntax = "proto3"; package p; import "part.proto"; message Other { string s = 1; } '
    + 'message Whole { message Inner { bool b = 1; } Part part = 1; map<string, int32> m = 2; Inner inner = 3; }';
  const references = [{ name: 'part.proto', subject: 'part.proto', version: 1 }];
  const id = await client.register('wholes-value', { schemaType: 'PROTOBUF', schema: text, references }, false);
  // As descriptors: what the serializer asks for itself, and what it registers.
  const described = async (subject) => {
    const { schema } = await connected().getSchemaMetadata(subject, 1, false, 'serialized');
    return fromBinary(FileDescriptorProtoSchema, Buffer.from(schema, 'base64'));
  };
  const whole = Object.assign(await described('wholes-value'), { name: 'whole.proto' });
  const files = { 'part.proto': Object.assign(await described('part.proto'), { name: 'part.proto' }) };
  const registry = createFileRegistry(whole, (name) => files[name]);
  const type = registry.getMessage('p.Whole');
  const value = create(type, { part: { n: 7n }, m: { k: 1 }, inner: { b: true } });
  const messages = createMutableRegistry(registry);
  const serializer = new ProtobufSerializer(client, SerdeType.VALUE, { useLatestVersion: true, registry: messages });
  const message = await serializer.serialize('wholes', value);
  assert.strictEqual(message.readInt32BE(1), id);
  const decoded = await new ProtobufDeserializer(connected(), SerdeType.VALUE, {}).deserialize('wholes', message);
  assert.deepStrictEqual([decoded.part.n, decoded.m.k, decoded.inner.b], [7n, 1, true]);
  // It registers descriptors in base64, with references to those that they import.
  const registering = new ProtobufSerializer(client, SerdeType.VALUE, { autoRegisterSchemas: true, registry: messages });
  const again = await registering.serialize('again', value);
  const back = await new ProtobufDeserializer(connected(), SerdeType.VALUE, {}).deserialize('again', again);
  assert.strictEqual(back.part.n, 7n);
  assert.match((await client.getLatestSchemaMetadata('again-value')).schema, /message Whole/);
}

async function kafkajs() {
  const { SchemaRegistry, SchemaType } = require('@kafkajs/confluent-schema-registry');
  const [one, other] = [new SchemaRegistry({ host: url }), new SchemaRegistry({ host: url })];
  const schema = USER.replace('User', 'Js');
  const { id } = await one.register({ type: SchemaType.AVRO, schema }, { subject: 'js-avro' });
  assert.strictEqual((await other.decode(await one.encode(id, { name: 'x', age: null }))).name, 'x');
  assert.strictEqual(await one.getLatestSchemaId('js-avro'), id);
  assert.strictEqual(await one.getRegistryIdBySchema('js-avro', { type: SchemaType.AVRO, schema }), id);
  const object = JSON.stringify({ type: 'object', properties: { a: { type: 'string' } } });
  const json = await one.register({ type: SchemaType.JSON, schema: object }, { subject: 'js-json' });
  assert.deepStrictEqual(await other.decode(await one.encode(json.id, { a: 'y' })), { a: 'y' });
  const text = 'syntax = "proto3"; package p; message M { string a = 1; oneof o { int32 x = 3; string y = 4; } }';
  const proto = await one.register({ type: SchemaType.PROTOBUF, schema: text }, { subject: 'js-proto' });
  assert.strictEqual((await other.decode(await one.encode(proto.id, { a: 'z', y: 'q' }))).y, 'q');
}

async function subjects() {
  assert.strictEqual(await client.getDefaultCompatibility(), Compatibility.BACKWARD);
  assert.strictEqual(await client.updateCompatibility('users-value', Compatibility.FULL), Compatibility.FULL);
  assert.strictEqual(await client.getCompatibility('users-value'), Compatibility.FULL);
  const config = await client.updateConfig('users-value', { compatibility: Compatibility.NONE, normalize: true });
  assert.strictEqual(config.normalize, true);
  assert.deepStrictEqual(await client.getAllVersions('users-value'), [1, 2]);
  assert.ok((await client.getAllSubjects()).includes('wholes-value'));
  await refused(40401, () => connected().getLatestSchemaMetadata('nothing'));
  await refused(40402, () => connected().getSchemaMetadata('users-value', 99, false));
  await refused(42201, () => client.register('wrong', { schemaType: 'AVRO', schema: '{"type":"record"}' }, false));
  assert.strictEqual(await client.deleteSubjectVersion('users-value', 1, false), 1);
  assert.deepStrictEqual(await client.deleteSubject('users-value', false), [2]);
  assert.deepStrictEqual(await client.deleteSubject('users-value', true), [1, 2]);
}

(async () => {
  for (const check of [avro, json, protobuf, kafkajs, subjects]) {
    await check();
  }
  console.log('ok');
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
