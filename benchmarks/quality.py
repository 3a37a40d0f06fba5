"""How good are the texts? Beginnings of held-out stories, continued by each system in each order, before a judge.

For each: the perplexity under the judge, and what a low one may hide: entropy and distinct-n of the texts
(``a3mini.evaluate.quality``), with 95 % intervals over the texts. How the stories really go on is a row of its own.
Dynamic resampling at random is not a row: it is "random order", which costs less, since the order is known before
(tests/evaluate/test_quality.py). Every row is kept in checkpoints/quality, so a run that was stopped goes on.

    python benchmarks/quality.py --a3 FOLDER --diffusion FOLDER --autoregressive FOLDER
    python benchmarks/quality.py --orders "left to right" strided "random order" --record quality_orders

The second asks the shipped A3 alone what it matters which tokens are drawn together: neighbours, far-apart ones, or
random ones. Beside the numbers stands how each system goes on with beginnings of ours: its first try, none was chosen.

The judge is the untouched source of all systems: not one of them, but their relative. --judge names another Llama.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import torch
from adaptation import HELD_OUT, tinystories
from arms import OPTION, add_options, load_arm, settle
from kept import digest, kept, weights_of
from record import RESULTS, record
from timing import clock

from a3mini import groups, pretrained
from a3mini.evaluate.continuations import LeftOnly
from a3mini.evaluate.fillers import Diffusion, Dynamic, Filler, Groupwise
from a3mini.evaluate.quality import Openings, Written, judge, openings
from a3mini.evaluate.stories import MIDDLE, PREFIX, Batch, Filled
from a3mini.model import A3ForCausalLM
from a3mini.train import MaskedDiffusionModel, generator_for
from a3mini.train.data import start_token
from a3mini.train.tokens import encode

FOLDER = RESULTS.parents[1] / "checkpoints" / "quality"
REAL = "the stories themselves"
SIZES = (1, 2, 4, 8)  # tokens at a time
ORDERS = ("left to right", "strided", "random order", "by confidence", "by entropy")
OURS = [story["prefix"] for story in json.loads(Path(__file__).with_name("our_stories.json").read_text())]


class RandomOrder(Groupwise):
    """A3 in an order that is drawn before any token, ``size`` at a time."""

    def __call__(self, batch: Batch, generator: torch.Generator) -> Filled:
        group_ids = groups.infill(batch.unknown, self.size, "random", batch.padding, generator)
        return self._generate(batch, *groups.read_given(group_ids, self.known), generator)


def strategies(model, known: str, temperature: float, sizes=SIZES, orders=ORDERS) -> dict[tuple[str, int], Filler]:
    """By order and tokens at a time: how a model of this kind can go on."""
    options = {"known": known, "temperature": temperature}
    if isinstance(model, MaskedDiffusionModel):
        makers = {
            "random order": lambda size: Diffusion(model, size, "random", temperature),
            "by confidence": lambda size: Diffusion(model, size, "confidence", temperature),
        }
    elif isinstance(model, A3ForCausalLM):
        makers = {
            "left to right": lambda size: Groupwise(model, size, **options),
            "strided": lambda size: Groupwise(model, size, order="strided", **options),
            "random order": lambda size: RandomOrder(model, size, **options),
            "by confidence": lambda size: Dynamic(model, size, "confidence", **options),
            "by entropy": lambda size: Dynamic(model, size, "entropy", **options),
        }
    else:
        return {("left to right", 1): LeftOnly(model, temperature)}
    chosen = ((order, size) for order in makers if order in orders for size in sizes)
    # one stream is left to right
    return {(order, size): makers[order](size) for order, size in chosen if order != "strided" or size > 1}


def judged(judging: pretrained.SmallModel, texts: list[Written], prompts: list[str]) -> dict:
    digits = {"perplexity": 2, "entropy": 3}
    found = judge(*judging[:2], texts, prompts).summary()
    return {"measured": {name: one.rounded(digits.get(name, 4)) for name, one in found.items()}}


def beginning(text: str, tokenizer, new: int, device) -> Openings:
    """One beginning of ours, and a blank of ``new`` tokens behind it."""
    start = start_token(tokenizer)
    ids = [start, *encode(tokenizer, [text])[0]]
    part = torch.full((1, len(ids) + new), MIDDLE)
    part[:, : len(ids)] = PREFIX
    rows = torch.tensor([ids + [start] * new])  # what stands in the blank is never read
    return Openings([], rows.to(device), part.to(device), tokenizer, sorted({*tokenizer.all_special_ids, start}))


def samples(filler: Filler, begun: list[Openings], seed: int) -> list[str]:
    """What a system makes of each beginning of ours."""
    return [filler(one, generator_for(seed, 2, number)).texts[0] for number, one in enumerate(begun)]


def written(filler: Filler, batch: Openings, begun: list[Openings], seed: int, judging: pretrained.SmallModel) -> dict:
    """What a system writes, and what the judge thinks of it."""
    seconds, (texts, passes) = clock(partial(filler, batch, generator_for(seed, 1)))
    about = {"passes": round(sum(passes) / len(texts), 3), "seconds": round(seconds / len(texts), 3)}
    return {**about, **judged(judging, texts, batch.prompts), "texts": texts, "ours": samples(filler, begun, seed)}


def judge_of(source: str | None) -> pretrained.SmallModel:
    return pretrained.adapter_source({"source": source}) if source else pretrained.small_model()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--tinystories", type=Path, help="file of stories; default: the hub's")
    parser.add_argument("--judge", help="hub id or folder of a Llama; default: the untouched source")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES), help="tokens at a time")
    parser.add_argument("--orders", nargs="*", choices=ORDERS, default=list(ORDERS), help="which; default: all")
    parser.add_argument("--record", default="quality", help="name of the result")
    parser.add_argument("--count", type=int, default=24, help="stories")
    parser.add_argument("--given", type=int, default=32, help="tokens, with the start token")
    parser.add_argument("--new", type=int, default=48, help="tokens")
    parser.add_argument("--temperature", type=float, default=1.0)
    options = parser.parse_args(arguments)

    stories = tinystories(options.tinystories)[-HELD_OUT:]  # never trained on
    about = {key: getattr(options, key) for key in ("count", "given", "new", "seed")} | {"beginnings": OURS}
    judging = judge_of(options.judge)
    judging.autoregressive.to(options.device)
    about["judge"] = weights_of(judging.autoregressive)
    rows, wall = {}, 0.0
    for kind, option in OPTION.items():
        folder = vars(options)[option]
        if kind == "diffusion" and folder is None:
            continue  # an untouched source does not know masks
        model, tokenizer, title = load_arm(kind, folder)
        model = model.to(options.device).eval()
        batch = openings(stories, tokenizer, options.given, options.new, options.count, options.seed, model.device)
        about["text"] = digest(batch.prompts + batch.real)
        begun = [beginning(text, tokenizer, options.new, model.device) for text in OURS]
        weights = weights_of(model)
        settle(options, kind, model)
        ways = strategies(model, options.known_order, options.temperature, options.sizes, options.orders)
        for (order, size), filler in ways.items():
            name = f"{kind}, {order}, {size}"
            settings = {**about, "weights": weights, **filler.settings()}
            made = kept(FOLDER, name, settings, partial(written, filler, batch, begun, options.seed, judging))
            rows[name] = {"kind": kind, "model": title, "order": order, "tokens_per_step": size}
            rows[name] |= {key: made[key] for key in ("passes", "seconds", "measured", "ours")}
            wall += made["wall_seconds"]
            print(name, rows[name], flush=True)
    made = kept(FOLDER, REAL, about, partial(judged, judging, batch.real, batch.prompts))
    rows[REAL] = {"measured": made["measured"]}
    record(
        options.record, wall_seconds=wall, device=options.device, temperature=options.temperature,
        known_order=options.known_order, rows=rows, **about | {"judge": judging.name, "text": "TinyStories, held out"},
    )  # fmt: skip


if __name__ == "__main__":
    main()
