"""How often may text come again? Autoregression, masked diffusion and A3 on a few tokens, up to 64 times.

    python benchmarks/repetition.py --data FOLDER    100,000 tokens, 64 passes, a narrow model, one seed: an hour of two
                                                     cores; what is finished is kept, what was cut goes on. In two
                                                     processes: first --part 0/2 and --part 1/2 at once, then this line,
                                                     which records
    python benchmarks/repetition.py                  the same on two texts that come as packages
    python benchmarks/repetition.py --tokens 1000000 --seeds 3 --size compact    for a GPU
    python benchmarks/repetition.py --arm A3 --rate 4e-3    one arm alone: a try, not recorded
    python benchmarks/repetition.py --finished       trains nothing; records the arms that are finished on all seeds
    python benchmarks/repetition.py --smoke          a few steps of tiny models; nothing is written

Three arms from the same weights see the same rows in the same order, each row once in a pass, with the same optimiser.
Which rows they are is drawn once, with seed 0; seeds decide the weights, the order of the rows, the groups and the
masks. A3 trains on the curriculum "mixed", with warm query rows.

An arm is one training, looked at after 1, 2, 3, 4, 6, 8, ... 64 passes. The learning rate stays as it is after a short
warm-up (schedule "wsd", a decay of one step, which takes nothing off), so that what stands at pass p is what a training
of p passes gives, but for the decay that such a training would end with. The rate, --rate, is one for all arms, or one
for each in the order of ARMS. Unless it says otherwise it is the best of the grid in ``muon.py``, which was A3's.

Losses are nats per predicted token on the held-out rows of ``recipe.py``, half of them of each text, and on as many
rows that are trained on: autoregression left to right; masked diffusion's bound, eight fixed draws a row; A3 in random
order, each row's fixed, and left to right. The two in random order are one functional (``evaluate.rivals``). The rows
trained on are of all the text, so their losses are another text's, too; what tells is how the two go apart.

After Prabhudesai et al. 2025 (arXiv 2507.15857), who have it for autoregression and masked diffusion.
"""

import argparse
import itertools
import json
import shutil
import time
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import torch
from kept import NotFinished, digest, kept, place
from query_start import T_975
from recipe import (
    LENGTH,
    RATES,
    ROWS,
    SHAPE,
    TINY,
    VOCABULARY,
    Costs,
    Rows,
    Watched,
    as_part,
    command,
    made,
    of_folder,
    packaged,
    part_of,
)
from record import record
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from a3mini import from_autoregressive, runs
from a3mini.evaluate.held_out import HeldOut, a3_score
from a3mini.evaluate.rivals import autoregressive_log_likelihood, bound_score
from a3mini.train import (
    AnyOrder,
    Autoregressive,
    Blocks,
    Curriculum,
    MaskedDiffusion,
    MaskedDiffusionModel,
    TrainConfig,
    data,
    generator_for,
    train,
)
from a3mini.train.batches import Batches
from a3mini.train.curriculum import Grouping
from a3mini.train.interrupt import Interrupted
from a3mini.train.recipes import Recipe

FOLDER = Path("checkpoints/repetition")
TOKENS, PASSES, WARMUP, RATE = 100_000, 64, 32, RATES["muon"]
LOOKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # passes
SAVE_EVERY = 4  # passes
LEFT, RANDOM = "left to right", "random order"
GROUPINGS = {LEFT: Grouping("blocks"), RANDOM: Grouping("shuffled")}
A3, DIFFUSION, AR = ARMS = ("A3", "masked diffusion", "autoregression")
WAYS = {A3: (RANDOM, LEFT), DIFFUSION: (RANDOM,), AR: (LEFT,)}
SCORES = {A3: a3_score, DIFFUSION: bound_score, AR: autoregressive_log_likelihood}
HELD, SEEN = "held out", "trained on"


class Size(NamedTuple):
    """A dial: how large everything is."""

    shape: dict
    vocabulary: int
    length: int
    batch: int  # rows
    held_out: int  # of each text
    precision: str

    @property
    def model(self) -> dict:
        return self.shape | {"vocab_size": self.vocabulary, "max_position_embeddings": self.length}


