"""Checks for the exercises of notebook 06, progressive adaptation."""

import itertools
import math
from collections.abc import Callable
from unittest.mock import Mock, patch

import torch

from a3mini import groups
from a3mini.notebook.checks.base import Mistake, case, close, exercise, expect, mixture, plain
from a3mini.train import curriculum
from a3mini.train.curriculum import Curriculum, Part, Stage


@exercise
def growing_groups(answer: Callable) -> None:
    """From (length, progress, sizes) to stage-2 group ids (length,)."""
    forbidden = Mock(side_effect=Mistake("write it yourself, without `groups`, `Grouping` and `Curriculum`."))
    for length, progress, sizes in (
        (6, 0.0, (1, 2, 4)),
        (9, 0.5, (1, 2, 4)),
        (12, 0.99, (1, 2, 4)),
        (10, 0.3, (1, 2, 4)),  # here rounding takes another size than cutting off
        (11, 0.7, (2, 3, 5, 8)),
        (11, 0.3, (2, 3, 5, 8)),
        (4, 0.25, (1, 8)),
        (9, 0.5, (1, 2)),  # where one size ends and the next begins
        (9, 0.75, (5, 3, 2, 1)),
        (9, 0.49, (1, 2)),  # and just before
        (9, 0.5, (4, 1, 2)),  # sizes need not rise
        (9, 0.5, (2, 2, 4)),  # nor differ
        (2, 0.0, (3,)),
        (1, 0.9, (1, 2)),
    ):
        size, where = sizes[int(progress * len(sizes))], f"length {length}, progress {progress}, sizes {sizes}: "
        with (
            case(where),
            patch.multiple(groups, blocks=forbidden, infill=forbidden),
            patch.object(curriculum, "draw_rows", forbidden),
        ):
            got = answer(length, progress, sizes)
        expect(isinstance(got, torch.Tensor) and got.shape == (length,), f"return a tensor of shape ({length},).")
        expect(not got.is_floating_point(), f"group ids are integers, not {got.dtype}. Divide with //.")
        expect(got.dtype == torch.int64, f"group ids are int64 here, not {got.dtype}.")
        ids = got.tolist()
        expect(ids[0] == 0, where + f"token 0 is given, so its id is 0, not {ids[0]}.")
        expect(
            length == 1 or ids[1] > 0, where + "token 1 begins a group, so its id is above 0; token 0 fills no group."
        )
        expect(ids == sorted(ids), where + "the groups go from left to right, so the ids never fall.")
        ids = groups.relabel(got).tolist()  # only their order matters
        for other in {*sizes} - {size}:
            expect(
                ids != groups.blocks(length, other).tolist() or other >= length - 1 <= size,
                where + f"your groups have {other} tokens; at this progress they should have {size}.",
            )
        right = groups.blocks(length, size).tolist()
        expect(ids == right, where + f"the groups have {size} tokens: {right}; yours are {ids}.")


@exercise
def backwards_span(answer: Callable) -> None:
    """From (length, start, end, size) to group ids (length,): the blank from its right end to its left."""
    for length, start, end, size in (
        (8, 3, 6, 1),
        (10, 2, 8, 2),
        (12, 4, 11, 3),
        (6, 1, 6, 4),
        (7, 6, 7, 1),
        (7, 0, 5, 2),
        (9, 2, 6, 8),
    ):
        where = f"length {length}, start {start}, end {end}, size {size}: "
        with case(where):
            got = answer(length, start, end, size)
        expect(isinstance(got, torch.Tensor) and got.shape == (length,), f"return a tensor of shape ({length},).")
        expect(not got.is_floating_point(), f"group ids are integers, not {got.dtype}. Divide with //.")
        expect(got.dtype != torch.bool, "group ids are integers, not True and False.")
        unknown = torch.zeros(length, dtype=torch.bool)
        unknown[start:end] = True
        ids = got.tolist()
        expect(not (got[~unknown] < 0).any(), where + "what is outside the blank is given (0), not padding (-1).")
        expect(
            end == length or ids[end] == 0, where + f"token {end} is given: the blank ends before it, as in a slice."
        )
        expect(not got[~unknown].any(), where + "what is outside the blank is given: its id is 0.")
        expect(bool((got[unknown] > 0).all()), where + "every token of the blank is predicted: its id is 1 or more.")
        got = groups.relabel(got)  # only the order of the ids matters
        right = torch.zeros_like(got)
        right[start:end] = torch.arange(end - start).flip(0) // size + 1
        forwards = groups.infill(unknown, size)
        expect(
            not torch.equal(got, forwards) or torch.equal(got, right),
            where + "this goes from left to right; the right end comes first.",
        )
        turned = torch.where(unknown, forwards.max() + 1 - forwards, 0)
        expect(
            not torch.equal(got, turned) or torch.equal(got, right),
            where + "the smaller group is the first one; it should be the last, at the left end.",
        )
        expect(torch.equal(got, right), where + f"the ids should be ordered like {right.tolist()}; yours are {ids}.")


