// Connects the parts of the page: batches of the feed go to the tiles, the hubs and the log.

import { setText } from "./dom.js";
import { openFeed } from "./feed.js";
import { showState } from "./hubs.js";
import { addEvents, setFilter } from "./log.js";
import { addCounts, showConnections } from "./totals.js";
import "./tryit.js";

const LIVE = {
  live: "Live",
  waiting: "The service is away. Waiting for it…",
  refused: "The service refuses the feed. Reload the page to try again.",
};
const live = document.getElementById("live");

setText(document.getElementById("endpoint"), location.origin + location.pathname.replace(/\/$/, ""));

openFeed(
  ({ counts, events = [], skipped = 0, state }) => {
    addCounts(counts);
    addEvents(events, skipped);
    if (state) {
      showConnections(state.connectionCount);
      showState(state, setFilter);
    }
  },
  (state) => {
    live.dataset.state = state;
    setText(live, LIVE[state]);
  },
);
