"""Known wrong answers to the exercises of notebook 05: code that defines the name, and what the check must say."""

STEP = """\
def training_step(model, optimizer, input_ids, group_ids, clip_norm):
    log_probs = model(input_ids, group_ids, labels=input_ids).log_probs
    loss = {loss}
    {backward}
    {clip}
    {step}
    optimizer.zero_grad()
    return {returned}
"""
CLIP = "torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)"
RIGHT = dict(
    loss="-log_probs.sum() / (group_ids > 0).sum()",
    backward="loss.backward()",
    clip=CLIP,
    step="optimizer.step()",
    returned="loss.item()",
)

OWN = """\
blank_curriculum = Curriculum(
    (
        Stage("left to right", {first}, (Part("blocks", (1,)),)),
        Stage("spans", 1, (Part("span", (1, 2, 4), grow={grow}),)),
        Stage("blanks", 2, (Part("sentence", (1,), weight={weight}), Part("shuffled", {sizes}))),
    )
)
"""

LOSSES = """\
def microbatch_losses(log_probs, predicted):
    count = sum(int(p.sum()) for p in predicted)
    return [{loss} for log_p, p in zip(log_probs, predicted)]
"""

ROWS = """\
def rows_of_step(step, batch_size, size, order_of):
    places = [{place} for example in range(step * batch_size, (step + 1) * batch_size)]
    return [int(order_of({epoch})[place]) for epoch, place in places]
"""

