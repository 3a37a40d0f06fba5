"""The model chooses where to go next (paper: dynamic resampling).

At each step every open position is predicted from what is finished, and the positions that the criterion likes best
are filled. There are two ways to read what is finished::

    "committed"   Each set of positions that was filled together is one group, in the order of filling. So there is an
                  order of groups, all content is final, the cache is exact, and one pass over the result scores it.
    "refreshed"   Everything finished is one group and is encoded anew at every step, as the official code does.
                  Early content then sees later tokens. No single pass scores the result, and nothing can be cached.

Which positions are filled depends on distributions and the criterion alone, never on the tokens drawn in the same
step. So the next positions are a function of what is finished, and either way defines a proper distribution: the
product of the steps' probabilities sums to 1 over all results. ``resample_log_likelihood`` computes that product.

``limits`` says how many positions are filled at a time, and which.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from a3mini import groups
from a3mini.decode.groupwise import Filling, Generation, check_options
from a3mini.decode.limits import Limits
from a3mini.decode.sampling import Sampler
from a3mini.decode.steps import Steps
from a3mini.decode.trace import Trace
from a3mini.model import A3ForCausalLM
from a3mini.rows import check

CRITERIA = ("confidence", "entropy", "random")
CONTEXTS = ("committed", "refreshed")
CHUNK = 64  # rows of logits scored at a time


@torch.no_grad()
def resample(
    model: A3ForCausalLM,
    input_ids: Tensor,
    unknown: Tensor,
    per_step: int | None = None,
    criterion: str = "confidence",
    context: str = "committed",
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    use_cache: bool | None = None,
    *,
    bound: float | None = None,
    threshold: float | None = None,
    apart: int = 1,
    window: int | None = None,
    shortlist: int | None = None,
    known: Tensor | None = None,
    known_groups: Tensor | None = None,
    repetition_penalty: float = 1.0,
    banned: Sequence[int] = (),
    stop: int | None = None,
    runners_up: int = 3,
    considered: bool = True,
) -> Generation:
    """Fill the unknown positions in an order that the model chooses.

    Args:
        model: an A3 model.
        input_ids: int64, (B, T). What stands at unknown positions does not matter.
        unknown: bool, (B, T), the positions to fill.
        per_step: positions filled at each step, at most. None: 1, or as many as ``bound`` and ``threshold`` allow.
        criterion: "confidence", highest probability of the likeliest token first; "entropy", lowest entropy first;
            "random". Distributions are taken at temperature 1, untruncated, after bans. Ties go to the left.
        context: "committed" or "refreshed"; see the top of this file.
        temperature, top_k, top_p, generator, repetition_penalty, banned: see ``sampling.Sampler``.
        use_cache: default: where it is exact, which is the context "committed".
        bound, threshold, apart: which positions are filled together; see ``limits.Limits``. They are about the same
            distributions as the criterion.
        window: at each step only the first so many open positions, from the left, are asked: a step then costs the
            same for a long text as for a short one. In a text that grows to the right these are the ones near what is
            finished; of blanks the first is filled first, from both ends if it fits into the window.
        shortlist: every open position is asked at the first step, and then, at each step, only the so many that scored
            best when they were last asked. They are anywhere in the text.
        known: bool, (B, T), the tokens to start from; default: all that are not unknown. The rest is padding.
        known_groups: int64, (B, T), read where ``known``: the groups of known tokens; default: all given, one group.
            A causal model that is not adapted reads its context better in order: ``groups.left_to_right(T)``.
        stop, runners_up: see ``generate``.
        considered: keep in the trace how every open position was scored at every step. This grows with the square of
            T: 15 MB of JSON for 1,024 tokens. Without it the trace grows with T.

    Returns:
        a ``Generation``, whose ``group_ids`` are the order of filling. For "refreshed" its ``log_probs`` are those of
        the steps, and ``log_likelihood`` under ``group_ids`` is another number.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or range, or two that contradict each other.
    """
    sampler = Sampler(temperature, top_k, top_p, repetition_penalty, banned, generator)
    return _resample(
        model, input_ids, unknown, sampler, lambda logits, seen, at: sampler(logits, seen),
        limits=Limits(per_step, bound, threshold, apart, window, shortlist), criterion=criterion, context=context,
        use_cache=use_cache, known=known, known_groups=known_groups, stop=stop, runners_up=runners_up,
        considered=considered,
    )  # fmt: skip


@torch.no_grad()
def resample_log_likelihood(
    model: A3ForCausalLM,
    sequences: Tensor,
    unknown: Tensor,
    per_step: int | None = None,
    criterion: str = "confidence",
    context: str = "committed",
    generator: torch.Generator | None = None,
    *,
    bound: float | None = None,
    threshold: float | None = None,
    apart: int = 1,
    window: int | None = None,
    shortlist: int | None = None,
    known: Tensor | None = None,
    known_groups: Tensor | None = None,
    repetition_penalty: float = 1.0,
    banned: Sequence[int] = (),
) -> Tensor:
    """Log-probability (B, T) of the unknown tokens when ``resample`` chooses the order: replayed step by step.

    The steps are those of ``resample`` with tokens taken from ``sequences`` instead of drawn. Summed over a row it is
    the log-likelihood of the adaptive order, nats; over all fillings its exponential sums to 1.

    Args, Raises: as ``resample``; ``generator`` draws the order of the criterion "random".
    """
    sampler = Sampler(1.0, None, None, repetition_penalty, banned, generator)
    config = model.config  # here, unlike in resample, the tokens at unknown positions are read
    check(sequences, _start(unknown, known, known_groups), None, config.vocab_size, config.max_position_embeddings)
    return _resample(
        model, sequences, unknown, sampler, lambda logits, seen, at: sequences[at],
        limits=Limits(per_step, bound, threshold, apart, window, shortlist), criterion=criterion, context=context,
        known=known, known_groups=known_groups,
    ).log_probs  # fmt: skip


def _resample(
    model: A3ForCausalLM,
    input_ids: Tensor,
    unknown: Tensor,
    sampler: Sampler,
    pick: Callable[[Tensor, Tensor | None, Tensor], Tensor],
    *,
    limits: Limits,
    criterion: str,
    context: str,
    known: Tensor | None,
    known_groups: Tensor | None,
    use_cache: bool | None = None,
    stop: int | None = None,
    runners_up: int = 0,
    considered: bool = False,
) -> Generation:
    """``resample``; ``pick`` says which tokens (M,) go to the positions of its third argument, bool (B, T)."""
    sampler.check(model.config.vocab_size)
    check_options(model.config.vocab_size, stop, runners_up)
    if criterion not in CRITERIA:
        raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}; got {criterion!r}")
    if context not in CONTEXTS:
        raise ValueError(f"context must be one of {', '.join(CONTEXTS)}; got {context!r}")
    refreshed = context == "refreshed"
    if refreshed and use_cache:
        raise ValueError('context="refreshed" encodes everything anew at every step; use_cache must be False or None')
    if refreshed and known_groups is not None:
        raise ValueError('context="refreshed" makes one group of everything; known_groups has no place in it')
    filling = Filling.of(model, input_ids, _start(unknown, known, known_groups), ~unknown)
    steps = Steps(model, filling.tokens.shape, not refreshed if use_cache is None else use_cache)
    settings = {**vars(limits), "criterion": criterion, "context": context, "stop": stop, **sampler.settings()}
    trace = Trace.begin("resample", settings, filling.tokens, filling.known)
    order = _random_order(unknown, sampler.generator) if criterion == "random" else None  # drawn before any token
    last = torch.full(unknown.shape, float("inf"), device=unknown.device)  # scores; inf where not asked yet

    while filling.open.any():
        # the open positions of a row share its highest group; those that stay open move on to the next
        ask, group = limits.asked(filling.open, last), filling.next_group()
        seen = filling.context(filling.group_ids, ask, sampler)
        read = filling.group_ids
        if refreshed:  # what is finished is read as one group
            read = torch.where(filling.filled | filling.known, groups.GIVEN, read)
        logits = steps.logits(steps(filling.tokens, read, filling.ready(group, steps.fed), ask))
        measured = _measured(logits, seen, sampler, limits.measures(criterion))
        if criterion == "random":
            found = order[ask].to(logits.dtype)
        else:
            found = measured["confidence"] if criterion == "confidence" else -measured["entropy"]
        scores = _spread(found, ask, float("-inf"))
        last = torch.where(ask, scores, last.to(scores.dtype))
        now = limits.choose(scores, {name: _spread(values, ask, 0.0) for name, values in measured.items()})
        chosen = now[ask]  # (M,)
        logits, seen = logits[chosen], None if seen is None else seen[chosen]
        drawn, log_probs = pick(logits, seen, now), logits.log_softmax(-1)
        filling.write(now, drawn, log_probs)
        trace.commit(now, drawn, log_probs, steps.passes, filling.group_ids, runners_up, scores if considered else None)
        trace.note("stop", filling.end_of_text(stop), steps.passes)
        filling.group_ids = filling.group_ids + filling.open.long()
    return filling.result(trace)


def _start(unknown: Tensor, known: Tensor | None, known_groups: Tensor | None) -> Tensor:
    """Group ids (B, T) in which the unknown positions are the last group."""
    groups.check_mask("unknown", unknown)
    if unknown.dim() != 2:
        raise ValueError(f"unknown must have shape (B, T), got {tuple(unknown.shape)}; for one row use unknown[None]")
    if not unknown.any():
        raise ValueError("there is nothing to fill: unknown is False everywhere")
    if known is None:
        known = ~unknown
    groups.check_mask("known", known)
    if known.shape != unknown.shape:
        raise ValueError(f"known has shape {tuple(known.shape)} but unknown has {tuple(unknown.shape)}")
    if (known & unknown).any():
        raise ValueError(f"{(known & unknown).sum().item()} positions are both known and unknown; choose one")
    first = torch.zeros_like(unknown, dtype=torch.int64)
    if known_groups is not None:
        known_groups = groups.check(known_groups, "known_groups")
        if known_groups.shape != unknown.shape:
            raise ValueError(
                f"known_groups has shape {tuple(known_groups.shape)} but unknown has {tuple(unknown.shape)}"
            )
        if (known_groups[known] < 0).any():
            raise ValueError("known_groups is -1 (padding) at a known position; known tokens need a group of 0 or more")
        first = known_groups
    group_ids = torch.where(known, first, groups.PADDING)
    return torch.where(unknown, group_ids.amax(-1, keepdim=True).clamp(min=0) + 1, group_ids)


def _random_order(unknown: Tensor, generator: torch.Generator | None) -> Tensor:
    """Numbers (B, T) whose order decides which position comes first."""
    drawn = torch.rand(unknown.shape, generator=generator, device=generator.device if generator else None)
    return drawn.to(unknown.device)


def _measured(logits: Tensor, seen: Tensor | None, sampler: Sampler, wanted: list[str]) -> dict[str, Tensor]:
    """Numbers (M,) of the distributions of logits (M, V): "confidence", the probability of the likeliest token, and
    "entropy", nats; a few rows at a time, for V is large."""
    found = {name: [] for name in wanted}
    for part in torch.arange(len(logits), device=logits.device).split(CHUNK) if wanted else ():
        log_probs = sampler.allowed(logits[part], None if seen is None else seen[part]).log_softmax(-1)
        if "confidence" in wanted:
            found["confidence"].append(log_probs.amax(-1).exp())
        if "entropy" in wanted:
            found["entropy"].append(torch.special.entr(log_probs.exp()).sum(-1))
    return {name: torch.cat(parts) for name, parts in found.items()}


def _spread(values: Tensor, at: Tensor, elsewhere: float) -> Tensor:
    """(B, T): the M ``values`` at the positions ``at`` (B, T)."""
    return torch.full(at.shape, elsewhere, dtype=values.dtype, device=at.device).masked_scatter_(at, values)
