// The puzzle explorer: one puzzle, filled by the same weights in two orders. puzzle.py says what a task has.
import { choice, follow, frame, h, ink, percent, plural, put, ramp, roving, select, slider, timeline } from "./base.js";

const WAIT = 800; // milliseconds between two steps
const SIDES = ["Left side", "Right side"];
const BINS = 10; // colours of probabilities
const SHADES = { step: "the step", probability: "the probability" };

/** The cells of a filling after some steps, by number: what stands there, and how it came. */
function replay({ steps }, until) {
  const cells = new Map();
  steps.slice(0, until).forEach(([where, tokens, chances, others], number) =>
    where.forEach((cell, i) => {
      const mates = where.length - 1;
      cells.set(cell, { step: number + 1, token: tokens[i], chance: chances[i], others: others[i], mates });
    }),
  );
  return cells;
}

/** The digits that row, column and box leave for a cell, when some cells are filled. */
function candidates({ columns, box: [height, width] }, standing, cell) {
  const place = (at) => [Math.floor(at / columns), at % columns];
  const [row, column] = place(cell);
  const sees = ([r, c]) =>
    r === row || c === column || (Math.floor(r / height) === Math.floor(row / height) && Math.floor(c / width) === Math.floor(column / width));
  const taken = new Set([...standing].filter(([at]) => at !== cell && sees(place(at))).map(([, digit]) => digit));
  return Array.from({ length: columns }, (_, i) => i + 1).filter((digit) => !taken.has(digit));
}

