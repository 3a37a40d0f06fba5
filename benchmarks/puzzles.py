"""Where the order matters and everyone can check: who solves sums and sudokus, and in which order?

    python benchmarks/puzzles.py                       three seeds of both tasks, some hours of two cores; what is
                                                       finished is kept. In two processes: first --task sudoku and
                                                       --task sums at once, then this line, which records
    python benchmarks/puzzles.py --task sudoku --arm "A3, random order" --seeds 1 --steps 400     a try, not recorded
    python benchmarks/puzzles.py --finished            trains nothing; records the tasks that are finished on all seeds
    python benchmarks/puzzles.py --finished --task sums    puts this one beside those that are recorded already
    python benchmarks/puzzles.py --size 9              sudokus of 9 digits, for a GPU; a result of its own
    python benchmarks/puzzles.py --smoke               a few steps of tiny models; nothing is written

Four arms start from the same weights and see the same rows, each with the question before the answer: autoregression,
masked diffusion, A3 trained in random order, and A3 trained left to right alone. Only the answer's unknown tokens are
predicted; what is known is given. Seeds decide the weights, the rows and the orders; one learning rate is for all arms.

Measured is the share of held-out questions whose whole answer is right, by the order in which it is filled, always with
the likeliest token, several times on the way. Autoregression has one order. Masked diffusion fills with the same
criteria as A3 (``decode.limits``), a pass over the row for each step. Intervals are over seeds (Student's t), of one
seed over questions (Wilson's). After Kim et al. 2025 (arXiv 2502.06768).
"""

import argparse
import functools
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import torch
from kept import NotFinished, kept
from query_start import T_975
from record import RESULTS, record, renew
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from a3mini import decode, from_autoregressive, groups
from a3mini.attention import at_least_float32
from a3mini.decode.limits import Limits
from a3mini.evaluate.intervals import proportion
from a3mini.train import (
    AnyOrder,
    Autoregressive,
    Blocks,
    Curriculum,
    MaskedDiffusion,
    MaskedDiffusionModel,
    TrainConfig,
    generator_for,
    puzzles,
    train,
    uniform,
)  # fmt: skip
from a3mini.train.curriculum import Part, Stage
from a3mini.train.recipes import Batch

SHAPE = dict(hidden_size=128, intermediate_size=384, num_attention_heads=4, num_key_value_heads=4)
TINY = dict(hidden_size=32, intermediate_size=64, num_attention_heads=2, num_key_value_heads=2)
ARMS = ("autoregression", "masked diffusion", "A3, random order", "A3, left to right")
BOUND = 0.2  # nats that filling several at a time may lose, at most, at each step
FIXED = ("left to right", "right to left", "random")
CHOSEN = {
    "by confidence": ("confidence", Limits()),
    "by confidence, 3 at a time": ("confidence", Limits(3)),
    "bounded": ("entropy", Limits(bound=BOUND)),
}
ORDERS = (*FIXED, *CHOSEN)
RATES = {"sudoku": 1e-3, "sums": 2e-3}  # the same for all arms
WATCHED = ("left to right", "by confidence")  # on the way; all orders at the end
SUDOKUS = {
    4: puzzles.Sudoku(4, blanks=11, grids=288, held_out=48),
    6: puzzles.Sudoku(6, blanks=24, grids=5000, held_out=500),
    9: puzzles.Sudoku(9, blanks=45, grids=5000, held_out=500),
}
DRAWN = 10_000  # puzzles of the larger sudokus, which take long to make; then they come again
QUESTIONS, LOOKS = 256, 5  # held-out questions; how often they are asked in the course of a training
EXAMPLES = 6  # the first of them are shown, step by step


@dataclass(frozen=True)
class Task:
    """A puzzle, and how it is learned."""

    puzzle: puzzles.Puzzle
    layers: int
    steps: int
    batch: int
    rows: int | None = None  # how many are made; None: a new one for each example


