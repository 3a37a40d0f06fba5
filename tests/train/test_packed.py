"""packed.py: rows as in memory, made once; gone on with; whole, or made anew; in bounded memory."""

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub_rows import Rows
from laws import tiny_config
from small_tokenizers import with_holes

from a3mini import runs
from a3mini.train import corpus, data, packed, tokens
from a3mini.train.corpus import Story
from a3mini.train.stream import Stream

STORIES = [Story(f"tale {n}", f"Tale {n}. The cat sat, " * (1 + n % 4) + "and it ran off!") for n in range(40)]
TOKENIZER = data.train_tokenizer(STORIES, 290)
IN_MEMORY = data.pack(STORIES, TOKENIZER, 12)


def same(found: data.Blocks, expected: data.Blocks) -> bool:
    """Equal by content, whatever the dtype."""
    return all(torch.equal(a.long(), b.long()) for a, b in zip(found, expected, strict=True))


@pytest.fixture
def text(tmp_path) -> Path:
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": story.text}) + "\n" for story in STORIES))
    return path


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """How many texts were encoded, call by call."""
    calls, right = [], tokens.encode_each

    def counted(tokenizer, texts):
        def count():
            for n, one in enumerate(texts, start=1):
                calls[-1] = n
                yield one

        calls.append(0)
        return right(tokenizer, count())

    monkeypatch.setattr(data, "encode_each", counted)
    return calls


@pytest.mark.parametrize("streamed", [False, True], ids=["a list", "a stream"])
def test_rows_are_those_made_in_memory_and_made_once(streamed, text, tmp_path, encoded):
    documents = Stream(text) if streamed else STORIES
    found = packed.pack(documents, TOKENIZER, 12, tmp_path / "home")
    assert same(found, IN_MEMORY) and found.input_ids.dtype == torch.uint16 and found.sentence_ends.dtype == torch.bool
    assert found.rows(torch.tensor([3, 0])).input_ids.dtype == torch.int64
    assert found.rows(slice(0, 2)).input_ids.tolist() == IN_MEMORY.input_ids[:2].tolist()
    known = data.fingerprint(IN_MEMORY.input_ids, IN_MEMORY.lengths, IN_MEMORY.sentence_ends)
    assert data.fingerprint(found.input_ids, found.lengths, found.sentence_ends) == known, "a run is known by its rows"
    data.check_rows(found, tiny_config(vocab_size=290))
    again = packed.pack(documents, TOKENIZER, 12, tmp_path / "home")
    assert same(again, IN_MEMORY) and encoded == [40]
    folder, lock = sorted((tmp_path / "home").iterdir(), reverse=True)
    assert folder.name.startswith("rows-1-") and lock.name == f".{folder.name}.lock"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [packed.RECORD, *(f"{n}.safetensors" for n in packed.NAMES)]
    )


def test_a_large_vocabulary(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "vocabulary_size", lambda tokenizer: 2**16 + 1)
    found = packed.pack(STORIES, TOKENIZER, 12, tmp_path)
    assert same(found, IN_MEMORY) and found.input_ids.dtype == torch.int32


def test_without_a_home_rows_are_in_memory(text):
    for documents in (STORIES, iter(STORIES), Stream(text)):
        assert same(packed.pack(documents, TOKENIZER, 12, None), IN_MEMORY)


