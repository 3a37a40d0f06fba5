// What the model thinks of a text: how likely each token is in some order, and how well each word fits where it stands.
//
// A word may be likely after what is left of it, and yet not fit what follows, or the other way round. A model that
// writes from left to right alone knows the first; a model of any order can be asked for both.
import { Session, score } from "./steps.js";
import { infill, readGiven } from "./orders.js";
import { logSoftmax } from "./sampling.js";

/**
 * The log-probability of each token of a text, in nats: a Float32Array, with 0 for the start token, which is given.
 *
 * how: `{ order, size, random }`: in which order the text is predicted; see `infill`. With groups of one token the sum
 *     is the log-probability of the text. Tokens of one group do not know of each other.
 */
export function opinion(model, tokens, how = {}) {
  return score(model, tokens, infill(tokens.map((_, at) => Number(at > 0)), how));
}

/**
 * How well each word fits. A generator: it stops after each word, and gives `{ word, left, both }`: the log-probability
 * of the word, in nats, given all that is left of it; and given all other tokens of the text, on both sides.
 *
 * words: for each word the positions of its tokens, from left to right and without a gap. A word's tokens are predicted
 *     in that order, each from the word's earlier ones, too. The start token is no word.
 */
export function* oneByOne(model, tokens, words) {
  words.forEach((word) => checkWord(tokens, word));
  const fromLeft = opinion(model, tokens);
  const session = new Session(model);
  const { known_order: knownOrder } = model.config;
  let left = 0; // how many tokens stood left of the word before
  for (const word of words) {
    // read from left to right, tokens see nothing that is behind them: those left of both words are there already
    const same = knownOrder === "left_to_right" ? Math.min(left, word[0]) : 0;
    left = word[0];
    session.keep(same);
    const given = readGiven(tokens, tokens.map((_, at) => Number(word.includes(at))), knownOrder);
    const logits = session.verify(given.slice(same), word.map((at) => [at, tokens[at]]));
    const sum = (logProb) => word.reduce((total, at, n) => total + logProb(at, n), 0);
    yield {
      word,
      left: sum((at) => fromLeft[at]),
      both: sum((at, n) => logSoftmax(logits[n])[tokens[at]]),
    };
  }
}

/**
 * The `count` words that fit worst, the worst first; each is its list of positions. What counts is `both` per token:
 * a word of more tokens is less likely in any case. Of equals, what comes first in `found` comes first.
 *
 * found: what `oneByOne` gave.
 */
export function worst(found, count) {
  const order = [...found].sort((one, other) => one.both / one.word.length - other.both / other.word.length);
  return order.slice(0, count).map(({ word }) => word);
}

function checkWord(tokens, word) {
  const inside = word.length && word[0] > 0 && word.at(-1) < tokens.length;
  if (!inside || word.some((at, n) => at !== word[0] + n)) {
    throw new Error(`[${word}] is no word: it needs positions from 1 to ${tokens.length - 1}, one after another`);
  }
}
