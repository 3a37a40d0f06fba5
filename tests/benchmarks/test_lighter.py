"""benchmarks/lighter.py on a tiny model: what it measures, and when compiling is paid back."""

import json
import sys
from pathlib import Path

import lighter
import pytest
import record
import torch
from laws import same, strong_model

from a3mini import groups, objective
from a3mini.pretrained import AdaptedModel
from a3mini.train import generator_for

WORDS, LENGTH, GIVEN = 11, 12, 3


def rows(count: int) -> torch.Tensor:
    return torch.randint(WORDS, (count, LENGTH), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Short rows, a tiny model, and three ways of which one stands for compiling."""
    orders = {
        "left to right": groups.blocks(LENGTH, 1, GIVEN),
        "random": groups.shuffled(LENGTH, 2, GIVEN, generator_for(0)),
    }
    ways = {name: lighter.WAYS[name] for name in (lighter.AS_IT_IS, "bfloat16")} | {
        lighter.COMPILED: lambda model: model
    }
    for name, value in {
        "LENGTH": LENGTH,
        "GIVEN": GIVEN,
        "PROMPT": 4,
        "NEW": 8,
        "ORDERS": orders,
        "WAYS": ways,
    }.items():
        monkeypatch.setattr(lighter, name, value)
    monkeypatch.setattr(lighter, "held_out", lambda tokenizer, length, count, path: rows(count))
    for name in ("compact_model", "adapted_model"):
        monkeypatch.setattr(lighter.pretrained, name, lambda *_: AdaptedModel(strong_model(), None, "tiny"))
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(record, "command_line", lambda: "python benchmarks/lighter.py")
    monkeypatch.setattr(sys, "argv", [str(Path(lighter.__file__))])
    return tmp_path


def test_what_it_writes(folder, monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(lighter, "work_done", lambda: next(clock) ** 2 / 100)  # the third way takes the longest
    lighter.main([])
    found = json.loads((folder / "lighter.json").read_text())
    exact, half, compiled = found["ways"]
    assert [row["way"] for row in found["ways"]] == [*lighter.WAYS]
    assert "more" not in exact and "more" not in compiled and half["more"].keys() == lighter.ORDERS.keys()
    assert all(0 < abs(one["mean"]) < 0.2 for one in half["more"].values())
    for size, passes in compiled["passes_to_pay_back"].items():
        won = exact["ms_per_pass"][size] - compiled["ms_per_pass"][size]
        assert passes == (round(8000 / won) if won > 0 else None)
    assert found["ms_to_read_the_weights"] >= 0


def test_a_smoke_run_writes_nothing(folder):
    lighter.main(["--smoke"])
    assert not [*folder.iterdir()]


def test_the_losses_are_those_of_the_package(folder):
    model, texts = strong_model(), rows(3)
    for name, nats in lighter.losses(model, texts).items():
        order = lighter.ORDERS[name].expand(3, -1)
        same(nats * (LENGTH - GIVEN), -objective.log_likelihood(model, texts, order))
