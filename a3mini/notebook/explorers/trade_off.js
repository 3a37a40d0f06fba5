// The trade-off explorer: quality against cost, the Pareto front, and the best way within a budget.
import { choice, follow, frame, h, plural, put, roving, select, slider, svg } from "./base.js";

const POWERS = Array.from({ length: 16 }, (_, i) => 2 ** i);
const DECADES = Array.from({ length: 12 }, (_, i) => [1, 2, 5].map((mark) => +`${mark}e${i - 3}`)).flat();
const COSTS = {
  passes: { name: "forward passes", unit: "passes", marks: POWERS },
  ms_per_sample: { name: "milliseconds", unit: "ms", marks: DECADES },
};
// `near`: more is not better, but to be as real text is.
const QUALITIES = {
  perplexity: { name: "judge's perplexity", digits: 0, log: true },
  own_loss: { name: "own loss", unit: "nats per token", digits: 2 },
  entropy: { name: "entropy of the words", unit: "bits", digits: 2, near: true },
  distinct_pairs: { name: "distinct pairs of words", unit: "share", digits: 3, near: true },
};
const DULL = "A low number alone proves little: dull text that repeats itself is easy to predict.";
const NOTES = {
  perplexity: `How hard another language model, the judge, finds the text. ${DULL} So look at the other three, too.`,
  own_loss: `The loss that the model itself gives the text, read from left to right. ${DULL}`,
  entropy: "How many different words, and how evenly used. More is not better: noise has most of all.",
  distinct_pairs: "Different pairs of neighbouring words among all pairs. More is not better: noise has most of all.",
};
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "12 4", "1 4", "5 2 1 2", "4 4"];
const SHAPES = [
  "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z",
  "M-4.5,-4.5h9v9h-9z",
  "M0,-5.5L5.5,4.5H-5.5z",
  "M0,5.5L5.5,-4.5H-5.5z",
  "M0,-6L6,0L0,6L-6,0z",
  "M-2,-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
  "M-6,-2.2h12v4.4h-12z",
  "M0,-2.8L3.6,-6L6,-3.6L2.8,0L6,3.6L3.6,6L0,2.8L-3.6,6L-6,3.6L-2.8,0L-6,-3.6L-3.6,-6z",
];

const call = (way) => `${way.family}, ${way.size} at a time`;
const named = ({ name, unit }) => (unit ? `${name}, ${unit}` : name);
const fixed = (number, key) => number.toFixed(QUALITIES[key].digits);
const value = (way, key) => way[key].map((number) => fixed(number, key)).join(" ± ");
const low = (way, key) => way[key][0] - way[key][1];
const high = (way, key) => way[key][0] + way[key][1];
const heading = (text, attributes = {}) => h("th", { scope: "col", class: "a3-number", ...attributes }, text);

/** A cell with one number of a way, or one with its interval. */
function cell(way, key) {
  const attributes = { class: "a3-number", "data-key": key };
  if (!QUALITIES[key]) return h("td", { ...attributes, "data-value": way[key] }, String(way[key] ?? ""));
  return h("td", { ...attributes, "data-value": way[key][0], "data-half": way[key][1] }, value(way, key));
}

function allNumbers(rows, seeds) {
  const texts = ["at a time", "passes", "ms per sample", ...Object.values(QUALITIES).map(named)];
  const keys = ["size", ...Object.keys(COSTS), ...Object.keys(QUALITIES)];
  const head = h(
    "tr",
    {},
    h("th", { scope: "col" }, "way"),
    texts.map((text) => heading(text)),
  );
  const lines = rows.map((way) =>
    h(
      "tr",
      { "data-name": way.name },
      h("th", { scope: "row" }, way.family ?? way.name),
      keys.map((key) => cell(way, key)),
    ),
  );
  const table = h("table", { class: "a3-table" }, h("thead", {}, head), h("tbody", {}, lines));
  const about = `± is half of the 95 % interval over ${plural(seeds, "seed")}. At a time: tokens filled in a step, or drafted in a round.`;
  const box = { class: "a3-scroll", tabindex: 0, role: "region", "aria-label": "Table of all numbers" };
  return h("details", {}, h("summary", {}, "All numbers"), h("p", { class: "a3-note" }, about), h("div", box, table));
}

