"""Every page in a real browser: desktop and phone, light and dark.

The screenshots are left in _build/screenshots, for people to look at.
"""

import pytest
from browser_window import Window
from built_site import SITE, pages

SCREENSHOTS = SITE.parent / "screenshots"
CHAPTERS = [name for name in pages() if name.startswith("notebooks/")]
CODE = {
    "a cell": "div.cell:not(.tag_setup) div.cell_input pre",
    "what a cell prints": "div.cell_output .stream pre",
    "what a cell ends with": "div.cell_output .text_plain pre",
    "a fold": "details:not(.hide) div.highlight pre",
    "the setup cell": "div.tag_setup div.cell_input pre",
}
FRAMES = """[...document.querySelectorAll('.text_html:has(.a3-figure)')].map((output) => {
    const { backgroundColor, padding } = getComputedStyle(output);
    return `${backgroundColor} ${padding}`;
  })"""
NOTHING = "rgba(0, 0, 0, 0) 0px"
MARGIN = 1  # pixels: sizes are rounded


def unread_formulas(page) -> list[str]:
    """The formulas that MathJax left as they are, marked as wrong, or printed with an unknown command in red."""
    return page.evaluate(
        """() => [...document.querySelectorAll('.math')]
             .filter(e => !e.querySelector('mjx-container') || e.querySelector("mjx-merror, [style*='color: red']"))
             .map(e => e.textContent)"""
    )


@pytest.mark.parametrize("name", pages())
def test_page(name, window, site):
    page, problems = window.page, window.problems
    window.open(f"{site}/{name}")
    if page.locator(".math").count():
        page.wait_for_function("window.MathJax?.startup?.promise", timeout=20_000)
        page.evaluate("MathJax.startup.promise")
        assert not unread_formulas(page)
    page.wait_for_load_state("networkidle")
    explorers = page.locator(".a3-figure").count()
    page.wait_for_function(f"document.querySelectorAll('.a3-explorer[data-ready=true]').length === {explorers}")

    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    picture = f"{name.removesuffix('.html').replace('/', '-')}-{window.look}.png"
    page.screenshot(path=SCREENSHOTS / picture, full_page=True)
    assert page.evaluate("document.documentElement.dataset.theme") == window.look.split("-")[1]
    assert set(page.evaluate(FRAMES)) <= {NOTHING}, "an explorer stands in a frame of the theme's"
    assert not window.too_wide()
    page.evaluate("document.querySelectorAll('main details').forEach(fold => fold.open = true)")
    assert not window.too_wide(), "with hints and solutions open"
    assert not problems
    if window.look.startswith("desktop"):  # the same elements and colours on a phone
        window.thin_out()
        assert not window.violations("main")


def test_a_pale_token_among_a_thousand_is_found(browser):
    kinds = ("class='dark'", "class='dark' style='color: #eee'", "class='pale'")
    words = " ".join(f"<span {kind}>word</span>" for kind in kinds) + " "
    for pale, expected in (("", 1), ("<style>.pale { color: #eee }</style>", 2)):
        window = Window(browser, "desktop", "light")
        window.page.set_content(
            f"<html lang='en'><title>t</title>{pale}<main><h1>t</h1><p>{words * 300}</p></main></html>"
        )
        window.thin_out()
        assert window.page.locator("main span").count() == 6
        assert len(window.violations("main")) == 2 * expected
        window.context.close()


@pytest.fixture(scope="module", params=["light", "dark"])
def desktop(request, browser, site):
    """A window in which a chapter's column shows 80 characters of code."""
    found = Window(browser, "desktop", request.param, allowed=(site,))
    yield found.page
    found.context.close()


def open_chapter(page, address: str) -> None:
    """With its folds open: the setup cell, hints, solutions."""
    page.goto(address, wait_until="load")
    page.evaluate("document.querySelectorAll('main details').forEach(fold => fold.open = true)")


def cut(page) -> list[str]:
    """The longest line of each block of code, or of output, that does not fit its box."""
    return page.evaluate(
        f"""() => [...document.querySelectorAll("main :is({", ".join(CODE.values())})")]
              .filter(e => !e.clientWidth || e.scrollWidth > e.clientWidth + {MARGIN})
              .map(e => e.textContent.split('\\n').reduce((a, b) => b.length > a.length ? b : a, ''))"""
    )


@pytest.mark.parametrize("name", CHAPTERS)
def test_code_and_output_fit_the_column(name, desktop, site):
    open_chapter(desktop, f"{site}/{name}")
    assert desktop.locator(CODE["a cell"]).count() > 10 and desktop.locator(CODE["what a cell prints"]).count() > 5
    assert not cut(desktop)


@pytest.mark.parametrize("place", CODE)
def test_80_characters_fit_and_more_are_noticed(place, desktop, site):
    open_chapter(desktop, f"{site}/notebooks/00_quickstart.html")
    add = "(e, count) => e.append('\\n' + 'x'.repeat(count))"
    block = desktop.locator(CODE[place]).first
    if place == "a fold" and not block.count():
        pytest.skip("the student edition has no solutions")
    block.evaluate(add, 80)
    assert not cut(desktop)
    block.evaluate(add, 90)
    assert cut(desktop) == ([] if place == "what a cell ends with" else ["x" * 90])  # these words may break


def test_search_finds_a_page(browser, site):
    page = browser.new_page()
    page.goto(f"{site}/search.html?q=masks")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    page.close()
