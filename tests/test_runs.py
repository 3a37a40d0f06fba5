"""runs.py: a checkpoint is whole or not there, whatever happens: a kill, a full disk, a damaged file."""

import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

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


def test_nothing_is_deleted_or_replaced(tmp_path, monkeypatch):
    """A bin that counts against a quota, as Google Drive's, gets nothing: the same six files are written over."""
    for step in (1, 2):
        save(tmp_path, step)
    first = {file.stat().st_ino for file in tmp_path.rglob("*.*")}

    def gone(*_, **__):
        raise AssertionError("a file is deleted or replaced")

    for where, name in ((os, "unlink"), (os, "remove"), (os, "replace"), (shutil, "rmtree"), (Path, "unlink")):
        monkeypatch.setattr(where, name, gone)
    for step in (3, 4, 5):
        save(tmp_path, step)
        check_whole(latest_checkpoint(tmp_path), step)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.stat().st_ino for file in files} == first and len(files) == 6


def test_folders_of_before_are_read_and_written_over(tmp_path):
    """They have no digests, and a killed process may have left a third folder."""
    for step in (1, 2):
        file = save(tmp_path, step) / "state.json"
        state = json.loads(file.read_text())
        del state["sha256"]
        file.write_text(json.dumps(state))
    shutil.copytree(tmp_path / "step-1", tmp_path / f"{runs.PARTIAL}step-3")
    check_whole(latest_checkpoint(tmp_path), 2)
    for step in (3, 4, 5):
        save(tmp_path, step)
        check_whole(latest_checkpoint(tmp_path), step)


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


def kill_in_a_file(number: int, share: float = 0.5):
    """A part of the file is written."""
    right, count = runs._write_over, iter(range(9))

    def wrong(path, contents):
        if next(count) == number:
            right(path, contents[: int(share * len(contents))])
            die()
        right(path, contents)

    runs._write_over = wrong


def kill_at_a_flush(number: int):
    count = iter(range(9))
    os.fsync = lambda descriptor: die() if next(count) == number else None


def kill_at_a_rename(number: int, done: bool):
    """The first rename makes room, the second ends the writing."""
    right, count = Path.rename, iter(range(9))

    def wrong(path, target):
        at = next(count)
        if at == number and not done:
            die()
        right(path, target)
        if at == number:
            die()

    Path.rename = wrong


def write_in_place():
    """The mutant: a checkpoint is written under its own name."""
    runs.PARTIAL = ""
    kill_in_a_file(2)


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
        *((lambda n=n, share=share: kill_in_a_file(n, share), 2) for n in range(4) for share in (0, 0.5)),
        *((lambda n=n: kill_at_a_flush(n), 2) for n in range(4)),
        (lambda: kill_in_a_file(3, 1), 2),
        (lambda: kill_at_a_rename(0, False), 2),
        (lambda: kill_at_a_rename(0, True), 2),
        (lambda: kill_at_a_rename(1, False), 2),
        (lambda: kill_at_a_rename(1, True), 3),
    ],
)
def test_a_kill_leaves_a_whole_checkpoint(patch, survivor, tmp_path):
    """At every moment of a save; and what is half-written is written over by the next one."""
    save_and_die(tmp_path, patch)
    check_whole(latest_checkpoint(tmp_path), survivor)
    for step in (4, 5):
        save(tmp_path, step)
        check_whole(latest_checkpoint(tmp_path), step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-4", "step-5"]


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
    check_whole(latest_checkpoint(folder), 2)
    assert len(list(folder.iterdir())) <= 2, "half of a third one takes the place that is missing"


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


@pytest.mark.parametrize("what", ["open", "rename"])
def test_no_space_at_any_moment(what, tmp_path, monkeypatch):
    save(tmp_path, 1), save(tmp_path, 2)
    right = getattr(Path, what)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, what, full)
    with pytest.raises(OSError, match="No space left.*the last good checkpoint is .*step-2"):
        save(tmp_path, 3)
    monkeypatch.setattr(Path, what, right)
    check_whole(latest_checkpoint(tmp_path), 2)


def test_the_first_checkpoint_on_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(OSError, match="No space left.*the last good checkpoint is none"):
        save(tmp_path, 1)
    assert latest_checkpoint(tmp_path) is None


# Only what is ours is replaced


def new_folder(final: Path, check=runs.holds_only, text: str = "new") -> None:
    with runs.whole_folder(final, check) as folder:
        (folder / "a").write_text(text)


def ours(folder: Path) -> None:
    runs.holds_only(folder, ["a"])


def contents(folder: Path) -> dict:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("check", [runs.holds_only, ours])
def test_a_folder_with_something_else_is_refused_and_left_alone(check, tmp_path):
    final = tmp_path / "a"
    final.mkdir()
    (final / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="thesis.txt is not ours"):
        new_folder(final, check)
    assert contents(final) == {"thesis.txt": "mine"} and list(tmp_path.iterdir()) == [final]


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(FileExistsError, match="is not ours"):
        new_folder(tmp_path / "a", ours)
    assert contents(tmp_path) == {"a": "mine"}


