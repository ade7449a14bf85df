// The clients of the official samples: WebSockets as a page has them. Each command plays one sample from its beginning
// to its end, with nothing but the address of the application, and returns what its users have seen.
import { createRequire } from "node:module";
import protobuf from "protobufjs";
import WebSocket from "ws";
import { serve } from "../host.mjs";
import { SyncClient } from "./sync.mjs";

const require = createRequire(import.meta.url);
const { Doc } = require("yjs");
const { WebPubSubSyncHost } = require("y-azure-webpubsub");

const JSON_V1 = "json.webpubsub.azure.v1";
const RELIABLE = "json.reliable.webpubsub.azure.v1";
const PROTOBUF = "protobuf.webpubsub.azure.v1";

const fetched = async (address, options) => {
  const response = await fetch(address, options);
  if (!response.ok) throw new Error(`${address}: ${response.status} ${await response.text()}`);
  return response;
};
const negotiate = async (application, sample, query = {}) =>
  (await fetched(`${application}/${sample}/negotiate?${new URLSearchParams(query)}`)).json();
const opened = (ws) => new Promise((resolve, reject) => ((ws.onopen = resolve), (ws.onerror = reject)));

// Messages as they come; `next` waits until so many fit, and returns the last of them.
class Inbox {
  messages = [];
  #waiting = new Set();

  put(message) {
    this.messages.push(message);
    this.#waiting.forEach((look) => look());
  }

  next(fits, count = 1) {
    return new Promise((resolve) => {
      const look = () => {
        const found = this.messages.filter(fits);
        if (found.length < count) return;
        this.#waiting.delete(look);
        resolve(found[count - 1]);
      };
      this.#waiting.add(look);
      look();
    });
  }
}

class Page {
  inbox = new Inbox();

  static async open(url, protocol) {
    const page = new Page();
    page.ws = new WebSocket(url, protocol);
    page.ws.onmessage = ({ data }) => page.inbox.put(protocol ? JSON.parse(data) : data);
    await opened(page.ws);
    return page;
  }

  send(message) {
    this.ws.send(JSON.stringify(message));
  }

  async ask(message, ackId = 1) {
    this.send({ ...message, ackId });
    const ack = await this.inbox.next((each) => each.type === "ack" && each.ackId === ackId);
    if (!ack.success) throw new Error(JSON.stringify(ack));
  }

  got(fits, count) {
    return this.inbox.next((each) => each.type === "message" && fits(each.data), count);
  }

  close() {
    const closed = new Promise((resolve) => (this.ws.onclose = ({ code }) => resolve(code)));
    this.ws.close(1000);
    return closed;
  }
}

async function pubsub({ application }) {
  const pages = [];
  for (let count = 0; count < 2; count++) pages.push(await Page.open((await negotiate(application, "pubsub")).url));
  for (const body of ["hello", "grüße 🐚"])
    await fetched(`${application}/pubsub/publish`, { method: "POST", headers: { "Content-Type": "text/plain" }, body });
  await Promise.all(pages.map((page) => page.inbox.next((text) => text.startsWith("gr"))));
  const seen = pages.map((page) => page.inbox.messages);
  return { seen, closed: await Promise.all(pages.map((page) => page.close())) };
}

async function chat({ application }) {
  const said = (page, text) => page.inbox.next((each) => JSON.parse(each).message === text);
  const join = async (id) => {
    const page = await Page.open((await negotiate(application, "chat", { id })).url);
    await said(page, `${id} joined`);
    return page;
  };
  const [alice, bob] = [await join("alice"), await join("bob")];
  alice.ws.send("hello");
  await Promise.all([alice, bob].map((page) => said(page, "hello")));
  bob.ws.send("hi, alice");
  await said(alice, "hi, alice");
  await bob.close();
  await said(alice, "bob left");
  await alice.close();
  return { alice: alice.inbox.messages.map((each) => Object.values(JSON.parse(each)).join(": ")) };
}

async function watch(application) {
  const page = await Page.open((await negotiate(application, "logstream")).url, JSON_V1);
  await page.ask({ type: "joinGroup", group: "stream" });
  return page;
}

