"""redis-py in cluster mode: client.py HOST PORT KEYS [SECONDS], or HOST PORT types RESP."""

import os
import sys
import threading
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


def same(got, wanted):
    assert got == wanted, f"{got!r} is not {wanted!r}"


def scored(members):
    """Pairs are tuples in RESP2 and lists in RESP3."""
    return [(member, score) for member, score in members]


def types(client, other):
    name = "redis-py:{0}:{1}".format
    for number in range(20):
        key = name("hash", number)
        client.delete(key)
        same(client.hset(key, mapping={"name": "Ann", "visits": 1, "gone": "soon"}), 3)
        same(client.hincrby(key, "visits", 4), 5)
        same(client.hmget(key, "name", "visits", "none"), ["Ann", "5", None])
        same(client.hdel(key, "gone"), 1)
        same(client.hgetall(key), {"name": "Ann", "visits": "5"})
        same(sorted(client.hkeys(key)), ["name", "visits"])
        same(dict(client.hscan_iter(key)), {"name": "Ann", "visits": "5"})
        same(client.hexpire(key, 100, "name", "none"), [1, -2])
        assert 98 <= client.httl(key, "name")[0] <= 100
        same(client.hpersist(key, "name"), [1])
        same(client.httl(key, "name", "none"), [-1, -2])
        same(client.hpexpire(key, 1, "visits"), [1])
        time.sleep(0.02)
        same(client.hgetall(key), {"name": "Ann"})

        key = name("list", number)
        client.delete(key)
        same(client.rpush(key, "b", "c"), 2)
        same(client.lpush(key, "a"), 3)
        same(client.lrange(key, 0, -1), ["a", "b", "c"])
        same(list(client.blpop(key, timeout=1)), [key, "a"])
        same(client.lpop(key, 5), ["b", "c"])
        push = threading.Timer(0.05, other.rpush, (key, "late"))
        push.start()
        same(list(client.brpop([key], timeout=10)), [key, "late"])
        push.join()
        same(client.blpop(key, timeout=0.01), None)

        key = name("set", number)
        client.delete(key)
        same(client.sadd(key, "1", "2", "3"), 3)
        same(client.smembers(key), {"1", "2", "3"})
        same(client.sismember(key, "2"), 1)
        same([bool(is_held) for is_held in client.smismember(key, ["2", "9"])], [True, False])
        same(set(client.sscan_iter(key)), {"1", "2", "3"})
        same(client.sort(key, desc=True), ["3", "2", "1"])
        same(client.sort(key, start=1, num=1), ["2"])
        same(client.srem(key, "1"), 1)
        assert client.spop(key) in {"2", "3"}

        key = name("zset", number)
        client.delete(key)
        same(client.zadd(key, {"one": 1, "two": 2.5, "three": 3}), 3)
        same(client.zscore(key, "two"), 2.5)
        same(client.zincrby(key, 1, "one"), 2.0)
        same(scored(client.zrange(key, 0, -1, withscores=True)), [("one", 2.0), ("two", 2.5), ("three", 3.0)])
        same(client.zrangebyscore(key, 2.1, "+inf"), ["two", "three"])
        same(client.zrank(key, "three"), 2)
        same(dict(client.zscan_iter(key)), {"one": 2.0, "two": 2.5, "three": 3.0})
        same(client.zremrangebyrank(key, 2, 2), 1)
        same(list(client.bzpopmin(key, timeout=1)), [key, "one", 2.0])
        # Keys of one slot.
        one, two, both = (f"redis-py:{{{number}}}:{part}" for part in ("one", "two", "both"))
        client.delete(one, two, both)
        client.sadd(one, "a", "b")
        client.sadd(two, "b", "c")
        same(client.sinter(one, two), {"b"})
        same(client.sunionstore(both, one, two), 3)
        client.rpush(two + ":list", "x")
        same(client.lmove(two + ":list", both + ":list", "LEFT", "RIGHT"), "x")
        client.delete(two + ":list", both + ":list")
    print("ok types", flush=True)


def main():
    options = {"host": sys.argv[1], "port": int(sys.argv[2]), "decode_responses": True}
    if os.environ.get("CLIENT_CA"):
        options |= {"ssl": True, "ssl_ca_certs": os.environ["CLIENT_CA"]}
    if sys.argv[3] == "types":
        options["protocol"] = int(sys.argv[4])
        types(RedisCluster(**options), RedisCluster(**options))
        return
    keys = int(sys.argv[3])
    client = RedisCluster(**options)
    once(client, keys)
    if len(sys.argv) > 4:
        on_and_on(client, keys, float(sys.argv[4]))


main()
