"""Known wrong answers to the exercises of notebook 01: code that defines the name, and what the check must say."""

TABLE_ENTROPY = """\
    def H(positions):
        others = [t for t in range(p.dim()) if t not in positions]
        return torch.special.entr(p.sum(others) if others else p).sum().item()
"""

TOTAL_CORRELATION = (
    "def parallel_kl(p):\n"
    + TABLE_ENTROPY
    + "    return sum(H([t]) for t in range(p.dim())) - H(list(range(p.dim())))\n"
)

BEST = (
    "def best_two_groups(p):\n"
    + TABLE_ENTROPY
    + """\
    def loss(ids):
        first = [t for t, g in enumerate(ids) if g == 1]
        second = [t for t, g in enumerate(ids) if g == 2]
        return sum(H([t]) for t in first) + sum(H([t, *first]) - H(first) for t in second)
    candidates = [ids for ids in itertools.product((1, 2), repeat=p.dim()) if len(set(ids)) == 2]
    return torch.tensor(min(candidates, key=loss))
"""
)


def changed(code: str, old: str, new: str) -> str:
    """The right answer with one thing wrong."""
    assert code.count(old) == 1, old
    return code.replace(old, new)


MISTAKES = {
    "count_groupings": [
        ("def count_groupings(length):\n    return math.factorial(length)", "the orders of single words"),
        (
            "def count_groupings(length):\n"
            "    rest = range(length)\n"
            "    return sum(math.comb(length - 1, k) * count_groupings(k) for k in rest) if length else 1",
            "sets without their order",
        ),
        (
            "def count_groupings(length):\n    return 2 ** (length - 1) if length else 1",
            "neighbours from left to right",
        ),
        ("def count_groupings(length):\n    return 2**length - 1 if length else 1", "you count 7"),
        (
            "def count_groupings(length):\n"
            "    sizes = range(1, length + 1)\n"
            "    return sum(math.comb(length, s) * count_groupings(length - s) for s in sizes) if length else 0",
            "Look at the empty text",
        ),
        (
            "def count_groupings(length):\n"
            "    sizes = range(1, length + 1)\n"
            "    if length <= 1:\n"
            "        return length\n"
            "    return sum(math.comb(length, s) * max(count_groupings(length - s), 1) for s in sizes)",
            "the empty text has one grouping",
        ),
        (
            "def count_groupings(length):\n    return length**length",
            "for 2 positions there are 3 groupings",
        ),
        (
            "def count_groupings(length):\n"
            "    sizes = range(1, length + 1)\n"
            "    return sum(math.comb(length, s) * count_groupings(length - s) for s in sizes) / 1 if length else 1",
            "return an int",
        ),
        (
            "def count_groupings(length):\n"
            "    sizes = range(0, length + 1)\n"
            "    return sum(math.comb(length, s) * count_groupings(length - s) for s in sizes) if length else 1",
            "RecursionError",
        ),
        (
            "def count_groupings(length):\n"
            "    return round(math.factorial(length) / (2 * math.log(2) ** (length + 1)))",
            "for 16 positions there are",
        ),
        (
            "def count_groupings(length):\n"
            "    return sum(math.perm(length, k) for k in range(1, length + 1)) if length else 1",
            "for 2 positions there are 3 groupings; you count 4",
        ),
    ],
    "parallel_kl": [
        (
            changed(TOTAL_CORRELATION, "    return sum(", "    return -sum(").replace(" - H(list", " + H(list"),
            "the sign",
        ),
        (
            changed(TOTAL_CORRELATION, "    return sum(", "    return 1 / math.log(2) * (sum(") + "    )",
            "these are bits",
        ),
        (
            "def parallel_kl(p):\n"
            "    q = 1\n"
            "    for t in range(p.dim()):\n"
            "        others = [i for i in range(p.dim()) if i != t]\n"
            "        q = q * (p.sum(others, keepdim=True) if others else p)\n"
            "    return (p * (p / q).log()).sum().item()",
            "with p = 0 counts 0",
        ),
        (
            "def parallel_kl(p):\n"
            "    q = 1\n"
            "    for t in range(p.dim()):\n"
            "        others = [i for i in range(p.dim()) if i != t]\n"
            "        q = q * (p.sum(others, keepdim=True) if others else p)\n"
            "    return (q * (q / p).log()).sum().item()",
            "this is KL(q‖p)",
        ),
        (
            "def parallel_kl(p):\n"
            "    q = 1\n"
            "    for t in range(p.dim()):\n"
            "        others = [i for i in range(p.dim()) if i != t]\n"
            "        q = q * (p.sum(others, keepdim=True) if others else p)\n"
            "    return (p - q).abs().sum().item() / 2",
            "the total variation",
        ),
        ("def parallel_kl(p):\n    return torch.special.entr(p).sum()", "the entropy of the table alone"),
        (
            "def parallel_kl(p):\n"
            + TABLE_ENTROPY
            + "    pairs = itertools.combinations(range(p.dim()), 2)\n"
            + "    return sum(H([i]) + H([j]) - H([i, j]) for i, j in pairs)",
            "random table of shape (3, 2, 4)",
        ),
        ("def parallel_kl(p):\n    return p.log()", "return one number"),
        (
            "def parallel_kl(p):\n"
            "    alone = [p.sum([i for i in range(p.dim()) if i != t]) for t in range(p.dim())]\n"
            "    return sum(torch.special.entr(a).sum().item() for a in alone) - torch.special.entr(p).sum().item()",
            "sums over every axis",
        ),
        (
            changed(
                TOTAL_CORRELATION,
                "H([t])",
                "-(a := p.sum([i for i in range(p.dim()) if i != t]) if p.dim() > 1 else p).mul(a.log()).sum().item()",
            ),
            "a word that never occurs",
        ),
        (
            "def parallel_kl(p):\n    p = p.clamp_min(1e-4)\n" + TOTAL_CORRELATION.split("\n", 1)[1],
            "for two words that are always equal",
        ),
    ],
    "best_two_groups": [
        (changed(BEST, "min(candidates", "max(candidates"), "the worst of all"),
        (
            changed(BEST, "if len(set(ids)) == 2]", "if len(set(ids)) == 2 and list(ids) == sorted(ids)]"),
            "not only neighbours",
        ),
        (
            changed(BEST, "sum(H([t, *first]) - H(first) for t in second)", "sum(H([t]) for t in second) - H(second)"),
            "is the loss right",
        ),
        (
            changed(
                BEST,
                "sum(H([t]) for t in first) + sum(H([t, *first]) - H(first) for t in second)",
                "sum(H([t]) for t in (*first, *second)) - H(first) - H(second)",
            ),
            "did not see group 1",
        ),
        (changed(BEST, " if len(set(ids)) == 2]", " if len(set(ids)) == 1]"), "both of them"),
        (changed(BEST, "repeat=p.dim()) if", "repeat=p.dim()) if ids[0] == 1 and"), "in both orders"),
        (changed(BEST, "torch.tensor(min(candidates, key=loss))", "min(candidates, key=loss)"), "return a tensor"),
        (changed(BEST, "torch.tensor(min(candidates, key=loss))", "torch.tensor(min(candidates, key=loss)) - 1"), "(0"),
        (
            changed(BEST, "torch.tensor(min(candidates, key=loss))", "3 - torch.tensor(min(candidates, key=loss))"),
            "order",
        ),
        (changed(BEST, "key=loss))", "key=loss), dtype=torch.float32)"), "not torch.float32"),
        (changed(BEST, "H([t, *first]) - H(first) for", "H([t, first[0]]) - H(first[:1]) for"), "is the loss right"),
    ],
    "falling_table": [
        ("falling_table = torch.rand(2, 2, 2)", "not to 1"),
        ("falling_table = torch.full((2, 2, 2), 0.125)", "no merge of adjacent groups"),
        ("falling_table = torch.tensor([[[4, 2], [3, 1]], [[4, 1], [3, 2]]]) / 20", "Find a table with 0.05"),
        ("falling_table = torch.full((2, 2), 0.25)", "three or four positions"),
        ("falling_table = torch.full((8, 8, 8), 1 / 512)", "two to four words"),
        ("falling_table = [0.5, 0.5]", "give a tensor"),
        ("falling_table = torch.full((2, 2, 2), math.nan)", "not a number"),
        ("falling_table = torch.tensor([[[9, -2], [3, 0]], [[3, 0], [3, 0]]]) / 16", "below 0"),
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    "count_groupings": [
        "def count_groupings(length):\n"  # onto k groups, for each k: inclusion and exclusion
        "    onto = lambda k: sum((-1) ** (k - j) * math.comb(k, j) * j**length for j in range(k + 1))\n"
        "    return sum(map(onto, range(length + 1)))",
        "def count_groupings(length):\n"  # the number of times that each size comes; slow
        "    def listed(rest):\n"
        "        if not rest:\n"
        "            yield ()\n"
        "        for size in range(1, len(rest) + 1):\n"
        "            for first in itertools.combinations(rest, size):\n"
        "                for others in listed(tuple(i for i in rest if i not in first)):\n"
        "                    yield (first, *others)\n"
        "    return sum(1 for _ in listed(tuple(range(length))))",
    ],
    "parallel_kl": [
        "def parallel_kl(p):\n"
        "    q = torch.ones(()).double()\n"
        "    for t in range(p.dim()):\n"
        "        q = q[..., None] * p.movedim(t, 0).flatten(1).sum(1) if p.dim() > 1 else p\n"
        "    return (p[p > 0] * (p[p > 0] / q[p > 0]).log()).sum()",
        "def parallel_kl(p):\n"  # the chain rule: what each word tells about those before it
        "    p, loss = p.float(), 0.0\n"
        "    for t in range(1, p.dim()):\n"
        "        pair = p.flatten(t + 1).sum(-1) if t + 1 < p.dim() else p\n"
        "        pair = pair.flatten(0, t - 1)\n"
        "        entropies = [torch.special.entr(part).sum() for part in (pair.sum(0), pair.sum(1), pair)]\n"
        "        loss += entropies[0] + entropies[1] - entropies[2]\n"
        "    return float(loss)",
    ],
    "best_two_groups": [
        "def best_two_groups(p):\n"  # KL from the table q itself, and the groups as bits of a number
        "    def marginal(keep):\n"
        "        others = [t for t in range(p.dim()) if t not in keep]\n"
        "        return p.sum(others, keepdim=True) if others else p\n"
        "    found = []\n"
        "    for bits in range(1, 2 ** p.dim() - 1):\n"
        "        ids = 1 + (bits >> torch.arange(p.dim()) & 1)\n"
        "        first, q = (ids == 1).nonzero().flatten().tolist(), 1\n"
        "        for t in range(p.dim()):\n"
        "            q = q * (marginal([t]) if t in first else marginal([t, *first]) / marginal(first))\n"
        "        found.append(((p * (p / q).log()).sum().item(), bits, ids))\n"
        "    return min(found)[2]",
    ],
    "falling_table": [
        "falling_table = torch.tensor([[[3, 2], [3, 0]], [[3, 0], [3, 2]]]) / 16\n"
        "falling_table = falling_table[..., None] * torch.tensor([0.2, 0.5, 0.3])",
    ],
}
