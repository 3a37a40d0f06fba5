// The bounds explorer: as many tokens a pass as lose no more than a bound. a3mini/decode/limits.py has the rule.
import { choice, follow, frame, h, ink, percent, put, ramp, roving, shown, slider, svg, timeline } from "./base.js";

const WAIT = 900; // milliseconds between two passes
const sum = (values) => values.reduce((total, value) => total + value, 0);
const mayLose = (entropies) => sum(entropies) - Math.max(...entropies); // what a set may lose
const two = (value) => value.toFixed(2).replace(/^-0\.00$/, "0.00");
const nats = (value) => `${two(value)} nats`;
const rate = (run) => sum(run.positions.map((set) => set.length)) / run.positions.length;
const passes = (number) => `${number} ${number === 1 ? "pass" : "passes"}`;
const largest = (run) => Math.max(...run.positions.map((set) => set.length));
const costs = (run) => `${passes(run.positions.length)}, ${rate(run).toFixed(1)} tokens a pass, ${two(run.loss)} nats per token`;

/** One set of a run: what was drawn in a pass, the surest first, and why it ended there. */
function drawnIn(run, pass) {
  const [at, tokens, chances, entropies] = ["positions", "tokens", "chances", "entropies"].map((of) => run[of][pass - 1]);
  const items = at.map((position, i) => ({ position, token: tokens[i], chance: chances[i], entropy: entropies[i] }));
  items.sort((a, b) => a.entropy - b.entropy || a.position - b.position);
  const later = run.positions.slice(pass).flat();
  const fitting = later.filter((position) => at.every((taken) => Math.abs(taken - position) >= run.apart));
  return { items, total: sum(entropies), loses: mayLose(entropies), left: later.length, fitting: fitting.length };
}

