// Documents with node-redis in cluster mode, after the examples of its JSON package: json.js HOST PORT
const assert = require("node:assert");
const { createCluster } = require("redis");

const noderedis = {
  name: "Alice",
  age: 29,
  roles: ["admin", "user"],
  address: { city: "Bergen", zip: "5003" },
  pets: [
    { name: "Rex", species: "dog", age: 3, isMammal: true },
    { name: "Goldie", species: "fish", age: 2, isMammal: false },
  ],
};

async function main() {
  const [host, port] = process.argv.slice(2);
  const cluster = createCluster({ rootNodes: [{ url: `redis://${host}:${port}` }] });
  cluster.on("error", (error) => console.error(`cluster: ${error}`));
  await cluster.connect();
  const key = "noderedis:{json}:1";

  assert.strictEqual(await cluster.json.set(key, "$", noderedis), "OK");
  assert.deepStrictEqual(await cluster.json.get(key), noderedis);
  assert.deepStrictEqual(await cluster.json.get(key, { path: "$.pets[1].name" }), ["Goldie"]);
  assert.deepStrictEqual(await cluster.json.get(key, { path: ["$.age", "$.pets[*].age"] }), {
    "$.age": [29],
    "$.pets[*].age": [3, 2],
  });
  assert.deepStrictEqual(await cluster.json.get(key, { path: "$.pets[?(@.isMammal == true)].name" }), ["Rex"]);
  assert.deepStrictEqual(await cluster.json.type(key, "$.pets"), ["array"]);

  // Goldie had a birthday; a new pet came.
  assert.deepStrictEqual(await cluster.json.numIncrBy(key, "$.pets[1].age", 1), [3]);
  assert.deepStrictEqual(await cluster.json.numMultBy(key, "$.age", 2), [58]);
  assert.deepStrictEqual(
    await cluster.json.arrAppend(key, "$.pets", { name: "Robin", species: "bird", age: 1, isMammal: false }),
    [3],
  );
  assert.deepStrictEqual(await cluster.json.arrLen(key, "$.pets"), [3]);
  assert.deepStrictEqual(await cluster.json.arrIndex(key, "$.roles", "user"), [1]);
  assert.deepStrictEqual(await cluster.json.arrInsert(key, "$.roles", 1, "editor", "author"), [4]);
  assert.deepStrictEqual(await cluster.json.arrTrim(key, "$.roles", 0, 1), [2]);
  assert.deepStrictEqual(await cluster.json.arrPop(key, "$.roles"), ["editor"]);
  assert.deepStrictEqual(await cluster.json.strAppend(key, "$.name", " B."), [8]);
  assert.deepStrictEqual(await cluster.json.strLen(key, "$.name"), [8]);
  assert.deepStrictEqual(await cluster.json.objKeys(key, "$.address"), [["city", "zip"]]);
  assert.deepStrictEqual(await cluster.json.objLen(key, "$.address"), [2]);
  assert.strictEqual(await cluster.json.merge(key, "$", { address: { zip: null }, left: true }), "OK");
  assert.strictEqual(await cluster.json.del(key, "$.pets"), 1);
  assert.deepStrictEqual(await cluster.json.get(key), {
    name: "Alice B.",
    age: 58,
    roles: ["admin"],
    address: { city: "Bergen" },
    left: true,
  });

  const other = "noderedis:{json}:2";
  assert.strictEqual(await cluster.json.mSet([{ key: other, path: "$", value: { age: 1 } }]), "OK");
  assert.deepStrictEqual(await cluster.json.mGet([key, other, "noderedis:{json}:3"], "$.age"), [[58], [1], null]);

  // Many documents, over all shards.
  const keys = [...Array(100).keys()].map((number) => `doc:${number}`);
  await Promise.all(keys.map((key, number) => cluster.json.set(key, "$", { number, squares: [number ** 2] })));
  const sums = await Promise.all(keys.map((key) => cluster.json.numIncrBy(key, "$..squares[0]", 0.5)));
  sums.forEach((sum, number) => assert.deepStrictEqual(sum, [number ** 2 + 0.5]));
  console.log("ok", keys.length, cluster.masters.length);
  await cluster.quit();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
