"""Two-stream attention: who may see whom, the rule for rows that may see nothing, and the layer's projections.

Shapes: B batch, C content slots, N content and query slots, D hidden size, H heads, E head size.
"""

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig

from a3mini import flex, groups, masks
from a3mini.flat import FlatPlan

FEW_ROWS = 8  # up to here ``A3Linear`` turns its product round


class Visibility(NamedTuple):
    """Who may see whom among the slots, and the rule for rows that may see nothing.

    Kernels disagree about a row whose every column is masked: some give NaN, some zeros, some the mean of all
    values. So no kernel ever meets one. ``mask`` lets such a row see everything, and ``attend`` then sets its
    output to zero, which also stops the gradient. This is the only place that knows the rule.
    """

    mask: Tensor  # (B, N, C) bool, True = may attend; rows that see nothing are all True
    empty: Tensor | None  # (B, N, 1) bool, True where a row may see nothing; None if there is no such row
    bias: Tensor | None = None  # (B, N, S, C), 0 or -inf: what fused kernels make of the mask; S as ``_fused`` wants it

    @classmethod
    def of(cls, mask: Tensor) -> "Visibility":
        """Any mask (B, N, C)."""
        empty = ~mask.any(-1, keepdim=True)
        return cls(mask | empty, empty) if empty.any() else cls(mask, None)

    @classmethod
    def between(cls, content_groups: Tensor, query_groups: Tensor, empty: Tensor | None) -> "Visibility":
        """Content rows, then query rows: the groups (B, C) and (B, Q) of their slots, and ``rows.empty_rows``."""
        content_mask = masks.may_attend(content_groups, content_groups, own_group=True)  # (B, C, C)
        query_mask = masks.may_attend(query_groups, content_groups, own_group=False)  # (B, Q, C)
        mask = torch.cat((content_mask, query_mask), dim=1)
        return cls(mask if empty is None else mask | empty, empty)

    def rows(self, start: int) -> "Visibility":
        return Visibility(*(part if part is None else part[:, start:] for part in self))

    def ready(self, kernel: str, dtype: torch.dtype, shared: int) -> "Visibility":
        """With what is to be added to the scores, made once for all layers; "eager" takes the mask itself.

        ``shared`` is the number of query heads that a key head serves.
        """
        if kernel == "eager":
            return self
        bias = torch.zeros_like(self.mask, dtype=dtype).masked_fill_(~self.mask, float("-inf"))[:, :, None]
        return self._replace(bias=bias if bias.device.type == "cpu" else bias.repeat(1, 1, shared, 1))


class Causal(NamedTuple):
    """Row i of each stream sees the first i + 1 columns (``flat``): there are fast kernels for that, and no mask."""

    streams: int  # 2, or 1 where only query rows are asked
    empty: None = None  # each row sees a column

    def rows(self, start: int) -> "Causal":
        return self._replace(streams=1) if start else self

    @staticmethod
    def runs(device: torch.device, dtype: torch.dtype) -> bool:
        """Whether a kernel takes it, and key heads that serve several query heads, without copies."""
        if device.type != "cuda":
            return device.type == "cpu"
        return dtype in (torch.float16, torch.bfloat16) and torch.cuda.get_device_capability(device) >= (8, 0)


