"""What stands around a page's text: numbers, buttons, descriptions, the footer, folds, figures in full size."""

import json
import re
from types import SimpleNamespace

import pytest
from browser_window import Window
from built_site import BASE, SITE, pages, read, require_site
from docutils import nodes
from PIL import Image
from places import ROOT

import a3mini

pytest.importorskip("sphinx", reason="needs the extra `book`")

import small_book  # noqa: F401  it puts book/_ext on the path

# isort: split
import page_frame

CHAPTERS = [name for name in pages() if name.startswith("notebooks/")]


@pytest.fixture(scope="module", autouse=True)
def built():
    require_site()


def tags(page: str, name: str) -> list[dict]:
    return [attrs for tag, attrs in read(page).elements if tag == name]


def meta(page: str) -> dict[str, str]:
    return {attrs.get("property") or attrs.get("name"): attrs.get("content") for attrs in tags(page, "meta")}


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_has_its_number_everywhere(page):
    number = str(int(page.removeprefix("notebooks/")[:2]))
    text = (SITE / page).read_text(encoding="utf-8")
    title = re.search(r"<h1>(.*?)<", text)[1]
    assert title.startswith(f"{number} ") and f"<title>{title} " in text
    assert f"{title}\n" in text or f">{title}<" in text  # the sidebar
    index = (SITE / "book" / "index.html").read_text(encoding="utf-8")
    assert re.search(rf'class="reference internal" href="../{page}">\s*{number} ', index)


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_has_a_button_for_each_badge(page):
    notebook = json.loads((ROOT / page).with_suffix(".ipynb").read_text(encoding="utf-8"))
    badges = re.findall(r"\]\((https://[^)]+)\)$", "".join(notebook["cells"][0]["source"]))
    buttons = [attrs["href"] for attrs in tags(page, "a") if attrs.get("class") == "a3-run"]
    assert badges and set(badges) <= set(buttons)


@pytest.mark.parametrize("page", [page for page in pages() if page not in ("404.html", "search.html")])
def test_a_page_describes_itself(page):
    found = meta(page)
    assert 20 < len(found["description"]) <= page_frame.LONGEST
    assert found["og:description"] == found["description"] and found["og:title"] in read(page).texts["title"]
    assert "<" not in found["og:title"] and found["og:url"].endswith(page)
    assert found["og:image"].endswith(page_frame.CARD)


def test_descriptions_differ():
    found = [meta(page)["description"] for page in pages() if page not in ("404.html", "search.html")]
    same = {text for text in found if found.count(text) > 1}
    assert not same


def test_the_card_is_there_in_its_size():
    assert Image.open(SITE / page_frame.CARD).size == page_frame.CARD_SIZE


def test_the_card_is_what_its_script_draws(tmp_path):
    from tools.site import card

    card.draw(tmp_path / "card.png")
    drawn, there = (Image.open(file).convert("L").resize((60, 32)) for file in (tmp_path / "card.png", card.CARD))
    pairs = zip(drawn.tobytes(), there.tobytes(), strict=True)
    assert max(abs(a - b) for a, b in pairs) < 40  # fonts are rasterised a little differently elsewhere


@pytest.mark.parametrize("page", pages())
def test_the_footer_says_which_version_this_is(page):
    text = (SITE / page).read_text(encoding="utf-8")
    assert re.search(rf'Version {re.escape(a3mini.__version__)} of <time datetime="\d{{4}}-\d\d-\d\d">', text)


def test_a_wrong_address_leads_home(browser, site):
    """GitHub shows 404.html at any depth; here a route does."""
    window = Window(browser, "desktop", "light", allowed=(site,))
    nowhere = site.rstrip("/") + "/notebooks/deep/nowhere.html"
    body = (SITE / "404.html").read_text(encoding="utf-8")
    window.page.route(nowhere, lambda route: route.fulfill(status=200, content_type="text/html", body=body))
    window.open(nowhere, "networkidle")
    assert BASE in site and not window.problems
    assert window.page.locator("h1").last.inner_text() == "There is no such page"
    window.page.get_by_role("link", name="The book's first page").click()
    assert "/book/index.html" in window.page.url
    window.context.close()


# Pieces


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("One. Two.", "One. Two."),
        ("One is long. " + "x" * 20, "One is long."),
        ("word " * 8, "word word word …"),
    ],
)
def test_a_description_ends_with_a_sentence_or_a_word(text, short):
    assert page_frame.shorten(text, 18) == short


def test_the_root_is_that_of_the_repository():
    assert page_frame.home("https://github.com/Ann/a-book") == "https://ann.github.io/a-book/"
    assert page_frame.from_the_root("https://ann.github.io/a-book/").startswith('<base href="/a-book/">')


