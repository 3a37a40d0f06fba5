"""What updates the weights: AdamW; or Muon for the matrices of the layers, and AdamW for all else.

Muon (Jordan et al. 2024) does not step along the momentum M = U S V^T of a matrix's gradients, but along the nearest
matrix whose singular values are all 1, U V^T: so what M hardly holds moves as far as what it holds most of. No
decomposition is needed. Starting from M divided by its norm, a few steps of ::

    X <- a X + (b X X^T + c (X X^T)^2) X

send every singular value s to a s + b s^3 + c s^5, again and again, and so close to 1. The step is then scaled by
0.2 sqrt(max(rows, columns)), which makes it as large as AdamW's, so that AdamW's learning rates serve both (Liu et al.
2025, arXiv 2502.16982). PyTorch has a Muon, too, newer than the oldest PyTorch that we take; it computes in bfloat16,
which on most CPUs takes longer than all the rest of a step.
"""

import torch
from torch import Tensor, nn

from a3mini.train.config import TrainConfig

BETAS = (0.9, 0.95)  # of AdamW
MOMENTUM = 0.95  # of Muon
ITERATIONS, COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)  # Jordan's: fast, and loose: values end between 0.7 and 1.2
SMALLEST = 1e-7


def optimizer_for(model: nn.Module, config: TrainConfig, device: torch.device) -> torch.optim.Optimizer:
    """The optimiser of a training, over all weights that are trained.

    Args:
        model: with the layers of a Llama.
        config: says which, and how fast.
        device: where it computes.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    by_kind: dict[str, list[Tensor]] = {"plain": [], "matrix": [], "layer": []}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            matrix = weight.dim() >= 2 and id(weight) not in embeddings
            inside = config.optimizer == "muon" and ".layers." in name
            by_kind["plain" if not matrix else "layer" if inside else "matrix"].append(weight)
    groups = [
        {"params": by_kind["matrix"], "weight_decay": config.weight_decay},
        {"params": by_kind["plain"], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=BETAS, fused=device.type == "cuda")
    groups.append({"params": by_kind["layer"], "weight_decay": config.weight_decay, "muon": True})
    # a tied head leaves the first group empty, and PyTorch cannot read back the state of such a group
    return Muon([group for group in groups if group["params"]], lr=config.learning_rate, betas=BETAS)


class Muon(torch.optim.AdamW):
    """AdamW, but groups of weights with ``"muon": True`` are matrices that take Muon's steps."""

    @torch.no_grad()
    def step(self, closure=None):
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group.get("muon")]
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            for weight in group["params"] if group.get("muon") else ():
                if weight.grad is not None:
                    self._update(weight, group["lr"], group["weight_decay"])
        return loss

    def _update(self, weight: Tensor, rate: float, decay: float) -> None:
        state = self.state[weight]
        if "momentum" not in state:  # AdamW counts steps, and looks for their number in whatever it loads
            state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(weight)}
        state["step"] += 1
        momentum = state["momentum"].lerp_(weight.grad, 1 - MOMENTUM)
        direction = orthogonal(weight.grad.lerp(momentum, MOMENTUM))  # Nesterov's
        weight.mul_(1 - rate * decay).add_(direction, alpha=-rate * 0.2 * max(weight.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """About U V^T for a matrix U S V^T of any shape, in its dtype; zeros stay zeros."""
    a, b, c = COEFFICIENTS
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix  # the smaller of the two products
    x = wide.bfloat16() if wide.is_cuda else wide  # a GPU multiplies bfloat16 fast
    x = x / x.norm().clamp(min=SMALLEST)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if wide is not matrix else x).to(matrix.dtype)
