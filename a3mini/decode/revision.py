"""Rewriting what is there: find the tokens that fit worst, reopen them, fill them again (paper: abstract).

How well a token fits is its log-probability given all other tokens. One pass over the text cannot give that for
every token: from the second layer on, the content of the others has seen the token. So each token gets a row of its
own, in which it alone is missing.

What counts as better is fixed before: the log-likelihood under one order, ``group_ids``, the same before and after.
What each change gained is the difference, so the gains of a row add up to what the row gained.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real

import torch
from torch import Tensor

from a3mini import groups, objective
from a3mini.decode.groupwise import Filling, Generation, check_options, generate, settle_known_order
from a3mini.decode.sampling import Sampler
from a3mini.decode.trace import Trace
from a3mini.model import A3ForCausalLM
from a3mini.rows import check
from a3mini.train.tokens import decode_behind


@dataclass(frozen=True)
class Change:
    """What one round changed in a row.

    Attributes:
        round: in which round, from 1.
        positions: where, from left to right: those whose token is another now.
        before, after: the tokens there.
        gain: what the row's log-likelihood gained, nats; below 0 only with ``keep_worse``.
    """

    round: int
    positions: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    gain: float


@dataclass(frozen=True, eq=False)
class Revision(Generation):
    """A ``Generation`` whose ``log_probs`` are those of ``group_ids``, the fixed order; and what it gained.

    Attributes:
        before, after: (B,), log-likelihood of the whole row under ``group_ids``, nats.
        changes: for each row what was changed, in order; the gains add up to ``after - before``.
    """

    before: Tensor
    after: Tensor
    changes: tuple[tuple[Change, ...], ...]

    def report(self, tokenizer, row: int = 0) -> list[str]:
        """The changes of a row in words, a line for each: ``"hause" -> "house"  +5.2 nats``.

        A token may be a part of a word; the line has the whole word, as it was and as it is then.
        """
        there = (self.group_ids[row] >= 0).tolist()
        old = self.sequences[row].tolist()
        for change in reversed(self.changes[row]):
            old = _replaced(old, change.positions, change.before)
        lines = []
        for change in self.changes[row]:
            new = _replaced(old, change.positions, change.after)
            words = [[_quoted(tokenizer, ids[a:b]) for ids in (old, new)]
                     for a, b in _words(tokenizer, old, new, there, change.positions)]  # fmt: skip
            lines.append(f"{', '.join(' -> '.join(pair) for pair in words)}  {change.gain:+.1f} nats")
            old = new
        return lines


@torch.no_grad()
def leave_one_out(
    model: A3ForCausalLM,
    input_ids: Tensor,
    group_ids: Tensor,
    known: Tensor | None = None,
    batch_size: int = 32,
    *,
    known_order: str | None = None,
) -> Tensor:
    """Log-probability of each token given all others, nats: one row per token, in which it is the last group.

    Args:
        model: an A3 model.
        input_ids, group_ids, known: as ``objective.log_likelihood``; of the order only padding matters.
        batch_size: rows computed at a time.
        known_order: how the others see each other, as in ``infill``; None: as in the model's training.

    Returns:
        (B, T), 0 where nothing is predicted.

    Raises:
        TypeError, ValueError: as ``objective.log_likelihood``; another ``known_order``.
    """
    groups.check_integer("batch_size", batch_size, 1)
    known_order = settle_known_order(model, known_order)
    predicted = objective.labels_for(input_ids, group_ids, known) >= 0
    out = torch.zeros(input_ids.shape, dtype=torch.promote_types(model.dtype, torch.float32), device=input_ids.device)
    row, position = predicted.nonzero().T
    if not len(row):
        return out
    alone = groups.infill(torch.zeros_like(predicted), padding=group_ids < 0)  # all given
    scores = []
    for part in torch.arange(len(row), device=row.device).split(batch_size):
        ids, order = input_ids[row[part]], alone[row[part]]
        order.scatter_(1, position[part, None], 1)
        scores.append(objective.log_likelihood(model, ids, *groups.read_given(order, known_order)))
    return out.masked_scatter(predicted, torch.cat(scores).to(out.dtype))


@torch.no_grad()
def revise(
    model: A3ForCausalLM,
    input_ids: Tensor,
    group_ids: Tensor,
    known: Tensor | None = None,
    reopen: int = 1,
    rounds: int = 20,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    *,
    keep_worse: bool = False,
    least_gain: float = 0.0,
    known_order: str | None = None,
    repetition_penalty: float = 1.0,
    banned: Sequence[int] = (),
    runners_up: int = 3,
    batch_size: int = 32,
) -> Revision:
    """Reopen the least likely tokens, fill them again one by one, and keep what is better.

    In each round every row reopens the ``reopen`` tokens with the lowest log-probability given all others, among those
    not tried since its last improvement, and fills them from left to right given all the rest. The new row stays if
    its log-likelihood under ``group_ids`` is higher, by more than ``least_gain``. A row ends when every token was tried
    and nothing improved.

    With a ``least_gain`` of 0 a text becomes ever likelier, and in the end another: to the model every text that it did
    not write has likelier ones beside it. Some nats leave alone what is merely unusual.

    Args:
        model: an A3 model.
        input_ids: int64, (B, T), a finished text.
        group_ids: int64, (B, T), the order that measures; see ``groups``. Given tokens are never changed.
        known: bool, (B, T): tokens that are never changed; default: the given ones.
        reopen: tokens reopened at a time.
        rounds: at most so many.
        temperature, top_k, top_p, generator, repetition_penalty, banned: see ``sampling.Sampler``.
        keep_worse: keep each new row even if it is worse, for ``rounds`` rounds.
        least_gain: nats that a change must gain at least, unless ``keep_worse``.
        known_order: how the tokens that are not reopened see each other, as in ``infill``; None: as in the model's
            training.
        runners_up: see ``generate``.
        batch_size: rows of ``leave_one_out`` at a time.

    Raises:
        TypeError, ValueError: as ``generate``; ``reopen`` or ``rounds`` below 1, ``least_gain`` below 0; another
            ``known_order``.
    """
    if not isinstance(least_gain, Real) or not 0 <= least_gain < float("inf"):
        raise ValueError(f"least_gain must be nats, 0 or more; got {least_gain!r}")
    known_order = settle_known_order(model, known_order)
    for name, value in (("reopen", reopen), ("rounds", rounds), ("batch_size", batch_size)):
        groups.check_integer(name, value, 1)
    sampler = Sampler(temperature, top_k, top_p, repetition_penalty, banned, generator).check(model.config.vocab_size)
    config = model.config
    check_options(config.vocab_size, None, runners_up)
    check(input_ids, group_ids, None, config.vocab_size, config.max_position_embeddings)  # every token will be read
    filling = Filling.of(model, input_ids, group_ids, known)
    tokens, predicted, yardstick = input_ids.clone(), filling.predicted, filling.group_ids
    settings = {"reopen": reopen, "rounds": rounds, "keep_worse": keep_worse, "least_gain": least_gain}
    settings |= {"known_order": known_order, **sampler.settings()}
    trace = Trace.begin("revise", settings, tokens, yardstick >= 0)
    passes = torch.ones(len(tokens), dtype=torch.int64, device=tokens.device)

    def score(rows: Tensor, ids: Tensor) -> Tensor:
        return objective.log_likelihood(model, ids, yardstick[rows], filling.known[rows], reduction="token")

    everything = torch.arange(len(tokens), device=tokens.device)
    log_probs = score(everything, tokens)
    before = log_probs.sum(-1)
    fit = torch.zeros_like(log_probs)  # each token given all others
    stale = predicted.any(-1)  # rows whose ``fit`` is out of date
    tried = ~predicted
    changes = [[] for _ in tokens]
    for turn in range(1, rounds + 1):
        if stale.any():
            rows = tokens[stale], yardstick[stale], filling.known[stale]
            fit[stale] = leave_one_out(model, *rows, batch_size, known_order=known_order)
            passes = passes + stale * predicted.sum(-1)
            stale = torch.zeros_like(stale)
        active = (~tried).any(-1).nonzero()[:, 0]
        if not len(active):
            break
        worst = fit.masked_fill(tried, float("inf")).argsort(dim=-1, stable=True)[:, :reopen]
        reopened = torch.zeros_like(tried).scatter_(1, worst, True) & ~tried  # (B, T)
        order = groups.infill(reopened, padding=yardstick < 0)[active]
        new = generate(
            model, tokens[active], *groups.read_given(order, known_order), temperature, top_k, top_p, generator,
            runners_up=runners_up, repetition_penalty=repetition_penalty, banned=banned,
        )  # fmt: skip
        passes[active] += reopened[active].sum(-1) + 1
        found = score(active, new.sequences)
        changed = (new.sequences != tokens[active]).any(-1)
        gain = found.sum(-1) - log_probs[active].sum(-1)
        better = changed & (gain > least_gain)
        accepted = changed if keep_worse else better
        kept, dropped = active[accepted], active[changed & ~accepted]
        proposed = tokens.clone()
        proposed[active] = new.sequences
        trace.note("reopen", _rows(reopened, kept), passes, tokens)
        trace.note("reject", _rows(reopened, dropped), passes, proposed)
        for number, row in enumerate(active.tolist()):
            if accepted[number]:
                trace.steps[row] += [replace(step, passes=int(passes[row])) for step in new.trace.steps[number]]
                at = (proposed[row] != tokens[row]).nonzero()[:, 0]
                now = tuple(tuple(ids[row, at].tolist()) for ids in (tokens, proposed))
                changes[row].append(Change(turn, tuple(at.tolist()), *now, float(gain[number])))
        tried = tried | reopened
        tokens[kept], log_probs[kept] = proposed[kept], found[accepted].to(log_probs.dtype)
        tried[kept], stale[kept] = ~predicted[kept], True
    changes = tuple(map(tuple, changes))
    return Revision(tokens, log_probs, yardstick, filling.known, trace, before, log_probs.sum(-1), changes)


def _rows(mask: Tensor, rows: Tensor) -> Tensor:
    """``mask`` (B, T) in the rows ``rows`` (R,) alone."""
    return torch.zeros_like(mask).index_copy(0, rows, mask[rows])


def _replaced(ids: list[int], positions: Sequence[int], tokens: Sequence[int]) -> list[int]:
    there = dict(zip(positions, tokens, strict=True))
    return [there.get(position, token) for position, token in enumerate(ids)]


def _words(
    tokenizer, old: list[int], new: list[int], there: list[bool], positions: Sequence[int]
) -> list[tuple[int, int]]:
    """The words, begin and end, in which the positions are; a space, a punctuation mark or padding ends a word."""

    def begins(at: int) -> bool:
        if not 0 < at < len(old) or not there[at] or not there[at - 1]:
            return True
        return not any(_inside(decode_behind(tokenizer, [ids[at]])) for ids in (old, new))

    found = []
    for position in positions:
        if found and position < found[-1][1]:
            continue  # in the same word
        begin, end = position, position + 1
        while not begins(begin):
            begin -= 1
        while not begins(end):
            end += 1
        found.append((begin, end))
    return found


def _inside(piece: str) -> bool:
    """Whether a token can stand inside a word; half a character can."""
    return piece[:1].isalnum() or piece[:1] in ("'", "\N{RIGHT SINGLE QUOTATION MARK}", "\ufffd")


def _quoted(tokenizer, ids: list[int]) -> str:
    return json.dumps(decode_behind(tokenizer, ids).strip(), ensure_ascii=False)
