// The line protocol of this suite's programs. In: {"id": 1, "do": "join", ...arguments}, one line of JSON each.
// Out: {"id": 1, "result": ...} or {"id": 1, "error": {...}}, and {"about": ..., "event": ..., "value": ...} at any time.
import { createInterface } from "node:readline";

const write = (line) => process.stdout.write(JSON.stringify(line) + "\n");

export const tell = (about, event, value) => write({ about, event, value });

export const toBase64 = (buffer) => Buffer.from(buffer).toString("base64");

export const fromBase64 = (text) => {
  const bytes = Buffer.from(text, "base64");
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
};

// What an Error does not have by itself (a status, the service's error) the official packages add as properties.
const described = (error) => ({
  name: error?.errorDetail?.name ?? error?.code ?? error?.name ?? "Error",
  message: error?.errorDetail?.message ?? String(error?.message ?? error),
  status: error?.statusCode ?? null,
});

export function serve(commands) {
  const lines = createInterface({ input: process.stdin });
  lines.on("line", async (line) => {
    const { id, do: name, ...options } = JSON.parse(line);
    try {
      write({ id, result: (await commands[name](options)) ?? null });
    } catch (error) {
      write({ id, error: described(error) });
    }
  });
  // Without this the official client keeps the process alive for another 40 seconds.
  lines.on("close", () => process.exit(0));
  write({ about: "program", event: "ready", value: process.version });
}