function render({ model, el }) {
  return frame({ model, el }, "As many as are sure", (body, say) => {
    const [runs, beside, texts] = ["bounded", "beside", "texts"].map((name) => model.get(name));
    const known = new Map(model.get("known"));
    const distances = [...new Set(runs.map((run) => run.apart))].sort((a, b) => a - b);
    const offered = () => {
      const own = runs.filter((one) => one.apart === model.get("apart"));
      return own.length ? own : runs.filter((one) => one.apart === distances[0]);
    };
    const bounds = () => offered().map((one) => one.bound); // Python has sorted them
    const away = (one) => Math.abs(one.bound - model.get("bound"));
    const run = () => offered().reduce((best, one) => (away(one) < away(best) ? one : best));
    const end = () => run().positions.length;
    const clock = () => Math.max(0, Math.min(model.get("clock"), end()));
    const quoted = (token) => `“${shown(texts[token])}”`;
    const read = (tokens) => tokens.map((token) => texts[token]).join("");
    const brief = () => `Bound ${run().bound} nats${run().apart > 1 ? `, ${run().apart} apart` : ""}: ${costs(run())}.`;

    const { keys, go, pause } = timeline({ model, body, say, at: clock, end, wait: () => WAIT, told: () => told() });

    // What the reader chooses. Who sees the whole text sees the whole of the next one, too.
    const change = (values) => {
      const whole = clock() === end();
      pause();
      put(model, values);
      put(model, { clock: whole ? end() : clock() });
      say(brief());
    };
    const limit = slider(
      "A pass may lose at most",
      0,
      bounds().length - 1,
      bounds().indexOf(run().bound),
      (at) => change({ bound: bounds()[at] }),
      (at) => `${bounds()[at]} nats`,
    );
    limit.classList.add("a3-stays"); // the keys of the timeline, too: bounds.css
    const names = distances.map((apart) => [String(apart), apart === 1 ? "may be neighbours" : `at least ${apart} apart`]);
    const distance = choice("Drawn together", names, String(run().apart), (apart) => change({ apart: +apart }));
    const time = slider("Passes done", 0, end(), clock(), go, (pass) => `${pass} of ${end()}`);

    // The text; its tokens are made once, so that focus stays where it is
    const look = (position) => put(model, { position });
    const filled = [...known.keys(), ...run().positions.flat()].sort((a, b) => a - b); // no padding
    const chips = filled.map((position) => {
      const open = () => look(position);
      const on = { onclick: open, onfocus: open, onpointerenter: open };
      return h("button", { type: "button", class: "a3-token", "data-position": position, ...on });
    });
    const text = h("div", { class: "a3-tokens", role: "group", "aria-label": "The tokens" }, chips);
    roving(text, "button")();
    const reading = h("p", { class: "a3-hidden" });
    const figures = h("p", { class: "a3-figures a3-number" });
    const detail = h("p", { class: "a3-detail" });
    const lanes = h("div", { class: "a3-lanes" });
    const set = h("section", { class: "a3-panel", "data-part": "set" });
    const others = h("section", { class: "a3-panel", "data-part": "beside" });
    const table = h("tbody", {});
    const column = (name) => h("th", { scope: "col", class: "a3-number" }, name);
    const head = h("tr", {}, h("th", { scope: "col" }, "way"), ["passes", "tokens a pass", "nats per token"].map(column));
    const inside = { class: "a3-scroll", tabindex: 0, role: "region", "aria-label": "Table of all texts" };
    body.classList.add("a3-bounds");
    body.append(
      h(
        "p",
        {},
        "Each pass draws as many of the surest positions as lose no more than the bound. Where is the model sure, so that ",
        "the sets grow? And does the text stay as good as one whose order was fixed before?",
      ),
      h("div", { class: "a3-row a3-controls" }, limit, distances.length > 1 ? distance : null),
      figures,
      h("div", { class: "a3-row a3-controls" }, keys, time),
      lanes,
      text,
      reading,
      detail,
      h("div", { class: "a3-panels" }, set, others),
      h(
        "details",
        { class: "a3-all" },
        h("summary", {}, "All texts in numbers"),
        h("div", inside, h("table", { class: "a3-table" }, h("thead", {}, head), table)),
      ),
      legend(),
    );

    /** Where a token stands at this moment: which pass has drawn it, what is known of it. */
    const places = () => {
      const found = new Map([...known].map(([at, token]) => [at, { state: "given", token }]));
      run().positions.forEach((at, number) => {
        const done = number < clock();
        at.forEach((position, i) => {
          const one = { pass: number + 1, token: run().tokens[number][i], entropy: run().entropies[number][i] };
          one.chance = run().chances[number][i];
          found.set(position, done ? { state: number + 1 === clock() ? "new" : "filled", ...one } : { state: "open" });
        });
      });
      const waiting = [...found.keys()].filter((at) => found.get(at).state === "open").sort((a, b) => a - b);
      waiting.forEach((at, i) => (found.get(at).entropy = run().asked[clock()][i]));
      return found;
    };

    const describe = ({ state, token, pass, entropy, chance }, position) => {
      if (state === "given") return `${quoted(token)}: there at the start.`;
      if (state === "open") return `Position ${position}: open; entropy now ${nats(entropy)}.`;
      const mates = run().tokens[pass - 1].filter((_, i) => run().positions[pass - 1][i] !== position);
      const company = mates.length ? `with ${mates.map(quoted).join(", ")}` : "alone";
      return `${quoted(token)}: pass ${pass}, ${company}; entropy when drawn ${nats(entropy)}, probability ${percent(chance)}.`;
    };

    function drawText() {
      const [found, colours, watched] = [places(), ramp(end()), model.get("position")];
      const mates = found.get(watched)?.pass;
      chips.forEach((chip) => {
        const position = +chip.dataset.position;
        const place = found.get(position);
        const { state, token, pass, entropy } = place;
        const colour = pass ? colours[pass - 1] : "";
        const [face, below] = {
          given: [shown(texts[token] ?? "").replace(/^␣(?=.)/, ""), "given"],
          open: ["_", two(entropy ?? 0)],
        }[state] ?? [shown(texts[token]).replace(/^␣(?=.)/, ""), String(pass)];
        chip.replaceChildren(h("span", {}, face), h("small", {}, below));
        Object.assign(chip.dataset, { state, token: token ?? "", pass: pass ?? "" });
        chip.dataset.joined = state !== "open" && !(texts[token] ?? "").startsWith(" ");
        chip.dataset.mate = pass !== undefined && pass === mates;
        chip.style.setProperty("--group", colour || "transparent");
        chip.style.setProperty("--group-ink", colour ? ink(colour) : "inherit");
        chip.style.setProperty("--bar", state === "open" ? Math.exp(-entropy) : 0);
        chip.setAttribute("aria-label", describe(place, position));
        chip.setAttribute("aria-pressed", String(position === watched));
      });
      const hint = "Point at a token, or go there with Tab and the arrow keys.";
      detail.textContent = found.has(watched) ? describe(found.get(watched), watched) : hint;
      reading.textContent = filled.map((position) => texts[found.get(position).token] ?? " _").join("");
    }

    /** Two rows of bars, a bar for each pass: how many tokens, and what they may lose. */
    function drawLanes() {
      const colours = ramp(end());
      const sizes = run().positions.map((one) => one.length);
      const losses = run().entropies.map(mayLose);
      const row = (name, values, most, line) => {
        const bars = values.map((value, i) => {
          const height = (28 * value) / most;
          const attributes = { x: i + 0.08, width: 0.84, y: 30 - height, height, fill: colours[i] };
          return svg("rect", { ...attributes, class: "a3-bar", "data-value": value, "data-later": i >= clock() });
        });
        const level = line === undefined ? null : 30 - (28 * line) / most;
        const picture = svg(
          "svg",
          { viewBox: `0 0 ${end()} 31`, preserveAspectRatio: "none", role: "img", "aria-label": `${name}, by pass: ${values.map((value) => +value.toFixed(2)).join(", ")}` },
          svg("rect", { class: "a3-track", x: 0, y: 30, width: end(), height: 1 }),
          bars,
          level === null ? null : svg("line", { class: "a3-bound", x1: 0, x2: end(), y1: level, y2: level }),
          clock() ? svg("rect", { class: "a3-head", x: clock() - 1, width: 1, y: 0, height: 31 }) : null,
        );
        picture.addEventListener("click", (event) => {
          const box = picture.getBoundingClientRect();
          go(Math.min(end(), Math.max(1, Math.ceil(((event.clientX - box.left) / box.width) * end()))));
        });
        return h("div", { class: "a3-lane" }, h("span", {}, name), picture);
      };
      const top = Math.max(run().bound, ...losses) || 1;
      lanes.replaceChildren(
        row(`tokens, up to ${largest(run())}`, sizes, Math.max(4, largest(run()))),
        row(`may lose, of ${run().bound} nats`, losses, top, run().bound),
      );
    }

    /** Why the set of a pass is as large as it is. */
    function reason({ items, total, loses, left, fitting }) {
      const sizes = items.map(({ entropy }) => two(entropy)).join(" + ");
      const held =
        items.length === 1
          ? "One token alone loses nothing, however unsure."
          : `Entropies: ${sizes} nats. Without the largest ${nats(loses)}: within the bound of ${run().bound}.`;
      if (!left) return `${held} Nothing else was open.`;
      if (!fitting) return `${held} Nothing else that was open is ${run().apart} away from all of them.`;
      const sure = two(total) === two(run().bound) ? total.toFixed(3) : two(total);
      return `${held} One more, even the next surest, and all of these would count: ${sure} nats, too much.`;
    }

    function told() {
      if (clock() === 0) return "Nothing is drawn yet.";
      const found = drawnIn(run(), clock());
      return `Pass ${clock()} of ${end()}: ${found.items.map(({ token }) => quoted(token)).join(", ")}. ${reason(found)}`;
    }

    function drawSet() {
      set.dataset.pass = clock();
      if (clock() === 0) {
        const ask = "Nothing is drawn yet. Under each open place stands its entropy. Which will be drawn first, and how many?";
        return set.replaceChildren(h("p", {}, h("b", {}, "Before the first pass")), h("p", {}, ask));
      }
      const found = drawnIn(run(), clock());
      Object.assign(set.dataset, { loses: found.loses, total: found.total });
      const wide = Math.max(run().bound, found.total) || 1;
      const share = (value) => `${(100 * value) / wide}%`;
      const segments = found.items.map(({ entropy, token }, i) =>
        h(
          "span",
          { class: `a3-segment${i === found.items.length - 1 ? " a3-free" : ""}`, style: `width: ${share(entropy)}` },
          (45 * entropy) / wide > shown(texts[token]).length ? shown(texts[token]) : "", // where there is room
        ),
      );
      const line = h("span", { class: "a3-line", style: `left: ${share(run().bound)}` });
      const lines = found.items.map(({ token, entropy, chance }) =>
        h("li", {}, h("span", {}, quoted(token)), h("span", { class: "a3-number" }, `${nats(entropy)}, drawn with ${percent(chance)}`)),
      );
      set.replaceChildren(
        h("p", {}, h("b", {}, `Pass ${clock()}: ${found.items.length === 1 ? "one token, alone" : `${found.items.length} tokens drawn together`}`)),
        h("div", { class: "a3-meter", "aria-hidden": "true" }, segments, line),
        h("p", { class: "a3-reason" }, reason(found)),
        h("ol", {}, lines),
      );
    }

    /** Of each kind the text whose passes are nearest, if they are at all near; one that is in two kinds, once. */
    function near() {
      const gap = (one) => Math.abs(Math.log(one.positions.length / end()));
      const found = new Map();
      for (const name of new Set(beside.map((one) => one.name))) {
        const own = beside.filter((one) => one.name === name && gap(one) < Math.log(1.5));
        if (!own.length) continue;
        const best = own.reduce((best, one) => (gap(one) < gap(best) ? one : best));
        const [tokens, at] = [best.tokens.flat(), best.positions.flat()];
        const words = read(at.map((_, i) => i).sort((a, b) => at[a] - at[b]).map((i) => tokens[i])).trim();
        if (!found.has(words)) found.set(words, best);
      }
      return [...found];
    }

    function drawBeside() {
      const texts = near();
      const parts = texts.map(([words, one]) => {
        const name = largest(one) === 1 ? "one at a time, left to right" : `${one.name}, ${largest(one)} at a time`;
        return h(
          "div",
          { "data-name": one.name, "data-passes": one.positions.length },
          h("p", {}, h("b", {}, name), `: ${costs(one)}`),
          h("p", { class: "a3-words" }, `… ${words}`),
        );
      });
      const note = "The first text of each kind: they show what differs, and do not settle which way is better.";
      others.hidden = !beside.length;
      others.replaceChildren(
        h("p", {}, h("b", {}, "Order fixed before, about as many passes")),
        ...(parts.length ? parts : [h("p", {}, "No text here took about as many passes.")]),
        h("p", { class: "a3-note" }, note),
      );
    }

    function drawTable() {
      const row = (name, one) =>
        h(
          "tr",
          { "data-now": String(one === run()) },
          h("th", { scope: "row" }, `${one === run() ? "▸ " : ""}${name}`),
          [String(one.positions.length), rate(one).toFixed(2), two(one.loss)].map((value) => h("td", { class: "a3-number" }, value)),
        );
      table.replaceChildren(
        ...runs.map((one) => row(`bound ${one.bound}${one.apart > 1 ? `, ${one.apart} apart` : ""}`, one)),
        ...beside.map((one) => row(`${one.name}, ${largest(one)} at a time`, one)),
      );
    }

    const stops = [
      follow(model, ["bound", "apart", "clock"], () => {
        limit.limit(bounds().length - 1);
        limit.show(bounds().indexOf(run().bound));
        distance.show(String(run().apart));
        time.limit(end());
        time.show(clock());
        figures.textContent = brief();
        const { bound, apart, loss } = run();
        Object.assign(figures.dataset, { bound, apart, loss, passes: end(), rate: rate(run()) });
        [drawText, drawLanes, drawSet, drawBeside, drawTable].forEach((draw) => draw());
      }),
      follow(model, ["position"], drawText),
    ];
    return () => (pause(), stops.forEach((stop) => stop()));
  });
}

