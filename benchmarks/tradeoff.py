"""What does quality cost in forward passes? Each way of decoding, on the shipped compact model.

Each strategy continues the same held-out prompts, with three seeds, at temperature 1. For each: forward passes and
seconds per sample, the perplexity under an independent judge, and what a low perplexity may hide: the entropy of the
words and the share of distinct pairs of words. And the loss, nats per token, that the compact model itself gives the
sample from left to right.

    python benchmarks/tradeoff.py --tinystories FILE    ten minutes on one core
    python benchmarks/tradeoff.py --add strided         measure this family and put it beside the stored ones

Times are processor times of one thread, which other programs change less than the time of a clock, but they do.

With ``--add`` all that was stored before stays. The stored times are those of another hour, so a time is measured as a
ratio: the new way and "left to right" with as many tokens at a time take turns, and the ratio of their processor times
is taken times the stored time of the latter.
"""

import argparse
import json
import statistics
import time
from functools import partial
from pathlib import Path

import torch
from record import RESULTS, provenance, record
from study_report import SEEDS, interval, judge
from texts import held_out
from torch import Tensor

from a3mini import decode, groups, objective, runs, speculative
from a3mini.pretrained import compact_model
from a3mini.train import generator_for

GIVEN, NEW, SAMPLES = 16, 64, 24
LENGTH = GIVEN + NEW
REAL, BESIDE = "held-out text", "left to right"
SIZES, DRAFTS = (1, 2, 4, 8, 16), (4, 8, 16)  # tokens at a time
UNKNOWN = (torch.arange(LENGTH) >= GIVEN).expand(SAMPLES, -1)


def in_order(size: int) -> Tensor:
    return groups.blocks(LENGTH, size, GIVEN).expand(SAMPLES, -1)


def strided(size: int) -> Tensor:
    return groups.strided(LENGTH, size, GIVEN).expand(SAMPLES, -1)


def at_random(size: int, generator: torch.Generator) -> Tensor:
    return torch.stack([groups.shuffled(LENGTH, size, GIVEN, generator) for _ in range(SAMPLES)])


def read(model, order: Tensor) -> tuple[Tensor, Tensor]:
    """The order, with given tokens that read each other as the model has learned it; and which are given."""
    return groups.read_given(order, model.config.known_order)


def fixed(model, ids: Tensor, order: Tensor, generator, **draft) -> decode.Generation:
    order, known = read(model, order)
    return (speculative if draft else decode).generate(model, ids, order, known=known, generator=generator, **draft)


def chosen(model, ids: Tensor, size: int, generator, criterion: str = "confidence", **more) -> decode.Generation:
    refreshed = "context" in more  # then all that is known is one group
    if model.config.known_order == "left_to_right" and not refreshed:
        more["known_groups"] = torch.arange(LENGTH).expand(SAMPLES, -1)
    return decode.resample(model, ids, UNKNOWN, size, criterion, generator=generator, **more)


FAMILIES = {  # family: the tokens at a time that are tried, and how it decodes
    "left to right": (SIZES, lambda m, ids, size, g: fixed(m, ids, in_order(size), g)),
    "strided": (SIZES[1:], lambda m, ids, size, g: fixed(m, ids, strided(size), g)),
    "random order": (SIZES, lambda m, ids, size, g: fixed(m, ids, at_random(size, g), g)),
    "by confidence": (SIZES, chosen),
    "by entropy": (SIZES, partial(chosen, criterion="entropy")),
    "by confidence, refreshed": ((1, 4), partial(chosen, context="refreshed")),
    "speculative, left to right": (DRAFTS, lambda m, ids, size, g: fixed(m, ids, in_order(1), g, draft=size)),
    "speculative, random order": (DRAFTS, lambda m, ids, size, g: fixed(m, ids, at_random(1, g), g, draft=size)),
}  # fmt: skip


def row_of(family: str, size: int, done: list[decode.Generation], milliseconds: float) -> dict:
    passes = statistics.mean(statistics.mean(one.trace.passes) for one in done)
    return {"family": family, "tokens_per_step": size, "passes": round(passes, 1),
            "ms_per_sample": round(milliseconds, 1)}  # fmt: skip


