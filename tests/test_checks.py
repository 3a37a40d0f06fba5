"""Every exercise of every notebook: its check accepts the folded solution, and rejects the stub and known mistakes."""

import re
import runpy
from pathlib import Path

import nbformat
import pytest
import torch

from a3mini import checks

ROOT = Path(__file__).resolve().parents[1]


def exercises() -> list:
    """(notebook, name, imports, stub, solution) of each stub cell tagged `exercise`."""
    found = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        tagged = {tag: [c for c in cells if tag in c.metadata.get("tags", [])] for tag in ("imports", "exercise")}
        imports = "\n".join(cell.source for cell in tagged["imports"])
        for cell in tagged["exercise"]:
            after = cells[cells.index(cell) + 1 :]
            name = re.search(r"checks\.(\w+)\(", after[0].source).group(1)
            fold = next(c.source for c in after if "<summary>Solution</summary>" in c.source)
            solution = re.search(r"<summary>Solution</summary>.*?```python\n(.*?)```", fold, re.DOTALL).group(1)
            found.append(pytest.param(path.stem, name, imports, cell.source, solution, id=f"{path.stem}-{name}"))
    return found


@pytest.fixture(autouse=True)
def _undo_global_settings():
    """The imports cells seed, set threads, and one switches gradients off."""
    threads, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    yield
    torch.set_num_threads(threads)
    torch.set_grad_enabled(gradients)


def answer(name: str, *sources: str):
    namespace = {}
    for source in sources:
        exec(source, namespace)
    return namespace[name]


@pytest.mark.parametrize(("notebook", "name", "imports", "stub", "solution"), exercises())
def test_exercise(notebook, name, imports, stub, solution):
    check = getattr(checks, name)
    rejected = check(answer(name, imports, stub))
    assert not rejected and "not attempted" in rejected.message
    accepted = check(answer(name, imports, stub, solution))
    assert accepted, accepted
    mistakes = runpy.run_path(str(ROOT / "tests" / "mistakes" / f"{notebook}.py"))["MISTAKES"][name]
    assert len(mistakes) >= 2
    for wrong, fragment in mistakes:
        result = check(answer(name, imports, wrong))
        assert not result and fragment in result.message, f"{wrong}\n{result}"


def test_every_notebook_has_exercises_and_every_check_is_used():
    by_notebook = [param.values[0] for param in exercises()]
    assert set(by_notebook) == {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert all(by_notebook.count(name) >= 3 for name in by_notebook)
    used = {param.values[1] for param in exercises()}
    defined = {
        name for name, value in vars(checks).items() if getattr(value, "__wrapped__", None) and name != "exercise"
    }
    assert used == defined


def test_a_check_never_raises():
    result = checks.perplexity(lambda nats, tokens: 1 / 0)
    assert not result and "ZeroDivisionError" in result.message
    assert repr(result).startswith("✗ perplexity")
