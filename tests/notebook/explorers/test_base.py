"""What all explorers share: both faces, the colours, the theme, and the arithmetic of groups in both languages."""

import itertools
import json

import ipywidgets
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from a3mini import groups, masks
from a3mini.notebook import explorers, plots, theme
from a3mini.notebook.explorers import MaskExplorer, base

GROUPS = torch.tensor([0, 1, 1, 2, 3, 2, -1])
ALL = [getattr(explorers, name) for name in explorers.__all__ if name != "Explorer"]


def example(source: str = "a sentence of the tests") -> MaskExplorer:
    return MaskExplorer("Tom lost his red toy car .".split(), GROUPS, source)


@pytest.mark.parametrize("explorer", ALL)
def test_each_explorer_is_one_module_that_says_what_it_is(explorer):
    assert issubclass(explorer, explorers.Explorer)
    assert "export default" in explorer._esm and "import " not in explorer._esm.replace("// ", "")
    assert explorer.summary != explorers.Explorer.summary and explorer.__doc__


def test_a_module_without_the_shared_part_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "HERE", tmp_path)
    (tmp_path / "alone.js").write_text("export default { render() {} };\n")
    with pytest.raises(ValueError, match=r"alone\.js must import from base\.js, each exactly once"):
        base.bundle("alone")


@pytest.mark.skipif(Version(ipywidgets.__version__) < Version("8"), reason="ipywidgets 7 shows the live face by itself")
def test_the_notebook_gets_both_faces():
    data, _ = example()._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"} <= set(data)
    assert "http" not in data["text/html"].replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("look", ["light", "dark"])
def test_the_face_of_the_page(open_explorer, look):
    window = open_explorer(example(), example(), theme=look)
    first = window.page.locator(".a3-explorer").first
    assert first.get_attribute("data-face") == "page" and first.get_attribute("data-theme") == look
    assert "a sentence of the tests" in first.locator(".a3-source").inner_text()
    assert window.page.locator("#a3-style-MaskExplorer").count() == 1


def test_any_text_is_shown_as_it_is(open_explorer):
    nasty = "</script><img src=x onerror=alert(1)><!-- \u2028 ' \" ` \\ 語"
    window = open_explorer(MaskExplorer([nasty, "b"], torch.tensor([1, 2]), nasty))
    assert nasty.split()[0] in window.page.locator(".a3-source").inner_text()
    assert window.page.locator(".a3-explorer img").count() == 0


PAGES = {  # how each of the places where explorers live tells its theme
    "the book": ("document.documentElement.dataset.theme = {!r}", "light", "dark"),
    "Colab": ("document.documentElement.setAttribute('theme', {!r})", "light", "dark"),
    "JupyterLab": ("document.body.dataset.jpThemeLight = {!r}", "true", "false"),
    "VS Code": ("document.body.className = {!r}", "vscode-light", "vscode-dark"),
}


@pytest.mark.parametrize("place", PAGES)
def test_the_theme_of_the_page_is_followed(open_explorer, place):
    page = open_explorer(example()).page
    tell, *words = PAGES[place]
    page.evaluate("delete document.documentElement.dataset.theme")
    for expected, word in zip(("light", "dark", "light"), (*words, words[0]), strict=True):
        page.evaluate(tell.format(word))
        page.wait_for_selector(f".a3-explorer[data-theme={expected}]")


def test_without_a_word_from_the_page_the_system_decides(open_explorer):
    page = open_explorer(example()).page
    page.evaluate("delete document.documentElement.dataset.theme")
    for look in ("dark", "light"):
        page.emulate_media(color_scheme=look)
        page.wait_for_selector(f".a3-explorer[data-theme={look}]")


# Colours


@pytest.mark.parametrize("tokens", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_text_can_be_read(tokens):
    for ink in ("ink", "muted", "accent", "good", "bad"):
        for ground in ("ground", "panel", "hidden"):
            assert theme.contrast(tokens[ink], tokens[ground]) >= 4.5, (ink, ground)
    assert theme.contrast(tokens["accent"], tokens["on-accent"]) >= 4.5


def test_contrast_is_that_of_wcag():
    assert theme.contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert theme.contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)  # the well-known nearly readable grey


@pytest.mark.parametrize("count", [1, 7, 8, 20])
def test_there_are_colours_for_many_groups(count):
    shades = theme.shades(count)
    assert len(set(shades)) == count
    assert all(theme.contrast(theme.ink(shade), shade) >= 4.5 for shade in shades)


# Python and JavaScript agree

MODULE = "import(URL.createObjectURL(new Blob([code], {type: 'text/javascript'})))"


@pytest.fixture(scope="module")
def common(browser):
    """A page on which `common` is the module base.js."""
    page = browser.new_page()
    page.evaluate(f"async (code) => {{ window.common = await {MODULE} }}", base.bundle("mask"))
    yield page
    page.close()


@given(st.lists(st.integers(-1, 12), min_size=1, max_size=20))
def test_groups_masks_and_colours_are_those_of_the_package(common, group_ids):
    found = common.evaluate(
        """(g) => ({
             ranks: common.relabel(g), colours: common.groupColours(g), ink: common.groupColours(g).map(common.ink),
             content: g.map((_, i) => g.map((_, j) => common.contentSees(g, i, j))),
             query: g.map((_, i) => g.map((_, j) => common.querySees(g, i, j))),
           })""",
        group_ids,
    )
    ids = torch.tensor(group_ids)
    assert found["ranks"] == groups.relabel(ids).tolist()
    assert found["content"] == masks.content_mask(ids).tolist()
    assert found["query"] == masks.query_mask(ids).tolist()
    colours = plots.group_colours(ids)
    assert [colour.upper() for colour in found["colours"]] == colours
    assert found["ink"] == [theme.ink(colour) for colour in colours]


def test_strided_groups_are_those_of_the_package():
    assert base.strided(8) == {streams: groups.strided(8, streams).tolist() for streams in (2, 3, 4)}
    for length, known in itertools.product(range(1, 20), (0, 1)):
        found = base.strided(length, known)
        for streams, ids in found.items():
            assert ids == groups.strided(length, streams, known).tolist()
            assert max(ids) > 1 and ids != groups.left_to_right(length, known).tolist()
        assert len(set(map(tuple, found.values()))) == len(found)


def test_the_state_is_plain_json():
    state = example().state()
    assert set(state) >= {"source", "tokens", "group_ids"} and json.loads(json.dumps(state)) == state
