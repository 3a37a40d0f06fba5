"""What book/instructors.md says of courses and slides; tools/site/links.py writes it there.

The sessions stand in book/chapters.yml. Reading and exercise times come from the notebooks themselves, and running
times from book/results/notebook_times.json, like those on the cards of the first page.
"""

import re
from pathlib import Path

import yaml


def _name(step: str, root: Path, found: dict[str, dict]) -> str:
    if step in found:
        return f"[{found[step]['title']}](../notebooks/{step}.ipynb)"
    page = root / "book" / f"{step}.md"
    if not page.exists():
        raise ValueError(f"book/chapters.yml: {step!r} is neither a chapter nor a page of book/")
    return f"[{re.search(r'(?m)^# (.*)', page.read_text(encoding='utf-8'))[1]}]({step}.md)"


def _hours(minutes: int) -> str:
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def syllabi(root: Path, found: dict[str, dict]) -> str:
    """A heading and a table for each course; ``found`` is what links.chapters returns."""
    lines = []
    for course in yaml.safe_load((root / "book" / "chapters.yml").read_text(encoding="utf-8"))["syllabi"]:
        lines += [f"### {course['name']}", "", course["text"], ""]
        lines += ["| | chapters | reading | exercises | cells run |", "|---|---|---|---|---|"]
        seen, sums = set(), [0, 0]
        for number, session in enumerate(course["sessions"], 1):
            chapters = [step for step in session if step in found]
            for chapter in chapters:
                missing = set(found[chapter]["needs"]) - seen - {chapter}
                if missing and not course.get("trust"):
                    raise ValueError(f"{course['name']}: {chapter} needs {', '.join(sorted(missing))} before it")
                seen.add(chapter)
            reading, exercises = (sum(found[chapter][key] for chapter in chapters) for key in ("reading", "exercises"))
            seconds = [found[chapter]["seconds"] for chapter in chapters]
            runs = "not all measured" if None in seconds else f"{sum(seconds)} s"
            sums = [sums[0] + reading, sums[1] + exercises]
            names = "<br>".join(_name(step, root, found) for step in session)
            lines.append(f"| {number} | {names} | {_hours(reading)} | {_hours(exercises)} | {runs} |")
        together = f"Together: {_hours(sums[0])} of reading and {_hours(sums[1])} of exercises."
        if minutes := course.get("minutes"):
            if sums[0] > minutes:
                raise ValueError(f"{course['name']}: {sums[0]} minutes of reading do not fit into {minutes}")
            together = (
                f"{sums[0]} of the {minutes} minutes are the reading times of the chapters; "
                f"{minutes - sums[0]} are left for the Predict questions. "
                f"The exercises ({_hours(sums[1])}) are homework."
            )
        lines += ["", together, ""]
    return "\n".join(lines[:-1])


def slides(found: dict[str, dict]) -> str:
    """A table with the slides of each chapter. They are made after the pages, so these links are plain HTML."""
    lines = ["| chapter | slides | to print, with notes |", "|---|---|---|"]
    for name, chapter in found.items():
        deck = f"../slides/{name}.html"
        link = f"[{chapter['title']}](../notebooks/{name}.ipynb)"
        title = chapter["title"]
        show = f'<a href="{deck}" aria-label="Slides: {title}">slides</a>'
        paper = f'<a href="{deck}?print-pdf&amp;notes" aria-label="Slides to print: {title}">print</a>'
        lines.append(f"| {link} | {show} | {paper} |")
    return "\n".join(lines)
