"""Draw book/_static/card.png, which other sites show beside a link to the book: python -m tools.site.card

The words, their groups and their colours are those of the cover (cover.py). It is a PNG, since most sites show no SVG.
"""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

from a3mini.notebook import theme
from tools import ROOT
from tools.site import cover

CARD = ROOT / "book" / "_static" / "card.png"
WIDTH, HEIGHT, DPI = 1200, 630, 100  # what the sites ask for
LEFT, GAP = 70, 10


def draw(path: Path) -> None:
    look = theme.LIGHT
    figure = plt.figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor=look["ground"])
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    ax.axis("off")
    ax.add_patch(plt.Rectangle((0, 0), WIDTH, 16, color=look["accent"]))
    ax.text(LEFT, 130, "A3 Book", fontsize=48, weight="bold", color=look["ink"], va="center")
    ax.text(LEFT, 215, "Any-order language models, step by step", fontsize=27, color=look["ink"], va="center")
    step = (WIDTH - 2 * LEFT + GAP) / len(cover.WORDS)
    for position, (word, group) in enumerate(zip(cover.WORDS, cover.GROUPS.tolist(), strict=True)):
        colour, x = cover.colour(group), LEFT + step * position
        corner = dict(boxstyle="round,pad=0,rounding_size=12", facecolor=colour, linewidth=0)
        ax.add_patch(FancyBboxPatch((x, 300), step - GAP, 100, **corner))
        middle = x + (step - GAP) / 2
        ax.text(middle, 350, word, fontsize=28, weight="bold", color=theme.ink(colour), ha="center", va="center")
        ax.text(middle, 435, f"group {group}", fontsize=18, color=look["muted"], ha="center", va="center")
    about = "Notebooks to run, figures to play with, and a model that writes in the page"
    ax.text(LEFT, 540, about, fontsize=20, color=look["muted"], va="center")
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    draw(CARD)
