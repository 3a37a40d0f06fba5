"""curriculum.py: random numbers, valid groups, one grouping per example, the seed, exact boundaries, files."""

import inspect
import itertools
import json
import math
from fractions import Fraction

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from a3mini import groups
from a3mini.train import Curriculum, Grouping, Part, Stage, curriculum, generator_for, uniform
from a3mini.train.curriculum import CHOICES, KINDS, PRESETS

BITS = 2**64


def numbers_of(examples, width: int = 40, seed: int = 0) -> torch.Tensor:
    return uniform(seed, torch.tensor(list(examples)), width + CHOICES)


def simple(*shares, **part) -> Curriculum:
    return Curriculum(tuple(Stage(f"stage {n}", share, (Part("blocks", **part),)) for n, share in enumerate(shares)))


# Random numbers


class SplitMix64:
    """The generator as it is published, one number after another, in Python's integers."""

    def __init__(self, seed: int):
        self.state = seed % BITS

    def next(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) % BITS
        z = self.state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % BITS
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % BITS
        return z ^ (z >> 31)


def test_the_oracle_is_the_published_generator():
    """The first numbers from the seed 1234567, which many implementations quote."""
    oracle = SplitMix64(1234567)
    assert [oracle.next() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def numbers_by_hand(seed: int, example: int, count: int) -> list[float]:
    of_seed = SplitMix64(seed).next()
    of_example = SplitMix64(SplitMix64(of_seed + example).next())
    return [(of_example.next() >> 11) / 2**53 for _ in range(count)]


@settings(max_examples=50, deadline=None)
@given(
    st.integers(-(2**63), 2**64 - 1), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4),
    st.integers(1, 9), st.integers(0, 9),
)  # fmt: skip
def test_uniform_is_splitmix64(seed, examples, count, more):
    found = uniform(seed, torch.tensor(examples), count)
    assert found.dtype == torch.float64 and found.shape == (len(examples), count)
    assert found.tolist() == [numbers_by_hand(seed, example, count) for example in examples]
    # no number depends on how many there are, or on the other examples
    longer = uniform(seed, torch.tensor(examples), count + more)
    assert torch.equal(longer[:, :count], found)
    assert torch.equal(uniform(seed, torch.tensor(examples[-1:]), count), found[-1:])


def check_uniform(found: torch.Tensor) -> None:
    """Kolmogorov's distance, and counts in 64 bins; either is larger by chance once in a million."""
    values, count = found.flatten().sort().values, found.numel()
    assert values[0] >= 0 and values[-1] < 1
    steps = torch.arange(count + 1, dtype=torch.float64) / count
    distance = torch.maximum((steps[1:] - values).max(), (values - steps[:-1]).max())
    assert distance < 2.7 / math.sqrt(count)
    bins = torch.bincount((values * 64).long(), minlength=64)
    chi_square = ((bins - count / 64) ** 2 / (count / 64)).sum()
    assert 23 < chi_square < 134  # 63 degrees of freedom


def check_unrelated(one: torch.Tensor, other: torch.Tensor) -> None:
    """Two lists of uniform numbers do not go together; nor do they when one of them is folded at its middle."""
    for first in (one, (2 * one - 1).abs()):
        related = torch.corrcoef(torch.stack((first.flatten(), other.flatten())))[0, 1]
        assert abs(related) < 5 / math.sqrt(one.numel())


def check_numbers() -> None:
    """Uniform, and unrelated to those of the neighbours, in each of three directions and both diagonals."""
    found = torch.stack([uniform(seed, torch.arange(50), 40) for seed in range(20)])  # (seed, example, place)
    check_uniform(found)
    check_uniform(found[0, :, 1])  # few: those that choose a size
    assert len(found.unique()) == found.numel()
    for axis in range(3):
        size = found.shape[axis]
        check_unrelated(found.narrow(axis, 0, size - 1), found.narrow(axis, 1, size - 1))
    check_unrelated(found[1:, :-1], found[:-1, 1:])
    check_unrelated(found[:, 1:, :-1], found[:, :-1, 1:])


