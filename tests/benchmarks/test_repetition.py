"""Repetition: what comes again, what the arms share, that a training that was cut gives the same, and its table."""

import json
import os
import signal
import sys

import pytest
import repetition as bench
import torch
from kept import kept, place
from recipe import Text
from training_run import small_blocks

from a3mini.evaluate import HeldOut
from a3mini.evaluate.rivals import bound_score
from a3mini.train.batches import Batches
from a3mini.train.data import Blocks
from a3mini.train.interrupt import Interrupted

SIZE = bench.Size(bench.TINY, 40, 64, 4, 4, "fp32")


def rows(count: int = 16) -> Blocks:
    """Of tokens that follow no rule, so that they can be learned by heart alone; some rows are full."""
    blocks = small_blocks(count)
    ids = torch.randint(3, 40, blocks.input_ids.shape, generator=torch.Generator().manual_seed(0))
    return blocks._replace(input_ids=ids.where(blocks.input_ids > 0, 0))


# The rows


def test_a_portion_has_about_the_tokens_and_whole_steps():
    blocks = rows(24)
    every = int(blocks.lengths.sum())
    for tokens in (1, 100, every // 2):
        found = bench.portion(blocks, tokens, 4)
        assert len(found.lengths) % 4 == 0 and len(found.lengths)
        most = 2 * int(blocks.lengths.max())  # half of a step
        assert abs(int(found.lengths.sum()) - tokens) <= most or len(found.lengths) == 4
    less, more = (bench.portion(blocks, tokens, 4).input_ids for tokens in (100, every // 2))
    assert torch.equal(more[: len(less)], less), "more tokens are the same and some others"
    with pytest.raises(SystemExit, match=f"--tokens {every + 1}, but the text has"):
        bench.portion(blocks, every + 1, 4)
    with pytest.raises(SystemExit, match="ask for fewer"):
        bench.portion(rows(3), 1, 4)


def seen_by(arm: str, blocks: Blocks, seed: int = 0, passes: int = 2) -> list[torch.Tensor]:
    """The rows of each step, as the recipe gets them."""
    recipe, found = bench.recipe_of(arm), []
    plain = recipe.batch
    recipe.batch = lambda own, *rest: found.append(own.input_ids) or plain(own, *rest)
    config = bench.config_of(SIZE, len(blocks.lengths), passes, 1e-3, seed)
    batches = Batches(blocks, recipe, config)
    for step in range(config.steps):
        batches[step]
    return found


def test_every_arm_sees_each_row_once_in_a_pass_in_the_same_order():
    blocks = rows()
    seen = {arm: seen_by(arm, blocks) for arm in bench.ARMS}
    for steps in seen.values():
        assert len(steps) == 8 and all(map(torch.equal, steps, seen[bench.AR]))
    whole = [torch.cat([torch.nn.functional.pad(step, (0, 64 - step.shape[1])) for step in part])
             for part in (seen[bench.A3][:4], seen[bench.A3][4:])]  # fmt: skip
    first, second = (sorted(map(tuple, part.tolist())) for part in whole)
    assert first == second and not torch.equal(*whole), "the same rows in another order"
    assert not all(map(torch.equal, seen_by(bench.AR, blocks, seed=1), seen[bench.AR]))


def test_rows_that_are_asked_about_are_full():
    found = bench.some_seen(rows(), 3)
    assert (found.lengths == found.input_ids.shape[1]).all() and 0 < len(found.lengths) <= 3


# The arms


def test_all_arms_start_from_the_same_weights():
    arms = {arm: bench.begin(arm, SIZE, 3).state_dict() for arm in bench.ARMS}
    own = {bench.A3: {"model.query_embedding"}, bench.DIFFUSION: {"mask_embedding"}}
    for arm, names in own.items():
        assert arms[arm].keys() - arms[bench.AR].keys() == names
        assert all(torch.equal(weight, arms[arm][name]) for name, weight in arms[bench.AR].items())
    other = bench.begin(bench.AR, SIZE, 4).state_dict()
    assert not torch.equal(other["model.embed_tokens.weight"], arms[bench.AR]["model.embed_tokens.weight"])


def test_all_arms_are_trained_alike():
    """The usual weight decay, and a rate that stays: the last step has it whole."""
    config = bench.config_of(SIZE, 16, 8, 2e-3, 0)
    assert config.weight_decay == 0.1 and config.optimizer == "muon" and config.steps == 32
    found = bench.trained(bench.AR, SIZE, rows(), rows(4), config, None)
    assert [line["passes"] for line in found["curve"]] == [1, 2, 3, 4, 6, 8]


def test_the_rate_stays_to_the_end(monkeypatch):
    lines, plain = [], bench.train
    monkeypatch.setattr(bench, "train", lambda *given, **more: lines.extend(plain(*given, **more)) or lines)
    bench.trained(bench.AR, SIZE, rows(), rows(4), bench.config_of(SIZE, 16, 3, 2e-3, 0), None)
    assert [line["learning_rate"] for line in lines[1:]] == [2e-3] * 3


@pytest.mark.parametrize("said", [[0.0], [1e-3, 2e-3], [1e-3, -1.0, 1e-3]])
def test_rates_are_one_or_one_each(said):
    with pytest.raises(SystemExit, match="say one rate above 0"):
        bench.rates_of(said)
    assert bench.rates_of([1e-3]) == dict.fromkeys(bench.ARMS, 1e-3)
    assert bench.rates_of([1.0, 2.0, 3.0]) == {bench.A3: 1.0, bench.DIFFUSION: 2.0, bench.AR: 3.0}


def test_operations_are_of_what_is_computed():
    blocks, config = rows(), bench.config_of(SIZE, 16, 2, 1e-3, 0)
    found = {arm: bench.costs_of(arm, SIZE, blocks, config) for arm in bench.ARMS}
    tokens, costs = int(blocks.lengths.sum()), bench.Costs.of(SIZE.shape, SIZE.vocabulary)
    assert {one["tokens"] for one in found.values()} == {tokens}
    assert found[bench.AR]["predicted"] == found[bench.DIFFUSION]["predicted"] == tokens - 16
    assert found[bench.AR]["operations"] == tokens * costs.llama
    head = SIZE.shape["hidden_size"] * SIZE.vocabulary
    masked = (found[bench.DIFFUSION]["operations"] - tokens * (costs.llama - head)) / head
    assert masked == int(masked) and 0.3 * tokens < masked < 0.7 * tokens, "half of the tokens, on the average"
    watched = bench.Watched(bench.recipe_of(bench.A3), costs)
    for step in range(4):
        Batches(blocks, watched, config)[step]
    assert found[bench.A3]["operations"] == watched.operations and found[bench.A3]["predicted"] == watched.predicted


# The curve


def test_when_it_looks():
    assert bench.looks(64) == bench.LOOKS and bench.looks(4) == (1, 2, 3, 4) and bench.looks(5) == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("arm", bench.ARMS)
def test_what_a_look_measures(arm):
    """The package's held-out losses, of both kinds of rows; masked diffusion's are its bound."""
    held_out, seen = rows(8), rows(16).rows(slice(8, 16))
    model = bench.begin(arm, SIZE, 0).eval()
    look = bench.Look(arm, held_out, seen, (0, 2))
    found, nothing, again = look(model), look(model), look(model)
    assert nothing == {} and found | {"look_seconds": 0} == again | {"look_seconds": 0}
    for where, part in ((bench.HELD, held_out), (bench.SEEN, seen)):
        for way in bench.WAYS[arm]:
            grouping = {way: bench.GROUPINGS[way]}
            whole = HeldOut(part, grouping, batch_size=16, score=bench.SCORES[arm])(model)
            assert found[f"{where}, {way}"] == pytest.approx(whole[way], abs=1e-5)
    assert bench.SCORES[bench.DIFFUSION] is bound_score and len(found) == 2 * len(bench.WAYS[arm]) + 1


def test_a_training_that_was_cut_gives_the_same_curve(tmp_path, monkeypatch):
    """Cut in the middle of a pass, twice; its looks are at the passes that it says."""
    blocks, held_out = rows(), rows(4)
    config = bench.config_of(SIZE, 16, 6, 4e-3, 0)
    whole = bench.trained(bench.A3, SIZE, blocks, held_out, config, None)
    plain, count = bench.Look.__call__, []

    def cut(self, model):
        count.append(1)
        if len(count) in (3, 5):  # the steps that follow are not made
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, model)

    monkeypatch.setattr(bench.Look, "__call__", cut)
    folder = tmp_path / "run"
    for _ in range(2):
        with pytest.raises(Interrupted, match="the same command goes on"):
            bench.trained(bench.A3, SIZE, blocks, held_out, config, folder)
    found = bench.trained(bench.A3, SIZE, blocks, held_out, config, folder)
    assert found["curve"] == whole["curve"] and [line["passes"] for line in whole["curve"]] == [1, 2, 3, 4, 6]
    assert found["look_seconds"] > 0


def test_a_text_that_comes_again_is_learned_by_heart():
    """On rows that are trained on the loss falls below that on others."""
    blocks = rows()
    config = bench.config_of(SIZE, 8, 24, 8e-3, 0)
    parts = blocks.rows(slice(0, 8)), blocks.rows(slice(8, 16))
    last = bench.trained(bench.AR, SIZE, *parts, config, None)["curve"][-1]
    assert last[bench.SEEN][bench.LEFT] < last[bench.HELD][bench.LEFT] - 0.2


# The table


def line(passes: int, held: float, seen: float) -> dict:
    return {"passes": passes, "tokens": 10 * passes, bench.HELD: {bench.LEFT: held}, bench.SEEN: {bench.LEFT: seen}}


def test_the_summary_of_seeds():
    first, second = [line(1, 3.0, 2.9), line(2, 2.5, 2.0), line(4, 3.5, 1.0)], [line(1, 3.0, 2.9), line(2, 2.9, 2.0)]
    second.append(line(4, 2.7, 1.2))
    found = [{"curve": curve, "training_seconds": seconds, "look_seconds": 1.0}
             for curve, seconds in ((first, 2.0), (second, 4.0))]  # fmt: skip
    one = bench.summary(found[:1], (bench.LEFT,))
    assert one["best"] == {bench.LEFT: {"passes": [2], "loss": 2.5, "end": 3.5, "seen": 1.0, "rise": 1.0}}
    assert one["curve"] == first
    both = bench.summary(found, (bench.LEFT,))
    best = both["best"][bench.LEFT]
    assert best["passes"] == [2, 4] and both["training_seconds"] == 3.0
    assert best["rise"] == [0.5, pytest.approx(12.706 * 0.5, abs=1e-3)]
    assert both["curve"][0][bench.HELD][bench.LEFT] == [3.0, 0.0] and both["curve"][2]["tokens"] == 40


@pytest.mark.parametrize("seeds", [1, 3])
def test_parts_do_every_training_once(seeds):
    everything = bench.trainings(list(bench.ARMS), seeds)
    assert sorted(everything) == sorted((arm, seed) for arm in bench.ARMS for seed in range(seeds))
    parts = [bench.part_of(everything, (number, 2)) for number in range(2)]
    assert sorted(parts[0] + parts[1]) == sorted(everything)


def test_partial_results_lie_where_results_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("A3_RESULTS", raising=False)
    assert place(bench.FOLDER) == bench.FOLDER
    monkeypatch.setenv("A3_RESULTS", str(tmp_path / "out"))
    made = []
    for _ in range(2):
        found = kept(bench.FOLDER, "A3 0", {"a": 1}, lambda: made.append(1) or {"x": 2})
        assert found["x"] == 2
    assert len(made) == 1 and len(list((tmp_path / "out" / bench.FOLDER).glob("*.json"))) == 1
    assert not bench.FOLDER.exists() and place(tmp_path) == tmp_path


def test_the_whole_is_kept_and_recorded(tmp_path, monkeypatch):
    """Two parts, then the line that records; nothing is trained twice, and nothing stays of finished runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("A3_RESULTS", str(tmp_path / "out"))
    monkeypatch.setitem(bench.SIZES, "narrow", SIZE)
    blocks = rows()
    tokenized = bench.Rows(blocks, rows(4), ["a"] * 2 + ["b"] * 2, 40)
    monkeypatch.setattr(bench, "packaged", lambda most: Text("a text", [], {}))
    monkeypatch.setattr(bench, "made", lambda *given: tokenized)
    recorded, plain, done = {}, bench.trained, []
    monkeypatch.setattr(bench, "record", lambda name, **found: recorded.update({name: found}))
    monkeypatch.setattr(bench, "trained", lambda arm, *given: done.append(arm) or plain(arm, *given))

    def start(*said: str) -> None:
        tokens = str(int(blocks.lengths.sum()))
        monkeypatch.setattr(sys, "argv", [str(bench.__file__), "--tokens", tokens, "--passes", "2", *said])
        bench.main()

    with pytest.raises(SystemExit, match="no arm is finished"):
        start("--finished")
    start("--part", "0/2")
    assert done == [bench.A3, bench.AR] and not recorded
    start("--finished")
    assert recorded["repetition"]["not_run"] == [bench.DIFFUSION] and len(done) == 2
    start()
    found = recorded["repetition"]
    assert done == [bench.A3, bench.AR, bench.DIFFUSION] and found["not_run"] == [] and found["dial"] == "narrow"
    assert found["command"].endswith("--passes 2") and found["arms"][bench.AR]["operations"] == 1.0
    assert found["arms"][bench.A3]["tokens"] == 2 * int(blocks.lengths.sum())
    assert json.loads(json.dumps(found)) and not list((tmp_path / "out" / bench.FOLDER / "runs").iterdir())
