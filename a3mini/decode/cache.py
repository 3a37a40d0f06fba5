"""Keys and values of content that is committed: what decoding never computes twice.

A content row sees its own group and earlier ones. Once a group is committed, nothing that it sees can change any
more, so its keys and values are final in every layer. Keeping them is exact, not an approximation.

Batch rows commit different numbers of tokens, so each row has its own columns, packed to the left::

    row 0   | a a a a b b c . . |      4 tokens given, then groups of 2 and 1
    row 1   | a a b c . . . . . |      a dot is a column that nobody sees

Columns need not stand in the order of their positions: rotary embedding has turned the keys already.
"""

import torch
from torch import Tensor

from a3mini.groups import PADDING
from a3mini.rows import Slots


class ContentCache:
    """The columns of every layer, and the group of each.

    Args:
        batch, length: B and T; a row never has more than T columns.
        layers: how many layers the model has.
        device: where ``groups`` lives.
    """

    def __init__(self, batch: int, length: int, layers: int, device: torch.device):
        # One column more than needed: what only fills up a shorter batch row is written there, and never seen.
        self.groups = torch.full((batch, length + 1), PADDING, device=device)
        self.filled = torch.zeros(batch, dtype=torch.int64, device=device)  # columns in use, per row
        self.width = 0  # columns in use, in the fullest row
        self.keys: list[Tensor | None] = [None] * layers  # (B, H_kv, T + 1, E) each
        self.values: list[Tensor | None] = [None] * layers
        self._columns = self.groups  # int64, (B, C): where the next content goes
        self._slice: slice | None = None  # the same as a slice, where it is one and the same for all rows

    def extend(self, content: Slots, content_groups: Tensor) -> Tensor:
        """Make room for new content and say who is there: the groups (B, S) of all columns in use.

        Args:
            content: the new rows of the content stream.
            content_groups: int64, (B, C), their groups; padding in slots that are not valid.
        """
        count = content.valid.sum(-1)
        offset = torch.arange(content.index.shape[1], device=count.device)
        columns = (self.filled[:, None] + offset).masked_fill(~content.valid, self.groups.shape[1] - 1)
        self._columns = columns
        start = int(self.filled[0])
        aligned = bool(content.valid.all() and (self.filled == start).all())
        # writing a slice is faster than writing column by column
        self._slice = slice(start, start + len(offset)) if aligned else None
        self.groups.scatter_(1, columns, content_groups)
        self.filled = self.filled + count
        self.width = int(self.filled.max())
        return self.groups[:, : self.width]

    def update(self, key: Tensor, value: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Add a layer's new keys and values (B, H_kv, C, E) where ``extend`` said; returns all, (B, H_kv, S, E)."""
        kept = []
        for buffers, new in ((self.keys, key), (self.values, value)):
            if buffers[layer] is None:
                buffers[layer] = new.new_zeros(*new.shape[:2], self.groups.shape[1], new.shape[3])
            if self._slice is not None:
                buffers[layer][:, :, self._slice] = new
            else:
                buffers[layer].scatter_(2, self._columns[:, None, :, None].expand_as(new), new)
            kept.append(buffers[layer][:, :, : self.width])
        return kept[0], kept[1]

    def drop(self, first_group: Tensor) -> None:
        """Forget each row's columns of group ``first_group`` (B,) and later; a row's columns stand in group order."""
        dropped = self.groups >= first_group[:, None]
        self.groups = self.groups.masked_fill(dropped, PADDING)
        self.filled = self.filled - dropped.sum(-1)
        self.width = int(self.filled.max())
