"""tools/site/publish_check.py: what it says about the repository's URL, and which links to other sites are broken."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from places import ROOT

from tools.site import publish_check


@pytest.mark.parametrize(
    ("url", "here", "part"),
    [
        ("https://github.com/OWNER/book", None, "still the placeholder"),
        ("https://github.com/OWNER/book", "ann/book", "url: https://github.com/ann/book"),
        ("https://github.com/bob/book", "ann/book", "This repository is https://github.com/ann/book"),
        ("https://github.com/ann/book/", None, "should have the form"),
        ("https://github.com/ann/book.git", None, "should have the form"),
        ("http://github.com/ann/book", None, "should have the form"),
    ],
)
def test_a_wrong_url_is_explained(url, here, part):
    message = publish_check.wrong_url(url, here)
    assert part in message and "_config.yml" in message and "make links" in message


@pytest.mark.parametrize("here", [None, "ann/book", "Ann/Book"])
def test_a_right_url_is_accepted(here):
    assert publish_check.wrong_url("https://github.com/ann/book", here) is None


def test_placeholders_in_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="https://github.com/OWNER/book">here</a>')
    (tmp_path / "b.html").write_text('OWNER <a href="https://github.com/ann/book">here</a>')
    assert publish_check.placeholders(tmp_path) == ["a.html"]


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(self.path.rsplit("/")[-1]))
        self.end_headers()

    def log_message(self, *args):
        pass


def test_external_links(tmp_path):
    pytest.importorskip("jupyter_book", reason="needs the extra `book`")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    there, nowhere = f"http://127.0.0.1:{server.server_port}", "http://127.0.0.1:1/200"
    source = tmp_path / "source"
    source.mkdir()
    (source / "_toc.yml").write_text("{format: jb-book, root: page}\n")
    (source / "_config.yml").write_text("sphinx: {config: {linkcheck_anchors: false, linkcheck_workers: 1}}\n")
    (source / "page.md").write_text(
        f"# A page\n\n[good]({there}/200?a=1&b=/200#part) [bad]({there}/404) [?]({there}/403) [bad]({nowhere})\n"
    )
    wrong, unsure = publish_check.broken(source, tmp_path)
    server.shutdown()
    assert [line.rsplit(": ")[-1] for line in wrong] == [f"{there}/404", nowhere] and "404 " in wrong[0]
    assert [line.rsplit(": ")[-1] for line in unsure] == [f"{there}/403"] and "(on page.md)" in unsure[0]


def test_the_tests_of_the_site_are_where_it_looks_for_them():
    assert all((ROOT / name).is_file() for name in publish_check.TESTS)
