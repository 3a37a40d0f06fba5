// A text some of which is marked as missing, as a reader writes it:
//
//     Tom had a red [kite]. ____ So he was happy again.
//
// Words in brackets are hidden: a blank of as many tokens as they have. ____ is a gap, and nobody says how long it is.
// A text becomes a list of words, `{ kind, text, ids }`: "given", "hidden" or "gap", the letters, and their tokens.

const GAPS = /( *)(_{3,})/g;
const BRACKETS = /\[([^[\]]+)\]/g;

export function read(tokenizer, text) {
  const words = [];
  let from = 0;
  for (const gap of text.matchAll(GAPS)) {
    words.push(...between(tokenizer, text.slice(from, gap.index)));
    words.push({ kind: "gap", text: gap[0], ids: [] }); // with the spaces before it: what fills it brings its own
    from = gap.index + gap[0].length;
  }
  return [...words, ...between(tokenizer, text.slice(from))];
}

/** The words of a text without gaps. A word is hidden if a bracket has any of its letters. */
function between(tokenizer, text) {
  let [plain, from] = ["", 0];
  const hidden = [];
  for (const mark of text.matchAll(BRACKETS)) {
    plain += text.slice(from, mark.index);
    hidden.push([plain.length, plain.length + mark[1].length]);
    plain += mark[1];
    from = mark.index + mark[0].length;
  }
  plain += text.slice(from);
  let start = 0;
  return tokenizer.split(plain).map((word) => {
    const end = start + word.length;
    const letters = word.trim() ? start + word.length - word.trimStart().length : start;
    start = end;
    const inside = hidden.some(([low, high]) => low < end && letters < high);
    return { kind: inside ? "hidden" : "given", text: word, ids: tokenizer.encode(word) };
  });
}

/** The text again; `read` of it gives the same words. */
export function write(words) {
  let text = "";
  words.forEach(({ kind, text: word }, n) => {
    const [opens, closes] = [-1, 1].map((step) => kind === "hidden" && words[n + step]?.kind !== "hidden");
    const space = opens && word.trim() ? word.length - word.trimStart().length : 0;
    text += word.slice(0, space) + (opens ? "[" : "") + word.slice(space) + (closes ? "]" : "");
  });
  return text;
}

/**
 * Words as positions: `{ tokens, blank, word, truth }`, lists of equal length; see orders.js for the first two.
 * word: the number of the word at each position, -1 for the start token. truth: what a hidden position held, else null.
 * room: how many positions a gap has.
 */
export function layOut(words, start, room) {
  const found = { tokens: [start], blank: [0], word: [-1], truth: [null] };
  let number = 0;
  words.forEach(({ kind, ids }, n) => {
    if (kind === "gap" || (kind === "hidden" && words[n - 1]?.kind !== "hidden")) number += 1;
    const here = kind === "gap" ? Array(room).fill(start) : ids;
    found.tokens.push(...here.map((id) => (kind === "given" ? id : start)));
    found.blank.push(...here.map(() => (kind === "given" ? 0 : number)));
    found.word.push(...here.map(() => n));
    found.truth.push(...here.map((id) => (kind === "hidden" ? id : null)));
  });
  return found;
}
