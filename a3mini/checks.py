"""Checks for the exercises: each runs the reader's answer and names the mistake it finds.

A check never raises and never stops a notebook: it returns a ``Result``, which a cell shows. It tries
the answer on several inputs, compares it with the package or with a plain loop, and looks for the
mistakes that readers make. tests/test_checks.py proves that each check accepts the notebook's solution
and rejects its stub and every mistake it names.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, wraps

import torch

from a3mini import A3Config, A3ForCausalLM, groups, masks, objective
from a3mini.curriculum import Curriculum, Part, Stage


@dataclass(frozen=True)
class Result:
    """What a check found; True if the answer passed."""

    exercise: str
    passed: bool
    message: str

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"{'✓' if self.passed else '✗'} {self.exercise}: {self.message}"


class Mistake(Exception):
    """The answer is wrong; the message says how."""


def expect(condition: bool, message: str) -> None:
    """Raise ``Mistake(message)`` unless the condition holds."""
    if not condition:
        raise Mistake(message)


def exercise(check: Callable) -> Callable[..., Result]:
    """Make a check of a function that raises ``Mistake``; its name is the exercise's.

    Where there is no one right answer, the function returns what a good answer is told.
    """

    @wraps(check)
    def run(answer) -> Result:
        try:
            if answer is None or answer is ...:
                raise NotImplementedError
            found = check(answer)
        except NotImplementedError:
            return Result(
                check.__name__, False, "not attempted yet. Replace the placeholder, then run this cell again."
            )
        except Mistake as mistake:
            return Result(check.__name__, False, str(mistake))
        except Exception as error:  # whatever the reader's code raises
            return Result(check.__name__, False, f"your code raised {type(error).__name__}: {error}")
        return Result(check.__name__, True, found or "correct.")

    return run


# Notebook 00: quickstart


@exercise
def perplexity(answer: Callable) -> None:
    """A function from a log-likelihood in nats and a number of tokens to the perplexity."""
    for nats, tokens in ((-math.log(8), 1), (-20.0, 10), (-3.5, 7)):
        got, right = float(answer(nats, tokens)), math.exp(-nats / tokens)
        expect(not math.isclose(got, 1 / right), "this is its inverse: mind the sign of the log-likelihood.")
        expect(not math.isclose(got, -nats / tokens), "this is the mean in nats. The perplexity is its exponential.")
        expect(not math.isclose(got, math.exp(-nats)) or tokens == 1, "divide by the number of tokens first.")
        expect(
            not math.isclose(got, 2 ** (-nats / tokens)), "the log-likelihood is in nats, not bits: use exp, not 2 **."
        )
        expect(math.isclose(got, right, rel_tol=1e-6), f"for {nats:.2f} nats over {tokens} tokens it is {right:.4f}.")


@exercise
def ends_first(answer: Callable) -> None:
    """A function from a length to group ids: 0 given, the last token first, then the rest left to right."""
    for length in (3, 4, 7):
        got = answer(length)
        expect(isinstance(got, torch.Tensor) and got.shape == (length,), f"return a tensor of shape ({length},).")
        expect(not got.is_floating_point(), f"group ids are integers, not {got.dtype}.")
        expect(got[0] == 0, "position 0 is given: its id is 0.")
        expect(bool((got[1:] > 0).all()), "every other position is predicted: its id is at least 1.")
        expect(
            int(got[1:].argmin()) == length - 2, "the last position is predicted first: it has the lowest id above 0."
        )
        expect(len(got.unique()) == length, "no two tokens are predicted in parallel here: all ids differ.")
        expect(torch.equal(got[1:-1], got[1:-1].sort().values), "the rest goes from left to right: its ids grow.")


@exercise
def only_from(answer: Callable) -> None:
    """A function (length, target, given) to group ids that score x_target given the x_given alone."""
    for length, target, seen in ((6, 3, [0, 5]), (5, 0, [4]), (8, 7, [0, 1, 2])):
        got = answer(length, target, seen)
        expect(isinstance(got, torch.Tensor) and got.shape == (length,), f"return a tensor of shape ({length},).")
        expect(not got.is_floating_point(), f"group ids are integers, not {got.dtype}.")
        expect(int(got[target]) > 0, f"position {target} is to be predicted: its id must be above 0.")
        expect(bool((got[seen] == 0).all()), f"positions {seen} are given: their ids are 0.")
        others = [i for i in range(length) if i != target and i not in seen]
        expect(not (got[others] == 0).any(), "positions that are left out must not be given: -1, not 0.")
        expect(bool((got[others] == -1).all()), "positions that are left out are neither given nor predicted: -1.")


@exercise
def better_order(answer: Callable) -> str:
    """A function (score, length) to group ids of single positions that score at least as much as left to right."""
    gains, possible = [], 0.0
    for length, ranks in ((5, [1, 2, 3, 4]), (6, [5, 4, 3, 2, 1]), (8, [4, 1, 6, 2, 7, 5, 3])):
        best = torch.tensor([0, *ranks])  # the score falls with each pair that stands in another order
        first, second = torch.triu_indices(length, length, offset=1)
        calls = []

        def score(ids, best=best, length=length, first=first, second=second, calls=calls) -> float:
            where = f"score() was called with {ids}: "
            expect(isinstance(ids, torch.Tensor) and ids.shape == (length,), f"{where}give a tensor ({length},).")
            expect(not ids.is_floating_point(), f"{where}group ids are integers, not {ids.dtype}.")
            calls.append(ids.clone())
            expect(len(calls) <= 100, "score() is called more than 100 times.")
            return -1.0 * ((ids[first] < ids[second]) != (best[first] < best[second])).sum().item()

        got = answer(score, length)
        expect(isinstance(got, torch.Tensor) and got.shape == (length,), f"return a tensor of shape ({length},).")
        expect(not got.is_floating_point(), f"group ids are integers, not {got.dtype}.")
        expect(got[0] == 0, "position 0 is given: its id is 0.")
        expect(bool((got[1:] > 0).all()), "every other position is predicted: its id is at least 1.")
        expect(len(got.unique()) == length, "every position stands alone: all ids differ.")
        del calls[:]
        gain = score(got) - score(groups.left_to_right(length))
        expect(gain >= 0, f"for {length} tokens your order scores {-gain:.0f} less than left to right: keep the best.")
        gains.append(gain)
        possible += score(best) - score(groups.left_to_right(length))
    expect(max(gains) > 0, "your order is never better than left to right, though better ones are an exchange away.")
    return (
        f"valid, and {sum(gains):.0f} of {possible:.0f} nats better than left to right in made-up cases. Now real text."
    )


# Notebook 01: factorisation


@exercise
def count_groupings(answer: Callable) -> None:
    """From a length to the number of ordered partitions of that many positions."""
    right = [1]
    for n in range(1, 8):  # answers that list every grouping must not take forever
        right.append(sum(math.comb(n, size) * right[n - size] for size in range(1, n + 1)))
    got = [answer(n) for n in range(len(right))]
    for value in got:
        expect(isinstance(value, int) and not isinstance(value, bool), f"return an int, not {value!r}.")
    expect(got[1] == 1, f"one position has one grouping; you return {got[1]}. Look at the empty text too.")
    expect(got[3] != 6, "for 3 positions you count 6: these are the orders of single words. Groups may be larger.")
    expect(got[3] != 5, "for 3 positions you count 5: sets without their order. {0}, {1, 2} and {1, 2}, {0} are two.")
    expect(got[3] != 4, "for 3 positions you count 4: neighbours from left to right only. A group may be any set.")
    expect(
        got[3] != 7,
        "for 3 positions you count 7: the groups after the first are not ordered, or not split in every way.",
    )
    expect(got[0] == 1, f"the empty text has one grouping, the one without groups; you return {got[0]}.")
    for n, (yours, wanted) in enumerate(zip(got, right, strict=True)):
        expect(yours == wanted, f"for {n} positions there are {wanted} groupings; you count {yours}.")


def _random_table(seed: int, *shape: int) -> torch.Tensor:
    """A joint distribution, float64, one axis for each position; every probability above 0."""
    weights = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 3 + 1e-3
    return weights / weights.sum()


def _groupwise_kl(p: torch.Tensor, ids: Sequence[int]) -> float:
    """KL(p || q) in nats by a plain loop over all texts, q being the product of conditionals of p under ``ids``."""

    def probability(x: Sequence[int], positions: list[int]) -> float:
        return p[tuple(x[t] if t in positions else slice(None) for t in range(p.dim()))].sum().item()

    total = 0.0
    for x in itertools.product(*map(range, p.shape)):
        if p[x] > 0:
            log_q = 0.0
            for t, group in enumerate(ids):
                seen = [i for i, other in enumerate(ids) if other < group]
                log_q += math.log(probability(x, [t, *seen]) / probability(x, seen))
            total += p[x].item() * (math.log(p[x].item()) - log_q)
    return total


@exercise
def parallel_kl(answer: Callable) -> None:
    """From a table to KL(p || product of its marginals), in nats."""
    twins = torch.diag(torch.tensor([0.25, 0.75], dtype=torch.float64))
    three_twins = torch.zeros(2, 2, 2, dtype=torch.float64)
    three_twins[0, 0, 0] = three_twins[1, 1, 1] = 0.5
    cases = [
        ("a random table of shape (2, 3)", _random_table(0, 2, 3)),
        ("a random table of shape (3, 2, 4)", _random_table(1, 3, 2, 4)),
        ("a random table of 5 positions", _random_table(2, 2, 2, 2, 2, 2)),
        ("two words that are always equal (a table with zeros)", twins),
        ("three words that are always equal (a table with zeros)", three_twins),
        ("two independent words", torch.tensor([[0.1, 0.1], [0.4, 0.4]], dtype=torch.float64)),
        ("a single word", torch.tensor([0.3, 0.7], dtype=torch.float64)),
    ]
    for name, p in cases:
        right, got = _groupwise_kl(p, [1] * p.dim()), answer(p.clone())
        got = got.item() if isinstance(got, torch.Tensor) and got.numel() == 1 else got
        expect(isinstance(got, float | int), f"return one number, not {type(got).__name__}.")
        found = f"for {name} the loss is {right:.4f} nats, yours is {got:.4f}"
        expect(not math.isnan(got), f"{found}. A term p log p with p = 0 counts 0.")
        if _close(got, right):
            continue
        alone = torch.special.entr(p).sum().item()
        expect(p.dim() > 1 or not _close(got, -alone), f"{found}. Mind that p.sum([]) sums over every axis.")
        q = torch.ones_like(p)
        for t in range(p.dim()):
            others = [i for i in range(p.dim()) if i != t]
            q = q * (p.sum(others, keepdim=True) if others else p)
        expect(not _close(got, -right), f"{found}: the sign. One by one the words are more uncertain.")
        expect(not _close(got, right / math.log(2)), f"{found}: these are bits. Use the natural logarithm.")
        backwards = (q * (q / p).log()).sum().item()
        expect(not _close(got, backwards), f"{found}: this is KL(q‖p), not KL(p‖q).")
        expect(not _close(got, (p - q).abs().sum().item() / 2), f"{found}: this is the total variation.")
        expect(not _close(got, alone), f"{found}: this is the entropy of the table alone.")
        expect(False, f"{found}.")


@exercise
def best_two_groups(answer: Callable) -> None:
    """From a table to the group ids (T,), of 1 and 2, with the smallest KL."""
    for seed in range(12):
        p = _random_table(seed, *[(2, 2), (2, 3, 2), (2, 2, 2, 2), (2, 2, 2, 2)][seed % 4])
        got = answer(p.clone())
        expect(isinstance(got, torch.Tensor), f"return a tensor, not {type(got).__name__}.")
        expect(got.shape == (p.dim(),), f"the shape should be ({p.dim()},), not {tuple(got.shape)}.")
        yours = tuple(got.tolist())
        expect(set(yours) == {1, 2}, f"use the group ids 1 and 2, and both of them; you return {yours}.")
        loss = {ids: _groupwise_kl(p, ids) for ids in itertools.product((1, 2), repeat=p.dim()) if len(set(ids)) == 2}
        best, worst = min(loss, key=loss.get), max(loss, key=loss.get)
        found = f"random table {seed}: {best} has KL {loss[best]:.4f} nats, your {yours} has {loss[yours]:.4f}"
        expect(len(loss) == 2 or yours != worst, f"{found}: the worst of all. Look for the smallest.")
        swapped = loss[tuple(3 - group for group in yours)]
        expect(
            _close(loss[yours], loss[best]) or not _close(swapped, loss[best]),
            f"{found}. The split is right, the order is not. Try splits in both orders, group 2 given group 1.",
        )
        # With two positions both orders are exact; otherwise two groupings never tie in these tables.
        expect(_close(loss[yours], loss[best]), f"{found}. Try every split, not only neighbours, in both orders.")


@exercise
def falling_table(answer: torch.Tensor) -> str:
    """A table in which total variation falls by 0.05 or more when two adjacent groups are merged."""
    expect(isinstance(answer, torch.Tensor), f"give a tensor, not {type(answer).__name__}.")
    p = answer.detach().double()
    expect(p.dim() in (3, 4), f"give a table of three or four positions, not {p.dim()}.")
    expect(all(2 <= size <= 4 for size in p.shape), f"two to four words at each position; the shape is {[*p.shape]}.")
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
                q = q * torch.nan_to_num(marginal([t, *seen]) / marginal(seen))  # 0 / 0: a text that never occurs
            variation[ids] = (p - q).abs().sum().item() / 2
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


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


# Notebook 02: groups and masks


@exercise
def my_query_mask(answer: Callable) -> None:
    """A function from group_ids (T,) to the query mask (T, T)."""
    for ids in ([1, 2, 3], [0, 0, 1, 2], [1, 1, 1, 3, 2, 2], [0, 2, 1, -1]):
        group_ids = torch.tensor(ids)
        got = answer(group_ids)
        expect(isinstance(got, torch.Tensor), f"return a tensor, not {type(got).__name__}.")
        square = (len(ids), len(ids))
        expect(got.shape == square, f"the shape should be {square}, not {tuple(got.shape)}.")
        expect(got.dtype == torch.bool, f"the mask should be boolean (True = may attend), not {got.dtype}.")
        right = masks.query_mask(group_ids)
        expect(
            not torch.equal(got, masks.content_mask(group_ids)),
            "this is the content mask: a query must not see its own group. Compare with <, not <=.",
        )
        expect(not got.diagonal().any(), f"for {ids} a query sees its own token, the one it has to predict.")
        expect(
            not torch.equal(got, right.T), "this is the transpose: row i is the one that looks, column j is looked at."
        )
        expect(not got[:, group_ids < 0].any(), f"for {ids} a query sees padding; keys need g_j >= 0.")
        expect(torch.equal(got, right), f"for group_ids {ids} the mask differs from the rule g_j >= 0 and g_j < g_i.")


@exercise
def seven_tokens(answer: torch.Tensor | Sequence[int]) -> None:
    """Group ids (7,): 5 sees 4 and 6 but not 3; 1 and 3 in parallel; 2 sees all others; 0 given; three groups."""
    group_ids = torch.as_tensor(answer)
    expect(group_ids.shape == (7,), f"give 7 numbers, one per token; the shape is {tuple(group_ids.shape)}.")
    allowed = masks.query_mask(group_ids)  # raises on what is not a grouping
    expect(not (group_ids < 0).any(), "no token is padding here: use 0 for token 0 and 1, 2, ... for the others.")
    expect(
        (group_ids == 0).tolist() == [True] + [False] * 6,
        "token 0 is given (id 0), and it alone: the others are predicted (1, 2, ...).",
    )
    for neighbour in (4, 6):
        expect(bool(allowed[5, neighbour]), f"token 5 does not see token {neighbour}: its group must come earlier.")
    expect(not allowed[5, 3], "token 5 sees token 3: the group of 3 must not come before that of 5.")
    expect(bool(group_ids[1] == group_ids[3]), "tokens 1 and 3 are not predicted in parallel: they need equal ids.")
    unseen = [other for other in (0, 1, 3, 4, 5, 6) if not allowed[2, other]]
    expect(not unseen, f"token 2 does not see {unseen}: its group must come after all others.")
    count = len(group_ids[group_ids > 0].unique())
    expect(count == 3, f"all conditions hold, but with {count} groups; three are enough. Which can be merged?")


def _leak_depth(content: torch.Tensor, query: torch.Tensor, ids: torch.Tensor) -> int | None:
    """The least number of layers at which a query reaches a token that it must not see, by search; or None."""
    depths = []
    for row in (ids > 0).nonzero().flatten().tolist():
        reached, depth = set(query[row].nonzero().flatten().tolist()), 1
        while not any(ids[j] < 0 or ids[j] >= ids[row] for j in reached):
            further = reached.union(*(content[j].nonzero().flatten().tolist() for j in reached))
            if further == reached:
                break
            reached, depth = further, depth + 1
        else:
            depths.append(depth)
    return min(depths, default=None)


@exercise
def leak_depth(answer: Callable) -> None:
    """From content mask, query mask and group_ids to the least number of layers at which a query leaks, or None."""
    ids = torch.tensor([0, 1, 1, 3, 2, 2, -1])
    content, query, everyone = masks.content_mask(ids), masks.query_mask(ids), (ids >= 0).expand(7, -1)
    chain = torch.tensor([0, 0, 0, 1, 2])  # queries see token 2 alone, which sees 1, which sees 0
    last_given = (chain > 0)[:, None] & (torch.arange(5) == 2)
    step = torch.arange(5)[:, None] - torch.arange(5) == 1
    step[0, 3] = True
    cases = [
        ("the right masks", content, query, ids),
        ("queries that see their own group", content, content, ids),
        ("a content stream that sees every group", everyone, query, ids),
        ("visible padding", content | (ids < 0), query | (ids < 0), ids),
        ("rows that look but predict nothing", content, query | ((ids <= 0)[:, None] & (ids >= 0)), ids),
        ("a path through many layers", step, last_given, chain),
    ]
    generator = torch.Generator().manual_seed(0)
    for number in range(30):
        some = torch.randint(-1, 5, (6,), generator=generator)
        holes, seen = torch.rand(2, 6, 6, generator=generator) < torch.tensor([0.15, 0.5])[:, None, None]
        cases.append((f"random masks, number {number}", holes, masks.query_mask(some) & seen, some))
    for name, content, query, ids in cases:
        right, got = _leak_depth(content, query, ids), answer(content.clone(), query.clone(), ids.clone())
        got = got.item() if isinstance(got, torch.Tensor) and got.numel() == 1 else got
        found = f"for {name} (group_ids {ids.tolist()}) the answer is {right}, yours is {got!r}"
        expect(got is None or (isinstance(got, int) and not isinstance(got, bool)), f"return an int or None; {found}.")
        expect(
            right is not None or got is None,
            f"{found}. A leak is a row of group 1 or more that reaches its own or a later group, or padding.",
        )
        expect(right is None or got is not None or name != "visible padding", f"{found}. Is padding a leak for you?")
        expect(right is None or got is not None, f"{found}. Look through more layers.")
        expect(right is None or got != right - 1, f"{found}. One layer is one look already: count from 1.")
        expect(got == right, f"{found}.")


@exercise
def outside_in(answer: Callable) -> None:
    """From unknown (T,) bool to group_ids (T,) that fill every blank from both its edges."""
    for pattern in ("?", "??", "???", "????", "?????", "?.???", "????.??????", "..?.???..?????????."):
        unknown = torch.tensor([mark == "?" for mark in f".{pattern}."])
        got = answer(unknown.clone())
        expect(isinstance(got, torch.Tensor), f"return a tensor, not {type(got).__name__}.")
        expect(got.shape == unknown.shape, f"the shape should be {tuple(unknown.shape)}, not {tuple(got.shape)}.")
        ids = got.tolist()
        where = f"for the text .{pattern}. your groups are {ids}: "
        expect(not got[~unknown].any(), where + "known tokens are given, so their id is 0.")
        expect(bool((got[unknown] > 0).all()), where + "unknown tokens are predicted, so their ids are 1 or more.")
        for i in unknown.nonzero().flatten().tolist():
            expect(ids[i] != ids[i + 1], where + f"the neighbours {i} and {i + 1} are predicted in parallel.")
            earlier = min(ids[i - 1], ids[i + 1]) < ids[i]
            expect(earlier, where + f"token {i} is predicted before either of its neighbours is there.")
        longest = max(map(len, pattern.split(".")))
        fewest = longest // 2 + 1
        expect(
            max(ids) == fewest and len(set(ids)) == fewest + 1,
            where + f"{len(set(ids)) - 1} groups, highest id {max(ids)}; with both edges at once, and all blanks "
            f"at once, {fewest} groups numbered 1 to {fewest} are enough.",
        )


@exercise
def deep_leak(answer: tuple[torch.Tensor, torch.Tensor]) -> None:
    """(content mask, query mask), bool (6, 6), that leak from six layers on for the groups 0 0 0 0 0 1."""
    ids = torch.tensor([0, 0, 0, 0, 0, 1])
    expect(isinstance(answer, (tuple, list)) and len(answer) == 2, "give a pair: the content mask, the query mask.")
    for name, mask in zip(("content", "query"), answer, strict=True):
        expect(isinstance(mask, torch.Tensor), f"the {name} mask should be a tensor, not {type(mask).__name__}.")
        expect(mask.shape == (6, 6), f"the {name} mask should be (6, 6), not {tuple(mask.shape)}.")
        expect(mask.dtype == torch.bool, f"the {name} mask should be boolean, not {mask.dtype}.")
    content, query = answer
    extra = (query & ~masks.query_mask(ids)).nonzero().tolist()
    expect(not extra, f"the query mask shows more than the right one, at {extra}: that leaks at once.")
    depth = _leak_depth(content, query, ids)
    expect(depth is not None, "no depth leaks: some path has to lead from the query at 5 to token 5.")
    expect(depth == 6, f"this leaks from {depth} layers on already. Make its shortest path longer.")


# Notebook 03: two-stream attention


@exercise
def rows_needed(answer: Callable) -> None:
    """From group_ids (T,) to (content rows, query rows) of one layer before the last."""
    for ids in (
        [0, 1, 2, 3],
        [0, 0, 0, 0, 1, 2],
        [0, 1, 1, 2, 2, 2],
        [0, 3, 1, 2, -1, -1],
        [0, 0, 5, 5],
        [1, 1],
        [0, 0],
    ):
        got = answer(torch.tensor(ids))
        expect(isinstance(got, tuple) and len(got) == 2, "return two numbers: content rows, query rows.")
        got = tuple(int(number) for number in got)
        content = sum(0 <= group < max(ids) for group in ids)
        query = sum(group > 0 for group in ids)
        real, found = sum(group >= 0 for group in ids), f"for group_ids {ids} you count {got[0]} content rows"
        expect(
            got != (query, content) or content == query,
            f"for group_ids {ids} these are the right numbers in the wrong order: content rows first.",
        )
        expect(
            got[0] != real or content == real,
            f"{found}. No query looks at the last group, nor does other content: leave it out.",
        )
        expect(
            got[0] != content + len(ids) - real or real == len(ids),
            f"{found}. Padding is never seen, so it needs no row: ask for g >= 0.",
        )
        expect(got[0] == content, f"{found}; it should be {content}: those with 0 <= g < the last group.")
        found = f"for group_ids {ids} you count {got[1]} query rows"
        expect(got[1] != real or query == real, f"{found}. Given tokens are not predicted: they need no query row.")
        expect(got[1] == query, f"{found}; it should be {query}: one for each predicted token (g > 0).")


def _toy_parts(generator: torch.Generator, size: int = 6) -> tuple[Callable, Callable, Callable]:
    """An attention, a norm and an MLP with random weights, for rows (T, D); attention is zero where nothing is seen."""
    mix, up, down = torch.randn(3, size, size, dtype=torch.float64, generator=generator)

    def attend(rows: torch.Tensor, context: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        scores = rows @ mix @ context.T / size
        return (scores.masked_fill(~mask, -1e9).softmax(-1) * mask) @ context

    def norm(x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)

    return attend, norm, lambda x: torch.tanh(x @ up) @ down


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=1e-9, rtol=0)


@exercise
def repaired_layer(answer: Callable) -> None:
    """(h_content, h_query, content_mask, query_mask, attend, norm, mlp) -> both streams after one layer."""
    generator = torch.Generator().manual_seed(0)
    for ids in ([0, 1, 2, 3], [0, 2, 1, 2, 1, 0], [1, 1, 3, 2]):
        group_ids = torch.tensor(ids)
        sees_content, sees_query = masks.content_mask(group_ids), masks.query_mask(group_ids)
        attend, norm, mlp = _toy_parts(generator)
        h_content, h_query = 3 * torch.randn(2, len(ids), 6, dtype=torch.float64, generator=generator)

        def block(rows, context, mask, mlp_to_normed=False, attend=attend, norm=norm, mlp=mlp):
            rows = rows + attend(norm(rows), norm(context), mask)
            return (norm(rows) if mlp_to_normed else rows) + mlp(norm(rows))

        def run(content, query, attend=attend, norm=norm, mlp=mlp, masks=(sees_content, sees_query)):
            got = answer(content.clone(), query.clone(), *masks, attend, norm, mlp)
            expect(isinstance(got, tuple) and len(got) == 2, "return a pair: the content rows, the query rows.")
            return got

        got_content, got_query = run(h_content, h_query)
        expect(
            got_content.shape == got_query.shape == h_content.shape,
            f"both streams should keep the shape {tuple(h_content.shape)}.",
        )
        for position in range(len(ids)):
            hidden = ~sees_query[position]
            other = h_content.clone()
            other[hidden] += 1.0
            expect(
                _same(run(other, h_query)[1][position], got_query[position]),
                "a query row changes when content changes that it must not see: use the query mask for queries.",
            )
            other = h_query + 1.0
            other[position] = h_query[position]
            expect(
                _same(run(h_content, other)[1][position], got_query[position]),
                "a query row reads other query rows: keys and values come from the content stream alone.",
            )
        right_content, right_query = (block(h_content, h_content, sees_content), block(h_query, h_content, sees_query))
        normed = (block(h_content, h_content, sees_content, True), block(h_query, h_content, sees_query, True))
        for name, got, wrong in (("content", got_content, normed[0]), ("query", got_query, normed[1])):
            expect(
                not _same(got, wrong),
                f"in the {name} stream the MLP's output is added to the normed state; add it to the state itself.",
            )
        expect(
            not _same(got_content, block(h_content, h_content, sees_query)),
            "the content rows use the query mask; they may see their own group.",
        )
        expect(_same(got_content, right_content), "the content rows are wrong: norm, attend, add; norm, MLP, add.")
        halfway = h_content + attend(norm(h_content), norm(h_content), sees_content)
        for context in (right_content, halfway):
            expect(
                not _same(got_query, block(h_query, context, sees_query)),
                "the query rows read content that this layer has already changed; both streams read its inputs.",
            )
        a_query = h_query + attend(norm(h_query), h_content, sees_query)
        expect(
            not _same(got_query, a_query + mlp(norm(a_query))),
            "queries read content without its norm; both streams read norm(h_content).",
        )
        expect(_same(got_query, right_query), "the query rows are wrong: norm, attend, add; norm, MLP, add.")


@exercise
def packed_layer(answer: Callable) -> None:
    """(block, h_content, h_query, group_ids) -> the needed rows of both streams, from one call of the block."""
    generator = torch.Generator().manual_seed(1)
    for ids in ([0, 1, 2, 3], [0, 0, 1, 0, 2, 0], [0, 2, 2, 1, 1, -1], [1, 1, 2], [0, 3, 1, 2, -1, -1]):
        group_ids = torch.tensor(ids)
        attend, norm, mlp = _toy_parts(generator)
        h_content, h_query = torch.randn(2, len(ids), 6, dtype=torch.float64, generator=generator)
        calls = []

        def block(rows, row_positions, content, content_positions, mask, attend=attend, norm=norm, mlp=mlp, seen=calls):
            for name, h, positions in (("rows", rows, row_positions), ("content", content, content_positions)):
                expect(len(h) == len(positions), f"{len(h)} {name}, but {len(positions)} positions: give one for each.")
            shape = (len(rows), len(content))
            expect(
                mask.shape == shape,
                f"the block gets {len(rows)} rows and {len(content)} content rows, so its mask should be {shape}, not "
                f"{tuple(mask.shape)}. Nobody looks at query rows.",
            )
            seen.append((len(rows), len(content), row_positions, content_positions))
            row_turns, content_turns = (torch.cos(p[:, None] / 3) for p in (row_positions, content_positions))
            rows = rows + attend(row_turns * norm(rows), content_turns * norm(content), mask)
            return rows + mlp(norm(rows))

        got = answer(block, h_content.clone(), h_query.clone(), group_ids.clone())
        expect(isinstance(got, tuple) and len(got) == 2, "return a pair: the content rows, the query rows.")
        expect(len(calls) == 1, f"the block is called {len(calls)} times; stack both streams and call it once.")
        everywhere = torch.arange(len(ids))
        full = [
            block(rows, everywhere, h_content, everywhere, mask)
            for rows, mask in (
                (h_content, masks.content_mask(group_ids)),
                (h_query, masks.query_mask(group_ids)),
            )
        ]
        keep, predicted = (group_ids >= 0) & (group_ids < group_ids.max()), group_ids > 0
        right = (full[0][keep], full[1][predicted])
        found = f"for group_ids {ids} the block gets {calls[0][0]} rows and {calls[0][1]} content rows"
        wanted = f"needed are {int(keep.sum() + predicted.sum())} and {int(keep.sum())}"
        expect(calls[0][1] == keep.sum(), f"{found}; {wanted}. Which content does anything look at?")
        expect(calls[0][0] == keep.sum() + predicted.sum(), f"{found}; {wanted}. Which rows are read later?")
        places = torch.cat((everywhere[keep], everywhere[predicted]))
        expect(
            torch.equal(calls[0][2].sort().values, places.sort().values) and torch.equal(calls[0][3], everywhere[keep]),
            f"for group_ids {ids} rows stand at wrong positions. A packed row keeps its position in the text.",
        )
        for name, mine, theirs in zip(("content", "query"), got, right, strict=True):
            expect(
                mine.shape == theirs.shape,
                f"for group_ids {ids} the {name} rows have shape {tuple(mine.shape)}, not {tuple(theirs.shape)}.",
            )
            expect(
                _same(mine, theirs),
                f"for group_ids {ids} the {name} rows differ from those computed in full. Do rows and mask fit?",
            )


@exercise
def told_next(answer: Callable) -> None:
    """(embedded, own, following, group_ids) -> rows (T, D) that know token, own position and the next position."""
    generator = torch.Generator().manual_seed(2)
    for ids in ([0, 1, 2, 3], [0, 3, 1, 2], [0, 20, 5, 10, 7]):
        group_ids, order = torch.tensor(ids), torch.tensor(ids).argsort().tolist()
        embedded, own, following = torch.randn(3, len(ids), 6, dtype=torch.float64, generator=generator)
        given = [table.clone() for table in (embedded, own, following)]
        got = answer(*given, group_ids.clone())
        expect(isinstance(got, torch.Tensor) and got.shape == embedded.shape, "return one tensor, (T, D).")
        expect(
            all(torch.equal(*pair) for pair in zip(given, (embedded, own, following), strict=True)),
            "the embeddings or a table have changed: add to a copy.",
        )
        told = got.double() - embedded - own  # what each row is told about the next position
        where = f"for group_ids {ids} "
        expect(not _same(told[order[-1]], -own[order[-1]]), f"{where}the vector of a row's own position is missing.")
        for this, after in itertools.pairwise(order):
            neighbour = this + 1 < len(ids) and after != this + 1 and _same(told[this], following[this + 1])
            expect(not neighbour, f"{where}the row at {this} is told its right neighbour, not who is predicted next.")
            right = f"{where}the row at {this} should be told position {after}, which is predicted next."
            expect(_same(told[this], following[after]), right)
        last = f"{where}the row at position {order[-1]} is predicted last: nothing comes next."
        expect(_same(told[order[-1]], torch.zeros(6)), last)


# Notebook 04: train a compact model


@exercise
def learning_rate(answer: Callable) -> None:
    """(step, highest, warmup_steps, steps) -> the rate of that step: up in a line, down along half a cosine."""
    for highest, warmup, steps in ((3e-3, 20, 300), (0.5, 0, 10), (1.0, 7, 8)):
        if warmup == 0:
            try:
                answer(0, highest, warmup, steps)
            except ZeroDivisionError:
                raise Mistake("without a warm-up (warmup_steps = 0) your code divides by zero at step 0.") from None
        got = [float(answer(step, highest, warmup, steps)) / highest for step in range(steps)]
        case = f"with {warmup} of {steps} steps for the warm-up "
        for step in range(warmup):
            place = f"{case}the rate of step {step} should be {step}/{warmup} of the highest, not {got[step]:.4f}"
            expect(not math.isclose(got[step], (step + 1) / warmup), f"{place}: step 0 has rate 0.")
            expect(math.isclose(got[step], step / warmup, abs_tol=1e-9), f"{place}.")
        expect(got[warmup] < 1.5, f"{case}it rises to {got[warmup]:.2f} times the highest: 1 + cos goes up to 2.")
        expect(
            math.isclose(got[warmup], 1.0),
            f"{case}step {warmup} should have the highest rate, not {got[warmup]:.4f} of it: the cosine begins there.",
        )
        left = [(step - warmup) / (steps - warmup) for step in range(warmup, steps)]
        straight = all(math.isclose(rate, 1 - u, abs_tol=1e-9) for rate, u in zip(got[warmup:], left, strict=True))
        expect(not straight or len(left) < 3, "it falls in a straight line; it should follow a cosine.")
        right = [0.5 * (1 + math.cos(math.pi * u)) for u in left]
        wrong = [abs(rate - wanted) for rate, wanted in zip(got[warmup:], right, strict=True)]
        worst = wrong.index(max(wrong))
        place = f"{case}the rate of step {warmup + worst} should be {right[worst]:.4f} of the highest"
        expect(got[-1] > -1e-9, f"{place}, not {got[warmup + worst]:.4f}: half a cosine goes from 1 to 0, not to -1.")
        expect(max(wrong) < 1e-9, f"{place}, not {got[warmup + worst]:.4f}. Is u 0 at {warmup} and 1 at {steps}?")


def _mixture(curriculum: Curriculum, progress: float) -> dict[tuple[str, int], float]:
    """How often each kind and group size is drawn at ``progress`` of the training."""
    stage, inside = curriculum.stage_at(progress)
    total, found = sum(part.weight for part in stage.parts), {}
    for part in stage.parts:
        sizes = [part.sizes[int(inside * len(part.sizes))]] if part.grow else part.sizes
        for size in sizes:
            share = part.weight / total / len(sizes)
            found[part.kind, size] = found.get((part.kind, size), 0.0) + share
    return found


@exercise
def blank_curriculum(answer: Curriculum) -> None:
    """Left to right for a quarter, growing spans for a quarter, then sentence blanks (2/3) and permutations (1/3)."""
    expect(isinstance(answer, Curriculum), f"make a Curriculum, not {type(answer).__name__}.")
    blanks = {("sentence", 1): 2 / 3, ("shuffled", 1): 1 / 6, ("shuffled", 4): 1 / 6}
    wanted = {0.01: {("blocks", 1): 1.0}, 0.24: {("blocks", 1): 1.0}}
    wanted |= {0.26: {("span", 1): 1.0}, 0.375: {("span", 2): 1.0}, 0.49: {("span", 4): 1.0}}
    wanted |= {0.51: blanks, 0.99: blanks}
    for progress, right in wanted.items():
        got = _mixture(answer, progress)
        same = got.keys() == right.keys() and all(math.isclose(got[key], right[key], rel_tol=1e-6) for key in right)
        texts = [
            ", ".join(f"{kind} of size {size} ({share:.0%})" for (kind, size), share in sorted(mixture.items()))
            for mixture in (right, got)
        ]
        expect(same, f"at {progress:.0%} of the training there should be {texts[0]}; you have {texts[1]}.")


@cache
def _toy_loss(curriculum: Curriculum) -> float:
    """Nats per letter of a tiny model after 70 steps on three random letters and their copy; mean of two seeds."""
    length, batch, steps, sizes = 7, 32, 70, dict(vocab_size=9, hidden_size=32, intermediate_size=64)
    config = A3Config(**sizes, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2)

    def texts(count: int, generator: torch.Generator) -> torch.Tensor:
        half = torch.randint(8, (count, 3), generator=generator)
        return torch.cat((torch.full((count, 1), 8), half, half), dim=1)

    losses = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            model, generator = A3ForCausalLM(config), torch.Generator().manual_seed(seed)
            optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
            lengths, no_ends = torch.full((batch,), length), torch.zeros(batch, length, dtype=torch.bool)
            for step in range(steps):
                x, ids = texts(batch, generator), curriculum.draw(step / steps, lengths, no_ends, [generator] * batch)
                optimizer.zero_grad()
                (-model(x, ids, labels=x).log_probs.sum() / (ids > 0).sum()).backward()
                optimizer.step()
        generator = torch.Generator().manual_seed(99)
        x = texts(256, generator)
        orders = [[groups.left_to_right(length)] * len(x)]
        orders += [[groups.shuffled(length, size, generator=generator) for _ in x] for size in (1, 2)]
        with torch.no_grad():
            losses += [-objective.log_likelihood(model, x, torch.stack(ids)).mean().item() / 6 for ids in orders]
    return sum(losses) / len(losses)


@exercise
def toy_curriculum(answer: Curriculum) -> str:
    """A curriculum with which the tiny model learns the toy texts better than with the paper's stages."""
    expect(isinstance(answer, Curriculum), f"make a Curriculum, not {type(answer).__name__}.")
    paper, yours = _toy_loss(Curriculum.preset("paper")), _toy_loss(answer)
    found = f"mean loss {yours:.3f} nats per letter, {paper:.3f} with the paper's stages"
    expect(yours < paper, f"{found}: not better. Which of the three groupings did the model never meet?")
    expect(yours < paper - 0.04, f"{found}: better, but by less than 0.04.")
    return f"{found}. Now on real text, in section 11."


