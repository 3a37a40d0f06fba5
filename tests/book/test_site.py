"""The built site: its links hold, it loads nothing from elsewhere, and its pages are accessible."""

import re

import pytest
from built_site import SITE, is_local, pages, problem, read, require_site
from fontTools.ttLib import TTFont
from places import ROOT


@pytest.fixture(scope="session", autouse=True)
def built():
    require_site()


def test_every_page_of_the_contents_is_there():
    named = re.findall(r"(?:file|root): (\S+)", (ROOT / "_toc.yml").read_text())
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


# Pages are light: what book/_ext/light_pages.py promises


@pytest.mark.parametrize("page", pages())
def test_pictures_say_their_size(page):
    text = (SITE / page).read_text(encoding="utf-8")
    article = text.split("<article")[1].split("</article>")[0] if "<article" in text else ""
    assert not [img for img in re.findall(r"<img [^>]*>", article) if not re.search(r' width="\d+" height="\d+"', img)]


@pytest.mark.parametrize("page", pages())
def test_formulas_bring_mathjax_and_nothing_else_does(page):
    scripts = [attrs.get("src") or "" for tag, attrs in read(page).elements if tag == "script"]
    formulas = any("math" in (attrs.get("class") or "").split() for _, attrs in read(page).elements)
    if page != "search.html":
        assert any("mathjax" in script for script in scripts) == formulas
    assert not any("fontawesome" in script for script in scripts)


def test_every_icon_has_a_glyph():
    static = SITE / "_static"
    sheet = (static / "styles" / "pydata-sphinx-theme.css").read_text(encoding="utf-8")
    fonts = list((static / "vendor" / "fontawesome" / "webfonts").glob("*.woff2"))
    glyphs = {code for font in fonts for code in TTFont(font).getBestCmap()}
    used = {name for page in pages() for name in re.findall(r"\bfa-[a-z-]+", (SITE / page).read_text(encoding="utf-8"))}
    codes = {name: re.search(rf'\.{name}:before[^{{}}]*\{{content:"\\([0-9a-f]+)"', sheet) for name in used}
    codes = {name: int(code[1], 16) for name, code in codes.items() if code}  # the others are sizes
    assert {"fa-magnifying-glass", "fa-github", "fa-bars"} <= set(codes)
    assert not {name for name, code in codes.items() if code not in glyphs}
    assert sum(font.stat().st_size for font in fonts) < 20_000


# Dark, print


@pytest.fixture
def chapter(browser, site):
    """A chapter with figures and solutions, in the dark theme."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="dark")
    context.add_init_script("localStorage.setItem('mode', 'dark'); localStorage.setItem('theme', 'dark')")
    page = context.new_page()
    page.goto(f"{site}/notebooks/02_groups_and_masks.html", wait_until="networkidle")
    yield page
    context.close()


def test_figures_are_those_of_the_page_s_theme(chapter):
    pictures = chapter.locator(".bd-article .cell_output img")
    assert pictures.count() > 4 and pictures.count() % 2 == 0
    kinds = pictures.evaluate_all(
        "all => all.map(e => [e.alt, e.checkVisibility(), e.className.includes('only-dark')])"
    )
    for (alt, shown, dark), (other_alt, other_shown, other_dark) in zip(kinds[::2], kinds[1::2], strict=True):
        assert alt == other_alt and (shown, dark, other_shown, other_dark) == (False, False, True, True)
    dark = chapter.locator(".bd-article .cell_output img.only-dark").first
    dark.scroll_into_view_if_needed()
    chapter.wait_for_function("document.querySelector('.cell_output img.only-dark').naturalWidth > 0")
    style = "e => { const s = getComputedStyle(e); return [s.filter, s.mixBlendMode] }"
    assert dark.evaluate(style) == ["none", "normal"]
    # the other ones are not even loaded
    assert not any(chapter.locator(".cell_output img.only-light").evaluate_all("all => all.map(e => e.naturalWidth)"))


def test_a_figure_without_a_dark_picture_is_turned_over(chapter):
    alone = chapter.locator(".bd-article .cell_output img.only-dark").first.element_handle()
    alone.evaluate("e => e.classList.remove('only-dark')")
    style = "e => { const s = getComputedStyle(e); return [s.filter, s.mixBlendMode, s.backgroundColor] }"
    assert alone.evaluate(style) == ["invert(0.92) hue-rotate(180deg)", "lighten", "rgba(0, 0, 0, 0)"]


def test_paper_has_the_light_figures_loaded(chapter):
    chapter.pdf()  # as a reader who prints from the dark theme
    chapter.emulate_media(media="print")
    chapter.evaluate("dispatchEvent(new Event('beforeprint'))")
    loaded = "[...document.querySelectorAll('.cell_output img')].filter(e => e.checkVisibility()).map(e => e.className)"
    shown = chapter.evaluate(loaded)
    assert shown and all("only-light" in name for name in shown)
    chapter.wait_for_function(
        "[...document.querySelectorAll('.cell_output img.only-light')].every(e => e.naturalWidth > 0)", timeout=5000
    )


def test_paper_is_white_and_has_no_navigation(chapter):
    chapter.emulate_media(media="print")
    chapter.evaluate("dispatchEvent(new Event('beforeprint'))")
    ground = chapter.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(255, 255, 255)"
    for hidden in (
        ".bd-sidebar-primary",
        ".bd-sidebar-secondary",
        ".bd-header-article",
        ".prev-next-footer",
        ".copybtn",
    ):
        assert not any(part.is_visible() for part in chapter.locator(hidden).all()), hidden
    assert chapter.locator(".bd-article h1").first.is_visible()
    folds = "[...document.querySelectorAll('.bd-article details:not(.hide)')].filter(fold => fold.open).length"
    assert chapter.locator(".bd-article details:not(.hide)").count() and chapter.evaluate(folds) == 0
    chapter.evaluate("dispatchEvent(new Event('afterprint'))")
    assert chapter.evaluate("document.documentElement.dataset.theme") == "dark"
