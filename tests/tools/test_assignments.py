"""The assignments, graded by nbgrader itself: solutions get full marks, stubs and known mistakes none."""

import html
import re
import sys
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("nbgrader", reason="needs the extra `grading`")

from tools.course import assignments, exercises

NOTEBOOKS = exercises.chapters()
FOUND = {chapter: exercises.exercises(chapter, notebook) for chapter, notebook in NOTEBOOKS.items()}
EVERY = {exercise.name: exercise for found in FOUND.values() for exercise in found}
CHAPTER = "01_factorisation"  # for what one chapter can show
ALL = "all"  # a further assignment, with the exercises of all chapters


def cells(course: Path, part: str, chapter: str) -> dict:
    """The cells of an assignment, by their ids."""
    notebook = nbformat.read(course / part / chapter / f"{chapter}.ipynb", as_version=4)
    nbformat.validate(notebook)
    found = {cell.id: cell for cell in notebook.cells}
    assert len(found) == len(notebook.cells)
    return found


def submit(course: Path, student: str, chapter: str, change) -> None:
    """The released assignment of a chapter, changed by ``change(cells by id)``, as one student hands it in."""
    notebook = nbformat.read(course / "release" / chapter / f"{chapter}.ipynb", as_version=4)
    change({cell.id: cell for cell in notebook.cells})
    file = course / "submitted" / student / chapter / f"{chapter}.ipynb"
    file.parent.mkdir(parents=True)
    nbformat.write(notebook, file)


def everything() -> nbformat.NotebookNode:
    """The assignments of all chapters in one: a kernel that has imported PyTorch once grades every exercise."""
    made = nbformat.v4.new_notebook(metadata=assignments.KERNEL)
    for chapter, notebook in NOTEBOOKS.items():
        for cell in assignments.assignment(chapter, notebook).cells:
            if cell.id in ("introduction", "setup", "imports"):
                cell.id = cell.metadata.nbgrader.grade_id = f"{chapter}-{cell.id}"
            if cell.id == f"{chapter}-imports":  # some chapters switch gradients off for themselves
                cell.source += "\ntorch.set_grad_enabled(True);"
            made.cells.append(cell)
    return made


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course in which four students have been graded."""
    folder = tmp_path_factory.mktemp("course")
    (folder / "source" / ALL).mkdir(parents=True)
    nbformat.write(everything(), folder / "source" / ALL / f"{ALL}.ipynb")
    assignments.write(folder)

    def solve(by_id):
        for name, exercise in EVERY.items():
            if name in by_id:
                by_id[name].source = exercise.solution

    def err(by_id):
        for name, exercise in EVERY.items():
            by_id[name].source = exercises.mistakes(exercise)[0][0]

    def cheat(by_id):
        for cell in by_id.values():
            if cell.metadata.nbgrader.grade:
                cell.source = "pass"
                cell.metadata.nbgrader.points = 100
            cell.metadata.nbgrader.locked = False

    for chapter in FOUND:
        submit(folder, "right", chapter, solve)
    for chapter in (CHAPTER, ALL):
        submit(folder, "nothing", chapter, lambda by_id: None)
    submit(folder, "mistaken", ALL, err)
    submit(folder, "cheat", CHAPTER, cheat)
    assignments.nbgrader(folder, "autograde", "--assignment=*", "--student=*")
    assignments.nbgrader(folder, "generate_feedback", f"--assignment={ALL}", "--student=mistaken")
    assignments.write(folder)  # what is asserted below holds after an update of the assignments, too
    return folder


@pytest.fixture(scope="module")
def marks(course):
    """A function from (student, assignment) to the marks and the highest possible ones, by the exercise's name."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "a3-book") as gradebook:

        def of(student: str, assignment: str) -> dict[str, tuple[float, float]]:
            notebook = gradebook.find_submission_notebook(assignment, assignment, student)
            assert not notebook.needs_manual_grade
            return {grade.name.removesuffix("-check"): (grade.score, grade.max_score) for grade in notebook.grades}

        yield of


@pytest.mark.parametrize("chapter", FOUND)
def test_solutions_get_full_marks(marks, chapter):
    assert marks("right", chapter) == {exercise.name: (exercise.stars,) * 2 for exercise in FOUND[chapter]}


def test_stubs_get_no_marks(marks):
    assert marks("nothing", CHAPTER) == {exercise.name: (0, exercise.stars) for exercise in FOUND[CHAPTER]}
    assert marks("nothing", ALL) == {exercise.name: (0, exercise.stars) for exercise in EVERY.values()}


