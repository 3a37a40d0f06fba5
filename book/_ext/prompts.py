"""Sphinx extension: prompts that one can answer, a quiz at the end of each chapter, and marks of what one has done.

The notebooks stay plain Markdown; the pages of the site get more, while they are built:

- Each block quote that begins with **Predict.** gets a field for a guess. What answers it (the outputs, takeaways and
  paragraphs that begin with **Answer.**, up to the next prompt or heading) is marked, so that a reader can have it
  covered until the guess is made. Nothing is covered unless a reader asks for it.
- Each chapter gets its quiz from book/quizzes.yml, before its last paragraph, "Next".
- A mark beside each chapter says how far the reader has come. book/_static/prompts.js does this, from the device's
  localStorage alone. Without scripts, and on paper, all that is in the notebook is visible.
"""

import hashlib
import json
import re
from functools import cache
from html import escape
from pathlib import Path

import nbformat
import yaml
from chapters import heading, prose
from docutils import nodes
from markdown_it import MarkdownIt
from sphinx import addnodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LOG = logging.getLogger(__name__)
CHAPTER = re.compile(r"notebooks/((\d\d)_\w+)")
PROMPT = re.compile(r"(?m)^> \*\*Predict\.\*\*")
STORED = "a3-book"  # the one key in localStorage; prompts.js has it, too

# In the head of each page, so that what is covered is so before it is painted, and nothing jumps.
FIRST = """\
(() => {
  let mode;
  try { mode = JSON.parse(localStorage.getItem("%s")).mode; } catch {}
  document.documentElement.dataset.a3Prompts = ["cover", "none"].includes(mode) ? mode : "open";
})();
const A3_CHAPTERS = %s;"""

MODES = {
    "open": "show all results",
    "cover": "cover results until I guess",
    "none": "show all results, no fields",
}


def key(*texts: str) -> str:
    """The name under which an answer is kept. It changes with the text, so that no answer meets another question."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]


@cache
def quizzes(file: Path) -> dict[str, list[dict]]:
    """By the chapter's number: questions, each with ``choices`` of (text, why), and ``right``, which of them it is."""
    found = {}
    for number, questions in yaml.safe_load(file.read_text(encoding="utf-8")).items():
        found[number] = []
        for asked in questions:
            kinds = [("right" in choice, "wrong" in choice) for choice in asked["choices"]]
            if kinds.count((True, False)) != 1 or kinds.count((False, True)) != len(kinds) - 1:
                what = asked["question"]
                raise ValueError(f"book/quizzes.yml, {number}: one choice is right, the others are wrong: {what}")
            choices = [(str(choice.get("right", choice.get("wrong"))), choice["why"]) for choice in asked["choices"]]
            question = {"question": asked["question"], "about": asked["about"], "choices": choices}
            found[number].append(question | {"right": kinds.index((True, False))})
    return found


def quiz_file(app) -> Path:
    return Path(app.srcdir) / "book" / "quizzes.yml"


def inline(text: str) -> str:
    return MarkdownIt("commonmark").renderInline(" ".join(text.split()))


# Prompts


def begins(node: nodes.Node, word: str) -> bool:
    """Is it a paragraph, or a block quote of one, that begins with this word in bold?"""
    if isinstance(node, nodes.block_quote) and node.children:
        node = node.children[0]
    if not isinstance(node, nodes.paragraph):
        return False
    first = next((part for part in node.children if part.astext()), None)  # MyST may begin with an empty text
    return isinstance(first, nodes.strong) and first.astext().rstrip(".:") == word


def is_prompt(node: nodes.Node) -> bool:
    return isinstance(node, nodes.block_quote) and begins(node, "Predict")


def raw(html: str) -> nodes.raw:
    return nodes.raw("", html, format="html")


def outputs(node: nodes.Node) -> list[nodes.Element]:
    return [part for part in node.findall(nodes.container) if "cell_output" in part["classes"]]


def answered_by(prompt: nodes.block_quote) -> tuple[list[nodes.Element], list[list[nodes.Element]]]:
    """Outputs, and blocks of text, that follow a prompt up to the next prompt or heading.

    A paragraph **Answer.** that ends with a colon has what comes next as its other half.
    """
    printed, said, open_ended = [], [], False
    for node in prompt.parent.children[prompt.parent.index(prompt) + 1 :]:
        if is_prompt(node) or isinstance(node, nodes.section):
            break
        if isinstance(node, nodes.block_quote) and begins(node, "Takeaway"):
            said.append([node])
        elif isinstance(node, nodes.paragraph) and begins(node, "Answer"):
            said.append([node])
        elif open_ended and not outputs(node):
            said[-1].append(node)
        printed += outputs(node)
        open_ended = bool(said) and said[-1][-1] is node and node.astext().rstrip().endswith(":")
    return printed, said