@exercise
def microbatch_losses(answer: Callable) -> None:
    """(log_probs, predicted), lists of (B, T), -> losses whose gradients add up to that of the mean over all tokens."""
    generator = torch.Generator().manual_seed(0)
    for counts in ([7, 1], [2, 0, 5], [3, 3]):
        values = [torch.randn(2, 4, generator=generator, dtype=torch.float64) for _ in counts]
        log_probs = [value.requires_grad_() for value in values]
        predicted = [(torch.arange(8) < count).flip(0).view(2, 4) for count in counts]
        got = answer(list(log_probs), [part.clone() for part in predicted])
        case = f"for microbatches of {', '.join(map(str, counts))} predicted tokens "
        expect(isinstance(got, (list, tuple)) and len(got) == len(counts), "return a list, one loss per microbatch.")
        for loss in got:
            expect(isinstance(loss, torch.Tensor) and loss.numel() == 1, "each loss is a tensor with one number.")
        sum(loss.sum() for loss in got).backward()
        gradient = torch.stack([value.grad for value in log_probs])
        chosen = torch.stack(predicted)
        share = chosen.double() / sum(counts)
        expect(not gradient.isnan().any(), f"{case}the gradient is not a number: a microbatch may predict nothing.")
        expect(not torch.allclose(gradient, share), "the sign is wrong: the loss is the *negative* log-likelihood.")
        expect(not gradient[~chosen].any(), f"{case}positions count that are not predicted.")
        expect(
            not torch.allclose(gradient, -chosen.double()) or sum(counts) == 1,
            f"{case}the losses are sums; divide them by the number of predicted tokens of the whole step.",
        )
        weights = [-gradient[n][chosen[n]].mean().item() for n, count in enumerate(counts) if count]
        expect(
            max(weights) - min(weights) < 1e-9,
            f"{case}a token weighs {' or '.join(f'{w:.3f}' for w in weights)}, depending on its microbatch; "
            "divide by the count of the whole step, not by that of the microbatch.",
        )
        expect(
            torch.allclose(gradient, -share),
            f"{case}each token should weigh 1/{sum(counts)} = {1 / sum(counts):.3f}, not {weights[0]:.3f}.",
        )


