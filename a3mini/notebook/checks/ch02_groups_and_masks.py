"""Checks for the exercises of notebook 02, groups and masks."""

import re
from collections.abc import Callable, Sequence

import torch

from a3mini import masks
from a3mini.notebook.checks.base import exercise, expect, expect_int64


@exercise
def my_query_mask(answer: Callable) -> None:
    """A function from group_ids (T,) to the query mask (T, T)."""
    for ids in ([1, 2, 3], [0, 0, 1, 2], [1, 1, 1, 3, 2, 2], [0, 2, 1, -1], [-1, 7, 0, 30, 7, -1]):
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
    expect(not group_ids.is_floating_point(), f"group ids are integers, not {group_ids.dtype}.")
    expect(not (group_ids < 0).any(), "no token is padding here: use 0 for token 0 and 1, 2, ... for the others.")
    expect(
        (group_ids == 0).tolist() == [True] + [False] * 6,
        "token 0 is given (id 0), and it alone: the others are predicted (1, 2, ...).",
    )
    allowed = masks.query_mask(group_ids)
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
    every = torch.arange(36).view(6, 6)  # the query at 5 sees 0, which sees 1, ..., which sees 5
    cases = [
        ("the right masks", content, query, ids),
        ("queries that see their own group", content, content, ids),
        ("a content stream that sees every group", everyone, query, ids),
        ("visible padding", content | (ids < 0), query | (ids < 0), ids),
        ("rows that look but predict nothing", content, query | ((ids <= 0)[:, None] & (ids >= 0)), ids),
        ("a path through many layers", step, last_given, chain),
        ("a path through every token", every % 7 == 1, every == 30, torch.tensor([0, 0, 0, 0, 0, 1])),
    ]
    generator = torch.Generator().manual_seed(0)
    for number in range(30):
        some = torch.randint(-1, 5, (6,), generator=generator)
        holes, seen = torch.rand(2, 6, 6, generator=generator) < torch.tensor([0.15, 0.5])[:, None, None]
        cases.append((f"random masks, number {number}", holes, masks.query_mask(some) & seen, some))
    found = []
    for name, content, query, ids in cases:
        right, got = _leak_depth(content, query, ids), answer(content.clone(), query.clone(), ids.clone())
        got = got.item() if isinstance(got, torch.Tensor) and got.numel() == 1 else got
        told = f"for {name} (group_ids {ids.tolist()}) the answer is {right}, yours is {got!r}"
        expect(got is None or (isinstance(got, int) and not isinstance(got, bool)), f"return an int or None; {told}.")
        found.append((name, right, got, told))
    leaks = [(right, got, told) for _, right, got, told in found if right is not None]
    off = [got is not None and got - right for right, got, _ in leaks]
    expect(any(by != -1 for by in off), f"{leaks[0][2]}. One layer is one look already: count from 1.")
    for name, right, got, told in found:
        expect(
            right is not None or got is None,
            f"{told}. A leak is a row of group 1 or more that reaches its own or a later group, or padding.",
        )
        expect(right is None or got is not None or name != "visible padding", f"{told}. Is padding a leak for you?")
        expect(right != 1 or got is not None, f"{told}. Which cells are forbidden?")
        expect(right is None or got is not None, f"{told}. Look through more layers.")
        expect(got == right, f"{told}.")


@exercise
def outside_in(answer: Callable) -> None:
    """From unknown (T,) bool to group_ids (T,) that fill every blank from both its edges."""
    for pattern in ("?", "??", "???", "????", "?????", "?.???", "????.??????", "..?.???..?????????.", "??.???????.???"):
        unknown = torch.tensor([mark == "?" for mark in f".{pattern}."])
        got = answer(unknown.clone())
        expect(isinstance(got, torch.Tensor), f"return a tensor, not {type(got).__name__}.")
        expect(got.shape == unknown.shape, f"the shape should be {tuple(unknown.shape)}, not {tuple(got.shape)}.")
        expect_int64(got)
        ids = got.tolist()
        where = f"for the text .{pattern}. your groups are {ids}: "
        expect(not got[~unknown].any(), where + "known tokens are given, so their id is 0.")
        expect(bool((got[unknown] > 0).all()), where + "unknown tokens are predicted, so their ids are 1 or more.")
        for i in unknown.nonzero().flatten().tolist():
            expect(ids[i] != ids[i + 1], where + f"the neighbours {i} and {i + 1} are predicted in parallel.")
            earlier = min(ids[i - 1], ids[i + 1]) < ids[i]
            expect(earlier, where + f"token {i} is predicted before either of its neighbours is there.")
        turns = [sorted({0, *ids}).index(group) for group in ids]  # only the order of the ids counts
        fewest = max(map(len, pattern.split("."))) // 2 + 1
        expect(
            max(turns) == fewest,
            where + f"{max(turns)} groups; with both ends at once, and all blanks at once, {fewest} are enough.",
        )
        for blank in re.finditer(r"\?+", f".{pattern}."):
            first, size = blank.start(), len(blank[0])
            outside = [min(n, size + 1 - n) for n in range(1, size + 1)]
            mine = turns[first : blank.end()]
            if size % 2 == 0:  # one of the two in the middle waits for the other
                later = size // 2 if mine[size // 2] > mine[size // 2 - 1] else size // 2 - 1
                outside[later] += 1
            expect(
                mine == outside,
                where + f"the blank from {first} to {blank.end() - 1} is not filled from both its ends at once; in the "
                f"order of the groups its tokens are {mine}, they should be {outside}.",
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
    expect(not extra, f"the query mask shows more than the right one, at {extra}.")
    depth = _leak_depth(content, query, ids)
    expect(depth is not None, "no depth leaks: some path has to lead from the query at 5 to token 5.")
    expect(depth == 6, f"this leaks from {depth} layers on already. Make its shortest path longer.")
