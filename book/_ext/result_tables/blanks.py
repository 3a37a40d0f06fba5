"""The tables and the samples of blanks of unknown length, in book/decoding.md."""

from .common import plain, source, table

_WORDS = 15  # of the text on each side of a sample


def blanks(blanks: dict) -> str:
    """What it costs not to know how long a blank is, and how the fillings end."""
    alike = "95 % intervals over blanks; the nats more are paired. To draw the length first, all alike: {alike} nats."
    cost = table(
        "what stood there: {name} | blanks: {blanks} | tokens, mean: {tokens:.1f} "
        "| nats per token, length known: {known:.2f} | not known, with the end: {unknown:.2f} "
        "| nats more for a blank: {cost:.2f}",
        blanks["costs"],
        alike.format(**blanks),
    )
    shown = "how long a filling is: {name} | ended by itself, %: {ended:.0%} | tokens, mean: {tokens:.1f} "
    shown += "| tokens too many or too few: {off:.1f} | sentences that end as one, %: {closes[sentences]:.0%} "
    shown += "| clauses that end as one, %: {closes[clauses]:.0%}"
    about = "{filled} of these blanks, filled at temperature 1. Model: {model}."
    return f"{cost}\n\n{table(shown, blanks['ways'], source(blanks, about))}"


def blanks_samples(blanks: dict) -> str:
    """The first blanks, what stood there, and what each way puts there; none is chosen."""
    parts = []
    for number, blank in enumerate(blanks["blanks"][: blanks["shown"]]):
        before, behind = plain(blank["before"]).split(), plain(blank["behind"]).split()
        around = [" ".join(["…"] * (len(before) > _WORDS) + before[-_WORDS:]),
                  " ".join(behind[:_WORDS] + ["…"] * (len(behind) > _WORDS))]  # fmt: skip
        parts.append(f"{around[0]} **[...]** {around[1]}".strip() + f"\n- *what stood there* ({blank['tokens']}): "
                     f"{plain(blank['filled'])}")  # fmt: skip
        for name, way in blanks["ways"].items():
            whole = ", no end" if way["ended"] and not way["drawn_ends"][number] else ""
            parts[-1] += f"\n- {name} ({way['drawn'][number]}{whole}): {plain(way['texts'][number]) or '*nothing*'}"
    return "\n\n".join(parts)
