"""Every page in a real browser: desktop and phone, light and dark.

The screenshots are left in _build/screenshots, for people to look at.
"""

import pytest
from built_site import SITE, pages

SCREENSHOTS = SITE.parent / "screenshots"


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
    problems.clear()
    page.goto(f"{site}/{name}", wait_until="load")
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
    assert not window.too_wide()
    page.evaluate("document.querySelectorAll('main details').forEach(fold => fold.open = true)")
    assert not window.too_wide(), "with hints and solutions open"
    assert not problems
    if window.look.startswith("desktop"):  # the same elements and colours on a phone
        assert not window.violations("main")


def test_search_finds_a_page(browser, site):
    page = browser.new_page()
    page.goto(f"{site}/search.html?q=masks")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    page.close()
