"""runs.py: a checkpoint is whole or not there, whatever happens: a kill, a full disk, a damaged file."""

import errno
import json
import os
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from a3mini import runs
from a3mini.runs import latest_checkpoint, load_checkpoint, save_checkpoint

FILES = ("trainable", "optimizer")


def tensors(step: int) -> dict:
    generator = torch.Generator().manual_seed(step)
    return {name: {"a": torch.rand(40, 30, generator=generator), "b": torch.tensor(step)} for name in FILES}


def save(folder: Path, step: int) -> Path:
    return save_checkpoint(folder, step, tensors(step), {"step": step})


def check_whole(path: Path | None, step: int) -> None:
    assert path is not None and path.name == f"step-{step}"
    loaded, state = load_checkpoint(path, FILES)
    assert state == {"step": step}
    for name, contents in tensors(step).items():
        assert all(torch.equal(loaded[name][key], value) for key, value in contents.items())


# Saving and loading


def test_save_and_load(tmp_path):
    assert latest_checkpoint(tmp_path) is None and latest_checkpoint(tmp_path / "missing") is None
    check_whole(save(tmp_path, 5), 5)
    check_whole(latest_checkpoint(tmp_path), 5)


def test_the_last_two_are_kept_by_number(tmp_path):
    for step in (8, 9, 10, 11):  # as words, 9 is the last
        save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-11"]
    check_whole(latest_checkpoint(tmp_path), 11)


def test_tensors_may_share_memory(tmp_path):
    tied = torch.arange(6.0)
    path = save_checkpoint(tmp_path, 1, {"trainable": {"a": tied, "b": tied, "c": tied[2:]}}, {})
    loaded = load_checkpoint(path, ("trainable",))[0]["trainable"]
    assert torch.equal(loaded["a"], tied) and torch.equal(loaded["b"], tied) and torch.equal(loaded["c"], tied[2:])


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    save_checkpoint(tmp_path, 5, tensors(3), {"step": 3})
    save(tmp_path, 5)
    check_whole(latest_checkpoint(tmp_path), 5)


# A process that is killed in the middle of a save


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in_a_tensor_file(number: int):
    """Half of the file is written."""
    right, count = runs.save_file, iter(range(9))

    def wrong(contents, path):
        right(contents, path)
        if next(count) == number:
            os.truncate(path, path.stat().st_size // 2)
            die()

    runs.save_file = wrong


def kill_before_the_flush():
    os.fsync = lambda descriptor: die()


def kill_before_the_rename():
    Path.rename = lambda path, target: die()


def kill_after_the_rename():
    right = Path.rename
    Path.rename = lambda path, target: (right(path, target), die())


def kill_while_old_ones_are_removed():
    right = shutil.rmtree

    def wrong(path, ignore_errors=False):
        if path.name == "step-1":
            (path / "state.json").unlink()
            die()
        right(path, ignore_errors=ignore_errors)

    shutil.rmtree = wrong


def write_in_place():
    """The mutant: a checkpoint is written under its own name."""
    runs.PARTIAL = "step-"
    kill_in_a_tensor_file(1)


def save_and_die(folder: Path, patch) -> None:
    """A forked process saves steps 1 and 2, and is killed while it saves step 3."""
    child = os.fork()
    if child == 0:
        try:
            save(folder, 1), save(folder, 2)
            patch()
            save(folder, 3)
        finally:
            os._exit(1)  # not reached when all goes as planned
    assert os.WIFSIGNALED(status := os.waitpid(child, 0)[1]) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("patch", "survivor"),
    [
        (lambda: kill_in_a_tensor_file(0), 2),
        (lambda: kill_in_a_tensor_file(1), 2),
        (kill_before_the_flush, 2),
        (kill_before_the_rename, 2),
        (kill_after_the_rename, 3),
        (kill_while_old_ones_are_removed, 3),
    ],
    ids=["first file", "second file", "before the flush", "before the rename", "after the rename", "while removing"],
)
def test_a_kill_leaves_a_whole_checkpoint(patch, survivor, tmp_path):
    save_and_die(tmp_path, patch)
    check_whole(latest_checkpoint(tmp_path), survivor)
    assert not list(tmp_path.glob(f"{runs.PARTIAL}*")), "half-written files are left"
    save(tmp_path, 4)
    check_whole(latest_checkpoint(tmp_path), 4)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_check_catches_writing_in_place(tmp_path):
    save_and_die(tmp_path, write_in_place)
    with pytest.raises(ValueError, match="damaged"):
        check_whole(latest_checkpoint(tmp_path), 3)


