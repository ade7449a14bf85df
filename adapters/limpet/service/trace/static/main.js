// Connects the parts of the page: batches of the feed go to the tiles, the hubs and the log.

import { connectionsChanged } from "./connections.js";
import { setText } from "./dom.js";
import { openFeed } from "./feed.js";
import { showHandlers } from "./handlers.js";
import { showState } from "./hubs.js";
import { addEvents, addStart, setFilter } from "./log.js";
import { showCluster } from "./nodes.js";
import { showConnections, showTotals } from "./totals.js";
import "./tryit.js";

const LIVE = {
  live: "Live",
  waiting: "The service is away. Waiting for it…",
  refused: "The service refuses the feed. Reload the page to try again.",
};
/** Batches that are kept while nobody sees the page; of older ones, which the log would forget, only the totals count. */
const KEPT = 50;

const live = document.getElementById("live");
let run = null;
let unseen = [];

setText(document.getElementById("endpoint"), location.origin + location.pathname.replace(/\/$/, ""));

function show({ run: itsRun, started, totals, events = [], skipped = 0, state, handlers, cluster }) {
  const isStart = itsRun !== run;
  if (isStart) {
    setText(document.getElementById("since"), `since ${new Date(started * 1000).toLocaleTimeString("en-GB")}`);
    addStart(started, run !== null);
    run = itsRun;
  }
  showTotals(totals, isStart);
  addEvents(events, skipped);
  if (cluster) showCluster(cluster);
  if (state) {
    showConnections(state.connectionCount);
    showState(state, setFilter);
  }
  if (handlers) showHandlers(handlers);
  connectionsChanged(setFilter, state?.hubCount);
}

function keepUnseen(batch) {
  unseen.push(batch);
  if (unseen.length <= KEPT) return;
  const [old, next] = unseen.splice(0, 2);
  const skipped = (old.skipped ?? 0) + (old.events?.length ?? 0) + (next.skipped ?? 0);
  // Of another run, only the newer one counts.
  unseen.unshift({ ...old, ...next, events: next.events, skipped: old.run === next.run ? skipped : (next.skipped ?? 0) });
}

openFeed(
  (batch) => (document.hidden ? keepUnseen(batch) : show(batch)),
  (state) => {
    live.dataset.state = state;
    setText(live, LIVE[state]);
  },
);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  const batches = unseen;
  unseen = [];
  batches.forEach(show);
});
