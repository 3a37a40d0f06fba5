"""Known wrong answers to the exercises of notebook 03: code that defines the name, and what the check must say."""

LEFT = """\
angle = {places} * 100.0 ** (-torch.arange(0, 8, 2) / 8)
key = {factor} * torch.ones(8)
first, second = key.chunk(2)
turned = first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()
two_to_the_left = torch.cat(turned), key
"""

TOLD = """\
def told_next(embedded, own, following, group_ids):
    order = group_ids.argsort()
    start = embedded + own
    start[{rows}] += {told}
    return start
"""

REPAIRED = """\
def repaired_layer(h_content, h_query, content_mask, query_mask, attend, norm, mlp):
    a_content = h_content + attend(norm(h_content), norm(h_content), content_mask)
    a_query = h_query + attend(norm(h_query), norm({context}), {mask})
    return {content} + mlp(norm(a_content)), {query} + mlp(norm(a_query))
"""

SHARED = """\
def shared_row(p):
    def entropy(rows):
        return -torch.xlogy(rows, rows).sum(-1)

    q = {q}
    return q, ({price}).item()
"""

MISTAKES = {
    "two_to_the_left": [
        (LEFT.format(places=2, factor=4), "two to the right"),
        (LEFT.format(places=0, factor=4), "its own"),
        (LEFT.format(places=-1, factor=4), "not at position 3"),
        (LEFT.format(places=-2, factor=1), "Make the scores larger"),
        (LEFT.format(places=-2, factor=2), "Make the scores larger"),
        ("two_to_the_left = torch.ones(8)", "give a pair"),
        ("two_to_the_left = torch.ones(8), torch.ones(12, 8)", "the key should have 8 numbers"),
        ("two_to_the_left = torch.ones(8), [1.0] * 8", "the key should be a tensor"),
        ("two_to_the_left = torch.ones(8), torch.full((8,), math.inf)", "not finite"),
    ],
    "told_next": [
        (TOLD.format(told="following[1:]", rows=":-1"), "told its right neighbour"),
        (TOLD.format(told="following[order[:-1]]", rows="order[:-1]"), "should be told position"),
        (TOLD.format(told="following[order.roll(-1)]", rows="order"), "nothing comes next"),
        (
            TOLD.format(told="following[order[1:]]", rows="order[:-1]").replace("embedded + own", "embedded.clone()"),
            "own position is missing",
        ),
        (
            TOLD.format(told="following[order[1:]]", rows="order[:-1]").replace("embedded + own", "embedded.add_(own)"),
            "add to a copy",
        ),
        (
            "def told_next(embedded, own, following, group_ids):\n"
            "    order = group_ids.argsort()\n"
            "    start = (embedded + own)[order]\n"
            "    start[:-1] += following[order[1:]]\n"
            "    return start",
            "the rows stand in the order of prediction",
        ),
        (
            TOLD.format(told="following[group_ids[order[1:]]]", rows="order[:-1]"),
            "the row at 0 should be told position 2",
        ),
        (TOLD.format(told="following[order[:-1]]", rows="order[1:]"), "should be told position 1"),
    ],
    "repaired_layer": [
        (
            REPAIRED.format(context="h_query", mask="query_mask", content="a_content", query="a_query"),
            "reads other query rows",
        ),
        (
            REPAIRED.format(context="h_content", mask="content_mask", content="a_content", query="a_query"),
            "use the query mask for queries",
        ),
        (
            REPAIRED.format(context="h_content", mask="query_mask", content="a_content", query="a_query").replace(
                "a_query = h_query", "a_query = h_content"
            ),
            "the rest comes from h_query",
        ),
        (
            REPAIRED.format(context="h_content", mask="query_mask", content="a_content", query="a_query")
            + "_, right = None, repaired_layer\ndef repaired_layer(*parts): return right(*parts)[::-1]",
            "in the wrong order",
        ),
        (
            REPAIRED.format(context="h_content", mask="query_mask", content="a_content", query="a_query").replace(
                "mlp(norm(a_query))", "mlp(a_query)"
            ),
            "the query rows are wrong",
        ),
        (
            REPAIRED.format(context="h_content", mask="query_mask", content="norm(a_content)", query="norm(a_query)"),
            "in the content stream the MLP's output is added to the normed state",
        ),
        (
            REPAIRED.format(context="h_content", mask="query_mask", content="a_content", query="norm(a_query)"),
            "in the query stream the MLP's output is added to the normed state",
        ),
        (
            REPAIRED.format(context="a_content", mask="query_mask", content="a_content", query="a_query"),
            "content that this layer has already changed",
        ),
        (
            "def repaired_layer(h_content, h_query, content_mask, query_mask, attend, norm, mlp):\n"
            "    h_content = h_content + attend(norm(h_content), norm(h_content), content_mask)\n"
            "    h_content = h_content + mlp(norm(h_content))\n"
            "    h_query = h_query + attend(norm(h_query), norm(h_content), query_mask)\n"
            "    return h_content, h_query + mlp(norm(h_query))",
            "content that this layer has already changed",
        ),
        (
            "def repaired_layer(h_content, h_query, content_mask, query_mask, attend, norm, mlp):\n"
            "    h_query = h_query + attend(norm(h_query), norm(h_content), query_mask)\n"
            "    h_content = h_content + attend(norm(h_content), norm(h_content), query_mask)\n"
            "    return h_content + mlp(norm(h_content)), h_query + mlp(norm(h_query))",
            "they may see their own group",
        ),
        (
            "def repaired_layer(h_content, h_query, content_mask, query_mask, attend, norm, mlp):\n"
            "    return h_content, h_query",
            "the content rows are wrong",
        ),
        (
            "def repaired_layer(h_content, h_query, content_mask, query_mask, attend, norm, mlp):\n"
            "    a_content = h_content + attend(norm(h_content), norm(h_content), content_mask)\n"
            "    a_query = h_query + attend(norm(h_query), h_content, query_mask)\n"
            "    return a_content + mlp(norm(a_content)), a_query + mlp(norm(a_query))",
            "without its norm",
        ),
    ],
    "shared_row": [
        (SHARED.format(q="p.prod(0) / p.prod(0).sum()", price="entropy(q) - entropy(p).mean()"), "a smaller loss"),
        (
            SHARED.format(q="p.clamp_min(1e-9).log().mean(0).softmax(0)", price="entropy(q) - entropy(p).mean()"),
            "a smaller loss",
        ),
        (SHARED.format(q="p[0]", price="entropy(q) - entropy(p).mean()"), "has a smaller loss"),
        (SHARED.format(q="p.sum(0)", price="entropy(q) - entropy(p).mean()"), "does not sum to 1"),
        (SHARED.format(q="p.mean(0)", price="entropy(q)"), "the whole loss"),
        (SHARED.format(q="p.mean(0)", price="len(p) * (entropy(q) - entropy(p).mean())"), "not the sum"),
        (
            SHARED.format(q="p.mean(0)", price="entropy(q) - entropy(p).mean()").replace(
                "torch.xlogy(rows, rows)", "(rows * rows.log())"
            ),
            "0 log 0",
        ),
        (SHARED.format(q="p.mean(0)", price="entropy(q) - entropy(p)").replace(".item()", ""), "should be a number"),
        (SHARED.format(q="p.mean(0)", price="entropy(p).mean() - entropy(q)"), "for two certain rows the price is"),
        ("def shared_row(p):\n    return p.mean(0)", "return a pair"),
        ("def shared_row(p):\n    return p.mean(1), 0.0", "q should have"),
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    # one pair of numbers alone, the fastest, and the key turned instead of the query; a list
    "two_to_the_left": [
        "query, key = torch.zeros(2, 8)\n"
        "query[[0, 1, 2]] = 5.0\n"
        "for pair in range(3):\n"
        "    angle = torch.tensor(2 * 100.0 ** (-pair / 4))\n"
        "    key[pair], key[pair + 4] = 5 * angle.cos(), 5 * angle.sin()\n"
        "two_to_the_left = [query, key]",
    ],
    "told_next": [
        "def told_next(embedded, own, following, group_ids):\n"
        "    ids, told = group_ids.tolist(), torch.zeros_like(embedded)\n"
        "    for i, group in enumerate(ids):\n"
        "        later = [(other, j) for j, other in enumerate(ids) if other > group]\n"
        "        told[i] = following[min(later)[1]] if later else 0\n"
        "    return told + own + embedded",
    ],
    # both streams in one call of attention, changed in place, and a list
    "repaired_layer": [
        "def repaired_layer(h_content, h_query, content_mask, query_mask, attend, norm, mlp):\n"
        "    rows = torch.cat((h_content, h_query))\n"
        "    rows += attend(norm(rows), norm(h_content), torch.cat((content_mask, query_mask)))\n"
        "    rows += mlp(norm(rows))\n"
        "    return list(rows.chunk(2))",
        "def repaired_layer(h_content, h_query, content_mask, query_mask, attend, norm, mlp):\n"
        "    h_query += attend(norm(h_query), norm(h_content), query_mask)\n"
        "    h_content += attend(norm(h_content), norm(h_content), content_mask)\n"
        "    return h_content + mlp(norm(h_content)), h_query + mlp(norm(h_query))",
    ],
    # the mean divergence from q, in a tensor
    "shared_row": [
        "def shared_row(p):\n"
        "    q = sum(p) / len(p)\n"
        "    return [q, F.kl_div(q.clamp_min(1e-99).log().expand_as(p), p, reduction='batchmean')]",
    ],
}
