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

/** "12 B", "1.5 KiB", "3.0 MiB". */
export function bytes(size) {
  if (size < 1024) return `${size} B`;
  return size < 1024 * 1024 ? `${(size / 1024).toFixed(1)} KiB` : `${(size / 1024 / 1024).toFixed(1)} MiB`;
}

/** "0.4 ms", "12 ms", "1.50 s". */
export function duration(seconds) {
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(2)} s`;
}

/**
 * Makes a list one stop of the Tab key: the arrow keys, Home and End move between its items. The controls of the
 * current item alone are in the order of the Tab key. `move(item, key)` may find the next item itself.
 */
export function rove(list, move = neighbour) {
  const set = (item, index) => {
    for (const control of item?.querySelectorAll("button") ?? []) control.tabIndex = index;
  };
  const enter = (item) => {
    if (list.currentItem === item) return;
    set(list.currentItem, -1);
    set((list.currentItem = item), 0);
  };
  list.addEventListener("focusin", (event) => enter(itemOf(list, event.target)));
  list.addEventListener("keydown", (event) => {
    const item = itemOf(list, event.target);
    if (item === null || !["ArrowDown", "ArrowUp", "Home", "End"].includes(event.key)) return;
    event.preventDefault();
    const next = move(item, event.key);
    if (next !== null) {
      enter(next);
      next.querySelector("button").focus();
    }
  });
  /** To call when items were added or removed: one of them can be reached with the Tab key. */
  return () => {
    if (list.currentItem?.parentElement !== list) list.currentItem = null;
    if (list.currentItem === undefined || list.currentItem === null) enter(list.querySelector(":scope > li:has(button)"));
  };
}

function itemOf(list, target) {
  const item = target.closest("li");
  return item?.parentElement === list ? item : null;
}

function neighbour(item, key) {
  const items = [...item.parentElement.children].filter((child) => child.querySelector("button") !== null);
  if (key === "Home") return items[0];
  if (key === "End") return items[items.length - 1];
  return items[items.indexOf(item) + (key === "ArrowDown" ? 1 : -1)] ?? null;
}