def test_random_numbers_are_uniform_and_unrelated():
    check_numbers()
    check_uniform(uniform(-1, torch.arange(-500, 500) * 2**40, 50))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("_mix(_mix(torch.tensor(", "_mix((torch.tensor("),  # seed and example add up
        ("_mix(key[:, None]", "(key[:, None]"),  # a plain counter
        ("_mix(_mix(torch.tensor(_signed(seed % 2**64)) + step) + examples + step)",
         "_mix(torch.tensor(_signed(seed % 2**64)) + step) + examples * step"),  # the next example is one place ahead
        ("arange(1, count + 1) * step", "arange(1, count + 1) * 0"),  # one number for all places
        (", 11).double()", ", 12).double()"),  # half of the interval
        ("_shift(_mix(key[:, None] + torch.arange(1, count + 1) * step), 11)",
         "(_mix(key[:, None] + torch.arange(1, count + 1) * step) >> 11)"),  # with a sign
    ],
)  # fmt: skip
def test_the_checks_catch_bad_random_numbers(old, new, monkeypatch):
    replace_in(uniform, old, new, monkeypatch)
    monkeypatch.setitem(globals(), "uniform", curriculum.uniform)
    with pytest.raises(AssertionError):
        check_numbers()


def replace_in(function, old: str, new: str, monkeypatch) -> None:
    """A mutant: the function of curriculum.py with one thing in its source changed."""
    source, space = inspect.getsource(function), {}
    assert source.count(old) == 1, old
    exec(source.replace(old, new), vars(curriculum), space)
    monkeypatch.setattr(curriculum, function.__name__, space[function.__name__])


# Groupings


def check_groups(group_ids, kind, size, sentence_ends):
    """The groups of one row without padding are what the kind promises, the first token is given."""
    length = len(group_ids)
    assert groups.check(group_ids).shape == (length,) and group_ids[0] == 0 and group_ids.min() == 0
    used, counts = group_ids[group_ids > 0].unique(return_counts=True)
    assert len(used) and used.tolist() == list(range(1, len(used) + 1))
    assert (counts <= size).all() and (counts.diff() <= 0).all()
    if kind == "strided":
        assert torch.equal(group_ids, groups.strided(length, size))
    else:
        assert (counts[:-1] == size).all()
    if kind in ("blocks", "shuffled", "strided"):
        assert (group_ids == 0).sum() == 1
    if kind not in ("shuffled", "strided"):
        at = (group_ids > 0).nonzero().flatten()
        assert torch.equal(at, torch.arange(int(at[0]), int(at[-1]) + 1)), "the unknown tokens are contiguous"
        assert (group_ids[at].diff() >= 0).all(), "they are filled from left to right"
        if kind == "sentence" and sentence_ends.sum() >= 2:
            assert sentence_ends[at[0] - 1] and sentence_ends[at].nonzero().flatten().tolist() == [len(at) - 1]
        elif kind != "blocks":
            assert max(1, round(length / 16)) <= len(at) <= max(1, round(length / 2))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 9),
    st.lists(st.booleans(), min_size=2, max_size=40),
    st.integers(0, 2**40),
)
def test_groups_are_valid_and_the_first_token_is_given(kind, size, ends, seed):
    ends = torch.tensor(ends)
    group_ids = Grouping(kind, size).draw(len(ends), ends, numbers_of([seed], len(ends))[0])
    check_groups(group_ids, kind, size, ends)


def test_a_blank_can_stand_anywhere():
    ends = torch.zeros(8, dtype=torch.bool)
    seen = sum(Grouping("span").draw(8, ends, numbers) > 0 for numbers in numbers_of(range(300), 8))
    assert seen[0] == 0 and (seen[1:] > 10).all()


