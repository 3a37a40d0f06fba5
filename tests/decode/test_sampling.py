"""sampling.py: the distribution against transformers' own decoding and against plain formulas; bans; arguments."""

import math

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import same

from a3mini.decode import Sampler

V = 11


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_logits(rows: int = 5, seed: int = 0, vocab_size: int = V) -> torch.Tensor:
    return 3 * torch.randn(rows, vocab_size, generator=generator(seed), dtype=torch.float64)


# Against transformers


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.6},
        {"top_k": 3},
        {"top_p": 0.7},
        {"repetition_penalty": 1.7},
        {"repetition_penalty": 0.5},
        {"banned": [0, 4, 7]},
        {"temperature": 1.8, "top_k": 6, "top_p": 0.8, "repetition_penalty": 1.3, "banned": [2, 3]},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_the_same_as_transformers_generate(options):
    """Each step of ``LlamaForCausalLM.generate``: from its raw logits its distribution, and the token it drew."""
    llama = laws.strong_llama().float()
    llama.generation_config.eos_token_id = None
    ids = torch.randint(V, (3, 4), generator=generator())
    named = {("suppress_tokens" if name == "banned" else name): value for name, value in options.items()}
    torch.manual_seed(7)
    theirs = llama.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=True, max_new_tokens=6, pad_token_id=0,
        return_dict_in_generate=True, output_logits=True, output_scores=True, **{"top_k": 0, **named},
    )  # fmt: skip
    sampler = Sampler(**options)
    torch.manual_seed(7)
    for number, (logits, scores) in enumerate(zip(theirs.logits, theirs.scores, strict=True), start=ids.shape[1]):
        context = theirs.sequences[:, :number]
        same(sampler.probabilities(logits, context), scores.softmax(-1), tolerance=1e-6)
        assert torch.equal(sampler(logits, context), theirs.sequences[:, number])


# Against plain formulas


def plainly(row, context, temperature, top_k, top_p, penalty, banned) -> list[float]:
    """The distribution of one row, in plain Python."""
    logits = list(row)
    for token in set(context):
        logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
    kept = [token for token in range(len(logits)) if token not in banned]
    kept.sort(key=lambda token: -logits[token])
    if temperature == 0:
        return [float(token == kept[0]) for token in range(len(logits))]
    kept = kept[:top_k]
    weights = [math.exp((logits[token] - logits[kept[0]]) / temperature) for token in kept]
    weights = [weight / sum(weights) for weight in weights]
    if top_p is not None:  # the likeliest, until those before have top_p
        weights = [weight for n, weight in enumerate(weights) if sum(weights[:n]) < top_p]
    found = [0.0] * len(logits)
    for token, weight in zip(kept, weights, strict=False):
        found[token] = weight / sum(weights)
    return found


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    context=st.lists(st.integers(0, V - 1), max_size=4),
    temperature=st.sampled_from([0, 0.3, 1, 2.5]),
    top_k=st.sampled_from([None, 1, 2, 7, V, V + 5, 10**9]),
    top_p=st.sampled_from([None, 0.01, 0.33, 0.777, 1, 1.0]),
    penalty=st.sampled_from([1, 1.4, 0.7]),
    banned=st.sets(st.integers(0, V - 1), max_size=V - 1),
)
def test_against_plain_formulas(seed, context, temperature, top_k, top_p, penalty, banned):
    logits = random_logits(1, seed)
    sampler = Sampler(temperature, top_k, top_p, penalty, banned).check(V)
    found = sampler.probabilities(logits, torch.tensor([context], dtype=torch.int64).reshape(1, -1))
    expected = plainly(logits[0].tolist(), context, temperature, top_k, top_p, penalty, banned)
    same(found[0], torch.tensor(expected, dtype=torch.float64), tolerance=1e-9)


def test_repetition_looks_at_the_rows_own_tokens():
    """Each of them once; -1 is no token."""
    logits = random_logits(4)
    context = torch.tensor([[3, 3, 3], [-1, -1, -1], [-1, 5, -1], [0, 1, -1]])
    found = Sampler(repetition_penalty=2.0).allowed(logits, context)
    expected = logits.clone()
    for row, token in ((0, 3), (2, 5), (3, 0), (3, 1)):
        value = logits[row, token]
        expected[row, token] = value / 2 if value > 0 else value * 2
    same(found, expected)


