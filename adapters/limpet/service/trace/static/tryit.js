// The try-it panel: a client of this service, with a URL from /negotiate.

import { Client } from "./client.js";
import { element, setText } from "./dom.js";
import { isCut, name, nobody, setParts, shown, user, words } from "./text.js";

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

/** Shows the parts of a sentence (see text.js) as the status. */
function say(...parts) {
  setParts(status, ...parts);
  status.classList.remove("error");
}

function complain(...parts) {
  say(...parts);
  status.classList.add("error");
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
    complain(words(error.message));
  } finally {
    connectButton.disabled = false;
  }
}

function onState(state, detail) {
  if (state === "closed") {
    client = null;
    show(false, false);
    if (detail) complain("Closed: ", words(detail));
    else say("Not connected.");
    return;
  }
  show(true, state !== "recovering");
  if (state === "connected") say("Connected as ", user(detail), ".");
  if (state === "recovered") say("Recovered: nothing was lost.");
  if (state === "recovering") say(`The connection was lost (${detail}); recovering…`);
}

function onMessage(message) {
  const from = message.from === "group" ? [name(message.group), " · ", user(message.fromUserId)] : [nobody("server")];
  const data = typeof message.data === "string" ? message.data : JSON.stringify(message.data);
  const row = element("li", {}, element("span", { className: "quiet" }, ...from.map(shown)), " ", shown(words(data)));
  // Without a secure origin a page has no clipboard.
  if (isCut(data) && navigator.clipboard) {
    const copy = element("button", { type: "button", className: "small" }, "Copy all");
    copy.addEventListener("click", () => {
      navigator.clipboard.writeText(data).then(() => setText(copy, "Copied"), () => setText(copy, "Cannot copy"));
    });
    row.append(" ", copy);
  }
  received.prepend(row);
  while (received.childElementCount > RECEIVED) received.lastElementChild.remove();
}

/** Sends a request and shows its outcome. */
async function ask(message, ...done) {
  try {
    await client.request(message);
    say(...done);
  } catch (error) {
    complain(words(error.message));
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
onSubmit(forms.join, () => client && ask({ type: "joinGroup", group: group() }, "Joined ", name(group()), "."));
leave.addEventListener("click", () => client && ask({ type: "leaveGroup", group: group() }, "Left ", name(group()), "."));
onSubmit(forms.send, () => {
  const data = forms.send.elements.message.value;
  if (client) ask({ type: "sendToGroup", group: group(), dataType: "text", data }, "Sent to ", name(group()), ".");
});
cut.addEventListener("click", () => client?.cut());