class Texts(NamedTuple):
    """The same for a line of rows of many texts (``flat``): a text sees itself alone.

    Attention goes through a rectangle with a text in each row. Its places and those of the line are one to one, but for
    what only fills up; so putting rows there, putting them back, and both backward passes only pick rows, and add none.
    """

    inside: Visibility | Causal  # of the rectangle: (B, N, C) for B texts
    causal: bool  # whether the second would do
    rows_of: Tensor  # (B, N) int64, which row of the line stands at each place
    back: Tensor  # (L,) int64, at which of the B * N places each row of the line stands
    content: tuple[Tensor, Tensor]  # the same for the content rows: (B, C) and (L_C,)

    @classmethod
    def of(cls, plan: FlatPlan) -> "Texts":
        width, both, line = plan.width, plan.rows.shape[1], plan.content_ids.shape[1]
        inside = Visibility.between(plan.groups[:, :width], plan.groups[:, width:], plan.empty)
        filling = (plan.groups == groups.PADDING)[..., None]  # no kernel may meet a row that sees nothing
        inside = inside._replace(mask=inside.mask | filling)
        back = plan.back[:line]
        content = plan.rows[:, :width], back.div(both, rounding_mode="floor") * width + back % both
        return cls(inside, plan.causal, plan.rows, plan.back, content)

    def rows(self, start: int) -> "Texts":
        if not start:
            return self
        both, width = self.rows_of.shape[1], self.content[0].shape[1]  # the query rows are what remains
        back = self.back[start:]
        back = back.div(both, rounding_mode="floor") * (both - width) + back % both - width
        return self._replace(inside=self.inside.rows(width), rows_of=self.rows_of[:, width:] - start, back=back)

    def ready(self, kernel: str, dtype: torch.dtype, shared: int) -> "Texts":
        causal = self.causal and kernel != "eager" and Causal.runs(self.rows_of.device, dtype)
        return self._replace(inside=Causal(2) if causal else self.inside.ready(kernel, dtype, shared))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, kernel: str, dropout: float) -> Tensor:
        """As ``attend``: query (1, H, L, E), key and value (1, H_kv, L_C, E), all rows of the line; (1, H, L, E)."""
        query, key, value = (
            Pick.apply(x[0].transpose(0, 1), index.flatten(), back).unflatten(0, index.shape).transpose(1, 2)
            for x, (index, back) in ((query, (self.rows_of, self.back)), (key, self.content), (value, self.content))
        )  # (B, heads, N or C, E)
        output, _ = attend(query, key, value, self.inside, kernel, dropout)
        output = Pick.apply(output.transpose(1, 2).flatten(0, 1), self.back, self.rows_of.flatten())  # (L, H, E)
        return output.transpose(0, 1)[None]


