"""The glossary (book/glossary.md): every word is linked from a chapter, where a chapter or a page uses it first."""

import re
from pathlib import Path

import nbformat
import pytest
from places import ROOT

from tools.site import glossary

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TEXTS = [*NOTEBOOKS, *glossary.PAGES]
WORDS = glossary.read(glossary.GLOSSARY.read_text(encoding="utf-8"))


def cells(path: Path) -> list[str]:
    if path.suffix == ".md":
        return [path.read_text(encoding="utf-8")]
    return glossary.markdown(nbformat.read(path, as_version=4))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_the_first_use_of_a_word_is_its_one_link(path):
    texts = cells(path)
    missing = glossary.unlinked(texts, WORDS)
    where = {name: texts[cell][max(0, start - 40) : end + 20] for name, (cell, start, end) in missing.items()}
    assert not where, "run `make links`"
    names = [name for name, *_ in glossary.links(texts)]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_a_link_says_its_word_and_leads_to_it(path):
    found = [(name, text.strip("*")) for name, *_, text in glossary.links(cells(path))]
    assert found
    assert not [(name, text) for name, text in found if name not in WORDS or not WORDS[name].fullmatch(text)]


def test_every_word_is_linked_and_its_chapter_exists():
    linked = {name for path in NOTEBOOKS for name, *_ in glossary.links(cells(path))}
    assert not set(WORDS) - linked
    entries = re.split(r"(?m)^### ", glossary.GLOSSARY.read_text(encoding="utf-8"))[1:]
    assert len(entries) == len(WORDS)
    for entry in entries:
        chapters = re.findall(r"\.\./notebooks/(\w+\.ipynb)", entry)
        assert len(chapters) == 1 and (ROOT / "notebooks" / chapters[0]).is_file(), entry


TOY = glossary.read("### Content stream\n\n*Also: content row.* A.\n\n### Stream\n\nB.\n\n### Nat\n\nC.\n")
LINKED = f"[content stream]({glossary.PAGE}#content-stream)"


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
    assert set(glossary.unlinked([text], TOY)) == missing
    written = glossary.link([text], TOY)
    assert not glossary.unlinked(written, TOY)
    assert {name for name, *_ in glossary.links(written)} >= missing
    assert len(written[0].split()) == len(text.split())  # the limits of a notebook count words


def test_stars_move_into_the_link_and_a_late_link_gives_way():
    assert glossary.link(["a **nat** b"], TOY) == [f"a [**nat**]({glossary.PAGE}#nat) b"]
    assert glossary.link([f"2 nats, [nat]({glossary.PAGE}#nat)"], TOY) == [f"2 [nats]({glossary.PAGE}#nat), nat"]


def test_a_word_stands_in_the_glossary_once():
    with pytest.raises(ValueError, match="twice"):
        glossary.read("### Nat\n\nText.\n\n### Nat\n\nText.\n")
