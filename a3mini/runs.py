"""What a training run leaves behind: its record, its metrics, and checkpoints that are whole or not there.

A run's folder::

    run.json            configuration, seed, versions, hardware
    metrics.jsonl       one line per logged step
    checkpoints/step-N/ trainable.safetensors, optimizer.safetensors, state.json

A checkpoint is written into a folder of another name, flushed to the disk, and renamed when it is complete. So a
process that is killed while it saves, or a disk that is full, leaves the earlier checkpoint as it was.
"""

import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "peft")
KEEP = 2  # checkpoints
PARTIAL = ".partial-"
LOGGED = ("step", "tokens", "seconds", "loss", "learning_rate", "gradient_norm")  # in metrics, beside evaluations


def versions() -> dict[str, str]:
    """Python's version and those of the packages that compute."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> str:
    """The name of the processor that computes."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, no GPU"


def write_json(path: Path, data) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(data, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(final: Path, partial: Path | None = None) -> Iterator[Path]:
    """A new, empty folder to write into; it becomes ``final``, in place of what is there, or is removed.

    Args:
        final: where the folder belongs.
        partial: where it is until it is complete; default: beside ``final``.
    """
    partial = partial or final.with_name(f"{PARTIAL}{final.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        for file in partial.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def save_checkpoint(folder: Path, step: int, tensors: dict[str, dict[str, Tensor]], state: dict) -> Path:
    """Write checkpoint ``step`` below ``folder`` whole or not at all, and remove all but the last two.

    Args:
        tensors: a file name (without ending) to the tensors in it.
        state: what else there is to know; JSON.

    Raises:
        OSError: it could not be written; the message names the last good checkpoint.
    """
    final = folder / f"step-{step}"  # may exist, from a run that this one replaces
    try:
        with whole_folder(final, folder / f"{PARTIAL}{step}") as partial:
            for name, contents in tensors.items():
                # a copy each: safetensors refuses tensors that share memory
                copies = {key: value.detach().cpu().clone() for key, value in contents.items()}
                save_file(copies, partial / f"{name}.safetensors")
            (partial / "state.json").write_text(json.dumps(state), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        last = latest_checkpoint(folder)
        raise OSError(
            f"the checkpoint of step {step} could not be written to {folder}: {error}. Free some space and start the "
            f"same command again; the last good checkpoint is {last or 'none'}"
        ) from error
    for old in _checkpoints(folder)[:-KEEP]:
        shutil.rmtree(old)
    return final


def load_checkpoint(path: Path, names: tuple[str, ...]) -> tuple[dict[str, dict[str, Tensor]], dict]:
    """The tensors of the files ``names``, and the state.

    Raises:
        ValueError: a file is missing or damaged.
    """
    try:
        tensors = {name: load_file(path / f"{name}.safetensors") for name in names}
        return tensors, json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(
            f"the checkpoint {path} is damaged ({error}); remove it, and the one before it is used"
        ) from error


def latest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint of the highest step; what a killed process left half-written is removed."""
    for partial in folder.glob(f"{PARTIAL}*"):
        shutil.rmtree(partial, ignore_errors=True)
    found = _checkpoints(folder)
    return found[-1] if found else None


def _checkpoints(folder: Path) -> list[Path]:
    complete = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdigit()]
    return sorted(complete, key=lambda path: int(path.name.removeprefix("step-")))


def cut_metrics(path: Path, step: int) -> None:
    """Drop the lines after ``step``: the resumed run will write them again."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
        temporary = path.with_name(f".{path.name}.partial")
        temporary.write_text("".join(f"{line}\n" for line in lines))
        temporary.replace(path)


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):  # the process was killed in the middle of the line
        return float("inf")


def read_metrics(folder: Path | str) -> list[dict]:
    """All lines of a run's metrics."""
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """The entries of two nested dicts that differ, as "name: old, now new"."""
    found = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {before!r}, now {after!r}")
    return found
