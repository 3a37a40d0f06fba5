"""The models that the benchmarks compare: the untouched source, and what an adapter makes of it."""

import argparse

from a3mini import adapter, from_autoregressive, groups, pretrained
from a3mini.train import AnyOrder, Autoregressive, Curriculum, MaskedDiffusion, MaskedDiffusionModel

KINDS = {"any-order": "any order", "diffusion": "masked diffusion", "autoregressive": "autoregressive"}
OPTION = {"any-order": "a3", "diffusion": "diffusion", "autoregressive": "autoregressive"}  # kind: its option


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that compares the arms."""
    for kind, option in OPTION.items():
        parser.add_argument(f"--{option}", help=f"folder of an adapter: the {kind} arm; without it, see above")
    parser.add_argument("--known-order", choices=groups.KNOWN_ORDERS, help="for A3; default: as it was trained")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")


def settle(options: argparse.Namespace, kind: str, model) -> None:
    """``options.known_order`` as A3's model says it, where the command line does not."""
    if kind == "any-order" and options.known_order is None:
        options.known_order = model.config.known_order


def begin(kind: str, source, curriculum: Curriculum | None = None, known_order: str = "together", query_start="vector"):
    """An arm before its training: a model from the weights of ``source``, or ``source`` itself; and the recipe.

    ``known_order`` and ``query_start`` are A3's alone.
    """
    if kind == "any-order":
        model = from_autoregressive(source, query_start=query_start, known_order=known_order)
        return model, AnyOrder(curriculum, known_order)
    if kind == "diffusion":
        return MaskedDiffusionModel.from_autoregressive(source), MaskedDiffusion()
    return source, Autoregressive()


def load_arm(kind: str, folder: str | None = None):
    """A model, its tokenizer and its name.

    Args:
        kind: one of ``KINDS``.
        folder: of an adapter. None: the shipped one for "any-order", the untouched source for the others.
    """
    if kind == "any-order":
        return pretrained.adapted_model(folder or "smollm2-a3")
    record = adapter.read(folder)[1] if folder else None
    if record and record["kind"] != KINDS[kind]:
        raise ValueError(f"the adapter {folder} is of the kind {record['kind']!r}, not {KINDS[kind]!r}")
    source, tokenizer, name = pretrained.adapter_source(record) if record else pretrained.small_model()
    model, _ = begin(kind, source)
    if record:
        adapter.apply(model, folder)
        name = f"{name}, {KINDS[kind]} ({record['tokens']:,} tokens)"
    return model, tokenizer, name
