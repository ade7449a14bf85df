// The try-it panel: a client of this service, with a URL from /negotiate.

import { Client } from "./client.js";
import { element, setText } from "./dom.js";

const RECEIVED = 50;

const forms = {
  connect: document.getElementById("try-connect"),
  join: document.getElementById("try-join"),
  send: document.getElementById("try-send"),
};
const connectButton = forms.connect.querySelector("button");
const leave = document.getElementById("try-leave");
const cut = document.getElementById("try-cut");
const status = document.getElementById("try-status");
const received = document.getElementById("try-received");

let client = null;

function say(text, isError = false) {
  setText(status, text);
  status.classList.toggle("error", isError);
}

/** Shows whether there is a client, and whether it can be used now. */
function show(hasClient, isUsable) {
  setText(connectButton, hasClient ? "Disconnect" : "Connect");
  connectButton.classList.toggle("main", !hasClient);
  for (const input of forms.connect.querySelectorAll("input")) input.disabled = hasClient;
  for (const button of [...forms.join.querySelectorAll("button"), ...forms.send.querySelectorAll("button"), cut]) {
    button.disabled = !isUsable;
  }
}

async function connect() {
  const { hub, user } = forms.connect.elements;
  connectButton.disabled = true;
  say("Connecting…");
  try {
    const query = new URLSearchParams({ hub: hub.value });
    if (user.value) query.set("userId", user.value);
    const response = await fetch(`negotiate?${query}`, { method: "POST" });
    if (!response.ok) throw new Error(await response.text());
    const { url } = await response.json();
    client = new Client(url, { onState, onMessage });
    show(true, false);
  } catch (error) {
    say(error.message, true);
  } finally {
    connectButton.disabled = false;
  }
}

function onState(state, detail) {
  if (state === "closed") {
    client = null;
    show(false, false);
    say(detail ? `Closed: ${detail}` : "Not connected.", detail !== "");
    return;
  }
  show(true, state !== "recovering");
  if (state === "connected") say(`Connected as ${detail}.`);
  if (state === "recovered") say("Recovered: nothing was lost.");
  if (state === "recovering") say(`The connection was lost (${detail}); recovering…`);
}

function onMessage(message) {
  const from = message.from === "group" ? `${message.group} · ${message.fromUserId ?? "anonymous"}` : "server";
  const data = typeof message.data === "string" ? message.data : JSON.stringify(message.data);
  received.prepend(element("li", {}, element("span", { className: "quiet" }, from), " ", element("span", {}, data)));
  while (received.childElementCount > RECEIVED) received.lastElementChild.remove();
}

/** Sends a request and shows its outcome. */
async function ask(message, done) {
  try {
    await client.request(message);
    say(done);
  } catch (error) {
    say(error.message, true);
  }
}

function onSubmit(form, action) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    action();
  });
}

const group = () => forms.join.elements.group.value;

onSubmit(forms.connect, () => (client === null ? connect() : client.stop()));
onSubmit(forms.join, () => client && ask({ type: "joinGroup", group: group() }, `Joined ${group()}.`));
leave.addEventListener("click", () => client && ask({ type: "leaveGroup", group: group() }, `Left ${group()}.`));
onSubmit(forms.send, () => {
  const data = forms.send.elements.message.value;
  if (client) ask({ type: "sendToGroup", group: group(), dataType: "text", data }, `Sent to ${group()}.`);
});
cut.addEventListener("click", () => client?.cut());
