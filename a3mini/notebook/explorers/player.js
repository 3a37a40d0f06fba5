// The decoding player: traces of decodings, replayed on one timeline. a3mini/decode/trace.py says what a trace has.
import { button, choice, follow, frame, h, percent, plural, put, roving, select, shown, slider, svg, timeline } from "./base.js";

const UNITS = { pass: ["forward pass", "forward passes"], step: ["step", "steps"], token: ["token", "tokens"] };
const WAIT = { slow: 1200, normal: 450, fast: 120 }; // milliseconds between two ticks
const CARDS = 8; // more tokens than that are found in the text
const ACTIONS = { commit: "✓ commit", reject: "✗ reject", reopen: "↺ reopen", stop: "■ stop" };

// Time: a moment says how many steps are done, and how many tokens of the next ----------------------

const START = { steps: 0, tokens: 0 };

/** The moments of a run, one for each tick; the first is the start. */
function moments({ steps, passes }, unit) {
  if (unit === "pass") {
    const done = (pass) => steps.filter((step) => step.passes <= pass).length;
    return Array.from({ length: passes + 1 }, (_, pass) => ({ steps: done(pass), tokens: 0 }));
  }
  const found = [START];
  steps.forEach((step, number) => {
    const count = unit === "token" && step.action === "commit" ? step.positions.length : 1;
    for (let tokens = 1; tokens < count; tokens++) found.push({ steps: number, tokens });
    found.push({ steps: number + 1, tokens: 0 });
  });
  return found;
}

/** The steps from one moment to another; the first and the last may be parts of a step. */
function between({ steps }, from, to) {
  const found = [];
  for (let number = from.steps; number < to.steps + (to.tokens ? 1 : 0); number++) {
    const step = steps[number];
    const part = [number === from.steps ? from.tokens : 0, number === to.steps ? to.tokens : undefined];
    const cut = (name) => (step[name] ?? []).slice(...part);
    const lists = ["positions", "tokens", "log_probs", "runners_up"].map((name) => [name, cut(name)]);
    found.push({ ...step, ...Object.fromEntries(lists) });
  }
  return found;
}

/** The ticks at which anything happens. */
function changes(run, unit) {
  const all = moments(run, unit);
  return all.flatMap((now, tick) => (tick && between(run, all[tick - 1], now).length ? [tick] : []));
}

/** What stands at each position at a moment. `null` where the row has padding. */
function replay(run, until) {
  const cells = Array(run.length).fill(null);
  for (const step of run.steps) for (const at of step.positions) cells[at] = { state: "open", token: null };
  for (const [at, token] of run.known) cells[at] = { state: "given", token };
  for (const step of between(run, START, until)) {
    step.positions.forEach((at, i) => {
      if (step.action === "commit") {
        const record = { log_prob: step.log_probs[i], runners_up: step.runners_up[i] ?? [], passes: step.passes };
        cells[at] = { state: "filled", token: step.tokens[i], ...record };
      } else if (step.action === "reopen") cells[at] = { state: "open", token: null };
      else if (step.action === "stop") cells[at] = { state: "ended", token: null };
    });
  }
  return cells;
}

/**
 * Speculative decoding: the drafts that wait to be verified, by position. The trace has them one pass later, as
 * rejected or committed; a draft behind the end of the text is in neither.
 */
function waiting(run, until) {
  const last = run.steps[until.steps - (until.tokens ? 0 : 1)];
  if (run.strategy !== "speculative" || run.settings.draft < 2 || !last) return {};
  const verify = last.passes + (last.passes % 2); // two passes a round
  const drafts = {};
  const decided = new Set();
  run.steps.forEach((step, number) => {
    if (step.passes !== verify || !["commit", "reject"].includes(step.action)) return;
    step.positions.forEach((at, i) => {
      if (number < until.steps) decided.add(at);
      else if (!decided.has(at) && !(at in drafts)) drafts[at] = step.tokens[i]; // rejections come first
    });
  });
  return drafts;
}

