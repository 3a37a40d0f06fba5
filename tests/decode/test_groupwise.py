"""groupwise.py: the log-probabilities of a generation, what is never read, known tokens, the end of a text, batches."""

import json

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import same

from a3mini import groups, objective
from a3mini.decode import generate
from a3mini.decode.groupwise import Filling
from a3mini.decode.steps import Steps
from a3mini.rows import QUERY_STARTS

V = 11
MODEL, WARM = (laws.in_double(laws.strong_model(query_start=start)) for start in QUERY_STARTS)
MODELS = st.sampled_from([MODEL, WARM])


def tokens(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(V, (batch, length), generator=torch.Generator().manual_seed(seed))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scored(model, done) -> None:
    """One pass over the result gives every token the log-probability that it had when it was drawn."""
    same(done.log_probs, objective.log_likelihood(model, done.sequences, done.group_ids, done.known, "token"))


# Log-probabilities


@settings(max_examples=60, deadline=None)
@given(
    batch=laws.batches(),
    options=st.sampled_from(
        [
            {},
            {"temperature": 0},
            {"temperature": 0.4, "top_k": 3},
            {"top_p": 0.5},
            {"repetition_penalty": 2.0},
            {"banned": (0, 5)},
            {"stop": 4},
            {"stop": 4, "known": True},
        ]
    ),
    model=MODELS,
)
def test_log_probs_are_those_of_the_result(batch, options, model):
    """The model's own, whatever the temperature, the truncation and the bans."""
    ids, group_ids, known = batch
    known = known if options.get("known") else None
    done = generate(model, ids, group_ids, **{**options, "known": known, "generator": generator()})
    scored(model, done)
    predicted = (group_ids > 0) & ~(known if known is not None else group_ids == 0)
    assert torch.equal(done.sequences[~predicted], ids[~predicted]) and (done.log_probs[~predicted] == 0).all()
    assert torch.equal(done.known, (group_ids >= 0) & ~predicted)
    if "stop" not in options:
        assert torch.equal(done.group_ids, groups.relabel(group_ids)) and (done.log_probs[predicted] < 0).all()
    assert done.log_probs.dtype == torch.float64


def test_tempered_log_probs_would_be_others(monkeypatch):
    """The mutant that reports what the token was drawn with."""
    ids, group_ids = tokens(2, 6), groups.left_to_right(6).expand(2, -1)
    right = Filling.write
    monkeypatch.setattr(
        Filling, "write", lambda self, at, drawn, log_probs: right(self, at, drawn, (2 * log_probs).log_softmax(-1))
    )
    with pytest.raises(AssertionError):
        scored(MODEL, generate(MODEL, ids, group_ids, temperature=0.5, generator=generator()))


def test_samples_follow_the_factorisation():
    """Frequencies of all fillings of two tokens against their probabilities; greedy and a temperature are mutants."""
    model = laws.strong_model(vocab_size=3)
    group_ids, ids = torch.tensor([[0, 2, 1, 0]]), torch.tensor([[1, 0, 0, 2]])
    every = laws.fillings(ids, group_ids > 0, 3)
    with torch.no_grad():
        expected = objective.log_likelihood(model, every, group_ids.expand(9, -1)).exp()

    def fit(**options):
        rows = ids.repeat(4000, 1)
        drawn = generate(model, rows, group_ids.expand(4000, -1), generator=generator(), runners_up=0, **options)
        return laws.follows(torch.bincount(drawn.sequences[:, 1] * 3 + drawn.sequences[:, 2], minlength=9), expected)

    assert fit() > 1e-3
    assert fit(temperature=0) < 1e-6 and fit(temperature=0.7) < 1e-6


# What is read, and what is not


@settings(max_examples=40, deadline=None)
@given(laws.batches(), st.integers(-2, V + 3))
def test_tokens_to_be_filled_and_padding_are_never_read(batch, other):
    ids, group_ids, known = batch
    ignored = (group_ids < 0) | ((group_ids > 0) & ~known)
    changed = ids.masked_fill(ignored, other)  # may be no token at all
    first, second = (generate(MODEL, x, group_ids, known, generator=generator(3)) for x in (ids, changed))
    assert torch.equal(first.sequences[group_ids >= 0], second.sequences[group_ids >= 0])
    assert torch.equal(first.log_probs, second.log_probs)
    assert torch.equal(second.sequences[group_ids < 0], changed[group_ids < 0])  # padding comes back


def test_the_callers_tensors_stay_as_they_were():
    ids, group_ids, known = tokens(1, 6), torch.tensor([[0, 5, 9, 5, 7, -1]]), torch.tensor([[False, True] * 3])
    copies = ids.clone(), group_ids.clone(), known.clone()
    done = generate(MODEL, ids, group_ids, known, stop=3)
    assert torch.equal(ids, copies[0]) and torch.equal(group_ids, copies[1]) and torch.equal(known, copies[2])
    for tensor in (done.sequences, done.group_ids, done.known):
        tensor.zero_()
    assert torch.equal(ids, copies[0]) and torch.equal(group_ids, copies[1]) and torch.equal(known, copies[2])


def test_other_integers_and_gaps_do_not_matter():
    ids, group_ids = tokens(2, 6), torch.tensor([[0, 2, 1, 3, 1, 2], [0, 1, 1, 1, 2, -1]])
    first = generate(MODEL, ids, group_ids, generator=generator())
    for other in (group_ids.int(), torch.where(group_ids > 0, 7 * group_ids + 100, group_ids)):
        done = generate(MODEL, ids, other, generator=generator())
        assert torch.equal(done.sequences, first.sequences) and torch.equal(done.group_ids, first.group_ids)


def test_an_empty_prompt_is_blind_to_position():
    """Nothing given: it works, is scored like anything else, and a first group of several tokens predicts alike."""
    ids, group_ids = tokens(2, 5), torch.tensor([[1, 1, 1, 2, 3], [2, 3, 1, 1, 1]])
    with laws.recorded_steps() as steps:
        done = generate(MODEL, ids, group_ids, generator=generator())
    scored(MODEL, done)
    assert not done.known.any() and done.trace.passes == [3, 3]
    first, later = steps[0].logits, steps[1].logits
    same(first, first[:1].expand_as(first))
    assert (later[0] - later[1]).abs().max() > 0.1


# Known tokens


def test_known_tokens_join_their_group():
    ids, group_ids = tokens(1, 6), torch.tensor([[0, 1, 1, 2, 2, 3]])
    known = torch.tensor([[False, True, False, False, True, False]])
    done = generate(MODEL, ids.masked_fill(~known & (group_ids > 0), -1), group_ids, known, 0.0)
    assert torch.equal(done.known, known | (group_ids == 0)) and torch.equal(
        done.sequences[done.known], ids[done.known]
    )
    scored(MODEL, done)
    given_at_once = generate(MODEL, ids, group_ids.masked_fill(known, 0), temperature=0)
    assert (done.log_probs - given_at_once.log_probs).abs().max() > 1e-3


def test_a_known_token_is_not_seen_before_its_turn():
    """Position 5 is known and of group 2: no draw of group 1 or 2 depends on it, not even by the repetition penalty."""
    ids, group_ids = tokens(1, 6).repeat(V, 1), torch.tensor([[0, 1, 1, 2, 3, 2]]).expand(V, -1)
    ids[:, 5] = torch.arange(V)
    known = torch.tensor([[False] * 5 + [True]]).expand(V, -1)
    with laws.recorded_steps() as steps:
        done = generate(MODEL, ids, group_ids, known, temperature=0, repetition_penalty=1e6)
    assert len(done.sequences[:, 1:4].unique(dim=0)) == 1
    first, second, third = (step.logits.unflatten(0, (V, -1)) for step in steps)
    same(first, first[:1].expand_as(first))
    same(second, second[:1].expand_as(second))
    assert (third[1:] - third[0]).abs().amax((1, 2)).min() > 1e-3  # group 3 does see it


def test_a_row_with_nothing_to_predict():
    ids, group_ids = tokens(3, 5), torch.tensor([[0, 0, 0, 0, -1], [0, 1, 2, 2, 3], [-1, -1, -1, -1, -1]])
    done = generate(MODEL, ids, group_ids, generator=generator())
    assert torch.equal(done.sequences[::2], ids[::2]) and (done.log_probs[::2] == 0).all()
    assert done.trace.passes == [0, 3, 0] and done.trace.steps[0] == []
    scored(MODEL, done)


# Seeds, batches


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
    first, second, other = (generate(MODEL, ids, group_ids, generator=generator(n)) for n in (1, 1, 2))
    assert torch.equal(first.sequences, second.sequences) and torch.equal(first.log_probs, second.log_probs)
    assert not torch.equal(first.sequences, other.sequences)
    torch.manual_seed(5)
    default = generate(MODEL, ids, group_ids).sequences
    torch.manual_seed(5)
    assert torch.equal(default, generate(MODEL, ids, group_ids).sequences)


@settings(max_examples=40, deadline=None)
@given(laws.batches(), st.sampled_from([{}, {"repetition_penalty": 1.5, "stop": 3}]), MODELS)
def test_each_row_of_a_batch_is_the_row_alone(batch, options, model):
    ids, group_ids, known = batch
    together = generate(model, ids, group_ids, known, temperature=0, **options)
    for row in range(len(ids)):
        one = slice(row, row + 1)
        if not ((group_ids > 0) & ~known)[row].any():
            continue
        alone = generate(model, ids[one], group_ids[one], known[one], temperature=0, **options)
        assert torch.equal(alone.sequences, together.sequences[one])
        assert torch.equal(alone.group_ids, together.group_ids[one])
        assert torch.equal(alone.known, together.known[one])
        same(alone.log_probs, together.log_probs[one])
        assert alone.trace.passes == together.trace.passes[row : row + 1]


@settings(max_examples=40, deadline=None)
@given(laws.batches(), st.sampled_from([0.5, 3.0]))
def test_the_repetition_penalty_counts_what_is_there(batch, penalty):
    """Against a loop: given tokens and those of earlier groups, drawn or known, of the same row."""
    ids, group_ids, known = batch
    with laws.recorded_steps() as steps:
        done = generate(MODEL, ids, group_ids, known, temperature=0, repetition_penalty=penalty)
    for step in steps:
        for (b, t), logits in zip(step.ask.nonzero().tolist(), step.logits, strict=True):
            before = (group_ids[b] >= 0) & (group_ids[b] < group_ids[b, t])
            for token in set(done.sequences[b, before].tolist()):
                logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
            assert done.sequences[b, t] == logits.argmax()


# The end of a text: a model by hand, which says what it is told to


def scripted(monkeypatch, script: list[list[int]]) -> None:
    """The likeliest token of position t in row b is ``script[b][t]``, whatever else is there."""
    table = torch.nn.functional.one_hot(torch.tensor(script), V).double() * 5
    right = Steps.__call__

    def call(self, tokens, group_ids, new, ask):
        right(self, tokens, group_ids, new, ask)
        return table[ask]

    monkeypatch.setattr(Steps, "__call__", call)
    monkeypatch.setattr(Steps, "logits", lambda self, hidden: hidden)


STOP = 9


def decode(script, group_ids, **options):
    group_ids = torch.tensor(group_ids)
    return generate(MODEL, torch.ones_like(group_ids), group_ids, temperature=0, stop=STOP, **options)


def test_left_to_right_the_row_ends_at_the_stop_and_others_go_on(monkeypatch):
    script = [[1, 2, STOP, 4, 5], [1, 2, 3, 4, 5], [1, 2, 3, STOP, 5]]
    scripted(monkeypatch, script)
    done = decode(script, [[0, 1, 2, 3, 4]] * 3)
    assert done.group_ids.tolist() == [[0, 1, 2, -1, -1], [0, 1, 2, 3, 4], [0, 1, 2, 3, -1]]
    assert [row[:n] for row, n in zip(done.sequences.tolist(), (3, 5, 4), strict=True)] == [
        [1, 2, STOP],
        [1, 2, 3, 4, 5],
        [1, 2, 3, STOP],
    ]
    assert done.trace.passes == [2, 4, 3]
    assert [step.positions for step in done.trace.steps[0] if step.action == "stop"] == [[3, 4]]


def test_a_stop_waits_until_all_before_it_is_filled(monkeypatch):
    """Random order: position 3 is drawn first and is a stop, but 1 and 2 are open. They fill, then the row ends."""
    script = [[1, 2, 3, STOP, 5, 6]]
    scripted(monkeypatch, script)
    done = decode(script, [[0, 4, 2, 1, 3, 5]])
    # position 4 was drawn behind the stop before the row ended: it stays. Position 5 was never drawn.
    assert done.sequences[0, :5].tolist() == [1, 2, 3, STOP, 5] and done.group_ids.tolist() == [[0, 4, 2, 1, 3, -1]]
    assert done.trace.passes == [4]


def test_a_stop_ends_nothing_while_something_before_it_is_open(monkeypatch):
    script = [[1, 2, 3, STOP, 5, 6]]
    scripted(monkeypatch, script)
    done = decode(script, [[0, 5, 4, 1, 2, 3]])
    assert done.sequences.tolist() == script and done.group_ids.tolist() == [[0, 5, 4, 1, 2, 3]]
    assert not any(step.action == "stop" for step in done.trace.steps[0])


def test_nothing_of_the_same_group_is_dropped(monkeypatch):
    script = [[1, STOP, 3, 4, 5, 6]]
    scripted(monkeypatch, script)
    done = decode(script, [[0, 1, 1, 1, 2, 2]])
    assert done.sequences[0, :4].tolist() == [1, STOP, 3, 4] and done.group_ids.tolist() == [[0, 1, 1, 1, -1, -1]]


def test_a_stop_in_the_given_text_ends_nothing(monkeypatch):
    script = [[1, 2, 3, 4, 5, 6]]
    scripted(monkeypatch, script)
    ids, group_ids = torch.tensor([[STOP, 0, STOP, 0, 0, STOP]]), torch.tensor([[0, 2, 1, 3, 4, 5]])
    known = ids == STOP
    done = generate(MODEL, ids, group_ids, known, temperature=0, stop=STOP)
    assert done.sequences.tolist() == [[STOP, 2, STOP, 4, 5, STOP]] and done.group_ids.tolist() == [[0, 2, 1, 3, 4, 5]]


def test_known_tokens_behind_the_end_stay(monkeypatch):
    script = [[1, STOP, 3, 4, 5, 6]]
    scripted(monkeypatch, script)
    ids, group_ids = torch.full((1, 6), 7), torch.tensor([[0, 1, 2, 3, 4, 5]])
    known = torch.tensor([[False, False, False, True, False, True]])
    done = generate(MODEL, ids, group_ids, known, temperature=0, stop=STOP)
    assert done.group_ids.tolist() == [[0, 1, -1, 2, -1, 3]]
    assert done.sequences[0, [0, 1, 3, 5]].tolist() == [7, STOP, 7, 7]
    assert torch.equal(done.known, known | (group_ids == 0))


def test_without_a_stop_nothing_ends(monkeypatch):
    script = [[1, STOP, 3, STOP]]
    scripted(monkeypatch, script)
    done = generate(MODEL, torch.ones(1, 4, dtype=torch.int64), torch.tensor([[0, 1, 2, 3]]), temperature=0)
    assert done.sequences.tolist() == script and done.group_ids.tolist() == [[0, 1, 2, 3]]


def plain_end(group_ids, known, drawn_by, tokens, stop) -> set[int]:
    """The positions that the end of a text drops, by the rule itself; the groups drawn are 1 .. ``drawn_by``."""
    open_ = [t for t, g in enumerate(group_ids) if g > drawn_by and not known[t]]
    for t, group in enumerate(group_ids):
        if 0 < group <= drawn_by and not known[t] and tokens[t] == stop and not any(o < t for o in open_):
            return set(open_)
    return set()


@settings(max_examples=80, deadline=None)
@given(laws.batches(rows=3), st.integers(0, 3))
def test_the_end_against_the_rule(batch, stop):
    """What ``stop`` leaves is what one finds by walking over the same drawing, group by group."""
    ids, group_ids, known = batch
    done = generate(MODEL, ids, group_ids, known, temperature=3.0, generator=generator(), stop=stop, banned=range(4, V))
    scored(MODEL, done)
    predicted = (group_ids > 0) & ~known
    for b in range(len(ids)):
        row, kept = groups.relabel(group_ids)[b].tolist(), known[b].tolist()
        order = sorted({g for g, is_known in zip(row, kept, strict=True) if g > 0 and not is_known})
        dropped: set[int] = set()
        for group in order:
            dropped = plain_end(row, kept, group, done.sequences[b].tolist(), stop)
            if dropped:
                break
        assert set((predicted[b] & (done.group_ids[b] == -1)).nonzero()[:, 0].tolist()) == dropped
        stays = [t for t in range(len(row)) if row[t] >= 0 and t not in dropped]
        expected = torch.tensor([group if t in stays else -1 for t, group in enumerate(row)])
        assert torch.equal(done.group_ids[b], groups.relabel(expected))


def test_the_rule_catches_a_stop_that_does_not_wait(monkeypatch):
    """The mutant ends a row at any drawn stop."""

    def end_of_text(self, stop):
        ended = (self.filled & (self.tokens == stop)).any(-1, keepdim=True)
        dropped = self.open & ended
        self.group_ids = self.group_ids.masked_fill(dropped, -1)
        self.predicted = self.predicted & ~dropped
        return dropped

    monkeypatch.setattr(Filling, "end_of_text", end_of_text)
    with pytest.raises(AssertionError):
        test_a_stop_waits_until_all_before_it_is_filled(monkeypatch)


# Arguments


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"temperature": -1.0}, ValueError, r"temperature must be 0 \(greedy\) or a positive number, got -1.0"),
        ({"temperature": float("nan")}, ValueError, r"temperature must be 0 \(greedy\) or a positive number, got nan"),
        ({"top_k": 0}, ValueError, "top_k must be an integer of at least 1, or None for all tokens; got 0"),
        ({"top_p": 0.0}, ValueError, "top_p must be above 0 and at most 1, or None for all tokens; got 0.0"),
        ({"repetition_penalty": 0.0}, ValueError, "repetition_penalty must be a positive number, got 0.0"),
        ({"banned": [V]}, ValueError, "banned holds 11, outside the vocabulary 0 .. 10"),
        ({"banned": range(V)}, ValueError, "banned holds the whole vocabulary"),
        ({"stop": V}, ValueError, "stop must be a token id, 0 .. 10, or None; got 11"),
        ({"stop": -1}, ValueError, "stop must be a token id, 0 .. 10, or None; got -1"),
        ({"stop": 2.5}, ValueError, "stop must be a token id, 0 .. 10, or None; got 2.5"),
        ({"runners_up": -1}, ValueError, "runners_up must be an integer, at least 0; got -1"),
        ({"runners_up": 1.5}, ValueError, "runners_up must be an integer, at least 0; got 1.5"),
        ({"group_ids": torch.zeros(1, 6, dtype=torch.int64)}, ValueError, "nothing to predict"),
        ({"group_ids": torch.full((1, 6), -1)}, ValueError, "nothing to predict"),
        ({"known": torch.ones(1, 6, dtype=torch.bool)}, ValueError, "nothing to predict"),
        ({"known": torch.ones(1, 6)}, TypeError, "known must be a boolean tensor, got torch.float32"),
        ({"known": [True] * 6}, TypeError, "known must be a boolean tensor, got list"),
        ({"known": torch.ones(1, 5, dtype=torch.bool)}, ValueError, r"known has shape \(1, 5\) but group_ids has"),
        ({"known": torch.ones(6, dtype=torch.bool)}, ValueError, r"known has shape \(6,\) but group_ids has"),
        ({"group_ids": torch.full((1, 6), -2)}, ValueError, "group_ids holds -2"),
        ({"group_ids": groups.left_to_right(6)[None].float()}, TypeError, "group_ids must hold integers"),
        ({"group_ids": None}, TypeError, "group_ids must be a torch.Tensor, got NoneType"),
        ({"group_ids": groups.left_to_right(5)[None]}, ValueError, r"input_ids has shape \(1, 6\)"),
        ({"group_ids": groups.left_to_right(6)}, ValueError, "expand"),
        ({"input_ids": torch.zeros(1, 6)}, TypeError, "input_ids must be an int64 tensor"),
        ({"input_ids": [[1] * 6]}, TypeError, "input_ids must be an int64 tensor, got list"),
        ({"input_ids": torch.full((1, 6), V)}, ValueError, "holds 11, outside the vocabulary 0 .. 10"),
        ({"input_ids": tokens(1, 0), "group_ids": tokens(1, 0)}, ValueError, "neither of them zero"),
        (
            {"input_ids": tokens(1, 6)[0], "group_ids": groups.left_to_right(6)},
            ValueError,
            r"input_ids must have shape \(B, T\)",
        ),
        (
            {"input_ids": tokens(1, 33), "group_ids": groups.left_to_right(33)[None]},
            ValueError,
            "33 tokens, but the model allows 32",
        ),
    ],
)
def test_bad_arguments(changes, error, message, monkeypatch):
    monkeypatch.setattr(MODEL.model, "forward", lambda **_: pytest.fail("the model has run"))
    arguments = {"input_ids": tokens(1, 6), "group_ids": groups.left_to_right(6)[None], **changes}
    with pytest.raises(error, match=message):
        generate(MODEL, **arguments)


def test_the_longest_text_that_fits():
    done = generate(MODEL, tokens(1, 32), groups.blocks(32, 8)[None], generator=generator())
    assert done.trace.passes == [4]
    scored(MODEL, done)


def test_no_gradients_are_kept():
    done = generate(MODEL, tokens(1, 4), groups.left_to_right(4)[None])
    assert not done.log_probs.requires_grad and json.loads(done.trace.to_json())
