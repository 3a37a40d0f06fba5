"""Checks for the exercises of notebook 07, exact parallel decoding."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch

from a3mini.notebook.checks.base import close, exercise, expect, groupwise_kl, random_table, same


@exercise
def pair_tv(answer: Callable) -> None:
    """From a table of two words to the total variation between it and the product of its marginals."""
    cases = [
        ("two words that are always equal", torch.eye(2, dtype=torch.float64) / 2),
        ("two independent words", torch.tensor([[0.1, 0.1], [0.4, 0.4]], dtype=torch.float64)),
        *((f"a random table of shape {shape}", random_table(7, *shape)) for shape in ((2, 2), (3, 4), (5, 2), (1, 3))),
    ]
    for name, p in cases:
        rows, columns = p.sum(1).tolist(), p.sum(0).tolist()
        error = [p[i, j].item() - a * b for i, a in enumerate(rows) for j, b in enumerate(columns)]
        right, got = sum(map(abs, error)) / 2, _number(answer(p.clone()))
        if close(got, right):
            continue
        found = f"for {name} it is {right:.4f}, yours is {got:.4f}"
        expect(not math.isnan(got), f"{found}. Where p is 0, a quotient or a logarithm fails; none is needed.")
        expect(not close(got, 2 * right), f"{found}: half of the sum of absolute differences.")
        expect(not close(got, 1 - right), f"{found}: this is one minus it, the chance that the second is accepted.")
        expect(not close(got, max(map(abs, error))), f"{found}: this is the error of one pair; sum over all.")
        expect(not close(got, sum(error) / 2), f"{found}: errors of both signs cancel; take absolute values first.")
        expect(not close(got, groupwise_kl(p, [1, 1])), f"{found}: this is the KL.")
        expect(
            not close(got, (p - 1 / p.numel()).abs().sum().item() / 2),
            f"{found}: you compare with equal probabilities; each word keeps its own.",
        )
        expect(False, f"{found}.")


def _number(got) -> float:
    """The reader's answer as a number."""
    got = got.item() if isinstance(got, torch.Tensor) and got.numel() == 1 else got
    expect(isinstance(got, float | int), f"return one number, not {type(got).__name__}.")
    return float(got)


@exercise
def tokens_per_round(answer: Callable) -> None:
    """From the chances that the 2nd, 3rd, ... draft is accepted to the mean number of tokens of a round."""
    for chances in ([], [0.4, 0.3], [0.5], [0.9, 0.2, 0.6], [0.7] * 7, [1.0, 1.0, 0.0, 1.0], [0.0, 0.5]):
        runs = [math.prod(chances[:n]) for n in range(len(chances) + 1)]  # the first n are accepted, or more
        ends = [a - b for a, b in itertools.pairwise([*runs, 0.0])]  # exactly n are accepted
        right = sum(chance * min(n + 2, len(chances) + 1) for n, chance in enumerate(ends))
        got = _number(answer(list(chances)))
        if close(got, right):
            continue
        found = f"for the chances {chances} a round commits {right:.4f} tokens on average, by you {got:.4f}"
        expect(not close(got, right - 1), f"{found}. Do not forget the first, which is free.")
        expect(
            not close(got, sum(runs)),
            f"{found}. You count accepted drafts; a rejected one is replaced by a token too.",
        )
        expect(
            not close(got, right + runs[-1]),
            f"{found}. You add a token after a draft that is accepted to the end; our rounds have none.",
        )
        expect(
            not close(got, 1 + sum(chances)),
            f"{found}. A draft is looked at only if all before it were accepted: multiply.",
        )
        expect(not close(got, 1 + len(chances)), f"{found}. Behind the first rejection everything is dropped.")
        expect(False, f"{found}.")


