// The curriculum viewer: one training, step by step. A chart as the time line, and below it what the step saw.
import {
  button, choice, contentSees, follow, frame, groupColours, h, ink, PADDING, plural, put, querySees, shades, shown,
  slider, svg,
} from "./base.js";

const STREAMS = [
  ["content", "Content mask: own and earlier groups", contentSees],
  ["query", "Query mask: earlier groups only", querySees],
];
const DASHES = ["", "7 4", "7 3 2 3", "2 3", "9 3 2 3 2 3", "12 3"];
const SHAPES = [
  "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", // circle, square, triangle, diamond, cross, triangle upside down
  "M-4,-4h8v8h-8z",
  "M0,-5L5,4L-5,4z",
  "M0,-5.5L5.5,0L0,5.5L-5.5,0z",
  "M-4,-4L4,4M-4,4L4,-4",
  "M0,5L5,-4L-5,-4z",
];

// Words and numbers ---------------------------------------------------------------------------

const two = (number) => number.toFixed(2);
const wholePercent = (share) => `${Math.round(100 * share)}%`;
const signed = (number) => (number > 0 ? "+" : number < 0 ? "−" : "±") + two(Math.abs(number));
const any = (all) => (all.length < 2 ? String(all) : `${all.slice(0, -1).join(", ")} or ${all.at(-1)}`);

/** A kind of grouping and its group sizes, in words. */
function grouping(kind, sizes) {
  const one = sizes.length === 1 && sizes[0] === 1;
  const some = one ? "single tokens" : `groups of ${any(sizes)} tokens`;
  if (kind === "blocks") return `${one ? some : `contiguous ${some}`} from left to right`;
  if (kind === "shuffled") return `${some} in random order`;
  if (kind === "strided") return one ? `${some} from left to right` : `${some} that stand far apart (strided)`;
  const blank = kind === "span" ? "a random stretch" : "one sentence (or, if there is none, a random stretch)";
  return `${blank} as a blank, filled from left to right in ${some}`;
}

/** The last point of a curve at or before a step, if there is one. */
const upTo = (points, step) => points.filter(([at]) => at <= step).at(-1);

/** Round numbers from `low` to `high`, about `count` of them, as texts of equally many digits. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const gap = unit * [1, 2, 5, 10].find((factor) => factor * unit >= rough);
  const first = Math.ceil(low / gap);
  const digits = Math.max(0, -Math.floor(Math.log10(gap)));
  return Array.from({ length: Math.floor(high / gap) - first + 1 }, (_, i) => ((first + i) * gap).toFixed(digits));
}

// Parts of the page ---------------------------------------------------------------------------

const scroll = (label, ...children) =>
  h("div", { class: "a3-scroll", tabindex: 0, role: "region", "aria-label": label }, children);

/** A table of numbers; `heads` are lists of lines, `rows` are elements. */
function table(caption, heads, rows) {
  const head = ([text, more], i) =>
    h("th", { scope: "col", class: i ? "a3-number" : null }, text, more ? [h("br"), more] : null);
  return h(
    "table",
    { class: "a3-table" },
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, heads.map(head))),
    h("tbody", {}, rows),
  );
}

/** A cell with a number that may be missing. `data` names its attribute, which holds all digits. */
const cell = (value, data, text = two) =>
  h("td", { class: "a3-number", [`data-${data}`]: value ?? "" }, value === undefined ? "–" : text(value));

/** One mask of a row of tokens. */
function mask([name, caption, sees], texts, groups, fills) {
  const square = (i, j) => {
    const seen = sees(groups, i, j);
    const style = seen ? `--fill: ${fills[j]}; --fill-ink: ${ink(fills[j])}` : "--fill: var(--a3-hidden)";
    return h("td", { "data-seen": String(seen), class: i === j ? "a3-self" : null, style }, seen ? `${groups[j]}` : "");
  };
  const row = (text, i) => h("tr", {}, h("th", { scope: "row" }, text), texts.map((_, j) => square(i, j)));
  return h(
    "table",
    { class: "a3-matrix", "data-mask": name },
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, h("td", {}), texts.map((text) => h("th", { scope: "col" }, h("span", {}, text))))),
    h("tbody", {}, texts.map(row)),
  );
}

