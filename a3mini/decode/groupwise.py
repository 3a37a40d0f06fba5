"""Group after group (paper: groupwise decoding): one forward pass per group, whose tokens are drawn independently.

What a position held before it is filled is never read: its content is fed only once its token is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from a3mini import groups
from a3mini.decode.blanks import Rooms
from a3mini.decode.sampling import Sampler
from a3mini.decode.steps import Steps
from a3mini.decode.trace import Trace
from a3mini.model import A3ForCausalLM
from a3mini.objective import labels_for
from a3mini.rows import check

LAST = torch.iinfo(torch.int64).max  # a group that comes after all others


@dataclass(frozen=True, eq=False)
class Generation:
    """What decoding returns.

    Attributes:
        sequences: int64, (B, T).
        log_probs: (B, T), of the drawn tokens, nats: the model's own, whatever the temperature and truncation; 0 where
            nothing was drawn. They sum to ``objective.log_likelihood`` of ``sequences``, ``group_ids``, ``known``.
        group_ids: int64, (B, T), the order that was used, numbered 1 .. K; -1 where an early end, of the text or of a
            blank, left no token.
        known: bool, (B, T), tokens that were there before.
        trace: what happened, step by step.
    """

    sequences: Tensor
    log_probs: Tensor
    group_ids: Tensor
    known: Tensor
    trace: Trace


@dataclass(eq=False)
class Filling:
    """A batch being filled, for every way of decoding; arguments checked before any work.

    Attributes:
        tokens: int64, (B, T), a copy of the caller's, 0 where a token is still to be drawn.
        group_ids: int64, (B, T), numbered 1 .. K in each row.
        predicted: bool, (B, T), what decoding has to fill.
        filled: bool, (B, T), what it has filled so far.
        log_probs: (B, T), of the tokens drawn.
    """

    tokens: Tensor
    group_ids: Tensor
    predicted: Tensor
    filled: Tensor
    log_probs: Tensor

    @classmethod
    def of(cls, model: A3ForCausalLM, input_ids: Tensor, group_ids: Tensor, known: Tensor | None) -> "Filling":
        """Check the arguments of a decoding.

        Raises:
            TypeError, ValueError: as ``A3ForCausalLM.forward``; a wrong ``known``; nothing to predict.
        """
        config = model.config
        if isinstance(input_ids, Tensor) and isinstance(group_ids, Tensor) and input_ids.shape == group_ids.shape:
            predicted = labels_for(torch.zeros_like(group_ids), group_ids, known) == 0
            # what stands where a token will be drawn is never read, so it need not be a token
            input_ids = input_ids.masked_fill(predicted, 0)
        check(input_ids, group_ids, None, config.vocab_size, config.max_position_embeddings)
        if not predicted.any():
            raise ValueError("there is nothing to predict: group_ids has no position above 0 that is not known")
        return cls(
            tokens=input_ids,
            group_ids=groups.relabel(group_ids),
            predicted=predicted,
            filled=torch.zeros_like(predicted),
            log_probs=torch.zeros(
                input_ids.shape, dtype=torch.promote_types(model.dtype, torch.float32), device=input_ids.device
            ),
        )

    @property
    def known(self) -> Tensor:
        """What was there before, and is never to be filled; bool, (B, T)."""
        return (self.group_ids >= 0) & ~self.predicted

    @property
    def open(self) -> Tensor:
        """What is still to be filled; bool, (B, T)."""
        return self.predicted & ~self.filled

    def next_group(self) -> Tensor:
        """The group (B, 1) that comes next in each row; ``LAST`` where the row is finished."""
        return self.group_ids.masked_fill(~self.open, LAST).amin(-1, keepdim=True)

    def ready(self, group: Tensor, fed: Tensor) -> Tensor:
        """bool, (B, T): content of groups before ``group`` (B, 1) that is not ``fed`` yet; none in finished rows."""
        return (self.group_ids >= 0) & (self.group_ids < group) & ~fed & (group < LAST)

    def context(self, group_ids: Tensor, at: Tensor, sampler: Sampler) -> Tensor | None:
        """What the repetition penalty looks at: for each of the M positions ``at`` (B, T), the tokens (M, T) of its row
        that belong to earlier groups, as ``group_ids`` (B, T) has them; -1 where there is none."""
        if sampler.repetition_penalty == 1:
            return None
        row, group = at.nonzero()[:, 0], group_ids[at][:, None]
        earlier = (group_ids[row] >= 0) & (group_ids[row] < group)
        return self.tokens[row].masked_fill(~earlier, -1)

    def write(self, at: Tensor, drawn: Tensor, log_probs: Tensor) -> None:
        """Put the tokens ``drawn`` (M,) at the positions ``at`` (B, T), with the model's ``log_probs`` (M, V)."""
        self.tokens[at] = drawn
        self.log_probs[at] = log_probs.gather(-1, drawn[:, None])[:, 0]
        self.filled = self.filled | at

    def end_of_text(self, stop: int | None) -> Tensor:
        """bool, (B, T): open positions behind a drawn ``stop`` before which everything is filled; they become -1."""
        if stop is None:
            return torch.zeros_like(self.open)
        first_open = self.open.long().cumsum(-1).eq(0)  # True up to the first open position
        ended = (self.filled & (self.tokens == stop) & first_open).any(-1, keepdim=True)
        return self.drop(self.open & ended, stop)

    def drop(self, dropped: Tensor, token: int) -> Tensor:
        """The open positions ``dropped`` (B, T) become -1, never to be filled; ``token`` stands there, never read."""
        self.group_ids = self.group_ids.masked_fill(dropped, groups.PADDING)
        self.predicted = self.predicted & ~dropped
        self.tokens = self.tokens.masked_fill(dropped, token)
        return dropped

    def result(self, trace: Trace) -> Generation:
        return Generation(self.tokens, self.log_probs, groups.relabel(self.group_ids), self.known, trace)


