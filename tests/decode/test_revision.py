"""revision.py: what fits worst is reopened, and a row is only ever replaced by a better one."""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import same
from torch import Tensor

from a3mini import A3ForCausalLM, decode, groups, objective, pretrained
from a3mini.attention import Visibility
from a3mini.decode import leave_one_out, revise, revision
from a3mini.rows import QUERY_STARTS

V = 11
MODEL, WARM = (laws.strong_model(query_start=start) for start in QUERY_STARTS)
MODELS = st.sampled_from([MODEL, WARM])
LENGTH = 7


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tokens(batch: int, length: int = LENGTH, seed: int = 0) -> Tensor:
    return torch.randint(V, (batch, length), generator=generator(seed))


@torch.no_grad()
def score(
    ids: Tensor, group_ids: Tensor, known: Tensor | None = None, reduction: str = "sequence", model=MODEL
) -> Tensor:
    return objective.log_likelihood(model, ids, group_ids, known, reduction).double()


# --- each token given all others --------------------------------------------------------------------------------


@torch.no_grad()
def one_by_one(model: A3ForCausalLM, ids: Tensor, group_ids: Tensor, known: Tensor | None = None) -> Tensor:
    """Oracle: for each token a pass of its own, in which it alone is predicted, after all others."""
    out = torch.zeros(ids.shape, dtype=torch.float64)
    for b, t in (objective.labels_for(ids, group_ids, known) >= 0).nonzero().tolist():
        order = group_ids[b].clamp(max=0)
        order[t] = 1
        out[b, t] = objective.log_likelihood(model, ids[b : b + 1], order[None])
    return out


@torch.no_grad()
def in_one_pass(model: A3ForCausalLM, ids: Tensor) -> Tensor:
    """A mistake: all queries in one pass, each of which sees the content of all other tokens, all of one group."""
    batch, length = ids.shape
    everyone = torch.ones(batch, length, length, dtype=torch.bool)
    hidden, _ = model.model(
        content_ids=ids,
        positions=torch.arange(length).repeat(2).expand(batch, -1),
        visible=Visibility.of(torch.cat((everyone, everyone & ~torch.eye(length, dtype=torch.bool)), dim=1)),
        kernel="sdpa",
        keep_content=False,
    )
    return model.lm_head(hidden).log_softmax(-1).gather(-1, ids[..., None])[..., 0]


group_rows = st.lists(st.lists(st.integers(-1, 4), min_size=LENGTH, max_size=LENGTH), min_size=1, max_size=3)


@st.composite
def orders(draw):
    """Group ids (B, T) with something to predict, and known tokens among them."""
    group_ids = torch.tensor(draw(group_rows))
    known = torch.tensor(draw(st.lists(st.booleans(), min_size=group_ids.numel(), max_size=group_ids.numel())))
    known = known.view_as(group_ids) & torch.tensor(draw(st.booleans()))
    if not ((group_ids > 0) & ~known).any():
        group_ids[0, -1], known[0, -1] = 5, False
    return group_ids, known


@settings(max_examples=40, deadline=None)
@given(orders(), st.integers(1, 30), MODELS)
def test_leave_one_out_is_a_pass_for_every_token(order, batch_size, model):
    group_ids, known = order
    ids = tokens(*group_ids.shape)
    expected = one_by_one(model, ids, group_ids, known)
    found = leave_one_out(model, ids, group_ids, known, batch_size)
    same(found.double(), expected)
    assert (found[(group_ids <= 0) | known] == 0).all()
    other_padding = ids.masked_fill(group_ids < 0, V - 1)
    assert torch.equal(leave_one_out(model, other_padding, group_ids, known, batch_size), found)


def test_of_the_order_only_padding_matters():
    ids = tokens(1)
    rows = torch.tensor([[0, 1, 2, 3, 4, 5, -1], [0, 3, 1, 1, 1, 2, -1], [0, 1, 2, 3, 4, 5, 6]])
    first, second, longer = (leave_one_out(MODEL, ids, order[None]) for order in rows)
    assert torch.equal(first, second)
    assert (longer[:, 1:6] - first[:, 1:6]).abs().max() > 0.01


