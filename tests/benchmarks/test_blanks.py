"""benchmarks/blanks.py: which blanks it cuts, what it counts, and that its numbers are those of the package."""

import json
import sys
from pathlib import Path

import blanks
import pytest
import record
import torch

from a3mini import A3Config, A3ForCausalLM, decode
from a3mini.train import corpus, data
from a3mini.train.tokens import encode_behind

STORIES = [
    corpus.Story("", f"The {one} sat on the {two}, and it {did}. Then the {two} fell; the {one} ran off! It was {n}.")
    for n, (one, two, did) in enumerate(
        (a, b, c) for a in ("cat", "dog", "fox") for b in ("mat", "bed", "log") for c in ("slept", "sang", "ate")
    )
]
TOKENIZER = data.train_tokenizer(STORIES, 330)
END = TOKENIZER.pad_token_id


def model(end: int) -> A3ForCausalLM:
    torch.manual_seed(0)
    sizes = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2)
    config = A3Config(vocab_size=len(TOKENIZER), max_position_embeddings=64, tie_word_embeddings=True, **sizes)
    config.empty_token_id = end
    return A3ForCausalLM(config).eval()


@pytest.fixture
def small(monkeypatch, tmp_path):
    for name, value in {"MOST": 12, "CUT": 32, "FOLDER": tmp_path / "kept", "SHOWN": 2}.items():
        monkeypatch.setattr(blanks, name, value)
    monkeypatch.setattr(blanks.pretrained, "compact_model", lambda: (model(END), TOKENIZER, "tiny"))
    monkeypatch.setattr(blanks, "tinystories", lambda path: STORIES)
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", [str(Path(blanks.__file__))])
    return tmp_path / "blanks.json"


def cut(count: int = 8) -> list[blanks.Blank]:
    return blanks.cut(data.pack(STORIES, TOKENIZER, 32), TOKENIZER, count, 0)


def test_it_measures_keeps_and_goes_on(small, monkeypatch):
    asked = ["--blanks=4", "--filled=3"]
    blanks.main(asked)
    first = json.loads(small.read_text())
    assert first.keys() >= {"command", "seed", "versions", "hardware", "threads", "date", "wall_seconds"}
    assert (first["costs"]["all"]["blanks"], first["costs"]["sentences"]["blanks"], len(first["blanks"])) == (4, 2, 3)
    assert first["alike"] == 2.48  # ln 12
    by_itself, fixed = first["ways"].values()
    assert by_itself["ended"] and fixed["ended"] is None
    assert len(set(fixed["drawn"])) == 1 and list(first["ways"])[1] == f"{fixed['drawn'][0]} tokens"
    for name in ("nats", "filled"):
        monkeypatch.setattr(blanks, name, lambda *_, **__: pytest.fail("measured again"))
    blanks.main(asked)
    again = json.loads(small.read_text())
    assert all(again[name] == first[name] for name in ("costs", "ways", "blanks", "wall_seconds"))


def test_a_rehearsal_writes_nothing(small):
    blanks.main(["--smoke"])
    assert not small.exists() and not (small.parent / "kept").exists()


def test_blanks_are_whole_sentences_and_clauses(small):
    texts = [story.text for story in STORIES]
    found = cut()
    assert [blank.kind for blank in found] == ["sentences", "clauses"] * 4
    for blank in found:
        assert any(blank.before + blank.filled + blank.behind in text for text in texts)
        assert 1 <= len(blank.tokens) <= 12 and blank.tokens == encode_behind(TOKENIZER, blank.filled)
        assert blank.filled[-1] in blanks.ENDS[blank.kind]
        assert blank.before[-1] in (".!?" if blank.kind == "sentences" else ".!?,;:") and blank.behind.strip()
        assert not set(blank.filled[:-1]) & set(".!?" if blank.kind == "sentences" else ".!?,;:")
    assert len({blank.before for blank in found}) > 2
    with pytest.raises(ValueError, match="fewer than the 99 that are wanted"):
        cut(99)


@pytest.mark.parametrize(
    ("text", "last"), [("a.", "."), ('He said, "Go!" ', "!"), ("a,\n", ","), ("", ""), ('"', ""), ("ab", "b")]
)
def test_the_mark_at_the_end_of_a_text(text, last):
    assert blanks.closing(text) == last


def test_scores_are_those_of_the_draws(small):
    """What was drawn at a known length, and at an unknown one, has the log-probability that drawing it had."""
    one, blank = model(END), cut(1)[0]
    for seed in range(3):
        how = {"banned": (), "generator": torch.Generator().manual_seed(seed)}
        out = decode.infill(one, TOKENIZER, blank.text, tokens_per_blank=5, **how)
        same = blank._replace(tokens=out.sequences[~out.known].tolist())
        assert blanks.known_length(one, TOKENIZER, same) == pytest.approx(-out.log_probs.sum().item(), abs=1e-4)
    out = decode.infill(one, TOKENIZER, blank.text, most=12, **how)
    same = blank._replace(tokens=[t for t in out.sequences[~out.known & (out.group_ids > 0)].tolist() if t != END])
    found = blanks.nats(one, TOKENIZER, [same])
    assert found["unknown"] == [pytest.approx(-out.log_probs.sum().item(), abs=1e-4)]


def test_what_is_counted():
    def blank(kind, size):
        return blanks.Blank(kind, "a", "b", "c", [5] * size)

    four = [blank("sentences", 2), blank("clauses", 4), blank("sentences", 2), blank("clauses", 4)]
    costs = blanks.costs(four, {"known": [2.0, 4, 2, 4], "unknown": [3.0, 6, 5, 6]})
    assert [costs[kind]["blanks"] for kind in costs] == [2, 2, 4]
    means = {kind: [costs[kind][name]["mean"] for name in ("known", "unknown", "cost")] for kind in costs}
    assert means == {"sentences": [1, 2, 2], "clauses": [1, 1.5, 2], "all": [1, 1.667, 2]}
    made = {"texts": ["a!", "a.", '"', 'a;"'], "tokens": [2, 1, 4, 8], "ended": [True, True, False, True]}
    ends = blanks.endings(four, made, True)
    assert [ends[name]["mean"] for name in ("ended", "tokens", "off")] == [0.75, 3.8, 2.2]
    assert {kind: share["mean"] for kind, share in ends["closes"].items()} == {"sentences": 0.5, "clauses": 0.5}
    assert blanks.endings(four, made, False)["ended"] is None
