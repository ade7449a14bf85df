// Descriptions of the trace events. The kinds are those of limpet_core.service.trace.

import { count } from "./dom.js";
import { name, nobody, user, words } from "./text.js";

/** The kinds of events that can be switched on and off. */
export const CATEGORIES = [
  ["connections", "Connections"],
  ["groups", "Groups"],
  ["messages", "Messages"],
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
  published: ["messages", "message", (event) => ["to ", ...target(event), ` → ${count(event.receivers, "receiver")}`]],
  raised: ["messages", "event", (event) => [name(event.event)]],
  acked: ["acks", "ack", (event) => [`request ${event.ackId} is done`]],
  sequenceAcked: [
    "acks",
    "received",
    (event) => [`everything up to ${event.sequenceId}; ${count(event.unacknowledged, "message")} to go`],
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

/** Describes an event: category, label, who (a part), connection id, sentence (parts), payload (a part) and its kind. */
export function describe(event) {
  const [category, label, sentence] = WORDS[event.kind] ?? ["connections", event.kind, () => []];
  const connection = event.kind === "recoveryRefused" ? null : (event.connectionId ?? null);
  const fromServer = (event.kind === "published" && connection === null) || event.kind === "shutDown";
  return {
    category,
    label,
    connection,
    who: connection === null ? (fromServer ? nobody("server") : "") : user(event.userId),
    sentence: sentence(event),
    payload: event.data === undefined ? null : words(event.data),
    payloadKind: event.data === undefined ? "" : `${event.dataType}, ${bytes(event.size)}`,
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

function target(event) {
  if (event.to === "hub") return ["everybody in ", name(event.hub)];
  return [`${event.to} `, name(event.to === "connection" ? short(event.name) : event.name)];
}

function bytes(size) {
  if (size < 1024) return `${size} B`;
  return size < 1024 * 1024 ? `${(size / 1024).toFixed(1)} KiB` : `${(size / 1024 / 1024).toFixed(1)} MiB`;
}
