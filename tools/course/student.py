"""Make the edition for handing out: the book without the solutions of the exercises.

_build/student/notebooks   the notebooks; they differ from the committed ones in the folded solutions alone
_build/student/html        the site, built from the copies that tools/site/book.py has executed

Hints, stubs and checks stay. The package still holds what the checks compare with, and the repository, to which
badges and launch buttons lead, still holds the solutions.
"""

import argparse
import re
import shutil
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools import ROOT
from tools.course.exercises import SOLUTION_FOLD, exercises
from tools.site.book import build, executed

OUTPUT = ROOT / "_build" / "student"
WORK = ROOT / ".book" / "student"
# What pages say of the solutions: the page, the words, and the words in this edition.
WORDS = (
    ("book/how_to_use.md", "A hint and a solution are folded below.", "A hint is folded below."),
    ("book/how_to_use.md", "hints and solutions that you left closed", "hints that you left closed"),
)


def without_solutions(chapter: str, notebook: NotebookNode) -> NotebookNode:
    """The notebook with the solution of each exercise, and nothing else, taken out; executed or not."""
    expected, count = len(exercises(chapter, notebook)), 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source, removed = re.subn(rf"\n*{SOLUTION_FOLD.pattern}", "", cell.source, flags=SOLUTION_FOLD.flags)
            count += removed
    if count != expected:
        raise ValueError(f"{chapter}: {expected} exercises, but {count} folds with a solution")
    return notebook


def write_notebooks(sources: Path, folder: Path) -> None:
    """Each notebook of one folder into another, in the form in which notebooks are committed."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(sources.glob("*.ipynb")):
        notebook = without_solutions(path.stem, nbformat.read(path, as_version=4))
        (folder / path.name).write_text(nbformat.writes(notebook, indent=1) + "\n", encoding="utf-8")


def reword(root: Path) -> None:
    """Let no page promise a solution."""
    for page, words, instead in WORDS:
        path = root / page
        pattern = r"\s+".join(map(re.escape, words.split()))  # wherever the line breaks
        text, count = re.subn(pattern, instead, path.read_text(encoding="utf-8"))
        if count != 1:
            raise ValueError(f"{page} should say once {words!r}. Bring WORDS of tools/course/student.py up to date")
        path.write_text(text, encoding="utf-8")


def stage(source: Path, work: Path) -> Path:
    """The executed book without solutions."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(source, work, ignore=shutil.ignore_patterns("*.ipynb"))
    write_notebooks(source / "notebooks", work / "notebooks")
    reword(work)
    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2, help="how many notebooks run at the same time, if some must")
    options = parser.parse_args()
    source = executed(options.jobs)
    shutil.rmtree(OUTPUT, ignore_errors=True)
    write_notebooks(ROOT / "notebooks", OUTPUT / "notebooks")
    site = build(stage(source, WORK / "source"), WORK)
    shutil.move(site, OUTPUT / "html")
    print(f"\nThe student edition is ready: {OUTPUT / 'notebooks'}\nand {(OUTPUT / 'html' / 'index.html').as_uri()}")


if __name__ == "__main__":
    main()
