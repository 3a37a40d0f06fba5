"""The paper's likelihood tasks through lm-eval: the untouched source, A3 by both streams, and the controls.

    python benchmarks/likelihood.py --data FOLDER          250 questions a task from local files; without it the hub
    python benchmarks/likelihood.py --tasks piqa winogrande --systems a3 a3-both --count 100

The tasks stand in ``a3mini/evaluate/local_tasks.py``; ``acc_token``, the lowest mean loss, is the paper's number. In
FOLDER the file of a task begins with its name. --a3, --diffusion and --autoregressive name the folders of adapters.
Without them A3 is the shipped adapter, and the controls are left out. The systems:

    source       the untouched source model, through lm-eval's own class
    ar           the autoregressive control, through lm-eval's own class
    a3-content   A3's content stream: what adaptation has made of the source
    a3           A3's query stream, left to right
    a3-random    the same in a random order; on request
    a3-4         the same in groups of 4; on request
    a3-both      A3's query stream, both sides given: WinoGrande alone
    diffusion    minus the diffusion bound, from a few passes (--draws); it does not generate, so no TriviaQA
    diffusion-both  the same, both sides given: WinoGrande alone

Each system's answers to a task are kept in checkpoints/likelihood as soon as they are there, so a killed run goes on.
``parity``: the largest difference between lm-eval's class and A3's content stream, both with the weights of the source,
over the choices of --parity questions a task. The result holds numbers alone, no question.
"""

import argparse
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lm_eval
import torch
from arms import OPTION, add_options, load_arm
from kept import digest, kept, weights_of
from lm_eval.models.huggingface import HFLM
from record import RESULTS, record

from a3mini import from_autoregressive
from a3mini.evaluate import intervals
from a3mini.evaluate.harness import A3LM, DiffusionLM
from a3mini.evaluate.local_tasks import build
from a3mini.evaluate.questions import TASKS, documents, sample

FOLDER = RESULTS.parents[1] / "checkpoints" / "likelihood"
CHOICES = tuple(name for name in TASKS if name != "triviaqa")
BOTH = ("winogrande",)
PAPER = {name: "acc_token" if name in CHOICES else "exact_match" for name in TASKS}  # the paper's metric

# name: the kind of model, the tasks that it can do, and how lm-eval meets it
SYSTEMS: dict[str, tuple[str, tuple[str, ...], Callable]] = {
    "source": ("autoregressive", TASKS, lambda m, t, o: HFLM(pretrained=m, tokenizer=t, batch_size=o.batch_size)),
    "ar": ("autoregressive", TASKS, lambda m, t, o: HFLM(pretrained=m, tokenizer=t, batch_size=o.batch_size)),
    "a3-content": ("any-order", CHOICES, lambda m, t, o: A3LM(m, t, "content", batch_size=o.batch_size)),
    "a3": ("any-order", TASKS, lambda m, t, o: a3(m, t, o)),
    "a3-random": ("any-order", CHOICES, lambda m, t, o: a3(m, t, o, order="random")),
    "a3-4": ("any-order", CHOICES, lambda m, t, o: a3(m, t, o, size=4)),
    "a3-both": ("any-order", BOTH, lambda m, t, o: a3(m, t, o)),
    "diffusion": ("diffusion", CHOICES, lambda m, t, o: DiffusionLM(m, t, o.draws, o.seed, o.batch_size)),
    "diffusion-both": ("diffusion", BOTH, lambda m, t, o: DiffusionLM(m, t, o.draws, o.seed, o.batch_size)),
}
ON_REQUEST = ("a3-random", "a3-4")
AGAINST = ("source", "a3")  # what differences are taken against, question by question


def a3(model, tokenizer, options: argparse.Namespace, **more) -> A3LM:
    return A3LM(
        model, tokenizer, seed=options.seed, known_order=options.known_order, batch_size=options.batch_size, **more
    )


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of local files; default: the hub")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, metavar="NAME", help=", ".join(SYSTEMS))
    parser.add_argument("--count", type=int, default=250, help="questions a task")
    add_options(parser)
    parser.add_argument("--draws", type=int, default=2, help="passes of the diffusion bound")
    parser.add_argument("--parity", type=int, default=25, help="questions a task; 0: no comparison")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    needed = {"ar": options.autoregressive, "diffusion": options.diffusion, "diffusion-both": options.diffusion}
    if options.systems is None:
        options.systems = [name for name in SYSTEMS if name not in ON_REQUEST and needed.get(name, "") is not None]
    for name in options.systems:
        if needed.get(name, "") is None:
            parser.error(f"the system {name} needs an adapter: --{OPTION[SYSTEMS[name][0]]} FOLDER")
    return options


def file_of(name: str, folder: Path | None) -> Path | None:
    """The file of a task in a folder.

    Raises:
        FileNotFoundError: there is none, or more than one.
    """
    if folder is None:
        return None
    found = sorted(folder.glob(f"{name}*"))
    if len(found) != 1:
        raise FileNotFoundError(f"{folder} must have one file whose name begins with {name!r}; it has {len(found)}")
    return found[0]


