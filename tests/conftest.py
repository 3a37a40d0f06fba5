"""A real browser, for the tests of pages and explorers. They are skipped where there is no Chromium.

Set A3_CHROMIUM to the path of a Chromium or Chrome that is not on the PATH.
"""

import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --font-render-hinting=none"
)


class Quiet(SimpleHTTPRequestHandler):
    base = ""

    def translate_path(self, path):
        """Only what begins with the base is there: a project's pages are served under /REPO/, and not from the root."""
        inside = path.startswith(f"{self.base}/")
        return super().translate_path(path.removeprefix(self.base)) if inside else os.devnull + "/outside"

    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def serve():
    """A function that serves a folder on this machine, under a path such as "/repo", and returns its address."""
    servers = []

    def start(folder, base: str = "") -> str:
        handler = type("UnderBase", (Quiet,), {"base": base})
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}{base}"

    yield start
    for server in servers:
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    chromium = os.environ.get("A3_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        missing = pytest.fail if os.environ.get("A3_BROWSER_REQUIRED") else pytest.skip
        missing("no Chromium found (set A3_CHROMIUM to its path)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=ARGUMENTS.split())
        yield browser
        browser.close()


class Window:
    """A browser window of one size and theme, that keeps a list of all that goes wrong in it."""

    def __init__(self, browser, size: str, theme: str, allowed: tuple[str, ...] = ()):
        self.look, self.problems, self.allowed = f"{size}-{theme}", [], ("data:", "blob:", "about:", *allowed)
        width, height = WIDTHS[size]
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
        self.context.add_init_script(
            f"try {{ localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}') }} catch {{}}"
        )
        self.context.route("**/*", self._only_local)
        self.page = self.context.new_page()
        self.page.on("console", lambda m: self.problems.append(f"console: {m.text}") if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("requestfailed", lambda r: self.problems.append(f"failed, {r.failure}: {r.url}"))

    def _only_local(self, route):
        if route.request.url.startswith(self.allowed):
            return route.continue_()
        self.problems.append(f"external request: {route.request.url}")
        return route.abort()

    def too_wide(self) -> list[str]:
        """If the page is wider than the screen, the elements that stick out."""
        return self.page.evaluate(
            """() => document.documentElement.scrollWidth <= innerWidth ? [] : ['the page',
                 ...[...document.querySelectorAll('body *')]
                   .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
                   .slice(0, 5).map(e => e.outerHTML.slice(0, 120))]"""
        )

    def violations(self, context: str) -> list[str]:
        """What axe-core holds for serious or critical within the elements that the selector ``context`` finds."""
        from axe_playwright_python.sync_playwright import Axe

        # What is still fading in has not its own colours yet.
        self.page.evaluate("document.getAnimations().forEach(a => { try { a.finish() } catch { a.cancel() } })")
        found = Axe().run(self.page, context).response["violations"]
        return [
            f"{rule['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
            for rule in found
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]


@pytest.fixture(scope="module", params=[(size, theme) for size in WIDTHS for theme in ("light", "dark")], ids="-".join)
def window(request, browser, site):
    """Windows on the built site, of both sizes and both themes."""
    found = Window(browser, *request.param, allowed=(site,))
    yield found
    found.context.close()


@pytest.fixture
def open_explorer(browser):
    """A function that shows explorers on a page of their own, and returns the ``Window``; its problems must stay empty.

    Options: ``size`` ("desktop", "phone"), ``theme`` ("light", "dark"), ``width`` in pixels.
    """
    windows = []

    def show(*explorers, size: str = "desktop", theme: str = "light", width: int | None = None) -> Window:
        found = Window(browser, size, theme)
        windows.append(found)
        if width:
            found.page.set_viewport_size({"width": width, "height": 800})
        parts = "".join(explorer.to_html() for explorer in explorers)
        ground = "#14181e" if theme == "dark" else "#fff"
        head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Explorers</title>'
        head += f"<style>body {{ margin: 8px; background: {ground} }}</style>"
        found.page.set_content(
            f'<!doctype html><html lang="en" data-theme="{theme}"><head>{head}</head><body><main>{parts}</main></body>'
        )
        found.page.wait_for_function(
            f"document.querySelectorAll('.a3-explorer[data-ready=true]').length === {len(explorers)}"
        )
        return found

    yield show
    for found in windows:
        problems = found.problems
        found.context.close()
        assert not problems


@pytest.fixture(scope="session")
def site(serve):
    """The address of the built site, under the path that GitHub Pages gives it."""
    from built_site import BASE, SITE, require_site

    require_site()
    return serve(SITE, BASE)