/** From numbers to pixels, with round numbers to write beside the axis; `marks`: those of a logarithmic one. */
function scale(numbers, from, to, marks) {
  const turn = marks ? Math.log : (number) => number;
  const ends = [Math.min(...numbers), Math.max(...numbers)].map(turn);
  const margin = (ends[1] - ends[0] || 1) * 0.06;
  const [first, last] = [ends[0] - margin, ends[1] + margin];
  const at = (number) => {
    const share = marks && number <= 0 ? 0 : (turn(number) - first) / (last - first);
    return from + Math.min(1, Math.max(0, share)) * (to - from);
  };
  const rough = (last - first) / 6;
  const step = [1, 2, 5, 10].map((mark) => mark * 10 ** Math.floor(Math.log10(rough))).find((mark) => mark >= rough);
  const even = () => Array.from({ length: 12 }, (_, i) => +((Math.ceil(first / step) + i) * step).toPrecision(6));
  return { at, ticks: (marks ?? even()).filter((tick) => turn(tick) >= first && turn(tick) <= last) };
}

function render({ model, el }) {
  return frame({ model, el }, "Trade-off explorer", (body, say) => {
    const [ways, reference, setting] = ["ways", "reference", "setting"].map((name) => model.get(name));
    const real = reference.name;
    const rows = real ? [...ways, reference] : ways;
    const families = [...new Set(ways.map((way) => way.family))];
    const colours = [...THEME.okabe_ito, "var(--a3-muted)"];
    const colour = (family) => colours[families.indexOf(family) % colours.length];
    const dash = (family) => DASHES[families.indexOf(family) % DASHES.length];
    const mark = (family) =>
      svg("path", { d: SHAPES[families.indexOf(family) % SHAPES.length], fill: colour(family), class: "a3-mark" });

    // What the reader has chosen, and what follows from it

    const x = () => (COSTS[model.get("x")] ? model.get("x") : "passes");
    const y = () => (QUALITIES[model.get("y")] ? model.get("y") : "perplexity");
    const budget = () => model.get("budgets")[x()] ?? Infinity;
    const stops = () => [...new Set(ways.map((way) => Math.ceil(way[x()])))].sort((a, b) => a - b);
    const seen = () => ways.filter((way) => !model.get("hidden").includes(way.family));
    const chosen = () => seen().find((way) => way.name === model.get("selected"));
    const cost = (way, of = x()) => `${way[of]} ${COSTS[of].unit}`;

    /** The smaller, the better. */
    const score = (way) => {
      const mean = way[y()][0];
      if (!QUALITIES[y()].near) return mean;
      return real ? Math.abs(mean - reference[y()][0]) : -mean;
    };
    const aim = () => {
      if (!QUALITIES[y()].near) return "lower is better";
      return real ? `nearer to ${real} is better` : "higher is more varied";
    };
    /** The best way that costs no more than `most`; of equal ones the cheapest. */
    const best = (most, of = x()) => {
      const better = (a, b) => score(a) < score(b) || (score(a) === score(b) && a[of] < b[of]);
      return seen()
        .filter((way) => way[of] <= most)
        .reduce((a, b) => (!a || better(b, a) ? b : a), undefined);
    };
    /** Does `a` cost no more than `b` and give no less, and is it better in one of the two? */
    const beats = (a, b) => a[x()] <= b[x()] && score(a) <= score(b) && (a[x()] < b[x()] || score(a) < score(b));
    const front = () =>
      seen()
        .filter((way) => !seen().some((other) => beats(other, way)))
        .sort((a, b) => a[x()] - b[x()]);

    // Controls

    const options = (named) => Object.entries(named).map(([key, { name }]) => [key, name]);
    const across = choice("Cost", options(COSTS), x(), (key) => put(model, { x: key }));
    const upward = select("Quality", options(QUALITIES), y(), (key) => put(model, { y: key }));
    const spend = (at) => put(model, { budgets: { ...model.get("budgets"), [x()]: stops()[at] } });
    const limit = slider("Budget: at most", 0, 1, 0, spend, () => `${budget()} ${COSTS[x()].unit}`);
    limit.classList.add("a3-stays");
    const boxes = families.map((family) => {
      const others = () => model.get("hidden").filter((other) => other !== family);
      const onchange = () => put(model, { hidden: box.checked ? others() : [...others(), family] });
      const box = h("input", { type: "checkbox", value: family, onchange });
      const line = svg("path", {
        d: "M-17,0H17",
        class: "a3-way",
        stroke: colour(family),
        "stroke-dasharray": dash(family),
      });
      const sample = { width: 34, height: 16, viewBox: "-17 -8 34 16", "aria-hidden": "true" };
      return h("label", {}, box, svg("svg", sample, line, mark(family)), family);
    });
    const chart = h("div", { class: "a3-plot" });
    const note = h("p", { class: "a3-note" });
    const advice = h("div", { class: "a3-panel", "data-part": "best" });
    const record = h("div", { class: "a3-panel", "data-part": "record" });
    body.classList.add("a3-trade");
    body.append(
      h(
        "p",
        {},
        "What does a forward pass buy? Set a budget and see which way of decoding is best within it. ",
        "Then pay in milliseconds: does the choice hold?",
      ),
      h("div", { class: "a3-row a3-controls" }, across, upward, limit),
      h("fieldset", { class: "a3-families" }, h("legend", {}, "Shown"), boxes),
      chart,
      note,
      h("div", { class: "a3-panels" }, advice, record),
      allNumbers(rows, setting.seeds),
    );

    // The chart, in pixels of the screen, so that its text keeps its size on a phone

    let places = new Map(); // from each way that is shown to its place in the chart
    function plot() {
      const width = Math.max(280, chart.clientWidth || 640);
      const height = Math.round(Math.min(430, Math.max(340, width * 0.6)));
      const [left, right, top, bottom] = [46, width - 12, 40, height - 44];
      const log = QUALITIES[y()].log;
      const ends = rows.flatMap((way) => [low(way, y()), way[y()][0], high(way, y())]).filter((end) => !log || end > 0);
      const [wide, tall] = [
        scale(
          ways.map((way) => way[x()]),
          left,
          right,
          COSTS[x()].marks,
        ),
        scale(ends, bottom, top, log ? DECADES : null),
      ];
      const [winner, picked, edge, most] = [best(budget()), chosen(), front(), budget()];
      const faint = (way) => (way[x()] > most ? " a3-faint" : "");

      // Ways of the same cost stand side by side, so that their intervals can be told apart.
      const step = width < 480 ? 6 : 9;
      places = new Map();
      for (const way of seen()) {
        const same = seen().filter((other) => other[x()] === way[x()]);
        const aside = (same.indexOf(way) - (same.length - 1) / 2) * step;
        places.set(way, [wide.at(way[x()]) + aside, tall.at(way[y()][0])]);
      }
      const line = Math.min(right, wide.at(most));

      const back = svg("g", { "aria-hidden": "true" });
      const draw = (tag, attributes, ...text) => back.append(svg(tag, attributes, ...text));
      const path = (d, name, more = {}) => draw("path", { d, class: name, ...more });
      draw("rect", { x: line, y: top, width: right - line, height: bottom - top, class: "a3-over" });
      for (const tick of tall.ticks) {
        path(`M${left},${tall.at(tick)}H${right}`, "a3-grid");
        draw("text", { x: left - 6, y: tall.at(tick) + 4, "text-anchor": "end" }, String(tick));
      }
      for (const tick of wide.ticks) {
        path(`M${wide.at(tick)},${bottom}v5`, "a3-axis");
        draw("text", { x: wide.at(tick), y: bottom + 18, "text-anchor": "middle" }, String(tick));
      }
      path(`M${left},${top}V${bottom}H${right}`, "a3-axis");
      draw(
        "text",
        { x: 2, y: 14, class: "a3-name" },
        named(QUALITIES[y()]),
        svg("tspan", { class: "a3-aim" }, ` (${aim()})`),
      );
      const units = {
        passes: `forward passes for ${setting.new_tokens} tokens`,
        ms_per_sample: `milliseconds per sample, in batches of ${setting.samples}`,
      };
      draw("text", { x: (left + right) / 2, y: height - 6, "text-anchor": "middle" }, units[x()]);
      if (real) {
        const level = tall.at(reference[y()][0]);
        path(`M${left},${level}H${right}`, "a3-real");
        draw("text", { x: left + 6, y: level - 5, class: "a3-halo" }, `${real}: ${fixed(reference[y()][0], y())}`);
      }
      path(`M${line},${top}V${bottom}`, "a3-budget");
      const side = line > (left + right) / 2 ? "end" : "start";
      if (most < Infinity)
        draw(
          "text",
          { x: line, y: top - 6, "text-anchor": side, class: "a3-halo" },
          `budget: ${most} ${COSTS[x()].unit}`,
        );
      for (const family of families) {
        const own = [...places].filter(([way]) => way.family === family).sort(([a], [b]) => a.size - b.size);
        const strong = picked?.family === family ? " a3-strong" : "";
        const stroke = colour(family);
        path(own.map(([, place], i) => `${i ? "L" : "M"}${place}`).join(""), `a3-way${strong}`, {
          stroke,
          "stroke-dasharray": dash(family),
        });
        for (const [way, [px]] of own) {
          const name = `a3-interval${[picked, winner].includes(way) ? " a3-strong" : ""}${faint(way)}`;
          const [up, down] = [high(way, y()), low(way, y())].map(tall.at);
          path(`M${px - 3},${up}h6m-3,0V${down}m-3,0h6`, name, { stroke, "data-interval": way.name });
        }
      }
      // What the front gives at a cost, it gives until the next better way: so it goes in steps.
      const steps = edge.map((way, i) => (i ? `H${places.get(way)[0]}V${places.get(way)[1]}` : `M${places.get(way)}`));
      path(steps.length ? `${steps.join("")}H${right}` : "", "a3-front", {
        "data-front": edge.map((way) => way.name).join("|"),
      });

      const order = [...places].sort(([a], [b]) => a[x()] - b[x()] || score(a) - score(b));
      const stop = picked ?? winner ?? order[0]?.[0];
      const items = order.map(([way, place]) => {
        const onFront = edge.includes(way);
        const ring = way === picked ? "a3-chosen" : "a3-best";
        const attributes = {
          role: "option",
          tabindex: way === stop ? 0 : -1,
          transform: `translate(${place})`,
          class: `a3-point${faint(way)}`,
          "aria-selected": String(way === picked),
          "aria-label": `${call(way)}: ${cost(way)}, ${QUALITIES[y()].name} ${value(way, y())}${onFront ? ", on the front" : ""}`,
          "data-name": way.name,
          "data-x": way[x()],
          "data-y": way[y()][0],
          "data-half": way[y()][1],
          "data-front": String(onFront),
        };
        return svg(
          "g",
          attributes,
          [picked, winner].includes(way) ? svg("circle", { r: 10, class: ring }) : null,
          mark(way.family),
        );
      });

      const labels = svg("g", { "aria-hidden": "true" });
      const write = ([px, py], down, text, name = "") => {
        const half = text.length * 3.5; // about, in pixels
        const middle = Math.min(right - half, Math.max(left + half, px));
        labels.append(
          svg("text", { x: middle, y: py + down, "text-anchor": "middle", class: `a3-halo ${name}` }, text),
        );
      };
      // Along the line of the chosen way: how many tokens at a time, where there is room.
      const taken = [];
      const along = order
        .filter(([way]) => way.family === picked?.family)
        .sort(([a], [b]) => (b === picked) - (a === picked));
      for (const [way, place] of along) {
        if (taken.some(([px, py]) => Math.hypot(px - place[0], py - place[1]) < 18)) continue;
        write(place, way === picked ? -14 : -10, String(way.size), way === picked ? "a3-name" : "");
        taken.push(place);
      }
      const brief = width < 480 || winner === picked;
      if (winner) write(places.get(winner), 25, brief ? "best" : `best: ${winner.family}, ${winner.size}`, "a3-name");

      const list = edge.map((way) => `${call(way)} (${cost(way)}, ${value(way, y())})`).join("; ");
      const said = `${QUALITIES[y()].name} against ${COSTS[x()].name}, ${plural(places.size, "way")} of decoding. Front: ${list || "empty"}.`;
      const picture = svg(
        "svg",
        { class: "a3-chart", viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": said },
        back,
      );
      if (items.length)
        picture.append(svg("g", { role: "listbox", "aria-label": "Ways of decoding, from cheap to dear" }, items));
      picture.append(labels);
      const focused = chart.contains(document.activeElement) ? document.activeElement.dataset.name : undefined;
      chart.replaceChildren(picture);
      restoring = true; // The focus stays where it was; that is no new choice.
      if (focused !== undefined) chart.querySelector(`[data-name="${CSS.escape(focused)}"]`)?.focus();
      restoring = false;
    }

    let restoring = false;
    roving(chart, "[role=option]");
    chart.addEventListener("focusin", (event) => {
      const name = event.target.closest("[role=option]")?.dataset.name;
      if (name !== undefined && !restoring) put(model, { selected: name });
    });
    const point = (event) => {
      const box = chart.getBoundingClientRect();
      const away = ([px, py]) => Math.hypot(px - (event.clientX - box.left), py - (event.clientY - box.top));
      const [nearest] = [...places].sort(([, a], [, b]) => away(a) - away(b));
      if (nearest && away(nearest[1]) < 24) put(model, { selected: nearest[0].name });
    };
    ["pointermove", "pointerdown"].forEach((event) => chart.addEventListener(event, point));

    // Words

    function advise() {
      const top = best(budget());
      const asked = `Best within ${budget()} ${COSTS[x()].unit}: `;
      advice.dataset.best = top?.name ?? "";
      if (!top) return advice.replaceChildren(h("p", {}, h("b", {}, asked), "no way that is shown."));
      const lines = [`${QUALITIES[y()].name} ${value(top, y())}, for ${cost(top)}.`];

      const meets = (way) => low(way, y()) <= high(top, y()) && high(way, y()) >= low(top, y());
      const close = seen().filter((way) => way !== top && way[x()] <= budget() && meets(way));
      const whose =
        close.length > 3
          ? `${close.length} others in the budget`
          : close.map((way) => `${way.family}, ${way.size}`).join("; ");
      lines.push(
        close.length
          ? `Its interval overlaps with ${close.length > 3 ? "" : "that of "}${whose}: ${plural(setting.seeds, "seed")} do not settle which is best.`
          : "No other interval in the budget overlaps with its own.",
      );

      const other = x() === "passes" ? "ms_per_sample" : "passes";
      const rival = best(top[other], other);
      lines.push(
        rival === top
          ? `Within its ${cost(top, other)} it is the best as well.`
          : `But pay in ${COSTS[other].name}: within its ${cost(top, other)}, ${call(rival)} gives ${value(rival, y())} for ${cost(rival, other)}.`,
      );
      if (real && !QUALITIES[y()].near) {
        const less = ["entropy", "distinct_pairs"].filter((key) => top[key][0] < reference[key][0]);
        lines.push(
          less.length
            ? `Beware: less than ${real} in ${less.map((key) => QUALITIES[key].name).join(" and ")}.`
            : `It is at least as varied as ${real} in words and pairs, so its number does not come from repetition.`,
        );
      }
      advice.replaceChildren(
        h("p", {}, h("b", {}, asked), call(top)),
        h(
          "ul",
          {},
          lines.map((line) => h("li", {}, line)),
        ),
      );
    }

    function report() {
      const way = chosen();
      record.dataset.selected = way?.name ?? "";
      if (!way) {
        const how = "Point at a marker, or go there with Tab and the arrow keys: its full record appears here.";
        return record.replaceChildren(h("p", {}, how));
      }
      const beside = (...parts) => (real ? parts : []);
      const head = h("tr", {}, h("td", {}), heading("this way"), beside(heading(real)));
      const lines = Object.entries({ ...COSTS, ...QUALITIES }).map(([key, about]) => {
        const text = QUALITIES[key] ? fixed(reference[key]?.[0] ?? 0, key) : "";
        const title = h("th", { scope: "row" }, QUALITIES[key] ? named(about) : about.name);
        return h("tr", {}, title, cell(way, key), beside(h("td", { class: "a3-number" }, text)));
      });
      const rival = best(way[x()]);
      record.replaceChildren(
        h("p", {}, h("b", {}, call(way))),
        h("table", { class: "a3-table" }, h("thead", {}, head), h("tbody", {}, lines)),
        h(
          "p",
          {},
          beats(rival, way)
            ? `Not on the front: ${call(rival)} gives ${value(rival, y())} for ${cost(rival)}.`
            : "On the front: nothing shown that costs no more is better.",
        ),
      );
    }

    // Redraw

    let before;
    const draw = () => {
      across.show(x());
      upward.show(y());
      limit.limit(stops().length - 1);
      limit.show(stops().filter((stop) => stop <= budget()).length - 1);
      boxes.forEach(({ firstChild: box }) => (box.checked = !model.get("hidden").includes(box.value)));
      note.textContent = `${NOTES[y()]} Bars: the 95 % interval over seeds. Thick steps: the front, the best at each budget.`;
      plot();
      advise();
      report();
      const now = advice.firstChild.textContent;
      if (before !== undefined && now !== before) say(now);
      before = now;
    };
    const stop = follow(model, ["x", "y", "hidden", "budgets", "selected"], draw);
    let drawn = chart.clientWidth;
    const watch = new ResizeObserver(() =>
      requestAnimationFrame(() => {
        if (chart.clientWidth === drawn) return;
        drawn = chart.clientWidth;
        plot();
      }),
    );
    watch.observe(chart);
    return () => (stop(), watch.disconnect());
  });
}

export default { render };
