"""Known wrong answers to the exercises of notebook 09: code that defines the name, and what the check must say."""

DISTINCT = """\
def distinct_share(tokens, n):
    found = [tuple(tokens[start : start + n]) for start in {starts}]
    return {result}
"""
STARTS = "range(len(tokens) - n + 1)"

ENDING = """\
def choose_ending(log_likelihoods, lengths):
    scores = [{score} for total, length in zip(log_likelihoods, lengths)]
    return scores.index({best}(scores)){end}
"""

QUESTIONS = """\
def questions_needed(p, half_width):
    return {result}
"""

INTERVAL = """\
def paired_interval(first, second, draws, generator):
    def draw():
        return {drawn}

    drawn = draw()
    means = {means}
    low, high = means.quantile(torch.tensor({tails}, dtype=means.dtype)).tolist()
    return {result}
"""
PAIRED = {
    "drawn": "torch.randint(len(first), (draws, len(first)), generator=generator)",
    "means": "(first - second)[drawn].mean(-1)",
    "tails": "[0.025, 0.975]",
    "result": "low, high",
}

GAP = """\
def gap_score(text, reference, before):
    def words(one):
        return {words}

    known = {known}
    first, second = (
        Counter({{word: count for word, count in words(one).items() if word not in known}}) for one in (text, reference)
    )
    common, total = (first & second).total(), first.total() + second.total()
    return {result}
"""
OPEN = {
    "words": 'Counter("".join(c if c.isalnum() else " " for c in one.lower()).split())',
    "known": "words(before)",
    "result": "200 * common / total if total else 0.0",
}

MISTAKES = {
    "distinct_share": [
        (DISTINCT.format(starts=STARTS, result="len(set(found))"), "Divide by the number of runs"),
        (DISTINCT.format(starts=STARTS, result="len(set(found)) / len(tokens)"), "not the tokens"),
        (DISTINCT.format(starts=STARTS, result="1 - len(set(found)) / len(found)"), "share of repeats"),
        (DISTINCT.format(starts="range(0, len(tokens), n)", result="len(set(found)) / len(found)"), "Runs overlap"),
        (
            DISTINCT.format(starts=STARTS, result="sum(found.count(run) == 1 for run in found) / len(found)"),
            "still counts once",
        ),
        (DISTINCT.format(starts="range(len(tokens) - n)", result="len(set(found)) / len(found)"), "yours is"),
    ],
    "choose_ending": [
        (ENDING.format(score="total / length", best="min", end=""), "Mind the sign"),
        (ENDING.format(score="total", best="max", end=""), "short endings win"),
        (ENDING.format(score="length", best="min", end=""), "mean losses"),
        (ENDING.format(score="total / length", best="max", end=" + 1"), "ending"),
        (ENDING.format(score="total / length", best="max", end=" * 1.0"), "the index of an ending"),
    ],
    "questions_needed": [
        (QUESTIONS.format(result="math.floor(1.96**2 * p * (1 - p) / half_width**2)"), "Round up"),
        (QUESTIONS.format(result="math.ceil(p * (1 - p) / half_width**2)"), "one standard error"),
        (QUESTIONS.format(result="math.ceil(1.96 * (p * (1 - p)) ** 0.5 / half_width)"), "square both sides"),
        (QUESTIONS.format(result="math.ceil(1.96 * p * (1 - p) / half_width**2)"), "Square the 1.96"),
        (QUESTIONS.format(result="math.ceil(1.96**2 * p * (1 - p) / (half_width / 2) ** 2)"), "Do not halve it"),
        (QUESTIONS.format(result="math.ceil(1.96**2 * p * (1 - p) / (2 * half_width) ** 2)"), "Do not double it"),
        (QUESTIONS.format(result="math.ceil(1.96**2 * p * (1 - p) / half_width)"), "the square of the half-width"),
        (QUESTIONS.format(result="math.ceil(1.96**2 / half_width**2)"), "Where is p (1 - p)?"),
        (QUESTIONS.format(result="math.ceil(1.96**2 * 0.25 / half_width**2)"), "the worst case"),
        (QUESTIONS.format(result="1.96**2 * p * (1 - p) / half_width**2"), "a whole number"),
    ],
    "paired_interval": [
        (
            INTERVAL.format(**PAIRED | {"means": "first[drawn].mean(-1) - second[draw()].mean(-1)"}),
            "for each system apart",
        ),
        (INTERVAL.format(**PAIRED | {"means": "(second - first)[drawn].mean(-1)"}), "second minus first"),
        (INTERVAL.format(**PAIRED | {"means": "(first - second)[drawn][:, 0]"}), "single differences"),
        (INTERVAL.format(**PAIRED | {"means": "first[drawn].mean(-1)"}), "first alone"),
        (INTERVAL.format(**PAIRED | {"tails": "[0.05, 0.95]"}), "2.5% on each side"),
        (
            INTERVAL.format(
                **PAIRED
                | {"drawn": "torch.stack([torch.randperm(len(first), generator=generator) for _ in range(draws)])"}
            ),
            "with replacement",
        ),
        (INTERVAL.format(**PAIRED | {"drawn": "torch.randint(len(first), (draws, len(first)))"}), "the same generator"),
        (INTERVAL.format(**PAIRED | {"result": "low"}), "the two ends"),
    ],
    "gap_score": [
        (GAP.format(**OPEN | {"known": "()"}), "words that were there already"),
        (GAP.format(**OPEN | {"words": "Counter(one.split())"}), "case and punctuation"),
        (GAP.format(**OPEN | {"result": "100 * common / max(1, second.total())"}), "ask for precision too"),
        (GAP.format(**OPEN | {"result": "100 * common / max(1, first.total())"}), "ask for recall too"),
        (GAP.format(**OPEN | {"result": "200 * common / total"}), "no words are left to count"),
        (GAP.format(**OPEN | {"result": "100.0 * (first == second)"}), "must be worth something"),
        (GAP.format(**OPEN | {"result": "100.0 * (common > 0)"}), "three new words"),
        (GAP.format(**OPEN | {"result": "200.0 * common"}), "between 0 and 100"),
        (GAP.format(**OPEN | {"result": "str(common)"}), "return one number"),
        (
            GAP.format(**OPEN | {"result": "min(100.0, 8 * sum(n for w, n in first.items() if w in second))"}),
            "saying 'dog' five times",
        ),
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    "distinct_share": [],
    "choose_ending": [],
    "questions_needed": [],
    "paired_interval": [],
    "gap_score": [],
}
