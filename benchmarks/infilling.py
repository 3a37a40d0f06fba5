"""Filling the third sentence of ROCStories: A3, masked diffusion and autoregression from one source, and copies.

The protocol stands in ``a3mini/evaluate/stories.py``. The stories may not be published, so they are read from a file
or from the hub, and the result holds numbers alone; its sample completions are of the four stories below, which are
ours. Differences between systems are paired, story by story.

Each system's scores are kept in checkpoints/infilling as soon as they are there, under a name that depends on the
system's options, its weights and the stories. So a killed run goes on, and a new adapter is measured anew.

    python benchmarks/infilling.py --stories cloze_val.csv                 250 stories, all systems
    python benchmarks/infilling.py --stories cloze_val.csv --count 1000 --systems a3-1 ar copy-before

--a3, --diffusion and --autoregressive name the folders of adapters. Without them A3 is the shipped adapter,
autoregression the untouched source, and there is no diffusion.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from arms import OPTION, add_options, load_arm
from kept import digest, kept, weights_of
from record import RESULTS, record

from a3mini.evaluate import intervals, stories
from a3mini.evaluate.continuations import BestOf, LeftOnly
from a3mini.evaluate.fillers import Copy, Diffusion, Dynamic, Filler, Groupwise
from a3mini.train import corpus
from a3mini.train.corpus import Cloze

FOLDER = RESULTS.parents[1] / "checkpoints" / "infilling"
OURS = [
    Cloze(
        "Nadia wanted to bake a cake for her brother. She found an old recipe in a drawer.",
        "She mixed the flour, the eggs and the sugar in a bowl.",
        "She put the cake into the oven and waited. Her brother said that it was the best cake ever.",
    ),
    Cloze(
        "The lighthouse keeper woke up in the middle of the night. A storm had put out the lamp.",
        "He climbed the stairs with a box of matches.",
        "Soon the light shone over the sea again. A ship turned just in time.",
    ),
    Cloze(
        "Omar lost his red scarf on the way to school. He looked for it everywhere.",
        "A girl in his class had picked it up.",
        "He thanked her and gave her an apple. They walked home together.",
    ),
    Cloze(
        "My neighbour has a parrot that can talk. One day the window was open.",
        "The parrot flew away and sat down in a tall tree.",
        "We called it for an hour. At last it flew back for a piece of banana.",
    ),
]
# name: the kind of model that it needs, and how it is made of it
SYSTEMS: dict[str, tuple[str, Callable[..., Filler]]] = {
    "copy-before": ("autoregressive", lambda _, o: Copy(which="before")),
    "copy-after": ("autoregressive", lambda _, o: Copy(which="after")),
    "ar": ("autoregressive", lambda m, o: LeftOnly(m, o.temperature)),
    "ar-best": ("autoregressive", lambda m, o: BestOf(m, o.candidates)),
    "a3-1": ("any-order", lambda m, o: Groupwise(m, 1, o.known_order, "both", o.temperature)),
    "a3-2": ("any-order", lambda m, o: Groupwise(m, 2, o.known_order, "both", o.temperature)),
    "a3-4": ("any-order", lambda m, o: Groupwise(m, 4, o.known_order, "both", o.temperature)),
    "a3-left": ("any-order", lambda m, o: Groupwise(m, 1, o.known_order, "left", o.temperature)),
    "a3-dynamic": ("any-order", lambda m, o: Dynamic(m, 1, known=o.known_order, temperature=o.temperature)),
    "a3-dynamic-2": ("any-order", lambda m, o: Dynamic(m, 2, known=o.known_order, temperature=o.temperature)),
    "a3-dynamic-4": ("any-order", lambda m, o: Dynamic(m, 4, known=o.known_order, temperature=o.temperature)),
    "diffusion": ("diffusion", lambda m, o: Diffusion(m, 1, "confidence", o.temperature)),
    "diffusion-4": ("diffusion", lambda m, o: Diffusion(m, 4, "confidence", o.temperature)),
    "diffusion-random": ("diffusion", lambda m, o: Diffusion(m, 1, "random", o.temperature)),
}
ON_REQUEST = ("a3-dynamic-2", "a3-dynamic-4", "diffusion-random")
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
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    if options.systems is None:
        options.systems = [name for name in SYSTEMS if name not in ON_REQUEST]
        if options.diffusion is None:
            options.systems = [name for name in options.systems if SYSTEMS[name][0] != "diffusion"]
    return options


def measure(name: str, system: Filler, chosen: list[Cloze], tokenizer, options: argparse.Namespace) -> dict:
    """Scores of every story, and what the system puts into our own; no text of the stories."""
    start = time.perf_counter()
    filled = stories.fill(system, chosen, tokenizer, options.batch_size, options.seed, options.device)
    seconds = time.perf_counter() - start
    rouge = stories.rouge(filled.texts, [story.middle for story in chosen])
    found = {
        "seconds": seconds,
        "passes": filled.passes,
        "rouge": {kind: values.tolist() for kind, values in rouge.items()},
        "ours": stories.fill(system, OURS, tokenizer, options.batch_size, options.seed, options.device).texts,
    }
    scored = chosen[: options.chains] if isinstance(system, Diffusion) else chosen
    # diffusion's chain is the same whatever the order in which it fills
    if type(system).log_probs is not Filler.log_probs and name not in ("diffusion-4", "diffusion-random"):
        nats, tokens = stories.middle_nats(system.log_probs, scored, tokenizer, options.batch_size, options.device)
        found |= {"nats": nats.tolist(), "tokens": tokens.tolist()}
    return found | {"wall_seconds": time.perf_counter() - start}


def summary(name: str, done: dict[str, dict]) -> dict:
    """A system's numbers with their intervals, and its paired differences from others."""
    one, count = done[name], len(done[name]["passes"])
    scores = {kind: torch.tensor(values, dtype=torch.float64) for kind, values in one["rouge"].items()}
    made = {
        "model": one["model"],
        "settings": one["settings"],
        "seconds": round(one["seconds"], 2),
        "seconds_per_story": round(one["seconds"] / count, 4),
        "passes_per_story": round(sum(one["passes"]) / count, 2),
        "rouge": {kind: intervals.bootstrap(values).rounded() for kind, values in scores.items()},
        "ours": one["ours"],
        "minus": {},
    }
    if "nats" in one:
        nats, tokens = torch.tensor(one["nats"], dtype=torch.float64), torch.tensor(one["tokens"])
        made["nats_per_token"] = intervals.bootstrap(nats / tokens, tokens).rounded(4)
        made["scored_stories"], made["scored_tokens"] = len(nats), int(tokens.sum())
    for other in AGAINST:
        if other == name or other not in done:
            continue
        theirs = done[other]
        made["minus"][other] = {
            kind: intervals.paired(values, torch.tensor(theirs["rouge"][kind], dtype=torch.float64)).rounded()
            for kind, values in scores.items()
        }
        if "nats" in one and "nats" in theirs:
            per_token = torch.tensor(theirs["nats"][: len(nats)], dtype=torch.float64) / tokens
            made["minus"][other]["nats_per_token"] = intervals.paired(nats / tokens, per_token, tokens).rounded(4)
    return made


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    chosen = stories.subset(corpus.cloze(options.stories), options.count, options.seed)
    text = digest(repr(chosen).encode(), repr(OURS).encode())
    same = {"stories": text, "count": len(chosen), "seed": options.seed, "batch_size": options.batch_size}
    done = {}
    for kind in dict.fromkeys(SYSTEMS[name][0] for name in options.systems):
        model, tokenizer, called = load_arm(kind, getattr(options, OPTION[kind]))
        model, weights = model.to(options.device).eval(), weights_of(model)
        for name in (name for name in options.systems if SYSTEMS[name][0] == kind):
            system = SYSTEMS[name][1](model, options)
            settings = same | system.settings()
            settings |= {"chains": options.chains} if isinstance(system, Diffusion) else {}
            settings |= {"weights": weights} if system.model is not None else {}
            found = kept(FOLDER, name, settings, partial(measure, name, system, chosen, tokenizer, options))
            done[name] = found | {"settings": system.settings(), "model": called if system.model is not None else None}
            shown = summary(name, done)
            print(f"{name}: {shown['rouge']} {shown.get('nats_per_token', '')} {shown['seconds']} s", flush=True)
        del model, system  # half a gigabyte
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
