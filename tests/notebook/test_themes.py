"""Figures in both themes: hues stay, texts can be read, and the figure is afterwards what it was before."""

import base64
import colorsys
import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text
from PIL import Image

from a3mini import groups
from a3mini.notebook import plots, theme
from a3mini.notebook.plots import themes

WORDS = "<s> Tom lost red toy car x y".split()
FIGURES = {
    "masks": lambda: plots.both_masks(torch.tensor([0, 1, 1, 3, 2, 2, -1, -1]), WORDS),
    "many groups": lambda: plots.group_strip(groups.left_to_right(12)),
    "bars": lambda: plots.bars({"one": 3.2, "two": 4.0}, "nats", "a title", ("reference", 3.5)),
    "lines": lambda: plots.lines({"x": {1: 2, 2: 3}, "y": {1: 1, 2: 2}}, "passes", "nats"),
    "hatches": lambda: plots.draft_and_target(torch.tensor([0.7, 0.3]), torch.tensor([0.2, 0.8]), ["a", "b"]),
}


def hue(colour: str) -> float:
    return colorsys.rgb_to_hsv(*(channel / 255 for channel in theme.channels(colour)))[0]


@pytest.mark.parametrize("colour", [*theme.OKABE_ITO, "#003A5D", "#9CCBEB"])
def test_a_hue_stays_and_stands_apart_from_the_ground(colour):
    dark = theme.darkened(colour, themes.LINE)
    assert hue(dark) == pytest.approx(hue(colour), abs=0.02)
    assert theme.contrast(dark, theme.DARK["ground"]) >= themes.LINE


def test_greys_and_tints_change_sides():
    assert theme.darkened("#FFFFFF", 1) == theme.DARK["ground"]
    assert theme.darkened("#000000", 1) == theme.DARK["ink"]
    tint = theme.darkened("#FFF4E0", 1)
    assert theme.luminance(tint) < 0.1 and hue(tint) != hue(theme.DARK["ground"])
    assert theme.darkened(theme.GIVEN, themes.AREA, area=True) == theme.GIVEN


def test_an_order_of_colours_stays_an_order():
    dark = [theme.luminance(theme.darkened(colour, themes.AREA, area=True)) for colour in theme.shades(12)]
    assert dark == sorted(dark)


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():
        plots.use_style()
        yield
    plt.close("all")


def colours(figure) -> list[str]:
    found = [to_hex(text.get_color()) for text in figure.findobj(Text)]
    for artist in figure.findobj():
        found += [
            str(getattr(artist, f"get_{n}")())
            for n in ("facecolor", "edgecolor", "alpha")
            if hasattr(artist, f"get_{n}")
        ]
    return found


def pixels(figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)  # a figure that was closed has none that draws
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].astype(int)


@pytest.mark.parametrize("name", FIGURES)
def test_it_is_dark_within_and_as_before_behind(name):
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    before = colours(figure)
    assert pixels(figure)[0, 0].tolist() == [255, 255, 255]
    with themes.in_the_dark(figure):
        drawn = pixels(figure)
        assert drawn[0, 0].tolist() == list(theme.channels(theme.DARK["ground"]))
        assert (drawn.min(-1) > 200).mean() < 0.1
    assert colours(figure) == before


@pytest.mark.parametrize("name", FIGURES)
def test_every_text_can_be_read(name):
    figure = FIGURES[name]()
    with themes.in_the_dark(figure):
        texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
        inks = [to_hex(text.get_color()).upper() for text in texts]
        for text in texts:
            text.set_alpha(0)
        grounds = themes._behind(figure, texts)
    assert len(texts) > 4
    poor = {t.get_text(): (i, g) for t, i, g in zip(texts, inks, grounds, strict=True) if theme.contrast(i, g) < 4.4}
    assert not poor


def test_a_figure_that_fails_is_as_before(monkeypatch):
    figure = FIGURES["bars"]()
    figure.draw_without_rendering()
    before = colours(figure)
    with pytest.raises(ZeroDivisionError), themes.in_the_dark(figure):
        raise ZeroDivisionError
    assert colours(figure) == before


@pytest.mark.parametrize("asked", [True, False])
def test_an_output_holds_both_where_that_is_asked_for(asked, monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.core.pylabtools import select_figure_formats

    shell = InteractiveShell()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    select_figure_formats(shell, {"retina"})
    monkeypatch.setenv(themes.BOTH, "1" if asked else "")
    monkeypatch.setattr("matplotlib_inline.backend_inline.set_matplotlib_formats", lambda *formats: None)
    plots.use_style()
    plots.use_style()  # twice is as once
    data, metadata = shell.display_formatter.format(FIGURES["bars"]())
    about = metadata["image/png"]
    assert (themes.DARK in about) == asked and about["width"] > 0
    if not asked:
        return
    light, dark = (Image.open(io.BytesIO(base64.b64decode(png))) for png in (data["image/png"], about[themes.DARK]))
    assert light.size == dark.size
    assert light.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert dark.convert("RGB").getpixel((0, 0)) == theme.channels(theme.DARK["ground"])
