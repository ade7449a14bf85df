// The dialog with everything about one row of the log.

import { dump, fromBase64 } from "./bytes.js";
import { element, setText } from "./dom.js";
import { copy, line, visibleJson } from "./export.js";
import { clock } from "./rows.js";

/** Events that are shown; the clipboard gets all. */
const SHOWN = 20;

const dialog = document.getElementById("details");
const content = document.getElementById("details-content");
const copyButton = document.getElementById("details-copy");
let entry = null;

/** Opens the dialog. The browser keeps the focus in it, closes it with Escape, and puts the focus back. */
export function openDetails(of) {
  entry = of;
  setText(document.getElementById("details-title"), `${of.label}, ${clock(of.at)}`);
  content.replaceChildren(...of.events.slice(-SHOWN).flatMap(eventParts));
  const left = of.events.length - SHOWN;
  if (left > 0) content.prepend(element("p", { className: "quiet" }, `The last ${SHOWN} events; ${left} before them.`));
  dialog.showModal();
}

function eventParts({ number, at, event }) {
  const parts = [element("h3", {}, `Event ${number}, ${clock(at)}`), box(visibleJson(event, 2), "The event as JSON")];
  const content = ["binary", "protobuf"].includes(event.dataType) ? fromBase64(event.data) : null;
  if (content !== null) parts.push(box(dump(content), "Its bytes"));
  return parts;
}

/** A box that can be scrolled with the keyboard. */
function box(text, label) {
  const made = element("pre", { tabIndex: 0 }, text);
  made.setAttribute("role", "region");
  made.setAttribute("aria-label", label);
  return made;
}

copyButton.addEventListener("click", () => copy(copyButton, entry.events.map((noted) => `${line(noted)}\n`).join("")));
document.getElementById("details-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
