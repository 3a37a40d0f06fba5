"""Checks for the exercises of notebook 04, from a pretrained model."""

from collections.abc import Callable
from numbers import Integral

import torch

from a3mini import groups, masks
from a3mini.notebook.checks.base import exercise, expect, expect_int64, plain, same, toy_parts


@exercise
def first_difference(answer: Callable) -> None:
    """(ours, theirs, tolerance), states of each layer -> the first that differs, relative to its height; or None."""
    generator = torch.Generator().manual_seed(0)
    theirs = [10.0**layer * torch.randn(2, 5, 8, dtype=torch.float64, generator=generator) for layer in (0, 3, -3, 1)]

    def off_from(start: int, by: float) -> list[torch.Tensor]:
        """From layer ``start`` on one number differs, by that share of the largest number of its layer."""
        ours = [state.clone() for state in theirs]
        for state in ours[start:]:
            state[1, 3, 2] -= by * state.abs().max()
        return ours

    broken = off_from(9, 0)
    broken[2][0, 1, 1] = torch.nan
    cases = [
        ("equal states", theirs, None),
        ("states that differ from layer 0 on", off_from(0, 0.1), 0),
        ("states that differ from layer 1 on", off_from(1, 0.1), 1),
        ("states that differ in the last layer alone", off_from(3, 0.1), 3),
        ("rounding: every layer off by a millionth of its height", off_from(0, 1e-6), None),
        ("layer 2, of small numbers, off by a tenth of its height", off_from(2, 0.1), 2),
        ("a NaN in layer 2", broken, 2),
    ]
    for name, ours, right in cases:
        got = plain(answer([state.clone() for state in ours], [state.clone() for state in theirs], 1e-3))
        told = f"for {name} (tolerance 0.001) the answer is {right}, yours is {got!r}"
        expect(
            got is None or (isinstance(got, Integral) and not isinstance(got, bool)), f"return an int or None; {told}."
        )
        if "NaN" in name:
            expect(got == right, f"{told}. A comparison with NaN is false: ask whether the difference is small.")
        if name.startswith("rounding"):
            expect(got is None, f"{told}. Large states round by more: compare with the largest number of the layer.")
        if name.startswith("layer 2"):
            expect(got == right, f"{told}. Small states count, too: compare with the largest number of the layer.")
        if got is not None and right is not None:
            expect(got >= right, f"{told}. Count layers from 0, and stop at one that differs.")
            expect(got <= right, f"{told}. What stands in earlier layers? Return the first; one number is enough.")
        expect(got == right, f"{told}.")


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
        [-1, 0, 40, 7, -1, 40],
    ):
        got = answer(torch.tensor(ids))
        expect(isinstance(got, (tuple, list)) and len(got) == 2, "return two numbers: content rows, query rows.")
        got = tuple(number.item() if isinstance(number, torch.Tensor) else number for number in got)
        expect(all(isinstance(number, Integral) for number in got), f"return two integers, not {got}.")
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


@exercise
def packed_layer(answer: Callable) -> None:
    """(block, h_content, h_query, group_ids) -> the needed rows of both streams, from one call of the block."""
    generator = torch.Generator().manual_seed(1)
    for ids in ([0, 1, 2, 3], [0, 0, 1, 0, 2, 0], [0, 2, 2, 1, 1, -1], [1, 1, 2], [-1, 0, 30, 7, 20, -1], [1, 1, 1]):
        group_ids = torch.tensor(ids)
        attend, norm, mlp = toy_parts(generator)
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
        expect(isinstance(got, (tuple, list)) and len(got) == 2, "return a pair: the content rows, the query rows.")
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
        expect(  # in any order: attention does not mind
            sorted(calls[0][2].tolist()) == sorted(places.tolist())
            and sorted(calls[0][3].tolist()) == everywhere[keep].tolist(),
            f"for group_ids {ids} rows stand at wrong positions. A packed row keeps its position in the text.",
        )
        expect(all(isinstance(rows, torch.Tensor) for rows in got), "return two tensors, one for each stream.")
        expect(
            not (same(got[0], right[1]) and same(got[1], right[0])),
            "these are the right rows in the wrong order: the content rows first.",
        )
        for name, mine, theirs in zip(("content", "query"), got, right, strict=True):
            expect(
                mine.shape == theirs.shape,
                f"for group_ids {ids} the {name} rows have shape {tuple(mine.shape)}, not {tuple(theirs.shape)}.",
            )
            expect(
                same(mine, theirs) or not same(mine.sort(0).values, theirs.sort(0).values),
                f"for group_ids {ids} the {name} rows are right, but not in the order of the text.",
            )
            expect(
                same(mine, theirs),
                f"for group_ids {ids} the {name} rows differ from those computed in full. Do rows and mask fit?",
            )


