"""Known wrong answers to the exercises of notebook 07: code that defines the name, and what the check must say."""

PAIR = """\
def pair_tv(p):
    parallel = {parallel}
    return {distance}
"""
PRODUCT = "p.sum(0, keepdim=True) * p.sum(1, keepdim=True)"
HALF = "(p - parallel).abs().sum().item() / 2"

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
        (PAIR.format(parallel=PRODUCT, distance="(p - parallel).abs().sum(0) / 2"), "return one number"),
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
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    "pair_tv": [],
    "tokens_per_round": [],
    "all_accepted": [],
    "verify": [],
    "draft_order": [],
}
