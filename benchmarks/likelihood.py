"""How well does each model answer the paper's likelihood tasks? The untouched source, A3 by both streams, the controls.

    python benchmarks/likelihood.py --data FOLDER          250 questions a task from local files; without it the hub
    python benchmarks/likelihood.py --tasks piqa winogrande --systems a3 a3-both --count 100

The tasks stand in ``a3mini/evaluate/local_tasks.py``; ``acc_token``, the lowest mean loss, is the paper's number. In
FOLDER the file of a task begins with its name. --a3, --diffusion and --autoregressive name the folders of adapters.
Without them A3 is the shipped adapter, and the controls are left out. ``SYSTEMS`` says what the systems are. Each one's
answers to a task are kept in checkpoints/likelihood as soon as they are there, so a killed run goes on.
``parity``: the largest difference between lm-eval's class and A3's content stream, both with the weights of the source,
over the choices of --parity questions a task. The result holds numbers alone, no question.
"""

import argparse
import logging
from functools import lru_cache, partial
from pathlib import Path

import lm_eval
import torch
from arms import OPTION, add_options, load_arm, settle
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
CONTENT = {"stream": "content", "known_order": "left_to_right"}
PAPER = {name: "acc_token" if name in CHOICES else "exact_match" for name in TASKS}  # the paper's metric

# name: the kind of model, the tasks that it can do, and options of ``A3LM``
SYSTEMS = {
    "source": ("autoregressive", TASKS, {}),  # the untouched source
    "ar": ("autoregressive", TASKS, {}),  # the autoregressive control
    "a3-content": ("any-order", CHOICES, CONTENT),  # A3's content stream: what adaptation has made of the source
    "a3": ("any-order", TASKS, {}),  # A3's query stream, left to right
    "a3-random": ("any-order", CHOICES, {"order": "random"}),  # in a random order
    "a3-4": ("any-order", CHOICES, {"size": 4}),  # in groups of 4
    "a3-both": ("any-order", BOTH, {}),  # both sides given
    "diffusion": ("diffusion", CHOICES, {}),  # minus its bound, from a few passes (--draws); it does not generate
    "diffusion-both": ("diffusion", BOTH, {}),  # both sides given
}
ON_REQUEST = ("a3-random", "a3-4")
AGAINST = ("source", "a3")  # what differences are taken against, question by question


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
    options = parser.parse_args(arguments)
    rivals = {name: OPTION[kind] for name, (kind, *_) in SYSTEMS.items() if kind != "any-order" and name != "source"}
    impossible = {name for name, option in rivals.items() if vars(options)[option] is None}
    options.systems = options.systems or [name for name in SYSTEMS if name not in {*ON_REQUEST, *impossible}]
    for name in impossible.intersection(options.systems):
        parser.error(f"the system {name} needs an adapter: --{rivals[name]} FOLDER")
    return options


def language_model(kind: str, model, tokenizer, options: argparse.Namespace, **more):
    """The model as lm-eval meets it; of autoregressive ones through its own class."""
    if kind == "autoregressive":
        return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=options.batch_size)
    if kind == "diffusion":
        return DiffusionLM(model, tokenizer, options.draws, options.seed, options.batch_size)
    same = {"seed": options.seed, "known_order": options.known_order, "batch_size": options.batch_size}
    return A3LM(model, tokenizer, **same | more)


def file_of(name: str, folder: Path | None) -> Path | None:
    """The file of a task in a folder; None: the hub."""
    found = sorted(folder.glob(f"{name}*")) if folder else [None]
    if len(found) != 1:
        raise FileNotFoundError(f"{folder} must have one file whose name begins with {name!r}; it has {len(found)}")
    return found[0]


def measure(lm, name: str, both_sides: bool, options: argparse.Namespace) -> dict:
    """What lm-eval says of every question."""
    task = build(name, lm, file_of(name, options.data), options.count, options.seed, both_sides)
    found = lm_eval.evaluate(lm, {"tasks": {task.task_name: task}}, bootstrap_iters=0)["samples"][task.task_name]
    found = sorted(found, key=lambda one: one["doc_id"])
    return {"metrics": {metric: [one[metric] for one in found] for metric in found[0]["metrics"]}}