/** All numbers of a run at a tick. */
function at(run, unit, clock) {
  const all = moments(run, unit);
  const end = all.length - 1;
  const tick = Math.min(clock, end);
  const parts = clock > 0 && clock <= end ? between(run, all[clock - 1], all[clock]) : [];
  const cells = replay(run, all[tick]);
  const past = between(run, START, all[tick]);
  const filled = cells.filter((cell) => cell?.state === "filled");
  return {
    parts,
    cells,
    past,
    end,
    done: clock >= end,
    drafts: waiting(run, all[tick]),
    passes: unit === "pass" ? tick : (past.at(-1)?.passes ?? 0),
    filled: filled.length,
    open: cells.filter((cell) => cell?.state === "open").length,
    nats: filled.reduce((sum, cell) => sum + cell.log_prob, 0),
  };
}

// Words -----------------------------------------------------------------------------------------

const decimal = (value, digits) =>
  value
    .toFixed(digits)
    .replace(/^-(?=0*\.?0*$)/, "")
    .replace("-", "−");
const places = (list) => `${list.length === 1 ? "position" : "positions"} ${list.join(", ")}`;
const passes = (number) => `${number} ${number === 1 ? "pass" : "passes"}`;
const written = ({ strategy }, { filled, open }) =>
  strategy === "revise" ? `${filled} rewritten` : `${filled} of ${filled + open} tokens`;

/** What the sum of the log-probabilities is. */
function measure({ strategy, settings }) {
  if (strategy === "revise") return "of the rewritten tokens, each given all the rest; not of the whole text";
  if (settings.context === "refreshed") return "of the steps; no single pass gives it";
  return "the log-likelihood, in the order of filling";
}

function manner({ strategy, settings, steps, order }) {
  const most = Math.max(0, ...steps.filter(({ action }) => action === "commit").map((step) => step.positions.length));
  const how = {
    resample: `the model chooses where, by ${settings.criterion}; context ${settings.context}`,
    speculative: `drafts of ${settings.draft}, verified`,
    revise: `${plural(settings.reopen, "token")} reopened at a time`,
  };
  const which = { neighbours: ", neighbours", strided: ", far apart (strided)" }[order] ?? "";
  const fixed = `order fixed before, ${most > 1 ? `up to ${most} tokens` : "one token"} a pass${which}`;
  return `${how[strategy] ?? fixed}; temperature ${settings.temperature}`;
}

/** How sure the model was of an open position, 0 to 1: entropy as one over the perplexity. */
const sureness = ({ settings }, score) => (settings.criterion === "entropy" ? Math.exp(score) : score);

const SCORES = {
  confidence: "the probability of the likeliest token",
  entropy: "minus the entropy, in nats",
  random: "random numbers",
};

/** Whether its model ended blanks, and not whole texts. */
const endsBlanks = ({ settings }) => settings.end !== undefined;

