"""What works after a plain ``pip install``, without any extra: help, evaluate and infill; train names the one extra.

A folder of links stands for the site-packages of such an install: the package's dependencies, theirs, and no more.
"""

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def needed(lines: list[str]) -> set[str]:
    """The distributions that these requirements bring, by name."""
    found, ask = set(), list(lines)
    while ask:
        one = Requirement(ask.pop())
        name = re.sub(r"[-_.]+", "-", one.name).lower()
        if name not in found and (one.marker is None or one.marker.evaluate({"extra": ""})):
            found.add(name)
            ask += metadata.requires(name) or []
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Run the command ``a3mini`` in a plain install."""
    site = tmp_path_factory.mktemp("plain")
    try:
        for name in needed(PROJECT["dependencies"]):
            for file in metadata.files(name):
                first = file.parts[0]
                if first not in ("..", "__pycache__") and not (site / first).is_symlink():
                    (site / first).symlink_to(metadata.distribution(name).locate_file(first))
    except metadata.PackageNotFoundError as error:
        pytest.skip(f"not all dependencies stand in metadata: {error}")
    (site / "a3mini").symlink_to(ROOT / "a3mini")
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}

    def run(*arguments: str, code: str = "from a3mini.cli import main; sys.exit(main(sys.argv[1:]))"):
        command = [sys.executable, "-S", "-c", f"import sys; {code}", *arguments]  # -S: no other packages
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=site, check=False)

    return run


def test_it_is_plain(plain):
    for extra in ("accelerate", "datasets", "peft", "gguf", "matplotlib", "pytest"):
        ended = plain(code=f"import {extra}")
        assert ended.returncode and "ModuleNotFoundError" in ended.stderr, extra
    assert plain(code="import torch, transformers").returncode == 0


@pytest.mark.parametrize("command", [["--version"], ["--help"], *([c, "--help"] for c in ("train", "adapt", "infill"))])
def test_help_needs_nothing(plain, command):
    ended = plain(*command)
    assert ended.returncode == 0 and not ended.stderr and "a3mini" in ended.stdout


def test_infill_and_evaluate_work(plain, tmp_path):
    ended = plain("infill", "--model=compact", "--tokens-per-blank=2", "The dog ____ and ran home.")
    assert ended.returncode == 0 and ended.stdout.startswith("The dog"), ended.stderr
    (tmp_path / "text.txt").write_text("\n\n".join(f"The dog saw {n} birds and ran home." for n in range(20)))
    text = [f"--text={tmp_path / 'text.txt'}", "--validation=0", "--held-out-rows=2", "--length=16"]
    ended = plain("evaluate", "--model=compact", *text)
    assert ended.returncode == 0 and "left to right" in ended.stdout, ended.stderr


@pytest.mark.parametrize("command", ["train", "adapt"])
def test_training_names_the_one_extra(plain, command):
    ended = plain(command, "--text=andersen", "--folder=run", *(["--source=small"] if command == "adapt" else []))
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1, ended.stderr
    assert ended.stderr.endswith('pip install "a3mini[train]"\n')


def test_the_extra_has_everything_that_the_readme_shows():
    extra = {Requirement(line).name for line in PROJECT["optional-dependencies"]["train"]}
    assert {"accelerate", "peft", "datasets", "gguf"} <= extra
    said = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"(?m)^\| `a3mini(?:\[(\w+)\])?` \|", said)
    assert shown == [
        "",
        *(name for name in PROJECT["optional-dependencies"] if name not in ("book", "test", "grading")),
    ]


def test_the_readme_shows_what_its_first_code_prints(plain):
    """The demonstration, in a plain install: what a reader sees who has typed the first line alone."""
    said = (ROOT / "README.md").read_text(encoding="utf-8").split("<!-- demonstration -->")[1]
    code, shown = re.match(r"\n```python\n(.*?)```\n\n```text\n(.*?)```", said, re.DOTALL).groups()
    ended = plain(code=f"exec({code!r})")
    assert ended.returncode == 0 and ended.stdout == shown, ended.stderr
