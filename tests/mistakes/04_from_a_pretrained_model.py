"""Known wrong answers to the exercises of notebook 04: code that defines the name, and what the check must say."""

FIRST = """\
def first_difference(ours, theirs, tolerance):
    for layer, (a, b) in enumerate(zip(ours, theirs)):
        if {off}:
            return layer
"""
RIGHT = "not (a - b).abs().max() <= tolerance * b.abs().max()"

ROWS = """\
def rows_needed(group_ids):
    content = {content}
    query = {query}
    return int(content.sum()), int(query.sum())
"""
CONTENT, QUERY = "(group_ids >= 0) & (group_ids < group_ids.max())", "group_ids > 0"

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

WARM = """\
def warm_start(embedded, w, group_ids):
    before = group_ids.roll(1)
    warm = {warm}
    warm[0] = False
    starts = torch.where(warm[:, None], embedded.roll(1, 0), w)
    return starts, torch.arange(len(group_ids)) - warm.long()
"""
BEFORE = "(before >= 0) & (before < group_ids)"

MISTAKES = {
    "first_difference": [
        (FIRST.format(off="(a - b).abs().max() > tolerance"), "rounding: every layer"),
        (FIRST.format(off="not (a - b).abs().max() <= tolerance"), "rounding: every layer"),
        (FIRST.format(off="(a - b).abs().max() > tolerance * b.abs().max()"), "A comparison with NaN is false"),
        (FIRST.format(off="not torch.allclose(a, b, rtol=0, atol=1e-3 * max(b.abs().max(), 1))"), "Small states count"),
        (FIRST.format(off=RIGHT).replace("return layer", "return layer + 1"), "the answer is 0, yours is 1"),
        (
            FIRST.format(off=RIGHT).replace("return layer", "last = layer") + "    return last\n",
            "raised UnboundLocalError",
        ),
        (
            FIRST.format(off=RIGHT)
            .replace("return layer", "found = layer")
            .replace("    for", "    found = None\n    for")
            + "    return found\n",
            "Return the first",
        ),
        (FIRST.format(off=RIGHT).replace("return layer", "return True"), "return an int or None"),
        (FIRST.format(off="(a - b).mean().abs() > tolerance * b.abs().max()"), "A comparison with NaN"),
        (FIRST.format(off=RIGHT).replace("zip(ours, theirs)", "zip(ours[:-1], theirs)"), "in the last layer alone"),
    ],
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
    "warm_start": [
        (
            WARM.format(warm="(before >= 0) & (before < group_ids)").replace("    warm[0] = False\n", ""),
            "no left neighbour",
        ),
        (WARM.format(warm="before < group_ids"), "position 0 has group -1"),
        (WARM.format(warm="(before >= 0) & (before <= group_ids)"), "should start from w"),
        (WARM.format(warm="before >= 0"), "should start from w"),
        (WARM.format(warm="before == 0"), "is earlier"),
        (WARM.format(warm=BEFORE).replace("embedded.roll(1, 0)", "embedded"), "a leak"),
        (WARM.format(warm=BEFORE).replace("embedded.roll(1, 0)", "embedded.roll(-1, 0)"), "should start from token 0"),
        (WARM.format(warm=BEFORE).replace(" - warm.long()", ""), "its rotary position is 0, not 1"),
        (WARM.format(warm=BEFORE).replace("warm.long()", "1"), "starts from w, so its rotary position is"),
        (WARM.format(warm=BEFORE).replace("return starts,", "return starts[1:],"), "the starts should be"),
        ("def warm_start(embedded, w, group_ids):\n    return embedded.roll(1, 0)", "return a pair"),
        ("def warm_start(embedded, w, group_ids):\n    return embedded, len(group_ids)", "the positions should be"),
        (
            "def warm_start(embedded, w, group_ids):\n"
            "    embedded[0] = w\n"
            "    return embedded, torch.arange(len(group_ids))",
            "an argument has changed",
        ),
    ],
    "warm_order": [
        ("def warm_order(length, size):\n    return groups.blocks(length, size)", "have no known token on their left"),
        (
            "def warm_order(length, size):\n    return groups.shuffled(length, size)",
            "have no known token on their left",
        ),
        ("def warm_order(length, size):\n    return groups.left_to_right(length)", "every group should have 4 tokens"),
        ("def warm_order(length, size):\n    return torch.arange(length - 1) % 3 + 1", "return a tensor of 13 ids"),
        ("def warm_order(length, size):\n    return groups.strided(length, size).float()", "are integers"),
        ("def warm_order(length, size):\n    return groups.strided(length, size) + 1", "position 0 is given"),
        (
            "def warm_order(length, size):\n"
            "    return groups.strided(length, size) * (torch.arange(length) < length - 1)",
            "position 0 is given, and no other",
        ),
        (
            "def warm_order(length, size):\n"
            "    ids = groups.strided(length, size)\n"
            "    return torch.where(ids > 0, ids.max() + 1 - ids, 0)",
            "have no known token on their left",
        ),
        ("def warm_order(length, size):\n    return list(range(length))", "return a tensor"),
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    "first_difference": [
        "def first_difference(ours, theirs, tolerance):\n"
        "    heights = torch.stack([state.abs().max() for state in theirs])\n"
        "    off = torch.stack([(a - b).abs().max() for a, b in zip(ours, theirs)])\n"
        "    wrong = ~(off <= tolerance * heights)\n"
        "    return wrong.int().argmax() if wrong.any() else None",
    ],
    "rows_needed": [
        "def rows_needed(group_ids):\n"
        "    return [(group_ids[group_ids >= 0] != group_ids.max()).sum(), group_ids.clamp_min(0).count_nonzero()]",
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
    "warm_start": [
        "def warm_start(embedded, w, group_ids):\n"
        "    starts, places = [], []\n"
        "    for i in range(len(group_ids)):\n"
        "        warm = i > 0 and masks.query_mask(group_ids)[i, i - 1]\n"
        "        starts.append(embedded[i - 1] if warm else w)\n"
        "        places.append(i - int(warm))\n"
        "    return [torch.stack(starts), torch.tensor(places)]",
    ],
    # streams of other lengths: from each position on, the next one that has not gone so far begins anew
    "warm_order": [
        "def warm_order(length, size):\n"
        "    ids, steps = torch.zeros(length, dtype=torch.int64), (length - 1) // size\n"
        "    ids[1:] = torch.arange(length - 1) % steps + 1\n"
        "    return 10 * ids",
    ],
}
