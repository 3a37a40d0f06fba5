"""benchmarks/tradeoff.py: what ``--add`` measures stands beside what was stored, and that stays as it was."""

import json

import pytest
import torch
import tradeoff
from laws import strong_model

from a3mini import groups

WORDS = 11


class Letters:
    """A tokenizer of the tests."""

    def batch_decode(self, rows, skip_special_tokens):
        return [" ".join(chr(97 + token) for token in row) for row in rows.tolist()]


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A stored result, and a tiny model in place of the compact one."""
    monkeypatch.setattr(tradeoff, "SAMPLES", 2)
    ids = torch.randint(WORDS, (tradeoff.SAMPLES, tradeoff.LENGTH), generator=torch.Generator().manual_seed(0))
    model = strong_model(max_position_embeddings=tradeoff.LENGTH)
    monkeypatch.setattr(tradeoff, "compact_model", lambda: (model, Letters(), "tiny"))
    monkeypatch.setattr(tradeoff, "held_out", lambda tokenizer, length, count, path: ids)
    monkeypatch.setattr(
        tradeoff, "judge", lambda texts: {name: {"texts": rows} for name, rows in texts.items()} | {"judge": "j"}
    )
    monkeypatch.setattr(tradeoff, "RESULTS", tmp_path)
    monkeypatch.setattr(tradeoff, "provenance", lambda seed, seconds: {"command": "again", "date": "today"})
    rows = {
        f"left to right, {size}": {"family": "left to right", "tokens_per_step": size, "ms_per_sample": 100 / size}
        for size in tradeoff.SIZES
    }
    result = {"command": "before", "samples": 2, "strategies": rows | {tradeoff.REAL: {"own_loss": [1, 0]}}}
    path = tmp_path / "tradeoff.json"
    path.write_text(json.dumps(result))
    return result, path


def test_a_family_is_added(stored, monkeypatch):
    before, path = stored
    orders = []
    real = tradeoff.decode.generate
    monkeypatch.setattr(
        tradeoff.decode, "generate", lambda m, ids, order, **more: orders.append(order) or real(m, ids, order, **more)
    )
    clocks = iter(range(1000))  # a run takes one tick: the ratio is one
    monkeypatch.setattr(tradeoff.time, "process_time", lambda: next(clocks))
    tradeoff.main(["--add", "strided"])
    found = json.loads(path.read_text())
    names = ["left to right, 1"]
    for size in (2, 4, 8, 16):
        names += [f"left to right, {size}", f"strided, {size}"]
        row = found["strategies"][f"strided, {size}"]
        assert (row["tokens_per_step"], row["passes"], row["ms_per_sample"]) == (size, 64 / size, round(100 / size, 1))
        assert len(row["judged"]["texts"]) == len(tradeoff.SEEDS) and len(row["own_loss"]) == 2
        expected = groups.strided(tradeoff.LENGTH, size, tradeoff.GIVEN)
        assert any(torch.equal(order[0], expected) for order in orders)
    assert list(found["strategies"]) == [*names, tradeoff.REAL]
    assert {**found, "strategies": None} == {**before, "strategies": None, "added": [
        {"command": "again", "date": "today", "families": ["strided"]}]}  # fmt: skip
    assert all(found["strategies"][name] == row for name, row in before["strategies"].items())
    tradeoff.main(["--add", "strided"])
    again = json.loads(path.read_text())
    assert list(again["strategies"]) == list(found["strategies"]) and len(again["added"]) == 1


def test_what_the_others_are_compared_with_is_not_added():
    with pytest.raises(SystemExit):
        tradeoff.main(["--add", "left to right"])
