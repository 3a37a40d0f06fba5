"""Wrong answers to the exercises of notebook 00, and what the check must say about them."""

MISTAKES = {
    "perplexity": [
        ("def perplexity(nats, tokens): return math.exp(nats / tokens)", "mind the sign"),
        ("def perplexity(nats, tokens): return math.exp(-nats)", "divide by the number of tokens"),
        ("def perplexity(nats, tokens): return -nats / tokens", "the mean in nats"),
        ("def perplexity(nats, tokens): return 2 ** (-nats / tokens)", "not bits"),
    ],
    "ends_first": [
        ("def ends_first(length): return groups.left_to_right(length)", "the last position is predicted first"),
        ("def ends_first(length): return groups.left_to_right(length, given=0)", "position 0 is given"),
        ("def ends_first(length): return torch.arange(0, -length, -1)", "at least 1"),
        (
            "def ends_first(length): return torch.tensor([0] + [2] * (length - 2) + [1]) if length > 3 "
            "else torch.tensor([0, 2, 1])",
            "in parallel",
        ),
    ],
    "only_from": [
        (
            "def only_from(length, target, given):\n"
            "    group_ids = torch.zeros(length, dtype=torch.int64)\n"
            "    group_ids[target] = 1\n"
            "    return group_ids",
            "-1, not 0",
        ),
        (
            "def only_from(length, target, given):\n"
            "    group_ids = torch.full((length,), -1)\n"
            "    group_ids[target] = 1\n"
            "    return group_ids",
            "are given",
        ),
        (
            "def only_from(length, target, given):\n"
            "    group_ids = torch.full((length,), -1.0)\n"
            "    group_ids[given], group_ids[target] = 0, 1\n"
            "    return group_ids",
            "are integers",
        ),
    ],
    "better_order": [
        ("def better_order(score, length): return groups.left_to_right(length)", "never better than left to right"),
        ("def better_order(score, length): return groups.left_to_right(length).flip(0)", "position 0 is given"),
        (
            "def better_order(score, length):\n"
            "    ids = groups.left_to_right(length)\n"
            "    return torch.cat((ids[:1], ids[1:].flip(0)))",
            "keep the best",
        ),
        ("def better_order(score, length): return groups.blocks(length, 2)", "stands alone"),
        (
            "def better_order(score, length):\n"
            "    orders = (torch.tensor([0, *rest]) for rest in itertools.permutations(range(1, length)))\n"
            "    return max(orders, key=score)\n"
            "import itertools",
            "more than 100 times",
        ),
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    "perplexity": [],
    "ends_first": [],
    "only_from": [],
    "better_order": [],
}
