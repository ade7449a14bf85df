// Bytes that look like bytes: hex, and protobuf as far as it can be read without its schema.

const FIELDS = 40;
const DEPTH = 4;
const decoder = new TextDecoder("utf-8", { fatal: true });
// Text that is rather text than bytes.
const TEXT = /^[^\p{Cc}\p{Cn}\p{Co}]*$/u;

/** The beginning of base64 in quotes, perhaps cut, as bytes, and whether it is cut; null if it is something else. */
export function fromBase64(data) {
  const cut = !/^".*"$/s.test(data);
  const text = data.replace(/^"/, "").replace(/["…]$/, "");
  try {
    const characters = atob(cut ? text.slice(0, text.length - (text.length % 4)) : text);
    return { bytes: Uint8Array.from(characters, (character) => character.charCodeAt(0)), cut };
  } catch {
    return null;
  }
}

/** "01 ab ff", with an ellipsis if the bytes are cut. */
export function hex({ bytes, cut }) {
  return Array.from(bytes, twoDigits).join(" ") + (cut ? " …" : "");
}

/** Lines of an offset, sixteen bytes and what they are in ASCII. */
export function dump({ bytes, cut }) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const part = [...bytes.subarray(at, at + 16)];
    const ascii = part.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(4, "0")}  ${part.map(twoDigits).join(" ").padEnd(47)}  ${ascii}`);
  }
  if (cut) lines.push("…");
  return lines.join("\n");
}

/** A google.protobuf.Any: its type, and the fields of its message; null if the bytes are none. */
export function anyMessage({ bytes, cut }) {
  const fields = parse(bytes, cut);
  const type = fields?.find(({ number, wire }) => number === 1 && wire === 2);
  if (type === undefined) return null;
  const name = textOf(type.value);
  if (name === null) return null;
  const content = fields.find(({ number, wire }) => number === 2 && wire === 2);
  const inner = content === undefined ? [] : parse(content.value, content.cut);
  if (inner === null) return `${name} ${hex({ bytes: content.value, cut: content.cut })}`;
  return `${name} ${describe(inner, 1, cut)}`;
}

function describe(fields, depth, cut) {
  const parts = fields.slice(0, FIELDS).map((field) => `${field.number}: ${valueOf(field, depth)}`);
  if (cut || fields.length > FIELDS) parts.push("…");
  return `{${parts.join(", ")}}`;
}

function valueOf({ wire, value, cut }, depth) {
  if (wire !== 2) return String(value);
  const text = cut ? null : textOf(value);
  if (text !== null) return JSON.stringify(text);
  const inner = depth < DEPTH && value.length > 0 ? parse(value, cut) : null;
  return inner === null ? `<${hex({ bytes: value, cut })}>` : describe(inner, depth + 1, cut);
}

/** The fields of a message, each with its number, wire type and value; null if the bytes are no message. */
function parse(bytes, cut) {
  const fields = [];
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (at >= bytes.length) return null;
      const byte = bytes[at++];
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return null;
  };
  while (at < bytes.length && fields.length <= FIELDS) {
    const key = varint();
    if (key === null) return cut ? fields : null;
    const [number, wire] = [key >> 3n, Number(key & 7n)];
    if (number === 0n || number > 536870911n) return null;
    const size = wire === 0 ? 0 : wire === 1 ? 8 : wire === 5 ? 4 : wire === 2 ? varint() : undefined;
    const value = wire === 0 ? varint() : null;
    if (size === undefined) return null;
    if (size === null || (wire === 0 && value === null)) return cut ? fields : null;
    const end = at + Number(size);
    const short = end > bytes.length;
    if (short && !cut) return null;
    const part = bytes.subarray(at, end);
    if (wire === 0) fields.push({ number: Number(number), wire, value });
    else if (wire === 2) fields.push({ number: Number(number), wire, value: part, cut: short });
    else if (!short) fields.push({ number: Number(number), wire, value: fixed(part) });
    at = end;
  }
  return fields;
}

/** Eight or four bytes, which may be a floating-point number or an integer: as the former if it is a short one. */
function fixed(part) {
  const view = new DataView(part.buffer, part.byteOffset, part.length);
  const real = part.length === 8 ? view.getFloat64(0, true) : view.getFloat32(0, true);
  const whole = part.length === 8 ? view.getBigUint64(0, true) : view.getUint32(0, true);
  return Number.isFinite(real) && Math.abs(real) > 1e-6 && Math.abs(real) < 1e15 ? Number(real.toPrecision(7)) : whole;
}

function textOf(bytes) {
  try {
    const text = decoder.decode(bytes);
    return TEXT.test(text) ? text : null;
  } catch {
    return null;
  }
}

function twoDigits(byte) {
  return byte.toString(16).padStart(2, "0");
}
