"""What all checks share: a result, a mistake, and the decorator that makes one of the other."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps

import torch

from a3mini.train.curriculum import Curriculum


@dataclass(frozen=True)
class Result:
    """What a check found; True if the answer passed."""

    exercise: str
    passed: bool
    message: str

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"{'✓' if self.passed else '✗'} {self.exercise}: {self.message}"


class Mistake(Exception):
    """The answer is wrong; the message says how."""


def expect(condition: bool, message: str) -> None:
    """Raise ``Mistake(message)`` unless the condition holds."""
    if not condition:
        raise Mistake(message)


@contextmanager
def case(where: str) -> Iterator[None]:
    """What the reader's code raises in here is told together with the case."""
    try:
        yield
    except (Mistake, NotImplementedError):
        raise
    except Exception as error:
        raise Mistake(f"{where.rstrip(': ')}: your code raised {type(error).__name__}: {error}") from error


def expect_int64(group_ids: torch.Tensor, where: str = "") -> None:
    """Raise ``Mistake`` unless the ids are int64; ``where`` begins the message."""
    expect(group_ids.dtype == torch.int64, f"{where}group ids are integers (torch.int64), not {group_ids.dtype}.")


def exercise(check: Callable) -> Callable[..., Result]:
    """Make a check of a function that raises ``Mistake``; its name is the exercise's.

    Where there is no one right answer, the function returns what a good answer is told.
    """

    @wraps(check)
    def run(answer) -> Result:
        try:
            if answer is None or answer is ...:
                raise NotImplementedError
            found = check(answer)
        except Mistake as mistake:
            return Result(check.__name__, False, str(mistake))
        except Exception as error:  # whatever the reader's code raises
            if isinstance(error, NotImplementedError) and not error.args:  # the stub's; PyTorch's has a message
                return Result(
                    check.__name__, False, "not attempted yet. Replace the placeholder, then run this cell again."
                )
            return Result(check.__name__, False, f"your code raised {type(error).__name__}: {error}")
        return Result(check.__name__, True, found or "correct.")

    return run


def random_table(seed: int, *shape: int) -> torch.Tensor:
    """A joint distribution, float64, one axis for each position; every probability above 0."""
    weights = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 3 + 1e-3
    return weights / weights.sum()


def groupwise_kl(p: torch.Tensor, ids: Sequence[int]) -> float:
    """KL(p || q) in nats by a plain loop over all texts, q being the product of conditionals of p under ``ids``."""

    def probability(x: Sequence[int], positions: list[int]) -> float:
        return p[tuple(x[t] if t in positions else slice(None) for t in range(p.dim()))].sum().item()

    total = 0.0
    for x in itertools.product(*map(range, p.shape)):
        if p[x] > 0:
            log_q = 0.0
            for t, group in enumerate(ids):
                seen = [i for i, other in enumerate(ids) if other < group]
                log_q += math.log(probability(x, [t, *seen]) / probability(x, seen))
            total += p[x].item() * (math.log(p[x].item()) - log_q)
    return total


def close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


def plain(got):
    """A number in a tensor or an array as Python's own; everything else as it is."""
    with suppress(AttributeError, RuntimeError, ValueError):  # no tensor and no array, or more than one number
        return got.item()
    return got


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=1e-9, rtol=0)


def mixture(curriculum: Curriculum, progress: float) -> dict[tuple[str, int], float]:
    """How often each kind and group size is drawn at ``progress`` of the training."""
    stage, inside = curriculum.stage_at(progress)
    total, found = sum(part.weight for part in stage.parts), {}
    for part in stage.parts:
        sizes = [part.sizes[int(inside * len(part.sizes))]] if part.grow else part.sizes
        for size in sizes:
            share = part.weight / total / len(sizes)
            found[part.kind, size] = found.get((part.kind, size), 0.0) + share
    return found


def toy_parts(generator: torch.Generator, size: int = 6) -> tuple[Callable, Callable, Callable]:
    """An attention, a norm and an MLP with random weights, for rows (T, D); attention is zero where nothing is seen."""
    mix, up, down = torch.randn(3, size, size, dtype=torch.float64, generator=generator)

    def attend(rows: torch.Tensor, context: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        scores = rows @ mix @ context.T / size
        return (scores.masked_fill(~mask, -1e9).softmax(-1) * mask) @ context

    def norm(x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)

    return attend, norm, lambda x: torch.tanh(x @ up) @ down
