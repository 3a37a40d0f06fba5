// What is asked of the model: one pass over a whole text, or a text that is filled step by step.
import { Cache, FROM_VECTOR } from "./model.js";
import { logSoftmax } from "./sampling.js";

// Query rows that start warm: rows.Starts ---------------------------------------------------------

/**
 * What the query rows at `positions` start from. With `query_start` "previous" it is the embedding of the token before,
 * at that token's position, where `before(position, row)` gives it: it has to stand in an earlier group. Else it is w.
 */
function queryRows(model, positions, before, sees) {
  const warm = model.config.query_start === "previous";
  const tokens = positions.map((position, row) => (warm ? (before(position, row) ?? FROM_VECTOR) : FROM_VECTOR));
  return { tokens, positions: positions.map((position, i) => position - (tokens[i] === FROM_VECTOR ? 0 : 1)), sees };
}

// One pass over a whole text: objective.log_likelihood ------------------------------------------------

/**
 * Logits at each predicted position, from one pass: a Map from position to logits.
 *
 * groups: -1 padding, 0 given, 1, 2, ... predicted in that order; see a3mini/groups.py.
 * known: true where a token is there and joins its group without being predicted; default: nowhere.
 */
export function predict(model, tokens, groups, { known = [], watch = null } = {}) {
  checkText(model, tokens, groups);
  const all = [...groups.keys()];
  const wanted = all.filter((i) => groups[i] > 0 && !known[i]);
  const last = Math.max(0, ...wanted.map((i) => groups[i])); // nobody looks at this group, or beyond it
  const content = all.filter((i) => groups[i] >= 0 && groups[i] < last).sort((i, j) => groups[i] - groups[j] || i - j);
  const columns = (group) => content.filter((i) => groups[i] <= group).length; // those of groups up to this one
  const before = (i) => (groups[i - 1] >= 0 && groups[i - 1] < groups[i] ? tokens[i - 1] : undefined);
  const hidden = model.run(
    new Cache(model),
    { tokens: content.map((i) => tokens[i]), positions: content, sees: content.map((i) => columns(groups[i])) },
    queryRows(model, wanted, before, wanted.map((i) => columns(groups[i] - 1))),
    watch,
  );
  const logits = model.logits(hidden, wanted.length);
  return new Map(wanted.map((position, n) => [position, logits[n]]));
}

/** The log-probability of each token given all earlier groups, in nats; 0 where nothing is predicted. */
export function score(model, tokens, groups, options = {}) {
  const found = new Float32Array(tokens.length);
  for (const [i, logits] of predict(model, tokens, groups, options)) found[i] = logSoftmax(logits)[tokens[i]];
  return found;
}

// Step by step: decode/steps.py ----------------------------------------------------------------------

/** A text being filled. Nothing that is there is computed twice. */
export class Session {
  constructor(model) {
    this.model = model;
    this.cache = new Cache(model);
    this.tokens = Array(model.length).fill(null); // what stands at each position
    this.ends = []; // how many columns there are at the end of each group
  }

  /**
   * Put tokens in and ask for others.
   *
   * filled: the groups that were filled since the last step, in order; each is a list of [position, token].
   * wanted: positions; each sees all that is filled.
   * watch: see `Model.run`.
   *
   * Returns a list: the logits of each wanted position.
   */
  step(filled, wanted, watch = null) {
    this.checkOpen([...filled.flat().map(([position]) => position), ...wanted]);
    return this.pass(filled, wanted, wanted.map(() => filled.length), watch);
  }

  /**
   * Put tokens in and ask what the model thinks of a chain of others, in one pass. The chain is a list of
   * [position, token], in order: each is predicted from all that is filled and the chain's earlier ones.
   *
   * The chain, but for its last token, is in then, each token a group of its own; `keep` takes out what shall not stay.
   *
   * Returns a list: the logits at each position of the chain.
   */
  verify(filled, chain) {
    const wanted = chain.map(([position]) => position);
    this.checkOpen([...filled.flat().map(([position]) => position), ...wanted]);
    const singles = chain.slice(0, -1).map((one) => [one]); // nobody is predicted from the last
    return this.pass([...filled, ...singles], wanted, wanted.map((_, n) => filled.length + n));
  }

  /** One pass: `wanted[n]` is predicted from all that was there before and the first `after[n]` groups of `filled`. */
  pass(filled, wanted, after, watch = null) {
    const all = filled.flat();
    all.forEach(([, token]) => checkToken(this.model, token));
    const groups = this.ends.length;
    const content = { tokens: all.map(([, token]) => token), positions: all.map(([position]) => position), sees: [] };
    for (const group of filled) {
      const end = (this.ends.at(-1) ?? 0) + group.length;
      this.ends.push(end);
      content.sees.push(...group.map(() => end));
    }
    all.forEach(([position, token]) => (this.tokens[position] = token));
    const sees = after.map((count) => this.ends[groups + count - 1] ?? 0);
    const columns = [...this.cache.positions, ...content.positions];
    const seen = (position, row) => columns.slice(0, sees[row]).includes(position);
    const before = (position, row) => (seen(position - 1, row) ? this.tokens[position - 1] : undefined);
    const query = queryRows(this.model, wanted, before, sees);
    return this.model.logits(this.model.run(this.cache, content, query, watch), wanted.length);
  }

  /** Take groups out again, all but the first `count`. */
  keep(count) {
    this.ends.splice(count);
    const columns = this.ends.at(-1) ?? 0;
    for (const position of this.cache.positions.slice(columns)) this.tokens[position] = null;
    this.cache.keep(columns);
  }

  checkOpen(positions) {
    const wrong = positions.find((position) => !(position in this.tokens) || this.tokens[position] !== null);
    if (wrong !== undefined) throw new Error(`position ${wrong} is not open: it holds a token, or there is none`);
    if (new Set(positions).size < positions.length) throw new Error("a position is named twice");
  }
}

// What is wrong --------------------------------------------------------------------------------------

function checkToken(model, token) {
  if (!(token >= 0 && token < model.embedding.rows)) {
    throw new Error(`token ${token} is outside the vocabulary 0 .. ${model.embedding.rows - 1}`);
  }
}

function checkText(model, tokens, groups) {
  const { length } = tokens;
  if (length !== groups.length) throw new Error(`${length} tokens need as many groups, not ${groups.length}`);
  if (length > model.length) throw new Error(`the text has ${length} tokens, but the model takes ${model.length}`);
  tokens.forEach((token, i) => groups[i] >= 0 && checkToken(model, token));
}