@pytest.mark.parametrize("context", [None, torch.zeros(5, 0, dtype=torch.int64), torch.full((5, 3), -1)])
def test_without_a_context_nothing_is_repeated(context):
    logits = random_logits()
    assert torch.equal(Sampler(repetition_penalty=3.0).allowed(logits, context), logits)
    assert torch.equal(Sampler(0, repetition_penalty=3.0)(logits, context), logits.argmax(-1))


def test_the_callers_logits_stay_as_they_were():
    logits, context = random_logits(), torch.arange(5)[:, None]
    before = logits.clone()
    Sampler(0.5, 3, 0.5, 2.0, [1, 2])(logits, context)
    assert torch.equal(logits, before)


# Bans and greed


@pytest.mark.parametrize("options", [{}, {"temperature": 0}, {"top_k": 1}, {"top_p": 1e-6}, {"top_k": V + 1}])
def test_banned_tokens_are_never_drawn(options):
    logits = random_logits(2000) / 3
    best = logits.argmax(-1)
    banned = [1, 4, 4, 8, 9]
    drawn = Sampler(**options, banned=banned, generator=generator())(logits)
    assert not set(banned) & set(drawn.tolist()) and set(banned) & set(best.tolist())
    assert set(drawn.tolist()) == set(range(V)) - set(banned)
    if options and options != {"top_k": V + 1}:  # then only the likeliest of the others is left
        logits[:, banned] = -math.inf
        assert torch.equal(drawn, logits.argmax(-1))


def test_one_token_that_is_not_banned():
    logits = random_logits()
    assert Sampler(banned=range(1, V)).check(V)(logits).tolist() == [0] * 5
    with pytest.raises(ValueError, match="banned holds the whole vocabulary; there is no token left to draw"):
        Sampler(banned=range(V)).check(V)


def test_greedy_is_the_likeliest_and_draws_nothing():
    logits, own = random_logits(), generator(3)
    before, global_before = own.get_state(), torch.get_rng_state()
    sampler = Sampler(0, generator=own)
    assert torch.equal(sampler(logits), logits.argmax(-1))
    assert torch.equal(sampler.draw(sampler.probabilities(logits)), logits.argmax(-1))
    assert torch.equal(own.get_state(), before) and torch.equal(torch.get_rng_state(), global_before)
    tied = torch.tensor([[0.0, 2.0, 1.0, 2.0]])
    assert Sampler(0)(tied).item() == 1  # the first of equals


# The draw


def check_frequencies(sampler):
    logits = random_logits(1) / 3
    expected = Sampler(0.8, top_k=6).probabilities(logits)[0]
    drawn = sampler(logits.expand(5000, -1))
    fit = laws.follows(torch.bincount(drawn, minlength=V), expected)
    assert fit > 1e-3, f"these draws do not follow the distribution: p = {fit}"


def test_draws_follow_the_distribution():
    check_frequencies(Sampler(0.8, top_k=6, generator=generator()))


@pytest.mark.parametrize("wrong", [{"temperature": 1.0, "top_k": 6}, {"temperature": 0.8}, {"temperature": 0}])
def test_the_check_catches_other_distributions(wrong):
    with pytest.raises(AssertionError, match="do not follow"):
        check_frequencies(Sampler(**wrong, generator=generator()))


def test_weights_need_not_sum_to_one():
    weights = torch.tensor([0.0, 2.0, 6.0]).expand(4000, -1)
    counts = torch.bincount(Sampler(generator=generator()).draw(weights), minlength=3)
    assert counts[0] == 0 and laws.follows(counts, torch.tensor([0, 0.25, 0.75])) > 1e-3


