// The curriculum viewer: one training, step by step. A chart as the time line, and below it what the step saw.
import {
  button, choice, contentSees, follow, frame, groupColours, h, ink, newId, plural, put, querySees, shades, shown, slider, svg,
} from "./common.js";

const STREAMS = [
  ["content", "Content mask: own and earlier groups", contentSees],
  ["query", "Query mask: earlier groups only", querySees],
];
const DASHES = ["", "7 4", "7 3 2 3", "2 3", "9 3 2 3 2 3"];
const SHAPES = [
  "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", // circle, square, triangle, diamond, cross
  "M-4,-4h8v8h-8z",
  "M0,-5L5,4L-5,4z",
  "M0,-5.5L5.5,0L0,5.5L-5.5,0z",
  "M-4,-4L4,4M-4,4L4,-4",
];

const two = (number) => number.toFixed(2);
const percent = (share) => `${Math.round(100 * share)}%`;
const signed = (number) => (number > 0 ? "+" : number < 0 ? "−" : "±") + two(Math.abs(number));
const any = (numbers) => (numbers.length < 2 ? `${numbers}` : `${numbers.slice(0, -1).join(", ")} or ${numbers.at(-1)}`);

/** A kind of grouping and its group sizes, in words. */
function grouping(kind, sizes) {
  const one = sizes.length === 1 && sizes[0] === 1;
  const some = one ? "single tokens" : `groups of ${any(sizes)} tokens`;
  if (kind === "blocks") return `${one ? some : `contiguous ${some}`} from left to right`;
  if (kind === "shuffled") return `${some} in random order`;
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

function render({ model, el }) {
  return frame({ model, el }, "Curriculum viewer", (body, say) => {
    const [steps, stages, samples, curves] = ["steps", "stages", "samples", "curves"].map((name) => model.get(name));
    const [references, vocabulary] = [model.get("references"), model.get("vocabulary")];
    const colours = shades(curves.length);
    // Darker on white, lighter on black than the bare colours, which are made for areas.
    const look = (n) => ({
      style: `stroke: color-mix(in srgb, ${colours[n]} 72%, var(--a3-ink))`,
      "stroke-dasharray": DASHES[n % DASHES.length],
    });
    const marker = (n, x, y) =>
      svg("path", { class: "a3-marker", ...look(n), "stroke-dasharray": null, d: SHAPES[n % SHAPES.length], transform: `translate(${x} ${y})` });

    // The chosen step ---------------------------------------------------------------------------

    /** The kept step nearest to the trait, which Python may set to any number. */
    const sample = () => {
      const step = model.get("step");
      return samples.reduce((best, next) => (Math.abs(next.step - step) < Math.abs(best.step - step) ? next : best));
    };
    const go = (step) => {
      put(model, { step });
      const { stage } = sample();
      say(`Step ${sample().step}, stage ${stage + 1}: ${stages[stage].name}`);
    };
    const move = (by) => {
      const next = samples[samples.indexOf(sample()) + by];
      if (next) go(next.step);
    };
    /** The slider knows every step, but not every step is kept: it goes on to the next one that is. */
    const slide = (value) => {
      const now = sample().step;
      const on = value >= now ? samples.find(({ step }) => step >= value) : samples.findLast(({ step }) => step <= value);
      put(model, { step: on.step });
    };

    const jumps = stages.map(({ name, first }, n) => button(`${n + 1} ${name}`, () => go(first)));
    const back = button("Step back", () => move(-1));
    const on = button("Step on", () => move(1));
    const whole = button("Show the whole training", () => put(model, { whole: !model.get("whole") }));
    const range = slider("Training step", 1, steps, 1, slide, (step) => `${step} of ${steps}`);
    const row = choice(
      "Row of its batch",
      samples[0].rows.map((_, n) => [String(n), String(n + 1)]),
      "0",
      (n) => put(model, { row: +n }),
    );

    // The chart ---------------------------------------------------------------------------------

    const chart = h("div", { class: "a3-time" });
    let plot = null; // where the chart's axes are now, in pixels
    const drawChart = () => {
      const width = chart.clientWidth || 640;
      const height = 260;
      const beside = width >= 600 ? 140 : 14; // on the right, labels if there is room
      const [left, right, top, bottom] = [40, width - beside, 40, height - 36];
      const { step } = sample();
      const values = [...curves.flatMap(({ points }) => points), ...references].map(([, value]) => value);
      const [low, high] = [Math.min(...values), Math.max(...values)];
      const room = 0.1 * (high - low || 1);
      const x = (at) => left + (at / steps) * (right - left);
      const y = (value) => bottom - ((value - low + room) / (high - low + 2 * room)) * (bottom - top);
      const line = (points) => points.map(([at, value], i) => `${i ? "L" : "M"}${x(at).toFixed(1)},${y(value).toFixed(1)}`).join("");
      plot = { left, right };

      const bands = stages.flatMap(({ name, first, last }, n) => {
        const [from, to] = [x(first - 1), x(last)];
        const label = `${n + 1} ${name}`;
        return [
          svg("rect", { class: n % 2 ? "a3-band" : "a3-band a3-odd", x: from, y: top, width: to - from, height: bottom - top, "data-first": first, "data-last": last }),
          n ? svg("line", { class: "a3-axis", x1: from, x2: from, y1: top - 14, y2: bottom }) : null,
          svg("text", { x: (from + to) / 2, y: top - 5, "text-anchor": "middle" }, label.length * 7 < to - from ? label : String(n + 1)),
        ];
      });
      const grid = ticks(low - room, high + room, 5).flatMap((value) => [
        svg("line", { class: "a3-grid", x1: left, x2: right, y1: y(+value), y2: y(+value) }),
        svg("text", { x: left - 9, y: y(+value) + 4, "text-anchor": "end" }, value),
      ]);
      const along = ticks(0, steps, width / 90).map((at) =>
        svg("text", { x: x(+at), y: bottom + 15, "text-anchor": "middle" }, at),
      );
      const compared = references.map(([, value]) =>
        svg("line", { class: "a3-reference", x1: left, x2: right, y1: y(value), y2: y(value) }),
      );
      const said = references.map(([label, value]) =>
        svg("text", { class: "a3-halo", x: right - 4, y: y(value) + 14, "text-anchor": "end" }, `${label}: ${two(value)}`),
      );
      const now = curves.map(({ points }) => upTo(points, step));
      const drawn = curves.map(({ name, points }, n) => {
        const past = points.filter(([at]) => at <= step);
        const rest = points.filter(([at]) => at >= (now[n]?.[0] ?? 0));
        return svg(
          "g",
          { "data-curve": name },
          model.get("whole") ? svg("path", { class: "a3-curve a3-future", ...look(n), d: line(rest) }) : null,
          svg("path", { class: "a3-curve", ...look(n), d: line(past), "data-points": past.length }),
          past.map(([at, value]) => marker(n, x(at), y(value))),
        );
      });
      // Names in the margin, in the order of the curves, at least a line apart.
      let free = -Infinity;
      const names = now
        .map((point, n) => ({ point, n }))
        .filter(({ point }) => point && beside > 100)
        .sort((a, b) => b.point[1] - a.point[1])
        .flatMap(({ point: [at, value], n }) => {
          free = Math.max(y(value), free + 15);
          const [from, height] = [[x(at) + 6, y(value)], free];
          return [
            svg("path", { class: "a3-leader", d: `M${from}L${right},${height}h4` }),
            svg("text", { x: right + 8, y: height + 4 }, curves[n].name),
          ];
        });
      const heard = curves.map(({ name }, n) => (now[n] ? `${name} ${two(now[n][1])}` : "")).filter(Boolean);
      chart.replaceChildren(
        svg(
          "svg",
          { class: "a3-chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Held-out loss in nats per token against the training step, up to step ${step}. Last measured: ${heard.join(", ")}.` },
          bands,
          grid,
          svg("text", { x: 0, y: 13 }, "held-out loss, nats per token"),
          along,
          svg("text", { x: right, y: bottom + 31, "text-anchor": "end" }, "training step"),
          compared,
          svg("line", { class: "a3-now", x1: x(step), x2: x(step), y1: top, y2: bottom, "data-step": step }),
          names,
          drawn,
          said,
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

    // The numbers -------------------------------------------------------------------------------

    const numbers = h("div", { class: "a3-scroll" });
    const drawNumbers = ({ step, stage: n }) => {
      const { first, name } = stages[n];
      const at = curves.map(({ points }) => [points[0], upTo(points, first - 1), upTo(points, step)]);
      const when = (place) => [...new Set(at.map((points) => points[place]?.[0]))].filter((s) => s !== undefined).join("/");
      const cell = (value, what, text = two) =>
        h("td", { class: "a3-number", [`data-${what}`]: value ?? "" }, value === undefined ? "–" : text(value));
      numbers.replaceChildren(
        h(
          "table",
          { class: "a3-table" },
          h("caption", {}, "Held-out loss, nats per token"),
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              ["order", `at first: step ${when(0)}`, `before stage ${n + 1}: step ${when(1)}`, `now: step ${when(2)}`, `change in stage ${n + 1}`].map((text, i) =>
                h("th", { scope: "col", class: i ? "a3-number" : null }, text),
              ),
            ),
          ),
          h(
            "tbody",
            {},
            curves.map((curve, i) => {
              const [start, before, now] = at[i].map((found) => found?.[1]);
              const change = now === undefined || before === undefined ? undefined : now - before;
              const key = svg(
                "svg",
                { class: "a3-key", viewBox: "0 0 34 12", "aria-hidden": "true" },
                svg("line", { class: "a3-curve", ...look(i), x1: 1, x2: 33, y1: 6, y2: 6 }),
                marker(i, 17, 6),
              );
              return h(
                "tr",
                { "data-order": curve.name },
                h("th", { scope: "row" }, key, curve.name),
                cell(start, "start"),
                cell(before, "before"),
                cell(now, "now"),
                cell(change, "change", signed),
              );
            }),
          ),
        ),
      );
    };

    // What the step saw -------------------------------------------------------------------------

    const told = h("div", { class: "a3-panel" });
    const tokens = h("div", { class: "a3-tokens", role: "list", "aria-label": "Tokens and their groups" });
    const about = h("p", { class: "a3-note" });
    const answer = h("p", { class: "a3-answer" });
    const masks = h("div", { class: "a3-masks" });

    const drawTold = ({ step, stage: n, inside, parts, drawn, predicted, rows }) => {
      const { name, first, last } = stages[n];
      const part = ({ kind, sizes, all_sizes: all, share }) =>
        (parts.length > 1 ? `${percent(share)} ` : "") +
        grouping(kind, sizes) +
        (all.length > sizes.length ? ` (over the stage, groups of ${all.join(", ")} in turn)` : "");
      const batch = drawn.reduce((sum, [, , count]) => sum + count, 0);
      told.replaceChildren(
        h("p", { class: "a3-head" }, `Step ${step}: stage ${n + 1} of ${stages.length}, ${name}`),
        h("p", {}, `This stage has steps ${first} to ${last}, ${percent((last - first + 1) / steps)} of the training; ${percent(inside)} of it is over. Each row draws: ${parts.map(part).join("; ")}.`),
        h("p", {}, `The ${plural(batch, "row")} of this step, with ${predicted} predicted tokens, drew:`),
        h("ul", {}, drawn.map(([kind, size, count]) => h("li", { "data-kind": kind, "data-size": size, "data-count": count }, `${plural(count, "row")}: ${grouping(kind, [size])}`))),
      );
    };

    const drawRow = ({ rows, left, right }) => {
      const at = Math.max(0, Math.min(model.get("row"), rows.length - 1));
      const { kind, size, start, length, tokens: ids, groups } = rows[at];
      row.show(String(at));
      const texts = ids.map((id) => shown(vocabulary[id]));
      const short = texts.map((text) => (text.length > 8 ? `${text.slice(0, 7)}…` : text));
      const fills = groupColours(groups);
      about.replaceChildren(
        `This row drew ${grouping(kind, [size])}. Tokens ${start + 1} to ${start + ids.length} of its ${length}; the number is the group.`,
      );
      tokens.replaceChildren(
        ...texts.map((text, i) =>
          h(
            "span",
            { class: "a3-token", role: "listitem", "data-group": groups[i], style: `--group: ${fills[i]}; --group-ink: ${ink(fills[i])}` },
            text,
            h("small", {}, groups[i] === 0 ? "given" : String(groups[i])),
          ),
        ),
      );
      masks.replaceChildren(
        ...STREAMS.map(([name, caption, sees]) => {
          const id = newId("mask");
          return h(
            "div",
            { class: "a3-scroll", tabindex: 0, role: "region", "aria-labelledby": id },
            h(
              "table",
              { class: "a3-matrix", "data-mask": name },
              h("caption", { id }, caption),
              h("thead", {}, h("tr", {}, h("td", {}), short.map((text) => h("th", { scope: "col" }, h("span", {}, text))))),
              h(
                "tbody",
                {},
                short.map((text, i) =>
                  h(
                    "tr",
                    {},
                    h("th", { scope: "row" }, text),
                    short.map((_, j) => {
                      const seen = sees(groups, i, j);
                      const fill = seen ? `--fill: ${fills[j]}; --fill-ink: ${ink(fills[j])}` : "--fill: var(--a3-hidden)";
                      return h("td", { "data-seen": String(seen), class: i === j ? "a3-self" : null, style: fill }, seen ? String(groups[j]) : "");
                    }),
                  ),
                ),
              ),
            ),
          );
        }),
      );
      answer.replaceChildren(
        "In the whole batch, the query row of a predicted token sees ",
        h("b", { "data-left": left }, `${left.toFixed(1)} tokens on its left`),
        " and ",
        h("b", { "data-right": right }, `${right.toFixed(1)} on its right`),
        right === 0
          ? ", on average. Nothing right of the outlined diagonal: this step does not teach it to use what comes later."
          : `, on average. ${percent(right / (left + right))} of what it sees stands right of the outlined diagonal.`,
      );
    };

    // All of it ---------------------------------------------------------------------------------

    const losses = model.get("batch_losses");
    const measured = [...new Set([...curves.flatMap(({ points }) => points), ...losses].map(([at]) => at))].sort((a, b) => a - b);
    const value = (points, at) => points.find(([step]) => step === at)?.[1];
    const all = h(
      "details",
      {},
      h("summary", {}, "All losses as a table"),
      h(
        "div",
        { class: "a3-scroll", tabindex: 0, role: "region", "aria-label": "All losses" },
        h(
          "table",
          { class: "a3-table" },
          h("caption", {}, "Nats per token: held-out, after the step; its batch, before the update, each with groups of its own stage"),
          h("thead", {}, h("tr", {}, ["step", ...curves.map(({ name }) => name), "its batch"].map((text) => h("th", { scope: "col", class: "a3-number" }, text)))),
          h(
            "tbody",
            {},
            measured.map((at) =>
              h(
                "tr",
                { "data-at": at },
                h("th", { scope: "row", class: "a3-number" }, String(at)),
                [...curves.map(({ points }) => points), losses].map((points) => {
                  const found = value(points, at);
                  return h("td", { class: "a3-number", "data-value": found ?? "" }, found === undefined ? "–" : two(found));
                }),
              ),
            ),
          ),
        ),
      ),
    );

    body.classList.add("a3-curriculum");
    body.append(
      h("p", {}, "Walk through the training: slide, or click in the chart. Which losses fall in which stage, and what may a token see there?"),
      h("div", { class: "a3-row a3-controls", role: "group", "aria-label": "Go to the beginning of a stage" }, jumps),
      chart,
      range,
      h("div", { class: "a3-row a3-controls" }, back, on, whole),
      numbers,
      told,
      row,
      about,
      tokens,
      masks,
      answer,
      all,
    );

    // A focused scroll box is drawn anew with its step: only the controls keep the focus, and they stay.
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
