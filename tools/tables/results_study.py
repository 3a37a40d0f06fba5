"""The tables and figures of book/study.md."""

import matplotlib.pyplot as plt

from a3mini.notebook import plots
from tools.tables.results_common import NARROW, load, plus_minus, source, svg, table, tight

ARMS = {
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


# yellow lines are hard to see on white
COLOURS = dict(zip(ARMS, (*plots.OKABE_ITO[:6], "#555555", "#000000", "#000000"), strict=True))
MARKERS = dict(zip(ARMS, "os^vD<>PX", strict=True))


def study_setup() -> str:
    result = load("study")
    shape, start = result["shape"], result["pretraining"]
    rows = [
        ["model", f"Llama, {result['parameters'] / 1e6:.2f} million weights: {shape['hidden_size']} wide, "
                  f"{shape['num_hidden_layers']} layers, vocabulary {shape['vocab_size']}, tied"],
        ["text", f"{' and '.join(result['texts'])}, {result['training_text_tokens']:,} tokens for training; "
                 "one document in ten held out"],
        ["pretraining", f"autoregressive, {start['tokens']:,} tokens (several times over the text); "
                        f"then {start['left to right']:.3f} nats per token left to right on the held-out rows"],
        ["adaptation", f"{result['arms']['ar']['steps']} steps of {result['batch']} rows of {result['length']} tokens, "
                       f"highest learning rate {result['learning_rate']}, bfloat16 mixed precision, no tuning per arm"],
        ["held out", f"one row of {result['length']} tokens from each of {result['held_out']} documents"],
        ["seeds", f"{len(result['seeds'])}: they choose the rows' order, the groups and the masks"],
    ]  # fmt: skip
    return f"{table(['what', 'how'], rows)}\n\n{source(result)}"


def study_losses() -> str:
    result = load("study")
    columns = ["left to right", "blocks of 4", "random order", "random groups of 4", "a span", "a sentence"]
    rows = [[ARMS[arm], *(tight(row["nats"].get(name)) for name in columns)] for arm, row in result["arms"].items()]
    bounds = ", ".join(
        f"{ARMS[arm]} {plus_minus(row['nats']['diffusion bound'])}"
        for arm, row in result["arms"].items()
        if "diffusion bound" in row["nats"]
    )
    return f"{table(['arm', *columns], rows)}\n\nDiffusion bound, in the same unit: {bounds}."


def study_differences() -> str:
    columns = ["random order", "left to right", "a span", "a sentence", "blocks of 4", "random groups of 4"]
    rows = {}
    for row in load("study")["differences"]:
        low, high = row["over_documents"]
        cell = f"{row['mean']:+.2f} ± {row['over_seeds']:.2f}".replace(" ", NARROW).replace("-", "−")
        certain = abs(row["mean"]) > row["over_seeds"] and low * high > 0
        pair = f"{ARMS[row['first']]} − {ARMS[row['second']]}"
        rows.setdefault(pair, {})[row["grouping"]] = f"**{cell}**" if certain else cell
    return table(
        ["difference", *columns], [[pair, *(row.get(name, "") for name in columns)] for pair, row in rows.items()]
    )


def study_infilling() -> str:
    result = load("study")
    rows = [[ARMS[arm], plus_minus([100 * value for value in row["right"]], 1)] for arm, row in result["arms"].items()]
    return table(["arm", f"right tokens in a blank of {result['blank']}, %"], rows)


def study_samples() -> str:
    result = load("study")
    judged = dict(result["judged"])
    judge = judged.pop("judge")
    rows = []
    for name, row in judged.items():
        arm, _, order = name.partition(", ")
        label = f"{ARMS[arm]}, {order}" if arm in ARMS else name
        rows.append(
            [
                label,
                plus_minus(row["perplexity"], 0),
                *(plus_minus(row[name], 2) for name in ("entropy", "distinct_pairs")),
            ]
        )
    header = ["text", "perplexity under the judge", "entropy of words, bits", "distinct pairs"]
    samples = f"{len(result['seeds'])} times {result['samples']} rows of {result['length']} tokens for each line"
    return f"{table(header, rows)}\n\nThe judge is {judge}. {samples}; mean and 95 % interval over seeds."


def study_compute() -> str:
    result = load("study")
    seconds = result["step_seconds"]
    rows = [
        [
            ARMS[arm],
            row["steps"],
            f"{row['tokens'] / 1e6:.2f}",
            f"{row['teraflops']:.1f}",
            f"{row['teraflops'] / result['arms']['ar']['teraflops']:.2f}",
            f"{1e3 * seconds[arm.removesuffix('_long')]:.0f}",
            plus_minus(row["train_seconds"], 0),
        ]
        for arm, row in result["arms"].items()
    ]
    header = [
        "arm",
        "steps",
        "tokens, millions",
        "operations, trillions",
        "against AR",
        "a step alone, ms",
        "training beside another arm, s",
    ]
    return table(header, rows)


def study_curves() -> str:
    """Held-out loss over training tokens, in random order and left to right."""
    result = load("study")
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4))
    for ax, name in zip(axes, ("random order", "left to right"), strict=True):
        for arm in result["arms"]:
            curve = [line for line in result["arms"][arm]["curve"] if name in line and line["step"]]
            if not curve or arm.endswith("_long"):
                continue
            tokens = [line["tokens"] / 1e6 for line in curve]
            mean, width = zip(*(line[name] for line in curve), strict=True)
            colour = COLOURS[arm]
            ax.plot(tokens, mean, marker=MARKERS[arm], markersize=4, color=colour, label=ARMS[arm])
            low, high = ([m + s * w for m, w in zip(mean, width, strict=True)] for s in (-1, 1))
            ax.fill_between(tokens, low, high, color=colour, alpha=0.15, linewidth=0)
        ax.set(title=name, xlabel="training tokens, millions", ylabel="held-out loss, nats per token")
    handles = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3)
    return svg(figure)


def study_tradeoff() -> str:
    """Any order against left to right: the path of each A3 arm, and where masked diffusion ends."""
    result = load("study")
    figure, ax = plt.subplots(figsize=(7, 4.8))
    for arm, row in result["arms"].items():
        colour = COLOURS[arm]
        path = [line for line in row["curve"] if {"left to right", "random order"} <= line.keys() and line["step"]]
        if path:
            across, up = ([line[name][0] for line in path] for name in ("left to right", "random order"))
            ax.plot(across, up, color=colour, marker=MARKERS[arm], markersize=4, label=ARMS[arm])
            ax.plot(across[-1], up[-1], color=colour, marker=MARKERS[arm], markersize=10)
        elif arm == "diffusion":
            ends = [row["nats"][name][0] for name in ("left to right", "random order")]
            ax.plot(*ends, color=colour, marker=MARKERS[arm], markersize=10, linestyle="none", label=ARMS[arm])
    ax.axvline(result["arms"]["ar"]["nats"]["left to right"][0], color="0.4", linestyle="--", label=ARMS["ar"])
    ax.set(xlabel="left to right, nats per token", ylabel="random order, nats per token")
    ax.legend(fontsize=9)
    return svg(figure)
