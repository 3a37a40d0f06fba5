// The picture of the two streams: the rows of each layer, what a chosen row reads down to the tokens, and what leaks.
/* global THEME */
import {
  GIVEN,
  PADDING,
  button,
  choice,
  contentSees,
  follow,
  frame,
  groupColours,
  h,
  ink,
  last,
  plural,
  put,
  querySees,
  relabel,
  roving,
  shown,
  step,
  svg,
  timeline,
} from "./base.js";

// Which content rows the query row of token i reads. Only the first rule is A3's.
const RULES = {
  less: { label: "g < gᵢ (A3)", sees: querySees },
  "less or equal": { label: "g ≤ gᵢ", sees: contentSees },
  "all but itself": { label: "g ≤ gᵢ, not i", sees: (groups, i, j) => i !== j && contentSees(groups, i, j) },
};
const STARTS = { w: "w (A3)", token: "their token" };
const HOP = 260; // milliseconds from one layer's light to the next

// Who reads whom. A row is { layer, stream, position }; layer 0 is what the streams start from. --------------------

const key = ({ layer, stream, position }) => `${stream} ${layer} ${position}`;

/**
 * What one row of layer 1 or above reads: content rows of the layer below, through attention, and what it was itself
 * there, through its residual connection. `residual`: through nothing else.
 */
export function reads(groups, row, rule) {
  const { layer, stream, position } = row;
  const sees = stream === "query" ? RULES[rule].sees : contentSees;
  const attended = groups.flatMap((_, j) =>
    sees(groups, position, j) ? [{ layer: layer - 1, stream: "content", position: j }] : [],
  );
  const found = attended.map((read) => ({ row, read, residual: false }));
  const before = { layer: layer - 1, stream, position };
  if (!attended.some((read) => key(read) === key(before))) found.push({ row, read: before, residual: true });
  return found;
}

/** All that reaches a row: `hops`, what is read in its layer, in the one below, and so on; `ends`, rows of layer 0. */
export function field(groups, row, rule) {
  const hops = [];
  let rows = [row];
  while (rows[0].layer > 0) {
    const found = rows.flatMap((reader) => reads(groups, reader, rule));
    hops.push(found);
    rows = [...new Map(found.map(({ read }) => [key(read), read])).values()];
  }
  return { hops, ends: rows };
}

/** The positions whose tokens stand at these rows of layer 0. */
export function tokensAt(ends, start) {
  const holds = ({ stream }) => stream === "content" || start === "token";
  return [...new Set(ends.filter(holds).map(({ position }) => position))].sort((a, b) => a - b);
}

/** Those of the edges in `hops` through which the token at `position` travels up. */
export function way({ hops, ends }, position, start) {
  const carriers = new Set(ends.filter((end) => tokensAt([end], start).includes(position)).map(key));
  const edges = [...hops].reverse().flatMap((hop) => {
    const found = hop.filter(({ read }) => carriers.has(key(read)));
    found.forEach(({ row }) => carriers.add(key(row)));
    return found;
  });
  return new Set(edges);
}

/** The rows that some prediction depends on, as keys: all that reaches the last layer's query rows of groups 1, 2, ... */
export function needed(groups, layers, rule) {
  let rows = groups.flatMap((group, position) => (group > GIVEN ? [{ layer: layers, stream: "query", position }] : []));
  const found = new Set();
  while (rows.length) {
    rows.forEach((row) => found.add(key(row)));
    const below = rows.filter(({ layer }) => layer > 0).flatMap((row) => reads(groups, row, rule));
    rows = [...new Map(below.map(({ read }) => [key(read), read])).values()];
  }
  return found;
}

// Words ---------------------------------------------------------------------------------------

const listed = (words) =>
  words.length > 1 ? `${words.slice(0, -1).join(", ")} and ${words.at(-1)}` : String(words[0] ?? "");
const at = (positions) => `${positions.length === 1 ? "position" : "positions"} ${listed(positions)}`;
const digits = (group) => String(group).replace("-", "−");
const called = (group) => (group === PADDING ? "padding" : group === GIVEN ? "given" : `group ${group}`);
const named = ({ stream, position }) => `${stream === "query" ? "Query" : "Content"} row ${position}`;
const held = (layer) => (layer ? `layer ${layer}` : "the start");