def settle_known_order(model: A3ForCausalLM, known_order: str | None) -> str:
    """How the given tokens read each other: as asked for; or, with None, as in the model's training.

    Raises:
        ValueError: another ``known_order``.
    """
    known_order = model.config.known_order if known_order is None else known_order
    groups.check_known_order(known_order)
    return known_order


def check_options(vocab_size: int, stop: int | None, runners_up: int) -> None:
    """Say what is wrong with what every way of decoding takes."""
    if stop is not None and (not isinstance(stop, Integral) or isinstance(stop, bool) or not 0 <= stop < vocab_size):
        raise ValueError(f"stop must be a token id, 0 .. {vocab_size - 1}, or None; got {stop!r}")
    groups.check_integer("runners_up", runners_up, 0)


@torch.no_grad()
def generate(
    model: A3ForCausalLM,
    input_ids: Tensor,
    group_ids: Tensor,
    known: Tensor | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
    *,
    repetition_penalty: float = 1.0,
    banned: Sequence[int] = (),
    stop: int | None = None,
    rooms: Rooms | None = None,
    runners_up: int = 3,
) -> Generation:
    """Draw the predicted positions, group after group; a group's tokens are drawn independently of each other.

    Rows may have different groups, numbers of groups and lengths. Every row takes one pass per group.

    Args:
        model: an A3 model.
        input_ids: int64, (B, T). What stands at positions to be predicted does not matter.
        group_ids: int64, (B, T); see ``groups``.
        known: bool, (B, T): tokens that are kept and join their own group; default: the given ones.
        temperature, top_k, top_p, generator, repetition_penalty, banned: see ``sampling.Sampler``. A group that
            sees fewer than two tokens predicts the same at all its positions; see ``groups``.
        use_cache: keep keys and values; the result is the same without, only slower.
        stop: the end-of-text token. Once it is drawn and everything before it is filled, the row ends: positions that
            were never drawn get the group id -1. What is drawn already stays.
        rooms: blanks that the model may end before their room is used up: a drawn end stays, and what is behind it in
            its room gets the group id -1. ``repetition_penalty`` takes no ends for tokens that are there already.
        runners_up: how many other likely tokens the trace keeps for every position.

    Raises:
        TypeError, ValueError: as ``A3ForCausalLM.forward``, ``Sampler`` and ``Rooms.check``; nothing to predict.
    """
    sampler = Sampler(temperature, top_k, top_p, repetition_penalty, banned, generator).check(model.config.vocab_size)
    check_options(model.config.vocab_size, stop, runners_up)
    filling = Filling.of(model, input_ids, group_ids, known)
    settings = {**sampler.settings(), "stop": stop}
    if rooms is not None:
        rooms.check(filling.group_ids, filling.predicted, model.config.vocab_size, sampler.banned)
        settings |= {"end": rooms.end, "least": rooms.least}
    steps = Steps(model, filling.tokens.shape, use_cache)
    trace = Trace.begin("generate", settings, filling.tokens, filling.known)
    while filling.open.any():
        group = filling.next_group()
        ask = filling.open & (filling.group_ids == group)
        context = filling.context(filling.group_ids, ask, sampler)
        hidden = steps(filling.tokens, filling.group_ids, filling.ready(group, steps.fed), ask)
        logits = steps.logits(hidden)
        log_probs = logits.log_softmax(-1)
        if rooms is None:
            drawn, dropped = sampler(logits, context), torch.zeros_like(ask)
        else:
            context = None if context is None else context.masked_fill(context == rooms.end, -1)
            drawn = sampler(rooms.allowed(logits, ask), context)
            # what is behind an end is padding, drawn in this step or not
            dropped = filling.drop(filling.open & rooms.behind(ask, drawn), rooms.end)
            drawn, log_probs, ask = drawn[~dropped[ask]], log_probs[~dropped[ask]], ask & ~dropped
        filling.write(ask, drawn, log_probs)
        trace.commit(ask, drawn, log_probs, steps.passes, filling.group_ids, runners_up)
        trace.note("stop", dropped | filling.end_of_text(stop), steps.passes)
    return filling.result(trace)
