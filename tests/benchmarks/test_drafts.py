"""benchmarks/drafts.py and joint_head.py on tiny models: what is written, and that the head is what it says."""

import json
import sys
from pathlib import Path

import bounded
import drafts
import joint_head
import pytest
import record
import torch
from laws import chi_squared, same, strong_model

from a3mini import decode, groups, objective, speculative
from a3mini.decode import Sampler
from a3mini.pretrained import AdaptedModel
from a3mini.rows import QUERY_STARTS
from a3mini.train.data import Blocks

WORDS = 11
LENGTH, GIVEN = 12, 3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tokens(count: int, length: int = LENGTH, words: int = WORDS) -> torch.Tensor:
    return torch.randint(words, (count, length), generator=generator())


def texts(count: int = 16) -> Blocks:
    ids = tokens(count)
    return Blocks(ids, torch.full((count,), LENGTH), torch.arange(count), torch.zeros_like(ids, dtype=torch.bool))


def strong_head(model) -> joint_head.JointHead:
    """As if trained: the last product is not zero."""
    torch.manual_seed(0)
    joint = joint_head.JointHead(model).to(model.dtype).eval()
    torch.nn.init.normal_(joint.out.weight, std=3.0)
    return joint.requires_grad_(False)


# --- what is written ------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Short rows, and tiny models in place of the real ones."""
    for name, value in {"LENGTH": LENGTH, "GIVEN": GIVEN, "NEW": LENGTH - GIVEN, "SIZES": (2, 4)}.items():
        monkeypatch.setattr(drafts, name, value)
    how = {"batches": 2, "batch": 4, "rate": 1e-3}
    for name, value in {
        "DRAFTS": (2,), "TIMED": 2, "SHORTLIST": 3, "TRAINING": {**how, "epochs": 2},
    }.items():  # fmt: skip
        monkeypatch.setattr(drafts, name, dict.fromkeys(("compact", drafts.ADAPTER), value))
    monkeypatch.setattr(drafts, "FOLDER", tmp_path / "kept")
    monkeypatch.setattr(drafts, "held_out", lambda tokenizer, length, count, path: tokens(count))
    monkeypatch.setattr(drafts, "training_rows", lambda tokenizer, path: texts())
    models = [AdaptedModel(strong_model(seed).float(), None, f"tiny {seed}") for seed in (0, 1)]
    monkeypatch.setattr(drafts.pretrained, "compact_model", lambda: models[0])
    monkeypatch.setattr(drafts.pretrained, "adapted_model", lambda name: models[1])
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(record, "command_line", lambda: "python benchmarks/drafts.py")
    monkeypatch.setattr(sys, "argv", [str(Path(drafts.__file__))])
    return tmp_path


def test_it_measures_keeps_and_goes_on(folder, monkeypatch):
    drafts.main(["--rows", "4"])
    first = json.loads((folder / "drafts.json").read_text())
    assert first["systems"].keys() == {"compact", drafts.ADAPTER}
    for system in first["systems"].values():
        both = [(together, size) for together in drafts.TOGETHER for size in (2, 4)]
        assert [(row["together"], row["size"]) for row in system["losses"]] == both
        assert [(row["together"], row["size"]) for row in system["speed"]] == both[::2]
        for row in system["losses"]:
            assert abs(row["independent"]["mean"] - row["one"]["mean"] - row["lost"]["mean"]) < 0.002
            assert abs(row["lost"]["mean"] - row["lost_with_head"]["mean"] - row["gain"]["mean"]) < 0.002
        assert all(1 <= row["plain"]["passes"]["mean"] <= LENGTH - GIVEN for row in system["speed"])
        assert system["head"]["course"][-1]["step"] == 4
    for name in ("losses", "speed", "train"):
        monkeypatch.setattr(drafts, name, lambda *_, **__: pytest.fail("measured again"))
    drafts.main(["--rows", "4"])
    assert json.loads((folder / "drafts.json").read_text())["systems"] == first["systems"]


