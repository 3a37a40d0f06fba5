"""masks.py: law 5, a loop written like the definition, and what the masks must never allow."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from a3mini import groups, masks

group_lists = st.lists(st.integers(-1, 6), min_size=1, max_size=10)


def by_loop(ids: list[int], own_group: bool) -> list[list[bool]]:
    return [[gj >= 0 and (gj < gi or (own_group and gj == gi)) for gj in ids] for gi in ids]


@given(group_lists)
def test_masks_equal_the_loop(ids):
    group_ids = torch.tensor(ids)
    assert masks.content_mask(group_ids).tolist() == by_loop(ids, own_group=True)
    assert masks.query_mask(group_ids).tolist() == by_loop(ids, own_group=False)


@given(st.lists(st.lists(st.integers(-1, 4), min_size=5, max_size=5), min_size=1, max_size=4))
def test_batches_are_rows(rows):
    batch = torch.tensor(rows)
    for make in (masks.content_mask, masks.query_mask):
        assert torch.equal(make(batch), torch.stack([make(row) for row in batch]))


@given(group_lists)
def test_only_the_order_of_group_ids_matters(ids):
    group_ids = torch.tensor(ids)
    for other in (groups.relabel(group_ids), torch.where(group_ids > 0, 7 * group_ids + 3, group_ids)):
        assert torch.equal(masks.content_mask(group_ids), masks.content_mask(other))
        assert torch.equal(masks.query_mask(group_ids), masks.query_mask(other))


@given(group_lists)
def test_information_cannot_flow_back_through_layers(ids):
    """What content may see is closed under looking again, so depth adds nothing that the masks do not show."""
    group_ids = torch.tensor(ids)
    content, query = masks.content_mask(group_ids).int(), masks.query_mask(group_ids).int()
    assert torch.equal((content @ content > 0) | (content > 0), content > 0)
    assert torch.equal(query @ content > 0, query > 0)


def test_special_cases():
    length = 6
    one_by_one = groups.left_to_right(length)
    assert torch.equal(masks.content_mask(one_by_one), torch.ones(length, length).tril().bool())  # a causal mask
    assert torch.equal(masks.query_mask(one_by_one), torch.ones(length, length).tril(-1).bool())
    given_and_unknown = groups.two_groups(torch.tensor([False, True, False, True]))
    seen = torch.tensor([True, False, True, False])
    assert torch.equal(masks.query_mask(given_and_unknown)[1], seen)
    assert masks.query_mask(given_and_unknown)[0].sum() == 0


def test_the_papers_example():
    """Counted from 0: G1 = {0, 1, 2}, G2 = {4, 5}, G3 = {3}."""
    group_ids = groups.from_sets(6, [0, 1, 2], [4, 5], [3])
    query = masks.query_mask(group_ids)
    assert query.sum(-1).tolist() == [0, 0, 0, 5, 3, 3]
    assert not query[3, 3] and query[3, 5] and not query[4, 3]
    assert masks.content_mask(group_ids).sum(-1).tolist() == [3, 3, 3, 6, 5, 5]


@pytest.mark.parametrize("make", [masks.content_mask, masks.query_mask])
def test_bad_group_ids(make):
    with pytest.raises(TypeError, match="float"):
        make(torch.zeros(3))
    with pytest.raises(ValueError, match="-4"):
        make(torch.tensor([0, -4]))
