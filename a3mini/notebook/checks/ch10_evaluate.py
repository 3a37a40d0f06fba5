"""Checks for the exercises of notebook 10, evaluate."""

import math
import random
from collections.abc import Callable
from numbers import Real

import torch

from a3mini.notebook.checks.base import Mistake, case, exercise, expect, plain


@exercise
def distinct_share(answer: Callable) -> None:
    """From tokens and n to the share of different runs among all runs of n tokens."""
    for tokens, n in (
        ([1, 2, 3, 4], 1),
        ([1, 2, 1, 2, 1, 2, 1, 3], 2),
        ([5, 5, 5, 5, 5, 6], 1),
        ([1, 2, 3, 1, 2, 3, 1, 2], 3),
        ([1, 11, 1, 1, 11, 1, 11, 11, 1], 2),  # as one text 1 11 and 11 1 are the same
        ([4, 4, 4], 3),
    ):
        runs = [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]
        with case(f"for {tokens} and n = {n}"):
            got = plain(answer(list(tokens), n))
        expect(isinstance(got, Real) and not isinstance(got, bool), "return one number.")
        got, right = float(got), len(set(runs)) / len(runs)
        if math.isclose(got, right):
            continue
        found = f"for {tokens} and n = {n} it is {len(set(runs))}/{len(runs)} = {right:.3f}, yours is {got:.3f}"
        blocks = [tuple(tokens[start : start + n]) for start in range(0, len(tokens), n)]
        expect(not math.isclose(got, len(set(runs))), f"{found}. Divide by the number of runs.")
        expect(not math.isclose(got, len(set(runs)) / len(tokens)), f"{found}. Divide by the runs, not the tokens.")
        expect(not math.isclose(got, 1 - right), f"{found}. This is the share of repeats.")
        expect(
            not math.isclose(got, len(set(blocks)) / len(blocks)), f"{found}. Runs overlap: one begins at each token."
        )
        once = sum(runs.count(run) == 1 for run in set(runs)) / len(runs)
        expect(not math.isclose(got, once), f"{found}. A run that comes back still counts once.")
        expect(False, f"{found}.")


@exercise
def choose_ending(answer: Callable) -> None:
    """From summed log-likelihoods and lengths to the index of the ending with the lowest mean loss."""
    examples = [
        ([-12.0, -9.0, -20.0, -30.0], [6, 3, 5, 20]),
        ([-4.0, -9.0], [1, 9]),
        ([-8.0, -6.0, -7.0], [4, 2, 7]),
        ([-5.0, -5.0, -6.0], [5, 10, 4]),
        ([-3.0, -12.0, -2.4], [2, 10, 1]),  # here a division by one more chooses another ending
        ([-2.4, -13.0, -2.3], [2, 10, 1]),  # and here by one fewer
    ]
    draw = random.Random(0)
    for _ in range(50):
        lengths = [draw.randint(1, 12) for _ in range(4)]
        examples.append(([-length * draw.uniform(1, 2) for length in lengths], lengths))
    for totals, lengths in examples:
        with case(f"log-likelihoods {totals}, lengths {lengths}"):
            got = plain(answer(list(totals), list(lengths)))
        means = [total / length for total, length in zip(totals, lengths, strict=True)]
        expect(isinstance(got, int) and 0 <= got < len(totals), f"return the index of an ending; yours is {got!r}.")
        right = means.index(max(means))
        if got == right:
            continue
        losses = ", ".join(f"{-mean:.2f}" for mean in means)
        found = f"the mean losses are {losses}; ending {right} has the lowest, yours is {got}"
        expect(got != means.index(min(means)), f"{found}. Mind the sign: this is the highest loss.")
        expect(got != totals.index(max(totals)), f"{found}. Divide by the number of tokens, or short endings win.")
        for more in (1, -1):
            others = [total / (length + more or 1e-9) for total, length in zip(totals, lengths, strict=True)]
            expect(got != others.index(max(others)), f"{found}. Divide by the number of tokens, no more and no fewer.")
        expect(got != lengths.index(min(lengths)), f"{found}. This is the shortest ending.")
        expect(False, f"{found}.")