@exercise
def warm_start(answer: Callable) -> None:
    """(embedded (T, D), w (D,), group_ids (T,)) -> starts of all query rows (T, D) and their rotary positions (T,)."""
    generator = torch.Generator().manual_seed(0)
    for ids in ([0, 1, 2, 3], [0, 0, 2, 1, 1, 0, 3], [0, 20, 5, 5, 10, -1, -1], [-1, 3, 0, 2, 1], [2, 1, 1, 3, 0]):
        group_ids = torch.tensor(ids)
        embedded = torch.randn(len(ids), 5, dtype=torch.float64, generator=generator)
        w = torch.randn(5, dtype=torch.float64, generator=generator)
        given = embedded.clone(), w.clone(), group_ids.clone()
        got = answer(*given)
        expect(
            isinstance(got, (tuple, list)) and len(got) == 2, "return a pair: the starts (T, D), the positions (T,)."
        )
        starts, positions = got
        expect(
            torch.equal(given[0], embedded) and torch.equal(given[1], w) and torch.equal(given[2], group_ids),
            "an argument has changed: write into a new tensor.",
        )
        expect(
            isinstance(starts, torch.Tensor) and starts.shape == embedded.shape,
            f"the starts should be a tensor of shape {tuple(embedded.shape)}.",
        )
        expect(
            isinstance(positions, torch.Tensor) and positions.shape == group_ids.shape,
            f"the positions should be a tensor of shape {tuple(group_ids.shape)}.",
        )
        for i, group in enumerate(ids):
            if group <= 0:
                continue  # no row asks there
            warm = i > 0 and 0 <= ids[i - 1] < group
            where = f"for group_ids {ids} the row at {i} "
            if not warm:
                before = f"position {i - 1} has group {ids[i - 1]}" if i else "it has no left neighbour"
                expect(same(starts[i], w), f"{where}should start from w: {before}.")
                expect(int(positions[i]) == i, f"{where}starts from w, so its rotary position is {i}.")
                continue
            expect(not same(starts[i], embedded[i]), f"{where}starts from its own token: a leak.")
            expect(
                same(starts[i], embedded[i - 1]),
                f"{where}should start from token {i - 1}, whose group {ids[i - 1]} is earlier.",
            )
            expect(
                int(positions[i]) == i - 1,
                f"{where}starts from token {i - 1}, so its rotary position is {i - 1}, not {int(positions[i])}.",
            )


@exercise
def warm_order(answer: Callable) -> str:
    """(length, size) -> group ids (T,): 0, then groups of ``size``; fewer than ``size`` rows start cold."""
    for length, size in ((13, 4), (9, 2), (7, 3), (25, 4), (5, 4), (6, 1)):
        ids = answer(length, size)
        where = f"for length {length}, size {size}: "
        expect(isinstance(ids, torch.Tensor) and ids.shape == (length,), f"{where}return a tensor of {length} ids.")
        expect_int64(ids, where)
        expect(
            ids[0] == 0 and bool((ids[1:] > 0).all()),
            f"{where}position 0 is given, and no other; your ids: {ids.tolist()}.",
        )
        sizes = ids[1:].unique(return_counts=True)[1].tolist()
        expect(set(sizes) == {size}, f"{where}every group should have {size} tokens; yours have {sizes}.")
        cold = int((ids[:-1] >= ids[1:]).sum())
        expect(
            cold < size,
            f"{where}{cold} rows have no known token on their left; at most {size - 1} need be so. "
            f"Your ids: {ids.tolist()}.",
        )
    ids = answer(13, 4)
    kind = (
        "the package's strided groups"
        if torch.equal(ids, groups.strided(13, 4))
        else "not the package's strided groups"
    )
    return f"correct; {kind}."
