// The official JavaScript client: `node client.mjs NAME URL PLAN` goes through a soak and prints what it saw as JSON.
import { WebPubSubClient } from "@azure/web-pubsub-client";

const [, url, json] = process.argv.slice(2);
const plan = JSON.parse(json);

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const now = () => performance.now() / 1000;
// Timers of our own do not count; there are none when this is asked for.
const resources = () => process.getActiveResourcesInfo().length;

const received = [];
const done = [];
const failed = {};
const waiting = new Map();
let slowest = 0;
let broken;
process.on("uncaughtException", (error) => {
  broken = `uncaught: ${error.message}`;
});

const answered = (number, error) => {
  slowest = Math.max(slowest, now() - waiting.get(number));
  waiting.delete(number);
  if (error === undefined) done.push(number);
  else {
    const name = `${error.name} ${error.message}`.slice(0, 60);
    failed[name] = (failed[name] ?? 0) + 1;
  }
};

const before = resources();
const client = new WebPubSubClient(url);
client.on("group-message", (event) => received.push(Number(event.message.data)));
await client.start();
await client.joinGroup(plan.down);

const begin = now();
for (let number = 0; number < plan.messages; number++) {
  const pause = begin + number / plan.rate - now();
  if (pause > 0) await sleep(pause);
  waiting.set(number, now());
  client.sendToGroup(plan.up, String(number), "text").then(
    () => answered(number),
    (error) => answered(number, error),
  );
}
const until = now() + plan.grace;
const complete = () => waiting.size === 0 && new Set(received).size >= plan.messages;
while (!complete() && now() < until) await sleep(0.02);
await sleep(0.5);
const stalled = waiting.size;
client.stop();

let left = 0;
for (let i = 0; i < 50; i++) {
  left = resources() - before;
  if (left <= 0) break;
  await sleep(0.02);
}
const report = { received, done, failed, stalled, slowest, left: { "timers and sockets": left } };
if (broken !== undefined) report.broken = broken;
process.stdout.write(JSON.stringify(report) + "\n", () => process.exit(0));
