"""Slides: what the rule puts on them; and each deck in a real browser: nothing cut off, keys, accessibility, print."""

import re
from pathlib import Path

import nbformat
import pytest
from built_site import SITE, decks, is_local, problem, read, require_site
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from places import ROOT

pytest.importorskip("mdit_py_plugins", reason="needs the extra `book`")
from tools.site import slides

CUT_OFF = """() => Reveal.getSlides().flatMap((slide, number) => {
  const { h, v } = Reveal.getIndices(slide);
  Reveal.slide(h, v);
  const scrolls = (box, axis) => ["auto", "scroll"].includes(getComputedStyle(box)[`overflow${axis}`]);
  const room = slide.getBoundingClientRect(), found = [];
  if (room.right > innerWidth + 1 || room.bottom > innerHeight + 1) found.push("the slide is larger than the window");
  if (slide.scrollHeight > slide.clientHeight + 1 && !scrolls(slide, "Y")) found.push("it is too long");
  if (slide.scrollHeight > slide.clientHeight + 1 && slide.tabIndex !== 0) found.push("no key scrolls it");
  for (const part of slide.querySelectorAll(".text *, pre, img, iframe, summary")) {
    if (part.closest("aside, mjx-assistive-mml, mjx-container *, details:not([open]) pre")) continue;
    let box = part.parentElement;
    while (box !== slide && !scrolls(box, "X")) box = box.parentElement;
    if (box === slide && part.getBoundingClientRect().right > room.right + 1) found.push(part.outerHTML.slice(0, 80));
    if (part.scrollWidth > part.clientWidth + 1 && part.matches("pre") && !scrolls(part, "X"))
      found.push(`hidden: ${part.textContent.slice(0, 80)}`);
  }
  return found.map((what) => `slide ${number + 1}: ${what}`);
})"""
SMALLEST = """() => Math.min(...[...document.querySelectorAll(".slides section .text *, .slides pre, .slides summary")]
  .filter((e) => !e.closest("aside, mjx-container") && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
  .map((e) => parseFloat(getComputedStyle(e).fontSize)))"""


def notebook(name: str):
    return nbformat.read(ROOT / "notebooks" / f"{Path(name).stem}.ipynb", as_version=4)


# The rule


def test_blocks_of_a_cell():
    source = (
        "## 1. A title\n\nSome text\nin two lines.\n\n$$\na = b\n$$\n\n> **Predict.** What?\n\n- one\n- two\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n"
        "<details>\n<summary>Solution</summary>\n\n```python\nsecret\n```\n\n</details>\n\n"
        "> **Takeaway.** That."
    )
    found = slides.blocks(source)
    assert [kind for kind, _ in found] == ["h2", "text", "formula", "predict", "list", "table", "takeaway"]
    assert "secret" not in str(found)


def test_prose_becomes_notes_and_code_is_folded():
    long = "\n".join(f"x{i} = {i}" for i in range(20))
    cells = [
        new_markdown_cell("# Title\n\nThe question?\n\n**You will learn** to\n\n- ask;\n- answer."),
        new_code_cell("import this", metadata={"tags": ["imports"]}),
        new_code_cell("import this  # and more"),
        new_markdown_cell("## 1. Part\n\n" + "plain words " * 30 + "\n\nA **term** is short."),
        new_code_cell(long, outputs=[new_output("stream", text="printed\n"), new_output("stream", text="too\n")]),
        new_code_cell("short()", outputs=[new_output("stream", text="brief\n")]),
        new_markdown_cell("See [masks](02_groups_and_masks.ipynb#a) and **[notation](../book/notation.md)**."),
        new_markdown_cell("## Exercises\n\n### Exercise 1: easy (5 minutes, ★☆☆)\n\nThe task."),
        new_code_cell("stub()", outputs=[new_output("stream", text="not attempted\n")]),
        new_markdown_cell("## What you learned\n\n- Much."),
    ]
    deck = slides.slides(new_notebook(cells=cells), "01_name")
    text = ["\n".join(cell.source for cell in slide.cells) for slide in deck]
    assert [slide.kind for slide in deck] == [
        "title",
        "goals",
        "heading",
        "output",
        "output",
        "text",
        "heading",
        "heading",
    ]
    assert "The question?" in text[0] and "- answer." in text[1]
    assert "A **term** is short." in text[2] and "plain words" not in text[2] and "plain words" in deck[2].notes[0]
    assert [slide.cells[-1].metadata.deck for slide in deck[3:5]] == ["fold", "show"]
    assert deck[3].cells[-1].outputs[0].text == "printed\ntoo"
    assert "(../notebooks/02_groups_and_masks.html#a)" in text[5] and "(../book/notation.html)" in text[5]
    assert "Exercise 1: easy" in text[6] and "The task." not in str(text) and "not attempted" not in str(deck[6].cells)
    assert "import this" not in str(text)


