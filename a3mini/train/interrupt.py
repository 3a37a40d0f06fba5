"""A training that is cut short: it stops between two steps, and what it leaves of the model can be trained again.

An interrupt (Ctrl-C, a notebook's stop button) or a SIGTERM asks for a stop; ``train`` then finishes its step and saves
a checkpoint. A second one stops at once. Whatever ends a training before its time, the model is afterwards as it was
before: a cell that is run again does the same again, or goes on from the checkpoint.
"""

import copy
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


class Interrupted(KeyboardInterrupt):
    """A training was stopped between two steps; the message says where it is saved."""


class Stop:
    """Whether a stop was asked for; true from then on. As a context, it listens for the signals.

    When the training has come to its end, ``too_late`` is set: what is left is short, and must not be cut.
    """

    def __init__(self):
        self.asked = self.too_late = False
        self._before = {}

    def __bool__(self) -> bool:
        return self.asked

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():  # no other may listen
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _hear(self, number, frame) -> None:
        if self.too_late:
            return
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print("\nThe training stops after this step; once more, and it stops at once.", file=sys.stderr)


@contextmanager
def undone_on_error(model: nn.Module, changed: Callable[[str], bool]) -> Iterator[None]:
    """After any exception inside, the model is as it was: weights, modules, mode, and what is trained.

    What FSDP divides among processes is not brought back.

    Args:
        model: the model, without LoRA's layers.
        changed: which weights the training changes, by name; they are kept in the CPU's memory meanwhile.
    """
    before = [(module, _state(module)) for module in model.modules()]
    weights = [(weight, weight.requires_grad) for weight in model.parameters()]
    kept = [
        weight.detach().to("cpu", copy=True) if weight.requires_grad and changed(name) else None
        for name, weight in model.named_parameters()
    ]
    try:
        yield
    except BaseException:
        for module, state in before:  # LoRA's layers, accelerate's forward, checkpointing, the mode: all stand here
            module.__dict__.clear()
            module.__dict__.update(state)
        with torch.no_grad():
            for (weight, trained), value in zip(weights, kept, strict=True):
                weight.requires_grad_(trained)
                weight.grad = None
                if value is not None:
                    weight.copy_(value)
        raise


def _state(module: nn.Module) -> dict:
    """All that a module knows, its tables of submodules and hooks included; tensors themselves are not copied."""
    return {name: copy.copy(value) if isinstance(value, dict) else value for name, value in vars(module).items()}
