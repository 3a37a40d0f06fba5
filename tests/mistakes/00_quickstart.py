"""Wrong answers to the exercises of notebook 00, and what the check must say about them."""

MISTAKES = {
    "perplexity": [
        ("def perplexity(nats, tokens): return math.exp(nats / tokens)", "mind the sign"),
        ("def perplexity(nats, tokens): return math.exp(-nats)", "divide by the number of tokens"),
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
    ],
}