def test_an_exercise_within_a_section_is_named_and_not_shown():
    cells = [
        new_markdown_cell("# Title\n\n**You will learn** to ask."),
        new_markdown_cell("## 1. Part\n\nA **term**.\n\n### Exercise 1: here (5 minutes, ★☆☆)\n\nThe task."),
        new_code_cell("stub()", outputs=[new_output("stream", text="not attempted\n")]),
        new_markdown_cell("<details>\n<summary>Solution</summary>\n\nThis.\n\n</details>\n\n> **Takeaway.** That."),
        new_code_cell("more()", outputs=[new_output("stream", text="printed\n")]),
        new_markdown_cell("## What you learned\n\n- Much."),
    ]
    deck = slides.slides(new_notebook(cells=cells), "01_name")
    text = ["\n".join(cell.source for cell in slide.cells) for slide in deck]
    assert [slide.kind for slide in deck] == ["title", "goals", "heading", "takeaway", "output", "heading", "heading"]
    assert "A **term**." in text[2] and "- Exercise 1: here (5 minutes" in text[5]
    assert not any(hidden in str(text) for hidden in ("The task.", "stub", "This."))


# The built decks


def test_every_notebook_has_slides():
    require_site()
    assert [Path(name).stem for name in decks()] == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("name", decks())
def test_nothing_is_left_out(name):
    html = (SITE / name).read_text(encoding="utf-8")
    cells = notebook(name).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert html.count("<strong>Predict.</strong>") == prose.count("> **Predict.**")
    assert html.count("<strong>Takeaway.</strong>") == prose.count("> **Takeaway.**")
    of_slides = html.count(">You will learn") + ("\n## Exercises" not in f"\n{prose}")  # the list of the exercises
    assert html.count("<h2") - of_slides == len(re.findall(r"(?m)^## ", prose))
    assert "Solution</summary>" not in html and "Hint</summary>" not in html
    pictures = sum("mystnb" in cell.metadata and "image" in cell.metadata["mystnb"] for cell in cells)
    assert len(re.findall(r"<img[^>]*alt=", html, re.DOTALL)) == html.count("<img") >= pictures


@pytest.mark.parametrize("name", decks())
def test_links_hold_and_nothing_is_loaded_from_elsewhere(name):
    page = read(name)
    assert not [url for url in page.loaded() if not is_local(url) and not url.startswith("data:")]
    local = {url for url in [*page.links(), *page.loaded()] if is_local(url)}
    assert not sorted(filter(None, (problem(name, url) for url in local)))


# In a browser


def show(window, site, name: str, query: str = ""):
    window.open(f"{site}/{name}{query}", until="networkidle")
    window.page.wait_for_selector("[data-ready=true]", state="attached", timeout=60_000)
    return window.page


@pytest.fixture(scope="module")
def lecture(browser, site):
    from browser_window import Window

    found = Window(browser, "desktop", "light", allowed=(site,))
    found.page.set_viewport_size({"width": 1280, "height": 720})
    yield found
    found.context.close()