def test_without_git_the_date_is_the_one_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert page_frame.last_change(tmp_path) == ("", 0.0)


def test_pages_that_are_no_chapters_have_no_number():
    title = nodes.title("", "Notation")
    app = SimpleNamespace(env=SimpleNamespace(docname="book/notation"))
    page_frame.number_chapter(app, nodes.section("", title))
    assert title.astext() == "Notation"
    app.env.docname = "notebooks/07_any_order_decoding"
    page_frame.number_chapter(app, nodes.section("", title))
    assert title.astext() == "7 Notation"


# The API pages


@pytest.fixture
def page(browser, site):
    window = Window(browser, "phone", "light", allowed=(site,))
    yield window.page
    window.context.close()


def test_names_of_the_api_fold(page, site):
    page.goto(f"{site}/book/api/core.html", wait_until="load")
    folds = page.locator("details.a3-api")
    opened = "document.querySelectorAll('details.a3-api[open]').length"
    assert folds.count() > 40 and page.evaluate(opened) == 0
    own = page.locator("dl.py:has(> dt[id='a3mini.groups.blocks'])")
    assert own.locator("> dd > p").first.is_visible() and not own.get_by_text("Returns").is_visible()
    page.get_by_role("button", name="Open all").click()
    assert page.evaluate(opened) == folds.count() and own.get_by_text("Returns").is_visible()
    page.get_by_role("button", name="Close all").click()
    assert page.evaluate(opened) == 0


@pytest.mark.parametrize("name", ["a3mini.groups.blocks", "a3mini.model.A3ForCausalLM.forward"])
def test_a_link_to_a_name_opens_its_fold(name, page, site):
    page.goto(f"{site}/book/api/core.html#{name}", wait_until="load")
    place = page.locator(f"dt[id='{name}']")
    place.wait_for(state="visible")
    assert place.locator("xpath=..").locator("> dd > details").get_attribute("open") is not None
    assert 0 <= place.bounding_box()["y"] < 844


def test_all_names_stand_on_one_page():
    listed = {attrs["href"] for attrs in tags("book/api/names.html", "a") if "#a3mini." in attrs.get("href", "")}
    for module in ("core", "decoding", "training", "evaluation", "figures"):
        text = (SITE / "book" / "api" / f"{module}.html").read_text(encoding="utf-8")
        kinds = re.findall(r'<dl class="py (?:function|class|exception)">\s*<dt class="[^"]*" id="([^"]+)"', text)
        assert kinds and not {f"{module}.html#{name}" for name in kinds} - listed
    text = read("book/api/names.html").texts["li"]
    assert "One group after another from left to right" in text or "blocks in groups." in text


# Phones


def test_the_first_column_of_a_wide_table_stays(page, site):
    page.goto(f"{site}/book/paper_map.html", wait_until="load")
    box = page.locator(".pst-scrollable-table-container").first
    cell = box.locator("tbody tr:first-child > *").first
    assert box.evaluate("e => e.scrollWidth > e.clientWidth + 50")
    before = cell.bounding_box()["x"]
    box.evaluate("e => e.scrollLeft = 200")
    assert abs(cell.bounding_box()["x"] - before) <= 1  # the border scrolls away


def test_names_of_code_are_not_broken_in_a_table(page, site):
    page.goto(f"{site}/book/paper_map.html", wait_until="load")
    broken = page.evaluate(
        """() => [...document.querySelectorAll('td code.literal .pre')].filter(e => e.getClientRects().length > 1)
             .map(e => e.textContent)"""
    )
    assert page.locator("td code.literal").count() > 10 and not broken


def test_how_a_number_was_measured_waits_in_a_fold(page, site):
    page.goto(f"{site}/book/results.html", wait_until="load")
    fold = page.locator("details.a3-source").first
    said = fold.locator("p")
    assert not said.is_visible()
    fold.locator("summary").click()
    assert said.is_visible() and said.inner_text().startswith("Measured by ")


def test_a_figure_opens_in_full_size(page, site):
    page.goto(f"{site}/notebooks/02_groups_and_masks.html", wait_until="load")
    image = page.locator(".cell_output img:visible").first
    narrow, alt = image.bounding_box()["width"], image.get_attribute("alt")
    dialog = page.get_by_role("dialog")
    assert not dialog.is_visible()
    image.click()
    large = dialog.locator("img")
    assert large.get_attribute("alt") == alt and large.bounding_box()["width"] > 1.5 * narrow
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    page.locator(".a3-enlarge:visible").first.press("Enter")
    assert dialog.is_visible()
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()
