"""Known wrong answers to the exercises of notebook 07: code that defines the name, and what the check must say."""

FILL = """\
def fill_group(model, tokens, group_ids, group):
    {before}
    logits = model(tokens[None], {ids}[None]).{logits}[0]
    return {result}
"""
NOTHING, ONE_GROUP = "pass", "torch.where(group_ids == group, logits.argmax(-1), tokens)"

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
    "fill_group": [
        (
            FILL.format(before=NOTHING, ids="group_ids", logits="logits", result="logits.argmax(-1)"),
            "you also changed the tokens at",
        ),
        (
            FILL.format(
                before=NOTHING,
                ids="group_ids",
                logits="logits",
                result="torch.where(group_ids >= group, logits.argmax(-1), tokens)",
            ),
            "which are of other groups",
        ),
        (
            FILL.format(
                before=NOTHING, ids="group_ids", logits="logits", result="logits.argmax(-1)[group_ids == group]"
            ),
            "the whole row",
        ),
        (FILL.format(before=NOTHING, ids="group_ids", logits="logits", result="tokens"), "these were there before"),
        (
            FILL.format(
                before=NOTHING,
                ids="group_ids",
                logits="logits",
                result="tokens.masked_scatter_(group_ids == group, logits.argmax(-1)[group_ids == group])",
            ),
            "leave `tokens` as they are",
        ),
        (
            FILL.format(before=NOTHING, ids="group_ids", logits="logits", result=ONE_GROUP.replace("max", "min")),
            "given all earlier groups",
        ),
        (
            FILL.format(
                before=NOTHING,
                ids="group_ids",
                logits="logits",
                result=ONE_GROUP.replace("logits.argmax(-1)", "logits.argmax(-1).roll(1)"),
            ),
            "the likeliest tokens are",
        ),
        (
            FILL.format(
                before=NOTHING,
                ids="group_ids",
                logits="logits",
                result=ONE_GROUP,
            )
            .replace("[None])", "[None], content_logits=True)")
            .replace(".logits", ".content_logits"),
            "predict the token at a position",
        ),
        (
            FILL.format(
                before="order = groups.left_to_right(len(tokens))", ids="order", logits="logits", result=ONE_GROUP
            ),
            "from what is on the left",
        ),
        (
            FILL.format(before="order = (group_ids == group).long()", ids="order", logits="logits", result=ONE_GROUP),
            "given all earlier groups",
        ),
        (
            FILL.format(before="order = (group_ids > 0).long()", ids="order", logits="logits", result=ONE_GROUP),
            "given all earlier groups",
        ),
        (
            """\
def fill_group(model, tokens, group_ids, group):
    tokens = tokens.clone()
    for t in (group_ids == group).nonzero()[:, 0]:
        tokens[t] = model(tokens[None], group_ids[None]).logits[0, t].argmax()
    return tokens
""",
            "you make 3",
        ),
        (
            FILL.format(before=NOTHING, ids="group_ids[:group]", logits="logits", result=ONE_GROUP),
            "your code raised",
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
    "fill_group": [
        # what comes later is taken away, and the package takes the step
        """\
def fill_group(model, tokens, group_ids, group):
    order, known = torch.where(group_ids > group, -1, group_ids), (group_ids >= 0) & (group_ids < group)
    return decode.generate(model, tokens[None], order[None], known=known[None], temperature=0).sequences[0]
""",
        # position by position, from probabilities
        """\
def fill_group(model, tokens, group_ids, group):
    shorter = torch.where(group_ids > group, groups.PADDING, group_ids)
    chances = model(tokens.unsqueeze(0), shorter.unsqueeze(0)).logits.squeeze(0).softmax(-1)
    filled = tokens.tolist()
    for t, other in enumerate(group_ids.tolist()):
        if other == group:
            filled[t] = int(chances[t].max(-1).indices)
    return torch.tensor(filled)
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
