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
from a3mini.rows import Plan, Slots

ASKED = {
    "labels": dict(content_logits=False, return_logits=False, output_attentions=False),
    "logits": dict(content_logits=True, return_logits=True, output_attentions=False),
    "attentions": dict(content_logits=False, return_logits=True, output_attentions=True),
}
GROUP_IDS = torch.tensor([[0, 2, 1, 2, 3], [1, 1, 2, 3, 3], [3, 0, 1, -1, -1]])
IDS = torch.tensor([[5, 1, 2, 3, 4], [1, 1, 0, 2, 6], [3, 3, 2, 0, 0]])
VALUES = (DataDependentOutputException, DynamicOutputShapeException)


@pytest.fixture(scope="module")
def model():
    return strong_model()


def plan_of(labels, keep_content, in_order=False) -> Plan:
    group_ids, counted = rows.check(IDS, GROUP_IDS, labels, laws.TINY["vocab_size"], 32)
    return Plan.of(IDS, group_ids, labels, counted, group_ids > 0, keep_content, in_order)


def without_values(model, kernel: str, asked: dict):
    """``compute`` on tensors that have shapes and no values: what asks for a value is an error."""
    plan = plan_of(IDS, asked["content_logits"] or asked["output_attentions"])
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
    plan = plan_of(IDS, keep_content=True)
    right = model.compute(plan, "sdpa", **ASKED["logits"])
    mutate(monkeypatch)
    same(model.compute(plan, "sdpa", **ASKED["logits"]).logits, right.logits)  # the same result, at another price
    with pytest.raises(VALUES):
        without_values(model, "sdpa", ASKED["logits"])


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
def test_labels_find_their_slots_and_places(in_order):
    """By a plain loop: each label that counts, by batch row, then by position."""
    labels = IDS.clone()
    labels[0, 1] = rows.IGNORED_LABEL
    plan = plan_of(labels, keep_content=False, in_order=in_order)
    expected = [
        (row, t) for row in range(3) for t in range(5) if GROUP_IDS[row, t] > 0 and labels[row, t] != rows.IGNORED_LABEL
    ]
    assert plan.label_places.tolist() == [row * 5 + t for row, t in expected]
    assert plan.labels.tolist() == [int(labels[row, t]) for row, t in expected]
    slots = plan.query.index.shape[1]
    assert [(s // slots, int(plan.query.index[s // slots, s % slots])) for s in plan.label_slots.tolist()] == expected
    assert plan.query.valid.flatten()[plan.label_slots].all()
