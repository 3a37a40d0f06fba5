"""Checks for the exercises of notebook 03, two-stream attention."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch

from a3mini import masks
from a3mini.notebook.checks.base import exercise, expect, plain, same, toy_parts


@exercise
def two_to_the_left(answer: Sequence[torch.Tensor]) -> str:
    """(query, key), (8,) each: with RoPE (theta 100) rows 2, 3, ... of 12 give 0.9 of their weight two to the left."""
    expect(isinstance(answer, (tuple, list)) and len(answer) == 2, "give a pair: the query, the key.")
    for name, vector in zip(("query", "key"), answer, strict=True):
        expect(isinstance(vector, torch.Tensor), f"the {name} should be a tensor, not {type(vector).__name__}.")
        expect(vector.shape == (8,), f"the {name} should have 8 numbers, not the shape {tuple(vector.shape)}.")
        expect(bool(vector.isfinite().all()), f"the {name} has numbers that are not finite.")
    angle = torch.arange(12.0).double()[:, None] * 100.0 ** (-torch.arange(0, 8, 2).double() / 8)  # (12, 4)

    def turned(x: torch.Tensor) -> torch.Tensor:
        first, second = x.double().chunk(2)
        return torch.cat((first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()), 1)

    weights = (turned(answer[0]) @ turned(answer[1]).T / 8**0.5).softmax(1)
    found = int(weights[5].argmax()) - 5
    told = f"row 5 looks most at position {5 + found}"
    expect(found != 2, f"{told}: two to the right. A query at i meets a key at i - 2: turn the other way.")
    expect(found != 0, f"{told}: its own. The query vector must be turned against the key.")
    expect(found == -2, f"{told}, not at position 3.")
    least = weights[torch.arange(2, 12), torch.arange(10)].min().item()
    expect(
        least >= 0.9,
        f"the place is right, but some row gives it only {least:.2f}, and the rest to its neighbours. "
        "Make the scores larger.",
    )
    return f"correct: every row gives at least {least:.2f} to the token two to its left."


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


@exercise
def repaired_layer(answer: Callable) -> None:
    """(h_content, h_query, content_mask, query_mask, attend, norm, mlp) -> both streams after one layer."""
    generator = torch.Generator().manual_seed(0)
    for ids in ([0, 1, 2, 3], [0, 2, 1, 2, 1, 0], [1, 1, 3, 2]):
        group_ids = torch.tensor(ids)
        sees_content, sees_query = masks.content_mask(group_ids), masks.query_mask(group_ids)
        attend, norm, mlp = toy_parts(generator)
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


def _told_at_best(shared_row: Callable) -> float:
    """What the notebook's told stream can reach in groups of 1, 2, 3 letters: nats per letter, mean of all orders."""
    die, letters, total = torch.full((1, 8), 1 / 8).double(), torch.eye(8).double(), 0.0
    orders = sorted(set(itertools.permutations((1, 2, 2, 3, 3, 3))))
    for order in orders:
        copies = order[3:] + order[:3]
        for step in range(3):
            rows = max(1, order.count(step))
            new = [copy for group, copy in zip(order, copies, strict=True) if group == step + 1]
            for mine in (new[row::rows] for row in range(rows)):
                certain = sum(copy <= step for copy in mine)
                dice = die.expand(len(mine) - certain, -1)
                cases = [(1, letters[:certain])] if certain < 2 else [(7 / 8, letters[:2]), (1 / 8, letters[[0, 0]])]
                for chance, known in cases:
                    price = plain(shared_row(torch.cat((dice, known)))[1]) if mine else 0.0
                    total += chance * (len(mine) * price + len(dice) * math.log(8))
    return total / len(orders) / 6


@exercise
def shared_row(answer: Callable) -> str:
    """p (N, V), N distributions -> the one q (V,) with the least mean loss, and what it costs above N of their own."""
    cases = {
        "two equal rows": [[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]],
        "two certain rows": [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]],
        "a certain row and a die": [[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]],
        "three rows": [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]],
        "one row": [[0.2, 0.8]],
    }
    for name, rows in cases.items():
        p = torch.tensor(rows, dtype=torch.float64)
        got = answer(p.clone())
        expect(isinstance(got, (tuple, list)) and len(got) == 2, "return a pair: q and the price.")
        q, price = got
        expect(
            isinstance(q, torch.Tensor) and q.shape == p.shape[1:], f"for {name} q should have {p.shape[1]} numbers."
        )
        right = sum(p) / len(p)
        own = -sum(x * math.log(x) for row in rows for x in row if x) / len(rows)
        together = -sum(x * math.log(right[v].item()) for row in rows for v, x in enumerate(row) if x) / len(rows)
        expect(bool(q.isfinite().all()) and abs(q.sum().item() - 1) < 1e-6, f"for {name} q does not sum to 1.")
        expect(
            torch.allclose(q.double(), right, atol=1e-6),
            f"for {name} another q has a smaller loss: yours is {[round(x, 3) for x in q.tolist()]}.",
        )
        price = plain(price)
        expect(isinstance(price, float | int), f"the price should be a number, not {type(price).__name__}.")
        told = f"for {name} the price is {together - own:.4f} nats per position, yours is {price:.4f}"
        expect(not math.isnan(price), f"{told}. 0 log 0 counts as 0.")
        expect(
            abs(price - together) > 1e-6 or abs(own) < 1e-6,
            f"{told}. That is the whole loss; take off what rows of their own would cost.",
        )
        expect(
            abs(price - len(rows) * (together - own)) > 1e-6 or len(rows) == 1 or abs(price) < 1e-6,
            f"{told}. Take the mean over the positions, not the sum.",
        )
        expect(abs(price - (together - own)) < 1e-6, f"{told}.")
    return f"correct. In growing groups the told stream can reach {_told_at_best(answer):.2f} nats per letter."
