"""Judges a ledger: BOOTSTRAP INPUT OUTPUT. Prints how many rows the input has, and how the output differs from it.

Input: key, "seq,amount". Output: key, "seq,sum of the amounts up to it". Only what is committed is read.
"""

import json
import sys
from collections import Counter

from confluent_kafka import Consumer, KafkaError, TopicPartition

bootstrap, source, target = sys.argv[1:]


def rows(topic):
    """All committed rows as (key, number, number), in the order of each partition."""
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "judge", "isolation.level": "read_committed", "enable.auto.commit": False,
        "auto.offset.reset": "error", "enable.partition.eof": True, "check.crcs": True,
    })
    partitions = consumer.list_topics(topic, 30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    left = set(partitions)
    while left:
        message = consumer.poll(60)
        if message is None:
            raise SystemExit(f"{topic}: nothing for a minute")
        if message.error():
            if message.error().code() != KafkaError._PARTITION_EOF:
                raise SystemExit(f"{topic}: {message.error()}")
            left.discard(message.partition())
            continue
        first, second = message.value().split(b",")
        yield message.key(), int(first), int(second)
    consumer.close()


amounts = {}
for key, seq, amount in rows(source):
    amounts.setdefault(key, []).append((seq, amount))
truth = {}
for key, pairs in amounts.items():
    assert [seq for seq, _ in pairs] == list(range(1, len(pairs) + 1)), f"the input itself is wrong at {key}"
    total = 0
    for seq, amount in pairs:
        total += amount
        truth[key, seq] = total

found = Counter()
wrong = 0
for key, seq, total in rows(target):
    found[key, seq] += 1
    wrong += truth.get((key, seq), total) != total
print(json.dumps({
    "rows": len(truth),
    "lost": sum(row not in found for row in truth),
    "doubled": sum(count - 1 for count in found.values()),
    "unknown": sum(row not in truth for row in found),
    "wrong": wrong,
}))
