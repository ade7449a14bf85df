// The tiles: numbers of events since the page was opened, and their rates.

import { setText } from "./dom.js";

const NAMES = ["published", "delivered", "acked", "recovered", "refused"];
const WITH_RATE = ["published", "delivered", "acked"];
const RATE_SECONDS = 3;

const totals = Object.fromEntries(NAMES.map((name) => [name, 0]));
const history = [];

/** Adds the counts of a batch. */
export function addCounts(counts) {
  for (const name of NAMES) {
    totals[name] += counts[name] ?? 0;
    setText(document.getElementById(`total-${name}`), totals[name].toLocaleString("en"));
  }
}

/** Shows the number of connections. */
export function showConnections(number) {
  setText(document.getElementById("total-connections"), number.toLocaleString("en"));
}

function showRates() {
  history.push({ at: performance.now(), ...totals });
  while (history.length > RATE_SECONDS + 1) history.shift();
  const first = history[0];
  const last = history[history.length - 1];
  for (const name of WITH_RATE) {
    const rate = (last[name] - first[name]) / Math.max((last.at - first.at) / 1000, 1);
    const text = rate === 0 ? "" : `${rate < 10 ? rate.toFixed(1) : Math.round(rate).toLocaleString("en")} a second`;
    setText(document.getElementById(`rate-${name}`), text);
  }
}

setInterval(showRates, 1000);
