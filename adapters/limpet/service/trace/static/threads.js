// Events that belong together are one row: the fragments of a stream, an invocation and its reply.

import { bytes, count, duration } from "./dom.js";
import { payloadOf, textOf } from "./payload.js";
import { describe } from "./words.js";
import { name, words } from "./text.js";

/** Events that a row keeps, for its details and for the export. */
const KEPT = 200;
/** Characters of a stream that a row shows: its end. */
const TAIL = 400;

const open = new Map();

/** Forgets what is open: the service is another one. */
export function forgetThreads() {
  open.clear();
}

/** Forgets an entry that is not in the log any more. */
export function forgetThread(entry) {
  if (open.get(entry.key) === entry) open.delete(entry.key);
}

/** Returns the entry that an event belongs to, and whether it is a new one. */
export function entryOf(noted) {
  const { event, at } = noted;
  const isStream = ["streamStarted", "streamAcked", "streamEnded"].includes(event.kind) || event.streamSequenceId > 0;
  const isInvocation = /^(invoked|invocation)/.test(event.kind);
  const opens = event.kind === "streamStarted" || event.kind === "invoked";
  const id = isStream ? event.streamId : event.invocationId;
  const key = isStream || isInvocation ? JSON.stringify([isStream, event.connectionId, id]) : null;
  const known = opens ? undefined : open.get(key);
  if (known === undefined) {
    const made = { ...describe(event), at, events: [noted], key, thread: null };
    if (opens || event.streamSequenceId > 0) {
      made.thread = isStream ? newStream(event) : { at, status: "running", reply: null };
      open.set(key, made);
      follow(made, noted);
    }
    return { entry: made, isNew: true };
  }
  known.events.push(noted);
  if (known.events.length > KEPT) known.events.splice(1, 1);
  follow(known, noted);
  return { entry: known, isNew: false };
}

function newStream({ group, name: target, idleTimeout }) {
  return { group: group ?? target, idleTimeout, fragments: 0, size: 0, acked: 0, receivers: 0, tail: "", status: "running" };
}

function follow(entry, { event, at }) {
  if (entry.thread.fragments === undefined) followInvocation(entry, event, at);
  else followStream(entry, event);
}

function followStream(entry, event) {
  const { thread } = entry;
  if (event.kind === "published") {
    // A page that was opened late has not seen the fragments before.
    thread.fragments = Math.max(thread.fragments, event.streamSequenceId);
    thread.size += event.size;
    thread.receivers = event.receivers;
    thread.tail = (thread.tail + textOf(event)).slice(-TAIL);
  } else if (event.kind === "streamAcked") {
    thread.acked = event.expected - 1;
  } else if (event.kind === "streamEnded") {
    thread.status = event.error === null ? "done" : "failed";
    thread.error = event.error === null ? [] : [`: ${event.error}. `, words(event.message ?? "")];
    thread.fragments = event.fragments;
    open.delete(entry.key);
  }
  entry.category = "streams";
  entry.label = "stream";
  entry.status = thread.status;
  const verb = { running: "runs", done: "ended", failed: "failed" }[thread.status];
  const acked = thread.status === "running" ? `, ${thread.acked.toLocaleString("en")} acknowledged` : "";
  const progress = `: ${count(thread.fragments, "fragment")}, ${bytes(thread.size)}${acked}; ${verb}`;
  entry.sentence = [name(event.streamId), " to group ", name(thread.group), progress, ...(thread.error ?? [])];
  if (thread.tail) entry.payload = words(thread.tail);
  entry.payloadKind = thread.tail.length < TAIL ? "" : "the end of it";
}

function followInvocation(entry, event, at) {
  const { thread } = entry;
  const took = ` after ${duration(Math.max(at - thread.at, 0))}`;
  const ended = {
    invocationAnswered: ["done", [` → reply${took}`]],
    invocationFailed: ["failed", [` → failed${took}: ${event.error}. `, words(event.message ?? "")]],
    invocationCancelled: ["failed", [` → given up${took}`]],
  }[event.kind];
  entry.status = ended?.[0] ?? "running";
  if (ended === undefined) {
    thread.called = entry.sentence;
    entry.sentence = [...thread.called, " → …"];
    return;
  }
  entry.sentence = [...thread.called, ...ended[1]];
  const reply = payloadOf(event);
  if (reply !== null) entry.reply = { words: words(reply.text), kind: reply.kind };
  open.delete(entry.key);
}
