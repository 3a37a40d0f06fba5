"""Autoregression as a system that fills blanks: it continues the prefix, and cannot read what follows the blank::

    LeftOnly   the continuation
    BestOf     several, and the one after which the suffix is likeliest

They are called as those of ``evaluate.fillers``.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from a3mini import groups
from a3mini.attention import at_least_float32
from a3mini.decode.sampling import Sampler
from a3mini.evaluate.fillers import Filler
from a3mini.evaluate.rivals import autoregressive_log_likelihood
from a3mini.evaluate.stories import PREFIX, SUFFIX, Batch, Filled
from a3mini.pretrained import SOURCES
from a3mini.rows import Slots

CHUNK = 256  # rows of logits scored at a time


@dataclass(frozen=True)
class LeftOnly(Filler):
    """Autoregression: the blank follows the prefix, and what comes after the blank is not read.

    Args:
        model: Hugging Face's, of one of the classes ``pretrained.SOURCES``.
        temperature: 0 takes the likeliest token.
    """

    model: PreTrainedModel
    temperature: float = 0.0

    def __post_init__(self):
        self._check(*SOURCES.values())

    @torch.no_grad()
    def __call__(self, batch: Batch, generator: torch.Generator) -> Filled:
        sampler = Sampler(self.temperature, banned=self._banned(batch), generator=generator)
        tokens = _continuations(_Reader(self.model), batch, sampler).tolist()
        lengths = batch.lengths
        return Filled(batch.decode([row[:length] for row, length in zip(tokens, lengths, strict=True)]), lengths)

    def log_probs(self, batch: Batch) -> Tensor:
        width = int(batch.unknown.any(0).nonzero().max()) + 1  # what comes after all blanks is not needed
        found = autoregressive_log_likelihood(
            self.model, batch.input_ids[:, :width], groups.infill(batch.unknown, padding=batch.padding)[:, :width]
        )
        return F.pad(found, (0, batch.part.shape[1] - width))


@dataclass(frozen=True)
class BestOf(Filler):
    """Autoregression with a second look: of ``count`` candidates, the one given which the suffix is likeliest.

    All candidates see the prefix alone. The first is the greedy one; so a count of 1 is ``LeftOnly``.

    Args:
        model: Hugging Face's, of one of the classes ``pretrained.SOURCES``.
        count: N, the candidates.
        temperature, top_p: of all but the first; the defaults are those with which DiffuLLaMA's evaluation samples.
    """

    model: PreTrainedModel
    count: int = 8
    temperature: float = 0.9
    top_p: float = 0.9

    def __post_init__(self):
        self._check(*SOURCES.values())
        groups.check_integer("count", self.count, 1)
        Sampler(self.temperature, top_p=self.top_p)

    @torch.no_grad()
    def __call__(self, batch: Batch, generator: torch.Generator) -> Filled:
        sampler = Sampler(self.temperature, None, self.top_p, banned=self._banned(batch), generator=generator)
        reader = _Reader(self.model)
        tokens = _continuations(reader, batch, sampler, self.count, greedy_first=True)
        scores = _suffix_log_likelihood(reader, batch, tokens).unflatten(0, (-1, self.count))  # (B, N)
        best = tokens.unflatten(0, (-1, self.count))[
            torch.arange(len(scores), device=scores.device), scores.argmax(-1)
        ].tolist()
        lengths = batch.lengths
        texts = batch.decode([row[:length] for row, length in zip(best, lengths, strict=True)])
        return Filled(texts, [self.count * (length + 1) for length in lengths])  # each candidate counts


class _Reader:
    """A model that reads on with its cache: rows of different lengths, padded; nobody sees the padding."""

    def __init__(self, model: PreTrainedModel):
        self.model, self.cache = model, DynamicCache(config=model.config)
        self.real: Tensor | None = None  # bool, (B, S): which columns of the cache are tokens

    def __call__(self, ids: Tensor, real: Tensor) -> Tensor:
        """Read ``ids`` (B, C) where ``real`` (B, C): the last hidden states (B, C, D)."""
        before = 0 if self.real is None else self.real.sum(-1, keepdim=True)
        self.real = real if self.real is None else torch.cat((self.real, real), dim=1)
        return self.model.model(
            input_ids=ids.masked_fill(~real, 0),
            attention_mask=self.real.long(),
            position_ids=(before + real.long().cumsum(-1) - 1).clamp(min=0),
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state

    def repeat(self, count: int) -> None:
        """Every row ``count`` times."""
        self.cache.batch_repeat_interleave(count)
        self.real = self.real.repeat_interleave(count, 0)


def _continuations(
    reader: _Reader, batch: Batch, sampler: Sampler, count: int = 1, greedy_first: bool = False
) -> Tensor:
    """``count`` continuations of every prefix, as long as the longest blank.

    With ``greedy_first`` the first of them is not drawn: it takes the likeliest token each time.
    ``reader`` has then read each up to the token before the last of its own blank.

    Returns:
        tokens int64 (B * count, L), those of one blank beside each other.
    """
    prefix = Slots.where(batch.part == PREFIX)
    hidden = reader(prefix.take(batch.input_ids, 0), prefix.valid)
    ends = hidden[torch.arange(len(hidden), device=hidden.device), prefix.valid.sum(-1) - 1]  # (B, D)
    last = ends.repeat_interleave(count, 0)  # (B * count, D)
    reader.repeat(count)
    lengths, tokens = batch.unknown.sum(-1).repeat_interleave(count), []
    for step in range(int(lengths.max())):
        if step:
            last = reader(tokens[-1][:, None], (step < lengths)[:, None])[:, 0]
        logits = at_least_float32(reader.model.lm_head(last))
        drawn = sampler(logits)
        if greedy_first:
            drawn[::count] = sampler.allowed(logits[::count]).argmax(-1)
        tokens.append(drawn)
    return torch.stack(tokens, dim=1)


def _suffix_log_likelihood(reader: _Reader, batch: Batch, tokens: Tensor) -> Tensor:
    """Log-probability (B * count,) of the suffix after the prefix and the candidates ``tokens``, nats."""
    count = len(tokens) // len(batch.part)
    suffix = Slots.where(batch.part == SUFFIX)
    ids, real = (part.repeat_interleave(count, 0) for part in (suffix.take(batch.input_ids, 0), suffix.valid))
    ends = tokens.gather(1, batch.unknown.sum(-1).repeat_interleave(count)[:, None] - 1)  # not read yet
    hidden = reader(torch.cat((ends, ids), dim=1), torch.cat((torch.ones_like(ends, dtype=torch.bool), real), dim=1))
    parts = [
        -F.cross_entropy(at_least_float32(reader.model.lm_head(states)), targets, reduction="none")
        for states, targets in zip(hidden[:, :-1][real].split(CHUNK), ids[real].split(CHUNK), strict=True)
    ]
    scores = torch.cat(parts)
    return scores.new_zeros(ids.shape).masked_scatter(real, scores).sum(-1)
