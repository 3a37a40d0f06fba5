"""groups.py: constructors against plain loops, validation, relabelling."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from a3mini import groups, masks

lengths = st.integers(1, 20)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_examples():
    assert groups.left_to_right(4).tolist() == [0, 1, 2, 3]
    assert groups.blocks(6, 2).tolist() == [0, 1, 1, 2, 2, 3]
    assert groups.blocks(5, 2, given=2).tolist() == [0, 0, 1, 1, 2]
    unknown = torch.tensor([False, True, True, False, True])
    assert groups.two_groups(unknown).tolist() == [0, 1, 1, 0, 1]
    assert groups.infill(unknown).tolist() == [0, 1, 2, 0, 3]
    assert groups.infill(unknown, size=2).tolist() == [0, 1, 1, 0, 2]
    padding = torch.tensor([False, False, False, True, False])
    assert groups.infill(unknown, padding=padding).tolist() == [0, 1, 2, -1, 3]
    assert groups.two_groups(unknown, padding=padding).tolist() == [0, 1, 1, -1, 1]
    assert groups.from_sets(6, [0, 1, 2], [4, 5], [3]).tolist() == [1, 1, 1, 3, 2, 2]
    assert groups.from_sets(4, [2], given=[0]).tolist() == [0, -1, 1, -1]


@given(length=lengths, size=st.integers(1, 6), data=st.data())
def test_blocks_and_shuffled_against_loops(length, size, data):
    given_tokens = data.draw(st.integers(0, length))
    expected = [0 if t < given_tokens else (t - given_tokens) // size + 1 for t in range(length)]
    assert groups.blocks(length, size, given_tokens).tolist() == expected
    shuffled = groups.shuffled(length, size, given_tokens, generator=generator())
    assert shuffled[:given_tokens].tolist() == [0] * given_tokens
    assert sorted(shuffled.tolist()) == sorted(expected)


@given(
    rows=st.lists(st.lists(st.sampled_from("kup"), min_size=7, max_size=7), min_size=1, max_size=4),
    size=st.integers(1, 4),
    order=st.sampled_from(["left_to_right", "random"]),
)
def test_infill_against_a_loop(rows, size, order):
    unknown = torch.tensor([[kind == "u" for kind in row] for row in rows])
    padding = torch.tensor([[kind == "p" for kind in row] for row in rows])
    made = groups.infill(unknown, size, order, padding, generator=generator())
    assert made.dtype == torch.int64
    for row, ids in zip(rows, made.tolist(), strict=True):
        assert all((g == 0) == (k == "k") and (g == -1) == (k == "p") for k, g in zip(row, ids, strict=True))
        predicted = [g for g in ids if g > 0]
        expected = [rank // size + 1 for rank in range(len(predicted))]
        assert (predicted if order == "left_to_right" else sorted(predicted)) == expected


def test_random_orders_come_from_the_generator_and_differ_between_rows():
    unknown = torch.ones(8, 12, dtype=torch.bool)
    first, again = (groups.infill(unknown, order="random", generator=generator(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert len({tuple(row) for row in first.tolist()}) == 8
    assert torch.equal(groups.shuffled(12, 2, generator=generator(3)), groups.shuffled(12, 2, generator=generator(3)))


def test_random_orders_are_uniform():
    orders = groups.infill(torch.ones(6000, 3, dtype=torch.bool), order="random", generator=generator())
    counts = torch.unique(orders, dim=0, return_counts=True)[1]
    assert len(counts) == 6
    assert ((counts - 1000).float().pow(2) / 1000).sum() < 20.5  # chi-squared, 5 degrees of freedom, p = 0.001


def test_every_constructor_takes_a_generator():
    unknown = torch.tensor([True, False])
    for made in (
        groups.left_to_right(2, generator=generator()),
        groups.blocks(2, 1, generator=generator()),
        groups.shuffled(2, 1, generator=generator()),
        groups.two_groups(unknown, generator=generator()),
        groups.infill(unknown, generator=generator()),
        groups.from_sets(2, [0, 1], generator=generator()),
    ):
        assert made.shape == (2,)


@given(st.lists(st.integers(-1, 50), min_size=1, max_size=12))
def test_relabel_keeps_the_order_and_is_contiguous(ids):
    made = groups.relabel(torch.tensor(ids)).tolist()
    ranks = {group: rank for rank, group in enumerate(sorted({g for g in ids if g > 0}), start=1)}
    assert made == [ranks.get(group, group) for group in ids]


@given(st.lists(st.integers(-1, 5), min_size=1, max_size=12))
def test_given_in_order(ids):
    """Against a loop: a given token sees the given ones on its left; a predicted one sees what it saw before."""
    before = torch.tensor(ids)
    after, known = groups.given_in_order(before)
    assert known.tolist() == [group == 0 for group in ids]
    assert [group == -1 for group in after.tolist()] == [group == -1 for group in ids]
    content, query = masks.content_mask(after), masks.query_mask(after)
    old_content, old_query = masks.content_mask(before), masks.query_mask(before)
    for i, group in enumerate(ids):
        if group == 0:
            assert content[i].tolist() == [other == 0 and j <= i for j, other in enumerate(ids)]
        else:
            assert torch.equal(content[i], old_content[i]) and torch.equal(query[i], old_query[i])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: groups.left_to_right(0), ValueError, "length must be an integer, at least 1; got 0"),
        (lambda: groups.left_to_right(2.5), ValueError, "got 2.5"),
        (lambda: groups.left_to_right(3, given=4), ValueError, "given must be an integer, from 0 to 3"),
        (lambda: groups.blocks(3, 0), ValueError, "size must be an integer, at least 1; got 0"),
        (lambda: groups.shuffled(3, True), ValueError, "got True"),
        (lambda: groups.two_groups(torch.tensor([1, 0])), TypeError, "unknown must be a boolean"),
        (lambda: groups.two_groups([True]), TypeError, "got list"),
        (lambda: groups.infill(torch.zeros(2, 2, 2, dtype=torch.bool)), ValueError, r"\(2, 2, 2\)"),
        (lambda: groups.infill(torch.zeros(0, dtype=torch.bool)), ValueError, "T at least 1"),
        (lambda: groups.infill(torch.tensor([True]), order="right_to_left"), ValueError, "right_to_left"),
        (lambda: groups.infill(torch.tensor([True]), size=-1), ValueError, "got -1"),
        (
            lambda: groups.infill(torch.tensor([True]), padding=torch.tensor([True])),
            ValueError,
            "1 positions are both unknown and padding",
        ),
        (lambda: groups.infill(torch.tensor([True]), padding=torch.tensor([True, True])), ValueError, "shape"),
        (lambda: groups.from_sets(3, [0, 3]), ValueError, "position 3 is outside 0 .. 2"),
        (lambda: groups.from_sets(3, [0], [0]), ValueError, "position 0 stands in two sets"),
        (lambda: groups.check(torch.tensor([0.0])), TypeError, "torch.float32"),
        (lambda: groups.check(torch.tensor([True])), TypeError, "torch.bool"),
        (lambda: groups.check([0, 1]), TypeError, "got list"),
        (lambda: groups.check(torch.tensor([0, -2])), ValueError, "holds -2"),
        (lambda: groups.check(torch.tensor(3)), ValueError, "shape"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
