// The connections of all hubs: a search, and a list of which only what can be seen is there.

import { count, element, keep, rove, setText } from "./dom.js";
import { nodeName } from "./nodes.js";
import { name, plain, setParts, user, words } from "./text.js";
import { short } from "./words.js";

/** Rows beyond each edge of what is seen. */
const MARGIN = 8;
const FETCHED = 80;
/** Milliseconds between two requests. */
const PAUSE = 500;

const search = document.getElementById("connection-search");
const viewport = document.getElementById("connections-view");
const list = document.getElementById("connections");
const summary = document.getElementById("connections-found");

/** Pixels of a row, as the style sheet says. */
let rowHeight = 0;
let part = { total: 0, found: 0, offset: 0, connections: [] };
let onPick = () => {};
let hubs = 0;
let timer = null;
let fetching = null;
let asked = 0;
let wanted = null;

/** Shows the connections anew, soon; `pick` is called with the id of a connection to filter by. */
export function connectionsChanged(pick, hubCount) {
  onPick = pick;
  hubs = hubCount ?? hubs;
  if (timer === null) {
    timer = setTimeout(load, Math.max(asked + PAUSE - performance.now(), 0));
  }
}

function measure() {
  rowHeight = parseInt(getComputedStyle(list).getPropertyValue("--row"), 10);
}

function visible() {
  const first = Math.floor(viewport.scrollTop / rowHeight);
  return [Math.max(first - MARGIN, 0), first + Math.ceil(viewport.clientHeight / rowHeight) + MARGIN];
}

async function load() {
  clearTimeout(timer);
  timer = null;
  asked = performance.now();
  const [first, last] = visible();
  const offset = Math.max(Math.floor((first + last - FETCHED) / 2), 0);
  const query = new URLSearchParams({ search: search.value.trim(), offset, limit: FETCHED });
  fetching?.abort();
  const mine = (fetching = new AbortController());
  try {
    const response = await fetch(`trace/connections?${query}`, { signal: mine.signal });
    if (!response.ok) return;
    part = await response.json();
    show();
  } catch {
    // The service is away, or the list was moved meanwhile: the next batch or the next move asks again.
  }
}

function show() {
  const searching = search.value.trim() !== "";
  search.parentElement.hidden = !searching && part.total < 6;
  setText(summary, searching ? `${part.found.toLocaleString("en")} of ${count(part.total, "connection")}` : "");
  summary.hidden = !searching;
  list.style.height = `${part.found * rowHeight}px`;
  render();
}

/** Makes the rows that can be seen, of those that are known. */
function render() {
  const [first, last] = visible();
  const from = Math.max(first, part.offset);
  const rows = part.connections.slice(from - part.offset, Math.max(last - part.offset, 0));
  keep(list, rows.map((connection, at) => ({ connection, at: from + at })), keyOf, create, update);
  repair();
  const row = wanted === null ? undefined : [...list.children].find((child) => child.ariaPosInSet === String(wanted + 1));
  if (row !== undefined) {
    wanted = null;
    row.querySelector("button").focus({ preventScroll: true });
  }
  const isKnown = first >= part.offset && Math.min(last, part.found) <= part.offset + part.connections.length;
  if (!isKnown && timer === null) timer = setTimeout(load, 50);
}

const keyOf = ({ connection }) => connection.connectionId;

function create(id) {
  const pick = element("button", { type: "button", className: "pick", tabIndex: -1, title: `Show only connection ${id}` });
  pick.append(element("span", { className: "dot" }), element("strong"), element("code", { textContent: short(id) }));
  pick.addEventListener("click", () => onPick(id));
  return element("li", {}, pick, element("span", { className: "quiet facts" }));
}

function update(child, { connection, at }) {
  child.style.top = `${at * rowHeight}px`;
  child.ariaPosInSet = String(at + 1);
  child.ariaSetSize = String(part.found);
  child.dataset.state = connection.attached ? "attached" : "detached";
  setParts(child.querySelector("strong"), user(connection.userId));
  const facts = child.querySelector(".facts");
  setParts(facts, ...factsOf(connection));
  facts.title = factsOf(connection).map(plain).join("");
}

function factsOf(connection) {
  const facts = [];
  if (hubs > 1) facts.push(["at ", name(connection.hub)]);
  if (connection.node !== "") facts.push(["on ", nodeName(connection.node)]);
  if (!connection.attached) facts.push(["may recover"]);
  for (const [group, state] of connection.states) facts.push(["present in ", name(group), " ", words(state)]);
  if (!connection.subprotocol.includes("reliable")) facts.push(["not reliable"]);
  if (connection.groupCount > 0) facts.push([`in ${count(connection.groupCount, "group")}`]);
  if (connection.sequenceId > 0) facts.push([count(connection.sequenceId, "message")]);
  if (connection.streamCount > 0) facts.push([`publishes ${count(connection.streamCount, "stream")}`]);
  if (connection.unacknowledged > 0) facts.push([`${connection.unacknowledged} unacknowledged`]);
  if (connection.invocationCount > 0) facts.push([count(connection.invocationCount, "invocation")]);
  if (connection.stateCount > connection.states.length) facts.push([count(connection.stateCount, "state")]);
  return facts.flatMap((fact, at) => (at === 0 ? fact : [" · ", ...fact]));
}

/** The arrow keys move over all connections, also those that are not there yet. */
function move(item, key) {
  const at = Number(item.ariaPosInSet) - 1;
  const step = key === "ArrowDown" ? at + 1 : at - 1;
  wanted = Math.min(Math.max(key === "Home" ? 0 : key === "End" ? part.found - 1 : step, 0), part.found - 1);
  const top = wanted * rowHeight;
  if (top < viewport.scrollTop) viewport.scrollTop = top;
  else if (top + rowHeight > viewport.scrollTop + viewport.clientHeight) viewport.scrollTop = top + rowHeight - viewport.clientHeight;
  render();
  return null;
}

const repair = rove(list, move);
let frame = null;
viewport.addEventListener("scroll", () => {
  frame ??= requestAnimationFrame(() => {
    frame = null;
    render();
  });
});
addEventListener("resize", () => {
  measure();
  show();
});
measure();
search.addEventListener("input", () => {
  viewport.scrollTop = 0;
  load();
});
