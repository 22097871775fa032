"""Another client of Kafka for tests of stream jobs: makes topics, writes rows, reads what is committed.

    streams.py BOOTSTRAP topic NAME PARTITIONS
    streams.py BOOTSTRAP topics               the names of all topics
    streams.py BOOTSTRAP grow NAME PARTITIONS
    streams.py BOOTSTRAP delete NAME          and waits until it is gone
    streams.py BOOTSTRAP remake NAME PARTITIONS
    streams.py BOOTSTRAP put TOPIC            rows from standard input: partition, key, value, with tabs between; empty is none;
                                              pairs of headers may follow, as JSON
    streams.py BOOTSTRAP read TOPIC COUNT     rows as lines of JSON, until there are so many or a minute is over; a second more
                                              is waited for rows that should not be there
    streams.py BOOTSTRAP read TOPIC all       rows up to the end that each partition has now
    streams.py BOOTSTRAP open TOPIC           how many messages of its first partition no transaction has decided on
    streams.py BOOTSTRAP forbid USER TOPIC    an ACL; `allow` takes it back
"""

import json
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import IsolationLevel
from confluent_kafka.admin import (
    AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AdminClient, NewPartitions, NewTopic, OffsetSpec,
    ResourcePatternType, ResourceType,
)

PATIENCE_S = 60
SETTLE_S = 1
CODECS = ["zstd", "lz4", "gzip", "snappy", "none"]


def make(bootstrap, name, partitions):
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.create_topics([NewTopic(name, int(partitions), 1)])[name].result()


def names(bootstrap):
    for name in AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=10).topics:
        print(name)


def delete(bootstrap, name):
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.delete_topics([name])[name].result()
    deadline = time.monotonic() + PATIENCE_S
    while name in client.list_topics(timeout=10).topics:
        if time.monotonic() > deadline:
            raise SystemExit("the topic does not go")
        time.sleep(0.05)


def remake(bootstrap, name, partitions):
    delete(bootstrap, name)
    make(bootstrap, name, partitions)


def undecided(bootstrap, topic):
    client = AdminClient({"bootstrap.servers": bootstrap})
    place = TopicPartition(topic, 0)

    def end(level):
        [answer] = client.list_offsets({place: OffsetSpec.latest()}, isolation_level=level).values()
        return answer.result().offset

    print(end(IsolationLevel.READ_UNCOMMITTED) - end(IsolationLevel.READ_COMMITTED))


def forbid(bootstrap, user, topic):
    rule = AclBinding(ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, f"User:{user}", "*", AclOperation.ALL,
                      AclPermissionType.DENY)
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.create_acls([rule])[rule].result()


def allow(bootstrap, user, topic):
    rule = AclBindingFilter(ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, f"User:{user}", "*",
                            AclOperation.ALL, AclPermissionType.DENY)
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.delete_acls([rule])[rule].result()


def grow(bootstrap, name, partitions):
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.create_partitions([NewPartitions(name, int(partitions))])[name].result()
    deadline = time.monotonic() + PATIENCE_S
    while len(client.list_topics(name, 10).topics[name].partitions) < int(partitions):
        if time.monotonic() > deadline:
            raise SystemExit("the partitions do not come")
        time.sleep(0.05)


def put(bootstrap, topic):
    # Each partition is written with another codec, so that all of them are read.
    producers = [Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 20, "compression.type": codec})
                 for codec in CODECS]
    for line in sys.stdin:
        partition, key, value, *headers = line.rstrip("\n").split("\t")
        producer = producers[int(partition) % len(producers)]
        more = {"headers": [tuple(pair) for pair in json.loads(headers[0])]} if headers else {}
        while True:
            try:
                producer.produce(topic, value or None, key or None, int(partition), **more)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if any(producer.flush(PATIENCE_S) for producer in producers):
        raise SystemExit("rows are not delivered")


def read(bootstrap, topic, count):
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": f"judge-{time.time()}", "isolation.level": "read_committed",
        "enable.auto.commit": False, "auto.offset.reset": "earliest", "enable.partition.eof": True,
    })
    partitions = consumer.list_topics(topic, 10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    deadline, rows, ended = time.monotonic() + PATIENCE_S, 0, set()
    while time.monotonic() < deadline:
        message = consumer.poll(0.1)
        if message is None:
            continue
        if message.error() and message.error().code() == KafkaError._PARTITION_EOF:
            ended.add(message.partition())
            if count == "all" and len(ended) == len(partitions):
                break
            continue
        if message.error():
            raise KafkaException(message.error())
        text = lambda data: None if data is None else data.decode()
        print(json.dumps({
            "partition": message.partition(), "offset": message.offset(), "key": text(message.key()),
            "value": text(message.value()), "timestamp": message.timestamp()[1],
            "headers": [[name, text(value)] for name, value in message.headers() or []],
        }))
        rows += 1
        if count != "all" and rows == int(count):
            deadline = time.monotonic() + SETTLE_S
    consumer.close()


if __name__ == "__main__":
    bootstrap, what, *arguments = sys.argv[1:]
    {
        "topic": make, "topics": names, "grow": grow, "delete": delete, "remake": remake, "put": put, "read": read,
        "open": undecided, "forbid": forbid, "allow": allow,
    }[what](bootstrap, *arguments)
