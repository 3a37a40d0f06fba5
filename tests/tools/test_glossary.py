"""The glossary (book/glossary.md): every word is linked from a chapter, where a chapter or a page uses it first."""

import re
from pathlib import Path

import nbformat
import pytest
from places import ROOT

from tools.site import glossary

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TEXTS = [*NOTEBOOKS, *(ROOT / "book" / f"{name}.md" for name in glossary.PAGES)]
GLOSSARY = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
WORDS = glossary.read(GLOSSARY)


def cells(path: Path) -> list[str]:
    if path.suffix == ".md":
        return [path.read_text(encoding="utf-8")]
    found = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in found if cell.cell_type == "markdown" and cell.id != "badge"]


def linked(texts: list[str]) -> list[tuple[str, str]]:
    """The text and the word of each link to the glossary."""
    return [found for text in texts for found in glossary.LINK.findall(text)]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_the_first_use_of_a_word_is_its_one_link(path):
    texts = cells(path)
    should = glossary.link(texts, WORDS, "glossary.md" if path.suffix == ".md" else PAGE)
    assert texts == should, "run `make links`"
    names = [name for _, name in linked(texts)]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_a_link_says_its_word_and_leads_to_it(path):
    found = [(name, text.strip("*")) for text, name in linked(cells(path))]
    assert found
    assert not [(name, text) for name, text in found if name not in WORDS or not WORDS[name].fullmatch(text)]


def test_every_word_is_linked_and_its_chapter_exists():
    assert not set(WORDS) - {name for path in NOTEBOOKS for _, name in linked(cells(path))}
    entries = re.split(r"(?m)^### ", GLOSSARY)[1:]
    assert len(entries) == len(WORDS)
    for entry in entries:
        chapters = re.findall(r"\.\./notebooks/(\w+\.ipynb)", entry)
        assert len(chapters) == 1 and (ROOT / "notebooks" / chapters[0]).is_file(), entry


TOY = glossary.read("### Content stream\n\n*Also: content row.* A.\n\n### Stream\n\nB.\n\n### Nat\n\nC.\n")
PAGE = "../book/glossary.md"
LINKED = f"[content stream]({PAGE}#content-stream)"


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        (f"# Content stream\n\n`content stream` in [the content stream](x.md): a {LINKED}", set()),
        ("nature, $nat$, to nat, <nat>", set()),
        ("2 nats", {"nat"}),
        ("<!-- table:begin -->\n2 nats\n<!-- table:end -->", set()),  # a tool writes it
        ("Content rows", {"content-stream"}),  # what its entry says after "Also"
        (f"Content rows and the {LINKED}", {"content-stream"}),  # the link stands too late
        ("a stream, a content stream", {"stream", "content-stream"}),
        ("a content stream", {"content-stream"}),  # the shorter word is not used
    ],
)
def test_what_is_missing_is_noticed_and_written(text, missing):
    written = glossary.link([text], TOY)
    assert (written != [text]) == bool(missing)
    assert glossary.link(written, TOY) == written
    assert {name for _, name in linked(written)} >= missing
    assert len(written[0].split()) == len(text.split())  # the limits of a notebook count words


def test_stars_move_into_the_link_and_a_late_link_gives_way():
    assert glossary.link(["a **nat** b"], TOY) == [f"a [**nat**]({PAGE}#nat) b"]
    assert glossary.link([f"2 nats, [nat]({PAGE}#nat)"], TOY) == [f"2 [nats]({PAGE}#nat), nat"]


def test_a_word_stands_in_the_glossary_once():
    with pytest.raises(ValueError, match="twice"):
        glossary.read("### Nat\n\nText.\n\n### Nat\n\nText.\n")
