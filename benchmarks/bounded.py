"""How many tokens at a time, and which? What is lost, by tokens a pass, and what a window saves when the model chooses.

    python benchmarks/bounded.py --tinystories FILE    about an hour on one CPU core
    python benchmarks/bounded.py --only compact        the losses and samples of the compact model anew; the rest stays
    python benchmarks/bounded.py --smoke               a minute, the compact model alone; no result file

Three parts. The loss: held-out text after its first 16 tokens, nats per token, exact: the order that the model would
have chosen is replayed on the text (``decode.resample_log_likelihood``); fixed orders are scored by one pass. Beside it
the tokens that a pass fills on average; 95 % intervals over rows, and the difference to one at a time from left to
right, paired by rows. Two models: the compact one on its own held-out text, in all ways, and the adapter on stories
that it was not trained on, in fewer ways and on half as many rows.

The samples of the compact model: its continuations of half of the same rows, temperature 1, three seeds, under a judge.

The speed: SmolLM2, not adapted (time does not depend on what a model has learned), batch 1, one thread. All ways take
turns, and a speed is a ratio of processor times. Other programs change these less than wall times, but they do.

What is finished is kept in checkpoints/bounded, so a run that was stopped goes on.
"""

import argparse
import statistics
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from kept import kept, weights_of
from record import record, renew
from study_report import SEEDS, judge
from texts import held_out
from torch import Tensor
from tradeoff import REAL, processor_time

from a3mini import decode, from_autoregressive, groups, objective, pretrained
from a3mini.decode import dynamic
from a3mini.evaluate import intervals
from a3mini.train import generator_for

FOLDER = Path("checkpoints/bounded")
LENGTH, GIVEN = 96, 16
LENGTHS, PROMPT = {128: 1, 512: 1}, 32  # new tokens that are timed, and how often; tokens before them
ONE = "left to right"
ADAPTER = "smollm2-a3-warm"
BOUNDS, THRESHOLDS, WINDOW, SHORT, APART = (0.5, 1.0, 2.0, 4.0, 8.0), (0.5, 0.7, 0.9), 16, 16, 8
BESIDE = {  # what a bound is tried with
    f"apart {APART}": {"apart": APART},
    f"window {WINDOW}": {"window": WINDOW},
    f"apart {APART}, shortlist {SHORT}": {"apart": APART, "shortlist": SHORT},
}
FIXED = {
    ONE: groups.blocks(LENGTH, 1, GIVEN),
    **{f"neighbours, {size}": groups.blocks(LENGTH, size, GIVEN) for size in (2, 4, 8)},
    **{f"far apart, {size}": groups.strided(LENGTH, size, GIVEN) for size in (2, 4, 8)},
    **{f"random, {size}": groups.shuffled(LENGTH, size, GIVEN, generator=generator_for(0)) for size in (1, 2, 4, 8)},
}
CHOSEN = {  # the arguments of ``decode.resample``
    **{f"confidence, {size}": {"per_step": size} for size in (1, 2, 4, 8)},
    **{f"confidence, {size}, window {WINDOW}": {"per_step": size, "window": WINDOW} for size in (1, 2, 4, 8)},
    **{f"confidence, 4, window {window}": {"per_step": 4, "window": window} for window in (8, 32)},
    **{f"confidence, {size}, shortlist {SHORT}": {"per_step": size, "shortlist": SHORT} for size in (1, 4, 8)},
    **{f"confidence, {size}, apart {APART}": {"per_step": size, "apart": APART} for size in (4, 8)},
    **{f"confidence, {size}, apart {APART}, shortlist {SHORT}": {"per_step": size, "apart": APART, "shortlist": SHORT}
       for size in (4, 8)},
    **{f"bound {bound:g}": {"criterion": "entropy", "bound": bound} for bound in BOUNDS},
    **{f"bound {bound:g}, {how}": {"criterion": "entropy", "bound": bound, **more}
       for how, more in BESIDE.items() for bound in BOUNDS},
    **{f"threshold {threshold:g}": {"threshold": threshold} for threshold in THRESHOLDS},
    **{f"threshold {threshold:g}, window {WINDOW}": {"threshold": threshold, "window": WINDOW}
       for threshold in THRESHOLDS},
}  # fmt: skip
FEW = [  # for the adapter
    *FIXED, "confidence, 1", "confidence, 4", f"confidence, 4, shortlist {SHORT}",
    f"confidence, 4, apart {APART}, shortlist {SHORT}", "bound 2", "bound 8", f"bound 8, apart {APART}",
    "threshold 0.7",
]  # fmt: skip
JUDGED = [ONE, "neighbours, 4", "far apart, 4", "confidence, 4", "bound 8", f"bound 8, apart {APART}"]
TEXTS = 8  # of the rows, for the judge
SMOKE = [ONE, "far apart, 4", "confidence, 4", "bound 1"]


