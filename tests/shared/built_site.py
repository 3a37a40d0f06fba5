"""The built site, for the tests that read it. `make test` builds it first and says that it must be there.

A3_SITE names another folder with a site: `make publish-check` tests each edition so.
"""

import os
import re
from functools import cache
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

import pytest
import yaml
from places import ROOT

SITE = ROOT / (os.environ.get("A3_SITE") or "_build/html")
SLIDES = "slides"  # a folder of the site
# GitHub serves the pages of OWNER/REPO under /REPO, so a site that works at the root alone does not work there.
BASE = "/" + yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"].rsplit("/", 1)[-1]

# Attributes with which a page makes the browser load something. A plain link (<a href>) loads nothing.
LOADS = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("object", "data"), ("embed", "src")}
LOADING_RELS = {"stylesheet", "icon", "shortcut icon", "preload", "prefetch", "modulepreload", "preconnect"}


def pages() -> list[str]:
    """The pages that a reader can open, as paths relative to the site. Slides are no pages: test_slides.py has them."""
    if not SITE.exists():
        return []
    # index.html forwards to the first page.
    found = {page.relative_to(SITE) for page in SITE.rglob("*.html") if "_static" not in page.parts}
    return sorted(str(page) for page in found if page.parts[0] not in ("index.html", SLIDES))


def decks() -> list[str]:
    """The slides, one name for each notebook."""
    return sorted(f"{SLIDES}/{page.name}" for page in (SITE / SLIDES).glob("*.html"))


def require_site() -> None:
    if not pages():
        if os.environ.get("A3_SITE_REQUIRED"):
            pytest.fail("the site is not built")
        pytest.skip("the site is not built: run `make book`")


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.elements, self.texts, self.ids, self.open, self.headings = [], {}, set(), [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.elements.append((tag, attrs))
        self.ids |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        self.headings += tag == "h1" and "article" in self.open  # the theme hides another one, for printing
        self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        for tag in self.open:
            self.texts[tag] = self.texts.get(tag, "") + data

    def loaded(self):
        """What the browser fetches to show the page."""
        for tag, attrs in self.elements:
            for key, value in attrs.items():
                if (tag, key) in LOADS or (tag == "link" and key == "href" and attrs.get("rel") in LOADING_RELS):
                    yield value
            yield from re.findall(r"url\(['\"]?([^'\")]+)", attrs.get("style") or "")
        yield from re.findall(r"url\(['\"]?([^'\")]+)", self.texts.get("style", ""))

    def links(self):
        for tag, attrs in self.elements:
            if tag == "a" and attrs.get("href"):
                yield attrs["href"]


@cache
def read(name: str) -> Page:
    return Page((SITE / name).read_text(encoding="utf-8"))


def is_local(url: str) -> bool:
    return not urlsplit(url).scheme and not urlsplit(url).netloc


def problem(page: str, url: str) -> str | None:
    """Why a local URL on a page leads nowhere, or None."""
    target = urlsplit(urljoin(f"{BASE}/{page}", url))
    name = unquote(target.path).removeprefix(f"{BASE}/")
    if name.startswith("/"):
        return f"{url}: leads out of the site, which is not at the root of its server"
    if not (SITE / name).is_file():
        return f"{url}: no such file"
    if target.fragment and name.endswith(".html"):
        ids = read(name).ids
        if unquote(target.fragment) not in ids and target.fragment not in ids:
            return f"{url}: no such place on that page"
    return None