def row_by_hand(kind: str, size: int, length: int, ends: list[bool], numbers: list[float]) -> list[int]:
    """Group ids of one row, in plain Python; -1 behind its ``length`` real tokens."""
    first, second, own = numbers[2], numbers[3], numbers[4:]
    found = [0] * length + [-1] * (len(ends) - length)
    blank = range(1, length)
    if kind in ("span", "sentence"):
        shortest, longest = max(1, round(length / 16)), min(max(1, round(length / 2)), length - 1)
        wide = shortest + int(first * (longest - shortest + 1))
        start = 1 + int(second * (length - wide))
        blank = range(start, start + wide)
        stops = [place for place in range(length) if ends[place]]
        if kind == "sentence" and len(stops) > 1:
            which = int(first * (len(stops) - 1))
            blank = range(stops[which] + 1, stops[which + 1] + 1)
    if kind == "strided":
        pieces = min(size, len(blank))
        ahead = iter(blank)
        for piece in range(pieces):  # the first ones are longer by one, if they cannot all be alike
            for step in range(len(blank) // pieces + (piece < len(blank) % pieces)):
                found[next(ahead)] = step + 1
        return found
    order = sorted(blank, key=lambda place: own[place]) if kind == "shuffled" else blank
    for place, token in enumerate(order):
        found[token] = place // size + 1
    return found


def check_rows(seed: int, rows: int = 200, width: int = 40) -> None:
    """Rows of all kinds, sizes and lengths, drawn at once, are those that are drawn one by one in plain Python."""
    generator = torch.Generator().manual_seed(seed)
    kinds, sizes = (torch.randint(low, high, (rows,), generator=generator) for low, high in ((0, len(KINDS)), (1, 10)))
    lengths = torch.randint(2, width + 1, (rows,), generator=generator)
    often = torch.rand(rows, 1, generator=generator) ** 2  # no sentence end, few, or many
    ends = torch.rand(rows, width, generator=generator) < often  # behind the real tokens, too: nobody reads those
    numbers = numbers_of(range(rows), width, seed)
    choices = torch.rand(rows, CHOICES, generator=generator)
    extremes = torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)[(choices > 0.5).long()]
    numbers[:, :CHOICES] = extremes.where(choices.max(-1, keepdim=True).values > 0.9, numbers[:, :CHOICES])
    found = curriculum.draw_rows(kinds, sizes, lengths, ends, numbers)
    assert found.dtype == torch.int64
    of_rows = zip(*(values.tolist() for values in (found, kinds, sizes, lengths, ends, numbers)), strict=True)
    for group_ids, kind, *others in of_rows:
        assert group_ids == row_by_hand(KINDS[kind], *others), (KINDS[kind], *others[:2])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 70))
def test_rows_are_those_of_a_plain_loop(seed, width):
    check_rows(seed, 60, width)


def test_rows_that_mutants_do_not_pass():
    check_rows(0)