def tasks(size: int, digits: int = 4) -> dict[str, Task]:
    steps, rows = (500, None) if size == 4 else (4000, DRAWN)
    sudoku = Task(SUDOKUS[size], layers=4, steps=steps, batch=64, rows=rows)
    return {"sudoku": sudoku, "sums": Task(puzzles.Sums(digits), layers=3, steps=800, batch=128)}


class LeftToRight(Autoregressive):
    """Autoregression that predicts what is unknown alone."""

    def __init__(self, puzzle: puzzles.Puzzle):
        self.puzzle = puzzle

    def predicted(self, rows: Blocks) -> Tensor:
        return self.puzzle.unknown(rows.input_ids)


class Masked(MaskedDiffusion):
    """Masked diffusion that masks what is unknown alone, an exact number of tokens: there are few of them.

    From scratch there is nothing to keep of autoregression: attention has both sides from the first step, and a row's
    output predicts the token at its own position, not the next one.
    """

    def __init__(self, puzzle: puzzles.Puzzle):
        super().__init__(anneal=0.0, counted=True)
        self.puzzle = puzzle

    def batch(self, *args, **kwargs) -> Batch:
        found = super().batch(*args, **kwargs)
        return found._replace(inputs=found.inputs | {"places": found.inputs["places"] + 1})

    def predicted(self, rows: Blocks) -> Tensor:
        return self.puzzle.unknown(rows.input_ids)


class Groups(AnyOrder):
    """A3 with one unknown token per group; all that is known is given.

    Args:
        puzzle: says what is unknown.
        kind: "shuffled", every row in an order of its own; or "blocks", from left to right.
    """

    def __init__(self, puzzle: puzzles.Puzzle, kind: str):
        super().__init__(Curriculum((Stage("answers", 1.0, (Part(kind),)),)), "together")
        self.puzzle, self.kind = puzzle, kind

    def group_ids(self, rows: Blocks, progress: float, examples: Tensor, seed: int) -> Tensor:
        unknown = self.puzzle.unknown(rows.input_ids)
        if self.kind == "blocks":
            return groups.infill(unknown)
        turn = uniform(seed, torch.as_tensor(examples), unknown.shape[1]).masked_fill(~unknown, 2.0)
        return torch.where(unknown, turn.argsort(-1).argsort(-1) + 1, groups.GIVEN)


def begin(arm: str, source: LlamaForCausalLM, puzzle: puzzles.Puzzle):
    """A model with the weights of ``source``, and its recipe."""
    if arm == "autoregression":
        return source, LeftToRight(puzzle)
    if arm == "masked diffusion":
        return MaskedDiffusionModel.from_autoregressive(source), Masked(puzzle)
    return from_autoregressive(source), Groups(puzzle, "blocks" if arm == "A3, left to right" else "shuffled")


def fixed(unknown: Tensor, order: str) -> Tensor:
    """Group ids (B, T), one unknown token per group; the random order is the same each time."""
    if order == "random":
        return groups.infill(unknown, order="random", generator=generator_for(0))
    found = groups.infill(unknown)
    return found if order == "left to right" else torch.where(unknown, unknown.sum(-1, keepdim=True) + 1 - found, 0)


