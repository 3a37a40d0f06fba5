"""Matplotlib figures of the notebooks; nothing in the core uses them.

The colours are those of ``theme``, which the interactive figures share. No figure relies on colour alone.
Figures keep a white ground, which the site changes in the dark theme. Every function returns the figure, so
a notebook cell that ends with a call shows it once. A function that draws on axes it was given leaves the
figure open: a cell with several such calls ends with ``plt.show()``.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor

from a3mini import groups, masks, runs
from a3mini.decode.trace import Trace
from a3mini.notebook import theme

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


def group_colours(group_ids: Tensor) -> list:
    """One colour per position of ``group_ids`` (T,): grey given, white padding, else by the group's rank."""
    ranks = groups.relabel(group_ids).tolist()
    palette = theme.shades(max(ranks))
    named = {groups.GIVEN: GIVEN_COLOUR, groups.PADDING: PADDING_COLOUR}
    return [named[rank] if rank in named else palette[rank - 1] for rank in ranks]


def _ink(colour) -> str:
    """Black or white, whichever reads better on ``colour``."""
    return theme.ink(to_hex(colour))


def _show_once(figure: Figure, ours: bool) -> Figure:
    """Close a figure of our own: a notebook then shows the returned one, and not the open one as well."""
    if ours:
        plt.close(figure)
    return figure


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
        ink = "#6E6E6E" if group == groups.PADDING else _ink(colour)  # nobody reads a token at padding
        ax.text(position, 0.5, token, ha="center", va="center", color=ink, fontsize=10)
        label = {groups.GIVEN: "given", groups.PADDING: "pad"}.get(group, str(group))
        ax.text(position, -0.25, label, ha="center", va="center", fontsize=9, color="#333333")
    ax.set(xlim=(-0.6, length - 0.4), ylim=(-0.5, 1.05), title=title)
    ax.axis("off")
    return _show_once(ax.figure, ours)


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
    return _show_once(figure, True)


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
        label, ink = str(int(group_ids[column])), _ink(colours(column + 1))
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
    return _show_once(ax.figure, ours)


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
    return _show_once(figure, True)


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
    return _show_once(figure, True)


def attention(weights: Tensor, tokens: Sequence[str], title: str = "", ax=None) -> Figure:
    """Attention weights of one head as a grid, darker = more.

    Args:
        weights: float, (T, T), [row, column]; rows sum to 1, or to 0 if they see nothing.
        tokens: T strings.
    """
    ours = ax is None
    if ours:
        size = max(3.0, 0.34 * len(tokens) + 1.2)
        _, ax = plt.subplots(figsize=(size, size))
    image = ax.imshow(weights.float().numpy(), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    ax.set_xticks(range(len(tokens)), tokens, rotation=90)
    ax.set_yticks(range(len(tokens)), tokens)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set(xlabel="token that is seen (column)", ylabel="token that looks (row)", title=title)
    ax.figure.colorbar(image, ax=ax, shrink=0.7, label="attention weight")
    return _show_once(ax.figure, ours)


def bars(values: dict[str, float], xlabel: str, title: str = "", reference: tuple[str, float] | None = None) -> Figure:
    """Horizontal bars with their values written out.

    Args:
        values: label to value, drawn from top to bottom.
        xlabel: the quantity and its unit.
        reference: a label and a value for a dashed line to compare with.
    """
    figure, ax = plt.subplots(figsize=(7, 0.45 * len(values) + 1.3))
    drawn = ax.barh(list(values), list(values.values()), color=OKABE_ITO[0])
    ax.bar_label(drawn, fmt="%.2f", padding=4)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    if reference is not None:
        ax.axvline(reference[1], color=OKABE_ITO[3], linestyle="--", label=f"{reference[0]}: {reference[1]:.2f}")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1))
    ax.set(xlabel=xlabel)
    figure.suptitle(title, fontsize=11)
    return _show_once(figure, True)


LINES, MARKERS = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))), "osD^vP*"


def look(number: int, markersize: float) -> dict:
    """Colour, dash and marker of a figure's line number ``number``: each alone tells it apart."""
    colour, dash, marker = (choice[number % len(choice)] for choice in (OKABE_ITO, LINES, MARKERS))
    return dict(color=colour, linestyle=dash, marker=marker, markersize=markersize)


def mark_stages(ax, stages: dict[str, float], length: float, fontsize: float = 9) -> None:
    """A line where each stage of a training ends, and its name above.

    Args:
        stages: name to the share of the training where the stage ends, in order.
        length: of the whole training, in the unit of the axis.
    """
    start = 0.0
    for name, end in stages.items():
        if end < 1:
            ax.axvline(end * length, color="#BBBBBB", linewidth=1)
        middle = ((start + end) / 2 * length, 1.01)
        ax.text(*middle, name, transform=ax.get_xaxis_transform(), ha="center", fontsize=fontsize, color="#555555")
        start = end