def test_one_pass_for_all_tokens_is_wrong():
    """From the second layer on, the content of the others has seen the token. With a single layer it would be right."""
    group_ids, ids = torch.ones(2, LENGTH, dtype=torch.int64), tokens(2)
    one_layer = laws.strong_model(seed=1, num_hidden_layers=1)
    same(in_one_pass(one_layer, ids), one_by_one(one_layer, ids, group_ids))
    same(leave_one_out(one_layer, ids, group_ids), one_by_one(one_layer, ids, group_ids))
    wrong, right = in_one_pass(MODEL, ids), leave_one_out(MODEL, ids, group_ids)
    assert (wrong - right).abs().max() > 1
    # and what has seen the token cannot be its probability: summed over the vocabulary it is not 1
    fillings = ids[:1].repeat(V, 1)
    fillings[:, 3] = torch.arange(V)
    assert abs(in_one_pass(MODEL, fillings)[:, 3].exp().sum().item() - 1) > 0.01
    right = leave_one_out(MODEL, fillings, group_ids[:1].expand(V, -1))
    assert abs(right[:, 3].exp().sum().item() - 1) < laws.EXACT


def test_nothing_to_score():
    ids = tokens(2)
    assert torch.equal(leave_one_out(MODEL, ids, torch.zeros_like(ids)), torch.zeros(2, LENGTH).double())


# --- revising ---------------------------------------------------------------------------------------------------

options = st.fixed_dictionaries(
    {
        "reopen": st.integers(1, 4),
        "rounds": st.integers(1, 6),
        "temperature": st.sampled_from([0.0, 1.0]),
        "banned": st.sampled_from([(), (0, 7)]),
        "repetition_penalty": st.sampled_from([1.0, 1.4]),
    }
)


@settings(max_examples=60, deadline=None)
@given(orders(), options, st.booleans(), st.integers(0, 3), MODELS)
def test_every_revision(order, chosen, keep_worse, seed, model):
    """Its numbers, what it may not touch, its trace; and that a row is never worse, unless that is asked for."""
    group_ids, known = order
    ids = tokens(*group_ids.shape, seed)
    copies = ids.clone(), group_ids.clone(), known.clone()
    out = revise(model, ids, group_ids, known, generator=generator(seed), keep_worse=keep_worse, **chosen)
    assert all(torch.equal(now, then) for now, then in zip((ids, group_ids, known), copies, strict=True))

    predicted = (group_ids > 0) & ~known
    assert torch.equal(out.sequences[~predicted], ids[~predicted])
    assert torch.equal(out.group_ids, groups.relabel(group_ids))
    assert torch.equal(out.known, (group_ids >= 0) & ~predicted)
    changed = out.sequences != ids
    assert not torch.isin(out.sequences[changed], torch.tensor(chosen["banned"], dtype=torch.int64)).any()

    measure = partial(score, model=model)
    same(out.before.double(), measure(ids, group_ids, known))
    same(out.after.double(), measure(out.sequences, group_ids, known))
    same(out.log_probs.double(), measure(out.sequences, group_ids, known, "token"))
    assert keep_worse or (out.after >= out.before).all()
    assert (out.after > out.before)[changed.any(-1)].all() or keep_worse

    there = out.group_ids >= 0
    assert torch.equal(out.trace.replay()[there], out.sequences[there])
    for row, steps in enumerate(out.trace.steps):
        check_history(steps, ids[row].clone(), group_ids[row], known[row], chosen, keep_worse, measure)
    check_changes(out, ids, group_ids, known, keep_worse, measure)


def check_changes(out: decode.Revision, ids: Tensor, group_ids: Tensor, known: Tensor, keep_worse: bool, score) -> None:
    """Made one after the other they lead from the input to the output, and each gains what it says."""
    assert len(out.changes) == len(ids)
    for row, changes in enumerate(out.changes):
        now, one = ids[row].clone(), slice(row, row + 1)
        assert [change.round for change in changes] == sorted({change.round for change in changes})
        for change in changes:
            positions = list(change.positions)
            assert positions and positions == sorted(set(positions))
            assert now[positions].tolist() == list(change.before)
            before = score(now[None], group_ids[one], known[one])
            now[positions] = torch.tensor(change.after)
            assert all(new != old for new, old in zip(change.after, change.before, strict=True))
            same(
                torch.tensor([change.gain], dtype=torch.float64), score(now[None], group_ids[one], known[one]) - before
            )
            assert keep_worse or change.gain > 0
        assert torch.equal(now, out.sequences[row])
        gains = torch.tensor([change.gain for change in changes], dtype=torch.float64).sum()
        same(gains, (out.after - out.before)[row].double())
        reopened = [step for step in out.trace.steps[row] if step.action == "reopen"]
        assert [set(c.positions) <= set(step.positions) for c, step in zip(changes, reopened, strict=True)] == [
            True for _ in changes
        ]


