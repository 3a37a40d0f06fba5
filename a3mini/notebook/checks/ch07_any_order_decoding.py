"""Checks for the exercises of notebook 07, any-order decoding."""

import traceback
from collections.abc import Callable

import torch

from a3mini import decode, groups, objective
from a3mini.decode.dynamic import resample
from a3mini.model import A3Config, A3ForCausalLM
from a3mini.notebook.checks.base import case, exercise, expect


@exercise
def fill_group(answer: Callable) -> None:
    """From a model, tokens (T,), group_ids (T,) and a group to the tokens with that group filled greedily."""
    model = _tiny_model()
    for ids in ([0, 1, 1, 1, 2, 2], [0, 1, 2, 3], [0, 3, 1, 3, 2, 1], [0, 7, 7, 4, 0, 9], [0, 2, 1, 1, 2, -1]):
        group_ids = torch.tensor(ids)
        noise = torch.Generator().manual_seed(len(ids))
        tokens = torch.randint(model.config.vocab_size, (len(ids),), generator=noise)  # what is open holds anything
        with torch.no_grad():
            right = decode.generate(model, tokens[None], group_ids[None], temperature=0).sequences[0]
        for group in sorted({group for group in ids if group > 0}):
            here, before = group_ids == group, tokens.clone()
            where = f"group_ids {ids}, group {group}: "
            calls = []
            noting = model.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
            try:
                with case(where):
                    got = answer(model, tokens, group_ids.clone(), group)
            finally:
                noting.remove()
            expect(torch.equal(tokens, before), "leave `tokens` as they are: return new ones.")
            expect(
                isinstance(got, torch.Tensor) and got.shape == tokens.shape and got.dtype == torch.int64,
                f"return tokens of shape ({len(ids)},), int64: the whole row.",
            )
            expect(len(calls) <= 1, where + f"one pass is enough for a group; you make {len(calls)}.")
            other = (~here & (got != tokens)).nonzero()[:, 0].tolist()
            expect(not other, where + f"you also changed the tokens at {other}, which are of other groups.")
            with torch.no_grad():
                shifted = model(tokens[None], group_ids[None], content_logits=True).content_logits[0].argmax(-1)
                alone = model(tokens[None], groups.left_to_right(len(ids))[None]).logits[0].argmax(-1)
            expected, filled = right[here].tolist(), got[here].tolist()
            if filled != expected:
                found = where + f"the likeliest tokens are {expected}, not {filled}"
                if len(filled) > 2:  # fewer can be the same by chance
                    expect(filled != tokens[here].tolist(), found + ": these were there before.")
                    expect(filled != shifted[here].tolist(), found + ". `logits` predict the token at a position.")
                    expect(filled != alone[here].tolist(), found + ": you predict from what is on the left.")
                expect(False, found + ", given all earlier groups.")
            tokens = got


@exercise
def choose_positions(answer: Callable) -> None:
    """From probabilities (T, V), open (T,) and a number to the positions to fill, bool (T,)."""
    tied = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.6, 0.3, 0.1], [0.1, 0.3, 0.6], [0.9, 0.1, 0.0]])
    many = torch.full((40, 2), 0.5)  # long enough for sorts that are not stable to show it
    skewed = torch.tensor([[0.40, 0.20, 0.20, 0.20], [0.45, 0.55, 0.0, 0.0], [0.60, 0.14, 0.13, 0.13]])
    everything = torch.ones(40, dtype=torch.bool)
    cases = [
        (skewed, torch.tensor([True, True, True]), 1),
        (skewed, torch.tensor([True, True, True]), 2),
        (tied, torch.tensor([True, True, True, True, False]), 1),
        (tied, torch.tensor([True, True, True, True, False]), 2),
        (tied, torch.tensor([False, True, False, True, False]), 3),
        (many, everything, 3),
        (many, torch.arange(40) % 3 == 2, 5),
        (tied, torch.tensor([False] * 5), 2),
        (tied, torch.tensor([True, False, True, True, True]), 9),
    ]
    for probabilities, is_open, count in cases:
        before, highest = is_open.clone(), probabilities.amax(-1).tolist()
        where = f"highest probabilities {[round(p, 2) for p in highest[:5]]}, open {is_open[:5].tolist()}: "
        with case(where + f"per_step {count}"):
            got = answer(probabilities.clone(), is_open, count)
        expect(torch.equal(before, is_open), "leave `open` as it is: the caller still needs it.")
        expect(
            isinstance(got, torch.Tensor) and got.dtype == torch.bool and got.shape == is_open.shape,
            f"return a boolean tensor of shape ({len(is_open)},), True where a token is to be filled.",
        )
        ranked = sorted(is_open.nonzero()[:, 0].tolist(), key=lambda t, p=highest: (-p[t], t))
        right, chosen = sorted(ranked[:count]), got.nonzero()[:, 0].tolist()
        expect(not (got & ~is_open).any(), where + "you chose a position that is finished.")
        seen = sorted(range(len(highest)), key=lambda t, p=highest: (-p[t], t))[:count]
        expect(
            len(chosen) == len(right) or chosen != sorted({*seen} & {*ranked}),
            where + f"a finished position took a place: rank the open ones alone, and fill {right}.",
        )
        expect(
            len(chosen) == len(right),
            where + f"with per_step {count} and {len(ranked)} open, choose {len(right)}, not {len(chosen)}.",
        )
        if chosen != right:
            same = sorted(highest[t] for t in chosen) == sorted(highest[t] for t in right)
            expect(not same, where + f"{chosen} and {right} are equally sure; take the leftmost.")
            least = sorted(sorted(ranked, key=lambda t, p=highest: (p[t], t))[:count])
            expect(chosen != least, where + "these are the positions of which the model is least sure.")
            expect(
                False,
                where + f"fill {right}, not {chosen}: where the likeliest token has the highest probability.",
            )


