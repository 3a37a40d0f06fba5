"""Compiling a model: layer by layer, for a device on which that pays.

A layer is compiled once and its code used for all of them; the last one, whose content rows stop at their keys and
values, is another shape, and so is every size of a batch (``flat`` keeps these few). On CUDA that takes some tens of
seconds once, and the step of SmolLM2-135M then takes less than half the time (benchmarks/gpu_step.py). On a CPU every
shape takes that long, and the time of a step is that of its matrix products, which are the same: "auto" leaves it off.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import nn

from a3mini.head import Head

SHAPES = 64  # for how many shapes a layer is compiled before that is given up


class Compiled:
    """The compiled parts of a model: its layers, and its head if that is ours.

    Args:
        model: with the layers of a Llama, LoRA's included.
        choice: see ``TrainConfig.compile``.
        device: where it computes.
    """

    def __init__(self, model: nn.Module, choice: bool | str, device: torch.device):
        self.model, self.also_in_evaluation = model, choice is True
        self.parts = list(model.model.layers)
        self.few_shapes = hasattr(model, "few_shapes")
        if isinstance(model.lm_head, Head):
            self.parts.append(model.lm_head)
        self.on = pays(device) if choice == "auto" else choice

    @contextmanager
    def __call__(self) -> Iterator["Compiled"]:
        """Inside, the parts are compiled when they are first called."""
        import torch._dynamo  # only here: a slow import

        if not self.on:
            yield self
            return
        with torch._dynamo.config.patch(recompile_limit=SHAPES, accumulated_recompile_limit=SHAPES * len(self.parts)):
            for part in self.parts:
                part.compile(dynamic=False, fullgraph=self.few_shapes)
            if self.few_shapes:
                self.model.few_shapes = self.also_in_evaluation
            try:
                yield self
            finally:
                self.off()

    def off(self) -> None:
        """Compute as if nothing had ever been compiled."""
        self.on = False
        for part in self.parts:
            part._compiled_call_impl = None
        vars(self.model).pop("few_shapes", None)

    @contextmanager
    def in_evaluation(self) -> Iterator[None]:
        """Evaluations have shapes of their own; unless it was asked for, none of them is compiled."""
        if self.on and not self.also_in_evaluation:
            with torch.compiler.set_stance("force_eager"):
                yield
        else:
            yield

    def failed(self, error: Exception) -> bool:
        """Whether an error came from compiling; then nothing is compiled any more, and a line says so."""
        if not self.on or not isinstance(error, _errors()):
            return False
        self.off()
        reason = str(getattr(error, "inner_exception", error)).strip().splitlines() or [""]
        warnings.warn(
            f"the model cannot be compiled here ({type(error).__name__}: {reason[0][:200]}); the training goes on "
            "without, more slowly. compile=False (--compile false) leaves the attempt out",
            stacklevel=2,
        )
        return True


def pays(device: torch.device) -> bool:
    """Whether compiling makes a training step faster: on CUDA, where PyTorch can."""
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (7, 0)


def _errors() -> tuple[type[Exception], ...]:
    from torch._dynamo import exc

    return exc.TorchDynamoException, exc.FailOnRecompileLimitHit
