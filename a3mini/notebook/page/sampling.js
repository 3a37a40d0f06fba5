// From logits to a token, as a3mini/decode/sampling.py: what is banned, how sharp, how much of the tail; then the draw.

/**
 * A generator of random numbers from 0 up to 1, the same ones for the same seed: "mulberry32", of 32 bits, by Tommy
 * Ettinger. Good enough for draws; do not keep secrets with it.
 */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Logits in which the tokens `banned` can never be drawn. */
export function allowed(logits, banned = []) {
  if (!banned.length) return logits;
  const found = logits.slice();
  for (const token of banned) found[token] = -Infinity;
  return found;
}

/** The logarithms of the probabilities that logits stand for; a Float32Array, as these. */
export function logSoftmax(logits) {
  const largest = logits.reduce((one, other) => Math.max(one, other), -Infinity);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - largest);
  const total = largest + Math.log(sum);
  return logits.map((logit) => logit - total);
}

/** How sure a distribution is: the probability of the likeliest token, and the entropy in nats. */
export function measured(logits) {
  let [confidence, entropy] = [0, 0];
  for (const logProb of logSoftmax(logits)) {
    const p = Math.exp(logProb);
    confidence = Math.max(confidence, p);
    if (p > 0) entropy -= p * logProb;
  }
  return { confidence, entropy };
}

/** The likeliest token; the first of equals. */
export const likeliest = (logits) => logits.reduce((best, logit, token) => (logit > logits[best] ? token : best), 0);

/**
 * The distribution that a token is drawn from. Temperature 0 has all of it on the likeliest token. `topP`: only the
 * likeliest tokens that together have this probability.
 */
export function probabilities(logits, { temperature = 1, topP = 1, banned = [] } = {}) {
  if (temperature === 0) {
    const best = likeliest(allowed(logits, banned));
    return logits.map((_, token) => (token === best ? 1 : 0));
  }
  const found = logSoftmax(allowed(logits, banned).map((logit) => logit / temperature)).map(Math.exp);
  if (topP >= 1) return found;
  const order = [...found.keys()].sort((one, other) => found[other] - found[one]);
  const kept = new Float32Array(found.length);
  let sum = 0;
  for (const token of order) {
    if (sum >= topP) break;
    kept[token] = found[token];
    sum += found[token];
  }
  return kept.map((p) => p / sum);
}

/** One token; `random` gives numbers from 0 up to 1, as `seeded`. Temperature 0 is greedy: the likeliest token. */
export function draw(logits, random, how = {}) {
  if (how.temperature === 0) return likeliest(allowed(logits, how.banned));
  return pick(probabilities(logits, how), random);
}

/** One token from a distribution, which need not sum to 1. */
export function pick(chances, random) {
  let [left, token] = [random() * chances.reduce((sum, p) => sum + p, 0), -1];
  for (let next = 0; next < chances.length && left >= 0; next++) {
    if (chances[next] === 0) continue; // what cannot be drawn is never the last one left by rounding
    left -= chances[next];
    token = next;
  }
  return token;
}