def qualities(model, tokenizer, sequences: dict[str, list[Tensor]]) -> tuple[dict[str, dict], str]:
    """By name, what the judge and the model itself think of the samples of each seed; and who the judge is."""
    text = partial(tokenizer.batch_decode, skip_special_tokens=True)
    judged = judge({name: list(map(text, by_seed)) for name, by_seed in sequences.items()})
    found = {}
    for name, by_seed in sequences.items():
        nats = [-objective.log_likelihood(model, one, *read(model, in_order(1))) for one in by_seed]
        losses = [by_row.mean().item() / NEW for by_row in nats]
        found[name] = {"own_loss": interval(losses), "judged": judged[name]}
    return found, judged["judge"]


def processor_time(run) -> tuple[float, decode.Generation]:
    """Seconds of one call on the processor, which other programs hardly change, and what it returned."""
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


@torch.no_grad()
def add(families: list[str], path_of_stories: Path | None) -> None:
    """Measure families that the stored result lacks, or measure them again; all the rest of it stays."""
    start, path = time.time(), RESULTS / "tradeoff.json"
    stored = json.loads(path.read_text())
    model, tokenizer, _ = compact_model()
    ids = held_out(tokenizer, LENGTH, SAMPLES, path_of_stories)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several would wait for each other, and waiting counts as work
    rows, sequences = {}, {}
    ways = [(family, size) for family in families for size in FAMILIES[family][0]]
    for family, size in ways:
        ratios, done = [], []
        for seed in (SEEDS[0], *SEEDS):  # the first time warms up
            (seconds, one), (others, _) = (
                processor_time(partial(FAMILIES[which][1], model, ids, size, generator_for(seed)))
                for which in (family, BESIDE)
            )
            ratios, done = [*ratios, seconds / others], [*done, one]
        beside = stored["strategies"][f"{BESIDE}, {size}"]["ms_per_sample"]
        name = f"{family}, {size}"
        rows[name] = row_of(family, size, done[1:], statistics.median(ratios[1:]) * beside)
        sequences[name] = [one.sequences for one in done[1:]]
        print(name, rows[name], "ratios", [round(ratio, 2) for ratio in ratios[1:]], flush=True)
    torch.set_num_threads(threads)
    found, _ = qualities(model, tokenizer, sequences)
    strategies = {}
    for name, row in stored["strategies"].items():  # a new row stands below the one that it took turns with
        strategies |= {} if name in rows else {name: row}
        below = [new for new in rows if name == f"{BESIDE}, {rows[new]['tokens_per_step']}"]
        strategies |= {new: rows[new] | found[new] for new in below}
    before = [one for one in stored.get("added", []) if one["families"] != families]
    added = provenance(0, time.time() - start) | {"families": families}
    runs.write_json(path, stored | {"added": [*before, added], "strategies": strategies})


@torch.no_grad()
def measure(path: Path | None) -> None:
    model, tokenizer, model_name = compact_model()
    ids = held_out(tokenizer, LENGTH, SAMPLES, path)  # what follows the beginnings is never read
    rows, sequences = {}, {REAL: [ids] * len(SEEDS)}
    torch.set_num_threads(1)  # several would wait for each other, and waiting counts as work
    for family, size, run in ((family, size, run) for family, (sizes, run) in FAMILIES.items() for size in sizes):
        run(model, ids, size, generator_for(0))  # to warm up
        seconds, done = zip(
            *(processor_time(partial(run, model, ids, size, generator_for(s))) for s in SEEDS), strict=True
        )
        name = f"{family}, {size}"
        rows[name] = row_of(family, size, done, 1e3 * statistics.median(seconds) / SAMPLES)
        sequences[name] = [one.sequences for one in done]
        print(name, rows[name], flush=True)
    found, name_of_judge = qualities(model, tokenizer, sequences)
    rows = {name: row | found[name] for name, row in rows.items()} | {REAL: found[REAL]}
    record(
        "tradeoff", seed=0, seeds=SEEDS, model=model_name, judge=name_of_judge, given=GIVEN, new_tokens=NEW,
        samples=SAMPLES, strategies=rows,
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    others = [family for family in FAMILIES if family != BESIDE]
    parser.add_argument("--add", nargs="*", choices=others, help="measure these alone, and add them to the result")
    parser.add_argument("--tinystories", type=Path, help="file of stories; default: the hub's TinyStories")
    options = parser.parse_args(arguments)
    add(options.add, options.tinystories) if options.add else measure(options.tinystories)


if __name__ == "__main__":
    main()
