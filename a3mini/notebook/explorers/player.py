"""The decoding player: replay what a decoding did, several ways on one timeline."""

import json
from collections.abc import Mapping

import torch
import traitlets

from a3mini import groups
from a3mini.decode.trace import ACTIONS, Trace
from a3mini.notebook.explorers.base import Explorer, bundle, stylesheet

UNITS = ("pass", "step", "token")
SPEEDS = ("slow", "normal", "fast")


def rounded(value: float) -> float:
    """Four decimals, or four significant digits where that is more."""
    return round(value, 4) if abs(value) >= 0.1 else float(f"{value:.4g}")


class DecodingPlayer(Explorer):
    """Traces of decodings, replayed without the model: what was written when, how likely it was, and what else was.

    Args:
        traces: by name, each a ``Trace`` or what ``Trace.to_json`` wrote (schema a3mini/trace, version 1).
        tokenizer: gives the tokens' texts; or these texts themselves, by token id. Not needed where every trace is
            JSON that has its texts.
        source: which model decoded what.
        row: which row of each trace.
        shown: names of the ways whose text is open at the start; default: the first two.
        unit: what one tick of the timeline is: a forward "pass", a "step" of the trace, or a "token".

    Attributes:
        clock: how many ticks have passed, or None for all, as at the start; follows what the reader does, as all below,
            and may be set.
        unit: as above.
        shown: as above.
        way: the name of the way whose details are shown.
        position: the position whose history is shown, or None: then what happened in this tick.
        speed: "slow", "normal" or "fast".

    Log-probabilities are rounded to four digits, the scores that positions were chosen by to three.

    Raises:
        TypeError: no traces by name.
        ValueError: no trace, a trace of another schema or version, a row that is not there, a token without text.
    """

    _esm = bundle("player")
    _css = stylesheet("player")
    summary = "An interactive figure: it replays, pass by pass, what several ways of decoding have written."
    traces = traitlets.List(traitlets.Dict()).tag(sync=True)
    texts = traitlets.Dict(help="The text of each token, by its id.").tag(sync=True)
    clock = traitlets.Int(None, allow_none=True).tag(sync=True)
    unit = traitlets.Enum(UNITS, "pass").tag(sync=True)
    shown = traitlets.List(traitlets.Unicode()).tag(sync=True)
    way = traitlets.Unicode().tag(sync=True)
    position = traitlets.Int(None, allow_none=True).tag(sync=True)
    speed = traitlets.Enum(SPEEDS, "normal").tag(sync=True)

    def __init__(
        self,
        traces: Mapping[str, Trace | str],
        tokenizer=None,
        *,
        source: str,
        row: int = 0,
        shown: list[str] | None = None,
        unit: str = "pass",
    ):
        if not isinstance(traces, Mapping):
            raise TypeError(f"traces must be a dict, name: trace; got {type(traces).__name__}")
        if not traces:
            raise ValueError("traces is empty; give at least one trace, by name")
        if unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}; got {unit!r}")
        names = list(traces)
        shown = names[:2] if shown is None else list(shown)
        if unknown := [name for name in shown if name not in traces]:
            raise ValueError(f"shown has {unknown[0]!r}, but the traces are {', '.join(map(repr, names))}")
        texts, runs, decode = {}, [], getattr(tokenizer, "decode", None)
        for name, trace in traces.items():
            run, its_texts = _read(name, trace, row, tokenizer if decode else None)
            runs.append(run)
            texts |= its_texts
        if decode is None and tokenizer is not None:
            texts |= {str(token): text for token, text in dict(tokenizer).items()}
        mentioned = set().union(*map(_tokens, runs))
        if missing := sorted(mentioned - {int(token) for token in texts}):
            raise ValueError(f"token {missing[0]} has no text; give the tokenizer of the model that decoded")
        super().__init__(
            traces=runs,
            texts={str(token): texts[str(token)] for token in sorted(mentioned)},
            shown=shown,
            way=(shown or names)[0],
            unit=unit,
            source=source,
        )


def _read(name: str, trace: Trace | str, row: int, tokenizer) -> tuple[dict, dict]:
    """One row as the module reads it, and the texts that came with it."""
    if not isinstance(trace, Trace | str):
        raise TypeError(f"{name!r} must be a Trace or its JSON; got {type(trace).__name__}")
    texts = {}
    try:
        if isinstance(trace, str):
            trace, texts = Trace.from_json(trace), json.loads(trace).get("texts", {})
        whole = json.loads(trace.to_json(tokenizer))
    except ValueError as error:
        raise ValueError(f"trace {name!r}: {error}") from error
    if not 0 <= row < len(trace.steps):
        raise ValueError(f"trace {name!r} has rows 0 to {len(trace.steps) - 1}; there is no row {row}")
    found = whole["rows"][row]
    for step in found["steps"]:
        if step["action"] not in ACTIONS:
            raise ValueError(f"trace {name!r} has the action {step['action']!r}; known are {', '.join(ACTIONS)}")
    run = {
        "name": name,
        "strategy": whole["strategy"],
        "settings": {key: value for key, value in whole["settings"].items() if key != "banned"},
        "length": found["length"],
        "passes": found["passes"],
        "known": list(zip(found["known"]["positions"], found["known"]["tokens"], strict=True)),
        "steps": [_slim(step) for step in found["steps"]],
    }
    if run["strategy"] == "generate":
        run["order"] = _order(run)
    return json.loads(json.dumps(run)), texts | whole.get("texts", {})


def _order(run: dict) -> str:
    """Which tokens were drawn together: "neighbours", "strided", far-apart ones, or "other" (one at a time, too)."""
    turn, unknown = torch.zeros(run["length"], dtype=torch.int64), torch.zeros(run["length"], dtype=torch.bool)
    for number, step in enumerate(run["steps"], start=1):
        unknown[step["positions"]] = True
        turn[step["positions"]] = number if step["action"] == "commit" else 0  # a text may end before its last position
    size = int(turn[turn > 0].bincount().max()) if turn.any() else 1
    for order, name in (("left_to_right", "neighbours"), ("strided", "strided")):
        if size > 1:
            expected = groups.infill(unknown, size, order).masked_fill(turn == 0, 0)
            if torch.equal(groups.relabel(turn), groups.relabel(expected)):
                return name
    return "other"


def _slim(step: dict) -> dict:
    step = dict(step)
    if "log_probs" in step:
        step["log_probs"] = [rounded(value) for value in step["log_probs"]]
    if "runners_up" in step:
        step["runners_up"] = [[[token, rounded(value)] for token, value in pairs] for pairs in step["runners_up"]]
    if "considered" in step:
        positions, scores = step["considered"]["positions"], step["considered"]["scores"]
        step["considered"] = [[at, float(f"{score:.3g}")] for at, score in zip(positions, scores, strict=True)]
    return step


def _tokens(run: dict) -> set[int]:
    """Every token that the run mentions."""
    found = {token for _, token in run["known"]}
    for step in run["steps"]:
        found.update(step.get("tokens", ()))
        found.update(token for pairs in step.get("runners_up", ()) for token, _ in pairs)
    return found