def test_a_model_without_a_head_is_timed_all_the_same(folder):
    drafts.main(["--rows", "4", "--heads", "compact"])
    systems = json.loads((folder / "drafts.json").read_text())["systems"]
    assert [bool(systems[name]["losses"]) for name in ("compact", drafts.ADAPTER)] == [True, False]
    assert ["head" in systems[name]["speed"][0] for name in ("compact", drafts.ADAPTER)] == [True, False]
    assert systems[drafts.ADAPTER]["head"] is None and systems[drafts.ADAPTER]["speed"][0]["plain"]["passes"]


@pytest.mark.parametrize("options", [["--smoke"], ["--only", "compact", "--rows", "4"]])
def test_a_part_of_it_writes_no_result(folder, options):
    drafts.main(options)
    assert not (folder / "drafts.json").exists() and list((folder / "kept").glob("head-*.safetensors"))


@pytest.mark.parametrize("known_order", groups.KNOWN_ORDERS)
def test_the_losses_are_those_of_the_package(folder, known_order):
    model = strong_model()
    model.config.known_order = known_order
    found = drafts.losses(model, strong_head(model), ids := tokens(3), batch=2)
    for together in drafts.TOGETHER:
        for size in (2, 4):
            order = drafts.grouping(together, size, 3)
            for way, one in (("independent", order), ("one", speculative.singletons(order))):
                expected = -objective.log_likelihood(model, ids, *groups.read_given(one, known_order))
                same(torch.tensor(found[f"{together}, {size}, {way}"]), expected.float(), 1e-4)


def test_the_rows_are_those_of_the_bounds():
    assert drafts.LENGTH == bounded.LENGTH and drafts.GIVEN == bounded.GIVEN


# --- the head -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", QUERY_STARTS)
def test_an_untrained_head_changes_nothing(start):
    model, ids = strong_model(query_start=start), tokens(3)
    order = torch.stack([groups.shuffled(LENGTH, 3, 2, generator(n)) for n in range(3)])
    order[2, -2:] = groups.PADDING
    asked = joint_head.ask(model, ids, order, order == 0)
    plain = joint_head.nats(model, asked).detach()
    same(plain, -objective.log_likelihood(model, ids, order).detach())
    assert torch.equal(plain, joint_head.nats(model, asked, joint_head.JointHead(model).double()).detach())


@torch.no_grad()
def test_what_a_head_draws_from_sums_to_one_and_depends_on_what_was_drawn_before_alone():
    """The chain rule inside a group: the scores of all its fillings are a distribution."""
    model = strong_model(4, vocab_size=3)
    joint, order = strong_head(model), torch.tensor([0, 1, 2, 1, 1])
    fillings = torch.cartesian_prod(*[torch.arange(3)] * 4)
    ids = torch.cat((torch.ones(81, 1, dtype=torch.int64), fillings), dim=1)
    asked = joint_head.ask(model, ids, order.expand(81, -1), (order == 0).expand(81, -1))
    scores = joint_head.nats(model, asked, joint).neg().exp()
    same(scores.sum(), torch.ones((), dtype=scores.dtype))
    alone = joint_head.nats(model, asked).neg().exp()
    assert (scores - alone).abs().sum() > 0.1
    states = joint(model, asked)
    assert torch.equal(asked.groups[0], torch.tensor([1, 1, 1, 2]))
    assert torch.equal(states[:, [0, 3]], asked.states[:, [0, 3]])  # the first of each group
    changed = asked._replace(tokens=torch.where(torch.arange(4) == 1, (asked.tokens + 1) % 3, asked.tokens))
    differs = (joint(model, changed) != states).any(-1).any(0)
    assert differs.tolist() == [False, False, True, False]


