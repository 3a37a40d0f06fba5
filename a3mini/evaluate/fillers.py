"""The systems that fill a blank between a prefix and a suffix, and read both sides::

    Groupwise   A3, group after group; it can also be given the left side alone
    Dynamic     A3, in the order that it chooses itself
    Diffusion   masked diffusion, a pass for every step
    Copy        a neighbouring sentence, no model at all

Autoregression is in ``evaluate.continuations``. Each system is a function of a ``stories.Batch`` and a generator to a
``stories.Filled``: exactly as many tokens as the blank has, no special token among them, the likeliest token each time
unless a temperature is given. ``log_probs`` gives the log-probabilities (B, T) of a batch's true middle, nats. This
file needs the extra ``train``, so the package does not load it by itself.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from a3mini import decode, groups, objective
from a3mini.attention import at_least_float32
from a3mini.decode.sampling import Sampler
from a3mini.evaluate.rivals import diffusion_log_likelihood
from a3mini.evaluate.stories import SUFFIX, Batch, Filled, sentences
from a3mini.model import A3ForCausalLM
from a3mini.train.recipes import MaskedDiffusionModel
from a3mini.train.tokens import no_tokens

SIDES = ("both", "left")
ORDERS = ("confidence", "random", "left_to_right")
SENTENCES = ("before", "after")


class Filler:
    """What all systems share; each is a dataclass whose first field is its model."""

    model: nn.Module | None

    def settings(self) -> dict:
        """The options, for a record."""
        return {"system": type(self).__name__, **{f.name: getattr(self, f.name) for f in fields(self)[1:]}}

    def log_probs(self, batch: Batch) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} gives no likelihood")

    def _generate(self, batch: Batch, group_ids: Tensor, known: Tensor, generator: torch.Generator) -> Filled:
        """What A3 fills in, group after group."""
        done = decode.generate(
            self.model, batch.input_ids, group_ids, known, self.temperature, generator=generator,
            banned=self._banned(batch), runners_up=0,
        )  # fmt: skip
        return Filled(batch.texts(done.sequences), list(done.trace.passes))

    def _banned(self, batch: Batch) -> list[int]:
        """Special tokens, and numbers that stand for no token at all."""
        empty = {getattr(self.model.config, "empty_token_id", None)} - {None}
        return sorted({*batch.banned, *empty, *no_tokens(batch.tokenizer, self.model.config.vocab_size)})

    def _check(self, *kinds: type, **choices: tuple[str, ...]) -> None:
        """Say what is wrong with the model and the options."""
        name = type(self).__name__
        # a masked-diffusion model is a Llama too, but it does not predict from the left
        if not isinstance(self.model, kinds) or (
            LlamaForCausalLM in kinds and isinstance(self.model, MaskedDiffusionModel)
        ):
            needed = " or ".join(kind.__name__ for kind in kinds)
            raise TypeError(f"{name} needs a {needed}, got {type(self.model).__name__}")
        if "known" in choices and self.known is None:
            object.__setattr__(self, "known", self.model.config.known_order)
        for option, allowed in choices.items():
            if getattr(self, option) not in allowed:
                raise ValueError(f"{option} must be one of {', '.join(allowed)}; got {getattr(self, option)!r}")
        Sampler(getattr(self, "temperature", 0.0))


@dataclass(frozen=True)
class Groupwise(Filler):
    """A3, group after group (paper: groupwise decoding).

    Args:
        model: the model.
        size: s, tokens filled at a time.
        order: which ones: "left_to_right", neighbours; or "strided", far-apart ones (``groups.infill``).
        known: how known tokens read each other: "together" or "left_to_right" (``groups.given_in_order``); None: as in
            the model's training (``model.config.known_order``).
        sides: "both", or "left": the suffix is hidden, which shows what it is worth.
        temperature: 0 takes the likeliest token.

    Raises:
        TypeError, ValueError: another kind of model, an option out of its range.
    """

    model: A3ForCausalLM
    size: int = 1
    known: str | None = None
    sides: str = "both"
    temperature: float = 0.0
    order: str = "left_to_right"

    def __post_init__(self):
        self._check(A3ForCausalLM, known=groups.KNOWN_ORDERS, sides=SIDES, order=("left_to_right", "strided"))
        groups.check_integer("size", self.size, 1)

    def __call__(self, batch: Batch, generator: torch.Generator) -> Filled:
        return self._generate(batch, *self._groups(batch), generator)

    def log_probs(self, batch: Batch) -> Tensor:
        return objective.log_likelihood(self.model, batch.input_ids, *self._groups(batch), reduction="token")

    def _groups(self, batch: Batch) -> tuple[Tensor, Tensor]:
        hidden = batch.padding | (batch.part == SUFFIX) if self.sides == "left" else batch.padding
        return groups.read_given(groups.infill(batch.unknown, self.size, self.order, padding=hidden), self.known)


@dataclass(frozen=True)
class Dynamic(Filler):
    """A3, in the order that it chooses (paper: dynamic resampling).

    Args:
        model, known, temperature: as ``Groupwise``.
        per_step: tokens filled at a time.
        criterion, context: as ``decode.resample``.
    """

    model: A3ForCausalLM
    per_step: int = 1
    criterion: str = "confidence"
    context: str = "committed"
    known: str | None = None
    temperature: float = 0.0

    def __post_init__(self):
        self._check(A3ForCausalLM, known=groups.KNOWN_ORDERS)
        groups.check_integer("per_step", self.per_step, 1)

    def __call__(self, batch: Batch, generator: torch.Generator) -> Filled:
        done = decode.resample(
            self.model, batch.input_ids, temperature=self.temperature, generator=generator, runners_up=0,
            considered=False, **self._options(batch),
        )  # fmt: skip
        return Filled(batch.texts(done.sequences), list(done.trace.passes))

    def log_probs(self, batch: Batch) -> Tensor:
        """Of the order that the model chooses when it is told the true tokens one after the other."""
        return decode.resample_log_likelihood(self.model, batch.input_ids, **self._options(batch))

    def _options(self, batch: Batch) -> dict:
        position = torch.arange(batch.part.shape[1], device=batch.part.device).expand_as(batch.part)
        return {
            "unknown": batch.unknown,
            "per_step": self.per_step,
            "criterion": self.criterion,
            "context": self.context,
            "known": ~batch.unknown & ~batch.padding,
            "known_groups": position if self.known == "left_to_right" else None,
            "banned": self._banned(batch),
        }


@dataclass(frozen=True)
class Diffusion(Filler):
    """Masked diffusion: at each step every masked token is predicted, and some are filled.

    Args:
        model: the model.
        per_step: tokens filled at a time; 1 is the most steps that a blank can use.
        order: "confidence", the surest tokens first; "random"; or "left_to_right".
        temperature: 0 takes the likeliest token.
    """

    model: MaskedDiffusionModel
    per_step: int = 1
    order: str = "confidence"
    temperature: float = 0.0

    def __post_init__(self):
        self._check(MaskedDiffusionModel, order=ORDERS)
        groups.check_integer("per_step", self.per_step, 1)

    @torch.no_grad()
    def __call__(self, batch: Batch, generator: torch.Generator) -> Filled:
        sampler = Sampler(self.temperature, banned=self._banned(batch), generator=generator)
        masked = batch.unknown
        ids, passes = batch.input_ids.masked_fill(masked, 0), torch.zeros(len(masked), dtype=torch.int64)
        # what comes first, where that is fixed before
        turn = -torch.arange(masked.shape[1], dtype=torch.float32).expand_as(masked)
        turn = torch.rand(masked.shape, generator=generator) if self.order == "random" else turn
        turn = turn.to(masked.device)
        while masked.any():
            rows = masked.any(-1).nonzero()[:, 0]  # the others are finished
            now, real = masked[rows], ~batch.padding[rows]
            visible = real[:, None].expand(-1, real.shape[1], -1)
            # the output at t - 1 predicts token t; the first token is never masked
            logits = at_least_float32(self.model(ids[rows], now, visible)[:, :-1][now[:, 1:]])  # (M, V)
            scores = turn[rows].masked_fill(~now, float("-inf"))
            if self.order == "confidence":
                scores[now] = sampler.allowed(logits).softmax(-1).amax(-1).float()
            best = scores.argsort(dim=-1, descending=True, stable=True)[:, : self.per_step]
            chosen = torch.zeros_like(now).scatter_(1, best, True) & now
            at = torch.zeros_like(masked).index_copy(0, rows, chosen)
            ids[at] = sampler(logits[chosen[now]])
            masked, passes = masked & ~at, passes.index_add(0, rows.cpu(), torch.ones_like(rows.cpu()))
        return Filled(batch.texts(ids), passes.tolist())

    def log_probs(self, batch: Batch) -> Tensor:
        """One by one from the left, a pass for every token."""
        return diffusion_log_likelihood(
            self.model, batch.input_ids, groups.infill(batch.unknown, padding=batch.padding), batch_size=16
        )


@dataclass(frozen=True)
class Copy(Filler):
    """The sentence "before" or "after" the blank, as it is: what overlap costs nothing. No model, no true length."""

    model: None = None
    which: str = "before"

    def __post_init__(self):
        self._check(type(None), which=SENTENCES)

    def __call__(self, batch: Batch, generator: torch.Generator) -> Filled:
        before = self.which == "before"
        texts = [sentences(s.prefix)[-1] if before else sentences(s.suffix)[0] for s in batch.stories]
        return Filled(texts, [0] * len(texts))
