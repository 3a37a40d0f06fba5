"""Checks for the exercises of notebook 09, adapt on a GPU."""

import itertools
import math
from collections.abc import Callable, Sequence

from a3mini.notebook.checks.base import exercise, expect, plain


@exercise
def training_bytes(answer: Callable) -> None:
    """From the number of frozen and of trained weights to the bytes of training, activations aside."""
    for frozen, trained in ((134_515_008, 1_221_120), (0, 1000), (1000, 0), (7, 3), (5, 11)):
        got, right = plain(answer(frozen, trained)), 4 * frozen + 16 * trained
        expect(isinstance(got, int | float) and not isinstance(got, bool), "return one number, of bytes.")
        found = f"for {frozen:,} frozen and {trained:,} trained weights it is {right:,}, yours is {got:,.0f}"
        if math.isclose(got, right):
            continue
        units = (1e3, 1e6, 1e9, 2**10, 2**20, 2**30)
        expect(not any(math.isclose(got * unit, right) for unit in units), f"{found}. Return bytes, in no larger unit.")
        expect(not math.isclose(got, 16 * (frozen + trained)), f"{found}. What is frozen has no gradient, no moments.")
        expect(not math.isclose(got, 16 * trained), f"{found}. A frozen weight is in memory too.")
        expect(not math.isclose(got, right / 4), f"{found}. You count numbers; each has 4 bytes.")
        expect(not math.isclose(got, 8 * right), f"{found}. You count bits.")
        expect(not math.isclose(got, 4 * frozen + 12 * trained), f"{found}. AdamW keeps two moments; or the gradient?")
        expect(not math.isclose(got, 4 * frozen + 8 * trained), f"{found}. Where are the two moments of AdamW?")
        expect(not math.isclose(got, 4 * (frozen + trained)), f"{found}. These are the weights; what else is kept?")
        expect(False, f"{found}.")


