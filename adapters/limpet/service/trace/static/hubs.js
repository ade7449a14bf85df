// The hubs with their groups and users, as in the last snapshot.

import { count, element, keep, setText } from "./dom.js";
import { name, plain, shown } from "./text.js";

const MORE = Symbol("more");

const list = document.getElementById("hubs");
const nobody = document.getElementById("nobody");

/** Shows a snapshot; `onPick` is called with the name, as it is shown, to filter by. */
export function showState(state, onPick) {
  nobody.hidden = state.hubs.length > 0;
  keep(list, state.hubs, (hub) => hub.name, createHub, (child, hub) => updateHub(child, hub, onPick));
}

function createHub(hub) {
  const part = (title, className) => [element("h4", { textContent: title }), listOf(className, title)];
  return element(
    "article",
    { className: "hub" },
    element("h3", {}, shown(name(hub))),
    element("p", { className: "quiet summary" }),
    ...part("Groups", "chips groups"),
    ...part("Users", "chips users"),
  );
}

function listOf(className, title) {
  const made = element("ul", { className, role: "list" });
  made.setAttribute("aria-label", title);
  return made;
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
  showPairs(find(".groups"), hub.groups, hub.groupCount, onPick);
  showPairs(find(".users"), hub.users, hub.userCount, onPick);
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
