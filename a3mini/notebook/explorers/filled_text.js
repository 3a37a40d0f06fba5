// What stands in the playground at one moment: a text, what is filled in it, and what becomes of that.
//
// A state has
//
//     words              as page/marked.js reads them, with the letters of each token
//     turns              what was filled, in order: each turn is a list of tokens, as the desk's `step` tells of them
//     closed             positions behind the end of a gap
//     asked              the positions that the last step asked, and how sure the model was of each; and
//     drafts, rejected   those of the last round: they are shown, and nothing comes of them
//     draws              how many steps were drawn; passes, milliseconds: what all of it took
import { percent, shown } from "./base.js";
import { layOut } from "../page/marked.js";

const HASH = "#play=";

export const fresh = (words) => {
  const nothing = { turns: [], closed: [], asked: [], drafts: [], rejected: [] };
  return { words, ...nothing, draws: 0, passes: 0, milliseconds: 0 };
};

/** The turns, but for what stands at some positions (a Set). */
export const without = (turns, positions) =>
  turns.map((turn) => turn.filter(({ position }) => !positions.has(position))).filter((turn) => turn.length);

/** The state as the desk reads it. */
export function boardOf(state, start, room) {
  const turns = state.turns.map((turn) => turn.map(({ position, id }) => [position, id]));
  return { ...layOut(state.words, start, room), turns, closed: state.closed };
}

/**
 * What stands at each position: `{ position, word, kind, blank, state }`; `letters`, if there is something; `written`,
 * if the reader had something there. States are "start", "given", "open", "filled", "closed".
 */
export function cellsOf(state, start, room) {
  const { blank, word } = layOut(state.words, start, room);
  const cells = blank.map((number, position) => {
    const n = word[position];
    if (n < 0) return { position, word: n, kind: "start", blank: 0, state: "start", letters: "" };
    const { kind, text, letters } = state.words[n];
    const place = position - word.indexOf(n);
    const broken = letters.some((part) => part.includes("\uFFFD")); // a token may hold a part of a character
    const own = broken ? (place ? "" : text) : letters[place]; // of a gap: nothing
    const cell = { position, word: n, kind, blank: number };
    return kind === "given" ? { ...cell, state: "given", letters: own } : { ...cell, state: "open", written: own };
  });
  state.turns.forEach((turn, number) =>
    turn.forEach((token) => Object.assign(cells[token.position], token, { state: "filled", turn: number })),
  );
  state.closed.forEach((position) => (cells[position].state = "closed"));
  state.asked.forEach(({ position, confidence }) => (cells[position].sure = confidence));
  state.drafts.forEach(({ position, letters }) => (cells[position].draft = letters));
  state.rejected.forEach(({ position, letters }) => (cells[position].rejected = letters));
  return cells;
}

/** The group of each position; -1: nothing stands there. Given tokens come first, together or one after another. */
export function groupsOf(cells, knownOrder) {
  const known = cells.filter(({ state }) => state === "start" || state === "given").map(({ position }) => position);
  const last = knownOrder === "left_to_right" ? known.length : 1;
  return cells.map(({ position, state, turn }) => {
    if (state === "filled") return last + turn;
    return knownOrder === "left_to_right" ? known.indexOf(position) : known.includes(position) - 1;
  });
}

export const textOf = (cells) => cells.map(({ letters, state }) => letters ?? (state === "open" ? "_" : "")).join("");

/** The tokens of a text, as words: `{ letters, positions }`, where positions count the cells that are given here. */
export function wordsOf(cells) {
  const found = [];
  cells.forEach((cell, at) => {
    if (cell.state === "start") return;
    const begins = cell.word !== cells[at - 1]?.word || (cell.kind === "gap" && /^\s/.test(cell.letters));
    if (begins) found.push({ letters: "", positions: [] });
    found.at(-1).letters += cell.letters;
    found.at(-1).positions.push(at);
  });
  return found.filter(({ letters }) => letters !== "");
}

// In words --------------------------------------------------------------------------------------------

export const nats = (value) => `${value.toFixed(1).replace("-", "−")} nats`;
export const chance = (logProb) => percent(Math.exp(logProb));
export const quoted = (letters) => `“${shown(letters)}”`;

/** What became of a round's drafts. */
export function verdictOf({ drafts, rejected, turns }) {
  if (!rejected.length) return `${drafts.length} drafts, and all of them passed.`;
  const [failed] = rejected;
  const instead = turns.flat().find(({ position }) => position === failed.position);
  const passed = `${drafts.length} drafts, ${drafts.length - rejected.length} passed`;
  return `${passed}; for ${quoted(failed.letters)} came ${quoted(instead.letters)}.`;
}

// In a link -------------------------------------------------------------------------------------------

/** An object as the part of an address behind "#". */
export function toLink(object) {
  const bytes = new TextEncoder().encode(JSON.stringify(object));
  const letters = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  return HASH + letters.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** The object again; null: the link was cut, or is none of ours. */
export function fromLink(hash) {
  if (!hash.startsWith(HASH)) return null;
  try {
    const letters = atob(hash.slice(HASH.length).replaceAll("-", "+").replaceAll("_", "/"));
    const found = JSON.parse(new TextDecoder().decode(Uint8Array.from(letters, (letter) => letter.charCodeAt(0))));
    return typeof found.text === "string" ? found : null;
  } catch {
    return null;
  }
}
