"""The student edition: no solution is left anywhere, and nothing else is missing."""

import ast
import html
import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from places import ROOT

pytest.importorskip("jupyter_book", reason="needs the extra `book`")

from tools.course import exercises, student
from tools.site import links

SITE = ROOT / "_build" / "student" / "html"
COMPLETE = ROOT / "_build" / "html"
NOTEBOOKS = exercises.chapters()
FOUND = {chapter: exercises.exercises(chapter, notebook) for chapter, notebook in NOTEBOOKS.items()}
EVERY = {exercise.name: exercise for found in FOUND.values() for exercise in found}


# How a solution is found


def body(solution: str) -> str:
    """The code of a solution without spaces and without what its stub shows: signature and docstring."""
    answer = ast.parse(solution).body[-1]
    if isinstance(answer, ast.FunctionDef):
        statements = answer.body[ast.get_docstring(answer) is not None :]
        solution = "\n".join(solution.splitlines()[statements[0].lineno - 1 :])
    return re.sub(r"\s+", "", solution)


BODIES = {name: body(exercise.solution) for name, exercise in EVERY.items()}


def text_of(path: Path) -> str:
    """What a file says: without tags, without the quoting of JSON."""
    text = path.read_text(encoding="utf-8", errors="ignore")
    if path.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        shown = [str(output) for cell in cells for output in cell.get("outputs", [])]
        return "\n".join([*(cell.source for cell in cells), *shown])
    return html.unescape(re.sub(r"<[^>]*>", "", text)) if path.suffix == ".html" else text


def solutions_in(path: Path) -> set[str]:
    """The exercises whose solution the file holds, in a fold or bare."""
    text = re.sub(r"\s+", "", text_of(path))
    return {name for name, code in BODIES.items() if code in text}


def folds(path: Path) -> int:
    return len(re.findall(r"<summary>\s*Solution\s*</summary>", path.read_text(encoding="utf-8", errors="ignore")))


def terms(site: Path) -> set[str]:
    """The words that the site's search knows."""
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    return set(json.loads(index.removeprefix("Search.setIndex(").removesuffix(")"))["terms"])


# The notebooks


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    student.write_notebooks(ROOT / "notebooks", folder)
    return folder


def test_the_complete_edition_holds_every_solution():
    """So the search below can find one."""
    for chapter, found in FOUND.items():
        path = ROOT / "notebooks" / f"{chapter}.ipynb"
        assert solutions_in(path) >= {exercise.name for exercise in found}
        assert folds(path) == len(found)


def test_no_notebook_holds_a_solution(notebooks):
    assert {path.stem for path in notebooks.iterdir()} == set(FOUND)
    for path in notebooks.iterdir():
        assert not solutions_in(path) and not folds(path)


@pytest.mark.parametrize("chapter", FOUND)
def test_nothing_else_is_missing(notebooks, chapter):
    path = notebooks / f"{chapter}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    url, branch = links.repository(ROOT)
    time = re.search(r"<!-- timings --> (.*)", text_of(path))[1]
    assert path.read_text(encoding="utf-8") == links.canonical(notebook, path.name, url, branch, time)

    # The code is the same, so that it runs as the executed copies did.
    assert len(notebook.cells) == len(NOTEBOOKS[chapter].cells)
    for cell, original in zip(notebook.cells, NOTEBOOKS[chapter].cells, strict=True):
        assert (cell.id, cell.metadata) == (original.id, original.metadata)
        if "<summary>Solution</summary>" not in original.source:
            assert cell == original
    text = text_of(path)
    for exercise in FOUND[chapter]:
        for part in (exercise.task, exercise.stub, exercise.check, exercise.hint):
            assert part in text
    complete = text_of(ROOT / "notebooks" / f"{chapter}.ipynb")
    assert text.count("<summary>Hint</summary>") == len(FOUND[chapter])
    others = complete.count("<details>") - len(FOUND[chapter])  # hints, and folds that belong to no exercise
    assert text.count("<details>") == text.count("</details>") == others
    gone = [*complete.split()]
    assert len(gone) - len(text.split()) == sum(
        len(fold.split()) for cell in NOTEBOOKS[chapter].cells for fold in exercises.SOLUTION_FOLD.findall(cell.source)
    )