def loss_curves(
    metrics: Sequence[dict],
    names: Sequence[str] | None = None,
    references: dict[str, float] | None = None,
    stages: dict[str, float] | None = None,
    title: str = "",
    ax=None,
) -> Figure:
    """Held-out losses against the tokens of the training, one line for each grouping.

    Args:
        metrics: what ``train`` returns or ``runs.read_metrics`` reads; lines without an evaluation are skipped.
        names: the evaluations to draw; default: all that the lines hold.
        references: label to loss (nats per token), for dashed grey lines to compare with.
        stages: name of a stage of the curriculum to the share of the training where it ends, in order.
        ax: where to draw; default: a figure of its own.

    Raises:
        ValueError: the metrics hold no evaluation of that name, or none at all.
    """
    found = list(dict.fromkeys(key for line in metrics for key in line if key not in runs.LOGGED))
    names = found if names is None else list(names)
    unknown = [name for name in names if name not in found]
    if unknown or not names:
        raise ValueError(f"the metrics have no evaluation {', '.join(unknown)}; they have {', '.join(found) or 'none'}")
    ours = ax is None
    if ours:
        _, ax = plt.subplots(figsize=(8, 4))
    last = max(line["tokens"] for line in metrics)
    thousands = last < 2e6
    unit = 1e3 if thousands else 1e6
    for number, name in enumerate(names):
        points = [(line["tokens"] / unit, line[name]) for line in metrics if name in line]
        ax.plot(*zip(*points, strict=True), label=name, **look(number, 4))
    for label, value in (references or {}).items():
        ax.axhline(value, color="#777777", linestyle="--", linewidth=1)
        where = dict(xy=(1, value), xycoords=("axes fraction", "data"), xytext=(-2, 3), textcoords="offset points")
        ax.annotate(f"{label}: {value:.2f}", ha="right", color="#555555", fontsize=9, **where)
    mark_stages(ax, stages or {}, last / unit)
    ax.set(xlabel=f"training tokens, {'thousands' if thousands else 'millions'}")
    ax.set_ylabel("held-out loss, nats per token")
    ax.set_title(title, pad=18 if stages else 6)
    # outside, where there is room: no line and no label is hidden
    ax.legend(fontsize=9, **(dict(loc="center left", bbox_to_anchor=(1, 0.5)) if ours else {}))
    return _show_once(ax.figure, ours)


def lines(
    series: dict[str, dict[float, float]], xlabel: str, ylabel: str, title: str = "", log_x: bool = False, ax=None
) -> Figure:
    """One line with markers for each series; colour, dash and marker all tell them apart.

    Args:
        series: label to {x: y}, drawn in the order of x.
        xlabel, ylabel: the quantities and their units.
        log_x: a logarithmic axis of base 2 with a tick at each x.
        ax: where to draw; default: a figure of its own.
    """
    ours = ax is None
    if ours:
        _, ax = plt.subplots(figsize=(7, 3.8))
    for number, (label, points) in enumerate(series.items()):
        ax.plot(*zip(*sorted(points.items()), strict=True), label=label, **look(number, 5))
    if log_x:
        ticks = sorted({x for points in series.values() for x in points})
        ax.set_xscale("log", base=2)
        ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=9)
    return _show_once(ax.figure, ours)


def draft_and_target(p: Tensor, q: Tensor, words: Sequence[str], title: str = "") -> Figure:
    """Two distributions over one token: what they share is accepted, what the target has more is the residual.

    Args:
        p: (V,), the draft's distribution.
        q: (V,), the target's.
        words: V strings.
    """
    figure, ax = plt.subplots(figsize=(7, 3.6))
    shared, places = torch.minimum(p, q).numpy(), np.arange(len(words))
    parts = (
        ("min(p, q): accepted", shared, 0, OKABE_ITO[5], ""),
        ("p above q: rejected", (p - q).clamp(min=0).numpy(), shared, "white", "////"),
        ("q above p: the residual", (q - p).clamp(min=0).numpy(), shared, OKABE_ITO[1], "...."),
    )
    for label, height, bottom, colour, hatch in parts:
        look = dict(color=colour, edgecolor="black", hatch=hatch, linewidth=0.8)
        ax.bar(places, height, 0.6, bottom=bottom, label=label, **look)
    ax.set_xticks(places, words)
    ax.set(ylabel="probability", title=title)
    ax.legend(fontsize=9)
    return _show_once(figure, True)


