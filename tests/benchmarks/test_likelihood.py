"""benchmarks/likelihood.py on tiny models: what it writes, what it keeps, what it leaves out."""

import itertools
import json
import sys
from pathlib import Path

import likelihood
import pytest
import record
import torch
from laws import strong_llama

from a3mini import from_autoregressive
from a3mini.train import MaskedDiffusionModel, corpus, data

WORDS = "the cat and a dog sat or ran to one big mat by it".split()
TOKENIZER = data.train_tokenizer([corpus.Story("", " ".join(WORDS))], vocab_size=300)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two small tasks; tiny models stand in for SmolLM2 and its adapters."""
    files = tmp_path / "data"
    files.mkdir()
    rows = [
        {"context_options": [f"{a} saw {b} so {a}", f"{a} saw {b} so {b}"], "continuation": "ran.", "gold": n % 2}
        for n, (a, b) in enumerate(itertools.pairwise(WORDS))
    ]
    (files / "winogrande_dev.jsonl").write_text("\n".join(map(json.dumps, rows)))
    rows = [{"context": f"Question: {word}?\nAnswer:", "answer": word, "aliases": [word.upper()]} for word in WORDS]
    (files / "triviaqa_part.jsonl").write_text("\n".join(map(json.dumps, rows)))
    loaded = []

    def load_arm(kind: str, where: str | None):
        loaded.append((kind, where))
        llama = strong_llama(vocab_size=300, max_position_embeddings=128, bos_token_id=1, eos_token_id=2)
        makes = {"any-order": from_autoregressive, "diffusion": MaskedDiffusionModel.from_autoregressive}
        return makes.get(kind, lambda model: model)(llama), TOKENIZER, f"tiny {kind}"

    monkeypatch.setattr(likelihood, "load_arm", load_arm)
    monkeypatch.setattr(likelihood, "FOLDER", tmp_path / "kept")
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(record, "command_line", lambda: "python benchmarks/likelihood.py", raising=False)
    monkeypatch.setattr(sys, "argv", [str(Path(likelihood.__file__))])
    return tmp_path, loaded


def run(folder: Path, *more: str) -> dict:
    tasks = ["--tasks", "winogrande", "triviaqa", "--count", "6", "--parity", "3"]
    likelihood.main(["--data", str(folder / "data"), *tasks, *more])
    return json.loads((folder / "likelihood.json").read_text())


def test_it_measures_keeps_and_goes_on(folder, monkeypatch):
    where, loaded = folder
    first = run(where, "--diffusion", "folder")
    assert loaded == [("autoregressive", None), ("any-order", None), ("diffusion", "folder")], "each model once"
    assert first["systems"].keys() == {"source", "a3-content", "a3", "a3-both", "diffusion", "diffusion-both"}
    both = {"winogrande", "triviaqa"}
    assert first["systems"]["source"]["tasks"].keys() == first["systems"]["a3"]["tasks"].keys() == both
    assert first["systems"]["a3-both"]["tasks"].keys() == {"winogrande"}
    assert first["tasks"] == {
        "winogrande": {"questions": 6, "chance": 0.5},
        "triviaqa": {"questions": 6, "chance": None},
    }
    # A3's content stream has the source's weights here, so the two classes agree on every choice
    assert first["parity"]["winogrande"]["choices"] == first["parity"]["winogrande"]["same_greedy"] == 6
    assert first["parity"]["winogrande"]["largest_difference_nats"] < 1e-4
    content = first["systems"]["a3-content"]["tasks"]["winogrande"]
    assert content["minus"]["source"] == {
        m: {"mean": 0, "low": 0, "high": 0} for m in ("acc", "acc_token", "acc_bytes")
    }
    assert content["metrics"] == first["systems"]["source"]["tasks"]["winogrande"]["metrics"]
    found = content["metrics"]["acc"]
    assert found["low"] < found["mean"] <= found["high"] <= 1 and found["mean"] * 6 == pytest.approx(
        round(found["mean"] * 6), abs=1e-3
    )
    assert "saw" not in json.dumps(first), "no question's text"

    def never(*_):
        raise AssertionError("it was measured before")

    monkeypatch.setattr(likelihood, "measure", never)
    monkeypatch.setattr(likelihood, "parity", never)
    assert run(where, "--diffusion", "folder") == first | {"date": first["date"]}
    with pytest.raises(AssertionError, match="measured before"):
        run(where, "--seed", "1")


def test_parity_sees_other_weights(folder, monkeypatch):
    """The mutant: one weight of the last norm is changed, by a thousandth."""

    def changed(source):
        model = from_autoregressive(source)
        with torch.no_grad():
            model.model.norm.weight[0] *= 1.001
        return model

    monkeypatch.setattr(likelihood, "from_autoregressive", changed)
    found = run(folder[0], "--systems", "source")["parity"]
    assert 1e-4 < found["winogrande"]["largest_difference_nats"] < 1


def test_what_is_refused(folder, capsys):
    where, _ = folder
    with pytest.raises(SystemExit):
        run(where, "--systems", "ar")
    assert "the system ar needs an adapter: --autoregressive FOLDER" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="must have one file whose name begins with 'piqa'; it has 0"):
        likelihood.main(["--data", str(where / "data"), "--tasks", "piqa"])
