// The factorisation explorer: words in passes, the product of conditionals, and what it loses against a table.
import {
  button,
  choice,
  follow,
  frame,
  GIVEN,
  groupColours,
  h,
  ink,
  newId,
  plural,
  put,
  relabel,
  roving,
  shown,
  svg,
} from "./base.js";

// Exact probabilities. A table is flat, in row-major order: an entry is a sentence ---------------

/** The function that returns p(x_A) for each sentence x, `A` a list of positions: sums of the table. */
export function marginals(table, shape) {
  const strides = shape.map((_, t) => shape.slice(t + 1).reduce((a, b) => a * b, 1));
  const found = new Map();
  return (positions) => {
    const name = positions.reduce((bits, t) => bits | (1 << t), 0);
    if (!found.has(name)) {
      const sums = new Float64Array(table.length);
      const kept = table.map((_, x) =>
        positions.reduce((place, t) => place + (Math.floor(x / strides[t]) % shape[t]) * strides[t], 0),
      );
      table.forEach((p, x) => (sums[kept[x]] += p));
      found.set(
        name,
        Array.from(kept, (place) => sums[place]),
      );
    }
    return found.get(name);
  };
}

/**
 * What a perfect model makes of the table under `groups` (0 given, then 1 to K without a gap): `factors[t]` is
 * p(x_t | x_G<k) for each sentence, or null; `q` their product times p of the given words; `lost[k - 1]` the
 * conditional total correlation of pass k; KL(p || q) and the `lost` that add up to it are in nats.
 */
export function weigh(marginal, groups) {
  const positions = groups.map((_, t) => t);
  const below = (k) => positions.filter((t) => groups[t] < k);
  const over = (joint, condition) => marginal(joint).map((p, x) => p / marginal(condition)[x]);
  const p = marginal(positions);
  const given = marginal(below(1));
  const factors = positions.map((t) => (groups[t] > GIVEN ? over([...below(groups[t]), t], below(groups[t])) : null));
  const product = (x, of) => of.reduce((all, t) => all * (factors[t]?.[x] ?? 1), 1);
  const mean = (value) => p.reduce((sum, share, x) => sum + share * value(x), 0);
  const q = p.map((_, x) => given[x] * product(x, positions));
  const lost = Array.from({ length: Math.max(...groups) }, (_, k) => {
    const together = over(below(k + 2), below(k + 1));
    const own = positions.filter((t) => groups[t] === k + 1);
    return mean((x) => Math.log(together[x] / product(x, own)));
  });
  const tv = p.reduce((sum, share, x) => sum + Math.abs(share - q[x]), 0) / 2;
  return { factors, given, p, q, lost, kl: mean((x) => Math.log(p[x] / q[x])), tv };
}

/** All ordered partitions of `length` positions, as groups 1 to K. */
export function groupings(length) {
  const all = Array.from({ length: length ** length }, (_, n) =>
    Array.from({ length }, (_, t) => (Math.floor(n / length ** (length - 1 - t)) % length) + 1),
  );
  return all.filter((groups) => new Set(groups).size === Math.max(...groups));
}

// The figure ------------------------------------------------------------------------------------

const NOTHING = 1e-9; // a loss below this is rounding
const nats = (value) => `${Math.max(0, value).toFixed(4)} nats`;
const digits = (p) => (p >= 0.001 ? p.toFixed(4) : p.toPrecision(2));
const between = (parts, text) => parts.flatMap((part, i) => (i ? [text, part] : [part])).flat();
const listed = (parts) => [parts.slice(0, -1).join(", "), parts.at(-1)].filter(Boolean).join(" and ") || "nothing";
const passes = (count) => `${count} ${count === 1 ? "pass" : "passes"}`;
const variable = (t) => h("span", { "data-x": t }, "x", h("sub", {}, String(t)));
/** x1, x3 | x0, x2 */
const variables = (predicted, seen) => [
  ...between(predicted.map(variable), ", "),
  ...(seen.length ? [" | ", ...between(seen.map(variable), ", ")] : []),
];
const tint = (colour) => ({ class: "a3-tint", style: `--group: ${colour}` });
const fill = (colour) => `--group: ${colour}; --group-ink: ${ink(colour)}`;

