"""Checks for the exercises of notebook 03, two-stream attention."""

import itertools
from collections.abc import Callable
from numbers import Integral

import torch

from a3mini import masks
from a3mini.notebook.checks.base import exercise, expect, same


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


def _toy_parts(generator: torch.Generator, size: int = 6) -> tuple[Callable, Callable, Callable]:
    """An attention, a norm and an MLP with random weights, for rows (T, D); attention is zero where nothing is seen."""
    mix, up, down = torch.randn(3, size, size, dtype=torch.float64, generator=generator)

    def attend(rows: torch.Tensor, context: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        scores = rows @ mix @ context.T / size
        return (scores.masked_fill(~mask, -1e9).softmax(-1) * mask) @ context

    def norm(x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)

    return attend, norm, lambda x: torch.tanh(x @ up) @ down


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
            expect(isinstance(got, (tuple, list)) and len(got) == 2, "return a pair: the content rows, the query rows.")
            right_shape = all(isinstance(rows, torch.Tensor) and rows.shape == content.shape for rows in got)
            expect(right_shape, f"both streams should be tensors, and keep the shape {tuple(content.shape)}.")
            return got

        got_content, got_query = run(h_content, h_query)
        right_content, right_query = (block(h_content, h_content, sees_content), block(h_query, h_content, sees_query))
        expect(
            not (same(got_query, right_content) and same(got_content, right_query)),
            "these are the right rows in the wrong order: the content rows first.",
        )
        expect(
            not same(got_query, block(h_query, h_content, sees_content)),
            "the query rows use the content mask: use the query mask for queries.",
        )
        for position in range(len(ids)):
            hidden = ~sees_query[position]
            other = h_content.clone()
            other[hidden] += 1.0
            expect(
                same(run(other, h_query)[1][position], got_query[position]),
                "a query row changes when content changes that it must not see. Content reaches it by attention alone, "
                "through the query mask; the rest comes from h_query.",
            )
            other = h_query + 1.0
            other[position] = h_query[position]
            expect(
                same(run(h_content, other)[1][position], got_query[position]),
                "a query row reads other query rows: keys and values come from the content stream alone.",
            )
        normed = (block(h_content, h_content, sees_content, True), block(h_query, h_content, sees_query, True))
        for name, got, wrong in (("content", got_content, normed[0]), ("query", got_query, normed[1])):
            expect(
                not same(got, wrong),
                f"in the {name} stream the MLP's output is added to the normed state; add it to the state itself.",
            )
        expect(
            not same(got_content, block(h_content, h_content, sees_query)),
            "the content rows use the query mask; they may see their own group.",
        )
        expect(same(got_content, right_content), "the content rows are wrong: norm, attend, add; norm, MLP, add.")
        halfway = h_content + attend(norm(h_content), norm(h_content), sees_content)
        for context in (right_content, halfway):
            expect(
                not same(got_query, block(h_query, context, sees_query)),
                "the query rows read content that this layer has already changed; both streams read its inputs.",
            )
        a_query = h_query + attend(norm(h_query), h_content, sees_query)
        expect(
            not same(got_query, a_query + mlp(norm(a_query))),
            "queries read content without its norm; both streams read norm(h_content).",
        )
        expect(same(got_query, right_query), "the query rows are wrong: norm, attend, add; norm, MLP, add.")


@exercise
def packed_layer(answer: Callable) -> None:
    """(block, h_content, h_query, group_ids) -> the needed rows of both streams, from one call of the block."""
    generator = torch.Generator().manual_seed(1)
    for ids in ([0, 1, 2, 3], [0, 0, 1, 0, 2, 0], [0, 2, 2, 1, 1, -1], [1, 1, 2], [-1, 0, 30, 7, 20, -1], [1, 1, 1]):
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
def told_next(answer: Callable) -> None:
    """(embedded, own, following, group_ids) -> rows (T, D) that know token, own position and the next position."""
    generator = torch.Generator().manual_seed(2)
    for ids in ([0, 1, 2, 3], [0, 3, 1, 2], [0, 20, 5, 10, 7], [30, 0, 2, 1]):
        group_ids, order = torch.tensor(ids), torch.tensor(ids).argsort().tolist()
        embedded, own, following = torch.randn(3, len(ids), 6, dtype=torch.float64, generator=generator)
        given = [table.clone() for table in (embedded, own, following)]
        got = answer(*given, group_ids.clone())
        expect(isinstance(got, torch.Tensor) and got.shape == embedded.shape, "return one tensor, (T, D).")
        expect(
            all(torch.equal(*pair) for pair in zip(given, (embedded, own, following), strict=True)),
            "the embeddings or a table have changed: add to a copy.",
        )
        right = embedded + own
        right[order[:-1]] += following[order[1:]]
        expect(
            same(got, right) or not same(got, right[order]),
            f"for group_ids {ids} the rows stand in the order of prediction; return them in the order of the text.",
        )
        told = got.double() - embedded - own  # what each row is told about the next position
        where = f"for group_ids {ids} "
        expect(not same(told[order[-1]], -own[order[-1]]), f"{where}the vector of a row's own position is missing.")
        expect(
            not same(told[:-1], following[1:]) or order == sorted(order),
            f"{where}each row is told its right neighbour, not who is predicted next.",
        )
        for this, after in itertools.pairwise(order):
            expect(
                same(told[this], following[after]),
                f"{where}the row at {this} should be told position {after}, which is predicted next.",
            )
        last = f"{where}the row at position {order[-1]} is predicted last: nothing comes next."
        expect(same(told[order[-1]], torch.zeros(6)), last)
