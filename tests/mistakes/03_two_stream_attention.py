"""Known wrong answers to the exercises of notebook 03: code that defines the name, and what the check must say."""

ROWS = """\
def rows_needed(group_ids):
    content = {content}
    query = {query}
    return int(content.sum()), int(query.sum())
"""
CONTENT, QUERY = "(group_ids >= 0) & (group_ids < group_ids.max())", "group_ids > 0"

REPAIRED = """\
def repaired_layer(h_content, h_query, content_mask, query_mask, attend, norm, mlp):
    a_content = h_content + attend(norm(h_content), norm(h_content), content_mask)
    a_query = h_query + attend(norm(h_query), norm({context}), {mask})
    return {content} + mlp(norm(a_content)), {query} + mlp(norm(a_query))
"""

PACKED = """\
def packed_layer(block, h_content, h_query, group_ids):
    content = ({content}).nonzero().flatten()
    query = (group_ids > 0).nonzero().flatten()
    content_mask, query_mask = masks.content_mask(group_ids), masks.query_mask(group_ids)
    mask = torch.cat((content_mask[content], {query_mask}[query]))[:, content]
    rows = torch.cat((h_content[content], h_query[query]))
    out = block(rows, {positions}, h_content[content], content, mask)
    return {result}
"""
PLACES = "torch.cat((content, query))"
SPLIT = "out[: len(content)], out[len(content) :]"

TOLD = """\
def told_next(embedded, own, following, group_ids):
    order = group_ids.argsort()
    start = embedded + own
    start[{rows}] += {told}
    return start
"""

MISTAKES = {
    "rows_needed": [
        (ROWS.format(content="group_ids >= 0", query=QUERY), "leave it out"),
        (ROWS.format(content="group_ids < group_ids.max()", query=QUERY), "Padding is never seen"),
        (ROWS.format(content="(group_ids > 0) & (group_ids < group_ids.max())", query=QUERY), "it should be"),
        (ROWS.format(content=CONTENT, query="group_ids >= 0"), "Given tokens are not predicted"),
        (ROWS.format(content=CONTENT, query="group_ids > 1"), "one for each predicted token"),
        (ROWS.format(content=QUERY, query=CONTENT), "in the wrong order"),
        ("def rows_needed(group_ids):\n    return len(group_ids)", "return two numbers"),
        (ROWS.format(content="(group_ids >= 0) & (group_ids < len(group_ids.unique()) - 1)", query=QUERY), "[0, 3, 1"),
        (ROWS.format(content="group_ids != group_ids.max()", query=QUERY), "Padding is never seen"),
        (ROWS.format(content=CONTENT, query=QUERY).replace("int(content.sum())", "content.double().sum()"), "integers"),
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
    "packed_layer": [
        (
            PACKED.format(content="group_ids >= 0", query_mask="query_mask", positions=PLACES, result=SPLIT),
            "Which content does anything look at?",
        ),
        (
            PACKED.format(content=CONTENT, query_mask="query_mask", positions="torch.arange(len(rows))", result=SPLIT),
            "keeps its position",
        ),
        (
            PACKED.format(content=CONTENT, query_mask="content_mask", positions=PLACES, result=SPLIT),
            "the query rows differ",
        ),
        (
            PACKED.format(content=CONTENT, query_mask="query_mask", positions="content", result=SPLIT),
            "give one for each",
        ),
        (
            PACKED.format(
                content=CONTENT,
                query_mask="query_mask",
                positions=PLACES,
                result="out[len(query) :], out[: len(query)]",
            ),
            "rows",
        ),
        (
            "def packed_layer(block, h_content, h_query, group_ids):\n"
            "    everywhere = torch.arange(len(group_ids))\n"
            "    mask = torch.cat((masks.content_mask(group_ids), masks.query_mask(group_ids)))\n"
            "    rows = torch.cat((h_content, h_query))\n"
            "    out = block(rows, torch.cat((everywhere, everywhere)), h_content, everywhere, mask)\n"
            "    return out[: len(group_ids)], out[len(group_ids) :]",
            "Which content does anything look at?",
        ),
        (
            "def packed_layer(block, h_content, h_query, group_ids):\n"
            "    at = torch.arange(len(group_ids))\n"
            "    content = block(h_content, at, h_content, at, masks.content_mask(group_ids))\n"
            "    query = block(h_query, at, h_content, at, masks.query_mask(group_ids))\n"
            "    return content, query",
            "is called 2 times",
        ),
        (
            PACKED.format(content=CONTENT, query_mask="query_mask", positions=PLACES, result=SPLIT).replace(
                "h_content[content], content, mask", "rows, torch.cat((content, query)), mask"
            ),
            "Nobody looks at query rows",
        ),
        (
            PACKED.format(content=CONTENT, query_mask="query_mask", positions=PLACES, result=SPLIT).replace(
                "(group_ids > 0).nonzero().flatten()", "group_ids.argsort()[(group_ids <= 0).sum() :]"
            ),
            "the query rows are right, but not in the order of the text",
        ),
        (
            PACKED.format(
                content=CONTENT,
                query_mask="query_mask",
                positions=PLACES,
                result="out[len(content) :], out[: len(content)]",
            ),
            "the content rows first",
        ),
        (
            PACKED.format(
                content="(group_ids >= 0) & (group_ids < len(group_ids.unique()) - 1)",
                query_mask="query_mask",
                positions=PLACES,
                result=SPLIT,
            ),
            "Which content does anything look at?",
        ),
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
}

# Right answers that are not the solution's.
UNUSUAL = {
    "rows_needed": [
        "def rows_needed(group_ids):\n"
        "    return [(group_ids[group_ids >= 0] != group_ids.max()).sum(), group_ids.clamp_min(0).count_nonzero()]",
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
    # in the order of the groups, queries first, and put back
    "packed_layer": [
        "def packed_layer(block, h_content, h_query, group_ids):\n"
        "    order = group_ids.argsort()\n"
        "    query = order[group_ids[order] > 0]\n"
        "    content = order[(group_ids[order] >= 0) & (group_ids[order] < group_ids.max())]\n"
        "    seen = group_ids[content]\n"
        "    mask = torch.cat((seen < group_ids[query, None], seen <= group_ids[content, None]))\n"
        "    rows, places = torch.cat((h_query[query], h_content[content])), torch.cat((query, content))\n"
        "    out = block(rows, places, h_content[content], content, mask)\n"
        "    return [out[len(query) :][content.argsort()], out[: len(query)][query.argsort()]]",
    ],
    "told_next": [
        "def told_next(embedded, own, following, group_ids):\n"
        "    ids, told = group_ids.tolist(), torch.zeros_like(embedded)\n"
        "    for i, group in enumerate(ids):\n"
        "        later = [(other, j) for j, other in enumerate(ids) if other > group]\n"
        "        told[i] = following[min(later)[1]] if later else 0\n"
        "    return told + own + embedded",
    ],
}
