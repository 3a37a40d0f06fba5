"""The built site, for the tests that read it. `make test` builds it first and says that it must be there."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"


def pages() -> list[str]:
    """The pages that a reader can open, as paths relative to the site."""
    if not SITE.exists():
        return []
    # index.html forwards to the first page.
    found = {str(page.relative_to(SITE)) for page in SITE.rglob("*.html") if "_static" not in page.parts}
    return sorted(found - {"index.html"})


def require_site() -> None:
    if not pages():
        if os.environ.get("A3_SITE_REQUIRED"):
            pytest.fail("the site is not built")
        pytest.skip("the site is not built: run `make book`")
