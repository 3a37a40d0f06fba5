"""The version matrix: all tests and notebooks with the oldest versions that pyproject.toml allows, and the newest.

For each of the two it makes a fresh environment, outside the project, and runs in it the tests of the last commit
(those of the site and of browsers apart: no_browser.py) and every notebook. The result goes to
book/results/version_matrix.json, which book/versions.md shows. The extra `book` is not part of it: the site is built
with the pinned versions only.

    python -m tools.environments.matrix              both; one that was stopped goes on, and what failed runs again
    python -m tools.environments.matrix oldest       one of them
    python -m tools.environments.matrix --record     store what has been found so far
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path

from packaging.utils import canonicalize_name

from benchmarks.record import record
from tools import ROOT
from tools.environments.environments import Workplace, pieces, python, with_place

READERS, TOOLS = ("train", "notebooks", "eval"), ("test",)
PYTHONS = {"oldest": "3.11", "newest": "3.13"}


def ranges(*extras: str) -> dict[str, str]:
    """The dependencies of the package and of these extras, each with the range that pyproject.toml gives it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    pairs = [re.fullmatch(r"([\w-]+)(\S*)", line).groups() for line in lines if not line.startswith("a3mini")]
    return dict(sorted(pairs))


def pins(which: str, found: dict[str, str]) -> list[str]:
    """What pip is told: for the oldest the lower ends of the ranges, for the newest the ranges."""
    if which == "newest":
        return [name + limits for name, limits in found.items()]
    return [f"{name}=={re.search(r'>=([^,]+)', limits)[1]}" for name, limits in found.items()]


def run(which: str, place: Workplace, jobs: int) -> None:
    wanted = [*pins(which, ranges(*READERS, *TOOLS)), *(["--upgrade"] if which == "newest" else [])]
    local = ["--no-deps", "-e", "."], ["--no-deps", "-r", "requirements-nodeps.txt"]
    place.create(python(PYTHONS[which]), ["--upgrade", "pip"], wanted, *local)
    place.again()
    for files in pieces(sorted((place.repository / "notebooks").glob("*.ipynb"))):
        place.notebooks(files, place.python, place.repository, "python3", JUPYTER_PREFER_ENV_PATH="1")
    for number, files in enumerate(test_pieces(place), 1):
        arguments = [*map(str, files), "-p", "tools.environments.no_browser", f"-n{jobs}", "--dist=loadfile"]
        place.piece(f"tests-{number:02}", place.python, arguments, place.repository)


def test_pieces(place: Workplace) -> list[list[Path]]:
    return pieces(sorted((place.repository / "tests").rglob("test_*.py")), 6)


def column(place: Workplace) -> dict:
    """What is stored of one of the two."""
    have = {canonicalize_name(name): version for name, version in place.versions().items()}
    found = {"python": have["python"]} | {name: have[name] for name in ranges(*READERS, *TOOLS) if name in have}
    notebooks = sorted((place.repository / "notebooks").glob("*.ipynb"))
    complete = len(place.state["pieces"]) == len(test_pieces(place)) + len(pieces(notebooks))
    return {
        "commits": place.commits(),
        "versions": found,
        "tests": place.sum("tests"),
        "notebooks": place.sum("notebooks"),
        "complete": complete,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("which", nargs="*", choices=[*PYTHONS, []], help="default: both")
    parser.add_argument("--jobs", type=int, default=2, help="how many test files run at the same time")
    parser.add_argument("--record", action="store_true", help="run nothing; store what has been found")
    options = with_place(parser, "/tmp/a3-matrix")
    places = {which: Workplace(options.folder / which, options.wrap) for which in PYTHONS}
    for which in options.which or PYTHONS:
        if not options.record:
            run(which, places[which], options.jobs)
    columns = {which: column(place) for which, place in places.items() if "packages" in place.state}
    behind = [which for which in PYTHONS if which not in columns or not columns[which]["complete"]]
    if behind and not options.record:
        print(f"Nothing is stored yet: {' and '.join(behind)} did not run to the end. Run it again, and it goes on.")
        return
    seconds = sum(one[kind]["seconds"] for one in columns.values() for kind in ("tests", "notebooks"))
    record("version_matrix", seed=0, wall_seconds=seconds, ranges=ranges(*READERS), columns=columns)
    failed = [f"{which}: {one[kind]['failures']}" for which, one in columns.items() for kind in ("tests", "notebooks")]
    print("\n".join(failed))
    if any(one[kind]["failed"] for one in columns.values() for kind in ("tests", "notebooks")):
        sys.exit(f"Something failed. The logs are in {options.folder}.")


if __name__ == "__main__":
    main()
