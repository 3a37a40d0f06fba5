"""What does quality cost in forward passes? Each way of decoding, on the shipped compact model.

Each strategy continues the same held-out prompts, with three seeds, at temperature 1. For each: forward passes and
processor time per sample, on one core; the perplexity under an independent judge, and what a low perplexity may hide:
the entropy of the words and the share of distinct pairs of words. And the loss, nats per token, that the compact model
itself gives the sample from left to right.

    python benchmarks/tradeoff.py                 25 minutes on one core; other programs hardly change the times
"""

import os
import statistics
import time
from functools import partial

import torch
from record import record
from study_report import SEEDS, interval, judge
from texts import held_out
from torch import Tensor

from a3mini import decode, groups, objective, speculative
from a3mini.pretrained import compact_model
from a3mini.train import generator_for

GIVEN, NEW, SAMPLES = 16, 64, 24
LENGTH = GIVEN + NEW
SIZES, DRAFTS = (1, 2, 4, 8, 16), (4, 8, 16)  # tokens at a time
REAL = "held-out text"
UNKNOWN = (torch.arange(LENGTH) >= GIVEN).expand(SAMPLES, -1)


def in_order(size: int) -> Tensor:
    return groups.blocks(LENGTH, size, GIVEN).expand(SAMPLES, -1)


def strided(size: int) -> Tensor:
    return groups.strided(LENGTH, size, GIVEN).expand(SAMPLES, -1)


def at_random(size: int, generator: torch.Generator) -> Tensor:
    return torch.stack([groups.shuffled(LENGTH, size, GIVEN, generator) for _ in range(SAMPLES)])


FAMILIES = {  # family: the tokens at a time that are tried, and how it decodes
    "left to right": (SIZES, lambda m, ids, size, g: decode.generate(m, ids, in_order(size), generator=g)),
    "strided": (SIZES[1:], lambda m, ids, size, g: decode.generate(m, ids, strided(size), generator=g)),
    "random order": (SIZES, lambda m, ids, size, g: decode.generate(m, ids, at_random(size, g), generator=g)),
    "by confidence": (SIZES, lambda m, ids, size, g: decode.resample(m, ids, UNKNOWN, size, generator=g)),
    "by entropy": (SIZES, lambda m, ids, size, g: decode.resample(m, ids, UNKNOWN, size, "entropy", generator=g)),
    "by confidence, refreshed": (
        (1, 4), lambda m, ids, size, g: decode.resample(m, ids, UNKNOWN, size, context="refreshed", generator=g)
    ),
    "speculative, left to right": (
        DRAFTS, lambda m, ids, size, g: speculative.generate(m, ids, in_order(1), draft=size, generator=g)
    ),
    "speculative, random order": (
        DRAFTS, lambda m, ids, size, g: speculative.generate(m, ids, at_random(1, g), draft=size, generator=g)
    ),
}  # fmt: skip


def processor_time(run) -> tuple[float, decode.Generation]:
    """Seconds of one call on the processor, and what it returned. Other programs hardly change them."""
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)  # then processor time is the time of a clock that waits for nobody
    load = os.getloadavg()[0]
    model, tokenizer, model_name = compact_model()
    ids = held_out(tokenizer, LENGTH, SAMPLES)  # what follows the beginnings is never read
    ways = {f"{family}, {size}": (family, size) for family, (sizes, _) in FAMILIES.items() for size in sizes}
    seconds, done = ({name: [] for name in ways} for _ in range(2))
    for seed in (None, *SEEDS):  # all ways take turns; the first time warms up
        for name, (family, size) in ways.items():
            run = partial(FAMILIES[family][1], model, ids, size, generator_for(seed or 0))
            spent, one = processor_time(run)
            if seed is not None:
                seconds[name].append(spent)
                done[name].append(one)
    rows, sequences = {}, {REAL: [ids] * len(SEEDS)}
    for name, (family, size) in ways.items():
        passes = statistics.mean(statistics.mean(one.trace.passes) for one in done[name])
        rows[name] = {"family": family, "tokens_per_step": size, "passes": round(passes, 1),
                      "ms_per_sample": round(1e3 * statistics.median(seconds[name]) / SAMPLES, 1)}  # fmt: skip
        sequences[name] = [one.sequences for one in done[name]]
        print(name, rows[name], flush=True)
    text = partial(tokenizer.batch_decode, skip_special_tokens=True)
    judged = judge({name: list(map(text, by_seed)) for name, by_seed in sequences.items()})
    for name, by_seed in sequences.items():
        losses = [-objective.log_likelihood(model, one, in_order(1)).mean().item() / NEW for one in by_seed]
        rows.setdefault(name, {}).update(own_loss=interval(losses), judged=judged[name])
    record(
        "tradeoff", seed=0, seeds=SEEDS, model=model_name, judge=judged["judge"], given=GIVEN, new_tokens=NEW,
        samples=SAMPLES, load_before=round(load, 2), strategies=rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