/** What the marks mean. */
function legend() {
  const chip = (state, face, below, style = "") =>
    h("span", { class: "a3-token", "data-state": state, style }, h("span", {}, face), h("small", {}, below));
  const early = `--group: ${ramp(9)[1]}; --group-ink: ${ink(ramp(9)[1])}`;
  const late = `--group: ${ramp(9)[7]}; --group-ink: ${ink(ramp(9)[7])}`;
  const rows = [
    [[chip("given", "word", "given")], "there at the start"],
    [[chip("filled", "word", "3", early), chip("filled", "word", "29", late)], "drawn; below it the pass, dark early, light late"],
    [[chip("new", "word", "12", early)], "drawn in this pass"],
    [[chip("open", "_", "1.90", "--bar: 0.15"), chip("open", "_", "0.22", "--bar: 0.8")], "open; below it the entropy in nats: the fuller, the surer"],
  ];
  return h(
    "details",
    { class: "a3-legend" },
    h("summary", {}, "What the marks and numbers mean"),
    h(
      "ul",
      {},
      rows.map(([faces, words]) => h("li", {}, faces, " ", words)),
    ),
    h(
      "p",
      {},
      "Entropy: how unsure the model is of a position. A set of positions may lose the sum of their entropies without the largest, ",
      "at most: it can be no less than what they tell about each other. The bar of a set shows its entropies side by side, the ",
      "hatched one does not count, the line is the bound.",
    ),
    h("p", {}, "Bars, one for each pass: tokens drawn, and below them what they may lose; the dashed line is the bound."),
  );
}

export default { render };