class Pick(torch.autograd.Function):
    """``x[index]`` for rows that are each picked once, or picked only to fill up; then its gradient is ``g[back]``.

    PyTorch's own gradient of ``x[index]`` adds up, for a row may be picked twice; that is slow, and on CUDA its order
    changes from run to run. ``back`` must lead each row that nobody picks to a place whose gradient is zero.
    """

    @staticmethod
    def forward(ctx, x: Tensor, index: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (back,) = ctx.saved_tensors
        return gradient.index_select(0, back), None, None


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Visibility | Causal | Texts | flex.Blocks,
    kernel: str,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention, softmax(q k / sqrt(E)) v, over the visible columns; zero for empty rows.

    Args:
        query: (B, H, N, E).
        key, value: (B, H_kv, C, E); each head of these serves H / H_kv consecutive query heads.
        visible: a ``Visibility``, ``Causal`` or ``Texts``; or ``flex.Blocks``, for the kernel that leaves out what is
            not visible.
        kernel: "eager" writes the formula out and also returns the weights; any other is fused.

    Returns:
        the output (B, H, N, E), and the weights (B, H, N, C) or None.
    """
    if isinstance(visible, Texts):
        return visible.attend(query, key, value, kernel, dropout), None
    if key.shape[2] == 0:  # there is no content at all: every row is empty
        return query * 0.0, query.new_zeros(*query.shape[:3], 0) if kernel == "eager" else None
    weights = None
    if isinstance(visible, flex.Blocks):
        output = flex.attend(query, key, value, visible)
    elif isinstance(visible, Causal):
        output = _causal(query, key, value, visible.streams, dropout)
    elif kernel != "eager":
        output = _fused(query, key, value, visible, dropout)
    else:
        shared = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(shared, dim=1), value.repeat_interleave(shared, dim=1)
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        scores = at_least_float32(scores).masked_fill(~visible.mask[:, None], float("-inf"))
        weights = F.dropout(scores.softmax(-1).to(query.dtype), dropout)
        output = weights @ value
    if visible.empty is not None:
        empty = visible.empty[:, None]
        output = output.masked_fill(empty, 0.0)
        weights = weights.masked_fill(empty, 0.0) if weights is not None else None
    return output, weights


def _fused(query: Tensor, key: Tensor, value: Tensor, visible: Visibility, dropout: float) -> Tensor:
    """PyTorch's fused attention; key heads that serve several query heads are not copied."""
    shared = query.shape[1] // key.shape[1]
    bias = (visible if visible.bias is not None else visible.ready("sdpa", query.dtype, shared)).bias
    if shared == 1 or query.device.type == "cpu":  # a CPU's kernel knows shared heads
        return F.scaled_dot_product_attention(query, key, value, bias[:, None, :, 0], dropout, enable_gqa=shared > 1)
    # On CUDA no kernel that takes a mask does. But to it, rows of the query heads that share a key head are just rows.
    rows = query.unflatten(1, (-1, shared)).transpose(2, 3).flatten(2, 3)  # (B, H_kv, N * H / H_kv, E)
    output = F.scaled_dot_product_attention(rows, key, value, bias.flatten(1, 2)[:, None], dropout)
    return output.unflatten(2, (-1, shared)).transpose(2, 3).flatten(1, 2)


def _causal(query: Tensor, key: Tensor, value: Tensor, streams: int, dropout: float) -> Tensor:
    """Causal attention of each stream to the same columns: to the kernel, the streams are more query heads."""
    heads = query.unflatten(2, (streams, -1)).flatten(1, 2)  # (B, H * streams, C, E)
    shared = heads.shape[1] != key.shape[1]
    output = F.scaled_dot_product_attention(heads, key, value, None, dropout, is_causal=True, enable_gqa=shared)
    return output.unflatten(1, (-1, streams)).flatten(2, 3)


def at_least_float32(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding: turn each pair (x_i, x_{i+E/2}) of x (B, H, N, E) by its position's angle i."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class A3Linear(nn.Linear):
    """A linear layer that is fast for a handful of rows too, as decoding has them.

    On a CPU, x W^T in float32 takes a slow path where x has a few rows. W x^T is the same product, up to five times as
    fast (benchmarks/decoding.py). A single row is a matrix times a vector either way.
    """

    def forward(self, x: Tensor) -> Tensor:
        rows = x.numel() // self.in_features
        few = 1 < rows <= FEW_ROWS and not torch.is_grad_enabled()
        here = x.device.type == "cpu" and x.dtype == torch.float32
        # torchao's weights are tensors of other kinds, which know their own products alone
        if not few or not here or type(self.weight.data) is not Tensor:
            return super().forward(x)
        out = (self.weight @ x.reshape(rows, self.in_features).T).T  # (M, out)
        out = out if self.bias is None else out + self.bias
        return out.reshape(*x.shape[:-1], self.out_features)


class A3RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, with the statistics in float32 whatever the dtype, as Llama has it."""

    def __init__(self, hidden_size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x32 = x.float()
        normed = x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * normed.to(x.dtype)


class KeyValueCache(Protocol):
    """Keys and values of content that was computed before: ``decode.cache`` has one, transformers another."""

    def update(self, key: Tensor, value: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Add a layer's new keys and values, (B, H_kv, C, E) each, and return all that it has."""


class A3Attention(nn.Module):
    """Two-stream attention: queries from both streams, keys and values from the content stream alone.

    Args:
        config: a ``model.A3Config``, which says what is not as in Llama.
        layer: the layer's number, from 0.
    """

    def __init__(self, config: LlamaConfig, layer: int):
        super().__init__()
        self.config, self.head_dim, self.layer = config, config.head_dim, layer
        wide, narrow = config.num_attention_heads * self.head_dim, config.num_key_value_heads * self.head_dim
        bias = config.attention_bias or config.qkv_bias
        self.q_proj = A3Linear(config.hidden_size, wide, bias=bias)
        self.k_proj = A3Linear(config.hidden_size, narrow, bias=bias)
        self.v_proj = A3Linear(config.hidden_size, narrow, bias=bias)
        self.o_proj = A3Linear(wide, config.hidden_size, bias=config.attention_bias)
        self.q_norm = A3RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = A3RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else nn.Identity()
        self.rotates = config.no_rope_layers is None or bool(config.no_rope_layers[layer])

    def forward(
        self,
        x: Tensor,
        content: Tensor,
        rope: tuple[Tensor, Tensor],
        visible: Visibility | flex.Blocks,
        kernel: str,
        cache: KeyValueCache | None,
    ) -> tuple[Tensor, Tensor | None]:
        cos, sin = rope  # (B, 1, N, E/2) each: the angles of the content rows, then of the query rows
        n_content, first_row = content.shape[1], cos.shape[2] - x.shape[1]
        query, key, value = (
            projected.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, heads, rows, E)
            for projected in (self.q_proj(x), self.k_proj(content), self.v_proj(content))
        )
        query, key = self.q_norm(query), self.k_norm(key)
        if self.rotates:
            query = rotate(query, cos[:, :, first_row:], sin[:, :, first_row:])
            key = rotate(key, cos[:, :, :n_content], sin[:, :, :n_content])
        if cache is not None:  # keys and values of earlier groups never change: put them before the new ones
            key, value = cache.update(key, value, self.layer)
        dropout = self.config.attention_dropout if self.training else 0.0
        output, weights = attend(query, key, value, visible, kernel, dropout)
        return self.o_proj(output.transpose(1, 2).flatten(2)), weights
