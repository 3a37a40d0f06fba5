"""How known tokens should see each other: all as one group, or each only those on its left.

The loss of the true tokens of a blank of 8, one by one, on 64 rows of 40 tokens of held-out text: for SmolLM2-135M,
not adapted, and for the compact model, which is.

    python benchmarks/known_order.py              about a minute
"""

import statistics

import torch
from record import record
from texts import held_out

from a3mini import from_autoregressive, groups, objective
from a3mini.pretrained import compact_model, small_model

ROWS, LENGTH, START, END = 64, 40, 16, 24


def orders() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """By name: group ids and known tokens, (LENGTH,) each."""
    position = torch.arange(LENGTH)
    hidden = (position >= START) & (position < END)
    turn = groups.infill(hidden)
    return {
        "both sides, known together": (turn, ~hidden),
        "both sides, known left to right": (torch.where(hidden, turn + LENGTH, position), ~hidden),
        "left side, known together": (turn.masked_fill(position >= END, groups.PADDING), ~hidden),
        "left side, known left to right": (
            torch.where(hidden, turn + LENGTH, position).masked_fill(position >= END, groups.PADDING),
            ~hidden,
        ),
    }


@torch.no_grad()
def main() -> None:
    small, compact = small_model(), compact_model()
    models = {
        f"{small.name}, not adapted": (from_autoregressive(small.autoregressive), small.tokenizer),
        compact.name: (compact.model, compact.tokenizer),
    }
    losses = {}
    for name, (model, tokenizer) in models.items():
        ids = held_out(tokenizer, LENGTH, ROWS)
        found = {
            order: -objective.log_likelihood(model, ids, group_ids.expand(ROWS, -1), known.expand(ROWS, -1))
            / (END - START)
            for order, (group_ids, known) in orders().items()
        }
        first = next(iter(found.values()))
        losses[name] = {
            order: {
                "nats_per_token": round(nats.mean().item(), 4),
                "minus_the_first": round((nats - first).mean().item(), 4),
                "standard_error": round(statistics.stdev((nats - first).tolist()) / ROWS**0.5, 4),
            }
            for order, nats in found.items()
        }
        print(name, *losses[name].items(), sep="\n  ")
    record("known_order", seed=0, rows=ROWS, length=LENGTH, blank=[START, END], losses=losses)


if __name__ == "__main__":
    main()
