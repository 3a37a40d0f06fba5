"""benchmarks/rewriting.py: what it counts, on tiny models, and what the tables make of it."""

import json
import sys
from pathlib import Path

import pytest
import record
import rewriting
import torch
from laws import strong_model

from a3mini.decode import Change
from a3mini.train import corpus, data

TEXT = " ".join(sentence.format(word) for sentence, *words in rewriting.SENTENCES for word in words)
TOKENIZER = data.train_tokenizer([corpus.Story("", TEXT)], 600)
MODEL = strong_model(vocab_size=len(TOKENIZER), max_position_embeddings=64)


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(rewriting, "MODELS", {name: lambda: (MODEL, TOKENIZER, "tiny") for name in rewriting.MODELS})
    monkeypatch.setattr(rewriting, "MANY", 5)
    monkeypatch.setattr(rewriting, "TEXTS", ["The ([door] and the)", "(([king])"])
    monkeypatch.setattr(rewriting, "SENTENCES", rewriting.SENTENCES[:2])
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", [str(Path(rewriting.__file__))])
    return tmp_path / "rewriting.json"


def test_it_measures_and_records(small):
    rewriting.main([])
    found = json.loads(small.read_text())
    assert found.keys() >= {"command", "seed", "versions", "hardware", "threads", "date", "wall_seconds"}
    assert found["models"].keys() == rewriting.MODELS.keys()
    for one in found["models"].values():
        for marked, text in zip(rewriting.TEXTS, one["rewriting"]["texts"], strict=True):
            originals = [way for way in text["alternatives"] if way["original"]]
            assert f"{text['before']}[{originals[0]['words']}]{text['behind']}" == marked and len(originals) == 1
        assert one["revising"].keys() == {"0", "4"}
        for revised in one["revising"].values():
            assert revised["restored"] <= revised["mended"] <= revised["changed"] <= 2
            assert revised["intact_changed"] == sum(bool(row["intact_lines"]) for row in revised["rows"])
            for (sentence, right, wrong), row in zip(rewriting.SENTENCES, revised["rows"], strict=True):
                assert (row["text"], row["right"]) == (sentence.format(wrong), sentence.format(right))


class Revised:
    """What ``revise_text`` returns, with changes that the test names."""

    def __init__(self, ids, changes, lines=("a line",)):
        self.sequences, self.text, self.lines = torch.tensor([[1, *ids]]), TOKENIZER.decode(ids), lines
        self.changes = (tuple(Change(n, (at,), (0,), (0,), 1.0) for n, at in enumerate(changes, 1)),)
        self.before, self.after = torch.tensor([-9.0]), torch.tensor([-4.0])


def test_what_is_counted(monkeypatch):
    """One sentence is mended at once, one is changed elsewhere too, in one the wrong word stays."""
    sentences = rewriting.SENTENCES[:3]
    right = [TOKENIZER.encode(sentence.format(word), add_special_tokens=False) for sentence, word, _ in sentences]
    wrong = [TOKENIZER.encode(sentence.format(word), add_special_tokens=False) for sentence, _, word in sentences]
    at = [next(n for n in range(len(a)) if a[n] != b[n]) + 1 for a, b in zip(right, wrong, strict=True)]
    other = [9, *right[1][1:]]
    answers = [
        Revised(right[0], [at[0]]), Revised(right[0], [], ()),
        Revised(other, [1, at[1]]), Revised(other, [1]),
        Revised(wrong[2], [], ()), Revised(right[2], [], ()),
    ]  # fmt: skip
    monkeypatch.setattr(rewriting.decode, "revise_text", lambda *_, **__: answers.pop(0))
    found = rewriting.revised(MODEL, TOKENIZER, sentences, 0)
    counted = {name: found[name] for name in ("first", "changed", "mended", "restored", "elsewhere", "intact_changed")}
    assert counted == {"first": 1, "changed": 2, "mended": 2, "restored": 1, "elsewhere": 1, "intact_changed": 1}
    assert found["gain"] == 5


def test_a_word_must_be_one_token():
    with pytest.raises(ValueError, match="'gold' and 'xyzzy' must be one token each in 'A ring of {}.'"):
        rewriting.revised(MODEL, TOKENIZER, [("A ring of {}.", "gold", "xyzzy")], 0)


def test_one_model_is_measured_anew_and_the_rest_stays(small):
    rewriting.main(["--only", "compact"])
    assert not small.exists()
    rewriting.main([])
    stored = json.loads(small.read_text())
    small.write_text(json.dumps(stored | {"models": {name: {"model": "old"} for name in rewriting.MODELS}}))
    for _ in range(2):
        rewriting.main(["--only", "compact"])
        found = json.loads(small.read_text())
        assert found["models"]["compact"] == stored["models"]["compact"]
        assert found["models"]["smollm2-a3-warm"] == {"model": "old"}
        assert [one["what"] for one in found["renewed"]] == ["*compact* was measured anew"]
        assert found["renewed"][0].keys() >= {"command", "date", "wall_seconds"}


def test_a_rehearsal_writes_nothing(small, capsys):
    rewriting.main(["--smoke"])
    assert not small.exists() and "compact" in capsys.readouterr().out
