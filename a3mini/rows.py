"""Which rows of the two streams are computed: the arguments checked, the positions packed.

The model computes a row of a stream only where something needs it, and each batch row needs its own
number of them. ``Slots`` packs the needed positions to the left; shorter batch rows are filled up with
slots that see nothing and are seen by nothing.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from a3mini import groups

IGNORED_LABEL = -100


class Slots(NamedTuple):
    """Some positions of each batch row, packed to the left: the rows that a stream computes."""

    index: Tensor  # (B, S) int64, the position of each slot
    valid: Tensor  # (B, S) bool, False in the slots that only fill up a shorter batch row

    @classmethod
    def where(cls, keep: Tensor, order: Tensor | None = None) -> "Slots":
        """The positions where ``keep`` (B, T) is True, from left to right, or by ``order``: int64 (B, T), 0 or more."""
        count = keep.sum(-1, keepdim=True)
        longest = int(count.max())
        key = (~keep).to(torch.uint8) if order is None else order.masked_fill(~keep, torch.iinfo(torch.int64).max)
        index = key.argsort(dim=-1, stable=True)[:, :longest]
        return cls(index, torch.arange(longest, device=keep.device) < count)

    def take(self, values: Tensor, fill: int) -> Tensor:
        """``values`` (B, T) at the slots: (B, S), with ``fill`` in slots that are not valid."""
        return values.gather(1, self.index).masked_fill(~self.valid, fill)

    def put_back(self, values: Tensor, length: int) -> Tensor:
        """Slot values (B, S, ...) at their positions: (B, T, ...), zeros elsewhere."""
        out = values.new_zeros(values.shape[0], length, *values.shape[2:])
        row = torch.arange(values.shape[0], device=values.device)[:, None].expand_as(self.index)
        return out.index_put((row[self.valid], self.index[self.valid]), values[self.valid])


def check(
    input_ids: Tensor, group_ids: Tensor, labels: Tensor | None, vocab_size: int, max_length: int
) -> tuple[Tensor, Tensor]:
    """Say what is wrong with a model's arguments, before any work is done.

    Args:
        input_ids, group_ids, labels: (B, T); see ``A3ForCausalLM.forward``.
        vocab_size: ids must be below it wherever they are read.
        max_length: the longest sequence that the model allows.

    Returns:
        ``group_ids`` as int64, and bool (B, T): where a token is predicted and its label, if any, counts.

    Raises:
        TypeError: a tensor of the wrong type.
        ValueError: a wrong shape, an id outside the vocabulary, too long a sequence, labels with nothing to predict.
    """
    group_ids = groups.check(group_ids)
    tensors = {"input_ids": input_ids} if labels is None else {"input_ids": input_ids, "labels": labels}
    for name, ids in tensors.items():
        if not isinstance(ids, Tensor) or ids.dtype != torch.int64:
            raise TypeError(f"{name} must be an int64 tensor, got {getattr(ids, 'dtype', type(ids).__name__)}")
        if ids.dim() != 2 or 0 in ids.shape:
            raise ValueError(f"{name} must have shape (B, T), neither of them zero, got {tuple(ids.shape)}")
        if ids.shape != group_ids.shape:
            raise ValueError(
                f"{name} has shape {tuple(ids.shape)} but group_ids has {tuple(group_ids.shape)}; both must be "
                "(B, T). For one grouping in every row use group_ids.expand(B, -1)"
            )
    if input_ids.shape[1] > max_length:
        raise ValueError(
            f"the sequence has {input_ids.shape[1]} tokens, but the model allows {max_length} "
            "(config.max_position_embeddings); cut it into shorter pieces"
        )
    counted = group_ids > 0
    if labels is not None:
        counted = counted & (labels != IGNORED_LABEL)
        if not counted.any():
            raise ValueError(
                "nothing is predicted: every label is -100 or stands where group_ids is 0 (given) or -1 (padding)"
            )
    for name, ids in tensors.items():
        read = group_ids >= 0 if name == "input_ids" else counted
        outside = read & ((ids < 0) | (ids >= vocab_size))
        if outside.any():
            raise ValueError(f"{name} holds {ids[outside][0].item()}, outside the vocabulary 0 .. {vocab_size - 1}")
    return group_ids, counted
