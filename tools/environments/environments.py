"""What colab_check.py and matrix.py share: a fresh environment, and pytest in it, piece by piece.

A workplace is a folder outside the project: the last commit in ``repository``, a virtual environment in
``environment``, and what has been found so far in ``state.json``. A check that was stopped goes on where it was.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tools import ROOT

NOT_STARTED = {"passed": 0, "failed": 1, "skipped": 0, "seconds": 0.0, "failures": ["pytest did not start"]}


def python(version: str) -> str:
    """The interpreter of a version such as "3.12", or else this one."""
    found = shutil.which(f"python{version}")  # a version manager's command may stand there, and run nothing
    runs = found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0
    return found if runs else sys.executable


def pieces(files: list[Path], size: int = 3) -> list[list[Path]]:
    return [files[start : start + size] for start in range(0, len(files), size)]


def with_place(parser: argparse.ArgumentParser, folder: str) -> argparse.Namespace:
    """The options of a command, with those of a workplace."""
    parser.add_argument("--folder", type=Path, default=folder, help="where to work; what is found there goes on")
    parser.add_argument("--wrap", default="", help="a command that starts each piece, such as `nice -n 19`")
    return parser.parse_args()


class Workplace:
    def __init__(self, folder: Path, wrap: str = ""):
        self.folder, self.wrap = folder.resolve(), shlex.split(wrap)
        if ROOT in self.folder.parents:
            raise ValueError(f"{folder} lies in the project: what is checked there could find the project's own files")
        self.repository, self.environment = self.folder / "repository", self.folder / "environment"
        self.python = self.environment / "bin" / "python"
        file = self.folder / "state.json"
        self.state = json.loads(file.read_text()) if file.exists() else {"pieces": {}}

    def keep(self, **state) -> None:
        self.state |= state
        (self.folder / "state.json").write_text(json.dumps(self.state, indent=1) + "\n")

    def create(self, interpreter: str, *install: list[str]) -> None:
        """Take the last commit, make the environment, and run ``pip install`` in it with each list of arguments."""
        if "packages" in self.state:
            print(f"{self.folder.name}: goes on at commit {self.state['commit'][:7]}", flush=True)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.repository.exists():
            subprocess.check_call(["git", "clone", "--quiet", ROOT, self.repository])
        if not self.environment.exists():
            subprocess.check_call([interpreter, "-m", "venv", self.environment])
        for arguments in install:
            print(f"{self.folder.name}: pip install {' '.join(arguments)[:100]} ...", flush=True)
            subprocess.check_call([self.python, "-m", "pip", "install", "--quiet", *arguments], cwd=self.repository)
        self.keep(commit=self.commit(), packages=self.packages())

    def again(self) -> None:
        """Forget what failed, and take the commit that is the last one now: what failed is to run again there."""
        passed = {name: result for name, result in self.state["pieces"].items() if not result["failed"]}
        if passed != self.state["pieces"]:
            subprocess.check_call(["git", "pull", "--quiet"], cwd=self.repository)
            self.keep(commit=self.commit(), pieces=passed)

    def commit(self) -> str:
        return subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=self.repository, text=True).strip()

    def commits(self) -> list[str]:
        """The commits at which the pieces ran, the last one first."""
        return list(dict.fromkeys(result["commit"] for result in reversed(self.state["pieces"].values())))

    def packages(self) -> dict[str, str]:
        lines = subprocess.check_output([self.python, "-m", "pip", "list", "--format=freeze"], text=True).split()
        return dict(line.split("==") for line in lines)

    def versions(self) -> dict[str, str]:
        """Python's version and those of the packages that the checks started with."""
        code = "import platform; print(platform.python_version())"
        return {
            "python": subprocess.check_output([self.python, "-c", code], text=True).strip(),
            **self.state["packages"],
        }

    def piece(self, name: str, interpreter: Path, arguments: list[str], cwd: Path, **environ: str) -> None:
        """Run pytest once, and keep the counts, the seconds and the names of what failed. A failure stops nothing."""
        if name in self.state["pieces"]:
            return
        report = self.folder / "report.xml"
        report.unlink(missing_ok=True)
        # what pytest is told in pyproject.toml counts in the repository only; the plugins are those here
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **environ}
        command = [interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *arguments]
        with (self.folder / f"{name}.log").open("w") as log:
            subprocess.run([*self.wrap, *command], cwd=cwd, env=environ, stdout=log, stderr=subprocess.STDOUT)
        result = counts(report.read_text()) if report.exists() else NOT_STARTED
        print(f"{self.folder.name}: {name}: {result}", flush=True)
        self.keep(pieces={**self.state["pieces"], name: {**result, "commit": self.state["commit"]}})

    def notebooks(self, files: list[Path], interpreter: Path, cwd: Path, kernel: str, **environ: str) -> None:
        """Run some notebooks with nbmake, as tools/site/book.py does."""
        name = f"notebooks-{files[0].stem[:2]}-{files[-1].stem[:2]}"
        arguments = ["--nbmake", f"--nbmake-kernel={kernel}", "--nbmake-timeout=1800"]
        arguments += ["-p", "tools.environments.no_echo", *map(str, files)]
        self.piece(name, interpreter, arguments, cwd, **environ)

    def sum(self, prefix: str) -> dict:
        """The counts of all pieces whose names begin so."""
        results = [result for name, result in self.state["pieces"].items() if name.startswith(prefix)]
        total = {key: sum(result[key] for result in results) for key in ("passed", "failed", "skipped")}
        seconds = round(sum(result["seconds"] for result in results), 1)
        return {**total, "seconds": seconds, "failures": [name for result in results for name in result["failures"]]}


def counts(report: str) -> dict:
    """What a junit report of pytest says; the seconds are pytest's own, without the wait for a turn."""
    tree, result, failures = ElementTree.fromstring(report), {"passed": 0, "failed": 0, "skipped": 0}, []
    for case in tree.iter("testcase"):
        tags = {child.tag for child in case}
        outcome = "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
        result[outcome] += 1
        if outcome == "failed":
            failures.append(re.sub(r"^.*\b(tests|notebooks)\b\W*", "", f"{case.get('classname')}.{case.get('name')}"))
    seconds = sum(float(suite.get("time")) for suite in tree.iter("testsuite"))
    return {**result, "seconds": round(seconds, 1), "failures": failures}
