"""benchmarks/record.py: the command that is stored can be started as it stands."""

import json
import shlex
import sys
from importlib.machinery import ModuleSpec

import pytest
import record
from places import ROOT

RESULTS = sorted((ROOT / "book" / "results").glob("*.json"))


def started(command: str) -> bool:
    """Whether a command names a file or a module of the repository."""
    _, first, *rest = shlex.split(command)
    return (ROOT / (rest[0].replace(".", "/") + ".py" if first == "-m" else first)).is_file()


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_stored_command_can_be_started(path):
    assert started(json.loads(path.read_text())["command"])


def test_a_command_that_leads_nowhere_is_caught():
    assert started("python benchmarks/study.py --times") and started("python -m tools.site.book --record")
    assert not started("python tools/book.py --record") and not started("python -m tools.book")


@pytest.mark.parametrize(
    ("file", "module", "command"),
    [
        ("benchmarks/study.py", None, "python benchmarks/study.py --stories stories.csv"),
        ("tools/site/book.py", "tools.site.book", "python -m tools.site.book --stories stories.csv"),
    ],
)
def test_a_script_and_a_module_are_told_apart(file, module, command, monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", module and ModuleSpec(module, None), raising=False)
    monkeypatch.setattr(sys, "argv", [str(ROOT / file), "--stories", "/somewhere/stories.csv"])
    assert record.command_line() == command