async function logstream({ application }) {
  const watcher = await watch(application);
  const source = await Page.open((await negotiate(application, "logstream")).url, JSON_V1);
  for (const [index, data] of ["first line", "second line"].entries())
    await source.ask({ type: "sendToGroup", group: "stream", dataType: "text", data: `${data}\n` }, index + 1);
  await watcher.got((data) => data === "second line\n");
  await Promise.all([watcher.close(), source.close()]);
  return { lines: watcher.inbox.messages.filter((each) => each.type === "message").map((each) => each.data) };
}

async function protobufstream({ application, schema }) {
  const watcher = await watch(application);
  const root = await protobuf.load(schema);
  const [upstream, downstream] = ["UpstreamMessage", "DownstreamMessage"].map((type) => root.lookupType(type));
  const { url } = await negotiate(application, "logstream");
  const source = new WebSocket(url, [PROTOBUF]);
  const inbox = new Inbox();
  source.on("message", (data) => inbox.put(downstream.toObject(downstream.decode(data), { longs: Number })));
  await opened(source);
  for (const [index, textData] of ["first line", "second line"].entries()) {
    const message = { sendToGroupMessage: { group: "stream", ackId: index + 1, data: { textData } } };
    source.send(upstream.encode(upstream.fromObject(message)).finish());
    await inbox.next((each) => each.ackMessage?.ackId === index + 1 && each.ackMessage.success);
  }
  await watcher.got((data) => data === "second line");
  source.close(1000);
  await watcher.close();
  return { lines: watcher.inbox.messages.filter((each) => each.type === "message").map((each) => each.data) };
}

// The client of the sample: acknowledges each message and recovers after each end but 1008.
class ReliablePage {
  inbox = new Inbox();
  recoveries = 0;
  #last = 0;
  #stopped = false;

  static async open(url) {
    const page = new ReliablePage();
    await page.#dial(url);
    page.hello = await page.inbox.next((each) => each.event === "connected");
    return page;
  }

  async #dial(url) {
    this.url = new URL(url);
    const ws = (this.ws = new WebSocket(url, RELIABLE));
    ws.onmessage = ({ data }) => this.#received(JSON.parse(data));
    await opened(ws);
    ws.onclose = ({ code }) => this.#stopped || code === 1008 || this.offline || this.#recover();
  }

  #received(message) {
    if (message.sequenceId) {
      const known = message.sequenceId <= this.#last;
      this.#last = Math.max(this.#last, message.sequenceId);
      this.ws.send(JSON.stringify({ type: "sequenceAck", sequenceId: this.#last }));
      if (known) return;
    }
    if (message.event === "connected" && this.hello) this.recoveries += 1;
    this.inbox.put(message);
  }

  async #recover() {
    this.url.search = new URLSearchParams({
      awps_connection_id: this.hello.connectionId,
      awps_reconnection_token: this.hello.reconnectionToken,
    });
    await this.#dial(this.url.href);
  }

  // Lose the connection, until `recover` brings it back.
  cut(how) {
    this.offline = true;
    const gone = new Promise((resolve) => this.ws.on("close", resolve));
    how(this.ws);
    return gone;
  }

  async recover() {
    this.offline = false;
    await this.#recover();
  }

  send(message) {
    this.ws.send(JSON.stringify(message));
  }

  ask = Page.prototype.ask;

  stop() {
    this.#stopped = true;
    this.ws.close(1000);
  }
}

async function reliable({ application }) {
  const join = async (id) => {
    const page = await ReliablePage.open((await negotiate(application, "reliable", { id })).url);
    await page.ask({ type: "joinGroup", group: "chat" }, 1);
    return page;
  };
  const [alice, bob] = [await join("alice"), await join("bob")];
  let ackId = 1;
  const say = (data) => alice.ask({ type: "sendToGroup", group: "chat", dataType: "text", data }, ++ackId);
  await say("before");
  const cuts = [(ws) => ws.terminate(), (ws) => ws.close(3001)];
  for (const [index, how] of cuts.entries()) {
    await bob.cut(how);
    await say(`during cut ${index}`);
    await say(`still cut ${index}`);
    await bob.recover();
  }
  await say("after");
  await bob.inbox.next((each) => each.data === "after");
  alice.stop();
  bob.stop();
  const heard = bob.inbox.messages.filter((each) => each.type === "message").map((each) => each.data);
  return { heard, recoveries: bob.recoveries };
}