@exercise
def rows_of_step(answer: Callable) -> None:
    """(step, batch_size, size, order_of) -> the rows of a step, epochs following each other without a gap."""

    def order_of(epoch: int, size: int) -> torch.Tensor:
        return torch.randperm(size, generator=torch.Generator().manual_seed(epoch))

    for batch, size in ((2, 6), (4, 6), (5, 3), (7, 2)):
        epochs = torch.cat([order_of(epoch, size) for epoch in range(batch * 8 // size + 1)]).tolist()
        drawn = {}
        for step in (0, 1, 2, 3, 5, 7, 2, 0):  # back and forth, as after a crash
            got = answer(step, batch, size, lambda epoch, size=size: order_of(epoch, size))
            where = f"with batches of {batch} and {size} rows, step {step}"
            expect(isinstance(got, list), f"return a list of row numbers, not {type(got).__name__}.")
            got, right = [int(row) for row in got], epochs[step * batch : (step + 1) * batch]
            expect(drawn.setdefault(step, got) == got, f"{where} differs when it is asked for again: remember nothing.")
            expect(len(got) == batch, f"{where} has {len(got)} rows: a batch goes on into the next epoch.")
            first = order_of(0, size).tolist()
            again = [first[example % size] for example in range(step * batch, (step + 1) * batch)]
            expect(got != again or again == right, f"{where}: every epoch has an order of its own.")
            expect(got == right, f"{where} should be {right}, not {got}. Which examples does the step have?")


# Notebook 05: progressive adaptation


@exercise
def growing_groups(answer: Callable) -> None:
    """From (length, progress, sizes) to stage-2 group ids (length,)."""
    for length, progress, sizes in (
        (6, 0.0, (1, 2, 4)),
        (9, 0.5, (1, 2, 4)),
        (12, 0.99, (1, 2, 4)),
        (10, 0.3, (1, 2, 4)),  # here rounding takes another size than cutting off
        (11, 0.7, (2, 3, 5, 8)),
        (11, 0.3, (2, 3, 5, 8)),
        (4, 0.25, (1, 8)),
    ):
        got, size = answer(length, progress, sizes), sizes[int(progress * len(sizes))]
        where = f"length {length}, progress {progress}, sizes {sizes}: "
        expect(isinstance(got, torch.Tensor) and got.shape == (length,), f"return a tensor of shape ({length},).")
        expect(not got.is_floating_point(), f"group ids are integers, not {got.dtype}. Divide with //.")
        ids = got.tolist()
        expect(ids[0] == 0, where + f"token 0 is given, so its id is 0, not {ids[0]}.")
        expect(
            length == 1 or ids[1] == 1, where + f"token 1 begins group 1, not {ids[1]}; the given token fills no group."
        )
        expect(ids == sorted(ids), where + "the groups go from left to right, so the ids never fall.")
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
    for length, start, end, size in ((8, 3, 6, 1), (10, 2, 8, 2), (12, 4, 11, 3), (6, 1, 6, 4), (7, 6, 7, 1)):
        got = answer(length, start, end, size)
        where = f"length {length}, start {start}, end {end}, size {size}: "
        expect(isinstance(got, torch.Tensor) and got.shape == (length,), f"return a tensor of shape ({length},).")
        expect(not got.is_floating_point(), f"group ids are integers, not {got.dtype}. Divide with //.")
        unknown = torch.zeros(length, dtype=torch.bool)
        unknown[start:end] = True
        ids = got.tolist()
        expect(not (got[~unknown] < 0).any(), where + "what is outside the blank is given (0), not padding (-1).")
        expect(
            end == length or ids[end] == 0, where + f"token {end} is given: the blank ends before it, as in a slice."
        )
        expect(not got[~unknown].any(), where + "what is outside the blank is given: its id is 0.")
        expect(bool((got[unknown] > 0).all()), where + "every token of the blank is predicted: its id is 1 or more.")
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
        expect(torch.equal(got, right), where + f"the ids should be {right.tolist()}; yours are {ids}.")


@exercise
def bound_from_sets(answer: Callable) -> None:
    """From cost(masked positions) and a length to the masked-diffusion bound, in nats."""
    for length in (1, 2, 4, 5):
        generator = torch.Generator().manual_seed(length)
        sets = [masked for m in range(1, length + 1) for masked in itertools.combinations(range(length), m)]
        costs = {masked: len(masked) * torch.rand((), generator=generator).item() for masked in sets}
        visited = []

        def cost(masked, costs=costs, visited=visited):
            key = tuple(sorted(masked))
            expect(key != (), "the empty set has no tokens to predict: begin with sets of one token.")
            expect(key in costs, f"cost was asked for {masked}; positions go from 0 to {max(costs)[0]}, each once.")
            visited.append(key)
            return costs[key]

        got = answer(cost, length)
        got = got.item() if isinstance(got, torch.Tensor) and got.numel() == 1 else got
        expect(isinstance(got, float | int), f"return one number, not {type(got).__name__}.")

        def total(weight, sets=sets, costs=costs):
            return sum(costs[masked] * weight(len(masked)) for masked in sets)

        right = total(lambda m, n=length: 1 / (m * math.comb(n, m)))
        found = f"for {length} positions the bound is {right:.4f}, yours is {got:.4f}"
        if _close(got, right):
            continue
        missing = set(costs) - set(visited)
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
            expect(not _close(got, total(weight)), f"{found}: {message}.")
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
    rehearsal = Part("blocks", (1,), weight=3)
    for stage, share in itertools.product(stages, (0.25, 0.1, 0.5)):
        got = answer(stage, rehearsal, share)
        expect(isinstance(got, Stage), f"return a Stage, not {type(got).__name__}.")
        expect(
            (got.name, got.share) == (stage.name, stage.share),
            "name and share of the stage stay: the share says how long it lasts, not what it holds.",
        )
        for progress in (0.0, 0.5, 0.9):
            before, after = (_mixture(Curriculum((one,)), progress) for one in (stage, got))
            at = f"stage {stage.name!r}, share {share}, {progress:.0%} of the way: "
            found = after.pop(("blocks", 1), 0.0)
            expect(found > 0, at + "no example draws from the rehearsal.")
            wrong = f"{found:.0%} of the examples draw from the rehearsal; it should be {share:.0%}."
            total = sum(part.weight for part in stage.parts)
            expect(
                not math.isclose(found, rehearsal.weight / (rehearsal.weight + total), rel_tol=1e-6),
                at + wrong + " Its own weight does not count: give it one that makes the share.",
            )
            expect(
                not math.isclose(found, share / (share + total), rel_tol=1e-6),
                at + wrong + " Weights are relative: the share is its weight divided by the sum of all weights.",
            )
            expect(math.isclose(found, share, rel_tol=1e-6), at + wrong)
            expect(after.keys() == before.keys(), at + "the other parts keep their kinds, sizes and growth.")
            expect(
                all(math.isclose(after[key], before[key] * (1 - share), rel_tol=1e-6) for key in before),
                at + "the other parts must keep their proportions to each other.",
            )
    return "correct. Now train with it."


# Notebook 06: any-order decoding


@exercise
def passes_and_rows(answer: Callable) -> None:
    """From group_ids (T,) to (passes, rows with the cache, rows without)."""
    for ids in (
        [0, 0, 0, 1, 2],
        [0, 1, 1, 1],
        [0, 0, 3, 3, 7, 7, 0, 5, -1, -1],
        [1, 2, 2],
        [0, 4, 2, 4, 9, 2, 2, 0, -1],
    ):
        got = answer(torch.tensor(ids))
        expect(isinstance(got, tuple) and len(got) == 3, "return three numbers: passes, rows with it, rows without.")
        passes, kept, again = (int(number) for number in got)
        where = f"group_ids {ids}: "
        order = sorted({group for group in ids if group > 0})
        asked = [ids.count(group) for group in order]
        behind = [sum(0 <= other < group for other in ids) for group in order]  # content that exists by then
        expect(
            passes != max(ids) or passes == len(order),
            where + f"there are {len(order)} groups, not {passes}: only the order of the numbers matters.",
        )
        expect(passes == len(order), where + f"it takes {len(order)} passes, one for each group, not {passes}.")
        real, padding = sum(group >= 0 for group in ids), ids.count(-1)
        expect(
            not padding or kept != behind[-1] + sum(asked) + padding,
            where + "-1 is padding: it gets no rows, neither content nor query.",
        )
        expect(
            kept != real + sum(asked) or kept == behind[-1] + sum(asked),
            where + "nobody looks at the content of the last group: it is never computed.",
        )
        expect(
            kept != behind[-1] or not sum(asked),
            where + "these are the content rows alone; the queries are rows too.",
        )
        expect(
            kept == behind[-1] + sum(asked),
            where + f"with the cache {behind[-1]} content rows and {sum(asked)} query rows are computed, "
            f"{behind[-1] + sum(asked)} in all; you count {kept}.",
        )
        expect(
            again != len(order) * real or again == sum(behind) + sum(asked),
            where + "content that is not filled yet has no rows: each pass encodes what exists by then.",
        )
        expect(
            again == sum(behind) + sum(asked),
            where + f"without it the passes encode {behind} content rows and ask {asked} queries, "
            f"{sum(behind) + sum(asked)} rows in all; you count {again}.",
        )


@exercise
def choose_positions(answer: Callable) -> None:
    """From probabilities (T, V), open (T,) and a number to the positions to fill, bool (T,)."""
    tied = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.6, 0.3, 0.1], [0.1, 0.3, 0.6], [0.9, 0.1, 0.0]])
    many = torch.full((40, 2), 0.5)  # long enough for sorts that are not stable to show it
    skewed = torch.tensor([[0.40, 0.20, 0.20, 0.20], [0.45, 0.55, 0.0, 0.0], [0.60, 0.14, 0.13, 0.13]])
    everything = torch.ones(40, dtype=torch.bool)
    cases = [
        (skewed, torch.tensor([True, True, True]), 1),
        (skewed, torch.tensor([True, True, True]), 2),
        (tied, torch.tensor([True, True, True, True, False]), 1),
        (tied, torch.tensor([True, True, True, True, False]), 2),
        (tied, torch.tensor([False, True, False, True, False]), 3),
        (many, everything, 3),
        (tied, torch.tensor([False] * 5), 2),
    ]
    for probabilities, is_open, count in cases:
        before = is_open.clone()
        got = answer(probabilities.clone(), is_open, count)
        expect(torch.equal(before, is_open), "leave `open` as it is: the caller still needs it.")
        expect(
            isinstance(got, torch.Tensor) and got.dtype == torch.bool and got.shape == is_open.shape,
            f"return a boolean tensor of shape ({len(is_open)},), True where a token is to be filled.",
        )
        highest = probabilities.amax(-1).tolist()
        ranked = sorted(is_open.nonzero()[:, 0].tolist(), key=lambda t, p=highest: (-p[t], t))
        right, chosen = sorted(ranked[:count]), got.nonzero()[:, 0].tolist()
        where = f"highest probabilities {[round(p, 2) for p in highest[:5]]}, open {is_open[:5].tolist()}: "
        expect(not (got & ~is_open).any(), where + "you chose a position that is finished.")
        seen = sorted(range(len(highest)), key=lambda t, p=highest: (-p[t], t))[:count]
        expect(
            len(chosen) == len(right) or chosen != sorted({*seen} & {*ranked}),
            where + f"a finished position took a place: rank the open ones alone, and fill {right}.",
        )
        expect(
            len(chosen) == len(right),
            where + f"with per_step {count} and {len(ranked)} open, choose {len(right)}, not {len(chosen)}.",
        )
        if chosen != right:
            same = sorted(highest[t] for t in chosen) == sorted(highest[t] for t in right)
            expect(not same, where + f"{chosen} and {right} are equally sure; take the leftmost.")
            least = sorted(sorted(ranked, key=lambda t, p=highest: (p[t], t))[:count])
            expect(chosen != least, where + "these are the positions of which the model is least sure.")
            expect(
                False,
                where + f"fill {right}, not {chosen}: where the likeliest token has the highest probability.",
            )


