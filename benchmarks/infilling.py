"""Who fills the third sentence of ROCStories best: A3, masked diffusion or autoregression from one source, or a copy?

The protocol stands in ``a3mini/evaluate/stories.py``. The stories may not be published, so they are read from a file
or from the hub, and the result holds numbers alone; its sample completions are of the four stories of our_stories.json,
which are ours. Differences between systems are paired, story by story. Each system's scores are kept in
checkpoints/infilling, under a name that depends on its options, its weights and the stories: a killed run goes on.

    python benchmarks/infilling.py --stories cloze_val.csv                 250 stories, all systems
    python benchmarks/infilling.py --stories cloze_val.csv --count 1000 --systems a3-1 ar copy-before

--a3, --diffusion and --autoregressive name the folders of adapters. Without them A3 is the shipped adapter,
autoregression the untouched source, and there is no diffusion.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from arms import OPTION, add_options, load_arm, settle
from kept import digest, kept, weights_of
from record import RESULTS, record
from timing import clock

from a3mini.evaluate import intervals, stories
from a3mini.evaluate.continuations import BestOf, LeftOnly
from a3mini.evaluate.fillers import Copy, Diffusion, Dynamic, Filler, Groupwise
from a3mini.train.corpus import Cloze, cloze

FOLDER = RESULTS.parents[1] / "checkpoints" / "infilling"
OURS = [Cloze(**story) for story in json.loads(Path(__file__).with_name("our_stories.json").read_text())]
# name: the kind of model that it needs, and how it is made of it
SYSTEMS: dict[str, tuple[str, Callable[..., Filler]]] = {
    "copy-before": ("autoregressive", lambda _, o: Copy(which="before")),
    "copy-after": ("autoregressive", lambda _, o: Copy(which="after")),
    "ar": ("autoregressive", lambda m, o: LeftOnly(m, o.temperature)),
    "ar-best": ("autoregressive", lambda m, o: BestOf(m, o.candidates)),
    "a3-1": ("any-order", lambda m, o: Groupwise(m, 1, o.known_order, "both", o.temperature)),
    "a3-2": ("any-order", lambda m, o: Groupwise(m, 2, o.known_order, "both", o.temperature)),
    "a3-4": ("any-order", lambda m, o: Groupwise(m, 4, o.known_order, "both", o.temperature)),
    "a3-strided-2": ("any-order", lambda m, o: Groupwise(m, 2, o.known_order, "both", o.temperature, "strided")),
    "a3-strided-4": ("any-order", lambda m, o: Groupwise(m, 4, o.known_order, "both", o.temperature, "strided")),
    "a3-left": ("any-order", lambda m, o: Groupwise(m, 1, o.known_order, "left", o.temperature)),
    "a3-dynamic": ("any-order", lambda m, o: Dynamic(m, 1, known=o.known_order, temperature=o.temperature)),
    "a3-dynamic-2": ("any-order", lambda m, o: Dynamic(m, 2, known=o.known_order, temperature=o.temperature)),
    "a3-dynamic-4": ("any-order", lambda m, o: Dynamic(m, 4, known=o.known_order, temperature=o.temperature)),
    "diffusion": ("diffusion", lambda m, o: Diffusion(m, 1, "confidence", o.temperature)),
    "diffusion-4": ("diffusion", lambda m, o: Diffusion(m, 4, "confidence", o.temperature)),
    "diffusion-random": ("diffusion", lambda m, o: Diffusion(m, 1, "random", o.temperature)),
}
ON_REQUEST = ("a3-dynamic-2", "a3-dynamic-4", "diffusion-random")
NO_CHAIN = ("diffusion-4", "diffusion-random")  # diffusion's chain is the same whatever the order in which it fills
AGAINST = ("ar", "copy-before", "a3-left")  # what differences are taken against


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stories", required=True, help="csv file of Story Cloze, or a data set of the hub")
    parser.add_argument("--count", type=int, default=250, help=f"stories, of the first {stories.PROTOCOL:,}")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, metavar="NAME", help=", ".join(SYSTEMS))
    add_options(parser)
    parser.add_argument("--temperature", type=float, default=0.0, help="0: the likeliest token; ar-best has its own")
    parser.add_argument("--candidates", type=int, default=8, help="of ar-best")
    parser.add_argument("--chains", type=int, default=32, help="stories whose middle diffusion scores, token by token")
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args(arguments)
    kinds = {"any-order", "autoregressive"} | ({"diffusion"} if options.diffusion else set())
    options.systems = options.systems or [n for n in SYSTEMS if n not in ON_REQUEST and SYSTEMS[n][0] in kinds]
    return options


def measure(name: str, system: Filler, chosen: list[Cloze], tokenizer, options: argparse.Namespace) -> dict:
    """Scores of every story, and what the system puts into our own; no text of the stories."""
    where = {"tokenizer": tokenizer, "batch_size": options.batch_size, "device": options.device}
    seconds, filled = clock(partial(stories.fill, system, chosen, seed=options.seed, **where))
    rouge = stories.rouge(filled.texts, [story.middle for story in chosen])
    found = {
        "seconds": seconds,
        "passes": filled.passes,
        "rouge": {kind: values.tolist() for kind, values in rouge.items()},
        "ours": stories.fill(system, OURS, seed=options.seed, **where).texts,
    }
    if type(system).log_probs is not Filler.log_probs and name not in NO_CHAIN:
        scored = chosen[: options.chains] if isinstance(system, Diffusion) else chosen
        nats, tokens = stories.middle_nats(system.log_probs, scored, **where)
        found |= {"nats": nats.tolist(), "tokens": tokens.tolist()}
    return found


def scores(one: dict) -> dict[str, tuple[torch.Tensor, torch.Tensor | None, int]]:
    """By name: a number for every story, its weight in a mean, and the digits to show."""
    found = {kind: (torch.tensor(values, dtype=torch.float64), None, 2) for kind, values in one["rouge"].items()}
    if "nats" in one:
        tokens = torch.tensor(one["tokens"])
        found["nats_per_token"] = torch.tensor(one["nats"], dtype=torch.float64) / tokens, tokens, 4
    return found


def summary(name: str, done: dict[str, dict]) -> dict:
    """A system's numbers with their intervals, and its paired differences from others."""
    one, mine = done[name], scores(done[name])
    means = {kind: intervals.bootstrap(values, weights).rounded(n) for kind, (values, weights, n) in mine.items()}
    scored = {"scored_stories": len(one["nats"]), "scored_tokens": sum(one["tokens"])} if "nats" in one else {}
    minus = {}
    for other in (other for other in AGAINST if other != name and other in done):
        theirs = scores(done[other])
        minus[other] = {
            kind: intervals.paired(values, theirs[kind][0][: len(values)], weights).rounded(digits)
            for kind, (values, weights, digits) in mine.items()
            if kind in theirs
        }
    return {
        "model": one["model"], "settings": one["settings"], "ours": one["ours"], "seconds": round(one["seconds"], 2),
        "seconds_per_story": round(one["seconds"] / len(one["passes"]), 4),
        "passes_per_story": round(sum(one["passes"]) / len(one["passes"]), 2),
        "rouge": {kind: means.pop(kind) for kind in one["rouge"]}, **means, "minus": minus, **scored,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    chosen = stories.subset(cloze(options.stories), options.count, options.seed)
    same = {"stories": digest(chosen, OURS), "seed": options.seed, "batch_size": options.batch_size}
    done = {}
    for kind in dict.fromkeys(SYSTEMS[name][0] for name in options.systems):
        model, tokenizer, called = load_arm(kind, getattr(options, OPTION[kind]))
        model = model.to(options.device).eval()
        weights = weights_of(model)
        settle(options, kind, model)
        for name in (name for name in options.systems if SYSTEMS[name][0] == kind):
            system = SYSTEMS[name][1](model, options)
            settings = same | system.settings() | ({"weights": weights} if system.model else {})
            settings |= {"chains": options.chains} if kind == "diffusion" else {}
            make = partial(measure, name, system, chosen, tokenizer, options)
            about = {"settings": system.settings(), "model": called if system.model else None}
            done[name] = kept(FOLDER, name, settings, make) | about
            print(name, summary(name, done), flush=True)
    source = Path(options.stories)
    record(
        "infilling", seed=options.seed, wall_seconds=sum(one["wall_seconds"] for one in done.values()),
        stories=source.name if source.suffix == ".csv" else options.stories, count=len(chosen),
        first=stories.PROTOCOL, batch_size=options.batch_size, device=options.device, level=intervals.LEVEL,
        draws=intervals.DRAWS, our_stories=[story._asdict() for story in OURS],
        systems={name: summary(name, done) for name in options.systems},
    )  # fmt: skip


if __name__ == "__main__":
    main()
