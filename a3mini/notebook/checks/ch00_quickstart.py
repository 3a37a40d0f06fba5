"""Checks for the exercises of notebook 00, quickstart."""

import math
from collections.abc import Callable

import torch

from a3mini import groups
from a3mini.model import A3Config, A3ForCausalLM
from a3mini.notebook.checks.base import exercise, expect, expect_int64


@exercise
def perplexity(answer: Callable) -> None:
    """A function from a log-likelihood in nats and a number of tokens to the perplexity."""
    for nats, tokens in ((-math.log(8), 1), (-20.0, 10), (-3.5, 7), (-30_000.0, 10_000)):
        right = math.exp(-nats / tokens)
        try:
            got = float(answer(nats, tokens))
        except OverflowError:
            got = math.inf
        expect(not math.isclose(got, 1 / right), "this is its inverse: mind the sign of the log-likelihood.")
        expect(not math.isclose(got, -nats / tokens), "this is the mean in nats. The perplexity is its exponential.")
        whole = math.exp(-nats) if nats > -700 else math.inf
        expect(not math.isclose(got, whole) or tokens == 1, "divide by the number of tokens first.")
        expect(
            not math.isclose(got, 2 ** (-nats / tokens)), "the log-likelihood is in nats, not bits: use exp, not 2 **."
        )
        expect(math.isclose(got, right, rel_tol=1e-6), f"for {nats:.2f} nats over {tokens} tokens it is {right:.4f}.")


@exercise
def ends_first(answer: Callable) -> None:
    """A function from a length to group ids: 0 given, the last token first, then the rest left to right."""
    for length in (3, 4, 7, 12, 2):
        got = answer(length)
        expect(isinstance(got, torch.Tensor) and got.shape == (length,), f"return a tensor of shape ({length},).")
        expect_int64(got)
        expect(got[0] == 0, "position 0 is given: its id is 0.")
        expect(bool((got[1:] > 0).all()), "every other position is predicted: its id is at least 1.")
        expect(
            int(got[1:].argmin()) == length - 2, "the last position is predicted first: it has the lowest id above 0."
        )
        expect(len(got.unique()) == length, "no two tokens are predicted in parallel here: all ids differ.")
        expect(torch.equal(got[1:-1], got[1:-1].sort().values), "the rest goes from left to right: its ids grow.")


@exercise
def only_from(answer: Callable) -> None:
    """A function (length, target, given) to group ids that score x_target given the x_given alone."""
    for length, target, seen in ((6, 3, [0, 5]), (5, 0, [4]), (8, 7, [0, 1, 2]), (7, 4, [5, 2])):
        got = answer(length, target, list(seen))
        expect(isinstance(got, torch.Tensor) and got.shape == (length,), f"return a tensor of shape ({length},).")
        expect_int64(got)
        expect(int(got[target]) > 0, f"position {target} is to be predicted: its id must be above 0.")
        expect(bool((got[seen] == 0).all()), f"positions {seen} are given: their ids are 0.")
        others = [i for i in range(length) if i != target and i not in seen]
        given = [i for i in others if got[i] == 0]
        expect(not given, f"with target {target} and given {seen}, positions {given} are left out: -1, not 0.")
        expect(bool((got[others] == -1).all()), "positions that are left out are neither given nor predicted: -1.")