def test_other_texts_tokenizers_and_lengths_have_rows_of_their_own(tmp_path):
    packed.pack(STORIES, TOKENIZER, 12, tmp_path)
    control = data.train_tokenizer(STORIES, 290)
    control.bos_token = "</s>"
    calls = [
        (STORIES[1:], TOKENIZER, 12),
        ([*STORIES[:-1], Story("", STORIES[-1].text + "!")], TOKENIZER, 12),
        ([Story("", STORIES[0].text + STORIES[1].text), *STORIES[2:]], TOKENIZER, 12),
        (STORIES, data.train_tokenizer(STORIES, 280), 12),
        (STORIES, with_holes(), 12),
        (STORIES, control, 12),
        (STORIES, TOKENIZER, 13),
    ]
    for n, call in enumerate(calls, start=2):
        assert same(packed.pack(*call, tmp_path), data.pack(*call))
        assert len(list(tmp_path.glob("rows-*"))) == n
    assert same(
        packed.pack([Story("another title", story.text) for story in STORIES], TOKENIZER, 12, tmp_path), IN_MEMORY
    )
    TOKENIZER("a", truncation=True, max_length=3)  # leaves its traces in the Rust tokenizer, which play no part
    packed.pack(STORIES, TOKENIZER, 12, tmp_path)
    assert len(list(tmp_path.glob("rows-*"))) == 1 + len(calls)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / "input_ids.safetensors"),
        lambda folder: (folder / "lengths.safetensors").unlink(),
        lambda folder: os.truncate(folder / "documents.safetensors", 1100),
        lambda folder: (folder / packed.RECORD).unlink(),
        lambda folder: (folder / packed.RECORD).write_text("{"),
        lambda folder: runs.write_json(folder / packed.RECORD, runs.read_json(folder / packed.RECORD) | {"about": {}}),
    ],
    ids=["a bit", "a file", "an end", "the record", "no JSON", "foreign"],
)
def test_what_is_damaged_is_made_anew(damage, tmp_path, encoded):
    packed.pack(STORIES, TOKENIZER, 12, tmp_path)
    (folder,) = tmp_path.glob("rows-*")
    damage(folder)
    assert same(packed.pack(STORIES, TOKENIZER, 12, tmp_path), IN_MEMORY) and encoded == [40, 40]
    assert same(packed.pack(STORIES, TOKENIZER, 12, tmp_path), IN_MEMORY) and encoded == [40, 40]


def test_bad_arguments(tmp_path, text):
    (tmp_path / "none.txt").write_text("\n")
    for documents in ([], Stream(tmp_path / "none.txt")):
        with pytest.raises(ValueError, match="no documents"):
            packed.pack(documents, TOKENIZER, 12, tmp_path / "home")
    with pytest.raises(ValueError, match="at least 2"):
        packed.pack(STORIES, TOKENIZER, 1, tmp_path / "home")
    with pytest.raises(ValueError, match="less than one block of 5000"):
        packed.pack(Stream(text), TOKENIZER, 5000, tmp_path / "home")
    with pytest.raises(ValueError, match=r"holds '\\udfff' at character 1"):
        packed.pack([*STORIES, Story("", "\udfff")], TOKENIZER, 12, tmp_path / "home")
    assert not list((tmp_path / "home").glob("rows-*"))


def test_where_nothing_can_be_written_rows_are_made_in_memory(tmp_path, monkeypatch, text):
    (tmp_path / "file").write_text("")
    assert same(packed.pack(STORIES, TOKENIZER, 12, tmp_path / "file"), IN_MEMORY)

    def full(self, rows):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packed.Column, "append", full)
    assert same(packed.pack(STORIES, TOKENIZER, 12, tmp_path / "home"), IN_MEMORY)
    with pytest.raises(OSError, match="No space left"):  # a stream may be too long for the memory
        packed.pack(Stream(text), TOKENIZER, 12, tmp_path / "home")


# Stopped and gone on with


class Stopped(Exception):
    pass


def stop_after(texts: int, monkeypatch) -> None:
    """A process that dies while it reads."""
    right = data.make_rows

    def make_rows(stories, *arguments):
        def some():
            for n, story in enumerate(stories):
                if n == texts:
                    raise Stopped
                yield story

        return right(some(), *arguments)

    monkeypatch.setattr(data, "make_rows", make_rows)


