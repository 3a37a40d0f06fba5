"""Execute the notebooks, each once, and build the site from the executed copies.

The committed notebooks have no outputs and stay as they are. This tool copies the book's sources
to .book/source (nbmake skips every folder named _build), executes the copies there, and builds the
site into _build/html. A notebook is executed again only when its code, the package, a result or a pin has changed: not
when its text has, or what tools/site/links.py writes into it.
tools/course/student.py builds the edition without solutions from the same copies.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from benchmarks.record import record
from tools import ROOT
from tools.site import slides

SOURCE = ROOT / ".book" / "source"
TIMES = ROOT / "book" / "results" / "notebook_times.json"
EXECUTED = ROOT / ".book" / "executed"  # one file per notebook: the fingerprint of its last good run


def fingerprint(notebook: Path) -> str:
    """Changes with anything that the notebook's outputs depend on: of the notebook itself that is its code.

    The setup cell is left out: where a3mini is, it does nothing, and the repository's URL stands in it.
    """
    shared = [f for f in sorted((ROOT / "a3mini").rglob("*")) if f.is_file() and "__pycache__" not in f.parts]
    shared += [*sorted((ROOT / "book" / "results").rglob("*.json")), ROOT / "constraints.txt"]
    digest = hashlib.sha256()
    for file in shared:
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes() + b"\0")
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code" and cell.id != "setup":
            how = [cell.metadata.get(key) for key in ("tags", "nbmake")]  # the rest says how a cell is shown
            digest.update(json.dumps([cell.id, cell.source, how], sort_keys=True).encode() + b"\0")
    return digest.hexdigest()


def renew(copy: Path, notebook: Path) -> None:
    """Bring an executed copy to the text that its notebook has now; the outputs stay, for the code is the same."""
    now, executed = (nbformat.read(path, as_version=4) for path in (notebook, copy))
    before = {cell.id: cell for cell in executed.cells if cell.cell_type == "code"}
    for cell in now.cells:
        if cell.cell_type == "code" and cell.id in before:
            cell.outputs, cell.execution_count = before[cell.id].outputs, before[cell.id].execution_count
    now.metadata = executed.metadata
    nbformat.write(now, copy)


def mark(name: str) -> Path:
    return EXECUTED / f"{name}.sha256"


def stage() -> list[Path]:
    """Bring SOURCE up to date. Return the staged notebooks that have to be executed."""
    folder, stale = SOURCE / "notebooks", []
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(SOURCE / "book", ignore_errors=True)
    shutil.copytree(ROOT / "book", SOURCE / "book", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    shutil.copyfile(ROOT / "_toc.yml", SOURCE / "_toc.yml")
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    assert "execute_notebooks: auto" in config, "_config.yml: expected the line `execute_notebooks: auto`"
    config = config.replace("execute_notebooks: auto", 'execute_notebooks: "off"')  # the copies are executed already
    (SOURCE / "_config.yml").write_text(config, encoding="utf-8")
    for file in sorted((ROOT / "notebooks").glob("*.ipynb")):
        copy, done = folder / file.name, mark(file.name)
        if not (copy.exists() and done.exists() and done.read_text() == fingerprint(file)):
            done.unlink(missing_ok=True)
            shutil.copyfile(file, copy)
            stale.append(copy)
        else:
            renew(copy, file)
    for copy in folder.glob("*.ipynb"):
        if not (ROOT / "notebooks" / copy.name).exists():
            copy.unlink()
    return stale


class MarkExecuted:
    """A pytest plugin: remembers each notebook that ran to its end, and how long it took."""

    def __init__(self):
        self.seconds = {}

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and report.passed:
            name = Path(report.fspath).name
            EXECUTED.mkdir(parents=True, exist_ok=True)
            self.seconds[name] = round(report.duration, 1)
            mark(name).write_text(fingerprint(ROOT / "notebooks" / name))


def longest_first(notebooks: list[Path]) -> list[Path]:
    """By the stored times: else a long one at the end keeps one process busy, and the others wait."""
    seconds = json.loads(TIMES.read_text(encoding="utf-8"))["seconds"]
    return sorted(notebooks, key=lambda path: -seconds.get(path.name, 0))


def execute(notebooks: list[Path], jobs: int) -> dict[str, float]:
    """Run the staged notebooks. Return the seconds that each took."""
    watch = MarkExecuted()
    jobs = max(1, min(jobs, len(notebooks)))
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
    os.environ["A3MINI_BOTH_THEMES"] = "1"  # figures for the light and for the dark theme: notebook/plots/themes.py
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # the kernel python3 is this environment's, not the user's
    status = pytest.main(
        [
            *("--nbmake", "--overwrite", "--nbmake-kernel=python3", "--nbmake-timeout=900"),
            *("-p", "tools.environments.no_echo"),
            *(f"-n{jobs}", "--dist=load", "--maxschedchunk=1", "--durations=0", "--durations-min=1"),
            *("-p", "no:cacheprovider", *map(str, longest_first(notebooks))),
        ],
        plugins=[watch],
    )
    if status != pytest.ExitCode.OK:
        sys.exit("A notebook failed. Its traceback, with the cell, is above.")
    return watch.seconds


def executed(jobs: int) -> Path:
    """The staged sources with the outputs of every notebook; executes what has changed."""
    stale = stage()
    if stale:
        execute(stale, jobs)
    else:
        print("No notebook has changed: none is executed again.")
    return SOURCE


def forget_widgets(source: Path) -> None:
    """Jupyter keeps a copy of every widget's state in the notebook. A page reads the HTML face and would carry both."""
    for path in (source / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        if notebook.metadata.pop("widgets", None):
            nbformat.write(notebook, path)


def build(source: Path, output: Path) -> Path:
    """Write the site to output/_build/html, from a clean state: else a page with a warning passes at the second try."""
    forget_widgets(source)
    site = output / "_build" / "html"
    for folder in (site, site.with_name(".doctrees"), site.with_name(".jupyter_cache")):
        shutil.rmtree(folder, ignore_errors=True)
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [jupyter_book, "build", source, "--path-output", output, "-W", "-n", "--keep-going", "-q"]
    if subprocess.run(command).returncode != 0:
        sys.exit("The site was not built: see the warnings above.")
    (site / ".nojekyll").touch()  # GitHub Pages would otherwise leave out the folders that begin with _
    slides.build(source / "notebooks", site)
    return site


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2, help="how many notebooks run at the same time")
    parser.add_argument("--record", action="store_true", help="measure every notebook anew, alone, and store the times")
    options = parser.parse_args()
    if options.record:
        shutil.rmtree(EXECUTED, ignore_errors=True)
        record("notebook_times", seed=0, seconds=dict(sorted(execute(stage(), jobs=1).items())))
        return
    site = build(executed(options.jobs), ROOT)
    print(f"\nThe book is ready. Open {(site / 'index.html').as_uri()}")


if __name__ == "__main__":
    main()
