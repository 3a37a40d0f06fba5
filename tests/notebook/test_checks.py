"""Every exercise of every notebook: its check accepts the folded solution, and rejects the stub and known mistakes."""

import importlib

import numpy as np
import pytest
import torch

from a3mini.notebook.checks import ch00_quickstart, ch08_exact_parallel_decoding
from a3mini.notebook.checks.base import plain
from tools.course import exercises

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


def checks(chapter: str):
    return importlib.import_module(f"a3mini.notebook.checks.ch{chapter}")


@pytest.mark.parametrize("exercise", FOUND, ids=lambda exercise: f"{exercise.chapter}-{exercise.name}")
def test_exercise(exercise):
    name, check = exercise.name, getattr(checks(exercise.chapter), exercise.name)
    imports = exercises.imports(NOTEBOOKS[exercise.chapter])
    rejected = check(answer(name, imports, exercise.stub))
    assert not rejected and "not attempted" in rejected.message
    accepted = check(answer(name, imports, exercise.stub, exercise.solution))
    assert accepted, accepted
    for code in exercises.unusual(exercise):
        accepted = check(answer(name, imports, code))
        assert accepted, f"{code}\n{accepted}"
    mistakes = exercises.mistakes(exercise)
    assert len(mistakes) >= 2
    for wrong, fragment in mistakes:
        result = check(answer(name, imports, wrong))
        assert not result and fragment in result.message, f"{wrong}\n{result}"


def test_every_notebook_has_exercises_and_every_check_is_used():
    by_notebook = [exercise.chapter for exercise in FOUND]
    assert all(by_notebook.count(chapter) >= 3 for chapter in NOTEBOOKS)
    for chapter in NOTEBOOKS:
        public = {name: value for name, value in vars(checks(chapter)).items() if not name.startswith("_")}
        own = checks(chapter).__name__
        defined = {name for name, value in public.items() if hasattr(value, "__wrapped__") and value.__module__ == own}
        assert defined == {exercise.name for exercise in FOUND if exercise.chapter == chapter}


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
    result = ch00_quickstart.perplexity(lambda nats, tokens: 1 / 0)
    assert not result and "ZeroDivisionError" in result.message
    assert repr(result).startswith("✗ perplexity")


def test_an_error_is_told_with_its_case_and_a_stub_stays_a_stub():
    result = ch08_exact_parallel_decoding.all_accepted(lambda p: p.sum(1).sum() * 0 + 1 / (p.dim() - 2))
    assert "for a table of shape (2, 2): your code raised ZeroDivisionError" in result.message

    def stub(p):
        raise NotImplementedError

    assert "not attempted" in ch08_exact_parallel_decoding.all_accepted(stub).message


@pytest.mark.parametrize("number", [3, 3.0, torch.tensor(3), torch.tensor([3]), np.int64(3), np.array(3.0)])
def test_a_number_may_stand_in_a_tensor_or_an_array(number):
    assert plain(number) == 3 and isinstance(plain(number), int | float)


@pytest.mark.parametrize("other", ["3", [3], torch.arange(3), np.arange(3), None])
def test_everything_else_stays(other):
    assert plain(other) is other


def test_what_pytorch_has_not_implemented_is_no_stub():
    result = ch00_quickstart.perplexity(lambda nats, tokens: torch.ones(2, 2).bool() @ torch.ones(2, 2).bool())
    assert not result and "your code raised" in result.message
    assert "not attempted" in ch00_quickstart.perplexity(None).message
