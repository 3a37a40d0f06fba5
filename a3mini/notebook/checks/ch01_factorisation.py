"""Checks for the exercises of notebook 01, factorisation."""

import itertools
import math
import time
from collections.abc import Callable
from numbers import Integral, Real

import torch

from a3mini.notebook.checks.base import Mistake, close, exercise, expect, expect_int64, groupwise_kl, random_table


@exercise
def count_groupings(answer: Callable) -> None:
    """From a length to the number of ordered partitions of that many positions."""
    right = [1]
    for n in range(1, 17):
        right.append(sum(math.comb(n, size) * right[n - size] for size in range(1, n + 1)))
    start = time.process_time()
    got = [answer(n) for n in range(8)]
    quick = time.process_time() - start < 0.02
    for value in got:
        expect(isinstance(value, Integral) and not isinstance(value, bool), f"return an int, not {value!r}.")
    expect(got[1] == 1, f"one position has one grouping; you return {got[1]}. Look at the empty text too.")
    expect(got[3] != 6, "for 3 positions you count 6: these are the orders of single words. Groups may be larger.")
    expect(got[3] != 5, "for 3 positions you count 5: sets without their order. {0}, {1, 2} and {1, 2}, {0} are two.")
    expect(got[3] != 4, "for 3 positions you count 4: neighbours from left to right only. A group may be any set.")
    expect(
        got[3] != 7,
        "for 3 positions you count 7: the groups after the first are not ordered, or not split in every way.",
    )
    expect(got[0] == 1, f"the empty text has one grouping, the one without groups; you return {got[0]}.")
    for n, (yours, wanted) in enumerate(zip(got, right, strict=False)):
        expect(yours == wanted, f"for {n} positions there are {wanted} groupings; you count {yours}.")
    for n in range(8, 17 if quick else 8):  # an answer that lists every grouping would never end
        yours = answer(n)
        expect(yours == right[n], f"for {n} positions there are {right[n]} groupings; you count {yours}.")


@exercise
def parallel_kl(answer: Callable) -> None:
    """From a table to KL(p || product of its marginals), in nats."""
    twins = torch.diag(torch.tensor([0.25, 0.75], dtype=torch.float64))
    three_twins = torch.zeros(2, 2, 2, dtype=torch.float64)
    three_twins[0, 0, 0] = three_twins[1, 1, 1] = 0.5
    cases = [
        ("a random table of shape (2, 3)", random_table(0, 2, 3)),
        ("a random table of shape (3, 2, 4)", random_table(1, 3, 2, 4)),
        ("a random table of 5 positions", random_table(2, 2, 2, 2, 2, 2)),
        ("two words that are always equal (a table with zeros)", twins),
        ("three words that are always equal (a table with zeros)", three_twins),
        (
            "a table with a word that never occurs",
            torch.tensor([[0.3, 0.0, 0.2], [0.1, 0.0, 0.4]], dtype=torch.float64),
        ),
        ("a random table of shape (2, 1, 3)", random_table(3, 2, 1, 3)),
        ("two independent words", torch.tensor([[0.1, 0.1], [0.4, 0.4]], dtype=torch.float64)),
        ("a single word", torch.tensor([0.3, 0.7], dtype=torch.float64)),
    ]
    for name, p in cases:
        right, got = groupwise_kl(p, [1] * p.dim()), answer(p.clone())
        got = got.item() if isinstance(got, torch.Tensor) and got.numel() == 1 else got
        expect(isinstance(got, Real), f"return one number, not {type(got).__name__}.")
        found = f"for {name} the loss is {right:.4f} nats, yours is {got:.4f}"
        expect(math.isfinite(got), f"{found}. A term p log p with p = 0 counts 0.")
        if math.isclose(got, right, rel_tol=1e-5, abs_tol=1e-6):  # float32 will do
            continue
        alone = torch.special.entr(p).sum().item()
        expect(p.dim() > 1 or not close(got, -alone), f"{found}. Mind that p.sum([]) sums over every axis.")
        q = torch.ones_like(p)
        for t in range(p.dim()):
            others = [i for i in range(p.dim()) if i != t]
            q = q * (p.sum(others, keepdim=True) if others else p)
        expect(not close(got, -right), f"{found}: the sign. One by one the words are more uncertain.")
        expect(not close(got, right / math.log(2)), f"{found}: these are bits. Use the natural logarithm.")
        backwards = (q * (q / p).log()).sum().item()
        expect(not close(got, backwards), f"{found}: this is KL(q‖p), not KL(p‖q).")
        expect(not close(got, (p - q).abs().sum().item() / 2), f"{found}: this is the total variation.")
        expect(not close(got, alone), f"{found}: this is the entropy of the table alone.")
        expect(False, f"{found}.")


