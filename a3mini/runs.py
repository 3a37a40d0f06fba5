"""What a training run leaves behind: its record, its metrics, and checkpoints that are whole or not there.

A run's folder::

    run.json            configuration, seed, versions, hardware
    metrics.jsonl       one line per logged step
    checkpoints/step-N/ trainable.safetensors, optimizer.safetensors, state.json

There are two checkpoints. The next one is written over the older: that folder gets another name, its files are
written anew in place and flushed to the disk, the state last, and the folder is renamed when all is complete. So a
process that is killed while it saves, or a disk that is full, leaves the newer checkpoint as it was; and nothing is
deleted, for on a mounted Google Drive what is deleted, or replaced by another file, goes to a bin that counts against
the quota, while the earlier versions of a file that is written over do not. What somebody else has put in the place of
a file or folder of ours is never replaced.
"""

import hashlib
import json
import os
import platform
import shutil
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from filelock import FileLock, Timeout  # comes with torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as as_bytes  # the library's save_file replaces the file by another
from torch import Tensor

PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "peft")
KEEP = 2  # checkpoints
PARTIAL, REPLACED = ".partial-", ".replaced-"  # begin a folder's name while it is written, and while it is exchanged
STATE = "state.json"
LOGGED = ("step", "tokens", "seconds", "loss", "learning_rate", "gradient_norm")  # in metrics, beside evaluations


