"""tokens.py: text is text, for every kind of tokenizer; in its context; nothing else in the package encodes."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT
from small_tokenizers import KINDS, TEXT, byte_level, sentence_piece, with_holes
from tokenizers.processors import TemplateProcessing
from transformers import ByT5Tokenizer

from a3mini.train import tokens
from a3mini.train.tokens import decode, decode_behind, encode, encode_behind, encode_each, split

MADE = {name: kind() for name, kind in KINDS.items()}
MADE["with_holes"] = with_holes()
MADE["in_python"] = ByT5Tokenizer()
every_kind = pytest.mark.parametrize("name", MADE)
FAITHFUL = ["byte_level", "llama_2", "with_holes", "in_python"]  # give any text back
CONTROL = ["<s>", "</s>", "<pad>", "<|im_start|>"]
plain = st.text(st.characters(exclude_characters="<", exclude_categories=["Cs"]), max_size=12)


def each(tokenizer, texts) -> list[list[int]]:
    """What ``encode_each`` gives, as lists."""
    return [ids.tolist() for some in encode_each(tokenizer, texts) for ids in some]


def control_ids(tokenizer) -> set[int]:
    special = {token for token, about in tokenizer.added_tokens_decoder.items() if about.special}
    return special - {tokenizer.unk_token_id}


# --- text is text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", CONTROL)
@every_kind
def test_control_tokens_in_a_text_are_letters(name, written):
    tokenizer = MADE[name]
    if written not in tokenizer.get_vocab():
        tokenizer = (KINDS | {"with_holes": with_holes, "in_python": ByT5Tokenizer})[name]()
        tokenizer.add_special_tokens({"additional_special_tokens": [written]})
    text = f"The cat{written} sat {written}\n{written}"
    by_itself = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_tokens_to_ids(written) in by_itself, "otherwise this test shows nothing"
    for behind in (encode(tokenizer, [text])[0], encode_behind(tokenizer, text)):
        assert not control_ids(tokenizer) & set(behind)
    if name in FAITHFUL:
        assert decode(tokenizer, encode(tokenizer, [text])[0]) == text


@every_kind
@settings(max_examples=40, deadline=None)
@given(st.lists(plain, max_size=3))
def test_other_text_is_encoded_as_before(name, texts):
    expected = [MADE[name](text, add_special_tokens=False)["input_ids"] for text in texts]
    assert encode(MADE[name], texts) == expected == each(MADE[name], iter(texts))


@pytest.mark.parametrize("name", ["byte_level", "sentence_piece", "llama_2"])
@pytest.mark.parametrize("template", ["<s> $A", "$A </s>", "<s> $A </s>"])
def test_what_a_tokenizer_puts_around_a_text(name, template):
    tokenizer = KINDS[name]()
    control = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=control)
    for text in ("The cat", "", "a"):
        assert encode(tokenizer, [text], add_special_tokens=True) == [tokenizer(text)["input_ids"]]
    whole = encode(tokenizer, ["The</s> cat"], add_special_tokens=True)[0]
    inside = encode(tokenizer, ["The</s> cat"])[0]
    assert len(whole) == len(inside) + template.count("s>") and not control_ids(tokenizer) & set(inside)


def test_the_tokenizer_is_as_before(monkeypatch):
    """Also where encoding fails. What is direct, ``backend_tokenizer``, reads what the last call left there."""
    tokenizer = byte_level()
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(4)
    backend.enable_padding(length=9)
    state = backend.to_str(), backend.truncation, backend.padding, backend.encode_special_tokens
    assert len(encode(tokenizer, [TEXT])[0]) > 9
    assert (backend.to_str(), backend.truncation, backend.padding, backend.encode_special_tokens) == state
    right = tokenizer._convert_encoding
    monkeypatch.setattr(tokenizer, "_convert_encoding", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        encode(tokenizer, ["a"])
    assert (backend.to_str(), backend.truncation, backend.padding, backend.encode_special_tokens) == state
    monkeypatch.setattr(tokenizer, "_convert_encoding", right)
    tokenizer("a", split_special_tokens=True)
    assert backend.encode_special_tokens and not backend.truncation, "transformers by itself leaves its traces"


@pytest.mark.parametrize("text", ["a\ud83d", "\udce9t\udce9"])
def test_half_a_character_is_no_text(text):
    at = 2 if text[0] == "a" else 1
    message = re.escape(f"the text holds {text[at - 1]!r} at character {at} ({text!r}), half of a pair")
    for name in MADE:
        for call in (encode, each):
            with pytest.raises(ValueError, match=message):
                call(MADE[name], ["fine", text])
    with pytest.raises(TypeError, match="a text must be a string, got NoneType"):
        encode(MADE["byte_level"], [None])


@pytest.mark.parametrize(("name", "by_words"), [("byte_level", True), ("word_piece", False), ("in_python", False)])
def test_texts_are_encoded_a_few_at_a_time(name, by_words, monkeypatch):
    monkeypatch.setattr(tokens, "CHARACTERS", 10)
    texts = ["The", " cat sat", "", "on the mat", "a" * 40, "b"]
    expected, sizes, right = encode(MADE[name], texts), [], tokens.encode
    monkeypatch.setattr(tokens, "encode", lambda tokenizer, texts: sizes.append(len(texts)) or right(tokenizer, texts))
    assert [len(some) for some in encode_each(MADE[name], iter(texts))] == [2, 2, 1, 1]
    assert each(MADE[name], iter(texts)) == expected and not each(MADE[name], [])
    assert sizes == ([] if by_words else [2, 2, 1, 1] * 2)


# --- behind other text ----------------------------------------------------------------------------------------

BEHIND = [" sat", "t", "  sat ", "\nThe", "🐈 x", " Käthe 猫", ", and", "", " ", "'s", "</s> the", "1"]


@pytest.mark.parametrize("name", FAITHFUL)
@pytest.mark.parametrize("text", BEHIND)
def test_text_behind_text_is_given_back(name, text):
    before = encode(MADE[name], ["The cat"])[0]
    ids = encode_behind(MADE[name], text)
    assert decode(MADE[name], before + ids) == f"The cat{text}" and decode_behind(MADE[name], ids) == text


@settings(max_examples=60, deadline=None)
@given(plain)
def test_a_byte_level_tokenizer_encodes_alone(text):
    alone = MADE["byte_level"](text, add_special_tokens=False)["input_ids"]
    assert encode_behind(MADE["byte_level"], text) == alone
    assert decode_behind(MADE["byte_level"], alone) == MADE["byte_level"].decode(alone) == text


@every_kind
def test_tokens_behind_a_text_are_those_of_the_whole(name):
    """Oracle: where a space or a comma stands at the edge nothing merges, and the whole text's tokens can be cut."""
    for text in (" sat on the mat", " ran", ", and the cat", "? Nobody"):
        whole, before = encode(MADE[name], [f"The cat{text}", "The cat"])
        assert whole[: len(before)] == before, "otherwise this test shows nothing"
        assert before + encode_behind(MADE[name], text) == whole


