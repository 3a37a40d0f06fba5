"""Groupwise log-likelihood: the training loss, and the exact score of any conditional.

For groups G_1, ..., G_K and given tokens x_G0, the model's joint distribution is (paper: factorisation)::

    log P(x_G1, ..., x_GK | x_G0) = sum_k sum_{t in G_k} log P(x_t | x_G0, ..., x_G(k-1)),

and one forward pass computes all of its terms. Its mean over predicted tokens, negated, is the loss that
``A3ForCausalLM`` returns. To score x_A given x_B alone, give B the id 0, A its groups, and every other
position the id -1: what is never seen is not conditioned on.
"""

import torch
from torch import Tensor

from a3mini import groups
from a3mini.model import A3ForCausalLM
from a3mini.rows import IGNORED_LABEL, check


def labels_for(input_ids: Tensor, group_ids: Tensor, known: Tensor | None = None) -> Tensor:
    """Labels for training or scoring: the token at every predicted position, -100 elsewhere.

    Args:
        input_ids, group_ids: int64, (B, T).
        known: bool, (B, T), or None. Known tokens are not predicted, yet join the content of their own
            group when its turn comes. Tokens whose group id is 0 are known in any case.

    Returns:
        int64, (B, T).

    Raises:
        TypeError, ValueError: ``known`` is not boolean or not of the right shape; ``group_ids`` is not valid.

    Example:
        >>> labels_for(torch.tensor([[11, 12, 13]]), torch.tensor([[0, 1, 2]]))
        tensor([[-100,   12,   13]])
    """
    predicted = groups.check(group_ids) > 0
    if known is not None:
        if not isinstance(known, Tensor) or known.dtype != torch.bool:
            raise TypeError(f"known must be a boolean tensor, got {getattr(known, 'dtype', type(known).__name__)}")
        if known.shape != group_ids.shape:
            raise ValueError(f"known has shape {tuple(known.shape)} but group_ids has {tuple(group_ids.shape)}")
        predicted = predicted & ~known
    return input_ids.masked_fill(~predicted, IGNORED_LABEL)


def log_likelihood(
    model: A3ForCausalLM,
    input_ids: Tensor,
    group_ids: Tensor,
    known: Tensor | None = None,
    reduction: str = "sequence",
) -> Tensor:
    """The exact log-probability of the predicted tokens under the factorisation ``group_ids``, in nats.

    Args:
        model: any A3 model. Gradients flow; wrap the call in ``torch.no_grad()`` to score.
        input_ids: int64, (B, T).
        group_ids: int64, (B, T); see ``groups``.
        known: bool, (B, T): tokens that score 0 and join their own group; default: none but the given ones.
        reduction: "sequence" for the sum over each row, "token" for every term.

    Returns:
        (B,), or (B, T) with 0 where nothing is predicted. A row that predicts nothing scores 0.

    Raises:
        TypeError, ValueError: as ``A3ForCausalLM.forward``; another ``reduction``.
    """
    if reduction not in ("sequence", "token"):
        raise ValueError(f'reduction must be "sequence" or "token", got {reduction!r}')
    config = model.config
    check(input_ids, group_ids, None, config.vocab_size, config.max_position_embeddings)
    labels = labels_for(input_ids, group_ids, known)
    if (labels == IGNORED_LABEL).all():  # the empty product
        log_probs = torch.zeros(input_ids.shape, device=input_ids.device)
    else:
        log_probs = model(input_ids, group_ids, labels=labels).log_probs
    return log_probs if reduction == "token" else log_probs.sum(-1)
