"""The tables and the figure about the warm start in book/adaptation.md, and about a GPU's step in book/scaling.md."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from a3mini.notebook import plots

from .common import across, measured, source, table

_TEXTS = {
    "tinystories_next4m_truecased": "TinyStories",
    "wikinews_en": "Wikinews",
    "gutenberg_children": "children's books",
}
_ARMS = {
    "warm": "A3, warm",
    "cold": "A3, cold",
    "diffusion": "masked diffusion",
    "autoregressive": "AR goes on",
    "warm_random": "A3, warm, random order alone",
}
_SHORT = (
    "left to right",
    "a sentence, both sides",
    *(f"strided {n}" for n in (2, 4, 8)),
    "2 neighbours",
    "random order",
)
_BOUND = "random order (bound)"


def query_start_untouched(query_start: dict) -> str:
    found = query_start["untouched"]
    columns = "order: {name} | from w: {cold:.2f} | warm: {warm:.2f} | the source, left side alone: {source:.2f}"
    rows = {name: {"source": None} | row for name, row in found["losses"].items()}
    about = "Untouched, {rows} rows of up to {length} tokens, 95 % intervals over rows. Model: {model}."
    return table(columns, rows, about.format(**found, length=query_start["length"]))


def query_start_adapted(query_start: dict) -> str:
    """The compact model, at the beginning, in the middle and at the end of its adaptation."""
    found = query_start["adapted"]
    rows = []
    for line in (found["curve"][number] for number in (0, 1, 2, -1)):
        losses = {f"{order} {name}": row[name] for order, row in line["losses"].items() for name in ("cold", "warm")}
        gains = {f"{order} gain": row["difference"] for order, row in line["losses"].items()}
        rows.append({"tokens": line["tokens"]} | losses | gains)
    orders = ("left to right", "a sentence, both sides", "far apart, 4 at a time", "random order")
    cell = "$, from w to warm: {$ cold:.2f} to {$ warm:.2f} ({$ gain:+.2f})"
    about = (
        "A compact model of the book's shape, which has {source:.2f} nats left to right after {source_steps} steps of "
        "ordinary training; {seeds} seeds; in brackets warm minus cold with its 95 % interval over seeds."
    ).format(**found)
    return table("tokens: {tokens:,} | " + across(cell, orders), rows, f"{about}\n\n{source(query_start)}")


def gpu_lab_losses(gpu_lab: dict) -> str:
    rows = []
    for text, title in _TEXTS.items():
        for arm in ("warm", "cold", "diffusion", "autoregressive"):
            losses = gpu_lab["losses"][arm][text]
            if _BOUND in losses:
                losses = {"random order": losses[_BOUND]}
            rows.append({"text": title, "arm": _ARMS[arm]} | dict.fromkeys(_SHORT) | losses)
    about = (
        "Nats per predicted token, {rows} held-out rows of up to {length} tokens of each text, 95 % intervals over "
        "rows. Diffusion's is its bound. All arms: {tokens:,} tokens, additions of rank {rank}, the same rows in the "
        "same order, learning rate 1e-3."
    ).format(**gpu_lab, tokens=gpu_lab["arms"]["warm"]["curve"][-1]["tokens"])
    return table("text: {text} | model: {arm} | " + across("$: {$:.2f}", _SHORT), rows, f"{about}\n\n{source(gpu_lab)}")


def gpu_lab_differences(gpu_lab: dict) -> str:
    """Differences paired by rows; below 0: the first is better."""
    names = {"warm - cold": "warm − cold", "warm - diffusion": "warm − diffusion", "warm - autoregressive": "warm − AR"}
    rows = [
        {"pair": shown, "text": _TEXTS[text]} | dict.fromkeys(_SHORT) | by
        for name, shown in names.items()
        for text, by in gpu_lab["differences"][name].items()
    ]
    return table("difference: {pair} | text: {text} | " + across("$: {$:+.3f}", _SHORT), rows)


def gpu_lab_curves(gpu_lab: dict) -> Figure:
    plots.use_style()
    looks = dict(zip(_ARMS, zip(plots.OKABE_ITO, "o^sDv", strict=False), strict=True))
    orders, text = ("left to right", "a sentence, both sides", "strided 4", "random order"), next(iter(_TEXTS))
    figure, axes = plt.subplots(1, len(orders), figsize=(12, 4))
    for ax, order in zip(axes, orders, strict=True):
        for arm, (colour, marker) in looks.items():
            curve = [(line["tokens"] / 1e6, line["losses"][text]) for line in gpu_lab["arms"][arm]["curve"][1:]]
            name = _BOUND if arm == "diffusion" and order == "random order" else order
            losses = [(tokens, by[name]) for tokens, by in curve if name in by]
            if losses:
                ax.plot(*zip(*losses, strict=True), color=colour, marker=marker, markersize=4, label=_ARMS[arm])
        title = "4 far apart at a time" if order == "strided 4" else order
        ax.set(title=title, xlabel="training tokens, millions", xscale="log")
        ax.set_xticks(*[[0.3, 0.6, 1.5, 3, 6]] * 2)
        ax.minorticks_off()
    axes[0].set_ylabel("held-out loss, nats per token")
    handles = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=5)
    return figure


def orders(orders: dict) -> str:
    """What the shipped adapters lose when tokens are drawn together."""
    rows = {}
    for name, system in orders["systems"].items():
        for title, row in system["losses"].items():
            rows.setdefault(title, {}).update({name: row["loss"], f"{name} more": row.get("more")})
    columns = "tokens together: {name} | " + across(
        "`$`: {$:.2f} | more than one at a time: {$ more:+.2f}", orders["systems"]
    )
    about = "Nats per predicted token, {rows} rows of up to {length} tokens, 95 % intervals over rows."
    return table(columns, rows, source(orders, about))


def gpu_step(gpu_step: dict) -> str:
    rows = {name: row for name, row in gpu_step["steps"].items() if isinstance(row, dict)}
    rows = {name: {"kernels": None, "waits": None, "busy": None} | row for name, row in rows.items()}
    for row in rows.values():
        row["share"] = row["share_of_peak"] * 100
        if "real_rows" in row:
            row["real"] = row["real_rows"] * 100
        if "busy_seconds" in row:
            row["busy"] = row["busy_seconds"] / row["seconds_per_step"] * 100
    needed = "rows that are needed, %: {real:.0f} | " if measured(["real"], rows.values()) else ""
    columns = (
        "step: {name} | tokens a second: {tokens_per_second:,} | share of the peak, %: {share:.1f} | "
        f"{needed}kernels: {{kernels:,}} | waits for the host: {{waits}} | GPU busy, %: {{busy:.0f}} "
        "| peak memory, GB: {peak_gb:.0f}"
    )
    return table(columns, rows, source(gpu_step))
