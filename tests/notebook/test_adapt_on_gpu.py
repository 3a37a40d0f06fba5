"""Notebook 09 on machines that are not here: its cells that choose profile, folder and plan, with a faked device."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nbformat
import pytest
from faked_devices import DEVICES
from places import ROOT

from a3mini import adapter, pretrained
from a3mini.train import TrainConfig, devices

NOTEBOOK = nbformat.read(ROOT / "notebooks" / "09_adapt_on_gpu.ipynb", as_version=4)
GPUS = ("T4", "L4", "A100", "H100")
DRIVE = Path("/content/drive/MyDrive/a3-runs")


def tagged(tag: str) -> list[str]:
    return [cell.source for cell in NOTEBOOK.cells if tag in cell.metadata.get("tags", [])]


def colab(monkeypatch, where: str) -> list[str]:
    """Fake the packages: "colab", "no google", or "another google" (as protobuf's). What is mounted comes back."""
    mounted = []
    google, found = ModuleType("google"), ModuleType("google.colab")
    google.__path__ = []
    found.drive = SimpleNamespace(mount=mounted.append)
    monkeypatch.setitem(sys.modules, "google", None if where == "no google" else google)
    if where == "no google":  # what is asked for first is the package above
        monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    else:
        monkeypatch.setitem(sys.modules, "google.colab", found if where == "colab" else None)
    if where == "colab":
        google.colab = found
    return mounted


def profile_cells(monkeypatch, device: devices.Device, profile: str = "auto") -> dict:
    """The names that the cells leave."""
    monkeypatch.setattr(devices, "this", lambda: device)
    names: dict = {}
    dial, *others = tagged("profile")
    for source in (*tagged("imports"), dial.replace('PROFILE = "auto"', f'PROFILE = "{profile}"'), others[0]):
        exec(source, names)
    model = names["dial"]["model"]
    names["ar"] = SimpleNamespace(config=devices.MODELS[pretrained.HUB_MODEL if model == pretrained.SMALL else model])
    names["seconds"] = None  # of kernels, which a device that is not there cannot tell
    for source in others[1:]:
        exec(source, names)
    return names


@pytest.mark.parametrize("where", ["colab", "no google", "another google"])
@pytest.mark.parametrize("profile", ["auto", "gpu", "large"])
def test_the_same_run_in_the_same_folder_on_every_gpu(profile, where, monkeypatch):
    mounted = colab(monkeypatch, where)
    found = {name: profile_cells(monkeypatch, DEVICES[name], profile) for name in GPUS}
    runs = {(str(names["run"]), str(names["dial"]), names["PROFILE"]) for names in found.values()}
    assert len(runs) == 1, "what is trained, and where, must not follow the GPU"
    assert len(mounted) == (len(GPUS) if where == "colab" else 0)
    (folder, _, chosen), *_ = runs
    assert chosen == ("gpu" if profile == "auto" else profile)
    assert Path(folder).parent == (DRIVE if where == "colab" else Path("runs"))
    for name, names in found.items():
        plan, dial = names["plan"], names["dial"]
        assert plan.precision == ("fp16" if name == "T4" else "bf16")
        assert plan.micro_batch_size * plan.accumulation == dial["batch"]
        assert plan.estimate.total <= devices.USABLE * DEVICES[name].memory
        assert plan.trainable == "lora"
        logits = 2 * plan.evaluation_batch_size * dial["length"] * names["ar"].config.vocab_size * 4
        assert plan.estimate.parameters + logits < devices.USABLE * DEVICES[name].memory
        TrainConfig(steps=names["steps"], batch_size=dial["batch"], **plan.settings())
        assert pretrained.sources.is_hub_id(dial["model"]) and not dial["model"].startswith("meta-llama/")  # gated


@pytest.mark.parametrize("where", ["colab", "no google", "another google"])
@pytest.mark.parametrize("name", ["CPU", "old CPU"])
def test_a_cpu_rehearses_in_a_folder_of_its_own(name, where, monkeypatch):
    mounted = colab(monkeypatch, where)
    first, second = (profile_cells(monkeypatch, DEVICES[name]) for _ in range(2))
    assert first["PROFILE"] == "smoke" and first["run"] != second["run"] and not mounted
    assert first["plan"].precision == ("bf16" if DEVICES[name].native_bf16 else "fp32")
    for names in (first, second):
        names["run"].parent.rmdir()


def test_a_gpu_that_is_too_small_is_told_what_would_fit(monkeypatch):
    colab(monkeypatch, "no google")
    with pytest.raises(ValueError, match="what would fit: ") as caught:
        profile_cells(monkeypatch, DEVICES["T4"]._replace(memory=2_300_000_000), "large")
    assert "\n" not in str(caught.value)


def test_the_old_question_fails_without_a_google_package(monkeypatch):
    """The mutant: ``find_spec`` of a submodule imports the package above it."""
    colab(monkeypatch, "no google")
    with pytest.raises(ModuleNotFoundError):
        importlib.util.find_spec("google.colab")


@pytest.mark.parametrize(
    ("source", "base"),
    [
        (pretrained.SMALL, "HuggingFaceTB/SmolLM2-135M-Instruct"),
        (pretrained.HUB_MODEL, "HuggingFaceTB/SmolLM2-135M"),
        ("HuggingFaceTB/SmolLM2-360M", "HuggingFaceTB/SmolLM2-360M"),
    ],
)
def test_the_card_names_the_true_source(source, base, tmp_path):
    (card,) = (cell.source for cell in NOTEBOOK.cells if "base_model" in cell.source)
    names: dict = {}
    for one in tagged("imports"):
        exec(one, names)
    record = {"steps": 1, "tokens": 2, "rank": 3, "known_order": "left_to_right"}
    order = "left to right"
    names |= {"SOURCE": source, "source_name": "?", "origin": "tales", "record": record, "names": [order]}
    names |= {"last": {order: 1.5}, "watched": SimpleNamespace(input_ids=[0]), "length": 8, "folder": tmp_path}
    exec(card, names)
    text = (tmp_path / "README.md").read_text()
    assert text.splitlines()[1] == f"base_model: {base}"
    assert f"# {base.split('/')[1]}, adapted" in text and "known tokens read each other" in text.lower()


def test_the_stored_run_is_that_of_the_shipped_adapter():
    """The notebook draws this curve beside the adapter's record, and says itself how long its stages are."""
    _, record = adapter.read(pretrained.ADAPTERS["smollm2-a3"])
    stored = json.loads((ROOT / "book" / "results" / "adaptation.json").read_text())["curves"]["a3"]
    assert (stored[-1]["step"], stored[-1]["tokens"]) == (record["steps"], record["tokens"])
    assert abs(stored[-1]["seconds"] - record["seconds"]) < 1
    (drawn,) = (cell.source for cell in NOTEBOOK.cells if "adaptation.json" in cell.source)
    card = (pretrained.ADAPTERS["smollm2-a3"] / "README.md").read_text()
    stages = "left to right (1); growing groups (1); permuted groups, spans and sentences (8)"
    assert stages in card and "zip((1, 1, 8), curriculum.stages" in drawn
