"""Muon or AdamW? A compact A3 model from scratch, on the same rows, groups and tokens.

    python benchmarks/muon.py           a quarter of an hour on one core; finished trainings are kept for the next try
    python benchmarks/muon.py --smoke   a few steps of a tiny model; nothing is written

The shape of the book's compact model, narrower: 128 wide, 3 layers. Either arm has one learning rate, tuned over the
same grid on seed 0, and at most twice beyond an end of the grid where the best stands there. Two more seeds follow at
the best rate: they decide the weights that a model starts from, the rows and the groups. The rate rises over 10 % of
the steps and falls along a cosine.

Losses are nats per predicted token on held-out rows, under each grouping; what is tuned is their mean. Differences,
Muon minus AdamW, are paired over seeds (Student's t). How long a step takes is a ratio, the two taking turns.
"""

import argparse
from pathlib import Path
from statistics import mean, median, stdev

import torch
from kept import kept
from query_start import T_975
from record import record
from texts import book_tokenizer
from timing import turns
from torch import Tensor

from a3mini import A3Config, A3ForCausalLM, groups, objective, train
from a3mini.evaluate.held_out import draw, token_losses
from a3mini.train import Curriculum, corpus, data
from a3mini.train.curriculum import CHOICES, Grouping
from a3mini.train.optimizers import optimizer_for
from a3mini.train.schedules import schedule_for
from a3mini.train.tokens import vocabulary_size

GROUPINGS = {
    "left to right": Grouping("blocks"), "a sentence, both sides": Grouping("sentence"),
    "far apart, 4 at a time": Grouping("strided", 4), "random order": Grouping("shuffled"),
}  # fmt: skip
ARMS = ("AdamW", "Muon")
RATES = (1e-3, 2e-3, 4e-3, 8e-3)
LENGTH, BATCH, ROWS = 64, 8, 32
SHAPE = dict(hidden_size=128, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
             max_position_embeddings=LENGTH, tie_word_embeddings=True)  # fmt: skip
TINY = dict(SHAPE, hidden_size=32, intermediate_size=64, num_hidden_layers=2)


