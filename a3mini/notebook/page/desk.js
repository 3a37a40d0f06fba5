// What a page asks of the model, and the answers: plain objects only, for they go to a worker and back.
//
// The page holds the state, a *board*, and sends it with each question:
//
//     tokens, blank    a text with blanks; see orders.js
//     turns            what was filled, in order: each turn is a list of [position, token], drawn together
//     closed           positions behind the end of their blank: nothing will stand there
//
// So a reader may take a token out, put another in, or go back, and nothing here has to know of it. The desk keeps keys
// and values of the last board, and computes anew only what differs.
import { Model } from "./model.js";
import { readFile } from "./weights.js";
import { Tokenizer } from "./tokenizer.js";
import { predict, Session } from "./steps.js";
import { due, neverDrawn, planned, turn } from "./decoding.js";
import { round } from "./drafts.js";
import { readGiven } from "./orders.js";
import { read } from "./marked.js";
import { oneByOne, opinion, worst } from "./opinions.js";
import { logSoftmax, seeded } from "./sampling.js";

const RUNNERS_UP = 5;
const WORST = 3; // words
const ORDERS = [
  ["left to right", "left_to_right", {}],
  ["random order", "random", {}],
  ["2 at a time, far apart", "strided", { size: 2 }],
  ["4 at a time, far apart", "strided", { size: 4 }],
  ["8 at a time, far apart", "strided", { size: 8 }],
];

export class Desk {
  constructor(buffer, { wasm = true } = {}) {
    const file = readFile(buffer);
    this.model = new Model(file, { wasm });
    this.tokenizer = new Tokenizer(file.tokenizer, file.special);
    this.banned = neverDrawn(this.model, this.tokenizer);
    this.end = this.model.config.empty_token_id ?? null;
    this.ends = this.end !== null;
    this.neverShown = new Set(this.banned.filter((id) => id !== this.end));
    [this.session, this.fed] = [new Session(this.model), []];
  }

  about() {
    const { layers, heads, length, config } = this.model;
    const { start } = this.tokenizer;
    return { layers: layers.length, heads, length, start, ends: this.ends, knownOrder: config.known_order };
  }

  /** A text as words with the letters of each token; see marked.js. */
  read({ text }) {
    return read(this.tokenizer, text).map((word) => ({ ...word, letters: word.ids.map((id) => this.letters(id)) }));
  }

  letters(id) {
    return id === this.end ? "" : this.tokenizer.decode([id]);
  }

  /**
   * Fill what comes next.
   *
   * how: order, size, bound, temperature; seed, and draws: how many steps were drawn before, so that each step has its
   *     own random numbers and a board with the same history the same ones. The order "drafts" is left to right, in
   *     rounds of `size` drafts and their verification.
   * position: only this one, whatever the order; null: what the order says.
   * gaps: the numbers of the blanks that the model may end, left to right.
   *
   * Returns `{ turns, stopped, asked, drafts, rejected, passes, milliseconds }`: the turns that were made, lists of
   * tokens, each with its position and what `shown` says.
   */
  step({ board, how, position = null, gaps = [] }) {
    const { blank, turns, closed, truth = [] } = board;
    const end = gaps.length && how.order === "left_to_right" ? this.end : null;
    const banned = this.banned.filter((id) => id !== end);
    const done = new Set([...turns.flat().map(([at]) => at), ...closed]);
    const open = [...blank.keys()].filter((at) => blank[at] > 0 && !done.has(at));
    if (!open.length) throw new Error("nothing is open");
    const random = seeded(how.seed * 65537 + how.draws);
    const drafts = how.order === "drafts" && position === null;
    const order = position !== null || drafts ? "left_to_right" : how.order;
    const options = { ...how, order, end, ending: gaps, banned, random };
    const start = performance.now();
    let found;
    if (drafts) {
      found = round(this.session, this.follow(board), open.slice(0, how.size), options);
      this.fed.push(...found.positions.slice(0, -1).map((at, n) => JSON.stringify([[at, found.tokens[n]]])));
    } else {
      const asked =
        position === null ? due(open, planned(blank, { ...options, random: seeded(how.seed) })) : [position];
      found = turn(this.session, this.follow(board), asked, blank, options);
    }
    const milliseconds = performance.now() - start;
    const of = (at, n) => ({ position: at, ...this.shown(found.logits[n], found.tokens[n], truth[at]) });
    const tokens = found.positions.map(of);
    const named = (list = []) =>
      list.map(({ position: at, token }) => ({ position: at, letters: this.letters(token) }));
    return {
      turns: drafts ? tokens.map((token) => [token]) : [tokens],
      stopped: found.stopped ?? [],
      asked: (found.asked ?? []).map((at, n) => ({ position: at, ...found.sure[n] })),
      drafts: named(found.drafts),
      rejected: named(found.rejected),
      passes: found.passes ?? 1,
      milliseconds,
    };
  }

