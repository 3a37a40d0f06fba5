// Shared by all explorers: the frame, the theme, controls, and the arithmetic of groups.
// Python puts `const THEME = {...}` before this text (a3mini/theme.py) and an explorer's module after it.
/* global THEME */

// Elements ------------------------------------------------------------------------------------

/**
 * An element. `on*` attributes are listeners; null or false leaves an attribute out, true gives it no value: write
 * `String(flag)` where "true" and "false" are meant. Children may stand in lists.
 */
export function h(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return dress(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function dress(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

let count = 0;
/** An id that nothing else on the page has. */
export const newId = (name) => `a3-${name}-${++count}-${Math.random().toString(36).slice(2, 8)}`;

// The frame -----------------------------------------------------------------------------------

/** Which theme the page around us has: the book, JupyterLab, Colab, VS Code; else what the system prefers. */
export function pageTheme() {
  const { documentElement: html, body } = document;
  const said = html.dataset.theme ?? html.getAttribute("theme");
  if (said === "dark" || said === "light") return said;
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "true" ? "light" : "dark";
  if (body.classList.contains("vscode-dark") || body.classList.contains("vscode-high-contrast")) return "dark";
  if (body.classList.contains("vscode-light")) return "light";
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

function followTheme(root) {
  const update = () => (root.dataset.theme = pageTheme());
  const observer = new MutationObserver(update);
  observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme", "theme"] });
  observer.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class"] });
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", update);
  update();
  return () => (observer.disconnect(), system.removeEventListener("change", update));
}

/**
 * Build an explorer's frame in `el`: a heading, the body that `build(body, say)` fills, and the source of its data.
 * `say(text)` tells a screen reader what has changed. Returns the function that anywidget calls at the end.
 */
export function frame({ model, el }, title, build) {
  const heading = newId("title");
  const body = h("div", { class: "a3-body" });
  const spoken = h("div", { class: "a3-spoken", role: "status", "aria-live": "polite" });
  const root = h(
    "div",
    // JupyterLab would take our arrow keys for its own shortcuts.
    { class: "a3-explorer", role: "group", "aria-labelledby": heading, "data-lm-suppress-shortcuts": "true" },
    h("p", { class: "a3-title", id: heading }, title),
    body,
    h("p", { class: "a3-source" }, "Data: ", model.get("source")),
    spoken,
  );
  root.dataset.face = el.dataset.a3Face ?? "live";
  const stopFollowing = followTheme(root);
  el.replaceChildren(root);
  const stop = build(body, (text) => (spoken.textContent = text));
  root.dataset.ready = "true";
  return () => (stopFollowing(), stop?.());
}

/** Call `draw` now, and again whenever one of the model's traits `names` changes. Returns the way to stop. */
export function follow(model, names, draw) {
  names.forEach((name) => model.on(`change:${name}`, draw));
  draw();
  return () => names.forEach((name) => model.off(`change:${name}`, draw));
}

/** Set traits, here and in Python. */
export function put(model, values) {
  for (const [name, value] of Object.entries(values)) model.set(name, value);
  model.save_changes();
}

// Controls: native ones, for they come with keyboard and screen reader ---------------------------

/** One of a few: radio buttons that look like tabs. `options` is [[value, text], ...]. */
export function choice(label, options, value, onchange) {
  const name = newId("choice");
  const inputs = options.map(([option, text]) =>
    h(
      "label",
      {},
      h("input", { type: "radio", name, value: option, checked: option === value, onchange: () => onchange(option) }),
      h("span", {}, text),
    ),
  );
  const field = h("fieldset", { class: "a3-choice" }, h("legend", {}, label), h("div", {}, inputs));
  field.show = (shown) => field.querySelectorAll("input").forEach((input) => (input.checked = input.value === shown));
  return field;
}

/** One of many. */
export function select(label, options, value, onchange) {
  const list = h(
    "select",
    { onchange: () => onchange(list.value) },
    options.map(([option, text]) => h("option", { value: option, selected: option === value }, text)),
  );
  const field = h("label", { class: "a3-select" }, h("span", {}, label), list);
  field.show = (shown) => (list.value = shown);
  return field;
}

/** A whole number from `low` to `high`; `tell(value)` is what is written beside it and read out. */
export function slider(label, low, high, value, oninput, tell = String) {
  const range = h("input", { type: "range", min: low, max: high, step: 1, oninput: () => change(+range.value) });
  const output = h("output", {});
  const change = (next) => (field.show(next), oninput(next));
  const field = h("label", { class: "a3-slider" }, h("span", {}, label), range, output);
  field.show = (shown) => {
    range.value = shown;
    output.textContent = tell(shown);
    range.setAttribute("aria-valuetext", tell(shown));
  };
  field.limit = (next) => range.setAttribute("max", next);
  field.show(value);
  return field;
}

export const button = (text, onclick, attributes = {}) =>
  h("button", { type: "button", class: "a3-button", onclick, ...attributes }, text);

/**
 * The clock of a figure that replays something: how many ticks have passed is the trait `clock`. A timer lives only
 * while it plays.
 *
 * `at()` and `end()` are ticks, now and at most; `next()` and `previous()` say where a step leads; `wait()` is the time
 * between two ticks in milliseconds; `told()` is what a screen reader hears. Returns the buttons in a row, `go(tick)`,
 * and `pause()`, which anywidget must call at the end, too.
 */
export function timeline({ model, body, say, at, end, wait, told, next, previous }) {
  next ??= () => Math.min(end(), at() + 1);
  previous ??= () => Math.max(0, at() - 1);
  let timer = null;
  const pause = () => {
    clearTimeout(timer);
    timer = null;
    play.textContent = "▶ Play";
  };
  const go = (tick) => {
    pause();
    put(model, { clock: tick });
    say(told());
  };
  const advance = () => {
    if (!body.isConnected) return pause();
    put(model, { clock: next() });
    if (at() === end()) return (pause(), say(told()));
    timer = setTimeout(advance, wait());
  };
  const toggle = () => {
    if (timer !== null) return pause();
    if (at() === end()) put(model, { clock: 0 });
    play.textContent = "❚❚ Pause";
    advance();
  };
  const play = button("▶ Play", toggle, { class: "a3-button a3-play" });
  const steer = (sign, label, tick) => button(sign, () => go(tick()), { "aria-label": label, title: label });
  const keys = h(
    "div",
    { class: "a3-keys a3-stays" },
    steer("❘←", "First", () => 0),
    steer("←", "Step back", previous),
    play,
    steer("→", "Step forward", next),
    steer("→❘", "Last", end),
  );
  return { keys, go, pause };
}

/**
 * One stop of the Tab key for many elements: arrow keys, Home and End move among them. `columns`: up and down
 * move by so many. Give it a container whose children `selector` finds, at any time.
 */
export function roving(container, selector, columns = () => 0) {
  const items = () => [...container.querySelectorAll(selector)];
  const enter = (item) => items().forEach((other) => (other.tabIndex = other === item ? 0 : -1));
  container.addEventListener("focusin", (event) => {
    const item = event.target.closest(selector);
    if (item) enter(item);
  });
  container.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(event.target.closest(selector));
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns(), Home: -at };
    steps.End = all.length - 1 - at;
    const step = steps[event.key];
    if (!step || !all[at + step]) return;
    event.preventDefault();
    all[at + step].focus();
  });
  const refresh = () => {
    const all = items();
    if (all.filter((item) => item.tabIndex === 0).length !== 1) enter(all[0]); // native buttons all start with 0
  };
  return refresh;
}

// Colours -------------------------------------------------------------------------------------

const channels = (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
const hex = (rgb) => "#" + rgb.map((c) => Math.round(c).toString(16).padStart(2, "0")).join("").toUpperCase();

/** `share` 0 is colour `a`, 1 is `b`. */
export function mix(a, b, share) {
  const [x, y] = [channels(a), channels(b)];
  return hex(x.map((c, i) => c + (y[i] - c) * share));
}

/** Black or white, whichever reads better: theme.ink. */
export function ink(colour) {
  const [red, green, blue] = channels(colour).map((c) => {
    const share = c / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) ? "#000000" : "#FFFFFF";
}

/** One colour for each of `count` groups or lines: theme.shades. */
export function shades(count) {
  const { okabe_ito: few, cividis: many } = THEME;
  if (count <= few.length) return few.slice(0, count);
  return Array.from({ length: count }, (_, number) => {
    const place = (number / (count - 1)) * (many.length - 1);
    const low = Math.min(Math.floor(place), many.length - 2);
    return mix(many[low], many[low + 1], place - low);
  });
}

/** One colour for each of `count` moments, from dark to light, however few there are. */
export function ramp(count) {
  const many = shades(Math.max(count, 8));
  return Array.from({ length: count }, (_, i) => many[Math.round((i * (many.length - 1)) / Math.max(1, count - 1))]);
}

/** One colour per token, as plots.group_colours: grey given, the ground's colour for padding, else by rank. */
export function groupColours(groupIds) {
  const ranks = relabel(groupIds);
  const palette = shades(Math.max(1, ...ranks));
  return ranks.map((rank) => (rank === GIVEN ? THEME.given : rank === PADDING ? THEME.padding : palette[rank - 1]));
}

// Groups and masks: a3mini/groups.py and a3mini/masks.py once more, in the page's language. Tests compare them.

export const PADDING = -1;
export const GIVEN = 0;

/** Group ids 1, 2, 3, ... in the same order; given (0) and padding (-1) stay. groups.relabel. */
export function relabel(groupIds) {
  const order = [...new Set(groupIds.filter((group) => group > GIVEN))].sort((a, b) => a - b);
  return groupIds.map((group) => (group > GIVEN ? order.indexOf(group) + 1 : group));
}

/** The number of the last group; 0 without any. */
export const last = (groups) => Math.max(GIVEN, ...groups);

/** `token` put into `group`, which may lie between two of them. */
export const place = (groups, token, group) => relabel(groups.map((old, j) => (j === token ? group : old)));

/** One step earlier (-1) or later (1): out of a group with others into a new one, out of that into the next group. */
export function step(groups, token, by) {
  const group = groups[token];
  const alone = groups.filter((other) => other === group).length === 1;
  if (group === PADDING) return by < 0 ? place(groups, token, last(groups) + 1) : groups;
  if (group === GIVEN) return by < 0 ? groups : place(groups, token, 0.5);
  if (!alone) return place(groups, token, group + by / 2);
  return place(groups, token, by > 0 && group === last(groups) ? PADDING : group + by);
}

/** Is content of token `j` seen by the content row of token `i`? masks.content_mask. */
export const contentSees = (groups, i, j) => groups[j] >= 0 && groups[j] <= groups[i];

/** By the query row of token `i`? masks.query_mask. */
export const querySees = (groups, i, j) => groups[j] >= 0 && groups[j] < groups[i];

// Words ---------------------------------------------------------------------------------------

/** How a token is shown: spaces and line breaks become visible, for they belong to it. */
export const shown = (token) => token.replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥") || "∅";

export const plural = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

export const percent = (p) => (p < 0.001 ? "< 0.1%" : `${(100 * p).toFixed(1)}%`);