MUTANTS = [
    ("draw_rows", "sentence_ends & real", "sentence_ends"),
    ("draw_rows", "argsort(-1).argsort(-1)", "argsort(-1)"),
    ("draw_rows", "numbers[:, CHOICES : CHOICES + place.shape[1]]", "numbers[:, : place.shape[1]]"),
    ("draw_rows", "numbers[:, CHOICES : CHOICES + place.shape[1]]", "numbers[:1, CHOICES : CHOICES + place.shape[1]]"),
    ("draw_rows", "numbers[:, 2:3], numbers[:, 3:4]", "numbers[:, 3:4], numbers[:, 2:3]"),
    ("draw_rows", "masked_fill(~unknown, 2.0)", "clone()"),
    ("draw_rows", "div(size,", "div(size.amax(),"),
    ("draw_rows", 'is_kind("span", "sentence"), in_blank', 'is_kind("span", "sentence", "blocks"), in_blank'),
    ("draw_rows", "found.masked_fill(~real, groups.PADDING)", "found"),
    ("_blanks", "(sentences >= 1)", "(sentences >= 0)"),
    ("_blanks", "(sentences >= 1)", "(sentences >= 2)"),
    ("_blanks", "chosen = 1 + ", "chosen = 0 + "),
    ("_blanks", "first * sentences", "second * sentences"),
    ("_blanks", "amax(-1, keepdim=True) + 1", "amax(-1, keepdim=True)"),
    ("_blanks", "F.pad(ends.long().cumsum(-1), (1, -1))", "ends.long().cumsum(-1)"),
    ("_blanks", "longest, length - 1) - shortest + 1)", "longest, length - 1) - shortest)"),
    ("_blanks", "torch.minimum(longest, length - 1)", "longest + 1"),
    ("_blanks", "start = 1 + ", "start = 0 + "),
    ("_blanks", "(length - size)", "(length - size - 1)"),
    ("_blanks", "second * (length", "first * (length"),
]


@pytest.mark.parametrize(("name", "old", "new"), MUTANTS)
def test_the_loop_catches_mutants(name, old, new, monkeypatch):
    replace_in(getattr(curriculum, name), old, new, monkeypatch)
    with pytest.raises(AssertionError):
        check_rows(0)


@pytest.mark.parametrize("bad", [{"kind": "spiral"}, {"kind": "blocks", "size": 0}, {"kind": "blocks", "size": 1.5}])
def test_bad_groupings(bad):
    with pytest.raises(ValueError, match=r"kind must be one of blocks, shuffled, strided, span, sentence|at least 1"):
        Grouping(**bad)


# Every example draws its own grouping


def draw(name: str, progress: float, examples, seed: int = 0, lengths=None, width: int = 40) -> torch.Tensor:
    lengths = torch.tensor(lengths or [40] * len(examples))
    ends = torch.zeros(len(examples), width, dtype=torch.bool)
    return Curriculum.preset(name).draw(progress, lengths, ends, numbers_of(examples, width, seed))


def check_own_grouping(group_ids):
    assert len({tuple(row) for row in group_ids.tolist()}) == len(group_ids), "rows share an order"
    sizes = {int((row == 1).sum()) for row in group_ids}
    assert len(sizes) > 1, "all rows have the same group size"


def test_each_example_draws_its_own_grouping():
    check_own_grouping(draw("stage3", 0.5, range(16)))


def test_the_check_catches_one_grouping_per_batch():
    one = draw("stage3", 0.5, [0]).expand(16, -1)  # what the paper's code does
    with pytest.raises(AssertionError, match="share an order"):
        check_own_grouping(one)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(PRESETS)), st.floats(0, 0.999), st.integers(0, 2**31), st.integers(1, 7))
def test_groups_depend_on_seed_and_example_alone(name, progress, seed, batch):
    """Not on the batch size, the other rows, the padding, or what was drawn before."""
    lengths = [40, 7, 23, 2, 40, 31, 12, 39]
    together = draw(name, progress, range(8), seed, lengths)
    torch.rand(3)
    parts = [draw(name, progress, range(8)[n : n + batch], seed, lengths[n : n + batch]) for n in range(0, 8, batch)]
    assert torch.equal(together, torch.cat(parts))
    narrow = draw(name, progress, [1], seed, [7], width=7)
    assert torch.equal(narrow, together[1:2, :7])
    padding = torch.arange(40) >= torch.tensor(lengths)[:, None]
    assert torch.equal(together == groups.PADDING, padding)


def test_the_seed_matters():
    assert not torch.equal(draw("stage3", 0.5, range(4), seed=0), draw("stage3", 0.5, range(4), seed=1))


