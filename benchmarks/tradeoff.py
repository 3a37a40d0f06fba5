"""Quality against forward passes: what each way of decoding gives on the shipped compact model.

Each strategy continues the same held-out prompts, with three seeds, at temperature 1. For each: forward passes and
seconds per sample, the perplexity under an independent judge, and what a low perplexity may hide: the entropy of the
words and the share of distinct pairs of words. And the loss, nats per token, that the compact model itself gives the
sample from left to right.

    python benchmarks/tradeoff.py                 about ten minutes on two cores; leave the machine alone for the times
"""

import statistics
from functools import partial

import torch
from decoding import clock
from record import record
from study import SEEDS, interval, judge
from texts import held_out

from a3mini import decode, groups, objective, speculative
from a3mini.pretrained import compact_model
from a3mini.train import generator_for

GIVEN, NEW, SAMPLES = 16, 64, 24
SIZES = (1, 2, 4, 8, 16)


def strategies(model) -> dict[str, tuple[str, int, object]]:
    """By name: the family, the tokens per step, and a function of (input_ids, generator) that decodes."""
    made = {}
    length = GIVEN + NEW
    unknown = (torch.arange(length) >= GIVEN).expand(SAMPLES, -1)

    def add(family: str, size: int, run) -> None:
        made[f"{family}, {size}"] = (family, size, run)

    def random_order(run, size: int):
        def decoded(ids, generator):
            orders = [groups.shuffled(length, size, GIVEN, generator) for _ in range(SAMPLES)]
            return run(ids, torch.stack(orders), generator=generator)

        return decoded

    for size in SIZES:
        in_order = groups.blocks(length, size, GIVEN).expand(SAMPLES, -1)
        add("left to right", size, lambda ids, g, order=in_order: decode.generate(model, ids, order, generator=g))
        add("random order", size, random_order(partial(decode.generate, model), size))
        for criterion in ("confidence", "entropy"):
            run = partial(decode.resample, model, unknown=unknown, per_step=size, criterion=criterion)
            add(f"by {criterion}", size, lambda ids, g, run=run: run(input_ids=ids, generator=g))
    for size in (1, 4):
        run = partial(decode.resample, model, unknown=unknown, per_step=size, context="refreshed")
        add("by confidence, refreshed", size, lambda ids, g, run=run: run(input_ids=ids, generator=g))
    for draft in (4, 8, 16):
        in_order = groups.left_to_right(length, GIVEN).expand(SAMPLES, -1)
        run = partial(speculative.generate, model, draft=draft)
        add("speculative, left to right", draft, lambda ids, g, r=run, order=in_order: r(ids, order, generator=g))
        add("speculative, random order", draft, random_order(run, 1))
    return made


@torch.no_grad()
def main() -> None:
    compact = compact_model()
    model, tokenizer = compact.model, compact.tokenizer
    ids = held_out(tokenizer, GIVEN + NEW, SAMPLES)  # what follows the beginnings is never read
    left_to_right = groups.left_to_right(GIVEN + NEW, GIVEN).expand(SAMPLES, -1)
    rows, texts = {}, {}
    for name, (family, size, run) in strategies(model).items():
        passes, seconds, own, texts[name] = [], [], [], []
        run(ids, generator_for(0))  # to warm up
        for seed in SEEDS:
            done = []
            seconds.append(clock(lambda run=run, seed=seed, done=done: done.append(run(ids, generator_for(seed)))))
            passes.append(statistics.mean(done[0].trace.passes))
            own.append(-objective.log_likelihood(model, done[0].sequences, left_to_right).mean().item() / NEW)
            texts[name].append(tokenizer.batch_decode(done[0].sequences, skip_special_tokens=True))
        rows[name] = {
            "family": family, "tokens_per_step": size, "passes": round(statistics.mean(passes), 1),
            "ms_per_sample": round(1e3 * statistics.median(seconds) / SAMPLES, 1), "own_loss": interval(own),
        }  # fmt: skip
        print(name, rows[name], flush=True)
    texts["held-out text"] = [tokenizer.batch_decode(ids, skip_special_tokens=True)] * len(SEEDS)
    judged = judge(texts)
    for name in texts:
        rows.setdefault(name, {})["judged"] = judged[name]
    rows["held-out text"]["own_loss"] = interval(
        [-objective.log_likelihood(model, ids, left_to_right).mean().item() / NEW] * len(SEEDS)
    )
    record(
        "tradeoff", seed=0, seeds=SEEDS, model=compact.name, judge=judged["judge"], given=GIVEN, new_tokens=NEW,
        samples=SAMPLES, strategies=rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
