// ioredis in cluster mode: client.js HOST PORT KEYS [SECONDS]
const assert = require("node:assert");
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

async function main() {
  const [host, port, count, seconds] = process.argv.slice(2);
  const cluster = new Redis.Cluster([{ host, port: Number(port) }]);
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
