"""The bounds explorer: as many tokens a pass as lose no more than a bound, beside texts in a fixed order."""

from collections.abc import Mapping, Sequence
from itertools import chain

import torch
import traitlets

from a3mini import groups, objective, pretrained
from a3mini.decode.dynamic import resample
from a3mini.decode.groupwise import Generation, generate
from a3mini.decode.trace import Trace
from a3mini.notebook.explorers.base import Explorer, bundle, stylesheet
from a3mini.train.tokens import encode

BEGINNING = "Once upon a time there was a little girl named"
BOUNDS = {1: (0.0, 2.0, 4.0, 8.0, 16.0), 8: (4.0, 8.0, 16.0)}  # nats, by the least distance
SIZES, NEW = (1, 2, 3, 4, 6), 48  # tokens at a time where the order was fixed before; tokens in all


class BoundsExplorer(Explorer):
    """Sets of the surest positions, as large as a bound allows; each pass, each token, and texts to compare with.

    Args:
        bounded: one text for each bound, and for each least distance if there are several: the ``Trace`` of a
            ``decode.resample`` with ``criterion="entropy"``, a ``bound``, no window, no shortlist, and ``considered``
            kept; and the loss of the text, nats per token.
        beside: by name, texts whose order was fixed before, or whose sets have a fixed size: the same, without a bound.
        tokenizer: gives the tokens' texts.
        source: which model decoded what, and which loss it is.

    All traces have one row each, and begin with the same known tokens.

    Attributes:
        bound: the bound of the text that is shown, nats; follows what the reader does, as all below, and may be set.
        apart: the least distance of two positions that are drawn together.
        clock: how many passes are done; more than there are: all.
        position: the position that is told about, or None.

    Entropies and losses are rounded to three decimals, probabilities to four digits.

    Raises:
        ValueError: no texts, a trace of another kind, two for the same bound, or traces that do not go together.
    """

    _esm = bundle("bounds")
    _css = stylesheet("bounds")
    summary = "An interactive figure: the tokens that are drawn together, for several bounds on what they may lose."
    bounded = traitlets.List(traitlets.Dict(), help="One for each text, by bound and distance.").tag(sync=True)
    beside = traitlets.List(traitlets.Dict(), help="The texts to compare with.").tag(sync=True)
    known = traitlets.List(help="Position and token of each that was there before.").tag(sync=True)
    texts = traitlets.Dict(help="The text of each token, by its id.").tag(sync=True)
    bound = traitlets.Float().tag(sync=True)
    apart = traitlets.Int().tag(sync=True)
    clock = traitlets.Int().tag(sync=True)
    position = traitlets.Int(None, allow_none=True).tag(sync=True)

    def __init__(
        self,
        bounded: Sequence[tuple[Trace, float]],
        beside: Mapping[str, Sequence[tuple[Trace, float]]],
        tokenizer,
        *,
        source: str,
    ):
        if not bounded:
            raise ValueError("bounded is empty; give at least one trace of decode.resample with a bound, and its loss")
        runs = sorted((_bounded(trace, loss) for trace, loss in bounded), key=lambda run: (run["apart"], run["bound"]))
        keys = [(run["bound"], run["apart"]) for run in runs]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"two traces have bound={key[0]:g} and apart={key[1]}; give one for each")
        others = [{"name": name, **_run(trace, loss)} for name, given in beside.items() for trace, loss in given]
        every = [trace for trace, _ in [*bounded, *(pair for given in beside.values() for pair in given)]]
        first, filled = every[0], [sorted(chain.from_iterable(run["positions"])) for run in [*runs, *others]]
        if any(trace.known != first.known for trace in every) or any(one != filled[0] for one in filled):
            raise ValueError("the traces must begin with the same known tokens, and fill the same positions")
        own = [run for run in runs if run["apart"] == runs[0]["apart"]]
        tokens = {*first.known[0].values()}.union(*(one for run in [*runs, *others] for one in run["tokens"]))
        super().__init__(
            bounded=runs,
            beside=others,
            known=[[at, token] for at, token in first.known[0].items()],
            texts={str(token): tokenizer.decode([token]) for token in sorted(tokens)},
            bound=runs[len(own) // 2]["bound"],
            apart=runs[0]["apart"],
            clock=len(filled[0]),
            source=source,
        )

    @classmethod
    def example(cls) -> "BoundsExplorer":
        """The compact model goes on from a beginning: the first text of each kind. A few seconds on one core."""
        model, tokenizer, name = pretrained.compact_model()
        prompt = [tokenizer.bos_token_id, *encode(tokenizer, [BEGINNING])[0]]
        length, given = len(prompt) + NEW, len(prompt)
        ids = torch.tensor([prompt + [0] * NEW])
        unknown = torch.arange(length)[None] >= given

        def drawn(way, *arguments, **more) -> tuple[Trace, float]:
            generator = torch.Generator().manual_seed(0)
            options = dict(generator=generator, banned=tokenizer.all_special_ids, runners_up=0)
            text: Generation = way(model, ids, *arguments, **options, **more)
            order = groups.left_to_right(length, given)[None]
            with torch.no_grad():
                return text.trace, -objective.log_likelihood(model, text.sequences, order).item() / NEW

        orders = {"far apart": groups.strided, "neighbours": groups.blocks}
        return cls(
            [
                drawn(resample, unknown, criterion="entropy", bound=bound, apart=apart)
                for apart, bounds in BOUNDS.items()
                for bound in bounds
            ],
            {
                name: [drawn(generate, make(length, size, given)[None]) for size in SIZES]
                for name, make in orders.items()
            },
            tokenizer,
            source=f"{name}, {NEW} tokens after “{BEGINNING}”, temperature 1, seed 0: the first text of each kind. "
            "Loss: that of the same model, from left to right.",
        )


def _bounded(trace: Trace, loss: float) -> dict:
    settings = trace.settings
    whole = settings.get("window") is None and settings.get("shortlist") is None
    if trace.strategy != "resample" or settings["criterion"] != "entropy" or settings["bound"] is None or not whole:
        raise ValueError(
            'each trace in bounded must be that of decode.resample with criterion="entropy", a bound, no window and no '
            f"shortlist; one is of {trace.strategy} with {settings}"
        )
    run = {"bound": float(settings["bound"]), "apart": settings["apart"], **_run(trace, loss)}
    run["asked"], run["entropies"] = [], []
    for step in trace.steps[0]:
        if step.considered is None:
            raise ValueError("a trace lacks what was considered; decode with considered=True")
        entropy = dict(zip(step.considered["positions"], (-score for score in step.considered["scores"]), strict=True))
        run["asked"].append([round(abs(value), 2) for value in entropy.values()])  # of all that is open, in order
        run["entropies"].append([round(abs(entropy[at]), 3) for at in step.positions])
    return run


def _run(trace: Trace, loss: float) -> dict:
    """One text: by pass, which positions were drawn, which tokens, and how likely they were."""
    if len(trace.steps) != 1:
        raise ValueError(f"each trace must have one row, got {len(trace.steps)}; use trace.row(number)")
    steps = trace.steps[0]
    if not steps or any(step.action != "commit" for step in steps):
        raise ValueError("each pass must fill something and end nothing; decode without a stop token")
    return {
        "loss": round(loss, 3),
        "positions": [step.positions for step in steps],
        "tokens": [step.tokens for step in steps],
        "chances": [[float(f"{torch.tensor(value).exp():.4g}") for value in step.log_probs] for step in steps],
    }
