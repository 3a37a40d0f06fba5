"""How long a training will take: some steps are timed before it starts.

The first steps are slow (a GPU's kernels are loaded, arrays are made, something is compiled) and are left out. The
others are spread over the curriculum, as the steps of the whole training are, since stages differ in what they compute.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from torch import nn

from a3mini.train.config import TrainConfig
from a3mini.train.data import Blocks
from a3mini.train.loop import train
from a3mini.train.recipes import Recipe


class Forecast(NamedTuple):
    """What a run's parts take, in seconds. Checkpoints are not in it."""

    step: float
    evaluation: float = 0.0

    def minutes(self, config: TrainConfig, done: int = 0) -> float:
        """The whole run, or what is left of it after ``done`` steps."""
        left = config.steps - done
        evaluations = (
            math.ceil(config.steps / config.eval_every) - done // config.eval_every if config.eval_every else 1
        )
        return (left * self.step + (evaluations + (done == 0)) * self.evaluation) / 60


def forecast(
    model: nn.Module,
    recipe: Recipe,
    blocks: Blocks,
    config: TrainConfig,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    warm_up: int = 2,
    timed: int = 4,
) -> Forecast:
    """Time some steps of a training, and one evaluation.

    Args:
        model: is trained in place, for ``warm_up + timed`` steps: take one that is not needed afterwards.
        recipe, blocks, config, evaluate: those of the training; see ``train``.
        warm_up: steps that are left out.
        timed: steps whose median counts.

    Raises:
        ValueError: ``warm_up`` or ``timed`` below 1; and as ``train``.
    """
    if min(warm_up, timed) < 1:
        raise ValueError(f"warm_up and timed must be at least 1, got {warm_up} and {timed}")
    evaluations = []

    def evaluated(model: nn.Module) -> dict[str, float]:
        started = time.perf_counter()
        evaluate(model)
        evaluations.append(time.perf_counter() - started)
        return {}

    short = replace(config, steps=warm_up + timed, log_every=1, eval_every=0, save_every=0)
    metrics = train(model, recipe, blocks, short, evaluate=evaluated if evaluate else None, quiet=True)
    seconds = {line["step"]: line["seconds"] for line in metrics}
    took = [seconds[step] - seconds[step - 1] for step in range(warm_up + 1, short.steps + 1)]
    return Forecast(statistics.median(took), evaluations[-1] if evaluate else 0.0)
