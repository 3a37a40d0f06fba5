"""Sphinx extension: the compact model lies beside the pages, for the playground to fetch when a reader asks for it."""

from pathlib import Path

from a3mini.notebook.explorers import playground


def put_beside(app, error) -> None:
    if error is None and app.builder.format == "html":
        playground.put_beside(Path(app.outdir) / "_static")


def setup(app) -> dict:
    app.connect("build-finished", put_beside)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
