"""tools/site/book.py: a notebook is executed again when its code changes, and not for its text or its URLs."""

import copy
from pathlib import Path

import nbformat
import pytest
from places import ROOT

pytest.importorskip("mdit_py_plugins", reason="needs the extra `book`")
from tools.site import address, book

NAME = "02_groups_and_masks.ipynb"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A repository with one notebook and one file of the package."""
    for name in (
        "a3mini/__init__.py",
        "book/results/notebook_times.json",
        "constraints.txt",
        "_config.yml",
        "_toc.yml",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / NAME).write_text((ROOT / "notebooks" / NAME).read_text())
    monkeypatch.setattr(book, "ROOT", tmp_path)
    monkeypatch.setattr(book, "SOURCE", tmp_path / ".book" / "source")
    monkeypatch.setattr(book, "EXECUTED", tmp_path / ".book" / "executed")
    return tmp_path


def execute(root: Path) -> nbformat.NotebookNode:
    """What nbmake leaves behind: outputs, counts, and a mark."""
    (staged,) = book.stage()
    notebook = nbformat.read(staged, as_version=4)
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.outputs = [nbformat.v4.new_output("stream", text=f"output {count}")]
        cell.execution_count = count
    notebook.metadata.widgets = {"state": {}}
    nbformat.write(notebook, staged)
    book.EXECUTED.mkdir(parents=True, exist_ok=True)
    book.mark(NAME).write_text(book.fingerprint(root / "notebooks" / NAME))
    return notebook


def edit(root: Path, kind: str, **changes) -> None:
    path = root / "notebooks" / NAME
    notebook = nbformat.read(path, as_version=4)
    next(cell for cell in notebook.cells[3:] if cell.cell_type == kind).update(changes)
    nbformat.write(notebook, path)


def test_nothing_has_changed(small):
    before = execute(small)
    assert book.stage() == []
    assert nbformat.read(book.SOURCE / "notebooks" / NAME, as_version=4) == before


def test_another_url_executes_nothing_and_reaches_the_copy(small):
    before = execute(small)
    path, staged = small / "notebooks" / NAME, book.SOURCE / "notebooks" / NAME
    path.write_text(address.everywhere(path.read_text(), "https://github.com/someone/elsewhere", "v1.0"))
    assert book.stage() == []
    assert staged.read_text().count("someone/elsewhere") == path.read_text().count("someone/elsewhere") == 2
    after = nbformat.read(staged, as_version=4)
    assert [cell.get("outputs") for cell in after.cells] == [cell.get("outputs") for cell in before.cells]
    assert after.metadata == before.metadata


def test_another_text_executes_nothing_and_reaches_the_copy(small):
    before = execute(small)
    edit(small, "markdown", source="Other words.")
    assert book.stage() == []
    after = nbformat.read(book.SOURCE / "notebooks" / NAME, as_version=4)
    assert "Other words." in [cell.source for cell in after.cells]
    assert [cell.outputs for cell in after.cells if cell.cell_type == "code"] == [
        cell.outputs for cell in before.cells if cell.cell_type == "code"
    ]


def of_the_package(root: Path) -> None:
    (root / "a3mini" / "__init__.py").write_text("# other\n")


def of_a_result(root: Path) -> None:
    (root / "book" / "results" / "notebook_times.json").write_text("{}\n")


def an_order(root: Path) -> None:
    path = root / "notebooks" / NAME
    notebook = nbformat.read(path, as_version=4)
    code = [number for number, cell in enumerate(notebook.cells) if cell.cell_type == "code" and cell.id != "setup"]
    cells = copy.copy(notebook.cells)
    cells[code[0]], cells[code[1]] = cells[code[1]], cells[code[0]]
    notebook.cells = cells
    nbformat.write(notebook, path)


CHANGES = {
    "code": lambda root: edit(root, "code", source="print(1)"),
    "tags": lambda root: edit(root, "code", metadata={"tags": ["raises-exception"]}),
    "order": an_order,
    "package": of_the_package,
    "result": of_a_result,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_outputs_depend_on_executes_it_again(small, change):
    execute(small)
    change(small)
    (stale,) = book.stage()
    assert stale.name == NAME and not book.mark(NAME).exists()
    assert not any(cell.get("outputs") for cell in nbformat.read(stale, as_version=4).cells)
