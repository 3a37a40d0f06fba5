"""Notebooks are committed without outputs, in one form, with code that fits the page, and their figures have a text
alternative."""

import copy
import re
import tomllib

import nbformat
import pytest
from places import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WIDEST = 80  # characters: the site's column; test_browser.py measures that they fit
PYTHON = re.compile(r"(?ms)^```python\n(.*?)^```")  # a solution, or code that a text shows
DRAWS = re.compile(r"\bplots\.(?!use_style|group_colours)\w+\(|\bplt\.(show|figure|subplots)\(|\bfig\b")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_valid_and_has_stable_cell_ids(notebook):
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert len(ids) == len(set(ids))


def test_no_outputs_and_no_counts(notebook):
    assert not [cell.id for cell in code_cells(notebook) if cell.outputs or cell.execution_count is not None]


def test_one_kernel_for_all(notebook):
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


def test_no_magics(notebook):
    """Plain Python: the same cells run under nbmake, Jupyter, Colab and VS Code, and ruff can read them."""
    assert not [cell.id for cell in code_cells(notebook) if re.search(r"(?m)^\s*[%!]", cell.source)]


def test_figures_have_a_text_alternative(notebook):
    """{"mystnb": {"image": {"alt": "..."}}} in the metadata of each cell that draws."""
    missing = []
    for cell in code_cells(notebook):
        hidden = {"remove-output", "remove-cell"} & set(cell.metadata.get("tags", []))
        if DRAWS.search(cell.source) and not hidden:
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            if len(alt) < 10:
                missing.append(f"{cell.id}: {cell.source.splitlines()[0]}")
    assert not missing


def too_wide(notebook) -> list[str]:
    """The lines of code, in code cells and in Markdown, that are longer than the column."""
    code = [cell.source for cell in code_cells(notebook)]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            code += PYTHON.findall(cell.source)
    return [line for part in code for line in part.splitlines() if len(line) > WIDEST]


def test_code_fits_the_column(notebook):
    assert not too_wide(notebook)


@pytest.mark.parametrize(
    "kind, source",
    [("code", "x = 1\n# {}"), ("markdown", "<details>\n\n```python\n# {}\n```\n\n</details>")],
)
def test_a_line_that_is_too_long_is_found(kind, source):
    longer = copy.deepcopy(nbformat.read(NOTEBOOKS[0], as_version=4))
    cell = next(cell for cell in longer.cells if cell.cell_type == kind)
    for length, found in ((WIDEST, 0), (WIDEST + 1, 1)):
        cell.source = source.format("x" * (length - len("# ")))
        assert len(too_wide(longer)) == found


def test_the_formatter_has_the_same_width():
    settings = tomllib.loads((ROOT / "notebooks" / "ruff.toml").read_text(encoding="utf-8"))
    assert settings["line-length"] == WIDEST and settings["extend"] == "../pyproject.toml"
