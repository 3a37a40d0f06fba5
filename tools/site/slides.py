"""Slides of every notebook, by rule: _build/html/slides/NN_name.html. `make book` makes them, `make slides` anew.

On the slides stand the title, the goals, headings, Predict prompts, what the code printed or drew, takeaways, the
exercises' titles and the summary; besides displayed formulas, lists, tables, and short paragraphs that define a term.
All other text becomes the speaker's notes. Code is folded if it is long. Solutions are never shown.

nbconvert makes the HTML; reveal.js comes with sphinx-revealjs, and MathJax is the site's.
"""

import importlib.util
import re
import shutil
from functools import cache
from html import escape
from itertools import groupby
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbconvert import SlidesExporter
from pygments.formatters import HtmlFormatter

from tools import ROOT

DECK = Path(__file__).with_name("deck")
SKIPPED_TAGS = {"setup", "imports", "remove-cell"}
SHORT_CODE, SHORT_TEXT = 12, 40  # lines, words
LINES_PER_SLIDE, LETTERS_PER_LINE = 12, 72  # about
KINDS = {"math_block": "formula", "table_open": "table", "bullet_list_open": "list", "ordered_list_open": "list"}


@cache
def parser() -> MarkdownIt:
    return MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, double_inline=True)


def blocks(source: str) -> list[tuple[str, str]]:
    """The kind and the source of each block: h1, h2, h3, predict, takeaway, formula, list, table, text; no folds."""
    lines, found, depth = source.splitlines(), [], 0
    for token in parser().parse(re.sub(r"<!--.*?-->", "", source)):
        if token.level or not token.map or token.nesting < 0:
            continue
        text = "\n".join(lines[slice(*token.map)]).strip()
        kind = KINDS.get(token.type, "text")
        if token.type == "heading_open":
            kind = token.tag
        elif token.type == "blockquote_open":
            kind = "takeaway" if "**Takeaway.**" in text else "predict"
        elif token.type == "paragraph_open" and text.startswith("$$") and text.endswith("$$"):
            kind = "formula"
        if token.type == "html_block":  # a fold begins and ends with HTML; what stands between them is hidden, too
            depth += text.count("<details") - text.count("</details>")
        elif not depth:
            found.append((kind, re.sub(r"<!--.*?-->\s*", "", text)))
    return found


def on_the_site(text: str) -> str:
    """Links from a notebook to its neighbours and to pages, as they are seen from the slides."""
    text = re.sub(r"\]\((\w+)\.ipynb", r"](../notebooks/\1.html", text)
    return re.sub(r"\]\(\.\./book/(\w+)\.md", r"](../book/\1.html", text)


def is_short(text: str) -> bool:
    """Does a paragraph stand on the slide? It does if it is short, and defines a term or leads to what follows."""
    return len(text.split()) <= SHORT_TEXT and (text.endswith(":") or re.search(r"\*\*|(?<!\*)\*\w", text) is not None)


