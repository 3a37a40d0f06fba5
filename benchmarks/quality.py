"""Generation quality: beginnings of held-out stories, continued by each system in each order, before a judge.

For each: the perplexity under the judge, and what a low one may hide: entropy and distinct-n of the texts
(``a3mini.evaluate.quality``), with 95 % intervals over the texts. How the stories really go on is a row of its own.
Dynamic resampling at random is not a row: it is "random order", which costs less, since the order is known before
(tests/test_quality.py). Every row is kept in checkpoints/quality, so a run that was stopped goes on.

    python benchmarks/quality.py --a3 FOLDER --diffusion FOLDER --autoregressive FOLDER

The judge is the untouched source of all systems: not one of them, but their relative. --judge names another Llama.
"""

import argparse
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from adaptation import HELD_OUT, tinystories
from arms import add_options, load_arm
from kept import digest, kept, weights_of
from record import RESULTS, record
from transformers import AutoTokenizer

from a3mini import groups
from a3mini.evaluate.continuations import LeftOnly
from a3mini.evaluate.fillers import Diffusion, Dynamic, Filler, Groupwise
from a3mini.evaluate.quality import Openings, Written, judge, openings
from a3mini.evaluate.stories import Batch, Filled
from a3mini.model import A3ForCausalLM
from a3mini.pretrained import SmallModel, load_autoregressive, small_model
from a3mini.train import MaskedDiffusionModel, generator_for

FOLDER = RESULTS.parents[1] / "checkpoints" / "quality"
REAL = "the stories themselves"
SIZES = (1, 2, 4)  # tokens at a time


@dataclass(frozen=True)
class RandomOrder(Filler):
    """A3 in an order that is drawn before any token, ``size`` at a time; options as ``Groupwise``."""

    model: A3ForCausalLM
    size: int = 1
    known: str = "together"
    temperature: float = 0.0

    def __call__(self, batch: Batch, generator: torch.Generator) -> Filled:
        group_ids = groups.infill(batch.unknown, self.size, "random", batch.padding, generator)
        return self._generate(batch, *groups.read_given(group_ids, self.known), generator)


def strategies(model, known: str, temperature: float, sizes=SIZES) -> dict[tuple[str, int], Filler]:
    """By order and tokens at a time: how a model of this kind can go on."""
    if isinstance(model, MaskedDiffusionModel):
        orders = {"random order": "random", "by confidence": "confidence"}
        return {
            (name, size): Diffusion(model, size, order, temperature) for name, order in orders.items() for size in sizes
        }
    if not isinstance(model, A3ForCausalLM):
        return {("left to right", 1): LeftOnly(model, temperature)}
    options = {"known": known, "temperature": temperature}
    makers = {
        "left to right": lambda size: Groupwise(model, size, **options),
        "random order": lambda size: RandomOrder(model, size, **options),
        "by confidence": lambda size: Dynamic(model, size, "confidence", **options),
        "by entropy": lambda size: Dynamic(model, size, "entropy", **options),
    }
    return {(order, size): make(size) for order, make in makers.items() for size in sizes}


def written(filler: Filler, batch: Openings, seed: int) -> dict:
    started = time.perf_counter()
    done = filler(batch, generator_for(seed, 1))
    seconds = (time.perf_counter() - started) / len(done.texts)
    ids = [text.ids for text in done.texts]
    return {"texts": done.texts, "ids": ids, "passes": sum(done.passes) / len(done.passes), "seconds": seconds}


def measured(model, tokenizer, texts: list[str], prompts: list[str]) -> dict:
    digits = {"perplexity": 2, "entropy": 3}
    found = judge(model, tokenizer, texts, prompts).summary()
    return {"measured": {name: one.rounded(digits.get(name, 4)) for name, one in found.items()}}


def judge_of(source: str | None) -> SmallModel:
    if source is None:
        return small_model()
    return SmallModel(load_autoregressive(source), AutoTokenizer.from_pretrained(source), source)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--tinystories", type=Path, help="file of stories; default: the hub's")
    parser.add_argument("--judge", help="hub id or folder of a Llama; default: the untouched source")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES), help="tokens at a time")
    parser.add_argument("--count", type=int, default=24, help="stories")
    parser.add_argument("--given", type=int, default=32, help="tokens, with the start token")
    parser.add_argument("--new", type=int, default=48, help="tokens")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)

    stories = tinystories(options.tinystories)[-HELD_OUT:]  # never trained on
    about = {key: getattr(options, key) for key in ("count", "given", "new", "seed")}
    wanted = {"any-order": options.a3}  # the shipped adapter, if no folder is named
    wanted |= {"diffusion": options.diffusion} if options.diffusion else {}
    wanted |= {"autoregressive": options.autoregressive}  # the untouched source, if no folder is named
    rows, batch = {}, None
    for kind, folder in wanted.items():
        model, tokenizer, title = load_arm(kind, folder)
        model = model.to(options.device).eval()
        batch = openings(stories, tokenizer, options.given, options.new, options.count, options.seed, model.device)
        same = {**about, "weights": weights_of(model), "text": digest(repr(batch.prompts + batch.real).encode())}
        fillers = strategies(model, options.known_order, options.temperature, options.sizes)
        for (order, size), filler in fillers.items():
            name = f"{kind}, {order}, {size}"
            make = partial(written, filler, batch, options.seed)
            made = kept(FOLDER, name, same | filler.settings(), make)
            rows[name] = {"kind": kind, "model": title, "order": order, "tokens_per_step": size, "made": made}
            print(f"{name}: {made['passes']:.0f} passes, {made['seconds']:.2f} s a text", flush=True)
        del model, filler, fillers, make  # half a gigabyte
    rows[REAL] = {"made": {"texts": batch.real, "ids": [text.ids for text in batch.real]}}

    judging, judging_tokenizer, judge_name = judge_of(options.judge)
    judging, weights = judging.to(options.device), weights_of(judging)
    for name, row in rows.items():
        texts = [Written(*both) for both in zip(row["made"]["texts"], row["made"]["ids"], strict=True)]
        settings = {"judge": weights, "texts": digest(repr((batch.prompts, texts, row["made"]["ids"])).encode())}
        make = partial(measured, judging, judging_tokenizer, texts, batch.prompts)
        row["measured"] = kept(FOLDER, f"{name}, judged", settings, make)["measured"]
        print(name, row["measured"], flush=True)
    seconds = [row["made"]["seconds"] * options.count for row in rows.values() if "seconds" in row["made"]]
    for row in rows.values():
        made = row.pop("made")
        row |= {key: round(made[key], 3) for key in ("passes", "seconds") if key in made}
    record(
        "quality", wall_seconds=sum(seconds), judge=judge_name, text="TinyStories, held out",
        device=options.device, temperature=options.temperature, known_order=options.known_order, **about, rows=rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