def fill_orders(traces: dict[str, Trace], columns: int = 3) -> Figure:
    """Which positions are filled when, of the first row of each trace: positions across, steps down.

    Dark is filled in this step, light blue before, grey was there from the start. A cross marks a draft that was
    rejected, a ring a token that is taken out again.
    """
    lines = -(-len(traces) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(3.3 * columns, 2.7 * lines + 0.5), squeeze=False)
    looks = {"open": HIDDEN_COLOUR, "there from the start": "#C9C9C9", "filled before": "#9CCBEB"}
    looks["filled in this step"] = "#003A5D"
    for ax in axes.flat:
        ax.axis("off")
    for ax, (name, trace) in zip(axes.flat, traces.items(), strict=False):
        ax.axis("on")
        steps = trace.steps[0]
        known = torch.zeros(trace.length, dtype=torch.bool)
        known[list(trace.known[0])] = True
        shown = np.zeros((len(steps), trace.length))
        for number, step in enumerate(steps):
            there = trace.replay(number + 1)[0] >= 0
            shown[number] = torch.where(there, torch.where(known, 1, 2), 0).numpy()
            if step.action == "commit":
                shown[number, step.positions] = 3
            known[step.positions] = False
            mark = {"reject": "x", "reopen": "o"}.get(step.action)
            if mark:
                ax.plot(step.positions, [number + 1] * len(step.positions), mark, color="black", markerfacecolor="none")
        edges = (-0.5, trace.length - 0.5, len(steps) + 0.5, 0.5)
        colours = ListedColormap(list(looks.values()))
        ax.imshow(shown, cmap=colours, vmin=0, vmax=3, aspect="auto", interpolation="nearest", extent=edges)
        ax.yaxis.set_major_locator(plt.MaxNLocator(6, integer=True))
        ax.tick_params(labelsize=9)
        ax.spines[:].set(visible=True, color="#BBBBBB")
        ax.set_title(name, fontsize=10)
    figure.supxlabel("position", fontsize=10)
    figure.supylabel("step", fontsize=10)
    keys = [Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor="#999999") for colour in looks.values()]
    figure.legend(keys, list(looks), loc="outside upper center", ncols=4, fontsize=9)
    return _show_once(figure, True)


def against_passes(
    panels: dict[str, dict[str, dict[int, float]]],
    references: dict[str, tuple[str, float]] | None = None,
    limits: dict[str, tuple[float, float]] | None = None,
) -> Figure:
    """Quantities against the number of forward passes, one panel each, passes on a logarithmic scale.

    Args:
        panels: for each quantity (with its unit), name of a line to {passes: value}.
        references: for a quantity, a label and a value for a dotted line to compare with.
        limits: for a quantity, the lowest and highest value of its axis.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 4.1), squeeze=False)
    for ax, (quantity, lines) in zip(axes.flat, panels.items(), strict=True):
        for number, (name, points) in enumerate(lines.items()):
            ax.plot(*zip(*sorted(points.items()), strict=True), label=name, **look(number, 5))
        if references and quantity in references:
            label, value = references[quantity]
            ax.axhline(value, color="#555555", linestyle=(0, (1, 2)), label=label)
        passes = sorted({count for points in lines.values() for count in points})
        ax.set_xscale("log", base=2)
        ax.set_xticks(passes, [str(count) for count in passes])
        ax.set(xlabel="forward passes per text", ylabel=quantity)
        if limits and quantity in limits:
            ax.set_ylim(*limits[quantity])
    labels = dict(reversed(pair) for ax in axes.flat for pair in zip(*ax.get_legend_handles_labels(), strict=True))
    figure.legend(list(labels.values()), list(labels), loc="outside upper center", ncols=3, fontsize=9)
    return _show_once(figure, True)


def trade_off(
    lines: dict[str, dict[str, tuple[float, float]]],
    xlabel: str,
    ylabel: str,
    references: dict[str, tuple[float, float]] | None = None,
) -> Figure:
    """Two quantities against each other: a line for each way, a labelled point for each setting.

    Args:
        lines: name of a way to {setting: (x, y)}; the settings stand beside the points of the first line.
        references: label to (x, y) of single points to compare with.
    """
    figure, ax = plt.subplots(figsize=(7, 4.2))
    for number, (name, points) in enumerate(lines.items()):
        ax.plot(*zip(*points.values(), strict=True), label=name, **look(number, 6))
        for setting, point in points.items() if number == 0 else ():
            ax.annotate(setting, point, xytext=(4, -20), textcoords="offset points", fontsize=9)
    for label, point in (references or {}).items():
        ax.plot(*point, "*", color="black", markersize=13, linestyle="none", label=label)
    ax.margins(0.12)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(fontsize=9, loc="upper left")
    return _show_once(figure, True)
