"""Every page in a real browser: desktop and phone, light and dark. Skipped where there is no Chromium.

Set A3_CHROMIUM to the path of a Chromium or Chrome that is not on the PATH. The screenshots are left
in _build/screenshots, for people to look at.
"""

import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from built_site import SITE, pages, require_site

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = os.environ.get("A3_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
SCREENSHOTS = SITE.parent / "screenshots"
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found (set A3_CHROMIUM to its path)")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    require_site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=SITE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    arguments = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    arguments += " --disable-component-update --disable-sync --disable-dev-shm-usage --font-render-hinting=none"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=arguments.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=[(size, theme) for size in WIDTHS for theme in ("light", "dark")], ids="-".join)
def window(request, browser, server):
    """A browser window of one size and theme, that keeps a list of all that goes wrong in it."""
    size, theme = request.param
    width, height = WIDTHS[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
    context.add_init_script(f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}');")
    page, problems = context.new_page(), []
    page.on("console", lambda m: problems.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))

    def allow_local(route):
        if route.request.url.startswith((server, "data:", "blob:")):
            return route.continue_()
        problems.append(f"external request: {route.request.url}")
        return route.abort()

    context.route("**/*", allow_local)
    yield page, problems, f"{size}-{theme}"
    context.close()


def too_wide(page) -> list[str]:
    """If the page is wider than the screen, the elements that stick out."""
    return page.evaluate(
        """() => document.documentElement.scrollWidth <= innerWidth ? [] : ['the page',
             ...[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
               .slice(0, 5).map(e => e.outerHTML.slice(0, 120))]"""
    )


def unread_formulas(page) -> list[str]:
    """The formulas that MathJax left as they are, marked as wrong, or printed with an unknown command in red."""
    return page.evaluate(
        """() => [...document.querySelectorAll('.math')]
             .filter(e => !e.querySelector('mjx-container') || e.querySelector("mjx-merror, [style*='color: red']"))
             .map(e => e.textContent)"""
    )


@pytest.mark.parametrize("name", pages())
def test_page(name, window, server):
    page, problems, look = window
    problems.clear()
    page.goto(f"{server}/{name}", wait_until="load")
    if page.locator(".math").count():
        page.wait_for_function("window.MathJax?.startup?.promise", timeout=20_000)
        page.evaluate("MathJax.startup.promise")
        assert not unread_formulas(page)
    page.wait_for_load_state("networkidle")

    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name.removesuffix('.html').replace('/', '-')}-{look}.png", full_page=True)
    assert page.evaluate("document.documentElement.dataset.theme") == look.split("-")[1]
    assert not too_wide(page)
    page.evaluate("document.querySelectorAll('main details').forEach(fold => fold.open = true)")
    assert not too_wide(page), "with hints and solutions open"
    assert not problems


def test_search_finds_a_page(browser, server):
    page = browser.new_page()
    page.goto(f"{server}/search.html?q=masks")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    page.close()
