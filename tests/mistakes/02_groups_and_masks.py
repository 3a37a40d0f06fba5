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
    ],
    "outside_in": [
        (
            "def outside_in(unknown):\n    return torch.where(unknown, unknown.long().cumsum(0), 0)",
            "2 groups numbered 1 to 2 are enough",
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
    ],
    "deep_leak": [
        ("deep_leak = (torch.ones(6, 6).bool(), torch.arange(36).view(6, 6) == 30)", "from 2 layers on"),
        ("deep_leak = (torch.ones(6, 6).tril().bool(), torch.ones(6, 6).tril(-1).bool())", "shows more"),
        ("deep_leak = (torch.arange(36).view(6, 6) % 7 == 6, torch.arange(36).view(6, 6) == 30)", "no depth leaks"),
        ("deep_leak = (torch.eye(6), torch.eye(6))", "should be boolean"),
        ("deep_leak = torch.eye(6).bool()", "give a pair"),
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    "my_query_mask": [],
    "seven_tokens": [],
    "leak_depth": [],
    "outside_in": [],
    "deep_leak": [],
}
