"""A figure in the colours of the dark theme: the same artists, drawn a second time.

What is grey goes from the light theme's scale to the dark one's; what has a hue keeps it, and is mixed with white until
it stands apart from the dark ground. A text takes its colour from what is behind it.

``use_style`` asks for both where the site is built (``BOTH``): an output then has the dark picture as well, and
book/_ext/both_themes.py puts the two on the page. Elsewhere a notebook shows one figure, the light one.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import Collection
from matplotlib.colors import ListedColormap, to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from a3mini.notebook import theme

BOTH = "A3MINI_BOTH_THEMES"  # an environment variable
DARK = "a3_dark"  # the dark picture's name in the metadata of an output's image/png
TEXT, LINE, AREA = 4.5, 3.0, 1.5  # contrasts with the ground, at least


def darkened(colour, contrast: float) -> tuple:
    """The same colour in the dark theme, as RGBA; what is transparent stays so."""
    *_, alpha = to_rgba(colour)
    return (*to_rgba(theme.darkened(to_hex(colour).upper(), contrast, contrast == AREA))[:3], alpha)


def _changes(artist) -> Iterator[tuple[Callable, object, object]]:
    """A setter, the value that it had, and the value that it gets."""
    if isinstance(artist, Line2D):
        for name in ("color", "markerfacecolor", "markeredgecolor"):
            now = getattr(artist, f"get_{name}")()
            if not isinstance(now, str) or now not in ("none", "auto"):
                yield getattr(artist, f"set_{name}"), now, darkened(now, LINE)
    elif isinstance(artist, Patch):
        fill, edge = artist.get_facecolor(), artist.get_edgecolor()
        yield artist.set_edgecolor, edge, darkened(edge, LINE)
        yield artist.set_facecolor, fill, darkened(fill, AREA)
    elif isinstance(artist, Collection) and artist.get_array() is None:
        for name, contrast in (("facecolor", AREA), ("edgecolor", LINE)):
            now = getattr(artist, f"get_{name}")()
            yield getattr(artist, f"set_{name}"), now, [darkened(colour, contrast) for colour in now]
    if isinstance(artist, ScalarMappable) and artist.get_array() is not None:
        yield artist.set_cmap, artist.get_cmap(), _darkened_map(artist.get_cmap())


def _darkened_map(colours):
    if isinstance(colours, ListedColormap) and colours.N < 100:  # one colour for each kind of thing
        return ListedColormap([darkened(colours(i), AREA) for i in range(colours.N)])
    low, high = (theme.luminance(to_hex(colours(end)).upper()) for end in (0.0, 1.0))
    return colours.reversed() if low > high else colours  # nothing is as the ground, much stands apart from it


def _behind(figure: Figure, texts: list[Text]) -> list[str]:
    """The mean colour under each text."""
    canvas, before = FigureCanvasAgg(figure), figure.canvas
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3].astype(float)
    height, width = pixels.shape[:2]
    found = []
    for text in texts:
        box = text.get_window_extent(canvas.get_renderer())
        left, right = (int(min(max(x, 0), width - 1)) for x in (box.x0, box.x1))
        top, bottom = (int(min(max(height - y, 0), height - 1)) for y in (box.y1, box.y0))
        mean = pixels[top : bottom + 1, left : right + 1].mean((0, 1))
        found.append("#{:02X}{:02X}{:02X}".format(*mean.round().astype(int)))
    figure.set_canvas(before)
    return found


@contextmanager
def in_the_dark(figure: Figure) -> Iterator[Figure]:
    """The figure has its dark colours within the block, and its own again behind it."""
    figure.draw_without_rendering()  # ticks and their labels exist from now on
    artists = figure.findobj(include_self=False)
    texts = [artist for artist in artists if isinstance(artist, Text) and artist.get_text().strip()]
    undo = [(text.set_alpha, text.get_alpha()) for text in texts]
    undo += [(text.set_color, text.get_color()) for text in texts]
    try:
        for artist in artists:
            for setter, old, new in _changes(artist):
                undo.append((setter, old))
                setter(new)
        for text in texts:
            text.set_alpha(0)
        for text, ground in zip(texts, _behind(figure, texts), strict=True):
            own = to_hex(text.get_color()).upper()
            choices = [theme.darkened(own, TEXT), own, theme.DARK["ink"], "#000000"]
            best = next((one for one in choices if theme.contrast(one, ground) >= TEXT), None)
            text.set_color(best or max(choices, key=lambda one: theme.contrast(one, ground)))
            text.set_alpha(None)
        yield figure
    finally:
        for setter, old in reversed(undo):
            setter(old)


def show_both() -> None:
    """From now on a figure leaves its dark picture in the output's metadata, where no program minds it."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        return
    formatter = shell.display_formatter.formatters["image/png"]
    light = formatter.lookup_by_type(Figure)
    if hasattr(light, "light"):
        return

    def both(figure: Figure) -> tuple[str, dict]:
        shown = light(figure)
        with in_the_dark(figure):
            dark = light(figure)
        (png, size), (dark, _) = (one if isinstance(one, tuple) else (one, {}) for one in (shown, dark))
        return png, size | {DARK: dark}

    both.light = light
    formatter.for_type(Figure, both)


def asked_for() -> bool:
    return bool(os.environ.get(BOTH))
