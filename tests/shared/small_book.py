"""A book of one page, for the tests of the site's directives. It needs the extra ``book``."""

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from places import ROOT
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

EXTENSIONS = str(ROOT / "book" / "_ext")
if EXTENSIONS not in sys.path:
    sys.path.insert(0, EXTENSIONS)


def one_page(folder: Path, *extensions: str, **settings) -> Callable[..., Sphinx]:
    """A function that builds a page with some Markdown, and returns the application; the book lies in ``folder``."""
    source = folder / "source"
    shutil.copytree(ROOT / "book" / "results", source / "book" / "results")
    settings["extensions"] = ["myst_parser", *extensions]
    (source / "conf.py").write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))

    def build(text: str, builder: str = "html") -> Sphinx:
        page, text = source / "index.md", f"# A page\n\n{text}\n"
        if not page.exists() or page.read_text() != text:  # else it would count as changed
            page.write_text(text)
        with patch_docutils(), docutils_namespace():
            folders = [str(part) for part in (source, source, folder / builder, folder / "doctrees")]
            app = Sphinx(*folders, builder, status=None, warning=io.StringIO())
            app.build()
        return app

    return build


def warnings(app: Sphinx) -> str:
    return app._warning.getvalue()


def book_of(folder: Path, conf: str, pages: dict[str, str], builder: str = "html") -> Sphinx:
    """Build a book of several pages, given as Markdown; what lies in ``folder/source`` already is part of it."""
    source = folder / "source"
    (source / "conf.py").write_text(conf)
    for name, text in pages.items():
        (source / f"{name}.md").write_text(text)
    with patch_docutils(), docutils_namespace():
        folders = [str(part) for part in (source, source, folder / builder, folder / "doctrees")]
        app = Sphinx(*folders, builder, status=None, warning=io.StringIO())
        app.build()
    return app