/** Why nobody needs a row that is not among the needed ones. */
function unneeded(groups, layers, { layer, stream, position }) {
  const group = groups[position];
  if (group === PADDING) return "padding is neither read nor predicted";
  if (stream === "query") return "a given token is not predicted";
  if (layer === layers) return "above the last layer only query rows are read, to predict";
  if (last(groups) === GIVEN) return "nothing is predicted";
  return "its group is the last, so no query row reads it";
}

/** What a row reads in its own layer, and why. */
function tell(groups, row, rule, start) {
  const { layer, stream, position } = row;
  const group = groups[position];
  const who = named(row);
  if (layer === 0) {
    if (stream === "content") return `${who} starts from its token.`;
    if (start === "w")
      return `${who} starts from w: one learned vector, the same at every position. No token is in it.`;
    return `What if: ${who.toLowerCase()} starts from its token. No mask hides that: the residual connection carries it up.`;
  }
  if (group === PADDING) return `${who} is padding: it sees nobody, and nobody sees it.`;
  const read = reads(groups, row, rule).filter(({ residual }) => !residual);
  const positions = read.map((edge) => edge.read.position);
  const mates = groups.flatMap((other, j) => (other === group && j !== position ? [j] : []));
  if (stream === "content") {
    const itself = "itself too: others read it to know its token";
    return `${who} reads content rows with g ≤ ${group}: ${at(positions)}; ${itself}.`;
  }
  const limit = {
    less: `g < ${group}`,
    "less or equal": `g ≤ ${group}`,
    "all but itself": `g ≤ ${group}, except its own`,
  };
  const what = positions.length ? at(positions) : "there are none, so only its residual connection feeds it";
  const reading = `${rule === "less" ? who : `What if: ${who.toLowerCase()}`} reads content rows with ${limit[rule]}: ${what}.`;
  if (group === GIVEN) return reading;
  const because = `its own content row holds the token that it has to predict`;
  const together = mates.length
    ? `, and ${at(mates)} ${mates.length === 1 ? "is" : "are"} predicted at the same time`
    : "";
  if (rule === "less") return `${reading} Not group ${group}: ${because}${together}.`;
  return reading;
}

// The page ------------------------------------------------------------------------------------

