"""A real browser, for the tests of pages and explorers. They are skipped where there is no Chromium.

Set A3_CHROMIUM to the path of a Chromium or Chrome that is not on the PATH.
"""

import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import browsers
import pytest
from browser_window import WIDTHS, Window

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
    chromium = browsers.chromium()
    if chromium is None:
        missing = pytest.fail if os.environ.get("A3_BROWSER_REQUIRED") else pytest.skip
        missing("no Chromium found (set A3_CHROMIUM to its path)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=ARGUMENTS.split())
        yield browser
        browser.close()


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