@torch.no_grad()
def test_drawing_one_after_another_is_what_is_scored():
    model, order = strong_model(), groups.from_sets(11, range(6, 11), given=range(6)).expand(3, -1)
    joint, asked = strong_head(model), joint_head.ask(model, tokens(3, 11), order, order == 0)
    logits, sampler = model.lm_head(asked.states), Sampler(generator=generator())
    for shortlist in (0, WORDS):
        drawn, chances = joint.draw(model, asked.states, logits, asked.positions, sampler, shortlist)
        same(chances, model.lm_head(joint(model, asked._replace(tokens=drawn))).softmax(-1))
    chances = joint.draw(model, asked.states, logits, asked.positions, sampler, 2)[1]
    ratio = (chances / logits.softmax(-1))[:, 1]
    assert all(len(row.round(decimals=6).unique()) <= 3 for row in ratio)  # the two likeliest, and all others alike
    same(chances.sum(-1), torch.ones(3, 5, dtype=chances.dtype))


def test_it_learns_what_the_tokens_of_a_group_say_of_each_other():
    model, blocks = strong_model().float(), texts(64)
    joint, course = joint_head.train(model, blocks, batches=30, batch=16, epochs=2, rate=3e-3)
    assert [line["step"] for line in course] == list(range(6, 61, 6))
    first, last = course[0], course[-1]
    assert last["with"] < 0.9 * last["without"] and last["with"] < 0.9 * first["with"]
    assert all(not weight.requires_grad and weight.grad is None for weight in model.parameters())
    assert not joint.training


# --- its drafts are verified: law 6 ---------------------------------------------------------------------------

TINY = strong_model(4, vocab_size=3)
ORDER = torch.tensor([0, 3, 1, 4, 2])
SAMPLES, RIGHT, WRONG = 10_000, 1e-3, 1e-6  # as for speculative decoding itself


def sampled(draft: int) -> dict[tuple[int, ...], int]:
    ids = torch.ones(SAMPLES, 5, dtype=torch.int64)
    done = speculative.generate(
        TINY, ids, ORDER.expand(SAMPLES, -1), draft=draft, generator=generator(), runners_up=0
    ).sequences
    found, counts = done[:, 1:].unique(dim=0, return_counts=True)
    return dict(zip(map(tuple, found.tolist()), counts.tolist(), strict=True))


@torch.no_grad()
def exact() -> dict[tuple[int, ...], float]:
    fillings = torch.cartesian_prod(*[torch.arange(3)] * 4)
    ids = torch.cat((torch.ones(81, 1, dtype=torch.int64), fillings), dim=1)
    chances = objective.log_likelihood(TINY, ids, ORDER.expand(81, -1)).exp()
    return dict(zip(map(tuple, fillings.tolist()), chances.tolist(), strict=True))


@pytest.fixture
def quick(monkeypatch):
    """10,000 histories would take longer than everything else."""
    monkeypatch.setattr(decode.Trace, "commit", lambda *_: None)
    monkeypatch.setattr(decode.Trace, "note", lambda *_: None)


@pytest.mark.parametrize("draft, shortlist", [(4, 0), (3, 2)])
def test_what_the_head_drafts_is_verified_exactly(quick, draft, shortlist):
    with joint_head.drafting(TINY, strong_head(TINY), shortlist):
        statistic, freedom, p = chi_squared(sampled(draft), exact())
    print(f"chi2 = {statistic:.1f}, df = {freedom}, p = {p:.3g}")
    assert p > RIGHT


def test_a_head_that_says_another_chance_than_it_drew_with_is_caught(quick, monkeypatch):
    right = joint_head.JointHead.draw

    def wrong(*arguments):
        drawn, chances = right(*arguments)
        return drawn, chances.roll(1, dims=-1)

    monkeypatch.setattr(joint_head.JointHead, "draw", wrong)
    with joint_head.drafting(TINY, strong_head(TINY)):
        assert chi_squared(sampled(4), exact())[2] < WRONG
