"""Checks for the exercises of notebook 08, exact parallel decoding."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch.overrides import TorchFunctionMode

from a3mini.notebook.checks.base import case, close, exercise, expect, groupwise_kl, plain, random_table


@exercise
def pair_tv(answer: Callable) -> None:
    """From a table of two words to the total variation between it and the product of its marginals."""
    cases = [
        ("two words that are always equal", torch.eye(2, dtype=torch.float64) / 2),
        ("two independent words", torch.tensor([[0.06, 0.14], [0.24, 0.56]], dtype=torch.float64)),
        ("words that never come", torch.tensor([[0.4, 0.0, 0.1], [0.0, 0.0, 0.0], [0.2, 0.0, 0.3]]).double()),
        *((f"a random table of shape {shape}", random_table(7, *shape)) for shape in ((2, 2), (3, 4), (5, 2), (1, 3))),
    ]
    for name, p in cases:
        rows, columns = p.sum(1).tolist(), p.sum(0).tolist()
        error = [p[i, j].item() - a * b for i, a in enumerate(rows) for j, b in enumerate(columns)]
        with case(f"for {name}"):
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
            len(rows) != len(columns) or not close(got, (p - p.sum(0) * p.sum(1)).abs().sum().item() / 2),
            f"{found}: a row times a row is no table; keep the dimension that you sum over.",
        )
        expect(
            not close(got, (p - 1 / p.numel()).abs().sum().item() / 2),
            f"{found}: you compare with equal probabilities; each word keeps its own.",
        )
        expect(False, f"{found}.")


def _number(got) -> float:
    """The reader's answer as a number."""
    got = plain(got)
    expect(isinstance(got, float | int), f"return one number, not {type(got).__name__}.")
    return float(got)


@exercise
def accept_or_redraw(answer: Callable) -> None:
    """From p, q (V,), a drafted word and a uniform number to (accepted, the residual (V,))."""
    p = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=torch.float64)
    q = torch.tensor([0.25, 0.25, 0.375, 0.125], dtype=torch.float64)
    cases = [(p, q, word, uniform) for word in range(4) for uniform in (0.0, 0.25, 0.5, 0.75, 0.99)]
    for seed, size in enumerate((3, 5, 8)):
        ours, theirs = random_table(seed, size), random_table(seed + 20, size)
        cases += [(ours, theirs, word, uniform) for word in range(size) for uniform in (0.1, 0.6, 0.9)]
    for p, q, word, uniform in cases:
        here = f"p {p[word]:.3f} and q {q[word]:.3f} at the word, uniform {uniform}: "
        with case(here):
            got = answer(p.clone(), q.clone(), word, uniform)
        expect(isinstance(got, tuple | list) and len(got) == 2, "return two things: accepted or not, and the residual.")
        accepted, residual = plain(got[0]), got[1]
        expect(isinstance(accepted, bool), f"{here}the first should be True or False, not {accepted!r}.")
        expect(
            isinstance(residual, torch.Tensor) and residual.shape == p.shape,
            f"the residual should have shape ({len(p)},): a probability for each word.",
        )
        right = uniform * p[word].item() < q[word].item()
        if accepted != right:
            said = f"{here}the word is {'accepted' if right else 'rejected'}. "
            expect(
                accepted != (uniform * q[word].item() < p[word].item()), said + "The probability is q / p, not p / q."
            )
            expect(False, said + "Compare `uniform` with min(1, q / p), also where q is below p.")
        missing = (q - p).clamp(min=0)
        if _same(residual, missing / missing.sum()):
            continue
        where = "the residual is wrong: "
        expect(not _same(residual, q), where + "it is q itself. Draw from what q has more than p.")
        expect(not _same(residual, missing), where + "it does not sum to 1.")
        turned = (p - q).clamp(min=0)
        expect(not _same(residual, turned / turned.sum()), where + "this is what p has more than q; turn it around.")
        expect(bool((residual >= 0).all()), where + "a probability is below 0; cut off the differences there.")
        both = (q - p).abs()
        expect(not _same(residual, both / both.sum()), where + "it also has the words that p has more of.")
        expect(False, where + f"for p {_rounded(p)}, q {_rounded(q)} it is {_rounded(missing / missing.sum())}.")


def _rounded(values: torch.Tensor) -> list[float]:
    return [round(value, 3) for value in values.tolist()]


