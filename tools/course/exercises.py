"""The exercises of the notebooks, and where each part of one stands.

CONTRIBUTING.md says how an exercise is written. Here it is read: for the tests of the checks, for the
student edition and for the assignments. An exercise with a part missing is an error.
"""

import re
import runpy
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools import ROOT

HEADING = re.compile(r"(?m)^### Exercise \d+: (?P<title>.+) \(\d+ minutes, (?P<stars>★+)☆*\)$")
SOLUTION_FOLD = re.compile(r"<details>\n<summary>Solution</summary>\n.*?\n</details>", re.DOTALL)
HINT_FOLD = re.compile(r"<details>\n<summary>Hint</summary>\n.*?\n</details>", re.DOTALL)
CODE_FENCE = re.compile(r"```python\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Exercise:
    chapter: str  # the notebook's name without its ending
    name: str  # what the stub defines, and what its check is called
    title: str
    stars: int
    task: str  # Markdown, with its heading
    stub: str
    check: str
    hint: str  # the whole fold
    solution: str  # the code alone


def chapters(root: Path = ROOT) -> dict[str, NotebookNode]:
    """Every notebook, by its name without its ending."""
    return {path.stem: nbformat.read(path, as_version=4) for path in sorted((root / "notebooks").glob("*.ipynb"))}


def tagged(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def imports(notebook: NotebookNode) -> str:
    """The code after which stubs and solutions run."""
    return "\n".join(cell.source for cell in tagged(notebook, "imports"))


def _first(pattern: re.Pattern, text: str, what: str) -> re.Match:
    found = pattern.search(text)
    if found is None:
        raise ValueError(f"{what} is missing or is not written as CONTRIBUTING.md says")
    return found


def exercises(chapter: str, notebook: NotebookNode) -> list[Exercise]:
    """The exercises of a notebook, in its order: task, stub, check, and the folds are four cells in a row."""
    found = []
    for index, cell in enumerate(notebook.cells):
        if "exercise" not in cell.metadata.get("tags", []):
            continue
        before, check, folds = (notebook.cells[index + step].source for step in (-1, 1, 2))
        name = _first(re.compile(r"^checks\.(\w+)\(\1\)$"), check, f"{chapter}: the check after cell {cell.id}")[1]
        where = f"{chapter}, {name}"
        heading = _first(HEADING, before, f"{where}: the heading of the task")
        solution = _first(SOLUTION_FOLD, folds, f"{where}: the solution")[0]
        found.append(
            Exercise(
                chapter=chapter,
                name=name,
                title=heading["title"],
                stars=len(heading["stars"]),
                task=before[heading.start() :],
                stub=cell.source,
                check=check,
                hint=_first(HINT_FOLD, folds, f"{where}: the hint")[0],
                solution=_first(CODE_FENCE, solution, f"{where}: the code of the solution")[1],
            )
        )
    return found


def mistakes(exercise: Exercise) -> list[tuple[str, str]]:
    """Known wrong answers: the code, and a part of what the check must say about it."""
    return _answers(exercise.chapter)["MISTAKES"][exercise.name]


def unusual(exercise: Exercise) -> list[str]:
    """Right answers that are not the solution's: the code of each."""
    return _answers(exercise.chapter)["UNUSUAL"][exercise.name]


@cache
def _answers(chapter: str) -> dict:
    return runpy.run_path(str(ROOT / "tests" / "mistakes" / f"{chapter}.py"))
