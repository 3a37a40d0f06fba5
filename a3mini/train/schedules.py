"""How the learning rate goes over a training, and which trainings can be prolonged.

Two shapes, both of transformers. "cosine" falls over the whole training, so ``steps`` decides the rate of every step.
"wsd" (warm-up, stable, decay) stays at its highest until the last ``decay_steps``, so a run that has not come to them
can be given more steps, or fewer. The decay has the shape 1 - sqrt, the best of those that Hägele et al. tried
(arXiv 2405.18392). The rate of a step is a pure function of the settings and the step's number.
"""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_cosine_schedule_with_warmup, get_wsd_schedule

from a3mini.train.config import TrainConfig

PROLONGED_BY = ("steps", "decay_steps")


def schedule_for(optimizer: Optimizer, config: TrainConfig) -> LambdaLR:
    """The schedule of a training; its ``step()`` comes after each step of the optimiser.

    Its first rate is 0 where there is a warm-up, and the rate of the step after the last is 0.
    """
    if config.schedule == "cosine":
        return get_cosine_schedule_with_warmup(optimizer, config.warmup, config.steps)
    return get_wsd_schedule(
        optimizer, config.warmup, config.decay, num_training_steps=config.steps, decay_type="1-sqrt"
    )


def free_to_prolong(before: dict, now: dict, step: int) -> tuple[str, ...]:
    """The settings of a training that may differ from those it began with, because its steps so far are the same.

    That is so for "wsd", while neither the old plan nor the new one has begun to decay, if what a step draws does not
    depend on how far the training is.

    Args:
        before: the record that the run has in its folder, as ``resume.identity`` makes it.
        now: the same of the run that is to go on from there.
        step: the steps that the last checkpoint has done.

    Returns:
        names of fields of ``TrainConfig``: ("steps", "decay_steps"), or none.
    """
    plans = [TrainConfig(**record["training"]) for record in (before, now)]
    stable = all(plan.schedule == "wsd" and step <= plan.steps - plan.decay for plan in plans)
    return PROLONGED_BY if stable and is_steady(before) and is_steady(now) else ()


def is_steady(record: dict) -> bool:
    """Whether what a run of this record draws is the same all the way: one stage, nothing that grows or anneals."""
    stages = record.get("curriculum", {}).get("stages", [])
    grows = any(part.get("grow", False) and len(part["sizes"]) > 1 for stage in stages for part in stage["parts"])
    return len(stages) <= 1 and not grows and not record.get("anneal", 0)
