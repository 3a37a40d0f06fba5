// What the playground shows besides the text: its two masks, where one head looks, and what the model thinks of it.
// Each function is given numbers and returns elements; playground.js asks for the numbers.
import { contentSees, h, ink, mix, percent, querySees, shown, svg } from "./base.js";
import { quoted } from "./filled_text.js";

const WORST_LOSS = 8; // nats; a word that costs more is as red as it gets
const note = (...text) => h("p", { class: "a3-note" }, ...text);

/** The two masks, rows and columns in the order in which tokens came. `groups`: of each position, -1 where none is. */
export function maskPictures(groups) {
  const there = [...groups.keys()].filter((at) => groups[at] >= 0);
  there.sort((one, other) => groups[one] - groups[other] || one - other);
  const size = there.length;
  const picture = (title, sees, kind) => {
    // in this order, what a row sees is the beginning
    const rows = there.map((i, y) => {
      const width = there.filter((j) => sees(groups, i, j)).length;
      return `M0 ${y}h${width}v1h${-width}z`;
    });
    const label = `${title}: a square of ${size} rows and columns, in the order in which tokens came`;
    const look = { viewBox: `0 0 ${size} ${size}`, class: "a3-mask", "shape-rendering": "crispEdges" };
    const square = svg(
      "svg",
      { ...look, role: "img", "aria-label": label },
      svg("path", { d: rows.join(""), class: kind }),
    );
    return h("figure", {}, square, h("figcaption", {}, title));
  };
  return [
    note(
      "A row for each token, and a column for each that it may see; both in the order in which they came, given ones ",
      "first. A content row sees its own turn, a query row only what was there before. So each mask is a staircase, ",
      "whatever the order in the text.",
    ),
    h(
      "div",
      { class: "a3-row" },
      picture("content rows", contentSees, "a3-content-cell"),
      picture("query rows", querySees, "a3-query-cell"),
    ),
  ];
}

/** Where a head looks from `position`. weights: [position, share], colours: from nothing to all. */
export function headPicture(cells, position, weights, [ground, full]) {
  const share = new Map(weights);
  const token = (cell) => {
    const part = share.get(cell.position) ?? 0;
    const colour = mix(ground, full, Math.sqrt(part)); // small shares are seen, too
    const own = cell.position === position;
    const style = `--group: ${colour}; --group-ink: ${ink(colour)}`;
    const letters = cell.state === "start" ? "start" : own ? "?" : shown(cell.letters ?? "_");
    return h("span", { class: "a3-look", style, title: percent(part), "data-here": String(own) }, letters);
  };
  const top = [...weights].sort((one, other) => other[1] - one[1]).slice(0, 3);
  const name = (at) => (at ? quoted(cells[at].letters ?? "") : "the start");
  const said = top.map(([at, part]) => `${name(at)} ${percent(part)}`).join(", ");
  return [
    note(`The query row that predicts position ${position}: most of it goes to ${said}. Choose another token above.`),
    h("p", { class: "a3-flow" }, cells.filter(({ state }) => state !== "closed").map(token)),
  ];
}

/**
 * What the model thinks of a text. thought: `count` of its tokens; `of`, its words; `orders`, as the desk's `opinion`
 * has them; `words`, the costs that have come so far; `worst`, if all have.
 */
export function opinionTable({ count, of, orders, words, worst }) {
  const best = Math.min(...orders.map(({ nats }) => nats));
  const number = (text) => h("td", { class: "a3-number" }, text);
  const line = ({ name, nats }) => {
    const more = nats === best ? "best" : `+${(nats - best).toFixed(1)}`;
    const numbers = [(nats / count).toFixed(2), nats.toFixed(1), more].map(number);
    const cells = [h("th", { scope: "row" }, name), numbers];
    return h("tr", { "data-order": name, "data-nats": nats }, cells);
  };
  const titles = ["order", "nats a token", "nats in all", "more than the best"].map((text) =>
    h("th", { scope: "col" }, text),
  );
  const table = h(
    "table",
    { class: "a3-table" },
    h("thead", {}, h("tr", {}, titles)),
    h("tbody", {}, orders.map(line)),
  );
  const told = note(" ");
  const word = ({ letters }, n) => {
    const bare = letters.trim() || shown(letters);
    if (!words[n]) return h("span", { class: "a3-word", style: "--loss: 0%" }, bare, h("small", {}, "…"));
    const { left, both } = words[n];
    const label = `${bare}: given its left ${cost(left)} nats, given both sides ${cost(both)}`;
    const said = {
      title: label,
      "aria-label": label,
      role: "img",
      tabindex: 0,
      onfocus: () => (told.textContent = label),
    };
    const style = `--loss: ${(100 * Math.min(1, -both / WORST_LOSS)).toFixed(0)}%`;
    const all = { ...said, class: "a3-word", style, "data-left": left, "data-both": both };
    return h("span", all, bare, h("small", {}, cost(both)));
  };
  return [
    note(`The same text, ${count} tokens, predicted in several orders. Fewer nats: the model finds it likelier.`),
    h("div", { class: "a3-scroll" }, table),
    note(
      "Each word with what it costs given everything else, in nats; the redder, the worse it fits. Choose one for ",
      "its cost given its left side alone.",
    ),
    h("p", { class: "a3-flow" }, of.map(word)),
    told,
    worst ? helped(of, words) : "",
  ];
}

const cost = (logProb) => Math.abs(logProb).toFixed(1);

/** Where the right side tells most. */
function helped(of, words) {
  const gain = ({ left, both }) => both - left;
  const n = words.reduce((most, found, at) => (gain(found) > gain(words[most]) ? at : most), 0);
  if (gain(words[n]) <= 0.5) return "";
  const { left, both } = words[n];
  const told = `${cost(left)} nats given its left, ${cost(both)} given both sides`;
  return h("p", {}, `The right side helps most at ${quoted(of[n].letters.trim())}: ${told}.`);
}
