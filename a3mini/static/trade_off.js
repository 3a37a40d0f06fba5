// The trade-off explorer: quality against cost, the Pareto front, and the best way within a budget.
import { choice, follow, frame, h, newId, plural, put, roving, select, slider, svg } from "./common.js";

const POWERS = Array.from({ length: 16 }, (_, i) => 2 ** i);
const DECADES = Array.from({ length: 12 }, (_, i) => [1, 2, 5].map((mark) => +`${mark}e${i - 3}`)).flat();
const COSTS = {
  passes: { option: "forward passes", unit: "passes", digits: 1, marks: POWERS },
  ms_per_sample: { option: "milliseconds", unit: "ms", digits: 1, marks: DECADES },
};
// `near`: more is not better, but to be as real text is.
const QUALITIES = {
  perplexity: { name: "judge's perplexity", unit: "", digits: 0, log: true },
  own_loss: { name: "own loss", unit: "nats per token", digits: 2 },
  entropy: { name: "entropy of the words", unit: "bits", digits: 2, near: true },
  distinct_pairs: { name: "distinct pairs of words", unit: "share", digits: 3, near: true },
};
const DULL = "A low number alone proves little: dull text that repeats itself is easy to predict.";
const NOTES = {
  perplexity: `How hard another language model, the judge, finds the text. ${DULL} So look at the other three, too.`,
  own_loss: `What the model itself gives the text when it reads it from left to right. ${DULL}`,
  entropy: "How many different words, and how evenly used. More is not better: noise has most of all.",
  distinct_pairs:
    "Different pairs of neighbouring words, as a share of all pairs. More is not better: noise has most of all.",
};
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "12 4", "1 4", "5 2 1 2"];
// Around the origin, about 11 px across
const SHAPES = [
  "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z",
  "M-4.5,-4.5h9v9h-9z",
  "M0,-5.5L5.5,4.5H-5.5z",
  "M0,5.5L5.5,-4.5H-5.5z",
  "M0,-6L6,0L0,6L-6,0z",
  "M-2,-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
  "M0,-2.8L3.6,-6L6,-3.6L2.8,0L6,3.6L3.6,6L0,2.8L-3.6,6L-6,3.6L-2.8,0L-6,-3.6L-3.6,-6z",
];

