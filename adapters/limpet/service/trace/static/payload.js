// Payloads of events: what is shown of them, and what kind of data they are.

import { anyMessage, fromBase64, hex } from "./bytes.js";
import { bytes } from "./dom.js";

/** The payload of an event as { text, kind }; null if it has none. `kind` is empty where the text says enough. */
export function payloadOf(event) {
  // An empty reply has no type.
  if (event.data === undefined || event.dataType === null) return null;
  const size = bytes(event.size);
  if (event.dataType === "binary" || event.dataType === "protobuf") {
    const content = fromBase64(event.data);
    if (content === null) return { text: event.data, kind: `${event.dataType}, ${size}` };
    const message = event.dataType === "protobuf" ? anyMessage(content) : null;
    return { text: message ?? hex(content), kind: `${event.dataType}, ${size}` };
  }
  return { text: event.data, kind: event.data.endsWith("…") ? `${event.dataType ?? "json"}, ${size}` : "" };
}

/** The text that a fragment of a stream adds to those before it. */
export function textOf(event) {
  if (event.dataType === "text") {
    try {
      return JSON.parse(event.data);
    } catch {
      return event.data.replace(/^"/, "");
    }
  }
  return `${payloadOf(event)?.text ?? ""} `;
}
