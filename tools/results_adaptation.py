"""The tables of book/adaptation.md."""

from results_common import source, table
from results_tasks import found, not_yet, within

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
    return table(["arm", "kind", "rank", "tokens", "steps", "seconds of training, beside other jobs"], rows)


def adaptation_search() -> str:
    """Short runs that each change one choice; differences from the first."""
    result = found("adaptation_search")
    if result is None:
        return not_yet("adaptation_search")
    base = result["rows"]["as the arm"]["nats"]
    rows = []
    for name, row in result["rows"].items():
        compared = name not in ("untouched", "as the arm")
        cells = [f"{row['nats'][c]:.2f}" + (f" ({row['nats'][c] - base[c]:+.2f})" if compared else "") for c in COLUMNS]
        rows.append([name, *(cell.replace("-", "−") for cell in cells)])
    return (
        f"{table(['run', *COLUMNS], rows)}\n\n{source(result)} Each run: {result['steps']} steps, "
        f"{result['tokens']:,} tokens at most, one seed; in brackets the difference from *as the arm*."
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
