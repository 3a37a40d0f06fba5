"""The live face in a real JupyterLab: what the reader does reaches Python, and what Python does reaches the page."""

import os
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from browser_window import Window

CELLS = (
    """\
import torch

from a3mini.notebook.explorers import MaskExplorer

explorer = MaskExplorer(["Tom", "lost", "his", "car"], torch.tensor([1, 2, 3, 4]), "a sentence of the tests")
explorer""",
    "print('the page says', explorer.group_ids)",
    "explorer.group_ids = [1, 1, 2, 1]",
    """\
from a3mini.notebook.explorers import Playground

playground = Playground(text="Ben was very [sad] because he lost his toy.", temperature=0.0)
playground""",
    "print('the page wrote:', playground.written)",
    "playground.text = 'Mom made a [cake].'",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab of our own, with its settings in an empty folder."""
    pytest.importorskip("jupyterlab")
    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "live.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    options = [
        f"--ServerApp.root_dir={folder}",
        f"--ServerApp.port={port}",
        "--ServerApp.ip=127.0.0.1",
        "--IdentityProvider.token=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=None",
        "--LabApp.extension_manager=readonly",
        "--no-browser",
        "--allow-root",
        "--expose-app-in-browser",
    ]
    log = (folder / "log.txt").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options],
        env=os.environ | own | {"JUPYTER_PREFER_ENV_PATH": "1"},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=1)
            break
        except OSError:
            assert server.poll() is None, (folder / "log.txt").read_text()
            time.sleep(0.25)
    yield address
    server.terminate()
    server.wait(20)


QUERY_MASK = """() => JSON.stringify(
    [...document.querySelectorAll('.a3-explorer [data-mask=query] td[data-seen]')].map(cell => cell.dataset.seen))"""


class Notebook:
    """The notebook, open in a window of its own."""

    def __init__(self, browser, lab: str):
        self.window = Window(browser, "desktop", "light", allowed=(lab,))
        self.page = self.window.page
        self.page.goto(f"{lab}/lab/tree/live.ipynb", wait_until="load")
        self.page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.context?.sessionContext?.session?.kernel")

    def run(self, cell: int) -> None:
        self.page.locator(".jp-Notebook .jp-CodeCell").nth(cell).click()
        self.page.evaluate("window.jupyterapp.commands.execute('notebook:run-cell')")

    def close(self) -> None:
        self.page.wait_for_timeout(200)
        assert not [problem for problem in self.window.problems if "a3" in problem or "external" in problem]
        self.window.context.close()


def test_the_live_face(browser, lab):
    notebook = Notebook(browser, lab)
    page, run = notebook.page, notebook.run

    def changed(before: str) -> None:
        page.wait_for_function(f"before => ({QUERY_MASK})() !== before", arg=before)

    run(0)
    page.wait_for_selector(".a3-explorer[data-ready=true]", timeout=60_000)
    explorer = page.locator(".a3-explorer")
    assert explorer.get_attribute("data-face") == "live" and explorer.get_attribute("data-theme") == "light"

    start = page.evaluate(QUERY_MASK)
    explorer.locator(".a3-token").nth(1).press("ArrowUp")
    changed(start)
    run(1)
    page.wait_for_selector("text=the page says [1, 1, 2, 3]")  # from the page to Python

    moved = page.evaluate(QUERY_MASK)
    run(2)
    changed(moved)  # and from Python to the page
    notebook.close()


def test_the_kernel_sends_the_model_and_hears_what_it_writes(browser, lab):
    notebook = Notebook(browser, lab)
    page = notebook.page
    notebook.run(3)
    page.wait_for_selector(".a3-playground", timeout=60_000)
    page.locator("button", has_text="Load the model").click()
    page.wait_for_selector("text=The model is here", timeout=30_000)
    page.locator("button", has_text="Play").click()
    page.wait_for_selector(".a3-now[data-open='0']")
    notebook.run(4)
    page.wait_for_selector("text=the page wrote: Ben was very sad because he lost his toy.")
    notebook.run(5)
    page.wait_for_selector(".a3-now[data-open='1']")  # another text, from Python
    notebook.close()