def measure(lm, name: str, both_sides: bool, options: argparse.Namespace) -> dict:
    """What lm-eval says of every question."""
    task = build(name, lm, file_of(name, options.data), options.count, options.seed, both_sides)
    start = time.perf_counter()
    found = lm_eval.evaluate(lm, {"tasks": {task.task_name: task}}, bootstrap_iters=0)["samples"][task.task_name]
    found = sorted(found, key=lambda one: one["doc_id"])
    return {
        "seconds": time.perf_counter() - start,
        "metrics": {metric: [one[metric] for one in found] for metric in found[0]["metrics"]},
    }


def parity(source, tokenizer, options: argparse.Namespace) -> dict:
    """By task: how far A3's content stream with the source's weights is from lm-eval's own class, on every choice."""
    theirs = HFLM(pretrained=source, tokenizer=tokenizer, batch_size=options.batch_size)
    ours = A3LM(from_autoregressive(source), tokenizer, "content", batch_size=options.batch_size)
    found = {}
    start = time.perf_counter()
    for name in (name for name in options.tasks if name in CHOICES):
        task = build(name, theirs, file_of(name, options.data), options.parity, options.seed)
        task.build_all_requests()
        pairs = zip(*(lm.loglikelihood(task.instances, disable_tqdm=True) for lm in (theirs, ours)), strict=True)
        differences, agree = zip(*((abs(a - b), g == h) for (a, g), (b, h) in pairs), strict=True)
        found[name] = {
            "choices": len(differences),
            "largest_difference_nats": max(differences),
            "same_greedy": sum(agree),
        }
    return {"tasks": found, "seconds": time.perf_counter() - start}


def share(values: list[float]) -> intervals.Interval:
    """The mean over questions; hits have Wilson's interval."""
    numbers = torch.tensor(values, dtype=torch.float64)
    hits = numbers == 1
    return intervals.proportion(hits) if (hits | (numbers == 0)).all() else intervals.bootstrap(numbers)


def summary(name: str, task: str, done: dict[str, dict[str, dict]]) -> dict:
    """A system's numbers on a task with their intervals, and the paired differences from others."""
    one = done[name][task]
    made = {
        "questions": len(next(iter(one["metrics"].values()))),
        "seconds": round(one["seconds"], 1),
        "metrics": {metric: share(values).rounded(4) for metric, values in one["metrics"].items()},
        "minus": {},
    }
    for other in AGAINST:
        if other != name and task in done.get(other, {}):
            theirs = done[other][task]["metrics"]
            made["minus"][other] = {
                metric: intervals.paired(torch.tensor(values), torch.tensor(theirs[metric])).rounded(4)
                for metric, values in one["metrics"].items()
            }
    return made


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    asked = {
        name: sample(documents(name, file_of(name, options.data)), options.count, options.seed)
        for name in options.tasks
    }
    done, models, compared = {}, {}, None
    loaded = None
    for name in sorted(options.systems, key=[*SYSTEMS].index):  # systems of one model stand side by side
        kind, able, make = SYSTEMS[name]
        folder = None if name == "source" else getattr(options, OPTION[kind])
        if loaded is None or loaded[0] != (kind, folder):
            loaded = None  # half a gigabyte
            model, tokenizer, called = load_arm(kind, folder)
            model = model.to(options.device).eval()
            loaded = (kind, folder), model, tokenizer, called, weights_of(model)
        _, model, tokenizer, called, weights = loaded
        lm, models[name] = make(model, tokenizer, options), called
        settings = {"system": name, "weights": weights, "known_order": options.known_order, "seed": options.seed}
        settings |= {"draws": options.draws} if kind == "diffusion" else {}
        done[name] = {}
        for task in (task for task in options.tasks if task in able):
            own = settings | {"task": task, "questions": digest(repr(asked[task]).encode())}
            make_it = partial(measure, lm, task, name.endswith("-both"), options)
            done[name][task] = kept(FOLDER, f"{name}-{task}", own, make_it)
            print(name, task, summary(name, task, done), flush=True)
        if name == "source" and options.parity:
            questions = digest(repr(asked).encode())
            own = {"weights": weights, "questions": questions, "count": options.parity, "seed": options.seed}
            compared = kept(FOLDER, "parity", own, partial(parity, model, tokenizer, options))
            print("parity", compared["tasks"], flush=True)
    seconds = sum(one["seconds"] for tasks in done.values() for one in tasks.values())
    record(
        "likelihood", seed=options.seed, wall_seconds=seconds + (compared["seconds"] if compared else 0),
        data="local files" if options.data else "the hub", count=options.count, device=options.device,
        level=intervals.LEVEL, known_order=options.known_order, draws=options.draws, paper_metric=PAPER,
        tasks={
            task: {
                "questions": len(questions),
                "chance": None if task not in CHOICES
                else round(sum(1 / len(one["choices"]) for one in questions) / len(questions), 4),
            }
            for task, questions in asked.items()
        },
        parity=compared and compared["tasks"],
        systems={
            name: {"model": models[name], "tasks": {task: summary(name, task, done) for task in tasks}}
            for name, tasks in done.items()
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