def check_history(
    steps: list, row: Tensor, group_ids: Tensor, known: Tensor, chosen: dict, keep_worse: bool, score: Callable
) -> None:
    """Step by step: what is taken out, what comes in, and what does not."""
    tries = [step for step in steps if step.action in ("reopen", "reject")]
    assert len(tries) <= chosen["rounds"]
    assert all(1 <= len(step.positions) <= chosen["reopen"] for step in tries)
    assert [step.passes for step in steps] == sorted(step.passes for step in steps)
    before, open_ = score(row[None], group_ids[None], known[None]), set()
    for step in steps:
        assert not (known | (group_ids <= 0))[step.positions].any()
        if step.action == "reject":  # it was not better
            assert not open_ and not keep_worse
            proposed = row.clone()
            proposed[step.positions] = torch.tensor(step.tokens)
            assert not torch.equal(proposed, row)
            assert score(proposed[None], group_ids[None], known[None]) <= before + laws.EXACT
        elif step.action == "reopen":
            assert not open_ and row[step.positions].tolist() == step.tokens
            open_ = set(step.positions)
        else:
            assert step.action == "commit" and set(step.positions) <= open_
            assert step.positions == [min(open_)]  # one by one, from left to right
            row[step.positions] = torch.tensor(step.tokens)
            open_ -= set(step.positions)
            if not open_:
                after = score(row[None], group_ids[None], known[None])
                assert keep_worse or after > before
                before = after
    assert not open_


@pytest.mark.parametrize("seed", range(6))
def test_it_ends_when_no_single_reopening_helps(seed):
    """Try every position: none can be refilled, greedily, so that the row gets better."""
    group_ids = groups.shuffled(LENGTH, 2, generator=generator(seed))[None]
    out = revise(MODEL, tokens(1, seed=seed), group_ids, rounds=1000)
    assert out.after > out.before
    for t in (group_ids[0] > 0).nonzero()[:, 0].tolist():
        alone = torch.zeros_like(group_ids)
        alone[0, t] = 1
        refilled = decode.generate(MODEL, out.sequences, alone, temperature=0).sequences
        assert score(refilled, group_ids) <= out.after + laws.EXACT
    again = revise(MODEL, out.sequences, group_ids, rounds=1000)  # a text at its best stays
    assert torch.equal(again.sequences, out.sequences) and torch.equal(again.before, again.after)
    assert not any(step.action != "reject" for step in again.trace.steps[0])


def test_it_begins_with_the_token_that_fits_worst():
    group_ids = groups.left_to_right(LENGTH)[None].expand(4, -1)
    ids = tokens(4)
    for count in (1, 2, 3):
        worst = one_by_one(MODEL, ids, group_ids).masked_fill(group_ids == 0, 99).argsort(dim=-1)[:, :count]
        out = revise(MODEL, ids, group_ids, reopen=count, rounds=1, keep_worse=True)
        for row, steps in enumerate(out.trace.steps):
            assert steps[0].positions == sorted(worst[row].tolist())


def test_rounds_are_respected():
    group_ids = groups.left_to_right(16)[None]
    previous = None
    for rounds in (1, 2, 5, 40):
        out = revise(MODEL, tokens(1, 16), group_ids, rounds=rounds)
        tries = [step for step in out.trace.steps[0] if step.action in ("reopen", "reject")]
        assert len(tries) <= rounds
        if previous is not None:  # more rounds go on where fewer have ended
            assert out.trace.steps[0][: len(previous.trace.steps[0])] == previous.trace.steps[0]
            assert out.after >= previous.after
        previous = out
    assert revise(MODEL, tokens(1, 16), group_ids, rounds=1).after < previous.after


def test_keep_worse_may_be_worse():
    group_ids = groups.left_to_right(LENGTH)[None].expand(20, -1)
    sharp = {"temperature": 3.0, "reopen": 3, "rounds": 3}
    worse = revise(MODEL, tokens(20), group_ids, generator=generator(), keep_worse=True, **sharp)
    assert (worse.after < worse.before).any()
    assert not any(step.action == "reject" for steps in worse.trace.steps for step in steps)
    better = revise(MODEL, tokens(20), group_ids, generator=generator(), **sharp)
    assert (better.after >= better.before).all() and (better.after > better.before).any()


