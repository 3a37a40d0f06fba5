"""A small tokenizer and tiny models that read its texts, for tests of what is done to a text; one of each kind, too."""

import laws
import torch
from small_tokenizers import KINDS

from a3mini.rows import QUERY_STARTS
from a3mini.train import corpus, data

STORIES = [corpus.Story("", "The cat sat on the mat. The dog ran to the cat, and the cat ran off!")]
TOKENIZER = data.train_tokenizer(STORIES, vocab_size=290)
BOS, SPECIAL = TOKENIZER.bos_token_id, TOKENIZER.all_special_ids
LIMIT = 64
MODEL, WARM = (
    laws.strong_model(vocab_size=len(TOKENIZER), max_position_embeddings=LIMIT, query_start=start)
    for start in QUERY_STARTS
)
MADE = {name: kind() for name, kind in KINDS.items()}  # tokenizers
MODELS = {name: laws.strong_model(vocab_size=len(made), max_position_embeddings=LIMIT) for name, made in MADE.items()}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
