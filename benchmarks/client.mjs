// The official JavaScript client under test: `node client.mjs JOB URL JSON` does one job and prints one line of JSON.
import { readFileSync } from "node:fs";
import { WebPubSubClient } from "@azure/web-pubsub-client";

const [job, url, json] = process.argv.slice(2);
const options = JSON.parse(json);
const newClient = () => new WebPubSubClient(url, { autoReconnect: false });
const client = newClient();

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const snapshot = (count) => {
  const cpu = process.cpuUsage();
  return { count, wall: performance.now() / 1e3, cpu: (cpu.user + cpu.system) / 1e6 };
};
const difference = (a, b) => ({ messages: b.count - a.count, wall: b.wall - a.wall, cpu: b.cpu - a.cpu });
const finish = (result) => {
  process.stdout.write(JSON.stringify(result) + "\n", () => process.exit(0));
};

async function receive() {
  let count = 0;
  let size = 0;
  let mark = { count: 0, wall: 0, cpu: 0 };
  client.on("group-message", (event) => {
    count += 1;
    size += event.message.data.length;
    if (event.message.group !== "bench") {
      if (event.message.group === "start") mark = snapshot(count);
      else finish(difference(mark, snapshot(count)));
    }
  });
  let last = "";
  client.on("disconnected", () => {
    finish({ ...difference(mark, snapshot(count)), lost: String(client._lastCloseEvent?.reason ?? last) });
  });
  await client.start();
  await client.sendEvent("go", "", "text");
}

async function send() {
  await client.start();
  let answered = 0;
  let going = true;
  const worker = async () => {
    while (going) {
      await client.sendToGroup("bench", options.data, "text");
      answered += 1;
    }
  };
  for (let i = 0; i < options.in_flight; i++) worker();
  await sleep(options.seconds / 4);
  const before = snapshot(answered);
  await sleep(options.seconds);
  finish(difference(before, snapshot(answered)));
}

async function stream() {
  await client.start();
  const writer = await client.openGroupStream("bench");
  let written = 0;
  let going = true;
  const worker = async () => {
    while (going) {
      await writer.write(options.data, "text");
      written += 1;
      // A write does not wait for the socket: without a turn of the event loop no timer would ever fire.
      if (written % 25 === 0) await new Promise(setImmediate);
    }
  };
  for (let i = 0; i < options.in_flight; i++) worker();
  await sleep(options.seconds / 4);
  const before = snapshot(written);
  await sleep(options.seconds);
  finish(difference(before, snapshot(written)));
}

const read = (file, name) => readFileSync(file, "utf8").split("\n").filter((line) => line.startsWith(name));
const privateMemory = () =>
  1024 * read("/proc/self/smaps_rollup", "Private_").reduce((sum, line) => sum + parseInt(line.split(/\s+/)[1]), 0);
const wakeUps = () => parseInt(read("/proc/self/status", "voluntary_ctxt")[0].split(/\s+/)[1]);

async function idle() {
  const opened = async (count) => {
    for (let i = 0; i < count; i++) {
      clients.push(newClient());
      await clients.at(-1).start();
    }
  };
  const clients = [];
  await opened(10);
  globalThis.gc();
  const memory = privateMemory();
  await opened(options.count);
  await sleep(0.5);
  globalThis.gc();
  const used = privateMemory() - memory;
  const before = snapshot(0);
  const woken = wakeUps();
  await sleep(options.seconds);
  const after = difference(before, snapshot(0));
  finish({ memory: used / options.count, wall: after.wall, cpu: after.cpu, wakeups: wakeUps() - woken - 1 });
}

async function connect() {
  let connected = 0;
  let going = true;
  const worker = async () => {
    while (going) {
      const one = newClient();
      const stopped = new Promise((resolve) => one.on("stopped", resolve));
      await one.start();
      one.stop();
      await stopped;
      connected += 1;
    }
  };
  for (let i = 0; i < 20; i++) worker();
  await sleep(options.seconds / 4);
  const before = snapshot(connected);
  await sleep(options.seconds);
  finish(difference(before, snapshot(connected)));
}

await { receive, send, stream, idle, connect }[job]();
