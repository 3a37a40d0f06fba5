"""Groups and masks as pictures: the order of generation, and who may see whom."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor

from a3mini import groups, masks
from a3mini.notebook import theme
from a3mini.notebook.plots.style import (
    GIVEN_COLOUR,
    HIDDEN_COLOUR,
    PADDING_COLOUR,
    ink_on,
    show_once,
)


def group_colours(group_ids: Tensor) -> list:
    """One colour per position of ``group_ids`` (T,): grey given, white padding, else by the group's rank."""
    ranks = groups.relabel(group_ids).tolist()
    palette = theme.shades(max(ranks))
    named = {groups.GIVEN: GIVEN_COLOUR, groups.PADDING: PADDING_COLOUR}
    return [named[rank] if rank in named else palette[rank - 1] for rank in ranks]


def group_strip(group_ids: Tensor, tokens: Sequence[str] | None = None, title: str = "", ax=None) -> Figure:
    """The tokens in a row, each in the colour of its group, with the group's number below.

    Args:
        group_ids: int64, (T,).
        tokens: T strings; default: the positions.
    """
    length = len(group_ids)
    tokens = [str(i) for i in range(length)] if tokens is None else list(tokens)
    ours = ax is None
    if ours:
        _, ax = plt.subplots(figsize=(max(3.0, 0.62 * length), 1.25))
    for position, (colour, group, token) in enumerate(
        zip(group_colours(group_ids), group_ids.tolist(), tokens, strict=True)
    ):
        box = FancyBboxPatch((position - 0.42, 0.05), 0.84, 0.9, boxstyle="round,pad=0,rounding_size=0.12")
        box.set(facecolor=colour, edgecolor="#666666", linewidth=0.8)
        ax.add_patch(box)
        ink = "#6E6E6E" if group == groups.PADDING else ink_on(colour)  # nobody reads a token at padding
        ax.text(position, 0.5, token, ha="center", va="center", color=ink, fontsize=10)
        label = {groups.GIVEN: "given", groups.PADDING: "pad"}.get(group, str(group))
        ax.text(position, -0.25, label, ha="center", va="center", fontsize=9, color="#333333")
    ax.set(xlim=(-0.6, length - 0.4), ylim=(-0.5, 1.05), title=title)
    ax.axis("off")
    return show_once(ax.figure, ours)


def group_strips(groupings: dict[str, Tensor], tokens: Sequence[str] | None = None) -> Figure:
    """One ``group_strip`` below the other, each under its name.

    Args:
        groupings: name to group ids (T,), all of the same length.
        tokens: T strings; default: the positions.
    """
    length = len(next(iter(groupings.values())))
    size = (max(3.0, 0.72 * length), 1.05 * len(groupings))
    figure, axes = plt.subplots(len(groupings), 1, figsize=size, squeeze=False)
    for ax, (name, group_ids) in zip(axes.flat, groupings.items(), strict=True):
        group_strip(group_ids, tokens, ax=ax)
        ax.set_title(name, loc="left")
    return show_once(figure, True)


def mask(allowed: Tensor, group_ids: Tensor, tokens: Sequence[str] | None = None, title: str = "", ax=None) -> Figure:
    """One mask as a grid: a filled cell in row i, column j means that i may attend to j.

    Where there is room, each filled cell also shows the group of its column.

    Args:
        allowed: bool, (T, T), [row, column].
        group_ids: int64, (T,); colours the cells by the column's group.
        tokens: T strings; default: the positions.
    """
    length = len(group_ids)
    tokens = [str(i) for i in range(length)] if tokens is None else list(tokens)
    ours = ax is None
    if ours:
        size = max(2.6, 0.42 * length + 0.9)
        _, ax = plt.subplots(figsize=(size, size))
    shown = torch.where(allowed, torch.arange(1, length + 1), 0)  # the column's number, 0 if hidden
    colours = ListedColormap([HIDDEN_COLOUR, *group_colours(group_ids)])
    ax.imshow(shown.numpy(), cmap=colours, vmin=0, vmax=length, interpolation="nearest")
    cell = ax.get_window_extent().width / ax.figure.dpi * 72 / length  # points, before the layout is settled
    for row, column in (allowed & (group_ids >= 0)).nonzero().tolist() if cell > 11 else ():
        label, ink = str(int(group_ids[column])), ink_on(colours(column + 1))
        ax.text(column, row, label, ha="center", va="center", color=ink, fontsize=min(9.0, 0.55 * cell))
    for row, column in (allowed & (group_ids == groups.PADDING)).nonzero().tolist():  # white on white, else
        ax.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, edgecolor="#6E6E6E", hatch="////"))
    ax.set_xticks(range(length), tokens, rotation=90 if max(map(len, tokens)) > 2 else 0)
    ax.set_yticks(range(length), tokens)
    ax.set_xticks(np.arange(-0.5, length), minor=True)
    ax.set_yticks(np.arange(-0.5, length), minor=True)
    ax.grid(which="minor", color="white", linewidth=1.5)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    ax.set(xlabel="token that is seen (column)", ylabel="token that looks (row)", title=title)
    return show_once(ax.figure, ours)


def mask_grid(
    panels: Sequence[tuple[str, Tensor, Tensor]], columns: int = 2, crosses: Sequence[Tensor] | None = None
) -> Figure:
    """Many small masks without labels of their tokens: rows look, columns are seen.

    Args:
        panels: title, mask (T, T) bool, and group_ids (T,) of each.
        columns: panels per row.
        crosses: for each panel bool (T, T): cells to cross out; default: none.
    """
    lines = -(-len(panels) // columns)
    side = 6.4 / columns
    figure, axes = plt.subplots(lines, columns, figsize=(6.4, lines * (side + 0.3)), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for index, (ax, (title, allowed, group_ids)) in enumerate(zip(axes.flat, panels, strict=False)):
        ax.axis("on")
        mask(allowed, group_ids, title=title, ax=ax)
        ax.set(xlabel="", ylabel="", xticks=[], yticks=[])
        crossed = set(map(tuple, crosses[index].nonzero().tolist())) if crosses is not None else set()
        for text in [text for text in ax.texts if text.get_position()[::-1] in crossed]:
            text.remove()  # the cross takes the place of the number
        for row, column in crossed:
            for colour, width in (("white", 5), ("black", 2)):
                ax.plot(column, row, "x", color=colour, markersize=60 / len(group_ids), markeredgewidth=width)
    figure.supxlabel("token that is seen (column)", fontsize=10)
    figure.supylabel("token that looks (row)", fontsize=10)
    return show_once(figure, True)


def both_masks(group_ids: Tensor, tokens: Sequence[str] | None = None, title: str = "") -> Figure:
    """The tokens with their groups, and below them the content mask and the query mask side by side.

    Args:
        group_ids: int64, (T,).
        tokens: T strings; default: the positions.
    """
    length = len(group_ids)
    width = min(11.0, max(6.0, 0.9 * length))
    figure = plt.figure(figsize=(width, width / 2 + 1.5))
    grid = figure.add_gridspec(2, 2, height_ratios=(1, 0.42 * width))
    group_strip(group_ids, tokens, title, ax=figure.add_subplot(grid[0, :]))
    for column, (name, allowed) in enumerate(
        {
            "content mask:\nown and earlier groups": masks.content_mask(group_ids),
            "query mask:\nearlier groups only": masks.query_mask(group_ids),
        }.items()
    ):
        ax = figure.add_subplot(grid[1, column])
        mask(allowed, group_ids, tokens, name, ax=ax)
        if column:  # the rows are the same
            ax.set(ylabel="", yticklabels=[])
    return show_once(figure, True)
