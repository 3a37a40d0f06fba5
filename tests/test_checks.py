"""Every exercise of every notebook: its check accepts the folded solution, and rejects the stub and known mistakes."""

import sys
from pathlib import Path

import pytest
import torch

from a3mini import checks

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import exercises  # noqa: E402

NOTEBOOKS = exercises.chapters()
FOUND = [exercise for chapter, notebook in NOTEBOOKS.items() for exercise in exercises.exercises(chapter, notebook)]


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


@pytest.mark.parametrize("exercise", FOUND, ids=lambda exercise: f"{exercise.chapter}-{exercise.name}")
def test_exercise(exercise):
    name, check, imports = exercise.name, getattr(checks, exercise.name), exercises.imports(NOTEBOOKS[exercise.chapter])
    rejected = check(answer(name, imports, exercise.stub))
    assert not rejected and "not attempted" in rejected.message
    accepted = check(answer(name, imports, exercise.stub, exercise.solution))
    assert accepted, accepted
    mistakes = exercises.mistakes(exercise)
    assert len(mistakes) >= 2
    for wrong, fragment in mistakes:
        result = check(answer(name, imports, wrong))
        assert not result and fragment in result.message, f"{wrong}\n{result}"


def test_every_notebook_has_exercises_and_every_check_is_used():
    by_notebook = [exercise.chapter for exercise in FOUND]
    assert all(by_notebook.count(chapter) >= 3 for chapter in NOTEBOOKS)
    used = {exercise.name for exercise in FOUND}
    public = {name: value for name, value in vars(checks).items() if not name.startswith("_")}
    defined = {name for name, value in public.items() if getattr(value, "__wrapped__", None) and name != "exercise"}
    assert used == defined


@pytest.mark.parametrize(
    "lost", ["<summary>Hint</summary>", "<summary>Solution</summary>", "```python", "### Exercise"]
)
def test_an_exercise_with_a_part_missing_is_an_error(lost):
    notebook = exercises.chapters()["01_factorisation"]
    for cell in notebook.cells:
        cell.source = cell.source.replace(lost, "")
    with pytest.raises(ValueError, match="01_factorisation, count_groupings: .* is missing"):
        exercises.exercises("01_factorisation", notebook)


def test_a_check_never_raises():
    result = checks.perplexity(lambda nats, tokens: 1 / 0)
    assert not result and "ZeroDivisionError" in result.message
    assert repr(result).startswith("✗ perplexity")
