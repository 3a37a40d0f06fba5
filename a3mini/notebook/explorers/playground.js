// The playground: the model itself runs in the page, and fills what the reader leaves open, in any order.
import {
  button,
  choice,
  follow,
  frame,
  h,
  ink,
  newId,
  plural,
  put,
  ramp,
  roving,
  select,
  shown,
  slider,
} from "./base.js";
import { write } from "../page/marked.js";
import { fetchWeights, startDesk } from "./live_model.js";
import {
  boardOf,
  cellsOf,
  chance,
  fresh,
  fromLink,
  groupsOf,
  nats,
  quoted,
  textOf,
  toLink,
  verdictOf,
  without,
  wordsOf,
} from "./filled_text.js";
import { headPicture, maskPictures, opinionTable } from "./second_looks.js";
/* global THEME */

const ORDERS = [
  ["left_to_right", "left to right"],
  ["random", "in random order"],
  ["strided", "far apart (strided)"],
  ["confidence", "the model chooses: where it is surest"],
  ["entropy", "the model chooses: least entropy"],
  ["bounded", "the model chooses: as many as lose at most 1 nat"],
  ["drafts", "left to right, by verified drafts"],
  ["mine", "mine: I click the next blank"],
];
const BOUND = 1; // nats
const ROOM = 24; // positions of a gap that the model ends
const GAP = "____";
const WAIT = 180; // milliseconds between two steps that play
const KEPT = 60; // states that can be gone back to
const LINKED = ["order", "size", "temperature", "seed", "gap"]; // what a link holds besides the text and its tokens
const ELSEWHERE = "This model is not on the site: it runs where its notebook runs.";
const READY = "The model is here. Click a word to make it a blank and press Play, or see another draw.";
const WARM = 0.7; // a temperature at which draws differ

// The figure ------------------------------------------------------------------------------------------

