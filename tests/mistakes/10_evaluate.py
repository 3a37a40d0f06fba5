"""Known wrong answers to the exercises of notebook 10: code that defines the name, and what the check must say."""

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
            DISTINCT.format(starts=STARTS, result="len({''.join(map(str, run)) for run in found}) / len(found)"),
            "for [1, 11, 1, 1, 11, 1, 11, 11, 1]",
        ),
        (DISTINCT.format(starts=STARTS, result="len({tuple(sorted(run)) for run in found}) / len(found)"), "yours is"),
        (DISTINCT.format(starts=STARTS, result="len(set(found)) / max(1, len(found) - 1)"), "yours is"),
        (DISTINCT.format(starts="range(max(1, len(tokens) - n))", result="len(set(found)) / len(found)"), "yours is"),
        (DISTINCT.format(starts=STARTS, result="found"), "return one number"),
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
        (ENDING.format(score="total / (length + 1)", best="max", end=""), "no more and no fewer"),
        (ENDING.format(score="total / max(1, length - 1)", best="max", end=""), "no more and no fewer"),
        (ENDING.format(score="total / length**0.5", best="max", end=""), "has the lowest"),
        (ENDING.format(score="abs(total) / length", best="max", end=""), "Mind the sign"),
        (ENDING.format(score="round(total / length, 1)", best="max", end=""), "has the lowest"),
    ],
    "questions_needed": [
        (QUESTIONS.format(result="math.floor(1.96**2 * p * (1 - p) / half_width**2)"), "Round up"),
        (QUESTIONS.format(result="math.ceil(p * (1 - p) / half_width**2)"), "one standard error"),
        (QUESTIONS.format(result="math.ceil(1.96 * (p * (1 - p)) ** 0.5 / half_width)"), "square both sides"),
        (QUESTIONS.format(result="math.ceil(1.96 * p * (1 - p) / half_width**2)"), "Square the 1.96"),
        (QUESTIONS.format(result="math.ceil(1.96**2 * p * (1 - p) / (half_width / 2) ** 2)"), "Do not halve it"),
        (QUESTIONS.format(result="math.ceil(1.96**2 * p * (1 - p) / (2 * half_width) ** 2)"), "Do not double it"),
        (QUESTIONS.format(result="math.ceil(1.96**2 * p * (1 - p) / half_width)"), "the square of the half-width"),
        (QUESTIONS.format(result="math.ceil(1.96**2 / half_width**2)"), "Where is share (1 - share)?"),
        (QUESTIONS.format(result="math.ceil(1.96**2 * 0.25 / half_width**2)"), "the worst case"),
        (QUESTIONS.format(result="1.96**2 * p * (1 - p) / half_width**2"), "a whole number"),
        (QUESTIONS.format(result="round(1.96**2 * p * (1 - p) / half_width**2)"), "Round up"),
        (QUESTIONS.format(result="math.floor(1.96**2 * p * (1 - p) / half_width**2) + 1"), "One fewer is enough"),
        (QUESTIONS.format(result="int(1.96**2 * p * (1 - p) / half_width**2 + 0.99)"), "Round up"),
        (QUESTIONS.format(result="math.ceil(4 * p * (1 - p) / half_width**2)"), "yours is"),
        (QUESTIONS.format(result="max(30, math.ceil(1.96**2 * p * (1 - p) / half_width**2))"), "it is 7, yours is 30"),
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
        (INTERVAL.format(**PAIRED | {"drawn": "torch.randint(len(first), (draws, len(first)))"}), "nothing was drawn"),
        (
            INTERVAL.format(
                **PAIRED | {"drawn": PAIRED["drawn"].replace("len(first), (", "1, (") + ".random_(len(first))"}
            ),
            "the same generator",
        ),
        (
            "def paired_interval(first, second, draws, generator):\n"
            "    difference = first - second\n"
            "    mean, error = difference.mean().item(), difference.std().item() / len(first) ** 0.5\n"
            "    return mean - 1.96 * error, mean + 1.96 * error",
            "nothing was drawn",
        ),
        (
            INTERVAL.format(**PAIRED | {"result": "2 * means.mean().item() - high, 2 * means.mean().item() - low"}),
            "in a mirror",
        ),
        (
            INTERVAL.format(
                **PAIRED | {"result": "tuple((means.mean() + z * means.std()).item() for z in (-1.96, 1.96))"}
            ),
            "1.96 standard errors",
        ),
        (INTERVAL.format(**PAIRED | {"result": "high, low"}), "The lower end comes first"),
        (
            INTERVAL.format(**PAIRED | {"drawn": PAIRED["drawn"].replace("draws", "4000")}),
            "make as many as `draws`",
        ),
        (INTERVAL.format(**PAIRED | {"means": "(first - second)[drawn].median(-1).values"}), "here it is about"),
        (INTERVAL.format(**PAIRED | {"result": "low"}), "the two ends"),
    ],
    "gap_score": [
        (GAP.format(**OPEN | {"known": "()"}), "words that were there already"),
        (GAP.format(**OPEN | {"words": "Counter(one.split())"}), "case and punctuation"),
        (GAP.format(**OPEN | {"result": "100 * common / max(1, second.total())"}), "ask for precision too"),
        (GAP.format(**OPEN | {"result": "100 * common / max(1, first.total())"}), "ask for recall"),
        (GAP.format(**OPEN | {"result": "200 * common / total"}), "no words are left to count"),
        (GAP.format(**OPEN | {"result": "100.0 * (first == second)"}), "must be worth something"),
        (GAP.format(**OPEN | {"result": "100.0 * (common > 0)"}), "ask for recall"),
        (GAP.format(**OPEN | {"result": "min(100, 30 * common)"}), "ask for recall"),
        (GAP.format(**OPEN | {"known": "before.split()"}), "words that were there already"),
        (
            GAP.format(**OPEN | {"known": "words(before)"})
            .replace("for one in (text, reference)\n", "for one in (text.lower(), reference)\n")
            .replace("one.lower()", "one")
            .replace("words(before)", "words(before.lower())"),
            "case and punctuation",
        ),
        (
            GAP.format(**OPEN | {"result": "100 * (text == reference) or 90 * common / max(1, second.total())"}),
            "case and",
        ),
        (GAP.format(**OPEN | {"result": "float('nan')"}), "between 0 and 100"),
        (GAP.format(**OPEN | {"result": "200.0 * common"}), "between 0 and 100"),
        (GAP.format(**OPEN | {"result": "str(common)"}), "return one number"),
        (
            GAP.format(**OPEN | {"result": "min(100.0, 8 * sum(n for w, n in first.items() if w in second))"}),
            "five times gets more",
        ),
    ],
}

