"""Known wrong answers to the exercises of notebook 07: code that defines the name, and what the check must say."""

COUNT = """\
def passes_and_rows(group_ids):
    ids = group_ids.tolist()
    order = sorted({{group for group in ids if group > 0}})
    passes, kept, again = {passes}, 0, 0
    for group in order:
        content = sum(0 <= other < group for other in ids)
        asked = {asked}
        kept, again = {kept} + asked, again + content + asked
    return passes, {result}
"""
ASKED, KEPT = "ids.count(group)", "kept"
LAST = "kept + sum(0 <= other < order[-1] for other in ids)"

CHOOSE = """\
def choose_positions(probabilities, open, per_step):
    highest = {highest}
    order = {order}[:per_step]
    chosen = torch.zeros_like(open)
    chosen[order] = True
    return {result}
"""
HIGHEST = "probabilities.amax(-1).masked_fill(~open, -1.0)"
ORDER = "highest.argsort(descending=True, stable=True)"

FIT = """\
def fit_of_each(model, input_ids):
    length = len(input_ids)
    group_ids = {group_ids}
    with torch.no_grad():
        scores = objective.log_likelihood(model, input_ids.expand(len(group_ids), -1), group_ids, reduction="token")
    return {result}
"""
ALONE = "torch.eye(length, dtype=torch.long)[1:]"

BOUNDED = """\
def bounded_group(entropies, open, bound):
    order = entropies.masked_fill(~open, float("inf")).argsort(stable=True{direction})
    total = entropies[order].cumsum(0)
    good = {good}
    chosen = torch.zeros_like(open)
    chosen[order[good]] = True
    return {result}
"""
WITHOUT_HIGHEST = "(total - entropies[order] <= bound + 1e-6)"

