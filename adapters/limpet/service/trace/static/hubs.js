// The hubs with their connections, groups and users, as in the last snapshot.

import { count, element, keep, setText } from "./dom.js";
import { name, plain, setParts, shown, user } from "./text.js";
import { short } from "./words.js";

const MORE = Symbol("more");

const list = document.getElementById("hubs");
const nobody = document.getElementById("nobody");

/** Shows a snapshot; `onPick` is called with the name, as it is shown, or the connection id to filter by. */
export function showState(state, onPick) {
  nobody.hidden = state.hubs.length > 0;
  keep(list, state.hubs, (hub) => hub.name, createHub, (child, hub) => updateHub(child, hub, onPick));
}

function createHub(hub) {
  const part = (title, className) => [element("h4", { textContent: title }), element("ul", { className })];
  return element(
    "article",
    { className: "hub" },
    element("h3", {}, shown(name(hub))),
    element("p", { className: "quiet summary" }),
    element("ul", { className: "connections" }),
    element("p", { className: "quiet more" }),
    ...part("Groups", "chips groups"),
    ...part("Users", "chips users"),
  );
}

function updateHub(child, hub, onPick) {
  const find = (selector) => child.querySelector(selector);
  setText(
    find(".summary"),
    [
      count(hub.connectionCount, "connection"),
      count(hub.groupCount, "group"),
      count(hub.userCount, "user"),
    ].join(" · "),
  );
  keep(
    find(".connections"),
    hub.connections,
    (connection) => connection.connectionId,
    (id) => createConnection(id, onPick),
    updateConnection,
  );
  const hidden = hub.connectionCount - hub.connections.length;
  setText(find(".more"), hidden > 0 ? `and ${count(hidden, "more connection")}` : "");
  showPairs(find(".groups"), hub.groups, hub.groupCount, onPick);
  showPairs(find(".users"), hub.users, hub.userCount, onPick);
}

function createConnection(id, onPick) {
  const pick = element("button", { type: "button", className: "pick" });
  pick.append(element("span", { className: "dot" }), element("strong"), element("code", { textContent: short(id) }));
  pick.title = `Show only connection ${id}`;
  pick.addEventListener("click", () => onPick(id));
  return element("li", {}, pick, element("span", { className: "quiet facts" }));
}

function updateConnection(child, connection) {
  child.dataset.state = connection.attached ? "attached" : "detached";
  setParts(child.querySelector("strong"), user(connection.userId));
  const facts = [connection.attached ? "" : "may recover"];
  if (!connection.subprotocol.includes("reliable")) facts.push("not reliable");
  if (connection.groupCount > 0) facts.push(`in ${count(connection.groupCount, "group")}`);
  if (connection.sequenceId > 0) facts.push(`${count(connection.sequenceId, "message")}`);
  if (connection.streamCount > 0) facts.push(`publishes ${count(connection.streamCount, "stream")}`);
  if (connection.unacknowledged > 0) facts.push(`${connection.unacknowledged} unacknowledged`);
  if (connection.invocationCount > 0) facts.push(count(connection.invocationCount, "invocation"));
  if (connection.stateCount > 0) facts.push(count(connection.stateCount, "state"));
  setText(child.querySelector(".facts"), facts.filter(Boolean).join(" · "));
}

/** Shows pairs of a name and a number as chips, under a heading; without pairs there is no heading. */
function showPairs(target, pairs, total, onPick) {
  target.hidden = target.previousElementSibling.hidden = total === 0;
  const entries = total > pairs.length ? [...pairs, [MORE, total - pairs.length]] : pairs;
  keep(
    target,
    entries,
    ([key]) => key,
    (key) => (key === MORE ? element("li", { className: "quiet" }) : createChip(key, onPick)),
    (chip, [key, number]) => {
      if (key === MORE) setText(chip, `and ${number.toLocaleString("en")} more`);
      else setText(chip.querySelector(".number"), number.toLocaleString("en"));
    },
  );
}

function createChip(key, onPick) {
  const title = `Show only ${plain(name(key))}`;
  const parts = [shown(name(key)), " ", element("span", { className: "number" })];
  const chip = element("button", { type: "button", className: "chip", title }, ...parts);
  chip.addEventListener("click", () => onPick(plain(name(key))));
  return element("li", {}, chip);
}
