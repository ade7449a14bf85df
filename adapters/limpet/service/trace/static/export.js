// The log as JSON lines: to the clipboard, or to a file.

import { setText } from "./dom.js";

// What would not be seen, or would change how the rest is seen: JSON has escapes for it.
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;
const MARKS = /(\p{M}{4})(\p{M}+)/gu;
const SAID = 2000;

/** JSON of a value, in which every character can be seen. */
export function visibleJson(value, indent) {
  const text = JSON.stringify(value, null, indent);
  const lines = text.split("\n").map((line) => line.replace(UNSEEN, escaped));
  return lines.join("\n").replace(MARKS, (_, first, more) => first + escaped(more));
}

/** One event as a line. */
export function line({ number, at, event }) {
  return visibleJson({ at: new Date(at * 1000).toISOString(), number, ...event });
}

/** Copies a text and says so on the button. Without a secure origin a page has no clipboard. */
export async function copy(button, text) {
  const name = (button.named ??= button.textContent);
  try {
    await navigator.clipboard.writeText(text);
    setText(button, "Copied");
  } catch {
    setText(button, "Cannot copy");
  }
  clearTimeout(button.said);
  button.said = setTimeout(() => setText(button, name), SAID);
}

/** Connects the buttons; `events()` are those to export, with their numbers and times. */
export function onExport(events) {
  const lines = () => events().map((noted) => `${line(noted)}\n`).join("");
  const copyButton = document.getElementById("copy");
  copyButton.addEventListener("click", () => copy(copyButton, lines()));
  document.getElementById("export").addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([lines()], { type: "application/jsonl" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = `limpet-trace-${new Date().toISOString().replace(/[:.]/g, "-")}.jsonl`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  });
}

function escaped(text) {
  return text
    .split("")
    .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
    .join("");
}
