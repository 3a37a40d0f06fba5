"""The mask explorer: put tokens into groups, and watch what each of them sees."""

from collections.abc import Sequence

import torch
import traitlets
from torch import Tensor

from a3mini import groups
from a3mini.notebook.explorers.base import Explorer, bundle, numbered, strided, stylesheet

DRAWS = 4  # how many random orders a page holds
SHORTEST = 7  # tokens that the challenges need


class MaskExplorer(Explorer):
    """A sentence in groups, and beside it the content mask and the query mask; with presets and challenges.

    ``MaskExplorer.example()`` has a sentence of its own.

    Args:
        tokens: T strings. The presets take the first one as given.
        group_ids: integers, (T,), with which to begin.
        source: where the sentence comes from.
        unknown: bool, (T,): what the presets of masked diffusion and infilling hide; default: the middle third.
        position: the token that is chosen at first, or -1 for none; default: the one in the middle.
        challenge: the one that is open at first, or -1 for none.

    Attributes:
        group_ids: list of T integers, numbered 1, 2, ... without gaps; follows what the reader does, and may be set.
        position: the chosen token; follows what the reader does, and may be set.
        challenge: number of the challenge, counted from 0, or -1 for none; likewise.
        claim: what the reader says about the challenge: "", "impossible", or "answer" to be shown one; likewise.
        presets, challenges: what the page offers, as plain data.

    Raises:
        ValueError: no tokens, not as many tokens as group ids, or a position that is not there.
    """

    _esm = bundle("mask")
    _css = stylesheet("mask")
    summary = "An interactive figure: tokens in groups, and the content mask and the query mask that follow."
    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    group_ids = traitlets.List(traitlets.Int()).tag(sync=True)
    position = traitlets.Int(-1).tag(sync=True)
    presets = traitlets.List(traitlets.Dict()).tag(sync=True)
    challenges = traitlets.List(traitlets.Dict()).tag(sync=True)
    challenge = traitlets.Int(-1).tag(sync=True)
    claim = traitlets.Enum(["", "impossible", "answer"], "").tag(sync=True)

    def __init__(
        self,
        tokens: Sequence[str],
        group_ids: Tensor,
        source: str,
        unknown: Tensor | None = None,
        position: int | None = None,
        challenge: int = -1,
    ):
        length = len(tokens)
        if length == 0:
            raise ValueError("tokens is empty; give at least one token")
        if unknown is None:
            place = torch.arange(length)
            unknown = (place >= max(1, length // 3)) & (place < max(2, 2 * length // 3))
        if unknown.shape != (length,):
            raise ValueError(f"unknown must have one value per token, ({length},), got {tuple(unknown.shape)}")
        position = length // 2 if position is None else position
        if not -1 <= position < length:
            raise ValueError(f"position must be from 0 to {length - 1}, or -1 for none; got {position}")
        challenges = _challenges(length)
        if not -1 <= challenge < len(challenges):
            raise ValueError(f"challenge must be from 0 to {len(challenges) - 1}, or -1 for none; got {challenge}")
        super().__init__(
            tokens=list(tokens),
            group_ids=torch.as_tensor(group_ids).tolist(),
            position=position,
            presets=_presets(unknown),
            challenges=challenges,
            challenge=challenge,
            source=source,
        )

    @traitlets.validate("group_ids")
    def _check_group_ids(self, proposal) -> list[int]:
        return numbered(proposal["value"], len(self.tokens))

    @classmethod
    def example(cls) -> "MaskExplorer":
        """A sentence of ours from left to right, with the first challenge: to make a token see one on its right."""
        return cls(
            "<s> Tom lost his red toy car .".split(),
            groups.left_to_right(8),
            "a sentence of ours, cut into words; <s> begins a text",
            position=2,
            challenge=0,
        )


def _presets(unknown: Tensor) -> list[dict]:
    """What the constructors of ``groups`` give for this length; random ones in several draws, one after the other.

    Strided ones stand there once for each number of streams.
    """
    length = len(unknown)

    def draws(size: int) -> list[Tensor]:
        return [groups.shuffled(length, size, generator=torch.Generator().manual_seed(seed)) for seed in range(DRAWS)]

    found = {
        "Left to right": (
            [groups.left_to_right(length)],
            "Autoregression. The content mask is the lower triangle, the query mask the same without its diagonal.",
        ),
        "Right to left": (
            [groups.from_sets(length, *([place] for place in range(length - 1, 0, -1)), given=[0])],
            "Autoregression from the other end: every query sees what stands to its right, and the given start.",
        ),
        "Blocks of 2": (
            [groups.blocks(length, 2)],
            "Block diffusion or semi-autoregression: several tokens per step, from left to right.",
        ),
        "Random order": (draws(1), "A permutation language model. Press again for another order."),
        "Random pairs": (draws(2), "Any order, two at a time. Press again for another order."),
        "Masked diffusion": (
            [groups.two_groups(unknown)],
            "One step of masked diffusion: some tokens are hidden, and all of them are predicted at once.",
        ),
        "Infilling": (
            [groups.infill(unknown)],
            "The text on both sides of a blank is given, the blank is predicted token by token.",
        ),
        "All at once": (
            [groups.blocks(length, max(1, length - 1))],
            "One step for all: no query sees more than the given token.",
        ),
    }
    if far_apart := strided(length):
        found["Strided"] = (
            [torch.tensor(ids) for ids in far_apart.values()],
            "Far-apart tokens at a time: the text is cut into streams, a step predicts the next token of each of them.",
        )
    if length >= 4:
        padding = torch.arange(length) >= length - 2
        found["With padding"] = (
            [groups.left_to_right(length).masked_fill(padding, groups.PADDING)],
            "A text two tokens shorter than its neighbours in the batch. Nobody sees padding, and padding sees nobody.",
        )
    presets = [
        {"name": name, "about": about, "groupings": [ids.tolist() for ids in groupings]}
        for name, (groupings, about) in found.items()
    ]
    for preset in presets:
        if preset["name"] == "Strided":
            preset["streams"] = list(far_apart)  # the number of streams of each grouping
    return presets


def _sees(stream: str, row: int, column: int, wanted: bool = True) -> dict:
    return {"kind": "sees", "stream": stream, "row": row, "column": column, "wanted": wanted}


def _challenges(length: int) -> list[dict]:
    """Goals for the reader, from easy to hard. ``{4}`` stands for the token at position 4.

    A condition is one of: "sees", a cell of a mask; "predicted", positions with a group of 1 or more; "steps", at most
    so many groups; "apart", no two neighbours predicted in the same step. ``answer`` is None where there is none.
    """
    if length < SHORTEST:
        return []
    in_order = list(range(length))
    predicted = {"kind": "predicted", "positions": in_order[1:]}
    goals = [
        {
            "name": "★☆☆ A look to the right",
            "task": "From left to right, every token sees what stands to its left. Make the query of {2} see {4}.",
            "conditions": [_sees("query", 2, 4)],
            "lesson": "Sight follows the numbers of the groups, not the places: {4} only has to come earlier than {2}.",
            "answer": {4: 1},
        },
        {
            "name": "★☆☆ Both neighbours",
            "task": "The query of {5} shall see both neighbours, {4} and {6}, but not {3}.",
            "conditions": [_sees("query", 5, 4), _sees("query", 5, 6), _sees("query", 5, 3, False), predicted],
            "lesson": "{4} and {6} come before {5}, and {3} does not: it may come later, or at the same time.",
            "answer": {4: 4, 5: 8, 6: 4, 3: 9},
        },
        {
            "name": "★★☆ Only afterwards",
            "task": "Neither query of {2} and {3} sees the other token, but both content rows do. Both are predicted.",
            "conditions": [
                _sees("query", 2, 3, False),
                _sees("query", 3, 2, False),
                _sees("content", 2, 3),
                _sees("content", 3, 2),
                {"kind": "predicted", "positions": [2, 3]},
            ],
            "lesson": "Only the same group does it. Tokens predicted at the same time do not help each other; once "
            "both are written, their content rows see each other.",
            "answer": {3: 2},
        },
        {
            "name": "★★☆ Two steps",
            "task": "Predict all tokens after {0} in two steps, never two neighbours in the same step.",
            "conditions": [predicted, {"kind": "steps", "most": 2}, {"kind": "apart"}],
            "lesson": "Every other token first, then those between them, which see both their neighbours.",
            "answer": {place: 1 + place % 2 for place in in_order[1:]},
        },
        {
            "name": "★★★ Each from the other",
            "task": "{2} and {4} are both predicted, and the query of each sees the other token.",
            "conditions": [_sees("query", 2, 4), _sees("query", 4, 2), {"kind": "predicted", "positions": [2, 4]}],
            "lesson": "The group of {4} would have to come before that of {2}, and after it. One of them is predicted "
            "without the other, or both are. That is how it should be: P({2} | {4}) · P({4} | {2}) is no way to write "
            "P({2}, {4}); the chain rule has to begin somewhere.",
            "answer": None,
        },
        {
            "name": "★★★ The stranger",
            "task": "Neither query of {1} and {3} sees the other token, and neither of {3} and {5}; yet the query "
            "of {5} sees {1}.",
            "conditions": [
                _sees("query", 1, 3, False),
                _sees("query", 3, 1, False),
                _sees("query", 3, 5, False),
                _sees("query", 5, 3, False),
                _sees("query", 5, 1),
            ],
            "lesson": "Two tokens of the text that do not see each other are in the same group, so {1}, {3} and {5} "
            "would all be in one. Only padding stands outside: nobody sees it, and it sees nobody.",
            "answer": {3: -1},
        },
        {
            "name": "★★★ The middle man",
            "task": "The query of {5} sees {3}, the query of {3} sees {1}, but the query of {5} does not see {1}.",
            "conditions": [_sees("query", 5, 3), _sees("query", 3, 1), _sees("query", 5, 1, False)],
            "lesson": "Earlier than earlier is earlier: what is visible to someone I see is visible to me. That is why "
            "no number of layers leaks. Could {3} know more than {5} may know, it would pass it on to {5}.",
            "answer": None,
        },
    ]
    for goal in goals:
        if goal["answer"] is not None:
            answer = torch.tensor([goal["answer"].get(place, place) for place in in_order])
            goal["answer"] = groups.relabel(answer).tolist()
    return goals