@torch.no_grad()
def fill(predict: Callable, ids: Tensor, unknown: Tensor, order: str) -> tuple[Tensor, Tensor]:
    """Rows with the likeliest tokens filled in, and each row's steps (B,); a pass over the row for every step.

    Args:
        predict: takes tokens (B, T), 0 where still unknown, and where they are, bool (B, T); gives logits (B, T, V) of
            the token AT each position.
        ids: int64, (B, T).
        unknown: bool, (B, T).
        order: one of ``ORDERS``.
    """
    left, ids = unknown.clone(), ids.masked_fill(unknown, 0)
    steps = torch.zeros(len(ids), dtype=torch.int64)
    turn = fixed(unknown.cpu(), order).to(ids.device) if order in FIXED else None
    while left.any():
        steps += left.any(-1).cpu()
        logits = at_least_float32(predict(ids, left))
        if turn is not None:
            first = turn.masked_fill(~left, torch.iinfo(torch.int64).max).amin(-1, keepdim=True)
            now = left & (turn == first)
        else:
            criterion, limits = CHOSEN[order]
            log_probs = logits.log_softmax(-1)
            confidence, entropy = log_probs.amax(-1).exp(), torch.special.entr(log_probs.exp()).sum(-1)
            scores = (confidence if criterion == "confidence" else -entropy).masked_fill(~left, float("-inf"))
            measured = {"confidence": confidence, "entropy": entropy}
            now = limits.choose(scores, {name: measured[name].where(left, 0.0) for name in limits.measures(criterion)})
        ids, left = torch.where(now, logits.argmax(-1), ids), left & ~now
    return ids, steps


def shifted(logits: Tensor) -> Tensor:
    """Logits of the token at each position, from those one position before; nothing is known of the first."""
    return torch.cat([torch.zeros_like(logits[:, :1]), logits[:, :-1]], 1)


def answered(arm: str, model, ids: Tensor, unknown: Tensor, order: str) -> tuple[Tensor, Tensor]:
    """Rows (B, T) as a model fills them in, and its steps (B,)."""
    ids, unknown = ids.to(model.device), unknown.to(model.device)
    if arm == "autoregression":
        if order != "left to right":
            raise ValueError(f"autoregression fills left to right, not {order}")
        found, steps = fill(lambda now, left: shifted(model(now, use_cache=False).logits), ids, unknown, order)
    elif arm == "masked diffusion":
        sees = torch.ones(len(ids), ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device)
        found, steps = fill(lambda now, left: model(now, left, sees), ids, unknown, order)
    elif order in FIXED:
        group_ids = fixed(unknown.cpu(), order).to(ids.device)
        done = decode.generate(model, ids, group_ids, temperature=0.0, runners_up=0)
        found, steps = done.sequences, done.group_ids.amax(-1)
    else:
        criterion, limits = CHOSEN[order]
        done = decode.resample(model, ids, unknown, limits.per_step if limits.bound is None else None, criterion,
                               temperature=0.0, bound=limits.bound, runners_up=0, considered=False)  # fmt: skip
        found, steps = done.sequences, done.group_ids.amax(-1)
    return found.cpu(), steps.cpu()


def orders_of(arm: str) -> tuple[str, ...]:
    return ORDERS[:1] if arm == "autoregression" else ORDERS


def shares(log_probs: list[float]) -> list[float]:
    return [round(math.exp(nats), 4) for nats in log_probs]


def examples(model, puzzle: puzzles.Puzzle, rows: Tensor) -> list[dict]:
    """How an A3 model fills each of some rows, by order: positions, tokens and what it gives them, step by step."""
    found = [{"row": row, "orders": {}} for row in rows.tolist()]
    unknown = puzzle.unknown(rows)
    for order in ORDERS:
        if order in FIXED:
            done = decode.generate(model, rows, fixed(unknown, order), temperature=0.0, runners_up=3)
        else:
            criterion, limits = CHOSEN[order]
            done = decode.resample(model, rows, unknown, limits.per_step if limits.bound is None else None, criterion,
                                   temperature=0.0, bound=limits.bound, runners_up=3, considered=False)  # fmt: skip
        for one, steps, right in zip(found, done.trace.steps, puzzle.solved(done.sequences).tolist(), strict=True):
            steps = [
                {"positions": step.positions, "tokens": step.tokens, "probabilities": shares(step.log_probs),
                 "runners_up": [{token: shares([nats])[0] for token, nats in each} for each in step.runners_up]}
                for step in steps if step.action == "commit"
            ]  # fmt: skip
            one["orders"][order] = {"right": right, "steps": steps}
    return found


