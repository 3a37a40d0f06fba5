// The attention viewer: the weights of both streams of a model, head by head and row by row.
import {
  button, choice, contentSees, follow, frame, groupColours, h, ink, plural, put, querySees, roving, select, shown, svg,
} from "./base.js";

const STREAMS = [
  { name: "content", letter: "C", sees: contentSees, rule: "own and earlier groups" },
  { name: "query", letter: "Q", sees: querySees, rule: "earlier groups only" },
];
const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const VALUE = new Map([...DIGITS].map((digit, value) => [digit, value]));
const STEPS = 4095; // both as in a3mini/explorers/attention.py
const MEAN = -1;
const SHADES = 8; // of a small picture

// Which of the tokens that row i may see (`seen`) a measure adds up. Entropy is not a sum of weights.
const MEASURES = {
  before: ["on the token before", (i, j) => j === i - 1],
  after: ["on the token after", (i, j) => j === i + 1],
  own: ["on the own token", (i, j) => j === i],
  first: ["on the first token", (i, j) => j === 0 && i !== 0],
  right: ["on all tokens to the right", (i, j) => j > i],
  entropy: ["entropy instead, nats", null],
};

/** From the digits of one stream to [layer][head][row][column]; null where the mask forbids. */
function unpack(digits, { group_ids: groups }, sees, layers, heads) {
  let at = 0;
  const next = () => (VALUE.get(digits[at++]) * 64 + VALUE.get(digits[at++])) / STEPS;
  const times = (count, make) => Array.from({ length: count }, (_, k) => make(k));
  return times(layers, () =>
    times(heads, () => groups.map((_, i) => groups.map((_, j) => (sees(groups, i, j) ? next() : null)))),
  );
}

const meanOf = (matrices) =>
  matrices[0].map((row, i) =>
    row.map((weight, j) => (weight === null ? null : matrices.reduce((sum, m) => sum + m[i][j], 0) / matrices.length)),
  );

const seenBy = (row) => row.flatMap((weight, j) => (weight === null ? [] : [j]));

/**
 * A measure of one head: its mean over the rows that may see what is asked for, and at least two tokens besides
 * their own, so that there is a choice; and how many rows these are. The mean is null without any.
 */
function measured(matrix, measure) {
  const asked = MEASURES[measure][1];
  const found = [];
  matrix.forEach((row, i) => {
    const seen = seenBy(row);
    if (seen.filter((j) => j !== i).length < 2) return;
    if (asked === null) found.push(seen.reduce((sum, j) => sum - (row[j] && row[j] * Math.log(row[j])), 0));
    else if (seen.some((j) => asked(i, j))) found.push(seen.reduce((sum, j) => sum + (asked(i, j) ? row[j] : 0), 0));
  });
  return { value: found.length ? found.reduce((sum, value) => sum + value) / found.length : null, rows: found.length };
}

const groupName = (group) => (group < 0 ? "padding" : group === 0 ? "given" : `group ${group}`);
const digits2 = (value) => (value === null ? "–" : value.toFixed(2));

/** A small picture: one path for the cells that may be seen, one for each shade. */
function thumbnail(matrix, stream) {
  const paths = Array.from({ length: SHADES + 1 }, () => "");
  matrix.forEach((row, i) =>
    row.forEach((weight, j) => {
      if (weight === null) return;
      const cell = `M${j} ${i}h1v1h-1z`;
      paths[0] += cell;
      const shade = Math.round(weight * SHADES);
      if (shade) paths[shade] += cell;
    }),
  );
  const side = matrix.length;
  return svg(
    "svg",
    { viewBox: `0 0 ${side} ${side}`, "aria-hidden": "true", "data-stream": stream },
    paths.map((d, shade) => d && svg("path", { d, class: shade ? "" : "a3-allowed", "fill-opacity": shade ? shade / SHADES : 1 })),
  );
}

