"""Known wrong answers to the exercises of notebook 06: code that defines the name, and what the check must say."""

GROWING = """\
def growing_groups(length, progress, sizes):
    size = {size}
    return {ids}
"""
SIZE, IDS = "sizes[int(progress * len(sizes))]", "(torch.arange(length) + size - 1) // size"

BACKWARDS = """\
def backwards_span(length, start, end, size):
    position = torch.arange(length)
    blank = (position >= start) & (position {until} end)
    return torch.where(blank, {inside}, {outside})
"""
INSIDE = "(end - 1 - position) // size + 1"

BOUND = """\
def bound_from_sets(cost, length):
    return sum(
        cost(masked) * {weight}
        for m in range({first}, {last})
        for masked in itertools.combinations(range(length), m)
    )
"""
SIZES = {"first": 1, "last": "length + 1"}

REHEARSED = """\
def rehearsed(stage, rehearsal, share):
    total = sum(part.weight for part in stage.parts)
    mixed = Part(rehearsal.kind, rehearsal.sizes, {weight}, rehearsal.grow)
    return {result}
"""
WEIGHT, MIXED = "total * share / (1 - share)", "Stage(stage.name, stage.share, (*stage.parts, mixed))"

MISTAKES = {
    "growing_groups": [
        (GROWING.format(size="sizes[-1 - int(progress * len(sizes))]", ids=IDS), "at this progress they should have"),
        (GROWING.format(size="sizes[0]", ids=IDS), "at this progress they should have"),
        (
            GROWING.format(size="sizes[round(progress * (len(sizes) - 1))]", ids=IDS),
            "at this progress they should have",
        ),
        (GROWING.format(size=SIZE, ids="torch.arange(length) // size"), "token 0 fills no group"),
        (GROWING.format(size=SIZE, ids="torch.arange(length) // size + 1"), "token 0 is given"),
        (GROWING.format(size=SIZE, ids="(torch.arange(length) + size - 1) / size"), "Divide with //"),
        (GROWING.format(size=SIZE, ids="(torch.arange(length) + size - 1).clamp(max=3 * size) // size"), "yours are"),
        (GROWING.format(size=SIZE, ids="((torch.arange(length) + size - 1) // size).tolist()"), "return a tensor"),
        (GROWING.format(size=SIZE.replace("sizes[", "sorted(sizes)["), ids=IDS), "at this progress they should have"),
        (
            GROWING.format(size="sizes[max(0, math.ceil(progress * len(sizes)) - 1)]", ids=IDS),
            "at this progress they should have",
        ),
        (
            GROWING.format(size="sorted({*sizes})[int(progress * len({*sizes}))]", ids=IDS),
            "at this progress they should have",
        ),
        (GROWING.format(size=SIZE, ids=f"({IDS}).int()"), "int64 here, not torch.int32"),
        (
            GROWING.format(size=SIZE, ids="groups.blocks(length, size)").replace(
                "    return", "    from a3mini import groups\n\n    return"
            ),
            "without `groups`",
        ),
        (
            GROWING.format(
                size=SIZE, ids='Grouping("blocks", size).draw(length, torch.zeros(length) > 0, torch.rand(length + 4))'
            ),
            "without `groups`, `Grouping`",
        ),
        (GROWING.format(size=SIZE, ids=f"(({IDS}) * -1).abs().flip(0)"), "token 0 is given"),
    ],
    "backwards_span": [
        (
            BACKWARDS.format(until="<", inside="(position - start) // size + 1", outside=0),
            "this goes from left to right",
        ),
        (BACKWARDS.format(until="<=", inside="(end - position) // size + 1", outside=0), "the blank ends before it"),
        (BACKWARDS.format(until="<", inside=INSIDE, outside=-1), "not padding (-1)"),
        (BACKWARDS.format(until="<", inside="(end - 1 - position) // size", outside=0), "its id is 1 or more"),
        (
            BACKWARDS.format(
                until="<", inside="(end - start + size - 1) // size - (position - start) // size", outside=0
            ),
            "the smaller group is the first one",
        ),
        (BACKWARDS.format(until="<", inside="end - position", outside=0), "the ids should be ordered like"),
        (
            BACKWARDS.format(until="<", inside="(end - 1 - position) // size + (end < length)", outside=0),
            "its id is 1 or more",
        ),
        (
            BACKWARDS.format(until="<", inside="((end - 1 - position) // size + 1).clamp(max=start)", outside=0),
            "the ids should be ordered like",
        ),
        (BACKWARDS.format(until="<", inside=INSIDE, outside=0).replace("return ", "return 1.0 * "), "Divide with //"),
        (
            BACKWARDS.format(until="<", inside=INSIDE, outside=0).replace("torch.where", "0 < torch.where"),
            "True and False",
        ),
    ],
    "bound_from_sets": [
        (BOUND.format(weight="1", **SIZES), "this is the plain sum over sets"),
        (BOUND.format(weight="1 / m", **SIZES), "divide by their number"),
        (BOUND.format(weight="1 / math.comb(length, m)", **SIZES), "divide by the size of the set as well"),
        (BOUND.format(weight="1 / (length * math.comb(length, m))", **SIZES), "not by the length"),
        (BOUND.format(weight="1 / (m * length * math.comb(length, m))", **SIZES), "Return that of the text"),
        (BOUND.format(weight="1 / (m * math.comb(length, m))", first=1, last="length"), "were never asked for"),
        (
            BOUND.format(weight="1 / (m * math.comb(length, m))", first=0, last="length + 1"),
            "the empty set has no tokens",
        ),
        (BOUND.format(weight="1 / m / math.comb(length, m)", first=2, last="length + 1"), "were never asked for"),
        (BOUND.format(weight="1 / (m * math.perm(length, m))", **SIZES), "yours is"),
        (
            "def bound_from_sets(cost, length):\n"
            "    orders = torch.stack([torch.randperm(length) for _ in range(200)]).tolist()\n"
            "    return sum(cost(order[:m]) / m for order in orders for m in range(1, length + 1)) / len(orders)",
            "yours is",
        ),
        (
            BOUND.format(weight="1", **SIZES).replace("range(length)", "range(1, length + 1)"),
            "positions go from 0 to",
        ),
        (BOUND.format(weight="1 / (m * (2**length - 1))", **SIZES), "this is the mean over all sets"),
        (BOUND.format(weight="2 / (m * math.comb(length, m))", **SIZES), "yours is"),
    ],
    "rehearsed": [
        (REHEARSED.format(weight="share", result=MIXED), "Weights are relative"),
        (REHEARSED.format(weight="rehearsal.weight", result=MIXED), "Its own weight does not count"),
        (REHEARSED.format(weight="total * share", result=MIXED), "draw from the rehearsal; it should be"),
        (REHEARSED.format(weight=WEIGHT, result="stage"), "no example draws from the rehearsal"),
        (REHEARSED.format(weight=WEIGHT, result="Stage('rehearsed', share, (*stage.parts, mixed))"), "name and share"),
        (REHEARSED.format(weight=WEIGHT, result="(*stage.parts, mixed)"), "return a Stage"),
        (
            REHEARSED.format(
                weight=WEIGHT,
                result="Stage(stage.name, stage.share, "
                "(mixed, *(Part(part.kind, part.sizes, total / len(stage.parts), part.grow) for part in stage.parts)))",
            ),
            "their proportions",
        ),
        (
            REHEARSED.format(
                weight=WEIGHT,
                result="Stage(stage.name, stage.share, "
                "(mixed, *(Part(part.kind, part.sizes, part.weight) for part in stage.parts)))",
            ),
            "kinds, sizes and growth",
        ),
        (
            REHEARSED.format(weight=WEIGHT, result=MIXED).replace(", rehearsal.grow", ""),
            "the rehearsal keeps all its sizes, and its growth",
        ),
        (
            REHEARSED.format(weight=WEIGHT, result=MIXED).replace("rehearsal.sizes", "rehearsal.sizes[:1]"),
            "the rehearsal keeps all its sizes, and its growth",
        ),
        (
            REHEARSED.format(weight=WEIGHT, result=MIXED).replace("in stage.parts)", "in stage.parts[:1])"),
            "draw from the rehearsal; it should be",
        ),
        (
            REHEARSED.format(
                weight=WEIGHT,
                result="Stage(stage.name, stage.share, (mixed, "
                "*(part for part in stage.parts if part.kind != mixed.kind or not {*part.sizes} & {*mixed.sizes})))",
            ),
            "they should be",
        ),
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    "growing_groups": [
        # ids with gaps, token by token
        """\
def growing_groups(length, progress, sizes):
    ids, size = [0], sizes[math.floor(progress * len(sizes))]
    while len(ids) < length:
        ids += [10 * len(ids)] * size
    return torch.tensor(ids[:length])
""",
        # the stage as a list of moments
        """\
def growing_groups(length, progress, sizes):
    ends = torch.arange(1, len(sizes)) / len(sizes)
    size = sizes[int((ends <= progress).sum())]
    return torch.cat((torch.zeros(1), torch.arange(length).repeat_interleave(size)[: length - 1] + 1)).long()
""",
    ],
    "backwards_span": [
        # ids with gaps: each group is called by the distance of its right end
        """\
def backwards_span(length, start, end, size):
    ids = [0] * length
    for right in range(end, start, -size):
        for place in range(max(start, right - size), right):
            ids[place] = 5 * (end - right) + 2
    return torch.tensor(ids, dtype=torch.int32)
""",
        # the package's spans, in a mirror
        """\
def backwards_span(length, start, end, size):
    from a3mini import groups

    unknown = torch.zeros(length, dtype=torch.bool)
    unknown[length - end : length - start] = True
    return groups.infill(unknown, size).flip(0)
""",
    ],
    "bound_from_sets": [
        # the mean over all orders in which the tokens may be masked
        """\
def bound_from_sets(cost, length):
    orders = list(itertools.permutations(range(length)))
    return sum(cost(order[:m]) / m for order in orders for m in range(1, length + 1)) / len(orders)
""",
        # all rows of bits, the empty set too; a tensor
        """\
def bound_from_sets(cost, length):
    total = torch.zeros((), dtype=torch.float64)
    for bits in itertools.product((0, 1), repeat=length):
        masked = torch.tensor(bits).nonzero().flatten()
        weight = math.factorial(max(len(masked) - 1, 0)) * math.factorial(length - len(masked)) / math.factorial(length)
        total += cost(tuple(masked)) * weight
    return total
""",
    ],
    "rehearsed": [
        # the rehearsal keeps its weight: all others get new ones
        """\
def rehearsed(stage, rehearsal, share):
    scale = rehearsal.weight * (1 - share) / share / sum(part.weight for part in stage.parts)
    parts = [Part(part.kind, part.sizes, part.weight * scale, part.grow) for part in stage.parts]
    return Stage(stage.name, stage.share, [rehearsal, *parts])
""",
        # several parts that are the rehearsal together
        """\
def rehearsed(stage, rehearsal, share):
    from dataclasses import replace

    half = sum(part.weight for part in stage.parts) / (1 / share - 1) / 2
    return replace(stage, parts=(replace(rehearsal, weight=half), *stage.parts, replace(rehearsal, weight=half)))
""",
    ],
}
