"""benchmarks/trainer.py: what counts as waiting, what rows are needed, and a run of all of it in small."""

import subprocess
import sys

import pytest
import torch
import trainer
import trainer_tree
from places import ROOT

from a3mini import flat, groups
from a3mini.train import Curriculum
from a3mini.train.curriculum import CHOICES, uniform

WAITING = {
    "_local_scalar_dense": lambda x: float(x.sum()),
    "nonzero": lambda x: x.nonzero(),
    "masked_select": lambda x: x.masked_select(x > 0),
    "index": lambda x: x[x > 0],
    "_index_put_impl_": lambda x: x.clone().index_put_((x > 0,), torch.tensor(1.0)),
    "repeat_interleave": lambda x: x.repeat_interleave(torch.tensor([1, 2, 1, 0])),
    "tolist": lambda x: x.tolist(),
}


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_is_counted(name):
    with trainer_tree.Waits() as waits, trainer_tree.ReadsOfPython(waits.found):
        WAITING[name](torch.tensor([1.0, -1.0, 2.0, 0.0]))
    assert sum(waits.found.values()) == 1, waits.found


def test_what_does_not_wait_is_not_counted():
    x = torch.randn(4, 4, requires_grad=True)
    with trainer_tree.Waits() as waits, trainer_tree.ReadsOfPython(waits.found):
        y = torch.where(x > 0, x, 0.0)[torch.tensor([0, 2])].softmax(-1).index_select(0, torch.tensor([1]))
        y.sum().backward()
    assert not waits.found


def test_needed_rows_are_the_same_for_both_trees():
    """Of a batch as it was, and of a plan; against a loop over the rows."""
    lengths, ids = torch.tensor([12, 9, 5]), torch.zeros(3, 12, dtype=torch.int64)
    ends = torch.zeros(3, 12, dtype=torch.bool)
    ends[:, 3::4] = True
    for example in range(20):
        numbers = uniform(0, torch.arange(3) + 3 * example, 12 + CHOICES)
        drawn = Curriculum.preset("mixed").draw(0.0, lengths, ends, numbers)
        group_ids, _ = groups.read_given(drawn, "left_to_right")
        labels = ids.masked_fill(drawn <= 0, -100)
        expected = 0
        for row, mark in zip(group_ids.tolist(), labels.tolist(), strict=True):
            predicted = [group for group, label in zip(row, mark, strict=True) if group > 0 and label != -100]
            expected += len(predicted) + sum(0 <= group < max(predicted) for group in row)
        assert trainer_tree.needed({"group_ids": group_ids, "labels": labels}) == expected
        assert trainer_tree.needed({"plan": flat.plan(ids, group_ids, labels)}) == expected


def test_without_the_history_there_is_no_before(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trainer, "BEFORE", "0" * 40)
    assert not trainer.unpack_before(tmp_path)
    assert "only what is now" in capsys.readouterr().out and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name, parts", [("trainer", ["counts: ", "times: "]), ("gpu_step", ["real_rows", "compact"])])
def test_all_of_it_runs_in_small(name, parts):
    script = ROOT / "benchmarks" / f"{name}.py"
    run = subprocess.run([sys.executable, script, "--smoke"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert all(part in run.stdout for part in parts), run.stdout
