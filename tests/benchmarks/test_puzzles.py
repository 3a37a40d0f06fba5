"""The benchmark of puzzles: what is predicted, in which order it is filled; all arms start and see the same."""

import json
import math
import sys

import puzzles as bench
import pytest
import record
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from a3mini.train import puzzles
from a3mini.train.puzzles import as_blocks

SUDOKU, SUMS = puzzles.Sudoku(), puzzles.Sums(1)
every_arm = pytest.mark.parametrize("arm", bench.ARMS)


def source(puzzle) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = dict(bench.TINY, num_hidden_layers=2, max_position_embeddings=puzzle.length, tie_word_embeddings=True)
    return LlamaForCausalLM(LlamaConfig(vocab_size=puzzle.vocabulary_size, **shape)).eval()


@every_arm
def test_only_what_is_unknown_is_predicted(arm):
    rows = as_blocks(SUDOKU.draw(6, 0))
    unknown, examples = SUDOKU.unknown(rows.input_ids), torch.arange(6)
    _, recipe = bench.begin(arm, source(SUDOKU), SUDOKU)
    batch = recipe.batch(rows, 0.0, examples, seed=0)
    assert batch.count == int(unknown.sum())
    if arm == "autoregression":
        assert torch.equal(batch.weights > 0, unknown)
    elif arm == "masked diffusion":
        masked = batch.inputs["masked"]
        assert masked.any() and not (masked & ~unknown).any() and (masked != unknown).any()
        assert batch.inputs["visible"].all(), "both sides from the first step"
    else:
        group_ids = recipe.group_ids(rows, 0.0, examples, seed=0)
        for ids, open_ in zip(group_ids, unknown, strict=True):
            assert not ids[~open_].any()
            in_order = list(range(1, int(open_.sum()) + 1))
            assert sorted(ids[open_].tolist()) == in_order
            assert (ids[open_].tolist() == in_order) == (arm == "A3, left to right")
        assert (batch.weights.sum() == unknown.sum()).item()


def test_each_example_draws_its_own_order():
    rows = as_blocks(SUDOKU.draw(1, 0).expand(50, -1))
    recipe = bench.Groups(SUDOKU, "shuffled")
    drawn = recipe.group_ids(rows, 0.0, torch.arange(50), seed=0)
    assert len({tuple(ids.tolist()) for ids in drawn}) == 50
    assert torch.equal(drawn[7:9], recipe.group_ids(rows.rows(slice(7, 9)), 0.5, torch.tensor([7, 8]), seed=0))


@every_arm
def test_all_arms_start_from_the_same_weights(arm):
    first = source(SUDOKU).state_dict()
    model, _ = bench.begin(arm, source(SUDOKU), SUDOKU)
    weights = model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in first.items())


def test_fixed_orders():
    unknown = torch.tensor([[False, True, True, False, True], [True, False, False, False, True]])
    assert bench.fixed(unknown, "left to right").tolist() == [[0, 1, 2, 0, 3], [1, 0, 0, 0, 2]]
    assert bench.fixed(unknown, "right to left").tolist() == [[0, 3, 2, 0, 1], [2, 0, 0, 0, 1]]
    drawn = bench.fixed(unknown, "random")
    assert sorted(drawn[0].tolist()) == [0, 0, 1, 2, 3] and torch.equal(drawn, bench.fixed(unknown, "random"))


# the probability of token 1 at positions 0 .. 5, the rest on token 2; position 0 is known
SURE = torch.tensor([0.5, 0.6, 0.999, 0.7, 0.998, 0.9])


def filled_in(order: str) -> list[list[int]]:
    """The positions that ``fill`` fills, step by step, where a model is as sure as ``SURE``."""
    seen = []

    def predict(ids, left):
        assert not ids[left].any(), "what is unknown is not read"
        seen.append(left[0].nonzero()[:, 0].tolist())
        return torch.stack([torch.full_like(SURE, 1e-9), SURE, 1 - SURE], -1).log()[None]

    ids, steps = bench.fill(predict, torch.tensor([[2, 2, 2, 2, 2, 2]]), torch.tensor([[False] + [True] * 5]), order)
    assert ids.tolist() == [[2, 1, 1, 1, 1, 1]] and steps.tolist() == [len(seen)]
    return [sorted(set(now) - set(then)) for now, then in zip(seen, [*seen[1:], []], strict=True)]


def test_the_surest_comes_first():
    assert filled_in("left to right") == [[1], [2], [3], [4], [5]]
    assert filled_in("right to left") == [[5], [4], [3], [2], [1]]
    assert filled_in("by confidence") == [[2], [4], [5], [3], [1]]
    assert filled_in("by confidence, 3 at a time") == [[2, 4, 5], [1, 3]]


def test_bounded_fills_as_many_as_lose_little():
    entropy = torch.special.entr(SURE) + torch.special.entr(1 - SURE)
    steps = filled_in("bounded")
    assert len(steps) < 5 and steps[0] == [2, 4, 5]
    assert all(entropy[step].sum() - entropy[step].max() <= bench.BOUND + 1e-5 for step in steps)
    assert entropy[[2, 4, 5, 3]].sum() - entropy[3] > bench.BOUND, "one more would have been too many"