@exercise
def questions_needed(answer: Callable) -> None:
    """From a share and the half-width of its 95% interval to the number of questions."""
    for p, half_width in (
        (0.25, 0.02),
        (0.5, 0.03),
        (0.8, 0.1),
        (0.6, 0.01),
        (0.3, 0.115),  # just above a whole number
        (0.5, 0.4),
        (0.9, 0.7),
        (0.5, 0.245),  # exactly 16
    ):
        got, exact = plain(answer(p, half_width)), 1.96**2 * p * (1 - p) / half_width**2
        expect(isinstance(got, int) and not isinstance(got, bool), "return a whole number, an int.")
        right = math.ceil(exact)
        if got == right:
            continue
        found = f"for a share of {p} and a half-width of {half_width} it is {right:,}, yours is {got:,}"

        def near(value: float, got: int = got) -> bool:
            return abs(got - value) <= 1

        expect(got != right + 1, f"{found}. One fewer is enough.")
        expect(got != math.floor(exact), f"{found}. Round up, or the interval is a little too wide.")
        expect(not near(exact / 1.96**2), f"{found}. This is one standard error; a 95% interval has 1.96 of them.")
        expect(not near(exact**0.5), f"{found}. This is the root of the number: square both sides.")
        expect(not near(exact / 1.96), f"{found}. Square the 1.96 too.")
        expect(not near(4 * exact), f"{found}. Do not halve it again: it is one side of the ±.")
        expect(not near(exact / 4), f"{found}. Do not double it: the half-width is one side of the ±.")
        expect(not near(exact * half_width), f"{found}. Divide by the square of the half-width.")
        expect(not near(exact / (p * (1 - p))), f"{found}. Where is share (1 - share)?")
        expect(not near(exact / (p * (1 - p)) / 4) or p == 0.5, f"{found}. You took a share of 0.5, the worst case.")
        expect(not near(1.96**2 * (p * (1 - p)) ** 0.5 / half_width**2), f"{found}. The variance is share (1 - share).")
        expect(False, f"{found}.")


@exercise
def paired_interval(answer: Callable) -> None:
    """From the scores of two systems on the same examples to the bootstrap interval of their mean difference."""
    for seed, count in ((0, 60), (1, 25), (2, 8)):
        noise = torch.Generator().manual_seed(seed)
        hardness = 10 * torch.rand(count, generator=noise, dtype=torch.float64)
        first = hardness + 0.3 + torch.randn(count, generator=noise, dtype=torch.float64)
        second = hardness + torch.randn(count, generator=noise, dtype=torch.float64)
        if count == 8:  # one difference decides: the quantiles are far from those of a normal distribution
            second = first - torch.tensor([0.2, 0.0, 12.0, 0.1, 1.0, 0.1, 0.5, 0.3])

        def interval(draws: int, first=first, second=second) -> tuple[float, float]:
            generator = torch.Generator().manual_seed(2)
            before = generator.get_state()
            got = answer(first.clone(), second.clone(), draws, generator)
            got = got.tolist() if hasattr(got, "tolist") else got
            expect(isinstance(got, tuple | list) and len(got) == 2, "return the two ends of the interval.")
            drawn = not torch.equal(before, generator.get_state())
            expect(drawn, "nothing was drawn with the generator: a bootstrap draws examples with it.")
            return tuple(map(float, got))

        low, high = interval(4000)
        expect(
            seed > 0 or interval(4000) == (low, high),
            "the same generator should give the same interval: draw from it alone.",
        )

        def ends(difference: torch.Tensor, level: float = 0.95, count: int = count) -> tuple[float, float]:
            drawn = torch.randint(count, (20_000, count), generator=torch.Generator().manual_seed(3))
            tail = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
            return tuple(difference[drawn].mean(-1).quantile(tail).tolist())

        right = ends(first - second)
        width, right_width = high - low, right[1] - right[0]

        def close(one: tuple[float, float], to: float, low: float = low, high: float = high) -> bool:
            return max(abs(one[0] - low), abs(one[1] - high)) < 0.05 * to

        if close(right, right_width):
            expect(
                seed > 0 or interval(500) != (low, high),
                "500 draws and 4,000 give the same interval: make as many as `draws`.",
            )
            continue
        found = f"here it is about [{right[0]:.2f}, {right[1]:.2f}], yours is [{low:.2f}, {high:.2f}]"
        expect(low <= high, f"{found}. The lower end comes first.")
        expect(width > 1e-9, f"{found}. It has no width: draw with replacement.")
        mean, error = (first - second).mean().item(), (first - second).std().item() / count**0.5
        expect(
            not close((mean - 1.96 * error, mean + 1.96 * error), right_width),
            f"{found}. These are 1.96 standard errors; take the quantiles of the means that you drew.",
        )
        expect(
            not close((2 * mean - right[1], 2 * mean - right[0]), right_width),
            f"{found}. This is the interval in a mirror; the percentile bootstrap takes the quantiles as they are.",
        )
        expect(not close((-right[1], -right[0]), right_width), f"{found}. This is second minus first.")
        spread = (first - second).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        expect(
            width < 0.75 * (spread[1] - spread[0]),
            f"{found}. These are quantiles of single differences; take those of their means.",
        )
        unpaired = (ends(first)[1] - ends(first)[0]) ** 2 + (ends(second)[1] - ends(second)[0]) ** 2
        expect(
            abs(width - unpaired**0.5) > 0.1 * unpaired**0.5,
            f"{found}. You drew examples for each system apart: then what makes an example hard does not cancel.",
        )
        expect(
            not close(ends(first), ends(first)[1] - ends(first)[0]), f"{found}. This is the interval of first alone."
        )
        expect(
            not close(ends(first - second, 0.9), 0.7 * right_width),
            f"{found}. 95% in the middle leave 2.5% on each side, not 5%.",
        )
        expect(False, f"{found}.")


