// The mask explorer: put tokens into groups, and watch what each of them sees in both masks.
import {
  GIVEN, PADDING, button, choice, contentSees, follow, frame, groupColours, h, ink, last, place, plural, put, querySees,
  relabel, roving, select, shown, step,
} from "./base.js";

const STREAMS = [
  ["content", "Content mask", "own and earlier groups", contentSees],
  ["query", "Query mask", "earlier groups only", querySees],
];

// Groupings -----------------------------------------------------------------------------------

/** `group` becomes number `to`; the groups between make room. */
export function moveGroup(groups, group, to) {
  const order = Array.from({ length: last(groups) }, (_, k) => k + 1).filter((other) => other !== group);
  order.splice(to - 1, 0, group);
  return groups.map((old) => (old > GIVEN ? order.indexOf(old) + 1 : old));
}

// Challenges ----------------------------------------------------------------------------------

const listed = (words, none = "nothing") =>
  words.length > 1 ? `${words.slice(0, -1).join(", ")} and ${words.at(-1)}` : (words[0] ?? none);
const digits = (group) => String(group).replace("-", "−");
const called = (group) => (group === PADDING ? "padding" : group === GIVEN ? "given" : `group ${group}`);

/** Each of the challenge's conditions: whether `groups` meets it, in words, and if not, why. */
export function judge(groups, { conditions }, names) {
  const judges = {
    sees({ stream, row, column, wanted }) {
      const [i, j] = [groups[row], groups[column]];
      const sees = (stream === "query" ? querySees : contentSees)(groups, row, column);
      const who = stream === "query" ? "query" : "content row";
      const whose = `the ${who} of ${names[row]}`;
      let why = `${names[column]} (${called(j)}) is not ${stream === "query" ? "earlier" : "later"} than`;
      if (sees) why = `${names[column]} (${called(j)}) is ${stream === "query" ? "earlier" : "not later"} than`;
      else if (stream === "content") why = `${names[column]} (${called(j)}) is later than`;
      why += ` ${names[row]} (${called(i)})`;
      if (j === PADDING) why = `${names[column]} is padding, and nobody sees padding`;
      else if (i === PADDING) why = `${names[row]} is padding, and padding sees nobody`;
      return [sees === wanted, `${whose} ${wanted ? "sees" : "does not see"} ${names[column]}`, why];
    },
    predicted({ positions }) {
      const wrong = positions.filter((i) => groups[i] <= GIVEN);
      const why = wrong.map((i) => `${names[i]} is ${called(groups[i])}`).join(", ");
      return [!wrong.length, `${listed(positions.map((i) => names[i]))} are predicted`, why];
    },
    steps: ({ most }) => [last(groups) <= most, `at most ${most} steps`, `it takes ${last(groups)}`],
    apart() {
      const wrong = groups.slice(1).findIndex((group, i) => group > GIVEN && group === groups[i]);
      const why = `${names[wrong]} and ${names[wrong + 1]} are both in group ${groups[wrong]}`;
      return [wrong < 0, "no two neighbours in the same step", why];
    },
  };
  return conditions.map((condition) => {
    const [met, text, why] = judges[condition.kind](condition);
    return { met, text, why };
  });
}

// The page ------------------------------------------------------------------------------------

/** What each token is called: its text, and a number where the text stands twice. */
function nameAll(tokens) {
  return tokens.map((token, i) => {
    const number = tokens.slice(0, i + 1).filter((other) => other === token).length;
    const twice = tokens.filter((other) => other === token).length > 1;
    return shown(token) + (twice ? [...String(number)].map((digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]).join("") : "");
  });
}

/** The same within a sentence, where a bare full stop would mislead. */
const inText = (name) => (/[\p{L}\p{N}]/u.test(name) ? name : `“${name}”`);

