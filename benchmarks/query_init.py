"""How should the query embedding w start: as the mean token embedding, zeros, or unit noise, as in the official code?

For each, the mean negative log-likelihood (nats per token) of held-out stories under several groupings,
first untouched, then after a short left-to-right adaptation of all weights (AdamW, bfloat16 autocast).
The three start from the same weights and see the same batches.

    python benchmarks/query_init.py
"""

import argparse

import torch
from record import record
from torch import Tensor

from a3mini import A3ForCausalLM, from_autoregressive, groups
from a3mini.pretrained import small_model
from a3mini.train.corpus import small_text
from a3mini.train.data import start_token
from a3mini.train.tokens import encode

LENGTH = 64
INITIAL = {
    "mean embedding": lambda embeddings: embeddings.mean(0),
    "zeros": lambda embeddings: torch.zeros(embeddings.shape[1]),
    "unit noise": lambda embeddings: torch.randn(embeddings.shape[1], generator=torch.Generator().manual_seed(0)),
}


def passages(tokenizer, stories) -> Tensor:
    """The stories cut into rows of LENGTH tokens, each after a start token: int64, (rows, LENGTH)."""
    start, step = start_token(tokenizer), LENGTH - 1
    ids = encode(tokenizer, [story.text for story in stories], add_special_tokens=True)
    return torch.tensor([[start, *s[i : i + step]] for s in ids for i in range(0, len(s) - step + 1, step)])


@torch.no_grad()
def losses(model: A3ForCausalLM, rows: Tensor) -> dict[str, float]:
    position = torch.arange(LENGTH)
    groupings = {
        "left to right": groups.left_to_right(LENGTH),
        "blocks of 4": groups.blocks(LENGTH, 4),
        "a blank of 16": groups.infill((position >= 24) & (position < 40)),
        "random order": groups.shuffled(LENGTH, 1, generator=torch.Generator().manual_seed(0)),
    }
    with torch.autocast("cpu", torch.bfloat16):
        found = {name: model(rows, ids.expand_as(rows), labels=rows).loss for name, ids in groupings.items()}
    return {name: round(loss.item(), 3) for name, loss in found.items()}


def adapt(model: A3ForCausalLM, batches: list[Tensor], learning_rate: float) -> None:
    """Train all weights left to right."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 5, total_iters=4)  # a short warm-up, then constant
    for batch in batches:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(batch, groups.left_to_right(LENGTH).expand_as(batch), labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--held-out", type=int, default=24, help="rows of held-out text")
    options = parser.parse_args()

    small, text = small_model(), small_text()
    train, held_out = (passages(small.tokenizer, part) for part in (text.stories[:-40], text.stories[-40:]))
    held_out = held_out[torch.randperm(len(held_out), generator=torch.Generator().manual_seed(1))[: options.held_out]]
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(2))
    batches = [train[part] for part in order.split(options.batch)[: options.steps]]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        autoregressive = small.autoregressive(held_out, labels=held_out).loss.item()
    rows = {}
    for name, initial in INITIAL.items():
        model = from_autoregressive(small.autoregressive)
        with torch.no_grad():
            model.model.query_embedding.copy_(initial(model.model.embed_tokens.weight))
        rows[name] = {"untouched": losses(model, held_out)}
        adapt(model, batches, options.learning_rate)
        rows[name]["adapted"] = losses(model, held_out)
        print(name, rows[name], flush=True)
    record(
        "query_init", seed=0, model=small.name, text=text.name, steps=options.steps,
        tokens=options.steps * options.batch * LENGTH, autoregressive=round(autoregressive, 3), rows=rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
