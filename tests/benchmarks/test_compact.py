"""benchmarks/compact.py on a tiny model: everything runs, what stops goes on to the same bits, twins see the same."""

import signal
import threading
import time

import compact
import pytest
import torch
from safetensors.torch import load_file

from a3mini import A3ForCausalLM, eight_bit, groups, runs
from a3mini.train import data, loop
from a3mini.train.batches import Batches
from a3mini.train.interrupt import Stop

TINY = compact.SIZES["smoke"]
STORY = 'The {0} cat sat on the mat. It saw a {0} dog, and ran off! "Come back," said the dog. So it came back. '


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rows of two sources, one of which is shown three times."""
    folder = tmp_path_factory.mktemp("compact")
    for name, words in {"stories": range(60), "tales": range(100, 140)}.items():
        texts = (STORY.format(f"{number} {name}") * 6 for number in words)
        (folder / f"{name}.txt").write_text("<|endoftext|>".join(texts))
    compact.prepare(folder, {str(folder / "stories.txt"): 3, str(folder / "tales.txt"): 1}, TINY.vocabulary)
    return folder


def again(folder, tmp_path):
    """The same rows, and no run."""
    for name in ("rows.safetensors", "text.json", "tokenizer"):
        (tmp_path / name).symlink_to(folder / name)
    return tmp_path


def test_the_rows(folder):
    text = compact.read_text(folder)
    assert set(text.held_out) == {"stories", "tales"} and text.about["held_out_documents"] == 5
    assert text.rows.input_ids.shape[1] == compact.LENGTH
    own = {row for row, n in zip(text.rows.documents.tolist(), text.visits.tolist(), strict=True) if n == 3}
    assert 0 < len(own) < text.about["documents"] == len(set(text.rows.documents.tolist()))
    seen = {tuple(row) for row in text.rows.input_ids.tolist()}
    assert not any(tuple(row) in seen for blocks in text.held_out.values() for row in blocks.input_ids.tolist())
    end = data.empty_token(text.tokenizer, torch.empty(len(text.tokenizer), 1), compact.END)
    assert not (text.rows.input_ids == end).any() and end in text.tokenizer.all_special_ids
    ends = text.tokenizer.batch_decode(text.rows.input_ids[text.rows.sentence_ends].long()[:50, None])
    assert ends and all(one.rstrip('" ').endswith((".", "!", "?")) for one in ends)
    tokens = (text.rows.lengths * text.visits).sum()
    assert sum(text.about["tokens"].values()) == tokens


def test_twins_see_the_same_rows_and_begin_alike(folder):
    text, config = compact.read_text(folder), compact.config_of(TINY)
    models = {arm: compact.new_model(arm, TINY, text.tokenizer) for arm in compact.ARMS}
    found = {}
    for arm in compact.ARMS:
        recipe = loop.for_model(compact.recipe_of(arm), models[arm])
        batches = Batches(text.rows, recipe, config, visits=text.visits)
        steps = [batches.examples.of(step) for step in range(config.steps)]
        found[arm] = [batches.order.rows(examples).tolist() for examples in steps], batches[0].tokens
    assert found["a3"] == found["ar"] == found["diffusion"]
    first = {arm: dict(model.named_parameters()) for arm, model in models.items()}
    for name, weight in first["ar"].items():
        assert torch.equal(weight, first["a3"][name]) and torch.equal(weight, first["diffusion"][name])
    assert torch.equal(first["diffusion"]["mask_embedding"], first["a3"]["model.query_embedding"])


class Impatient(Stop):
    """Asked to stop after two steps."""

    seen = 0

    def __bool__(self):
        self.seen += 1
        return self.seen >= 2


@pytest.mark.parametrize("arm", ["a3", "diffusion"])
def test_what_is_stopped_goes_on_to_the_same_bits(folder, tmp_path, monkeypatch, arm):
    whole, parts = (again(folder, tmp_path / name) for name in ("whole", "parts") if not (tmp_path / name).mkdir())
    assert compact.train_arm(whole, arm, TINY, quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "Stop", Impatient)
        assert not compact.train_arm(parts, arm, TINY, quiet=True)
    before = compact.load_arm(parts, arm)
    assert before.state["step"] == 2 and not before.state["finished"]
    assert compact.train_arm(parts, arm, TINY, quiet=True)
    last = [runs.latest_checkpoint(one / arm / "checkpoints") for one in (whole, parts)]
    for name in ("trainable", "average"):
        one, other = (load_file(path / f"{name}.safetensors") for path in last)
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    after = compact.load_arm(parts, arm)
    assert after.state["finished"] and after.state["tokens"] > before.state["tokens"]
    averages = load_file(last[1] / "average.safetensors")
    for name, weight in after.model.named_parameters():
        assert torch.equal(weight, averages[f"average.{name}"])


def test_a_clock_asks_for_the_stop():
    with Stop() as stop, compact.stopped_after(0.001):
        for _ in range(2000):  # at most ten seconds
            if stop:
                break
            time.sleep(0.005)
        assert stop
    with Stop() as stop, compact.stopped_after(None):
        assert not stop
    before = signal.getsignal(signal.SIGTERM)
    with compact.stopped_after(60):
        pass
    assert signal.getsignal(signal.SIGTERM) is before
    assert not [one for one in threading.enumerate() if isinstance(one, threading.Timer) and not one.finished.is_set()]


def test_differences_are_paired(folder):
    tokens = torch.tensor([10, 20, 30])
    nats = {"a3": torch.tensor([30.0, 40.0, 90.0]), "ar": torch.tensor([25.0, 30.0, 75.0])}
    means, differences = compact.summaries({arm: {"left to right": (one, tokens)} for arm, one in nats.items()})
    assert means["a3"]["left to right"]["mean"] == round(160 / 60, 4)
    (title, found), *_ = differences.items()
    assert title == "a3, left to right - ar, left to right" and found["mean"] == 0.5
    assert found["low"] == found["high"] == 0.5, "each row of the first has half a nat a token more"
    assert "a3, random order - diffusion, random order (bound)" not in differences


def test_everything_on_a_tiny_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compact, "NEW", 8)
    monkeypatch.setattr(compact, "SHOWN_TOKENS", 8)
    kept = []
    right = eight_bit.save
    monkeypatch.setattr(eight_bit, "save", lambda model, *rest: kept.append(model) or right(model, *rest))
    found = compact.smoke()
    assert not [*tmp_path.iterdir()], "nothing is written"
    (losses,) = found["losses"].values()
    assert losses["a3"].keys() == compact.GROUPINGS.keys() and compact.BOUND in losses["diffusion"]
    assert losses["ar"].keys() == set(compact.LEFT_ALONE.values())
    (differences,) = found["differences"].values()
    assert len(differences) == len(compact.PAIRS)
    assert {"a3, left to right 1", "a3, strided 4", "ar, left to right 1", "diffusion, random order 1"} <= set(
        found["judged"]
    )
    assert found["judged"][compact.REAL]["perplexity"][0] > 1
    assert found["samples"]["continuations"].keys() == {
        f"{arm}, {way}" for arm, ways in compact.SHOWN.items() for way in ways
    }
    assert len(found["samples"]["blanks"]) == 2
    assert all(arm["finished"] and arm["step"] == 6 for arm in found["arms"].values())
    assert found["arms"]["a3"]["tokens"] == found["arms"]["ar"]["tokens"] == found["arms"]["diffusion"]["tokens"]
    assert all(abs(one["mean"]) < 0.05 for one in found["rounding"]["more"].values())
    assert f"{found['weights']:,} weights" in found["card"] and "| strided 4 |" in found["card"]
    assert all(isinstance(model, A3ForCausalLM) for model in kept) and len(kept) == 2
    assert kept[0].config.known_order in groups.KNOWN_ORDERS