class Training:
    """One model on its way; ``step(n)`` is a function of its settings and n alone."""

    def __init__(self, shape: dict, vocabulary: int, blocks: data.Blocks, arm: str, rate: float, seed: int, steps: int):
        torch.manual_seed(seed)
        self.model = A3ForCausalLM(A3Config(vocab_size=vocabulary, query_start="previous", **shape)).train()
        self.blocks, self.seed, self.steps = blocks, seed, steps
        self.order, self.curriculum = data.Order(len(blocks.input_ids), seed), Curriculum.preset("mixed")
        config = train.TrainConfig(steps=steps, warmup_steps=steps // 10, optimizer=arm.lower(), learning_rate=rate)
        self.optimizer = optimizer_for(self.model, config, self.model.device)
        self.schedule = schedule_for(self.optimizer, config)

    def step(self, number: int) -> int:
        """Draw, compute, update; how many tokens were predicted."""
        examples = torch.arange(number * BATCH, (number + 1) * BATCH)
        rows = self.blocks.rows(self.order.rows(examples)).trimmed()
        numbers = train.uniform(self.seed, examples, rows.input_ids.shape[1] + CHOICES)
        group_ids = self.curriculum.draw(number / self.steps, rows.lengths, rows.sentence_ends, numbers)
        count = int((group_ids > 0).sum())
        (-score(self.model, rows.input_ids, group_ids).sum() / count).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        return count


def score(model, input_ids: Tensor, group_ids: Tensor) -> Tensor:
    return objective.log_likelihood(model, input_ids, *groups.read_given(group_ids, "left_to_right"), reduction="token")


def trained(training: Training, held_out: data.Blocks) -> dict:
    """Train to the end; held-out losses, and the tokens that were predicted on the way."""
    tokens = sum(training.step(number) for number in range(training.steps))
    model, found = training.model.eval(), {}
    for title, grouping in GROUPINGS.items():
        nats, count = token_losses(lambda i, g: score(model, i, g), held_out, draw(held_out, grouping), batch_size=16)
        found[title] = (nats.sum() / count.sum()).item()
    return {"losses": found, "mean": mean(found.values()), "tokens": tokens}


def best_rate(losses: dict[float, float]) -> float:
    """The rate with the lowest loss; one that is not a number is no rate."""
    return min((rate for rate, loss in losses.items() if loss == loss), key=losses.get)


def next_rate(losses: dict[float, float]) -> float | None:
    """Where the best stands at an end of the grid: the next beyond it, at most twice; else None."""
    best = best_rate(losses)
    if len(losses) >= len(RATES) + 2 or best not in (min(losses), max(losses)):
        return None
    return best / 2 if best == min(losses) else best * 2


def compared(by_arm: dict[str, list[float]]) -> dict:
    """Means over seeds, and the paired difference with half of its 95 % interval."""
    gain = [muon - adamw for adamw, muon in zip(*(by_arm[arm] for arm in ARMS), strict=True)]
    half = T_975[len(gain)] * stdev(gain) / len(gain) ** 0.5 if len(gain) > 1 else 0.0
    return {arm: round(mean(by_arm[arm]), 3) for arm in ARMS} | {"difference": [round(mean(gain), 3), round(half, 3)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--seeds", type=int, default=3, choices=(1, *T_975))
    parser.add_argument("--smoke", action="store_true", help="a tiny model and four steps; nothing is written")
    options = parser.parse_args()
    steps, shape = (4, TINY) if options.smoke else (options.steps, SHAPE)
    tokenizer = book_tokenizer()
    stories, others = corpus.split_documents(corpus.documents("andersen", "bible-bbe"))
    most = 40 if options.smoke else None
    blocks, held_out = (data.pack(some[:most], tokenizer, LENGTH) for some in (stories, others))
    held_out = held_out.rows(torch.randperm(len(held_out.lengths), generator=train.generator_for(0))[:ROWS])
    vocabulary = vocabulary_size(tokenizer)

    spent = {}  # seconds of each training, of those that were kept, too

    def run(arm: str, rate: float, seed: int) -> dict:
        settings = {"shape": shape, "steps": steps, "batch": BATCH, "rate": rate, "seed": seed, "rows": ROWS}

        def make() -> dict:
            return trained(Training(shape, vocabulary, blocks, arm, rate, seed, steps), held_out)

        found = make() if options.smoke else kept(Path("checkpoints/muon"), arm, settings, make)
        spent[arm, rate, seed] = found.get("wall_seconds", 0.0)
        print(f"{arm}, rate {rate:g}, seed {seed}: {found['mean']:.4f}", flush=True)
        return found

    tuned, best = {}, {}
    for arm in ARMS:
        losses = {rate: run(arm, rate, 0)["mean"] for rate in RATES}
        while (more := next_rate(losses)) is not None:
            losses[more] = run(arm, more, 0)["mean"]
        tuned[arm] = {f"{rate:g}": round(loss, 3) for rate, loss in sorted(losses.items())}
        best[arm] = best_rate(losses)
    runs_of = {arm: [run(arm, best[arm], seed) for seed in range(options.seeds)] for arm in ARMS}
    tokens = {arm: [one["tokens"] for one in found] for arm, found in runs_of.items()}
    assert tokens["AdamW"] == tokens["Muon"], "the arms see the same rows and groups"
    losses = {title: compared({arm: [one["losses"][title] for one in found] for arm, found in runs_of.items()})
              for title in GROUPINGS}  # fmt: skip
    losses["mean of these"] = compared({arm: [one["mean"] for one in found] for arm, found in runs_of.items()})
    sides = {arm: Training(shape, vocabulary, blocks, arm, best[arm], 0, steps) for arm in ARMS}
    seconds = turns({arm: side.step for arm, side in sides.items()}, min(steps - 1, 20))
    ratio = median(muon / adamw for adamw, muon in zip(*(seconds[arm] for arm in ARMS), strict=True))
    found = {"losses": losses, "rates": tuned, "best_rate": best, "step_ratio": round(ratio, 2)}
    print(found)
    if not options.smoke:
        about = {"steps": steps, "seeds": options.seeds, "batch_rows": BATCH, "length": LENGTH, "rows": ROWS}
        about["tokens"] = round(mean(tokens["AdamW"]))
        record("muon", seed=0, wall_seconds=sum(spent.values()), **about, **found)


if __name__ == "__main__":
    main()