def test_the_generator_alone_decides():
    logits, own = random_logits(50), generator(1)
    global_before, before = torch.get_rng_state(), own.get_state()
    first = Sampler(generator=own)(logits)
    assert torch.equal(torch.get_rng_state(), global_before) and not torch.equal(own.get_state(), before)
    torch.manual_seed(123)
    assert torch.equal(first, Sampler(generator=generator(1))(logits))
    assert not torch.equal(first, Sampler(generator=generator(2))(logits))
    torch.manual_seed(1)
    default = Sampler()(logits)
    torch.manual_seed(1)
    assert torch.equal(default, Sampler()(logits))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_generator_draws_on_its_own_device():
    logits = random_logits(50)
    drawn = Sampler(generator=generator(1))(logits.cuda())
    assert drawn.is_cuda and torch.equal(drawn.cpu(), Sampler(generator=generator(1))(logits))


# Arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature must be 0 (greedy) or a positive number, got -1.0"),
        ({"temperature": 1e300}, "temperature must be at most 1e+06, got 1e+300"),
        ({"repetition_penalty": 1e-300}, "repetition_penalty must be from 1e-06 to 1e+06, got 1e-300"),
        ({"repetition_penalty": 1e300}, "repetition_penalty must be from 1e-06 to 1e+06, got 1e+300"),
        ({"temperature": math.nan}, "temperature must be 0 (greedy) or a positive number, got nan"),
        ({"temperature": math.inf}, "temperature must be 0 (greedy) or a positive number, got inf"),
        ({"temperature": "hot"}, "temperature must be 0 (greedy) or a positive number, got 'hot'"),
        ({"temperature": None}, "temperature must be 0 (greedy) or a positive number, got None"),
        ({"temperature": 1e-320}, "temperature 1e-320 is too small to divide by; 0 is greedy"),
        ({"top_k": 0}, "top_k must be an integer of at least 1, or None for all tokens; got 0"),
        ({"top_k": -3}, "top_k must be an integer of at least 1, or None for all tokens; got -3"),
        ({"top_k": 2.0}, "top_k must be an integer of at least 1, or None for all tokens; got 2.0"),
        ({"top_p": 0}, "top_p must be above 0 and at most 1, or None for all tokens; got 0"),
        ({"top_p": 1.01}, "top_p must be above 0 and at most 1, or None for all tokens; got 1.01"),
        ({"top_p": math.nan}, "top_p must be above 0 and at most 1, or None for all tokens; got nan"),
        ({"top_p": "all"}, "top_p must be above 0 and at most 1, or None for all tokens; got 'all'"),
        ({"repetition_penalty": 0}, "repetition_penalty must be a positive number, got 0"),
        ({"repetition_penalty": -1.2}, "repetition_penalty must be a positive number, got -1.2"),
        ({"repetition_penalty": math.inf}, "repetition_penalty must be a positive number, got inf"),
        ({"repetition_penalty": None}, "repetition_penalty must be a positive number, got None"),
        ({"banned": [3, V]}, "banned holds 11, outside the vocabulary 0 .. 10"),
        ({"banned": [-1]}, "banned holds -1, outside the vocabulary 0 .. 10"),
        ({"banned": [2.5]}, "banned holds 2.5, outside the vocabulary 0 .. 10"),
        ({"banned": torch.tensor([12])}, "banned holds 12, outside the vocabulary 0 .. 10"),
        ({"banned": ["the"]}, "banned holds 'the', outside the vocabulary 0 .. 10"),
        ({"banned": [*range(V), 3]}, "banned holds the whole vocabulary; there is no token left to draw"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError) as caught:
        Sampler(**options).check(V)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"banned": 5}, "banned must be a sequence of token ids, got 5"),
        ({"banned": None}, "banned must be a sequence of token ids, got None"),
        ({"generator": 3}, "generator must be a torch.Generator or None, got 3"),
    ],
)
def test_arguments_of_the_wrong_type(options, message):
    with pytest.raises(TypeError) as caught:
        Sampler(**options)
    assert str(caught.value) == message


def test_the_coldest_temperature_is_greedy():
    logits = random_logits(20)
    assert torch.equal(Sampler(1e-6)(logits), logits.argmax(-1))


def test_banned_may_be_a_tensor():
    assert Sampler(banned=torch.tensor([1, 4])).check(V).banned == [1, 4]


def test_settings_are_plain():
    assert Sampler(1, 3, 0.5, 2, (1, 2)).settings() == {
        "temperature": 1.0, "top_k": 3, "top_p": 0.5, "repetition_penalty": 2.0, "banned": [1, 2],
    }  # fmt: skip
