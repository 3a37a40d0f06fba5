"""The built site: its links hold, it loads nothing from elsewhere, and its pages are accessible."""

import re
from functools import cache
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from built_site import SITE, pages, require_site

pytestmark = pytest.mark.usefixtures("site")
# Attributes with which a page makes the browser load something. A plain link (<a href>) loads nothing.
LOADS = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("object", "data"), ("embed", "src")}
LOADING_RELS = {"stylesheet", "icon", "shortcut icon", "preload", "prefetch", "modulepreload", "preconnect"}


@pytest.fixture(scope="session")
def site():
    require_site()


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
    target = urlsplit(urljoin(f"/{page}", url))
    name = unquote(target.path).lstrip("/")
    if not (SITE / name).is_file():
        return f"{url}: no such file"
    if target.fragment and name.endswith(".html"):
        ids = read(name).ids
        if unquote(target.fragment) not in ids and target.fragment not in ids:
            return f"{url}: no such place on that page"
    return None


def test_every_page_of_the_contents_is_there():
    named = re.findall(r"(?:file|root): (\S+)", (SITE.parents[1] / "_toc.yml").read_text())
    assert {f"{name}.html" for name in named} <= set(pages())


@pytest.mark.parametrize("page", pages())
def test_local_links_and_anchors_exist(page):
    urls = {url for url in [*read(page).links(), *read(page).loaded()] if is_local(url)}
    problems = sorted(filter(None, (problem(page, url) for url in urls if url != "#")))
    assert not problems


@pytest.mark.parametrize("page", pages())
def test_nothing_is_loaded_from_elsewhere(page):
    external = [url for url in read(page).loaded() if not is_local(url) and not url.startswith("data:")]
    assert not external


def test_no_stylesheet_loads_from_elsewhere():
    for sheet in SITE.rglob("*.css"):
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.DOTALL)
        urls = re.findall(r"(?:url\(|@import\s*)['\"]?([^'\")\s;]+)", text)
        external = [url for url in urls if re.match(r"(https?:)?//", url)]
        assert not external, sheet.name


@pytest.mark.parametrize("page", pages())
def test_page_has_a_language_a_title_and_one_main_heading(page):
    elements = read(page).elements
    assert dict(elements)["html"].get("lang")
    assert read(page).texts.get("title", "").strip()
    assert read(page).headings == 1 or page == "search.html"  # whose heading is in no article


@pytest.mark.parametrize("page", pages())
def test_images_have_a_text_alternative(page):
    missing = []
    for tag, attrs in read(page).elements:
        # myst-nb's fallback is the file's name in the build, which says nothing.
        if tag == "img" and (attrs.get("alt") is None or "_build" in attrs["alt"] or "_images/" in attrs["alt"]):
            missing.append(attrs.get("src"))
    assert not missing