@exercise
def gap_score(answer: Callable) -> str:
    """From a filled gap, the true sentence and the sentence before to a score that copying cannot win."""
    other = "Yesterday we swam."
    much = "Yesterday we ate soup with a spoon, and then the sun went down over the sea and the hills."
    for before, true in (
        ("Anna lost her red ball in the park.", "A little dog found her ball under a bench."),
        ("Rain fell on the cat.", "His old cat slept in the warm rain."),
    ):

        def score(text: str, reference: str = true, left: str = before) -> float:
            got = plain(answer(text, reference, left))
            expect(isinstance(got, float | int) and not isinstance(got, bool), "return one number.")
            expect(-1e-9 <= got <= 100 + 1e-9, f"a score lies between 0 and 100, not at {got}.")
            return float(got)

        known = _words(before)
        new = list(dict.fromkeys(word for word in _words(true) if word not in known))
        nothing, whole = score(other), score(true)
        for copy in (before, before.upper(), f"{before} {before}"):
            got = score(copy)
            expect(
                got <= nothing + 1e-9,
                f"the copy {copy!r} gets {got:.1f}, a sentence that hits nothing {nothing:.1f}. "
                "Do not pay for words that were there already.",
            )
        for frame in (other, ""):  # new words beside others, and alone
            fewer = score(frame)
            for count in range(1, len(new)):
                text = f"{' '.join(new[:count])} {frame}".strip()
                more = score(text)
                expect(
                    more > fewer + 1e-9,
                    f"{text!r} gets {more:.1f}, without {new[count - 1]!r} {fewer:.1f}: "
                    "each new word of the true sentence must be worth something.",
                )
                expect(
                    whole > more + 1e-9,
                    f"the true sentence gets {whole:.1f}, no more than {text!r}: words are missing; ask for recall.",
                )
                fewer = more
        for text, reference, left in (
            (", ".join(true.upper().split()) + "!", true, before),
            (true, f"... {true.upper()}", before),
            (true, true, before.upper().replace(" ", ", ")),
        ):
            expect(
                math.isclose(score(text, reference, left), whole),
                "case and punctuation are no part of a word: the same words, the same score.",
            )
        word = new[-1]
        expect(
            score(" ".join([word] * 5)) <= score(word) + 1e-9,
            f"saying {word!r} five times gets more than saying it once: count it as often as the true sentence has it.",
        )
        expect(
            score(f"{true} {much}") < whole - 1e-9,
            "a text that says the true sentence and much else gets as much as that alone: ask for precision too.",
        )
        for text, reference, left in (
            ("", true, before),
            (true, "", before),
            (before, before, before),
            ("...", "?", ""),
        ):
            try:
                score(text, reference, left)
            except ZeroDivisionError:
                found = f"{text!r} against {reference!r} after {left!r}"
                raise Mistake(f"{found}: no words are left to count, and you divide by 0.") from None
    return "copying cannot win. Now the systems of section 4."


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()
