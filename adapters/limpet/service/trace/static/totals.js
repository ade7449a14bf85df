// The tiles: numbers of events since the service was started, and their rates.

import { setText } from "./dom.js";

const NAMES = ["published", "delivered", "acked", "recovered", "refused"];
const WITH_RATE = ["published", "delivered", "acked"];
const RATE_SECONDS = 3;

let totals = Object.fromEntries(NAMES.map((name) => [name, 0]));
let history = [];
let timer = null;

/** Shows the totals of a batch; `isFirst`: they tell nothing about rates. */
export function showTotals(counts, isFirst) {
  totals = counts;
  for (const name of NAMES) setText(document.getElementById(`total-${name}`), totals[name].toLocaleString("en"));
  if (isFirst) history = [];
  if (history.length === 0) history = [{ at: performance.now(), ...totals }];
  // While nothing happens there is nothing to do.
  timer ??= setInterval(showRates, 1000);
}

/** Shows the number of connections. */
export function showConnections(number) {
  setText(document.getElementById("total-connections"), number.toLocaleString("en"));
}

function showRates() {
  history.push({ at: performance.now(), ...totals });
  while (history.length > RATE_SECONDS + 1) history.shift();
  const [first, last] = [history[0], history[history.length - 1]];
  let isQuiet = true;
  for (const name of WITH_RATE) {
    const rate = (last[name] - first[name]) / Math.max((last.at - first.at) / 1000, 1);
    const text = rate === 0 ? "" : `${rate < 10 ? rate.toFixed(1) : Math.round(rate).toLocaleString("en")} a second`;
    setText(document.getElementById(`rate-${name}`), text);
    isQuiet &&= rate === 0;
  }
  if (isQuiet) {
    clearInterval(timer);
    timer = null;
    history = [];
  }
}
