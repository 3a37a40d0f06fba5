"""From hidden states to the log-probabilities of labels, without all logits at once.

The logits of M rows over a vocabulary of V tokens take 4 M V bytes in float32: 3,000 rows of SmolLM2's 49,152 tokens
are 0.6 GB, and a training step holds three such arrays. Only one number of each row is wanted. So the rows go through
the head some at a time. Where a gradient is wanted, a part's logits are computed again in the backward pass instead of
being kept, which costs one more product with the head. PyTorch's own ``linear_cross_entropy`` saves that product, but
it is newer than what we ask for, cannot give each row a weight, and is not compiled; Liger's needs Triton, and a GPU.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from a3mini.attention import A3Linear, at_least_float32
from a3mini.rows import IGNORED_LABEL

LARGEST = 2**28  # bytes of the logits in float32 that are there at a time: 268 MB


class Head(A3Linear):
    """The language model's head: logits, or at once the log-probabilities of labels."""

    def forward(self, hidden: Tensor, labels: Tensor | None = None) -> Tensor:
        """From hidden (M, D) to logits (M, V); with labels, int64 (M,), to their log-probabilities (M,)."""
        logits = super().forward(hidden)
        if labels is None:
            return logits
        return -F.cross_entropy(at_least_float32(logits), labels, reduction="none", ignore_index=IGNORED_LABEL)


def log_probs(hidden: Tensor, head: Head, labels: Tensor) -> Tensor:
    """The log-probability of each row's label, in nats; at most three arrays of ``LARGEST`` bytes are alive at a time.

    Args:
        hidden: (M, D), the rows that predict something.
        head: the head.
        labels: int64, (M,); ``IGNORED_LABEL`` where nothing is asked.

    Returns:
        (M,), at least float32; 0 where the label is ignored.
    """
    size = rows_at_a_time(head.out_features)
    if len(hidden) <= size:
        return head(hidden, labels)
    parts = zip(hidden.split(size), labels.split(size), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([head(*part) for part in parts])
    return torch.cat([checkpoint(head, *part, use_reentrant=False, preserve_rng_state=False) for part in parts])


def rows_at_a_time(vocab_size: int) -> int:
    """How many rows' logits fit into ``LARGEST`` bytes."""
    return max(1, LARGEST // (4 * vocab_size))