def test_autoregression_is_forced_through_what_is_known():
    model, rows = source(SUDOKU), SUDOKU.draw(3, 0)
    unknown = SUDOKU.unknown(rows)
    expected = rows.clone()
    with torch.no_grad():
        for row, open_ in zip(expected, unknown, strict=True):
            for at in open_.nonzero()[:, 0].tolist():
                row[at] = model(row[None, :at]).logits[0, -1].argmax()
    found, steps = bench.answered("autoregression", model, rows.masked_fill(unknown, 0), unknown, "left to right")
    assert torch.equal(found, expected) and torch.equal(steps, unknown.sum(-1))
    with pytest.raises(ValueError, match="left to right, not random"):
        bench.answered("autoregression", model, rows, unknown, "random")


@pytest.mark.parametrize("arm", bench.ARMS[1:])
def test_answers_are_never_read_and_what_is_known_stays(arm):
    model, _ = bench.begin(arm, source(SUDOKU), SUDOKU)
    rows = SUDOKU.draw(4, 0)
    unknown = SUDOKU.unknown(rows)
    for order in bench.ORDERS:
        found, steps = bench.answered(arm, model.eval(), rows, unknown, order)
        again, _ = bench.answered(arm, model, rows.masked_fill(unknown, 3), unknown, order)
        assert torch.equal(found, again) and torch.equal(found[~unknown], rows[~unknown])
        one_by_one = order in (*bench.FIXED, "by confidence")
        assert torch.equal(steps, unknown.sum(-1)) if one_by_one else (steps <= unknown.sum(-1)).all()


@every_arm
def test_arms_learn_by_heart_what_they_then_fill_in(arm):
    """So what a recipe teaches is what filling asks for, in every order that was practised."""
    task = puzzles.Sums(2)
    rows = task.draw(6, 0)
    model, recipe = bench.begin(arm, source(task), task)
    rate, steps = (3e-3, 200) if arm == "masked diffusion" else (1e-2, 60)  # its loss has a higher variance
    optimizer, blocks = torch.optim.AdamW(model.parameters(), rate), as_blocks(rows)
    for step in range(steps):
        batch = recipe.batch(blocks, step / steps, torch.arange(6) + 6 * step, seed=0)
        (-(recipe.log_probs(model.train(), batch.inputs) * batch.weights).sum() / batch.count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    found = bench.asked(arm, model.eval(), task, rows)
    practised = bench.ORDERS[:1] if arm in ("autoregression", "A3, left to right") else bench.ORDERS
    assert all(found[order] == 1 for order in practised), found


def test_a_training_is_a_curve():
    task = bench.Task(SUMS, layers=1, steps=5, batch=8, rows=20)
    curve = bench.trained(task, "autoregression", bench.TINY, seed=0, questions=10, rate=1e-3, looks=2)["curve"]
    assert [line["step"] for line in curve] == [3, 5]
    assert [line["tokens"] for line in curve] == [step * 8 * SUMS.length for step in (3, 5)]
    assert all(set(line) == {"step", "tokens", "loss", "left to right", "steps, left to right"} for line in curve)


def test_summary_is_over_seeds():
    look = {"step": 5, "tokens": 10, "loss": 1.0, "steps, left to right": 2.0}
    curves = [[look | {"left to right": share}] for share in (0.5, 0.7)]
    half = 12.706 * math.sqrt(0.02) / math.sqrt(2)
    found = bench.summary(curves, 100)
    by_order = {"left to right": [0.6, round(half, 4), 2.0], "by_seed": {"left to right": [0.5, 0.7]}}
    assert found == [{"step": 5, "tokens": 10, "loss": 1.0} | by_order]
    assert 0.09 < bench.half_width([0.5], 100) < 0.1, "of one seed, over the questions"


def test_a_try_writes_nothing(monkeypatch, capsys):
    def fails(*_, **__):
        raise AssertionError("written")

    monkeypatch.setattr(bench, "record", fails)
    monkeypatch.setattr(bench, "kept", fails)
    monkeypatch.setattr(sys, "argv", ["puzzles.py", "--smoke", "--task", "sums"])
    bench.main()
    said = capsys.readouterr().out
    assert all(f"sums, {arm}, seed 0" in said for arm in bench.ARMS)


def test_a_task_joins_what_is_recorded(monkeypatch, tmp_path):
    """With ``--finished``, from what is kept; what is recorded of the other task stays."""
    look = {order: 0.5 for order in bench.ORDERS} | {f"steps, {order}": 2.0 for order in bench.ORDERS}
    made = {"curve": [{"step": 5, "tokens": 10, "loss": 1.0} | look], "training_seconds": 1.0, "wall_seconds": 2.0}
    monkeypatch.setattr(bench, "kept", lambda *_: made)
    for module in (bench, record):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(record, "command_line", lambda: "python benchmarks/puzzles.py")
    path, old = tmp_path / "puzzles.json", {"sudoku": "as before"}
    stored = {"seeds": 3, "questions": 256, "bound": bench.BOUND, "shape": bench.SHAPE, "not_run": ["sums"]}
    stored |= {name: old for name in ("rate", "tasks", "curves", "examples")}
    path.write_text(json.dumps(stored))
    monkeypatch.setattr(sys, "argv", ["puzzles.py", "--finished", "--task", "sums"])
    bench.main()
    found = json.loads(path.read_text())
    assert found["not_run"] == [] and found["rate"] == old | {"sums": bench.RATES["sums"]}
    assert set(found["curves"]["sums"]) == set(bench.ARMS) and found["curves"]["sudoku"] == "as before"
    assert [one["what"] for one in found["renewed"]] == ["The task sums was measured"]
    monkeypatch.setattr(sys, "argv", ["puzzles.py", "--finished", "--task", "sums", "--seeds", "2"])
    with pytest.raises(SystemExit, match="other seeds, so sums must not join"):
        bench.main()
