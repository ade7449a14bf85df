// The nodes of the cluster, if there is one: who is there, and how this one reads the log.

import { duration, element, keep, setText } from "./dom.js";
import { name, setParts, words } from "./text.js";

/** Seconds of silence from which on they are told. */
const SILENT = 3;

const card = document.getElementById("nodes-card");
const list = document.getElementById("nodes");
const log = document.getElementById("cluster-log");
const problem = document.getElementById("cluster-problem");
let nodes = [];

/** Shows a cluster as the node that serves this page has it. */
export function showCluster(cluster) {
  nodes = cluster.nodes;
  card.hidden = false;
  keep(list, nodes, (node) => node.run, create, update);
  if (cluster.log) setText(log, logLine(cluster.log));
  const text = cluster.refusal ?? cluster.log?.problem ?? null;
  setParts(problem, ...(text === null ? [] : [words(text)]));
  problem.hidden = text === null;
}

/** The name of the node with this run, as a part: that for people if no other node has the same. */
export function nodeName(run) {
  const known = nodes.find((node) => node.run === run);
  const isAlone = nodes.filter((node) => node.name === known?.name).length === 1;
  return name(isAlone ? known.name : run);
}

function create() {
  return element("li", {}, element("strong"), " ", element("span", { className: "quiet" }));
}

function update(child, node) {
  setParts(child.querySelector("strong"), nodeName(node.run));
  const silent = node.age > SILENT;
  setText(child.querySelector("span"), silent ? `silent for ${Math.round(node.age)} s` : node.isThis ? "this one" : "there");
  child.title = `${node.run}, heard of ${node.age.toFixed(1)} s ago`;
}

function logLine({ readingFrom, lag, unreadEntries, congested }) {
  const from = readingFrom === "nothing" ? "The log is not read at the moment" : `Reads the log from the ${readingFrom}`;
  const behind = `${duration(lag)} behind, ${unreadEntries.toLocaleString("en")} unread`;
  return `${from}, ${behind}${congested ? ": clients have to wait" : ""}.`;
}
