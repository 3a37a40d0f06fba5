"""Text to token ids and back: the one place where text meets a tokenizer.

Text is text. Where a document spells ``</s>`` or ``<|im_start|>``, a tokenizer by itself makes control tokens of it: a
false end, a false turn. ``encode`` reads letters there.

Many tokenizers (SentencePiece's, WordPiece) encode a text as if it stood at the beginning: they put a space before it.
``encode_behind`` and ``decode_behind`` are for a text that has something on its left.
"""

import string
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np

from a3mini.train.corpus import check_text
from a3mini.train.words import Words, covers

CHARACTERS = 2**20  # of text that are encoded at a time: a tokenizer needs 40 bytes for each until it is done
LETTERS = string.ascii_lowercase + string.digits  # any of them may stand for what is on the left


def encode(tokenizer, texts: Sequence[str], add_special_tokens: bool = False) -> list[list[int]]:
    """The token ids of every text; what it spells is text, even if it looks like a control token.

    Args:
        tokenizer: a Hugging Face tokenizer; it is as before afterwards.
        texts: any number.
        add_special_tokens: put what the tokenizer puts around a text of its own accord, such as a start token.

    Raises:
        TypeError: a text is not a string.
        ValueError: a text that is not Unicode; see ``corpus.check_text``.
    """
    for text in texts:
        check_text(text)
    if not texts:
        return []
    control = _control(tokenizer)
    found = _call(tokenizer, texts)["input_ids"]
    found = [
        ids if control.isdisjoint(ids) else _in_pieces(tokenizer, text, ids, control)
        for text, ids in zip(texts, found, strict=True)
    ]
    if not add_special_tokens:
        return found
    # what the tokenizer puts around a text is what it puts around a letter
    plain, around = (_call(tokenizer, LETTERS[0], add_special_tokens=add)["input_ids"][0] for add in (False, True))
    at = next(at for at in range(len(around)) if around[at : at + len(plain)] == plain)
    return [[*around[:at], *ids, *around[at + len(plain) :]] for ids in found]


def encode_each(tokenizer, texts: Iterable[str]) -> Iterator[list[np.ndarray]]:
    """As ``encode``, for any amount of text, in little memory; ids are int32.

    Yields lists: about ``CHARACTERS`` characters are encoded at a time. Where ``words`` knows how, each word is encoded
    once, which is five times as fast.
    """
    words = Words(tokenizer.backend_tokenizer, _control(tokenizer)) if covers(tokenizer) else None
    for some in _a_few(texts):
        for text in some:
            check_text(text)
        found = [None] * len(some)
        if words is not None:
            with _unchanged(tokenizer):
                words.backend.encode_special_tokens = True
                words.backend.no_truncation()
                words.backend.no_padding()
                found = words.encode(some)
        if others := [n for n, ids in enumerate(found) if ids is None]:
            for n, ids in zip(others, encode(tokenizer, [some[n] for n in others]), strict=True):
                found[n] = np.array(ids, dtype=np.int32)
        yield found


def _a_few(texts: Iterable[str]) -> Iterator[list[str]]:
    some, size = [], 0
    for text in texts:
        some.append(text)
        size += len(text)
        if size >= CHARACTERS:
            yield some
            some, size = [], 0
    if some:
        yield some


def encode_behind(tokenizer, text: str) -> list[int]:
    """The token ids of a text that stands directly behind another, whatever that is.

    They are those of the text alone where these decode to it behind a letter, as with every byte-level tokenizer. Else
    it is encoded behind a letter, and the letter is cut off: one that does not merge with what follows.
    """
    letter, alone = encode(tokenizer, [LETTERS[0], text])
    if _follows(tokenizer, letter, alone, text):
        return alone
    found = [alone]
    for before, ids in (encode(tokenizer, [letter, letter + text]) for letter in LETTERS):
        if before and ids[: len(before)] == before:
            found.append(ids[len(before) :])
            if _follows(tokenizer, before, found[-1], text):
                return found[-1]
    # a tokenizer that loses case or spaces gives no text back; its tokens in context are right all the same
    return found[1] if len(found) > 1 else alone


def split(tokenizer, text: str) -> list[str]:
    """A text cut into the words that its tokenizer cuts it into, each with the space before it; no token has two.

    Raises:
        ValueError: the tokenizer is none of bytes that cuts at spaces; see ``words.covers``.
    """
    if not covers(tokenizer):
        raise ValueError("only a byte-level tokenizer that cuts a text at its spaces can say what its words are")
    pieces = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
    return [text[start:end] for _, (start, end) in pieces]


def decode_behind(tokenizer, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
    """The text of tokens that stand behind others: with the space before the first, if it has one."""
    letter = encode(tokenizer, [LETTERS[0]])[0]
    before, whole = (decode(tokenizer, part, skip_special_tokens) for part in (letter, [*letter, *ids]))
    return whole[len(before) :] if whole.startswith(before) else decode(tokenizer, ids, skip_special_tokens)


def decode(tokenizer, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
    """The text of tokens, no space of it tidied away."""
    return tokenizer.decode(ids, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False)


def vocabulary_size(tokenizer) -> int:
    """The vocabulary that a model needs: the tokenizer's largest id and one.

    ``len(tokenizer)`` counts the tokens, which are fewer where ids are left out.
    """
    return 1 + max(tokenizer.get_vocab().values())


def no_tokens(tokenizer, vocab_size: int) -> list[int]:
    """The ids of a model's vocabulary that stand for no token, and must not be drawn; sorted."""
    return sorted(set(range(vocab_size)).difference(tokenizer.get_vocab().values()))


def _control(tokenizer) -> set[int]:
    control = {token for token, about in tokenizer.added_tokens_decoder.items() if about.special}
    return control - {tokenizer.unk_token_id}


def _call(tokenizer, texts: Sequence[str], add_special_tokens: bool = False, **options) -> dict:
    with _unchanged(tokenizer):  # no warning of texts longer than a model's context: the caller cuts them
        return tokenizer(
            list(texts), add_special_tokens=add_special_tokens, split_special_tokens=True, verbose=False,
            return_attention_mask=False, return_token_type_ids=False, **options,
        )  # fmt: skip


def _in_pieces(tokenizer, text: str, ids: list[int], control: set[int]) -> list[int]:
    """Unigram and word-level models know the names of control tokens as words: cut the text inside of these."""
    spans = _call(tokenizer, [text], return_offsets_mapping=True)["offset_mapping"][0]
    cuts = [start + 1 for token, (start, end) in zip(ids, spans, strict=True) if token in control and start + 1 < end]
    if not cuts:  # a control token of one character
        return ids
    first, *others = (text[start:end] for start, end in pairwise([0, *cuts, len(text)]))
    return encode(tokenizer, [first])[0] + [token for piece in others for token in encode_behind(tokenizer, piece)]


def _follows(tokenizer, letter: list[int], ids: list[int], text: str) -> bool:
    return decode(tokenizer, letter + ids) == decode(tokenizer, letter) + text


@contextmanager
def _unchanged(tokenizer):
    """transformers leaves the options of a call in the Rust tokenizer, where the next direct call finds them."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a tokenizer in Python
        yield
        return
    special, truncation, padding = backend.encode_special_tokens, backend.truncation, backend.padding
    try:
        yield
    finally:
        backend.encode_special_tokens = special
        if truncation:
            backend.enable_truncation(**truncation)
        if padding:
            backend.enable_padding(**padding)
