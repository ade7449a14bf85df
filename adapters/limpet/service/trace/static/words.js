// Descriptions of the trace events. The kinds are those of limpet_core.service.trace.

import { count, duration } from "./dom.js";
import { payloadOf } from "./payload.js";
import { name, nobody, user, words } from "./text.js";

/** The kinds of events that can be switched on and off. */
export const CATEGORIES = [
  ["connections", "Connections"],
  ["groups", "Groups"],
  ["messages", "Messages"],
  ["streams", "Streams"],
  ["invocations", "Invocations"],
  ["states", "Presence"],
  ["handlers", "Handlers"],
  ["acks", "Acks"],
  ["refusals", "Refusals"],
];

/** kind → [category, label, sentence(event)]; a sentence is a list of parts (see text.js). */
const WORDS = {
  opened: ["connections", "opened", (event) => ["connected to ", name(event.hub), ...joinedAtOnce(event.groups)]],
  dropped: ["connections", "dropped", (event) => [`lost its transport (${event.code}); ${event.window} s to recover`]],
  recovered: [
    "connections",
    "recovered",
    (event) => [
      `is back${event.replaced ? ", replacing its transport" : ""}; ${count(event.replayed, "message")} sent again`,
    ],
  ],
  closed: ["connections", "closed", (event) => [`${event.code}: `, words(event.reason)]],
  recoveryRefused: ["refusals", "refused", (event) => ["may not recover ", name(short(event.connectionId))]],
  handshakeRefused: [
    "refusals",
    "refused",
    (event) => [
      "a client of ",
      event.hub ? name(event.hub) : "no hub",
      ` got HTTP ${event.status}: `,
      words(event.reason),
    ],
  ],
  joined: ["groups", "joined", (event) => [name(event.group)]],
  left: ["groups", "left", (event) => [name(event.group)]],
  published: [
    "messages",
    "message",
    (event) => ["to ", ...target(event), ...place(event), ` → ${count(event.receivers, "receiver")}`],
  ],
  raised: ["messages", "event", (event) => [name(event.event)]],
  invoked: ["invocations", "invocation", (event) => [name(event.event), " as ", name(event.invocationId)]],
  invocationAnswered: ["invocations", "reply", (event) => ["to ", name(event.invocationId)]],
  invocationFailed: [
    "invocations",
    "failed",
    (event) => [name(event.invocationId), `: ${event.error}. `, words(event.message)],
  ],
  invocationCancelled: ["invocations", "given up", (event) => [name(event.invocationId)]],
  groupStateSet: ["states", "present", (event) => ["in ", name(event.group), ` → ${count(event.receivers, "watcher")}`]],
  groupStateCleared: [
    "states",
    "absent",
    (event) => ["in ", name(event.group), ` → ${count(event.receivers, "watcher")}`],
  ],
  handlerCalled: [
    "handlers",
    "handler",
    (event) => [
      name(event.event),
      event.status === null ? " → failed: " : ` → HTTP ${event.status}`,
      ...(event.error === null ? [] : [words(event.error)]),
      event.attempts === 0 ? "" : ` after ${duration(event.duration)}`,
      event.attempts > 1 ? `, ${event.attempts} attempts` : "",
    ],
  ],
  groupStatesWatched: [
    "states",
    "watches",
    (event) => [name(event.group), `, which has ${count(event.states, "state")}`],
  ],
  groupStatesUnwatched: ["states", "left alone", (event) => [name(event.group)]],
  acked: ["acks", "ack", (event) => [`request ${event.ackId} is done`]],
  sequenceAcked: [
    "acks",
    "received",
    (event) => [`everything up to ${event.sequenceId}; ${count(event.unacknowledged, "message")} to go`],
  ],
  streamStarted: [
    "streams",
    "stream",
    (event) => [name(event.streamId), " to group ", name(event.group), `, ends after ${event.idleTimeout} s of silence`],
  ],
  streamAcked: ["acks", "received", (event) => [...before(event), " of stream ", name(event.streamId)]],
  streamNacked: [
    "streams",
    "again",
    (event) => [name(event.streamId), ` from fragment ${event.expected} on: ${event.error}. `, words(event.message)],
  ],
  streamEnded: [
    "streams",
    "ended",
    (event) => [
      name(event.streamId),
      " to group ",
      name(event.group),
      ` after ${count(event.fragments, "fragment")}`,
      ...(event.error === null ? [] : [`: ${event.error}. `, words(event.message ?? "")]),
    ],
  ],
  streamRefused: [
    "refusals",
    "refused",
    (event) => ["stream ", name(event.streamId), `: ${event.error}. `, words(event.message)],
  ],
  refused: [
    "refusals",
    "refused",
    (event) =>
      event.error === "Duplicate"
        ? [`request ${event.ackId} was done before`]
        : [
            `${event.ackId === null ? "a request without ack id" : `request ${event.ackId}`}: ${event.error}. `,
            words(event.message),
          ],
  ],
  shutDown: ["connections", "stopped", () => ["The service shut down."]],
};

/** Describes an event: category, label, who (a part), connection id, sentence (parts), payload (a part), its kind, status. */
export function describe(event) {
  const [category, label, sentence] = WORDS[event.kind] ?? ["connections", event.kind, () => []];
  const connection = event.kind === "recoveryRefused" ? null : (event.connectionId ?? null);
  const payload = payloadOf(event);
  const fromServer = (event.kind === "published" && connection === null) || event.kind === "shutDown";
  return {
    category,
    label,
    connection,
    who: connection === null ? (fromServer ? nobody("server") : "") : user(event.userId),
    sentence: sentence(event),
    payload: event.address ? words(event.address) : payload === null ? null : words(payload.text),
    payloadKind: payload === null ? "" : payload.kind,
    status: event.kind === "handlerCalled" && (event.status === null || event.status >= 500) ? "failed" : "",
  };
}

/** The beginning of a connection id: enough to tell connections apart. */
export function short(connectionId) {
  const characters = [...connectionId];
  return characters.length > 8 ? `${characters.slice(0, 7).join("")}…` : connectionId;
}

function joinedAtOnce(groups) {
  const parts = groups.slice(0, 5).flatMap((group) => [", ", name(group)]);
  return groups.length === 0 ? [] : [", member of ", ...parts.slice(1), groups.length > 5 ? ", …" : ""];
}

function place(event) {
  return event.streamId === undefined ? [] : [`, fragment ${event.streamSequenceId} of `, name(event.streamId)];
}

function before(event) {
  return [event.expected === 1 ? "the start" : `fragments before ${event.expected}`];
}

function target(event) {
  if (event.to === "hub") return ["everybody in ", name(event.hub)];
  return [`${event.to} `, name(event.to === "connection" ? short(event.name) : event.name)];
}