class NotOurs(FileExistsError):
    """Something stands in the place of a file or folder of ours that we have not written, and would have to go."""


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
    """Write a text file whole or not at all.

    A link is followed. What is no regular file, such as a pipe or /dev/null, is written into and never replaced.
    """
    if path.exists() and (not path.is_file() or path.is_relative_to("/dev") or path.is_relative_to("/proc")):
        path.write_text(text, encoding="utf-8")
        return
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write a file at; it becomes ``path``, or is removed. A link is followed."""
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def holds_only(folder: Path, names: Collection[str] = ()) -> None:
    """Check that a folder may be replaced: it holds none but our own files, those of these ``names``.

    Raises:
        NotOurs: it holds something else, or is no folder; it is named.
    """
    strange = [path for path in folder.iterdir() if path.name not in names] if folder.is_dir() else [folder]
    if strange:
        raise NotOurs(f"{strange[0]} is not ours to replace; move it away, or choose another folder")


@contextmanager
def whole_folder(
    final: Path, check: Callable[[Path], None] = holds_only, written: Path | None = None
) -> Iterator[Path]:
    """A new, empty folder to write into; it becomes ``final``, or is removed. A link is followed.

    What is at ``final`` goes only when the new folder stands in its place.

    Args:
        final: where the folder belongs.
        check: called with ``final`` if there is something, first and last; raises an error if it may not be replaced.
            Default: only an empty folder is.
        written: where the folder is until it is complete; default: beside ``final``, the same each time, so that what
            a killed process left goes.
    """
    final = Path(os.path.realpath(final))
    written, old = written or final.with_name(f"{PARTIAL}{final.name}"), final.with_name(f"{REPLACED}{final.name}")
    put_back(old)
    if final.exists():
        check(final)
    shutil.rmtree(written, ignore_errors=True)
    try:
        written.mkdir(parents=True)
        yield written
        mode = written.stat().st_mode & 0o666  # safetensors writes files that their owner alone can read
        for path in written.iterdir():
            path.chmod(mode)
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if final.exists():
            check(final)
            final.rename(old)
        written.rename(final)
    except BaseException:
        shutil.rmtree(written, ignore_errors=True)
        put_back(old)
        raise
    shutil.rmtree(old, ignore_errors=True)


def put_back(old: Path) -> None:
    """End an exchange of folders that was cut short: the old one gets its place back, or goes if that is taken."""
    final = old.with_name(old.name.removeprefix(REPLACED))
    if old.exists() and final.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.exists():
        old.rename(final)


_held: set[Path] = set()  # the folders that this process holds


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder for this process, which may do so again inside. The lock goes with the process, however it ends.

    Raises:
        BlockingIOError: another process holds it; its number and machine are named.
        OSError: the folder cannot be made.
    """
    folder = folder.resolve()
    if folder in _held:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / ".lock"), folder / ".holder.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = read_json(holder) if holder.exists() else {}
        raise BlockingIOError(
            f"{folder} is in use: process {who.get('process', '?')} on {who.get('host', '?')} trains there; "
            "wait until it ends, or choose another folder"
        ) from None
    except NotImplementedError:  # a file system without locks: then there are none
        yield
        return
    _held.add(folder)
    try:
        write_json(holder, {"process": os.getpid(), "host": socket.gethostname()})
        yield
    finally:
        _held.discard(folder)
        holder.unlink(missing_ok=True)
        lock.release()


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path, fields: dict[str, type | tuple] | None = None) -> dict:
    """The object in a JSON file, which has these fields, of these types.

    Raises:
        ValueError: it has not, or the file is damaged; names the file and the field.
        OSError: it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # the latter from brackets without end
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: it holds no object, but {type(found).__name__}")
    for name, kind in (fields or {}).items():
        if not isinstance(found.get(name), kind):
            raise ValueError(f"{path} has no valid {name!r}: it is damaged, or of another program")
    return found


def save_checkpoint(folder: Path, step: int, tensors: dict[str, dict[str, Tensor]], state: dict) -> Path:
    """Write checkpoint ``step`` below ``folder`` whole or not at all, over the older one of two.

    Args:
        tensors: a file name (without ending) to the tensors in it.
        state: what else there is to know; JSON.

    Raises:
        OSError: it could not be written; the message names the last good checkpoint.
    """
    final = folder / f"step-{step}"
    try:
        written, digests = _place(folder, final), {}
        _write_over(written / STATE, b"")  # while it is empty, this is no checkpoint under any name
        for name, contents in tensors.items():
            # a copy each: safetensors refuses tensors that share memory
            found = as_bytes({key: value.detach().cpu().clone() for key, value in contents.items()})
            _write_over(written / f"{name}.safetensors", found)
            digests[name] = hashlib.sha256(found).hexdigest()
        shapes = {name: {key: list(value.shape) for key, value in tensors[name].items()} for name in tensors}
        _write_over(written / STATE, json.dumps({**state, "shapes": shapes, "sha256": digests}).encode())
        written.rename(final)
    except (OSError, SafetensorError) as error:
        last = latest_checkpoint(folder)
        raise OSError(
            f"the checkpoint of step {step} could not be written to {folder}: {error}. Free some space and start the "
            f"same command again; the last good checkpoint is {last or 'none'}"
        ) from error
    return final


def _place(folder: Path, final: Path) -> Path:
    """The folder to write checkpoint ``final`` in: what a kill left half-written, the older of two, or a new one."""
    written = folder / f"{PARTIAL}{final.name}"
    if final.exists():  # of a run that this one replaces
        shutil.rmtree(written, ignore_errors=True)
        holds_only(final, [path.name for path in final.glob("*.safetensors")] + [STATE])
        again = [final]
    else:
        again = sorted(folder.glob(f"{PARTIAL}step-*")) or _checkpoints(folder)[: 1 - KEEP]
    if again:
        again[0].rename(written)
    else:
        written.mkdir(parents=True)
    return written


def _write_over(path: Path, contents: bytes) -> None:
    """Write a file in place, and flush it to the disk."""
    with path.open("wb") as file:
        file.write(contents)
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(
    path: Path, names: tuple[str, ...], fields: dict[str, type | tuple] | None = None
) -> tuple[dict[str, dict[str, Tensor]], dict]:
    """The tensors of the files ``names``, and the state, which has these ``fields``.

    Raises:
        ValueError: a file is missing or damaged, or lacks a tensor or a field.
    """
    try:
        tensors = {name: load_file(path / f"{name}.safetensors") for name in names}
        state = read_json(path / STATE, {"shapes": dict, **(fields or {})})
        shapes, digests = state.pop("shapes"), state.pop("sha256", {})  # those of before have no digests
        if not isinstance(digests, dict):
            raise ValueError(f"{path / STATE} has no valid 'sha256'")
        for name in names:
            if digests.get(name) not in (None, sha256(path / f"{name}.safetensors")):
                raise ValueError(f"{name}.safetensors is not the file that was written with {STATE}")
            found = {key: list(value.shape) for key, value in tensors[name].items()}
            if wrong := differences(shapes.get(name, {}), found):
                raise ValueError(f"{name}.safetensors: {wrong[0]}")
        return tensors, state
    except (OSError, SafetensorError, ValueError) as error:
        raise ValueError(
            f"the checkpoint {path} is damaged ({error}); remove it, and the one before it is used"
        ) from error


def latest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint of the highest step; what a killed process left half-written is passed over."""
    for old in folder.glob(f"{REPLACED}step-*"):
        put_back(old)
    found = _checkpoints(folder)
    return found[-1] if found else None


def _checkpoints(folder: Path) -> list[Path]:
    complete = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdigit()]
    return sorted(complete, key=lambda path: int(path.name.removeprefix("step-")))


def cut_metrics(path: Path, step: int) -> None:
    """Drop the lines after ``step``: the resumed run will write them again."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
        write_text(path, "".join(f"{line}\n" for line in lines))


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