function render({ model, el }) {
  return frame({ model, el }, "Trade-off explorer", (body, say) => {
    const [ways, reference, setting] = ["ways", "reference", "setting"].map((name) => model.get(name));
    const families = [...new Set(ways.map((way) => way.family))];
    const real = reference.name;
    const call = (way) => `${way.family}, ${way.size} at a time`;

    // What the reader has chosen, and what follows from it

    const x = () => (COSTS[model.get("x")] ? model.get("x") : "passes");
    const y = () => (QUALITIES[model.get("y")] ? model.get("y") : "perplexity");
    const budget = () => model.get("budgets")[x()] ?? Infinity;
    const seen = () => ways.filter((way) => !model.get("hidden").includes(way.family));
    const stops = () => [...new Set(ways.map((way) => Math.ceil(way[x()])))].sort((a, b) => a - b);

    /** The smaller, the better. */
    const score = (way) => {
      const value = way[y()][0];
      if (!QUALITIES[y()].near) return value;
      return real ? Math.abs(value - reference[y()][0]) : -value;
    };
    const aim = () => (!QUALITIES[y()].near ? "lower is better" : real ? `nearer to ${real} is better` : "higher is more varied");
    const cost = (way, of = x()) => `${+way[of].toFixed(COSTS[of].digits)} ${COSTS[of].unit}`;
    const value = (way, of = y()) => `${way[of][0].toFixed(QUALITIES[of].digits)} ± ${way[of][1].toFixed(QUALITIES[of].digits)}`;
    /** The best way that costs no more than `most`; of equal ones the cheapest. */
    const best = (most, of = x()) =>
      seen()
        .filter((way) => way[of] <= most)
        .reduce((a, b) => (!a || score(b) < score(a) || (score(b) === score(a) && b[of] < a[of]) ? b : a), undefined);
    /** Does `a` cost no more than `b` and give no less, and is it better in one of the two? */
    const beats = (a, b) =>
      a[x()] <= b[x()] && score(a) <= score(b) && (a[x()] < b[x()] || score(a) < score(b));
    const front = () =>
      seen()
        .filter((way) => !seen().some((other) => beats(other, way)))
        .sort((a, b) => a[x()] - b[x()]);

    // Controls

    const shape = (family, attributes = {}) => {
      const number = families.indexOf(family);
      const colours = THEME.okabe_ito;
      return svg("path", { d: SHAPES[number % SHAPES.length], fill: colours[number % colours.length], class: "a3-mark", ...attributes });
    };
    const across = choice("Cost", Object.entries(COSTS).map(([key, { option }]) => [key, option]), x(), (key) => put(model, { x: key }));
    const upward = select("Quality", Object.entries(QUALITIES).map(([key, { name }]) => [key, name]), y(), (key) => put(model, { y: key }));
    const spend = slider("Budget: at most", 0, 1, 0, (at) => put(model, { budgets: { ...model.get("budgets"), [x()]: stops()[at] } }),
      () => `${budget()} ${COSTS[x()].unit}`); // prettier-ignore
    const boxes = families.map((family) => {
      const box = h("input", {
        type: "checkbox",
        value: family,
        onchange: () => {
          const others = model.get("hidden").filter((other) => other !== family);
          put(model, { hidden: box.checked ? others : [...others, family] });
        },
      });
      const dash = { "stroke-dasharray": DASHES[families.indexOf(family) % DASHES.length], class: "a3-way" };
      const sample = svg("svg", { width: 34, height: 16, viewBox: "-17 -8 34 16", "aria-hidden": "true" },
        svg("path", { d: "M-17,0H17", stroke: shape(family).getAttribute("fill"), ...dash }), shape(family)); // prettier-ignore
      return h("label", {}, box, sample, family);
    });
    const chart = h("div", { class: "a3-plot" });
    body.classList.add("a3-trade");
    const [note, answer, record] = ["a3-note", "a3-panel", "a3-panel"].map((name) => h("div", { class: name }));
    answer.dataset.part = "best";
    record.dataset.part = "record";
    body.append(
      h("p", {}, "What does a forward pass buy? Set a budget and see which way of decoding is best within it. Then pay in milliseconds: does the choice hold?"),
      h("div", { class: "a3-row a3-controls" }, across, upward, spend),
      h("fieldset", { class: "a3-families" }, h("legend", {}, "Shown"), boxes),
      chart,
      note,
      h("div", { class: "a3-panels" }, answer, record),
      table(),
    );

    /** All numbers; nothing in it depends on what is chosen. */
    function table() {
      const header = ["way", "at a time", "passes", "ms per sample", ...Object.values(QUALITIES).map(({ name, unit }) => (unit ? `${name}, ${unit}` : name))];
      const rows = [...ways, ...(real ? [reference] : [])].map((way) =>
        h("tr", { "data-name": way.name }, h("th", { scope: "row" }, way.family ?? way.name),
          ["size", ...Object.keys(COSTS)].map((key) => h("td", { class: "a3-number", "data-key": key, "data-value": way[key] }, String(way[key] ?? ""))),
          Object.keys(QUALITIES).map((key) => h("td", { class: "a3-number", "data-key": key, "data-value": way[key][0], "data-half": way[key][1] }, value(way, key))),
        )); // prettier-ignore
      const cells = h("table", { class: "a3-table" },
        h("thead", {}, h("tr", {}, header.map((text, i) => h("th", { scope: "col", class: i ? "a3-number" : null }, text)))), h("tbody", {}, rows)); // prettier-ignore
      const label = "Table of all numbers";
      return h("details", {}, h("summary", {}, "All numbers"),
        h("p", { class: "a3-note" }, `± is half of the 95 % interval over ${setting.seeds} seeds. At a time: tokens filled in a step, or drafted in a round.`),
        h("div", { class: "a3-scroll", tabindex: 0, role: "region", "aria-label": label }, cells)); // prettier-ignore
    }

    // The chart, in pixels of the screen, so that its text keeps its size on a phone

    let marks = [];
    let restoring = false;
    function plot() {
      const width = Math.max(280, chart.clientWidth || 640);
      const height = Math.round(Math.min(430, Math.max(340, width * 0.6)));
      const area = { left: 46, right: width - 12, top: 40, bottom: height - 44 };
      const logarithmic = QUALITIES[y()].log;
      const ends = [...ways, ...(real ? [reference] : [])].flatMap((way) => [way[y()][0] - way[y()][1], way[y()][0], way[y()][0] + way[y()][1]]);
      const right = scale(ways.map((way) => way[x()]), area.left, area.right, true);
      const up = scale(logarithmic ? ends.filter((end) => end > 0) : ends, area.bottom, area.top, logarithmic);
      const most = budget();
      const [top, chosen, edge] = [best(most), seen().find((way) => way.name === model.get("selected")), front()];

      // Ways of the same cost stand side by side, so that their intervals can be told apart.
      const same = new Map();
      seen().forEach((way) => same.set(way[x()], [...(same.get(way[x()]) ?? []), way]));
      const step = width < 480 ? 6 : 9;
      const place = (way) => {
        const row = same.get(way[x()]);
        return [right.at(way[x()]) + (row.indexOf(way) - (row.length - 1) / 2) * step, up.at(way[y()][0])];
      };
      const points = seen().map((way) => [way, ...place(way)]);
      const inside = points.filter(([way]) => way[x()] <= most).map(([, px]) => px + 7);
      const line = Math.min(area.right, Math.max(area.left, right.at(most), ...inside));

      const back = svg("g", { "aria-hidden": "true" });
      const put_ = (...parts) => back.append(...parts.flat());
      put_(
        svg("rect", { x: line, y: area.top, width: Math.max(0, area.right - line), height: area.bottom - area.top, class: "a3-over" }),
        up.ticks(logarithmic ? DECADES : null).map((tick) => [
          svg("path", { d: `M${area.left},${up.at(tick)}H${area.right}`, class: "a3-grid" }),
          svg("text", { x: area.left - 6, y: up.at(tick) + 4, "text-anchor": "end" }, String(tick)),
        ]).flat(),
        right.ticks(COSTS[x()].marks).map((tick) => [
          svg("path", { d: `M${right.at(tick)},${area.bottom}v5`, class: "a3-axis" }),
          svg("text", { x: right.at(tick), y: area.bottom + 18, "text-anchor": "middle" }, String(tick)),
        ]).flat(),
        svg("path", { d: `M${area.left},${area.top}V${area.bottom}H${area.right}`, class: "a3-axis" }),
        svg("text", { x: 2, y: 14, class: "a3-name" }, `${QUALITIES[y()].name}${QUALITIES[y()].unit ? `, ${QUALITIES[y()].unit}` : ""}`, svg("tspan", { class: "a3-aim" }, ` (${aim()})`)),
        svg("text", { x: (area.left + area.right) / 2, y: height - 6, "text-anchor": "middle" },
          x() === "passes" ? `forward passes for ${setting.new_tokens} tokens` : `milliseconds per sample, in batches of ${setting.samples}`),
      ); // prettier-ignore
      if (real) {
        const level = up.at(reference[y()][0]);
        put_(svg("path", { d: `M${area.left},${level}H${area.right}`, class: "a3-real", "data-value": reference[y()][0] }),
          svg("text", { x: area.left + 6, y: level - 5, class: "a3-halo" }, `${real}: ${reference[y()][0].toFixed(QUALITIES[y()].digits)}`)); // prettier-ignore
      }
      put_(svg("path", { d: `M${line},${area.top}V${area.bottom}`, class: "a3-budget" }),
        svg("text", { x: Math.min(line, area.right - 2), y: area.top - 6, "text-anchor": line > (area.left + area.right) / 2 ? "end" : "start", class: "a3-halo" }, `budget: ${most} ${COSTS[x()].unit}`)); // prettier-ignore
      for (const family of families) {
        const own = points.filter(([way]) => way.family === family).sort(([a], [b]) => a.size - b.size);
        const colour = shape(family).getAttribute("fill");
        const strong = chosen?.family === family;
        put_(svg("path", { d: `M${own.map(([, px, py]) => `${px},${py}`).join("L")}`, stroke: colour, class: `a3-way${strong ? " a3-strong" : ""}`,
          "stroke-dasharray": DASHES[families.indexOf(family) % DASHES.length] })); // prettier-ignore
        for (const [way, px] of own) {
          const [low, high] = [-1, 1].map((sign) => up.at(way[y()][0] + sign * way[y()][1]));
          put_(svg("path", { d: `M${px - 3},${high}h6m-3,0V${low}m-3,0h6`, stroke: colour, "data-interval": way.name,
            class: `a3-interval${way === chosen || way === top ? " a3-strong" : ""}${way[x()] > most ? " a3-faint" : ""}` })); // prettier-ignore
        }
      }
      // What the front promises at a budget, it promises until the next better way: so it goes in steps.
      const steps = edge.map((way, i) => (i ? `H${place(way)[0]}V${place(way)[1]}` : `M${place(way)}`));
      put_(svg("path", { d: `${steps.join("")}${steps.length ? `H${area.right}` : ""}`, class: "a3-front", "data-front": edge.map((way) => way.name).join("|") }));

      const items = [...points].sort(([a], [b]) => a[x()] - b[x()] || score(a) - score(b));
      const stop = chosen ?? top ?? items[0]?.[0];
      const options = items.map(([way, px, py]) =>
        svg("g", {
          role: "option", transform: `translate(${px},${py})`, tabindex: way === stop ? 0 : -1, "aria-selected": String(way === chosen),
          "aria-label": `${call(way)}: ${cost(way)}, ${QUALITIES[y()].name} ${value(way)}${edge.includes(way) ? ", on the front" : ""}`,
          class: `a3-point${way[x()] > most ? " a3-faint" : ""}`,
          "data-name": way.name, "data-x": way[x()], "data-y": way[y()][0], "data-half": way[y()][1], "data-front": String(edge.includes(way)),
        }, way === top || way === chosen ? svg("circle", { r: 10, class: way === chosen ? "a3-chosen" : "a3-best" }) : null, shape(way.family)),
      ); // prettier-ignore
      const labels = svg("g", { "aria-hidden": "true" });
      const write = (px, py, text, bold) => {
        const half = text.length * 3.5; // about, in pixels
        const middle = Math.min(area.right - half, Math.max(area.left + half, px));
        labels.append(svg("text", { x: middle, y: py, "text-anchor": "middle", class: `a3-halo${bold ? " a3-name" : ""}` }, text));
      };
      // Along the line of the chosen way: how many tokens at a time, where there is room.
      const room = chosen ? [place(chosen)] : [];
      for (const [way, px, py] of points.filter(([way]) => way !== chosen && way.family === chosen?.family)) {
        if (room.some(([qx, qy]) => Math.hypot(px - qx, py - qy) < 18)) continue;
        write(px, py - 10, String(way.size));
        room.push([px, py]);
      }
      if (chosen) write(place(chosen)[0], place(chosen)[1] - 14, `${chosen.size} at a time`, true);
      if (top) write(place(top)[0], place(top)[1] + 25, width < 480 || top === chosen ? "best" : `best: ${top.family}, ${top.size}`, true);

      const said = `${QUALITIES[y()].name} against ${COSTS[x()].option}: ${plural(points.length, "way")} of decoding. Front: ${edge.map((way) => `${call(way)} (${cost(way)}, ${value(way)})`).join("; ")}.`;
      const picture = svg("svg", { class: "a3-chart", viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": said },
        back, options.length ? svg("g", { role: "listbox", "aria-label": "Ways of decoding, from cheap to dear" }, options) : null, labels); // prettier-ignore
      marks = points;
      const focused = document.activeElement?.closest?.("[role=option]")?.dataset.name;
      const inFocus = focused !== undefined && chart.contains(document.activeElement);
      chart.replaceChildren(picture);
      if (inFocus) {
        restoring = true; // The focus stays where it was; that is no new choice.
        chart.querySelector(`[data-name="${CSS.escape(focused)}"]`)?.focus();
        restoring = false;
      }
    }

    const choose = (name) => put(model, { selected: name });
    roving(chart, "[role=option]");
    chart.addEventListener("focusin", (event) => {
      const name = event.target.closest("[role=option]")?.dataset.name;
      if (name !== undefined && !restoring) choose(name);
    });
    const pick = (event) => {
      const box = chart.getBoundingClientRect();
      const away = ([, px, py]) => Math.hypot(px - (event.clientX - box.left), py - (event.clientY - box.top));
      const nearest = marks.reduce((a, b) => (!a || away(b) < away(a) ? b : a), undefined);
      if (nearest && away(nearest) < 24 && nearest[0].name !== model.get("selected")) choose(nearest[0].name);
    };
    ["pointermove", "pointerdown"].forEach((event) => chart.addEventListener(event, pick));

    // Words

    function tell() {
      const top = best(budget());
      const unit = COSTS[x()].unit;
      const asked = `Best within ${budget()} ${unit}: `;
      answer.dataset.best = top?.name ?? "";
      if (!top) {
        answer.replaceChildren(h("p", {}, h("b", {}, asked), seen().length ? "none, all shown cost more." : "none is shown."));
      } else {
        const [low, high] = [top[y()][0] - top[y()][1], top[y()][0] + top[y()][1]];
        const close = seen().filter((way) => way !== top && way[x()] <= budget() && way[y()][0] - way[y()][1] <= high && way[y()][0] + way[y()][1] >= low);
        const other = x() === "passes" ? "ms_per_sample" : "passes";
        const rival = best(top[other], other);
        const lines = [
          `${QUALITIES[y()].name} ${value(top)}, for ${cost(top)}.`,
          !close.length
            ? "No other interval in the budget overlaps with its own."
            : `Its interval overlaps with ${close.length > 3 ? `${close.length} others in the budget` : `${close.length > 1 ? "those" : "that"} of ${close.map((way) => `${way.family}, ${way.size}`).join("; ")}`}: ${plural(setting.seeds, "seed")} do not settle which is best.`,
          rival === top
            ? `Within its ${cost(top, other)} it is the best as well.`
            : `But pay in ${COSTS[other].option}: within its ${cost(top, other)}, ${call(rival)} gives ${value(rival)} for ${cost(rival, other)}.`,
        ];
        if (real && !QUALITIES[y()].near) {
          const dull = ["entropy", "distinct_pairs"].filter((key) => top[key][0] < reference[key][0]).map((key) => QUALITIES[key].name);
          lines.push(
            dull.length
              ? `Beware: less than ${real} in ${dull.join(" and ")}.`
              : `It is at least as varied as ${real} in words and pairs, so its number does not come from repetition.`,
          );
        }
        answer.replaceChildren(h("p", {}, h("b", {}, asked), call(top)), h("ul", {}, lines.map((line) => h("li", {}, line))));
      }
      const chosen = seen().find((way) => way.name === model.get("selected"));
      record.dataset.selected = chosen?.name ?? "";
      if (!chosen) {
        record.replaceChildren(h("p", {}, "Point at a marker, or go there with Tab and the arrow keys: its full record appears here."));
        return;
      }
      const rival = front().find((way) => beats(way, chosen));
      record.replaceChildren(
        h("p", {}, h("b", {}, call(chosen))),
        h("table", { class: "a3-table" },
          h("thead", {}, h("tr", {}, h("td", {}), h("th", { scope: "col", class: "a3-number" }, "this way"), real ? h("th", { scope: "col", class: "a3-number" }, real) : null)),
          h("tbody", {},
            Object.entries(COSTS).map(([key, { option }]) => h("tr", {}, h("th", { scope: "row" }, option),
              h("td", { class: "a3-number", "data-key": key, "data-value": chosen[key] }, String(chosen[key])), real ? h("td", {}) : null)),
            Object.entries(QUALITIES).map(([key, { name, unit, digits }]) => h("tr", {}, h("th", { scope: "row" }, unit ? `${name}, ${unit}` : name),
              h("td", { class: "a3-number", "data-key": key, "data-value": chosen[key][0], "data-half": chosen[key][1] }, value(chosen, key)),
              real ? h("td", { class: "a3-number" }, reference[key][0].toFixed(digits)) : null)))),
        h("p", {}, rival ? `${call(rival)} costs ${cost(rival)} and gives ${value(rival)}: no dearer, and no worse.` : "On the front: nothing shown is as cheap and better."),
      ); // prettier-ignore
    }

    // Redraw

    let before;
    const draw = () => {
      const list = stops();
      across.show(x());
      upward.show(y());
      spend.limit(list.length - 1);
      spend.show(list.filter((stop) => stop <= budget()).length - 1);
      boxes.forEach((label) => (label.firstChild.checked = !model.get("hidden").includes(label.firstChild.value)));
      note.replaceChildren(h("p", {}, NOTES[y()], " Bars: the 95 % interval over seeds. Thick steps: the front, the best at each budget."));
      plot();
      tell();
      const now = answer.firstChild.textContent;
      if (before !== undefined && now !== before) say(now);
      before = now;
    };
    const stop = follow(model, ["x", "y", "hidden", "budgets", "selected"], draw);
    let drawn = chart.clientWidth;
    const watch = new ResizeObserver(() =>
      requestAnimationFrame(() => {
        if (chart.clientWidth !== drawn) ((drawn = chart.clientWidth), plot());
      }),
    );
    watch.observe(chart);
    return () => (stop(), watch.disconnect());
  });
}

/** From numbers to pixels, with round numbers to write beside the axis. `marks`: those of a logarithmic axis. */
function scale(numbers, from, to, logarithmic) {
  const turn = logarithmic ? Math.log : (number) => number;
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)].map(turn);
  const margin = (high - low || 1) * 0.06;
  const at = (number) => {
    const share = (turn(Math.max(number, logarithmic ? 1e-9 : -Infinity)) - low + margin) / (high - low + 2 * margin);
    return from + Math.min(1, Math.max(0, share)) * (to - from);
  };
  const ticks = (marks) => {
    const inside = (number) => turn(number) >= low - margin && turn(number) <= high + margin;
    if (!logarithmic) {
      const rough = (high - low || 1) / 5;
      const power = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 5, 10].map((mark) => mark * power).find((mark) => mark >= rough);
      const first = Math.ceil((low - margin) / step);
      return Array.from({ length: 12 }, (_, i) => +((first + i) * step).toPrecision(6)).filter(inside);
    }
    return marks.filter(inside);
  };
  return { at, ticks };
}

export default { render };