@pytest.mark.parametrize("least", [0.5, 2.0])
def test_a_change_must_gain_enough(least):
    """And every position at which a refilling would gain as much has been refilled."""
    group_ids = groups.left_to_right(LENGTH)[None].expand(20, -1)
    free, out = (revise(MODEL, tokens(20), group_ids, rounds=50, least_gain=nats) for nats in (0.0, least))
    assert any(change.gain <= least for row in free.changes for change in row)
    assert any(out.changes) and all(change.gain > least for row in out.changes for change in row)
    for t in range(1, LENGTH):
        alone = torch.zeros_like(group_ids).index_fill(1, torch.tensor([t]), 1)
        refilled = decode.generate(MODEL, out.sequences, alone, temperature=0).sequences
        assert (score(refilled, group_ids) <= out.after + least + laws.EXACT).all()
    assert out.trace.settings["least_gain"] == least
    worse = {"keep_worse": True, "rounds": 3}
    kept, same_ = (revise(MODEL, tokens(20), group_ids, **worse, least_gain=nats) for nats in (0.0, least))
    assert torch.equal(kept.sequences, same_.sequences)


def test_another_yardstick_would_make_rows_worse(monkeypatch):
    """A mutant: "better" as the sum over tokens of the log-probability given all others, which is no likelihood."""
    group_ids = groups.left_to_right(LENGTH)[None].expand(60, -1)

    def pseudo(model, ids, order, known=None, reduction="sequence"):
        if reduction == "token":  # what rows are compared by
            return leave_one_out(model, ids, order, known, 1000)
        return objective.log_likelihood(model, ids, order, known)

    monkeypatch.setattr(revision, "objective", SimpleNamespace(log_likelihood=pseudo, labels_for=objective.labels_for))
    out = revise(MODEL, tokens(60), group_ids, batch_size=1000)
    assert (score(out.sequences, group_ids) < score(tokens(60), group_ids)).any()


@settings(max_examples=25, deadline=None)
@given(orders(), st.integers(1, 3), st.integers(1, 8), MODELS)
def test_rows_do_not_know_of_each_other(order, reopen, rounds, model):
    group_ids, known = order
    ids = tokens(*group_ids.shape)
    together = revise(model, ids, group_ids, known, reopen, rounds)
    for row in range(len(ids)):
        if not ((group_ids > 0) & ~known)[row].any():
            assert not together.trace.steps[row] and together.before[row] == together.after[row] == 0
            continue
        one = slice(row, row + 1)
        alone = revise(model, ids[one], group_ids[one], known[one], reopen, rounds)
        assert torch.equal(alone.sequences[0], together.sequences[row])
        same(alone.log_probs[0], together.log_probs[row])
        assert [(s.action, s.positions, s.tokens, s.passes) for s in alone.trace.steps[0]] == [
            (s.action, s.positions, s.tokens, s.passes) for s in together.trace.steps[row]
        ]


def test_the_generator_decides_and_greedy_draws_nothing():
    ids, group_ids = tokens(2, 16), groups.left_to_right(16)[None].expand(2, -1)
    first, second, other = (revise(MODEL, ids, group_ids, temperature=1.0, generator=generator(n)) for n in (1, 1, 2))
    assert torch.equal(first.sequences, second.sequences) and first.trace == second.trace
    assert not torch.equal(first.sequences, other.sequences)
    before = torch.get_rng_state()
    greedy = [revise(MODEL, ids, group_ids, batch_size=size) for size in (1, 5, 64)]
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(out.sequences, greedy[0].sequences) for out in greedy)
    settings_ = greedy[0].trace.settings
    assert (settings_["reopen"], settings_["rounds"], settings_["keep_worse"]) == (1, 20, False)


def test_it_mends_real_text():
    """The compact model finds a wrong word wherever it stands, and puts the right one back."""
    model, tokenizer, _ = pretrained.compact_model()
    text = "Once upon a time, there was a little girl named Lily"
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]])
    places = range(1, ids.shape[1])
    damaged = ids.repeat(len(places), 1)
    damaged[range(len(places)), places] = tokenizer.encode(" water", add_special_tokens=False)[0]
    group_ids = groups.left_to_right(ids.shape[1])[None].expand_as(damaged)
    out = revise(model, damaged, group_ids, rounds=1)
    assert [steps[0].positions for steps in out.trace.steps] == [[place] for place in places]
    assert (out.after > out.before).all()
    right = (out.sequences == ids).all(-1)
    assert right[:-1].all(), tokenizer.batch_decode(out.sequences[~right])  # the last word may be another one


