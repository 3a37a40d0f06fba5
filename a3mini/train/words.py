"""Much text to token ids, fast: a byte-level tokenizer cuts text at spaces before anything else, so each word is
encoded once, and looked up ever after.

Tokenizers such as GPT-2's, Llama 3's, Qwen's and this package's own cut a text into pieces by a regular expression,
and merge bytes inside of a piece alone. In each of the expressions known here no piece holds a space behind anything
that is not white space, and what a piece matches is decided by no character behind such a space. So a text may be cut
there, and its parts encoded one by one: the ids are the same. ``tokens`` encodes whatever is not of this kind.
"""

import json
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from tokenizers import pre_tokenizers

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
BEHIND_LETTERS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
EXPRESSIONS = {  # that are known to cut at a space behind a character; ByteLevel's own, GPT-2's, is another
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{BEHIND_LETTERS}": "Llama 3",
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{BEHIND_LETTERS}": "Qwen 2 and 3",
}
CUT = re.compile(r"(?<=\S) ")
KEPT = 2**25  # characters of words that are remembered, each word counted as 24 more: at most some 250 MB
AT_A_TIME = 2**14  # characters of new words in one text, so that several threads have one each
WHITE, CONTROL = 1, 2  # what is the matter with a word: no cut behind it is allowed; it spells a control token


def covers(tokenizer) -> bool:
    """Whether the texts of a tokenizer may be cut at spaces. A kind that is not known here may not."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a tokenizer in Python
        return False
    found = json.loads(backend.to_str())
    model, steps = found["model"], found["pre_tokenizer"] or {"type": "none"}
    glued = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    if model["type"] != "BPE" or any(model.get(name) for name in glued):
        return False
    if found["normalizer"] not in (None, {"type": "NFC"}):  # which never reaches over a space
        return False
    if not all(token["special"] for token in found["added_tokens"]):  # these are found before the text is cut
        return False
    *before, last = steps["pretokenizers"] if steps["type"] == "Sequence" else [steps]
    splits = [step for step in before if step["type"] != "Digits"]  # digits are no spaces
    known = all(
        step["type"] == "Split" and step["pattern"].get("Regex") in EXPRESSIONS
        and step["behavior"] == "Isolated" and not step["invert"] for step in splits
    )  # fmt: skip
    return last["type"] == "ByteLevel" and not last["add_prefix_space"] and known and bool(splits or last["use_regex"])


class Words(dict):
    """Every word seen so far, as it stands behind a space, to its number; and the ids of all words.

    Args:
        backend: the Rust tokenizer of one that ``covers`` allows; it must take control tokens in a text for letters,
            and neither truncate nor pad.
        control: ids that no text may have.
    """

    def __init__(self, backend, control: set[int]):
        self.backend = backend
        vocabulary, alphabet = backend.get_vocab(), set(pre_tokenizers.ByteLevel.alphabet())
        size = 1 + max(*vocabulary.values(), *control, 0)
        self.is_control = np.isin(np.arange(size), list(control))
        self.bytes_of = np.zeros(size, dtype=np.int64)  # of each token
        for token, number in vocabulary.items():
            self.bytes_of[number] = len(token) if alphabet.issuperset(token) else 0  # each letter is a byte
        self.normal = backend.normalizer.normalize_str if backend.normalizer else str
        self._forget()

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        self.new.append(word)
        self.size += len(word) + 24
        return number

    def encode(self, texts: Sequence[str]) -> list[np.ndarray | None]:
        """The ids of every text, int32; None for one that spells a control token."""
        if self.size > KEPT:
            self._forget()
        heads, tails, numbers = [], [""] * len(texts), []
        for text in texts:
            head, *words = text.split(" ")
            heads.append(head)
            numbers.append(self._numbers(words))
        self._learn()
        for n, text in enumerate(texts):
            head = heads[n]
            if len(numbers[n]) and (not head or head[-1].isspace() or (self.flags[numbers[n]] & WHITE).any()):
                # in a run of spaces only the first may be cut at, and the last word may end with white space
                heads[n], *words = CUT.split(text)
                tails[n] = " " + words.pop() if words else ""
                numbers[n] = self._numbers(words)
        self._learn()
        edges = [
            np.array(one.ids, dtype=np.int32)
            for one in self.backend.encode_batch_fast(heads + tails, add_special_tokens=False)
        ]
        return [
            self._whole(head, own, tail)
            for head, own, tail in zip(edges[: len(texts)], numbers, edges[len(texts) :], strict=True)
        ]

    def _numbers(self, words: list[str]) -> np.ndarray:
        return np.fromiter(map(self.__getitem__, words), dtype=np.int64, count=len(words))

    def _whole(self, head: np.ndarray, numbers: np.ndarray, tail: np.ndarray) -> np.ndarray | None:
        if (self.flags[numbers] & CONTROL).any() or any(self.is_control[edge].any() for edge in (head, tail)):
            return None
        starts, counts = self.starts[numbers], self.counts[numbers]
        # the n-th token of all words stands in ``ids`` behind the first of its word
        place = np.repeat(starts - counts.cumsum() + counts, counts)
        place += np.arange(len(place))
        return np.concatenate((head, self.ids[place], tail))

    def _forget(self) -> None:
        self.clear()
        self.new: list[str] = []
        self.size = 0
        self.ids = np.zeros(0, dtype=np.int32)  # of all words, one word after the other
        self.starts, self.counts = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)  # of each word in them
        self.flags = np.zeros(0, dtype=np.int8)

    def _learn(self) -> None:
        """Encode the new words, many in one text, which is cut again where their bytes end."""
        if not self.new:
            return
        flags = np.array([WHITE * (not word or word[-1].isspace()) for word in self.new], dtype=np.int8)
        encoded = [word for word, flag in zip(self.new, flags, strict=True) if not flag]
        counts, found = np.zeros(len(flags), dtype=np.int64), np.zeros(0, dtype=np.int32)
        if encoded:
            found, counts[flags == 0] = self._encoded(encoded)
        owner = np.repeat(np.arange(len(flags)), counts)
        flags[owner[self.is_control[found]]] |= CONTROL
        self.starts = np.concatenate((self.starts, len(self.ids) + counts.cumsum() - counts))
        self.counts, self.flags = np.concatenate((self.counts, counts)), np.concatenate((self.flags, flags))
        self.ids = np.concatenate((self.ids, found))
        self.new = []

    def _encoded(self, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of words, one after the other, and how many each has."""
        sizes = np.array([1 + len(w if w.isascii() else self.normal(w).encode()) for w in words], dtype=np.int64)
        text_of = sizes.cumsum() // AT_A_TIME
        edges = [0, *(np.flatnonzero(np.diff(text_of)) + 1).tolist(), len(words)]
        texts = ["".join(f" {word}" for word in words[start:end]) for start, end in pairwise(edges)]
        batch = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        ids = np.concatenate([np.array(one.ids, dtype=np.int32) for one in batch])
        ends, reached = sizes.cumsum(), self.bytes_of[ids].cumsum()
        last = np.searchsorted(reached, ends)
        if reached[-1] == ends[-1] and np.array_equal(reached[last], ends):
            return ids, np.diff(last + 1, prepend=0)
        # a token that is no bytes, or holds parts of two words: then each word by itself
        batch = self.backend.encode_batch_fast([f" {word}" for word in words], add_special_tokens=False)
        one_each = [np.array(one.ids, dtype=np.int32) for one in batch]
        return np.concatenate(one_each), np.array([len(ids) for ids in one_each])
