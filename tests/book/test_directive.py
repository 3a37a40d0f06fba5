"""The directive that puts explorers on Markdown pages (book/_ext/explorer_directive.py), in a book of one page."""

import json
from pathlib import Path

import pytest
from places import ROOT

pytest.importorskip("myst_parser", reason="needs the extra `book`")

from small_book import one_page, warnings  # isort: split

from explorer_directive import EXPLORERS


@pytest.fixture
def book(tmp_path):
    """A function that builds a page with the directives of ``names``, and returns the application."""
    build = one_page(tmp_path, "explorer_directive")

    def with_explorers(*names: str, builder: str = "html"):
        return build("\n".join(f"```{{explorer}} {name}\n```\n" for name in names), builder)

    return with_explorers


def test_a_page_shows_every_explorer(book, browser):
    app = book(*EXPLORERS)
    assert not warnings(app)
    page = browser.new_page()
    page.goto((Path(app.outdir) / "index.html").as_uri())
    page.wait_for_function(f"document.querySelectorAll('.a3-explorer[data-ready=true]').length === {len(EXPLORERS)}")
    page.close()


def test_other_builders_get_the_summary(book):
    app = book("trade_off", builder="text")
    text = (Path(app.outdir) / "index.txt").read_text()
    assert not warnings(app)
    assert "An interactive figure: the quality of each way of decoding" in " ".join(text.split())
    assert "script" not in text and "{" not in text


def test_an_unknown_name_is_said_to_be_one(book):
    assert "explorer: there is no 'trade-off', only bounds, mask, playground, puzzle, trade_off" in warnings(
        book("trade-off")
    )


def test_a_bad_result_is_said_to_be_one(book):
    results = Path(book("mask").srcdir) / "book" / "results"
    (results / "tradeoff.json").write_text("{}")
    assert "tradeoff.json: not a trade-off: it lacks 'strategies'" in warnings(book("trade_off"))
    (results / "tradeoff.json").unlink()
    assert "explorer trade_off: [Errno 2] No such file" in warnings(book("trade_off"))


def test_the_page_is_written_again_when_its_data_or_its_code_changes(book):
    app = book("trade_off")
    known = {Path(app.srcdir, file).resolve() for file in app.env.dependencies["index"]}
    folder = ROOT / "a3mini" / "notebook" / "explorers"
    assert {folder / "base.js", folder / "trade_off.js", folder / "base.css"} <= known
    data = Path(app.srcdir) / "book" / "results" / "tradeoff.json"
    assert data.resolve() in known
    data.write_text(json.dumps(json.loads(data.read_text()) | {"hardware": "another machine"}))
    assert "another machine" in (Path(book("trade_off").outdir) / "index.html").read_text()


def test_pages_may_be_read_in_parallel(book):
    extension = book("mask").extensions["explorer_directive"]
    assert extension.parallel_read_safe and extension.parallel_write_safe


def test_the_book_loads_it():
    config = (ROOT / "_config.yml").read_text()
    assert "explorer_directive: book/_ext\n" in config and "      - explorer_directive\n" in config
