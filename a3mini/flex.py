"""FlexAttention: the same attention, in which whole blocks of the mask are left out.

A mask of T columns has T^2 entries, and the default kernel computes a score for each, allowed or not. PyTorch's
``flex_attention`` gets the mask as a rule and as a list of blocks of 128 x 128, and leaves out the blocks in which
nothing may be seen. For a mask that comes from groups such blocks exist only if the rows stand in the right order::

    by position                      in the order of generation
    groups    2 5 0 3 1 4            groups    0 1 2 3 4 5
         2    # . # . # .                 0    # . . . . .
         5    # # # # # #                 1    # # . . . .
         0    . . # . . .                 2    # # # . . .
         3    # . # # # .                 3    # # # # . .
         1    . . # . # .                 4    # # # # # .
         4    # . # # # #                 5    # # # # # #

So with this kernel the model sorts content rows and query rows by their groups. Each row keeps its position, which
enters through rotary embedding, so the result is the same.

The rule is one comparison. Let column j hold the token of group g_j. A content row of group g sees the groups up to g,
a query row those up to g - 1; call that the row's *limit*. Row i sees column j iff g_j <= limit_i. So a block is empty
iff its lowest group lies above its highest limit, and full iff its highest group lies within its lowest limit: the
blocks are found without a mask.

A user turns it on with ``A3ForCausalLM.from_pretrained(folder, attn_implementation="flex_attention")`` or
``model.set_attn_implementation("flex_attention")``. On CUDA it is compiled. On a CPU PyTorch has a plain reference, for
the forward pass alone, that leaves nothing out: it is there to be tested. Decoding has a few rows at a time and nothing
to leave out, so there the default kernel runs.
"""

import functools
import inspect
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from a3mini.flat import FlatPlan
from a3mini.groups import PADDING
from a3mini.rows import NOBODY, empty_rows

try:
    from torch.nn.attention.flex_attention import BlockMask, flex_attention
except ImportError:  # an older PyTorch
    BlockMask, flex_attention = None, None

KERNEL = "flex_attention"  # as transformers calls it
BLOCK = 128  # rows and columns of a block; the kernel's own size
INSTEAD = f"use another kernel: model.set_attn_implementation('sdpa'), not {KERNEL!r}"


def check(device: torch.device, backward: bool, dropout: float) -> None:
    """Say why FlexAttention cannot be used here, before any work.

    Args:
        device: where the model is.
        backward: whether gradients are wanted.
        dropout: of the attention weights.

    Raises:
        ValueError: PyTorch is too old, it has no such kernel for this device, or none for what is asked.
    """
    if BlockMask is None or "seq_lengths" not in inspect.signature(BlockMask.from_kv_blocks).parameters:
        raise ValueError(f"PyTorch {torch.__version__} is too old for FlexAttention; get a newer one, or {INSTEAD}")
    if device.type not in ("cuda", "cpu"):
        raise ValueError(f"FlexAttention runs here on 'cuda' and 'cpu', but the model is on {device.type!r}; {INSTEAD}")
    if device.type == "cpu" and backward:
        raise ValueError(
            "FlexAttention has no backward pass on a CPU. Put the call under torch.no_grad() if you need no gradients; "
            f"to train, {INSTEAD}"
        )
    if dropout:
        raise ValueError(
            f"FlexAttention has no dropout, but config.attention_dropout is {dropout}; set it to 0, or {INSTEAD}"
        )


class Blocks(NamedTuple):
    """Who may see whom among slots in the order of generation; takes the place of ``attention.Visibility``.

    A row that may see nothing has its limit raised to the first group there is, so that the kernel never meets it;
    ``attention.attend`` then sets its output to zero.
    """

    limit: Tensor  # (B, N) int64, the last group that a row sees
    column: Tensor  # (B, C) int64, the group of each column; NOBODY where a slot only fills up
    empty: Tensor | None  # (B, N, 1) bool, True where a row may see nothing; None if there is no such row
    made: dict[int, "BlockMask"]  # made once, for all layers: the first row to the mask from there on
    start: int = 0
    texts: tuple[Tensor, Tensor] | None = None  # int64, (B, N) and (B, C): which text each row and column is of

    @classmethod
    def between(cls, content_groups: Tensor, query_groups: Tensor, empty: Tensor | None) -> "Blocks":
        """The same, where it is known which rows are ``empty``."""
        limit = torch.cat((content_groups, query_groups - 1), dim=1)
        column = content_groups.masked_fill(content_groups == PADDING, NOBODY)
        return cls(limit.maximum(column.amin(-1, keepdim=True)), column, empty, {})

    @classmethod
    def of(cls, content_groups: Tensor, query_groups: Tensor) -> "Blocks":
        """Content rows, then query rows: from int64 (B, C) and (B, Q), the groups of the slots; -1 if not valid."""
        return cls.between(content_groups, query_groups, empty_rows(content_groups, query_groups))

    @classmethod
    def of_texts(cls, plan: FlatPlan) -> "Blocks":
        """The rows of many texts in a line: a text sees itself alone. A row that fills up sees its like, and itself."""
        width, both, line = plan.width, plan.rows.shape[1], plan.content_ids.shape[1]
        visible = cls.between(plan.groups[:, :width], plan.groups[:, width:], None)  # in the rectangle
        text = plan.back.div(both, rounding_mode="floor")
        column = visible.column.flatten()[text[:line] * width + plan.back[:line] % both]
        limit = visible.limit.flatten()[plan.back]
        empty = None if plan.empty is None else plan.empty.flatten(0, 1)[plan.back][None]
        return cls(limit[None], column[None], empty, {}, texts=(text[None], text[None, :line]))

    def rows(self, start: int) -> "Blocks":
        empty = None if self.empty is None else self.empty[:, start:]
        texts = self.texts and (self.texts[0][:, start:], self.texts[1])
        return self._replace(limit=self.limit[:, start:], empty=empty, start=self.start + start, texts=texts)

    def ready(self, kernel: str, dtype: torch.dtype, shared: int) -> "Blocks":
        return self

    def block_mask(self) -> "BlockMask":
        if self.start not in self.made:
            self.made[self.start] = block_mask(self.limit, self.column, texts=self.texts)
        return self.made[self.start]