/** What happened in a tick: [[action, sentence], ...]; `quoted` shows tokens. */
function explain(run, { parts, drafts }, quoted) {
  const all = (action, list) => parts.filter((part) => part.action === action).flatMap((part) => part[list]);
  const [tokens, where] = [all("commit", "tokens"), all("commit", "positions")];
  const [dropped, dropsAt] = [all("reject", "tokens"), all("reject", "positions")];
  const [taken, ended] = [all("reopen", "tokens"), all("stop", "positions")];
  const what = `${tokens.length > 6 ? plural(tokens.length, "token") : quoted(tokens)}, ${places(where)}.`;
  const found = [];
  if (taken.length) {
    const why = run.settings.keep_worse ? "better or worse" : "for the whole text became likelier";
    const place = places(all("reopen", "positions"));
    found.push(["reopen", `${quoted(taken)}, ${place}: taken out. What is filled in instead is kept, ${why}.`]);
  }
  if (run.strategy === "speculative") {
    const [failed, ...behind] = dropped;
    if (dropped.length) found.push(["reject", `The draft ${quoted([failed])}, position ${dropsAt[0]}, did not pass.`]);
    if (behind.length) found[0][1] += ` Dropped with it: ${quoted(behind)}, judged given a word that is gone.`;
    const kept = tokens.filter((_, i) => where[i] !== dropsAt[0]);
    const repaired = tokens.filter((_, i) => where[i] === dropsAt[0]);
    const waits = Object.keys(drafts).length;
    if (tokens.length && (run.settings.draft < 2 || parts[0].passes % 2)) {
      const others = waits ? ` In the same pass ${waits} more were drafted (marked ?); none saw the others.` : "";
      found.push([
        "commit",
        `${what} The first of its round has seen all that stands and needs no verification.${others}`,
      ]);
    } else {
      if (kept.length) found.push(["commit", `${quoted(kept)}: passed.`]);
      if (repaired.length)
        found.push(["commit", `${quoted(repaired)}: drawn from the residual, in place of what failed.`]);
    }
  } else {
    if (dropped.length) {
      const why = "tried and not kept: the whole text would not be likelier";
      found.push(["reject", `${quoted(dropped)}, ${places(dropsAt)}: ${why}.`]);
    }
    const how = run.strategy === "revise" ? " Filled given all the rest." : "";
    if (tokens.length)
      found.push(["commit", `${what}${tokens.length > 1 && !how ? " None of them saw the others." : how}`]);
  }
  const { considered } = parts.find((part) => part.considered) ?? {};
  if (considered) {
    const best = [...considered].sort((one, other) => other[1] - one[1]).slice(0, 4);
    const named = best.map(([at, score]) => `position ${at}, ${decimal(score, 2)}`).join("; ");
    const { criterion, window, shortlist } = run.settings;
    const which = window || shortlist ? "Of the open positions" : "Of all open positions";
    found.push([
      null,
      `${which} ${considered.length} ${considered.length > 1 ? "were" : "was"} asked. By ${criterion} (${SCORES[criterion]}) the first are: ${named}.`,
    ]);
  }
  if (ended.length) {
    const left = endsBlanks(run) ? "The blank has ended. What is left of its room holds nothing" : "The text has ended. Never filled";
    found.push(["stop", `${left}: ${places(ended)}.`]);
  }
  return found;
}

// The figure ------------------------------------------------------------------------------------

const badge = (action) => h("b", { class: "a3-action", "data-action": action }, ACTIONS[action]);

