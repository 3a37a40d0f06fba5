"""Losses, costs and orders of decoding as charts."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from a3mini import runs
from a3mini.decode.trace import Trace
from a3mini.notebook.plots.style import (
    HIDDEN_COLOUR,
    OKABE_ITO,
    show_once,
)


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
    return show_once(figure, True)


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
    return show_once(ax.figure, ours)


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
    return show_once(ax.figure, ours)


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
    return show_once(figure, True)


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
    return show_once(figure, True)


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
    return show_once(figure, True)


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
    return show_once(figure, True)