def block_mask(
    limit: Tensor, column: Tensor, block: int = BLOCK, texts: tuple[Tensor, Tensor] | None = None
) -> "BlockMask":
    """The rule "column <= limit" as PyTorch's kernel wants it: the rule itself, and the blocks to compute.

    Args:
        limit: int64, (B, N), the last group that each row sees.
        column: int64, (B, C), the group of each column.
        block: rows and columns of a block.
        texts: int64, (B, N) and (B, C), which text each is of: only rows and columns of one text see each other.

    Returns:
        a ``BlockMask`` (B, 1, N, C); without texts equal to what ``create_block_mask`` makes of the rule, with them a
        block that two texts share may count as one to look into. That function writes the whole mask out first, this
        one never holds more than a number per block.
    """

    def in_blocks(values: Tensor, fill: int) -> Tensor:  # (B, S) to (B, blocks, block); what is added is never seen
        return F.pad(values, (0, -values.shape[1] % block), value=fill).unflatten(1, (-1, block))

    rows, columns = in_blocks(limit, PADDING - 1), in_blocks(column, 2 * NOBODY)
    some = columns.amin(-1)[:, None, :] <= rows.amax(-1)[:, :, None]  # (B, row blocks, column blocks)
    full = columns.amax(-1)[:, None, :] <= rows.amin(-1)[:, :, None]
    if texts is not None:
        (first_row, last_row), (first, last) = (
            (ends.amin(-1), ends.amax(-1)) for ends in (_with_last(part, block) for part in texts)
        )
        some = some & (first[:, None, :] <= last_row[:, :, None]) & (last[:, None, :] >= first_row[:, :, None])
        full = full & (first[:, None, :] == last_row[:, :, None]) & (last[:, None, :] == first_row[:, :, None])

    def listed(blocks: Tensor) -> tuple[Tensor, Tensor]:  # how many, and which: those that count come first
        blocks = blocks[:, None].to(torch.int32)  # one head stands for all
        order = blocks.argsort(dim=-1, descending=True, stable=True).to(torch.int32)
        return blocks.sum(-1, dtype=torch.int32), order

    def rule(batch, head, row, col):
        seen = column[batch, col] <= limit[batch, row]
        return seen if texts is None else seen & (texts[1][batch, col] == texts[0][batch, row])

    shape = (limit.shape[1], column.shape[1])
    return BlockMask.from_kv_blocks(*listed(some & ~full), *listed(full), block, rule, shape)


def _with_last(values: Tensor, block: int) -> Tensor:
    """(B, S) to (B, blocks, block); what is added at the end repeats the last."""
    more = -values.shape[1] % block
    return torch.cat((values, values[:, -1:].expand(-1, more)), 1).unflatten(1, (-1, block))


def attend(query: Tensor, key: Tensor, value: Tensor, visible: Blocks) -> Tensor:
    """Attention over the visible columns, shapes as in ``attention.attend``; compiled on CUDA, plain elsewhere."""
    kind = query.device.type
    if torch.is_autocast_enabled(kind):  # autocast knows the default kernel, not this one
        query, key, value = (x.to(torch.get_autocast_dtype(kind)) for x in (query, key, value))
    shared = query.shape[1] != key.shape[1]
    if kind == "cuda":
        return compiled()(query, key, value, block_mask=visible.block_mask(), enable_gqa=shared)
    with torch.compiler.set_stance("force_eager"):  # compiling for a CPU takes a minute per shape
        return flex_attention(query, key, value, block_mask=visible.block_mask(), enable_gqa=shared)


@functools.cache
def compiled():
    """The fused kernel; it is compiled at its first call, and again for a new kind of shape."""
    return torch.compile(flex_attention)
