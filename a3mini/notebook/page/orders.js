// Who is predicted when: a3mini/groups.py, decode/limits.py and decode/blanks.py once more.
//
// A text is a list of tokens and a list `blank`: the number of the blank that each position belongs to, 0 where a
// token is there. `groups` says for each position when it is predicted: 0 given, 1, 2, ... in that order, -1 never.

export const GIVEN = 0;
export const PADDING = -1;

// Orders that are fixed before -----------------------------------------------------------------------

/**
 * Groups of `size` positions of the blanks: groups.infill.
 *
 * order: "left_to_right"; "random", drawn with `random`; or "strided": blank after blank, each cut into `size` pieces,
 *     and the i-th positions of the pieces are one group, for far-apart tokens tell little about each other.
 */
export function infill(blank, { size = 1, order = "left_to_right", random } = {}) {
  const groups = blank.map(() => GIVEN);
  const put = (lists) => lists.forEach((list, n) => list.forEach((position) => (groups[position] = n + 1)));
  const unknown = [...blank.keys()].filter((position) => blank[position] > 0);
  if (order === "strided") put(stretches(unknown).flatMap((stretch) => pieces(stretch, size)));
  else if (order === "random") put(chunks(shuffled(unknown, random), size));
  else if (order === "left_to_right") put(chunks(unknown, size));
  else throw new Error(`order must be left_to_right, random or strided; got ${order}`);
  return groups;
}

/** Groups in which no two blanks share one: blank after blank, each in the order of `how`. blanks.in_blanks. */
export function inTurn(blank, how = {}) {
  let last = 0;
  const groups = blank.map(() => GIVEN);
  for (const number of [...new Set(blank)].filter((number) => number > 0).sort((a, b) => a - b)) {
    const own = infill(blank.map((here) => (here === number ? 1 : 0)), how);
    own.forEach((group, position) => group > 0 && (groups[position] = group + last));
    last = Math.max(...groups);
  }
  return groups;
}

/** The given tokens as groups of [position, token]: all in one, or each in its own. groups.read_given. */
export function readGiven(tokens, blank, knownOrder) {
  const given = [...blank.keys()].filter((position) => blank[position] === 0).map((at) => [at, tokens[at]]);
  if (knownOrder === "left_to_right") return given.map((one) => [one]);
  return given.length ? [given] : [];
}

const chunks = (list, size) =>
  Array.from({ length: Math.ceil(list.length / size) }, (_, n) => list.slice(n * size, (n + 1) * size));

/** Positions, cut wherever one is left out. */
function stretches(positions) {
  const found = [];
  positions.forEach((position, n) => {
    if (position === positions[n - 1] + 1) found.at(-1).push(position);
    else found.push([position]);
  });
  return found;
}

/** The steps of a stretch cut into pieces: step i has the i-th position of each; the first pieces may be longer. */
function pieces(stretch, count) {
  const several = Math.min(count, stretch.length);
  const [short, longer] = [Math.floor(stretch.length / several), stretch.length % several];
  const steps = [];
  stretch.forEach((position, rank) => {
    const inLonger = rank < longer * (short + 1);
    const step = inLonger ? rank % (short + 1) : (rank - longer * (short + 1)) % short;
    (steps[step] ??= []).push(position);
  });
  return steps;
}

/** Fisher and Yates' shuffle. */
function shuffled(list, random) {
  const found = [...list];
  for (let i = found.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [found[i], found[j]] = [found[j], found[i]];
  }
  return found;
}

// Orders that the model chooses ------------------------------------------------------------------------

/**
 * Which of the `asked` positions are filled now: limits.Limits.choose.
 *
 * They are gone through from the surest on, by `order`: "confidence" or "entropy". The first is taken, and then each
 * that keeps to every limit, together with all that are taken already.
 *
 * sure: for each position asked `{ confidence, entropy }`, as `measured` has it.
 * size: so many at most; null: no limit but the others.
 * bound: the sum of the entropies less the largest is at most this, in nats: what drawing them independently can lose.
 * threshold: positions whose likeliest token has less than this probability are left out, where any has more.
 * apart: two are at least so far from each other.
 */
export function choose(asked, sure, { order, size = null, bound = null, threshold = null, apart = 1 }) {
  const most = size ?? (bound === null && threshold === null ? 1 : asked.length);
  // equal scores are equal up to rounding only; the leftmost of equals comes first
  const value = (n) => rounded(order === "confidence" ? sure[n].confidence : -sure[n].entropy);
  let left = [...asked.keys()].sort((n, m) => value(m) - value(n) || asked[n] - asked[m]);
  if (threshold !== null) {
    const certain = left.filter((n) => rounded(sure[n].confidence) >= rounded(threshold));
    left = certain.length ? certain : left.slice(0, 1);
  }
  const taken = [];
  let [total, largest] = [0, 0];
  for (const n of left) {
    const entropy = rounded(sure[n].entropy);
    const near = taken.some((m) => Math.abs(asked[m] - asked[n]) < apart);
    const loss = rounded(total + entropy - Math.max(largest, entropy));
    if (taken.length === most) break;
    if (near || (bound !== null && taken.length && loss > rounded(bound))) continue;
    taken.push(n);
    [total, largest] = [total + entropy, Math.max(largest, entropy)];
  }
  return taken.map((n) => asked[n]).sort((a, b) => a - b);
}

const rounded = (value) => Math.round(value * 1e6) / 1e6;

// Blanks of unknown length -----------------------------------------------------------------------------
//
// Each blank has room for so many tokens, which are drawn from left to right. One token, the end, stands for nothing:
// where it is drawn the blank ends, and what is behind it in the room is never filled.

/** How many positions of its blank stand before `position`: the end may be drawn where they are `least` or more. */
export const before = (blank, position) => position - blank.indexOf(blank[position]);

/** The positions of the room that are behind an end, if it stands at `end`. */
export const behind = (blank, end) => [...blank.keys()].filter((at) => at > end && blank[at] === blank[end]);
