"""tools/site/publish_check.py: what it says about the repository's URL, and which links to other sites are broken."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

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
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    there = f"http://127.0.0.1:{server.server_port}"
    nowhere = "http://127.0.0.1:1/200"
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "c.html").write_text(f'<a href="{there}/500">not a page of ours</a>')
    (tmp_path / "b.html").write_text(
        f'<a class="x" href="{there}/200?a=1&amp;b=/200#part">good</a><a href="{there}/404">bad</a>'
        f'<a href="{there}/403">?</a><a href="{nowhere}">bad</a><a href="a.html">local</a><img src="{there}/410">'
    )
    links = publish_check.external_links(tmp_path)
    assert set(links) == {f"{there}/200?a=1&b=/200", f"{there}/404", f"{there}/403", nowhere}
    wrong, unsure = publish_check.broken(links, tries=0)
    server.shutdown()
    assert sorted(wrong) == sorted([f"404: {there}/404 (on b.html)", f"ConnectionError: {nowhere} (on b.html)"])
    assert unsure == [f"403: {there}/403 (on b.html)"]