function render({ model, el }) {
  const kernel = el.dataset.a3Face === "page" ? null : model;
  const elsewhere = !kernel && !model.get("file").name; // a model of the notebook's own, and no kernel
  const title = elsewhere ? "A language model, and what it filled in" : "A language model that runs in this page";
  return frame({ model, el }, title, (body, say) => {
    body.classList.add("a3-playground");
    const opening = model.get("opening");
    const { words, turns, closed, passes, room: places } = opening;
    let desk = null; // the model, when it is there
    let state = { ...fresh(words), turns, closed, passes, room: places };
    let past = [];
    let selected = null; // a position
    let busy = false; // a question is under way
    let playing = false; // or what stands for the run that plays
    let thought = null; // what the model thinks of a text: { text, orders, words }
    let revised = null; // { nats, count }: before words were hidden to be written anew
    let own = null; // the last link that was made here
    let here = true; // until the figure is taken away
    let wanted = kernel ? null : fromLink(location.hash);

    const get = (name) => model.get(name);
    const start = () => desk?.about.start ?? opening.start;
    const ended = () => get("order") === "left_to_right" && (desk?.about.ends ?? opening.ends);
    const room = () => (state.room ??= ended() ? ROOM : get("gap"));
    const cells = () => cellsOf(state, start(), room());
    const board = () => boardOf(state, start(), room());
    const openOnes = () => cells().filter((cell) => cell.state === "open");
    const gapNumbers = () => [...new Set(cells().flatMap((cell) => (cell.kind === "gap" ? [cell.blank] : [])))];
    const marked = () => write(state.words);

    const tell = (text, bad = false) => {
      message.textContent = text;
      message.dataset.bad = String(bad);
      if (text) say(text);
    };

    /** Do something that may go wrong or take a while; one at a time. */
    const during = async (work) => {
      if (busy || !desk) return false;
      busy = true;
      root.setAttribute("aria-busy", "true");
      try {
        await work();
        return true;
      } catch (error) {
        playing = false;
        tell(error.message, true);
        return false;
      } finally {
        busy = false;
        root.setAttribute("aria-busy", "false");
        if (here) draw();
        thinkAgain();
      }
    };
    const remember = (before = structuredClone(state)) => (past = [...past.slice(1 - KEPT), before]);

    // Loading

    const file = get("file");
    const size = `${(file.bytes / 1e6).toFixed(1)} MB`;
    const bar = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "Loading the model" });
    const load = async () => {
      loader.disabled = true;
      bar.hidden = false;
      tell(`Loading the model, ${size} …`);
      try {
        const buffer = await fetchWeights(file, kernel, (done, bytes) => (bar.value = bytes ? done / bytes : 0));
        desk = await startDesk(buffer);
        loader.hidden = true;
        tell(READY);
        if (wanted) await openLink();
        else if (get("text") !== marked()) await during(() => take(get("text"))); // Python set another meanwhile
      } catch (error) {
        tell(error.message, true);
      } finally {
        bar.hidden = true;
        loader.disabled = false;
        draw();
        if (desk) flow.querySelector("[tabindex='0']")?.focus(); // the button that had the focus is gone
      }
    };
    const openLink = () => {
      put(model, Object.fromEntries(LINKED.flatMap((name) => (name in wanted ? [[name, wanted[name]]] : []))));
      return during(() => take(wanted.text, wanted.turns ?? [], wanted));
    };
    /** The address has changed: a link was opened in a page that is there already. */
    const linked = () => {
      if (kernel || location.hash === own) return;
      wanted = fromLink(location.hash);
      if (wanted) tellLink();
      if (wanted && desk) openLink();
    };
    const tellLink = () => {
      const held = `The address holds a text: “${wanted.text.slice(0, 80)}”.`;
      tell(desk ? held : `${held} Load the model (${size}) to see it.`);
    };
    const loader = button(`Load the model (${size})`, load, { class: "a3-button a3-primary" });
    loader.hidden = elsewhere;

    // What changes the state

    /** Begin with a text; `turns`: what was filled in it, as lists of [position, token]. */
    const take = async (text, turns = [], more = {}) => {
      const words = await desk.ask("read", { text });
      const places = ended() ? ROOM : get("gap"); // of a gap
      const count = words.reduce((sum, { kind, ids }) => sum + (kind === "gap" ? places : ids.length), 1);
      if (!words.length) throw new Error("The text is empty: write something, or a gap, ____.");
      if (count > desk.about.length) {
        throw new Error(
          `This text has ${count} tokens, gaps included, but the model takes ${desk.about.length}. Make it shorter.`,
        );
      }
      state = fresh(words);
      selected = null;
      if (!turns.length) return;
      try {
        const { closed = [], draws = 0, room } = more;
        Object.assign(state, { closed, draws, room });
        state.turns = turns.map((turn) => turn.map(([position, id]) => ({ position, id })));
        await rescore();
      } catch {
        state = fresh(words); // the link was of another model: its text is worth having
        tell("The link holds tokens that this model cannot place; its text is here.", true);
      }
    };
    const rescore = async () => {
      if (!state.turns.length) return;
      const { turns, milliseconds } = await desk.ask("scored", { board: board() });
      const took = { passes: state.passes + 1, milliseconds: state.milliseconds + milliseconds };
      Object.assign(state, { turns, asked: [], ...took });
    };
    const setText = (text) =>
      during(async () => {
        const before = structuredClone(state);
        await take(text);
        remember(before);
        revised = null;
        area.value = marked();
        tell("");
      });
    /** A given word becomes a blank; a blank becomes the word again. */
    const toggle = (cell) =>
      during(async () => {
        remember();
        const other = { given: "hidden", hidden: "given" }[cell.kind];
        const own = new Set(cells().flatMap(({ word, position }) => (word === cell.word ? [position] : [])));
        // no position moves, so what is filled elsewhere stays; it is scored anew, for what is given has changed
        const turns = without(state.turns, own);
        const words = state.words.map((word, n) => (n === cell.word ? { ...word, kind: other } : word));
        Object.assign(state, {
          words,
          turns,
          asked: [],
          drafts: [],
          rejected: [],
        });
        [selected, revised] = [null, null];
        area.value = marked();
        tell("");
        await rescore();
        say(`${quoted(state.words[cell.word].text.trim())} is ${other === "hidden" ? "a blank now" : "there again"}.`);
      });

    const how = () => {
      const order = get("order");
      const bounded = order === "bounded";
      return {
        order: { bounded: "entropy", mine: "left_to_right" }[order] ?? order,
        size: bounded ? null : get("size"),
        bound: bounded ? BOUND : null,
        temperature: get("temperature"),
        seed: get("seed"),
        draws: state.draws,
      };
    };
    /** One step; `position`: there. */
    const step = async (position = null) => {
      remember();
      const gaps = ended() ? gapNumbers() : [];
      const found = await desk.ask("step", { board: board(), how: how(), position, gaps });
      if (found.drafts.length > 1) {
        Object.assign(state, { drafts: found.drafts, rejected: [] });
        drawFlow();
        await new Promise((next) => setTimeout(next, 2 * WAIT));
      }
      const { turns: added, stopped, asked, rejected } = found;
      Object.assign(state, {
        asked,
        drafts: [],
        rejected,
        draws: state.draws + 1,
        passes: state.passes + found.passes,
      });
      state.turns.push(...added);
      state.closed.push(...stopped);
      state.milliseconds += found.milliseconds;
      selected = added.at(-1).at(-1).position;
      const told = added
        .flat()
        .map(({ letters, logProb }) => `${quoted(letters)} ${chance(logProb)}`)
        .join(", ");
      tell(found.drafts.length > 1 ? verdictOf(found) : "");
      say(`${told}. ${plural(openOnes().length, "blank position")} left.`);
      if (!openOnes().length) await finished();
    };
    const finished = async () => {
      playing = false;
      if (revised) {
        const after = await whole();
        const gain = after - revised.nats;
        const verdict =
          gain > 0.05 ? "the model likes the new text better" : gain < -0.05 ? "the old one was likelier" : "no change";
        tell(`Left to right the whole text had ${nats(revised.nats)}, and now has ${nats(after)}: ${verdict}.`);
        revised = null;
      }
    };
    const fillAt = (position) => during(() => step(position));
    const play = async () => {
      if (playing) {
        playing = false;
        return draw();
      }
      const run = (playing = {}); // another may begin while this one waits
      draw();
      while (playing === run && here && openOnes().length) {
        if (!(await during(() => step()))) break;
        await new Promise((next) => setTimeout(next, WAIT));
      }
      if (playing !== run) return;
      playing = false;
      if (here) draw();
    };
    const empty = () => {
      remember();
      const { words, draws } = state;
      state = { ...fresh(words), draws };
      selected = null;
      tell("");
      draw();
    };
    const undo = () => {
      state = past.pop() ?? state;
      selected = null;
      tell("");
      draw();
    };
    /** Another token at a position. All others stay, and are scored anew; but nothing stands behind a gap's end. */
    const replaceAt = (cell, { id, letters }) =>
      during(async () => {
        remember();
        const { position, blank } = cell;
        const behind = cells().filter((other) => other.blank === blank && other.position > position);
        const lost = new Set(behind.map((other) => other.position));
        if (cell.letters === "") state.closed = state.closed.filter((at) => !lost.has(at)); // it was the end
        if (letters === "") {
          state.turns = without(state.turns, lost);
          state.closed = [...new Set([...state.closed, ...lost])];
        }
        state.turns.flat().find((token) => token.position === position).id = id;
        await rescore();
        tell("The others stay as they are, and are scored anew given this one.");
      });
    /** Take a token out and draw it again, given all others: it comes last now. */
    const redo = (position) =>
      during(async () => {
        remember();
        state.turns = without(state.turns, new Set([position]));
        const found = await desk.ask("step", { board: board(), how: how(), position, gaps: [] });
        state.turns.push(...found.turns);
        state.draws += 1;
        await rescore();
        selected = position;
        tell("It was drawn again given all the others, and comes last now.");
      });

    // What the model thinks of a text

    const complete = () => {
      const all = cells();
      const isText = ({ state: at, letters }) => at !== "closed" && !(at === "filled" && letters === ""); // nor an end
      return all.some(({ state: at }) => at === "open") ? null : all.filter(isText);
    };
    const idsOf = (all) => {
      const given = board().tokens;
      return all.map((cell) => cell.id ?? given[cell.position]);
    };
    const whole = async () => {
      const all = complete();
      const order = (await firstOf({ tokens: idsOf(all), words: [] })).orders[0];
      return -order.nats;
    };
    const firstOf = async (given) => {
      let first = null;
      await desk.listen("opinion", given, (part) => (first ??= part));
      return first;
    };
    const think = async () => {
      const all = complete();
      if (!all) return;
      const found = wordsOf(all);
      const mine = (thought = { text: textOf(all), orders: [], count: all.length - 1, words: [], of: found });
      const hear = (part) => {
        if (thought !== mine || !here) return;
        if (part.word) mine.words.push(part.word);
        else Object.assign(mine, part);
        drawThought();
      };
      await desk.listen("opinion", { tokens: idsOf(all), words: found.map(({ positions }) => positions) }, hear);
    };
    /** As long as its fold is open: whenever a whole text has changed. It never stands in the way of a step. */
    const thinkAgain = () => {
      const all = here && desk && !busy && fold.open ? complete() : null;
      if (all && thought?.text !== textOf(all)) think().catch((error) => tell(error.message, true));
    };
    /** Make blanks of the words that fit worst. What the model had written becomes text first. */
    const hideWorst = () =>
      during(async () => {
        const before = await whole();
        const worst = new Set(thought.worst.map(([at]) => at));
        const text = thought.of.map(({ letters, positions }) => {
          const space = letters.length - letters.trimStart().length;
          return worst.has(positions[0]) ? `${letters.slice(0, space)}[${letters.slice(space)}]` : letters;
        });
        const old = structuredClone(state);
        await take(text.join(""));
        remember(old);
        revised = { nats: before };
        thought = null;
        tell(`The ${plural(worst.size, "word")} that fit worst are blanks now. Press Play, and see what it gains.`);
      });

    // Drawing

    const paint = (cell, last) => {
      if (cell.state !== "filled") return null;
      if (get("colour") === "probability") {
        const sure = Math.exp(cell.logProb ?? 0);
        return THEME.cividis[Math.round((1 - sure) * (THEME.cividis.length - 1))];
      }
      return ramp(Math.max(last, 1))[cell.turn];
    };
    const face = (cell) => {
      if (cell.draft !== undefined) return `${shown(cell.draft.trim())}?`;
      const lost = cell.rejected === undefined ? null : h("del", {}, `✗${shown(cell.rejected.trim())}`);
      return lost ? [lost, faceOf(cell)] : faceOf(cell);
    };
    const faceOf = (cell) => {
      if (cell.state === "open") return cell.kind === "gap" ? "·" : " ";
      if (cell.state === "filled" && cell.letters === "") return "■";
      return shown(cell.letters.replace(/^ (?=.)/, "")).replace(/^␣$/, " ");
    };
    const named = (cell) => {
      const place = `position ${cell.position}`;
      if (cell.state === "given") return `${quoted(cell.letters)}, given`;
      if (cell.state === "open") {
        const what = cell.kind === "gap" ? "gap" : `blank, it held ${quoted(cell.written)}`;
        return cell.sure === undefined
          ? `${what}, ${place}`
          : `${what}, ${place}, likeliest token ${percent(cell.sure)}`;
      }
      const what = cell.letters === "" ? "the end of the gap" : quoted(cell.letters);
      return `${what}, ${place}, turn ${cell.turn + 1}, ${chance(cell.logProb)}`;
    };
    const clicked = (cell) => {
      if (busy || playing) return;
      if (cell.state === "filled") {
        selected = selected === cell.position ? null : cell.position;
        draw();
        return detail.scrollIntoView({ block: "nearest" });
      }
      if (elsewhere) return tell(ELSEWHERE);
      if (!desk) return tell(`Load the model first (${size}): then every word here can be a blank.`);
      if (cell.state === "open" && get("order") === "mine") return fillAt(cell.position);
      if (cell.kind === "gap") return tell("A gap: the model fills it. To move or remove it, edit the text.");
      return toggle(cell);
    };
    const flow = h("div", { class: "a3-flow", role: "group", "aria-label": "The text" });
    const refreshFlow = roving(flow, "button.a3-cell");
    const drawFlow = (focus) => {
      const at = flow.contains(document.activeElement) ? document.activeElement.dataset.position : null;
      const all = cells();
      const words = []; // chips that no line may part
      all.forEach((cell) => {
        if (cell.state === "start" || cell.state === "closed") return;
        const colour = paint(cell, state.turns.length);
        const spaced = (cell.letters ?? cell.written ?? " ").startsWith(" ");
        const chip = h(
          "button",
          {
            type: "button",
            class: "a3-cell",
            "data-state": cell.state,
            "data-kind": cell.kind,
            "data-position": cell.position,
            "data-word": cell.word,
            "data-draft": cell.draft !== undefined,
            "data-space": String(spaced),
            "aria-label": named(cell),
            "aria-pressed": cell.state === "filled" ? String(cell.position === selected) : null,
            style: colour && `--group: ${colour}; --group-ink: ${ink(colour)}`,
            onclick: () => clicked(cell),
          },
          face(cell),
        );
        if (cell.state === "open" && cell.written)
          chip.style.setProperty("--letters", Math.max(2, cell.written.trim().length));
        if (cell.state === "open" && cell.sure !== undefined) chip.style.setProperty("--sure", cell.sure);
        if (spaced || !words.length) words.push(h("span", { class: "a3-unbroken" }));
        words.at(-1).append(chip);
        if ((cell.letters ?? "").endsWith("\n")) words.push(h("br"), h("span", { class: "a3-unbroken" }));
      });
      flow.replaceChildren(...words);
      refreshFlow();
      const back = focus !== undefined ? `[data-word="${focus}"]` : at && `[data-position="${at}"]`;
      if (back) flow.querySelector(back)?.focus();
    };

    const detail = h("div", { class: "a3-panel a3-detail", "aria-live": "off" });
    const drawDetail = () => {
      const cell = selected === null ? null : cells()[selected];
      detail.hidden = !cell || cell.state !== "filled";
      if (detail.hidden) return;
      const mayEnd = cell.kind === "gap" && ended();
      const offered = cell.runnersUp.filter(({ letters }) => letters !== "" || mayEnd);
      const others = [cell, ...offered].sort((one, other) => other.logProb - one.logProb);
      const row = (token) => {
        const own = token.id === cell.id;
        const text = `${own ? "✓ " : ""}${token.letters === "" ? "■ end of the gap" : shown(token.letters)}`;
        const attributes = {
          type: "button",
          class: "a3-runner",
          disabled: own || !desk,
          "data-token": token.id,
          style: `--bar: ${Math.exp(token.logProb)}`,
          onclick: () => replaceAt(cell, token),
        };
        const label = own ? null : `Put ${quoted(token.letters)} here instead`;
        return h(
          "li",
          {},
          h(
            "button",
            { ...attributes, title: label },
            h("span", {}, text),
            h("span", { class: "a3-number" }, chance(token.logProb)),
          ),
        );
      };
      const { truth } = cell;
      const wrote = truth
        ? h(
            "p",
            {},
            truth.id === cell.id
              ? "That is what stood there."
              : `What stood there, ${quoted(truth.letters)}: ${chance(truth.logProb)}.`,
          )
        : null;
      const together = state.turns[cell.turn].length;
      const alone = together > 1 ? `, together with ${together - 1} more that it did not see` : "";
      detail.replaceChildren(
        h("p", { class: "a3-detail-title" }, `Position ${cell.position}, filled in turn ${cell.turn + 1}${alone}`),
        h("ul", { class: "a3-runners" }, others.map(row)),
        ...(wrote ? [wrote] : []),
        h(
          "p",
          { class: "a3-note" },
          desk
            ? "Choose another, and the rest is scored anew given it."
            : elsewhere
              ? ""
              : "Load the model, and you can choose another.",
        ),
        button("Draw this one again, given all others", () => redo(cell.position), {
          disabled: !desk || cell.letters === "",
        }),
      );
    };

    const status = h("p", { class: "a3-now" });
    const drawStatus = () => {
      const all = cells();
      const filled = all.filter(({ state: at }) => at === "filled");
      const open = all.filter(({ state: at }) => at === "open").length;
      const sum = filled.reduce((total, { logProb }) => total + logProb, 0);
      const parts = [
        `${filled.length} of ${filled.length + open} positions`,
        `${state.passes} ${state.passes === 1 ? "pass" : "passes"}`,
        desk && state.milliseconds ? `${(state.milliseconds / 1000).toFixed(2)} s in the model` : null,
        filled.length
          ? `log-likelihood ${nats(sum)}, ${(sum / filled.length).toFixed(2).replace("-", "−")} a token`
          : null,
      ];
      status.textContent = parts.filter(Boolean).join(" · ");
      Object.assign(status.dataset, { filled: filled.length, open, passes: state.passes, nats: sum });
      if (get("written") !== textOf(all)) put(model, { written: textOf(all) });
      if (desk && get("text") !== marked()) put(model, { text: marked() });
    };

    // Controls

    const option = (name, restart) => (value) => {
      put(model, { [name]: value });
      if (restart && state.room !== undefined && state.words.some(({ kind }) => kind === "gap")) {
        if (state.turns.length) remember();
        state = { ...fresh(state.words), draws: state.draws };
        selected = null;
      }
      draw();
    };
    const order = select("Order", ORDERS, get("order"), option("order", true));
    const number = slider("Tokens at a time", 1, 8, get("size"), option("size"));
    const heat = slider(
      "Temperature",
      0,
      15,
      Math.round(10 * get("temperature")),
      (value) => option("temperature")(value / 10),
      (value) => (value ? (value / 10).toFixed(1) : "0"),
    );
    const gap = slider("Positions in a gap", 1, ROOM, get("gap"), option("gap", true));
    const colour = choice(
      "Colour",
      [
        ["when", "when it came"],
        ["probability", "how likely it was"],
      ],
      get("colour"),
      option("colour"),
    );
    const stepper = button("→ Step", () => during(() => step()));
    const player = button("▶ Play", play, { class: "a3-button a3-play" });
    const cleaner = button("Empty the blanks", empty);
    const again = button("Another draw", () => {
      const cold = get("temperature") === 0;
      put(model, { seed: get("seed") + 1, ...(cold ? { temperature: WARM } : {}) });
      empty();
      play();
      if (cold) tell(`At temperature 0 every draw is the likeliest token, and the same. It is ${WARM} now.`);
    });
    const undoer = button("↶ Undo", undo);
    const linker = button("Copy link", async () => {
      const options = Object.fromEntries(LINKED.map((name) => [name, get(name)]));
      const turns = state.turns.map((turn) => turn.map(({ position, id }) => [position, id]));
      const { closed, draws, room: places } = state;
      const link = toLink({ text: marked(), ...options, turns, closed, draws, room: places });
      own = link;
      history.replaceState(null, "", link);
      try {
        await navigator.clipboard.writeText(location.href);
        tell("The link is copied: whoever opens it finds this text as it is.");
      } catch {
        tell("The address of this page now holds the text as it is: copy it from there.");
      }
    });

    const examples = select(
      "Example",
      [["", "choose …"], ...get("examples").map(({ name }, n) => [String(n), name])],
      "",
      (value) => {
        examples.show(""); // so that the same one can be chosen again
        if (value !== "") setText(get("examples")[+value].text);
      },
    );
    const areaId = newId("text");
    const area = h("textarea", { id: areaId, rows: 4, spellcheck: "false" });
    const use = button("Use this text", () => setText(area.value));
    const insert = button(`Insert a gap ${GAP}`, () => {
      area.setRangeText(GAP, area.selectionStart, area.selectionEnd, "end");
      area.focus();
    });
    const editor = h(
      "details",
      { class: "a3-editor" },
      h("summary", {}, "Write your own text"),
      h(
        "label",
        { for: areaId, class: "a3-note" },
        "Words in [brackets] are blanks of their own length. ____ is a gap.",
      ),
      area,
      h(
        "p",
        { class: "a3-note" },
        "Left to right the model ends a gap itself; else it has as many positions as you set.",
      ),
      h("div", { class: "a3-row" }, use, insert),
    );

    // Folds: the masks, one head, and what the model thinks

    const masks = h("div", { class: "a3-masks" });
    const maskFold = h(
      "details",
      { ontoggle: () => draw() },
      h("summary", {}, "Who sees whom: the two masks of this state"),
      masks,
    );
    const drawMasks = () => {
      if (!maskFold.open) return;
      masks.replaceChildren(...maskPictures(groupsOf(cells(), desk?.about.knownOrder ?? opening.known_order)));
    };

    const layer = slider("Layer", 1, 1, 1, () => drawHead());
    const head = slider("Head", 1, 1, 1, () => drawHead());
    const looks = h("div", { class: "a3-looks" });
    const headFold = h(
      "details",
      { ontoggle: () => draw() },
      h("summary", {}, "Where one head looks"),
      h("div", { class: "a3-row" }, layer, head),
      looks,
    );
    const lookingAt = () => selected ?? state.turns.at(-1)?.at(-1).position ?? openOnes()[0]?.position;
    const value = (field) => +field.querySelector("input").value;
    const drawHead = async () => {
      if (!headFold.open) return;
      const position = lookingAt();
      if (!desk || position === undefined) {
        return looks.replaceChildren(
          h("p", { class: "a3-note" }, desk ? "Blank a word first." : "Load the model first."),
        );
      }
      const question = { board: board(), position, layer: value(layer) - 1, head: value(head) - 1 };
      const { weights } = await desk.ask("attention", question);
      looks.replaceChildren(...headPicture(cells(), position, weights, [pageGround(), THEME.query]));
    };
    const pageGround = () => (root.closest("[data-theme]")?.dataset.theme === "dark" ? THEME.dark : THEME.light).panel;

    const thoughts = h("div", {});
    const worst = button("Make blanks of the words that fit worst", hideWorst);
    const fold = h(
      "details",
      { ontoggle: () => (thinkAgain(), drawThought()) },
      h("summary", {}, "What does the model think of this text?"),
      thoughts,
      worst,
    );
    const drawThought = () => {
      const whole = complete();
      if (!fold.open) return null;
      const current = thought && whole && thought.text === textOf(whole);
      worst.disabled = !desk || !current || !thought.worst || busy;
      if (!current) {
        const why = !desk
          ? "Load the model first."
          : whole
            ? ""
            : "Fill the blanks first: a text is scored when nothing is open.";
        return thoughts.replaceChildren(h("p", { class: "a3-note" }, why));
      }
      return thoughts.replaceChildren(...opinionTable(thought));
    };

    // All of it

    const hint = h("p", { class: "a3-note" });
    const message = h("p", { class: "a3-message" });
    const root = h(
      "div",
      {},
      elsewhere ? null : h("p", {}, get("intro")),
      elsewhere ? null : h("div", { class: "a3-row" }, loader, bar, examples),
      message,
      flow,
      hint,
      h("div", { class: "a3-row a3-keys" }, player, stepper, undoer, cleaner, again, kernel ? null : linker),
      detail,
      h("div", { class: "a3-row" }, status, colour),
      h("div", { class: "a3-row a3-controls" }, order, number, heat, gap),
      editor,
      maskFold,
      headFold,
      fold,
    );
    body.append(root);

    const hintText = () => {
      if (elsewhere) return `${ELSEWHERE} Click a coloured token for what else it might have said.`;
      if (!desk)
        return "Written before you came: colours say when each token came. Click one for what else it might have said.";
      if (get("order") === "mine")
        return "Click a blank: the model fills it next, given all that is there. Click a token for its runners-up.";
      const sure = state.asked.length > 1 ? " The bar in a blank says how sure the model was there." : "";
      return `Click a word to blank it, a blank to have the word again, a filled token for its runners-up.${sure}`;
    };
    const draw = (focus) => {
      const open = openOnes().length;
      const mine = get("order") === "mine";
      const gaps = state.words.some(({ kind }) => kind === "gap");
      order.show(get("order"));
      number.show(get("size"));
      heat.show(Math.round(10 * get("temperature")));
      gap.show(get("gap"));
      colour.show(get("colour"));
      gap.hidden = !gaps || ended();
      number.hidden = mine || get("order") === "bounded";
      if (desk) [layer.limit(desk.about.layers), head.limit(desk.about.heads)];
      const disable = (control, when) => (control.disabled = when);
      disable(stepper, !desk || busy || playing || mine || !open);
      disable(player, !desk || (!playing && (busy || mine || !open)));
      disable(cleaner, !desk || busy || playing || !state.turns.length);
      disable(again, !desk || busy || playing || mine || !(open || state.turns.length));
      disable(undoer, busy || playing || !past.length);
      for (const control of [use, linker]) disable(control, !desk || busy || playing);
      examples.querySelector("select").disabled = !desk || busy || playing;
      player.textContent = playing ? "❚❚ Pause" : "▶ Play";
      if (!editor.open) area.value = marked(); // what is being written is never lost
      examples.hidden = !desk || !get("examples").length;
      editor.hidden = !desk;
      hint.textContent = hintText();
      drawFlow(focus);
      drawDetail();
      drawStatus();
      drawMasks();
      drawHead();
      drawThought();
    };
    const stop = follow(model, ["order", "size", "temperature", "gap", "seed", "colour"], () => busy || draw());
    const told = () => desk && get("text") !== marked() && setText(get("text")); // set in Python
    model.on("change:text", told);
    addEventListener("hashchange", linked);
    if (wanted) {
      tellLink();
      if (document.querySelector(".a3-playground") === body) body.scrollIntoView();
    }
    return () => {
      here = playing = false;
      removeEventListener("hashchange", linked);
      desk?.stop();
      model.off("change:text", told);
      stop();
    };
  });
}

export default { render };