def test_generators_of_neighbours_are_unrelated():
    numbers = [(0,), (1,), (-1,), (0, 0), (0, 1), (1, 0), (0, -1), (2**40, 3), *((0, n) for n in range(2, 400))]
    draws = torch.stack([torch.rand(2, generator=generator_for(*n), dtype=torch.float64) for n in numbers])
    assert len(draws.unique(dim=0)) == len(numbers)
    assert torch.equal(torch.rand(2, generator=generator_for(5, 7)), torch.rand(2, generator=generator_for(5, 7)))
    assert abs(torch.corrcoef(torch.stack([draws[:-1, 0], draws[1:, 0]]))[0, 1]) < 0.15  # 3 standard errors
    assert abs(draws[:, 0].mean() - 0.5) < 0.05


# Stages


def exact(curriculum_: Curriculum, step: int, steps: int) -> tuple[Stage, Fraction]:
    """Stage and progress inside it, in rational numbers; shares as they are written."""
    shares = [Fraction(str(stage.share)) for stage in curriculum_.stages]
    progress, start = Fraction(step, steps) * sum(shares), Fraction(0)
    for stage, share in zip(curriculum_.stages, shares, strict=True):
        if progress < start + share:
            return stage, (progress - start) / share
        start += share
    raise AssertionError


TENTHS = Curriculum((Stage("a", 0.1, (Part("blocks"),)), Stage("b", 0.2, (Part("blocks", (1, 2, 4), grow=True),)),
                     Stage("c", 0.7, (Part("shuffled", (4, 8, 16), grow=True),))))  # fmt: skip


@pytest.mark.parametrize("which", [*PRESETS, "tenths"])
def test_stages_and_sizes_change_at_the_exact_steps(which):
    """0.1 + 0.2 is more than 0.3, and 4 / 15 inside a fifth is not quite a third: no step may be off."""
    chosen = TENTHS if which == "tenths" else Curriculum.preset(which)
    for steps in (1, 2, 5, 10, 15, 30, 49, 90, 360, 1000):
        for step in range(steps):
            stage, inside = exact(chosen, step, steps)
            found, found_inside = chosen.stage_at(step / steps)
            assert found is stage and abs(found_inside - inside) < 1e-9
            for part in stage.parts:
                if part.grow:
                    alone = Stage("alone", 1, (part,))
                    size = part.sizes[int(inside * len(part.sizes))]
                    kinds, sizes = alone.choose(found_inside, numbers_of(range(3), 0))
                    assert sizes.tolist() == [size] * 3, (step, steps)
                    assert kinds.tolist() == [KINDS.index(part.kind)] * 3


def test_the_check_of_boundaries_catches_plain_rounding(monkeypatch):
    monkeypatch.setattr(curriculum, "ROUNDING", 0.0)
    with pytest.raises(AssertionError):
        test_stages_and_sizes_change_at_the_exact_steps("paper")
    with pytest.raises(AssertionError):
        test_stages_and_sizes_change_at_the_exact_steps("tenths")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=5), st.floats(0, 1, exclude_max=True))
def test_any_shares_and_progress(shares, progress):
    chosen = simple(*shares, sizes=(1, 2, 3), grow=True)
    stage, inside = chosen.stage_at(progress)
    assert 0 <= inside <= 1 and stage.choose(inside, numbers_of([0], 0))[1].item() in (1, 2, 3)
    assert chosen.boundaries[-1] == 1 and chosen.boundaries == sorted(chosen.boundaries)


@pytest.mark.parametrize("progress", [-0.1, 1, 1.5, float("nan")])
def test_progress_outside(progress):
    with pytest.raises(ValueError, match=r"in \[0, 1\)"):
        simple(1).stage_at(progress)


