"""The initial query embedding w: the mean token embedding, zeros, or unit noise (the official code's choice).

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

LENGTH = 64
INITIAL = {
    "mean embedding": lambda embeddings: embeddings.mean(0),
    "zeros": lambda embeddings: torch.zeros(embeddings.shape[1]),
    "unit noise": lambda embeddings: torch.randn(embeddings.shape[1], generator=torch.Generator().manual_seed(0)),
}


def passages(tokenizer, stories) -> Tensor:
    """The stories cut into rows of LENGTH tokens, each after a start token: int64, (rows, LENGTH)."""
    start = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    ids = tokenizer([story.text for story in stories]).input_ids
    step = LENGTH - 1
    return torch.tensor([[start, *s[i : i + step]] for s in ids for i in range(0, len(s) - step + 1, step)])


def evaluations(rows: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    blank = torch.zeros(LENGTH, dtype=torch.bool)
    blank[24:40] = True
    made = {
        "left to right": groups.left_to_right(LENGTH),
        "blocks of 4": groups.blocks(LENGTH, 4),
        "a blank of 16": groups.infill(blank),
        "random order": groups.shuffled(LENGTH, 1, generator=generator),
    }
    return {name: group_ids.expand(rows, -1) for name, group_ids in made.items()}


@torch.no_grad()
def losses(model: A3ForCausalLM, rows: Tensor) -> dict[str, float]:
    with torch.autocast("cpu", torch.bfloat16):
        named = {name: model(rows, ids, labels=rows).loss.item() for name, ids in evaluations(len(rows)).items()}
    return {name: round(value, 3) for name, value in named.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--held-out", type=int, default=24, help="rows of held-out text")
    options = parser.parse_args()

    small, text = small_model(), small_text()
    train = passages(small.tokenizer, text.stories[:-40])
    held_out = passages(small.tokenizer, text.stories[-40:])
    held_out = held_out[torch.randperm(len(held_out), generator=torch.Generator().manual_seed(1))[: options.held_out]]
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(2))
    group_ids = groups.left_to_right(LENGTH).expand(options.batch, -1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        autoregressive = small.autoregressive(held_out, labels=held_out).loss.item()
    print(f"the source model, left to right: {autoregressive:.3f} nats per token")

    rows = {}
    for name, initial in INITIAL.items():
        model = from_autoregressive(small.autoregressive)
        with torch.no_grad():
            model.model.query_embedding.copy_(initial(model.model.embed_tokens.weight))
        before = losses(model, held_out)
        optimiser = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.0)
        for step in range(options.steps):
            for setting in optimiser.param_groups:  # a short warm-up, then constant
                setting["lr"] = options.learning_rate * min(1.0, (step + 1) / 5)
            batch = train[order[step * options.batch : (step + 1) * options.batch]]
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(batch, group_ids, labels=batch).loss
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
        rows[name] = {"untouched": before, "adapted": losses(model, held_out)}
        print(f"{name:>15}: untouched {before}\n{'':>15}  adapted   {rows[name]['adapted']}", flush=True)
    record(
        "query_init",
        seed=0,
        model=small.name,
        text=text.name,
        steps=options.steps,
        tokens=options.steps * options.batch * LENGTH,
        autoregressive=round(autoregressive, 3),
        rows=rows,
    )


if __name__ == "__main__":
    main()
