"""The compact model and its twins, in book/compact.md: losses, what was aimed at, a judge, and unselected samples."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from a3mini.notebook import plots

from .common import fill, plain, source, table

_ARMS = {"a3": "A3", "ar": "AR", "diffusion": "masked diffusion"}
_LEFT, _RANDOM, _BOUND = "left to right", "random order", "random order (bound)"
_RIVALS = {  # what a rival can say of a way of A3's, by arm
    _LEFT: ("ar", _LEFT),
    _RANDOM: ("diffusion", _BOUND),
    "a span, both sides": ("ar", "a span, left side"),
    "a sentence, both sides": ("ar", "a sentence, left side"),
}
_LOOKS = {
    ("ar", _LEFT): dict(color=plots.OKABE_ITO[0], marker="o", linestyle="-"),
    ("diffusion", _BOUND): dict(color=plots.OKABE_ITO[1], marker="s", linestyle="-"),
    ("a3", _LEFT): dict(color=plots.OKABE_ITO[2], marker="^", linestyle="-"),
    ("a3", "strided 4"): dict(color=plots.OKABE_ITO[2], marker="v", linestyle="--"),
    ("a3", _RANDOM): dict(color=plots.OKABE_ITO[2], marker="d", linestyle=":"),
}


def _difference(compact: dict, text: str, first: tuple[str, str], second: tuple[str, str]) -> dict | None:
    return compact["differences"][text].get(f"{', '.join(first)} - {', '.join(second)}")


def compact_losses(compact: dict) -> str:
    """A3 in every way on held-out stories, and beside it what a twin can say."""
    text = compact["judged_text"]
    losses, rows = compact["losses"][text], []
    for way, loss in losses["a3"].items():
        arm, other = _RIVALS.get(way, ("a3", _LEFT))
        difference = _difference(compact, text, ("a3", way), (arm, other))
        rival = f"{_ARMS[arm]}, {other}" if difference else ""
        found = losses.get(arm, {}).get(other) if difference else None
        rows.append({"way": way, "a3": loss, "rival": rival, "loss": found, "difference": difference})
    columns = "A3 predicts: {way} | nats per token: {a3:.3f} | beside: {rival} | its nats per token: {loss:.3f} "
    columns += "| A3 has more: {difference:+.3f}"
    about = f"{compact['rows']} held-out rows of `{text}`; 95 % intervals over rows, differences paired. "
    about += "Masked diffusion has no likelihood of one order; what stands there is its bound. "
    return table(columns, rows, about + _trained(compact), source(compact))


def _trained(compact: dict) -> str:
    made = "{label} saw {tokens:,} tokens in {step:,} steps ({seconds:,.0f} s; {threads} threads, {precision})"
    arms = "; ".join(made.format(label=_ARMS[arm], **one) for arm, one in compact["arms"].items())
    return f"{arms}. {compact['arms']['a3']['hardware']}. {compact['weights']:,} weights each, but for the vector w."


def compact_texts(compact: dict) -> str:
    """The same for all texts, fewer ways."""
    rows = []
    for text, losses in compact["losses"].items():
        a3, row = losses["a3"], {"text": f"`{text}`"}
        row |= {"left": a3[_LEFT], "strided": a3["strided 4"], "random": a3[_RANDOM]}
        row |= {"ar": losses.get("ar", {}).get(_LEFT), "bound": losses.get("diffusion", {}).get(_BOUND)}
        rows.append(row)
    columns = (
        "held out: {text} | A3, left to right: {left:.2f} | AR: {ar:.2f} | A3, strided 4: {strided:.2f} "
        "| A3, random order: {random:.2f} | masked diffusion, its bound: {bound:.2f}"
    )
    return table(columns, rows, "Nats per token, with 95 % intervals over rows.")


def compact_aims(compact: dict) -> str:
    """What we aimed at before the training, and what came of it."""
    text, judged = compact["judged_text"], compact["judged"]
    left, four = (judged.get(f"a3, {way}", {}) for way in ("left to right 1", "strided 4"))
    found = {
        "left to right, nats more than the AR twin": (
            0.10, _difference(compact, text, ("a3", _LEFT), ("ar", _LEFT)), "{x:+.3f}"),
        "random order, nats more than the diffusion twin's bound": (
            0.0, _difference(compact, text, ("a3", _RANDOM), ("diffusion", _BOUND)), "{x:+.3f}"),
        "four strided tokens at a time, nats more than one": (
            0.10, _difference(compact, text, ("a3", "strided 4"), ("a3", _LEFT)), "{x:+.3f}"),
        "judge's perplexity, left to right": (40, left.get("perplexity"), "{x:.0f}"),
        "judge's perplexity, four strided tokens": (60, four.get("perplexity"), "{x:.0f}"),
        "8 bits instead of 16, nats more": (0.01, compact["rounding"]["more"][_LEFT], "{x:+.4f}"),
    }  # fmt: skip
    rows = []
    for what, (aim, value, spec) in found.items():
        if value is None:
            continue
        middle = value["mean"] if isinstance(value, dict) else value[0]
        rows.append(
            {"what": what, "aim": aim, "value": fill(spec, {"x": value}), "met": "yes" if middle <= aim else "no"}
        )
    return table("aim: {what} | at most: {aim:g} | reached: {value} | met: {met}", rows)


def _who(name: str) -> str:
    """ "ar, left to right 1" for readers; a text that no arm wrote keeps its name."""
    arm, _, way = name.partition(", ")
    return f"{_ARMS[arm]}, {way}" if way else name


def compact_judged(compact: dict) -> str:
    """Continuations of held-out stories before the judge."""
    judged = dict(compact["judged"])
    judge = judged.pop("judge")
    rows = []
    for name, one in judged.items():
        rows.append({"who": _who(name), **one})
    columns = (
        "who goes on, and how: {who} | judge's perplexity: {perplexity:.1f} "
        "| entropy of the words, bits: {entropy:.2f} | distinct pairs of words: {distinct_pairs:.2f}"
    )
    about = (
        f"{compact['texts']} held-out beginnings of {compact['given']} tokens, {compact['new']} more at temperature 1; "
        f"three seeds, mean ± half a 95 % interval over them. Judge: {judge}, which reads the beginning, too."
    )
    return table(columns, rows, about)


def compact_samples(compact: dict) -> str:
    """What each makes of beginnings of ours: the first try, none was chosen."""
    shown, parts = compact["samples"], []
    for number, beginning in enumerate(shown["beginnings"]):
        lines = [f"**{plain(beginning)}**\n"]
        for name, texts in shown["continuations"].items():
            lines.append(f"- *{_who(name)}*: {plain(_behind(texts[number], beginning))}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _behind(text: str, beginning: str) -> str:
    return "… " + text[len(beginning) :].strip() if text.startswith(beginning) else text


def compact_blanks_samples(compact: dict) -> str:
    """Blanks of which nobody says how long they are, filled: the first try, none was chosen."""
    lines = []
    for blank in compact["samples"]["blanks"]:
        before, behind = (plain(part).strip() for part in blank["text"].split("____"))
        end = "" if blank["ended"] else " *(used up its room)*"
        lines.append(
            f"- {before} **[{plain(blank['filled']).strip() or '*nothing*'}]**{end} {behind}".replace("-  ", "- ")
        )
    return "\n".join(lines)


def compact_curves(compact: dict) -> Figure:
    """Losses on all held-out texts over the tokens that were seen."""
    plots.use_style()
    figure, ax = plt.subplots(figsize=(8, 4.4))
    lowest = float("inf")
    for (arm, way), look in _LOOKS.items():
        curve = [line for line in compact["arms"].get(arm, {}).get("curve", ()) if way in line]
        if not curve:
            continue
        ax.plot([line["tokens"] / 1e6 for line in curve], [line[way] for line in curve], markersize=4,
                label=f"{_ARMS[arm]}, {way}", **look)  # fmt: skip
        lowest = min(lowest, *(line[way] for line in curve))
    ax.set(xlabel="tokens seen, millions", ylabel="held-out loss, nats per token", ylim=(lowest - 0.1, lowest + 2))
    ax.legend()
    return figure
