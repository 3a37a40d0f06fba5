"""The models that the benchmarks compare: the untouched source, and what an adapter makes of it."""

import argparse

from a3mini import adapter, groups, pretrained
from a3mini.train import MaskedDiffusionModel

KINDS = {"any-order": "any order", "diffusion": "masked diffusion", "autoregressive": "autoregressive"}
OPTION = {"any-order": "a3", "diffusion": "diffusion", "autoregressive": "autoregressive"}  # kind: its option


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that compares the arms."""
    for kind, option in OPTION.items():
        parser.add_argument(f"--{option}", help=f"folder of an adapter: the {kind} arm; without it, see above")
    parser.add_argument("--known-order", choices=groups.KNOWN_ORDERS, default="left_to_right", help="for A3")
    parser.add_argument("--seed", type=int, default=0)


def load_arm(kind: str, folder: str | None = None):
    """A model, its tokenizer and its name.

    Args:
        kind: "any-order", "diffusion" or "autoregressive".
        folder: of an adapter. None: the shipped one for "any-order", the untouched source for the others.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    if kind == "any-order":
        return pretrained.adapted_model(folder or "smollm2-a3")
    if folder is None:
        source, tokenizer, name = pretrained.small_model()
    else:
        _, record = adapter.read(folder)
        if record["kind"] != KINDS[kind]:
            raise ValueError(f"the adapter {folder} is of the kind {record['kind']!r}, not {KINDS[kind]!r}")
        source, tokenizer, name = pretrained.adapter_source(record)
    model = MaskedDiffusionModel.from_autoregressive(source) if kind == "diffusion" else source
    if folder is not None:
        adapter.apply(model, folder)
        name = f"{name}, {KINDS[kind]} ({record['tokens']:,} tokens)"
    return model, tokenizer, name
