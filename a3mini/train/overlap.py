"""Evaluation sets stay out of the training text: no document that shares words with one of their items.

A document is dropped if it shares some words in a row, twelve by default, with an item; case and punctuation do not
count. That is the usual test for contamination (Brown et al. 2020, arXiv 2005.14165, appendix C, with 13 words). It
finds what was copied, and not what was told in other words; an item of fewer words is not found either.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

from a3mini.train.corpus import Story

WORDS = 12
WORD = re.compile(r"[^\W_]+")
APOSTROPHE = re.compile("['\u2019\u02bc\u2018`\u00b4]")  # it divides no word: don't, dont


class KeptOut:
    """What a training text must not share with an evaluation set: all runs of so many words in its items.

    A run is known by 64 bits of a hash: about 100 bytes of memory for each word of the items.

    Args:
        items: the texts of the evaluation set.
        words: how many words in a row make an overlap.

    Raises:
        ValueError: ``words`` below 1, or no item is so long.
    """

    def __init__(self, items: Iterable[str], words: int = WORDS):
        if words < 1:
            raise ValueError(f"words must be at least 1, got {words}")
        self.words = words
        self.runs = {run for item in items for run in _runs(item, words)}
        if not self.runs:
            raise ValueError(
                f"no item to keep out has {words} words, so that none could be found in a text; are these the texts?"
            )

    def shares(self, text: str) -> bool:
        """Whether a text has a run in common with an item."""
        return not self.runs.isdisjoint(_runs(text, self.words))


def without_overlap(documents: Iterable[Story], items: Iterable[str], words: int = WORDS) -> tuple[list[Story], int]:
    """The documents that share no ``words`` words in a row with an item, and how many others there were.

    Raises:
        ValueError: as ``KeptOut``.
    """
    kept_out, kept, dropped = KeptOut(items, words), [], 0
    for story in documents:
        if kept_out.shares(story.text):
            dropped += 1
        else:
            kept.append(story)
    return kept, dropped


def words_of(text: str) -> list[str]:
    """The words of a text, without case, punctuation, and differences of writing such as ligatures."""
    return WORD.findall(APOSTROPHE.sub("", unicodedata.normalize("NFKC", text).casefold()))


def _runs(text: str, words: int) -> Iterator[int]:
    """A hash of each so many words in a row; the same word for word, in this process."""
    found = words_of(text)
    return map(hash, zip(*(found[first:] for first in range(words)), strict=False))
