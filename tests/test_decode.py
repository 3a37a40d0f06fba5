"""decode.py: the order of filling, log-probabilities, what is never read, infilling a text, arguments."""

import itertools

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import same

from a3mini import A3ForCausalLM, data, groups, objective
from a3mini.decode import generate, infill

V = 11
MODEL = laws.strong_model()
STORIES = [data.Story("", "The cat sat on the mat. The dog ran to the cat, and the cat ran off!")]
TOKENIZER = data.train_tokenizer(STORIES, vocab_size=290)
torch.manual_seed(0)
TEXT_MODEL = A3ForCausalLM(laws.tiny_config(vocab_size=len(TOKENIZER), max_position_embeddings=64)).eval()

group_rows = st.lists(st.lists(st.integers(-1, 4), min_size=6, max_size=6), min_size=1, max_size=3).filter(
    lambda rows: any(group > 0 for row in rows for group in row)
)


def tokens(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(V, (batch, length), generator=torch.Generator().manual_seed(seed))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=25, deadline=None)
@given(group_rows, st.sampled_from([0.0, 0.7, 1.0]))
def test_log_probs_are_those_of_the_result(rows, temperature):
    """One pass over the finished text gives every chosen token the log-probability it had when it was chosen."""
    group_ids = torch.tensor(rows)
    ids = tokens(*group_ids.shape)
    out = generate(MODEL, ids, group_ids, temperature=temperature, generator=generator())
    expected = objective.log_likelihood(MODEL, out.sequences, group_ids, reduction="token")
    same(out.log_probs.double(), expected.double(), tolerance=1e-4)
    predicted = group_ids > 0
    assert torch.equal(out.sequences[~predicted], ids[~predicted]) and (out.log_probs[~predicted] == 0).all()
    assert torch.equal(out.group_ids, groups.relabel(group_ids)) and torch.equal(out.known, group_ids == 0)


@settings(max_examples=25, deadline=None)
@given(group_rows, st.integers(-2, V + 3))
def test_tokens_to_be_filled_are_never_read(rows, other):
    group_ids = torch.tensor(rows)
    ids = tokens(*group_ids.shape)
    changed = ids.masked_fill(group_ids > 0, other)  # may be no token at all
    first, second = (generate(MODEL, x, group_ids, generator=generator(3)) for x in (ids, changed))
    assert torch.equal(first.sequences, second.sequences) and torch.equal(first.log_probs, second.log_probs)


def test_greedy_takes_the_likeliest_and_draws_nothing():
    ids, group_ids = tokens(2, 6), torch.tensor([[0, 2, 1, 3, 1, 2], [0, 1, 1, 1, 2, -1]])
    before = torch.get_rng_state()
    first, second = (generate(MODEL, ids, group_ids, temperature=0) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state()) and torch.equal(first.sequences, second.sequences)
    with torch.no_grad():
        logits = MODEL(first.sequences, group_ids).logits
    predicted = group_ids > 0
    assert torch.equal(first.sequences[predicted], logits[predicted].argmax(-1))


