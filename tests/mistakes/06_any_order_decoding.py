"""Known wrong answers to the exercises of notebook 06: code that defines the name, and what the check must say."""

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
            BOUNDED.format(direction="", good=WITHOUT_HIGHEST, result="order"),
            "return a boolean tensor",
        ),
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    "passes_and_rows": [],
    "choose_positions": [],
    "fit_of_each": [],
    "bounded_group": [],
}