# A full disk


def check_full_disk(folder: Path) -> None:
    with pytest.raises(OSError, match="Free some space") as caught:
        save(folder, 3)
    message = str(caught.value)
    assert "the checkpoint of step 3 could not be written" in message
    assert f"the last good checkpoint is {folder / 'step-2'}" in message
    assert sorted(path.name for path in folder.iterdir()) == ["step-1", "step-2"]
    check_whole(latest_checkpoint(folder), 2)


@contextmanager
def no_file_beyond(room: int):
    """Writing more than ``room`` bytes into one file fails, as on a disk that is full."""
    resource = pytest.importorskip("resource")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


@pytest.mark.parametrize("room", [0, 2_000])  # a tensor file has about 4,900 bytes
def test_a_full_disk(room, tmp_path):
    save(tmp_path, 1), save(tmp_path, 2)
    with no_file_beyond(room):
        check_full_disk(tmp_path)


def test_a_disk_with_room_for_the_tensors_only(tmp_path):
    save(tmp_path, 2)
    with no_file_beyond(6_000), pytest.raises(OSError, match="the last good checkpoint is .*step-2"):
        save_checkpoint(tmp_path, 3, tensors(3), {"text": "x" * 10_000})
    check_whole(latest_checkpoint(tmp_path), 2)


@pytest.mark.parametrize("what", ["mkdir", "write_text", "rename"])
def test_no_space_at_any_moment(what, tmp_path, monkeypatch):
    save(tmp_path, 1), save(tmp_path, 2)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, what, full)
    check_full_disk(tmp_path)


def test_the_first_checkpoint_on_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(OSError, match="No space left.*the last good checkpoint is none"):
        save(tmp_path, 1)
    assert not list(tmp_path.iterdir())


# Damage


@pytest.mark.parametrize("name", ["trainable.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "missing"])
def test_a_damaged_checkpoint(name, damage, tmp_path):
    path = save(tmp_path, 7)
    file = path / name
    if damage == "missing":
        file.unlink()
    else:
        os.truncate(file, file.stat().st_size // 2 if damage == "truncated" else 0)
    with pytest.raises(ValueError, match="step-7 is damaged .*; remove it, and the one before it is used"):
        load_checkpoint(path, FILES)


# Records


def test_write_json_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "run.json"
    runs.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        runs.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1} and list(tmp_path.iterdir()) == [path]


def test_metrics_are_cut_where_the_run_goes_on(tmp_path):
    path = tmp_path / "metrics.jsonl"
    runs.cut_metrics(path, 4)  # there is none: nothing happens
    path.write_text('{"step": 0}\n{"step": 2, "loss": 1.5}\n{"step": 4}\n{"step": 6}\n{"step": 8, "lo')
    runs.cut_metrics(path, 4)
    assert runs.read_metrics(tmp_path) == [{"step": 0}, {"step": 2, "loss": 1.5}, {"step": 4}]


def test_differences():
    old, new = {"a": {"b": 1, "c": 2}, "d": [1], "e": 1}, {"a": {"b": 1, "c": 3}, "d": [2], "f": None}
    assert runs.differences(old, new) == ["a.c: 2, now 3", "d: [1], now [2]", "e: 1, now None"]
    assert runs.differences(old, old) == []


def test_versions_and_hardware():
    assert {"python", "torch", "transformers", "accelerate"} <= runs.versions().keys()
    assert runs.hardware()
