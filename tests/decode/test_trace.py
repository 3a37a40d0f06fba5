"""trace.py: the replay, JSON there and back, what each step keeps, what is refused."""

import json

import laws
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import same

from a3mini import groups, objective, speculative
from a3mini.decode import Trace, generate, resample, revise
from a3mini.decode.trace import ACTIONS, SCHEMA, VERSION, Step
from a3mini.train import corpus, data

V = 11
MODEL = laws.in_double(laws.strong_model())


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_generate(ids, group_ids, known, **options):
    return generate(MODEL, ids, group_ids, known, generator=generator(), **options)


def by_speculation(ids, group_ids, known, **options):
    return speculative.generate(MODEL, ids, group_ids, known, generator=generator(), **options)


def by_resampling(ids, group_ids, known, **options):
    unknown = (group_ids > 0) & ~known
    return resample(MODEL, ids, unknown, 2, known=(group_ids >= 0) & ~unknown, generator=generator(), **options)


def by_refreshed(ids, group_ids, known, **options):
    return by_resampling(ids, group_ids, known, context="refreshed", criterion="entropy", **options)


def by_revision(ids, group_ids, known, **options):
    options.pop("stop", None)
    return revise(MODEL, ids, group_ids, known, rounds=3, **options)


WAYS = [by_generate, by_speculation, by_resampling, by_refreshed, by_revision]


def strictly(text: str) -> dict:
    """JSON as the standard has it: no NaN, no Infinity."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def example(**options):
    """Two rows: groups of 2, 1 and 1; and a single token. The last position of row 1 is padding."""
    ids = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 10, 0, 1]])
    group_ids = torch.tensor([[0, 2, 1, 1, 7], [0, 0, 0, 4, -1]])
    return by_generate(ids, group_ids, torch.zeros(2, 5, dtype=torch.bool), **options)


# Replay


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=20, deadline=None)
@given(laws.batches(given=2), st.sampled_from([{}, {"stop": 3}, {"runners_up": 0}]))
def test_the_replay_is_the_result_and_json_keeps_all(way, batch, options):
    done = way(*batch, **options)
    trace, there = done.trace, done.group_ids >= 0
    assert torch.equal(trace.replay(), done.sequences.masked_fill(~there, -1))
    text = trace.to_json()
    again = Trace.from_json(text)
    assert again == trace and again.to_json() == text and torch.equal(again.replay(), trace.replay())
    whole = strictly(text)
    assert whole["schema"] == SCHEMA and whole["version"] == VERSION and "texts" not in whole
    assert [row["passes"] for row in whole["rows"]] == trace.passes
    assert {step["action"] for row in whole["rows"] for step in row["steps"]} <= set(ACTIONS)
    for b, steps in enumerate(trace.steps):  # passes never go back
        assert [step.passes for step in steps] == sorted(step.passes for step in steps)
        alone = trace.row(b)
        assert alone.passes == [trace.passes[b]] and torch.equal(alone.replay(), trace.replay()[b : b + 1])


def test_the_replay_of_the_first_steps():
    done = example()
    found = [done.trace.replay(n) for n in range(5)]
    start = done.sequences.masked_fill(done.group_ids != 0, -1)
    for n, tokens in enumerate(found):
        assert torch.equal(tokens, start.where(done.group_ids > n, done.sequences).masked_fill(done.group_ids < 0, -1))
    assert (found[0] == -1).sum() == 6 and (found[1] == -1).sum() == 3 and torch.equal(found[3], found[4])
    assert torch.equal(found[4], done.trace.replay())


def test_tokens_that_were_taken_out_are_gone_in_the_replay():
    trace = Trace("by hand", {}, 3, [{0: 5, 1: 6}], [[Step("reopen", 1, [1], [6]), Step("commit", 2, [1], [7])]])
    trace.steps[0][1:1] = [Step("reject", 1, [2], [9]), Step("stop", 1, [2])]
    assert [trace.replay(n).tolist() for n in range(5)] == [
        [[5, 6, -1]],
        [[5, -1, -1]],
        [[5, -1, -1]],
        [[5, -1, -1]],
        [[5, 7, -1]],
    ]


# What the steps keep


@pytest.mark.parametrize("way", [by_generate, by_resampling, by_refreshed])
@settings(max_examples=20, deadline=None)
@given(laws.batches(given=2), st.sampled_from([0, 1, 3, V - 1, 99]))
def test_steps_are_the_groups_with_their_numbers_and_rivals(way, batch, runners_up):
    """Passes equal groups. The runners-up are the model's likeliest other tokens, sorted."""
    with laws.recorded_steps() as passes:
        done = way(*batch, runners_up=runners_up)
    logits = {}  # of each position, when it was filled: the last time that it was asked
    for step in passes:
        for pair, row in zip(step.ask.nonzero().tolist(), step.logits, strict=True):
            logits[tuple(pair)] = row
    predicted = (done.group_ids >= 0) & ~done.known
    for b, steps in enumerate(done.trace.steps):
        assert done.trace.known[b] == {t: int(done.sequences[b, t]) for t in done.known[b].nonzero()[:, 0].tolist()}
        used = done.group_ids[b, predicted[b]].unique().tolist()
        assert done.trace.passes[b] == len(used) and [step.passes for step in steps] == list(range(1, len(used) + 1))
        for group, step in zip(used, steps, strict=True):
            assert step.action == "commit" and step.group == group
            assert step.positions == ((done.group_ids[b] == group) & predicted[b]).nonzero()[:, 0].tolist()
            assert step.tokens == done.sequences[b, step.positions].tolist()
            same(torch.tensor(step.log_probs, dtype=torch.float64), done.log_probs[b, step.positions])
            assert len(step.runners_up) == len(step.positions)
            for t, token, rivals in zip(step.positions, step.tokens, step.runners_up, strict=True):
                log_probs = logits[b, t].log_softmax(-1)
                others = sorted(set(range(V)) - {token}, key=lambda other: -log_probs[other])
                assert [other for other, _ in rivals] == others[:runners_up]  # never more than there are
                same(torch.tensor([p for _, p in rivals], dtype=torch.float64), log_probs[others[:runners_up]])


