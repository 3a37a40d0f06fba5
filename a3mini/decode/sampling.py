"""From logits to a token: what is banned, what is repeated, how sharp, how much of the tail; then the draw.

The changes to the logits are those of transformers, in the order in which its ``generate`` makes them. Every way of
decoding draws from ``Sampler.probabilities``, and speculative decoding verifies against the same numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import torch
from torch import Tensor
from transformers.generation import (
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

SMALLEST, LARGEST = 1e-6, 1e6  # what a logit may be divided or multiplied by, and still be a number


@dataclass(frozen=True)
class Sampler:
    """How tokens are drawn.

    Attributes:
        temperature: divides the logits; 0 is greedy, the likeliest token.
        top_k: only the k likeliest tokens; None: all.
        top_p: only the likeliest tokens that together have this probability; None: all.
        repetition_penalty: tokens that the row has already lose: a positive logit is divided by it, a negative one
            multiplied; 1 changes nothing.
        banned: token ids that are never drawn.
        generator: where the draws come from; default: torch's global generator.

    Raises:
        ValueError: a value outside its range; all are checked here.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0
    banned: Sequence[int] = ()
    generator: torch.Generator | None = None

    def __post_init__(self):
        try:
            banned = self.banned.tolist() if isinstance(self.banned, Tensor) else list(self.banned)
        except TypeError:
            raise TypeError(f"banned must be a sequence of token ids, got {self.banned!r}") from None
        object.__setattr__(self, "banned", banned)
        if self.generator is not None and not isinstance(self.generator, torch.Generator):
            raise TypeError(f"generator must be a torch.Generator or None, got {self.generator!r}")
        if not isinstance(self.temperature, Real) or not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be 0 (greedy) or a positive number, got {self.temperature!r}")
        if 0 < self.temperature < SMALLEST:
            raise ValueError(f"temperature {self.temperature!r} is too small to divide by; 0 is greedy")
        if self.temperature > LARGEST:
            raise ValueError(f"temperature must be at most {LARGEST:g}, got {self.temperature!r}")
        if self.top_k is not None and (not isinstance(self.top_k, Integral) or self.top_k < 1):
            raise ValueError(f"top_k must be an integer of at least 1, or None for all tokens; got {self.top_k!r}")
        if self.top_p is not None and (not isinstance(self.top_p, Real) or not 0 < self.top_p <= 1):
            raise ValueError(f"top_p must be above 0 and at most 1, or None for all tokens; got {self.top_p!r}")
        penalty = self.repetition_penalty
        if not isinstance(penalty, Real) or not 0 < penalty < float("inf"):
            raise ValueError(f"repetition_penalty must be a positive number, got {penalty!r}")
        if not SMALLEST <= penalty <= LARGEST:
            raise ValueError(f"repetition_penalty must be from {SMALLEST:g} to {LARGEST:g}, got {penalty!r}")

    def check(self, vocab_size: int) -> "Sampler":
        """Check ``banned`` against the vocabulary.

        Raises:
            ValueError: an id outside the vocabulary, or nothing left to draw.
        """
        wrong = [token for token in self.banned if not isinstance(token, Integral) or not 0 <= token < vocab_size]
        if wrong:
            raise ValueError(f"banned holds {wrong[0]!r}, outside the vocabulary 0 .. {vocab_size - 1}")
        if len(set(self.banned)) == vocab_size:
            raise ValueError("banned holds the whole vocabulary; there is no token left to draw")
        return self

    def allowed(self, logits: Tensor, context: Tensor | None = None) -> Tensor:
        """Logits (M, V) after bans and the repetition penalty: what may be drawn, at temperature 1, untruncated.

        Args:
            logits: (M, V).
            context: int64, (M, L), the tokens that each row has already, -1 where there is none; None: no tokens.
        """
        if self.repetition_penalty != 1 and context is not None and context.shape[1]:
            some = (context >= 0).any(-1)
            seen = torch.where(context >= 0, context, context.amax(-1, keepdim=True))[some]  # twice is as good as once
            logits = logits.clone()
            logits[some] = RepetitionPenaltyLogitsProcessor(float(self.repetition_penalty))(seen, logits[some])
        if len(self.banned):
            banned = [int(token) for token in self.banned]
            logits = SuppressTokensLogitsProcessor(banned, device=logits.device)(None, logits)
        return logits

    def probabilities(self, logits: Tensor, context: Tensor | None = None) -> Tensor:
        """The distribution (M, V) that tokens are drawn from; greedy decoding has all of it on one token."""
        scores = self.allowed(logits, context)
        if self.temperature == 0:
            return torch.zeros_like(scores).scatter_(-1, scores.argmax(-1, keepdim=True), 1.0)
        scores = TemperatureLogitsWarper(float(self.temperature))(None, scores)
        if self.top_k is not None:
            scores = TopKLogitsWarper(int(self.top_k))(None, scores)
        if self.top_p is not None and self.top_p < 1:
            scores = TopPLogitsWarper(float(self.top_p))(None, scores)
        return scores.softmax(-1)

    def draw(self, probabilities: Tensor) -> Tensor:
        """One token (M,) from each row of ``probabilities`` (M, V), which need not be normalised."""
        if self.temperature == 0:
            return probabilities.argmax(-1)
        if self.generator is None:
            return torch.multinomial(probabilities, 1)[:, 0]
        weights = probabilities.to(self.generator.device)  # a generator draws on its own device
        return torch.multinomial(weights, 1, generator=self.generator)[:, 0].to(probabilities.device)

    def __call__(self, logits: Tensor, context: Tensor | None = None) -> Tensor:
        """One token (M,) for each row of ``logits`` (M, V)."""
        if self.temperature == 0:
            return self.allowed(logits, context).argmax(-1)
        return self.draw(self.probabilities(logits, context))

    def settings(self) -> dict:
        """What a trace keeps of it."""
        return {
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "repetition_penalty": self.repetition_penalty,
            "banned": self.banned,
        }
