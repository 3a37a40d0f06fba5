"""The tables and figures of book/study.md and book/adaptation.md, and the last table of book/paper_results.md."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from a3mini.notebook import plots

from .common import across, fill, measured, pairs, source, table

_ARMS = {
    "ar": "AR goes on",
    "diffusion": "masked diffusion",
    "a3_paper": "A3, three stages",
    "a3_stage3": "A3, stage 3 only",
    "a3_no_stage2": "A3, no stage 2",
    "a3_spans": "A3, with spans",
    "a3_official": "A3, the code's sizes",
    "ar_long": "AR, equal operations",
    "diffusion_long": "diffusion, equal operations",
}
_COLOURS = (*plots.OKABE_ITO[:6], "#555555", "#000000", "#000000")  # yellow lines are hard to see on white
_LOOKS = {
    arm: {"label": label, "color": colour, "marker": marker}
    for (arm, label), colour, marker in zip(_ARMS.items(), _COLOURS, "os^vD<>PX", strict=True)
}
_ADAPTED = {  # the arms of SmolLM2 look like those of the study
    "autoregressive": _LOOKS["ar"] | {"label": "AR goes on (a sentence: its left side alone)"},
    "diffusion": _LOOKS["diffusion"] | {"label": "masked diffusion (its bound)"},
    "a3": _LOOKS["a3_paper"] | {"label": "A3"},
}
_STAGES = (0.1, 0.2)  # where the second and the third stage of the adapted A3 begin; a test asks the benchmark
_GROUPINGS = (
    "left to right", "a sentence", "a sentence, 2 at a time", "a sentence, 4 at a time", "random order",
    "strided groups of 4",
)  # fmt: skip
_BASE = "base run"  # of the search


def _arms(study: dict, first: str = "") -> dict[str, dict]:
    """Each arm, by what it is called."""
    return {_ARMS[arm]: row for arm, row in study["arms"].items() if arm.startswith(first)}


def _nats(study: dict) -> list[dict]:
    return [row["nats"] for row in study["arms"].values()]


def study_setup(study: dict) -> str:
    more = {"corpora": " and ".join(study["texts"]), "runs": len(study["seeds"]), "million": study["parameters"] / 1e6}
    cells = {
        "model": "Llama, {million:.2f} million weights: {shape[hidden_size]} wide, {shape[num_hidden_layers]} layers, "
        "vocabulary {shape[vocab_size]}, tied",
        "text": "{corpora}, {training_text_tokens:,} tokens for training; one document in ten held out",
        "pretraining": "autoregressive, {pretraining[tokens]:,} tokens (several times over the text); then "
        "{pretraining[left to right]:.3f} nats per token left to right on the held-out rows",
        "adaptation": "{arms[ar][steps]} steps of {batch} rows of {length} tokens, highest learning rate "
        "{learning_rate}, bfloat16 mixed precision, no tuning per arm",
        "held out": "one row of {length} tokens from each of {held_out} documents",
        "seeds": "{runs}: they choose the rows' order, the groups and the masks",
    }
    return pairs("what", "how", {name: fill(cell, study | more) for name, cell in cells.items()}, source(study))


def study_losses(study: dict) -> str:
    names = ("left to right", "blocks of 4", "strided groups of 4", "random order", "random groups of 4", "a span")
    columns = "arm: {name} | " + across("$: {nats[$]:.2f}", measured((*names, "a sentence"), _nats(study)))
    bounds = {name: fill("{nats[diffusion bound]:.3f}", row) for name, row in _arms(study).items()}
    below = ", ".join(f"{name} {bound}" for name, bound in bounds.items() if bound)
    return table(columns, _arms(study), f"Diffusion bound, in the same unit: {below}.")


def tasks_curriculum(study: dict) -> str:
    """The arms that differ in the curriculum alone."""
    names = ("left to right", "a span", "a sentence", "blocks of 4", "random order", "strided groups of 4")
    columns = across("$: {nats[$]:.2f}", measured(names, _nats(study)))
    about = source(study, "Nats per token, lower is better.")
    return table("curriculum (ours): {name} | " + columns, _arms(study, "a3_"), about)


def study_differences(study: dict) -> str:
    rows = {}
    for row in study["differences"]:
        low, high = row["over_documents"]
        cell = fill("{mean:+.2f}", {"mean": [row["mean"], row["over_seeds"]]})
        certain = abs(row["mean"]) > row["over_seeds"] and low * high > 0
        pair = f"{_ARMS[row['first']]} − {_ARMS[row['second']]}"
        rows.setdefault(pair, {})[row["grouping"]] = f"**{cell}**" if certain else cell
    names = ("random order", "left to right", "a span", "a sentence", "blocks of 4", "random groups of 4")
    columns = measured((*names, "strided groups of 4"), rows.values())
    return table("difference: {name} | " + across("$: {$}", columns), rows)


def study_infilling(study: dict) -> str:
    return table(f"arm: {{name}} | right tokens in a blank of {study['blank']}, %: {{right:.1%}}", _arms(study))


def study_samples(study: dict) -> str:
    judge, rows = study["judged"].pop("judge"), {}
    for name, row in study["judged"].items():
        arm, *order = name.split(", ")
        rows[", ".join([_ARMS.get(arm, arm), *order])] = row
    columns = "text: {name} | perplexity under the judge: {perplexity:.0f} | entropy of words, bits: {entropy:.2f} "
    columns += "| distinct pairs: {distinct_pairs:.2f}"
    below = f"The judge is {judge}. {len(study['seeds'])} times {study['samples']} rows of {study['length']} tokens "
    return table(columns, rows, below + "for each line; mean and 95 % interval over seeds.")


def study_compute(study: dict) -> str:
    rows = {_ARMS[arm]: row | {"arm": arm.removesuffix("_long")} for arm, row in study["arms"].items()}
    for row in rows.values():
        row["ratio"] = row["teraflops"] / study["arms"]["ar"]["teraflops"]
        row["millions"], row["ms"] = row["tokens"] / 1e6, 1e3 * study["step_seconds"][row["arm"]]
    return table(
        "arm: {name} | steps: {steps} | tokens, millions: {millions:.2f} | operations, trillions: {teraflops:.1f} "
        "| against AR: {ratio:.2f} | a step alone, ms: {ms:.0f} "
        "| training beside another arm, s: {train_seconds:.0f}",
        rows,
    )


def _panels(curves: dict[str, list[dict]], names: tuple[str, ...], looks: dict[str, dict], size: tuple) -> Figure:
    """Held-out loss over training tokens: a panel for each name, a line for each arm, a band for its interval."""
    plots.use_style()
    figure, axes = plt.subplots(1, len(names), figsize=size)
    for ax, name in zip(axes, names, strict=True):
        for arm, look in looks.items():
            curve = [line for line in curves.get(arm, ()) if name in line and line["step"]]
            if curve:
                tokens = [line["tokens"] / 1e6 for line in curve]
                mean, *width = np.array([line[name] for line in curve]).reshape(len(curve), -1).T
                ax.plot(tokens, mean, markersize=4, **look)
                for half in width:
                    ax.fill_between(tokens, mean - half, mean + half, color=look["color"], alpha=0.15, linewidth=0)
        ax.set(title=name, xlabel="training tokens, millions", ylabel="held-out loss, nats per token")
    handles = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3)
    return figure


def study_curves(study: dict) -> Figure:
    curves = {arm: row["curve"] for arm, row in study["arms"].items() if not arm.endswith("_long")}
    return _panels(curves, ("random order", "left to right"), _LOOKS, (10, 4.4))


def study_tradeoff(study: dict) -> Figure:
    """Any order against left to right: the path of each A3 arm, and where masked diffusion ends."""
    plots.use_style()
    both, (figure, ax) = ("left to right", "random order"), plt.subplots(figsize=(7, 4.8))
    for arm, row in study["arms"].items():
        path = [[line[name][0] for name in both] for line in row["curve"] if {*both} <= line.keys() and line["step"]]
        if path:
            ax.plot(*zip(*path, strict=True), markersize=4, **_LOOKS[arm])
            ax.plot(*path[-1], markersize=10, **_LOOKS[arm] | {"label": None})
        elif arm == "diffusion":
            ax.plot(*(row["nats"][name][0] for name in both), markersize=10, linestyle="none", **_LOOKS[arm])
    ax.axvline(study["arms"]["ar"]["nats"]["left to right"][0], color="0.4", linestyle="--", label=_ARMS["ar"])
    ax.set(xlabel="left to right, nats per token", ylabel="random order, nats per token")
    ax.legend(fontsize=9)
    return figure


def adaptation_arms(adaptation: dict) -> str:
    columns = "arm: {name} | kind: {kind} | rank: {rank} | tokens: {tokens:,} | steps: {steps:,}"
    return table(f"{columns} | seconds of training, all arms at once: {{seconds:,.0f}}", adaptation["arms"])


def adaptation_losses(adaptation: dict) -> str:
    names = measured(_GROUPINGS, adaptation["losses"].values())
    about = source(adaptation, "Nats per predicted token, 95 % intervals over rows: {text}.")
    return table("model: {name} | " + across("$: {$:.2f}", names), adaptation["losses"], about)


def adaptation_curves(adaptation: dict) -> Figure:
    figure = _panels(adaptation["curves"], ("left to right", "a sentence", "random order"), _ADAPTED, (11, 4))
    for ax in figure.axes:
        for share in _STAGES:
            ax.axvline(share * adaptation["curves"]["a3"][-1]["tokens"] / 1e6, color="0.5", linestyle=":")
        ax.set_xlim(0, None)
    return figure


def adaptation_search(adaptation_search: dict) -> str:
    """Runs that each change one choice, and their differences from the base run."""
    losses = {name: row["nats"] for name, row in adaptation_search["rows"].items()}

    def cell(name: str, grouping: str) -> str:
        minus = losses[name][grouping] - losses[_BASE][grouping]
        bracket = "" if name in ("untouched", _BASE) else f" ({minus:+.2f})"
        return f"{losses[name][grouping]:.2f}{bracket}".replace("-", "−")

    names = measured(_GROUPINGS, losses.values())
    rows = {name: {grouping: cell(name, grouping) for grouping in names} for name in losses}
    about = "Each run: {steps} steps of {batch_size} rows of up to {length} tokens, {precision}, one seed; in brackets "
    about += f"the difference from the *{_BASE}*."
    return table("run: {name} | " + across("$: {$}", names), rows, source(adaptation_search, about))


def adaptation_search_short(adaptation_search_short: dict) -> str:
    """Shorter runs, of other choices."""
    return adaptation_search(adaptation_search_short)
