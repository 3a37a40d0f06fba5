"""The glossary's words in notebooks and on some pages: the first use of each links to its entry in book/glossary.md.

tools/site/links.py writes the links. Only running text counts: no headings, code, formulas, folds, directives, tables
that a tool writes, or texts of other links.
"""

import re

import nbformat

# beside the notebooks: the pages that are read as text
PAGES = (
    "adaptation", "choose", "decoding", "field", "paper_results", "puzzles", "rewriting", "scaling", "study", "training"
)  # fmt: skip

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
            raise ValueError(f"glossary.md: {heading!r} stands there twice")
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


def link(cells: list[str], words: dict[str, re.Pattern], page: str = "../book/glossary.md") -> list[str]:
    """The cells with the first use of each word linked to ``page``, and no other use.

    A bold or italic word takes its stars into the link.
    """
    cells, first = [LINK.sub(r"\1", cell) for cell in cells], {}
    for number, cell in enumerate(cells):
        for start, end, name in uses(cell, words):
            first.setdefault(name, (number, start, end))
    for name, (number, start, end) in sorted(first.items(), key=lambda item: item[1], reverse=True):
        text = cells[number]
        stars = re.search(r"\*+$", text[:start])
        if stars and text[end:].startswith(stars[0]):
            start, end = start - len(stars[0]), end + len(stars[0])
        cells[number] = f"{text[:start]}[{text[start:end]}]({page}#{name}){text[end:]}"
    return cells


def link_notebook(notebook: nbformat.NotebookNode, words: dict[str, re.Pattern]) -> nbformat.NotebookNode:
    cells = [cell for cell in notebook.cells if cell.cell_type == "markdown" and cell.get("id") != "badge"]
    for cell, text in zip(cells, link([cell.source for cell in cells], words), strict=True):
        cell.source = text
    return notebook
