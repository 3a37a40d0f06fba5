"""The tables and the figure of book/puzzles.md."""

import re

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from a3mini.notebook import plots

from .common import fill, measured, source, table

_LOOKS = {
    "autoregression": {"color": plots.OKABE_ITO[0], "marker": "o"},
    "masked diffusion": {"color": plots.OKABE_ITO[1], "marker": "s"},
    "A3, random order": {"color": plots.OKABE_ITO[2], "marker": "^"},
    "A3, left to right": {"color": plots.OKABE_ITO[3], "marker": "v"},
}
_ORDERS = (
    "left to right", "right to left", "random", "by confidence", "by confidence, 3 at a time", "bounded",
)  # fmt: skip
_SEVERAL = _ORDERS[-2:]  # fill several places at a time; a test asks the benchmark
_WATCHED = ("left to right", "by confidence")
_WIDE = 30  # points: half of an interval that is too wide to say anything


def _settings(puzzles: dict, task: str) -> dict[str, str]:
    """The settings of a task and of its puzzle, as the benchmark wrote them."""
    return dict(re.findall(r"(\w+)=(\w+)(?=[,)])", puzzles["tasks"][task]))


def _last(puzzles: dict, task: str) -> dict[str, dict]:
    """By arm, what the trained models did."""
    return {arm: curve[-1] for arm, curve in puzzles["curves"][task].items()}


def puzzles_setup(puzzles: dict) -> str:
    cells = {
        "model": "Llama, {wide} wide, {layers} layers, from scratch",
        "training": "{steps} steps of {batch} rows, {made}",
        "learning rate": "{rate}, the same for all arms",
        "held out": "{questions} questions",
        "seeds": "{seeds}: they choose weights, rows and orders",
    }
    puzzle = {
        "sudoku": "{size} × {size}, at most {blanks} empty cells; {held_out} of {grids} solved grids are held out",
        "sums": "two numbers of {digits} digits; one pair in seven is held out",
    }
    rows = [{"name": name} for name in ("puzzle", *cells)]
    for task in puzzles["curves"]:
        known = puzzles | _settings(puzzles, task)
        known |= {"wide": puzzles["shape"]["hidden_size"], "rate": puzzles["rate"][task]}
        known["made"] = "each drawn anew" if known.get("rows") == "None" else f"{known.get('rows')} different ones"
        for row, cell in zip(rows, (puzzle.get(task, ""), *cells.values()), strict=True):
            row[task] = cell.format(**known)
    return table(" | ".join(["what: {name}", *(f"{task}: {{{task}}}" for task in puzzles["curves"])]), rows)


def _share(last: dict, order: str) -> str:
    """The share with its interval; where that says nothing, since a seed has not learned it yet, that of each seed."""
    if 100 * last[order][1] > _WIDE and order in last.get("by_seed", ()):
        return ", ".join(f"{100 * share:.1f}" for share in last["by_seed"][order])
    return fill("{x:.1%}", {"x": last[order]})


def puzzles(puzzles: dict) -> str:
    """For each task a table: who gets how many answers right, by the order of filling."""
    found = []
    for task in puzzles["curves"]:
        rows = {}
        for arm, last in _last(puzzles, task).items():
            there = [order for order in _ORDERS if order in last]
            best = max(round(last[order][0], 3) for order in there)
            rows[arm] = {order: _share(last, order) for order in there}
            for order in there:
                if len(there) > 1 and round(last[order][0], 3) == best > 0:
                    rows[arm][order] = f"**{rows[arm][order]}**"
                if order in _SEVERAL:
                    rows[arm][f"steps, {order}"] = f"({last[order][2]:.1f})"
        columns = [
            f"{order} (steps): {{{order}}} {{steps, {order}}}" if order in _SEVERAL else f"{order}: {{{order}}}"
            for order in measured(_ORDERS, rows.values())
        ]
        found.append(table(" | ".join([f"{task}: {{name}}", *columns]), rows).strip())
    over = "seeds" if puzzles["seeds"] > 1 else "questions"
    single = ", ".join(
        f"{next(iter(_last(puzzles, task).values()))['left to right'][2]:.1f} ({task})" for task in puzzles["curves"]
    )
    about = f"Whole answers that are right, %, of {puzzles['questions']} held-out questions, with 95 % intervals over "
    about += f"{over}; where these are wider than ± {_WIDE}, the share of each seed instead. "
    about += f"**Bold**: the highest of its row. *Steps*: how many an answer takes; one at a time: {single}. "
    if puzzles["not_run"]:
        about += f"Not finished yet, so not in the table: {', '.join(puzzles['not_run'])}. "
    return "\n\n".join([*found, about + source(puzzles)])


def puzzles_curve(puzzles: dict) -> Figure:
    """Share of right answers over the training: a row of panels for each task, a panel for each order."""
    plots.use_style()
    tasks = list(puzzles["curves"])
    size = (10, 1 + 3.4 * len(tasks))
    figure, axes = plt.subplots(len(tasks), len(_WATCHED), figsize=size, squeeze=False, sharey=True)
    figure.get_layout_engine().set(h_pad=0.12)
    for row, task in zip(axes, tasks, strict=True):
        batch = int(_settings(puzzles, task)["batch"])
        for ax, order in zip(row, _WATCHED, strict=True):
            for arm, look in _LOOKS.items():
                curve = [line for line in puzzles["curves"][task].get(arm, ()) if order in line]
                if curve:
                    seen = [line["step"] * batch / 1000 for line in curve]
                    share, half = 100 * np.array([line[order][:2] for line in curve]).T
                    ax.plot(seen, share, markersize=5, label=arm, **look)
                    low, high = np.clip([share - half, share + half], 0, 100)
                    ax.fill_between(seen, low, high, color=look["color"], alpha=0.15, linewidth=0)
            ax.set(
                title=f"{task}, {order}", xlabel="training rows, thousands", ylabel="answers right, %", ylim=(-3, 103)
            )
            ax.set_xlim(0, None)
    handles = {label: line for ax in axes.flat for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=4)
    return figure