def test_the_order_that_was_chosen_can_be_checked():
    """``considered`` has every open position; the ones filled have the highest scores."""
    ids, unknown = torch.arange(8)[None], torch.tensor([[False, False, True, True, False, True, True, True]])
    for criterion in ("confidence", "entropy", "random"):
        done = resample(MODEL, ids, unknown, 2, criterion, generator=generator())
        open_ = unknown[0].nonzero()[:, 0].tolist()
        for step in done.trace.steps[0]:
            assert step.considered["positions"] == open_
            scores = dict(zip(open_, step.considered["scores"], strict=True))
            assert step.positions == sorted(sorted(open_, key=lambda t: -scores[t])[:2])
            open_ = [t for t in open_ if t not in step.positions]
        assert not open_
    assert all(step.considered is None for step in example().trace.steps[0])


def test_confidence_is_the_highest_probability():
    ids, unknown = torch.arange(6)[None], torch.tensor([[False, False, True, False, True, False]])
    first = resample(MODEL, ids, unknown, generator=generator()).trace.steps[0][0]
    with torch.no_grad():
        p = MODEL(ids, unknown.long()).logits[0, [2, 4]].softmax(-1)
    same(torch.tensor(first.considered["scores"], dtype=torch.float64), p.amax(-1))
    entropy = resample(MODEL, ids, unknown, criterion="entropy", generator=generator()).trace.steps[0][0]
    same(torch.tensor(entropy.considered["scores"], dtype=torch.float64), (p * p.log()).sum(-1))


