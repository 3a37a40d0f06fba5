"""Text that no model of the book was trained on, and a vocabulary from the packaged texts."""

from pathlib import Path

import torch
from adaptation import HELD_OUT, tinystories

from a3mini.train import corpus, data, generator_for


def held_out(tokenizer, length: int, count: int, path: Path | None) -> torch.Tensor:
    """Full rows (count, length), drawn with seed 0, of the last of the stories.

    Args:
        path: a file of stories; None: the hub's TinyStories.
    """
    rows = data.pack(tinystories(path)[-HELD_OUT:], tokenizer, length)
    full = (rows.lengths == length).nonzero()[:, 0]
    return rows.input_ids[full[torch.randperm(len(full), generator=generator_for(0))[:count]]]


def book_tokenizer(words: int = 4096):
    """A tokenizer of the packaged texts, the Bible in Basic English and Andersen's tales; nothing is fetched."""
    stories, _ = corpus.split_documents(corpus.documents("bible-bbe", "andersen"))
    return data.train_tokenizer(stories, words)