function render({ model, el }) {
  return frame({ model, el }, "Two streams: who reads whom, layer by layer", (body, say) => {
    const names = model.get("tokens").map(shown);
    const positions = names.map((_, i) => i);
    const layers = model.get("layers");
    const presets = model.get("presets");
    const within = (value, high) => Math.min(Math.max(value, 0), high);

    const groupsNow = () => relabel(positions.map((i) => Math.max(PADDING, model.get("group_ids")[i] ?? GIVEN)));
    const chosen = () => ({
      layer: within(model.get("layer"), layers),
      stream: model.get("stream") === "content" ? "content" : "query",
      position: within(model.get("position"), names.length - 1),
    });
    const rule = () => (model.get("rule") in RULES ? model.get("rule") : "less");
    const start = () => (model.get("start") in STARTS ? model.get("start") : "w");
    const lit = () => within(model.get("clock"), chosen().layer); // how many layers are lit
    const news = () => `${readout.textContent} ${verdict.textContent}`;

    /** Another row; if all layers were lit, they are again. */
    const choose = (row) => {
      clock.pause();
      if (key(row) === key(chosen())) return;
      const all = lit() === chosen().layer;
      put(model, { ...row, ...(all ? { clock: layers } : {}) });
      say(news());
    };
    const regroup = (groups) => {
      clock.pause();
      put(model, { group_ids: groups });
      say(`${about.textContent} ${news()}`);
    };
    const move = (position, by) => {
      choose({ ...chosen(), position });
      const moved = step(groupsNow(), position, by);
      if (String(moved) !== String(groupsNow())) regroup(moved);
    };

    // The picture: places across are shares of the width, so the lines are laid again whenever that changes.
    const [gap, top, apart] = [66, 22, 9];
    const ground = top + layers * gap + apart; // where the content rows of layer 0 stand
    const height = ground + 26;
    const across = ({ stream, position }) => (position + (stream === "content" ? 0.27 : 0.73)) / names.length;
    const down = ({ layer, stream }) => top + (layers - layer) * gap + (stream === "content" ? apart : -apart);
    const [lines, wayLines] = [svg("g", {}), svg("g", {})]; // what leaks lies on top
    const band = h("div", { class: "a3-band", style: `width: ${100 / names.length}%` });
    const stems = positions.flatMap((position) =>
      ["content", "query"].map((stream) => {
        const end = { layer: 0, stream, position };
        return { end, element: svg("path", { class: "a3-stem" }) };
      }),
    );
    const drawing = svg(
      "svg",
      { height, "aria-hidden": "true" },
      stems.map(({ element }) => element),
      lines,
      wayLines,
    );
    const drawn = new Map(); // the lines by name: { row, read, element }
    const lay = () => {
      const width = plane.clientWidth;
      stems.forEach(({ end, element }) => element.setAttribute("d", `M${across(end) * width} ${down(end)}V${height}`));
      for (const { row, read, element } of drawn.values()) {
        const [x, y, z, b] = [across(row) * width, down(row), across(read) * width, down(read)];
        const bend = (b - y) * 0.55;
        element.setAttribute("d", `M${x} ${y}C${x} ${y + bend} ${z} ${b - bend} ${z} ${b}`);
      }
    };
    const levels = Array.from({ length: layers + 1 }, (_, k) => layers - k);
    const nodes = levels.flatMap((layer) =>
      positions.flatMap((position) =>
        ["content", "query"].map((stream) => {
          const row = { layer, stream, position };
          const pick = () => choose(row);
          const place = `left: ${100 * across(row)}%; top: ${down(row)}px`;
          const attributes = {
            type: "button",
            class: "a3-node",
            tabindex: -1,
            "data-stream": stream,
            "data-row": key(row),
          };
          return {
            row,
            button: h("button", { ...attributes, style: place, onclick: pick, onfocus: pick }, h("span", {})),
          };
        }),
      ),
    );
    const labels = levels.map((layer) =>
      h("span", { style: `top: ${top + (layers - layer) * gap}px` }, layer ? `layer ${layer}` : "start"),
    );
    const plane = h(
      "div",
      {
        class: "a3-plane",
        role: "toolbar",
        "aria-label": "Rows of both streams: arrow keys choose one",
        style: `height: ${height}px`,
      },
      band,
      drawing,
      nodes.map(({ button }) => button),
    );
    roving(plane, ".a3-node", () => 2 * names.length);
    const tokens = positions.map((position) => {
      const pick = () => choose({ ...chosen(), position });
      const onkeydown = (event) => {
        const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
        if (by) (event.preventDefault(), move(position, by));
      };
      const parts = [h("span", {}, names[position]), h("small", {})];
      return h(
        "button",
        { type: "button", class: "a3-token", tabindex: -1, onclick: pick, onfocus: pick, onkeydown },
        parts,
      );
    });
    const line = h(
      "div",
      {
        class: "a3-line",
        role: "toolbar",
        "aria-label": "Tokens: left and right choose, up and down change the group",
      },
      tokens,
    );
    roving(line, ".a3-token");
    const places = h(
      "div",
      { class: "a3-line a3-places", "aria-hidden": "true" },
      positions.map((i) => h("span", {}, String(i))),
    );

    const net = h(
      "div",
      { class: "a3-net", style: `--count: ${names.length}`, "data-long": names.some((name) => name.length > 5) },
      h("div", { class: "a3-levels", "aria-hidden": "true" }, labels),
      plane,
      h("span", { class: "a3-left" }, "group"),
      line,
      h("span", { class: "a3-left" }, "position"),
      places,
    );

    // Words and controls
    const readout = h("p", {});
    const verdict = h("p", { class: "a3-verdict" });
    const more = h("p", { class: "a3-note" });
    const clock = timeline({
      model,
      body,
      say,
      at: lit,
      end: () => chosen().layer,
      wait: () => 900,
      told: () => `${count.textContent} ${news()}`,
    });
    const count = h("span", { class: "a3-note a3-count" });
    const rules = choice(
      "Query row i reads content rows with",
      Object.entries(RULES).map(([name, { label }]) => [name, label]),
      rule(),
      (name) => (put(model, { rule: name }), say(news())),
    );
    const starts = choice("Query rows start from", Object.entries(STARTS), start(), (name) => {
      put(model, { start: name });
      say(news());
    });
    const which = ({ groupings }) => groupings.findIndex((ids) => String(ids) === String(groupsNow()));
    const presetButtons = presets.map((preset) =>
      button(preset.name, () => regroup(preset.groupings[(which(preset) + 1) % preset.groupings.length])),
    );
    const moves = [
      button("↑ Earlier", () => move(chosen().position, -1)),
      button("↓ Later", () => move(chosen().position, 1)),
    ];
    const about = h("p", { class: "a3-note" });
    const sign = (name) => h("i", { class: "a3-sign", "data-sign": name, "aria-hidden": "true" });
    const legend = h(
      "p",
      { class: "a3-note a3-legend" },
      ...[
        ["content", "content row"],
        ["query", "query row"],
        ["attended", "reads, in the reader's colour"],
        ["residual", "residual connection alone"],
        ["faint", "nobody needs it"],
        ["leak", "the way of the token that it has to predict"],
      ].map(([name, text]) => h("span", {}, sign(name), text)),
    );

    body.classList.add("a3-two-streams");
    body.style.setProperty("--leak", THEME.okabe_ito[3]);
    body.append(
      h("p", {}, "Choose a row: which tokens reach it? Can a query row's own token ever do so, in any order?"),
      h("div", { class: "a3-row a3-controls", role: "group", "aria-label": "Groups" }, presetButtons),
      h("div", { class: "a3-row a3-controls a3-what-if" }, rules, starts),
      h(
        "div",
        { class: "a3-sides" },
        h(
          "div",
          {},
          h("div", { class: "a3-scroll" }, net),
          h("div", { class: "a3-row a3-controls a3-moves" }, moves, about),
        ),
        h(
          "div",
          {},
          h("div", { class: "a3-row a3-controls", role: "group", "aria-label": "Layer by layer" }, clock.keys, count),
          h("div", { class: "a3-panel" }, readout, verdict, more),
        ),
      ),
      legend,
    );

    /** Every line has its element as long as it is there, so that only new ones fade in, one layer after the other. */
    const drawEdges = (hops, red) => {
      const wanted = new Map(
        hops.flatMap((hop, number) => hop.map((edge) => [`${key(edge.row)} ${key(edge.read)}`, { edge, number }])),
      );
      for (const [name, { element }] of drawn) {
        if (wanted.has(name)) continue;
        element.remove();
        drawn.delete(name);
      }
      const first = Math.min(...[...wanted].filter(([name]) => !drawn.has(name)).map(([, { number }]) => number));
      for (const [name, { edge, number }] of wanted) {
        const wait = `--wait: ${(number - first) * HOP}ms`;
        if (!drawn.has(name)) drawn.set(name, { ...edge, element: svg("path", { class: "a3-edge", style: wait }) });
        const { element } = drawn.get(name);
        element.dataset.edge = name;
        element.dataset.stream = edge.row.stream;
        element.dataset.residual = String(edge.residual);
        element.dataset.leaks = String(red.has(edge));
        const where = red.has(edge) ? wayLines : lines;
        if (element.parentNode !== where) where.append(element);
      }
      lay();
    };

    /** What of the tokens that reach it a query row must not know, in words; "" where all is well. */
    const judge = (groups, row, known, entries) => {
      const group = groups[row.position];
      const own = known.includes(row.position);
      const mates = known.filter((j) => groups[j] === group && j !== row.position);
      if (own) {
        const rows = entries.filter(({ residual }) => !residual).map(({ read }) => read.position);
        const others = rows.filter((j) => j !== row.position);
        let through = entries.length ? " through its residual connection" : "";
        if (rows.length) through = ` through content ${rows.length > 1 ? "rows" : "row"} ${listed(rows)}`;
        if (rows.length && rows.length === others.length) {
          through += `, which ${rows.length > 1 ? "have" : "has"} read content row ${row.position}`;
        }
        return `Its own token, at ${row.position}, reaches it${through}: a leak. To predict well it need only copy.`;
      }
      if (mates.length) {
        const [those, are] = mates.length > 1 ? ["Those", "are"] : ["That", "is"];
        return (
          `${those} at ${listed(mates)} ${are} of its own group: each would be predicted from the other, and no chain ` +
          "rule says that. A second layer brings its own, too."
        );
      }
      return "";
    };

    const draw = () => {
      const [groups, row, now, from] = [groupsNow(), chosen(), rule(), start()];
      const { layer, stream, position } = row;
      const group = groups[position];
      const colours = groupColours(groups);
      const reach = field(groups, row, now);
      const known = tokensAt(reach.ends, from);
      const needs = needed(groups, layers, now);
      const asked = stream === "query" && group > GIVEN;
      const red = asked && known.includes(position) ? way(reach, position, from) : new Set();
      const seen = reach.hops.slice(0, lit());
      const whole = lit() === layer;

      // Rows
      const litRows = new Map([[key(row), 0]]);
      seen.forEach((hop, number) => hop.forEach(({ read }) => litRows.set(key(read), number + 1)));
      const redRows = new Set(
        seen
          .flat()
          .filter((edge) => red.has(edge))
          .flatMap((edge) => [key(edge.row), key(edge.read)]),
      );
      if (layer === 0 && asked && known.includes(position)) redRows.add(key(row));
      for (const { row: one, button: node } of nodes) {
        const name = key(one);
        const here = name === key(row);
        node.dataset.lit = String(litRows.has(name));
        node.dataset.leaks = String(redRows.has(name));
        node.dataset.needed = String(needs.has(name));
        node.style.setProperty("--wait", `${(litRows.get(name) ?? 0) * HOP}ms`);
        node.setAttribute("aria-pressed", String(here));
        const text = `${named(one)}, ${names[one.position]}, ${called(groups[one.position])}, ${held(one.layer)}`;
        node.setAttribute("aria-label", needs.has(name) ? text : `${text}, nobody needs it`);
        node.firstChild.textContent = one.layer === 0 && one.stream === "query" && from === "w" ? "w" : "";
        if (!plane.contains(document.activeElement)) node.tabIndex = here ? 0 : -1;
      }
      band.style.left = `${(100 * position) / names.length}%`;
      drawEdges(seen, red);
      for (const { end, element } of stems) {
        element.style.display = end.stream === "query" && from === "w" ? "none" : "";
        element.dataset.lit = String(whole && litRows.has(key(end)));
        element.dataset.leaks = String(whole && redRows.has(key(end)));
      }

      // Tokens
      tokens.forEach((token, i) => {
        const reaches = whole && known.includes(i);
        token.style.cssText = `--group: ${colours[i]}; --group-ink: ${ink(colours[i])}`;
        token.classList.toggle("a3-padding", groups[i] === PADDING);
        token.dataset.reaches = String(reaches);
        token.dataset.leaks = String(reaches && asked && groups[i] >= group);
        token.lastChild.textContent = digits(groups[i]);
        token.setAttribute("aria-pressed", String(i === position));
        token.setAttribute(
          "aria-label",
          `${names[i]}, position ${i}, ${called(groups[i])}${reaches ? ", reaches the row" : ""}`,
        );
        if (!line.contains(document.activeElement)) token.tabIndex = i === position ? 0 : -1;
      });

      // Words
      const title = `${named(row)} (${names[position]}, ${called(group)}), ${held(layer)}. `;
      readout.replaceChildren(h("b", {}, title), tell(groups, row, now, from));
      const dark = layer - lit();
      const entries = (reach.hops[0] ?? []).filter((edge) => red.has(edge));
      const wrong = asked ? judge(groups, row, known, entries) : "";
      const others = stream === "query" && from === "w" ? "w" : "";
      const list = [
        others,
        known.length ? `the ${known.length === 1 ? "token" : "tokens"} at ${listed(known)}` : "",
      ].filter(Boolean);
      const reaches = `What reaches it: ${listed(list) || "nothing"}. `;
      const own = known.includes(position)
        ? "Its own token is among them."
        : `Its own token, at ${position}, does not.`;
      verdict.replaceChildren(
        dark
          ? `Which tokens reach it? ${plural(dark, "layer")} below ${dark === 1 ? "is" : "are"} still dark.`
          : reaches + (wrong ? "" : own),
        wrong && !dark ? h("span", { class: "a3-wrong" }, wrong) : "",
      );
      verdict.dataset.verdict = dark ? "" : wrong ? "wrong" : asked ? "right" : "";
      more.textContent = !needs.has(key(row))
        ? `Drawn faint, for nobody needs it: ${unneeded(groups, layers, row)}.`
        : layer === layers
          ? `From it the model predicts the token at ${position}.`
          : "";
      count.textContent = layer ? `${lit()} of ${plural(layer, "layer")} lit.` : "No layer below it.";
      rules.show(now);
      starts.show(from);
      about.textContent = `group_ids = [${groups.join(", ")}]`;
      presetButtons.forEach((press, i) => press.setAttribute("aria-pressed", String(which(presets[i]) >= 0)));
    };

    const stop = follow(model, ["group_ids", "position", "stream", "layer", "clock", "rule", "start"], draw);
    const resized = new ResizeObserver(lay);
    resized.observe(plane);
    return () => (stop(), resized.disconnect(), clock.pause());
  });
}

export default { render };