function render({ model, el }) {
  return frame({ model, el }, "In which order?", (body, say) => {
    const tasks = model.get("tasks");
    const pick = (all, name) => (name in all ? name : Object.keys(all)[0]);
    const name = () => pick(tasks, model.get("task"));
    const task = () => tasks[name()];
    const sudoku = () => task().kind === "sudoku";
    const arm = () => pick(task().fills, model.get("arm"));
    const puzzle = () => Math.max(0, Math.min(model.get("puzzle"), task().puzzles.length - 1));
    const shown = () => task().puzzles[puzzle()];
    const fills = () => task().fills[arm()][puzzle()];
    const order = (side) => pick(fills(), model.get("orders")[side]);
    const fill = (side) => fills()[order(side)];
    const end = () => Math.max(...[0, 1].map((side) => fill(side).steps.length));
    const clock = () => Math.max(0, Math.min(model.get("clock"), end()));
    const cell = () => (model.get("cell") in shown().answer ? model.get("cell") : null);
    const unit = () => (sudoku() ? "cell" : "digit");
    const text = (token) => task().texts[token];
    const place = (at) => {
      const { columns } = task();
      return sudoku() ? `Row ${Math.floor(at / columns) + 1}, column ${(at % columns) + 1}` : `Digit ${at + 1} of ${columns}`;
    };

    /** What stands in the grid of a side when some steps are done: [cell, digit] of clues and of what was filled. */
    const standing = (side, until) => {
      const clues = shown().clues.flatMap((clue, at) => (clue === null ? [] : [[at, clue]]));
      return new Map([...clues, ...[...replay(fill(side), until)].map(([at, { token }]) => [at, token])]);
    };
    const wrong = (at, token) => token !== shown().answer[at];
    const left = (side, at, step) => candidates(task(), standing(side, step - 1), at);
    const verdict = ({ right }) => (right ? "✓\u00a0solved" : "✗\u00a0not solved");

    function numbers(side) {
      const done = replay(fill(side), clock());
      const found = [...done].filter(([at, { token }]) => wrong(at, token)).length;
      const all = shown().clues.filter((clue) => clue === null).length;
      const one = sudoku() ? [...done].filter(([at, { step }]) => left(side, at, step).length === 1).length : 0;
      return { filled: done.size, all, wrong: found, one, steps: Math.min(clock(), fill(side).steps.length) };
    }
    function summary(side) {
      const { filled, all, wrong: bad, one, steps } = numbers(side);
      const over = steps === fill(side).steps.length ? `, ${verdict(fill(side))}` : "";
      const forced = sudoku() && filled ? `; ${one} of ${filled} had one possible digit by the rules when they came` : "";
      return `${plural(steps, "step")}, ${filled} of ${plural(all, unit())}, ${bad} wrong${over}${forced}.`;
    }
    /** Of all puzzles of this task: for none was chosen. */
    const tally = (side) => {
      const all = task().fills[arm()];
      return `Of these ${all.length} puzzles it solves ${all.filter((one) => one[order(side)].right).length}.`;
    };
    const told = () => [0, 1].map((side) => `${order(side)}: ${summary(side)}`).join(" ");

    // What the reader chooses. Who sees the whole answer sees the whole of the next one, too.
    const { keys, go, pause } = timeline({ model, body, say, at: clock, end, wait: () => WAIT, told });
    const change = (values) => {
      const whole = clock() === end();
      pause();
      put(model, values);
      put(model, { clock: whole ? end() : clock() });
      say(told());
    };
    const which = Object.keys(tasks).map((one) => [one, one]);
    const kinds = choice("Puzzle of", which, name(), (one) => change({ task: one, cell: null }));
    const controls = h("div", { class: "a3-row a3-controls" });
    let arms, puzzles, sides;
    const shade = choice(
      "Colour and number below a digit",
      Object.entries(SHADES),
      model.get("shade"),
      (one) => put(model, { shade: one }),
    );
    const time = slider("Steps done", 0, end(), clock(), go, (step) => `${step} of ${end()}`);

    const detail = h("div", { class: "a3-detail a3-panel" });
    const panels = h("div", { class: "a3-panels" });
    body.classList.add("a3-puzzle");
    body.append(
      h(
        "p",
        {},
        "Both sides have the same weights and the same puzzle. Only the order differs. Which cells come first, ",
        "and where does a wrong digit come from? Step, play, or go to a cell.",
      ),
      controls,
      h("div", { class: "a3-row a3-controls" }, keys, time),
      shade,
      panels,
      detail,
      legend(),
    );

    /** Controls and cells of a task; they stay as long as the task, so focus stays where it is. */
    let built = null;
    function build() {
      if (built === name()) return;
      built = name();
      arms = choice("Trained as", Object.keys(task().fills).map((one) => [one, one]), arm(), (one) => change({ arm: one }));
      const which = task().puzzles.map((_, i) => [String(i), `${i + 1} of ${task().puzzles.length}`]);
      puzzles = select("Puzzle", which, String(puzzle()), (one) => change({ puzzle: +one }));
      controls.replaceChildren(
        ...(Object.keys(tasks).length > 1 ? [kinds] : []),
        ...(Object.keys(task().fills).length > 1 ? [arms] : []),
        puzzles,
      );
      sides = SIDES.map((title, side) => {
        const names = Object.keys(fills()).map((one) => [one, one]);
        const orders = select(title, names, order(side), (one) =>
          change({ orders: [0, 1].map((other) => (other === side ? one : order(other))) }),
        );
        const cells = shown().answer.map((_, at) => {
          const look = () => put(model, { cell: at });
          const on = { onclick: look, onfocus: look, onpointerenter: look };
          return h("button", { type: "button", class: "a3-cell", "data-cell": at, ...on });
        });
        const grid = h("div", { class: "a3-grid", role: "group", style: `--columns: ${task().columns}` });
        if (!sudoku()) grid.append(...above(task().columns));
        grid.append(...cells);
        if (sudoku()) {
          const [{ columns, box: [height, width] }] = [task()];
          cells.forEach((one, at) => {
            one.dataset.right = String((at + 1) % width === 0 && (at + 1) % columns !== 0);
            one.dataset.below = String((Math.floor(at / columns) + 1) % height === 0 && at + columns < cells.length);
          });
        }
        roving(grid, "button", () => (sudoku() ? task().columns : 0))();
        const figures = h("p", { class: "a3-figures a3-number" });
        const [line, all] = [h("p", { class: "a3-line" }), h("p", { class: "a3-note" })];
        const panel = h("section", { class: "a3-panel", "data-side": side }, orders, grid, line, figures, all);
        return { orders, cells, grid, figures, line, all, panel };
      });
      panels.replaceChildren(...sides.map(({ panel }) => panel));
    }

    /** The rows above the answer of a sum: carries and operands, filled in by `drawSide`. */
    const above = (columns) =>
      ["carry", "first", "second"].flatMap((row) =>
        Array.from({ length: columns }, (_, i) => h("span", { class: "a3-above", "data-row": row, "data-at": i })),
      );

    function describe(at, here, solution) {
      if (shown().clues[at] !== null) return `${place(at)}: ${shown().clues[at]}, a clue`;
      if (!here) return `${place(at)}: open`;
      const right = wrong(at, here.token) ? `, wrong, right is ${solution}` : "";
      return `${place(at)}: ${text(here.token)}, step ${here.step}, ${percent(here.chance)}${right}`;
    }

    function drawSide(side) {
      const { orders, cells, grid, figures, line, all, panel } = sides[side];
      const done = replay(fill(side), clock());
      const [steps, chances] = [ramp(fill(side).steps.length), ramp(BINS)];
      const byStep = model.get("shade") === "step";
      orders.show(order(side));
      grid.setAttribute("aria-label", `${order(side)}, puzzle ${puzzle() + 1}`);
      cells.forEach((one, at) => {
        const [clue, here] = [shown().clues[at], done.get(at)];
        const bad = here !== undefined && wrong(at, here.token);
        const state = clue !== null ? "clue" : !here ? "open" : here.step === clock() ? "new" : "filled";
        const colour = here ? (byStep ? steps[here.step - 1] : chances[Math.min(BINS - 1, Math.floor(here.chance * BINS))]) : "";
        const below = here ? (byStep ? String(here.step) : `${Math.round(100 * here.chance)}%`) : "";
        one.replaceChildren(
          h("span", {}, clue ?? (here ? text(here.token) : "·")),
          h("small", {}, below),
          ...(bad ? [h("b", { class: "a3-wrong", "aria-hidden": "true" }, "✗")] : []),
        );
        Object.assign(one.dataset, { state, token: here?.token ?? "", step: here?.step ?? "", wrong: String(bad) });
        one.style.setProperty("--group", colour || "transparent");
        one.style.setProperty("--group-ink", colour ? ink(colour) : "inherit");
        one.setAttribute("aria-label", describe(at, here, text(shown().answer[at])));
        one.setAttribute("aria-pressed", String(at === cell()));
      });
      if (!sudoku()) {
        const { operands, carries } = shown();
        const rows = { carry: carries.map((carry) => carry || "") };
        rows.first = ["", ...operands[0]];
        rows.second = ["+", ...operands[1]];
        grid.querySelectorAll(".a3-above").forEach((one) => (one.textContent = rows[one.dataset.row][one.dataset.at]));
        const written = shown().answer.map((_, at) => (done.has(at) ? text(done.get(at).token) : "_"));
        line.textContent = `${operands.join("+")}=${written.join("")}`;
      }
      line.hidden = sudoku();
      const found = numbers(side);
      figures.textContent = summary(side);
      all.textContent = tally(side);
      Object.assign(panel.dataset, { order: order(side), right: fill(side).right, ...found });
    }

    /** A cell on one side: how it came, and what else the model might have put there. */
    function history(side, at) {
      const steps = fill(side).steps;
      const turn = steps.findIndex(([where]) => where.includes(at)) + 1;
      const here = replay(fill(side), clock()).get(at);
      const head = h("p", {}, h("b", {}, order(side)));
      const part = (...children) => h("div", { class: "a3-part", "data-side": side }, head, children);
      if (!here) return part(h("p", {}, `Open. Its turn comes in step ${turn}.`));
      const rows = [[here.token, here.chance], ...here.others].sort((a, b) => b[1] - a[1]);
      const bars = rows.map(([token, p]) =>
        h(
          "li",
          { style: `--bar: ${p}`, "data-token": token, "data-p": p, "data-chosen": String(token === here.token) },
          h("span", {}, `${token === here.token ? "▸ " : ""}${text(token)}`),
          h("span", { class: "a3-number" }, percent(p)),
        ),
      );
      const mates = here.mates ? `, together with ${here.mates} more` : "";
      const judged = wrong(at, here.token) ? `✗ wrong, right is ${text(shown().answer[at])}` : "✓ right";
      return part(h("p", {}, `Step ${here.step}${mates}: ${judged}.`), h("ul", {}, bars), h("p", { class: "a3-note" }, rule(side, at, here.step)));
    }

    /** What the rules say of a cell at the moment before a step. */
    function rule(side, at, step) {
      if (sudoku()) {
        const possible = left(side, at, step);
        const list = possible.length ? `: ${possible.join(", ")}` : "; a digit before it was wrong";
        return `When it came, its row, column and box left ${plural(possible.length, "digit")}${list}.`;
      }
      const { answer, carries } = shown();
      if (at === answer.length - 1) return "Nothing is carried into the last digit.";
      const there = standing(side, step - 1).has(at + 1);
      return `${carries[at] ? "A 1" : "Nothing"} is carried into it; the digit on its right was ${there ? "there already" : "still open"}.`;
    }

    function drawDetail() {
      const at = cell();
      if (at === null) {
        return detail.replaceChildren(h("p", {}, `Point at a ${unit()}, or go there with Tab and the arrow keys.`));
      }
      const clue = shown().clues[at];
      const parts = clue === null ? [0, 1].map((side) => history(side, at)) : [h("p", {}, `${clue}: a clue.`)];
      detail.replaceChildren(h("p", { class: "a3-detail-title" }, place(at)), h("div", { class: "a3-parts" }, parts));
    }

    const stop = follow(model, ["task", "arm", "puzzle", "orders", "clock", "cell", "shade"], () => {
      build();
      kinds.show(name());
      arms.show(arm());
      puzzles.show(String(puzzle()));
      shade.show(model.get("shade"));
      time.limit(end());
      time.show(clock());
      [0, 1].forEach(drawSide);
      drawDetail();
    });
    return () => (pause(), stop());
  });
}

