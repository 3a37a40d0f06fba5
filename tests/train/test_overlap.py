"""overlap.py: no training document shares words in a row with an evaluation item; a plain search is the oracle."""

import gzip
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a3mini.train import corpus, overlap
from a3mini.train.corpus import Story

# few words, so that runs meet; the same word in several writings
WRITINGS = {
    "a": ["a", "A", "a,", "«A»"],
    "b": ["b", "B!", "_b_"],
    "dont": ["don't", "Don’t", "dont"],
    "ﬁn": ["ﬁn", "FIN"],
}
TEXTS = st.lists(st.sampled_from([one for some in WRITINGS.values() for one in some]), max_size=12).map(" ".join)


def brute_force(text: str, item: str, words: int) -> bool:
    """Every window of the one against every window of the other, letter by letter."""

    def plain(text: str) -> list[str]:
        text = re.sub("['’_,!«»]", "", text).lower().replace("ﬁ", "fi")
        return text.split()

    def windows(found: list[str]) -> list[list[str]]:
        return [found[n : n + words] for n in range(len(found)) if n + words <= len(found)]

    return any(one == other for one in windows(plain(text)) for other in windows(plain(item)))


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXTS, max_size=6), st.lists(TEXTS, min_size=1, max_size=4), st.integers(1, 5))
def test_it_finds_what_a_plain_search_finds(texts, items, words):
    documents = [Story(f"{n}", text) for n, text in enumerate(texts)]
    right = [story for story in documents if not any(brute_force(story.text, item, words) for item in items)]
    if max(len(item.split()) for item in items) < words:
        with pytest.raises(ValueError, match=f"has {words} words"):
            overlap.without_overlap(documents, items, words)
        return
    assert overlap.without_overlap(documents, items, words) == (right, len(documents) - len(right))


def test_the_edges():
    """Eleven words in common are none too many, twelve are, wherever they stand; an item's border ends a run."""
    item = "one two three four five six seven eight nine ten eleven twelve"
    kept_out = overlap.KeptOut([item, "thirteen fourteen " * 6])
    *eleven, _ = item.split()
    assert kept_out.shares(f"Zero: {item.upper()}!") and kept_out.shares(item.replace(" ", "—\n"))
    assert not kept_out.shares(" ".join(eleven)) and not kept_out.shares(" ".join([*eleven, "more"]))
    assert not kept_out.shares("two three four five six seven eight nine ten eleven twelve thirteen")
    assert not kept_out.shares("") and not kept_out.shares(" ".join(reversed(item.split())))


def test_mutants_are_caught():
    """Words as they are written, or split at spaces: each would let a copy through."""
    item, copy = "The king's dog, Rex, barked at night", "“THE KING’S DOG” (Rex) barked_at  night"
    assert overlap.KeptOut([item], 7).shares(copy)
    for mutant in (str.split, lambda text: text.lower().split(), lambda text: re.findall(r"\w+", text.lower())):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(overlap, "words_of", mutant)
            assert not overlap.KeptOut([item], 7).shares(copy)


@pytest.mark.parametrize(
    "words, items, message", [(0, ["a"], "words must be at least 1, got 0"), (2, [], "has 2 words")]
)
def test_errors(words, items, message):
    with pytest.raises(ValueError, match=message):
        overlap.KeptOut(items, words)


def test_items_of_every_kind_of_file(tmp_path):
    """All columns of a row are one text, in order; a .txt file is cut at the marks of ends alone."""
    row = {"story": "It was late.", "label": 1, "ends": ["He slept.", {"text": "He ate."}], "none": None}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({"other": "B"}))
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write(json.dumps(row))
    (tmp_path / "c.csv").write_text("id,one,two\n7,Ann ran.,\n")
    (tmp_path / "d.txt").write_text("One.\n\nTwo.<|endoftext|>Three.")
    files = [tmp_path / name for name in ("a.jsonl", "b.jsonl.gz", "c.csv", "d.txt")]
    joined = "It was late. He slept. He ate."
    assert [text.strip() for text in corpus.whole_texts(*files)] == [
        joined, "B", joined, "7 Ann ran.", "One.\n\nTwo.", "Three.",
    ]  # fmt: skip
    for name, message in (("x.csv", "no file"), ("x.parquet", "is not the path of a .txt")):
        with pytest.raises((ValueError, OSError), match=message):
            list(corpus.whole_texts(tmp_path / name))