def height(kind: str, text: str) -> int:
    """About how many lines it takes on a slide."""
    lines = text.splitlines()
    if kind == "formula":
        return 3
    if kind == "table":
        return sum(1 + max(map(len, line.split("|"))) // 18 for line in lines)
    return sum(1 + len(line) // LETTERS_PER_LINE for line in " ".join(lines).replace(" - ", "\n- ").splitlines())


class Slide:
    """What stands on one slide, as cells, and what is said to it."""

    def __init__(self, kind: str, section: str | None):
        self.kind, self.section = kind, section  # section: the running title; None: this slide begins it
        self.cells, self.notes, self.lines = [], [], 0

    def write(self, text: str, lines: int = 0) -> None:
        text = on_the_site(text)
        if self.cells and self.cells[-1].cell_type == "markdown":
            self.cells[-1].source += f"\n\n{text}"
        else:
            self.cells.append(nbformat.v4.new_markdown_cell(text))
        self.lines += lines


def framed(figure: str) -> str:
    """An interactive figure in a frame: reveal.js would take its sections for slides, and its keys for its own."""
    page = (
        '<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Interactive figure</title></head>'
        f"<body><main>{figure}</main></body></html>"
    )
    return f'<iframe title="Interactive figure" srcdoc="{escape(page)}"></iframe>'


def shown(cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A code cell with the outputs that a slide can show, and the text for those who do not see them."""
    outputs, alt = [], cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
    for kind, group in groupby(cell.outputs, lambda output: output.output_type):
        if kind == "stream":  # the parts of one text
            text = "".join(output.text for output in group if output.name == "stdout").rstrip()
            outputs += [nbformat.v4.new_output("stream", text=text)] if text else []
            continue
        for output in group:
            if kind == "error":
                raise ValueError(f"cell {cell.get('id')} ended with {output.ename}: {output.evalue}")
            data = {k: v for k, v in output.data.items() if k in ("text/html", "image/png", "image/svg+xml")}
            if "a3-figure" in data.get("text/html", ""):
                data["text/html"] = framed(data["text/html"])
            metadata = {"image/png": {"alt": alt}} if alt else {}
            outputs.append(nbformat.v4.new_output("display_data", data or output.data, metadata=metadata))
    code, printed = (
        cell.source.splitlines(),
        [line for output in outputs for line in output.get("text", "").splitlines()],
    )
    folded = len(code) > SHORT_CODE or any(output.output_type != "stream" for output in outputs)
    columns = max(map(len, printed if folded else printed + code), default=1)  # the slide fits its letters to them
    metadata = {"deck": "fold" if folded else "show", "columns": columns, "lines": len(printed)}
    return nbformat.v4.new_code_cell(cell.source, outputs=outputs, metadata=metadata)


def title_slides(source: str, number: str) -> list[Slide]:
    """From the first cell: the title with its question, and what one learns."""
    title, goals = Slide("title", None), Slide("goals", None)
    into = title
    for kind, text in blocks(source):
        if text.startswith("**You will learn"):
            into = goals
            goals.write("## You will learn" + (" to" if text.endswith(" to") else ""))
            continue
        if kind == "text" and re.match(r"\*\*(You need|Time)", text):
            into = title
            text = f'<p class="small">\n\n{text}\n\n</p>'
        if kind == "h1":
            title.write(f'<p class="running">Chapter {number}</p>\n\n{text}')
        else:
            into.write(text)
    return [title, goals]


def slides(notebook: nbformat.NotebookNode, name: str) -> list[Slide]:
    cells = [cell for cell in notebook.cells if not SKIPPED_TAGS & {*cell.metadata.get("tags", [])}]
    first, exercises, exercising, part, section = True, [], False, "", ""
    deck: list[Slide] = []

    def begin(kind: str) -> Slide:
        deck.append(Slide(kind, section))
        return deck[-1]

    for cell in cells:
        if first and cell.cell_type == "markdown":
            first = False
            deck += title_slides(cell.source, name.split("_")[0])
            continue
        if cell.cell_type == "code":
            if part != "Exercises" and not exercising and deck:
                new, slide = shown(cell), deck[-1]
                if not section and not new.outputs:
                    continue  # more imports
                if new.outputs or new.metadata.deck == "show":
                    if slide.kind != "heading" or slide.lines:  # a heading is not left alone
                        slide = begin("output")
                    slide.kind = "output"
                slide.cells.append(new)
            continue
        source = cell.source
        if exercising and "</details>" in source:  # an exercise within a section ends with its hint and solution
            exercising, source = False, source.rpartition("</details>")[2]
        found = blocks(source)
        for number, (kind, text) in enumerate(found):
            if kind == "h3" and text.startswith("### Exercise"):
                exercises.append(text.removeprefix("### "))
                exercising = True
            elif kind == "h2":
                exercising = False
                part = section = text.removeprefix("## ").strip()
                if part == "Exercises":
                    continue
                deck.append(Slide("heading", None))
                deck[-1].write(text)
            elif part == "Exercises" or exercising:
                continue
            elif kind in ("predict", "takeaway"):
                short = deck[-1].kind in ("heading", "text") and deck[-1].lines < LINES_PER_SLIDE / 2
                slide = deck[-1] if short and kind == "predict" else begin(kind)  # a question joins what leads to it
                slide.kind = kind
                slide.write(text, height(kind, text))
            elif kind != "text" or is_short(text) or part == "What you learned":
                lines, slide = height(kind, text), deck[-1]
                # What a paragraph leads to stays with it.
                both = lines + (height(*found[number + 1]) if text.endswith(":") and found[number + 1 :] else 0)
                if slide.kind not in ("heading", "text") or slide.lines + both > LINES_PER_SLIDE:
                    slide = begin("text")
                slide.write(text, lines)
            else:
                deck[-1].notes.append(on_the_site(text))
    if exercises:
        summary = next((i for i, slide in enumerate(deck) if "## What you learned" in slide.cells[0].source), len(deck))
        slide = Slide("heading", None)
        slide.write("## Exercises\n\n" + "\n".join(f"- {text}" for text in exercises))
        place = "#exercises" if any("## Exercises" in cell.source for cell in cells) else ""
        slide.write(f"[On the page of the chapter](../notebooks/{name}.html{place})")
        deck.insert(summary, slide)
    return deck


def as_notebook(deck: list[Slide], title: str) -> nbformat.NotebookNode:
    """The slides in the form that nbconvert knows: cells with a slide type."""
    cells = []
    for slide in deck:
        begins = slide.section is None
        if not begins:
            slide.cells.insert(0, nbformat.v4.new_markdown_cell(f'<p class="running">{slide.section}</p>'))
        kind = {"slide_type": "slide" if begins else "subslide", "data": {"kind": slide.kind}}
        slide.cells[0].metadata["slideshow"] = kind
        cells += slide.cells
        if slide.notes:
            notes = {"slideshow": {"slide_type": "notes"}}
            cells.append(nbformat.v4.new_markdown_cell("\n\n".join(slide.notes), metadata=notes))
    return nbformat.v4.new_notebook(cells=cells, metadata={"title": title})


def export(notebook: Path) -> str:
    """The HTML of an executed notebook's slides."""
    exporter = SlidesExporter(extra_template_basedirs=[str(DECK.parent)], template_name=DECK.name)
    exporter.exclude_anchor_links = exporter.exclude_output_prompt = True
    deck = slides(nbformat.read(notebook, as_version=4), notebook.stem)
    title = re.search(r"# (.*)", deck[0].cells[0].source)[1]
    return exporter.from_notebook_node(as_notebook(deck, title))[0]


def build(notebooks: Path, site: Path) -> list[Path]:
    """Write the slides of all notebooks of a folder into the site, with the parts of reveal.js that they use."""
    folder = site / "slides"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "reveal").mkdir(parents=True)
    revealjs = Path(importlib.util.find_spec("sphinx_revealjs").origin).parent / "_static" / "revealjs"
    parts = [revealjs / part for part in ("LICENSE", "dist/reveal.css", "dist/reveal.js", "plugin/notes/notes.js")]
    for file in [*parts, DECK / "slides.css", DECK / "slides.js"]:
        shutil.copyfile(file, folder / "reveal" / file.name)
    code = HtmlFormatter(style="default").get_style_defs(".highlight")
    (folder / "reveal" / "code.css").write_text(code, encoding="utf-8")
    written = []
    for notebook in sorted(notebooks.glob("*.ipynb")):
        written.append(folder / f"{notebook.stem}.html")
        written[-1].write_text(export(notebook), encoding="utf-8")
    return written


if __name__ == "__main__":
    print(*build(ROOT / ".book" / "source" / "notebooks", ROOT / "_build" / "html"), sep="\n")
