"""Known wrong answers to the exercises of notebook 02: code that defines the name, and what the check must say."""

LEAK = """\
def leak_depth(content, query, group_ids):
    row, column = group_ids[:, None], group_ids[None, :]
    forbidden, reached = {forbidden}, query.float()
    look = (content | torch.eye(len(group_ids), dtype=torch.bool)).float()
    for layers in range({first}, len(group_ids) + 2):
        if (forbidden & (reached > 0)).any():
            return layers
        reached = ((reached @ look) > 0).float()
"""

FORBIDDEN = "(row > 0) & ((column >= row) | (column < 0))"

ENDS = """\
def outside_in(unknown):
    ids, blanks, start = [0] * len(unknown), [], None
    for i, open in enumerate(unknown.tolist()):
        if open and start is None:
            start = i
        if not open and start is not None:
            blanks.append((start, i - start))
            start = None
    for start, size in blanks:
        for n in range(size):
            ids[start + n] = {id}
    return torch.tensor(ids)
"""
BOTH = "min(n + 1, size - n) + (2 * n == size)"

MISTAKES = {
    "my_query_mask": [
        (
            "def my_query_mask(group_ids):\n"
            "    row, column = group_ids[:, None], group_ids[None, :]\n"
            "    return (column <= row) & (column >= 0)",
            "this is the content mask",
        ),
        (
            "def my_query_mask(group_ids):\n    return group_ids[None, :] < group_ids[:, None]",
            "a query sees padding",
        ),
        (
            "def my_query_mask(group_ids):\n"
            "    row, column = group_ids[None, :], group_ids[:, None]\n"
            "    return (column < row) & (column >= 0)",
            "this is the transpose",
        ),
        (
            "def my_query_mask(group_ids):\n"
            "    row, column = group_ids[:, None], group_ids[None, :]\n"
            "    return ((column < row) & (column >= 0)).float()",
            "should be boolean",
        ),
        (
            "def my_query_mask(group_ids):\n    return torch.ones(len(group_ids), len(group_ids)).tril(-1).bool()",
            "differs from the rule",
        ),
        ("def my_query_mask(group_ids):\n    return [[False]]", "return a tensor"),
        ("def my_query_mask(group_ids):\n    return group_ids >= 0", "the shape should be"),
        (
            "def my_query_mask(group_ids):\n    return torch.ones(len(group_ids), len(group_ids)).bool()",
            "a query sees its own token",
        ),
        (
            "def my_query_mask(group_ids):\n"
            "    row, column = group_ids[:, None], group_ids[None, :]\n"
            "    return (column == row - 1) | ((column == 0) & (row > 0))",
            "differs from the rule",
        ),
        (
            "def my_query_mask(group_ids):\n"
            "    row, column = group_ids[:, None], group_ids[None, :]\n"
            "    return (column < row) & (group_ids >= 0).cummin(0).values.bool()",
            "for group_ids [-1, 7, 0, 30, 7, -1]",
        ),
    ],
    "seven_tokens": [
        ("seven_tokens = [0, 1, 2, 3, 4, 5, 6]", "token 5 does not see token 6"),
        ("seven_tokens = [0, 1, 3, 1, 1, 2, 1]", "token 5 sees token 3"),
        ("seven_tokens = [0, 3, 3, 3, 1, 2, 1]", "token 2 does not see [1, 3]"),
        ("seven_tokens = [0, 1, 3, 2, 1, 2, 1]", "not predicted in parallel"),
        ("seven_tokens = [0, 3, 4, 3, 1, 2, 1]", "with 4 groups"),
        ("seven_tokens = [0, 2, 3, 2, 0, 1, 0]", "it alone"),
        ("seven_tokens = [0, 2, 3, 2, -1, 1, -1]", "no token is padding"),
        ("seven_tokens = [0, 1, 2]", "give 7 numbers"),
        ("seven_tokens = [0.0, 2.0, 3.0, 2.0, 1.0, 2.0, 1.0]", "are integers"),
        ("seven_tokens = [0, 2, 3, 2, 1, 1, 1]", "token 5 does not see token 4"),
        ("seven_tokens = [0, 2, 3, 2, -2, 1, -2]", "no token is padding"),
    ],
    "leak_depth": [
        (
            "def leak_depth(content, query, group_ids):\n"
            "    forbidden = (group_ids[:, None] > 0) & (group_ids[None, :] >= group_ids[:, None])\n"
            "    return 1 if (query & forbidden).any() else None",
            "Look through more layers",
        ),
        (LEAK.format(forbidden="(row > 0) & (column >= row)", first=1), "Is padding a leak"),
        (LEAK.format(forbidden="(row > 0) & ((column >= row) | (column < 0))", first=0), "count from 1"),
        (LEAK.format(forbidden="(column >= row) | (column < 0)", first=1), "A leak is a row of group 1 or more"),
        ("def leak_depth(content, query, group_ids):\n    return (0, 1)", "return an int or None"),
        ("def leak_depth(content, query, group_ids):\n    return 7", "the answer is None, yours is 7"),
        (
            LEAK.format(forbidden=FORBIDDEN, first=1).replace("len(group_ids) + 2", "len(group_ids)"),
            "a path through every token",
        ),
        (LEAK.format(forbidden="(row > 0) & ((column > row) | (column < 0))", first=1), "Which cells are forbidden"),
        (
            LEAK.format(forbidden=FORBIDDEN, first=1).replace("query.float()", "query").replace(".float()", ""),
            "your code raised NotImplementedError: ",
        ),
        (LEAK.format(forbidden=FORBIDDEN, first=1).replace("reached @ look", "reached + look"), "yours is 2"),
        (
            LEAK.format(forbidden=FORBIDDEN, first=1).replace(
                "(reached > 0)).any", "(reached > 0)).any(1)[row[:, 0] > 0].all"
            ),
            "a path through many layers",
        ),
    ],
    "outside_in": [
        (
            "def outside_in(unknown):\n    return torch.where(unknown, unknown.long().cumsum(0), 0)",
            "2 are enough",
        ),
        (
            "def outside_in(unknown):\n"
            "    known = (~unknown).nonzero().flatten()\n"
            "    return (torch.arange(len(unknown))[:, None] - known).abs().amin(-1)",
            "are predicted in parallel",
        ),
        ("def outside_in(unknown):\n    return unknown.long()", "are predicted in parallel"),
        ("def outside_in(unknown):\n    return unknown.long() - 1", "so their id is 0"),
        ("def outside_in(unknown):\n    return unknown.long() * 0", "unknown tokens are predicted"),
        (
            "def outside_in(unknown):\n"
            "    position = unknown.long().cumsum(0)\n"
            "    return torch.where(unknown, 2 - position % 2, 0)",
            "before either of its neighbours",
        ),
        ("def outside_in(unknown):\n    return [0, 1, 0]", "return a tensor"),
        ("def outside_in(unknown):\n    return unknown[1:].long()", "the shape should be"),
        (
            ENDS.format(id=f"n + 1 if 2 * size <= max(b[1] for b in blanks) else {BOTH}"),
            "the blank from 5 to 7 is not filled from both its ends",
        ),
        (
            ENDS.format(id=f"max(b[1] for b in blanks) // 2 - size // 2 + {BOTH}"),
            "its tokens are [2], they should be [1]",
        ),
        (ENDS.format(id=f"start * len(unknown) + {BOTH}"), "2 are enough"),
        (ENDS.format(id=BOTH).replace("torch.tensor(ids)", "torch.tensor(ids, dtype=torch.int32)"), "torch.int32"),
    ],
    "deep_leak": [
        ("deep_leak = (torch.ones(6, 6).bool(), torch.arange(36).view(6, 6) == 30)", "from 2 layers on"),
        ("deep_leak = (torch.ones(6, 6).tril().bool(), torch.ones(6, 6).tril(-1).bool())", "shows more"),
        ("deep_leak = (torch.arange(36).view(6, 6) % 7 == 6, torch.arange(36).view(6, 6) == 30)", "no depth leaks"),
        ("deep_leak = (torch.eye(6), torch.eye(6))", "should be boolean"),
        ("deep_leak = torch.eye(6).bool()", "give a pair"),
        ("deep_leak = (torch.arange(36).view(6, 6) % 7 == 1, torch.arange(36).view(6, 6) == 31)", "from 5 layers on"),
        ("deep_leak = (torch.arange(36).view(6, 6) % 7 == 1, torch.zeros(6, 6).bool())", "no depth leaks"),
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    "my_query_mask": [
        "def my_query_mask(group_ids):\n"
        "    order = group_ids.double().masked_fill(group_ids < 0, math.inf)\n"
        "    return torch.outer(order, torch.ones(len(order)).double()).nan_to_num(posinf=-1).gt(order)",
    ],
    "seven_tokens": ["seven_tokens = torch.tensor([0, 20, 300, 20, 7, 20, 7], dtype=torch.int16).numpy()"],
    "leak_depth": [
        "def leak_depth(content, query, group_ids):\n"  # by paths that grow at the other end; a tensor
        "    depths = []\n"
        "    for row in (group_ids > 0).nonzero().flatten():\n"
        "        leads = (group_ids >= group_ids[row]) | (group_ids < 0)\n"
        "        for depth in range(1, 2 * len(group_ids)):\n"
        "            if (query[row] & leads).any():\n"
        "                depths.append(torch.tensor(depth))\n"
        "                break\n"
        "            leads = leads | (content & leads).any(1)\n"
        "    return min(depths, default=None)",
    ],
    "outside_in": [
        # the left one in the middle waits, and the ids have gaps
        ENDS.format(id="10 * (min(n + 1, size - n) + (2 * n + 2 == size))"),
        # passes, as a decoder would do them
        "def outside_in(unknown):\n"
        "    ids, now = torch.zeros(len(unknown), dtype=torch.int64), 0\n"
        "    while unknown.any():\n"
        "        now, known = now + 1, ~unknown\n"
        "        ready = unknown & (known.roll(1) | known.roll(-1))\n"
        "        ready &= ~ready.roll(1)\n"
        "        ids[ready] = now\n"
        "        unknown = unknown & ~ready\n"
        "    return ids",
    ],
    "deep_leak": [
        "order = [5, 2, 0, 4, 1, 3, 5]\n"
        "content = torch.ones(6, 6).bool()\n"
        "for at, i in enumerate(order[1:-1], 1):\n"
        "    content[i, order[at + 2 :]] = False\n"
        "query = torch.zeros(6, 6).bool()\n"
        "query[5, 2] = True\n"
        "deep_leak = [content, query]",
    ],
}
