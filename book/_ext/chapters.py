"""Sphinx extension: what pages say of the chapters, the ways through the book and the courses, when the site is built.

Question and difficulty of a chapter, the ways and the courses stand in book/chapters.yml alone, a chapter's running
time in book/results/notebook_times.json. Title, prerequisites, reading and exercise time are read off its notebook.
``PAGES`` hold Jinja, which can name all that ``facts`` returns. tools/site/links.py has the same facts for the README
and the notebooks, which must be plain.
"""

import json
import math
import re
from functools import cache
from itertools import chain
from pathlib import Path

import nbformat
import yaml
from jinja2 import Environment, StrictUndefined

PAGES = ("book/index", "book/instructors", "book/errata")
WORDS_PER_MINUTE, SIGNS_PER_MINUTE = 200, 740  # of text; of code: letters and signs, so that wrapping changes nothing
FOLD = re.compile(r"<details>.*?</details>", re.DOTALL)


def heading(text: str) -> str:
    found = re.search(r"(?m)^# (.*)", text)
    if found is None:
        raise ValueError("no line begins with a `# Title`")
    return found[1].strip()


def prose(notebook: nbformat.NotebookNode) -> str:
    """The notebook's text without what is generated."""
    cells = (cell for cell in notebook.cells if cell.cell_type == "markdown" and cell.get("id") != "badge")
    return "\n\n".join(re.sub(r"<!-- timings -->.*", "", cell.source) for cell in cells)


def reading_time(notebook: nbformat.NotebookNode) -> int:
    """Minutes, rounded to 5: words at 200 and letters and signs of code at 740 a minute.

    Left out are folds (hints, solutions), blanks, and what is generated.
    """
    words = len(FOLD.sub("", prose(notebook)).split())
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code" and cell.get("id") != "setup"]
    signs = sum(len("".join(source.split())) for source in code)
    return max(5, 5 * round((words / WORDS_PER_MINUTE + signs / SIGNS_PER_MINUTE) / 5))


def exercise_time(notebook: nbformat.NotebookNode) -> int:
    """The sum of the minutes in the exercises' own headings."""
    return sum(map(int, re.findall(r"(?m)^### Exercise .*\((\d+) minutes", prose(notebook))))


def chapter(path: Path, described: dict, seconds: float | None) -> dict:
    notebook = nbformat.read(path, as_version=4)
    title = heading(prose(notebook))
    needed = re.search(r"(?m)^\*\*You need\*\*.*$", prose(notebook))
    return {
        **described,
        "title": title,
        "link": f"[{title}](../notebooks/{path.name})",  # as it is written on a page of book/
        "stars": "★" * described["difficulty"] + "☆" * (3 - described["difficulty"]),
        "reading": reading_time(notebook),
        "exercises": exercise_time(notebook),
        "needs": sorted(set(re.findall(r"\((\w+)\.ipynb", needed[0]))) if needed else [],
        "seconds": seconds and 5 * math.ceil(seconds / 5),  # None: not measured yet
    }


def chapters(root: Path) -> dict[str, dict]:
    """All that is said about each chapter, by the notebook's name without its ending."""
    described = yaml.safe_load((root / "book" / "chapters.yml").read_text(encoding="utf-8"))["chapters"]
    paths = {path.stem: path for path in sorted((root / "notebooks").glob("*.ipynb"))}
    if differ := ", ".join(sorted(set(described) ^ set(paths))):
        raise ValueError(f"book/chapters.yml and notebooks/ must name the same chapters; one of them lacks {differ}")
    seconds = json.loads((root / "book" / "results" / "notebook_times.json").read_text())["seconds"]
    return {name: chapter(path, described[name], seconds.get(path.name)) for name, path in paths.items()}


def look_up(names: list[str], steps: dict[str, dict]) -> list[dict]:
    if unknown := [name for name in names if name not in steps]:
        raise ValueError(f"book/chapters.yml: {unknown[0]!r} is neither a chapter nor a page of book/")
    return [{"name": name, **steps[name]} for name in names]


def check(course: dict) -> None:
    """A chapter comes after those that it needs, or is taken on trust, and the reading fits into the time."""
    seen, steps = set(), list(chain(*course["sessions"]))
    for step in steps:
        seen.add(step["name"])
        missing = set(step["needs"]) - seen
        if missing and not course.get("trust"):
            raise ValueError(f"{course['name']}: {step['name']} needs {', '.join(sorted(missing))} before it")
    reading = sum(step["reading"] for step in steps)
    if reading > course.get("minutes", reading):
        raise ValueError(f"{course['name']}: {reading} minutes of reading do not fit into {course['minutes']}")


@cache
def facts(root: Path) -> dict:
    """What the pages can name: chapters, routes and courses with their steps looked up, and the repository."""
    described = yaml.safe_load((root / "book" / "chapters.yml").read_text(encoding="utf-8"))
    found, none = chapters(root), {"reading": 0, "exercises": 0, "seconds": 0, "needs": []}
    pages = {page.stem: heading(page.read_text(encoding="utf-8")) for page in (root / "book").glob("*.md")}
    steps = {name: none | {"link": f"[{title}]({name}.md)"} for name, title in pages.items()} | found
    for route in described["routes"]:
        route["steps"] = look_up(route["steps"], steps)
    for course in described["syllabi"]:
        course["sessions"] = [look_up(names, steps) for names in course["sessions"]]
        check(course)
    repository = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["repository"]
    return {"chapters": found, "routes": described["routes"], "courses": described["syllabi"], "repository": repository}


def hours(minutes: int) -> str:
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def fill_in(text: str, known: dict) -> str:
    jinja = Environment(trim_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True)
    jinja.filters["hours"] = hours
    return jinja.from_string(text).render(known)


def read_source(app, docname: str, source: list[str]) -> None:
    if docname in PAGES:
        source[0] = fill_in(source[0], facts(Path(app.srcdir)))


def setup(app) -> dict:
    app.connect("source-read", read_source)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
