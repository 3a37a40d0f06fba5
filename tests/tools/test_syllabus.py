"""The page for instructors: its times come from their sources, and its questions and links from the book as it is."""

import json
import re

import nbformat
import pytest
from places import ROOT

pytest.importorskip("myst_parser", reason="needs the extra `book`")
from myst_parser.mdit_to_docutils.base import default_slugify

from book._ext import chapters

PAGE = (ROOT / "book" / "instructors.md").read_text(encoding="utf-8")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def headings(name: str) -> list[str]:
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.findall(r"(?m)^##+ (.*)", text)


def test_every_chapter_has_questions_with_answers():
    parts = re.split(r"(?m)^### ", PAGE.split("## Questions to discuss")[1].split("## Common misconceptions")[0])[1:]
    assert [part[:2] for part in parts] == [path.name[:2] for path in NOTEBOOKS]
    for part in parts:
        asked, answered = part.split("<summary>Short answers</summary>")
        numbers = [re.findall(r"(?m)^(\d)\. ", text) for text in (asked, answered)]
        assert numbers[0] == numbers[1] == list("123"), part[:40]


def test_every_misconception_leads_to_an_experiment():
    rows = re.findall(r"(?m)^\| \".*", PAGE)
    assert len(rows) >= 10
    for row in rows:
        places = re.findall(r"\.\./notebooks/(\w+)\.ipynb#([\w-]+)\)", row)
        assert places, row
        for name, slug in places:
            assert slug in [default_slugify(heading) for heading in headings(name)], f"{name}: {slug}"


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A repository with three chapters, and a function that gives it a course and returns the page's part about it."""
    found = {
        name: {"link": f"[{name.upper()}](../notebooks/{name}.ipynb)", "reading": reading, "exercises": exercises}
        | {"needs": needs, "seconds": seconds}
        for name, reading, exercises, needs, seconds in (
            ("a", 20, 30, [], 5),
            ("b", 25, 100, ["a"], 10),
            ("c", 15, 0, ["b"], None),
        )
    }
    monkeypatch.setattr(chapters, "chapters", lambda root: found)
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "study.md").write_text("# A fair race\n", encoding="utf-8")
    (tmp_path / "_config.yml").write_text("repository: {}\n", encoding="utf-8")
    template = PAGE.split("## Courses\n")[1].split("\n## ")[0]

    def write(**entry) -> str:
        described = {"routes": [], "syllabi": [{"name": "Course", "text": "Text.", **entry}]}
        (tmp_path / "book" / "chapters.yml").write_text(json.dumps(described), encoding="utf-8")
        chapters.facts.cache_clear()
        return chapters.fill_in(template, chapters.facts(tmp_path))

    return write


def test_a_course_adds_up_the_times_of_its_chapters(course):
    text = course(sessions=[["a", "b"], ["c", "study"]])
    assert "| 1 | [A](../notebooks/a.ipynb)<br>[B](../notebooks/b.ipynb) | 45 min | 2.2 h | 15 s |" in text
    assert "<br>[A fair race](study.md) | 15 min | 0 min | not all measured |" in text
    assert "Together: 60 min of reading and 2.2 h of exercises." in text


def test_a_course_keeps_to_the_order_and_to_the_time(course):
    with pytest.raises(ValueError, match="Course: c needs b before it"):
        course(sessions=[["a"], ["c"]])
    assert "40 of the 90 minutes" in course(sessions=[["b", "c"]], trust=True, minutes=90)
    with pytest.raises(ValueError, match="40 minutes of reading do not fit into 30"):
        course(sessions=[["b", "c"]], trust=True, minutes=30)
    with pytest.raises(ValueError, match="'d' is neither"):
        course(sessions=[["d"]])
