"""Text that the compact model was not trained on."""

import torch

from a3mini.train import corpus, data, generator_for


def held_out(tokenizer, length: int, count: int) -> torch.Tensor:
    """Full rows (count, length) of its held-out documents, drawn with seed 0."""
    _, stories = corpus.split_documents(corpus.documents("bible-bbe", "andersen"))
    rows = data.pack(stories, tokenizer, length)
    full = (rows.lengths == length).nonzero()[:, 0]
    return rows.input_ids[full[torch.randperm(len(full), generator=generator_for(0))[:count]]]
