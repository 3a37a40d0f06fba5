"""One step of a training on its device: the loss, its gradient, and a watch over both. Nothing here waits for a value.

A GPU works through what it is given while its host prepares more. Each time the host asks for a value, both wait. So
losses stay where they are until a line of the log is due, and whether they are finite is written down on the device.
"""

from contextlib import nullcontext

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn

from a3mini.train.batches import Step
from a3mini.train.recipes import Recipe


def loss_and_gradient(
    model: nn.Module, recipe: Recipe, step: Step, clip_norm: float, accelerator: Accelerator
) -> tuple[Tensor, Tensor]:
    """The loss of a step over all microbatches and processes, nats per predicted token, and its gradient's norm.

    The gradient itself is left in the weights, no longer than ``clip_norm``. Both numbers are scalars on the device.
    """
    device = accelerator.device
    count = step.count
    if accelerator.num_processes > 1:
        count = accelerator.reduce(torch.full((), float(count), device=device))
    total = torch.zeros((), device=device)
    for number, batch in enumerate(step.batches, start=1):
        inputs, weights = send_to_device((batch.inputs, batch.weights), device, non_blocking=True)
        with accelerator.no_sync(model) if number < len(step.batches) else nullcontext():
            loss = -(weights * recipe.log_probs(model, inputs)).sum() / count
            total += loss.detach()
            accelerator.backward(loss * accelerator.num_processes)  # gradients are averaged over processes
    norm = accelerator.clip_grad_norm_(model.parameters(), clip_norm)
    return accelerator.reduce(total), norm


class Watch:
    """Remembers, on the device, the first step whose loss or gradient was not finite."""

    def __init__(self, accelerator: Accelerator):
        # with fp16 a gradient may overflow: that step is skipped, and the loss scaled down
        self.gradient_too = accelerator.scaler is None
        self.first = torch.zeros((), device=accelerator.device)  # 0: none

    def see(self, number: int, loss: Tensor, norm: Tensor) -> None:
        """Look at step ``number`` = 1, 2, ..."""
        good = torch.isfinite(loss)
        if self.gradient_too:
            good = good & torch.isfinite(norm)
        self.first = torch.where(good | (self.first > 0), self.first, number)

    def values(self, loss: Tensor, norm: Tensor) -> tuple[float, float, int]:
        """The two numbers, and the first bad step or 0: the only place where the host waits for the device."""
        loss, norm, first = torch.stack([loss.float(), norm.float(), self.first]).tolist()
        return loss, norm, int(first)