function render({ model, el }) {
  return frame({ model, el }, "Factorisation explorer", (body, say) => {
    const [words, table, presets, strided] = ["words", "table", "presets", "strided"].map((name) => model.get(name));
    const positions = words.map((_, t) => t);
    const shape = words.map((choices) => choices.length);
    const marginal = table.length ? marginals(table, shape) : null;
    const landscape = marginal && words.length > 1 && words.length <= 5 ? drawAll(marginal, words.length) : null;

    // What the reader sees now: `draw` computes it from the traits, whatever Python has set there.
    let now;
    const read = () => {
      const groups = relabel(positions.map((t) => Math.max(GIVEN, model.get("group_ids")[t] ?? GIVEN)));
      const sentence = positions.map((t) => Math.min(Math.max(0, model.get("sentence")[t] ?? 0), words[t].length - 1));
      const factor = groups[model.get("factor")] > GIVEN ? model.get("factor") : -1;
      const order = positions.filter((t) => groups[t] > GIVEN).sort((a, b) => groups[a] - groups[b]);
      const entry = sentence.reduce((place, at, t) => place * words[t].length + at, 0);
      const count = Math.max(...groups);
      const weighed = marginal && weigh(marginal, groups);
      return { groups, sentence, factor, order, entry, count, weighed, colours: groupColours(groups) };
    };
    const inPass = (k) => positions.filter((t) => now.groups[t] === k);
    const above = (k) => positions.filter((t) => now.groups[t] < k);
    const word = (t) => shown(words[t][now.sentence[t]]);
    const named = (list) => listed(list.map(word));
    const value = (t) => now.weighed.factors[t][now.entry];
    const status = () => {
      const text = `${passes(now.count)}, ${plural(now.order.length, "factor")}`;
      return now.weighed ? `${text}, KL ${nats(now.weighed.kl)}.` : `${text}.`;
    };

    // What the reader does
    const regroup = (groups, what) => {
      put(model, { group_ids: relabel(groups) });
      draw(); // even if nothing has changed: the browser has checked another radio button
      say(`${what}. ${status()}`);
    };
    const move = (t, k) => regroup(now.groups.with(t, k), `${word(t)} moved`);
    const shuffle = () => {
      const groups = [...now.groups];
      const free = [...now.order];
      for (let i = free.length - 1; i > 0; i--) {
        const j = Math.floor(Math.random() * (i + 1));
        [groups[free[i]], groups[free[j]]] = [groups[free[j]], groups[free[i]]];
      }
      regroup(groups, "Shuffled");
    };
    const turn = (t) => {
      put(model, { sentence: now.sentence.with(t, (now.sentence[t] + 1) % words[t].length) });
      say(`Now ${word(t)}. ${status()}`);
    };

    // The board: on the left who is predicted when, on the right the factors of each pass
    const column = newId("column");
    const head = (t) => {
      const shared = { class: "a3-token", style: fill(now.colours[t]), "data-point": `word ${t}`, "data-word": t };
      const content = [word(t), h("small", { class: "a3-role" }, variable(t))];
      if (words[t].length === 1) return h("span", shared, content);
      const hint = h("span", { class: "a3-hidden" }, ", press for another word");
      const again = `[data-word="${t}"]`;
      return h("button", { ...shared, type: "button", onclick: () => turn(t), "data-again": again }, content, hint);
    };
    const cell = (t, k) => {
      const here = now.groups[t] === k;
      const last = k > now.count;
      const name = k === GIVEN ? "given" : last ? "a new pass" : `pass ${k}`;
      return h(
        "label",
        { class: "a3-cell", ...(here && { "data-point": `word ${t}`, "data-at": t, style: fill(now.colours[t]) }) },
        h("input", {
          type: "radio",
          name: `${column}-${t}`,
          checked: here,
          disabled: last && now.groups[t] === now.count && inPass(now.count).length === 1, // would come back
          "aria-label": `${word(t)}: ${name}`,
          "data-column": t,
          "data-row": k,
          "data-again": `[data-column="${t}"]:checked`,
          onchange: () => move(t, k),
        }),
        h("span", {}, here ? variable(t) : ""),
      );
    };
    const factor = (t) =>
      h(
        "button",
        {
          type: "button",
          class: "a3-factor",
          style: fill(now.colours[t]),
          tabindex: -1,
          "aria-pressed": String(now.factor === t),
          "data-factor": t,
          "data-point": `factor ${t}`,
          "data-again": `[data-factor="${t}"]`,
          onclick: () => put(model, { factor: now.factor === t ? -1 : t }),
        },
        h("span", {}, "p(", ...variables([t], above(now.groups[t])), ")"),
        now.weighed && [" = ", h("span", { class: "a3-number", "data-value": value(t) }, digits(value(t)))],
      );
    const side = (k) => {
      const note = (text) => h("span", { class: "a3-side a3-note" }, text);
      if (k > now.count) return note("a new pass, after all others");
      if (k === GIVEN) return note(inPass(k).length ? "seen by every pass, never predicted" : "no word is given");
      const lost = now.weighed?.lost[k - 1];
      const loss = h("span", { class: "a3-loss a3-number" }, lost < NOTHING ? "loses nothing" : `loses ${nats(lost)}`);
      const tell = now.weighed && inPass(k).length > 1; // a word alone has nothing to lose
      return h("span", { class: "a3-side", "data-lost": lost }, inPass(k).map(factor), tell ? loss : null);
    };
    const row = (k) => {
      const label = k > now.count ? "new" : k === GIVEN ? "given" : `pass ${k}`;
      const cells = positions.map((t) => cell(t, k));
      return h("div", { class: "a3-pass", role: "group", "aria-label": label }, h("span", {}, label), cells, side(k));
    };

    // In words and numbers
    const sum = () => {
      const left = () => [
        "q(",
        ...variables(
          positions.filter((t) => now.groups[t] > GIVEN),
          inPass(GIVEN),
        ),
        ") = ",
      ];
      const one = (t) => h("span", tint(now.colours[t]), "p(", ...variables([t], above(now.groups[t])), ")");
      const lines = [h("p", { "data-formula": true }, left(), between(now.order.map(one), " · "))];
      const measures = [
        ["Passes", "passes", now.count, now.count],
        ["Factors", "factors", now.order.length, now.order.length],
      ];
      if (now.weighed) {
        const { given, kl, tv } = now.weighed;
        const [q, p] = [now.weighed.q, now.weighed.p].map((of) => of[now.entry] / given[now.entry]);
        const steps = now.order.map((t) => h("span", tint(now.colours[t]), digits(value(t))));
        const verdict = Math.abs(q / p - 1) < NOTHING ? "the same" : `q is ${(q / p).toFixed(2)} times p`;
        lines.push(
          h("p", {}, "= ", between(steps, " · "), " = ", h("b", { "data-q": q }, digits(q))),
          h("p", {}, "The table says p = ", h("b", { "data-p": p }, digits(p)), `: ${verdict}.`),
        );
        measures.push(["KL(p‖q)", "kl", kl, nats(kl)], ["Total variation", "tv", tv, tv.toFixed(4)]);
      }
      const list = measures.map(([label, name, number, text]) =>
        h("div", {}, h("dt", {}, label), h("dd", { "data-measure": name, "data-number": number }, text)),
      );
      if (now.weighed && inPass(GIVEN).length)
        lines.push(h("p", {}, "KL and total variation: means over the given words."));
      return [...lines, h("dl", {}, list)];
    };
    const judge = () => {
      const shared = Array.from({ length: now.count }, (_, k) => k + 1).filter((k) => inPass(k).length > 1);
      const who = (k) => `pass ${k} (${named(inPass(k))})`;
      if (!now.count) return "Every word is given: there is nothing to predict.";
      if (!shared.length) return "One word per pass: by the chain rule the product is exactly p, in any order.";
      const several = `Several words share ${listed(shared.map(who))}`;
      if (!now.weighed) return `${several}. Unless they are independent, given the rows above, the product is not p.`;
      const dear = shared.filter((k) => now.weighed.lost[k - 1] > NOTHING);
      if (!dear.length) return `${several}, and nothing is lost: they are independent, given the rows above.`;
      return `The loss comes from ${listed(dear.map(who))}: words that are not independent, given the rows above.`;
    };
    const explain = (kind, t) => {
      if (!kind) return ["Point at a factor: which words does it see? Point at a word: which factors see it?"];
      const seen = above(now.groups[t]);
      if (kind === "word") {
        const users = positions.filter((j) => now.groups[j] > Math.max(now.groups[t], GIVEN));
        const how =
          now.groups[t] === GIVEN ? "is given" : `is predicted in pass ${now.groups[t]} and sees ${named(seen)}`;
        const use = users.length ? `The factors of ${named(users)} condition on it.` : "No factor conditions on it.";
        return [h("b", {}, word(t)), ` ${how}. ${use}`];
      }
      const mates = inPass(now.groups[t]).filter((j) => j !== t);
      const blind = mates.length ? ` It does not see ${named(mates)}: the same pass.` : "";
      const condition = seen.length ? ` | ${seen.map(word).join(", ")}` : "";
      const told = [h("b", {}, `p(${word(t)}${condition})`), ` predicts ${word(t)} and sees ${named(seen)}.${blind}`];
      if (!now.weighed) return told;
      const part = (list) => {
        const entries = table.length / list.reduce((count, j) => count * words[j].length, 1);
        return `${digits(marginal(list)[now.entry])} (${plural(entries, "sentence")} with ${named(list)})`;
      };
      const quotient = seen.length ? `${part([...seen, t])} / ${part(seen)}` : part([t]);
      return [...told, ` The table sums to ${quotient} = `, h("b", {}, digits(value(t))), "."];
    };

    // What is pointed at with the mouse, or else the keyboard, or else is pinned
    let hovered = "";
    const light = () => {
      const active = document.activeElement;
      const focused =
        board.contains(active) && active.matches(":focus-visible") ? active.closest("[data-point]") : null;
      const [kind, at] = (hovered || focused?.dataset.point || (now.factor >= 0 ? `factor ${now.factor}` : "")).split(
        " ",
      );
      const t = +at;
      const role = (j) => {
        if (kind === "factor") return j === t ? "target" : now.groups[j] < now.groups[t] ? "seen" : "unseen";
        return kind && j === t ? "target" : "";
      };
      board.querySelectorAll("[data-word]").forEach((token) => {
        token.dataset.role = role(+token.dataset.word);
        token
          .querySelector(".a3-role")
          .replaceChildren(kind === "factor" ? token.dataset.role : variable(token.dataset.word));
      });
      board.querySelectorAll("[data-at]").forEach((found) => (found.dataset.role = role(+found.dataset.at)));
      board.querySelectorAll("[data-factor]").forEach((found) => {
        const j = +found.dataset.factor;
        const uses = kind === "word" && now.groups[j] > now.groups[t];
        found.dataset.role = kind && j === t ? "target" : uses ? "uses" : "";
        found.querySelectorAll("[data-x]").forEach((x) => x.toggleAttribute("data-lit", uses && +x.dataset.x === t));
      });
      about.replaceChildren(h("p", {}, explain(kind, t)));
    };
    const hover = (event) => {
      const point = event.type === "pointerover" ? event.target.closest("[data-point]")?.dataset.point : "";
      hovered = point ?? "";
      light();
    };

    const draw = () => {
      now = read();
      const active = document.activeElement;
      const again = board.contains(active) && active.dataset.again;
      const among = (all) => Object.keys(all).find((key) => String(relabel(all[key])) === String(now.groups)) ?? "";
      kinds.show(among(presets));
      streams.show(among(strided));
      own.textContent = among(presets) || among(strided) ? "" : "Your own grouping.";
      board.replaceChildren(
        h("div", { class: "a3-pass a3-head" }, h("span", {}), positions.map(head)),
        ...Array.from({ length: now.count + 2 }, (_, k) => row(k)),
      );
      refresh();
      if (again) board.querySelector(again)?.focus();
      account.replaceChildren(...sum());
      verdict.textContent = judge();
      landscape?.show(now.groups);
      light();
    };

    const question = marginal ? "Which groupings lose nothing?" : "How does the product follow?";
    const names = Object.keys(presets).map((name) => [name, name]);
    const kinds = choice("Kind of model", names, "", (name) => regroup(presets[name], name));
    const counts = Object.keys(strided).map((count) => [count, count]);
    const streams = choice("Strided, far-apart words at a time: streams", counts, "", (count) =>
      regroup(strided[count], `Strided, ${plural(count, "stream")}`),
    );
    const own = h("span", { class: "a3-note" });
    const board = h("div", { class: "a3-board", style: `--count: ${words.length}` });
    const wide = words.length > 5 && { tabindex: 0, role: "region", "aria-label": "Words and passes" };
    const about = h("div", { class: "a3-panel a3-about" });
    const account = h("div", { class: "a3-panel a3-account a3-number" });
    const verdict = h("p", { class: "a3-verdict" });
    const refresh = roving(board, "[data-factor]");
    board.addEventListener("pointerover", hover);
    board.addEventListener("pointerleave", hover);
    board.addEventListener("focusin", light);
    board.addEventListener("focusout", () => requestAnimationFrame(light));
    body.classList.add("a3-factorisation");
    body.append(
      h("p", {}, "A row is a pass: its words see the rows above, not each other. Move words to other rows. ", question),
      ...(names.length ? [kinds] : []),
      ...(counts.length ? [streams] : []),
      h("div", { class: "a3-row" }, button("Shuffle the order", shuffle), own),
      h("div", { class: "a3-scroll", ...wide }, board),
      about,
      account,
      verdict,
    );
    if (landscape) body.append(landscape.element);
    landscape?.listen(regroup);
    return follow(model, ["group_ids", "sentence", "factor"], draw);
  });
}

