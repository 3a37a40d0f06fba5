"""Wrong answers to the exercises of notebook 00, and what the check must say about them."""

MISTAKES = {
    "perplexity": [
        ("def perplexity(nats, tokens): return math.exp(nats / tokens)", "mind the sign"),
        ("def perplexity(nats, tokens): return math.exp(-nats)", "divide by the number of tokens"),
        ("def perplexity(nats, tokens): return -nats / tokens", "the mean in nats"),
        ("def perplexity(nats, tokens): return 2 ** (-nats / tokens)", "not bits"),
        (
            "def perplexity(nats, tokens): return math.exp(-nats) ** (1 / tokens)",
            "divide by the number of tokens first",
        ),
        ("def perplexity(nats, tokens): return math.exp(-nats / (tokens + 1))", "over 1 tokens it is 8.0000"),
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
        ("def ends_first(length): return torch.tensor([0, *range(length - 1, 0, -1)])", "its ids grow"),
        ("def ends_first(length): return torch.tensor([0, *range(2, length), 1], dtype=torch.int32)", "torch.int32"),
        (
            "def ends_first(length): return torch.tensor([0, 2, *range(3, length), 1])",
            "return a tensor of shape (2,)",
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
        (
            "def only_from(length, target, given):\n"
            "    group_ids = torch.full((length,), -1)\n"
            "    group_ids[[0, *given]], group_ids[target] = 0, 1\n"
            "    return group_ids",
            "with target 4 and given [5, 2], positions [0] are left out",
        ),
        (
            "def only_from(length, target, given):\n"
            "    group_ids = groups.left_to_right(length) + 1\n"
            "    group_ids[given], group_ids[target] = 0, 1\n"
            "    return group_ids",
            "neither given nor predicted",
        ),
    ],
    "write_group": [
        (
            "def write_group(model, tokens, group_ids, k):\n"
            "    likeliest = model(tokens, group_ids).logits.argmax(-1).roll(1, -1)\n"
            "    return torch.where(group_ids == k, likeliest, tokens)",
            "from the row before it",
        ),
        (
            "def write_group(model, tokens, group_ids, k):\n"
            "    likeliest = model(tokens, group_ids).logits.argmax(-1)\n"
            "    return torch.where(group_ids >= k, likeliest, tokens)",
            "are not in the group",
        ),
        (
            "def write_group(model, tokens, group_ids, k):\n"
            "    likeliest = model(tokens, group_ids).logits.argmax(-1)\n"
            "    tokens[group_ids == k] = likeliest[group_ids == k]\n"
            "    return tokens",
            "return new ones",
        ),
        (
            "def write_group(model, tokens, group_ids, k): return model(tokens, group_ids).logits.argmax(-1)",
            "not in the",
        ),
        ("def write_group(model, tokens, group_ids, k): return tokens.clone()", "as it was"),
        (
            "def write_group(model, tokens, group_ids, k):\n"
            "    logits = model(tokens, group_ids).logits\n"
            "    return torch.where(group_ids == k, logits.argmin(-1), tokens)",
            "least likely",
        ),
        (
            "def write_group(model, tokens, group_ids, k):\n"  # the order is left to right, whatever was asked for
            "    logits = model(tokens, groups.left_to_right(tokens.shape[1])[None]).logits\n"
            "    return torch.where(group_ids == k, logits.argmax(-1), tokens)",
            "the likeliest tokens are",
        ),
        (
            "def write_group(model, tokens, group_ids, k):\n"
            "    likeliest = model(tokens, group_ids).logits.argmax(-1)\n"
            "    return torch.where(group_ids == k, likeliest, tokens)[0]",
            "of shape (1, 9)",
        ),
        (
            "def write_group(model, tokens, group_ids, k):\n"
            "    likeliest = model(tokens, group_ids).logits.softmax(-1).amax(-1)\n"
            "    return torch.where(group_ids == k, likeliest, tokens)",
            "not torch.float32",
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
        (
            "def better_order(score, length):\n"
            "    best = groups.left_to_right(length)\n"
            "    highest = score(best)\n"
            "    for a, b in itertools.combinations(range(length), 2):\n"
            "        other = best.clone()\n"
            "        other[a], other[b] = best[b], best[a]\n"
            "        if score(other) > highest:\n"
            "            best, highest = other, score(other)\n"
            "    return best\n"
            "import itertools",
            "position 0 is given",
        ),
        ("def better_order(score, length): return groups.left_to_right(length).float()", "not torch.float32"),
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    "perplexity": ["def perplexity(nats, tokens): return (torch.tensor(nats) / tokens).exp().reciprocal()"],
    "ends_first": [
        "def ends_first(length): return torch.tensor([0, *range(10, 10 * length - 10, 10), 5])",
        "def ends_first(length): return groups.from_sets(length, [length - 1], *([i] for i in range(1, length - 1)), "
        "given=[0])",
    ],
    "only_from": [
        "def only_from(length, target, given):\n"
        "    return torch.tensor([7 if i == target else 0 if i in given else -1 for i in range(length)])"
    ],
    # later groups are blanked first: they are not seen, so this changes nothing
    "write_group": [
        "def write_group(model, tokens, group_ids, k):\n"
        "    filled = tokens.clone()\n"
        "    seen = tokens.masked_fill(group_ids >= k, 0)\n"
        "    for at in (group_ids[0] == k).nonzero()[:, 0].tolist():\n"
        "        filled[0, at] = model(seen, group_ids).logits[0, at].softmax(-1).topk(1).indices.item()\n"
        "    return filled",
    ],
    # each token is put where it scores best among those that are placed; the ids have gaps
    "better_order": [
        "def better_order(score, length):\n"
        "    order = list(range(1, length))\n"
        "    def ids(order):\n"
        "        found = torch.zeros(length, dtype=torch.int64)\n"
        "        found[order] = 10 * torch.arange(1, length)\n"
        "        return found\n"
        "    for token in range(1, length):\n"
        "        rest = [other for other in order if other != token]\n"
        "        orders = [rest[:at] + [token] + rest[at:] for at in range(length - 1)]\n"
        "        order = max(orders, key=lambda order: score(ids(order)))\n"
        "    return ids(order)",
    ],
}
