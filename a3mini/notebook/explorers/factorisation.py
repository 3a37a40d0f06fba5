"""The factorisation explorer: words in passes, the product of conditionals that follows, and what it loses."""

from collections.abc import Mapping, Sequence

import torch
import traitlets
from torch import Tensor

from a3mini import groups
from a3mini.notebook.explorers.base import Explorer, bundle, strided, stylesheet

MOST_WORDS, MOST_ENTRIES = 16, 4096


class FactorisationExplorer(Explorer):
    """Words in ordered groups, and the product of conditionals that the groups stand for.

    With a table of the joint distribution the explorer computes each factor, the product q(x), the table's p(x),
    KL(p || q) in nats, total variation, and what each pass loses (its conditional total correlation, nats). It does
    so from the table alone, in the page.

    Args:
        words: T strings; with a table, for each position the strings that may stand there.
        group_ids: int64, (T,), with which to begin; 0 is given, 1, 2, ... are predicted in that order.
        source: where the sentence, or the table, comes from.
        table: p(x), T axes, one entry for each sentence; all above 0, the sum is 1. Default: no numbers.
        presets: name to group ids (T,), offered as a choice; default: ``default_presets(T)``. Strided groups are
            offered beside them.

    Attributes:
        group_ids: list of T integers; follows what the reader does, and may be set.
        sentence: list of T integers, which word stands at each position; likewise.
        factor: the position whose factor the reader has pinned, -1 if none; likewise.

    Raises:
        ValueError: too many words, group ids that do not fit them, padding, or a table that does not fit.
    """

    _esm = bundle("factorisation")
    _css = stylesheet("factorisation")
    summary = "An interactive figure: words in groups, the product of conditionals that follows, and what it loses."
    words = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    table = traitlets.List(traitlets.Float(), help="The numbers p(x), in row-major order; may be empty.").tag(sync=True)
    presets = traitlets.Dict().tag(sync=True)
    strided = traitlets.Dict(help="Group ids of far-apart words at a time, by the number of streams.").tag(sync=True)
    group_ids = traitlets.List(traitlets.Int()).tag(sync=True)
    sentence = traitlets.List(traitlets.Int()).tag(sync=True)
    factor = traitlets.Int(-1).tag(sync=True)

    def __init__(
        self,
        words: Sequence[str | Sequence[str]],
        group_ids: Tensor,
        source: str,
        table: Tensor | None = None,
        presets: Mapping[str, Tensor] | None = None,
    ):
        words = [[word] if isinstance(word, str) else list(word) for word in words]
        if not 1 <= len(words) <= MOST_WORDS:
            raise ValueError(f"the explorer has room for 1 to {MOST_WORDS} words, got {len(words)}")
        if not all(words):
            raise ValueError("each position needs at least one word; one has none")
        offered = default_presets(len(words)) if presets is None else presets
        super().__init__(
            words=words,
            table=[] if table is None else check_table(table, words),
            presets={name: check_groups(ids, len(words), f"presets[{name!r}]") for name, ids in offered.items()},
            strided={str(streams): ids for streams, ids in strided(len(words), given=0).items()},
            group_ids=check_groups(group_ids, len(words), "group_ids"),
            sentence=[0] * len(words),
            source=source,
        )


def default_presets(length: int) -> dict[str, Tensor]:
    """The kinds of models that the book compares, as groupings of ``length`` words: name to int64, (T,)."""
    position, third = torch.arange(length), length // 3
    generator = torch.Generator().manual_seed(2)
    return {
        "AR": groups.left_to_right(length, given=0),
        "permutation": groups.shuffled(length, 1, given=0, generator=generator),
        "blocks of 2": groups.blocks(length, 2, given=0),
        "masked-diffusion step": groups.two_groups(position % 2 == 1 if length > 1 else position == 0),
        "infilling": groups.infill((position >= third) & (position < max(third + 1, length - third))),
        "A3: shuffled 2s": groups.shuffled(length, 2, given=0, generator=generator),
        "all at once": groups.blocks(length, length, given=0),
    }


def check_groups(group_ids: Tensor, length: int, name: str) -> list[int]:
    group_ids = groups.check(torch.as_tensor(group_ids), name)
    if group_ids.shape != (length,):
        raise ValueError(f"{name} must have one number per word, ({length},), got {tuple(group_ids.shape)}")
    if (group_ids == groups.PADDING).any():
        raise ValueError(f"{name} holds -1 (padding); each word is given (0) or predicted (1, 2, ...)")
    return groups.relabel(group_ids).tolist()


def check_table(table: Tensor, words: list[list[str]]) -> list[float]:
    table, shape = torch.as_tensor(table, dtype=torch.float64), tuple(len(choices) for choices in words)
    if table.shape != shape:
        raise ValueError(f"table must have one entry for each choice of words, {shape}, got {tuple(table.shape)}")
    if table.numel() > MOST_ENTRIES:
        raise ValueError(f"table may have at most {MOST_ENTRIES} entries, got {table.numel()}")
    if not (table > 0).all() or not abs(table.sum().item() - 1) < 1e-6:
        raise ValueError(
            "table must be probabilities above 0 (conditionals divide by sums of them) with the sum 1; "
            f"the smallest is {table.min().item():g}, the sum {table.sum().item():g}"
        )
    return table.flatten().tolist()
