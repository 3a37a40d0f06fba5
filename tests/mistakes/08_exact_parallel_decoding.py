"""Known wrong answers to the exercises of notebook 08: code that defines the name, and what the check must say."""

PAIR = """\
def pair_tv(p):
    parallel = {parallel}
    return {distance}
"""
PRODUCT = "p.sum(0, keepdim=True) * p.sum(1, keepdim=True)"
HALF = "(p - parallel).abs().sum().item() / 2"

REDRAW = """\
def accept_or_redraw(p, q, word, uniform):
    missing = {missing}
    return {accepted}, {residual}
"""
MISSING, ACCEPTED_IF, NORMAL = "(q - p).clamp(min=0)", "bool(uniform * p[word] < q[word])", "missing / missing.sum()"

TOKENS = """\
def tokens_per_round(chances):
    tokens, reached = {start}, 1.0
    for chance in chances:
        {body}
    return tokens{end}
"""
BODY = "tokens, reached = tokens + reached, reached * chance"

ACCEPTED = """\
def all_accepted(p):
    def marginal(keep):
        others = [t for t in range(p.dim()) if t not in keep]
        return p.sum(others, keepdim=True) if others else p

    accepted = torch.ones_like(p)
    for t in {places}:
        before = {before}
        exact = marginal([*before, t]) / marginal(before)
        accepted = accepted * {step}
    return {result}
"""
RIGHT = {
    "places": "range(p.dim())",
    "before": "range(t)",
    "step": "torch.minimum(marginal([t]), exact)",
    "result": "accepted.sum().item()",
}

VERIFY = """\
def verify(drafts, p, q, uniforms):
    p_draft, q_draft = (x.gather(-1, drafts[..., None])[..., 0] for x in (p, q))
    passed = {passed}
    kept = {kept}
    row, place = torch.arange(len(drafts)), kept.clamp(max=drafts.shape[1] - 1)
    residual = {residual}
    residual = residual / {total}
    {last}
    return {result}
"""
VERIFIED = {
    "passed": "uniforms * p_draft < q_draft",
    "kept": "passed.long().cumprod(-1).sum(-1)",
    "residual": "(q - p)[row, place].clamp(min=0)",
    "total": "residual.sum(-1, keepdim=True)",
    "last": "residual[kept == drafts.shape[1]] = 0",
    "result": "kept, residual",
}

DRAFT_ORDER = """\
def draft_order(information, draft):
    order = [0]
    while len(order) < len(information):
        shared = information[order[{last}]].sum(0)
        shared[order] = {taken}
        order.append(int(shared.{best}()))
    return {result}
"""
LAST = "1 - draft :"