def _small_model(length: int, vocabulary: int = 53) -> A3ForCausalLM:
    """A random model whose predictions depend on what it sees, and on where."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        config = A3Config(
            vocab_size=vocabulary, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=length, initializer_range=0.6,
        )  # fmt: skip
        return A3ForCausalLM(config).eval()


@exercise
def write_group(answer: Callable) -> None:
    """A function (model, tokens, group_ids, k) to tokens with the likeliest ones in group k."""
    length = 9
    model = _small_model(length)
    groupings = {
        "left to right": groups.left_to_right(length),
        "groups of several tokens": torch.tensor([0, 2, 1, 1, 3, 2, 1, 3, 3]),
        "what is left out": torch.tensor([0, -1, 2, 1, 0, 2, -1, 1, 3]),
    }
    for number, (name, ids) in enumerate(groupings.items()):
        group_ids = ids[None]
        generator = torch.Generator().manual_seed(number)
        tokens = torch.randint(model.config.vocab_size, (1, length), generator=generator)
        for k in sorted({*ids.tolist()} - {-1, 0}):
            with torch.no_grad():
                logits = model(tokens, group_ids).logits
            here, likeliest = group_ids == k, logits.argmax(-1)
            given = tokens.clone()
            with torch.no_grad():
                got = answer(model, given, group_ids.clone(), k)
            where = f"{name}, group {k}: "
            expect(torch.equal(given, tokens), f"{where}you changed the tokens that you were given; return new ones.")
            expect(isinstance(got, torch.Tensor), f"{where}return a tensor, not {type(got).__name__}.")
            expect(got.shape == (1, length), f"{where}return tokens of shape (1, {length}), not {tuple(got.shape)}.")
            expect(got.dtype == torch.int64, f"{where}tokens are integers (torch.int64), not {got.dtype}.")
            elsewhere = (~here & (got != tokens)).nonzero()[:, 1].tolist()
            expect(not elsewhere, f"{where}positions {elsewhere} are not in the group; leave them as they are.")
            if torch.equal(got[here], likeliest[here]):
                tokens = got
                continue
            shifted = likeliest.roll(1, -1)
            expect(
                not torch.equal(got[here], shifted[here]),
                f"{where}a token was taken from the row before it. A3's row AT a position predicts the token there.",
            )
            expect(not torch.equal(got, tokens), f"{where}the group is as it was; its tokens are to be replaced.")
            expect(not torch.equal(got[here], logits.argmin(-1)[here]), f"{where}these are the least likely tokens.")
            wanted = likeliest[here].tolist()
            expect(False, f"{where}the likeliest tokens are {wanted}, yours are {got[here].tolist()}.")


@exercise
def better_order(answer: Callable) -> str:
    """A function (score, length) to group ids of single positions that score at least as much as left to right."""
    gains, possible = [], 0.0
    for length, ranks in ((5, [1, 2, 3, 4]), (6, [5, 4, 3, 2, 1]), (8, [4, 1, 6, 2, 7, 5, 3])):
        best = torch.tensor([0, *ranks])  # the score falls with each pair that stands in another order
        first, second = torch.triu_indices(length, length, offset=1)
        calls = []

        def score(ids, best=best, length=length, first=first, second=second, calls=calls) -> float:
            where = f"score() was called with {ids}: "
            expect(isinstance(ids, torch.Tensor) and ids.shape == (length,), f"{where}give a tensor ({length},).")
            expect_int64(ids, where)
            calls.append(ids.clone())
            expect(len(calls) <= 100, "score() is called more than 100 times.")
            inversions = ((ids[first] < ids[second]) != (best[first] < best[second])).sum().item()
            return -1.0 * inversions - 3.0 * (ids[1:] > 0).sum().item()  # as in the model, what is given costs nothing

        got = answer(score, length)
        expect(isinstance(got, torch.Tensor) and got.shape == (length,), f"return a tensor of shape ({length},).")
        expect_int64(got)
        expect(got[0] == 0, "position 0 is given: its id is 0.")
        expect(bool((got[1:] > 0).all()), "every other position is predicted: its id is at least 1.")
        expect(len(got.unique()) == length, "every position stands alone: all ids differ.")
        del calls[:]
        gain = score(got) - score(groups.left_to_right(length))
        expect(gain >= 0, f"for {length} tokens your order scores {-gain:.0f} less than left to right: keep the best.")
        gains.append(gain)
        possible += score(best) - score(groups.left_to_right(length))
    expect(max(gains) > 0, "your order is never better than left to right, though better ones are an exchange away.")
    return (
        f"valid, and {sum(gains):.0f} of {possible:.0f} nats better than left to right in made-up cases. Now real text."
    )
