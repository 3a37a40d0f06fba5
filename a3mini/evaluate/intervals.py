"""Confidence intervals over examples: how far a number could move if other examples had been drawn.

A mean has the percentile bootstrap (Efron 1979): draw as many examples again, with replacement, take their mean, do so
many times, and keep the middle 95% of the means. Two systems that met the same examples are compared by the
differences example by example; what makes one story harder than another then falls away. A share of hits has Wilson's
interval (1927), which needs no draws, and which stays honest where every example, or none, is a hit: the bootstrap
has no width there.
"""

from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from a3mini import groups

LEVEL = 0.95
DRAWS = 10_000
CHUNK = 2**20  # numbers drawn at a time


class Interval(NamedTuple):
    """An estimate and its confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float

    def rounded(self, digits: int = 2) -> dict[str, float]:
        """For a result file."""
        return {name: round(value, digits) for name, value in self._asdict().items()}


def bootstrap(
    values: Tensor, weights: Tensor | None = None, level: float = LEVEL, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """The mean of ``values`` over examples, and its percentile-bootstrap interval.

    Args:
        values: (N,), one number for each of two or more examples.
        weights: (N,), 0 or more, with a positive sum. The mean is then sum(weights * values) / sum(weights), and an
            example is drawn together with its weight: losses per token, weighted by the number of tokens, give the
            loss over all tokens.
        level: share of the drawn means that the interval holds.
        draws: how many means are drawn.
        seed: of the draws; the same seed draws the same examples, whatever their values.

    Raises:
        TypeError: not a tensor of numbers.
        ValueError: a wrong shape, fewer than two examples, a value that is not finite, weights that are negative or
            sum to 0, or an option out of its range.
    """
    values = _numbers("values", values)
    weights = torch.ones_like(values) if weights is None else _numbers("weights", weights)
    if weights.shape != values.shape:
        raise ValueError(f"there are {len(values)} values but {len(weights)} weights; give one weight for each value")
    if (weights < 0).any() or not weights.sum() > 0:
        raise ValueError(f"weights must be 0 or more, and not all 0; the smallest is {weights.min().item():g}")
    _check_level(level)
    groups.check_integer("draws", draws, 1)
    count, generator = len(values), torch.Generator().manual_seed(seed)
    weighted, means = values * weights, []
    for part in torch.arange(draws).split(max(1, CHUNK // count)):
        drawn = torch.randint(count, (len(part), count), generator=generator)
        # a draw of examples that all have weight 0 has no mean, and does not count
        means.append(weighted[drawn].sum(-1) / weights[drawn].sum(-1))
    means = torch.cat(means)
    tail = (1 - level) / 2
    low, high = means[means.isfinite()].quantile(torch.tensor([tail, 1 - tail], dtype=means.dtype)).tolist()
    return Interval((weighted.sum() / weights.sum()).item(), low, high)


def paired(first: Tensor, second: Tensor, weights: Tensor | None = None, **options) -> Interval:
    """The mean of ``first - second``, two systems on the same examples in the same order, and its interval.

    The difference is clear at ``level`` where the interval does not hold 0.

    Args:
        first, second: (N,).
        weights, options: as ``bootstrap``.

    Raises:
        TypeError, ValueError: as ``bootstrap``; different numbers of examples.
    """
    first, second = _numbers("first", first), _numbers("second", second)
    if first.shape != second.shape:
        raise ValueError(
            f"first has {len(first)} examples but second has {len(second)}; a paired comparison needs the same "
            "examples in the same order"
        )
    return bootstrap(first - second, weights, **options)


def proportion(hits: Tensor, level: float = LEVEL) -> Interval:
    """The share of hits, from 0 to 1, and Wilson's interval.

    Args:
        hits: bool, (N,), one for each example.
        level: the share of such intervals that hold the true share, nearly.

    Raises:
        TypeError: ``hits`` is not a boolean tensor.
        ValueError: a wrong shape, no examples, or a level out of its range.
    """
    groups.check_mask("hits", hits)
    if hits.dim() != 1:
        raise ValueError(f"hits must have shape (N,), one for each example; got {tuple(hits.shape)}")
    _check_level(level)
    count, share = len(hits), hits.double().mean().item()
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = share + z**2 / (2 * count)
    spread = z * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    scale = 1 + z**2 / count
    return Interval(share, max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale))


def _numbers(name: str, values: Tensor) -> Tensor:
    """``values`` in float64 on the CPU, or what is wrong with them."""
    if not isinstance(values, Tensor) or values.is_complex():
        raise TypeError(f"{name} must be a tensor of numbers, got {getattr(values, 'dtype', type(values).__name__)}")
    if values.dim() != 1 or len(values) < 2:
        raise ValueError(f"{name} must have shape (N,) with two or more examples, got {tuple(values.shape)}")
    values = values.detach().cpu().double()
    if not values.isfinite().all():
        raise ValueError(f"{name} holds {values[~values.isfinite()][0].item()}; leave such examples out, and say so")
    return values


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be a share between 0 and 1, such as {LEVEL}; got {level!r}")
