"""The mask explorer: move tokens between groups and watch both masks follow."""

from collections.abc import Sequence

import torch
import traitlets
from torch import Tensor

from a3mini import groups
from a3mini.explorers.base import Explorer, bundle


class MaskExplorer(Explorer):
    """Tokens in groups, and beside them the content mask and the query mask.

    Args:
        tokens: T strings.
        group_ids: int64, (T,), with which to begin.
        source: where the sentence comes from.

    Attributes:
        group_ids: list of T integers; follows what the reader does, and may be set.

    Raises:
        ValueError: not as many tokens as group ids.
    """

    _esm = bundle("mask")
    summary = "An interactive figure: tokens in groups, and the content mask and the query mask that follow."
    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    group_ids = traitlets.List(traitlets.Int()).tag(sync=True)

    def __init__(self, tokens: Sequence[str], group_ids: Tensor, source: str):
        group_ids = groups.check(torch.as_tensor(group_ids))
        if group_ids.shape != (len(tokens),):
            raise ValueError(
                f"group_ids must have one number per token, ({len(tokens)},), got {tuple(group_ids.shape)}"
            )
        super().__init__(tokens=list(tokens), group_ids=groups.relabel(group_ids).tolist(), source=source)
