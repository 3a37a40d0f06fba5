// Drafts in parallel, verified one by one in a single pass: decode/speculative.py once more, for one text.
//
// Tokens drawn in parallel do not know of each other, so their joint distribution is wrong. Here they are drafts. With
// the order fixed before, x_1, x_2, ... are the next tokens in it, and a round takes two passes:
//
//     1  draft    p_i = P(x_i | filled) for the next few positions at once; draw all of them
//     2  verify   q_i = P(x_i | filled, x_1, ..., x_(i-1)) of all of them in one pass
//
// Draft i is accepted with probability min(1, q_i(x_i) / p_i(x_i)). At the first that is not, the token is drawn from
// the residual, max(0, q_i - p_i), and the drafts behind it are dropped. What is filled has exactly the distribution of
// one-by-one decoding. The first draft has q_1 = p_1 and needs no verification. So a round of two passes gives at least
// two tokens, a lone last token takes one pass, and there are never more passes than tokens.
import { Session } from "./steps.js";
import { infill, readGiven } from "./orders.js";
import { logSoftmax, pick, probabilities } from "./sampling.js";

/**
 * Fill the blanks. A generator: it stops after each round, and gives
 *
 *     { positions, tokens, logProbs, logits }    what was filled, in order: the first draft, the accepted ones, and
 *                                                what stands in place of the one that failed. The logits are the
 *                                                model's own and exact, those of q_i; so are the logProbs
 *     drafts                                     all drafts, `{ position, token }` each
 *     rejected                                   those that are not kept: the one that failed, and all behind it
 *     passes                                     of this round: 1 or 2
 *
 * draft: how many positions are drafted in a round. 1 is one by one.
 * order, size: "left_to_right", "random", "strided"; see `infill`. Groups of several are read from left to right.
 * temperature, topP, banned: see `probabilities`. random: from `seeded`; not used at temperature 0.
 * knownOrder: how given tokens read each other; default: as in the training.
 */
export function* drafted(model, tokens, blank, options = {}) {
  const { draft = 4, order = "left_to_right", size = 1, knownOrder = model.config.known_order } = options;
  if (!(draft >= 1)) throw new Error(`draft must be at least 1; got ${draft}`);
  const random = options.temperature === 0 ? () => 0.5 : options.random; // greedy: all chances are 0 or 1
  const groups = infill(blank, { size, order, random: options.random });
  const left = [...blank.keys()].filter((position) => blank[position] > 0);
  left.sort((one, other) => groups[one] - groups[other] || one - other);
  const session = new Session(model);
  let filled = readGiven(tokens, blank, knownOrder);
  while (left.length) {
    // draft
    const ahead = left.slice(0, draft);
    const logits = session.step(filled, ahead); // of the first they are exact already
    const p = logits.map((of) => probabilities(of, options));
    const drafts = ahead.map((position, n) => [position, pick(p[n], random)]);
    const before = session.ends.length;

    // verify
    const kept = drafts.slice(0, 1);
    if (drafts.length > 1) logits.splice(1, drafts.length, ...session.verify([kept], drafts.slice(1)));
    let failed = false;
    for (let n = 1; n < drafts.length && !failed; n++) {
      const [position, token] = drafts[n];
      const q = probabilities(logits[n], options);
      failed = random() * p[n][token] >= q[token];
      kept.push(failed ? [position, pick(residual(q, p[n]), random)] : drafts[n]);
    }

    // the last that is kept comes in with the next round; whatever stands behind the others does not last
    session.keep(before + kept.length - 1);
    filled = [kept.slice(-1)];
    left.splice(0, kept.length);
    const named = (list) => list.map(([position, token]) => ({ position, token }));
    yield {
      positions: kept.map(([position]) => position),
      tokens: kept.map(([, token]) => token),
      logProbs: kept.map(([, token], n) => logSoftmax(logits[n])[token]),
      logits: logits.slice(0, kept.length),
      drafts: named(drafts),
      rejected: named(drafts.slice(failed ? kept.length - 1 : kept.length)),
      passes: drafts.length > 1 ? 2 : 1,
    };
  }
}

/** What q has more than p. Where that is nothing, they differ by rounding, and it is q. */
function residual(q, p) {
  const more = q.map((chance, token) => Math.max(0, chance - p[token]));
  return more.some((chance) => chance > 0) ? more : q;
}
