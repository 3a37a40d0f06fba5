"""Prompts, quizzes and marks (book/_ext/prompts.py): what the quizzes say, and what a page of a small book does."""

import copy
import re
from pathlib import Path

import nbformat
import pytest
import yaml
from book_text import cells, notebooks, texts
from places import ROOT

pytest.importorskip("myst_nb", reason="needs the extra `book`")

from small_book import book_of, warnings  # isort: split

import prompts

FILE = ROOT / "book" / "quizzes.yml"
QUIZZES = prompts.quizzes(FILE)
CHAPTERS = {name[:2]: name for name in notebooks()}
each_quiz = pytest.mark.parametrize("number", QUIZZES)


# What the quizzes say


def test_every_chapter_has_a_quiz():
    assert set(CHAPTERS) <= set(QUIZZES)
    assert list(QUIZZES) == [f"{number:02}" for number in range(len(QUIZZES))]


@each_quiz
def test_three_to_five_questions_with_three_or_four_choices(number):
    assert 3 <= len(QUIZZES[number]) <= 5
    for question in QUIZZES[number]:
        choices = [text for text, _ in question["choices"]]
        assert 3 <= len(choices) <= 4 and len(set(choices)) == len(choices)
        assert all(text.strip() and why.strip() for text, why in question["choices"])


@each_quiz
def test_the_right_answer_stands_in_other_places(number):
    """Two questions of a quiz may agree, but not all, and not each with the one before it."""
    places = [question["right"] for question in QUIZZES[number]]
    assert len(set(places)) >= 3
    assert all(place != before for place, before in zip(places[1:], places, strict=False))


def test_the_right_answer_is_found_by_no_rule():
    """Not by its place, and not by its length."""
    asked = [question for questions in QUIZZES.values() for question in questions]
    places = [question["right"] for question in asked]
    assert max(places.count(place) for place in set(places)) < len(asked) / 2.5
    lengths = [[len(text) for text, _ in question["choices"]] for question in asked]
    longest = sum(max(sizes) == sizes[question["right"]] for sizes, question in zip(lengths, asked, strict=True))
    assert longest < len(asked) / 2


@each_quiz
def test_a_question_is_about_a_section(number):
    if number not in CHAPTERS:
        pytest.skip("the chapter is not there")
    text = "\n".join(cell.source for cell in cells(notebooks()[CHAPTERS[number]], "markdown"))
    headings = [heading.lower() for heading in re.findall(r"(?m)^##+ (.*)", text)]
    for question in QUIZZES[number]:
        assert any(question["about"].lower() in heading for heading in headings), question["about"]


def words(text: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Za-z]{5,}", text)}


def stem(word: str) -> str:
    return re.sub(r"(?:ing|ed|es|s|d|ly|r|y|ies|ied|er|e)$", "", word)


def unknown(question: dict) -> list[str]:
    """Words of a question that the book itself never uses, in no form."""
    known = {stem(word) for text in texts().values() for word in words(text)}
    said = [question["question"], *(part for choice in question["choices"] for part in choice)]
    return sorted(word for word in words(" ".join(said)) if stem(word) not in known)


@each_quiz
def test_a_quiz_uses_the_words_of_the_book(number):
    assert not [word for question in QUIZZES[number] for word in unknown(question)]


def test_a_word_from_elsewhere_is_noticed():
    question = copy.deepcopy(QUIZZES["00"][0])
    question["choices"][0] = ("It needs a variational autoencoder.", "No.")
    assert "autoencoder" in unknown(question)


@pytest.mark.parametrize("kinds", [("wrong", "wrong"), ("right", "right"), ("right", "perhaps")])
def test_a_question_has_one_right_choice(kinds, tmp_path):
    choices = [{kind: str(i), "why": "so"} for i, kind in enumerate(kinds)]
    file = tmp_path / "quizzes.yml"
    file.write_text(yaml.safe_dump({"00": [{"question": "What?", "about": "It", "choices": choices}]}))
    with pytest.raises(ValueError, match="one choice is right"):
        prompts.quizzes(file)


# A book of one chapter

FIRST = """\
# A chapter

## 1. A beginning

> **Predict.** How much is it?
"""
BETWEEN = """\
**Answer.** These two:

- one;
- [two](#a-place).

> **Predict.** And now?

Nothing answers this.

> **Predict.** Which one?
"""
AFTER = """\
<p id="a-place">A place.</p>

> **Takeaway.** It is *this* one.

## 2. An end

After the heading.

## What you learned

- It.

**Next:** another chapter.
"""
QUIZ = """\
"00":
  - about: an end
    question: "Which of `0 1` is *first*?"
    choices:
      - {wrong: "0", why: "It is < 1, and given."}
      - {right: "1", why: "It is predicted."}
  - about: A beginning
    question: How many?
    choices:
      - {right: One, why: There is one.}
      - {wrong: Two, why: There are fewer.}
"""


