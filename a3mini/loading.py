"""The model that a command names: one that ships, a folder, an adapter, or a repository of the hub."""

import argparse
import sys
from pathlib import Path

from a3mini import adapter, eight_bit, pretrained, sources
from a3mini.model import A3Config, A3ForCausalLM
from a3mini.train.recipes import MaskedDiffusionModel

LENGTH = 128  # of a row, where neither the user nor the model says another


def load(name: str, gguf_file: str | None = None, source: str | None = None):
    """A model, its tokenizer, and which objective it was trained with.

    Args:
        name: "small", "compact", "smollm2-a3", "smollm2-a3-warm", a folder of a model or of an adapter, a file that
            ``eight_bit.save`` wrote, or a hub id.
        gguf_file: the name of a GGUF file inside the folder or hub repository.
        source: the model that an adapter was trained on, by the user's own word.

    Raises:
        ValueError, OSError, ImportError: as ``sources`` and ``pretrained``.
    """
    path = Path(name)
    is_adapter = name in pretrained.ADAPTERS or (path / adapter.RECORD).is_file()
    if source and not is_adapter:
        raise ValueError(f"--source is for an adapter (FOLDER/adapter), and {name} is none")
    if name == "small":
        small = pretrained.small_model()
        return small.autoregressive, small.tokenizer, "autoregressive"
    if name == "compact":
        compact = pretrained.compact_model()
        return compact.model, compact.tokenizer, "any-order"
    if is_adapter:
        if name not in pretrained.ADAPTERS:
            source = source or pretrained.followed(adapter.read(path)[1])
            print(f"a3mini: the adapter {name} goes on top of {source}", file=sys.stderr)
            announce(source)
        adapted = pretrained.adapted_model(name, source=source)
        return adapted.model, adapted.tokenizer, "any-order"
    if path.suffix == ".safetensors" and path.is_file():
        return *eight_bit.load(path), "any-order"
    if not sources.is_hub_id(name):
        if not path.is_dir():
            raise FileNotFoundError(f"there is no folder {name}; a finished run's model is in FOLDER/model")
        if gguf_file is None and not (path / "config.json").is_file():
            raise FileNotFoundError(f"{name} holds no model (config.json); a finished run's model is in FOLDER/model")
    announce(name)
    tokenizer, config = sources.tokenizer(name, gguf_file), sources.config(name, gguf_file)
    if config.model_type == A3Config.model_type:
        return sources.model(A3ForCausalLM, name), tokenizer, "any-order"
    if MaskedDiffusionModel.__name__ in str(config.architectures):
        return sources.model(MaskedDiffusionModel, name), tokenizer, "diffusion"
    return pretrained.load_autoregressive(name, gguf_file), tokenizer, "autoregressive"


def announce(*names: str | None) -> None:
    """Say at once, on standard error, what is looked for on the hub: it may take its time."""
    for name in names:
        if name and sources.is_hub_id(name):
            print(f"a3mini: looking for {name} on the hub", file=sys.stderr, flush=True)


def settle_length(options: argparse.Namespace, model) -> None:
    """Check ``options.length`` against the model; where the user gave none, it becomes one that fits.

    Raises:
        ValueError: a row is longer than the model's positions.
    """
    limit = model.config.max_position_embeddings
    if options.length is None:
        options.length = min(LENGTH, limit)
    if options.length > limit:
        raise ValueError(f"--length {options.length} is more than the {limit} positions of the model")