MISTAKES = {
    "training_step": [
        (STEP.format(**RIGHT | {"loss": "-log_probs.sum()"}), "it is a sum"),
        (STEP.format(**RIGHT | {"loss": "-log_probs.mean()"}), "all B * T positions"),
        (STEP.format(**RIGHT | {"loss": "-log_probs.sum() / (group_ids >= 0).sum()"}), "given ones too"),
        (
            STEP.format(**RIGHT | {"loss": "-(log_probs.sum(1) / (group_ids > 0).sum(1)).mean()"}),
            "the mean of the rows' means",
        ),
        (STEP.format(**RIGHT | {"loss": "log_probs.sum() / (group_ids > 0).sum()"}), "the sign is wrong"),
        (STEP.format(**RIGHT | {"backward": "(-loss).backward()"}), "they went up the gradient"),
        (STEP.format(**RIGHT | {"clip": "pass"}), "not clipped before the step"),
        (STEP.format(**RIGHT | {"clip": "optimizer.step()", "step": CLIP}), "not clipped before the step"),
        (STEP.format(**RIGHT).replace("    optimizer.zero_grad()\n", ""), "gradients of the step before"),
        (STEP.format(**RIGHT | {"step": "pass"}), "have not changed"),
        (STEP.format(**RIGHT | {"backward": "optimizer.zero_grad()"}), "have not changed"),
        (STEP.format(**RIGHT | {"returned": "None"}), "return the loss"),
        (STEP.format(**RIGHT | {"returned": "log_probs"}), "one number"),
        (STEP.format(**RIGHT | {"returned": "2 * loss.item()"}), "the loss should be"),
        (STEP.format(**RIGHT | {"step": "optimizer.step(); optimizer.step()"}), "the weights after it are wrong"),
        (
            STEP.format(**RIGHT).replace("clip_norm)\n    opt", "clip_norm / 2)\n    opt"),
            "the weights after it are wrong",
        ),
    ],
    "blank_curriculum": [
        (OWN.format(first=0.25, grow=True, weight=2, sizes=(1, 4)), "at 7.7% of the training"),
        (OWN.format(first=1, grow=False, weight=2, sizes=(1, 4)), "at 25.2% of the training"),
        (OWN.format(first=1, grow=True, weight=1, sizes=(1, 4)), "at 50.2% of the training"),
        (OWN.format(first=1, grow=True, weight=2, sizes=(1, 2, 4)), "shuffled of size 2"),
        ('blank_curriculum = Curriculum.preset("paper")', "at 25.2% of the training"),
        ('blank_curriculum = Stage("left to right", 1, (Part("blocks"),))', "make a Curriculum, not Stage"),
        (OWN.format(first=1, grow=True, weight=2, sizes=(1, 4)).replace("(1, 2, 4)", "(1, 1, 2, 4)"), "at 33.5%"),
        (OWN.format(first=1.1, grow=True, weight=2, sizes=(1, 4)).replace('"blanks", 2', '"blanks", 1.9'), "at 25.2%"),
        (OWN.format(first=1, grow=True, weight=2, sizes=(1, 4)).replace('"blanks", 2', '"blanks", 1.9'), "at 25.2%"),
    ],
    "microbatch_losses": [
        (LOSSES.format(loss="-log_p[p].mean()"), "depending on its microbatch"),
        (LOSSES.format(loss="-log_p[p].mean() / len(predicted)"), "depending on its microbatch"),
        (LOSSES.format(loss="-log_p[p].sum() / p.sum().clamp_min(1)"), "depending on its microbatch"),
        (LOSSES.format(loss="-log_p[p].sum()"), "the losses are sums"),
        (LOSSES.format(loss="log_p[p].sum() / count"), "the sign is wrong"),
        (LOSSES.format(loss="-log_p.sum() / count"), "positions count that are not predicted"),
        (LOSSES.format(loss="-log_p[p].sum() / p.numel()"), "each token should weigh"),
        (LOSSES.format(loss="-log_p[p] / count"), "one number"),
        (
            LOSSES.format(loss="total / len(predicted)").replace(
                "    return",
                "    total = -sum(log_p[p].sum() for log_p, p in zip(log_probs, predicted)) / count\n    return",
            ),
            "shares a part of its graph",
        ),
        (
            LOSSES.format(loss="-log_p[p].sum() / count if p.any() else torch.zeros(())"),
            "loss 1 has no graph",
        ),
        (LOSSES.format(loss="-log_p[p].sum() / (count + 1)"), "each token should weigh 1/8"),
        (LOSSES.format(loss="-((log_p * p).sum(1) / p.sum(1).clamp_min(1)).mean()"), "tokens of one microbatch weigh"),
    ],
    "rows_of_step": [
        (ROWS.format(place="(0, example % size)", epoch="epoch"), "an order of its own"),
        (ROWS.format(place="divmod(example, batch_size)", epoch="epoch"), "Which examples does the step have?"),
        (
            "def rows_of_step(step, batch_size, size, order_of):\n"
            "    per_epoch = -(-size // batch_size)\n"
            "    epoch, place = divmod(step, per_epoch)\n"
            "    return order_of(epoch)[place * batch_size : (place + 1) * batch_size].tolist()",
            "goes on into the next epoch",
        ),
        (
            "state = []\n"
            "def rows_of_step(step, batch_size, size, order_of):\n"
            "    while len(state) < batch_size:\n"
            "        state.extend(order_of(len(state)).tolist())\n"
            "    return [state.pop(0) for _ in range(batch_size)]",
            "an order of its own",
        ),
        (
            "calls = []\n"
            "def rows_of_step(step, batch_size, size, order_of):\n"
            "    calls.append(step)\n"
            "    places = [divmod(e, size) for e in range(step * batch_size, (step + 1) * batch_size)]\n"
            "    rows = [int(order_of(epoch)[place]) for epoch, place in places]\n"
            "    return rows[::-1] if calls.count(step) > 1 else rows",
            "remember nothing",
        ),
        (
            "def rows_of_step(step, batch_size, size, order_of):\n    return torch.arange(batch_size)",
            "return a list of row numbers",
        ),
        (
            "def rows_of_step(step, batch_size, size, order_of):\n"
            "    rows = torch.cat([order_of(epoch) for epoch in range(30)]).tolist()\n"
            "    return rows[step * batch_size : (step + 1) * batch_size]",
            "step 100 has 0 rows, not 2",
        ),
        (
            "def rows_of_step(step, batch_size, size, order_of):\n"
            "    epoch, place = divmod(step * batch_size, size)\n"
            "    rows = torch.cat((order_of(epoch), order_of(epoch + 1))).tolist()\n"
            "    return rows[place : place + batch_size]",
            "with batches of 5 and 3 rows, step 1 has 4 rows",
        ),
    ],
    "toy_curriculum": [
        (
            'toy_curriculum = Curriculum((Stage("left to right", 1, (Part("blocks", (1,)),)),))',
            "never meets a random order",
        ),
        ('toy_curriculum = Curriculum.preset("paper")', "not better"),
        ('toy_curriculum = Curriculum.preset("official")', "with the paper's stages: not better."),
        (
            'toy_curriculum = Curriculum((Stage("random order", 1, (Part("shuffled", (1, 2, 4)),)),))',
            "better, but by less than 0.04",
        ),
        ('toy_curriculum = Stage("all", 1, (Part("shuffled", (1,)),))', "make a Curriculum"),
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    "training_step": [
        # the model's own loss; gradients are cleared first
        "def training_step(model, optimizer, input_ids, group_ids, clip_norm):\n"
        "    optimizer.zero_grad()\n"
        "    loss = model(input_ids, group_ids, labels=input_ids).loss\n"
        "    loss.backward()\n"
        "    torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)\n"
        "    optimizer.step()\n"
        "    return loss",
        # clipped by hand, in place
        "def training_step(model, optimizer, input_ids, group_ids, clip_norm):\n"
        "    nats = -model(input_ids, group_ids, labels=input_ids).log_probs[group_ids > 0]\n"
        "    nats.mean().backward()\n"
        "    gradients = [w.grad for w in model.parameters() if w.grad is not None]\n"
        "    length = sum(g.square().sum() for g in gradients) ** 0.5\n"
        "    for g in gradients:\n"
        "        g.mul_((clip_norm / length).clamp_max(1))\n"
        "    optimizer.step()\n"
        "    model.zero_grad()\n"
        "    return nats.mean().item()",
    ],
    "blank_curriculum": [
        # a stage for each size, shares that are rounded, and the orders as two parts
        "sizes = [Stage(f'spans of {size}', 8.333, (Part('span', [size]),)) for size in (1, 2, 4)]\n"
        "rest = [Part('shuffled', [4], 0.167), Part('sentence', [1], 0.667), Part('shuffled', [1], 0.167)]\n"
        "blank_curriculum = Curriculum([Stage('first', 25, [Part('blocks')]), *sizes, Stage('last', 50, rest)])",
    ],
    "microbatch_losses": [
        LOSSES.format(loss="log_p.where(p, 0).sum()[None] / -count").replace("int(p.sum())", "p.sum()"),
        # the means, weighted
        "def microbatch_losses(log_probs, predicted):\n"
        "    share = torch.stack([p.sum() for p in predicted]).double()\n"
        "    share /= share.sum()\n"
        "    means = [-log_p[p].sum() / p.sum().clamp_min(1) for log_p, p in zip(log_probs, predicted)]\n"
        "    return tuple(mean * part for mean, part in zip(means, share))",
    ],
    "rows_of_step": [
        # all epochs from the first on
        "def rows_of_step(step, batch_size, size, order_of):\n"
        "    epochs = map(order_of, itertools.count())\n"
        "    rows = itertools.chain.from_iterable(epochs)\n"
        "    return list(itertools.islice(rows, step * batch_size, (step + 1) * batch_size))",
    ],
    "toy_curriculum": [
        "parts = (Part('shuffled', (1,)), Part('blocks', (1,)))\n"
        "toy_curriculum = Curriculum((Stage('half and half', 1, parts),))",
    ],
}
