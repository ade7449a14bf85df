// The event handlers: how often each event was handled, and how long that took.

import { duration, element, keep, setText } from "./dom.js";
import { name, setParts } from "./text.js";

const card = document.getElementById("handlers-card");
const rows = document.getElementById("handlers");
const TIMES = ["p50", "p95", "p99"];

/** Shows the calls of each event. */
export function showHandlers(handlers) {
  card.hidden = handlers.length === 0;
  keep(rows, handlers, (each) => each.event, create, update);
}

function create() {
  const head = element("th", { scope: "row" });
  return element("tr", {}, head, ...["calls", ...TIMES].map((className) => element("td", { className })));
}

function update(child, each) {
  setParts(child.firstElementChild, each.event === null ? "other events" : name(each.event));
  const find = (className) => child.querySelector(`.${className}`);
  const failed = each.failed > 0 ? `, ${each.failed.toLocaleString("en")} failed` : "";
  setText(find("calls"), each.calls.toLocaleString("en") + failed);
  find("calls").classList.toggle("error", each.failed > 0);
  for (const time of TIMES) setText(find(time), duration(each[time]));
  child.title = `The longest call took ${duration(each.longest)}.`;
}