def guess(name: str, reveals: bool) -> str:
    show = '<button type="button" class="ask-press ask-show" aria-expanded="false">Show the result</button>'
    return (
        f'<form class="ask-guess" data-prompt="{name}"><label for="guess-{name}">Your guess</label>'
        f'<input id="guess-{name}" type="text" maxlength="200" autocomplete="off">'
        f'<button type="submit" class="ask-press ask-keep">Keep</button>{show if reveals else ""}'
        '<span class="ask-said" role="status"></span></form>'
    )


def settings(name: str, clear: bool) -> str:
    """How results are shown, for all chapters; and a way to forget everything."""
    options = "".join(f'<option value="{mode}">{text}</option>' for mode, text in MODES.items())
    select = f'<select id="{name}" class="ask-mode">{options}</select>'
    button = '<button type="button" class="ask-press ask-clear">Forget my answers</button>' if clear else ""
    return f'<p class="ask-settings"><label for="{name}">Predict questions:</label> {select} {button}</p>'


def answer_prompts(doctree: nodes.document) -> None:
    found = [node for node in doctree.findall(nodes.block_quote) if is_prompt(node)]
    for number, prompt in enumerate(found):
        name = key(prompt.astext(), str(sum(other.astext() == prompt.astext() for other in found[:number])))
        printed, said = answered_by(prompt)
        parent, yours = prompt.parent, raw(f'<p class="ask-yours" data-prompt="{name}"></p>')
        for output in printed:
            output["classes"] += ["ask-answer", f"ask-of-{name}"]
        for block in said:
            parent.insert(parent.index(block[0]), raw(f'<div class="ask-answer ask-of-{name}">'))
            parent.insert(parent.index(block[-1]) + 1, raw("</div>"))
        if said:
            parent.insert(parent.index(said[0][-1]) + 2, yours)
        elif printed:
            cell = printed[-1]
            while cell.parent is not parent:
                cell = cell.parent
            parent.insert(parent.index(cell) + 1, yours)
        prompt += raw(guess(name, bool(printed or said)))
    if found:
        place = found[0].parent
        bar = f'<div class="ask-bar">{settings("ask-mode", clear=False)}</div>'
        place.insert(place.index(found[0]), raw(bar))


# Quizzes


def asked(question: dict, number: int, place: str) -> str:
    """A question as a form. Why each choice is right or wrong stands in it, and is shown when one has chosen."""
    texts = [text for text, _ in question["choices"]]
    name = "quiz-" + key(question["question"], *texts)
    choices = "".join(
        f'<div class="ask-choice"><input type="radio" name="{name}" id="{name}-{i}" value="{i}">'
        f'<label for="{name}-{i}">{inline(text)}</label><div class="ask-why" hidden>{inline(why)}</div></div>'
        for i, (text, why) in enumerate(question["choices"])
    )
    return (
        f'<form class="ask-question" data-question="{name}" data-right="{question["right"]}"><fieldset>'
        f"<legend>{number}. {inline(question['question'])}</legend>{choices}"
        '<div class="ask-check"><button type="submit" class="ask-press">Check</button></div>'
        f'<div class="ask-verdict" role="status"></div><p class="ask-about">About: {place}</p></fieldset></form>'
    )


def section_named(doctree: nodes.document, words: str) -> nodes.section | None:
    """The section whose heading, without its number, is these words; or else has them in it."""
    found = {}
    for section in list(doctree.findall(nodes.section))[1:]:  # the first is the page
        words_of = re.sub(r"^\d+\. ", "", section.next_node(nodes.title).astext()).lower()
        found.setdefault(words_of, section)
    inside = [one for one in found if words.lower() in one]
    return found.get(words.lower()) or (found[inside[0]] if inside else None)