@pytest.mark.parametrize("name", decks())
def test_slides_fit_the_screen(name, lecture, site):
    page = show(lecture, site, name)
    assert not page.evaluate(CUT_OFF)
    assert page.evaluate(SMALLEST) >= 16
    assert page.locator("mjx-merror").count() == 0
    assert not lecture.problems
    assert not lecture.violations("main")


@pytest.mark.parametrize("name", decks())
def test_slides_fit_a_phone(name, lecture, site):
    lecture.page.set_viewport_size({"width": 390, "height": 844})
    page = show(lecture, site, name)
    assert page.evaluate("document.documentElement.className.includes('phone')")
    assert not page.evaluate(CUT_OFF)
    assert page.evaluate(SMALLEST) >= 10
    assert not lecture.problems
    lecture.page.set_viewport_size({"width": 1280, "height": 720})


def test_what_is_cut_off_is_found(lecture, site):
    page = show(lecture, site, decks()[0])
    page.add_style_tag(content=".reveal .slides > section > section { overflow: hidden !important; font-size: 90px }")
    found = page.evaluate(CUT_OFF)
    assert any("it is too long" in line for line in found)
    page = show(lecture, site, decks()[0])
    page.add_style_tag(
        content=".reveal pre { white-space: pre !important; overflow: hidden; font-size: 60px !important }"
    )
    assert any("hidden: " in line for line in page.evaluate(CUT_OFF))


def test_one_key_leads_through_all_slides(lecture, site):
    page = show(lecture, site, decks()[2])
    seen = [page.evaluate("Reveal.getCurrentSlide().textContent")]
    for _ in range(page.evaluate("Reveal.getTotalSlides()") - 1):
        page.keyboard.press("ArrowRight")
        seen.append(page.evaluate("Reveal.getCurrentSlide().textContent"))
    assert page.evaluate("Reveal.isLastSlide()")
    assert len(set(seen)) == len(seen)


def test_a_fold_opens_by_key_and_its_slide_scrolls(lecture, site):
    page = show(lecture, site, decks()[2])
    page.add_style_tag(content=".reveal details pre { font-size: 60px !important }")
    page.evaluate("""() => {
      const fold = document.querySelector("details.code");
      const { h, v } = Reveal.getIndices(fold.closest("section"));
      Reveal.slide(h, v);
      fold.querySelector("summary").focus();
    }""")
    before = page.evaluate("JSON.stringify(Reveal.getIndices())")
    page.keyboard.press("Enter")
    page.wait_for_function("Reveal.getCurrentSlide().querySelector('details[open]')")
    page.wait_for_function("Reveal.getCurrentSlide().tabIndex === 0")
    page.evaluate("Reveal.getCurrentSlide().focus()")
    page.keyboard.press("End")
    page.wait_for_function("Reveal.getCurrentSlide().scrollTop > 0")
    assert page.evaluate("JSON.stringify(Reveal.getIndices())") == before
    page.keyboard.press("ArrowRight")
    assert page.evaluate("JSON.stringify(Reveal.getIndices())") != before


def test_paper_has_every_slide_and_its_notes(lecture, site):
    page = show(lecture, site, decks()[2], "?print-pdf&notes")
    page.wait_for_function("document.querySelectorAll('.pdf-page').length >= Reveal.getTotalSlides()")
    pages, notes, total = page.evaluate(
        """['.pdf-page', '.speaker-notes-pdf'].map((part) => document.querySelectorAll(part).length)
             .concat(Reveal.getTotalSlides())"""
    )
    with_notes = (SITE / decks()[2]).read_text(encoding="utf-8").count('<aside class="notes">')
    assert pages >= total and notes == with_notes > 5
    over = """[...document.querySelectorAll('.pdf-page')].filter((sheet) =>
      sheet.querySelector('section[data-kind]').scrollHeight > sheet.clientHeight + 1).length"""
    assert page.evaluate(over) == 0
    pdf = page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= total + notes