@exercise
def lora_weights(answer: Callable) -> None:
    """From the shapes (out, in) of linear layers and a rank to the number of weights that LoRA trains."""
    for shapes, rank in (([(576, 576)], 4), ([(576, 576), (192, 576), (1536, 576), (576, 1536)], 8), ([(3, 5)] * 2, 1)):
        got = plain(answer(list(shapes), rank))
        right = sum(rank * (rows + columns) for rows, columns in shapes)
        expect(isinstance(got, int) and not isinstance(got, bool), "return one integer.")
        if got == right:
            continue
        found = f"for {len(shapes)} matrices at rank {rank} it is {right:,}, yours is {got:,}"
        whole = sum(rows * columns for rows, columns in shapes)
        expect(got != whole, f"{found}. This is full training.")
        expect(got != rank * whole, f"{found}. The two thin matrices have {rank} columns and {rank} rows: add.")
        expect(got != right + whole, f"{found}. The matrix itself is frozen.")
        expect(got != right // rank or rank == 1, f"{found}. Multiply by the rank.")
        expect(got != rank * rank * sum(map(sum, shapes)), f"{found}. Multiply by the rank once.")
        first = rank * sum(shapes[0])
        expect(got != first or len(shapes) == 1, f"{found}. Add up all matrices.")
        one = (rank * sum(rows for rows, _ in shapes), rank * sum(columns for _, columns in shapes))
        expect(got not in one, f"{found}. There are two thin matrices: down ({rank}, in) and up (out, {rank}).")
        expect(got not in (2 * one[0], 2 * one[1]), f"{found}. A matrix need not be square: in and out differ.")
        expect(False, f"{found}.")


@exercise
def split_batch(answer: Callable) -> None:
    """From the rows of a step and the rows that fit to (rows of a microbatch, number of microbatches)."""
    examples = ((48, 20), (64, 24), (64, 64), (30, 7), (7, 3), (16, 100), (96, 50), (1, 1))
    for batch, fits in (*examples, *itertools.product(range(1, 25), range(1, 28))):
        got = answer(batch, fits)
        expect(isinstance(got, tuple | list) and len(got) == 2, "return rows of a microbatch, and how many of them.")
        micro, count = map(plain, got)
        expect(all(isinstance(x, int) and not isinstance(x, bool) for x in (micro, count)), "return two integers.")
        right = max(rows for rows in range(1, min(batch, fits) + 1) if batch % rows == 0)
        found = f"{batch} rows in a step, {fits} fit: {right} x {batch // right}, not {micro} x {count}"
        expect(micro >= 1 and count >= 1, f"{found}. Both are at least 1.")
        expect(micro <= fits, f"{found}. {micro} rows do not fit.")
        expect((micro, count) != (batch // right, right) or micro == right, f"{found}. You swapped the two.")
        expect(
            micro * count == batch,
            f"{found}. {micro} x {count} = {micro * count} rows: the step must keep its {batch}.",
        )
        expect(micro == right, f"{found}. A larger microbatch fits, and wastes less of the GPU.")


@exercise
def save_every(answer: Callable) -> None:
    """From seconds of a step, of a save, and between two disconnects to the cheapest number of steps between saves."""
    for step, save, session in (
        (1.0, 8.0, 3600.0),
        (0.5, 3.0, 5400.0),
        (4.0, 20.0, 1800.0),
        (60.0, 1.0, 3681.0),
        (60.0, 0.1, 3600.0),  # the best is below one step
        (60.0, 1.0, 3420.0),  # here the best is rounded down, above it was rounded up
        (90.0, 30.0, 3600.0),
        (1.0, 2.0, 635.0),
        (25.0, 4.0, 1800.0),
        (7.0, 3.0, 5400.0),
    ):

        def cost(n: int, step: float = step, save: float = save, session: float = session) -> float:
            return save / n + n * step / 2 * step / session

        ideal = math.sqrt(2 * save * session) / step
        right = min((max(1, math.floor(ideal)), math.ceil(ideal)), key=cost)
        got = plain(answer(step, save, session))
        expect(isinstance(got, int) and not isinstance(got, bool), "return a whole number of steps, an int.")
        expect(got >= 1, f"{got} steps: there is at least one step between two saves.")
        found = f"steps of {step:g} s, saves of {save:g} s, a disconnect every {session:g} s: {right} steps, not {got}"
        if cost(got) <= cost(right) * (1 + 1e-9):
            continue
        expect(
            abs(got - ideal) >= 1,
            f"{found}. Of the two whole numbers beside the best one, {ideal:.2f}, take the one that costs less.",
        )
        near = lambda value, got=got: abs(got - value) <= 1  # noqa: E731
        expect(got != 1 or right <= 2, f"{found}. You save all the time.")
        expect(not near(ideal * step) or step == 1, f"{found}. These are seconds: divide by those of a step.")
        expect(
            not near(ideal / math.sqrt(2)) or right < 4,
            f"{found}. A disconnect loses half of the time between two saves, on average.",
        )
        expect(not near(ideal**2 * step), f"{found}. Set the derivative to 0, and take a square root.")
        expect(not near(session / step), f"{found}. You save once per session: half of it is lost.")
        expect(False, f"{found}. It costs {cost(got):.4f} s per step, the best {cost(right):.4f}.")


@exercise
def fair_runs(answer: Sequence[dict]) -> str:
    """At most 12 runs that compare LoRA ranks: paired seeds, several learning rates, equal tokens."""
    expect(isinstance(answer, list | tuple) and len(answer) > 0, "make a list of runs.")
    names = {"rank", "learning_rate", "seed", "steps", "batch"}
    for run in answer:
        expect(isinstance(run, dict) and set(run) == names, f"each run is a dict with {', '.join(sorted(names))}.")
    expect(len(answer) <= 12, f"you have time for 12 runs, not {len(answer)}.")
    answer = [{name: plain(value) for name, value in run.items()} for run in answer]
    for name in ("rank", "steps", "batch", "seed"):
        least = -math.inf if name == "seed" else 1
        for value in (run[name] for run in answer):
            found = isinstance(value, int) and not isinstance(value, bool) and value >= least
            expect(found, f"{name} is a whole number{'' if name == 'seed' else ' of at least 1'}, not {value!r}.")
    for rate in (run["learning_rate"] for run in answer):
        found = isinstance(rate, int | float) and 0 < rate < 1
        expect(found, f"learning_rate is a number above 0 and below 1, not {rate!r}.")
    kinds = {(run["rank"], run["learning_rate"], run["seed"], run["steps"], run["batch"]) for run in answer}
    expect(len(kinds) == len(answer), "two of the runs are the same: the second tells nothing new.")
    expect(
        len({(run["steps"], run["batch"]) for run in answer}) == 1,
        "steps and batch differ between runs: then more tokens, or larger batches, may be what helped.",
    )
    by_rank: dict[int, set] = {}
    for run in answer:
        by_rank.setdefault(run["rank"], set()).add((run["learning_rate"], run["seed"]))
    expect(len(by_rank) >= 2, "there is one rank only: nothing is compared.")
    for rank, tried in by_rank.items():
        seeds_of = {rate: {seed for other, seed in tried if other == rate} for rate, _ in tried}
        rates, seeds = set(seeds_of), {seed for _, seed in tried}
        expect(
            len(rates) >= 2,
            f"rank {rank} has one learning rate: if it loses, was it the rank, or a rate that suits the other rank?",
        )
        expect(
            len(seeds) >= 3,
            f"rank {rank} has {len(seeds)} of the 3 seeds that it takes to see how much a seed changes.",
        )
        expect(
            all(found == seeds for found in seeds_of.values()),
            f"rank {rank} tries its learning rates with different seeds: then rate and seed are mixed up.",
        )
    first, *others = by_rank.values()
    expect(
        all({seed for _, seed in tried} == {seed for _, seed in first} for tried in others),
        "the ranks have different seeds, so no run has a partner: pair them, with the same rows and groups.",
    )
    expect(
        all(len({rate for rate, _ in tried}) == len({rate for rate, _ in first}) for tried in others),
        "one rank tries more learning rates than another: the best of more draws looks better by luck.",
    )
    return f"fair: {len(by_rank)} ranks in {len(answer)} runs, paired. Now train them."