def test_the_generator_decides():
    ids, group_ids = tokens(1, 16), groups.left_to_right(16)[None]
    first, second, other = (generate(MODEL, ids, group_ids, generator=generator(n)).sequences for n in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_samples_follow_the_factorisation():
    """Frequencies of all fillings of two tokens against their probabilities; greedy would be a mutant."""
    model = laws.strong_model(vocab_size=3)
    count, group_ids, ids = 3000, torch.tensor([[0, 2, 1, 0]]), torch.tensor([[1, 0, 0, 2]])
    fillings = ids.repeat(9, 1)
    fillings[:, 1:3] = torch.tensor(list(itertools.product(range(3), repeat=2)))
    with torch.no_grad():
        expected = objective.log_likelihood(model, fillings, group_ids.expand(9, -1)).exp()

    def check(temperature):
        rows, same_groups = ids.repeat(count, 1), group_ids.expand(count, -1)
        drawn = generate(model, rows, same_groups, temperature=temperature, generator=generator()).sequences
        seen = torch.bincount(drawn[:, 1] * 3 + drawn[:, 2], minlength=9) / count
        same(seen.double(), expected, tolerance=0.035)

    check(1.0)
    with pytest.raises(AssertionError):
        check(0.0)


def test_known_tokens_join_their_group():
    ids, group_ids = tokens(1, 6), torch.tensor([[0, 1, 1, 2, 2, 3]])
    known = torch.tensor([[False, True, False, False, True, False]])
    out = generate(MODEL, ids.masked_fill(~known & (group_ids > 0), -1), group_ids, known, 0.0)
    assert torch.equal(out.known, known | (group_ids == 0)) and torch.equal(out.sequences[out.known], ids[out.known])
    expected = objective.log_likelihood(MODEL, out.sequences, group_ids, known, reduction="token")
    same(out.log_probs.double(), expected.double(), tolerance=1e-4)


def test_the_callers_tensors_stay_as_they_were():
    ids, group_ids = tokens(1, 6), torch.tensor([[0, 5, 9, 5, 7, -1]])
    copies = ids.clone(), group_ids.clone()
    generate(MODEL, ids, group_ids)
    assert torch.equal(ids, copies[0]) and torch.equal(group_ids, copies[1])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"temperature": -1.0}, ValueError, "temperature must not be negative, got -1.0"),
        ({"temperature": float("nan")}, ValueError, "temperature must not be negative, got nan"),
        ({"group_ids": torch.zeros(1, 6, dtype=torch.int64)}, ValueError, "nothing to predict"),
        ({"known": torch.ones(1, 6, dtype=torch.bool)}, ValueError, "nothing to predict"),
        ({"known": torch.ones(1, 6)}, TypeError, "known must be a boolean tensor"),
        ({"known": torch.ones(1, 5, dtype=torch.bool)}, ValueError, "known has shape"),
        ({"group_ids": torch.full((1, 6), -2)}, ValueError, "group_ids holds -2"),
        ({"group_ids": groups.left_to_right(5)[None]}, ValueError, r"input_ids has shape \(1, 6\)"),
        ({"group_ids": groups.left_to_right(6)}, ValueError, "expand"),
        ({"input_ids": torch.zeros(1, 6)}, TypeError, "input_ids must be an int64 tensor"),
        ({"input_ids": torch.full((1, 6), V)}, ValueError, "outside the vocabulary"),
        (
            {"input_ids": tokens(1, 33), "group_ids": groups.left_to_right(33)[None]},
            ValueError,
            "33 tokens, but the model allows 32",
        ),
    ],
)
def test_bad_arguments(changes, error, message):
    with pytest.raises(error, match=message):
        generate(MODEL, **{"input_ids": tokens(1, 6), "group_ids": groups.left_to_right(6)[None], **changes})


# Filling the blanks of a text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("The cat ____ on the mat.", ["The cat", " on the mat."]),
        ("The ____ sat on ____ mat ____", ["The", " sat on", " mat", ""]),
        ("____", ["", ""]),
        ("____ cat____.", ["", " cat", "."]),
        ("____ ____", ["", "", ""]),
    ],
)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_each_blank_is_filled_once_and_the_rest_is_kept(text, kept, temperature, monkeypatch):
    calls = []
    right = TOKENIZER.decode

    def decode(ids, **options):
        calls.append(ids.tolist())
        return right(ids, **options)

    monkeypatch.setattr(TOKENIZER, "decode", decode)
    filled = infill(TEXT_MODEL, TOKENIZER, text, tokens_per_blank=3, temperature=temperature, generator=generator())
    known = [TOKENIZER.encode(part, add_special_tokens=False) for part in kept]
    assert len(calls) == 1 and len(calls[0]) == sum(map(len, known)) + 3 * text.count("____")
    at = 0
    for number, part in enumerate(known):  # what is known stands where it should, three tokens after each other
        at += 3 if number else 0
        assert calls[0][at : at + len(part)] == part
        at += len(part)
    assert filled == right(calls[0], skip_special_tokens=True)
    assert filled.startswith(kept[0]) and filled.endswith(kept[-1])


def test_infill_is_repeatable_and_takes_orders_sizes_and_other_blanks():
    def fill(text="The cat [?] the mat.", **options):
        return infill(TEXT_MODEL, TOKENIZER, text, blank="[?]", **{"generator": generator(), **options})

    assert fill() == fill() != fill(generator=generator(5))
    assert fill(temperature=0) == fill(temperature=0, generator=generator(5))
    for options in ({"size": 4}, {"order": "random"}, {"size": 3, "order": "random"}):
        assert fill(**options).startswith("The cat") and fill(**options).endswith(" the mat.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": "no blank"}, "there is no blank in the text; write '____'"),
        ({"text": "a ____", "tokens_per_blank": 0}, "tokens_per_blank must be at least 1, got 0"),
        ({"text": "a ____", "tokens_per_blank": 99}, "tokens, but the model takes 64; shorten the text"),
        ({"text": "a ____", "order": "spiral"}, "spiral"),
        ({"text": "a ____", "size": 0}, "size must be an integer, at least 1"),
        ({"text": "a ____", "temperature": -1.0}, "temperature must not be negative"),
    ],
)
def test_bad_texts(arguments, message):
    with pytest.raises(ValueError, match=message):
        infill(TEXT_MODEL, TOKENIZER, **arguments)


def test_a_tokenizer_of_another_model():
    with pytest.raises(ValueError, match="tokens but the model's vocab_size is 11"):
        infill(MODEL, TOKENIZER, "a ____")