/** What the marks mean. */
function legend() {
  const face = (state, digit, below, colour, bad) =>
    h(
      "span",
      { class: "a3-cell", "data-state": state, style: colour ? `--group: ${colour}; --group-ink: ${ink(colour)}` : "" },
      h("span", {}, digit),
      h("small", {}, below),
      bad ? h("b", { class: "a3-wrong" }, "✗") : null,
    );
  const [early, late] = [ramp(9)[1], ramp(9)[7]];
  const rows = [
    [[face("clue", "3", "")], "given: a clue"],
    [[face("open", "·", "")], "open"],
    [[face("filled", "3", "2", early), face("filled", "1", "9", late)], "filled; below it the step, dark early, light late"],
    [[face("filled", "3", "41%", ramp(BINS)[4]), face("filled", "1", "99%", ramp(BINS)[9])], "or its probability, the lighter the surer"],
    [[face("new", "2", "5", early)], "filled in this step"],
    [[face("filled", "4", "5", early, true)], "wrong: not the digit of the solution, of which there is one"],
  ];
  return h(
    "details",
    { class: "a3-legend" },
    h("summary", {}, "What the marks and numbers mean"),
    h("ul", {}, rows.map(([faces, words]) => h("li", {}, faces, " ", words))),
    h("p", {}, "Percentages are the model's own, of the digit that it put there, at the moment when it did."),
    h("p", {}, "∅ is the sign of an empty cell, which a model must not write, but can."),
    h("p", {}, "Of a sum, the row of carries is for you; the model does not see it."),
  );
}

export default { render };