SIZES = {
    "narrow": Size(SHAPE, VOCABULARY, LENGTH, 16, ROWS, "fp32"),
    "compact": Size(SHAPE | dict(hidden_size=256, intermediate_size=768, num_hidden_layers=6), VOCABULARY, LENGTH, 128,
                    ROWS, "auto"),
    "smoke": Size(TINY, 400, 48, 4, 4, "fp32"),
}  # fmt: skip


# The rows


def portion(blocks: Blocks, tokens: int, batch: int) -> Blocks:
    """Rows of about so many tokens, drawn with seed 0; whole steps of ``batch`` rows, as a pass has."""
    order = torch.randperm(len(blocks.lengths), generator=generator_for(0))
    there = blocks.lengths[order].cumsum(0)[batch - 1 :: batch]  # after each whole step
    if not len(there) or there[-1] < tokens:
        found = int(blocks.lengths.sum())
        raise SystemExit(f"repetition: --tokens {tokens}, but the text has {found:,} in whole steps; ask for fewer")
    return blocks.rows(order[: batch * (1 + int((there - tokens).abs().argmin()))])


def some_seen(blocks: Blocks, count: int) -> Blocks:
    """The first ``count`` of the rows that are full."""
    return blocks.rows((blocks.lengths == blocks.input_ids.shape[1]).nonzero()[:count, 0])


# A training


def begin(arm: str, size: Size, seed: int) -> nn.Module:
    """An untrained model: of a seed the same weights for every arm."""
    torch.manual_seed(seed)
    source = LlamaForCausalLM(LlamaConfig(**size.model))
    if arm == AR:
        return source
    if arm == DIFFUSION:
        return MaskedDiffusionModel.from_autoregressive(source)
    return from_autoregressive(source, query_start="previous", known_order="together")


def recipe_of(arm: str) -> Recipe:
    if arm == AR:
        return Autoregressive()
    # from scratch there is no causal attention to turn around, so diffusion sees both sides from the first step
    return MaskedDiffusion(anneal=0.0) if arm == DIFFUSION else AnyOrder(Curriculum.preset("mixed"), "together")