def _loss_inside(p: torch.Tensor, ids: tuple[int, ...], group: int) -> float:
    """What one group loses by itself, as if it saw no other: its total correlation, in nats."""
    others = [t for t, other in enumerate(ids) if other != group]
    return groupwise_kl(p.sum(others), [1] * (p.dim() - len(others)))


@exercise
def best_two_groups(answer: Callable) -> None:
    """From a table to the group ids (T,), of 1 and 2, with the smallest KL."""
    worst = "the worst of all. Look for the smallest."
    apart = "the best if group 2 did not see group 1. It does: mind H(x_t | x_G1)."
    order = "the split is right, the order is not. Try splits in both orders, group 2 given group 1."
    other = "is the loss right? Try every split, not only neighbours, in both orders."
    missed, names = [], [worst, apart, order, other]
    for seed in range(8):
        p = random_table(seed, *[(2, 2), (2, 3, 2), (2, 2, 2, 2), (2, 2, 2, 2)][seed % 4])
        got = answer(p.clone())
        expect(isinstance(got, torch.Tensor), f"return a tensor, not {type(got).__name__}.")
        expect(got.shape == (p.dim(),), f"the shape should be ({p.dim()},), not {tuple(got.shape)}.")
        expect_int64(got)
        yours = tuple(got.tolist())
        expect(set(yours) == {1, 2}, f"use the group ids 1 and 2, and both of them; you return {yours}.")
        candidates = [ids for ids in itertools.product((1, 2), repeat=p.dim()) if len(set(ids)) == 2]
        loss = {ids: groupwise_kl(p, ids) for ids in candidates}
        each = {ids: _loss_inside(p, ids, 1) + _loss_inside(p, ids, 2) for ids in candidates}
        best, swapped = min(loss, key=loss.get), tuple(3 - group for group in yours)
        # With two positions both orders are exact; otherwise two groupings never tie in these tables.
        right = close(loss[yours], loss[best])
        if not right:
            missed.append(
                f"random table {seed}: {best} has KL {loss[best]:.4f} nats, your {yours} has {loss[yours]:.4f}"
            )
        looks = {
            worst: close(loss[yours], max(loss.values())),
            apart: close(each[yours], min(each.values())),
            order: right or close(loss[swapped], loss[best]),
            other: True,
        }
        names = [name for name in names if looks[name]]  # one table may look like another mistake
    if missed:
        raise Mistake(f"{missed[0]}: {names[0]}")


@exercise
def falling_table(answer: torch.Tensor) -> str:
    """A table in which total variation falls by 0.05 or more when two adjacent groups are merged."""
    expect(isinstance(answer, torch.Tensor), f"give a tensor, not {type(answer).__name__}.")
    p = answer.detach().double()
    expect(p.dim() in (3, 4), f"give a table of three or four positions, not {p.dim()}.")
    expect(all(2 <= size <= 4 for size in p.shape), f"two to four words at each position; the shape is {[*p.shape]}.")
    expect(bool(p.isfinite().all()), "a probability is not a number.")
    expect(bool((p >= 0).all()), "a probability is below 0.")
    expect(abs(p.sum().item() - 1) < 1e-6, f"the probabilities sum to {p.sum().item():.4f}, not to 1.")

    def marginal(keep: list[int]) -> torch.Tensor:
        others = [t for t in range(p.dim()) if t not in keep]
        return p.sum(others, keepdim=True) if others else p

    variation = {}
    for ids in itertools.product(range(1, p.dim() + 1), repeat=p.dim()):
        if set(ids) == set(range(1, max(ids) + 1)):  # an ordered partition
            q = torch.ones_like(p)
            for t, group in enumerate(ids):
                seen = [i for i, other in enumerate(ids) if other < group]
                q = q * torch.nan_to_num(marginal([t, *seen]) / marginal(seen))
            # After words that never come together (0 / 0) q may be anything: p is 0 there.
            variation[ids] = 1 - torch.minimum(p, q).sum().item()
    merges = {}
    for before in variation:
        for k in range(1, max(before)):
            after = tuple(group - (group > k) for group in before)
            merges[before, after] = variation[before] - variation[after]
    (before, after), fall = max(merges.items(), key=lambda item: item[1])
    expect(fall > 1e-9, "no merge of adjacent groups lowers TV in this table. Many random tables do better.")
    found = f"TV falls by {fall:.4f} from groups {before} to {after}"
    expect(fall >= 0.05, f"{found}, the best merge. Find a table with 0.05 or more.")
    return f"{found}. Can you find more?"