# Right answers that are not the solution's.
UNUSUAL = {
    "distinct_share": [
        # shifted copies of the tokens
        """\
def distinct_share(tokens, n):
    runs = Counter(zip(*(tokens[shift:] for shift in range(n))))
    return len(runs) / runs.total()
""",
        # in PyTorch
        """\
def distinct_share(tokens, n):
    runs = torch.tensor(tokens).unfold(0, n, 1)
    return torch.tensor(len(runs.unique(dim=0)) / len(runs), dtype=torch.float64)
""",
    ],
    "choose_ending": [
        # a tensor
        """\
def choose_ending(log_likelihoods, lengths):
    return (torch.tensor(log_likelihoods) / torch.tensor(lengths)).argmax()
""",
        # perplexities, compared one by one
        """\
def choose_ending(log_likelihoods, lengths):
    def perplexity(number):
        return math.exp(-log_likelihoods[number] / lengths[number])

    return min(range(len(lengths)), key=perplexity)
""",
    ],
    "questions_needed": [
        # by halves
        """\
def questions_needed(p, half_width):
    enough, fewer = 1 << 20, 0
    while enough - fewer > 1:
        middle = (enough + fewer) // 2
        if 1.96 * math.sqrt(p * (1 - p) / middle) <= half_width:
            enough = middle
        else:
            fewer = middle
    return enough
""",
        # a tensor
        """\
def questions_needed(p, half_width):
    p = torch.tensor(p, dtype=torch.float64)
    return (p * (1 - p) * (1.96 / half_width) ** 2).ceil().long()
""",
    ],
    "paired_interval": [
        # how often each example is drawn; a tensor of two
        """\
def paired_interval(first, second, draws, generator):
    count = len(first)
    drawn = torch.ones(draws, count).multinomial(count, replacement=True, generator=generator)
    weights = torch.nn.functional.one_hot(drawn, count).sum(1).to(first.dtype)
    means = weights @ (first - second) / count
    return means.quantile(means.new_tensor([0.025, 0.975]))
""",
        # both systems with the same examples, and places in the sorted list
        """\
def paired_interval(first, second, draws, generator):
    drawn = (torch.rand(len(first), draws, generator=generator) * len(first)).long()
    means = sorted((first[drawn].mean(0) - second[drawn].mean(0)).tolist())
    return [means[int(0.025 * draws)], means[math.ceil(0.975 * draws) - 1]]
""",
    ],
    "gap_score": [
        # no 0 anywhere, and only the true sentence loses its old words
        """\
def gap_score(text, reference, before):
    def words(one):
        return Counter("".join(c if c.isalnum() else " " for c in one.casefold()).split())

    new = {word: count for word, count in words(reference).items() if word not in words(before)}
    common = (words(text) & Counter(new)).total()
    return 20 + 60 * common / (1 + max(words(text).total(), words(reference).total()))
""",
        # sets: how often a word is said plays no part
        """\
def gap_score(text, reference, before):
    import re

    mine, true, old = (set(re.findall(r"\\w+", one.lower())) for one in (text, reference, before))
    mine, true = mine - old, true - old
    return torch.tensor(100 * len(mine & true) / max(1, len(mine | true)))
""",
    ],
}
