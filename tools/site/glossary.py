"""The glossary's words in the notebooks and some pages: the first use of each links to its entry in book/glossary.md.

    python -m tools.site.glossary            write the links
    python -m tools.site.glossary --check    change nothing; fail if a link is missing or stands too late

Only running text counts: no headings, code, formulas, folds, directives, written tables, or texts of other links.
"""

import argparse
import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
GLOSSARY = ROOT / "book" / "glossary.md"
PAGE = "../book/glossary.md"
# beside the notebooks: the pages that are read as text
PAGES = tuple(
    ROOT / "book" / f"{name}.md" for name in ("adaptation", "decoding", "paper_results", "scaling", "study", "training")
)

NO_PROSE = re.compile(
    r"```.*?```|<!-- (\w+):begin -->.*?<!-- \1:end -->"
    r"|<details>.*?</details>|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|!?\[(?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*\]\([^)]*\)"
    r"|(?m:^#+ [^\n]*)|<!--.*?-->|<[^>\n]+>|(?m:^\*\*Time\.\*\*[^\n]*)|https?://\S+",
    re.DOTALL,
)
LINK = re.compile(r"\[([^\[\]]+)\]\((?:\.\./book/)?glossary\.md#([\w-]+)\)")
# "to judge" is no judge, and a backward pass no pass.
OTHER_SENSE = r"(?<!\bto )(?<!\bwould )(?<!\bmust )(?<!\bwill )(?<!backward )"


def anchor(heading: str) -> str:
    """The place of a heading, as GitHub and MyST name it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def read(text: str) -> dict[str, re.Pattern]:
    """By anchor: how a word may be written. That is its heading, and what its entry says after "Also"."""
    words = {}
    for heading, entry in re.findall(r"(?m)^### (.+)\n\n(.*)$", text):
        also = re.match(r"\*Also: (.*?)\.\*", entry)
        forms = [heading, *(also[1].split(", ") if also else [])]
        pattern = "|".join(re.escape(form).replace(r"\ ", r"[ \n-]").replace(r"\-", r"[ -]") for form in forms)
        if anchor(heading) in words:
            raise ValueError(f"{GLOSSARY.name}: {heading!r} stands there twice")
        words[anchor(heading)] = re.compile(rf"(?<![\w-]){OTHER_SENSE}(?:{pattern})(?:e?s)?(?![\w-])", re.IGNORECASE)
    return words


def uses(text: str, words: dict[str, re.Pattern]) -> list[tuple[int, int, str]]:
    """Start, end and anchor of each use in running text; a word inside a longer one is not used."""
    prose = NO_PROSE.sub(lambda found: " " * len(found[0]), text)  # places stay what they are
    found = [(*use.span(), name) for name, word in words.items() for use in word.finditer(prose)]
    return [
        (start, end, name)
        for start, end, name in sorted(found)
        if not any(s <= start and end <= e and e - s > end - start for s, e, _ in found)
    ]


def first_uses(cells: list[str], words: dict[str, re.Pattern]) -> dict[str, tuple[int, int, int]]:
    """By anchor: cell, start and end of the first use that is not a link."""
    first = {}
    for number, cell in enumerate(cells):
        for start, end, name in uses(cell, words):
            first.setdefault(name, (number, start, end))
    return first


def links(cells: list[str]) -> list[tuple[str, int, int, int, str]]:
    """Anchor, cell, start, end and text of each link to the glossary."""
    return [(f[2], number, *f.span(), f[1]) for number, cell in enumerate(cells) for f in LINK.finditer(cell)]


def unlinked(cells: list[str], words: dict[str, re.Pattern]) -> dict[str, tuple[int, int, int]]:
    """The words whose first use is not the link to the glossary, and where that use is."""
    linked = {}
    for name, number, start, *_ in links(cells):
        linked.setdefault(name, (number, start))
    return {name: use for name, use in first_uses(cells, words).items() if name not in linked or use[:2] < linked[name]}


def link(cells: list[str], words: dict[str, re.Pattern], page: str = PAGE) -> list[str]:
    """The cells with each first use linked to ``page``. A bold or italic word takes its stars into the link."""
    cells, late = list(cells), unlinked(cells, words)
    for name, number, start, end, text in reversed(links(cells)):
        if name in late:  # a link that stands too late gives way
            cells[number] = cells[number][:start] + text + cells[number][end:]
    new = first_uses(cells, {name: words[name] for name in words})
    for name, (number, start, end) in sorted(new.items(), key=lambda item: item[1], reverse=True):
        if name in late:
            text = cells[number]
            stars = re.search(r"\*+$", text[:start])
            if stars and text[end:].startswith(stars[0]):
                start, end = start - len(stars[0]), end + len(stars[0])
            cells[number] = f"{text[:start]}[{text[start:end]}]({page}#{name}){text[end:]}"
    return cells


def markdown(notebook) -> list[str]:
    """The text of each cell, empty for code and for the badge."""
    return [c.source if c.cell_type == "markdown" and c.get("id") != "badge" else "" for c in notebook.cells]


def linked(path: Path, words) -> str:
    """The text of a notebook or a page, with the links to the glossary that it should have."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return link([text], words, GLOSSARY.name)[0]
    notebook = nbformat.reads(text, as_version=4)
    before = markdown(notebook)
    after = link(before, words)
    for cell, old, new in zip(notebook.cells, before, after, strict=True):
        if old != new:
            cell.source = new
    return text if after == before else nbformat.writes(notebook, indent=1) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail if something would change")
    check, words = parser.parse_args().check, read(GLOSSARY.read_text(encoding="utf-8"))
    pages = [*sorted((ROOT / "notebooks").glob("*.ipynb")), *PAGES]
    stale = {path: text for path in pages if (text := linked(path, words)) != path.read_text(encoding="utf-8")}
    for path, text in stale.items():
        print(("out of date: " if check else "written: ") + str(path.relative_to(ROOT)))
        if not check:
            path.write_text(text, encoding="utf-8")
    if check and stale:
        sys.exit("Run `make links`.")


if __name__ == "__main__":
    main()
