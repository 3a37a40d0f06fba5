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
    ],
    "best_two_groups": [
        (changed(BEST, "min(candidates", "max(candidates"), "the worst of all"),
        (
            changed(BEST, "if len(set(ids)) == 2]", "if len(set(ids)) == 2 and list(ids) == sorted(ids)]"),
            "not only neighbours",
        ),
        (
            changed(BEST, "sum(H([t, *first]) - H(first) for t in second)", "sum(H([t]) for t in second) - H(second)"),
            "Try every split",
        ),
        (
            changed(
                BEST,
                "sum(H([t]) for t in first) + sum(H([t, *first]) - H(first) for t in second)",
                "sum(H([t]) for t in (*first, *second)) - H(first) - H(second)",
            ),
            "the order is not",
        ),
        (changed(BEST, " if len(set(ids)) == 2]", " if len(set(ids)) == 1]"), "both of them"),
        (changed(BEST, "repeat=p.dim()) if", "repeat=p.dim()) if ids[0] == 1 and"), "in both orders"),
        (changed(BEST, "torch.tensor(min(candidates, key=loss))", "min(candidates, key=loss)"), "return a tensor"),
        (changed(BEST, "torch.tensor(min(candidates, key=loss))", "torch.tensor(min(candidates, key=loss)) - 1"), "(0"),
    ],
    "falling_table": [
        ("falling_table = torch.rand(2, 2, 2)", "not to 1"),
        ("falling_table = torch.full((2, 2, 2), 0.125)", "no merge of adjacent groups"),
        ("falling_table = torch.tensor([[[4, 2], [3, 1]], [[4, 1], [3, 2]]]) / 20", "Find a table with 0.05"),
        ("falling_table = torch.full((2, 2), 0.25)", "three or four positions"),
        ("falling_table = torch.full((8, 8, 8), 1 / 512)", "two to four words"),
        ("falling_table = [0.5, 0.5]", "give a tensor"),
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    "count_groupings": [],
    "parallel_kl": [],
    "best_two_groups": [],
    "falling_table": [],
}