function render({ model, el }) {
  return frame({ model, el }, "Mask explorer: who sees whom", (body, say) => {
    const names = nameAll(model.get("tokens"));
    const said = names.map(inText);
    const presets = model.get("presets");
    const challenges = model.get("challenges");
    const positions = names.map((_, i) => i);
    let hovered = null;
    let drawn = null; // the grouping that the page shows
    let before = null; // the one that it showed before
    let focus = null; // which element gets the focus after the next redraw

    const current = () => relabel(positions.map((i) => Math.max(PADDING, model.get("group_ids")[i] ?? GIVEN)));
    const chosen = () => (names[model.get("position")] === undefined ? null : model.get("position"));
    const goal = () => challenges[model.get("challenge")];
    const filled = (text) => text.replace(/\{(\d+)\}/g, (_, i) => `“${names[i]}”`);
    const set = (groups) => put(model, { group_ids: groups });
    const choose = (token) => put(model, { position: token });

    const moveToken = (token, groups) => {
      choose(token);
      if (String(groups) === String(current())) return;
      set(groups);
      say(`${said[token]}: ${called(current()[token])}. ${news()}`);
    };
    const reorder = (group, to) => {
      const groups = current();
      if (group < 1 || to < 1 || to > last(groups) || to === group) return;
      if (root.contains(document.activeElement) && document.activeElement.dataset.key === `group ${group}`) {
        focus = `group ${to}`;
      }
      set(moveGroup(groups, group, to));
      say(`Group ${group} is now group ${to}. ${news()}`);
    };

    const news = () => [changes, ...challengePanel.querySelectorAll(".a3-verdict")].map((p) => p.textContent).join(" ");

    // Presets and challenges
    const which = ({ groupings }) => groupings.findIndex((ids) => String(ids) === String(current()));
    const preset = (groups) => {
      set(groups);
      say(about.textContent);
    };
    const presetControls = presets.map((one) => {
      const { name, groupings, streams } = one;
      if (streams) {
        const options = streams.map((count) => [String(count), String(count)]);
        const field = choice(`${name}: streams`, options, "", (count) => preset(groupings[streams.indexOf(+count)]));
        return { element: field, show: (at) => field.show(String(streams[at] ?? "")) };
      }
      const press = button(name, () => preset(groupings[(which(one) + 1) % groupings.length]));
      return { element: press, show: (at) => press.setAttribute("aria-pressed", String(at >= 0)) };
    });
    const inRow = presetControls.filter((_, i) => !presets[i].streams).map(({ element }) => element);
    const below = presetControls.filter((_, i) => presets[i].streams).map(({ element }) => element);
    const about = h("p", { class: "a3-about" });
    const challengeList = select(
      "Challenge",
      [["-1", "none"], ...challenges.map(({ name }, i) => [String(i), name])],
      String(model.get("challenge")),
      (value) => put(model, { challenge: +value, claim: "", ...(value >= 0 ? { group_ids: positions } : {}) }),
    );
    const challengePanel = h("div", { class: "a3-panel a3-goal" });

    // The board: a column for each token, a row for each group
    const board = h("div", { class: "a3-board", style: `--count: ${names.length}` });
    const buttons = {
      earlier: button("↑ Token earlier", () => act((groups, i) => moveToken(i, step(groups, i, -1)))),
      later: button("↓ Token later", () => act((groups, i) => moveToken(i, step(groups, i, 1)))),
      own: button("New group", () => act((groups, i) => moveToken(i, place(groups, i, last(groups) + 1)))),
      given: button("Given", () => act((groups, i) => moveToken(i, place(groups, i, GIVEN)))),
      padding: button("Padding", () => act((groups, i) => moveToken(i, place(groups, i, PADDING)))),
      up: button("↑ Group earlier", () => act((groups, i) => reorder(groups[i], groups[i] - 1))),
      down: button("↓ Group later", () => act((groups, i) => reorder(groups[i], groups[i] + 1))),
    };
    const others = [buttons.own, buttons.given, buttons.padding, buttons.up, buttons.down];
    const act = (action) => chosen() !== null && action(current(), chosen());
    const words = h("div", { class: "a3-panel a3-words" });
    const masks = h("div", { class: "a3-masks" });
    const changes = h("p", { class: "a3-note a3-changes" });
    const root = h(
      "div",
      { class: "a3-mask" },
      h("p", {}, "Move a token to another row. Which cells of the query mask change, and which of the content mask?"),
      challenges.length ? challengeList : null,
      challengePanel,
      h("div", { class: "a3-scroll", role: "group", "aria-label": "Tokens and groups" }, board),
      h("div", { class: "a3-row a3-controls", role: "group", "aria-label": "Move the chosen token" },
        buttons.earlier, buttons.later),
      masks,
      changes,
      words,
      h("details", { class: "a3-more" },
        h("summary", {}, "More ways to move"),
        h("div", { class: "a3-row a3-controls", role: "group", "aria-label": "Move the chosen token or its group" },
          others),
        h("p", { class: "a3-note" },
          "Click a place in the board, or drag a block or a row. Keys: ← → choose a token, ↑ ↓ move it, or the group " +
          "whose number has the focus. Point at a token to see its lines of sight.")),
      h("details", { class: "a3-more" },
        h("summary", {}, "Other groupings"),
        h("div", { class: "a3-row a3-controls", role: "group", "aria-label": "Presets" }, inRow),
        below),
      about,
    );
    body.append(root);

    // What a token sees, in the board, in the masks, and in words
    const light = () => {
      const groups = current();
      const token = hovered ?? chosen();
      const group = groups[token];
      root.querySelectorAll(".a3-token").forEach((item, i) => {
        item.setAttribute("aria-pressed", String(i === chosen()));
        item.toggleAttribute("data-lit", i === token);
      });
      root.querySelectorAll(".a3-lane").forEach((lane) => {
        const row = +lane.dataset.row;
        const here = groups.includes(row);
        let note = row === PADDING ? "never seen, sees nothing" : row === GIVEN ? "known from the start" : "";
        if (row > GIVEN && here) note = `step ${row}: ${plural(groups.filter((g) => g === row).length, "token")}`;
        let side = "";
        if (token !== null && here && row !== PADDING && group !== PADDING) {
          side = row < group ? "earlier" : row === group ? "own" : "later";
          note = { earlier: "both streams see these", own: "only its content does", later: "these see it" }[side];
        }
        lane.dataset.side = side;
        lane.querySelector(".a3-lane-note").textContent = note;
      });
      root.querySelectorAll("td[data-seen]").forEach((cell) => {
        cell.toggleAttribute("data-row", +cell.dataset.i === token);
        cell.toggleAttribute("data-column", +cell.dataset.j === token);
      });
      root.querySelectorAll(".a3-matrix th").forEach((head) => head.toggleAttribute("data-lit", +head.dataset.token === token));
      const told = token === null ? [] : tell(groups, token);
      words.replaceChildren(
        h("p", { class: "a3-strong" }, told.length ? `${said[token]} (${called(group)})` : "Choose a token."),
        h("ul", {}, told.map(([lead, rest]) => h("li", {}, h("b", {}, lead), ` ${rest}`))),
      );
      return told.flat().join(" ");
    };

    const tell = (groups, token) => {
      const group = groups[token];
      const [content, query] = STREAMS.map(([, , , sees]) => ({
        sees: listed(positions.filter((j) => sees(groups, token, j)).map((j) => said[j])),
        seenBy: listed(positions.filter((i) => sees(groups, i, token)).map((i) => said[i]), "nobody"),
      }));
      const below = group === PADDING ? "" : group === GIVEN ? ", and predicts nothing" : ` (numbers below ${group})`;
      const upTo = group === PADDING ? "" : ` (numbers up to ${group})`;
      return [
        ["Its query", `sees ${query.sees}${below}.`],
        ["Its content row", `sees ${content.sees}${upTo}.`],
        ["It is seen", `by the queries of ${query.seenBy}; by the content rows of ${content.seenBy}.`],
      ];
    };
    const point = (token) => {
      if (token === hovered) return;
      hovered = token;
      light();
    };
    for (const area of [board, masks]) {
      area.addEventListener("pointerover", (event) => {
        const item = event.target.closest("[data-token], [data-i]");
        if (item && event.pointerType !== "touch") point(+(item.dataset.token ?? item.dataset.i));
      });
      area.addEventListener("pointerleave", () => point(null));
      area.addEventListener("click", (event) => {
        const item = event.target.closest("th[data-token], [data-i]");
        if (item) choose(+(item.dataset.token ?? item.dataset.i));
      });
    }

    /** Drag `handle` up or down; `drop(row)` gets the row of the board where it ends. Without a way, it is a click. */
    const draggable = (handle, drop) =>
      handle.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        const lanes = [...board.querySelectorAll(".a3-lane")];
        const from = handle.dataset.row;
        let over = null;
        handle.setPointerCapture(event.pointerId);
        const move = ({ clientY }) => {
          const hit = lanes.find((lane) => clientY < lane.getBoundingClientRect().bottom) ?? lanes.at(-1);
          over = hit.dataset.row === from ? null : +hit.dataset.row;
          lanes.forEach((lane) => lane.toggleAttribute("data-over", lane === hit && over !== null));
        };
        const end = ({ type }) => {
          handle.removeEventListener("pointermove", move);
          ["pointerup", "pointercancel"].forEach((name) => handle.removeEventListener(name, end));
          lanes.forEach((lane) => lane.removeAttribute("data-over"));
          if (type === "pointerup" && over !== null) drop(over);
        };
        handle.addEventListener("pointermove", move);
        ["pointerup", "pointercancel"].forEach((name) => handle.addEventListener(name, end));
      });

    const drawBoard = (groups, colours) => {
      const rows = [GIVEN, ...Array.from({ length: last(groups) + 1 }, (_, k) => k + 1), PADDING];
      const heads = names.map((name, i) =>
        h(
          "button",
          {
            type: "button",
            class: `a3-token${groups[i] === PADDING ? " a3-padding" : ""}`,
            style: `--group: ${colours[i]}; --group-ink: ${ink(colours[i])}`,
            "data-token": i,
            "data-key": `token ${i}`,
            tabindex: i === (chosen() ?? 0) ? 0 : -1,
            "aria-label": `${name}, ${called(groups[i])}`,
            onclick: () => choose(i),
            onfocus: () => i !== chosen() && (choose(i), say(light())),
            onkeydown: (event) => {
              const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
              if (by) (event.preventDefault(), moveToken(i, step(current(), i, by)));
            },
          },
          h("span", {}, name),
          h("small", {}, digits(groups[i])),
        ),
      );
      const lanes = rows.map((row) => {
        const members = positions.filter((i) => groups[i] === row);
        const isNew = row > last(groups);
        const label = isNew ? "new" : digits(row) + (row === GIVEN ? " given" : row === PADDING ? " padding" : "");
        let head = h("span", { class: "a3-lane-name" }, label);
        if (row > GIVEN && !isNew) {
          head = button(`⠿ ${label}`, () => members.length && choose(members[0]), {
            class: "a3-button a3-lane-name a3-handle",
            "data-row": row,
            "data-key": `group ${row}`,
            "aria-label": `Group ${row}: ${listed(members.map((i) => said[i]))}. Up and down move the group.`,
            onkeydown: (event) => {
              const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
              if (by) (event.preventDefault(), reorder(row, row + by));
            },
          });
          draggable(head, (to) => reorder(row, to === GIVEN ? 1 : to === PADDING ? last(groups) : Math.min(to, last(groups))));
        }
        const cells = positions.map((i) => {
          const here = groups[i] === row;
          const cell = h("div", {
            class: here ? "a3-spot a3-here" : "a3-spot",
            style: here && row !== PADDING ? `background: ${colours[i]}` : null,
            "data-token": i,
            "data-row": row,
            onclick: () => (here ? choose(i) : moveToken(i, place(current(), i, row))),
          });
          if (here) draggable(cell, (to) => moveToken(i, place(current(), i, to)));
          return cell;
        });
        return h(
          "div",
          { class: "a3-lane", "data-row": row, "data-new": isNew },
          head,
          cells,
          h("span", { class: "a3-lane-note" }),
        );
      });
      board.replaceChildren(
        h("div", { class: "a3-heads", role: "toolbar", "aria-label": "Tokens: left and right choose, up and down move" }, heads),
        ...lanes,
      );
    };
    roving(board, ".a3-token");

    const drawMasks = (groups, colours) => {
      const changed = STREAMS.map(() => 0);
      masks.replaceChildren(
        ...STREAMS.map(([stream, title, rule, sees], number) => {
          const row = (i) =>
            positions.map((j) => {
              const seen = sees(groups, i, j);
              const differs = before !== null && seen !== sees(before, i, j);
              changed[number] += differs;
              return h(
                "td",
                {
                  "data-seen": String(seen),
                  "data-i": i,
                  "data-j": j,
                  "data-changed": differs,
                  style: seen ? `--fill: ${colours[j]}; --fill-ink: ${ink(colours[j])}` : "--fill: var(--a3-hidden)",
                },
                seen ? String(groups[j]) : "",
              );
            });
          const head = (i, scope) => h("th", { scope, "data-token": i }, h("span", {}, names[i]), scope === "row" ? h("small", {}, digits(groups[i])) : null);
          return h(
            "div",
            { class: "a3-scroll", tabindex: "0", role: "region", "aria-label": title },
            h(
              "table",
              { class: "a3-matrix", "data-mask": stream, style: `--count: ${names.length}` },
              h("caption", {}, title, h("small", {}, rule)),
              h("thead", {}, h("tr", {}, h("td", {}), positions.map((j) => head(j, "col")))),
              h("tbody", {}, positions.map((i) => h("tr", {}, head(i, "row"), row(i)))),
            ),
          );
        }),
      );
      changes.textContent =
        before === null
          ? "Rows look, columns are looked at. Beside a row stands its group, in a cell the group that it sees."
          : `The last change touched ${plural(changed[0], "cell")} of the content mask and ${changed[1]} of the query mask` +
            (changed[0] + changed[1] ? ", marked with a dot." : ".");
    };

    const drawGoal = () => {
      challengeList.show(String(goal() ? model.get("challenge") : -1));
      challengePanel.hidden = !goal();
      if (!goal()) return;
      const { task, lesson, answer } = goal();
      const found = judge(current(), goal(), said);
      const wrong = found.filter(({ met }) => !met);
      const claim = model.get("claim");
      const known = answer === null && claim !== "";
      let verdict = `Still wrong: ${wrong.length} of ${plural(found.length, "condition")}.`;
      if (claim === "impossible" && answer) verdict = `It can be done. ${verdict}`;
      if (known) verdict = `${claim === "answer" ? "It" : "Right, it"} cannot be done. ${filled(lesson)}`;
      if (!wrong.length) verdict = `Solved. ${filled(lesson)}`;
      const line = ({ met, text, why }) =>
        h("li", { "data-met": String(met) }, `${met ? "✓" : "✗"} ${text}`, met ? "" : h("span", { class: "a3-why" }, `: ${why}`));
      const claims = [
        button("It cannot be done", () => put(model, { claim: "impossible" }), { "data-key": "impossible" }),
        button("Show an answer", () => put(model, { claim: "answer", ...(answer ? { group_ids: answer } : {}) }), { "data-key": "answer" }),
      ];
      challengePanel.replaceChildren(
        h("p", { class: "a3-strong" }, filled(task)),
        h("ul", {}, found.map(line)),
        h("p", { class: "a3-verdict", "data-solved": String(!wrong.length || known) }, verdict),
        h("div", { class: "a3-row a3-controls" }, claims),
      );
    };

    /** Draw with `change`; what had the focus before has it again. */
    const keepFocus = (change) => {
      const key = focus ?? (root.contains(document.activeElement) ? document.activeElement.dataset.key : null);
      change();
      focus = null;
      if (key) root.querySelector(`[data-key="${key}"]`)?.focus();
    };
    const draw = () => {
      const groups = current();
      const colours = groupColours(groups);
      before = drawn;
      drawn = groups;
      drawBoard(groups, colours);
      drawMasks(groups, colours);
      drawGoal();
      const same = presets.map(which);
      presetControls.forEach((control, i) => control.show(same[i]));
      const found = same.findIndex((at) => at >= 0);
      const known = presets[found];
      const streams = known?.streams ? `, ${plural(known.streams[same[found]], "stream")}` : "";
      const size = groups.filter((group) => group > GIVEN).length;
      about.replaceChildren(
        h("b", {}, known ? known.name + streams : "A grouping of your own"),
        `. ${known?.about ?? ""} ${plural(size, "token")} in ${plural(last(groups), "step")}: `,
        h("code", {}, `group_ids = [${groups.join(", ")}]`),
      );
      light();
    };
    const stops = [
      follow(model, ["group_ids"], () => keepFocus(draw)),
      follow(model, ["position"], light),
      follow(model, ["challenge", "claim"], () => keepFocus(drawGoal)),
    ];
    return () => stops.forEach((stop) => stop());
  });
}

export default { render };