def test_what_was_changed_is_said_in_words():
    """A line for each change, with the whole word; undone, the changes give the text that was given."""
    model, tokenizer, _ = pretrained.compact_model()
    right = "Once upon a time, there was a little girl named Lily. She loved to play"
    text = right.replace("time", "three").replace("girl", "water")
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]])
    padded = torch.cat((ids, ids), dim=1)  # a row with padding, and one in which nothing may change
    rows = torch.cat((padded, padded))
    order = torch.full_like(rows, -1)
    order[:, : ids.shape[1]] = groups.left_to_right(ids.shape[1])
    known = torch.zeros_like(rows, dtype=torch.bool)
    known[1] = order[1] >= 0
    out = revise(model, rows, order, known)
    assert tokenizer.decode(out.sequences[0, 1 : ids.shape[1]]) == right
    lines = [line.split("  ") for line in out.report(tokenizer)]
    gains = [change.gain for change in out.changes[0]]
    assert {words for words, _ in lines} == {'"three" -> "time"', '"water" -> "girl"'}
    assert [gain for _, gain in lines] == [f"{gain:+.1f} nats" for gain in gains] and min(gains) > 1
    assert out.changes[1] == () and out.report(tokenizer, 1) == []


PIECES = {0: "<s>", 1: " ha", 2: "use", 3: " hou", 4: "se", 5: ",", 6: " the", 7: " a"}


def said(before: list[int], after: list[int]) -> str:
    """What is said of one change of a row, spelled by ``PIECES``."""
    tokenizer = SimpleNamespace(pieces=PIECES)
    at = tuple(n for n, (old, new) in enumerate(zip(before, after, strict=True)) if old != new)
    change = decode.Change(1, at, tuple(before[n] for n in at), tuple(after[n] for n in at), 5.25)
    rows, zeros = torch.tensor([after]), torch.zeros(1)
    order = groups.left_to_right(len(after))[None]
    out = decode.Revision(rows, zeros, order, order == 0, None, zeros, zeros, ((change,),))
    (line,) = out.report(tokenizer)
    return line


def test_words_are_whole(monkeypatch):
    monkeypatch.setattr(revision, "decode_behind", lambda tokenizer, ids: "".join(PIECES[token] for token in ids))
    assert said([0, 6, 1, 2, 5], [0, 6, 3, 4, 5]) == '"hause" -> "house"  +5.2 nats'  # both tokens, said once
    assert said([0, 6, 1, 4, 5], [0, 6, 3, 4, 5]) == '"hase" -> "house"  +5.2 nats'
    assert said([0, 6, 1, 2, 5], [0, 6, 1, 4, 5]) == '"hause" -> "hase"  +5.2 nats'
    assert said([0, 6, 1, 2, 7], [0, 7, 1, 4, 7]) == '"the" -> "a", "hause" -> "hase"  +5.2 nats'
    assert said([0, 1, 2, 5], [0, 1, 2, 7]) == '"," -> "a"  +5.2 nats'
    assert said([0, 6, 7, 5], [0, 6, 2, 5]) == '"the a" -> "theuse"  +5.2 nats'  # what joins another word


@pytest.mark.parametrize("model", [MODEL, WARM], ids=QUERY_STARTS)
def test_the_others_are_read_as_in_the_training(model, monkeypatch):
    """``known_order`` decides for the scores and for the refilling; without it the model's config does."""
    ids, group_ids = tokens(2), groups.left_to_right(LENGTH)[None].repeat(2, 1)
    group_ids[1, -2:] = groups.PADDING
    expected = torch.zeros(ids.shape, dtype=torch.float64)
    for b, t in (group_ids > 0).nonzero().tolist():  # oracle: all others in their order, this one last
        order = torch.arange(LENGTH).masked_fill(group_ids[b] < 0, groups.PADDING)
        order[t] = LENGTH
        expected[b, t] = score(ids[b : b + 1], order[None], (torch.arange(LENGTH) != t)[None], model=model)
    found = {name: leave_one_out(model, ids, group_ids, known_order=name) for name in groups.KNOWN_ORDERS}
    same(found["left_to_right"].double(), expected)
    assert (found["left_to_right"] - found["together"]).abs().max() > 0.01
    fitting = {"reopen": 2, "rounds": 4}
    revised = {name: revise(model, ids, group_ids, known_order=name, **fitting) for name in groups.KNOWN_ORDERS}
    for name, out in revised.items():
        monkeypatch.setattr(model.config, "known_order", name, raising=False)
        assert torch.equal(leave_one_out(model, ids, group_ids), found[name])
        default = revise(model, ids, group_ids, **fitting)
        assert default.trace == out.trace and default.changes == out.changes
        assert out.trace.settings["known_order"] == name
        step = next(step for step in out.trace.steps[0] if step.action == "commit")
        row = ids[:1].clone()
        alone = torch.zeros_like(group_ids[:1])
        reopened = next(step for step in out.trace.steps[0] if step.action == "reopen").positions
        alone[0, reopened] = torch.arange(1, 1 + len(reopened))
        refilled = decode.generate(model, row, *groups.read_given(alone, name), temperature=0)
        place = step.positions[0]
        assert refilled.sequences[0, place] == step.tokens[0]
        assert abs(refilled.log_probs[0, place].item() - step.log_probs[0]) < 1e-9
    assert revised["together"].changes != revised["left_to_right"].changes


