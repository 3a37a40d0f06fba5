"""What does each way of predicting cost the two adapters that ship? Neighbours, far-apart and random tokens together.

    python benchmarks/orders.py --tinystories FILE    about 10 minutes on two CPU cores

Exact joint losses, nats per predicted token, on stories that neither adapter was trained on; 95 % intervals over rows,
also of what a group loses against one token at a time in the same model, paired by rows. Given tokens are read from
left to right.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from adaptation import HELD_OUT, tinystories
from query_start import LENGTH, held_out, score
from record import record

from a3mini import pretrained
from a3mini.evaluate import intervals
from a3mini.evaluate.held_out import draw, token_losses
from a3mini.train.curriculum import Grouping

ONE = "one at a time"
GROUPINGS = {
    ONE: Grouping("blocks"),
    "a sentence, both sides": Grouping("sentence"),
    "random, one at a time": Grouping("shuffled"),
    **{f"neighbours, {size}": Grouping("blocks", size) for size in (2, 4, 8)},
    **{f"far apart, {size}": Grouping("strided", size) for size in (2, 4, 8)},
    **{f"random, {size}": Grouping("shuffled", size) for size in (2, 4, 8)},
}  # fmt: skip


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tinystories", type=Path, help="file of stories; default: the hub's TinyStories")
    parser.add_argument("--rows", type=int, default=24, help="held-out rows")
    options = parser.parse_args()
    stories, losses = tinystories(options.tinystories)[-HELD_OUT:], {}
    for name in pretrained.ADAPTERS:
        model, tokenizer, called = pretrained.adapted_model(name)
        rows = held_out(stories, tokenizer, options.rows)
        nats = {}
        for title, grouping in GROUPINGS.items():
            nats[title], tokens = token_losses(partial(score, model), rows, draw(rows, grouping), batch_size=12)
            row = {"loss": intervals.bootstrap(nats[title] / tokens, tokens).rounded(3)}
            if title not in (ONE, "a sentence, both sides"):  # the same tokens, in another order or several at once
                row["more"] = intervals.bootstrap((nats[title] - nats[ONE]) / tokens, tokens).rounded(3)
            losses.setdefault(name, {"model": called, "losses": {}})["losses"][title] = row
            print(name, title, row, flush=True)
    record("orders", seed=0, rows=options.rows, length=LENGTH, systems=losses)


if __name__ == "__main__":
    main()