def asked(arm: str, model, puzzle: puzzles.Puzzle, rows: Tensor, orders: tuple[str, ...] = ORDERS) -> dict[str, float]:
    """The share of rows that are solved, and the steps that it took, by those of the orders that the arm has."""
    unknown, found = puzzle.unknown(rows), {}
    for order in (order for order in orders if order in orders_of(arm)):
        ids, steps = answered(arm, model, rows, unknown, order)
        found[order] = puzzle.solved(ids).double().mean().item()
        found[f"steps, {order}"] = steps.double().mean().item()
    return found


@functools.cache
def rows_of(puzzle: puzzles.Puzzle, count: int, seed: int) -> Tensor:
    """The same for every arm; those of large sudokus take minutes to make."""
    return puzzle.draw(count, seed)


def trained(task: Task, arm: str, shape: dict, seed: int, questions: int, rate: float, looks: int = LOOKS) -> dict:
    """One training: the curve, a dict for each look at the held-out questions."""
    puzzle = task.puzzle
    torch.manual_seed(seed)
    source = LlamaForCausalLM(LlamaConfig(
        vocab_size=puzzle.vocabulary_size, num_hidden_layers=task.layers, max_position_embeddings=puzzle.length,
        tie_word_embeddings=True, **shape,
    ))  # fmt: skip
    model, recipe = begin(arm, source, puzzle)
    seen = task.steps * task.batch
    blocks = puzzles.as_blocks(rows_of(puzzle, min(task.rows or seen, seen), seed))
    held_out = puzzle.draw(questions, 0, held_out=True)
    config = TrainConfig(steps=task.steps, batch_size=task.batch, learning_rate=rate, warmup_steps=task.steps // 10,
                         weight_decay=0.0, seed=seed, eval_every=-(-task.steps // looks), log_every=0)  # fmt: skip
    calls = itertools.count()

    def look(now) -> dict[str, float]:
        number = next(calls)
        if number == 0:
            return {}  # before the first step
        orders = ORDERS if number * config.eval_every >= task.steps else WATCHED
        found = asked(arm, now, puzzle, held_out, orders)
        print("   ", {order: round(found[order], 3) for order in orders if order in found}, flush=True)
        return found

    lines = train(model, recipe, blocks, config, None, look, quiet=True)
    keep = ("step", "tokens", "loss", *(name for order in ORDERS for name in (order, f"steps, {order}")))
    curve = [{name: line[name] for name in keep if name in line} for line in lines[1:]]
    found = {"curve": curve, "training_seconds": lines[-1]["seconds"]}
    return found | ({"examples": examples(model, puzzle, held_out[:EXAMPLES])} if arm.startswith("A3") else {})


def half_width(shares: list[float], questions: int) -> float:
    """Half of the 95 % interval of a share: over seeds, or of one seed over questions."""
    if len(shares) > 1:
        return T_975[len(shares)] * stdev(shares) / len(shares) ** 0.5
    low, high = (lambda found: (found.low, found.high))(proportion(torch.arange(questions) < shares[0] * questions))
    return (high - low) / 2


def summary(curves: list[list[dict]], questions: int) -> list[dict]:
    """The curve over seeds: at each look the mean share of every order, half of its interval, and the mean steps.

    And in "by_seed" the share of each seed.
    """
    found = []
    for looks in zip(*curves, strict=True):
        line = {"step": looks[0]["step"], "tokens": round(mean(look["tokens"] for look in looks))}
        line["loss"] = round(mean(look["loss"] for look in looks), 4)  # of the last step's rows, nats per answer token
        line["by_seed"] = {}
        for order in (order for order in ORDERS if order in looks[0]):
            line["by_seed"][order] = [round(look[order], 4) for look in looks]
            shares = [look[order] for look in looks]
            steps = mean(look[f"steps, {order}"] for look in looks)
            line[order] = [round(mean(shares), 4), round(half_width(shares, questions), 4), round(steps, 2)]
        found.append(line)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=("sudoku", "sums"), help="one alone: a try, not recorded without --finished")
    parser.add_argument("--arm", choices=ARMS, help="one alone: a try, not recorded")
    parser.add_argument("--steps", type=int, help="fewer or more than the task has: a try, not recorded")
    parser.add_argument("--seeds", type=int, default=3, choices=(1, *T_975))
    parser.add_argument("--size", type=int, default=4, choices=tuple(SUDOKUS), help="of the sudokus")
    parser.add_argument("--rate", type=float, help="learning rate of all arms; default: of the task")
    parser.add_argument("--questions", type=int, default=QUESTIONS, help="held-out ones")
    parser.add_argument("--finished", action="store_true", help="record what is finished on all seeds, train nothing")
    parser.add_argument("--smoke", action="store_true", help="tiny models and four steps; nothing is written")
    options = parser.parse_args()
    shape, questions, seeds = SHAPE, options.questions, options.seeds
    chosen = tasks(options.size)
    if options.smoke:
        shape, questions, seeds = TINY, 16, 1
        chosen = {name: Task(task.puzzle, 2, 4, 8, 32) for name, task in tasks(4, digits=2).items()}
    if options.steps:
        chosen = {name: Task(t.puzzle, t.layers, options.steps, t.batch, t.rows) for name, t in chosen.items()}
    spent, results, shown, not_run = dict.fromkeys(chosen, 0.0), {}, {}, set()
    for name in [options.task] if options.task else chosen:
        task, rate = chosen[name], options.rate or RATES[name]
        arms = [options.arm] if options.arm else ARMS
        curves, shown[name] = {arm: [] for arm in arms}, {}
        for seed, arm in itertools.product(range(seeds), arms):

            def make(task=task, arm=arm, seed=seed, rate=rate) -> dict:
                if options.finished:
                    raise NotFinished
                return trained(task, arm, shape, seed, questions, rate, 2 if options.smoke else LOOKS)

            settings = {"task": repr(task), "shape": shape, "seed": seed, "questions": questions,
                        "rate": rate, "bound": BOUND, "looks": LOOKS}  # fmt: skip
            try:
                found = make() if options.smoke else kept(Path("checkpoints/puzzles"), f"{name} {arm}", settings, make)
            except NotFinished:
                not_run.add(name)
                continue
            spent[name] += found.get("wall_seconds", 0.0)
            curves[arm].append(found["curve"])
            if seed == 0 and "examples" in found:
                shown[name][arm] = found["examples"]
            last = {order: round(found["curve"][-1][order], 3) for order in orders_of(arm)}
            print(f"{name}, {arm}, seed {seed}, {found['training_seconds']:.0f} s: {last}", flush=True)
        if name not in not_run:
            results[name] = {arm: summary(curves[arm], questions) for arm in arms}
    if not results:
        raise SystemExit("puzzles: no task is finished on all seeds")
    if options.smoke or options.arm or options.steps:
        return
    name, seconds = "puzzles" if options.size == 4 else f"puzzles_{options.size}", sum(spent[name] for name in results)
    alike = {"seeds": seeds, "questions": questions, "bound": BOUND, "shape": shape}
    by_task = {
        "rate": {name: options.rate or RATES[name] for name in results},
        "tasks": {name: repr(chosen[name]) for name in results},
        "curves": results,
        "examples": {name: shown[name] for name in results},
    }
    if not options.task:
        record(name, seed=0, wall_seconds=seconds, **alike, not_run=sorted(not_run), **by_task)
    elif options.finished:
        stored = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        other = [key for key in alike if stored[key] != alike[key]]
        if other:
            raise SystemExit(
                f"puzzles: what is recorded has other {', '.join(other)}, so {options.task} must not join it"
            )
        renew(name, f"The task {options.task} was measured", seed=0, wall_seconds=seconds, **by_task,
              not_run=[task for task in stored["not_run"] if task not in results])  # fmt: skip


if __name__ == "__main__":
    main()