@pytest.mark.parametrize("streamed", [False, True], ids=["a list", "a stream"])
@pytest.mark.parametrize("torn", [False, True], ids=["", "torn"])
def test_packing_goes_on_at_the_right_document(streamed, torn, text, tmp_path, monkeypatch, encoded):
    monkeypatch.setattr(tokens, "CHARACTERS", 100)
    monkeypatch.setattr(packed, "SECONDS", 0)
    documents = Stream(text) if streamed else STORIES
    with monkeypatch.context() as patch:
        stop_after(30, patch)
        with pytest.raises(Stopped):
            packed.pack(documents, TOKENIZER, 12, tmp_path)
    assert not list(tmp_path.glob("rows-*"))
    (partial,) = tmp_path.glob(".partial-*")
    if torn:  # what stands behind the last record was being written
        for path in partial.glob("*.safetensors"):
            with path.open("ab") as file:
                file.write(b"half a row")
    encoded.clear()
    assert same(packed.pack(documents, TOKENIZER, 12, tmp_path), IN_MEMORY)
    assert len(encoded) == 1 and 10 <= encoded[0] <= 15, "those from the last record on, and no others"
    assert not list(tmp_path.glob(".partial-*"))


def test_less_than_was_recorded_is_begun_anew(tmp_path, monkeypatch, encoded):
    monkeypatch.setattr(tokens, "CHARACTERS", 100)
    monkeypatch.setattr(packed, "SECONDS", 0)
    with monkeypatch.context() as patch:
        stop_after(30, patch)
        with pytest.raises(Stopped):
            packed.pack(STORIES, TOKENIZER, 12, tmp_path)
    (partial,) = tmp_path.glob(".partial-*")
    os.truncate(partial / "lengths.safetensors", 1100)
    encoded.clear()
    assert same(packed.pack(STORIES, TOKENIZER, 12, tmp_path), IN_MEMORY) and encoded == [40]


def test_a_hub_stream_that_was_stopped_skips_what_is_done(tmp_path, monkeypatch):
    read = []
    monkeypatch.setitem(sys.modules, "datasets", type(sys)("datasets"))
    sys.modules["datasets"].load_dataset = lambda name, **how: Rows(200, read)
    monkeypatch.setattr(corpus, "revision_of", lambda name: "commit")
    monkeypatch.setattr(tokens, "CHARACTERS", 100)
    monkeypatch.setattr(packed, "SECONDS", 0)
    with monkeypatch.context() as patch:
        stop_after(150, patch)
        with pytest.raises(Stopped):
            packed.pack(Stream("owner/name"), TOKENIZER, 12, tmp_path)
    read.clear()
    found = packed.pack(Stream("owner/name"), TOKENIZER, 12, tmp_path)
    assert same(found, data.pack([Story("", f"story {n}") for n in range(200)], TOKENIZER, 12))
    assert 130 <= read[0] <= 150 and read == list(range(read[0], 200))


# Memory

PEAK = """
import sys, threading
from pathlib import Path
from transformers import AutoTokenizer
from a3mini.train import data, packed
from a3mini.train.corpus import Story
from a3mini.train.stream import Stream

def resident(what):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what)) / 1024

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
packed.pack([Story("", "a b c " * 99)], tokenizer, 64, Path(sys.argv[3]))  # what is loaded once
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
blocks = packed.pack(Stream(sys.argv[2]), tokenizer, 64, Path(sys.argv[3]))
print(resident("VmHWM") - before, len(blocks.lengths))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks Linux for the memory")
def test_memory_does_not_grow_with_the_text(tmp_path):
    TOKENIZER.save_pretrained(tmp_path / "tokenizer")
    found = {}
    for megabytes in (3, 12):
        path = tmp_path / f"{megabytes}.jsonl.gz"
        with gzip.open(path, "wt", compresslevel=1) as file:
            for n in range(megabytes * 100):  # each has 10,000 characters of the same 5,000 words, and is no repeat
                words = " ".join(f"word{(n * 31 + k * 7) % 5000}" for k in range(1170))
                file.write(json.dumps({"text": f"{n} {words}"}) + "\n")
        arguments = [tmp_path / "tokenizer", path, tmp_path / "home"]
        done = subprocess.run([sys.executable, "-c", PEAK, *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peak, rows = re.fullmatch(r"([\d.]+) (\d+)\n", done.stdout).groups()
        found[megabytes] = float(peak), int(rows)
    assert found[12][1] > 3.9 * found[3][1]
    assert found[12][0] < found[3][0] + 15, f"MB of memory beside what was there: {found}"