def test_something_put_there_while_we_write_stays(tmp_path):
    with pytest.raises(FileExistsError, match="thesis.txt"), runs.whole_folder(tmp_path / "a", ours):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "thesis.txt").write_text("mine")
    assert contents(tmp_path / "a") == {"thesis.txt": "mine"}


def test_our_own_and_empty_folders_are_replaced(tmp_path):
    (tmp_path / "a").mkdir()
    new_folder(tmp_path / "a", text="old")
    new_folder(tmp_path / "a", ours)
    assert contents(tmp_path / "a") == {"a": "new"} and len(list(tmp_path.iterdir())) == 1


def test_a_link_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "a").symlink_to(tmp_path / "disk" / "b")
    for text in ("old", "new"):
        new_folder(tmp_path / "a", ours, text)
    assert (tmp_path / "a").is_symlink() and contents(tmp_path / "disk" / "b") == {"a": "new"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("number", [1, 2])
def test_a_kill_while_folders_are_exchanged_loses_neither(number, tmp_path):
    new_folder(tmp_path / "a", text="old")
    if (child := os.fork()) == 0:
        right, count = Path.rename, iter(range(1, 9))

        def rename(path, target):
            if next(count) == number:
                die()
            return right(path, target)

        Path.rename = rename
        new_folder(tmp_path / "a", ours)
    os.waitpid(child, 0)
    runs.put_back(tmp_path / f"{runs.REPLACED}a")
    assert contents(tmp_path / "a") == {"a": "old"}
    new_folder(tmp_path / "a", ours)
    assert contents(tmp_path / "a") == {"a": "new"} and len(list(tmp_path.iterdir())) == 1


def test_files_have_the_mode_that_the_user_wants(tmp_path):
    """safetensors by itself writes files that nobody else can read."""
    before = os.umask(0o027)
    try:
        path = save(tmp_path, 1)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o640}


def test_text_goes_into_what_is_no_file(tmp_path):
    """A pipe stays a pipe, a link a link, and a file keeps its mode."""
    pipe, file, link = (tmp_path / name for name in ("pipe", "file", "link"))
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    runs.write_text(pipe, "x")
    assert os.read(reader, 9) == b"x" and pipe.is_fifo()
    os.close(reader)
    file.write_text("old")
    file.chmod(0o600)
    link.symlink_to(file)
    runs.write_text(link, "new")
    assert link.is_symlink() and file.read_text() == "new" and file.stat().st_mode & 0o777 == 0o600
    runs.write_text(Path("/dev/null"), "x")
    assert Path("/dev/null").is_char_device()


# One run in a folder


HOLD = """
import sys, time
from pathlib import Path
from a3mini import runs
with runs.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_by_one_process(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        named = f"in use: process {other.pid} on {socket.gethostname()}"
        with pytest.raises(BlockingIOError, match=re.escape(named)), runs.held(tmp_path):
            pass
    finally:
        other.kill()
        other.wait()
    with runs.held(tmp_path), runs.held(tmp_path):  # a dead process holds nothing, and ours may do so twice
        pass
    with runs.held(tmp_path):
        pass


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


def test_a_checkpoint_that_lacks_a_tensor(tmp_path):
    path = save(tmp_path, 7)
    for wrong in ({"a": torch.zeros(40, 30)}, {"a": torch.zeros(40, 31), "b": torch.tensor(7)}):
        save_file(wrong, path / "optimizer.safetensors")
        state = json.loads((path / "state.json").read_text())
        state["sha256"]["optimizer"] = runs.sha256(path / "optimizer.safetensors")
        (path / "state.json").write_text(json.dumps(state))
        with pytest.raises(ValueError, match=r"step-7 is damaged \(optimizer.safetensors: "):
            load_checkpoint(path, FILES)


def test_a_checkpoint_of_two_saves(tmp_path):
    """A mount may have uploaded one file of a save and not the other; they have the same size."""
    older, path = save(tmp_path, 6), save(tmp_path, 7)
    shutil.copy(older / "optimizer.safetensors", path / "optimizer.safetensors")
    with pytest.raises(ValueError, match=r"step-7 is damaged \(optimizer.safetensors is not the file"):
        load_checkpoint(path, FILES)
    shutil.rmtree(path)
    check_whole(latest_checkpoint(tmp_path), 6)


@pytest.mark.parametrize("text", ["[]", "{}", '{"shapes": 3}', "[" * 100_000])
def test_a_state_of_another_kind(text, tmp_path):
    path = save(tmp_path, 7)
    (path / "state.json").write_text(text)
    with pytest.raises(ValueError, match="step-7 is damaged"):
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
