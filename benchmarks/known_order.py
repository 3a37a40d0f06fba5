"""How should known tokens see each other: all as one group, or each only those on its left?

The loss of the true tokens of a blank of 8, one by one, on 64 rows of 40 tokens of held-out text: for SmolLM2-135M,
not adapted, and for the compact model, which is.

    python benchmarks/known_order.py --tinystories FILE    about a minute
"""

import argparse
import statistics
from pathlib import Path

import torch
from record import record
from texts import held_out

from a3mini import from_autoregressive, groups, objective
from a3mini.pretrained import compact_model, small_model

ROWS, LENGTH, START, END = 64, 40, 16, 24


def orders() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """By name: group ids and known tokens, (LENGTH,) each."""
    position = torch.arange(LENGTH)
    both = groups.infill((position >= START) & (position < END))
    sides = {"both sides": both, "left side": both.masked_fill(position >= END, groups.PADDING)}
    return {
        f"{side}, known {order.replace('_', ' ')}": groups.read_given(group_ids, order)
        for side, group_ids in sides.items()
        for order in groups.KNOWN_ORDERS
    }


def losses(model, ids: torch.Tensor) -> dict[str, dict[str, float]]:
    """Nats per token of the blank in each order, and the difference from the first order, paired by row."""
    found, first = {}, None
    for order, parts in orders().items():
        nats = -objective.log_likelihood(model, ids, *(part.expand(ROWS, -1) for part in parts)) / (END - START)
        first = nats if first is None else first
        found[order] = {
            "nats_per_token": round(nats.mean().item(), 4),
            "minus_the_first": round((nats - first).mean().item(), 4),
            "standard_error": round(statistics.stdev((nats - first).tolist()) / ROWS**0.5, 4),
        }
    return found


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tinystories", type=Path, help="file of stories; default: the hub's TinyStories")
    options = parser.parse_args(arguments)
    small, compact = small_model(), compact_model()
    unadapted = from_autoregressive(small.autoregressive), small.tokenizer, f"{small.name}, not adapted"
    found = {
        name: losses(model, held_out(tokenizer, LENGTH, ROWS, options.tinystories))
        for model, tokenizer, name in (unadapted, compact)
    }
    for name, one in found.items():
        print(name, *one.items(), sep="\n  ")
    record("known_order", seed=0, rows=ROWS, length=LENGTH, blank=[START, END], losses=found)


if __name__ == "__main__":
    main()