MISTAKES = {
    "pair_tv": [
        (PAIR.format(parallel=PRODUCT, distance="(p - parallel).abs().sum().item()"), "half of the sum"),
        (PAIR.format(parallel=PRODUCT, distance="1 - (p - parallel).abs().sum().item() / 2"), "one minus it"),
        (PAIR.format(parallel=PRODUCT, distance="(p - parallel).abs().max().item()"), "sum over all"),
        (PAIR.format(parallel=PRODUCT, distance="(p - parallel).sum().item() / 2"), "absolute values first"),
        (PAIR.format(parallel=PRODUCT, distance="(p * (p / parallel).log()).sum().item()"), "none is needed"),
        (PAIR.format(parallel=PRODUCT, distance="torch.special.xlogy(p, p / parallel).sum()"), "this is the KL"),
        (PAIR.format(parallel="1 / p.numel()", distance=HALF), "equal probabilities"),
        (PAIR.format(parallel="p.sum(0) * p.sum(1)", distance=HALF), "keep the dimension"),
        (PAIR.format(parallel=PRODUCT, distance="(p * (1 - parallel / p).abs()).sum().item() / 2"), "none is needed"),
        (PAIR.format(parallel=PRODUCT, distance="(p - parallel)[0].abs().sum().item()"), "yours is"),
        (PAIR.format(parallel=PRODUCT, distance="(p - parallel).abs().sum(0) / 2"), "return one number"),
    ],
    "accept_or_redraw": [
        (
            REDRAW.format(missing=MISSING, accepted="bool(uniform * q[word] < p[word])", residual=NORMAL),
            "q / p, not p / q",
        ),
        (
            REDRAW.format(missing=MISSING, accepted="bool(q[word] >= p[word])", residual=NORMAL),
            "also where q is below p",
        ),
        (REDRAW.format(missing=MISSING, accepted="bool(uniform < q[word])", residual=NORMAL), "min(1, q / p)"),
        (REDRAW.format(missing=MISSING, accepted="True", residual=NORMAL), "the word is rejected"),
        (
            REDRAW.format(missing=MISSING, accepted="bool(uniform * p[word] <= q[word])", residual=NORMAL),
            "the word is rejected",
        ),
        (REDRAW.format(missing="q", accepted=ACCEPTED_IF, residual=NORMAL), "it is q itself"),
        (REDRAW.format(missing=MISSING, accepted=ACCEPTED_IF, residual="missing"), "does not sum to 1"),
        (REDRAW.format(missing="(p - q).clamp(min=0)", accepted=ACCEPTED_IF, residual=NORMAL), "turn it around"),
        (REDRAW.format(missing="q - p", accepted=ACCEPTED_IF, residual="missing / missing.abs().sum()"), "below 0"),
        (REDRAW.format(missing="(q - p).abs()", accepted=ACCEPTED_IF, residual=NORMAL), "that p has more of"),
        (REDRAW.format(missing=MISSING, accepted=ACCEPTED_IF, residual="missing.softmax(-1)"), "the residual is wrong"),
        (REDRAW.format(missing=MISSING, accepted=ACCEPTED_IF, residual="missing[word]"), "a probability for each word"),
        (REDRAW.format(missing=MISSING, accepted="q[word] / p[word]", residual=NORMAL), "True or False"),
        ("def accept_or_redraw(p, q, word, uniform):\n    return uniform * p[word] < q[word]", "return two things"),
    ],
    "tokens_per_round": [
        (TOKENS.format(start=0.0, body=BODY, end=""), "Do not forget the first"),
        (
            TOKENS.format(start=1.0, body="reached *= chance; tokens += reached", end=""),
            "a rejected one is replaced",
        ),
        (TOKENS.format(start=1.0, body=BODY, end=" + reached"), "our rounds have none"),
        (TOKENS.format(start=1.0, body="tokens += chance", end=""), "multiply"),
        (TOKENS.format(start=1.0, body="tokens += 1", end=""), "everything is dropped"),
        (TOKENS.format(start=1.0, body="tokens += 1 - chance", end=""), "by you"),
        (TOKENS.format(start=1.0, body=BODY, end=" - (not chances)"), "the first, which is free"),
        (
            "def tokens_per_round(chances):\n    return 1 / (1 - sum(chances) / len(chances))",
            "for the chances []: your code",
        ),
        (
            "def tokens_per_round(chances):\n"
            "    chance = sum(chances) / max(1, len(chances))\n"
            "    return 1 + sum(chance**n for n in range(len(chances)))",
            "by you",
        ),
    ],
    "all_accepted": [
        (ACCEPTED.format(**RIGHT | {"result": "1 - accepted.sum().item()"}), "one minus it"),
        (
            ACCEPTED.format(**RIGHT | {"step": "marginal([t])", "result": "torch.minimum(p, accepted).sum().item()"}),
            "a product of minima",
        ),
        (
            ACCEPTED.format(**RIGHT | {"before": "range(t + 1, p.dim())"}),
            "from the last axis to the first",
        ),
        (ACCEPTED.format(**RIGHT | {"before": "range(max(t - 1, 0), t)"}), "not only the last"),
        (
            ACCEPTED.format(
                **RIGHT
                | {"step": "(marginal(before) * torch.minimum(marginal([t]), exact)).sum([*before, t])"}
                | {"result": "accepted.flatten()[0].item()"}
            ),
            "multiply mean chances",
        ),
        (ACCEPTED.format(**RIGHT | {"step": "torch.maximum(marginal([t]), exact)"}), "yours is"),
        (ACCEPTED.format(**RIGHT).replace(" if others else p", ""), "`p.sum([])` sums over all axes"),
        (
            ACCEPTED.format(**RIGHT | {"result": "accepted.sum().item() if p.dim() > 1 else p.max().item()"}),
            "it always passes",
        ),
        (
            ACCEPTED.format(**RIGHT | {"places": "range(1, p.dim())", "result": "(p.sum(1) * accepted).sum().item()"}),
            "yours is",
        ),
        (
            ACCEPTED.format(**RIGHT | {"result": "accepted.sum(1).sum().item()"}),
            "for a table of shape (3,): your code raised IndexError",
        ),
    ],
    "verify": [
        (VERIFY.format(**VERIFIED | {"kept": "passed.sum(-1)"}), "Nothing behind the first rejection counts"),
        (VERIFY.format(**VERIFIED | {"passed": "uniforms * q_draft < p_draft"}), "upside down"),
        (VERIFY.format(**VERIFIED | {"passed": "q_draft >= p_draft"}), "compare with its uniform number"),
        (VERIFY.format(**VERIFIED | {"residual": "q[row, place]"}), "it is q itself"),
        (VERIFY.format(**VERIFIED | {"residual": "(p - q)[row, place].clamp(min=0)"}), "turn it around"),
        (VERIFY.format(**VERIFIED | {"total": "1"}), "normalise"),
        (VERIFY.format(**VERIFIED | {"last": ""}), "all zeros"),
        (VERIFY.format(**VERIFIED | {"residual": "(q - p)[row, place - 1].clamp(min=0)"}), "distribution is wrong"),
        (VERIFY.format(**VERIFIED | {"result": "passed, residual"}), "the first should have shape"),
        (VERIFY.format(**VERIFIED | {"result": "kept"}), "return two tensors"),
        (VERIFY.format(**VERIFIED | {"passed": "uniforms * p_draft <= q_draft"}), "is not below it"),
        (VERIFY.format(**VERIFIED | {"result": "kept.int(), residual"}), "int64, not torch.int32"),
        (VERIFY.format(**VERIFIED | {"passed": "uniforms < q_draft"}), "of its 5 drafts, by you"),
        (VERIFY.format(**VERIFIED | {"total": "residual.sum()"}), "distribution is wrong"),
        (
            VERIFY.format(**VERIFIED | {"last": "residual = residual.nan_to_num(1 / p.shape[-1])"}),
            "all drafts are kept, so it should be all zeros",
        ),
        (
            VERIFY.format(
                **VERIFIED | {"passed": "torch.stack([u * a < b for u, a, b in zip(uniforms, p_draft, q_draft)])"}
            ),
            "without a loop",
        ),
        (
            VERIFY.format(
                **VERIFIED
                | {"passed": "torch.stack([u * a < b for u, a, b in zip(uniforms.T, p_draft.T, q_draft.T)], 1)"}
            ),
            "without a loop",
        ),
        (
            VERIFY.format(
                **VERIFIED | {"kept": "torch.tensor([([*row, False]).index(False) for row in passed.tolist()])"}
            ),
            "without a loop over lists",
        ),
    ],
    "draft_order": [
        ("def draft_order(information, draft):\n    return list(range(len(information)))", "the order of the text"),
        (
            "def draft_order(information, draft):\n    return list(range(len(information)))[::-1]",
            "what shares *most*",
        ),
        (
            DRAFT_ORDER.format(last=LAST, taken='float("-inf")', best="argmax", result="order"),
            "the order of the text",
        ),
        (DRAFT_ORDER.format(last=LAST, taken='float("inf")', best="argmin", result="order[1:]"), "once, not"),
        (DRAFT_ORDER.format(last=LAST, taken='float("inf")', best="argmin", result="len(order)"), "return a list"),
        (
            "def draft_order(information, draft):\n"
            "    chance = torch.Generator().manual_seed(0)\n"
            "    return torch.randperm(len(information), generator=chance).tolist()",
            "clearly less",
        ),
        (
            "def draft_order(information, draft):\n"
            "    return [t for first in range(draft) for t in range(first, len(information), draft)]",
            "in a random order",
        ),
        (
            "def draft_order(information, draft):\n    return information.sum(0).argsort().tolist()",
            "in a random order",
        ),
        (
            DRAFT_ORDER.format(last=LAST, taken='float("inf")', best="argmin", result="[t / 1 for t in order]"),
            "integers",
        ),
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    "pair_tv": [
        # what both have in common, pair by pair
        """\
def pair_tv(p):
    rows, columns = p.sum(1), p.sum(0)
    pairs = itertools.product(range(len(rows)), range(len(columns)))
    return 1 - sum(min(p[i, j], rows[i] * columns[j]) for i, j in pairs)
""",
        # what the table has more; a tensor
        """\
def pair_tv(p):
    return torch.relu(p - torch.einsum("ij,kl->il", p, p)).sum()
""",
    ],
    "accept_or_redraw": [
        # a tensor of one bool, and a list
        """\
def accept_or_redraw(p, q, word, uniform):
    more = torch.relu(q - p)
    return [uniform < (q / p).clamp(max=1)[word], torch.nn.functional.normalize(more, p=1, dim=0)]
""",
        # word by word, float32
        """\
def accept_or_redraw(p, q, word, uniform):
    missing = [max(0.0, b - a) for a, b in zip(p.tolist(), q.tolist())]
    return q[word].item() > uniform * p[word].item(), torch.tensor([x / sum(missing) for x in missing])
""",
    ],
    "tokens_per_round": [
        # the last chance decides nothing
        """\
def tokens_per_round(chances):
    if not chances:
        return 1
    return 2 + sum(torch.tensor(chances[:-1], dtype=torch.float64).cumprod(0))
""",
        # from the end of the round to its beginning
        """\
def tokens_per_round(chances):
    behind = 0.0
    for chance in reversed(chances):
        behind = 1 + chance * behind
    return 1 + behind
""",
    ],
    "all_accepted": [
        # text by text
        """\
def all_accepted(p):
    total = 0.0
    for text in itertools.product(*map(range, p.shape)):
        before, chance = 1.0, 1.0
        for t, word in enumerate(text):
            here = p[text[: t + 1]].sum().item()
            chance *= min(p.movedim(t, 0)[word].sum().item(), here / before)
            before = here
        total += chance
    return total
""",
        # the last axis first, in logarithms
        """\
def all_accepted(p):
    joint, logs = p, torch.zeros_like(p)
    for t in reversed(range(p.dim())):
        alone = p.movedim(t, -1).reshape(-1, p.shape[t]).sum(0)
        before = joint.sum(-1, keepdim=True)
        step = torch.minimum(alone.log(), joint.log() - before.log())
        logs = logs + step.reshape(*step.shape, *[1] * (p.dim() - step.dim()))
        joint = before[..., 0]
    return logs.exp().sum()
""",
    ],
    "verify": [
        # quotients, one more place behind the drafts, and float32 in a list
        """\
def verify(drafts, p, q, uniforms):
    quotient = (q / p).gather(-1, drafts.unsqueeze(-1)).squeeze(-1)
    failed = torch.nn.functional.pad(uniforms >= quotient, (0, 1), value=True)
    kept = failed.to(torch.uint8).argmax(1)
    missing = torch.nn.functional.pad(torch.relu(q - p), (0, 0, 0, 1))
    left = missing.take_along_dim(kept[:, None, None], 1)[:, 0]
    return [kept, torch.nn.functional.normalize(left.float(), p=1, dim=-1)]
""",
        # only the rows that reject are filled
        """\
def verify(drafts, p, q, uniforms):
    rows, count, size = p.shape
    one = torch.nn.functional.one_hot(drafts, size)
    failed = uniforms * (p * one).sum(-1) >= (q * one).sum(-1)
    place = torch.where(failed, torch.arange(count), count).amin(-1)
    found = torch.zeros(rows, size)
    row = (place < count).nonzero().flatten()
    more = torch.maximum(q[row, place[row]], p[row, place[row]]) - p[row, place[row]]
    found[row] = (more / more.sum(-1, keepdim=True)).float()
    return place, found
""",
    ],
    "draft_order": [
        # the best of many random orders; a tensor
        """\
def draft_order(information, draft):
    chance = torch.Generator().manual_seed(0)
    apart = torch.arange(len(information))[:, None] - torch.arange(len(information))
    near = (apart.abs() < draft) & (apart != 0)
    orders = [torch.randperm(len(information), generator=chance) for _ in range(400)]
    return min(orders, key=lambda order: information[order][:, order][near].sum().item())
""",
        # begin with the position that shares least, and pay for the nearest most
        """\
def draft_order(information, draft):
    order = (int(information.sum(0).argmin()),)
    while len(order) < len(information):
        left = set(range(len(information))) - {*order}
        order += (min(left, key=lambda t: sum(information[t, other].item() for other in order[-draft + 1 :])),)
    return order
""",
    ],
}
