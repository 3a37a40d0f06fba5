"""Known wrong answers to the exercises of notebook 09: code that defines the name, and what the check must say."""

BYTES = "def training_bytes(frozen, trained):\n    return {}"

LORA = "def lora_weights(shapes, rank):\n    return {}"

SPLIT = """\
def split_batch(batch_size, fits):
    micro = {micro}
    return {result}
"""
DIVISOR = "max(rows for rows in range(1, min(batch_size, fits) + 1) if batch_size % rows == 0)"

SAVE = """\
def save_every(step_seconds, save_seconds, session_seconds):
    best = {best}
    return {result}
"""
BEST = "math.sqrt(2 * save_seconds * session_seconds) / step_seconds"

FAIR = """\
fair_runs = [
    {{"rank": rank, "learning_rate": rate, "seed": {seed}, "steps": {steps}, "batch": 32}}
    for rank in {ranks}
    for rate in {rates}
    for seed in {seeds}
]
"""
RUNS = {"seed": "seed", "steps": "500", "ranks": "(8, 32)", "rates": "(5e-4, 2e-3)", "seeds": "range(3)"}

MISTAKES = {
    "training_bytes": [
        (BYTES.format("16 * (frozen + trained)"), "What is frozen has no gradient"),
        (BYTES.format("16 * trained"), "A frozen weight is in memory too"),
        (BYTES.format("frozen + 4 * trained"), "each has 4 bytes"),
        (BYTES.format("32 * frozen + 128 * trained"), "You count bits"),
        (BYTES.format("4 * frozen + 12 * trained"), "AdamW keeps two moments"),
        (BYTES.format("4 * frozen + 8 * trained"), "Where are the two moments"),
        (BYTES.format("4 * (frozen + trained)"), "what else is kept"),
        (BYTES.format("8 * frozen + 16 * trained"), "yours is"),
        (BYTES.format("'16 GB'"), "return one number"),
        (BYTES.format("(4 * frozen + 16 * trained) / 2**30"), "in no larger unit"),
        (BYTES.format("4 * frozen + 16 * trained if frozen > trained else 16 * trained + 2 * frozen"), "yours is"),
        (BYTES.format("4 * max(frozen, trained) + 12 * trained"), "yours is"),
    ],
    "lora_weights": [
        (LORA.format("sum(a * b for a, b in shapes)"), "This is full training"),
        (LORA.format("sum(rank * a * b for a, b in shapes)"), "columns and 4 rows: add"),
        (LORA.format("sum(a * b + rank * (a + b) for a, b in shapes)"), "The matrix itself is frozen"),
        (LORA.format("sum(a + b for a, b in shapes)"), "Multiply by the rank."),
        (LORA.format("sum(2 * rank * a for a, b in shapes)"), "need not be square"),
        (LORA.format("sum(rank * rank * (a + b) for a, b in shapes)"), "Multiply by the rank once"),
        (LORA.format("rank * sum(shapes[0])"), "Add up all matrices"),
        (LORA.format("sum(rank * b for a, b in shapes)"), "two thin matrices"),
        (LORA.format("sum(2 * rank * (a + b) for a, b in shapes)"), "yours is"),
        (LORA.format("None"), "return one integer"),
        (LORA.format("sum(rank * sum(shape) for shape in {*shapes})"), "yours is"),
        (LORA.format("sum(2 * rank * min(shape) for shape in shapes)"), "yours is"),
        (LORA.format("float(sum(rank * sum(shape) for shape in shapes))"), "return one integer"),
    ],
    "split_batch": [
        (SPLIT.format(micro="min(batch_size, fits)", result="micro, batch_size // micro"), "the step must keep its 48"),
        (SPLIT.format(micro="min(batch_size, fits)", result="micro, -(-batch_size // micro)"), "must keep its"),
        (SPLIT.format(micro="1", result="1, batch_size"), "A larger microbatch fits"),
        (SPLIT.format(micro="batch_size", result="micro, 1"), "48 rows do not fit"),
        (SPLIT.format(micro=DIVISOR, result="batch_size // micro, micro"), "You swapped the two"),
        (SPLIT.format(micro=DIVISOR, result="micro, batch_size / micro"), "return two integers"),
        (SPLIT.format(micro=DIVISOR, result="micro"), "return rows of a microbatch, and how many"),
        (SPLIT.format(micro=DIVISOR.replace("+ 1)", "+ 2)"), result="micro, batch_size // micro"), "rows do not fit"),
        (SPLIT.format(micro="math.gcd(batch_size, fits)", result="micro, batch_size // micro"), "A larger microbatch"),
        (
            SPLIT.format(
                micro="max(2**n for n in range(9) if 2**n <= fits and batch_size % 2**n == 0)",
                result="micro, batch_size // micro",
            ),
            "A larger microbatch",
        ),
        (SPLIT.format(micro="fits // batch_size", result="micro, batch_size"), "Both are at least 1"),
    ],
    "save_every": [
        (SAVE.format(best=BEST, result="1"), "You save all the time"),
        (SAVE.format(best=BEST, result="round(best * step_seconds)"), "divide by those of a step"),
        (SAVE.format(best=BEST, result="round(best / math.sqrt(2))"), "loses half of the time"),
        (SAVE.format(best=BEST, result="round(best**2 * step_seconds)"), "take a square root"),
        (SAVE.format(best=BEST, result="round(session_seconds / step_seconds)"), "You save once per session"),
        (SAVE.format(best=BEST, result="max(1, round(best))"), "take the one that costs less"),
        (SAVE.format(best=BEST, result="max(1, round(2 * best))"), "the best"),
        (SAVE.format(best=BEST, result="best"), "a whole number of steps"),
        (SAVE.format(best=BEST, result="0"), "at least one step"),
        (SAVE.format(best=BEST, result="math.ceil(best)"), "take the one that costs less"),
        (SAVE.format(best=BEST, result="max(1, math.floor(best))"), "take the one that costs less"),
        (
            SAVE.format(
                best="math.ceil(math.sqrt(2 * save_seconds * session_seconds)) / step_seconds",
                result="min(max(1, math.floor(best)), math.ceil(best), "
                "key=lambda n: save_seconds / n + n * step_seconds**2 / session_seconds / 2)",
            ),
            "50 steps, not 51",
        ),
        (SAVE.format(best=BEST, result="min(max(2, math.floor(best)), math.ceil(best))"), "1 steps, not 2"),
    ],
    "fair_runs": [
        (FAIR.format(**RUNS | {"ranks": "(8, 16, 32)"}), "12 runs, not 18"),
        (FAIR.format(**RUNS | {"rates": "(1e-3,)"}), "has one learning rate"),
        (FAIR.format(**RUNS | {"seeds": "range(2)"}), "2 of the 3 seeds"),
        (FAIR.format(**RUNS | {"ranks": "(8,)"}), "nothing is compared"),
        (FAIR.format(**RUNS | {"steps": "100 * rank"}), "steps and batch differ"),
        (FAIR.format(**RUNS | {"seed": "seed + 10 * rank"}), "no run has a partner"),
        (FAIR.format(**RUNS | {"seed": "seed + (rate > 1e-3)"}), "rate and seed are mixed up"),
        (FAIR.format(**RUNS | {"rates": "((5e-4,) if rank == 8 else (5e-4, 1e-3))"}), "has one learning rate"),
        (FAIR.format(**RUNS | {"ranks": "(8, 8)"}), "two of the runs are the same"),
        (FAIR.format(**RUNS).replace('"batch"', '"batch_size"'), "each run is a dict with batch"),
        ("fair_runs = {}", "make a list"),
        (FAIR.format(**RUNS | {"rates": "(-1e-3, 1e-3)"}), "learning_rate is a number above 0 and below 1, not -0.001"),
        (
            FAIR.format(**RUNS | {"rates": "('1e-3', '2e-3')"}),
            "above 0 and below 1, not '1e-3'",
        ),
        (FAIR.format(**RUNS | {"rates": "(1e-3, 1e3)"}), "above 0 and below 1, not 1000.0"),
        (FAIR.format(**RUNS | {"steps": "0"}), "steps is a whole number of at least 1, not 0"),
        (FAIR.format(**RUNS | {"steps": "[500]"}), "steps is a whole number of at least 1, not [500]"),
        (FAIR.format(**RUNS | {"ranks": "(0, 8)"}), "rank is a whole number of at least 1, not 0"),
        (FAIR.format(**RUNS | {"seed": "seed / 2"}), "seed is a whole number, not 0.0"),
        (FAIR.format(**RUNS | {"seeds": "(0, 1, 1)"}), "two of the runs are the same"),
        (FAIR.format(**RUNS | {"ranks": "(4, 8, 32)", "seeds": "range(2)"}), "2 of the 3 seeds"),
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    "training_bytes": [
        # all weights, and what a trained one has besides; a tensor
        """\
def training_bytes(frozen, trained):
    weights = torch.tensor([frozen + trained, trained, trained, trained])
    return weights.sum() * torch.float32.itemsize
""",
        # bits, and a number that is no int
        "def training_bytes(frozen, trained):\n    return 32 * (frozen + 4 * trained) / 8",
    ],
    "lora_weights": [
        # the shapes as a tensor
        "def lora_weights(shapes, rank):\n    return rank * torch.tensor(shapes).sum()",
        # the two matrices themselves
        """\
def lora_weights(shapes, rank):
    added = [(torch.empty(rank, inside), torch.empty(outside, rank)) for outside, inside in shapes]
    return sum(matrix.numel() for pair in added for matrix in pair)
""",
    ],
    "split_batch": [
        # the fewest microbatches; a list
        """\
def split_batch(batch_size, fits):
    count = -(-batch_size // fits)
    while batch_size % count:
        count += 1
    return [batch_size // count, count]
""",
        # tensors
        """\
def split_batch(batch_size, fits):
    rows = torch.arange(1, fits + 1)
    micro = rows[(batch_size % rows == 0) & (rows <= batch_size)].max()
    return micro, batch_size // micro
""",
    ],
    "save_every": [
        # up to where one step more costs more
        """\
def save_every(step_seconds, save_seconds, session_seconds):
    def cost(n):
        return save_seconds / (n * step_seconds) + n * step_seconds / session_seconds / 2

    n = 1
    while cost(n + 1) < cost(n):
        n += 1
    return n
""",
        # n (n + 1) is first as large as the square of the best
        """\
def save_every(step_seconds, save_seconds, session_seconds):
    square = 2 * save_seconds * session_seconds / step_seconds**2
    return max(1, math.ceil((math.sqrt(1 + 4 * square) - 1) / 2))
""",
        # all whole numbers at once
        """\
def save_every(step_seconds, save_seconds, session_seconds):
    n = torch.arange(1, 5000, dtype=torch.float64)
    return (save_seconds / n + n * step_seconds**2 / 2 / session_seconds).argmin() + 1
""",
    ],
    "fair_runs": [
        # each rank has rates of its own; seed by seed, in a tuple
        """\
fair_runs = tuple(
    dict(seed=seed, rank=rank, learning_rate=rate * scale, batch=1, steps=2000)
    for seed in (17, -3, 1234)
    for rate in (1, 1e-1)
    for rank, scale in ((64, 1e-3), (2, 5e-3))
)
""",
        # numbers as PyTorch has them
        """\
fair_runs = [
    {"rank": rank, "learning_rate": rate, "seed": seed, "steps": torch.tensor(100), "batch": torch.tensor(8)}
    for seed in torch.randperm(3)
    for rank in torch.tensor([1, 16])
    for rate in torch.logspace(-4, -3, 2)
]
""",
    ],
}
