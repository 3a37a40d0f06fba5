"""The built site, for the tests that read it. `make test` builds it first and says that it must be there.

A3_SITE names another folder with a site: `make publish-check` tests each edition so.
"""

import os
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / (os.environ.get("A3_SITE") or "_build/html")
SLIDES = "slides"  # a folder of the site
# GitHub serves the pages of OWNER/REPO under /REPO, so a site that works at the root alone does not work there.
BASE = "/" + yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"].rsplit("/", 1)[-1]


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
