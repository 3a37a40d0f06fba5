"""The one look of all figures, and what every figure needs."""

import matplotlib.pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from a3mini.notebook import theme
from a3mini.notebook.plots import themes

OKABE_ITO = theme.OKABE_ITO
GIVEN_COLOUR, PADDING_COLOUR, HIDDEN_COLOUR = theme.GIVEN, theme.PADDING, theme.HIDDEN
CONTENT_COLOUR, QUERY_COLOUR = theme.CONTENT, theme.QUERY


def use_style() -> None:
    """Set the one look of all figures; call it once, after the imports."""
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 160,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "font.size": 11,
            "axes.titlesize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": plt.cycler(color=OKABE_ITO),
            "legend.frameon": False,
        }
    )
    try:  # sharp pictures in a notebook
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("retina")
    except ImportError:
        pass
    if themes.asked_for():  # when the site is built
        themes.show_both()


def ink_on(colour) -> str:
    """Black or white, whichever reads better on ``colour``."""
    return theme.ink(to_hex(colour))


def show_once(figure: Figure, ours: bool) -> Figure:
    """Close a figure of our own: a notebook then shows the returned one, and not the open one as well."""
    if ours:
        plt.close(figure)
    return figure
