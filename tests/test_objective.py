"""objective.py: law 3 (a probability), the sum against a loop, ``known``, arguments."""

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import same

from a3mini import groups, masks, objective
from a3mini.rows import QUERY_STARTS

V = 4
SMALL = {"vocab_size": V, "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
BOTH = {start: laws.strong_model(query_start=start, **SMALL) for start in QUERY_STARTS}
MODEL = BOTH["vector"]
starts = pytest.mark.parametrize("model", BOTH.values(), ids=BOTH)


def tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(V, (batch, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "group_ids",
    {
        "left to right": [0, 1, 2, 3, 4],
        "blocks": [0, 1, 1, 2, 2],
        "shuffled": [0, 3, 1, 4, 2],
        "all at once": [0, 1, 1, 1, 1],
        "infilling": [0, 2, 1, 0, 2],
        "padding": [0, 2, -1, 1, -1],
        "nothing given": [2, 1, 2, 3, -1],
        "strided": groups.strided(5, 2).tolist(),
        "two blanks, strided": groups.infill(torch.tensor([True, True, True, False, True]), 2, "strided").tolist(),
    }.items(),
    ids=lambda item: item[0],
)
@starts
def test_a_probability(group_ids, model):
    laws.a_probability(model, tokens(1, 5), torch.tensor([group_ids[1]]))


@starts
@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 3), st.booleans()), min_size=5, max_size=5))
def test_a_probability_at_any_grouping_with_known_tokens(model, drawn):
    group_ids = torch.tensor([[group for group, _ in drawn]])
    known = torch.tensor([[is_known for _, is_known in drawn]])
    laws.a_probability(model, tokens(1, 5), group_ids, known)


@starts
def test_the_law_catches_a_leak(model, monkeypatch):
    right = masks.may_attend
    monkeypatch.setattr(masks, "may_attend", lambda rows, columns, own_group: right(rows, columns, True))
    with pytest.raises(AssertionError, match="sum to"):
        laws.a_probability(model, tokens(1, 5), torch.tensor([[0, 1, 1, 2, 2]]))


def test_the_law_catches_a_start_from_any_group(monkeypatch):
    """A start from its own group is caught by law 2 alone: each token given its left neighbour is a probability too."""
    laws.mutate_starts(monkeypatch, "(before < group_ids)", "(before <= before)")
    with pytest.raises(AssertionError, match="sum to"):
        laws.a_probability(BOTH["previous"], tokens(1, 5), torch.tensor([[0, 1, 1, 3, 2]]))


@starts
def test_terms_equal_a_loop_over_single_conditionals(model):
    """log P(x_t | x_G<k) one at a time: earlier groups keep their ids, everything else is left out."""
    ids, group_ids = tokens(2, 6), torch.tensor([[0, 2, 1, 2, 3, -1], [0, 0, 5, 3, 4, 4]])
    terms = objective.log_likelihood(model, ids, group_ids, reduction="token")
    for row in range(2):
        for t in range(6):
            group = int(group_ids[row, t])
            if group <= 0:
                assert terms[row, t] == 0
                continue
            alone = group_ids[row].masked_fill(group_ids[row] >= group, -1)
            alone[t] = group
            expected = model(ids[row : row + 1], alone[None]).logits[0, t].log_softmax(-1)[ids[row, t]]
            same(terms[row, t], expected)
    same(objective.log_likelihood(model, ids, group_ids), terms.sum(-1))


@starts
def test_known_tokens_score_zero_and_stay_in_their_group(model):
    ids, group_ids = tokens(1, 6), torch.tensor([[0, 1, 2, 2, 3, 3]])
    known = torch.tensor([[True, False, True, False, False, True]])
    with_known = objective.log_likelihood(model, ids, group_ids, known, reduction="token")
    without = objective.log_likelihood(model, ids, group_ids, reduction="token")
    same(with_known, without.masked_fill(known, 0.0))
    as_given = objective.log_likelihood(model, ids, group_ids.masked_fill(known, 0), reduction="token")
    assert (as_given - with_known).abs().max() > 1e-3  # given from the start is another conditional
    default = objective.log_likelihood(model, ids, group_ids, known=group_ids == 0, reduction="token")
    same(default, without)


@starts
def test_left_out_positions_are_not_conditioned_on(model):
    ids, group_ids = tokens(1, 5), torch.tensor([[0, -1, 0, 1, -1]])
    other = ids.clone()
    other[0, [1, 4]] = (other[0, [1, 4]] + 1) % V
    same(objective.log_likelihood(model, ids, group_ids), objective.log_likelihood(model, other, group_ids))


def test_the_loss_is_its_mean():
    ids, group_ids = tokens(2, 6), groups.left_to_right(6).expand(2, -1)
    same(MODEL(ids, group_ids, labels=ids).loss, -objective.log_likelihood(MODEL, ids, group_ids).sum() / 10)


def test_empty_rows_score_zero():
    ids = tokens(2, 4)
    assert objective.log_likelihood(MODEL, ids, torch.tensor([[0, 0, -1, -1], [0, 1, 2, 3]]))[0] == 0
    assert objective.log_likelihood(MODEL, ids, torch.zeros_like(ids)).tolist() == [0, 0]


def test_gradients_flow():
    model = laws.strong_model(vocab_size=V)
    objective.log_likelihood(model, tokens(2, 4), groups.left_to_right(4).expand(2, -1)).sum().backward()
    assert model.model.query_embedding.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"reduction": "mean"}, ValueError, 'reduction must be "sequence" or "token", got \'mean\''),
        ({"known": torch.zeros(2, 4)}, TypeError, "known must be a boolean tensor, got torch.float32"),
        ({"known": torch.zeros(2, 5, dtype=torch.bool)}, ValueError, r"known has shape \(2, 5\)"),
        ({"input_ids": tokens(2, 4) + V}, ValueError, "outside the vocabulary"),
        ({"group_ids": torch.full((2, 4), -2)}, ValueError, "holds -2"),
        ({"group_ids": torch.zeros(2, 5, dtype=torch.int64)}, ValueError, "shape"),
    ],
)
def test_bad_arguments(changes, error, message):
    arguments = {"input_ids": tokens(2, 4), "group_ids": groups.left_to_right(4).expand(2, -1), **changes}
    with pytest.raises(error, match=message):
        objective.log_likelihood(MODEL, **arguments)
