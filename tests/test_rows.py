"""rows.py: a plan holds all that depends on values; what computes it depends on shapes alone."""

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import same, strong_model
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from a3mini import masks, rows
from a3mini.attention import Visibility
from a3mini.rows import FROM_VECTOR, QUERY_STARTS, Plan, Slots, Starts

ASKED = {
    "labels": dict(content_logits=False, return_logits=False, output_attentions=False),
    "logits": dict(content_logits=True, return_logits=True, output_attentions=False),
    "attentions": dict(content_logits=False, return_logits=True, output_attentions=True),
}
GROUP_IDS = torch.tensor([[0, 2, 1, 2, 3], [1, 1, 2, 3, 3], [3, 0, 1, -1, -1]])
IDS = torch.tensor([[5, 1, 2, 3, 4], [1, 1, 0, 2, 6], [3, 3, 2, 0, 0]])
VALUES = (DataDependentOutputException, DynamicOutputShapeException)


@pytest.fixture(scope="module", params=QUERY_STARTS)
def model(request):
    return strong_model(query_start=request.param)


def plan_of(labels, keep_content, in_order=False, query_start="vector") -> Plan:
    group_ids, counted = rows.check(IDS, GROUP_IDS, labels, laws.TINY["vocab_size"], 32)
    return Plan.of(IDS, group_ids, labels, counted, group_ids > 0, keep_content, in_order, query_start)


def without_values(model, kernel: str, asked: dict):
    """``compute`` on tensors that have shapes and no values: what asks for a value is an error."""
    keep_content = asked["content_logits"] or asked["output_attentions"]
    plan = plan_of(IDS, keep_content, query_start=model.config.query_start)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = torch.utils._pytree.tree_map_only(torch.Tensor, mode.from_tensor, plan)
        return model.compute(fake, kernel, **asked)


@pytest.mark.parametrize(
    ("kernel", "asked"), [("sdpa", "labels"), ("sdpa", "logits"), ("eager", "logits"), ("eager", "attentions")]
)
def test_computing_a_plan_needs_no_values(model, kernel, asked):
    out = without_values(model, kernel, ASKED[asked])
    assert out.log_probs.shape == IDS.shape and out.loss.shape == ()
    assert out.logits is None or out.logits.shape == (*IDS.shape, laws.TINY["vocab_size"])
    torch.autograd.grad(out.loss, list(model.parameters()), allow_unused=True)  # nor does the backward pass


def mutate_condition(monkeypatch):
    """A mask is looked at, as ``Visibility.of`` does."""
    monkeypatch.setattr(
        Visibility,
        "between",
        classmethod(
            lambda cls, content, query, empty: cls.of(
                torch.cat((masks.may_attend(content, content, True), masks.may_attend(query, content, False)), dim=1)
            )
        ),
    )


def mutate_boolean_index(monkeypatch):
    """Slots that are not valid are left out instead of put aside."""

    def put_back(self, values, length):
        row, slot = self.valid.nonzero(as_tuple=True)
        return values.new_zeros(len(values), length, *values.shape[2:]).index_put(
            (row, self.index[row, slot]), values[self.valid]
        )

    monkeypatch.setattr(Slots, "put_back", put_back)


@pytest.mark.parametrize("mutate", [mutate_condition, mutate_boolean_index])
def test_a_value_that_is_asked_for_is_caught(model, mutate, monkeypatch):
    plan = plan_of(IDS, keep_content=True, query_start=model.config.query_start)
    right = model.compute(plan, "sdpa", **ASKED["logits"])
    mutate(monkeypatch)
    same(model.compute(plan, "sdpa", **ASKED["logits"]).logits, right.logits)  # the same result, at another price
    with pytest.raises(VALUES):
        without_values(model, "sdpa", ASKED["logits"])


# What query rows start from