def test_the_yardstick_is_the_given_order():
    """Not that of the filling: under another order another row may win."""
    ids = tokens(40)
    first, second = (torch.tensor([row]).expand(40, -1) for row in ([0, 1, 2, 3, 4, 5, 6], [0, 6, 5, 4, 3, 2, 1]))
    outs = [revise(MODEL, ids, order, rounds=3) for order in (first, second)]
    assert not torch.equal(outs[0].sequences, outs[1].sequences)


BAD = {
    "reopen": ({"reopen": 0}, ValueError, "reopen must be an integer, at least 1; got 0"),
    "half a token": ({"reopen": 1.5}, ValueError, "reopen must be an integer"),
    "rounds": ({"rounds": 0}, ValueError, "rounds must be an integer, at least 1; got 0"),
    "a loss": ({"least_gain": -1.0}, ValueError, "least_gain must be nats, 0 or more; got -1.0"),
    "no number of nats": ({"least_gain": "4"}, ValueError, "least_gain must be nats"),
    "nats without end": ({"least_gain": float("nan")}, ValueError, "least_gain must be nats"),
    "known order": ({"known_order": "random"}, ValueError, "known_order must be one of together, left_to_right"),
    "batch": ({"batch_size": 0}, ValueError, "batch_size must be an integer, at least 1"),
    "temperature": ({"temperature": -1.0}, ValueError, "temperature"),
    "top k": ({"top_k": 0}, ValueError, "top_k"),
    "top p": ({"top_p": 2.0}, ValueError, "top_p"),
    "penalty": ({"repetition_penalty": 0.0}, ValueError, "repetition_penalty"),
    "banned": ({"banned": [V]}, ValueError, "banned holds 11"),
    # here a token that is to be predicted is read, so it must be one
    "no such token": ({"input_ids": torch.tensor([[0, 1, 2, V, 3, 4]])}, ValueError, "input_ids holds 11, outside"),
    "an open position": ({"input_ids": torch.tensor([[0, 1, 2, -1, 3, 4]])}, ValueError, "input_ids holds -1, outside"),
    "nothing to revise": ({"group_ids": torch.zeros(1, 6, dtype=torch.int64)}, ValueError, "nothing to predict"),
    "everything known": ({"known": torch.ones(1, 6, dtype=torch.bool)}, ValueError, "nothing to predict"),
    "known of floats": ({"known": torch.ones(1, 6)}, TypeError, "known must be a boolean tensor"),
    "known of another shape": ({"known": torch.ones(1, 5, dtype=torch.bool)}, ValueError, "known has shape"),
    "one row of groups": ({"group_ids": groups.left_to_right(6)}, ValueError, "expand"),
    "too long": (
        {"input_ids": tokens(1, 33), "group_ids": groups.left_to_right(33)[None]},
        ValueError,
        "33 tokens, but the model allows 32",
    ),
}


@pytest.mark.parametrize("changes, error, message", BAD.values(), ids=BAD)
def test_bad_arguments_before_any_pass(changes, error, message, monkeypatch):
    monkeypatch.setattr(MODEL.model, "forward", lambda **_: pytest.fail("the model was run"))
    with pytest.raises(error, match=message):
        revise(MODEL, **{"input_ids": tokens(1, 6), "group_ids": groups.left_to_right(6)[None], **changes})


@pytest.mark.parametrize("batch_size", [0, 1.5])
def test_bad_batches_of_leave_one_out(batch_size):
    with pytest.raises(ValueError, match="batch_size must be an integer, at least 1"):
        leave_one_out(MODEL, tokens(1, 6), groups.left_to_right(6)[None], batch_size=batch_size)
