"""benchmarks/bounded.py on a tiny model: what it writes and keeps, and that its numbers are those of the package."""

import json
import sys
from pathlib import Path

import bounded
import pytest
import record
import torch
from laws import in_double, same, strong_llama, strong_model

from a3mini import decode, from_autoregressive, groups, objective
from a3mini.pretrained import AdaptedModel, SmallModel

WORDS = 11
LENGTH, GIVEN = 12, 3
FIXED = {bounded.ONE: groups.blocks(LENGTH, 1, GIVEN), "far apart, 2": groups.strided(LENGTH, 2, GIVEN)}
CHOSEN = {"bound 1": {"criterion": "entropy", "bound": 1.0}, "confidence, 4": {"per_step": 4, "window": 5}}


def rows(count: int) -> torch.Tensor:
    return torch.randint(WORDS, (count, LENGTH), generator=torch.Generator().manual_seed(0))


class Letters:
    def batch_decode(self, rows: torch.Tensor, skip_special_tokens: bool) -> list[str]:
        return ["".join("abcdefghijk"[token] for token in row) for row in rows.tolist()]


def judge(texts: dict[str, list[list[str]]]) -> dict:
    """Instead of a model: the texts themselves."""
    return {name: {"texts": by_seed} for name, by_seed in texts.items()} | {"judge": "a list"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Short rows, and tiny models in place of the real ones."""
    for name, value in {"LENGTH": LENGTH, "GIVEN": GIVEN, "FIXED": FIXED, "CHOSEN": CHOSEN}.items():
        monkeypatch.setattr(bounded, name, value)
    monkeypatch.setattr(bounded, "FEW", [*FIXED, "bound 1"])
    monkeypatch.setattr(bounded, "JUDGED", [*FIXED, *CHOSEN])
    monkeypatch.setattr(bounded, "judge", judge)
    monkeypatch.setattr(bounded, "FOLDER", tmp_path / "kept")
    monkeypatch.setattr(bounded, "held_out", lambda tokenizer, length, count, path: rows(count))
    monkeypatch.setattr(bounded.pretrained, "compact_model", lambda: AdaptedModel(strong_model(), Letters(), "tiny"))
    monkeypatch.setattr(bounded.pretrained, "adapted_model", lambda name: AdaptedModel(strong_model(1), None, name))
    monkeypatch.setattr(bounded.pretrained, "small_model", lambda: SmallModel(strong_llama(), None, "tiny"))
    monkeypatch.setattr(bounded, "LENGTHS", {8: 2})
    monkeypatch.setattr(bounded, "PROMPT", 4)
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(record, "command_line", lambda: "python benchmarks/bounded.py")
    monkeypatch.setattr(sys, "argv", [str(Path(bounded.__file__))])
    return tmp_path


def test_it_measures_keeps_and_goes_on(folder, monkeypatch):
    bounded.main(["--rows", "4"])
    first = json.loads((folder / "bounded.json").read_text())
    assert first["systems"].keys() == {"compact", bounded.ADAPTER}
    expected = {"compact": (4, [*FIXED, *CHOSEN]), bounded.ADAPTER: (2, bounded.FEW)}
    for name, (count, ways) in expected.items():
        system = first["systems"][name]
        assert system["rows"] == count and [row["way"] for row in system["ways"]] == ways
        assert [row["tokens_per_pass"] for row in system["ways"][:2]] == [1, round(9 / 5, 2)]
        assert all(row["loss"]["low"] <= row["loss"]["mean"] <= row["loss"]["high"] for row in system["ways"])
    assert first["judge"] == "a list" and [*first["judged"]] == [*FIXED, *CHOSEN, bounded.REAL]
    real = Letters().batch_decode(rows(4), True)
    assert first["judged"][bounded.REAL] == {"texts": [real] * 3}
    for way in (*FIXED, *CHOSEN):
        by_seed = first["judged"][way]["texts"]
        assert all([one[:GIVEN] for one in texts] == [one[:GIVEN] for one in real] for texts in by_seed)
        assert by_seed[0] != by_seed[1] and real not in by_seed
    assert first["judged"]["far apart, 2"]["tokens_per_pass"] == round(9 / 5, 2)
    assert first["speed"].keys() == {"8"} and first["speed"]["8"]["transformers generate"]["ratio"] == 1
    assert "confidence, 4, window 16" in first["speed"]["8"]
    monkeypatch.setattr(bounded, "chosen", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(bounded, "speed", lambda *_: pytest.fail("measured again"))
    bounded.main(["--rows", "4"])
    again = json.loads((folder / "bounded.json").read_text())
    assert again["systems"] == first["systems"] and again["speed"] == first["speed"]


def test_a_smoke_run_writes_nothing(folder, monkeypatch):
    monkeypatch.setattr(bounded, "SMOKE", list(FIXED))
    bounded.main(["--smoke"])
    assert not (folder / "bounded.json").exists()


@pytest.mark.parametrize("known_order", groups.KNOWN_ORDERS)
def test_the_loss_is_that_of_what_would_be_drawn(folder, known_order):
    """What resampling drew, replayed: the same log-probabilities, in as many passes."""
    model = in_double(from_autoregressive(strong_llama(), dtype=torch.float64))
    model.config.known_order = known_order
    ids, unknown = rows(3), (torch.arange(LENGTH) >= GIVEN).expand(3, -1)
    position = torch.arange(LENGTH).expand(3, -1)
    known_groups = position if known_order == "left_to_right" else None
    for options in CHOSEN.values():
        done = decode.resample(
            model, ids, unknown, **options, known_groups=known_groups, generator=torch.Generator().manual_seed(0)
        )
        nats, passes = bounded.chosen(model, done.sequences, options)
        same(nats, -done.log_probs.sum(-1))
        assert passes.tolist() == done.trace.passes
    nats, passes = bounded.fixed(model, ids, FIXED["far apart, 2"])
    order, known = groups.read_given(FIXED["far apart, 2"].expand(3, -1), known_order)
    same(nats, -objective.log_likelihood(model, ids, order, known))
    assert passes.tolist() == [5, 5, 5]
