"""stream.py: the documents that ``corpus.documents`` reads, one at a time; going on; gzip. No network."""

import gzip
import json
import sys
import types
from itertools import islice

import pytest
from hub_rows import Rows
from hypothesis import given, settings
from hypothesis import strategies as st

from a3mini.train import corpus
from a3mini.train.corpus import Story
from a3mini.train.stream import Stream


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two files with repeats, in themselves and of each other, and documents without text."""
    folder = tmp_path_factory.mktemp("texts")
    rows = ["one", "", "two", "one", " ", "three", "four", "two"]
    with gzip.open(folder / "a.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("".join(json.dumps({"text": text}) + "\n" for text in rows))
    (folder / "b.txt").write_text("three\n\nfive\n\nsix\n\n\n\none\n\nseven")
    return folder / "a.jsonl.gz", folder / "b.txt"


@pytest.mark.parametrize("limit", [None, 1, 3, 4, 100])
def test_a_stream_has_the_documents(files, limit):
    stream = Stream(*files, limit=limit)
    assert list(stream) == corpus.documents(*files, limit=limit) == list(stream)


@pytest.mark.parametrize("limit", [None, 3])
def test_going_on_anywhere(files, limit):
    whole = list(Stream(*files, limit=limit))
    for count in range(len(whole) + 1):
        reading = Stream(*files, limit=limit).reading()
        begun = list(islice(reading, count))
        position, seen = json.loads(json.dumps(reading.position)), list(reading.seen)
        assert begun + list(Stream(*files, limit=limit).reading(position, seen)) == whole


def test_other_documents_can_be_left_out(files):
    stream = Stream(*files, without=[Story("", "three"), Story("", "nowhere")])
    assert list(stream) == [story for story in corpus.documents(*files) if story.text != "three"]
    assert stream.fingerprint() != Stream(*files).fingerprint()


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.floats(0.05, 0.9), st.integers(0, 3))
def test_it_is_divided_as_a_list_is(count, share, seed):
    texts = [Story(f"a {n}", f"text {n}") for n in range(1, count + 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "read", lambda source, *how: iter([*texts, texts[0]]))
        whole = Stream("a.txt")
        assert tuple(map(list, whole.divide(share, seed))) == corpus.split_documents(texts, share, seed)
        some = Stream("a.txt", without=texts[:1])
        if count > 2:
            training, held_out = some.divide(share, seed)
            assert (list(training), list(held_out)) == corpus.split_documents(texts[1:], share, seed)
            again = training.reading()
            next(iter(again))
            assert list(training)[1:] == list(training.reading(again.position, again.seen))


def test_one_document_cannot_be_divided(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    with pytest.raises(ValueError, match="1 document cannot be divided"):
        Stream(tmp_path / "a.txt").divide()


def test_the_fingerprint_is_that_of_the_contents(files, tmp_path):
    known = Stream(*files).fingerprint()
    moved = tmp_path / "other name.jsonl.gz"
    moved.write_bytes(files[0].read_bytes())
    assert Stream(moved, files[1]).fingerprint() == Stream(*files).fingerprint() == known
    others = [Stream(files[1], files[0]), Stream(*files, limit=3), Stream(*files, column="x"), *Stream(*files).divide()]
    changed = tmp_path / "b.txt"
    changed.write_text(files[1].read_text() + "!")
    others += [Stream(files[0], changed), Stream("andersen"), Stream(*files).divide(seed=1)[0]]
    assert len({known, *(other.fingerprint() for other in others)}) == 1 + len(others)
    with pytest.raises(FileNotFoundError, match="there is no file missing.txt"):
        Stream("missing.txt").fingerprint()


# The hub, played by a fake


@pytest.fixture
def hub(monkeypatch):
    calls, read = [], []

    def load_dataset(name, **arguments):
        calls.append((name, arguments))
        return Rows(1000, read)

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.setattr(corpus, "revision_of", lambda name: f"commit of {name}")
    return calls, read


def test_a_hub_stream_goes_on_without_reading_again(hub):
    calls, read = hub
    reading = Stream("tinystories", limit=20).reading()
    begun = list(islice(reading, 7))
    read.clear()
    stream = Stream("tinystories", limit=20)
    stream.fingerprint()
    rest = list(stream.reading(reading.position, reading.seen))
    assert [story.text for story in [*begun, *rest]] == [f"story {n}" for n in range(20)]
    assert [story.title for story in rest][:1] == ["roneneldan/TinyStories 8"]
    assert read == list(range(7, 20)), "what was read is skipped, and nothing behind the limit is asked for"
    assert calls[-1][1] == {"split": "train", "streaming": True, "revision": "commit of roneneldan/TinyStories"}


def test_the_revision_of_a_hub_data_set_is_in_the_fingerprint(hub, monkeypatch):
    known = Stream("owner/name").fingerprint()
    assert Stream("owner/name").fingerprint() == known != Stream("owner/other").fingerprint()
    monkeypatch.setattr(corpus, "revision_of", lambda name: "another commit")
    assert Stream("owner/name").fingerprint() != known


def test_an_unreachable_hub_has_no_revision(monkeypatch):
    def dataset_info(name):
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(dataset_info=dataset_info))
    with pytest.raises(OSError, match=r'cannot read owner/name from the hub.*Offline: "andersen".*no route'):
        Stream("owner/name").fingerprint()


# gzip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            gzip.compress(b'{"text": "one"}\n{"text": "a\\ud83d"}'),
            r"row 2 of a.jsonl.gz holds '\\ud83d' at character 2",
        ),
        (gzip.compress(b'{"text": "\xff"}'), "a.jsonl.gz is not UTF-8"),
        (gzip.compress(b"no json"), "line 1 of a.jsonl.gz is not JSON"),
        (gzip.compress(b'{"text": "one"}' * 99)[:-20], "a.jsonl.gz is damaged, or is not compressed by gzip"),
        (b'{"text": "one"}', "a.jsonl.gz is damaged, or is not compressed by gzip"),
        (gzip.compress(b'{"text": "one"}\n')[:-8] + b"12345678", "a.jsonl.gz is damaged"),
        (gzip.compress(b""), "there is no text in"),
    ],
    ids=["half a character", "not UTF-8", "not JSON", "cut", "not compressed", "another checksum", "nothing"],
)
def test_bad_gzip(content, message, tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        corpus.documents(tmp_path / "a.jsonl.gz")


def test_gzip_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress('\ufeff{"text": "Käthe"}\r\n{"text": "two"}'.encode()))
    assert corpus.documents(tmp_path / "a.jsonl.gz") == [Story("a 1", "Käthe"), Story("a 2", "two")]


def test_other_files_of_gzip_are_refused(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one"))
    with pytest.raises(
        ValueError, match="unknown text .*a.txt.gz': it must be .* or the path of a .txt, .jsonl, .jsonl.gz"
    ):
        corpus.documents(tmp_path / "a.txt.gz")
