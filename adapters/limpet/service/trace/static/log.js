// The list of events: the newest first, with a filter, a pause and a maximum length.

import { openDetails } from "./details.js";
import { count, element, rove, setText } from "./dom.js";
import { onExport } from "./export.js";
import { row, searchable } from "./rows.js";
import { entryOf, forgetThread, forgetThreads } from "./threads.js";
import { CATEGORIES } from "./words.js";

const REMEMBERED = 2000;
const SHOWN = 250;
const FRESH = 1000;

const list = document.getElementById("events");
const shownText = document.getElementById("shown");
const filter = document.getElementById("filter");
const pause = document.getElementById("pause");
const repair = rove(list);
const on = { onPick: setFilter, onOpen: openDetails };

/** The newest is last. An entry is one or more events, or stands for events that were too many, or for a start. */
let entries = [];
let waiting = [];
let paused = false;
let hidden = 0;
let freshTimer = null;
const hiddenCategories = new Set();
const rows = new Map();

/** Adds the row of a start of the service. */
export function addStart(started, again) {
  forgetThreads();
  take([{ started, again, events: [] }]);
}

/** Adds the events of a batch. */
export function addEvents(events, skipped) {
  const arrived = skipped > 0 ? [{ skipped, events: [] }] : [];
  take([...arrived, ...events]);
}

function take(arrived) {
  if (paused) {
    waiting = waiting.concat(arrived).slice(-REMEMBERED);
    showSummary();
  } else if (arrived.length > 0) {
    append(arrived);
  }
}

/** Shows only the entries that contain `text`. */
export function setFilter(text) {
  filter.value = text;
  showAll();
  filter.focus();
}

/** Adds what has arrived: each changed row is made once, however many of its events have come. */
function append(arrived) {
  const added = [];
  const changed = new Set();
  for (const noted of arrived) {
    const { entry, isNew } = noted.event === undefined ? { entry: noted, isNew: true } : entryOf(noted);
    if (isNew) added.push(entry);
    if (noted.event !== undefined) changed.add(entry);
  }
  for (const entry of changed) entry.searched = searchable(entry);
  entries = entries.concat(added);
  for (const entry of entries.splice(0, Math.max(entries.length - REMEMBERED, 0))) forgetThread(entry);
  const made = added.slice(-REMEMBERED).filter(isWanted).slice(-SHOWN).map(makeRow);
  for (const entry of changed) if (!made.includes(rows.get(entry))) replaceRow(entry);
  list.prepend(...made.reverse());
  while (list.childElementCount > SHOWN) forgetRow(list.lastElementChild);
  freshen(made);
  hidden = countHidden();
  repair();
  showSummary();
}

function makeRow(entry) {
  const made = row(entry, on);
  made.entry = entry;
  rows.set(entry, made);
  return made;
}

function forgetRow(shown) {
  rows.delete(shown.entry);
  shown.remove();
}

/** Shows what has changed of an entry; the focus stays in its row. */
function replaceRow(entry) {
  const old = rows.get(entry);
  if (old === undefined) return;
  const at = [...old.querySelectorAll("button")].indexOf(document.activeElement);
  const made = makeRow(entry);
  old.replaceWith(made);
  if (list.currentItem === old) list.currentItem = null;
  if (at >= 0) made.querySelectorAll("button")[at]?.focus();
}

/** Marks new rows for a moment: two changes of the page, and no animation. */
function freshen(made) {
  for (const old of list.querySelectorAll(":scope > .fresh")) old.classList.remove("fresh");
  for (const each of made) each.classList.add("fresh");
  clearTimeout(freshTimer);
  freshTimer = setTimeout(() => freshen([]), FRESH);
  if (made.length === 0) clearTimeout(freshTimer);
}

function showAll() {
  rows.clear();
  list.replaceChildren(...entries.filter(isWanted).slice(-SHOWN).map(makeRow).reverse());
  hidden = countHidden();
  repair();
  showSummary();
}

function isWanted(entry) {
  const text = filter.value.trim().toLowerCase();
  if (entry.skipped || entry.started) return text === "";
  return !hiddenCategories.has(entry.category) && entry.searched.includes(text);
}

function countHidden() {
  if (filter.value.trim() === "" && hiddenCategories.size === 0) return 0;
  return entries.filter((entry) => !entry.started && !isWanted(entry)).length;
}

function showSummary() {
  const parts = [];
  if (entries.every((entry) => entry.started) && !paused) parts.push("Waiting for something to happen.");
  if (filter.value.trim() !== "" || hiddenCategories.size > 0) parts.push(`The filter hides ${count(hidden, "event")}.`);
  if (paused) parts.push(`Paused: ${count(waiting.length, "event")} waiting.`);
  setText(shownText, parts.join(" "));
}

function togglePause() {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  setText(pause, paused ? "Resume" : "Pause");
  if (!paused) {
    const arrived = waiting;
    waiting = [];
    append(arrived);
  }
  showSummary();
}

function clear() {
  entries.forEach(forgetThread);
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
onExport(() => entries.filter(isWanted).flatMap((entry) => entry.events).sort((a, b) => a.at - b.at || a.number - b.number));
showSummary();
