"""words.py: the same ids as of the whole text, for every expression it knows; what it does not know, it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import KINDS, TEXT, with_holes
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from a3mini.train import data, tokens, words

RUNS = ["  ", " ", "\n", "\n\n", ".", ".\n", "a", "a ", "'", "'s", "1", "12", "\t"]
LONGER = TEXT * 3 + " it's the cat's 2024, 12345 -- ...\n\nWhy?\n  The  end.\t\tA b.\r\n"


def _learned() -> Tokenizer:
    """Merges across everything, spaces too: so a cut in another place gives other tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = list(data.SPECIAL_TOKENS.values())
    runs = [a + b for a in RUNS for b in RUNS]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=special, initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator([*runs * 9, *LONGER.split(".")], trainer)
    return tokenizer


def changed(**parts) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with other parts; its expression is GPT-2's."""
    backend = _learned()
    parts = {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=False)} | parts
    for name, part in parts.items():
        setattr(backend, name, part)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **data.SPECIAL_TOKENS)


def splitting(expression: str, behavior: str = "isolated") -> PreTrainedTokenizerFast:
    first = pre_tokenizers.Split(Regex(expression), behavior)
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return changed(pre_tokenizer=pre_tokenizers.Sequence([first, last]))


DIGITS = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
COVERED = {
    "gpt_2": changed(),
    "with_holes": with_holes(),
    "smollm": changed(pre_tokenizer=pre_tokenizers.Sequence(DIGITS)),
    **{name: splitting(expression) for expression, name in words.EXPRESSIONS.items()},
    "nfc": changed(normalizer=normalizers.NFC()),
}
every_kind = pytest.mark.parametrize("name", COVERED)
some_text = st.lists(
    st.sampled_from([*"ab1,.'’-\n\r\t \u00a0\u2003\x1c猫é", "  ", " \n", "'s", " the", "cat", "e\u0301", "</s>"])
    | st.characters(exclude_categories=["Cs"]),
    max_size=30,
).map("".join)  # fmt: skip


def each(tokenizer, texts) -> list[list[int]]:
    return [ids.tolist() for some in tokens.encode_each(tokenizer, texts) for ids in some]


@every_kind
@settings(max_examples=60, deadline=None)
@given(st.lists(some_text, min_size=1, max_size=4))
def test_words_are_encoded_as_in_their_text(name, texts):
    """Oracle: the texts whole."""
    assert words.covers(COVERED[name])
    assert each(COVERED[name], texts) == tokens.encode(COVERED[name], texts)


@every_kind
def test_longer_texts(name, monkeypatch):
    texts = [
        LONGER,
        LONGER.replace(".", ".  "),
        "",
        " ",
        " a",
        "a ",
        LONGER * 20,
        LONGER.replace(" ", "\n "),
        "x" * 999,
    ]
    expected = tokens.encode(COVERED[name], texts * 2)
    assert each(COVERED[name], texts * 2) == expected
    monkeypatch.setattr(tokens, "CHARACTERS", 50)
    monkeypatch.setattr(words, "AT_A_TIME", 7)
    assert each(COVERED[name], texts * 2) == expected
    monkeypatch.setattr(words, "KEPT", 100)  # now they are forgotten again and again
    assert each(COVERED[name], texts * 2) == expected


def test_each_word_is_encoded_once(monkeypatch):
    encoded, right = [], words.Words._encoded
    monkeypatch.setattr(words.Words, "_encoded", lambda self, new: encoded.extend(new) or right(self, new))
    each(COVERED["gpt_2"], ["The cat sat on the cat"] * 3)
    assert encoded == ["cat", "sat", "on", "the"]


def test_the_oracle_catches_a_cut_inside_of_a_run_of_spaces(monkeypatch):
    monkeypatch.setattr(words, "WHITE", 0)
    text = ["The cat   sat"]
    assert each(COVERED["gpt_2"], text) != tokens.encode(COVERED["gpt_2"], text)


def test_where_bytes_cannot_be_counted_words_are_encoded_one_by_one(monkeypatch):
    expected = tokens.encode(COVERED["gpt_2"], [LONGER])
    right = words.Words.__init__

    def unknown(self, *arguments):
        right(self, *arguments)
        self.bytes_of[:] = 0

    monkeypatch.setattr(words.Words, "__init__", unknown)
    assert each(COVERED["gpt_2"], [LONGER]) == expected


def test_a_word_that_spells_a_control_token_is_left_to_others():
    """A vocabulary that makes one of letters, for its name is a word that the text has, too."""
    backend = changed().backend_tokenizer
    assert "cat" in backend.get_vocab()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="cat")
    assert words.covers(tokenizer)
    texts = ["The (cat sat", "cat", "The  (cat sat", "The sat (cat ", "The dog ran"]
    spelled = [tokenizer.eos_token_id in ids for ids in tokens._call(tokenizer, texts)["input_ids"]]
    assert spelled == [True, True, True, True, False], "otherwise this test shows nothing"
    assert each(tokenizer, texts) == tokens.encode(tokenizer, texts)
    assert not any(tokenizer.eos_token_id in ids for ids in each(tokenizer, texts))
    maker = words.Words(backend, {tokenizer.eos_token_id})
    backend.encode_special_tokens = True
    assert [ids is None for ids in maker.encode(texts)] == spelled


def test_the_tokenizer_is_as_before():
    tokenizer = changed()
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(4)
    backend.enable_padding(length=9)
    state = backend.to_str(), backend.truncation, backend.padding, backend.encode_special_tokens
    assert each(tokenizer, [TEXT]) == tokens.encode(tokenizer, [TEXT]) and len(each(tokenizer, [TEXT])[0]) > 9
    assert (backend.to_str(), backend.truncation, backend.padding, backend.encode_special_tokens) == state


def added(text: str) -> PreTrainedTokenizerFast:
    tokenizer = changed()
    tokenizer.add_tokens([text])
    return tokenizer


@pytest.mark.parametrize(
    "tokenizer",
    [
        *(KINDS[name]() for name in ("sentence_piece", "llama_2", "word_piece")),
        ByT5Tokenizer(),
        added("the cat"),
        changed(normalizer=normalizers.Lowercase()),
        changed(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True)),
        changed(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)),
        changed(pre_tokenizer=pre_tokenizers.Whitespace()),
        splitting(r".{3}"),
        splitting(next(iter(words.EXPRESSIONS)), "removed"),
    ],
    ids=lambda tokenizer: "",
)
def test_what_is_not_known_is_refused(tokenizer):
    assert not words.covers(tokenizer)
    assert each(tokenizer, [LONGER]) == tokens.encode(tokenizer, [LONGER])


def test_ids_are_arrays():
    (found,) = tokens.encode_each(COVERED["gpt_2"], ["a b", "</s>"])
    assert all(isinstance(ids, np.ndarray) and ids.dtype == np.int32 for ids in found)