@exercise
def all_accepted(answer: Callable) -> None:
    """From a table with T axes to the chance that every one of T drafts, made from nothing, is accepted."""

    def by_loop(p: torch.Tensor, order: Sequence[int], only_last: bool = False) -> float:
        def probability(x: Sequence[int], at: Sequence[int]) -> float:
            return p[tuple(x[t] if t in at else slice(None) for t in range(p.dim()))].sum().item()

        total = 0.0
        for x in itertools.product(*map(range, p.shape)):
            chance = 1.0
            for n, t in enumerate(order):
                seen = order[max(n - 1, 0) : n] if only_last else order[:n]
                chance *= min(probability(x, [t]), probability(x, [t, *seen]) / probability(x, seen))
            total += chance
        return total

    shapes = ((2, 2), (3, 2), (2, 2, 2), (2, 3, 2), (2, 2, 2, 2), (3,))
    for shape in shapes:
        p = random_table(11, *shape)
        axes = list(range(p.dim()))
        right, got = by_loop(p, axes), _number(answer(p.clone()))
        if close(got, right):
            continue
        found = f"for a random table of shape {shape} the chance is {right:.4f}, yours is {got:.4f}"
        product = torch.ones_like(p)
        for t in axes:
            others = [i for i in axes if i != t]
            product = product * (p.sum(others, keepdim=True) if others else p)
        expect(not close(got, 1 - right), f"{found}: one minus it.")
        expect(
            not close(got, torch.minimum(p, product).sum().item()),
            f"{found}: this is 1 - TV of the whole text. Each draft must pass by itself: a product of minima.",
        )
        expect(not close(got, by_loop(p, axes[::-1])), f"{found}: you verify from the last axis to the first.")
        expect(
            not close(got, by_loop(p, axes, only_last=True)),
            f"{found}: a draft sees all drafts before it, not only the last.",
        )
        one = 1.0  # as if the drafts passed independently of each other
        for t in axes[1:]:
            flat = p.sum(list(range(t + 1, p.dim()))) if t + 1 < p.dim() else p
            before = flat.sum(-1, keepdim=True)
            one *= torch.minimum(before * flat.sum(list(range(t))), flat).sum().item()
        expect(
            not close(got, one),
            f"{found}: you multiply mean chances, but whether a draft passes depends on the others.",
        )
        expect(False, f"{found}.")