def test_mistakes_get_no_marks_and_are_named_in_the_feedback(course, marks):
    assert marks("mistaken", ALL) == {exercise.name: (0, exercise.stars) for exercise in EVERY.values()}
    page = (course / "feedback" / "mistaken" / ALL / f"{ALL}.html").read_text(encoding="utf-8")
    text = html.unescape(re.sub(r"<[^>]+>", "", page))
    for name, exercise in EVERY.items():
        message = exercises.mistakes(exercise)[0][1]
        assert re.search(rf"AssertionError: ✗ {name}: .*{re.escape(message)}", text), name


def test_changed_checks_and_points_are_put_back(marks):
    assert marks("cheat", CHAPTER) == {exercise.name: (0, exercise.stars) for exercise in FOUND[CHAPTER]}


@pytest.mark.parametrize("chapter", FOUND)
def test_students_get_the_stubs_and_can_edit_nothing_else(course, chapter):
    released = cells(course, "release", chapter)
    stubs = {exercise.name: exercise.stub for exercise in FOUND[chapter]}
    names = [f"{name}{part}" for name in stubs for part in ("-task", "", "-check")]
    assert list(released) == ["introduction", "setup", "imports", *names]
    for name, cell in released.items():
        assert cell.metadata.nbgrader.grade_id == name
        assert cell.metadata.nbgrader.grade == name.endswith("-check")
        assert cell.metadata.nbgrader.solution == (name in stubs)
        assert cell.metadata.nbgrader.locked == (name not in stubs)
        assert cell.metadata.deletable is False
        assert cell.metadata.get("editable", True) == (name in stubs)
        if name in stubs:
            assert cell.source.rstrip() == stubs[name]
    by_instructor = cells(course, "source", chapter)
    for exercise in FOUND[chapter]:
        assert exercise.solution in by_instructor[exercise.name].source
        assert exercise.solution not in "\n".join(cell.source for cell in released.values())


def test_ids_stay_when_exercises_are_added_and_moved():
    notebook = exercises.chapters()[CHAPTER]
    before = {cell.id: cell.source for cell in assignments.assignment(CHAPTER, notebook).cells}
    first = next(i for i, cell in enumerate(notebook.cells) if "exercise" in cell.metadata.get("tags", [])) - 1
    moved = notebook.cells[first : first + 4]  # the four cells of an exercise, to the end
    notebook.cells = [*notebook.cells[:first], *notebook.cells[first + 4 :], *moved]
    after = {cell.id: cell.source for cell in assignments.assignment(CHAPTER, notebook).cells}
    assert list(before) != list(after) and before == after


def test_a_task_links_to_no_other_file():
    assert assignments.plain("[a](01_a.ipynb), [b](../book/b.md#c), [d](https://d.org)") == "a, b, [d](https://d.org)"
    for chapter, notebook in NOTEBOOKS.items():
        for cell in assignments.assignment(chapter, notebook).cells:
            assert not re.search(r"\]\((?!https?:)", cell.source) or cell.cell_type == "code"


def check_cell(answer) -> None:
    """Run the check of one exercise as the notebook does."""
    from a3mini.notebook.checks import ch01_factorisation as checks

    exercise = FOUND[CHAPTER][0]
    cell = assignments.of_exercise(exercise)[-1]
    exec(cell.source, {"checks": checks, exercise.name: answer})


def test_what_an_answer_says_on_stderr_costs_no_marks(capsys):
    """nbgrader gives none to a cell with anything on stderr, be it a warning."""
    exercise = FOUND[CHAPTER][0]
    namespace = {}
    exec(exercises.imports(NOTEBOOKS[CHAPTER]) + "\n" + exercise.solution, namespace)

    def talks(length):
        print("debug", file=sys.stderr)
        return namespace[exercise.name](length)

    check_cell(talks)
    shown = capsys.readouterr()
    assert not shown.err
    assert "debug" in shown.out and f"✓ {exercise.name}: correct." in shown.out


def test_what_a_check_rejects_is_an_error():
    with pytest.raises(AssertionError, match=r"✗ count_groupings: .*the orders of single words"):
        check_cell(lambda length: [1, 1, 2, 6, 24, 120, 720, 5040, 40320][length])
    with pytest.raises(AssertionError, match="not attempted yet"):
        check_cell(...)