def chapter() -> nbformat.NotebookNode:
    new = nbformat.v4
    printed = [new.new_output("stream", text=f"printed {number}\n") for number in (1, 2)]
    sheet = new.new_notebook(
        cells=[
            new.new_markdown_cell(FIRST),
            new.new_code_cell("print('printed 1')", outputs=printed[:1]),
            new.new_markdown_cell(BETWEEN),
            new.new_code_cell("print('printed 2')", outputs=printed[1:]),
            new.new_markdown_cell(AFTER),
        ]
    )
    sheet.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return sheet


CONF = """\
extensions = ["myst_nb", "sphinx_book_theme", "prompts"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}  # else MyST-NB changes Sphinx's own, for all books to come
nb_execution_mode = "off"
html_theme = "sphinx_book_theme"
html_static_path = [STATIC]
html_css_files = ["custom.css"]
myst_enable_extensions = ["html_image"]
suppress_warnings = ["myst.header", "myst.xref_missing", "mystnb.unknown_mime_type"]
""".replace("STATIC", repr(str(ROOT / "book" / "_static")))
INDEX = "# A book\n\n```{reader-settings}\n```\n\n```{toctree}\nnotebooks/00_one\nanswers\n```\n"


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The application that has built a book of an index, a chapter and the answers."""
    return built(tmp_path_factory.mktemp("book"))


def built(folder: Path, quiz: str = QUIZ, builder: str = "html"):
    (folder / "source" / "notebooks").mkdir(parents=True)
    (folder / "source" / "book").mkdir()
    (folder / "source" / "book" / "quizzes.yml").write_text(quiz)
    nbformat.write(chapter(), folder / "source" / "notebooks" / "00_one.ipynb")
    pages = {"index": INDEX, "answers": "# Answers\n\n```{quiz-answers}\n```\n"}
    return book_of(folder, CONF, pages, builder)


def test_no_warning(book):
    assert not warnings(book)


def test_what_is_counted_is_what_stands_on_the_page(book):
    page = (Path(book.outdir) / "notebooks" / "00_one.html").read_text()
    found = [page.count('<form class="ask-guess"'), page.count('<form class="ask-question"')]
    assert prompts.to_do(Path(book.srcdir)) == {"00_one": found} == {"00_one": [3, 2]}
    assert 'A3_CHAPTERS = {"00_one":[3,2]}' in page and page.count("const A3_CHAPTERS") == 1


def test_the_quiz_stands_before_next_and_in_the_contents(book):
    page = (Path(book.outdir) / "notebooks" / "00_one.html").read_text()
    article = page[page.index("<article") : page.index("</article>")]
    places = [article.index(part) for part in ("What you learned<", "<h2>Quiz<", "How many?", "<strong>Next:</strong>")]
    assert places == sorted(places)
    assert re.search(r'<a class="[^"]*nav-link"[^>]* href="#quiz"', page)
    assert '<a href="#an-end">2. An end</a>' in article
    assert "<code>0 1</code> is <em>first</em>?" in article and "It is &lt; 1" in article


def test_the_answers_stand_on_a_page_of_their_own(book):
    page = (Path(book.outdir) / "answers.html").read_text()
    assert "<h2>00 A chapter<" in page
    assert "<strong>1</strong> It is predicted" in page and "<strong>One</strong> There is one" in page


def test_a_section_that_is_not_there_is_said_to_be_missing(tmp_path):
    app = built(tmp_path, QUIZ.replace("about: an end", "about: a middle"))
    assert "no section is named 'a middle'" in warnings(app)


def test_other_builders_get_the_questions_as_a_list(tmp_path):
    app = built(tmp_path, builder="text")
    text = (Path(app.outdir) / "notebooks" / "00_one.txt").read_text()
    assert not warnings(app)
    assert "How many?" in text and "* Two" in text and "Your guess" not in text and "<form" not in text


def test_the_book_loads_it():
    config = (ROOT / "_config.yml").read_text()
    assert "prompts: book/_ext\n" in config and "      - prompts\n" in config


# The page in a browser


@pytest.fixture
def visit(book, browser, serve):
    """A function that opens the chapter anew, in the same browser profile; no error may come up."""
    address, problems = serve(book.outdir), []
    contexts = []

    def open_page(page="notebooks/00_one.html", theme="light", width=1280, script=None, again=None, **options):
        if again:
            context = again
        else:
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, **options)
            context.add_init_script(script or f"localStorage.mode = localStorage.theme = '{theme}'")
            contexts.append(context)
        found = context.new_page()
        found.on("pageerror", lambda error: problems.append(str(error)))
        found.goto(f"{address}/{page}", wait_until="load")
        return found

    yield open_page
    for context in contexts:
        context.close()
    assert not problems


def covered(page) -> list[bool]:
    """Of the output, the answer, the second output and the takeaway."""
    return page.evaluate(
        """() => [...document.querySelectorAll('.ask-answer')]
              .map(box => [...box.children].every(child => getComputedStyle(child).visibility === 'hidden'))"""
    )


def choose(page, mode: str) -> None:
    page.locator(".ask-mode").first.select_option(mode)


def heights(page) -> list[int]:
    return page.evaluate("[...document.querySelectorAll('main section > *')].map(e => Math.round(e.offsetTop))")


def test_nothing_is_covered_on_a_first_visit(visit):
    page = visit()
    assert covered(page) == [False] * 4
    assert page.locator(".ask-guess:visible").count() == 3 and page.locator(".ask-show:visible").count() == 0
    assert page.locator(".ask-mark").count() == 0


def test_a_guess_is_kept_and_stands_beside_the_answer(visit):
    page = visit()
    page.get_by_label("Your guess").first.fill("  about 1 ")
    page.keyboard.press("Enter")
    assert page.locator(".ask-said").first.text_content().startswith("Kept")
    line = page.locator(".ask-yours").first
    assert line.text_content() == "You guessed: about 1"
    assert "one;" in line.evaluate("e => e.previousElementSibling.textContent")
    page = visit(again=page.context)
    assert page.get_by_label("Your guess").first.input_value() == "about 1"
    assert page.locator(".ask-yours").first.text_content() == "You guessed: about 1"


def test_a_reader_can_have_results_covered_and_shows_them_with_one_press(visit):
    page = visit()
    before = heights(page)
    choose(page, "cover")
    assert covered(page) == [True] * 4 and heights(page) == before, "what is covered keeps its room"
    button = page.get_by_role("button", name="Show the result").first
    assert button.get_attribute("aria-expanded") == "false"
    button.focus()
    page.keyboard.press("Enter")
    assert covered(page) == [False, False, True, True]
    assert page.locator(".ask-said").first.text_content() == "The result is shown below."
    assert page.locator("[aria-expanded=true]").text_content() == "Cover it again"
    page = visit(again=page.context)
    assert covered(page) == [False, False, True, True], "remembered, for this prompt and in this mode"
    page.locator("[aria-expanded=true]").click()
    assert covered(page) == [True] * 4
    page.locator(".ask-answer").last.click()
    assert covered(page) == [True, True, False, False]
    page.get_by_label("Your guess").first.fill("1")
    page.keyboard.press("Enter")
    assert covered(page) == [False] * 4


def test_what_is_covered_is_no_stop_for_the_keyboard(visit):
    page = visit()
    choose(page, "cover")
    page.locator(".ask-answer a").focus()
    assert page.evaluate("document.activeElement.tagName") == "BODY"


def test_fields_can_be_switched_off_for_good(visit):
    page = visit()
    choose(page, "none")
    page = visit(again=page.context)
    assert covered(page) == [False] * 4 and page.locator(".ask-guess:visible, .ask-bar:visible").count() == 0
    page.locator(".ask-mode:visible").select_option("open")  # at the end of the chapter
    assert page.locator(".ask-guess:visible").count() == 3


def test_a_link_to_what_is_covered_shows_it(visit):
    page = visit()
    choose(page, "cover")
    page.evaluate("document.querySelectorAll('.ask-answer')[3].firstElementChild.id = 'told'; location.hash = 'told'")
    page.wait_for_function("document.querySelectorAll('.ask-answer.ask-shown').length === 2")
    assert covered(page) == [True, True, False, False]


def test_paper_and_pages_without_scripts_show_everything(visit):
    page = visit()
    choose(page, "cover")
    page.emulate_media(media="print")
    assert covered(page) == [False] * 4 and page.locator(".ask-guess:visible, .ask-press:visible").count() == 0
    assert page.locator(".ask-question:visible").count() == 2
    plain = visit(java_script_enabled=False, script="0")
    assert plain.locator(".ask-guess:visible, .ask-mode:visible, .ask-press:visible").count() == 0
    assert plain.locator(".ask-answer :text('printed 1')").is_visible()
    assert plain.locator("noscript a").get_attribute("href") == "../book/quizzes.html"


def test_a_quiz_is_checked_and_remembered(visit):
    page = visit()
    form = page.locator(".ask-question").first
    form.get_by_role("button", name="Check").click()
    assert form.get_by_role("status").text_content() == "Choose an answer first."
    form.get_by_label("0", exact=True).check()
    form.get_by_role("button", name="Check").click()
    assert form.get_by_role("status").text_content() == "✗ Not so. It is < 1, and given."
    assert page.locator(".ask-progress").text_content() == ""
    form.get_by_label("0", exact=True).focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert form.get_by_role("status").text_content() == "✓ Right. It is predicted."
    page = visit(again=page.context)
    form = page.locator(".ask-question").first
    assert form.get_by_label("1", exact=True).is_checked() and "Right" in form.get_by_role("status").text_content()
    assert page.locator(".ask-progress").text_content() == "This chapter: 0 of 3 guesses, 1 of 2 quiz questions right."
    mark = page.locator(".bd-sidebar-primary .ask-mark")
    assert mark.get_attribute("title") == "0 of 3 guesses, 1 of 2 quiz questions right"
    assert mark.evaluate("e => e.style.getPropertyValue('--done')") == "20%"


def test_everything_can_be_forgotten(visit):
    page = visit()
    choose(page, "cover")
    page.get_by_label("Your guess").first.fill("1")
    page.get_by_role("button", name="Show the result").first.click()
    form = page.locator(".ask-question").last
    form.get_by_label("One").check()
    form.get_by_role("button", name="Check").click()
    index = visit("index.html", again=page.context)
    assert index.locator(".ask-total").text_content() == "On this device: 1 of 3 guesses, 1 of 2 quiz questions right."
    assert index.locator(".ask-mark").count() == 1
    index.once("dialog", lambda dialog: dialog.dismiss())
    index.get_by_role("button", name="Forget my answers").click()
    assert index.locator(".ask-mark").count() == 1
    index.once("dialog", lambda dialog: dialog.accept())
    index.get_by_role("button", name="Forget my answers").click()
    assert index.locator(".ask-total").text_content() == "Nothing is kept yet."
    assert index.locator(".ask-mark").count() == 0
    page = visit(again=page.context)
    assert page.get_by_label("Your guess").first.input_value() == "" and covered(page) == [True] * 4
    assert page.locator("input:checked").count() == 0


NO_STORAGE = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no') } })"
BAD_STORAGE = "localStorage.setItem('a3-book', '{not json')"
ODD_STORAGE = "localStorage.setItem('a3-book', '[1, \"two\"]')"


@pytest.mark.parametrize("script", [BAD_STORAGE, ODD_STORAGE])
def test_bad_storage_is_no_error(visit, script):
    page = visit(script=script)
    page.get_by_label("Your guess").first.fill("1")
    page.keyboard.press("Enter")
    assert page.locator(".ask-yours").first.text_content() == "You guessed: 1"


def test_without_storage_the_page_itself_remembers(book, browser, serve):
    context = browser.new_context()
    context.add_init_script(NO_STORAGE)
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(error.stack))
    page.goto(f"{serve(book.outdir)}/notebooks/00_one.html", wait_until="load")
    choose(page, "cover")
    page.get_by_label("Your guess").first.fill("1")
    page.keyboard.press("Enter")
    assert covered(page) == [False, False, True, True]
    assert page.locator(".ask-yours").first.text_content() == "You guessed: 1"
    context.close()
    assert not [problem for problem in problems if "prompts.js" in problem], "the theme has errors of its own"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_accessible_and_not_too_wide(visit, theme, width):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(theme=theme, width=width)
    page.get_by_label("Your guess").first.fill("1" * 150)
    page.keyboard.press("Enter")
    for form, label in zip(page.locator(".ask-question").all(), ("0", "One"), strict=True):
        form.get_by_label(label, exact=True).check()
        form.get_by_role("button", name="Check").click()
    for mode in ("open", "cover"):
        choose(page, mode)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = Axe().run(page, "main").response["violations"]
        assert not [rule["id"] for rule in found if rule["impact"] in ("serious", "critical")]


MOVED = """(change) => new Promise((done) => {
  const moved = [];
  new PerformanceObserver((list) => {
    for (const { sources } of list.getEntries())
      for (const { node } of sources) {
        const element = node?.parentElement;
        if (element?.closest('.bd-article, .bd-links')) moved.push(element.outerHTML.slice(0, 150));
      }
  }).observe({ type: 'layout-shift', buffered: true });
  if (change) document.querySelector('.bd-article h1').style.marginTop = '50px';
  setTimeout(() => done(moved), 500);
})"""


def test_nothing_jumps(visit):
    """Neither on a first visit, nor for a reader with guesses, in either mode. (The theme's own bar does.)"""
    page = visit()
    assert not page.evaluate(MOVED, False)
    for mode in ("open", "cover"):
        choose(page, mode)
        page.get_by_label("Your guess").first.fill("1")
        page.keyboard.press("Enter")
        page = visit(again=page.context)
        assert page.locator(".ask-yours").first.text_content() == "You guessed: 1"
        assert not page.evaluate(MOVED, False)
    assert page.evaluate(MOVED, True), "what moves is noticed"
