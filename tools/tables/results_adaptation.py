"""The tables of book/adaptation.md."""

from itertools import accumulate

import matplotlib.pyplot as plt

from benchmarks.adaptation import STAGES
from tools.tables.results_common import source, svg, table
from tools.tables.results_study import COLOURS, MARKERS
from tools.tables.results_tasks import found, not_yet, within

BASE = "base run"  # of the search
COLUMNS = ("left to right", "a sentence", "a sentence, 2 at a time", "a sentence, 4 at a time", "random order")


def adaptation_arms() -> str:
    """What each arm was trained on, and for how long."""
    result = found("adaptation")
    if result is None:
        return not_yet("adaptation")
    rows = [
        [name, one["kind"], one["rank"], f"{one['tokens']:,}", f"{one['steps']:,}", f"{one['seconds']:,.0f}"]
        for name, one in result["arms"].items()
    ]
    return table(["arm", "kind", "rank", "tokens", "steps", "seconds of training, all arms at once"], rows)


def adaptation_search() -> str:
    """Short runs that each change one choice, and shorter ones of other choices; differences from the first."""
    shorter = [searched(name) for name in ("adaptation_search_short",) if found(name)]
    return "\n\n".join([searched("adaptation_search"), *shorter])


def searched(name: str) -> str:
    result = found(name)
    if result is None:
        return not_yet(name)
    base = result["rows"][BASE]["nats"]
    rows = []
    for title, row in result["rows"].items():
        compared = title not in ("untouched", BASE)
        cells = [f"{row['nats'][c]:.2f}" + (f" ({row['nats'][c] - base[c]:+.2f})" if compared else "") for c in COLUMNS]
        rows.append([title, *(cell.replace("-", "−") for cell in cells)])
    return (
        f"{table(['run', *COLUMNS], rows)}\n\n{source(result)} Each run: {result['steps']} steps of "
        f"{result['batch_size']} rows of up to {result['length']} tokens, {result['precision']}, one seed; in brackets "
        f"the difference from the *{BASE}*."
    )


def adaptation_losses() -> str:
    """Held-out losses of the source and of every arm."""
    result = found("adaptation")
    if result is None:
        return not_yet("adaptation")
    rows = [[name, *(within(row.get(column), 2) for column in COLUMNS)] for name, row in result["losses"].items()]
    return (
        f"{table(['model', *COLUMNS], rows)}\n\n{source(result)} Nats per predicted token, 95 % intervals over rows: "
        f"{result['text']}."
    )


NAMES = {  # arm: what to call it, and the arm of the study whose colour it has
    "autoregressive": ("AR goes on (a sentence: its left side alone)", "ar"),
    "diffusion": ("masked diffusion (its bound)", "diffusion"),
    "a3": ("A3", "a3_paper"),
}


def adaptation_curves() -> str:
    """Held-out loss over training tokens, by arm, for three groupings."""
    curves = found("adaptation")["curves"]
    figure, axes = plt.subplots(1, 3, figsize=(11, 4))
    for ax, name in zip(axes, ("left to right", "a sentence", "random order"), strict=True):
        for arm, (label, like) in NAMES.items():
            curve = [line for line in curves.get(arm, ()) if name in line and line["step"]]
            if curve:
                tokens = [line["tokens"] / 1e6 for line in curve]
                look = {"color": COLOURS[like], "marker": MARKERS[like], "markersize": 4, "label": label}
                ax.plot(tokens, [line[name] for line in curve], **look)
        last = curves["a3"][-1]["tokens"] / 1e6
        shares = list(accumulate(stage.share for stage in STAGES))
        for share in shares[:-1]:
            ax.axvline(last * share / shares[-1], color="0.5", linestyle=":")
        ax.set(title=name, xlabel="training tokens, millions", ylabel="held-out loss, nats per token", xlim=(0, None))
    handles = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3)
    return svg(figure)
