"""How many open positions are filled at a time, and which, when the model chooses the order.

Tokens that are drawn together are drawn independently. What that loses is their total correlation TC, given all that is
finished: the sum of their entropies less their joint entropy. The joint entropy is at least that of the least certain
token alone, so for a set S of positions with the entropies H_i::

    TC(S)  =  sum_i H_i - H(S)  <=  sum_i H_i - max_i H_i

``bound`` keeps the right-hand side below a number of nats, however many tokens that are (entropy-bounded unmasking,
Ben-Hamu et al. 2025, arXiv 2505.24857). This is the TC of the joint distribution whose marginals the model predicts;
that the model may predict wrong ones is another matter. ``threshold`` is the rule of Fast-dLLM (Wu et al. 2025, arXiv
2505.22618). ``apart`` keeps neighbours out of a set, for they tell most about each other.

``window`` and ``shortlist`` bound the work: a step asks so many positions, however long the text is. Both are exact:
which are asked is a function of what is finished, and what is filled was asked in the same step. All limits combine in
one way, see ``Limits``.
"""

from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from a3mini import groups


@dataclass(frozen=True)
class Limits:
    """Which open positions are filled together.

    They are gone through in the order of the criterion, the leftmost of equals first. The first is taken, and then each
    that keeps to every limit below, together with all that are taken already; others are passed over. So at least one
    is taken. By the criterion "entropy", ``bound`` alone takes the longest beginning of the list that it allows.

    Attributes:
        per_step: so many positions at most; None: no limit, or 1 where there is neither a bound nor a threshold.
        bound: the sum of the entropies less the largest is at most this, nats; 0 or more.
        threshold: positions whose likeliest token has less than this probability, above 0 and at most 1, are left out
            of the list. Where that leaves out all, the first is taken alone.
        apart: two positions are at least so far from each other.
        window: only the first so many open positions of a row, from the left, are asked at all. None: all of them.
        shortlist: each of these is asked once; after that, at each step only the so many whose last score was best are
            asked anew, and chosen from. None: all of them are.

    Raises:
        ValueError: a value outside its range, or two that contradict each other.
    """

    per_step: int | None = None
    bound: float | None = None
    threshold: float | None = None
    apart: int = 1
    window: int | None = None
    shortlist: int | None = None

    def __post_init__(self):
        limited = [name for name in ("bound", "threshold") if getattr(self, name) is not None]
        if self.per_step is not None:
            groups.check_integer("per_step", self.per_step, 1)
        elif not limited:
            object.__setattr__(self, "per_step", 1)
        bound, threshold = self.bound, self.threshold
        if bound is not None and (not _is_number(bound) or not 0 <= bound < float("inf")):
            raise ValueError(f"bound must be 0 or a positive number of nats, or None for no bound; got {bound!r}")
        if threshold is not None and (not _is_number(threshold) or not 0 < threshold <= 1):
            raise ValueError(f"threshold must be above 0 and at most 1, or None for no threshold; got {threshold!r}")
        groups.check_integer("apart", self.apart, 1)
        if self.per_step == 1 and limited:
            raise ValueError(
                f"per_step=1 leaves {' and '.join(limited)} nothing to decide; give a larger one, or None: no limit"
            )
        for name, size in (("window", self.window), ("shortlist", self.shortlist)):
            if size is not None:
                groups.check_integer(name, size, 1)
                if self.per_step is not None and self.per_step > size:
                    raise ValueError(
                        f"per_step={self.per_step} positions cannot come from a {name} of {size}; change one of them"
                    )

    def asked(self, open_: Tensor, last: Tensor) -> Tensor:
        """Which of the open positions, bool (B, T), are asked; ``last``: their last scores, (B, T), inf where none."""
        if self.window is not None:
            open_ = open_ & (open_.long().cumsum(-1) <= self.window)
        if self.shortlist is None:
            return open_
        never = open_ & last.isinf()
        scores = _rounded(last).masked_fill(~open_ | never, float("-inf"))
        best = scores.argsort(dim=-1, descending=True, stable=True)[:, : self.shortlist]  # the leftmost of equals
        return never | (open_ & torch.zeros_like(open_).scatter(1, best, True))

    def measures(self, criterion: str) -> list[str]:
        """What has to be known of every position that is asked."""
        by_probability = self.threshold is not None or criterion == "confidence"
        by_entropy = self.bound is not None or criterion == "entropy"
        return ["confidence"] * by_probability + ["entropy"] * by_entropy

    def choose(self, scores: Tensor, measured: dict[str, Tensor]) -> Tensor:
        """The positions that are filled, bool (B, T).

        Args:
            scores: (B, T), by which the criterion orders, higher is better; -inf where a position is not asked.
            measured: (B, T) each, what ``measures`` wants.

        Positions that must have equal scores, as where nothing is seen, have them up to rounding only. So all numbers
        are compared after 6 decimals, or 12 in double precision.
        """
        decimals, scores = _decimals(scores), _rounded(scores)
        position = torch.arange(scores.shape[1], device=scores.device)
        left = scores.isfinite()  # what may still be taken
        if self.threshold is not None:
            sure = left & (_rounded(measured["confidence"]) >= round(self.threshold, decimals))
            first = left & (position == scores.argmax(-1, keepdim=True))
            left = torch.where(sure.any(-1, keepdim=True), sure, first)
        if self.bound is not None:
            entropy = _rounded(measured["entropy"])
            total = largest = entropy.new_zeros(len(entropy), 1)
        chosen = torch.zeros_like(left)
        for _ in range(scores.shape[1] if self.per_step is None else min(self.per_step, scores.shape[1])):
            if not left.any():
                break
            best = scores.masked_fill(~left, float("-inf")).argmax(-1, keepdim=True)  # (B, 1), the leftmost of equals
            chosen = chosen | (left & (position == best))
            left = left & ((position - best).abs() >= self.apart)
            if self.bound is not None:
                total = total + entropy.gather(-1, best)
                largest = torch.maximum(largest, entropy.gather(-1, best))
                loss = total + entropy - torch.maximum(largest, entropy)  # at most, with one more position
                left = left & (_rounded(loss) <= round(self.bound, decimals))
        return chosen


def _decimals(values: Tensor) -> int:
    return 12 if values.dtype == torch.float64 else 6


def _rounded(values: Tensor) -> Tensor:
    return values.round(decimals=_decimals(values))


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
