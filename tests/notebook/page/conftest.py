"""Every test of the page's JavaScript runs in Node and in Chromium; in the one that is not there it is skipped."""

import shutil

import pytest
from page_engines import Chromium, Node


@pytest.fixture(scope="module", params=["node", "chromium"])
def engine(request, tmp_path_factory):
    """Runs JavaScript; see ``page_engines``."""
    if request.param == "chromium":
        made = Chromium(request.getfixturevalue("browser"))
    elif shutil.which("node"):
        made = Node(tmp_path_factory.mktemp("node"))
    else:
        pytest.skip("no Node found; the same tests run in Chromium")
    yield made
    made.close()
