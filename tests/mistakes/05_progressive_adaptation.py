"""Known wrong answers to the exercises of notebook 05: code that defines the name, and what the check must say."""

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
    mixed = Part(rehearsal.kind, rehearsal.sizes, {weight})
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
        (GROWING.format(size=SIZE, ids="torch.arange(length) // size"), "the given token fills no group"),
        (GROWING.format(size=SIZE, ids="torch.arange(length) // size + 1"), "token 0 is given"),
        (GROWING.format(size=SIZE, ids="(torch.arange(length) + size - 1) / size"), "Divide with //"),
        (GROWING.format(size=SIZE, ids="(torch.arange(length) + size - 1).clamp(max=3 * size) // size"), "yours are"),
        (GROWING.format(size=SIZE, ids="((torch.arange(length) + size - 1) // size).tolist()"), "return a tensor"),
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
        (BACKWARDS.format(until="<", inside="end - position", outside=0), "the ids should be"),
    ],
    "bound_from_sets": [
        (BOUND.format(weight="1", **SIZES), "this is the plain sum over sets"),
        (BOUND.format(weight="1 / m", **SIZES), "divide by their number"),
        (BOUND.format(weight="1 / math.comb(length, m)", **SIZES), "divide by the size of the set as well"),
        (BOUND.format(weight="1 / (length * math.comb(length, m))", **SIZES), "not by the length"),
        (BOUND.format(weight="1 / (m * length * math.comb(length, m))", **SIZES), "Return that of the text"),
        (BOUND.format(weight="1 / (m * math.comb(length, m))", first=1, last="length"), "were never asked for"),
        (BOUND.format(weight="1", first=0, last="length + 1"), "the empty set has no tokens"),
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
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    "growing_groups": [],
    "backwards_span": [],
    "bound_from_sets": [],
    "rehearsed": [],
}
