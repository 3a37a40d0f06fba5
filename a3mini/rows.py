"""Which rows of the two streams are computed: the arguments checked, the positions packed, the pass planned.

The model computes a row of a stream only where something needs it, and each batch row needs its own
number of them. ``Slots`` packs the needed positions to the left; shorter batch rows are filled up with
slots that see nothing and are seen by nothing. ``Starts`` says what each query row starts from. A ``Plan`` holds all
that the computation must know of the values in ``group_ids`` and ``labels``; the computation itself (``model``) then
depends on shapes alone.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from a3mini import groups

IGNORED_LABEL = -100
QUERY_STARTS = ("vector", "previous")  # what query rows start from; see ``Starts``
FROM_VECTOR = -1  # instead of a token: a query row that starts from w
NOBODY = 2**61  # the group of a slot that only fills up: no row's limit reaches it


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
        out = values.new_zeros(values.shape[0], length + 1, *values.shape[2:])  # one place more, for slots not valid
        row = torch.arange(values.shape[0], device=values.device)[:, None].expand_as(self.index)
        place = self.index.masked_fill(~self.valid, length)
        return out.index_put((row, place), values)[:, :length]


class Starts(NamedTuple):
    """What query rows start from (``A3Config.query_start``), and at which rotary position."""

    tokens: Tensor | None  # (B, Q) int64: start from this token's embedding, FROM_VECTOR: from w; None: all from w
    positions: Tensor  # (B, Q) int64: that token's position, or for w the row's own

    @classmethod
    def of(cls, start: str, query: Slots, tokens: Tensor, group_ids: Tensor, seen: Tensor | None = None) -> "Starts":
        """The starts of the query rows ``query``.

        Ours, not the paper's: with "previous" the row at position i starts where the content row of i - 1 does, if that
        token stands in an earlier group; the row may see it in any case, so nothing leaks. A causal model predicts from
        just this row: at left-to-right groups the query stream then computes what the source computes, untrained.

        Args:
            start: one of ``QUERY_STARTS``.
            query: the positions that get a query row, (B, Q).
            tokens, group_ids: int64, (B, T).
            seen: bool, (B, T): of the earlier groups only these tokens count; default: all.
        """
        if start == "vector":
            return cls(None, query.index)
        before = F.pad(group_ids, (1, -1), value=groups.PADDING)  # (B, T): the group of i - 1; none for position 0
        warm = (before >= 0) & (before < group_ids)
        if seen is not None:
            warm = warm & F.pad(seen, (1, -1), value=False)
        start_tokens = F.pad(tokens, (1, -1)).masked_fill(~warm, FROM_VECTOR)
        return cls(query.take(start_tokens, FROM_VECTOR), query.index - query.take(warm.long(), 0))


class Plan(NamedTuple):
    """What a pass computes: all that depends on the values of group ids and labels, as tensors of settled shapes.

    Letters: B rows of the batch, T positions, C content slots, Q query slots.
    """

    content: Slots  # (B, C)
    query: Slots  # (B, Q)
    content_ids: Tensor  # (B, C) int64, tokens
    content_groups: Tensor  # (B, C) int64, groups.PADDING in slots that only fill up
    query_groups: Tensor  # (B, Q) int64, likewise
    starts: Starts  # (B, Q) each: what the query rows start from
    empty: Tensor | None  # (B, C + Q, 1) bool, True where a row may see nothing; None if there is no such row
    length: int  # T
    keep_content: bool  # whether every content row is wanted, also after the last layer
    labels: Tensor | None = None  # (B, Q) int64, the token to be predicted; IGNORED_LABEL where none counts

    @classmethod
    def of(
        cls,
        input_ids: Tensor,
        group_ids: Tensor,
        labels: Tensor | None,
        counted: Tensor,
        predicted: Tensor,
        keep_content: bool,
        in_order: bool,
        query_start: str = "vector",
    ) -> "Plan":
        """Plan a pass; wherever ``group_ids`` are, and that is best a CPU, since shapes depend on values here.

        Args:
            input_ids, group_ids, labels: (B, T); see ``A3ForCausalLM.forward``.
            counted: bool, (B, T), True where there is a label that counts; see ``check``.
            predicted: bool, (B, T), the positions that get a query row.
            keep_content: whether every content row is wanted, or only those that a query can see.
            in_order: the slots stand in the order of generation, not in that of their positions.
            query_start: see ``Starts.of``.
        """
        last_group = group_ids.masked_fill(~predicted, 0).amax(-1, keepdim=True)  # nothing looks at it, or beyond it
        needed = group_ids >= 0 if keep_content else (group_ids >= 0) & (group_ids < last_group)
        order = group_ids if in_order else None
        content, query = Slots.where(needed, order), Slots.where(predicted, order)
        content_groups, query_groups = (slots.take(group_ids, groups.PADDING) for slots in (content, query))
        plan = cls(
            content=content,
            query=query,
            content_ids=content.take(input_ids, 0),
            content_groups=content_groups,
            query_groups=query_groups,
            starts=Starts.of(query_start, query, input_ids, group_ids),
            empty=empty_rows(content_groups, query_groups),
            length=group_ids.shape[1],
            keep_content=keep_content,
        )
        if labels is None:
            return plan
        return plan._replace(labels=query.take(labels.masked_fill(~counted, IGNORED_LABEL), IGNORED_LABEL))


def check_query_start(start: str) -> None:
    if start not in QUERY_STARTS:
        raise ValueError(f"query_start must be one of {', '.join(QUERY_STARTS)}; got {start!r}")


def empty_rows(content_groups: Tensor, query_groups: Tensor) -> Tensor | None:
    """Which rows may see nothing: bool (B, C + Q, 1), content rows first; None if there is none.

    A row sees the groups up to a limit: its own if it is a content row, the one before if it is a query row.
    """
    limit = torch.cat((content_groups, query_groups - 1), dim=1)  # (B, C + Q)
    seen = content_groups.masked_fill(content_groups == groups.PADDING, NOBODY)
    first = seen.amin(-1, keepdim=True) if seen.shape[1] else torch.full_like(limit[:, :1], NOBODY)
    empty = (limit < first)[..., None]
    return empty if empty.any() else None


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
