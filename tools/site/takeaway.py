"""The book to take away: a PDF, an EPUB, and the site as a zip, in _build/downloads. `make takeaway`.

Sphinx writes the book once more, as one page and as an EPUB, and Chromium (A3_CHROMIUM, or on the PATH) prints the
page: so links work in the PDF, its titles are its outline, and an interactive figure stands as nobody has touched it.
"""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lxml import etree
from playwright.sync_api import Browser, sync_playwright

from benchmarks import browsers
from tools import ROOT
from tools.site.book import SOURCE

DOWNLOADS = ROOT / "_build" / "downloads"
NAME = "a3-book"
FOOT = '<div style="font-size: 8px; width: 100%; text-align: center"><span class="pageNumber"></span></div>'
MARGINS = {"top": "16mm", "bottom": "18mm", "left": "16mm", "right": "16mm"}
# MathJax comes when the page has been read, and sets the formulas by and by (book/_ext/light_pages.py)
FORMULAS_SET = """() => !document.querySelector("script[src*=mathjax]") || (window.MathJax?.startup?.promise
  && [...document.querySelectorAll(".math")].every((formula) => formula.querySelector("mjx-container")))"""


def written(source: Path, output: Path, builder: str) -> Path:
    """Let Sphinx write the book in another form; pages that it has read for the site are not read again."""
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    form = ["--builder", "custom", "--custom-builder", builder]
    if subprocess.run([jupyter_book, "build", source, "--path-output", output, *form, "-q"]).returncode != 0:
        sys.exit(f"The book was not written as {builder}: see the messages above.")
    return output / "_build" / builder


@contextmanager
def chromium() -> Iterator[Browser]:
    """What prints."""
    path = browsers.chromium()
    if path is None:
        sys.exit("The PDF needs Chromium or Chrome: install one, or say in A3_CHROMIUM where it is.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def as_pdf(browser: Browser, page: Path, to: Path) -> Path:
    """Print a page."""
    window = browser.new_page(color_scheme="light")
    window.goto(page.resolve().as_uri(), timeout=180_000)
    window.wait_for_function(FORMULAS_SET, timeout=180_000)
    window.pdf(
        path=to, format="A4", margin=MARGINS, print_background=True, outline=True, tagged=True,
        display_header_footer=True, header_template="<span></span>", footer_template=FOOT,
    )  # fmt: skip
    window.close()
    return to


def broken_pages(epub: Path) -> list[str]:
    """Pages of an EPUB that are no XML: a reader would show nothing of them."""
    found = []
    with zipfile.ZipFile(epub) as book:
        for name in book.namelist():
            if name.endswith((".xhtml", ".opf", ".ncx")):
                try:
                    etree.fromstring(book.read(name))
                except etree.XMLSyntaxError as error:
                    found.append(f"{name}: {error}")
    return found


def whole(folder: Path, start: str = "book/index.html") -> Path:
    """The one page, where its own links lead: Sphinx puts it into the folder of the first, and means the one above."""
    page = folder / "whole.html"
    shutil.copyfile(folder / start, page)
    return page


def make(source: Path, output: Path, to: Path) -> list[Path]:
    """All that can be made of a book's executed sources, and of its site in output/_build/html."""
    to.mkdir(parents=True, exist_ok=True)
    page = whole(written(source, output, "singlehtml"))
    with chromium() as browser:
        pdf = as_pdf(browser, page, to / f"{NAME}.pdf")
    folder = written(source, output, "epub")
    epub = shutil.copyfile(next(folder.glob("*.epub")), to / f"{NAME}.epub")
    if broken := broken_pages(epub):
        sys.exit("Pages of the EPUB that no reader can show:\n" + "\n".join(broken))
    site = shutil.make_archive(str(to / f"{NAME}-site"), "zip", output / "_build", "html")
    return [pdf, epub, Path(site)]


def main() -> None:
    if not (ROOT / "_build" / "html" / "index.html").exists():
        sys.exit("There is no site yet: `make book` first.")
    for file in make(SOURCE, ROOT, DOWNLOADS):
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
