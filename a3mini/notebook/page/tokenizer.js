// Text to token ids and back: byte-level BPE, as data.train_tokenizer makes it and the library `tokenizers` runs it.
//
// A text is cut into words, each with the space before it. A word becomes the bytes of its UTF-8, and each byte a
// letter: tokens are written in those. Then the two neighbours that were merged first in the training are merged, again
// and again, until none of the pairs was ever merged. Every text can be encoded, and decodes to itself.

// Ends of English words, letters, digits, other signs, spaces. JavaScript's own \s is another set than Unicode's.
const SPACE = "\\p{White_Space}";
const WORD = new RegExp(
  `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${SPACE}\\p{L}\\p{N}]+|${SPACE}+(?!\\P{White_Space})|${SPACE}+`,
  "gu",
);

/** The letter of each byte: itself where it is a visible one of Latin-1, else one from 256 on. */
function letters() {
  const visible = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 255 && byte !== 173);
  let hidden = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(visible(byte) ? byte : 256 + hidden++));
}

const LETTERS = letters();
const BYTES = new Map(LETTERS.map((letter, byte) => [letter, byte]));

export class Tokenizer {
  /** `file` is tokenizer.json, and `special` the names of special tokens, both as objects; see weights.js. */
  constructor(file, special) {
    const { model, pre_tokenizer: cut, normalizer, added_tokens: added } = file;
    const known = model.type === "BPE" && cut?.type === "ByteLevel" && !cut.add_prefix_space && cut.use_regex;
    if (!known || normalizer || model.ignore_merges || model.byte_fallback || added.some((token) => !token.special)) {
      throw new Error("this tokenizer is no byte-level BPE as train_tokenizer makes it; the page cannot read it");
    }
    this.vocabulary = new Map(Object.entries(model.vocab));
    this.texts = new Map([...this.vocabulary].map(([token, id]) => [id, token]));
    for (const { id, content } of added) this.texts.set(id, content);
    this.special = new Set(added.map(({ id }) => id));
    this.ranks = new Map(model.merges.map((pair, rank) => [pair.join(" "), rank]));
    const id = (name) => added.find(({ content }) => content === (special[name]?.content ?? special[name]))?.id;
    [this.start, this.end] = [id("bos_token") ?? id("eos_token"), id("eos_token") ?? id("bos_token")];
    this.words = new Map(); // the tokens of words met before
  }

  /** A text cut into its words; no token has letters of two. */
  split(text) {
    return text.match(WORD) ?? [];
  }

  /** The token ids of a text. What it spells is text, even if it looks like a special token. */
  encode(text) {
    return this.split(text).flatMap((word) => {
      if (!this.words.has(word)) this.words.set(word, this.merged(word));
      return this.words.get(word);
    });
  }

  merged(word) {
    const parts = [...new TextEncoder().encode(word)].map((byte) => LETTERS[byte]);
    for (;;) {
      let [first, at] = [Infinity, 0];
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = this.ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
        if (rank < first) [first, at] = [rank, i]; // the leftmost of equals
      }
      if (first === Infinity) return parts.map((part) => this.vocabulary.get(part));
      parts.splice(at, 2, parts[at] + parts[at + 1]);
    }
  }

  /** The text of tokens, without the special ones. Bytes that are no whole character become U+FFFD. */
  decode(ids) {
    const written = ids.filter((id) => !this.special.has(id)).map((id) => this.texts.get(id) ?? "");
    const bytes = Uint8Array.from([...written.join("")].map((letter) => BYTES.get(letter)));
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes); // a mark at the beginning is text, too
  }
}