def test_inside_a_word():
    assert MADE["word_piece"].convert_ids_to_tokens(encode_behind(MADE["word_piece"], "t")) == ["##t"]
    assert MADE["llama_2"].convert_ids_to_tokens(encode_behind(MADE["llama_2"], "t")) == ["t"]
    assert MADE["sentence_piece"].convert_ids_to_tokens(encode_behind(MADE["sentence_piece"], "t")) == ["t"]
    inside = MADE["word_piece"].convert_tokens_to_ids(["##ys", "cat"])
    assert decode_behind(MADE["word_piece"], inside) == "ys cat"
    assert decode_behind(MADE["word_piece"], inside[1:]) == " cat" and decode(MADE["word_piece"], inside[1:]) == "cat"


def test_the_tests_catch_a_space_too_much():
    """Encoded alone, as a tokenizer does it, these have one."""
    for name, text in (("llama_2", " sat"), ("llama_2", "t"), ("sentence_piece", "t"), ("word_piece", "t")):
        alone = encode(MADE[name], [text])[0]
        assert alone != encode_behind(MADE[name], text)
        assert decode(MADE[name], encode(MADE[name], ["The"])[0] + alone).lower() != f"the{text}"


# --- ids that are left out ------------------------------------------------------------------------------------


def test_the_largest_id_counts():
    tokenizer = MADE["with_holes"]
    assert len(tokenizer) == 300 and tokens.vocabulary_size(tokenizer) == 315
    assert tokens.no_tokens(tokenizer, 317) == [*range(285, 300), 315, 316]
    assert tokens.vocabulary_size(MADE["byte_level"]) == len(MADE["byte_level"])
    assert tokens.no_tokens(MADE["byte_level"], 292) == list(range(len(MADE["byte_level"]), 292))


@pytest.mark.parametrize("text", ["", "x", " a  b\n\nc's 3d!", "Käthe says: 猫 🙂 "])
def test_words_are_what_no_token_has_two_of(text):
    words = split(byte_level(), text)
    assert "".join(words) == text
    tokens = [token for word in words for token in encode_behind(byte_level(), word)]
    assert tokens == encode_behind(byte_level(), text)
    with pytest.raises(ValueError, match="only a byte-level tokenizer"):
        split(sentence_piece(), text)


# --- nothing else encodes -------------------------------------------------------------------------------------

ENCODES = re.compile(
    r"(?<!\w)(?<!sources\.)(?<!def )tokenizer\(|"  # but for reading one
    r"tokenizer\.(?:encode|tokenize|batch_encode|apply_chat_template)|encode_batch|"
    r"tokenizer\.backend_tokenizer(?!\.to_str\(\))|"  # but for writing it down
    r"(?<!`)len\((?:\w+\.)*tokenizer\)"
)


def encoding(source: str) -> list[str]:
    """The lines of code that make tokens of text, or count tokens where the largest id is meant."""
    return [line.strip() for line in source.split("\n") if ENCODES.search(line)]


def test_nothing_else_encodes():
    files = [*(ROOT / "a3mini").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    found = {
        path.name: encoding(path.read_text(encoding="utf-8"))
        for path in files
        if path.name not in ("tokens.py", "words.py")
    }
    assert not {name: lines for name, lines in found.items() if lines}
    own = encoding((ROOT / "a3mini" / "train" / "tokens.py").read_text(encoding="utf-8"))
    starts = "words = Words(tokenizer.backend_tokenizer", "pieces = tokenizer.backend_tokenizer", "return tokenizer("
    assert len(own) == len(starts) and all(map(str.startswith, own, starts))
    uses = [path.name for path in files if "train.words import" in path.read_text(encoding="utf-8")]
    assert uses == ["tokens.py"], "words.py encodes for tokens.py alone"


@pytest.mark.parametrize(
    "line",
    [
        "ids = tokenizer(text).input_ids",
        "self.tokenizer.encode(text)",
        "batch.tokenizer(texts)",
        "range(len(tokenizer))",
    ],
)
def test_another_place_that_encodes_is_caught(line):
    assert encoding(line) == [line] and not encoding("tokenizer = sources.tokenizer(path); train_tokenizer(x)")
