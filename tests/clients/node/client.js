// ioredis in cluster mode: client.js HOST PORT KEYS
const assert = require("node:assert");
const Redis = require("ioredis");

async function main() {
  const [host, port, keys] = process.argv.slice(2);
  const cluster = new Redis.Cluster([{ host, port: Number(port) }]);
  const numbers = [...Array(Number(keys)).keys()];
  for (const number of numbers) await cluster.set(`ioredis:${number}`, number);
  const values = await Promise.all(numbers.map((number) => cluster.get(`ioredis:${number}`)));
  values.forEach((value, number) => assert.strictEqual(value, String(number)));
  console.log("ok", keys, cluster.nodes("master").length);
  await cluster.quit();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
