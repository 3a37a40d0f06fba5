"""evaluate/intervals.py: closed forms, coverage on simulated examples, pairs, weights."""

from math import comb
from statistics import NormalDist

import pytest
import torch

from a3mini.evaluate import intervals
from a3mini.evaluate.intervals import bootstrap, paired, proportion


def normal(*shape, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_a_mean_has_the_interval_of_the_normal_distribution(level):
    """Of many examples: mean +- z * deviation / sqrt(n), the deviation that of the examples themselves."""
    values = 3 + 2 * normal(400)
    found = bootstrap(values, level=level)
    reach = NormalDist().inv_cdf((1 + level) / 2) * values.std(correction=0).item() / 400**0.5
    assert found.mean == pytest.approx(values.mean().item())
    assert found.low == pytest.approx(found.mean - reach, abs=0.05 * reach)
    assert found.high == pytest.approx(found.mean + reach, abs=0.05 * reach)


def covers(interval, truth: float, simulations: int = 300, size: int = 80) -> float:
    """How often the interval holds the true mean; the values are skewed, as scores are."""
    samples = normal(simulations, size, seed=1).exp()
    found = [interval(sample, seed) for seed, sample in enumerate(samples)]
    return sum(one.low <= truth <= one.high for one in found) / simulations


def test_coverage():
    truth = 0.5  # of exp(normal): the logarithm of its mean
    right = covers(lambda values, seed: bootstrap(values, draws=600, seed=seed), torch.tensor(truth).exp().item())
    assert 0.88 < right < 0.98
    # the mutant: the deviation of one value in place of that of a mean always holds the truth
    wide = covers(lambda values, _: intervals.Interval(0, *values.quantile(values.new_tensor([0.025, 0.975]))), 1.65)
    assert wide > 0.98
    narrow = covers(lambda values, seed: bootstrap(values, level=0.5, draws=600, seed=seed), 1.65)
    assert 0.38 < narrow < 0.6


def test_the_same_seed_gives_the_same_interval_however_the_draws_are_cut(monkeypatch):
    values = normal(50)
    found = bootstrap(values)
    assert found == bootstrap(values) != bootstrap(values, seed=1)
    whole = bootstrap(values, draws=200)
    with monkeypatch.context() as patched:
        patched.setattr(intervals, "CHUNK", 7 * 50)
        assert bootstrap(values, draws=200) == pytest.approx(whole)
    shifted, scaled = bootstrap(values + 7), bootstrap(-2 * values)
    assert shifted == pytest.approx([number + 7 for number in bootstrap(values)])
    mean, low, high = bootstrap(values)
    assert scaled == pytest.approx((-2 * mean, -2 * high, -2 * low))


def test_a_weighted_mean_is_that_of_all_tokens():
    nats, tokens = normal(60).exp(), torch.arange(60) % 7 + 1
    found = bootstrap(nats / tokens, tokens)
    assert found.mean == pytest.approx((nats.sum() / tokens.sum()).item())
    assert abs(found.mean - (nats / tokens).mean().item()) > 0.01, "a mean of means is another number"
    # a common factor changes nothing, and equal weights are no weights
    assert bootstrap(nats / tokens, 3 * tokens) == pytest.approx(found)
    assert bootstrap(nats, torch.full((60,), 2)) == pytest.approx(bootstrap(nats))
    # an example without weight is as good as absent, even where a draw holds nothing else
    pair = bootstrap(torch.tensor([5.0, 1.0]), torch.tensor([1, 0]), draws=200)
    assert pair == (5, 5, 5)


def test_paired_differences_leave_out_what_examples_share():
    hard = 10 * normal(100)
    first, second = hard + 1 + normal(100, seed=1), hard + normal(100, seed=2)
    found = paired(first, second)
    assert found == bootstrap(first - second)
    assert 0 < found.low < 1 < found.high < 2
    assert paired(second, first) == pytest.approx((-found.mean, -found.high, -found.low))
    alone = [bootstrap(values) for values in (first, second)]
    assert all(one.high - one.low > 3 * (found.high - found.low) for one in alone)
    assert paired(first, first) == (0, 0, 0)


def test_a_share_has_wilsons_interval():
    """The interval ends where the true share p satisfies |share - p| = z * sqrt(p (1 - p) / n)."""
    z = NormalDist().inv_cdf(0.975)
    for hits, count in ((0, 9), (1, 10), (7, 20), (9, 9)):
        share, low, high = proportion(torch.arange(count) < hits)
        assert share == hits / count and 0 <= low <= share <= high <= 1
        for end in (low, high):
            if 0 < end < 1:
                assert abs(share - end) == pytest.approx(z * (end * (1 - end) / count) ** 0.5)
    assert proportion(torch.ones(9, dtype=torch.bool)).low == pytest.approx(1 / (1 + z**2 / 9))


def test_a_share_is_covered():
    """Enumeration: the probability of the numbers of hits whose interval holds the truth, averaged over truths."""
    count = 30
    ends = [proportion(torch.arange(count) < hits)[1:] for hits in range(count + 1)]
    truths = [number / 40 for number in range(2, 39)]
    held = [
        sum(comb(count, n) * p**n * (1 - p) ** (count - n) for n, (low, high) in enumerate(ends) if low <= p <= high)
        for p in truths
    ]
    assert sum(held) / len(held) == pytest.approx(0.95, abs=0.01) and min(held) > 0.9


def test_rounded_for_a_result_file():
    assert bootstrap(torch.tensor([1.0, 1.0])).rounded(1) == {"mean": 1.0, "low": 1.0, "high": 1.0}


GOOD = torch.tensor([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: bootstrap([1.0, 2.0]), TypeError, "values must be a tensor of numbers, got list"),
        (lambda: bootstrap(GOOD[:1]), ValueError, "two or more examples, got (1,)"),
        (lambda: bootstrap(GOOD[None]), ValueError, "(N,)"),
        (lambda: bootstrap(torch.tensor([1.0, float("nan")])), ValueError, "values holds nan; leave"),
        (lambda: bootstrap(GOOD, GOOD[:2]), ValueError, "3 values but 2 weights"),
        (lambda: bootstrap(GOOD, -GOOD), ValueError, "the smallest is -3"),
        (lambda: bootstrap(GOOD, 0 * GOOD), ValueError, "not all 0"),
        (lambda: bootstrap(GOOD, level=95), ValueError, "got 95"),
        (lambda: bootstrap(GOOD, draws=0), ValueError, "draws must be"),
        (lambda: paired(GOOD, GOOD[:2]), ValueError, "first has 3 examples but second has 2"),
        (lambda: proportion(GOOD), TypeError, "hits must be a boolean"),
        (lambda: proportion(torch.ones(2, 2, dtype=torch.bool)), ValueError, "(2, 2)"),
        (lambda: proportion(GOOD > 1, level=1.0), ValueError, "got 1.0"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error) as found:
        call()
    assert message in str(found.value)
