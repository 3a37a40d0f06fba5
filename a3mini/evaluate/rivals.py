"""What A3's rivals think of a text: autoregression from the left, masked diffusion by its chain of steps or its bound.

``train.recipes`` has their losses. The bound of masked diffusion is the expectation of its loss. Counting masked sets
shows what it is. A set of n out of L tokens turns up with density t^n (1-t)^(L-n), and::

    integral of 1/t * t^n (1-t)^(L-n) over t = 1 / (n * binomial(L, n)),

so every n from 1 to L, every set of that size and every token of the set have equal weight. The same terms, with the
same weights, make up the negative log-likelihood of one-by-one prediction averaged over all orders: a token that comes
when n are left has a uniformly random set of n, itself included, still unknown. Hence the mean singleton loss of A3
over random orders and the diffusion bound are one functional, and may stand side by side in a table.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from a3mini import groups
from a3mini.attention import at_least_float32
from a3mini.decode.sampling import Sampler
from a3mini.head import rows_at_a_time
from a3mini.train.curriculum import generator_for
from a3mini.train.recipes import MaskedDiffusionModel, shifted_log_probs


def autoregressive_log_likelihood(model: PreTrainedModel, input_ids: Tensor, group_ids: Tensor) -> Tensor:
    """Log-probability (B, T) of the predicted tokens given all tokens on their left; 0 elsewhere.

    Autoregression cannot condition on the right: for a blank this is P(blank | left side).
    """
    rows = max(1, rows_at_a_time(model.config.vocab_size) // input_ids.shape[1])  # all their logits are made
    parts = [shifted_log_probs(model(input_ids=ids, use_cache=False).logits, ids) for ids in input_ids.split(rows)]
    return torch.cat(parts) * (groups.check(group_ids) > 0)


def diffusion_log_likelihood(
    model: MaskedDiffusionModel, input_ids: Tensor, group_ids: Tensor, batch_size: int = 64
) -> Tensor:
    """Exact log-probability (B, T) of the predicted tokens under the chain of steps ``group_ids``; 0 elsewhere.

    Step k predicts group k from the earlier groups, later tokens being masked. Every step is a pass of its own,
    since a bidirectional model recomputes everything when a token is revealed: as many passes as groups. (A3 needs
    one pass in all.)

    Args:
        model: the model.
        input_ids, group_ids: int64, (B, T); see ``groups``. Padding is not attended to.
        batch_size: passes computed at the same time.
    """
    group_ids = groups.check(group_ids)
    steps = [(row, int(group)) for row in range(len(input_ids)) for group in group_ids[row].unique() if group > 0]
    dtype = torch.promote_types(model.dtype, torch.float32)
    out = torch.zeros(input_ids.shape, dtype=dtype, device=input_ids.device)
    for start in range(0, len(steps), batch_size):
        row, group = torch.tensor(steps[start : start + batch_size], device=input_ids.device).T
        out.index_put_((row,), diffusion_step(model, input_ids[row], group_ids[row], group), accumulate=True)
    return out


def diffusion_step(model: MaskedDiffusionModel, input_ids: Tensor, group_ids: Tensor, group: Tensor) -> Tensor:
    """Log-probability (B, T) of the tokens of group ``group`` (B,) given those before it; 0 elsewhere."""
    group = group[:, None]
    return _scores(model, input_ids, group_ids >= group, group_ids, group_ids == group)


def diffusion_bound(
    model: MaskedDiffusionModel, input_ids: Tensor, group_ids: Tensor, draws: int, seed: int, batch_size: int = 64
) -> Tensor:
    """An unbiased estimate (B,) of the diffusion bound, nats per row, from ``draws`` passes per row.

    The bound is the mean over n = 1 .. L and over masked sets of size n of L/n times the set's negative
    log-likelihood. The set holds the last n positions of the singleton order ``group_ids``; the sizes n are spread
    evenly, with a random start.

    Args:
        input_ids: int64, (B, T).
        group_ids: int64, (B, T), random singletons: 0 given, 1 .. L, -1 padding.
        draws: passes per row.
        seed: of the random start.
    """
    total = (group_ids > 0).sum(-1)  # (B,) L of each row
    start = torch.rand(len(input_ids), generator=generator_for(seed, -3)).to(input_ids.device)
    bound = torch.zeros(len(input_ids), device=input_ids.device)
    for draw in range(draws):
        size = torch.minimum(1 + (((start + draw) / draws) * total).long(), total)  # n
        masked = group_ids > (total - size)[:, None]
        for part in torch.arange(len(input_ids)).split(batch_size):
            scores = _scores(model, input_ids[part], masked[part], group_ids[part], masked[part])
            bound[part] -= scores.sum(-1) * total[part] / size[part] / draws
    return bound


def bound_score(model: MaskedDiffusionModel, input_ids: Tensor, group_ids: Tensor) -> Tensor:
    """Minus the diffusion bound of each row, (B, 1), from a few passes: the score that ``evaluate.HeldOut`` takes."""
    return -diffusion_bound(model, input_ids, group_ids, draws=8, seed=0)[:, None]


def _scores(
    model: MaskedDiffusionModel, input_ids: Tensor, masked: Tensor, group_ids: Tensor, wanted: Tensor
) -> Tensor:
    """Log-probability (B, T) of the ``wanted`` tokens, bool (B, T), but for the first of a row; 0 elsewhere."""
    wanted = wanted & (torch.arange(input_ids.shape[1], device=wanted.device) > 0)
    places = wanted.flatten().nonzero()[:, 0] - 1  # the output before a token predicts it
    scores = _denoise(model, input_ids, masked, group_ids, places, input_ids[wanted])
    return scores.new_zeros(wanted.shape).masked_scatter(wanted, scores)


def _denoise(model: MaskedDiffusionModel, input_ids: Tensor, masked: Tensor, group_ids: Tensor, *labels) -> Tensor:
    """Logits, or the scores of ``labels``, with the later tokens masked and padding invisible to all."""
    real = group_ids >= 0
    return model(input_ids, masked & real, real[:, None].expand(-1, input_ids.shape[1], -1), *labels)


@torch.no_grad()
def diffusion_sample(
    model: MaskedDiffusionModel, input_ids: Tensor, group_ids: Tensor, temperature: float, generator: torch.Generator
) -> Tensor:
    """Fill the predicted positions group after group, one pass per group; (B, T).

    Args:
        input_ids, group_ids: int64, (B, T); tokens at predicted positions are not read.
        temperature: 0 takes the likeliest token.
    """
    input_ids, sampler = input_ids.clone(), Sampler(temperature, generator=generator)
    for group in range(1, int(group_ids.max()) + 1):
        now = group_ids == group
        logits = F.pad(_denoise(model, input_ids, group_ids >= group, group_ids)[:, :-1], (0, 0, 1, 0))[now]
        input_ids[now] = sampler(at_least_float32(logits))
    return input_ids