async function draw({ application }) {
  const open = async () => Page.open((await negotiate(application, "draw")).url, JSON_V1);
  const users = (page, number, times) => page.got(({ name, data }) => name === "updateUser" && data === number, times);
  const change = (page, name, data) => {
    page.send({ type: "event", event: "message", dataType: "json", data: { name, data } });
    page.send({ type: "sendToGroup", group: "draw", dataType: "json", data: { name, data } });
  };
  const shapes = async () => (await (await fetched(`${application}/draw/diagram`)).json()).shapes;
  const first = await open();
  await users(first, 1);
  const second = await open();
  await Promise.all([users(first, 2), users(second, 2)]);
  change(first, "addShape", ["line", { points: [1, 2] }]);
  change(first, "addShape", ["dot", { points: [3] }]);
  change(first, "removeShape", "line");
  await second.got(({ name }) => name === "removeShape");
  while ("line" in (await shapes()) || !("dot" in (await shapes())));
  const body = new Uint8Array(3);
  await fetched(`${application}/draw/background`, { method: "POST", headers: { "Content-Type": "image/png" }, body });
  await Promise.all([first, second].map((page) => page.got(({ name, data }) => name === "updateBackground" && data === 3)));
  await second.close();
  await users(first, 1, 2);
  await first.close();
  const names = (page) => page.inbox.messages.filter((each) => each.type === "message").map((each) => each.data.name);
  return { shapes: await shapes(), first: names(first), second: names(second) };
}

async function code({ application }) {
  const open = async (query) => {
    const { id, url } = await negotiate(application, "code", query);
    return [await Page.open(url, JSON_V1), id];
  };
  const [host, id] = await open({ user: "ann" });
  const toGroup = (page, group, data) => page.send({ type: "sendToGroup", group, dataType: "json", data });
  await host.ask({ type: "joinGroup", group: `${id}-control` });
  const [watcher] = await open({ user: "ben", id });
  await watcher.ask({ type: "joinGroup", group: id });
  toGroup(watcher, `${id}-control`, "sync");
  await host.got((data) => data === "sync");
  toGroup(host, id, { type: "full", version: 0, content: "let x" });
  toGroup(host, id, { type: "delta", version: 1, changes: [" = 1"] });
  await watcher.got(({ type }) => type === "delta");
  host.send({ type: "event", event: "members", dataType: "text", data: JSON.stringify({ group: id }) });
  const { data } = await host.inbox.next((each) => each.from === "server");
  await Promise.all([host.close(), watcher.close()]);
  const seen = watcher.inbox.messages.filter((each) => each.type === "message").map((each) => each.data.type);
  return { seen, users: data.users };
}

async function yjs({ application, ownHost }) {
  const token = ({ userId, roles }) =>
    negotiate(application, "yjs", [["userId", userId], ...roles.map((role) => ["role", role])]);
  // There is no host for Python servers: it is a client with tokens of such a server.
  if (ownHost) await new WebPubSubSyncHost({ getClientAccessToken: token }, "topic", new Doc(), {}).start();
  else await fetched(`${application}/yjs/host`, { method: "POST" });
  const clients = [];
  for (const userId of ["ann", "ben"]) {
    const roles = ["webpubsub.sendToGroup.topic.host", "webpubsub.joinLeaveGroup.topic"];
    clients.push(new SyncClient((await token({ userId, roles })).url, "topic", new Doc()));
    await clients.at(-1).synced;
  }
  const [ann, ben] = clients;
  const both = (text) => Promise.all(clients.map((client) => client.until((each) => each === text)));
  ann.text.insert(0, "hello");
  await both("hello");
  ben.text.insert(5, ", world");
  await both("hello, world");
  ann.text.delete(0, 7);
  await both("world");
  clients.forEach((client) => client.stop());
  return { texts: clients.map((client) => client.text.toString()) };
}

serve({ pubsub, chat, logstream, protobufstream, reliable, draw, code, yjs });
