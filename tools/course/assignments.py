"""Make an assignment for nbgrader from the exercises of each chapter.

The course folder is nbgrader's: source/ holds the instructor's version, with the solutions, release/ what is handed
out, and nbgrader_config.py its settings. From then on nbgrader does the work; CONTRIBUTING.md has its commands.
To run this again brings source/ and release/ up to date, and leaves submissions and grades alone.

An assignment has the setup and the imports of its chapter, and for each exercise three cells: the task, the stub, and
the check. Students can edit the stub alone. The check is worth as many points as the exercise has stars.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from book._ext.chapters import heading, prose
from tools import ROOT
from tools.course.exercises import Exercise, chapters, exercises, imports, tagged
from tools.site.links import KERNEL

COURSE = ROOT / "_build" / "assignments"
CONFIG = """\
# Written by tools/course/assignments.py: `make assignments`.
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "a3-book"
# Stubs stand in the notebooks already: where a solution was, nothing is put.
c.ClearSolutions.code_stub = {"python": ""}
c.Execute.timeout = 300  # seconds for one cell; to import PyTorch takes long on a busy machine
"""
CHECK = """\
import contextlib
import sys

with contextlib.redirect_stderr(sys.stdout):  # nbgrader takes all that is on stderr, even a warning, for a failure
    result = {check}
assert result, result
print(result)"""


def marked(cell: NotebookNode, name: str, points: int | None = None, editable: bool = False) -> NotebookNode:
    """The cell with what nbgrader has to know. The same name makes the same id, whatever is added before it."""
    cell.id = name
    cell.metadata.nbgrader = {
        "schema_version": 3,
        "grade_id": name,
        "grade": points is not None,
        "solution": editable,
        "locked": not editable,
        "task": False,
    } | ({} if points is None else {"points": points})
    return cell


def plain(text: str) -> str:
    """Without links to other files of the book: an assignment travels alone."""
    return re.sub(r"\[([^]]*)\]\((?!https?:)[^)]*\)", r"\1", text)


def of_exercise(exercise: Exercise) -> list[NotebookNode]:
    points = f"*{exercise.stars} point{'s' if exercise.stars > 1 else ''}*"
    answer = f"{exercise.stub}\n### BEGIN SOLUTION\n\n\n{exercise.solution}### END SOLUTION"
    return [
        marked(new_markdown_cell(f"{plain(exercise.task)}\n\n{points}"), f"{exercise.name}-task"),
        marked(new_code_cell(answer), exercise.name, editable=True),
        marked(new_code_cell(CHECK.format(check=exercise.check)), f"{exercise.name}-check", exercise.stars),
    ]


def assignment(chapter: str, notebook: NotebookNode) -> NotebookNode:
    """The instructor's version."""
    found = exercises(chapter, notebook)
    introduction = (
        f"# {heading(prose(notebook))}: exercises\n\n"
        "Run the setup and the imports. Then write your answer into the cell below each task, and run the cell after "
        "it: it says that the answer is correct, or what is wrong. An answer may use the imports and what its own "
        f"cell defines.\n\n*{sum(exercise.stars for exercise in found)} points in all*"
    )
    cells = [
        marked(new_markdown_cell(introduction), "introduction"),
        *(marked(new_code_cell(cell.source), "setup") for cell in tagged(notebook, "setup")),
        marked(new_code_cell(imports(notebook)), "imports"),
        *(cell for exercise in found for cell in of_exercise(exercise)),
    ]
    made = nbformat.from_dict(new_notebook(cells=cells, metadata=KERNEL))
    nbformat.validate(made)
    return made


def write(course: Path) -> None:
    """The course folder up to the released assignments."""
    (course / "source").mkdir(parents=True, exist_ok=True)
    (course / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    for chapter, notebook in chapters().items():
        file = course / "source" / chapter / f"{chapter}.ipynb"
        file.parent.mkdir(exist_ok=True)
        nbformat.write(assignment(chapter, notebook), file)
    nbgrader(course, "generate_assignment", "--assignment=*", "--force")


def nbgrader(course: Path, *arguments: str) -> None:
    """Run a command of nbgrader on the course."""
    programs = Path(sys.executable).parent
    # nbgrader calls alembic by its name alone; kernels are those of this environment
    own = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "JUPYTER_PREFER_ENV_PATH": "1"}
    done = subprocess.run(
        [programs / "nbgrader", *arguments], cwd=course, env=os.environ | own, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"nbgrader {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--course", type=Path, default=COURSE, help="nbgrader's course folder")
    course = parser.parse_args().course
    write(course)
    print(f"The assignments are ready: {course / 'release'}")


if __name__ == "__main__":
    main()
