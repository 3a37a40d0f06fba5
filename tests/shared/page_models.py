"""Small models for the tests of the page's JavaScript: each as one file of 8 bits, and as the package reads it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import laws
import small_tokenizers
import torch

from a3mini import A3ForCausalLM, eight_bit

WORDS = 290  # of the tokenizer
PAPER = {"query_start": "vector", "known_order": "together"}  # two key heads serve four query heads
OURS = {"query_start": "previous", "known_order": "left_to_right"}
KINDS = {
    "paper": PAPER,
    "ours": OURS,
    "odd": {**OURS, "num_key_value_heads": 1, "head_dim": 10, "hidden_size": 36, "intermediate_size": 50},
    "untied": {**PAPER, "num_key_value_heads": 4, "tie_word_embeddings": False, "rope_theta": 500.0},
}


class Saved(NamedTuple):
    model: A3ForCausalLM  # with the rounded weights
    file: Path


def all_kinds(folder: Path, engine, seed: int) -> dict[str, A3ForCausalLM]:
    """A model of each kind, by name; the engine has them by the same names."""
    found = {}
    for n, name in enumerate(KINDS):
        found[name], file = saved(folder, name, seed + n, **KINDS[name])
        engine.put(name, file)
    return found


def saved(folder: Path, name: str, seed: int = 0, change: Callable | None = None, **changes) -> Saved:
    """A random model; ``change`` is given it before it is saved, ``changes`` are of the config."""
    known_order, end = changes.pop("known_order", "together"), changes.pop("empty_token_id", None)
    model = laws.strong_model(seed, **{"vocab_size": WORDS, **changes}).float()
    model.config.known_order, model.config.empty_token_id = known_order, end
    if change is not None:
        with torch.no_grad():
            change(model)
    file = eight_bit.save(model, small_tokenizers.byte_level(), folder / f"{name}.safetensors")
    return Saved(eight_bit.load(file).model, file)