/** The chart of all groupings of a table, loss against passes. `listen(choose)`: whom to tell what is picked. */
function drawAll(marginal, length) {
  let choose;
  const all = groupings(length).map((groups) => ({ groups, kl: Math.max(0, weigh(marginal, groups).kl) }));
  const counts = Array.from({ length }, (_, k) => k + 1);
  const byCount = counts.map((count) => all.filter(({ groups }) => Math.max(...groups) === count));
  byCount.forEach((found) => found.sort((a, b) => a.kl - b.kl));

  // Percent across and pixels down: so text keeps its size on a phone.
  const [left, ground, height] = [11, 205, 190];
  const top = Math.max(NOTHING, ...all.map(({ kl }) => kl));
  const across = (place) => left + ((place - 0.5) / length) * (100 - left);
  const down = (kl) => ground - (kl / top) * height;
  byCount.forEach((found, k) =>
    found.forEach((one, i) => (one.x = across(k + 1 + (found.length > 1 ? ((i * 0.618) % 1) * 0.64 - 0.32 : 0)))),
  );
  const step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5].find((size) => top / size <= 5) ?? top;
  const ticks = Array.from({ length: Math.floor(top / step) + 1 }, (_, i) => i * step);
  const grid = (kl) => svg("line", { class: "a3-grid", x1: `${left}%`, x2: "100%", y1: down(kl), y2: down(kl) });
  const write = (x, y, anchor, text) => svg("text", { x: `${x}%`, y, "text-anchor": anchor }, text);
  const isBlocks = ({ groups }) => groups.every((group, t) => !t || group >= groups[t - 1]);
  const mark = (one) =>
    isBlocks(one)
      ? svg("svg", { x: `${one.x}%`, y: down(one.kl), overflow: "visible" }, svg("path", { d: "M0-5 5 0 0 5-5 0Z" }))
      : svg("circle", { cx: `${one.x}%`, cy: down(one.kl), r: 2.5 });
  const ring = svg("circle", { class: "a3-ring", r: 8 });
  const finding = byCount.map(([best], k) => `${nats(best.kl)} with ${passes(k + 1)}`).join(", ");
  const chart = svg(
    "svg",
    { class: "a3-chart", role: "img", height: ground + 44, "aria-label": `The least loss is ${finding}.` },
    ticks.map((tick) => [grid(tick), write(left - 1.5, down(tick) + 4, "end", String(+tick.toFixed(3)))]).flat(),
    counts.map((count) => write(across(count), ground + 20, "middle", String(count))),
    write(across((length + 1) / 2), ground + 40, "middle", "passes"),
    [...all].sort((a, b) => isBlocks(a) - isBlocks(b)).map(mark), // diamonds on top
    ring,
  );
  chart.addEventListener("click", ({ clientX, clientY }) => {
    const box = chart.getBoundingClientRect();
    const far = (one) => Math.hypot(box.left + (one.x / 100) * box.width - clientX, box.top + down(one.kl) - clientY);
    choose(all.reduce((best, one) => (far(one) < far(best) ? one : best)).groups, "Picked");
  });

  const pick = (one, name) => {
    const show = () => choose(one.groups, `The ${name} with as many passes`);
    return h("td", { class: "a3-number" }, button(one.kl.toFixed(4), show, { "data-loss": one.kl }));
  };
  const rows = byCount.map((found, k) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, String(k + 1)),
      h("td", { class: "a3-number" }, String(found.length)),
      pick(found[0], "best"),
      pick(found.at(-1), "worst"),
    ),
  );
  const head = ["Passes", "Groupings", "Least KL (nats)", "Most KL (nats)"].map((text) =>
    h("th", { scope: "col" }, text),
  );
  const title = h("b", {}, `KL(p‖q) in nats of all ${all.length} groupings, against passes. `);
  const element = h(
    "div",
    { class: "a3-landscape" },
    h("p", {}, title, "The ring is yours; diamonds are blocks from left to right. Click on a dot to see its grouping."),
    chart,
    h(
      "details",
      {},
      h("summary", {}, "The best and the worst for each number of passes"),
      h(
        "div",
        { class: "a3-scroll" },
        h("table", { class: "a3-table" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)),
      ),
    ),
  );
  return {
    element,
    listen: (listener) => (choose = listener),
    show: (groups) => {
      const mine = all.find((one) => String(one.groups) === String(groups));
      ring.setAttribute("visibility", mine ? "visible" : "hidden"); // with given words it is none of these
      if (mine) (ring.setAttribute("cx", `${mine.x}%`), ring.setAttribute("cy", down(mine.kl)));
    },
  };
}

export default { render };
