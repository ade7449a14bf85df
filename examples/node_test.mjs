// A test in JavaScript with Limpet's service: node --test examples/node_test.mjs
// The command `limpet` must be on PATH, or LIMPET_COMMAND must name it. No package is needed.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

let folder, service, where;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "limpet-"));
  const file = join(folder, "ready.json");
  const command = process.env.LIMPET_COMMAND ?? "limpet";
  // It ends with this process, also where that is killed.
  service = spawn(command, ["serve", "--port", "0", "--ready-file", file, "--with-parent"], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  let failure;
  service.on("error", (error) => (failure = error));
  while (!where) {
    if (failure) throw failure;
    if (service.exitCode !== null) throw new Error(`limpet serve ended with status ${service.exitCode}`);
    where = await readFile(file, "utf8").then(JSON.parse, () => undefined);
    await sleep(20);
  }
});

after(async () => {
  if (service?.exitCode === null && service.pid) {
    const ended = once(service, "exit");
    service.kill(); // SIGTERM; it closes its clients, and removes the file
    assert.deepEqual(await ended, [0, null]);
  }
  if (folder) await rm(folder, { recursive: true });
});

test("the service is healthy", async () => {
  const answer = await fetch(`${where.endpoint}/api/health`);
  assert.equal(answer.status, 200);
});

test("negotiation gives a URL with a token", async () => {
  const answer = await fetch(`${where.endpoint}/negotiate?hub=${where.hub}&userId=carol`);
  const { url } = await answer.json();
  assert.match(url, /^ws:\/\/.*\/client\/hubs\/chat\?access_token=/);
});