@exercise
def fit_of_each(answer: Callable) -> None:
    """From a model and tokens (T,), the first one given, to leave-one-out log-probabilities (T,)."""
    torch.manual_seed(0)
    size = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    config = A3Config(vocab_size=7, num_key_value_heads=2, max_position_embeddings=16, initializer_range=1.0, **size)
    model = A3ForCausalLM(config).double().eval()
    for tokens in ([0, 3, 5, 2, 6, 1], [4, 1], [0, 2, 2, 2, 5]):
        ids = torch.tensor(tokens)
        length = len(tokens)
        got = answer(model, ids.clone())
        expect(isinstance(got, torch.Tensor) and got.shape == (length,), f"return a tensor of shape ({length},).")
        got = got.detach().double()
        with torch.no_grad():

            def scores(group_ids, ids=ids):
                rows = ids.expand(len(group_ids), -1)
                return objective.log_likelihood(model, rows, group_ids, reduction="token").sum(0)

            right = scores(torch.eye(length, dtype=torch.int64)[1:])
            wrong = {
                "this is the left-to-right log-likelihood: each token sees only what is on its left": scores(
                    groups.left_to_right(length)[None]
                ),
                "all tokens are predicted at once here, so none sees another": scores(
                    groups.blocks(length, length)[None]
                ),
            }
        where = f"for the tokens {tokens}: "
        if torch.allclose(got, right, atol=1e-5):
            continue
        expect(not torch.allclose(got, right.exp(), atol=1e-5), where + "these are probabilities; take logarithms.")
        expect(not torch.allclose(got, -right, atol=1e-5), where + "the sign is wrong: log-probabilities are below 0.")
        expect(abs(got[0].item()) < 1e-9, where + f"the first token is given and scores 0, not {got[0]:.3f}.")
        for message, other in wrong.items():
            expect(not torch.allclose(got, other, atol=1e-5), where + message + ".")
        expect(False, where + f"the scores should be {_shown(right)}; yours are {_shown(got)}.")


