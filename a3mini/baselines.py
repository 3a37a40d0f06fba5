"""What A3 races against: autoregression and masked diffusion, on the same weights, rows, optimiser and schedule.

Both are Hugging Face's Llama. **Autoregression** goes on predicting the next token. **Masked diffusion** is adapted
the way DiffuLLaMA does it: attention becomes bidirectional, little by little; the shift stays, so that the output at
position t - 1 predicts token t; a masked token enters as one learned vector, as A3's queries do. For a masking
ratio t drawn uniformly from (0, 1] each token but the first is masked with probability t, and the loss is::

    1/t * sum of -log P(x_i | unmasked tokens) over the masked i, divided by the number of tokens,

whose expectation bounds the negative log-likelihood. Counting masked sets shows what that bound is. A set of n out of
L tokens turns up with density t^n (1-t)^(L-n), and::

    integral of 1/t * t^n (1-t)^(L-n) over t = 1 / (n * binomial(L, n)),

so every n from 1 to L, every set of that size and every token of the set have equal weight. The same terms, with the
same weights, make up the negative log-likelihood of one-by-one prediction averaged over all orders: a token that comes
when n are left has a uniformly random set of n, itself included, still unknown. Hence the mean singleton loss of A3
over random orders and the diffusion bound are one functional, and may stand side by side in a table.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from a3mini import groups
from a3mini.curriculum import generator_for
from a3mini.data import Blocks
from a3mini.model import at_least_float32
from a3mini.sampling import Sampler
from a3mini.train import Batch

SMALLEST_RATIO = 1e-3  # of masking; bounds the weight 1/t
GOLDEN = 0.6180339887498949  # neighbouring examples get ratios that cover (0, 1] evenly


class Autoregressive:
    """The recipe of ordinary training: every token from those on its left."""

    def settings(self) -> dict:
        return {"recipe": "autoregressive"}

    def batch(self, rows: Blocks, progress: float, examples: list[int], seed: int) -> Batch:
        predicted = _real(rows)
        predicted[:, 0] = False
        return Batch({"input_ids": rows.input_ids}, predicted.float(), int(predicted.sum()))

    def log_probs(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        # padding stands on the right, where no real token sees it
        return shifted_log_probs(model(input_ids=inputs["input_ids"], use_cache=False).logits, inputs["input_ids"])


class MaskedDiffusionModel(LlamaForCausalLM):
    """Llama with bidirectional attention and a learned vector in place of masked tokens."""

    def __init__(self, config: LlamaConfig):
        super().__init__(config)
        self.mask_embedding = nn.Parameter(torch.zeros(config.hidden_size))

    @classmethod
    def from_autoregressive(cls, source: LlamaForCausalLM) -> "MaskedDiffusionModel":
        """Copy the weights; the mask's vector starts at the mean embedding, as A3's w does."""
        model = cls(source.config).to(source.dtype)
        missing, left_over = model.load_state_dict(source.state_dict(), strict=False)
        if missing != ["mask_embedding"] or left_over:
            raise ValueError(f"these tensors have no partner: {sorted({*missing, *left_over} - {'mask_embedding'})}")
        with torch.no_grad():
            model.mask_embedding.copy_(model.get_input_embeddings().weight.mean(0))
        return model.eval()

    def forward(self, input_ids: Tensor, masked: Tensor, visible: Tensor) -> Tensor:
        """Logits (B, T, V), shifted: those at position t - 1 predict the token at t.

        Args:
            input_ids: int64, (B, T).
            masked: bool, (B, T), True where the token is replaced by the mask's vector.
            visible: bool, (B, T, T), True = row may attend to column.
        """
        embedded = torch.where(masked[..., None], self.mask_embedding, self.get_input_embeddings()(input_ids))
        hidden = self.model(inputs_embeds=embedded, attention_mask=visible[:, None], use_cache=False).last_hidden_state
        return self.lm_head(hidden)


class MaskedDiffusion:
    """The recipe of masked diffusion.

    Args:
        anneal: share of the training over which attention turns from causal to bidirectional: each connection to
            the right is open with a probability that grows from 0 to 1.
    """

    def __init__(self, anneal: float = 0.2):
        if not 0 <= anneal <= 1:
            raise ValueError(f"anneal must be a share from 0 to 1, got {anneal!r}")
        self.anneal = anneal

    def settings(self) -> dict:
        return {"recipe": "masked diffusion", "anneal": self.anneal}

    def batch(self, rows: Blocks, progress: float, examples: list[int], seed: int) -> Batch:
        real = _real(rows)
        length = real.shape[1]
        start = float(torch.rand((), generator=generator_for(seed, -2)))
        # a function of the example's number, like everything random; float64, or large numbers lose their fraction
        uniform = (torch.tensor(examples, dtype=torch.float64) * GOLDEN + start) % 1
        ratio = (SMALLEST_RATIO + (1 - SMALLEST_RATIO) * uniform)[:, None]  # (B, 1)
        opened = min(1.0, progress / self.anneal) if self.anneal else 1.0
        draws, open_right = [], []
        for example, own in zip(examples, rows.lengths.tolist(), strict=True):
            # as many numbers as the row has tokens, so that they do not depend on the other rows of the batch
            generator, rest = generator_for(seed, example), length - own
            draws.append(F.pad(torch.rand(own, generator=generator), (0, rest)))
            if opened < 1:
                open_right.append(F.pad(torch.rand(own, own, generator=generator), (0, rest, 0, rest)) < opened)
        masked = (torch.stack(draws) < ratio) & real
        masked[:, 0] = False
        visible = real[:, None].expand(-1, length, -1)
        if opened < 1:
            visible = visible & (torch.ones(length, length, dtype=torch.bool).tril() | torch.stack(open_right))
        inputs = {"input_ids": rows.input_ids, "masked": masked, "visible": visible}
        return Batch(inputs, (masked / ratio).float(), int(real[:, 1:].sum()))

    def log_probs(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        return shifted_log_probs(model(**inputs), inputs["input_ids"])


def shifted_log_probs(logits: Tensor, input_ids: Tensor) -> Tensor:
    """Log-probability (B, T) of each token under the logits one position before; 0 for the first."""
    labels = input_ids[:, 1:]
    scores = F.cross_entropy(at_least_float32(logits[:, :-1].flatten(0, 1)), labels.flatten(), reduction="none")
    return F.pad(-scores.unflatten(0, labels.shape), (1, 0))


def autoregressive_log_likelihood(model: LlamaForCausalLM, input_ids: Tensor, group_ids: Tensor) -> Tensor:
    """Log-probability (B, T) of the predicted tokens given all tokens on their left; 0 elsewhere.

    Autoregression cannot condition on the right: for a blank this is P(blank | left side).
    """
    log_probs = shifted_log_probs(model(input_ids=input_ids, use_cache=False).logits, input_ids)
    return log_probs * (groups.check(group_ids) > 0)


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
    log_probs = shifted_log_probs(_denoise(model, input_ids, group_ids >= group, group_ids), input_ids)
    return log_probs * (group_ids == group)


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
            scores = shifted_log_probs(_denoise(model, input_ids[part], masked[part], group_ids[part]), input_ids[part])
            bound[part] -= (scores * masked[part]).sum(-1) * total[part] / size[part] / draws
    return bound


def bound_score(model: MaskedDiffusionModel, input_ids: Tensor, group_ids: Tensor) -> Tensor:
    """Minus the diffusion bound of each row, (B, 1), from a few passes: the score that ``evaluate.HeldOut`` takes."""
    return -diffusion_bound(model, input_ids, group_ids, draws=8, seed=0)[:, None]


def _denoise(model: MaskedDiffusionModel, input_ids: Tensor, masked: Tensor, group_ids: Tensor) -> Tensor:
    """Logits with the later tokens masked and padding invisible to all."""
    real = group_ids >= 0
    return model(input_ids, masked & real, real[:, None].expand(-1, input_ids.shape[1], -1))


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


def _real(rows: Blocks) -> Tensor:
    return torch.arange(rows.input_ids.shape[1]) < rows.lengths[:, None]