def config_of(size: Size, rows: int, passes: int, rate: float, seed: int) -> TrainConfig:
    each = rows // size.batch  # steps of a pass
    return TrainConfig(
        steps=passes * each, batch_size=size.batch, optimizer="muon", learning_rate=rate, seed=seed, schedule="wsd",
        warmup_steps=min(WARMUP, each // 2), decay_steps=1, precision=size.precision, eval_every=each,
        save_every=SAVE_EVERY * each, log_every=0,
    )  # fmt: skip


def costs_of(arm: str, size: Size, blocks: Blocks, config: TrainConfig) -> dict:
    """What the first pass takes: real tokens, those predicted, and multiplications of matrices in a forward pass."""
    watched = Watched(recipe_of(arm), Costs.of(size.shape, size.vocabulary))
    batches, heads = Batches(blocks, watched, config), 0
    for step in range(len(blocks.lengths) // size.batch):
        batch = batches[step].batches[0]
        if arm == DIFFUSION:  # its head computes masked tokens alone, and all the others all of theirs
            heads += watched.last - int((batch.weights > 0).sum())
    less = heads * size.shape["hidden_size"] * size.vocabulary
    return {"tokens": watched.tokens, "predicted": watched.predicted, "operations": watched.operations - less}


class Look:
    """What ``train`` calls after every pass: losses where ``passes`` says so, and how long they took.

    Args:
        arm: whose losses.
        held_out, seen: the rows.
        passes: after which it looks.
        first: how many passes the training has behind it; -1: it has not begun, and is asked before its first step.
    """

    def __init__(self, arm: str, held_out: Blocks, seen: Blocks, passes: tuple[int, ...], first: int = -1):
        groupings = {way: GROUPINGS[way] for way in WAYS[arm]}
        self.parts = {where: HeldOut(rows, groupings, batch_size=16, score=SCORES[arm])
                      for where, rows in ((HELD, held_out), (SEEN, seen))}  # fmt: skip
        self.fingerprint = digest(*(part.fingerprint for part in self.parts.values()))
        self.passes, self.next = passes, itertools.count(first + 1)

    def __call__(self, model: nn.Module) -> dict[str, float]:
        if next(self.next) not in self.passes:
            return {}
        began = time.perf_counter()
        found = {f"{where}, {way}": nats for where, part in self.parts.items() for way, nats in part(model).items()}
        return found | {"look_seconds": round(time.perf_counter() - began, 3)}


def looks(passes: int) -> tuple[int, ...]:
    """After which passes a training of so many is looked at."""
    return tuple(sorted({look for look in LOOKS if look < passes} | {passes}))


def trained(arm: str, size: Size, blocks: Blocks, held_out: Blocks, config: TrainConfig, folder: Path | None) -> dict:
    """One training, or what is left of it in ``folder``: the curve, and what it took."""
    each = len(blocks.lengths) // size.batch
    begun = runs.latest_checkpoint(folder / "checkpoints") if folder else None
    first = runs.read_json(begun / runs.STATE, {"step": int})["step"] // each if begun else -1
    seen = some_seen(blocks, len(held_out.lengths))
    look = Look(arm, held_out, seen, looks(config.steps // each), first)
    model = begin(arm, size, config.seed)
    if torch.cuda.is_available():
        model.to("cuda")
    lines = train(model, recipe_of(arm), blocks, config, folder, look, quiet=True)
    curve = [
        {"passes": line["step"] // each, "tokens": line["tokens"]}
        | {where: {way: round(line[f"{where}, {way}"], 4) for way in WAYS[arm]} for where in (HELD, SEEN)}
        for line in lines if "look_seconds" in line
    ]  # fmt: skip
    looking = sum(line.get("look_seconds", 0.0) for line in lines)
    return {"curve": curve, "training_seconds": lines[-1]["seconds"], "look_seconds": round(looking, 3)}


def trainings(arms: list[str], seeds: int) -> list[tuple[str, int]]:
    return [(arm, seed) for seed in range(seeds) for arm in arms]


# The table


def over_seeds(values: list[float], digits: int = 4) -> list[float] | float:
    """The mean and half of its 95 % interval; of one seed the number alone."""
    if len(values) == 1:
        return round(values[0], digits)
    return [round(mean(values), digits), round(T_975[len(values)] * stdev(values) / len(values) ** 0.5, digits)]


def lowest(curve: list[dict], way: str) -> dict:
    """Of one training: where the held-out loss is lowest, and how much it has risen at the end; nats per token."""
    best = min(curve, key=lambda line: line[HELD][way])
    end = curve[-1]
    return {"passes": best["passes"], "loss": best[HELD][way], "end": end[HELD][way], "seen": end[SEEN][way],
            "rise": end[HELD][way] - best[HELD][way]}  # fmt: skip


def summary(found: list[dict], ways: tuple[str, ...]) -> dict:
    """An arm over its seeds: the curve, and for each way the lowest held-out loss and what comes after it."""
    curve = [
        {"passes": lines[0]["passes"], "tokens": lines[0]["tokens"]}
        | {where: {way: over_seeds([line[where][way] for line in lines]) for way in ways} for where in (HELD, SEEN)}
        for lines in zip(*(one["curve"] for one in found), strict=True)
    ]
    best = {}
    for way in ways:
        those = [lowest(one["curve"], way) for one in found]
        best[way] = {"passes": [one["passes"] for one in those]}
        best[way] |= {name: over_seeds([one[name] for one in those]) for name in ("loss", "end", "seen", "rise")}
    seconds = {name: round(mean(one[name] for one in found), 1) for name in ("training_seconds", "look_seconds")}
    return {"curve": curve, "best": best, **seconds}


# The whole


def rates_of(said: list[float]) -> dict[str, float]:
    """The rate of each arm, from one number for all or one for each."""
    if len(said) not in (1, len(ARMS)) or min(said) <= 0:
        shown = " ".join(f"{one:g}" for one in said)
        raise SystemExit(f"repetition: --rate {shown}; say one rate above 0 for all, or one each for {', '.join(ARMS)}")
    return dict(zip(ARMS, said * (len(ARMS) if len(said) == 1 else 1), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of .jsonl.gz files; without it, the packaged texts")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of one pass")
    parser.add_argument("--passes", type=int, default=PASSES)
    parser.add_argument("--seeds", type=int, default=1, choices=(1, *T_975))
    parser.add_argument("--size", choices=("narrow", "compact"), default="narrow", help="compact: for a GPU")
    parser.add_argument("--rate", type=float, nargs="+", default=[RATE], help=f"one, or one each for {', '.join(ARMS)}")
    parser.add_argument("--arm", choices=ARMS, help="one alone: a try, not recorded")
    parser.add_argument("--part", type=as_part, help="of the trainings, such as 0/2; nothing is recorded")
    parser.add_argument("--finished", action="store_true", help="record what is finished on all seeds, train nothing")
    parser.add_argument("--smoke", action="store_true", help="tiny models and a few steps; nothing is written")
    options = parser.parse_args()
    if options.tokens < 1 or options.passes < 1:
        parser.error(f"--tokens and --passes must be at least 1; got {options.tokens} and {options.passes}")
    dial = "smoke" if options.smoke else options.size
    tokens, passes, seeds = (1500, 4, 1) if options.smoke else (options.tokens, options.passes, options.seeds)
    size, rates = SIZES[dial], rates_of(options.rate)
    most = 40 if options.smoke else None
    text = of_folder(options.data, most) if options.data else packaged(most)
    rows: Rows = made(text, size.length, size.vocabulary, size.held_out)
    size = size._replace(vocabulary=rows.vocabulary)
    blocks = portion(rows.blocks, tokens, size.batch)
    texts = data.fingerprint(blocks.input_ids, blocks.lengths, rows.held_out.input_ids)
    there = int(blocks.lengths.sum())
    print(f"{text.name}: {there:,} tokens in {len(blocks.lengths)} rows, {passes} passes, {dial}", flush=True)

    def run(arm: str, seed: int) -> dict:
        config = config_of(size, len(blocks.lengths), passes, rates[arm], seed)
        if options.smoke:
            return trained(arm, size, blocks, rows.held_out, config, None)
        settings = {"arm": arm, "recipe": recipe_of(arm).settings(), **size._asdict(), "rate": rates[arm], "seed": seed,
                    "passes": passes, "looks": looks(passes), "warmup": config.warmup, "text": texts}  # fmt: skip
        name = f"{arm} {seed}"
        own = place(FOLDER) / "runs" / f"{name.replace(' ', '-').lower()}-{digest(json.dumps(settings).encode())}"

        def make() -> dict:
            if options.finished:
                raise NotFinished
            return trained(arm, size, blocks, rows.held_out, config, own)

        found = kept(FOLDER, name, settings, make)
        shutil.rmtree(own, ignore_errors=True)  # what is wanted of it is kept
        return found

    wanted, found = [options.arm] if options.arm else list(ARMS), {}
    for arm, seed in part_of(trainings(wanted, seeds), options.part or (0, 1)):
        try:
            found[arm, seed] = one = run(arm, seed)
        except NotFinished:
            continue
        except Interrupted as stopped:
            raise SystemExit(f"repetition: {stopped}") from None
        print(f"{arm}, seed {seed}, {one['training_seconds']:.0f} s", flush=True)
        for line in one["curve"]:
            print(" ", line, flush=True)
    if options.part:
        return
    finished = [arm for arm in wanted if all((arm, seed) in found for seed in range(seeds))]
    if not finished:
        raise SystemExit("repetition: no arm is finished on all seeds, so there is nothing to record")
    steps = {arm: config_of(size, len(blocks.lengths), passes, rates[arm], 0) for arm in ARMS}
    costs = {arm: costs_of(arm, size, blocks, steps[arm]) for arm in ARMS}
    arms = {}
    for arm in finished:
        arms[arm] = summary([found[arm, seed] for seed in range(seeds)], WAYS[arm])
        relative = costs[arm]["operations"] / costs[AR]["operations"]
        arms[arm] |= {"rate": rates[arm], "tokens": passes * there, "operations": round(relative, 2),
                      "predicted": passes * costs[arm]["predicted"]}  # fmt: skip
        print(arm, arms[arm]["best"], flush=True)
    if not (options.smoke or options.arm):
        spent = sum(one["training_seconds"] + one["look_seconds"] for one in found.values())
        about = {
            "text": text.name,
            "dial": dial,
            **size._asdict(),
            "text_tokens": there,
            "text_rows": len(blocks.lengths),
        }
        about |= {"passes": passes, "seeds": seeds, "warmup": steps[AR].warmup, "rows": len(rows.text_of)}
        about |= {"not_run": [arm for arm in wanted if arm not in finished], "arms": arms}
        record("repetition", seed=0, wall_seconds=spent, **about, command=command(options.data))


if __name__ == "__main__":
    main()