@exercise
def fit_of_each(answer: Callable) -> None:
    """From a model and tokens (T,), the first one given, to leave-one-out log-probabilities (T,)."""
    model = _tiny_model()
    for tokens in ([0, 3, 5, 2, 6, 1], [4, 1], [0, 2, 2, 2, 5]):
        ids = torch.tensor(tokens)
        length = len(tokens)
        calls = []  # the modules from which the model is called, each time

        def note(*_, calls=calls):
            calls.append({frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_stack(None)})

        noting = model.register_forward_pre_hook(note)
        try:
            got = answer(model, ids.clone())
        finally:
            noting.remove()
        expect(isinstance(got, torch.Tensor) and got.shape == (length,), f"return a tensor of shape ({length},).")
        expect(
            not any(name.startswith("a3mini.decode") for called in calls for name in called),
            "write it yourself: `objective.log_likelihood` is enough, without `decode`.",
        )
        expect(len(calls) <= 1, f"one call for all tokens together is enough, as a batch; you make {len(calls)}.")
        got = got.detach().double()
        with torch.no_grad():

            def scores(group_ids, known=None, ids=ids):
                rows = ids.expand(len(group_ids), -1)
                return objective.log_likelihood(model, rows, group_ids, known, reduction="token").sum(0)

            alone = torch.eye(length, dtype=torch.int64)[1:]  # how the others read each other, the task leaves open
            right, in_order = (scores(*groups.read_given(alone, order)) for order in groups.KNOWN_ORDERS)
            wrong = {
                "this is the left-to-right log-likelihood: each token sees only what is on its left": scores(
                    groups.left_to_right(length)[None]
                ),
                "all tokens are predicted at once here, so none sees another": scores(
                    groups.blocks(length, length)[None]
                ),
            }
        where = f"for the tokens {tokens}: "
        if torch.allclose(got, right, atol=1e-5) or torch.allclose(got, in_order, atol=1e-5):
            continue
        expect(not torch.allclose(got, right.exp(), atol=1e-5), where + "these are probabilities; take logarithms.")
        expect(not torch.allclose(got, -right, atol=1e-5), where + "the sign is wrong: log-probabilities are below 0.")
        expect(abs(got[0].item()) < 1e-9, where + f"the first token is given and scores 0, not {got[0]:.3f}.")
        for message, other in wrong.items():
            expect(not torch.allclose(got, other, atol=1e-5), where + message + ".")
        expect(False, where + f"the scores should be {_shown(right)}; yours are {_shown(got)}.")


def _shown(values: torch.Tensor) -> list[float]:
    return [round(value, 2) for value in values.tolist()]