MISTAKES = {
    "passes_and_rows": [
        (
            COUNT.format(passes="int(group_ids.max())", asked=ASKED, kept=KEPT, result=f"{LAST}, again"),
            "only the order of the numbers matters",
        ),
        (
            COUNT.format(passes="sum(group > 0 for group in ids)", asked=ASKED, kept=KEPT, result=f"{LAST}, again"),
            "one for each group",
        ),
        (
            COUNT.format(
                passes="len(order)",
                asked=ASKED,
                kept=KEPT,
                result="kept + sum(group >= 0 for group in ids), again",
            ),
            "the content of the last group",
        ),
        (
            COUNT.format(passes="len(order)", asked=ASKED, kept=KEPT, result=f"{LAST} + ids.count(-1), again"),
            "-1 is padding",
        ),
        (COUNT.format(passes="len(order)", asked="0", kept=KEPT, result=f"{LAST}, again"), "the queries are rows too"),
        (
            COUNT.format(passes="len(order)", asked=ASKED, kept="kept + content", result="kept, again"),
            "with the cache",
        ),
        (
            COUNT.format(
                passes="len(order)", asked=ASKED, kept=KEPT, result=f"{LAST}, passes * sum(g >= 0 for g in ids)"
            ),
            "each pass encodes what exists by then",
        ),
        (COUNT.format(passes="len(order)", asked=ASKED, kept=KEPT, result=f"{LAST}, {LAST}"), "without it"),
        ("def passes_and_rows(group_ids):\n    return int(group_ids.max())", "return three numbers"),
        (
            COUNT.format(passes="len(order)", asked=ASKED, kept=KEPT, result=f"{LAST}, again + 0.5"),
            "return three integers",
        ),
        (
            COUNT.format(passes="len({*ids}) - 1", asked=ASKED, kept=KEPT, result=f"{LAST}, again"),
            "one for each group",
        ),
        (
            COUNT.format(
                passes="len(order)", asked=ASKED, kept=KEPT, result="kept + len(ids) - ids.count(order[-1]), again"
            ),
            "-1 is padding",
        ),
        (
            COUNT.format(passes="len(order)", asked=ASKED, kept=KEPT, result=f"{LAST}, again").replace("0 <=", "0 <"),
            "with the cache",
        ),
    ],
    "choose_positions": [
        (CHOOSE.format(highest="probabilities.amax(-1)", order=ORDER, result="chosen"), "a position that is finished"),
        (
            CHOOSE.format(
                highest=HIGHEST, order="highest.flip(0).argsort(descending=True, stable=True)", result="chosen"
            )
            .replace("chosen[order] = True", "chosen[len(open) - 1 - order] = True")
            .replace("return chosen", "return chosen & open"),
            "take the leftmost",
        ),
        (CHOOSE.format(highest=HIGHEST, order=ORDER, result="chosen"), "a position that is finished"),
        (
            CHOOSE.format(
                highest="probabilities.amax(-1).masked_fill(~open, 2.0)",
                order="highest.argsort(stable=True)",
                result="chosen & open",
            ),
            "least sure",
        ),
        (
            CHOOSE.format(
                highest='torch.special.entr(probabilities).sum(-1).masked_fill(~open, float("inf"))',
                order="highest.argsort(stable=True)",
                result="chosen & open",
            ),
            "where the likeliest token",
        ),
        (
            CHOOSE.format(highest="probabilities.amax(-1)", order=ORDER, result="chosen & open"),
            "a finished position took a place",
        ),
        (CHOOSE.format(highest=HIGHEST, order=ORDER, result="order"), "return a boolean tensor"),
        (
            CHOOSE.format(
                highest="probabilities.sort(-1).values.diff().select(-1, -1).masked_fill(~open, -1.0)",
                order=ORDER,
                result="chosen & open",
            ),
            "where the likeliest token",
        ),
        (
            CHOOSE.format(
                highest=HIGHEST,
                order="(highest - 1e-6 * torch.arange(len(open))).topk(per_step).indices",
                result="chosen & open",
            ),
            "per_step 9: your code raised",
        ),
        (
            CHOOSE.format(
                highest=HIGHEST, order="highest", result="(highest >= highest.sort().values[-per_step]) & open"
            ).replace("order = highest[:per_step]", "order = []"),
            "choose",
        ),
        (
            CHOOSE.format(highest=HIGHEST, order="highest.argsort(descending=True)", result="chosen & open"),
            "take the leftmost",
        ),
        (
            CHOOSE.format(highest=HIGHEST, order=ORDER, result="chosen & open").replace(
                "    return", "    result = chosen & open\n    open &= ~chosen\n    return result #"
            ),
            "leave `open` as it is",
        ),
    ],
    "fit_of_each": [
        (
            FIT.format(group_ids="groups.left_to_right(length)[None]", result="scores[0]"),
            "only what is on its left",
        ),
        (FIT.format(group_ids="groups.blocks(length, length)[None]", result="scores[0]"), "none sees another"),
        (FIT.format(group_ids=ALONE, result="-scores.sum(0)"), "the sign is wrong"),
        (FIT.format(group_ids=ALONE, result="scores.sum(0).exp()"), "take logarithms"),
        (FIT.format(group_ids=ALONE.replace("[1:]", ""), result="scores.sum(0)"), "is given and scores 0"),
        (FIT.format(group_ids=ALONE, result="scores.sum(-1)"), "return a tensor of shape"),
        (
            FIT.format(group_ids="torch.where(torch.eye(length) > 0, 1, -1)[1:]", result="scores.sum(0)"),
            "the scores should be",
        ),
        (
            "def fit_of_each(model, input_ids):\n"
            "    return decode.leave_one_out(model, input_ids[None], groups.left_to_right(len(input_ids))[None])[0]",
            "without `decode`",
        ),
        (
            "def fit_of_each(model, input_ids):\n"
            "    from a3mini.decode.revision import leave_one_out\n\n"
            "    return leave_one_out(model, input_ids[None], torch.arange(len(input_ids))[None])[0]",
            "without `decode`",
        ),
        (
            "def fit_of_each(model, input_ids):\n"
            "    rows = torch.eye(len(input_ids), dtype=torch.long)[1:, None]\n"
            "    scores = [objective.log_likelihood(model, input_ids[None], row) for row in rows]\n"
            "    return torch.cat((torch.zeros(1), *scores))",
            "you make 5",
        ),
        (FIT.format(group_ids="1 - torch.eye(length, dtype=torch.long)[1:]", result="scores.sum(0)"), "scores 0, not"),
    ],
    "bounded_group": [
        (BOUNDED.format(direction="", good=WITHOUT_HIGHEST, result="chosen"), "a position that is finished"),
        (
            BOUNDED.format(direction="", good="total <= bound + 1e-6", result="chosen & open"),
            "the highest one does not count",
        ),
        (
            BOUNDED.format(direction="", good="entropies[order] <= bound", result="chosen & open"),
            "at least one is always filled",
        ),
        (
            BOUNDED.format(
                direction="", good="(total <= bound + 1e-6) | (torch.arange(len(order)) == 0)", result="chosen & open"
            ),
            "the highest one does not count",
        ),
        (
            BOUNDED.format(
                direction="",
                good="(entropies[order] <= bound) | (torch.arange(len(order)) == 0)",
                result="chosen & open",
            ),
            "each entropy alone",
        ),
        (
            BOUNDED.format(direction="", good="torch.arange(len(order)) >= 0", result="chosen & open"),
            "more than the bound",
        ),
        (
            BOUNDED.format(direction="", good="torch.arange(len(order)) == 0", result="chosen & open"),
            "may lose no more than the bound",
        ),
        (
            BOUNDED.format(direction="", good=WITHOUT_HIGHEST, result="chosen & open").replace(
                'entropies.masked_fill(~open, float("inf"))', "entropies"
            ),
            "a finished position used up the bound",
        ),
        (
            BOUNDED.format(direction="", good="total - entropies[order] < bound", result="chosen & open"),
            "at least one is always filled",
        ),
        (
            BOUNDED.format(direction="", good="total - entropies[order] < max(bound, 1e-6)", result="chosen & open"),
            "what equals it is within it",
        ),
        (
            BOUNDED.format(direction="", good=WITHOUT_HIGHEST, result="chosen & open").replace("stable=True", ""),
            "the leftmost of equals",
        ),
        (
            BOUNDED.format(direction=", descending=True", good=WITHOUT_HIGHEST, result="chosen & open").replace(
                "inf", "-inf"
            ),
            "more than the bound",
        ),
        (
            BOUNDED.format(direction="", good=WITHOUT_HIGHEST, result="order"),
            "return a boolean tensor",
        ),
        # right in all the simple cases, and not what the package does
        (
            BOUNDED.format(direction="", good=WITHOUT_HIGHEST, result="chosen & open").replace(
                "    order =", "    entropies = entropies.round(decimals=1)\n    order ="
            ),
            "decode.resample with bound",
        ),
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    "passes_and_rows": [
        # row by row: which passes compute it; a list
        """\
def passes_and_rows(group_ids):
    groups_left = [group for group in sorted(group_ids.tolist()) if group > 0]
    passes, kept, again = len({*groups_left}), 0, 0
    for group in group_ids[group_ids >= 0].tolist():
        later = {other for other in groups_left if other > group}
        kept += (group > 0) + bool(later)
        again += (group > 0) + len(later)
    return [passes, kept, again]
""",
        # a table of who is there when; a tensor
        """\
def passes_and_rows(group_ids):
    order = group_ids[group_ids > 0].unique()
    there = (group_ids >= 0) & (group_ids < order[:, None])
    asked = (group_ids > 0).sum()
    return torch.stack((torch.tensor(len(order)), there.any(0).sum() + asked, there.sum() + asked))
""",
    ],
    "choose_positions": [
        # one position after another
        """\
def choose_positions(probabilities, open, per_step):
    chosen = torch.zeros(len(open)).bool()
    for _ in range(per_step):
        left = [t for t in range(len(open)) if open[t] and not chosen[t]]
        if left:
            chosen[max(left, key=lambda t: probabilities[t].max())] = True
    return chosen
""",
        # how many go before each position
        """\
def choose_positions(probabilities, open, per_step):
    highest, place = probabilities.max(-1).values, torch.arange(len(open))
    surer = (highest > highest[:, None]) | (highest == highest[:, None]) & (place < place[:, None])
    return ((surer & open).sum(-1) < per_step) & open
""",
    ],
    "fit_of_each": [
        # the others read each other from left to right
        """\
def fit_of_each(model, input_ids):
    length = len(input_ids)
    alone = torch.eye(length, dtype=torch.long)[1:]
    order, known = groups.read_given(alone, "left_to_right")
    rows = input_ids.repeat(length - 1, 1)
    return objective.log_likelihood(model, rows, order, known=known, reduction="token").sum(0)
""",
        # the same in other words, with all tokens scored; float32
        """\
def fit_of_each(model, input_ids):
    length = len(input_ids)
    order = torch.arange(length) + length * torch.eye(length, dtype=torch.long)
    scores = objective.log_likelihood(model, input_ids.expand(length, -1), order, reduction="token")
    return (scores.diagonal() * (torch.arange(length) > 0)).float()
""",
    ],
    "bounded_group": [
        # one position after another, in Python's numbers
        """\
def bounded_group(entropies, open, bound):
    chosen, lost = torch.zeros_like(open), 0.0
    for entropy, t in sorted((entropies[t].item(), t) for t in range(len(open)) if open[t]):
        if lost > bound + 1e-6:
            break
        chosen[t], lost = True, lost + entropy
    return chosen
""",
        # the largest set whose bound holds
        """\
def bounded_group(entropies, open, bound):
    at = open.nonzero().flatten()
    at = at[entropies[at].sort(stable=True).indices]
    sizes = [n for n in range(1, len(at) + 1) if entropies[at[:n]].sum() - entropies[at[:n]].max() <= bound + 1e-6]
    return torch.isin(torch.arange(len(open)), at[: max(sizes)])
""",
    ],
}