@settings(max_examples=150, deadline=None)
@given(
    group_rows=st.lists(st.lists(st.integers(-1, 4), min_size=6, max_size=6), min_size=1, max_size=3),
    start=st.sampled_from(QUERY_STARTS),
    in_order=st.booleans(),
    some_seen=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_starts_against_a_loop(group_rows, start, in_order, some_seen, seed):
    """In slots of either order, whichever positions are asked, and where only some of the tokens are there yet."""
    group_ids, generator = torch.tensor(group_rows), torch.Generator().manual_seed(seed)
    ids = torch.randint(11, group_ids.shape, generator=generator)
    seen = torch.rand(group_ids.shape, generator=generator) < 0.6 if some_seen else None
    asked = (group_ids > 0) & (torch.rand(group_ids.shape, generator=generator) < 0.8)
    query = Slots.where(asked, group_ids if in_order else None)
    found = Starts.of(start, query, ids, group_ids, seen)
    tokens, places = laws.starts_by_loop(start, ids, group_ids, seen)
    assert torch.equal(found.positions[query.valid], places.gather(1, query.index)[query.valid])
    if start == "vector":
        assert found.tokens is None  # no embedding is looked up
    else:
        assert torch.equal(found.tokens[query.valid], tokens.gather(1, query.index)[query.valid])
        assert (found.tokens[~query.valid] == FROM_VECTOR).all()


_ = FROM_VECTOR


@pytest.mark.parametrize(
    ("group_ids", "tokens", "positions"),
    [
        ([0, 1, 2, 3], [_, 5, 6, 7], [0, 0, 1, 2]),  # left to right: always the token before
        ([1, 2, 3, 4], [_, 5, 6, 7], [0, 0, 1, 2]),  # position 0 has none
        ([0, 1, 1, 2], [_, 5, _, 7], [0, 0, 2, 2]),  # neighbours of one group do not know each other
        ([0, 3, 2, 1], [_, 5, _, _], [0, 0, 2, 3]),  # the token before comes later
        ([0, -1, 1, 2], [_, _, _, 7], [0, 1, 2, 2]),  # padding before, though a given token stands before that
        ([-1, -1, 0, 1], [_, _, _, 7], [0, 1, 2, 2]),  # padding on the left
        ([1, 0, 2, 0], [_, _, 6, _], [0, 1, 1, 3]),  # given tokens count wherever they stand, and start nothing
    ],
)
def test_starts_by_example(group_ids, tokens, positions):
    ids, group_ids = torch.tensor([[5, 6, 7, 8]]), torch.tensor([group_ids])
    query = Slots.where(torch.ones_like(ids, dtype=torch.bool))
    found = Starts.of("previous", query, ids, group_ids)
    predicted = group_ids > 0
    assert torch.equal(found.tokens[predicted], torch.tensor([tokens])[predicted])
    assert torch.equal(found.positions[predicted], torch.tensor([positions])[predicted])
    assert (found.tokens[~predicted] == FROM_VECTOR).all()  # a given token or padding starts from nothing


def test_a_token_that_is_not_seen_starts_nothing():
    """It stands in an earlier group, but the model has not read it yet."""
    ids, group_ids = torch.tensor([[5, 6, 7]]), torch.tensor([[0, 1, 2]])
    seen = torch.tensor([[True, False, False]])
    found = Starts.of("previous", Slots.where(group_ids > 0), ids, group_ids, seen)
    assert found.tokens.tolist() == [[5, FROM_VECTOR]] and found.positions.tolist() == [[0, 2]]


def test_a_start_that_was_not_read_would_be_caught(monkeypatch):
    laws.mutate_starts(monkeypatch, "if seen is not None:", "if False:")
    with pytest.raises(AssertionError):
        test_a_token_that_is_not_seen_starts_nothing()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(-1, 4), min_size=6, max_size=6), min_size=1, max_size=3))
def test_empty_rows_are_those_of_the_masks(group_rows):
    group_ids = torch.tensor(group_rows)
    order = torch.rand(group_ids.shape, generator=torch.Generator().manual_seed(0)).argsort(-1)  # slots in any order
    content, query = group_ids, group_ids.gather(1, order)
    mask = torch.cat((masks.may_attend(content, content, True), masks.may_attend(query, content, False)), dim=1)
    found, empty = rows.empty_rows(content, query), ~mask.any(-1, keepdim=True)
    assert torch.equal(empty if found is None else found, empty) and (found is None) == (not empty.any())


@pytest.mark.parametrize("in_order", [False, True])
def test_labels_stand_at_their_slots(in_order):
    """By a plain loop; nothing is asked where a slot only fills up, or where a label does not count."""
    labels = IDS.clone()
    labels[0, 1] = rows.IGNORED_LABEL
    plan = plan_of(labels, keep_content=False, in_order=in_order)
    for row, slot in torch.cartesian_prod(*map(torch.arange, plan.query.index.shape)).tolist():
        t = int(plan.query.index[row, slot])
        counts = plan.query.valid[row, slot] and GROUP_IDS[row, t] > 0 and labels[row, t] != rows.IGNORED_LABEL
        assert plan.labels[row, slot] == (labels[row, t] if counts else rows.IGNORED_LABEL)
    assert (plan.labels != rows.IGNORED_LABEL).sum() == (GROUP_IDS > 0).sum() - 1
