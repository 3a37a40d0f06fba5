"""The trade-off explorer: what each way of decoding gives, against what it costs."""

import json
import math
from pathlib import Path

import traitlets

from a3mini.notebook.explorers.base import Explorer, bundle, stylesheet

COSTS = ("passes", "ms_per_sample")
JUDGED = ("perplexity", "entropy", "distinct_pairs")
QUALITIES = ("perplexity", "own_loss", "entropy", "distinct_pairs")
AGAIN = "give it a result of `python benchmarks/tradeoff.py`"


class TradeOffExplorer(Explorer):
    """Quality against forward passes or milliseconds, and the best way of decoding within a budget.

    Args:
        results: a result of benchmarks/tradeoff.py. By ``strategies``: the family, tokens at a time, passes,
            milliseconds per sample, and (mean, half-width of the 95 % t interval over seeds) of each quality.
            The one without a family, if there is one, is real text.

    Attributes:
        x: "passes" or "ms_per_sample".
        y: "perplexity", "own_loss" (nats per token), "entropy" (bits) or "distinct_pairs" (share).
        hidden: the families that the reader has hidden.
        budgets: for each of the two costs, how much of it may be spent.
        selected: the name of the way whose record is shown, or "".

    Raises:
        ValueError: not such a result.
    """

    _esm = bundle("trade_off")
    _css = stylesheet("trade_off")
    summary = "An interactive figure: the quality of each way of decoding against its forward passes or its time."
    x = traitlets.Enum(COSTS, COSTS[0]).tag(sync=True)
    y = traitlets.Enum(QUALITIES, QUALITIES[0]).tag(sync=True)
    hidden = traitlets.List(traitlets.Unicode()).tag(sync=True)
    budgets = traitlets.Dict(traitlets.Float()).tag(sync=True)
    selected = traitlets.Unicode().tag(sync=True)
    ways = traitlets.List(traitlets.Dict(), help="one per strategy").tag(sync=True)
    reference = traitlets.Dict(help="the same for real text, or empty").tag(sync=True)
    setting = traitlets.Dict(help="samples, new_tokens, given, seeds").tag(sync=True)

    def __init__(self, results: dict):
        try:
            rows = {name: _row(name, row) for name, row in results["strategies"].items()}
            counts = {name: int(results[name]) for name in ("samples", "new_tokens", "given")}
            counts["seeds"] = len(results["seeds"])
            source = (
                f"{results['command']} on {results['date']}: {results['hardware']}, {results['threads']} threads. "
                f"Model: {results['model']}. Judge: {results['judge']}. {counts['samples']} samples for each of the "
                f"seeds {', '.join(map(str, results['seeds']))}; {counts['new_tokens']} tokens after {counts['given']} "
                "held-out ones."
            )
            for one in results.get("added", ()):
                source += f" Added on {one['date']} by {one['command']}: {', '.join(one['families'])}."
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"not a trade-off: {what}; {AGAIN}") from error
        ways = [row for row in rows.values() if "family" in row]
        others = [row for row in rows.values() if "family" not in row]
        if not ways or len(others) > 1:
            raise ValueError(f"not a trade-off: {len(ways)} ways of decoding, {len(others)} real texts; {AGAIN}")
        super().__init__(
            ways=ways,
            reference=others[0] if others else {},
            setting=counts,
            budgets={cost: _middle([way[cost] for way in ways]) for cost in COSTS},
            source=source,
        )

    @classmethod
    def from_file(cls, path: str | Path) -> "TradeOffExplorer":
        """The explorer of a JSON file; ValueError if it holds something else."""
        try:
            return cls(json.loads(Path(path).read_text(encoding="utf-8")))
        except ValueError as error:  # what json raises is one, too
            raise ValueError(f"{path}: {error}") from error


def _row(name: str, row: dict) -> dict:
    found = {"name": name}
    if "family" in row:
        found |= {"family": str(row["family"]), "size": int(row["tokens_per_step"])}
        found |= {cost: _number(f"{cost} of {name!r}", row[cost]) for cost in COSTS}
        for cost in COSTS:
            if found[cost] <= 0:
                raise ValueError(f"{cost} of {name!r} must be more than 0, got {found[cost]}")
    for quality in QUALITIES:
        mean, half = row["judged"][quality] if quality in JUDGED else row[quality]
        found[quality] = [_number(f"{quality} of {name!r}", number) for number in (mean, half)]
    if found["perplexity"][0] <= 0:
        raise ValueError(f"perplexity of {name!r} must be more than 0, got {found['perplexity'][0]}")
    return found


def _number(what: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{what} must be a finite number, got {value!r}")
    return value


def _middle(costs: list[float]) -> float:
    """The middle of a logarithmic axis."""
    return math.ceil(math.sqrt(min(costs) * max(costs)))