def test_settings_say_how():
    done = example(temperature=0.5, top_k=4, stop=2)
    assert done.trace.strategy == "generate"
    assert done.trace.settings == {
        "temperature": 0.5, "top_k": 4, "top_p": None, "repetition_penalty": 1.0, "banned": [], "stop": 2,
    }  # fmt: skip
    ids, unknown = torch.arange(6)[None], torch.tensor([[False, False, True, False, True, False]])
    chosen = resample(MODEL, ids, unknown, 2, "entropy", "refreshed", banned=(1, 2)).trace
    assert chosen.strategy == "resample" and chosen.settings["banned"] == [1, 2]
    assert [chosen.settings[name] for name in ("per_step", "criterion", "context")] == [2, "entropy", "refreshed"]


def test_numbers_of_numpy_are_numbers_too():
    done = example(temperature=np.float64(0.5), top_k=np.int64(4), top_p=np.float32(0.5), stop=np.int64(2))
    assert Trace.from_json(done.trace.to_json()).settings["top_k"] == 4


# One row, texts


def test_one_row_cut_to_its_length():
    done = example()
    trace = done.trace.row(1, 4)
    assert trace.length == 4 and len(trace.steps) == len(trace.known) == 1
    assert torch.equal(trace.replay(), done.sequences[1:, :4])
    assert strictly(trace.to_json())["rows"][0]["length"] == 4
    assert Trace.from_json(trace.to_json()) == trace


def test_texts_of_every_token():
    story = corpus.Story("", "The cat sat on the mat. The dog ran to the cat, and the cat ran off!")
    tokenizer = data.train_tokenizer([story], vocab_size=290)
    torch.manual_seed(0)
    model = laws.A3ForCausalLM(laws.tiny_config(vocab_size=len(tokenizer))).eval()
    ids = torch.tensor([tokenizer.encode("The cat sat on the mat.")])
    group_ids = groups.blocks(ids.shape[1], 2)[None]
    done = generate(model, ids, group_ids, generator=generator(), runners_up=2)
    whole = strictly(done.trace.to_json(tokenizer))
    row = whole["rows"][0]
    mentioned = {*row["known"]["tokens"]}
    for step in row["steps"]:
        mentioned |= {*step["tokens"], *(token for others in step["runners_up"] for token, _ in others)}
    assert {int(token) for token in whole["texts"]} == mentioned
    assert all(whole["texts"][str(token)] == tokenizer.decode([token]) for token in mentioned)
    assert Trace.from_json(done.trace.to_json(tokenizer)) == done.trace


def test_the_sum_of_the_steps_is_the_log_likelihood():
    done = example()
    found = [sum(sum(step.log_probs) for step in steps) for steps in done.trace.steps]
    expected = objective.log_likelihood(MODEL, done.sequences, done.group_ids, done.known)
    same(torch.tensor(found, dtype=torch.float64), expected.detach())


# What is refused


def changed(**changes) -> str:
    whole = json.loads(example().trace.to_json())
    return json.dumps({name: value for name, value in {**whole, **changes}.items() if value is not ...})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is not a trace"),
        ("{", "this is not a trace"),
        ("no JSON", "this is not a trace"),
        ("[]", "this is not a trace"),
        ("3", "this is not a trace"),
        ("null", "this is not a trace"),
        ("{}", "this is not a trace"),
        (None, "this is not a trace"),
        (lambda: changed(schema=...), "this is not a trace"),
        (lambda: changed(version=...), "this is not a trace"),
        (lambda: changed(version=VERSION + 1), f"version {VERSION + 1}; this a3mini reads {SCHEMA} version {VERSION}"),
        (lambda: changed(schema="other"), f"this is other version {VERSION}; this a3mini reads {SCHEMA}"),
        (lambda: changed(rows=...), "this is not a trace"),
        (lambda: changed(rows=[]), "this is not a trace"),
        (lambda: changed(rows=3), "this is not a trace"),
        (lambda: changed(rows=[{"length": 3}]), "this is not a trace"),
        (lambda: changed(settings=...), "this is not a trace"),
    ],
)  # fmt: skip
def test_other_things_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Trace.from_json(text() if callable(text) else text)


def test_numbers_that_are_no_numbers_are_never_written():
    trace = example().trace
    trace.steps[0][0].log_probs[0] = float("nan")
    with pytest.raises(ValueError, match="JSON compliant"):
        trace.to_json()
