"""The picture of the two streams: which rows a row reads, layer by layer, and which tokens reach it."""

from collections.abc import Sequence

import torch
import traitlets
from torch import Tensor

from a3mini import groups
from a3mini.notebook.explorers.base import Explorer, bundle, numbered, stylesheet

DRAWS = 4  # how many random orders a page holds
MOST_TOKENS, MOST_LAYERS = 10, 4  # with more, the picture cannot be read
RULES = ("less", "less or equal", "all but itself")
STARTS = ("w", "token")


class TwoStreams(Explorer):
    """Content rows and query rows of each position, layer above layer; choose one, and all that it reads lights up.

    A query row reads content rows of the layer below: those of earlier groups. What if it read those of its own group,
    too, or started from its token instead of w? ``TwoStreams.example()`` has a sentence of its own.

    Args:
        tokens: T strings, at most 10. The presets take the first one as given.
        group_ids: integers, (T,), with which to begin.
        source: where the sentence comes from.
        layers: how many, at most 4.
        position: whose rows are chosen at first; default: the one in the middle.

    Attributes:
        group_ids: list of T integers, numbered 1, 2, ... without gaps; follows what the reader does, as all below, and
            may be set.
        position, stream, layer: the row that is chosen: "content" or "query"; layer 0 is what the rows start from.
        clock: how many layers are lit, from the chosen row down; more than there are below it: all.
        rule: which content rows a query row reads: of groups "less" than its own, as A3 has it, "less or equal", or
            "all but itself", which is the same without its own position.
        start: what query rows start from: "w", as A3 has it, or their "token".
        presets: groupings that the page offers, as plain data.

    Raises:
        ValueError: no tokens, too many, not as many as group ids, a number of layers, a position or a layer that is not
            there.
    """

    _esm = bundle("two_streams")
    _css = stylesheet("two_streams")
    summary = (
        "An interactive figure: the content rows and the query rows of a sentence, and who reads whom in each layer."
    )
    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    layers = traitlets.Int().tag(sync=True)
    group_ids = traitlets.List(traitlets.Int()).tag(sync=True)
    position = traitlets.Int().tag(sync=True)
    stream = traitlets.Enum(("content", "query"), "query").tag(sync=True)
    layer = traitlets.Int().tag(sync=True)
    clock = traitlets.Int(MOST_LAYERS).tag(sync=True)
    rule = traitlets.Enum(RULES, "less").tag(sync=True)
    start = traitlets.Enum(STARTS, "w").tag(sync=True)
    presets = traitlets.List(traitlets.Dict()).tag(sync=True)

    def __init__(
        self, tokens: Sequence[str], group_ids: Tensor, source: str, layers: int = 3, position: int | None = None
    ):
        length = len(tokens)
        if not 1 <= length <= MOST_TOKENS:
            raise ValueError(f"tokens must be 1 to {MOST_TOKENS} strings, got {length}; cut the sentence shorter")
        if not 1 <= layers <= MOST_LAYERS:
            raise ValueError(f"layers must be from 1 to {MOST_LAYERS}, got {layers}")
        super().__init__(
            tokens=list(tokens),
            layers=layers,
            group_ids=torch.as_tensor(group_ids).tolist(),
            position=length // 2 if position is None else position,
            layer=layers,
            presets=_presets(length),
            source=source,
        )

    @traitlets.validate("group_ids")
    def _check_group_ids(self, proposal) -> list[int]:
        return numbered(proposal["value"], len(self.tokens))

    @traitlets.validate("position", "layer")
    def _check_row(self, proposal) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        highest = len(self.tokens) - 1 if name == "position" else self.layers
        if not 0 <= value <= highest:
            raise ValueError(f"{name} must be from 0 to {highest}, got {value}")
        return value

    @classmethod
    def example(cls) -> "TwoStreams":
        """A sentence of ours in an order that is neither left to right nor one token at a time."""
        return cls(
            "<s> Mia found a big ball .".split(),
            torch.tensor([0, 1, 3, 2, 2, 1, 3]),
            "a sentence of ours, cut into words; <s> begins a text. The lines follow from the groups alone.",
            position=4,
        )


def _presets(length: int) -> list[dict]:
    """What the constructors of ``groups`` give for this length; random orders in several draws, one after the other."""
    position, third = torch.arange(length), length // 3
    blank = (position >= max(1, third)) & (position < max(2, length - third))
    seeds = [torch.Generator().manual_seed(seed) for seed in range(DRAWS)]
    found = {
        "Left to right": [groups.left_to_right(length)],
        "Random order": [groups.shuffled(length, 1, generator=seed) for seed in seeds],
        "Groups of two": [groups.blocks(length, 2)],
        "A blank": [groups.infill(blank)],
    }
    return [{"name": name, "groupings": [ids.tolist() for ids in groupings]} for name, groupings in found.items()]
