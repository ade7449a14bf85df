// Text of others on the page: what cannot be seen is shown as an escape, long text is cut and says so, and each name
// and text has an element of its own, which its direction and its look cannot leave.

import { count, element } from "./dom.js";

/** Characters of a name that are laid out; the feed shortens names to as many. */
const NAME = 240;
/** Characters of a text that are laid out. A browser takes seconds for a line of megabytes. */
const WORDS = 1000;
/** Marks on a letter; more of them reach into other lines. */
const MARKS = 4;

const PLAIN = /^[\x20-\x7e]*$/;
const MARK = /^\p{M}$/u;
const BLANK = /^[\p{Z}\u2800\u{1d159}]$/u;
const UNSEEN = /^[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800\u{1d159}]$/u;
const PICTOGRAPH = /^[\p{Extended_Pictographic}\p{Emoji_Modifier}]$/u;
const SHORT = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
const JOINER = "\u200d";
const SELECTOR = "\ufe0f";

/** A part of a sentence: a name that somebody has chosen. */
export const name = (text) => ({ name: text });
/** A part of a sentence: a text of others, as a message or a reason. */
export const words = (text) => ({ words: text });
/** A part of a sentence: one who has no name, as the page calls it. */
export const nobody = (text) => ({ nobody: text });
/** The name of a user, or that there is none. */
export const user = (id) => (id === null || id === undefined ? nobody("anonymous") : name(id));

/** Makes the element of a part; a string is the page's own text and stays one. */
export function shown(part) {
  if (typeof part === "string") return part;
  if (part.nobody !== undefined) return element("span", { className: "nobody" }, part.nobody);
  const isName = part.name !== undefined;
  const { pieces, left } = cut(isName ? part.name : part.words, isName);
  const made = element("bdi", { className: isName ? "name" : "words" });
  for (const { text, escaped } of pieces) {
    made.append(escaped ? element("span", { className: "escaped" }, text) : text);
  }
  if (left > 0) made.append(element("span", { className: "cut" }, more(left)));
  if (isName) made.title = plain(part);
  return made;
}

/** The text of a part, as it is shown: for titles and for the filter. */
export function plain(part) {
  if (typeof part === "string") return part;
  if (part.nobody !== undefined) return part.nobody;
  const { pieces, left } = cut(part.name ?? part.words, part.name !== undefined);
  return pieces.map(({ text }) => text).join("") + (left > 0 ? more(left) : "");
}

/** Makes the children of `target` these parts, if they differ from those that are there. */
export function setParts(target, ...parts) {
  const key = JSON.stringify(parts);
  if (target.shownParts === key) return;
  target.shownParts = key;
  target.replaceChildren(...parts.map(shown));
}

/** Whether the text is longer than what is laid out of it. */
export function isCut(text) {
  return text.length > WORDS;
}

function more(left) {
  return `… ${count(left, "more character")}`;
}

/** Cuts a text into pieces, `escaped` or not, and counts the characters that are left out. */
function cut(text, isName) {
  const limit = isName ? NAME : WORDS;
  if (text.length <= limit && PLAIN.test(text)) return { pieces: [{ text, escaped: false }], left: 0 };
  const characters = [...text.slice(0, limit)];
  // Half of a pair at the end is not half of a character.
  if (/[\ud800-\udbff]$/.test(text.slice(0, limit)) && text.length > limit) characters.pop();
  const used = characters.reduce((sum, character) => sum + character.length, 0);
  const pieces = [];
  // The marks on the last character; null if there is none that they could be on.
  let marks = null;
  characters.forEach((character, at) => {
    const unseen = UNSEEN.test(character) || (isName && character !== " " && BLANK.test(character));
    const isMark = !unseen && MARK.test(character);
    const escaped = isMark ? marks === null || ++marks > MARKS : unseen && (isName || !isInEmoji(characters, at));
    if (escaped ? !isMark : character === " ") marks = null;
    else if (!isMark && !unseen) marks = 0;
    const shownAs = escaped ? escape(character) : character;
    const last = pieces[pieces.length - 1];
    if (last !== undefined && last.escaped === escaped) last.text += shownAs;
    else pieces.push({ text: shownAs, escaped });
  });
  return { pieces, left: length(text, used) };
}

/** Whether a joiner or a selector is part of an emoji, which is seen as one. */
function isInEmoji(characters, at) {
  const before = characters[at - 1] ?? "";
  const after = characters[at + 1] ?? "";
  if (characters[at] === SELECTOR) return PICTOGRAPH.test(before) || (/^[#*0-9]$/.test(before) && after === "\u20e3");
  if (characters[at] !== JOINER || !PICTOGRAPH.test(after)) return false;
  return PICTOGRAPH.test(before === SELECTOR ? (characters[at - 2] ?? "") : before);
}

function escape(character) {
  return SHORT[character] ?? `\\u{${character.codePointAt(0).toString(16)}}`;
}

/** The number of characters from `start` on. */
function length(text, start) {
  let number = 0;
  for (let at = start; at < text.length; number++) at += text.codePointAt(at) > 0xffff ? 2 : 1;
  return number;
}