@exercise
def tokens_per_round(answer: Callable) -> None:
    """From the chances that the 2nd, 3rd, ... draft is accepted to the mean number of tokens of a round."""
    for chances in ([], [0.4, 0.3], [0.5], [0.9, 0.2, 0.6], [0.7] * 7, [1.0, 1.0, 0.0, 1.0], [0.0, 0.5]):
        runs = [math.prod(chances[:n]) for n in range(len(chances) + 1)]  # the first n are accepted, or more
        ends = [a - b for a, b in itertools.pairwise([*runs, 0.0])]  # exactly n are accepted
        right = sum(chance * min(n + 2, len(chances) + 1) for n, chance in enumerate(ends))
        with case(f"for the chances {chances}"):
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

    def by_loop(p: torch.Tensor, order: Sequence[int], only_last: bool = False, no_joint: bool = False) -> float:
        def probability(x: Sequence[int], at: Sequence[int]) -> float:
            return p[tuple(x[t] if t in at else slice(None) for t in range(p.dim()))].sum().item()

        total = 0.0
        for x in itertools.product(*map(range, p.shape)):
            chance = 1.0
            for n, t in enumerate(order):
                seen = order[max(n - 1, 0) : n] if only_last else order[:n]
                joint = 1.0 if no_joint and n + 1 == len(order) else probability(x, [t, *seen])
                chance *= min(probability(x, [t]), joint / probability(x, seen))
            total += chance
        return total

    shapes = ((2, 2), (3, 2), (2, 2, 2), (2, 3, 2), (2, 2, 2, 2), (3,), (2, 1, 2))
    for shape in shapes:
        p = random_table(11, *shape)
        axes = list(range(p.dim()))
        with case(f"for a table of shape {shape}"):
            right, got = by_loop(p, axes), _number(answer(p.clone()))
        if close(got, right):
            continue
        found = f"for a random table of shape {shape} the chance is {right:.4f}, yours is {got:.4f}"
        product = torch.ones_like(p)
        for t in axes:
            others = [i for i in axes if i != t]
            product = product * (p.sum(others, keepdim=True) if others else p)
        expect(not close(got, 1 - right), f"{found}: one minus it.")
        expect(len(axes) > 1, f"{found}: a single draft has its right probability, so it always passes.")
        expect(
            not close(got, by_loop(p, axes, no_joint=True)),
            f"{found}: with no axis to sum over, take `p` itself; `p.sum([])` sums over all axes.",
        )
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
    for rows, count, size in ((40, 5, 7), (6, 4, 3), (1, 1, 3), (9, 1, 2), (100, 100, 4)):
        p, q = torch.rand(2, rows, count, size, generator=generator, dtype=torch.float64).pow(2).add(0.01)
        p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
        q[: rows // 3] = p[: rows // 3]  # nothing to reject in these rows
        p[-1], q[-1] = 0, 0  # and in the last row all numbers are exact
        p[-1, :, :2], q[-1, :, 0], q[-1, :, -1] = 0.5, 0.25, 0.75
        drafts = torch.multinomial(p.flatten(0, 1), 1, generator=generator).view(rows, count)
        uniforms = torch.rand(rows, count, generator=generator, dtype=torch.float64)
        drafts[-1], uniforms[-1] = 0, torch.arange(count) % 3 / 4 + 0.25  # 0.25, 0.5, 0.75; q / p is 0.5
        with case(f"for {rows} rows of {count} drafts"), _Calls() as calls:
            got = answer(drafts.clone(), p.clone(), q.clone(), uniforms.clone())
        expect(
            isinstance(got, tuple | list) and len(got) == 2, "return two tensors: how many are kept, what comes next."
        )
        expect(all(isinstance(x, torch.Tensor) for x in got), "return two tensors: how many are kept, what comes next.")
        expect(tuple(got[0].shape) == (rows,), f"the first should have shape ({rows},), not {tuple(got[0].shape)}.")
        expect(got[0].dtype == torch.int64, f"the first counts: int64, not {got[0].dtype}.")
        wanted = (rows, size)
        expect(tuple(got[1].shape) == wanted, f"the second should have shape {wanted}, not {tuple(got[1].shape)}.")
        at = drafts[..., None]
        numbers = list(zip(p.gather(-1, at).tolist(), q.gather(-1, at).tolist(), uniforms.tolist(), strict=True))

        def passed(rule: Callable, numbers=numbers) -> list[list[bool]]:
            return [[rule(p[0], q[0], u) for p, q, u in zip(*row, strict=True)] for row in numbers]

        def first_failures(rows: list[list[bool]], count=count) -> list[int]:
            return [next((n for n, ok in enumerate(row) if not ok), count) for row in rows]

        run = first_failures(passed(lambda p, q, u: u * p < q))
        kept = got[0].tolist()
        if kept != run:
            row = next(row for row in range(rows) if kept[row] != run[row])
            found = f"row {row} of {rows} keeps {run[row]} of its {count} drafts, by you {kept[row]}"
            wrong = {
                "Nothing behind the first rejection counts": list(map(sum, passed(lambda p, q, u: u * p < q))),
                "The quotient is upside down: q / p": first_failures(passed(lambda p, q, u: u * q < p)),
                "Where q is below p a draft still has a chance: compare with its uniform number": first_failures(
                    passed(lambda p, q, u: q >= p)
                ),
                "A number that equals q / p is not below it: the draft is rejected": first_failures(
                    passed(lambda p, q, u: u * p <= q)
                ),
            }
            for message, other in wrong.items():
                expect(kept != other, f"{found}. {message}.")
            expect(False, f"{found}.")
        for row, (n, mine) in enumerate(zip(run, got[1], strict=True)):
            where = f"in a row that keeps {n} of {count} drafts the distribution is wrong: "
            expect(not mine.isnan().any(), where + "it holds nan; where all drafts are kept it is all zeros.")
            if n == count:
                expect(not mine.any(), where + "all drafts are kept, so it should be all zeros.")
                continue
            rest = [max(0.0, (b - a).item()) for a, b in zip(p[row, n], q[row, n], strict=True)]
            right = torch.tensor(rest, dtype=torch.float64)
            if _same(mine, right / right.sum()):
                continue
            expect(not _same(mine, q[row, n]), where + "it is q itself; draw from what q has more than p.")
            expect(not _same(mine, right), where + "it does not sum to 1: normalise.")
            turned = (p[row, n] - q[row, n]).clamp(min=0)
            expect(not _same(mine, turned / turned.sum()), where + "this is what p has more than q; turn it around.")
            expect(False, where + "it should be max(0, q - p), normalised, at the place of the first rejection.")
        expect(torch.Tensor.tolist not in calls, "right, but stay with tensors: write it without a loop over lists.")
        expect(
            len(calls) < rows or rows < 100,
            f"right, but {rows} rows of {count} drafts take {len(calls)} calls of PyTorch: write it without a loop.",
        )


class _Calls(TorchFunctionMode):
    """The functions of PyTorch that are called inside."""

    def __enter__(self) -> list:
        self.found = []
        super().__enter__()
        return self.found

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.found.append(function)
        return function(*args, **kwargs or {})


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a.double(), b, atol=1e-6, rtol=0)  # float32 is right too


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
        "neighbours share most, drafts of two": (near, 2),
        "neighbours share most, long drafts": (near, 4),
        "a word and its partner": (pairs, 3),
        "random numbers": (noise + noise.T, 4),
    }
    for name, (information, draft) in cases.items():
        with case(f"{name}, drafts of {draft}"):
            got = answer(information.clone(), draft)
        got = got.tolist() if hasattr(got, "tolist") else got
        expect(isinstance(got, list | tuple), "return a list of positions in the order of drafting.")
        order = [plain(t) for t in got]
        expect(all(isinstance(t, int) for t in order), "return a list of positions, which are integers.")
        length = len(information)
        expect(
            sorted(order) == list(range(length)),
            f"an order has each position from 0 to {length - 1} once, not {order}.",
        )
        shares, chance = _shared(information, order, draft), torch.Generator().manual_seed(1)
        at_random = [torch.randperm(length, generator=chance).tolist() for _ in range(300)]
        mean = sum(_shared(information, other, draft) for other in at_random) / len(at_random)
        found = f"{name}, drafts of {draft}: the words of a draft share {shares:.2f}, in a random order {mean:.2f}"
        if shares < 0.9 * mean:
            continue
        expect(order != list(range(length)), f"{found}. Yours is the order of the text.")
        expect(shares < 1.1 * mean, f"{found}. You draft together what shares *most*; such drafts are rejected.")
        expect(False, f"{found}. Yours should share clearly less: under {0.9 * mean:.2f}.")
    return f"an order, and it beats chance. {found}. Now a real model."