@exercise
def bound_from_sets(answer: Callable) -> None:
    """From cost(masked positions) and a length to the masked-diffusion bound, in nats."""
    for length in (1, 2, 4, 5):
        generator = torch.Generator().manual_seed(length)
        sets = [masked for m in range(1, length + 1) for masked in itertools.combinations(range(length), m)]
        costs = {masked: len(masked) * torch.rand((), generator=generator).item() for masked in sets} | {(): 0.0}
        visited = []

        def cost(masked, costs=costs, visited=visited):
            key = tuple(sorted(map(int, masked)))
            expect(key in costs, f"cost was asked for {masked}; positions go from 0 to {max(costs)[0]}, each once.")
            visited.append(key)
            return costs[key]

        try:
            got = plain(answer(cost, length))
        except ZeroDivisionError:
            expect(() not in visited, "the empty set has no tokens to predict: begin with sets of one token.")
            raise
        expect(isinstance(got, float | int), f"return one number, not {type(got).__name__}.")

        def total(weight, sets=sets, costs=costs):
            return sum(costs[masked] * weight(len(masked)) for masked in sets)

        right = total(lambda m, n=length: 1 / (m * math.comb(n, m)))
        found = f"for {length} positions the bound is {right:.4f}, yours is {got:.4f}"
        if close(got, right):
            continue
        missing = set(costs) - {(), *visited}
        expect(
            not missing,
            f"{found}: {len(missing)} sets were never asked for, such as {min(missing, key=len, default=())}.",
        )
        wrong = {
            "this is the plain sum over sets. Each needs its weight": lambda m: 1,
            "there are more sets of some sizes than of others: divide by their number": lambda m: 1 / m,
            "divide by the size of the set as well": lambda m, n=length: 1 / math.comb(n, m),
            "sizes have equal weight, so divide by m, not by the length": lambda m, n=length: 1 / (n * math.comb(n, m)),
            "this is the bound per token. Return that of the text": lambda m, n=length: 1 / (n * m * math.comb(n, m)),
            "this is the mean over all sets; each *size* weighs alike": lambda m, n=length: 1 / (m * (2**n - 1)),
        }
        for message, weight in wrong.items():
            expect(not close(got, total(weight)), f"{found}: {message}.")
        expect(False, f"{found}.")


@exercise
def rehearsed(answer: Callable) -> str:
    """From a stage, a part and a share to the stage in which that share of the examples draws from the part."""
    several = (Part("shuffled", (1, 4), weight=3), Part("span", (2,), weight=1))
    stages = (
        Stage("permuted groups", 3, (Part("shuffled", (1, 2, 4, 8)),)),
        Stage("growing groups", 1, (Part("blocks", (2, 4, 8), grow=True),)),
        Stage("blanks", 2, several),
    )
    rehearsals = (
        Part("blocks", (1,), weight=3),
        Part("sentence", (4, 1, 2), weight=2, grow=True),
        Part("span", (1, 2)),  # one of the stages has such blanks already
    )
    moments = [(n + 0.5) / 12 for n in range(12)]
    for stage, rehearsal, share in itertools.product(stages, rehearsals, (0.25, 0.1, 0.9)):
        got = answer(stage, rehearsal, share)
        expect(isinstance(got, Stage), f"return a Stage, not {type(got).__name__}.")
        expect(
            (got.name, got.share) == (stage.name, stage.share),
            "name and share of the stage stay: the share says how long it lasts, not what it holds.",
        )
        total = sum(part.weight for part in stage.parts)
        for progress in moments:
            alone, before, after = (
                mixture(Curriculum((one,)), progress) for one in (Stage("alone", 1, (rehearsal,)), stage, got)
            )
            right = {key: share * alone.get(key, 0) + (1 - share) * before.get(key, 0) for key in alone | before}
            if _alike(after, right):
                continue
            at = f"stage {stage.name!r}, share {share}, {progress:.0%} of the way: "
            expect(
                not alone.keys() & before.keys(),
                at + f"the examples are {_shown(after)}; they should be {_shown(right)}.",
            )
            here = {key for key in after if key[0] == rehearsal.kind and key[1] in rehearsal.sizes} - before.keys()
            rehearses = {key: after.pop(key) for key in here}
            found = sum(rehearses.values())
            expect(found > 0, at + "no example draws from the rehearsal.")
            wrong = f"{found:.0%} of the examples draw from the rehearsal; it should be {share:.0%}."
            expect(
                not math.isclose(found, rehearsal.weight / (rehearsal.weight + total), rel_tol=1e-6),
                at + wrong + " Its own weight does not count: give it one that makes the share.",
            )
            expect(
                not math.isclose(found, share / (share + total), rel_tol=1e-6),
                at + wrong + " Weights are relative: the share is its weight divided by the sum of all weights.",
            )
            expect(math.isclose(found, share, rel_tol=1e-6), at + wrong)
            expect(
                _alike(rehearses, {key: share * alone[key] for key in alone}),
                at + f"the rehearsal keeps all its sizes, and its growth; yours are {_shown(rehearses)}.",
            )
            expect(after.keys() == before.keys(), at + "the other parts keep their kinds, sizes and growth.")
            expect(False, at + "the other parts must keep their proportions to each other.")
    return "correct. Now train with it."


def _alike(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(math.isclose(one[key], other[key], rel_tol=1e-6) for key in one)


def _shown(shares: dict[tuple[str, int], float]) -> str:
    return ", ".join(f"{share:.0%} {kind} of {size}" for (kind, size), share in shares.items())
