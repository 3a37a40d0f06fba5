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
 * size, bound, threshold, apart: how many positions at a time; see `infill` and `choose`.
 * end: the token that ends a blank, with the order "left_to_right"; null: each blank is filled to its last position.
 * least: how many tokens a blank has at least before its end.
 * temperature, topP, banned: see `draw`. random: from `seeded`.
 * knownOrder: how given tokens read each other; default: as in the training.
 */
export function* fill(model, tokens, blank, options) {
  const { order = "left_to_right", size = null, end = null, least = 1, banned = [], random } = options;
  const chosen = order === "confidence" || order === "entropy";
  if (end !== null && order !== "left_to_right") throw new Error("blanks that end are filled from left to right");
  // blanks that end are filled one after another, and no group has positions of two
  const groups = chosen ? null : (end === null ? infill : inTurn)(blank, { size: size ?? 1, order, random });
  const session = new Session(model);
  let filled = readGiven(tokens, blank, options.knownOrder ?? model.config.known_order);
  let open = [...blank.keys()].filter((position) => blank[position] > 0);
  while (open.length) {
    const next = groups && Math.min(...open.map((position) => groups[position]));
    const asked = groups ? open.filter((position) => groups[position] === next) : open;
    const logits = session.step(filled, asked);
    const sure = logits.map((of) => measured(allowed(of, banned)));
    const taken = chosen ? choose(asked, sure, options) : asked;
    const at = (position) => logits[asked.indexOf(position)];
    const tooSoon = (position) => end !== null && before(blank, position) < least;
    const drawn = new Map();
    for (const position of taken) {
      const bans = tooSoon(position) ? [...banned, end] : banned;
      drawn.set(position, draw(at(position), random, { ...options, banned: bans }));
    }
    // what stands behind an end is not kept, though it was drawn in the same step
    const ends = taken.filter((position) => end !== null && drawn.get(position) === end);
    const stopped = new Set(ends.flatMap((position) => behind(blank, position)));
    const positions = taken.filter((position) => !stopped.has(position));
    open = open.filter((position) => !stopped.has(position) && !positions.includes(position));
    const tokensDrawn = positions.map((position) => drawn.get(position));
    filled = [positions.map((position, n) => [position, tokensDrawn[n]])];
    yield {
      positions,
      tokens: tokensDrawn,
      logProbs: positions.map((position, n) => logSoftmax(at(position))[tokensDrawn[n]]),
      logits: positions.map(at),
      asked,
      sure,
      stopped: [...stopped],
    };
  }
}
