"""groups.py: constructors against plain loops, validation, relabelling."""

import inspect
import itertools
import re
from types import ModuleType

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
    assert groups.strided(8, 3).tolist() == [0, 1, 2, 3, 1, 2, 1, 2]
    assert groups.strided(8, 3, given=2).tolist() == [0, 0, 1, 2, 1, 2, 1, 2]
    assert groups.strided(4, 9).tolist() == [0, 1, 1, 1]
    blanks = torch.tensor([False, True, True, True, True, True, False, True, False, True, True, True])
    assert groups.infill(blanks, 2, "strided").tolist() == [0, 1, 2, 3, 1, 2, 0, 4, 0, 5, 6, 5]
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


def strided_by_loop(row: str, streams: int) -> list[int]:
    """Oracle: blank after blank, each cut as PyTorch cuts, and the i-th of each piece together."""
    ids, done = [{"k": 0, "p": -1}.get(kind) for kind in row], 0
    for blank in re.finditer("u+", row):
        places = torch.arange(*blank.span())
        pieces = [piece.tolist() for piece in places.tensor_split(min(streams, len(places)))]
        for piece in pieces:
            for step, place in enumerate(piece, start=1):
                ids[place] = done + step
        done += len(pieces[0])
    return ids


@given(
    rows=st.lists(st.lists(st.sampled_from("kuuup"), min_size=12, max_size=12), min_size=1, max_size=3),
    streams=st.integers(1, 14),
)
def test_strided_blanks_against_a_loop(rows, streams):
    unknown = torch.tensor([[kind == "u" for kind in row] for row in rows])
    padding = torch.tensor([[kind == "p" for kind in row] for row in rows])
    made = groups.infill(unknown, streams, "strided", padding)
    assert made.dtype == torch.int64
    assert made.tolist() == [strided_by_loop("".join(row), streams) for row in rows]
    alone = [groups.infill(u, streams, "strided", p) for u, p in zip(unknown, padding, strict=True)]
    assert torch.equal(made, torch.stack(alone))  # (T,) as (B, T)
    assert torch.equal(made.clamp(min=0), groups.infill(unknown, streams, "strided"))


@given(length=lengths, streams=st.integers(1, 24), data=st.data())
def test_strided_is_what_it_says(length, streams, data):
    """Pieces of one length, or one longer, each in order; far apart; and one stream is left to right."""
    given_tokens = data.draw(st.integers(0, length))
    made = groups.strided(length, streams, given_tokens)
    assert made.shape == (length,) and made[:given_tokens].tolist() == [0] * given_tokens
    rest = made[given_tokens:].tolist()
    starts = [place for place, group in enumerate(rest) if group == 1]
    pieces = [rest[a:b] for a, b in itertools.pairwise([*starts, len(rest)])]
    assert len(pieces) == min(streams, len(rest)) == rest.count(1)
    assert all(piece == list(range(1, len(piece) + 1)) for piece in pieces)
    sizes = [len(piece) for piece in pieces]
    assert not sizes or (sizes == sorted(sizes, reverse=True) and sizes[0] - sizes[-1] <= 1)
    assert all(rest.count(group) <= streams for group in rest)
    places = [[place for place, other in enumerate(rest) if other == group] for group in set(rest)]
    if sizes and sizes[-1] > 1:  # neighbours are never drawn together, unless each piece is a single token
        assert all(b - a >= sizes[-1] for at in places for a, b in itertools.pairwise(at))
    if streams == 1:
        assert made.tolist() == groups.left_to_right(length, given_tokens).tolist()


def test_strided_draws_nothing():
    unknown, before, source = torch.ones(2, 9, dtype=torch.bool), torch.get_rng_state(), generator()
    state = source.get_state()
    first = groups.strided(9, 3, generator=source), groups.infill(unknown, 3, "strided", generator=source)
    again = groups.strided(9, 3), groups.infill(unknown, 3, "strided")
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(source.get_state(), state)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rank % (short + 1)", "rank % short"),  # the longer pieces are cut too short
        (".cumsum(-1) - steps", ".cumsum(-1)"),  # the first blank begins late
        ("steps = short + (longer > 0)", "steps = short"),  # blanks overlap by one step
        ("size.clamp(max=streams)", "size.clamp(max=streams + 1)"),  # one piece too many
        ("blank = first.long().cumsum(-1) * unknown", "blank = unknown.long()"),  # all blanks are one
        ("first = unknown & ~F.pad(unknown, (1, -1), value=False)", "first = unknown"),  # each position is one
    ],
)
def test_the_loop_catches_other_cuts(old, new):
    source = inspect.getsource(groups)
    assert source.count(old) == 1, f"the mutant does not fit the code any more: {old}"
    mutant = ModuleType("mutant")
    exec(source.replace(old, new), mutant.__dict__)
    rows = ["uuuuukuuuu", "uukuuuuuuu"]
    unknown = torch.tensor([[kind == "u" for kind in row] for row in rows])
    assert mutant.infill(unknown, 3, "strided").tolist() != [strided_by_loop(row, 3) for row in rows]


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
        groups.strided(2, 1, generator=generator()),
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
        (lambda: groups.strided(0, 1), ValueError, "length must be an integer, at least 1; got 0"),
        (lambda: groups.strided(3, 0), ValueError, "streams must be an integer, at least 1; got 0"),
        (lambda: groups.strided(3, 1.5), ValueError, "streams must be an integer, at least 1; got 1.5"),
        (lambda: groups.strided(3, 2, given=4), ValueError, "given must be an integer, from 0 to 3"),
        (lambda: groups.infill(torch.tensor([True]), 0, "strided"), ValueError, "size must be an integer"),
        (
            lambda: groups.infill(torch.tensor([True]), 1, "strided", torch.tensor([True])),
            ValueError,
            "1 positions are both unknown and padding",
        ),
        (lambda: groups.two_groups(torch.tensor([1, 0])), TypeError, "unknown must be a boolean"),
        (lambda: groups.two_groups([True]), TypeError, "got list"),
        (lambda: groups.infill(torch.zeros(2, 2, 2, dtype=torch.bool)), ValueError, r"\(2, 2, 2\)"),
        (lambda: groups.infill(torch.zeros(0, dtype=torch.bool)), ValueError, "T at least 1"),
        (
            lambda: groups.infill(torch.tensor([True]), order="right_to_left"),
            ValueError,
            "order must be one of left_to_right, random, strided; got 'right_to_left'",
        ),
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