function render({ model, el }) {
  return frame({ model, el }, "Curriculum viewer", (body, say) => {
    const read = (...names) => names.map((name) => model.get(name));
    const [steps, stages, samples, vocabulary] = read("steps", "stages", "samples", "vocabulary");
    const [curves, losses, references] = read("curves", "batch_losses", "references");

    // The chosen step ---------------------------------------------------------------------------

    /** The kept step nearest to the trait, which Python may set to any number. */
    const sample = () => {
      const step = model.get("step");
      return samples.reduce((best, next) => (Math.abs(next.step - step) < Math.abs(best.step - step) ? next : best));
    };
    const go = (step) => {
      put(model, { step });
      const { step: kept, stage } = sample();
      say(`Step ${kept}, stage ${stage + 1}: ${stages[stage].name}`);
    };
    const move = (by) => {
      const next = samples[samples.indexOf(sample()) + by];
      if (next) go(next.step);
    };
    /** The slider knows every step, but not every step is kept: it goes on to the next one that is. */
    const slide = (value) => {
      const kept = samples.map(({ step }) => step);
      const back = kept.filter((step) => step <= value).at(-1);
      put(model, { step: value < sample().step ? back : kept.find((step) => step >= value) });
    };

    const jumps = stages.map(({ name, first }, n) => button(`${n + 1} ${name}`, () => go(first)));
    const back = button("Step back", () => move(-1));
    const on = button("Step on", () => move(1));
    const whole = button("Show the whole training", () => put(model, { whole: !model.get("whole") }));
    const range = slider("Training step", 1, steps, 1, slide, (step) => `${step} of ${steps}`);
    range.classList.add("a3-stays");
    const numbered = samples[0].rows.map((_, n) => [String(n), String(n + 1)]);
    const row = choice("Row of its batch", numbered, "0", (n) => put(model, { row: +n }));

    // The chart ---------------------------------------------------------------------------------

    const colours = shades(curves.length);
    // Darker on white, lighter on black than the bare colours, which are made for areas.
    const stroke = (n) => `stroke: color-mix(in srgb, ${colours[n]} 72%, var(--a3-ink))`;
    const look = (n) => ({ style: stroke(n), "stroke-dasharray": DASHES[n % DASHES.length] });
    const marker = (n, x, y) => {
      const place = { d: SHAPES[n % SHAPES.length], transform: `translate(${x} ${y})` };
      return svg("path", { class: "a3-marker", style: stroke(n), ...place });
    };

    const chart = h("div", { class: "a3-time" });
    let plot = null; // where the time axis begins and ends now, in pixels of the chart
    const drawChart = () => {
      // As many units as pixels, so that text has its size on every screen.
      const [width, height] = [chart.clientWidth || 640, 260];
      const named = width >= 600; // is there room for names beside the curves?
      const [left, right, top, bottom] = [40, width - (named ? 140 : 14), 40, height - 36];
      plot = { left, right };
      const { step } = sample();
      const values = [...curves.flatMap(({ points }) => points), ...references].map(([, value]) => value);
      const [low, high] = [Math.min(...values), Math.max(...values)];
      const room = 0.1 * (high - low || 1);
      const x = (at) => left + (at / steps) * (right - left);
      const y = (value) => bottom - ((value - low + room) / (high - low + 2 * room)) * (bottom - top);
      const across = (name, value) => svg("line", { class: name, x1: left, x2: right, y1: y(value), y2: y(value) });
      const text = (words, at, height, anchor = "middle", name = null) =>
        svg("text", { x: at, y: height, "text-anchor": anchor, class: name }, words);
      const path = (points) => "M" + points.map(([at, value]) => `${x(at)},${y(value)}`).join("L");

      const bands = stages.flatMap(({ name, first, last }, n) => {
        const [from, to, label] = [x(first - 1), x(last), `${n + 1} ${name}`];
        const area = { x: from, y: top, width: to - from, height: bottom - top };
        return [
          svg("rect", { class: n % 2 ? "a3-band" : "a3-band a3-odd", ...area, "data-first": first, "data-last": last }),
          n ? svg("line", { class: "a3-axis", x1: from, x2: from, y1: top - 14, y2: bottom }) : null,
          text(label.length * 7 < to - from ? label : String(n + 1), (from + to) / 2, top - 5),
        ];
      });
      const axes = [
        text("held-out loss, nats per token", 0, 13, "start"),
        ...ticks(low - room, high + room, 5).map((at) => across("a3-grid", +at)),
        ...ticks(low - room, high + room, 5).map((at) => text(at, left - 9, y(+at) + 4, "end")),
        ...ticks(0, steps, Math.min(steps, width / 90)).map((at) => text(at, x(+at), bottom + 15)),
        text("training step", right, bottom + 31, "end"),
      ];
      const now = curves.map(({ points }) => upTo(points, step));
      const drawn = curves.map(({ name, points }, n) => {
        const past = points.filter(([at]) => at <= step);
        const rest = model.get("whole") ? points.slice(Math.max(0, past.length - 1)) : [];
        return svg(
          "g",
          { "data-curve": name, "data-points": past.length },
          rest.length ? svg("path", { class: "a3-curve a3-future", ...look(n), d: path(rest) }) : null,
          past.length ? svg("path", { class: "a3-curve", ...look(n), d: path(past) }) : null,
          past.map(([at, value]) => marker(n, x(at), y(value))),
        );
      });
      // Names where the curves end, from top to bottom and at least a line apart.
      let free = -Infinity;
      const names = (model.get("whole") ? curves.map(({ points }) => points.at(-1)) : now)
        .map((end, n) => ({ end, n }))
        .filter(({ end }) => end && named)
        .sort((a, b) => b.end[1] - a.end[1])
        .flatMap(({ end: [at, value], n }) => {
          free = Math.max(y(value), free + 15);
          const from = Math.max(x(at), x(step)) + 6;
          return [
            svg("path", { class: "a3-leader", d: `M${x(at) + 6},${y(value)}H${from}L${from + 10},${free}` }),
            text(curves[n].name, from + 13, free + 4, "start", "a3-halo"),
          ];
        });
      const heard = curves.filter((_, n) => now[n]).map(({ points, name }) => `${name} ${two(upTo(points, step)[1])}`);
      const label = `Held-out loss in nats per token, up to training step ${step}. Last measured: ${heard.join(", ")}.`;
      chart.replaceChildren(
        svg(
          "svg",
          { class: "a3-chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
          bands,
          axes,
          references.map(([, value]) => across("a3-reference", value)),
          svg("line", { class: "a3-now", x1: x(step), x2: x(step), y1: top, y2: bottom, "data-step": step }),
          names,
          drawn,
          references.map(([name, value]) => text(`${name}: ${two(value)}`, right - 4, y(value) + 14, "end", "a3-halo")),
        ),
      );
      // The slider lies exactly below the time axis; its thumb is 16 pixels wide.
      range.style.setProperty("--left", `${x(1) - 8}px`);
      range.style.setProperty("--width", `${x(steps) - x(1) + 16}px`);
    };
    const point = (event) => {
      const share = (event.clientX - chart.getBoundingClientRect().left - plot.left) / (plot.right - plot.left);
      put(model, { step: Math.max(1, Math.min(steps, Math.round(share * steps))) });
    };
    chart.addEventListener("pointerdown", point);
    chart.addEventListener("pointermove", (event) => event.buttons && point(event));

    // The losses now ----------------------------------------------------------------------------

    const numbers = h("div", {});
    const drawNumbers = ({ step, stage }) => {
      const ends = [0, stages[stage].first - 1, step];
      const found = curves.map(({ points }) => ends.map((end) => upTo(points, end)));
      const when = (n) => `step ${[...new Set(found.map((points) => points[n]?.[0] ?? "–"))].join("/")}`;
      const heads = [
        ["order"],
        ["at first", when(0)],
        [`before stage ${stage + 1}`, when(1)],
        ["now", when(2)],
        ["change", `in stage ${stage + 1}`],
      ];
      const rows = curves.map(({ name }, n) => {
        const [start, before, now] = found[n].map((point) => point?.[1]);
        const key = svg(
          "svg",
          { class: "a3-key", viewBox: "0 0 34 12", "aria-hidden": "true" },
          svg("line", { class: "a3-curve", ...look(n), x1: 1, x2: 33, y1: 6, y2: 6 }),
          marker(n, 17, 6),
        );
        const change = now === undefined || before === undefined ? undefined : now - before;
        return h(
          "tr",
          { "data-order": name },
          h("th", { scope: "row" }, key, name),
          [cell(start, "start"), cell(before, "before"), cell(now, "now"), cell(change, "change", signed)],
        );
      });
      numbers.replaceChildren(table("Held-out loss, nats per token", heads, rows));
    };

    // What the step saw -------------------------------------------------------------------------

    const told = h("div", { class: "a3-panel" });
    const drawTold = ({ step, stage, inside, parts, drawn, predicted }) => {
      const { name, first, last } = stages[stage];
      const part = ({ kind, sizes, all_sizes: all, share, room }) =>
        (parts.length > 1 ? `${wholePercent(share)} ` : "") +
        grouping(kind, sizes) +
        (all.length > sizes.length ? ` (over the stage, groups of ${all.join(", ")} in turn)` : "") +
        (room ? `, half of them with up to ${plural(room, "position")} of spare room` : "");
      const batch = drawn.reduce((sum, [, , count]) => sum + count, 0);
      told.replaceChildren(
        h("p", { class: "a3-head" }, `Step ${step}: stage ${stage + 1} of ${stages.length}, ${name}`),
        h(
          "p",
          {},
          `This stage has steps ${first} to ${last}, ${wholePercent((last - first + 1) / steps)} of the training; `,
          `${wholePercent(inside)} of it is over. Each row draws: ${parts.map(part).join("; ")}.`,
        ),
        h("p", {}, `The ${plural(batch, "row")} of this step, with ${predicted} predicted tokens, drew:`),
        h("ul", {}, drawn.map(([kind, size, n]) => h("li", {}, `${plural(n, "row")}: ${grouping(kind, [size])}`))),
      );
    };

    const about = h("p", { class: "a3-note" });
    const tokens = h("div", { class: "a3-tokens", role: "list", "aria-label": "Tokens and their groups" });
    const boxes = STREAMS.map(([, caption]) => scroll(caption));
    const answer = h("p", {});
    const drawRow = ({ rows, left, right }) => {
      const at = Math.max(0, Math.min(model.get("row"), rows.length - 1));
      const { kind, size, start, length, spare, tokens: ids, groups } = rows[at];
      const texts = ids.map((id, i) => (groups[i] === PADDING ? "–" : shown(vocabulary[id])));
      const short = texts.map((text) => (text.length > 8 ? `${text.slice(0, 7)}…` : text));
      const fills = groupColours(groups);
      row.show(String(at));
      about.textContent =
        `This row drew ${grouping(kind, [size])}. ` +
        (spare ? "The blank got spare room: behind its last token stands the end, then padding (–). " : "") +
        `Below: tokens ${start + 1} to ${start + ids.length} of its ${length}, with the numbers of their groups.`;
      tokens.replaceChildren(
        ...texts.map((text, i) => {
          const style = `--group: ${fills[i]}; --group-ink: ${ink(fills[i])}`;
          const number = h("small", {}, { 0: "given", [PADDING]: "padding" }[groups[i]] ?? String(groups[i]));
          return h("span", { class: "a3-token", role: "listitem", "data-group": groups[i], style }, text, number);
        }),
      );
      boxes.forEach((box, n) => box.replaceChildren(mask(STREAMS[n], short, groups, fills)));
      answer.replaceChildren(
        "In the whole batch, the query row of a predicted token sees ",
        h("b", { "data-left": left }, `${left.toFixed(1)} tokens on its left`),
        " and ",
        h("b", { "data-right": right }, `${right.toFixed(1)} on its right`),
        right === 0
          ? ", on average. Nothing right of the outlined diagonal: this step does not teach it to use what comes later."
          : `, on average. ${wholePercent(right / (left + right))} of what it sees stands right of the outlined diagonal.`,
      );
    };

    // All losses --------------------------------------------------------------------------------

    const series = [...curves.map(({ points }) => points), losses].map((points) => new Map(points));
    const logged = [...new Set(series.flatMap((points) => [...points.keys()]))].sort((a, b) => a - b);
    const lines = logged.map((at) =>
      h(
        "tr",
        { "data-at": at },
        h("th", { scope: "row" }, String(at)),
        series.map((points) => cell(points.get(at), "value")),
      ),
    );
    const caption =
      "Nats per token. Held-out: after the step. Its batch: before the update, with groups of its own stage, " +
      "so not comparable from stage to stage.";
    const heads = ["step", ...curves.map(({ name }) => name), "its batch"].map((name) => [name]);
    const all = h("details", {}, h("summary", {}, "All losses"), scroll("All losses", table(caption, heads, lines)));

    body.classList.add("a3-curriculum");
    body.append(
      h(
        "p",
        {},
        "Walk through the training: slide, press a stage, or click in the chart. Which losses fall in which stage, ",
        "and what may a token see there?",
      ),
      h("div", { class: "a3-row a3-controls", role: "group", "aria-label": "Go to the beginning of a stage" }, jumps),
      chart,
      range,
      h("div", { class: "a3-row a3-controls" }, back, on, whole),
      numbers,
      told,
      row,
      about,
      tokens,
      h("div", { class: "a3-masks" }, boxes),
      answer,
      all,
    );

    const stop = follow(model, ["step", "row", "whole"], () => {
      const found = sample();
      range.show(found.step);
      jumps.forEach((jump, n) => jump.setAttribute("aria-pressed", String(n === found.stage)));
      // Not `disabled`, which would take the focus away.
      back.setAttribute("aria-disabled", String(found === samples[0]));
      on.setAttribute("aria-disabled", String(found === samples.at(-1)));
      whole.setAttribute("aria-pressed", String(model.get("whole")));
      drawChart();
      drawNumbers(found);
      drawTold(found);
      drawRow(found);
    });
    const resized = new ResizeObserver(drawChart);
    resized.observe(chart);
    return () => (resized.disconnect(), stop());
  });
}

export default { render };
