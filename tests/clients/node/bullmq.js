// Jobs with BullMQ, whose every step is a script: bullmq.js HOST PORT
// In a cluster its keys need one tag, which is the prefix here.
const assert = require("node:assert");
const Redis = require("ioredis");
const { FlowProducer, Queue, QueueEvents, Worker } = require("bullmq");

const PLAIN = 200;
const PATIENCE_MS = 20000;
const prefix = "{bullmq}";

const open = [];
function closedAtTheEnd(part) {
  part.on("error", (error) => console.error(`${part.constructor.name}: ${error}`));
  open.push(part);
  return part;
}

// Workers and QueueEvents wait in commands, so each part has a connection of its own.
function connect(host, port) {
  const cluster = new Redis.Cluster([{ host, port: Number(port) }], {
    redisOptions: { maxRetriesPerRequest: null },
  });
  cluster.on("error", (error) => console.error(`cluster: ${error}`));
  return cluster;
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing after ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function main() {
  const [host, port] = process.argv.slice(2);
  const connections = [];
  // All workers look for jobs of dead ones at one pace, which they keep by a key.
  const options = () => {
    connections.push(connect(host, port));
    return { prefix, connection: connections.at(-1), stalledInterval: 200, maxStalledCount: 5 };
  };
  const name = `jobs-${process.pid}`;
  const queue = closedAtTheEnd(new Queue(name, options()));
  const events = closedAtTheEnd(new QueueEvents(name, options()));
  await within(events.waitUntilReady(), "QueueEvents");
  // Each job that is waited for has a listener.
  events.setMaxListeners(0);
  queue.setMaxListeners(0);
  const finished = (job) => within(job.waitUntilFinished(events), `job ${job.id} (${job.name})`);

  const runs = new Map();
  const order = [];
  const work = async (job) => {
    runs.set(job.id, (runs.get(job.id) ?? 0) + 1);
    if (job.name === "ordered") order.push(job.data.number);
    if (job.name === "flaky" && job.attemptsMade < 2) throw new Error("not yet");
    if (job.name === "hopeless") throw new Error("never");
    if (job.name === "parent") {
      const values = Object.values(await job.getChildrenValues());
      return values.reduce((sum, value) => sum + value, 0);
    }
    await job.updateProgress(50);
    await job.log("half way");
    return job.data.number * 2;
  };

  // By priority while nobody works: the smallest first, and those without one before all.
  const priorities = [5, 1, 3, 2, 4];
  const ordered = await queue.addBulk(
    priorities.map((number) => ({ name: "ordered", data: { number }, opts: { priority: number } })),
  );
  assert.strictEqual((await queue.getJobCounts("prioritized")).prioritized, 5, "prioritized jobs");
  const first = closedAtTheEnd(new Worker(name, work, { ...options(), concurrency: 1 }));
  await Promise.all(ordered.map(finished));
  assert.deepStrictEqual(order, [1, 2, 3, 4, 5], "the order of priorities");

  // Each job runs once, however many workers there are.
  const second = closedAtTheEnd(new Worker(name, work, { ...options(), concurrency: 10 }));
  const plain = await queue.addBulk(
    [...Array(PLAIN).keys()].map((number) => ({ name: "plain", data: { number } })),
  );
  const results = await Promise.all(plain.map(finished));
  assert.deepStrictEqual(results, [...Array(PLAIN).keys()].map((number) => number * 2), "results");
  for (const job of plain) assert.strictEqual(runs.get(job.id), 1, `job ${job.id} ran ${runs.get(job.id)} times`);
  assert.strictEqual((await queue.getJob(plain[0].id)).progress, 50, "progress");
  assert.deepStrictEqual((await queue.getJobLogs(plain[0].id)).logs, ["half way"], "logs");

  // Delayed, tried again, given up, and only once under one id.
  const added = Date.now();
  const delayed = await queue.add("plain", { number: 7 }, { delay: 300 });
  assert.strictEqual(await finished(delayed), 14, "the delayed job");
  assert.ok(Date.now() - added >= 300, `the delayed job was done after ${Date.now() - added} ms`);
  const flaky = await queue.add("flaky", { number: 4 }, { attempts: 3, backoff: { type: "fixed", delay: 20 } });
  assert.strictEqual(await finished(flaky), 8, "the job that failed twice");
  assert.strictEqual(runs.get(flaky.id), 3, `the flaky job ran ${runs.get(flaky.id)} times`);
  const hopeless = await queue.add("hopeless", {});
  await assert.rejects(finished(hopeless), /never/);
  assert.strictEqual(await (await queue.getJob(hopeless.id)).getState(), "failed");
  const once = { jobId: "one-id" };
  const [one, other] = [await queue.add("plain", { number: 1 }, once), await queue.add("plain", { number: 2 }, once)];
  assert.strictEqual(await finished(one), 2);
  assert.strictEqual(await finished(other), 2);
  assert.strictEqual(runs.get("one-id"), 1, "a second job of one id");

  // A parent waits for its children.
  const flow = closedAtTheEnd(new FlowProducer(options()));
  const children = [1, 2, 3].map((number) => ({ name: "plain", queueName: name, data: { number } }));
  const tree = await flow.add({ name: "parent", queueName: name, data: {}, children });
  assert.strictEqual(await finished(tree.job), 12, "the sum of the children");

  // Nothing is taken from a queue that is paused.
  await queue.pause();
  const late = await queue.add("plain", { number: 10 });
  assert.ok(await queue.isPaused(), "is paused");
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.strictEqual(runs.get(late.id), undefined, "a job of a paused queue ran");
  await queue.resume();
  assert.strictEqual(await finished(late), 20);

  // Again and again, until told otherwise.
  const ticks = new Promise((resolve) => {
    let seen = 0;
    events.on("completed", ({ jobId }) => {
      if (jobId.startsWith("repeat:") && ++seen === 3) resolve();
    });
  });
  await queue.upsertJobScheduler("every", { every: 50 }, { name: "plain", data: { number: 0 } });
  await within(ticks, "three ticks of a scheduler");
  assert.ok(await queue.removeJobScheduler("every"), "remove the scheduler");

  // What a worker that died had begun is begun again by another.
  await first.close();
  await second.close();
  const { active, waiting, failed } = await queue.getJobCounts("active", "waiting", "failed");
  assert.deepStrictEqual([active, waiting, failed], [0, 0, 1], "active, waiting, failed jobs");
  const stalled = await queue.add("plain", { number: 21 });
  const dying = new Worker(name, null, { ...options(), lockDuration: 300 });
  const taken = await dying.getNextJob("token");
  assert.strictEqual(taken?.id, stalled.id, "the job that is taken by hand");
  await dying.close(true);
  closedAtTheEnd(new Worker(name, work, options()));
  assert.strictEqual(await finished(stalled), 42, "the job of a worker that died");

  await Promise.all(open.filter((part) => part !== queue).map((part) => part.close()));
  await queue.obliterate({ force: true });
  assert.strictEqual(await queue.count(), 0, "an obliterated queue");
  await queue.close();
  for (const connection of connections) connection.disconnect();
  console.log("ok", PLAIN);
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