def _shown(values: torch.Tensor) -> list[float]:
    return [round(value, 2) for value in values.tolist()]


@exercise
def bounded_group(answer: Callable) -> None:
    """From entropies (T,), open (T,) and a bound in nats to the positions to fill, bool (T,)."""
    cases = [
        ([0.2, 0.9, 0.1, 3.0, 0.4], [True] * 5, 1.0),
        ([0.2, 0.9, 0.1, 3.0, 0.4], [True, True, False, True, False], 1.0),
        ([2.0, 3.0, 2.5], [True] * 3, 1.5),
        ([2.0, 3.0, 2.5], [True] * 3, 4.6),
        ([0.5, 0.5, 0.25, 0.5], [True] * 4, 0.8),
        ([1.0, 0.0, 0.0, 4.0], [True] * 4, 0.0),
        ([0.3, 0.1], [False, True], 0.1),
    ]
    for entropies, is_open, bound in cases:
        got = answer(torch.tensor(entropies), torch.tensor(is_open), bound)
        expect(
            isinstance(got, torch.Tensor) and got.dtype == torch.bool and got.shape == (len(entropies),),
            f"return a boolean tensor of shape ({len(entropies)},), True where a token is to be filled.",
        )
        chosen = got.nonzero()[:, 0].tolist()
        ranked = sorted((t for t, there in enumerate(is_open) if there), key=lambda t, e=entropies: (e[t], t))
        right = sorted(
            t for n, t in enumerate(ranked) if n == 0 or sum(entropies[u] for u in ranked[:n]) <= bound + 1e-6
        )
        where = f"entropies {entropies}, open {is_open}, bound {bound}: "
        if chosen == right:
            continue
        expect(all(is_open[t] for t in chosen), where + "you chose a position that is finished.")
        expect(bool(chosen), where + "one position alone loses nothing, so at least one is always filled.")
        whole = [t for n, t in enumerate(ranked) if sum(entropies[u] for u in ranked[: n + 1]) <= bound + 1e-6]
        expect(
            chosen not in (sorted(whole), sorted(whole) or ranked[:1]),
            where + "the sum that you bound holds the highest entropy; the highest one does not count.",
        )
        single = [t for t in ranked if entropies[t] <= bound]
        expect(
            chosen not in (sorted(single), sorted(single) or ranked[:1]),
            where + "each entropy alone is within the bound here; their sum without the highest has to be.",
        )
        loss = sum(entropies[t] for t in chosen) - max(entropies[t] for t in chosen)
        expect(loss <= bound + 1e-6, where + f"{chosen} may lose {loss:.2f} nats, more than the bound.")
        expect(
            len(chosen) >= len(right),
            where + f"{right} may lose no more than the bound, and are more than {chosen}.",
        )
        expect(False, where + f"take the surest positions, {right}, not {chosen}; the leftmost of equals.")