def parity(source, tokenizer, options: argparse.Namespace) -> dict:
    """By task: how far A3's content stream with the source's weights is from lm-eval's own class, on every choice."""
    content = language_model("any-order", from_autoregressive(source), tokenizer, options, **CONTENT)
    pair, found = (language_model("autoregressive", source, tokenizer, options), content), {}
    for name in (name for name in options.tasks if name in CHOICES):
        task = build(name, pair[0], file_of(name, options.data), options.parity, options.seed)
        task.build_all_requests()
        answers = list(zip(*(lm.loglikelihood(task.instances, disable_tqdm=True) for lm in pair), strict=True))
        found[name] = {
            "choices": len(answers),
            "largest_difference_nats": max(abs(first[0] - second[0]) for first, second in answers),
            "same_greedy": sum(first[1] == second[1] for first, second in answers),
        }
    return {"tasks": found}


def share(values: list[float]) -> intervals.Interval:
    """The mean over questions; hits have Wilson's interval."""
    numbers = torch.tensor(values, dtype=torch.float64)
    hits = numbers == 1
    return intervals.proportion(hits) if (hits | (numbers == 0)).all() else intervals.bootstrap(numbers)


def summary(name: str, task: str, done: dict[str, dict[str, dict]]) -> dict:
    """A system's numbers on a task with their intervals, and the paired differences from others."""
    mine = done[name][task]["metrics"]
    others = {other: done[other][task]["metrics"] for other in AGAINST if other != name and task in done.get(other, {})}

    def minus(metric: str, theirs: dict) -> dict:
        return intervals.paired(torch.tensor(mine[metric]), torch.tensor(theirs[metric])).rounded(4)

    return {
        "questions": len(next(iter(mine.values()))),
        "seconds": round(done[name][task]["wall_seconds"], 1),
        "metrics": {metric: share(values).rounded(4) for metric, values in mine.items()},
        "minus": {other: {metric: minus(metric, one) for metric in mine} for other, one in others.items()},
    }


def about(questions: list[dict]) -> dict:
    """How many questions there are, and what guessing gets; None where nothing is chosen."""
    chances = [1 / len(one["choices"]) for one in questions if "choices" in one]
    return {"questions": len(questions), "chance": round(sum(chances) / len(chances), 4) if chances else None}


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    asked = {
        name: sample(documents(name, file_of(name, options.data)), options.count, options.seed)
        for name in options.tasks
    }

    @lru_cache(maxsize=1)  # systems of one model stand side by side
    def arm(kind: str, folder: str | None):
        model, tokenizer, called = load_arm(kind, folder)
        return model.to(options.device).eval(), tokenizer, called, weights_of(model)

    done, models, compared = {}, {}, None
    for name in sorted(options.systems, key=[*SYSTEMS].index):
        kind, able, more = SYSTEMS[name]
        model, tokenizer, models[name], weights = arm(kind, None if name == "source" else vars(options)[OPTION[kind]])
        settle(options, kind, model)
        lm, done[name] = language_model(kind, model, tokenizer, options, **more), {}
        settings = {"system": name, "weights": weights, "known_order": options.known_order, "seed": options.seed}
        settings |= {"draws": options.draws} if kind == "diffusion" else {}
        for task in (task for task in options.tasks if task in able):
            own = settings | {"task": task, "questions": digest(asked[task])}
            make = partial(measure, lm, task, name.endswith("-both"), options)
            done[name][task] = kept(FOLDER, f"{name}-{task}", own, make)
            print(name, task, summary(name, task, done), flush=True)
        if name == "source" and options.parity:
            own = {"weights": weights, "questions": digest(asked), "count": options.parity, "seed": options.seed}
            compared = kept(FOLDER, "parity", own, partial(parity, model, tokenizer, options))
            print("parity", compared["tasks"], flush=True)
    parts = [part for tasks in done.values() for part in tasks.values()] + ([compared] if compared else [])
    record(
        "likelihood", seed=options.seed, wall_seconds=sum(part["wall_seconds"] for part in parts),
        data="local files" if options.data else "the hub", count=options.count, device=options.device,
        level=intervals.LEVEL, known_order=options.known_order, draws=options.draws, paper_metric=PAPER,
        tasks={task: about(questions) for task, questions in asked.items()},
        parity=compared and compared["tasks"],
        systems={
            name: {"model": models[name], "tasks": {task: summary(name, task, done) for task in tasks}}
            for name, tasks in done.items()
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
