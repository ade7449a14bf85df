// A client for the host of y-azure-webpubsub, which is published without one: its group is the topic, and it speaks to
// the host in the group topic.host.
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import WebSocket from "ws";

const require = createRequire(import.meta.url);
const decoding = require("lib0/decoding");
const encoding = require("lib0/encoding");
const sync = require("y-protocols/sync");

const SYNC = 0;

const packed = (write) => {
  const encoder = encoding.createEncoder();
  encoding.writeVarUint(encoder, SYNC);
  write(encoder);
  return encoding.toUint8Array(encoder);
};

export class SyncClient {
  #id = randomUUID();
  #waiting = [];

  constructor(url, topic, doc) {
    this.doc = doc;
    this.text = doc.getText("text");
    this.topic = topic;
    this.ws = new WebSocket(url, "json.webpubsub.azure.v1");
    this.synced = new Promise((resolve) => (this.isSynced = resolve));
    this.ws.onopen = () => this.#send({ type: "joinGroup", group: topic, ackId: 1 });
    this.ws.onmessage = ({ data }) => this.#received(JSON.parse(data));
    doc.on("update", (update, origin) => {
      if (origin !== this) this.#tell("sync", packed((encoder) => sync.writeUpdate(encoder, update)));
      this.#wake();
    });
  }

  // Wait until the text fulfils a condition.
  until(fits) {
    return new Promise((resolve) => {
      this.#waiting.push([fits, resolve]);
      this.#wake();
    });
  }

  stop() {
    this.ws.close(1000);
  }

  #wake() {
    this.#waiting = this.#waiting.filter(([fits, resolve]) => !(fits(this.text.toString()) && (resolve(), true)));
  }

  #send(message) {
    this.ws.send(JSON.stringify(message));
  }

  #tell(t, bytes) {
    const data = { t, f: this.#id, c: Buffer.from(bytes).toString("base64") };
    this.#send({ type: "sendToGroup", group: `${this.topic}.host`, data });
  }

  #received(message) {
    if (message.type === "ack") {
      // The host may join its group a little later: ask until it answers.
      const ask = () => this.#tell("init", packed((encoder) => sync.writeSyncStep1(encoder, this.doc)));
      ask();
      this.asking = setInterval(ask, 500);
      this.ws.onclose = () => clearInterval(this.asking);
    }
    if (message.type !== "message" || (message.data.t ?? this.#id) !== this.#id) return;
    const decoder = decoding.createDecoder(Buffer.from(message.data.c, "base64"));
    if (decoding.readVarUint(decoder) !== SYNC) return;
    const encoder = encoding.createEncoder();
    encoding.writeVarUint(encoder, SYNC);
    const kind = sync.readSyncMessage(decoder, encoder, this.doc, this);
    if (encoding.length(encoder) > 1) this.#tell("sync", encoding.toUint8Array(encoder));
    if (kind === sync.messageYjsSyncStep2) {
      clearInterval(this.asking);
      this.isSynced();
    }
  }
}