@exercise
def verify(answer: Callable) -> None:
    """(drafts (B, n), p, q (B, n, V), uniforms (B, n)) -> how many drafts are kept (B,), what comes next (B, V)."""
    generator = torch.Generator().manual_seed(0)
    for rows, count, size in ((1, 1, 3), (6, 4, 3), (40, 5, 7), (9, 1, 2)):
        p, q = torch.rand(2, rows, count, size, generator=generator, dtype=torch.float64).pow(2).add(0.01)
        p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
        q[: rows // 3] = p[: rows // 3]  # nothing to reject in these rows
        drafts = torch.multinomial(p.flatten(0, 1), 1, generator=generator).view(rows, count)
        uniforms = torch.rand(rows, count, generator=generator, dtype=torch.float64)
        got = answer(drafts.clone(), p.clone(), q.clone(), uniforms.clone())
        expect(isinstance(got, tuple) and len(got) == 2, "return two tensors: how many are kept, what comes next.")
        expect(all(isinstance(x, torch.Tensor) for x in got), "return two tensors: how many are kept, what comes next.")
        expect(tuple(got[0].shape) == (rows,), f"the first should have shape ({rows},), not {tuple(got[0].shape)}.")
        expect(not got[0].is_floating_point() and got[0].dtype != torch.bool, "the first counts: integers.")
        wanted = (rows, size)
        expect(tuple(got[1].shape) == wanted, f"the second should have shape {wanted}, not {tuple(got[1].shape)}.")
        passed, swapped = (
            [
                [u * over[token] < under[token] for token, over, under, u in zip(*row, strict=True)]
                for row in zip(drafts, *pair, uniforms, strict=True)
            ]
            for pair in ((p, q), (q, p))
        )
        run = [next((n for n, ok in enumerate(row) if not ok), count) for row in passed]
        kept = got[0].tolist()
        found = f"for {rows} rows of {count} drafts the first {min(rows, 6)} rows keep {run[:6]}, by you {kept[:6]}"
        expect(
            kept == run or kept != [sum(map(int, row)) for row in passed],
            f"{found}. Nothing behind the first rejection counts.",
        )
        expect(
            kept == run or kept != [next((n for n, ok in enumerate(row) if not ok), count) for row in swapped],
            f"{found}. The quotient is upside down: q / p.",
        )
        exact = (q.gather(-1, drafts[..., None]) >= p.gather(-1, drafts[..., None]))[..., 0].long().cumprod(-1).sum(-1)
        expect(
            kept == run or kept != exact.tolist(),
            f"{found}. Where q is below p a draft still has a chance: compare with its uniform number.",
        )
        expect(kept == run, f"{found}.")
        for row, (n, mine) in enumerate(zip(run, got[1], strict=True)):
            where = f"in a row that keeps {n} of {count} drafts the distribution is wrong: "
            expect(not mine.isnan().any(), where + "it holds nan; where all drafts are kept it is all zeros.")
            if n == count:
                expect(not mine.any(), where + "all drafts are kept, so it should be all zeros.")
                continue
            rest = [max(0.0, (b - a).item()) for a, b in zip(p[row, n], q[row, n], strict=True)]
            right = torch.tensor(rest, dtype=torch.float64)
            expect(not same(mine, q[row, n]), where + "it is q itself; draw from what q has more than p.")
            expect(not same(mine, right) or same(mine, right / right.sum()), where + "it does not sum to 1: normalise.")
            turned = (p[row, n] - q[row, n]).clamp(min=0)
            expect(
                not same(mine, turned / turned.sum()) or same(mine, right / right.sum()),
                where + "this is what p has more than q; turn it around.",
            )
            expect(
                same(mine, right / right.sum()),
                where + "it should be max(0, q - p), normalised, at the place of the first rejection.",
            )


def _shared(information: torch.Tensor, order: Sequence[int], draft: int) -> float:
    """What the words of a draft know about each other: the sum over pairs less than ``draft`` apart in the order."""
    ordered = information[list(order)][:, list(order)]
    return sum(ordered.diagonal(apart).sum().item() for apart in range(1, draft))


@exercise
def draft_order(answer: Callable) -> str:
    """From the information between positions (T, T) and the length of a draft to an order that shares little."""
    position = torch.arange(12, dtype=torch.float64)
    apart = (position[:, None] - position).abs()
    near = torch.where(apart > 0, 1 / apart.clamp(min=1), 0.0)  # the closer in the text, the more
    pairs = ((apart == 1) & (torch.minimum(position[:, None], position) % 2 == 0)).double()  # 0 with 1, 2 with 3, ...
    noise = torch.rand(12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64).triu(1)
    cases = {
        "neighbours share most": (near, 3),
        "neighbours share most, long drafts": (near, 4),
        "a word and its partner": (pairs, 3),
        "random numbers": (noise + noise.T, 4),
    }
    for name, (information, draft) in cases.items():
        got = answer(information.clone(), draft)
        got = got.tolist() if isinstance(got, torch.Tensor) else got
        expect(isinstance(got, list | tuple), "return a list of positions in the order of drafting.")
        order = [int(t) for t in got]
        length = len(information)
        expect(
            sorted(order) == list(range(length)),
            f"an order has each position from 0 to {length - 1} once, not {order}.",
        )
        shares, chance = _shared(information, order, draft), torch.Generator().manual_seed(1)
        at_random = [torch.randperm(length, generator=chance).tolist() for _ in range(300)]
        mean = sum(_shared(information, other, draft) for other in at_random) / len(at_random)
        found = f"{name}, drafts of {draft}: the words of a draft share {shares:.2f}, in a random order {mean:.2f}"
        expect(order != list(range(length)), f"{found}. Yours is the order of the text.")
        expect(shares < 1.1 * mean, f"{found}. You draft together what shares *most*; such drafts are rejected.")
        expect(shares < 0.9 * mean, f"{found}. Yours should share clearly less: under {0.9 * mean:.2f}.")
    return f"an order, and it beats chance. {found}. Now a real model."
