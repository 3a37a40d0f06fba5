"""Text to tokens in the page: the ids of `tokenizers`, whatever the text; and every text comes back."""

import json
import sys
import unicodedata

import pytest
import small_tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from page_engines import JavaScriptError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from a3mini import pretrained
from a3mini.train import data
from a3mini.train.tokens import decode, encode

# Characters that this Python knows: engines may know newer ones, whose kind an older table does not say.
ASSIGNED = st.characters(exclude_categories=("Cs", "Cn"))
ODD = [
    "",
    " ",
    "Once upon a time there was a little cat. It's Tom's, isn't it? They'll, I'd, we've, you're, I'M",
    "   many   spaces    \n\n\n and\tlines \r\n of CRLF\r\n\r\n  ",
    "👩‍👩‍👧‍👦🏳️‍🌈 flags 🇩🇪🇫🇷 and é é ẛ̣ q̣̇ combining",
    "0 12 345 6789 ½ Ⅷ ٣٤ ४५ 1,000.50 3rd x2",
    "<s></s><pad> <s> text </s>",
    "\ufeffa mark at the beginning, \u0085 \u00a0 \u2003 \u3000 \u200b \u2028 \u1680 spaces",
    "日本語 한국어 עברית العربية ไทย हिन्दी Ελληνικά Кириллица",
    "\0\x01\x7f\x80\x9f\xad controls",
    "a" * 300 + "!" * 50 + " " * 70 + "é" * 40,
    "constructor __proto__ toString hasOwnProperty",
]
# Texts in which every kind of character stands beside every other: that tells how a pattern cuts them.
KNOWN = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) not in ("Cs", "Cn", "Co")]
SOME = [one for n, one in enumerate(KNOWN) if n % 100 == 0 or ord(one) < 0x400 or 0x2000 <= ord(one) < 0x2100]
PIECES = [f"a{one}1{one} {one}{one} !{one}a" for one in [*SOME, "\u1680", "\u3000", "\ufeff"]]
ENCODE = "({ name, texts }) => texts.map((text) => made[name].encode(text))"
DECODE = "({ name, rows }) => rows.map((ids) => made[name].decode(ids))"
MAKE = "({ name, file, special }) => void ((globalThis.made ??= {})[name] = new p.Tokenizer(file, special))"


def greedy() -> PreTrainedTokenizerFast:
    """One whose merges go across words, so that its tokens tell where a word ends."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    special = list(data.SPECIAL_TOKENS.values())
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=6000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["aaaa 'S'll I'm''t  \n\n b", *PIECES] * 2, trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **data.SPECIAL_TOKENS)


@pytest.fixture(scope="module")
def tokenizers(engine):
    found = {"small": small_tokenizers.byte_level(), "compact": pretrained.compact_model()[1], "greedy": greedy()}
    found["holes"] = small_tokenizers.with_holes()
    for name, tokenizer in found.items():
        file = json.loads(tokenizer.backend_tokenizer.to_str())
        engine(MAKE, {"name": name, "file": file, "special": dict(tokenizer.special_tokens_map)})
    return found


def assert_same(engine, name: str, tokenizer, texts: list[str]) -> None:
    wanted = encode(tokenizer, texts)
    assert engine(ENCODE, {"name": name, "texts": texts}) == wanted
    assert engine(DECODE, {"name": name, "rows": wanted}) == texts


@pytest.mark.parametrize("name", ["small", "compact", "holes", "greedy"])
def test_odd_texts(engine, tokenizers, name):
    assert_same(engine, name, tokenizers[name], ODD)


def test_any_text(engine, tokenizers):
    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.text(ASSIGNED) | st.text(st.sampled_from(" \n\t'sdtaB19.é猫😀\u0301\u00a0")), max_size=8))
    def check(texts):
        for name in ("compact", "greedy"):
            assert_same(engine, name, tokenizers[name], texts)

    check()


def test_every_character(engine, tokenizers):
    assert_same(engine, "greedy", tokenizers["greedy"], PIECES)


def test_any_tokens(engine, tokenizers):
    """Also those whose bytes are no whole character."""
    size = len(tokenizers["compact"])

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.lists(st.integers(0, size - 1) | st.integers(190, 258), max_size=12), max_size=8))
    def check(rows):
        wanted = [decode(tokenizers["compact"], ids) for ids in rows]
        assert engine(DECODE, {"name": "compact", "rows": rows}) == wanted

    check()


def test_special_tokens(engine, tokenizers):
    tokenizer = tokenizers["compact"]
    code = "() => [made.compact.start, made.compact.end, [...made.compact.special]]"
    start, end, special = engine(code)
    assert (start, end) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert special == sorted(tokenizer.all_special_ids)


def test_a_tokenizer_of_another_kind_is_refused(engine):
    for kind in (small_tokenizers.sentence_piece, small_tokenizers.llama_2, small_tokenizers.word_piece):
        file = json.loads(kind().backend_tokenizer.to_str())
        with pytest.raises(JavaScriptError, match="no byte-level BPE"):
            engine(MAKE, {"name": "other", "file": file, "special": {}})