# Notebook 07: exact parallel decoding


@exercise
def pair_tv(answer: Callable) -> None:
    """From a table of two words to the total variation between it and the product of its marginals."""
    cases = [
        ("two words that are always equal", torch.eye(2, dtype=torch.float64) / 2),
        ("two independent words", torch.tensor([[0.1, 0.1], [0.4, 0.4]], dtype=torch.float64)),
        *((f"a random table of shape {shape}", _random_table(7, *shape)) for shape in ((2, 2), (3, 4), (5, 2), (1, 3))),
    ]
    for name, p in cases:
        rows, columns = p.sum(1).tolist(), p.sum(0).tolist()
        error = [p[i, j].item() - a * b for i, a in enumerate(rows) for j, b in enumerate(columns)]
        right, got = sum(map(abs, error)) / 2, _number(answer(p.clone()))
        if _close(got, right):
            continue
        found = f"for {name} it is {right:.4f}, yours is {got:.4f}"
        expect(not math.isnan(got), f"{found}. Where p is 0, a quotient or a logarithm fails; none is needed.")
        expect(not _close(got, 2 * right), f"{found}: half of the sum of absolute differences.")
        expect(not _close(got, 1 - right), f"{found}: this is one minus it, the chance that the second is accepted.")
        expect(not _close(got, max(map(abs, error))), f"{found}: this is the error of one pair; sum over all.")
        expect(not _close(got, sum(error) / 2), f"{found}: errors of both signs cancel; take absolute values first.")
        expect(not _close(got, _groupwise_kl(p, [1, 1])), f"{found}: this is the KL.")
        expect(
            not _close(got, (p - 1 / p.numel()).abs().sum().item() / 2),
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
        if _close(got, right):
            continue
        found = f"for the chances {chances} a round commits {right:.4f} tokens on average, by you {got:.4f}"
        expect(not _close(got, right - 1), f"{found}. Do not forget the first, which is free.")
        expect(
            not _close(got, sum(runs)),
            f"{found}. You count accepted drafts; a rejected one is replaced by a token too.",
        )
        expect(
            not _close(got, right + runs[-1]),
            f"{found}. You add a token after a draft that is accepted to the end; our rounds have none.",
        )
        expect(
            not _close(got, 1 + sum(chances)),
            f"{found}. A draft is looked at only if all before it were accepted: multiply.",
        )
        expect(not _close(got, 1 + len(chances)), f"{found}. Behind the first rejection everything is dropped.")
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
        p = _random_table(11, *shape)
        axes = list(range(p.dim()))
        right, got = by_loop(p, axes), _number(answer(p.clone()))
        if _close(got, right):
            continue
        found = f"for a random table of shape {shape} the chance is {right:.4f}, yours is {got:.4f}"
        product = torch.ones_like(p)
        for t in axes:
            others = [i for i in axes if i != t]
            product = product * (p.sum(others, keepdim=True) if others else p)
        expect(not _close(got, 1 - right), f"{found}: one minus it.")
        expect(
            not _close(got, torch.minimum(p, product).sum().item()),
            f"{found}: this is 1 - TV of the whole text. Each draft must pass by itself: a product of minima.",
        )
        expect(not _close(got, by_loop(p, axes[::-1])), f"{found}: you verify from the last axis to the first.")
        expect(
            not _close(got, by_loop(p, axes, only_last=True)),
            f"{found}: a draft sees all drafts before it, not only the last.",
        )
        one = 1.0  # as if the drafts passed independently of each other
        for t in axes[1:]:
            flat = p.sum(list(range(t + 1, p.dim()))) if t + 1 < p.dim() else p
            before = flat.sum(-1, keepdim=True)
            one *= torch.minimum(before * flat.sum(list(range(t))), flat).sum().item()
        expect(
            not _close(got, one),
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
            expect(not _same(mine, q[row, n]), where + "it is q itself; draw from what q has more than p.")
            expect(
                not _same(mine, right) or _same(mine, right / right.sum()), where + "it does not sum to 1: normalise."
            )
            turned = (p[row, n] - q[row, n]).clamp(min=0)
            expect(
                not _same(mine, turned / turned.sum()) or _same(mine, right / right.sum()),
                where + "this is what p has more than q; turn it around.",
            )
            expect(
                _same(mine, right / right.sum()),
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


# Notebook 08: adapt on a GPU


@exercise
def training_bytes(answer: Callable) -> None:
    """From the number of frozen and of trained weights to the bytes of training, activations aside."""
    for frozen, trained in ((134_515_008, 1_221_120), (0, 1000), (1000, 0), (7, 3)):
        got, right = answer(frozen, trained), 4 * frozen + 16 * trained
        expect(isinstance(got, int | float) and not isinstance(got, bool), "return one number, of bytes.")
        found = f"for {frozen:,} frozen and {trained:,} trained weights it is {right:,}, yours is {got:,.0f}"
        if math.isclose(got, right):
            continue
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
        got = answer(list(shapes), rank)
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
        expect(got not in one, f"{found}. There are two thin matrices: A ({rank}, in) and B (out, {rank}).")
        expect(got not in (2 * one[0], 2 * one[1]), f"{found}. A matrix need not be square: in and out differ.")
        expect(False, f"{found}.")


@exercise
def split_batch(answer: Callable) -> None:
    """From the rows of a step and the rows that fit to (rows of a microbatch, number of microbatches)."""
    for batch, fits in ((48, 20), (64, 24), (64, 64), (30, 7), (7, 3), (16, 100), (96, 50), (1, 1)):
        got = answer(batch, fits)
        expect(isinstance(got, tuple) and len(got) == 2, "return a tuple: rows of a microbatch, how many of them.")
        expect(all(isinstance(x, int) and not isinstance(x, bool) for x in got), "return two integers.")
        micro, count = got
        right = max(rows for rows in range(1, min(batch, fits) + 1) if batch % rows == 0)
        found = f"{batch} rows in a step, {fits} fit: {right} x {batch // right}, not {micro} x {count}"
        expect(micro >= 1 and count >= 1, f"{found}. Both are at least 1.")
        expect((micro, count) != (batch // right, right) or micro == right, f"{found}. You swapped the two.")
        expect(micro <= fits, f"{found}. {micro} rows do not fit.")
        expect(
            micro * count == batch,
            f"{found}. {micro} x {count} = {micro * count} rows: the step must keep its {batch}.",
        )
        expect(micro == right, f"{found}. A larger microbatch fits, and wastes less of the GPU.")


@exercise
def save_every(answer: Callable) -> None:
    """From seconds of a step, of a save, and between two disconnects to the cheapest number of steps between saves."""
    for step, save, session in ((1.0, 8.0, 3600.0), (0.5, 3.0, 5400.0), (4.0, 20.0, 1800.0), (60.0, 1.0, 3681.0)):

        def cost(n: int, step: float = step, save: float = save, session: float = session) -> float:
            return save / n + n * step / 2 * step / session

        ideal = math.sqrt(2 * save * session) / step
        right = min((max(1, math.floor(ideal)), math.ceil(ideal)), key=cost)
        got = answer(step, save, session)
        expect(isinstance(got, int) and not isinstance(got, bool), "return a whole number of steps, an int.")
        expect(got >= 1, f"{got} steps: there is at least one step between two saves.")
        found = f"steps of {step:g} s, saves of {save:g} s, a disconnect every {session:g} s: {right} steps, not {got}"
        if cost(got) <= cost(right) * 1.0005:
            continue
        near = lambda value, got=got: abs(got - value) <= 1  # noqa: E731
        expect(got != 1 or right <= 2, f"{found}. You save all the time.")
        expect(not near(ideal * step) or step == 1, f"{found}. These are seconds: divide by those of a step.")
        expect(
            not near(ideal / math.sqrt(2)) or right < 4,
            f"{found}. A disconnect loses half of the time between two saves, on average.",
        )
        expect(not near(ideal**2 * step), f"{found}. Set the derivative to 0, and take a square root.")
        expect(not near(session / step), f"{found}. You save once per session: half of it is lost.")
        expect(
            not near(ideal) or right > 3,
            f"{found}. Of the two whole numbers beside the best one, take the one that costs less.",
        )
        expect(False, f"{found}. It costs {cost(got):.4f} s per step, the best {cost(right):.4f}.")


@exercise
def fair_runs(answer: Sequence[dict]) -> str:
    """At most 12 runs that compare LoRA ranks: paired seeds, several learning rates, equal tokens."""
    expect(isinstance(answer, list | tuple) and len(answer) > 0, "make a list of runs.")
    names = {"rank", "learning_rate", "seed", "steps", "batch"}
    for run in answer:
        expect(isinstance(run, dict) and set(run) == names, f"each run is a dict with {', '.join(sorted(names))}.")
    expect(len(answer) <= 12, f"you have time for 12 runs, not {len(answer)}.")
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


# Notebook 09: evaluate


@exercise
def distinct_share(answer: Callable) -> None:
    """From tokens and n to the share of different runs among all runs of n tokens."""
    for tokens, n in (
        ([1, 2, 3, 4], 1),
        ([1, 2, 1, 2, 1, 2, 1, 3], 2),
        ([5, 5, 5, 5, 5, 6], 1),
        ([1, 2, 3, 1, 2, 3, 1, 2], 3),
    ):
        runs = [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]
        got, right = float(answer(list(tokens), n)), len(set(runs)) / len(runs)
        if math.isclose(got, right):
            continue
        found = f"for {tokens} and n = {n} it is {len(set(runs))}/{len(runs)} = {right:.3f}, yours is {got:.3f}"
        blocks = [tuple(tokens[start : start + n]) for start in range(0, len(tokens), n)]
        expect(not math.isclose(got, len(set(runs))), f"{found}. Divide by the number of runs.")
        expect(not math.isclose(got, len(set(runs)) / len(tokens)), f"{found}. Divide by the runs, not the tokens.")
        expect(not math.isclose(got, 1 - right), f"{found}. This is the share of repeats.")
        expect(
            not math.isclose(got, len(set(blocks)) / len(blocks)), f"{found}. Runs overlap: one begins at each token."
        )
        once = sum(runs.count(run) == 1 for run in set(runs)) / len(runs)
        expect(not math.isclose(got, once), f"{found}. A run that comes back still counts once.")
        expect(False, f"{found}.")


@exercise
def choose_ending(answer: Callable) -> None:
    """From summed log-likelihoods and lengths to the index of the ending with the lowest mean loss."""
    for totals, lengths in (
        ([-12.0, -9.0, -20.0, -30.0], [6, 3, 5, 20]),
        ([-4.0, -9.0], [1, 9]),
        ([-8.0, -6.0, -7.0], [4, 2, 7]),
        ([-5.0, -5.0, -6.0], [5, 10, 4]),
    ):
        got = answer(list(totals), list(lengths))
        means = [total / length for total, length in zip(totals, lengths, strict=True)]
        expect(isinstance(got, int) and 0 <= got < len(totals), f"return the index of an ending; yours is {got!r}.")
        right = means.index(max(means))
        if got == right:
            continue
        losses = ", ".join(f"{-mean:.2f}" for mean in means)
        found = f"the mean losses are {losses}; ending {right} has the lowest, yours is {got}"
        expect(got != means.index(min(means)), f"{found}. Mind the sign: this is the highest loss.")
        expect(got != totals.index(max(totals)), f"{found}. Divide by the number of tokens, or short endings win.")
        expect(got != lengths.index(min(lengths)), f"{found}. This is the shortest ending.")
        expect(False, f"{found}.")


@exercise
def questions_needed(answer: Callable) -> None:
    """From a share and the half-width of its 95% interval to the number of questions."""
    for p, half_width in ((0.25, 0.02), (0.5, 0.03), (0.8, 0.1), (0.6, 0.01)):
        got, exact = answer(p, half_width), 1.96**2 * p * (1 - p) / half_width**2
        expect(isinstance(got, int) and not isinstance(got, bool), "return a whole number, an int.")
        right = math.ceil(exact)
        if got == right:
            continue
        found = f"for p = {p} and a half-width of {half_width} it is {right:,}, yours is {got:,}"

        def near(value: float, got: int = got) -> bool:
            return abs(got - value) <= 1

        expect(got != math.floor(exact), f"{found}. Round up, or the interval is a little too wide.")
        expect(not near(exact / 1.96**2), f"{found}. This is one standard error; a 95% interval has 1.96 of them.")
        expect(not near(exact**0.5), f"{found}. This is the root of the number: square both sides.")
        expect(not near(exact / 1.96), f"{found}. Square the 1.96 too.")
        expect(not near(4 * exact), f"{found}. Do not halve it again: it is one side of the ±.")
        expect(not near(exact / 4), f"{found}. Do not double it: the half-width is one side of the ±.")
        expect(not near(exact * half_width), f"{found}. Divide by the square of the half-width.")
        expect(not near(exact / (p * (1 - p))), f"{found}. Where is p (1 - p)?")
        expect(not near(exact / (p * (1 - p)) / 4) or p == 0.5, f"{found}. You took p = 0.5, the worst case.")
        expect(not near(1.96**2 * (p * (1 - p)) ** 0.5 / half_width**2), f"{found}. The variance is p (1 - p).")
        expect(False, f"{found}.")


@exercise
def paired_interval(answer: Callable) -> None:
    """From the scores of two systems on the same examples to the bootstrap interval of their mean difference."""
    for seed, count in ((0, 60), (1, 25)):
        noise = torch.Generator().manual_seed(seed)
        hardness = 10 * torch.rand(count, generator=noise, dtype=torch.float64)
        first = hardness + 0.3 + torch.randn(count, generator=noise, dtype=torch.float64)
        second = hardness + torch.randn(count, generator=noise, dtype=torch.float64)
        got = answer(first.clone(), second.clone(), 4000, torch.Generator().manual_seed(2))
        expect(isinstance(got, tuple | list) and len(got) == 2, "return the two ends of the interval.")
        low, high = map(float, got)
        again = answer(first.clone(), second.clone(), 4000, torch.Generator().manual_seed(2))
        expect(
            tuple(map(float, again)) == (low, high), "the same generator should give the same interval: draw from it."
        )

        def ends(difference: torch.Tensor, level: float = 0.95, count: int = count) -> tuple[float, float]:
            drawn = torch.randint(count, (20_000, count), generator=torch.Generator().manual_seed(3))
            tail = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
            return tuple(difference[drawn].mean(-1).quantile(tail).tolist())

        right = ends(first - second)
        width, right_width = high - low, right[1] - right[0]

        def close(one: tuple[float, float], to: float, low: float = low, high: float = high) -> bool:
            return max(abs(one[0] - low), abs(one[1] - high)) < 0.04 * to

        if close(right, right_width):
            continue
        found = f"here it is about [{right[0]:.2f}, {right[1]:.2f}], yours is [{low:.2f}, {high:.2f}]"
        expect(width > 1e-9, f"{found}. It has no width: draw with replacement.")
        expect(not close((-right[1], -right[0]), right_width), f"{found}. This is second minus first.")
        spread = (first - second).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        expect(
            width < 0.75 * (spread[1] - spread[0]),
            f"{found}. These are quantiles of single differences; take those of their means.",
        )
        unpaired = (ends(first)[1] - ends(first)[0]) ** 2 + (ends(second)[1] - ends(second)[0]) ** 2
        expect(
            abs(width - unpaired**0.5) > 0.1 * unpaired**0.5,
            f"{found}. You drew examples for each system apart: then what makes an example hard does not cancel.",
        )
        expect(
            not close(ends(first), ends(first)[1] - ends(first)[0]), f"{found}. This is the interval of first alone."
        )
        expect(
            not close(ends(first - second, 0.9), 0.7 * right_width),
            f"{found}. 95% in the middle leave 2.5% on each side, not 5%.",
        )
        expect(False, f"{found}.")


@exercise
def gap_score(answer: Callable) -> str:
    """From a filled gap, the true sentence and the sentence before to a score that copying cannot win."""
    before, true = "Anna lost her red ball in the park.", "A little dog found her ball under a bench."
    other = "Yesterday we ate soup."

    def score(text: str, reference: str = true, left: str = before) -> float:
        got = answer(text, reference, left)
        expect(isinstance(got, float | int) and not isinstance(got, bool), "return one number.")
        expect(math.isfinite(got) and -1e-9 <= got <= 100 + 1e-9, f"a score lies between 0 and 100, not at {got}.")
        return float(got)

    copied, nothing = score(before), score(other)
    expect(
        copied <= nothing + 1e-9,
        f"a copy of the sentence before gets {copied:.1f}, a sentence that hits nothing {nothing:.1f}. "
        "Do not pay for words that were there already.",
    )
    hit, more = score("The dog slept all day."), score("The dog slept under a tree.")
    expect(hit > nothing + 1e-9, "one new word of the true sentence must be worth something: 'dog' is in it.")
    expect(more > hit + 1e-9, "three new words of the true sentence must be worth more than one.")
    whole = score(true)
    expect(whole > more, f"the true sentence gets {whole:.1f}, no more than one that hits three words of it.")
    expect(
        math.isclose(score("a LITTLE dog, found her ball under a bench!"), whole),
        "case and punctuation are no part of a word: the same words, the same score.",
    )
    expect(
        score("dog dog dog dog dog") <= score("dog") + 1e-9,
        "saying 'dog' five times gets more than saying it once: count a word as often as the true sentence has it.",
    )
    expect(score("A dog.") < whole - 1e-9, "'A dog.' gets as much as the whole true sentence: ask for recall too.")
    everything = f"{true} Yesterday we ate soup with a spoon, and then the sun went down over the sea and the hills."
    expect(
        score(everything) < whole - 1e-9,
        "a text that says the true sentence and much else gets as much as the true sentence: ask for precision too.",
    )
    for text, reference, left in (("", true, before), (true, "", before), (before, before, before), ("...", "?", "")):
        try:
            got = score(text, reference, left)
        except ZeroDivisionError:
            raise Mistake(f"{text!r} against {reference!r}: no words are left to count. Return 0.") from None
        expect(got == 0 or text == reference, f"{text!r} against {reference!r} should get 0, not {got:.1f}.")
    return "copying cannot win. Now the systems of section 4."
