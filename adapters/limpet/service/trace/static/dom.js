// Small helpers to build and update the page. Text is set as text, never as HTML.

/** Makes an element: `element("li", { className: "event" }, "text", anotherElement)`. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Sets an element's text if it differs, so that screen readers and selections are not disturbed. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/**
 * Makes the children of `parent` show `items`, in order. Elements stay with their key, and so keep focus and
 * selection: `create(key)` makes one, `update(element, item)` fills it. Long names that were shortened can be the same:
 * the second item with a key is left out.
 */
export function keep(parent, items, keyOf, create, update) {
  const present = (parent.keptByKey ??= new Map());
  const wanted = new Map();
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    if (wanted.has(key)) continue;
    const child = present.get(key) ?? create(key);
    present.delete(key);
    wanted.set(key, child);
    update(child, item);
    if (child === place) place = child.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of present.values()) child.remove();
  parent.keptByKey = wanted;
}

/** "1 connection", "2 connections". */
export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}