def fixed(model, ids: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """Nats (B,) of the rows after what is given, and the passes (B,) that drawing them would take."""
    order = order.expand(len(ids), -1)
    return -objective.log_likelihood(model, ids, *groups.read_given(order, model.config.known_order)), order.amax(-1)


def chosen(model, ids: Tensor, options: dict) -> tuple[Tensor, Tensor]:
    """The same where the model chooses the order."""
    made = []
    unknown = (torch.arange(LENGTH) >= GIVEN).expand(len(ids), -1)
    in_order = torch.arange(LENGTH).expand(len(ids), -1) if model.config.known_order == "left_to_right" else None

    def steps(*arguments):
        made.append(right(*arguments))
        return made[-1]

    right = dynamic.Steps
    with mock.patch.object(dynamic, "Steps", steps):
        log_probs = decode.resample_log_likelihood(model, ids, unknown, **options, known_groups=in_order)
    return -log_probs.sum(-1), made[-1].passes


def losses(model, rows: Tensor, ways: list[str], batch: int, settings: dict) -> dict[str, dict]:
    """For each way its loss and how many tokens it fills in a pass."""
    found = {}
    for name in ways:
        run = partial(fixed, order=FIXED[name]) if name in FIXED else partial(chosen, options=CHOSEN[name])

        def measure(run=run):
            nats, passes = zip(*(run(model, part) for part in rows.split(batch)), strict=True)
            return {"nats": torch.cat(nats).tolist(), "passes": torch.cat(passes).tolist()}

        found[name] = kept(FOLDER, f"{settings['model']} {name}", {**settings, "way": name}, measure)
        print(settings["model"], summary(name, found), flush=True)
    return found


def summary(name: str, found: dict) -> dict:
    tokens = torch.full((len(found[name]["nats"]),), LENGTH - GIVEN)
    nats, one = (torch.tensor(found[which]["nats"]) / tokens for which in (name, ONE))
    row = {
        "way": name,
        "tokens_per_pass": round((tokens.sum() / sum(found[name]["passes"])).item(), 2),
        "loss": intervals.bootstrap(nats, tokens).rounded(3),
    }
    return row if name == ONE else row | {"more": intervals.bootstrap(nats - one, tokens).rounded(3)}


def drawn(model, ids: Tensor, name: str, seed: int) -> decode.Generation:
    """The rows with other tokens after what is given."""
    options = {"generator": generator_for(seed), "runners_up": 0}
    known_order = model.config.known_order
    if name in FIXED:
        return decode.generate(model, ids, *groups.read_given(FIXED[name].expand(len(ids), -1), known_order), **options)
    unknown, in_order = (torch.arange(LENGTH) >= GIVEN).expand(len(ids), -1), torch.arange(LENGTH).expand(len(ids), -1)
    known_groups = in_order if known_order == "left_to_right" else None
    return decode.resample(model, ids, unknown, **CHOSEN[name], known_groups=known_groups, considered=False, **options)


def judged(model, tokenizer, rows: Tensor, ways: list[str]) -> dict:
    """For each way the judge's perplexity, the entropy of the words and the tokens a pass; means over seeds."""
    text = partial(tokenizer.batch_decode, skip_special_tokens=True)
    done = {name: [drawn(model, rows, name, seed) for seed in SEEDS] for name in ways}
    found = judge({name: [text(one.sequences) for one in by_seed] for name, by_seed in done.items()}
                  | {REAL: [text(rows)] * len(SEEDS)})  # fmt: skip
    for name, by_seed in done.items():
        passes = sum(sum(one.trace.passes) for one in by_seed)
        found[name]["tokens_per_pass"] = round(len(SEEDS) * len(rows) * (LENGTH - GIVEN) / passes, 2)
    return found


def ways_to_time(model, llama, new: int) -> dict:
    """What takes turns; each takes the number of the round."""
    prompt = torch.randint(llama.config.vocab_size, (1, PROMPT), generator=generator_for(0))
    ids = torch.cat((prompt, torch.zeros(1, new, dtype=torch.int64)), dim=1)
    unknown = torch.arange(ids.shape[1])[None] >= prompt.shape[1]

    def autoregressive(seed):
        torch.manual_seed(seed)
        options = dict(max_new_tokens=new, min_new_tokens=new, do_sample=True, top_k=0, use_cache=True, pad_token_id=0)
        return llama.generate(prompt, attention_mask=torch.ones_like(prompt), **options)

    def groupwise(seed, size, make=groups.blocks):
        order = make(ids.shape[1], size, prompt.shape[1])[None]
        return decode.generate(model, ids, order, generator=generator_for(seed), runners_up=0)

    def by_confidence(seed, **options):
        options = {**options, "generator": generator_for(seed), "runners_up": 0, "considered": False}
        return decode.resample(model, ids, unknown, 4, **options)

    return {
        "transformers generate": autoregressive,
        "neighbours, 4": partial(groupwise, size=4),
        "far apart, 4": partial(groupwise, size=4, make=groups.strided),
        "far apart, 8": partial(groupwise, size=8, make=groups.strided),
        "confidence, 4": by_confidence,
        f"confidence, 4, window {WINDOW}": partial(by_confidence, window=WINDOW),
        f"confidence, 4, shortlist {SHORT}": partial(by_confidence, shortlist=SHORT),
    }


def speed(new: int, rounds: int) -> dict:
    """Processor seconds of each way, and tokens a second as a ratio to transformers' ``generate``."""
    llama = pretrained.small_model().autoregressive
    ways = ways_to_time(from_autoregressive(llama), llama, new)
    for run in ways_to_time(from_autoregressive(llama), llama, 8).values():
        run(0)  # to warm up
    seconds = {name: [] for name in ways}
    for number in range(rounds):
        for name, run in ways.items():
            seconds[name].append(processor_time(partial(run, number))[0])
            print(new, name, round(seconds[name][-1], 1), flush=True)
    first = next(iter(ways))
    ratios = {name: [a / b for a, b in zip(seconds[first], seconds[name], strict=True)] for name in ways}
    return {
        name: {
            "seconds": round(statistics.median(seconds[name]), 2),
            "ratio": round(statistics.median(ratios[name]), 2),
        }
        for name in ways
    }


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tinystories", type=Path, help="file of stories; default: the hub's TinyStories")
    parser.add_argument("--rows", type=int, default=16, help="held-out rows; the adapter gets half of them")
    parser.add_argument("--only", choices=("compact",), help="measure this model anew, in the stored result")
    parser.add_argument("--smoke", action="store_true", help="three rows, a few ways, no result file")
    options = parser.parse_args(arguments)
    count = 3 if options.smoke else options.rows
    threads = torch.get_num_threads()
    compact, words, called = pretrained.compact_model()
    ways = SMOKE if options.smoke else [*FIXED, *CHOSEN]
    systems = [("compact", compact, called, held_out(words, LENGTH, count, options.tinystories), ways)]
    if not (options.smoke or options.only):
        model, tokenizer, called = pretrained.adapted_model(ADAPTER)
        rows = held_out(tokenizer, LENGTH, count // 2, options.tinystories)
        systems.append((ADAPTER, model, called, rows, FEW))
    found, spent = {}, 0.0
    for name, model, called, rows, ways in systems:
        settings = {"model": name, "weights": weights_of(model), "rows": rows.tolist(), "given": GIVEN}
        measured = losses(model, rows, ways, 12, settings)
        spent += sum(one["wall_seconds"] for one in measured.values())
        found[name] = {"model": called, "rows": len(rows), "ways": [summary(way, measured) for way in ways]}
    if options.smoke:
        return
    rows = systems[0][3][:TEXTS]
    settings = {"weights": weights_of(compact), "rows": rows.tolist(), "given": GIVEN, "ways": JUDGED}
    samples = kept(FOLDER, "judged", settings, partial(judged, compact, words, rows, JUDGED))
    spent += samples["wall_seconds"]
    by_judge = {name: samples[name] for name in [*JUDGED, REAL]}
    if options.only:
        renew("bounded", "The compact model was measured anew", seed=0, wall_seconds=spent, systems=found,
              judge=samples["judge"], texts=len(rows), judged=by_judge)  # fmt: skip
        return
    torch.set_num_threads(1)  # several would wait for each other, and waiting counts as work
    times = {
        str(new): kept(FOLDER, f"speed {new}", {"new": new, "rounds": rounds}, partial(speed, new, rounds))
        for new, rounds in LENGTHS.items()
    }
    torch.set_num_threads(threads)
    spent += sum(one["wall_seconds"] for one in times.values())
    record(
        "bounded", seed=0, wall_seconds=spent, length=LENGTH, given=GIVEN, systems=found,
        judge=samples["judge"], texts=len(rows), judged=by_judge,
        speed={new: {name: one for name, one in by.items() if isinstance(one, dict) and "ratio" in one}
               for new, by in times.items()},
    )  # fmt: skip


if __name__ == "__main__":
    main()