def test_weights_are_frequencies():
    stage = Stage("mixed", 1, (Part("blocks", weight=3), Part("shuffled", (4,))))
    kinds, sizes = stage.choose(0.5, numbers_of(range(800), 0))
    blocks = kinds == KINDS.index("blocks")
    assert 0.7 < blocks.double().mean() < 0.8
    assert torch.equal(kinds, torch.where(blocks, 0, KINDS.index("shuffled"))) and torch.equal(sizes == 1, blocks)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.builds(
            Part, st.sampled_from(KINDS), st.lists(st.integers(1, 9), min_size=1, max_size=5),
            st.floats(0.1, 10), st.booleans(),
        ), min_size=1, max_size=5,
    ),
    st.floats(0, 0.999), st.integers(0, 2**31),
)  # fmt: skip
def test_a_choice_is_that_of_a_plain_loop(parts, inside, seed):
    """The first number walks along the parts, each as long as its weight; the second along the sizes of the part."""
    numbers = numbers_of(range(40), 0, seed)
    kinds, sizes = Stage("mixed", 1, parts).choose(inside, numbers)
    assert kinds.dtype == sizes.dtype == torch.int64
    total = sum(part.weight for part in parts)
    for kind, size, (first, second, *_) in zip(kinds.tolist(), sizes.tolist(), numbers.tolist(), strict=True):
        ends = itertools.accumulate(part.weight / total for part in parts[:-1])
        part = parts[sum(end <= first for end in ends)]
        at = inside + 1e-9 if part.grow else second
        assert (KINDS[kind], size) == (part.kind, part.sizes[int(at * len(part.sizes))])


def test_part_and_size_are_chosen_independently():
    """As often each size with each part: another number chooses it."""
    stage = Stage("mixed", 1, (Part("blocks", (1, 2)), Part("shuffled", (4, 8))))
    kinds, sizes = stage.choose(0.5, numbers_of(range(2000), 0))
    pairs = list(zip(kinds.tolist(), sizes.tolist(), strict=True))
    for pair in ((0, 1), (0, 2), (1, 4), (1, 8)):
        assert abs(pairs.count(pair) - 500) < 100


def test_weights_may_be_integers(tmp_path):
    """A file says 3 where Python says 3.0; sums of integers would not be divided into shares everywhere."""
    path = tmp_path / "c.yaml"
    path.write_text(
        "stages: [{name: a, share: 1, parts: [{kind: blocks, weight: 3}, {kind: shuffled, sizes: [4], weight: 1}]}]"
    )
    chosen = Curriculum.load(path)
    assert [type(part.weight) for part in chosen.stages[0].parts] == [int, int]
    assert chosen.stages == (Stage("a", 1, (Part("blocks", weight=3), Part("shuffled", (4,), weight=1))),)
    lengths, ends = torch.full((200,), 12), torch.zeros(200, 12, dtype=torch.bool)
    drawn = chosen.draw(0.5, lengths, ends, numbers_of(range(200), 12))
    assert 0.65 < (drawn == groups.left_to_right(12)).all(-1).double().mean() < 0.85


def test_the_presets_are_what_they_say():
    def kinds(name):
        return [{part.kind for part in stage.parts} for stage in Curriculum.preset(name).stages]

    assert kinds("paper") == [{"blocks"}, {"blocks"}, {"shuffled"}]
    assert kinds("official") == [{"blocks"}, {"shuffled"}]
    assert kinds("stage3") == [{"shuffled"}]
    assert kinds("no_stage2") == [{"blocks"}, {"shuffled"}]
    assert kinds("spans")[-1] == {"shuffled", "span", "sentence"}
    assert kinds("mixed") == [set(KINDS)]
    one = draw("paper", 0.0, range(3))
    assert torch.equal(one, groups.left_to_right(40).expand(3, -1))  # stage 1 is autoregression
    assert torch.equal(draw("paper", 0.3, [0])[0], groups.blocks(40, 2))
    assert Curriculum.preset("no_stage2").stages[0] == Curriculum.preset("paper").stages[0]
    with pytest.raises(ValueError, match="there is no curriculum 'stage2'; there are paper, official"):
        Curriculum.preset("stage2")


