"""From hidden states to the log-probabilities of labels, without all logits at once.

The logits of M rows over a vocabulary of V tokens take 4 M V bytes in float32: 3,000 rows of SmolLM2's 49,152 tokens
are 0.6 GB, and a training step holds three such arrays. Only one number of each row is wanted. So the rows go through
the head some at a time. Where a gradient is wanted, a part's logits are computed again in the backward pass instead of
being kept, which costs one more product with the head. PyTorch's own ``linear_cross_entropy`` saves that product, but
it is newer than what we ask for, cannot give each row a weight, and is not compiled; Liger's needs Triton, and a GPU.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from a3mini.rows import IGNORED_LABEL

LARGEST = 2**28  # bytes of the logits in float32 that are there at a time: 268 MB


def log_probs(hidden: Tensor, head: nn.Module, labels: Tensor) -> Tensor:
    """The log-probability of each row's label, in nats; at most three arrays of ``LARGEST`` bytes are alive at a time.

    Args:
        hidden: (M, D), the rows that predict something.
        head: from (m, D) to logits (m, V).
        labels: int64, (M,); ``IGNORED_LABEL`` where nothing is asked.

    Returns:
        (M,), at least float32; 0 where the label is ignored.
    """
    parts = torch.arange(0, len(hidden), rows_at_a_time(head)).tolist()
    if len(parts) <= 1:
        return _log_probs(hidden, head, labels)
    size, found = parts[1], []
    for start in parts:
        rows, own = hidden[start : start + size], labels[start : start + size]
        if torch.is_grad_enabled():
            found.append(checkpoint(_log_probs, rows, head, own, use_reentrant=False, preserve_rng_state=False))
        else:
            found.append(_log_probs(rows, head, own))
    return torch.cat(found)


def rows_at_a_time(head: nn.Module) -> int:
    """How many rows' logits fit into ``LARGEST`` bytes."""
    return max(1, LARGEST // (4 * head.weight.shape[0]))


def _log_probs(hidden: Tensor, head: nn.Module, labels: Tensor) -> Tensor:
    logits = head(hidden)
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    return -F.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED_LABEL)