function render({ model, el }) {
  return frame({ model, el }, "Decoding player", (body, say) => {
    const runs = model.get("traces");
    const texts = model.get("texts");
    const unit = () => model.get("unit");
    const quoted = (tokens) => tokens.map((token) => `“${shown(texts[token] ?? "")}”`).join(", ");
    const watched = () => runs.find(({ name }) => name === model.get("way")) ?? runs[0];
    const last = () => Math.max(1, ...runs.map((run) => moments(run, unit()).length - 1));
    const clock = () => Math.max(0, Math.min(model.get("clock") ?? last(), last()));
    const summary = () => {
      const done = runs.filter((run) => at(run, unit(), clock()).done).map(({ name }) => name);
      if (clock() === 0) return "Nothing is filled yet.";
      const ticks = `After ${clock()} of ${last()} ${UNITS[unit()][1]}`;
      return `${ticks}: ${done.length ? `finished: ${done.join(", ")}` : "nobody is finished"}.`;
    };

    // Ticks at which anything happens: rewriting has many passes that only measure.
    const stops = () => [...new Set([0, ...runs.flatMap((run) => changes(run, unit()))])].sort((a, b) => a - b);
    const next = () => stops().find((tick) => tick > clock()) ?? last();
    const previous = () => stops().findLast((tick) => tick < clock()) ?? 0;
    const wait = () => WAIT[model.get("speed")];
    const { keys, go, pause } = timeline({ model, body, say, at: clock, end: last, wait, told: summary, next, previous });
    const units = choice(
      "One tick is one",
      Object.entries(UNITS).map(([name, [one]]) => [name, one]),
      unit(),
      (chosen) => {
        // the watched run stays where it is
        const now = moments(watched(), unit())[Math.min(clock(), moments(watched(), unit()).length - 1)];
        const reached = ({ steps, tokens }) => steps > now.steps || (steps === now.steps && tokens >= now.tokens);
        pause();
        put(model, { unit: chosen, clock: moments(watched(), chosen).findIndex(reached) });
      },
    );
    const speeds = Object.keys(WAIT).map((name) => [name, name]);
    const speed = select("Speed", speeds, model.get("speed"), (chosen) => put(model, { speed: chosen }));
    const time = slider("", 0, last(), clock(), go, (tick) => `${tick} of ${last()}`);

    // One lane for each run, all on one scale: bars up for what was written, down for what was rejected or taken out
    const lanes = runs.map((run) => {
      const check = h("input", { type: "checkbox" });
      check.addEventListener("change", () => {
        const names = runs.map(({ name }) => name);
        const open = (name) => (name === run.name ? check.checked : model.get("shown").includes(name));
        put(model, { shown: names.filter(open) });
      });
      const label = h("label", {}, check, h("span", {}, run.name));
      const parts = { bars: h("div", { class: "a3-lane-bars" }), numbers: h("span", { class: "a3-number" }) };
      return { run, check, ...parts, row: h("div", { class: "a3-lane" }, label, parts.bars, parts.numbers) };
    });
    const drawLane = ({ run, check, bars, numbers, row }) => {
      const all = moments(run, unit());
      const count = (parts, ...actions) =>
        parts.reduce((sum, part) => sum + (actions.includes(part.action) ? part.positions.length : 0), 0);
      const ticks = all.slice(1).map((moment, i) => between(run, all[i], moment));
      const up = ticks.map((parts) => count(parts, "commit"));
      const down = ticks.map((parts) => count(parts, "reject", "reopen"));
      const most = Math.max(4, ...up, ...down); // a single token stays a low bar
      const bar = (name, value, i) => {
        const [height, y] = [(12 * value) / most, name === "a3-up" ? 14 - (12 * value) / most : 15];
        return value && svg("rect", { class: name, "data-later": i >= clock(), x: i + 0.15, width: 0.7, y, height });
      };
      const upright = (name, x) => svg("line", { class: name, x1: x, x2: x, y1: 1, y2: 28 });
      const [wrote, lost] = [up, down].map((values) => values.reduce((sum, value) => sum + value, 0));
      const ending = `${all.length - 1} ${UNITS[unit()][all.length === 2 ? 0 : 1]}`;
      const label = `${run.name}: ${ending}, ${plural(wrote, "token")} written, ${lost} rejected or taken out`;
      bars.replaceChildren(
        svg(
          "svg",
          { viewBox: `0 0 ${last()} 29`, preserveAspectRatio: "none", role: "img", "aria-label": label },
          svg("rect", { class: "a3-track", x: 0, y: 14, width: all.length - 1, height: 1 }),
          up.map((value, i) => bar("a3-up", value, i) || null),
          down.map((value, i) => bar("a3-down", value, i) || null),
          upright("a3-end", all.length - 1),
          upright("a3-head", clock()),
        ),
      );
      const now = at(run, unit(), clock());
      check.checked = model.get("shown").includes(run.name);
      row.dataset.done = now.done;
      numbers.textContent = now.done ? `■ ${passes(run.passes)}` : written(run, now);
    };

    // One panel for each run; its tokens are made once, so that focus stays where it is
    const panels = runs.map((run) => {
      const head = button(run.name, () => put(model, { way: run.name, position: null }));
      const figures = h("p", { class: "a3-figures a3-number" });
      const reading = h("p", { class: "a3-hidden" });
      const text = h("div", { class: "a3-text", role: "group", "aria-label": `${run.name}: the tokens` });
      const chips = replay(run, START).map((cell, position) => {
        const open = () => put(model, { way: run.name, position });
        const attributes = {
          type: "button",
          class: "a3-chip",
          "data-position": position,
          onclick: open,
          onfocus: open,
        };
        return cell && h("button", attributes);
      });
      text.append(...chips.filter(Boolean).flatMap((chip) => [chip, h("br", { hidden: true })]));
      roving(text, "button")();
      const inside = [head, figures, text, reading];
      const panel = h("section", { class: "a3-panel", "aria-label": run.name, "data-way": run.name }, inside);
      return { run, head, figures, reading, chips, panel };
    });
    const drawPanel = ({ run, head, figures, reading, chips, panel }) => {
      const now = at(run, unit(), clock());
      panel.hidden = !model.get("shown").includes(run.name);
      Object.assign(panel.dataset, { passes: now.passes, filled: now.filled, nats: now.nats });
      head.setAttribute("aria-pressed", run === watched());
      figures.textContent = `${passes(now.passes)} · ${written(run, now)} · ${decimal(now.nats, 1)} nats`;
      // what holds nothing is no hole to be filled
      const read = (cell) => (cell && cell.state !== "ended" ? (texts[cell.token] ?? " _") : "");
      reading.textContent = now.cells.map(read).join("");
      const [fresh, gone] = [new Set(), new Map()];
      for (const { action, positions, tokens } of now.parts) {
        if (action === "commit") positions.forEach((i) => fresh.add(i));
        if (action === "reject" || action === "reopen") positions.forEach((i, n) => gone.set(i, [action, tokens[n]]));
      }
      const scores = new Map(now.parts.at(-1)?.considered);
      chips.forEach(
        (chip, i) => chip && drawChip(chip, run, now.cells[i], fresh.has(i), now.drafts[i], gone.get(i), scores.get(i)),
      );
    };
    const drawChip = (chip, run, cell, fresh, draft, gone, score) => {
      const i = +chip.dataset.position;
      const state = fresh ? "new" : cell.state === "open" && draft !== undefined ? "draft" : cell.state;
      const text = texts[cell.token ?? draft];
      const bare = (token) => shown((texts[token] ?? "").replace(/^ (?=.)/, ""));
      const bar =
        cell.log_prob === undefined
          ? sureness(run, score ?? (state === "open" ? -Infinity : 0))
          : Math.exp(cell.log_prob);
      const lost = gone && `${gone[0] === "reject" ? "✗" : "↺"}${bare(gone[1])}`;
      const face = { open: lost ? "" : "_", ended: "■", draft: `${bare(draft)}?` }[state] ?? bare(cell.token);
      chip.replaceChildren(...(lost ? [h("del", {}, lost)] : []), face);
      chip.nextSibling.hidden = !text?.endsWith("\n");
      Object.assign(chip.dataset, { state, token: cell.token ?? "", space: text?.startsWith(" ") ?? true });
      chip.style.setProperty("--bar", Math.max(0, bar));
      const words = [
        cell.token === null ? null : quoted([cell.token]),
        { ended: `after the end of the ${endsBlanks(run) ? "blank" : "text"}`, draft: `draft ${quoted([draft])}, to be verified` }[state] ??
          state,
        cell.passes && `pass ${cell.passes}, ${percent(bar)}`,
        gone && `${gone[0] === "reject" ? "rejected" : "taken out"} ${quoted([gone[1]])}`,
      ];
      chip.setAttribute("aria-label", `Position ${i}: ${words.filter(Boolean).join(", ")}`);
      chip.setAttribute("aria-pressed", run === watched() && model.get("position") === i);
    };

    // Below them: this tick, or the history of one position
    const detail = h("div", { class: "a3-detail a3-panel" });
    const clear = button("Back to this tick", () => {
      put(model, { position: null });
      panels.find(({ run }) => run === watched()).head.focus();
    });
    /** A token, its runners-up, and all others, as bars. */
    const card = (position, token, logProb, runnersUp = []) => {
      const rows = [[token, logProb], ...runnersUp].map(([id, value]) => [id, Math.exp(value)]);
      const rest = 1 - rows.reduce((sum, [, p]) => sum + p, 0);
      const row = (text, p, attributes) => {
        const number = h("span", { class: "a3-number" }, percent(p));
        return h("li", { style: `--bar: ${p}`, "data-p": p, ...attributes }, h("span", {}, text), number);
      };
      const others = rest > 0.0005 ? row("all others", rest, { class: "a3-rest" }) : null;
      rows.sort((one, other) => other[1] - one[1]);
      const list = rows.map(([id, p]) =>
        row(`${id === token ? "✓ " : ""}${shown(texts[id])}`, p, { "data-token": id, "data-drawn": id === token }),
      );
      return h(
        "div",
        { class: "a3-card", "data-position": position },
        h("p", {}, `position ${position}`),
        h("ul", {}, list, others),
      );
    };
    const drawTick = (run, now) => {
      const cards = now.parts
        .filter(({ action }) => action === "commit")
        .flatMap((part) =>
          part.positions.map((i, n) => card(i, part.tokens[n], part.log_probs[n], part.runners_up[n])),
        );
      const said = explain(run, now, quoted).map(([action, text]) =>
        h("p", {}, action ? badge(action) : "", " ", text),
      );
      const still = now.done
        ? `Finished after ${passes(run.passes)}.`
        : `Nothing is written in this pass${run.strategy === "revise" ? ": it measures how well the tokens fit" : ""}.`;
      const start = `${plural(run.known.length, "token")} there at the start, ${now.open} to fill.`;
      return [
        h("p", { class: "a3-detail-title" }, `${run.name}, ${UNITS[unit()][0]} ${clock()}`),
        ...(said.length ? said : [h("p", {}, clock() === 0 ? start : still)]),
        h("div", { class: "a3-cards" }, cards.slice(0, CARDS)),
        cards.length > CARDS ? h("p", {}, `And ${cards.length - CARDS} more: choose a token in the text.`) : "",
        h(
          "p",
          { class: "a3-note" },
          `How: ${manner(run)}. Percentages are the model's own, at temperature 1. Sum of their logarithms so far: ${decimal(now.nats, 1)} nats (${measure(run)}).`,
        ),
      ];
    };
    const drawHistory = (run, now, position, cell) => {
      const scored = (step) => {
        const score = step?.considered?.find(([i]) => i === position)?.[1];
        return score === undefined ? "" : `, ${run.settings.criterion} ${decimal(score, 2)}`;
      };
      const told = {
        commit: (step, n) =>
          `${quoted([step.tokens[n]])}, probability ${percent(Math.exp(step.log_probs[n]))}${scored(step)}`,
        reject: (step, n) => `${quoted([step.tokens[n]])} proposed, not kept`,
        reopen: (step, n) => `${quoted([step.tokens[n]])} taken out`,
        stop: () => `the ${endsBlanks(run) ? "blank" : "text"} ended before this position`,
      };
      const past = now.past.filter((step) => step.positions.includes(position));
      const items = past.map((step) =>
        h(
          "li",
          {},
          `Pass ${step.passes}: `,
          badge(step.action),
          " ",
          told[step.action](step, step.positions.indexOf(position)),
        ),
      );
      const coming = run.steps.slice(now.past.length).find((step) => step.positions.includes(position));
      const turn = coming ? ` Its turn comes in pass ${coming.passes}.` : "";
      return [
        h("p", { class: "a3-detail-title" }, `${run.name}, position ${position}`),
        run.known.some(([i]) => i === position)
          ? h(
              "p",
              {},
              `${quoted(run.known.filter(([i]) => i === position).map(([, token]) => token))} was there at the start.`,
            )
          : "",
        h("ul", { class: "a3-record" }, items),
        cell.state === "open" ? h("p", {}, `Open${scored(now.parts.at(-1))}.${turn}`) : "",
        cell.state === "filled"
          ? h("div", { class: "a3-cards" }, card(position, cell.token, cell.log_prob, cell.runners_up))
          : "",
        clear,
      ];
    };

    body.classList.add("a3-player");
    const status = h("p", { class: "a3-now" });
    body.append(
      h(
        "p",
        {},
        "All ways of decoding share one clock, which counts forward passes or what you choose. Who is done first? Where is the model sure, and what else might it have written? Play, step, or choose a token.",
      ),
      h("div", { class: "a3-row a3-controls" }, keys, units, speed),
      h(
        "div",
        { class: "a3-lanes" },
        time,
        lanes.map(({ row }) => row),
      ),
      status,
      h(
        "div",
        { class: "a3-panels" },
        panels.map(({ panel }) => panel),
      ),
      detail,
      legend(runs),
    );
    const stop = follow(model, ["clock", "unit", "shown", "way", "position", "speed"], () => {
      units.show(unit());
      speed.show(model.get("speed"));
      time.limit(last());
      time.show(clock());
      time.firstChild.textContent = UNITS[unit()][0];
      status.textContent = summary();
      lanes.forEach(drawLane);
      panels.forEach(drawPanel);
      const now = at(watched(), unit(), clock());
      const cell = now.cells[model.get("position")];
      const drawn = cell ? drawHistory(watched(), now, model.get("position"), cell) : drawTick(watched(), now);
      detail.replaceChildren(...drawn);
    });
    return () => (pause(), stop());
  });
}