  /** What a page shows of a token: its letters and log-probability, the likeliest others, and the true one. */
  shown(logits, id, truth = null) {
    const logProbs = logSoftmax(logits);
    const one = (other) => ({ id: other, letters: this.letters(other), logProb: logProbs[other] });
    const best = [...logProbs.keys()].filter((other) => other !== id && !this.neverShown.has(other));
    best.sort((a, b) => logProbs[b] - logProbs[a]);
    return { ...one(id), runnersUp: best.slice(0, RUNNERS_UP).map(one), truth: truth === null ? null : one(truth) };
  }

  /** Bring the session to where the board is; returns the groups that are still to be put in. */
  follow({ tokens, blank, turns }) {
    const groups = [...readGiven(tokens, blank, this.model.config.known_order), ...turns];
    const names = groups.map((group) => JSON.stringify(group));
    let same = 0;
    while (same < names.length && names[same] === this.fed[same]) same += 1;
    this.session.keep(same);
    this.fed = names;
    return groups.slice(same);
  }

  /** All that is filled, scored anew in the order of the turns, in one pass: a list of lists, as `step` has tokens. */
  scored({ board }) {
    const { turns, truth = [] } = board;
    const start = performance.now();
    const found = predict(this.model, ...this.ordered(board));
    const milliseconds = performance.now() - start;
    const of = ([at, id]) => ({ position: at, ...this.shown(found.get(at), id, truth[at]) });
    return { turns: turns.map((one) => one.map(of)), milliseconds };
  }

  /** Tokens, groups and which of them are known, for `predict`; `next`: positions that come after all turns. */
  ordered({ tokens, blank, turns }, next = []) {
    const given = readGiven(tokens, blank, this.model.config.known_order);
    const groups = tokens.map(() => -1);
    const all = tokens.slice();
    [...given, ...turns, next.map((at) => [at, tokens[at]])].forEach((group, number) =>
      group.forEach(([at, id]) => ([groups[at], all[at]] = [number, id])),
    );
    return [all, groups, { known: blank.map((number) => number === 0) }];
  }

  /**
   * Where one head looks from the query row of a position, filled or open: `{ weights }`, [position, share] of each
   * token that it sees.
   */
  attention({ board, position, layer, head }) {
    const filled = board.turns.some((one) => one.some(([at]) => at === position));
    const [tokens, groups, options] = this.ordered(board, filled ? [] : [position]);
    const watch = { layer, head };
    const wanted = [...predict(this.model, tokens, groups, { ...options, watch }).keys()];
    const row = watch.query[wanted.indexOf(position)];
    return { weights: [...row].map((share, column) => [watch.columns[column], share]) };
  }

  /**
   * What the model thinks of a whole text: nats of all its tokens in several orders; then word by word what `oneByOne`
   * gives; and at the end which words fit worst. words: lists of positions.
   */
  *opinion({ tokens, words }) {
    const orders = ORDERS.map(([name, order, more]) => {
      const nats = opinion(this.model, tokens, { order, ...more, random: seeded(1) });
      return { name, nats: -nats.reduce((sum, value) => sum + value, 0) };
    });
    yield { orders, tokens: tokens.length - 1 };
    const found = [];
    for (const word of oneByOne(this.model, tokens, words)) {
      found.push(word);
      yield { word };
    }
    yield { worst: worst(found, WORST) };
  }
}

/** Answer what comes in through a port: a worker's `self`, or an end of a MessageChannel. */
export function serve(port) {
  const ready = {};
  let newest = 0; // of the questions that have many answers: a newer one ends those before it
  const answer = async ({ id, name, given }) => {
    if (name === "open") return (ready.desk = new Desk(given.buffer, given)).about();
    const found = ready.desk[name](given);
    if (typeof found?.next !== "function") return found;
    newest = id;
    for (const part of found) {
      port.postMessage({ id, part });
      await new Promise((next) => setTimeout(next));
      if (newest !== id) break;
    }
    return null;
  };
  port.onmessage = async ({ data }) => {
    try {
      port.postMessage({ id: data.id, result: await answer(data) });
    } catch (error) {
      port.postMessage({ id: data.id, error: error.message });
    }
  };
}
