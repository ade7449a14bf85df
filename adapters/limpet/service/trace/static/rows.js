// The rows of the log.

import { count, element } from "./dom.js";
import { name, plain, shown } from "./text.js";
import { short } from "./words.js";

/** What the filter looks for in an entry, in lower case. */
export function searchable(entry) {
  const hub = entry.events[0].event.hub;
  const payloads = [entry.payload, entry.reply?.words].map((part) => (part ? plain(part) : ""));
  const sentence = entry.sentence.map(plain).join("");
  const parts = [entry.label, plain(entry.who), entry.connection, hub && plain(name(hub)), sentence, ...payloads];
  return parts.filter(Boolean).join(" ").toLowerCase();
}

/** Makes the row of an entry. `on` has the functions onPick(connection id) and onOpen(entry). */
export function row(entry, on) {
  if (entry.skipped) {
    return element("li", { className: "skipped" }, `… ${count(entry.skipped, "event")} more than the page can show`);
  }
  if (entry.started) {
    const at = new Date(entry.started * 1000);
    const when = element("time", { dateTime: at.toISOString() }, at.toLocaleString("en-GB"));
    return element("li", { className: "started" }, entry.again ? "The service was started again: " : "The service was started: ", when);
  }
  const made = element(
    "li",
    { className: "event" },
    opener(entry, on),
    element("span", { className: "label" }, entry.label),
    who(entry, on),
    element("span", { className: "text" }, ...entry.sentence.map(shown)),
    payload(entry.payload, entry.payloadKind),
    entry.reply ? payload(entry.reply.words, entry.reply.kind, "reply ") : null,
  );
  Object.assign(made.dataset, { category: entry.category, label: entry.label, status: entry.status });
  return made;
}

/** "11:05:55.776". */
export function clock(at) {
  const time = new Date(at * 1000);
  return time.toLocaleTimeString("en-GB") + "." + String(time.getMilliseconds()).padStart(3, "0");
}

function opener(entry, on) {
  const when = element("time", { dateTime: new Date(entry.at * 1000).toISOString() }, clock(entry.at));
  const button = element("button", { type: "button", className: "open", tabIndex: -1, title: "Details" }, when);
  button.append(element("span", { className: "hidden" }, ` ${entry.label}, details`));
  button.addEventListener("click", () => on.onOpen(entry));
  return button;
}

function who(entry, on) {
  if (entry.connection === null) return element("span", { className: "who" }, shown(entry.who));
  const title = `Show only ${entry.connection}`;
  const pick = element("button", { type: "button", className: "pick", tabIndex: -1, title });
  pick.append(element("strong", {}, shown(entry.who)), element("code", {}, short(entry.connection)));
  pick.addEventListener("click", () => on.onPick(entry.connection));
  return element("span", { className: "who" }, pick);
}

function payload(part, kind, lead = "") {
  if (part === null) return null;
  const made = element("code", { className: "payload" });
  if (lead) made.append(element("span", { className: "kind" }, lead));
  made.append(shown(part));
  if (kind) made.append(element("span", { className: "kind" }, kind));
  return made;
}
