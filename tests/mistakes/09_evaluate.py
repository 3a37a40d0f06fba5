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
}
