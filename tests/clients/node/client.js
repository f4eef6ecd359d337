// ioredis in cluster mode: client.js HOST PORT KEYS [SECONDS], or HOST PORT types 2
const assert = require("node:assert");
const { readFileSync } = require("node:fs");
const { setTimeout: pause } = require("node:timers/promises");
const Redis = require("ioredis");

async function once(cluster, keys) {
  for (const number of keys) await cluster.set(`ioredis:${number}`, number);
  const values = await Promise.all(keys.map((number) => cluster.get(`ioredis:${number}`)));
  values.forEach((value, number) => assert.strictEqual(value, String(number)));
  console.log("ok", keys.length, cluster.nodes("master").length);
}

async function onAndOn(cluster, keys, seconds) {
  const end = Date.now() + seconds * 1000;
  while (Date.now() < end) {
    let errors = 0;
    const value = String(process.hrtime.bigint());
    for (const number of keys) {
      const key = `ioredis:loop:${number}`;
      try {
        await cluster.set(key, value);
        assert.strictEqual(await cluster.get(key), value);
      } catch (error) {
        errors += 1;
        console.error(`${key}: ${error}`);
      }
    }
    console.log("pass", errors);
    await pause(50);
  }
}

async function types(cluster, other) {
  const same = assert.deepStrictEqual;
  for (let number = 0; number < 20; number++) {
    const [hash, list, set, zset] = ["hash", "list", "set", "zset"].map((type) => `ioredis:${type}:${number}`);
    for (const key of [hash, list, set, zset]) await cluster.del(key);

    same(await cluster.hset(hash, { name: "Ann", visits: 1, gone: "soon" }), 3);
    same(await cluster.hincrby(hash, "visits", 4), 5);
    same(await cluster.hmget(hash, "name", "visits", "none"), ["Ann", "5", null]);
    same(await cluster.hdel(hash, "gone"), 1);
    same(await cluster.hgetall(hash), { name: "Ann", visits: "5" });
    same(await cluster.call("HEXPIRE", hash, 100, "FIELDS", 2, "name", "none"), [1, -2]);
    assert.ok((await cluster.call("HTTL", hash, "FIELDS", 1, "name"))[0] >= 98);
    same(await cluster.call("HPEXPIRE", hash, 1, "FIELDS", 1, "visits"), [1]);
    await pause(20);
    same(await cluster.hgetall(hash), { name: "Ann" });

    same(await cluster.rpush(list, "a", "b", "c"), 3);
    same(await cluster.lrange(list, 0, -1), ["a", "b", "c"]);
    same(await cluster.blpop(list, 1), [list, "a"]);
    same(await cluster.lpop(list, 5), ["b", "c"]);
    const [popped] = await Promise.all([cluster.brpop(list, 10), pause(50).then(() => other.rpush(list, "late"))]);
    same(popped, [list, "late"]);
    same(await cluster.blpop(list, 0.01), null);

    same(await cluster.sadd(set, "1", "2", "3"), 3);
    same((await cluster.smembers(set)).sort(), ["1", "2", "3"]);
    same(await cluster.smismember(set, "2", "9"), [1, 0]);
    same(await cluster.sort(set, "DESC"), ["3", "2", "1"]);
    same(await cluster.sort(set, "LIMIT", 1, 1), ["2"]);
    same((await cluster.sscan(set, 0))[1].length, 3);
    same(await cluster.srem(set, "1"), 1);

    same(await cluster.zadd(zset, 1, "one", 2.5, "two", 3, "three"), 3);
    same(await cluster.zincrby(zset, 1, "one"), "2");
    same(await cluster.zrange(zset, 0, -1, "WITHSCORES"), ["one", "2", "two", "2.5", "three", "3"]);
    same(await cluster.zrangebyscore(zset, 2.1, "+inf"), ["two", "three"]);
    same(await cluster.zrank(zset, "three"), 2);
    same(await cluster.zpopmax(zset), ["three", "3"]);
    same(await cluster.bzpopmin(zset, 1), [zset, "one", "2"]);

    const [one, two, both] = ["one", "two", "both"].map((part) => `ioredis:{${number}}:${part}`);
    await cluster.del(one, two, both);
    await cluster.sadd(one, "a", "b");
    await cluster.sadd(two, "b", "c");
    same(await cluster.sinter(one, two), ["b"]);
    same(await cluster.sunionstore(both, one, two), 3);
  }
  console.log("ok types");
}

async function main() {
  const [host, port, count, seconds] = process.argv.slice(2);
  const ca = process.env.CLIENT_CA;
  const redisOptions = ca ? { tls: { ca: readFileSync(ca) } } : {};
  const connect = () => new Redis.Cluster([{ host, port: Number(port) }], { redisOptions });
  if (count === "types") {
    const [cluster, other] = [connect(), connect()];
    await types(cluster, other);
    await Promise.all([cluster.quit(), other.quit()]);
    return;
  }
  const cluster = connect();
  // Without a listener each lost connection would be printed as unhandled.
  cluster.on("error", (error) => console.error(`cluster: ${error}`));
  const keys = [...Array(Number(count)).keys()];
  await once(cluster, keys);
  if (seconds) await onAndOn(cluster, keys, Number(seconds));
  await cluster.quit();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
