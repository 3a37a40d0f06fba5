// Filling the blanks of a text, one step after another: decode.infill, with every order in one loop.
import { Session } from "./steps.js";
import { before, behind, choose, inTurn, infill, readGiven } from "./orders.js";
import { allowed, draw, logSoftmax, measured } from "./sampling.js";

/**
 * A text with blanks as `{ tokens, blank }`; see orders.js. `lengths`: how many tokens each blank gets, or has room
 * for. A start token stands before the text. Spaces before a blank go, since tokens bring their own.
 */
export function cut(tokenizer, text, lengths, mark = "____") {
  const parts = text.split(mark);
  if (parts.length - 1 !== lengths.length) throw new Error(`${parts.length - 1} blanks need as many lengths`);
  const [tokens, blank] = [[tokenizer.start], [0]];
  parts.forEach((part, n) => {
    const ids = tokenizer.encode(n < lengths.length ? part.replace(/ +$/, "") : part);
    const room = lengths[n] ?? 0;
    tokens.push(...ids, ...Array(room).fill(tokenizer.start));
    blank.push(...ids.map(() => 0), ...Array(room).fill(n + 1));
  });
  return { tokens, blank };
}

/** The tokens that are no text: special ones, what ends a blank, and numbers that stand for no token. */
export function neverDrawn(model, tokenizer) {
  const { empty_token_id: end, vocab_size: size } = model.config;
  return [...Array(size).keys()].filter((id) => tokenizer.special.has(id) || id === end || !tokenizer.texts.has(id));
}

/**
 * Fill the blanks. A generator: it stops after each step, and gives
 *
 *     { positions, tokens, logProbs, logits }    what was filled: logits are the model's own, for the runners-up
 *     asked, sure                                all positions that were asked, and how sure the model was at each
 *     stopped                                    positions that a blank's end has closed: nothing will stand there
 *
 * order: "left_to_right", "random", "strided": fixed before; "confidence", "entropy": the model chooses.
 * size: how many positions at a time. Other options: see `turn`.
 * knownOrder: how given tokens read each other; default: as in the training.
 */
export function* fill(model, tokens, blank, options) {
  const groups = planned(blank, options);
  const session = new Session(model);
  let filled = readGiven(tokens, blank, options.knownOrder ?? model.config.known_order);
  let open = [...blank.keys()].filter((position) => blank[position] > 0);
  while (open.length) {
    const step = turn(session, filled, due(open, groups), blank, options);
    open = open.filter((position) => !step.stopped.includes(position) && !step.positions.includes(position));
    filled = [step.positions.map((position, n) => [position, step.tokens[n]])];
    yield step;
  }
}

const chosen = ({ order }) => order === "confidence" || order === "entropy";

/** The group of each position, where the order is fixed before; null: the model chooses. */
export function planned(blank, { order = "left_to_right", size = null, end = null, random }) {
  if (end !== null && order !== "left_to_right") throw new Error("blanks that end are filled from left to right");
  if (chosen({ order })) return null;
  // blanks that end are filled one after another, and no group has positions of two
  return (end === null ? infill : inTurn)(blank, { size: size ?? 1, order, random });
}

/** The open positions that are asked next: the first group of them; all, where the model chooses. */
export function due(open, groups) {
  const next = groups && Math.min(...open.map((position) => groups[position]));
  return groups ? open.filter((position) => groups[position] === next) : open;
}

/**
 * One step: put in what was `filled` since the last, ask for positions, and draw. Gives what `fill` gives.
 *
 * order, size, bound, threshold, apart: which of them are filled now, if the model chooses; see `choose`. Else all are.
 * end: the token that ends a blank, with the order "left_to_right"; null: each blank is filled to its last position.
 * ending: the numbers of the blanks that may end; null: all. least: how many tokens such a blank has before its end.
 * temperature, topP, banned: see `draw`. random: from `seeded`.
 */
export function turn(session, filled, asked, blank, options) {
  const { end = null, ending = null, least = 1, banned = [], random } = options;
  const logits = session.step(filled, asked);
  const sure = logits.map((of) => measured(allowed(of, banned)));
  const taken = chosen(options) ? choose(asked, sure, options) : asked;
  const at = (position) => logits[asked.indexOf(position)];
  const mayEnd = (position) => end !== null && (ending === null || ending.includes(blank[position]));
  const drawn = new Map();
  for (const position of taken) {
    const bans = end === null || (mayEnd(position) && before(blank, position) >= least) ? banned : [...banned, end];
    drawn.set(position, draw(at(position), random, { ...options, banned: bans }));
  }
  // what stands behind an end is not kept, though it was drawn in the same step
  const ends = taken.filter((position) => mayEnd(position) && drawn.get(position) === end);
  const stopped = new Set(ends.flatMap((position) => behind(blank, position)));
  const positions = taken.filter((position) => !stopped.has(position));
  const tokens = positions.map((position) => drawn.get(position));
  const logProbs = positions.map((position, n) => logSoftmax(at(position))[tokens[n]]);
  return { positions, tokens, logProbs, logits: positions.map(at), asked, sure, stopped: [...stopped] };
}
