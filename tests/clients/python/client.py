"""redis-py in cluster mode: client.py HOST PORT KEYS."""

import sys

from redis.cluster import RedisCluster

host, port, keys = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
client = RedisCluster(host=host, port=port, decode_responses=True)
for number in range(keys):
    client.set(f"redis-py:{number}", number)
for number in range(keys):
    value = client.get(f"redis-py:{number}")
    assert value == str(number), f"key {number} is {value!r}"

# A pipeline goes to all shards at once.
pipeline = client.pipeline()
for number in range(100):
    pipeline.incr(f"redis-py:counter:{number}")
assert all(reply >= 1 for reply in pipeline.execute())

print("ok", keys, len(client.get_primaries()))
