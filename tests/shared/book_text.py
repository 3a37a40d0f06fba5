"""The book's own words, for the tests that read them: pages and notebooks without what is generated."""

import re

import nbformat
from places import ROOT

GENERATED = re.compile(r"<!-- timings -->[^\n]*")
FENCED = re.compile(r"```.*?```", re.DOTALL)


def notebooks() -> dict[str, nbformat.NotebookNode]:
    return {path.name: nbformat.read(path, as_version=4) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}


def cells(notebook, kind: str) -> list:
    return [c for c in notebook.cells if c.cell_type == kind and c.id not in ("badge", "setup")]


def texts() -> dict[str, str]:
    """By file: what people wrote."""
    found = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "book").rglob("*.md"))}
    for name, notebook in notebooks().items():
        found[name] = "\n\n".join(cell.source for cell in cells(notebook, "markdown"))
    return {name: GENERATED.sub("", text) for name, text in found.items()}