def test_a_solution_outside_its_fold_is_found(tmp_path):
    exercise = EVERY["ends_first"]
    for name, source in {
        "bare": exercise.solution,
        "renamed": exercise.solution.replace("def ends_first", "def order"),
        "indented": exercise.solution.replace("\n", "\n        "),
    }.items():
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(source)]), path)
        assert solutions_in(path) == {"ends_first"}
    page = tmp_path / "page.html"
    page.write_text("<pre>" + re.sub(r"(\w+)", r"<span>\1</span>", html.escape(exercise.solution)) + "</pre>")
    assert solutions_in(page) == {"ends_first"}


def test_a_fold_that_is_not_recognised_is_an_error():
    notebook = exercises.chapters()["01_factorisation"]
    fold = next(cell for cell in notebook.cells if "<summary>Solution</summary>" in cell.source)
    notebook.cells.append(nbformat.v4.new_markdown_cell(exercises.SOLUTION_FOLD.search(fold.source)[0]))
    count = len(FOUND["01_factorisation"])
    with pytest.raises(ValueError, match=f"{count} exercises, but {count + 1} folds"):
        student.without_solutions("01_factorisation", notebook)


def test_no_page_promises_a_solution(tmp_path):
    shutil.copytree(ROOT / "book", tmp_path / "book", ignore=shutil.ignore_patterns("results", "_static"))
    student.reword(tmp_path)
    page = (tmp_path / "book" / "how_to_use.md").read_text(encoding="utf-8")
    assert "A hint is folded below." in page and "a\n  solution" not in page
    assert "hints that you left closed" in page and "hints and\nsolutions" not in page
    with pytest.raises(ValueError, match="should say once 'A hint and a solution"):
        student.reword(tmp_path)


# The site


@pytest.fixture
def site():
    if not SITE.exists():
        missing = pytest.fail if os.environ.get("A3_SITE_REQUIRED") else pytest.skip
        missing("the student edition is not built: run `make student`")
    return SITE


def site_files(site: Path):
    """All that is made from the notebooks and pages, and could hold a solution."""
    return [path for path in site.rglob("*") if path.suffix in (".html", ".ipynb", ".js", ".md", ".txt", ".json")]


def test_no_file_of_the_site_holds_a_solution(site, notebooks):
    files = site_files(site)
    assert not {str(path.relative_to(site)): found for path in files if (found := solutions_in(path))}
    assert not [path for path in files if folds(path)]
    for path in notebooks.iterdir():  # the sources behind the button of each page
        published = nbformat.read(site / "_sources" / "notebooks" / path.name, as_version=4)
        sources = [cell.source for cell in nbformat.read(path, as_version=4).cells]
        same = sources == [cell.source for cell in published.cells]
        assert same, f"the edition is older than {path.name}: run `make student`"


def test_every_exercise_is_on_its_page(site):
    for chapter, found in FOUND.items():
        page = site / "notebooks" / f"{chapter}.html"
        assert page.read_text(encoding="utf-8").count("<summary>Hint</summary>") == len(found)
        text = re.sub(r"\s+", "", text_of(page))
        assert all(re.sub(r"\s+", "", exercise.stub) in text for exercise in found)


def test_the_search_knows_no_word_of_a_solution(site):
    said = {word for path in (site / "_sources").rglob("*.*") for word in re.findall(r"\w+", text_of(path).lower())}
    only = {word for exercise in EVERY.values() for word in re.findall(r"\w+", exercise.solution.lower())}
    only = {word for word in only if not any(other.startswith(word) for other in said)}  # the search knows stems
    assert not only & terms(site)
    if COMPLETE.exists():
        assert only & terms(COMPLETE)


def test_the_complete_site_holds_every_solution():
    """So what the tests above do not find is not there."""
    if not COMPLETE.exists():
        pytest.skip("the site is not built: run `make book`")
    for chapter, found in FOUND.items():
        names = {exercise.name for exercise in found}
        for name in (f"notebooks/{chapter}.html", f"_sources/notebooks/{chapter}.ipynb"):
            assert solutions_in(COMPLETE / name) >= names and folds(COMPLETE / name) == len(found)
