"""The attention viewer: what the rows of both streams look at, head by head."""

from collections.abc import Mapping, Sequence

import torch
import traitlets
from torch import Tensor

from a3mini import groups, masks
from a3mini.model import A3ForCausalLM
from a3mini.notebook.explorers.base import Explorer, bundle, stylesheet

MEAN = -1  # as a head: the mean of all heads
STEPS = 4095  # a weight is stored as a whole number of these: two digits of six bits
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
MEASURES = ("before", "after", "own", "first", "right", "entropy")
ROUNDING = 0.01  # how far a row may be from summing to 1: a model in bfloat16 is


class AttentionViewer(Explorer):
    """The attention weights of both streams, of every layer and head, for one sentence in one or several groupings.

    ``AttentionViewer.of`` computes the weights; this constructor takes them from anywhere.

    Args:
        tokens: T strings.
        groupings: name to (group ids, content weights, query weights): int64, (T,), and twice
            (layers, heads, T, T), [row, column], each row summing to 1, or to 0 if it may see nothing.
        source: which model and which sentence.
        layer, head: with which to begin, counted from 0; head -1 is the mean of all heads.
        row: the position that looks at first; the last one unless told.

    Attributes:
        grouping, layer, head, row: what is shown; follow what the reader does, and may be set.
        measure: what the numbers under the small pictures say: one of "before", "after", "own", "first", "right",
            "entropy".

    Weights of the page are within 0.00013 of those given. A page holds two characters for each weight that the masks
    allow.

    Raises:
        ValueError: shapes that do not fit, weights that are no attention of these groups, a layer, head or row that
            is not there.
    """

    _esm = bundle("attention")
    _css = stylesheet("attention")
    summary = "An interactive figure: the attention of the content stream and of the query stream, head by head."
    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    groupings = traitlets.List(traitlets.Dict()).tag(sync=True)
    layers = traitlets.Int().tag(sync=True)
    heads = traitlets.Int().tag(sync=True)
    grouping = traitlets.Unicode().tag(sync=True)
    layer = traitlets.Int().tag(sync=True)
    head = traitlets.Int().tag(sync=True)
    row = traitlets.Int().tag(sync=True)
    measure = traitlets.Enum(MEASURES, default_value="before").tag(sync=True)

    def __init__(
        self,
        tokens: Sequence[str],
        groupings: Mapping[str, tuple[Tensor, Tensor, Tensor]],
        source: str,
        layer: int = 0,
        head: int = 0,
        row: int = -1,
    ):
        tokens = list(tokens)
        if not groupings:
            raise ValueError("groupings is empty: give at least one name with its group ids and weights")
        layers, heads = next(iter(groupings.values()))[1].shape[:2]
        packed = []
        for name, (group_ids, content, query) in groupings.items():
            group_ids = groups.check(torch.as_tensor(group_ids), f"group_ids of {name!r}")
            if group_ids.shape != (len(tokens),):
                raise ValueError(
                    f"group_ids of {name!r} must have one number per token, ({len(tokens)},), "
                    f"got {tuple(group_ids.shape)}"
                )
            group_ids = groups.relabel(group_ids)
            streams = {"content": (content, masks.content_mask), "query": (query, masks.query_mask)}
            shape = (layers, heads, len(tokens), len(tokens))
            packed.append(
                {"name": name, "group_ids": group_ids.tolist()}
                | {
                    stream: _pack(weights, mask(group_ids), shape, f"{stream} weights of {name!r}")
                    for stream, (weights, mask) in streams.items()
                }
            )
        row = len(tokens) - 1 if row == -1 else row
        for what, value, low, high in (
            ("layer", layer, 0, layers),
            ("head", head, MEAN, heads),
            ("row", row, 0, len(tokens)),
        ):
            if not low <= value < high:
                raise ValueError(f"{what} must be from {low} to {high - 1}, got {value}")
        super().__init__(
            tokens=tokens,
            groupings=packed,
            layers=layers,
            heads=heads,
            grouping=packed[0]["name"],
            layer=layer,
            head=head,
            row=row,
            source=source,
        )

    @classmethod
    def of(
        cls,
        model: A3ForCausalLM,
        tokens,
        input_ids: Tensor,
        groupings: Mapping[str, Tensor],
        source: str,
        **begin: int,
    ) -> "AttentionViewer":
        """The attention of ``model`` on one sentence, once for each grouping.

        Args:
            tokens: T strings, or a tokenizer that decodes the ids one by one.
            input_ids: int64, (T,) or (1, T).
            groupings: name to group ids, int64, (T,) or (1, T).
            source: which model and which sentence.
            begin: ``layer``, ``head`` and ``row`` with which to begin.
        """
        input_ids = torch.as_tensor(input_ids)
        if input_ids.dim() == 2 and len(input_ids) == 1:
            input_ids = input_ids[0]
        if input_ids.dim() != 1:
            raise ValueError(f"input_ids must be one sentence, (T,) or (1, T), got {tuple(input_ids.shape)}")
        if hasattr(tokens, "decode"):
            tokens = [tokens.decode([token]) for token in input_ids.tolist()]
        found = {}
        for name, group_ids in groupings.items():
            group_ids = torch.as_tensor(group_ids).reshape(1, -1)
            with torch.no_grad():
                out = model(input_ids[None].to(model.device), group_ids.to(model.device), output_attentions=True)
            found[name] = (group_ids[0], torch.cat(out.content_attentions), torch.cat(out.query_attentions))
        return cls(tokens, found, source, **begin)


def _pack(weights: Tensor, mask: Tensor, shape: tuple[int, ...], name: str) -> str:
    """The weights that ``mask`` allows, layer by layer, head by head, row by row: two digits each."""
    if tuple(weights.shape) != shape:
        raise ValueError(f"{name} must have shape (layers, heads, T, T) = {shape}, got {tuple(weights.shape)}")
    weights, mask = weights.detach().float().cpu(), mask.cpu()
    if weights.masked_fill(mask, 0).any():
        layer, head, row, column = weights.masked_fill(mask, 0).nonzero()[0].tolist()
        raise ValueError(
            f"{name}: layer {layer}, head {head}, row {row} gives {weights[layer, head, row, column]:.3g} to column "
            f"{column}, which these groups forbid; give the group ids with which the weights were computed"
        )
    error = (weights.sum(-1) - mask.any(-1).float()).abs().max().item()
    if not error <= ROUNDING or weights.min() < 0:
        raise ValueError(
            f"{name} must be at least 0, and each row that may see something must sum to 1; they are off by up to "
            f"{error:.3g} (are these scores before the softmax?)"
        )
    numbers = (weights[..., mask].clamp(max=1) * STEPS).round().long().flatten().tolist()
    return "".join(DIGITS[number >> 6] + DIGITS[number & 63] for number in numbers)