function render({ model, el }) {
  return frame({ model, el }, "Attention viewer", (body, say) => {
    const [tokens, layers, heads] = ["tokens", "layers", "heads"].map((name) => model.get(name));
    const text = tokens.map(shown);
    const named = text.map((token, i) => (text.indexOf(token) === text.lastIndexOf(token) ? token : `${token} (${i})`));
    const every = Array.from({ length: heads }, (_, head) => head).concat(MEAN);
    const headName = (head) => (head === MEAN ? "mean of the heads" : `head ${head}`);

    // What is shown: what the traits say, as far as it exists.
    const within = (value, low, high) => Math.min(Math.max(value, low), high);
    const layer = () => within(model.get("layer"), 0, layers - 1);
    const head = () => within(model.get("head"), MEAN, heads - 1);
    const row = () => pointed ?? within(model.get("row"), 0, tokens.length - 1);
    const measure = () => (model.get("measure") in MEASURES ? model.get("measure") : "before");
    const grouping = () => model.get("groupings").find(({ name }) => name === model.get("grouping")) ?? model.get("groupings")[0];
    const unpacked = new WeakMap();
    const weights = () => {
      const now = grouping();
      if (!unpacked.has(now)) {
        const streams = STREAMS.map(({ name, sees }) => [name, unpack(now[name], now, sees, layers, heads)]);
        unpacked.set(now, Object.fromEntries(streams));
      }
      return unpacked.get(now);
    };
    const matrix = (stream, l = layer(), k = head()) =>
      k === MEAN ? meanOf(weights()[stream][l]) : weights()[stream][l][k];
    let pointed = null; // the row under the mouse

    // Which grouping, layer and head
    const names = model.get("groupings").map(({ name }) => [name, name]);
    const groupingChoice = choice("Grouping of the sentence", names, grouping().name, (name) => put(model, { grouping: name }));
    const numbered = (count, word) => Array.from({ length: count }, (_, k) => [String(k), `${word} ${k}`]);
    const layerSelect = select("Layer", numbered(layers, "layer"), String(layer()), (l) => put(model, { layer: +l }));
    const headSelect = select("Head", [...numbered(heads, "head"), [String(MEAN), headName(MEAN)]], String(head()), (k) =>
      put(model, { head: +k }),
    );
    const measures = Object.entries(MEASURES).map(([name, [words]]) => [name, words]);
    const measureSelect = select("Mean weight", measures, measure(), (name) => put(model, { measure: name }));

    // All heads
    const open = (l, k) => {
      put(model, { layer: l, head: k });
      say(`Layer ${l}, ${headName(k)}. ${readout.textContent}`);
    };
    const pictures = Array.from({ length: layers }, (_, l) =>
      every.map((k) =>
        h("button", { type: "button", class: "a3-head", tabindex: -1, "data-layer": l, "data-head": k, onclick: () => open(l, k) }),
      ),
    );
    const overview = h(
      "table",
      {},
      h("caption", { class: "a3-hidden" }, "All heads: content stream and query stream"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "layer"), every.map((k) => h("th", { scope: "col" }, k === MEAN ? "mean" : headName(k))))),
      h("tbody", {}, pictures.map((line, l) =>
        h("tr", {}, h("th", { scope: "row" }, String(l)), line.map((picture) => h("td", {}, picture))),
      )),
    );
    roving(overview, "button", () => every.length);
    const highest = h("div", { class: "a3-highest" });

    // The token that looks, and what it looks at
    const cards = tokens.map((_, i) => {
      const pick = () => put(model, { row: i });
      const lines = STREAMS.map(({ name, letter }) =>
        h("span", { class: "a3-bar", "data-stream": name }, h("span", {}, letter), h("span", { class: "a3-number" }), h("i", {})),
      );
      const looks = h("button", { type: "button", class: "a3-token", tabindex: -1, onclick: pick, onfocus: pick }, text[i], h("small", {}));
      return { looks, lines, card: h("li", {}, looks, lines) };
    });
    const strip = h("ul", { class: "a3-strip", "aria-label": "The token that looks: arrow keys move" }, cards.map(({ card }) => card));
    roving(strip, "button");
    const readout = h("div", { class: "a3-panel a3-readout" });

    // Both matrices; pointing at a row shows it as long as the mouse stays, a click keeps it
    const point = (i) => ((pointed = i), drawRow());
    const tables = STREAMS.map(({ name, rule }) => {
      const cells = tokens.map(() => tokens.map(() => h("td", {})));
      const lines = cells.map((line, i) =>
        h("tr", { onpointerenter: () => point(i), onclick: () => put(model, { row: i }) }, h("th", { scope: "row" }, text[i]), line),
      );
      const note = h("p", { class: "a3-note" });
      const table = h(
        "table",
        { class: "a3-matrix", "data-stream": name },
        h("caption", {}, `${name === "content" ? "Content" : "Query"}: ${rule}`),
        h("thead", {}, h("tr", {}, h("td", {}), text.map((token) => h("th", { scope: "col" }, h("span", {}, token))))),
        h("tbody", { onpointerleave: () => point(null) }, lines),
      );
      const box = h("div", {}, h("div", { class: "a3-scroll", tabindex: 0, role: "region", "aria-label": `${name} stream` }, table), note);
      return { name, box, cells, lines, note };
    });

    body.classList.add("a3-attention");
    body.append(
      h("p", {}, "Which tokens does a token look at, in each stream? Open a head among the small pictures, then choose a token."),
      groupingChoice,
      h("div", { class: "a3-row a3-overview" },
        h("div", { class: "a3-scroll", role: "group", "aria-label": "All heads: arrow keys move, Enter opens" }, overview),
        h("div", { class: "a3-find" }, measureSelect, highest),
      ),
      h("div", { class: "a3-row a3-stays" }, layerSelect, headSelect),
      h("p", { class: "a3-note" }, "The token that looks. Below each token: its group, and the weight it gets from the content row (C) and the query row (Q)."),
      strip,
      readout,
      h("div", { class: "a3-row a3-both" }, tables.map(({ box }) => box)),
      h("p", { class: "a3-note" },
        "Rows look, columns are seen. Numbers: weight in hundredths, nothing below 0.5. ",
        h("span", { class: "a3-key a3-forbidden" }), " hatched: the mask forbids it. A row's weights sum to 1 before rounding."),
    );

    const drawOverview = () => {
      const now = measure();
      const top = {};
      pictures.forEach((line, l) =>
        line.forEach((picture, index) => {
          const k = every[index];
          const values = STREAMS.map(({ name }) => {
            const { value, rows } = measured(matrix(name, l, k), now);
            if (k !== MEAN && value !== null && !(top[name]?.value >= value)) top[name] = { value, rows, l, k };
            return value;
          });
          picture.replaceChildren(
            ...STREAMS.map(({ name }, s) =>
              h("span", {}, thumbnail(matrix(name, l, k), name), h("span", { class: "a3-number", "data-value": values[s] }, digits2(values[s]))),
            ),
          );
          const said = STREAMS.map(({ name }, s) => `${name} ${digits2(values[s])}`).join(", ");
          picture.setAttribute("aria-label", `Layer ${l}, ${headName(k)}: ${said}`);
        }),
      );
      measureSelect.show(now);
      const many = now === "right" ? "a token to the right" : "that token";
      highest.replaceChildren(
        h("p", { class: "a3-note" },
          "In each: content, then query. Mean over the rows that may see ",
          now === "entropy" ? "" : `${many} and `, "at least two tokens besides their own."),
        ...STREAMS.map(({ name }) =>
          top[name]
            ? button(`Highest in ${name}, over ${plural(top[name].rows, "row")}: layer ${top[name].l}, head ${top[name].k}: ` +
                digits2(top[name].value), () => open(top[name].l, top[name].k), { "data-highest": name })
            : h("p", { class: "a3-note", "data-highest": name }, `No ${name} row may look there.`),
        ),
      );
    };

    const drawMatrices = () => {
      const groups = grouping().group_ids;
      const colours = groupColours(groups);
      groupingChoice.show(grouping().name);
      layerSelect.show(String(layer()));
      headSelect.show(String(head()));
      pictures.flat().forEach((picture) => {
        const here = +picture.dataset.layer === layer() && +picture.dataset.head === head();
        picture.setAttribute("aria-pressed", String(here));
        if (!overview.contains(document.activeElement)) picture.tabIndex = here ? 0 : -1;
      });
      cards.forEach(({ looks }, i) => {
        looks.style.cssText = `--group: ${colours[i]}; --group-ink: ${ink(colours[i])}`;
        looks.classList.toggle("a3-padding", groups[i] < 0);
        looks.lastChild.textContent = groups[i] < 0 ? "padding" : groups[i] === 0 ? "given" : String(groups[i]);
        looks.setAttribute("aria-label", `${named[i]}, ${groupName(groups[i])}`);
      });
      tables.forEach(({ name, cells, note }) => {
        const now = matrix(name);
        cells.forEach((line, i) =>
          line.forEach((cell, j) => {
            const weight = now[i][j];
            const hundredths = Math.round(weight * 100);
            cell.dataset.seen = String(weight !== null);
            cell.dataset.value = weight ?? "";
            cell.className = weight === null ? "a3-forbidden" : weight >= 0.5 ? "a3-strong" : "";
            // Shades between 40 % and 70 % are left out: neither ink can be read on them.
            const share = weight < 0.5 ? 80 * weight : 70 + 60 * (weight - 0.5);
            cell.style.setProperty("--share", `${share.toFixed(1)}%`);
            cell.textContent = weight === null || !hundredths ? "" : hundredths;
          }),
        );
        const empty = groups.map((_, i) => i).filter((i) => !seenBy(now[i]).length);
        const because = (group) => (group < 0 ? "Padding" : group === 0 ? "Given, so no query row" : "Sees nothing");
        const reasons = [...new Set(empty.map((i) => because(groups[i])))].map((reason) => {
          const those = empty.filter((i) => because(groups[i]) === reason);
          return `${reason}: ${those.map((i) => named[i]).join(", ")}.`;
        });
        note.textContent = reasons.join(" ") || "Every row sees something.";
      });
    };

    const drawRow = () => {
      const [i, groups] = [row(), grouping().group_ids];
      cards.forEach(({ card, looks }, j) => {
        card.dataset.looks = String(j === i);
        looks.setAttribute("aria-pressed", String(j === i));
        if (!strip.contains(document.activeElement)) looks.tabIndex = j === i ? 0 : -1;
      });
      tables.forEach(({ lines }) => lines.forEach((line, j) => (line.dataset.looks = String(j === i))));
      const told = STREAMS.map(({ name, letter }, s) => {
        const line = matrix(name)[i];
        cards.forEach(({ lines }, j) => {
          const [, number, bar] = lines[s].children;
          lines[s].dataset.value = line[j] ?? "";
          number.textContent = digits2(line[j]);
          bar.className = line[j] === null ? "a3-forbidden" : "";
          bar.style.setProperty("--width", `${(100 * (line[j] ?? 1)).toFixed(1)}%`);
        });
        const seen = seenBy(line).sort((a, b) => line[b] - line[a]);
        const some = seen.slice(0, 5).filter((j) => line[j] >= 0.005);
        const others = seen.slice(some.length);
        const rest = others.reduce((sum, j) => sum + line[j], 0);
        const parts = some.map((j) => `${named[j]} ${digits2(line[j])}`);
        if (others.length) parts.push(`${plural(others.length, "other")} together ${digits2(rest)}`);
        let says = `may see ${plural(seen.length, "token")}: ${parts.join(", ")}.`;
        if (!seen.length) says = { [-1]: "does not exist: padding.", 0: "does not exist: a given token is not predicted." }[groups[i]] ??
          "sees nothing, so its attention output is zero: no group comes before its own.";
        return h("p", { "data-stream": name }, h("b", {}, `${letter}, ${name} row `), says);
      });
      readout.replaceChildren(h("p", {}, h("b", {}, named[i]), `, ${groupName(groups[i])}; layer ${layer()}, ${headName(head())}:`), ...told);
    };

    const stops = [
      follow(model, ["groupings", "grouping", "measure"], drawOverview),
      follow(model, ["groupings", "grouping", "layer", "head"], drawMatrices),
      follow(model, ["groupings", "grouping", "layer", "head", "row"], drawRow),
    ];
    return () => stops.forEach((stop) => stop());
  });
}

export default { render };