/** What the marks mean: those that these traces need. */
function legend(runs) {
  const has = (action) => runs.some(({ steps }) => steps.some((step) => step.action === action));
  const drafted = runs.some(({ strategy }) => strategy === "speculative");
  const chip = (state, bar, ...face) =>
    h("span", { class: "a3-chip", "data-state": state, style: `--bar: ${bar}` }, face);
  const chosen = runs.some(({ strategy }) => strategy === "resample");
  const ends = [...new Set(runs.map((run) => (endsBlanks(run) ? "blank" : "text")))].sort().reverse();
  const rows = [
    [chip("given", 0, "word"), "there at the start"],
    [chip("filled", 0.6, "word"), "filled; the bar is its probability"],
    [chip("new", 0.6, "word"), "commit: filled in this tick"],
    [chip("open", 0, "_"), "open"],
    chosen && [chip("open", 0.6, "_"), "open; the fuller, the surer the model is there"],
    drafted && [chip("draft", 0, "word?"), "a draft, to be verified"],
    has("reject") && [chip("open", 0, h("del", {}, "✗word")), "reject: proposed, not kept"],
    has("reopen") && [chip("open", 0, h("del", {}, "↺word")), "reopen: taken out again"],
    has("stop") && [chip("ended", 0, "■"), `stop: behind the end of the ${ends.join(" or of a ")}`],
  ];
  return h(
    "details",
    { class: "a3-legend" },
    h("summary", {}, "What the marks and numbers mean"),
    h(
      "ul",
      {},
      rows.filter(Boolean).map(([face, text]) => h("li", {}, face, " ", text)),
    ),
    h(
      "p",
      {},
      "Timeline: a bar up for tokens written, down for tokens rejected or taken out; the thick line is the end.",
    ),
    h(
      "p",
      {},
      "Nats: each way sums the log-probabilities of its own text in its own order. The sums do not rank the texts.",
    ),
  );
}

export default { render };