@exercise
def bounded_group(answer: Callable) -> None:
    """From entropies (T,), open (T,) and a bound in nats to the positions to fill, bool (T,)."""
    cases = [
        ([0.2, 0.9, 0.1, 3.0, 0.4], [True] * 5, 1.0),
        ([0.2, 0.9, 0.1, 3.0, 0.4], [True, True, False, True, False], 1.0),
        ([2.0, 3.0, 2.5], [True] * 3, 1.5),
        ([2.0, 3.0, 2.5], [True] * 3, 4.6),
        ([0.5, 0.5, 0.25, 0.5], [True] * 4, 0.8),
        ([1.0, 0.0, 0.0, 4.0], [True] * 4, 0.0),
        ([0.3, 0.1], [False, True], 0.1),
        ([0.25, 0.125, 0.5, 2.0, 1.0], [True] * 5, 0.875),  # the sum is the bound itself
        ([0.75, 1.0, 0.6, 0.5, 2.0], [False, True, False, True, True], 1.6),  # what is finished does not count
        ([0.5] * 40, [True] * 40, 3.2),  # long enough for sorts that are not stable to show it
        ([0.5, 2.0] * 20, [t % 3 > 0 for t in range(40)], 2.2),
    ]
    for entropies, is_open, bound in cases:
        few = "" if len(entropies) < 6 else f" and so on, {len(entropies)} in all"
        where = f"entropies {entropies[:5]}, open {is_open[:5]}{few}, bound {bound}: "
        with case(where):
            got = answer(torch.tensor(entropies), torch.tensor(is_open), bound)
        expect(
            isinstance(got, torch.Tensor) and got.dtype == torch.bool and got.shape == (len(entropies),),
            f"return a boolean tensor of shape ({len(entropies)},), True where a token is to be filled.",
        )
        chosen = got.nonzero()[:, 0].tolist()
        ranked = sorted((t for t, there in enumerate(is_open) if there), key=lambda t, e=entropies: (e[t], t))
        right = sorted(
            t for n, t in enumerate(ranked) if n == 0 or sum(entropies[u] for u in ranked[:n]) <= bound + 1e-6
        )
        if chosen == right:
            continue
        expect(all(is_open[t] for t in chosen), where + "you chose a position that is finished.")
        expect(bool(chosen), where + "one position alone loses nothing, so at least one is always filled.")
        below = [t for n, t in enumerate(ranked) if n == 0 or sum(entropies[u] for u in ranked[:n]) < bound - 1e-6]
        expect(chosen != sorted(below), where + f"{right} lose no more than the bound: what equals it is within it.")
        whole = [t for n, t in enumerate(ranked) if sum(entropies[u] for u in ranked[: n + 1]) <= bound + 1e-6]
        expect(
            chosen not in (sorted(whole), sorted(whole) or ranked[:1]),
            where + "the sum that you bound holds the highest entropy; the highest one does not count.",
        )
        everywhere = sorted(range(len(entropies)), key=lambda t, e=entropies: (e[t], t))
        closed = [t for n, t in enumerate(everywhere) if sum(entropies[u] for u in everywhere[:n]) <= bound + 1e-6]
        expect(
            chosen != sorted({*closed} & {*ranked}),
            where + f"a finished position used up the bound: count the open ones alone, and fill {right}.",
        )
        single = [t for t in ranked if entropies[t] <= bound]
        expect(
            chosen not in (sorted(single), sorted(single) or ranked[:1]),
            where + "each entropy alone is within the bound here; their sum without the highest has to be.",
        )
        loss = sum(entropies[t] for t in chosen) - max(entropies[t] for t in chosen)
        expect(loss <= bound + 1e-6, where + f"{chosen} may lose {loss:.2f} nats, more than the bound.")
        expect(
            len(chosen) >= len(right),
            where + f"{right} may lose no more than the bound, and are more than {chosen}.",
        )
        expect(False, where + f"take the surest positions, {right}, not {chosen}; the leftmost of equals.")
    return _compared_with_the_package(answer)


def _compared_with_the_package(answer: Callable) -> str:
    """At each step of ``decode.resample``: does it fill the answer's positions? What a good answer is told."""
    model = _tiny_model()
    with torch.no_grad():
        model.lm_head.weight *= 0.5  # sure of some tokens, unsure of others
    ids, is_open = torch.arange(14)[None] % model.config.vocab_size, torch.arange(14)[None] > 1
    sizes = []
    for bound in (0.5, 2.0, 6.0):
        options = {"criterion": "entropy", "bound": bound, "generator": torch.Generator().manual_seed(0)}
        for number, step in enumerate(resample(model, ids, is_open, **options).trace.steps[0], start=1):
            there, scores = torch.tensor(step.considered["positions"]), torch.tensor(step.considered["scores"])
            entropies = torch.zeros(14).index_put((there,), -scores.float())
            still = torch.zeros(14, dtype=torch.bool).index_fill(0, there, True)
            where = f"step {number} of decode.resample with bound={bound}: "
            with case(where):
                chosen = answer(entropies, still, bound).nonzero()[:, 0].tolist()
            expect(chosen == step.positions, where + f"it fills {step.positions}, and you {chosen}.")
            sizes.append(len(chosen))
    return (
        f"correct, and in {len(sizes)} steps the sets, of {min(sizes)} to {max(sizes)} positions, are those of "
        "decode.resample. Use that one now: criterion='entropy', bound=..."
    )


def _tiny_model() -> A3ForCausalLM:
    torch.manual_seed(0)
    size = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    config = A3Config(vocab_size=7, num_key_value_heads=2, max_position_embeddings=16, initializer_range=1.0, **size)
    return A3ForCausalLM(config).double().eval()
