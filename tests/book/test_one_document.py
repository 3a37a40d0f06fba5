"""The book as a PDF and an EPUB (book/_ext/one_document.py, tools/site/takeaway.py), on a book of one page."""

import zipfile
from pathlib import Path

import pytest
from lxml import etree

pytest.importorskip("myst_parser", reason="needs the extra `book`")

from small_book import one_page, warnings  # isort: split

import one_document

from tools.site import takeaway

SETTINGS = {"myst_enable_extensions": ["dollarmath"], "version": "1", "epub_show_urls": "no"}
EXTENSIONS = ("explorer_directive", "one_document", "sphinx.ext.mathjax", "sphinx-mathjax-offline")
TEXT = """
Let $x_t < 3$ & so on.

$$ p(x) = \\prod_t p(x_t \\mid x_{<t}) $$ (product)

See {eq}`product`.<br>A line.

<details>
<summary>A hint & more</summary>

Think.

</details>

```{explorer} mask
```
"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('<p>a<br>b & c <img src="x.png" alt="a>b"></p>', '<p>a<br/>b &amp; c <img src="x.png" alt="a&gt;b"/></p>'),
        ("<details>\n<summary>A & b</summary>\n", "<details>\n<summary>A &amp; b</summary>\n"),
        ("</details>", "</details>"),
        ('<b>a</b><script type="application/json">{"a": "<b>"}</script><script>x()</script> tail', "<b>a</b> tail"),
        ("plain & <", "plain &amp; &lt;"),
    ],
)
def test_html_becomes_xml(text, wanted):
    assert one_document.well_formed(text) == wanted


def test_an_epub_that_every_reader_can_show(tmp_path):
    app = one_page(tmp_path, *EXTENSIONS, **SETTINGS)(TEXT, "epub")
    epub = next(Path(app.outdir).glob("*.epub"))
    assert takeaway.broken_pages(epub) == []
    with zipfile.ZipFile(epub) as book:
        page = etree.fromstring(book.read("index.xhtml"))
    inline, displayed = page.iter("{http://www.w3.org/1998/Math/MathML}math")
    assert "".join(inline.itertext()) == "xt<3" and displayed.get("display") == "block"
    assert not list(page.iter("{*}script"))
    words = " ".join("".join(page.itertext()).split())
    assert "A hint & more" in words and "(1)" in words and "mask" in words


def test_a_page_that_is_no_xml_is_found(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.epub", "w") as book:
        book.writestr("good.xhtml", "<p>a<br/></p>")
        book.writestr("bad.xhtml", "<p>a<br></p>")
    (found,) = takeaway.broken_pages(tmp_path / "a.epub")
    assert found.startswith("bad.xhtml: ")


def test_a_pdf_with_its_formulas_and_titles(tmp_path, browser):
    """Printed from the same page as the book's; Chromium writes the text of a page into the PDF."""
    app = one_page(tmp_path, *EXTENSIONS, **SETTINGS)(TEXT, "singlehtml")
    assert not warnings(app)
    pdf = takeaway.as_pdf(browser, Path(app.outdir) / "index.html", tmp_path / "a.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-") and b"/Outlines" in pdf and len(pdf) > 10_000
