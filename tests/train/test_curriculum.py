"""curriculum.py: valid groups, one grouping per example, the seed, exact boundaries, files."""

import json
from fractions import Fraction

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from a3mini import groups
from a3mini.train import Curriculum, Grouping, Part, Stage, curriculum, generator_for
from a3mini.train.curriculum import KINDS, PRESETS

NO_ENDS = torch.zeros(4, 40, dtype=torch.bool)


def simple(*shares, **part) -> Curriculum:
    return Curriculum(tuple(Stage(f"stage {n}", share, (Part("blocks", **part),)) for n, share in enumerate(shares)))


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
    check_groups(Grouping(kind, size).draw(len(ends), ends, generator_for(seed)), kind, size, ends)


def test_a_blank_can_stand_anywhere():
    ends = torch.zeros(8, dtype=torch.bool)
    seen = sum(Grouping("span").draw(8, ends, generator_for(n)) > 0 for n in range(300))
    assert seen[0] == 0 and (seen[1:] > 10).all()


@pytest.mark.parametrize("bad", [{"kind": "spiral"}, {"kind": "blocks", "size": 0}, {"kind": "blocks", "size": 1.5}])
def test_bad_groupings(bad):
    with pytest.raises(ValueError, match=r"kind must be one of blocks, shuffled, strided, span, sentence|at least 1"):
        Grouping(**bad)


# Every example draws its own grouping


def draw(name: str, progress: float, examples, seed: int = 0, lengths=None, width: int = 40) -> torch.Tensor:
    lengths = torch.tensor(lengths or [40] * len(examples))
    ends = torch.zeros(len(examples), width, dtype=torch.bool)
    generators = [generator_for(seed, example) for example in examples]
    return Curriculum.preset(name).draw(progress, lengths, ends, generators)


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
                    size = alone.choose(found_inside, generator_for(0)).size
                    assert size == part.sizes[int(inside * len(part.sizes))], (step, steps)


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
    assert 0 <= inside <= 1 and stage.choose(inside, generator_for(0)).size in (1, 2, 3)
    assert chosen.boundaries[-1] == 1 and chosen.boundaries == sorted(chosen.boundaries)


@pytest.mark.parametrize("progress", [-0.1, 1, 1.5, float("nan")])
def test_progress_outside(progress):
    with pytest.raises(ValueError, match=r"in \[0, 1\)"):
        simple(1).stage_at(progress)


def test_weights_are_frequencies():
    stage = Stage("mixed", 1, (Part("blocks", weight=3), Part("shuffled", (4,))))
    kinds = [stage.choose(0.5, generator_for(n)).kind for n in range(800)]
    assert 0.7 < kinds.count("blocks") / 800 < 0.8


def test_weights_may_be_integers(tmp_path):
    """A file says 3 where Python says 3.0; torch.multinomial does not take integers."""
    path = tmp_path / "c.yaml"
    path.write_text(
        "stages: [{name: a, share: 1, parts: [{kind: blocks, weight: 3}, {kind: shuffled, sizes: [4], weight: 1}]}]"
    )
    chosen = Curriculum.load(path)
    assert [type(part.weight) for part in chosen.stages[0].parts] == [int, int]
    assert chosen.stages == (Stage("a", 1, (Part("blocks", weight=3), Part("shuffled", (4,), weight=1))),)
    lengths, generators = torch.full((200,), 12), [generator_for(n) for n in range(200)]
    drawn = chosen.draw(0.5, lengths, torch.zeros(200, 12, dtype=torch.bool), generators)
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
    drawn = [[stage.choose(at, generator_for(n)) for n in range(1000)] for at in (0.0, 0.5, 0.999)]
    assert drawn[0] == drawn[1] == drawn[2] and not any(part.grow for part in stage.parts)
    whole = sum(part.weight for part in stage.parts)
    for part in stage.parts:
        found = sum(grouping.kind == part.kind for grouping in drawn[0])
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