def quiz_section(doctree: nodes.document, questions: list[dict], docname: str) -> nodes.section:
    count = ("no", "one", "two", "three", "four", "five")[len(questions)]
    section = nodes.section("", nodes.title("", "Quiz"), ids=["quiz"])
    forms, plain = [], nodes.enumerated_list(enumtype="arabic", prefix="", suffix=".")
    for number, question in enumerate(questions, start=1):
        about = section_named(doctree, question["about"])
        if about is None:
            LOG.warning("quizzes.yml: no section is named %r", question["about"], location=docname)
            continue
        title = escape(about.next_node(nodes.title).astext())
        forms.append(asked(question, number, f'<a href="#{about["ids"][0]}">{title}</a>'))
        choices = [nodes.list_item("", nodes.paragraph("", text)) for text, _ in question["choices"]]
        plain += nodes.list_item("", nodes.paragraph("", question["question"]), nodes.bullet_list("", *choices))
    intro = f"{count.capitalize()} questions. They are checked in this page, and your answers stay on this device."
    section += raw(
        f'<div class="ask-quiz"><p>{intro}</p>'
        '<noscript><p>The answers stand on <a href="../book/quizzes.html">a page of their own</a>.</p></noscript>'
        f'{"".join(forms)}<p class="ask-progress" role="status"></p>{settings("ask-mode-end", clear=True)}</div>'
    )
    section += addnodes.only("", plain, expr="not format_html")
    return section


def add_quiz(doctree: nodes.document, questions: list[dict], docname: str) -> None:
    """Put the quiz behind the summary, and the paragraph that leads to the next chapter behind the quiz."""
    body = doctree.next_node(nodes.section)
    section = quiz_section(doctree, questions, docname)
    leads = [node for node in doctree.findall(nodes.paragraph) if begins(node, "Next")]
    if not leads:
        body += section
        return
    lead = part = leads[-1]
    while part.parent is not body:
        part = part.parent
    body.insert(body.index(part) + 1, section)
    lead.parent.remove(lead)
    section += lead


def add_to_chapter(app, doctree: nodes.document) -> None:
    chapter = CHAPTER.fullmatch(app.env.docname)
    if not chapter or app.builder.name == "epub":
        return
    answer_prompts(doctree)
    file = quiz_file(app)
    app.env.note_dependency(str(file))
    if questions := quizzes(file).get(chapter[2]):
        add_quiz(doctree, questions, app.env.docname)


# All questions with their answers, and the settings, on pages of their own


class QuizAnswers(SphinxDirective):
    """``{quiz-answers}``: for each chapter its questions, what is right, and why."""

    def run(self) -> list[nodes.Node]:
        file = quiz_file(self.env.app)
        self.env.note_dependency(str(file))
        lines = []
        for name in chapter_names(Path(self.env.srcdir)):
            questions = quizzes(file).get(name[:2], [])
            if questions:
                notebook = Path(self.env.srcdir) / "notebooks" / f"{name}.ipynb"
                title = heading(prose(nbformat.read(notebook, as_version=4)))
                lines += [f"## {name[:2]} {title}", "", f"[The chapter](../notebooks/{name}.ipynb)", ""]
            for number, question in enumerate(questions, start=1):
                right, why = question["choices"][question["right"]]
                lines += [f"{number}. {' '.join(question['question'].split())}"]
                lines += ["", f"   **{' '.join(right.split())}** {' '.join(why.split())}", ""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


class ReaderSettings(SphinxDirective):
    """``{reader-settings}``: how results are shown, what is kept on this device, and a way to forget it."""

    def run(self) -> list[nodes.Node]:
        total = '<p class="ask-total" role="status"></p>'
        return [raw(f'<div class="ask-kept">{total}{settings("ask-mode", clear=True)}</div>')]


# What there is to do in each chapter


def chapter_names(source: Path) -> list[str]:
    names = sorted(path.stem for path in (source / "notebooks").glob("*.ipynb"))
    return [name for name in names if CHAPTER.fullmatch(f"notebooks/{name}")]


def to_do(source: Path) -> dict[str, list[int]]:
    """By chapter: how many prompts it has, and how many questions its quiz."""
    asks = quizzes(source / "book" / "quizzes.yml")
    found = {}
    for name in chapter_names(source):
        cells = nbformat.read(source / "notebooks" / f"{name}.ipynb", as_version=4).cells
        prompts = sum(len(PROMPT.findall(cell.source)) for cell in cells if cell.cell_type == "markdown")
        found[name] = [prompts, len(asks.get(name[:2], []))]
    return found


def add_scripts(app, config) -> None:
    app.add_js_file(None, body=FIRST % (STORED, json.dumps(to_do(Path(app.srcdir)), separators=(",", ":"))))
    app.add_js_file("prompts.js", defer="defer")
    app.add_css_file("prompts.css")


def setup(app) -> dict:
    app.add_directive("quiz-answers", QuizAnswers)
    app.add_directive("reader-settings", ReaderSettings)
    app.connect("config-inited", add_scripts)
    app.connect("doctree-read", add_to_chapter, priority=400)  # before the headings are collected for the contents
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
