// The list of events: the newest first, with a filter, a pause and a maximum length.

import { count, element, setText } from "./dom.js";
import { name, plain, shown } from "./text.js";
import { CATEGORIES, describe, short } from "./words.js";

const REMEMBERED = 2000;
const SHOWN = 250;

const list = document.getElementById("events");
const shownText = document.getElementById("shown");
const filter = document.getElementById("filter");
const pause = document.getElementById("pause");

/** The newest is last. An entry is an event or, with `skipped`, stands for events that were too many. */
let entries = [];
let waiting = [];
let paused = false;
const hiddenCategories = new Set();

/** Adds the events of a batch. */
export function addEvents(events, skipped) {
  const added = skipped > 0 ? [{ skipped, searched: "" }] : [];
  for (const { number, at, event } of events) added.push(entryOf(number, at, event));
  if (paused) {
    waiting = waiting.concat(added).slice(-REMEMBERED);
    showSummary();
  } else {
    append(added);
  }
}

/** Shows only the entries that contain `text`. */
export function setFilter(text) {
  filter.value = text;
  showAll();
  filter.focus();
}

function entryOf(number, at, event) {
  const described = describe(event);
  const hub = event.hub === undefined ? "" : plain(name(event.hub));
  const sentence = described.sentence.map(plain).join("");
  const payload = described.payload === null ? "" : plain(described.payload);
  const parts = [described.label, plain(described.who), described.connection, hub, sentence, payload];
  return { ...described, at, searched: parts.filter(Boolean).join(" ").toLowerCase() };
}

function append(added) {
  entries = entries.concat(added).slice(-REMEMBERED);
  const rows = added.filter(isWanted).slice(-SHOWN).map(row).reverse();
  list.prepend(...rows);
  while (list.childElementCount > SHOWN) list.lastElementChild.remove();
  showSummary();
}

function showAll() {
  list.replaceChildren(...entries.filter(isWanted).slice(-SHOWN).map(row).reverse());
  showSummary();
}

function isWanted(entry) {
  const text = filter.value.trim().toLowerCase();
  if (entry.skipped) return text === "";
  return !hiddenCategories.has(entry.category) && entry.searched.includes(text);
}

function isFiltering() {
  return filter.value.trim() !== "" || hiddenCategories.size > 0;
}

function showSummary() {
  const parts = [];
  if (entries.length === 0 && !paused) parts.push("Waiting for something to happen.");
  if (isFiltering()) parts.push(`The filter hides ${count(entries.filter((entry) => !isWanted(entry)).length, "event")}.`);
  if (paused) parts.push(`Paused: ${count(waiting.length, "event")} waiting.`);
  setText(shownText, parts.join(" "));
}

function row(entry) {
  if (entry.skipped) {
    return element("li", { className: "skipped" }, `… ${count(entry.skipped, "event")} more than the page can show`);
  }
  const time = new Date(entry.at * 1000);
  const clock = time.toLocaleTimeString("en-GB") + "." + String(time.getMilliseconds()).padStart(3, "0");
  const who = element("span", { className: "who" });
  if (entry.connection === null) {
    who.append(shown(entry.who));
  } else {
    const pick = element("button", { type: "button", className: "pick", title: `Show only ${entry.connection}` });
    pick.append(element("strong", {}, shown(entry.who)), element("code", {}, short(entry.connection)));
    pick.addEventListener("click", () => setFilter(entry.connection));
    who.append(pick);
  }
  const payload =
    entry.payload === null ? null : element("code", { className: "payload", title: entry.payloadKind }, shown(entry.payload));
  const made = element(
    "li",
    { className: "event" },
    element("time", { dateTime: time.toISOString() }, clock),
    element("span", { className: "label" }, entry.label),
    who,
    element("span", { className: "text" }, ...entry.sentence.map(shown)),
    payload,
  );
  made.dataset.category = entry.category;
  made.dataset.label = entry.label;
  return made;
}

function togglePause() {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  setText(pause, paused ? "Resume" : "Pause");
  if (!paused) {
    const added = waiting;
    waiting = [];
    append(added);
  }
  showSummary();
}

function clear() {
  entries = [];
  waiting = [];
  showAll();
}

for (const [category, label] of CATEGORIES) {
  const chip = element("button", { type: "button", className: "chip toggle" }, label);
  chip.dataset.category = category;
  chip.setAttribute("aria-pressed", "true");
  chip.addEventListener("click", () => {
    if (!hiddenCategories.delete(category)) hiddenCategories.add(category);
    chip.setAttribute("aria-pressed", String(!hiddenCategories.has(category)));
    showAll();
  });
  document.getElementById("categories").append(chip);
}
pause.addEventListener("click", togglePause);
document.getElementById("clear").addEventListener("click", clear);
filter.addEventListener("input", showAll);
showSummary();
