"""Where Chromium is, for what needs a real browser: benchmarks, and the tests of pages."""

import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def chromium() -> str | None:
    """The path in A3_CHROMIUM, else a Chromium or Chrome on the PATH; None: there is none."""
    return os.environ.get("A3_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
