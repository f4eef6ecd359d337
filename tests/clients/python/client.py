"""redis-py in cluster mode: client.py HOST PORT KEYS [SECONDS]."""

import sys
import time

from redis.cluster import RedisCluster
from redis.exceptions import RedisError


def once(client, keys):
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
    print("ok", keys, len(client.get_primaries()), flush=True)


def on_and_on(client, keys, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        errors = 0
        value = str(time.monotonic_ns())
        for number in range(keys):
            key = f"redis-py:loop:{number}"
            try:
                client.set(key, value)
                assert client.get(key) == value, f"{key} was not kept"
            except (RedisError, OSError, AssertionError) as error:
                errors += 1
                print(f"{key}: {error!r}", file=sys.stderr, flush=True)
        print("pass", errors, flush=True)
        time.sleep(0.05)


def main():
    host, port, keys = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    client = RedisCluster(host=host, port=port, decode_responses=True)
    once(client, keys)
    if len(sys.argv) > 4:
        on_and_on(client, keys, float(sys.argv[4]))


main()
