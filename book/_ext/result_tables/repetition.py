"""Repetition, in book/study.md: who overfits when the same text comes again, and when."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from a3mini.notebook import plots

from .common import source, table

_WAYS = ("left to right", "random order")
_LOOKS = {
    "autoregression": {"label": "AR", "color": plots.OKABE_ITO[0], "marker": "o"},
    "masked diffusion": {"label": "masked diffusion (its bound)", "color": plots.OKABE_ITO[1], "marker": "s"},
    "A3": {"label": "A3", "color": plots.OKABE_ITO[2], "marker": "^"},
}
_PARTS = {"held out": {"linestyle": "-"}, "trained on": {"linestyle": "--", "markerfacecolor": "none", "label": None}}


def repetition(repetition: dict) -> str:
    arms, rows = repetition["arms"], []
    for way in _WAYS:
        for arm, look in _LOOKS.items():
            if best := arms.get(arm, {}).get("best", {}).get(way):
                passes = ", ".join(map(str, best["passes"]))
                rows.append({**arms[arm], "arm": look["label"], "way": way, "best": best, "passes": passes})
    columns = (
        "predicted: {way} | arm: {arm} | lowest held-out loss: {best[loss]:.3f} | after passes: {passes} "
        "| at the end: {best[end]:.3f} | risen by: {best[rise]:+.3f} | on rows trained on, then: {best[seen]:.3f} "
        "| training, s: {training_seconds:,.0f} | operations against AR: {operations:.2f}"
    )
    about = (
        "Nats per predicted token. One pass: {text_tokens:,} tokens in {text_rows:,} rows of up to {length}; {passes} "
        "passes in steps of {batch} rows; {rows} held-out rows, half of each text. Model: {shape[hidden_size]} wide, "
        "{shape[num_hidden_layers]} layers, vocabulary {vocabulary:,} (the dial is *{dial}*). Learning rate: {rates}, "
        "constant after {warmup} steps. Seeds: {seeds}; with more than one, means with 95 % intervals over them, and "
        "the pass of each. Text: {text}."
    ).format(**repetition | {"rates": _rates(arms)})
    if repetition["not_run"]:
        about += f" Not run: {', '.join(repetition['not_run'])}."
    return table(columns, rows, f"{about}\n\n{source(repetition)}")


def _rates(arms: dict[str, dict]) -> str:
    rates = {arm: f"{found['rate']:g}" for arm, found in arms.items()}
    if len(set(rates.values())) == 1:
        return f"{next(iter(rates.values()))} for all"
    return ", ".join(f"{_LOOKS[arm]['label']} {rate}" for arm, rate in rates.items())


def repetition_curves(repetition: dict) -> Figure:
    """Held-out loss over passes, a panel for each way; dashed, that on rows which are trained on."""
    plots.use_style()
    figure, axes = plt.subplots(1, len(_WAYS), figsize=(10, 4.4), sharey=True)
    for ax, way in zip(axes, _WAYS, strict=True):
        for arm, look in _LOOKS.items():
            curve = [line for line in repetition["arms"].get(arm, {}).get("curve", ()) if way in line["held out"]]
            passes = [line["passes"] for line in curve]
            for part, style in _PARTS.items() if curve else ():
                middle, *width = np.array([line[part][way] for line in curve]).reshape(len(curve), -1).T
                ax.plot(passes, middle, markersize=4, **look | style)
                for half in width:
                    ax.fill_between(passes, middle - half, middle + half, color=look["color"], alpha=0.15, linewidth=0)
        ax.set(title=way, xlabel="passes over the text", ylabel="nats per token")
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:.0f}")
    handles = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3)
    return figure
