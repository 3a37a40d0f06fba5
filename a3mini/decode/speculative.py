"""Any-subset speculative decoding: draft in parallel, verify one by one, in a single pass (Guo & Ermon 2025).

Tokens drawn in parallel do not know of each other, so their joint distribution is wrong. Here they are drafts. With
the order fixed, x_1, x_2, ... are the next tokens in it, and each round takes two passes::

    1  draft    p_i = P(x_i | committed) for the next few positions at once; draw all of them
    2  verify   q_i = P(x_i | committed, x_1, ..., x_(i-1)), the exact conditionals, all in one pass over the drafts

Draft i is accepted with probability min(1, q_i(x_i) / p_i(x_i)). At the first that is not, the token is drawn from
the residual, max(0, q_i - p_i) normalised, and the drafts behind it are dropped. The result is distributed exactly
as one-by-one decoding (law 6). The first draft of a round has q_1 = p_1 and needs no verification. So a round of two
passes gives at least two tokens, a lone last token takes one pass, and passes never exceed the number of tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from a3mini import groups
from a3mini.decode.groupwise import LAST, Filling, Generation, check_options
from a3mini.decode.sampling import Sampler
from a3mini.decode.steps import Steps
from a3mini.decode.trace import Trace
from a3mini.model import A3ForCausalLM
from a3mini.objective import labels_for
from a3mini.rows import Slots


def singletons(group_ids: Tensor, known: Tensor | None = None) -> Tensor:
    """Refine every group into single tokens, from left to right; known tokens of a group come with its last one.

    Args:
        group_ids: int64, (B, T); see ``groups``.
        known: bool, (B, T); default: the given tokens.

    Returns:
        int64, (B, T), in which every predicted token has a number of its own, 1 .. K.

    Raises:
        TypeError, ValueError: ``group_ids`` or ``known`` is not valid.
    """
    group_ids = groups.relabel(group_ids)
    length = group_ids.shape[1]
    predicted = labels_for(torch.zeros_like(group_ids), group_ids, known) == 0
    position = torch.arange(length, device=group_ids.device)
    # within a group: predicted tokens by position, then its known tokens together with the last of them
    last = group_ids.new_full((len(group_ids), length + 1), -1).scatter_reduce(
        1, group_ids.clamp(min=0), torch.where(predicted, position, -1), "amax"
    )
    place = torch.where(predicted, position, last.gather(1, group_ids.clamp(min=0)).clamp(min=0))
    return groups.relabel(torch.where(group_ids > 0, group_ids * length + place, group_ids))


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
    draft: int = 4,
    repetition_penalty: float = 1.0,
    banned: Sequence[int] = (),
    stop: int | None = None,
    runners_up: int = 3,
) -> Generation:
    """The distribution of ``decode.generate`` at single tokens in the same order, in fewer passes.

    Args:
        group_ids: int64, (B, T). Groups of several tokens are first refined: see ``singletons``.
        draft: positions drafted in a round. 1 is one-by-one decoding.

    All other arguments are those of ``decode.generate``. The trace has drafts that did not pass as "reject".

    Returns:
        a ``Generation``; its ``group_ids`` are the single tokens.

    Raises:
        TypeError, ValueError: as ``decode.generate``; ``draft`` below 1.
    """
    sampler = Sampler(temperature, top_k, top_p, repetition_penalty, banned, generator).check(model.config.vocab_size)
    check_options(model.config.vocab_size, stop, runners_up)
    groups.check_integer("draft", draft, 1)
    filling = Filling.of(model, input_ids, group_ids, known)
    filling.group_ids = singletons(filling.group_ids, filling.known)
    steps = Steps(model, filling.tokens.shape, use_cache)
    settings = {"draft": draft, "stop": stop, **sampler.settings()}
    trace = Trace.begin("speculative", settings, filling.tokens, filling.known)

    def commit(at: Tensor, log_probs: Tensor) -> None:
        """Keep the tokens that stand at ``at`` (B, T), at most one per row; log_probs (M, V)."""
        drawn = filling.tokens[at]
        filling.write(at, drawn, log_probs)
        trace.commit(at, drawn, log_probs, steps.passes, filling.group_ids, runners_up)
        trace.note("stop", filling.end_of_text(stop), steps.passes)

    while filling.open.any():
        # draft
        first = filling.next_group()  # (B, 1)
        drafted = _scatter(Slots.where(filling.open, order=filling.group_ids), draft, filling.open)
        together = torch.where(drafted, first, filling.group_ids)  # nobody sees a draft
        hidden = steps(filling.tokens, together, filling.ready(first, steps.fed), drafted)
        logits, p = propose(steps, hidden, filling, together, drafted, sampler)
        now = drafted & (filling.group_ids == first)
        commit(now, logits[now[drafted]].log_softmax(-1))

        # verify
        rest = drafted & filling.open
        if not rest.any():
            continue
        p = p[rest[drafted]]
        last = filling.group_ids.masked_fill(~rest, groups.PADDING).amax(-1, keepdim=True)
        hidden = steps(filling.tokens, filling.group_ids, filling.ready(last, steps.fed), rest)
        logits = steps.logits(hidden)
        q = sampler.probabilities(logits, filling.context(filling.group_ids, rest, sampler))
        log_probs = logits.log_softmax(-1)
        drawn = filling.tokens[rest][:, None]
        accepted = torch.zeros_like(rest)
        accepted[rest] = _chance(drawn[:, 0], sampler) * p.gather(1, drawn)[:, 0] < q.gather(1, drawn)[:, 0]
        failed = filling.group_ids.masked_fill(~rest | accepted, LAST).amin(-1, keepdim=True)  # (B, 1)
        trace.note("reject", rest & (filling.group_ids >= failed), steps.passes, filling.tokens, filling.group_ids)
        again = rest & (filling.group_ids == failed)
        if again.any():
            wrong = again[rest]
            residual = (q[wrong] - p[wrong]).clamp(min=0)
            residual = torch.where(residual.sum(-1, keepdim=True) > 0, residual, q[wrong])  # p and q differ by rounding
            filling.tokens[again] = sampler.draw(residual)
            steps.take_back(filling.group_ids, failed[:, 0])
        keep = rest & (filling.group_ids <= failed)
        while (keep & filling.open).any():  # one by one: the text may end at any of them
            now = keep & (filling.group_ids == filling.next_group())
            commit(now, log_probs[now[rest]])
    return filling.result(trace)


def propose(
    steps: Steps, hidden: Tensor, filling: Filling, together: Tensor, drafted: Tensor, sampler: Sampler
) -> tuple[Tensor, Tensor]:
    """Draw the M drafts at ``drafted`` (B, T), independently of each other, into ``filling.tokens``.

    Another way to draft may take its place: whatever p is, verifying makes the result exact, as long as the first draft
    of each row is drawn from the model's own distribution.

    Args:
        hidden: (M, D), the last hidden states of the drafts.
        together: int64, (B, T), the group ids that the pass had: no draft sees another.

    Returns:
        logits (M, V), of which only those of each row's first draft are read; and p (M, V), what they were drawn from.
    """
    logits = steps.logits(hidden)
    p = sampler.probabilities(logits, filling.context(together, drafted, sampler))
    filling.tokens[drafted] = sampler.draw(p)
    return logits, p


def _scatter(slots: Slots, count: int, like: Tensor) -> Tensor:
    """bool, (B, T): the first ``count`` of each row's slots."""
    return torch.zeros_like(like).scatter(1, slots.index[:, :count], slots.valid[:, :count])


def _chance(like: Tensor, sampler: Sampler) -> Tensor:
    """Uniform numbers (M,) in [0, 1); greedy decoding needs none and draws none."""
    if sampler.temperature == 0:
        return torch.full(like.shape, 0.5, device=like.device)
    device = sampler.generator.device if sampler.generator else like.device
    return torch.rand(like.shape, generator=sampler.generator, device=device).to(like.device)