def test_the_mixture_is_drawn_by_its_weights():
    """A tenth left to right, more than half far apart or in random order; the same from the first step to the last."""
    (stage,) = Curriculum.preset("mixed").stages
    assert {part.kind: part.sizes for part in stage.parts if part.sizes != (1,)} == {"strided": (2, 4, 8)}
    drawn = [torch.stack(stage.choose(at, numbers_of(range(1000), 0))) for at in (0.0, 0.5, 0.999)]
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[1], drawn[2])
    assert not any(part.grow for part in stage.parts)
    whole = sum(part.weight for part in stage.parts)
    for part in stage.parts:
        found = (drawn[0][0] == KINDS.index(part.kind)).sum().item()
        assert abs(found - 1000 * part.weight / whole) < 4 * (1000 * part.weight / whole) ** 0.5
    shares = {part.kind: part.weight / whole for part in stage.parts}
    assert abs(shares["blocks"] - 0.1) < 1e-9 and shares["shuffled"] + shares["strided"] >= 0.5


# Files


@pytest.mark.parametrize("ending", ["yaml", "yml", "json"])
@pytest.mark.parametrize("name", PRESETS)
def test_files_round_trip(name, ending, tmp_path):
    chosen, path = Curriculum.preset(name), tmp_path / f"c.{ending}"
    chosen.save(path)
    again = Curriculum.load(path)
    assert again == chosen and again.name == name and again.to_dict() == chosen.to_dict()
    read = json.loads(path.read_text()) if ending == "json" else yaml.safe_load(path.read_text())
    assert read["stages"][0]["parts"][0]["kind"] == chosen.stages[0].parts[0].kind


def stage(**changes) -> str:
    part = {"kind": "blocks", "sizes": [1], **{k: v for k, v in changes.items() if k not in ("share", "parts")}}
    return json.dumps(
        {"stages": [{"name": "a", "share": changes.get("share", 1), "parts": changes.get("parts", [part])}]}
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a mapping"),
        ("[]", "must be a mapping"),
        ("a: [", "flow"),
        ("stage: 1", "'stage'"),
        ("stages: 3", "not iterable"),
        ("stages: []", "at least one stage"),
        ("stages: [3]", "must be a mapping"),
        ("stages: [{name: a, share: 1}]", "'parts'"),
        (stage(parts=[]), "the stage 'a' has no parts"),
        (stage(parts="blocks"), "must be a mapping"),
        (stage(kind="spiral"), "kind must be one of blocks, shuffled, strided, span, sentence; got 'spiral'"),
        (stage(sizes=[]), "needs at least one group size"),
        (stage(sizes=[0]), "size must be an integer of at least 1, got 0"),
        (stage(sizes=[1.5]), "got 1.5"),
        (stage(sizes=3), "not iterable"),
        (stage(colour=1), "'colour'"),
        (stage(weight=0), "weight must be a positive number, got 0"),
        (stage(weight="much"), "weight must be a positive number, got 'much'"),
        (stage(weight=float("inf")).replace("Infinity", ".inf"), "weight must be a positive number, got inf"),
        (stage(grow="no"), "grow must be true or false, got 'no'"),
        (stage(share=-1), "the share of the stage 'a' must be a positive number, got -1"),
        (stage(share="half"), "got 'half'"),
        (stage(share=float("nan")).replace("NaN", ".nan"), "got nan"),
        ("\udcff", "utf-8"),
    ],
)
def test_bad_files(text, message, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message) as caught:
        Curriculum.load(path)
    assert str(caught.value).startswith(f"{path} is not a curriculum: ") and "save(path) shows one" in str(caught.value)


def test_bad_json(tmp_path):
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(ValueError, match="c.json is not a curriculum"):
        Curriculum.load(tmp_path / "c.json")
    with pytest.raises(FileNotFoundError):
        Curriculum.load(tmp_path / "missing.yaml")
