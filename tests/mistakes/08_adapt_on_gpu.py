"""Known wrong answers to the exercises of notebook 08: code that defines the name, and what the check must say."""

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
    ],
    "split_batch": [
        (SPLIT.format(micro="min(batch_size, fits)", result="micro, batch_size // micro"), "the step must keep its 48"),
        (SPLIT.format(micro="min(batch_size, fits)", result="micro, -(-batch_size // micro)"), "must keep its"),
        (SPLIT.format(micro="1", result="1, batch_size"), "A larger microbatch fits"),
        (SPLIT.format(micro="batch_size", result="micro, 1"), "48 rows do not fit"),
        (SPLIT.format(micro=DIVISOR, result="batch_size // micro, micro"), "You swapped the two"),
        (SPLIT.format(micro=DIVISOR, result="micro, batch_size / micro"), "return two integers"),
        (SPLIT.format(micro=DIVISOR, result="micro"), "return a tuple"),
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
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    "training_bytes": [],
    "lora_weights": [],
    "split_batch": [],
    "save_every": [],
    "fair_runs": [],
}
