"""The A3 model: a Llama whose every layer carries two streams (paper: two-stream attention).

The **content stream** starts from token embeddings; the row of a token sees its own group and all earlier
ones, so it may encode the token itself. The **query stream** starts from one learned vector w, the same at
every position; the row of a token sees earlier groups only, so it may predict the token. Keys and values
always come from the content stream, and all other weights serve both streams. The parameter names are
Llama's, plus ``model.query_embedding``, so that a Llama checkpoint loads by name.

How it is computed. Both streams go through a layer together, stacked along the sequence: one projection,
one attention call, one MLP. Only rows that something needs exist: query rows where a token is predicted,
content rows where some such query, directly or through other rows, can see them, and in the last layer no
content row at all beyond its keys and values. So each batch row has its own number of rows; they are packed
to the left, and shorter ones are filled up with slots that see nothing and are seen by nothing.

Shapes: B batch, T positions, C content slots, Q query slots, N = C + Q, D hidden size, H heads, E head size,
V vocabulary.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, LlamaConfig, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.utils import ModelOutput

from a3mini import flex, groups, masks, rows
from a3mini.decode.cache import ContentCache
from a3mini.rows import Slots

FEW_ROWS = 8  # up to here ``A3Linear`` turns its product round
ROPE_TYPES = ("default", "linear", "llama3", "yarn")  # those whose angles do not depend on the length at hand


class A3Config(LlamaConfig):
    """The size and shape of an A3 model; the fields are those of ``transformers.LlamaConfig``.

    Attributes:
        known_order: how given tokens read each other in the training of the weights: "together" or "left_to_right"
            (``groups.read_given``). ``decode.infill`` reads them the same way; the model itself takes any groups.

    Raises:
        ValueError: rope parameters of a type whose angles change with the length of the text.
    """

    model_type = "a3"
    known_order = "together"

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.rope_parameters["rope_type"] not in ROPE_TYPES:
            raise ValueError(
                f"A3 does not cover rope_type {self.rope_parameters['rope_type']!r}; it covers {', '.join(ROPE_TYPES)}"
            )


@dataclass
class A3Output(ModelOutput):
    """What ``A3ForCausalLM`` returns; fields that were not asked for are None.

    loss: scalar, mean negative log-likelihood, nats per predicted token.
    logits: (B, T, V), query stream: the token AT each position; zeros where nothing is predicted.
    content_logits: (B, T, V), content stream through the same head; zeros at padding.
    log_probs: (B, T), log-probability of each label, nats; zero where there is none.
    content_attentions, query_attentions: one (B, H, T, T) per layer, [row, column]; zeros in rows that see nothing.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    content_logits: Tensor | None = None
    log_probs: Tensor | None = None
    content_attentions: tuple[Tensor, ...] | None = None
    query_attentions: tuple[Tensor, ...] | None = None


class Visibility(NamedTuple):
    """Who may see whom among the slots, and the rule for rows that may see nothing.

    Kernels disagree about a row whose every column is masked: some give NaN, some zeros, some the mean of all
    values. So no kernel ever meets one. ``mask`` lets such a row see everything, and ``attend`` then sets its
    output to zero, which also stops the gradient. This is the only place that knows the rule.
    """

    mask: Tensor  # (B, N, C) bool, True = may attend; rows that see nothing are all True
    empty: Tensor | None  # (B, N, 1) bool, True where a row may see nothing; None if there is no such row

    @classmethod
    def of(cls, mask: Tensor) -> "Visibility":
        empty = ~mask.any(-1, keepdim=True)
        return cls(mask | empty, empty) if empty.any() else cls(mask, None)

    def rows(self, start: int) -> "Visibility":
        return Visibility(self.mask[:, start:], None if self.empty is None else self.empty[:, start:])


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Visibility | flex.Blocks,
    kernel: str,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention, softmax(q k / sqrt(E)) v, over the visible columns; zero for empty rows.

    Args:
        query: (B, H, N, E).
        key, value: (B, H_kv, C, E); each head of these serves H / H_kv consecutive query heads.
        visible: a ``Visibility``; or ``flex.Blocks``, for the kernel that leaves out what is not visible.
        kernel: "eager" writes the formula out and also returns the weights; any other is fused.

    Returns:
        the output (B, H, N, E), and the weights (B, H, N, C) or None.
    """
    if key.shape[2] == 0:  # there is no content at all: every row is empty
        return query * 0.0, query.new_zeros(*query.shape[:3], 0) if kernel == "eager" else None
    weights, by_blocks = None, isinstance(visible, flex.Blocks)
    shared = query.shape[1] // key.shape[1]
    # On CUDA the kernels that take a mask want as many key heads as query heads; on a CPU copies only cost time.
    grouped = by_blocks or (kernel != "eager" and shared > 1 and query.device.type == "cpu")
    if shared > 1 and not grouped:
        key, value = key.repeat_interleave(shared, dim=1), value.repeat_interleave(shared, dim=1)
    if by_blocks:
        output = flex.attend(query, key, value, visible)
    elif kernel != "eager":
        mask = visible.mask[:, None]  # the same for all heads
        output = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, enable_gqa=grouped
        )
    else:
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        scores = at_least_float32(scores).masked_fill(~visible.mask[:, None], float("-inf"))
        weights = F.dropout(scores.softmax(-1).to(query.dtype), dropout)
        output = weights @ value
    if visible.empty is not None:
        empty = visible.empty[:, None]
        output = output.masked_fill(empty, 0.0)
        weights = weights.masked_fill(empty, 0.0) if weights is not None else None
    return output, weights


def at_least_float32(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding: turn each pair (x_i, x_{i+E/2}) of x (B, H, N, E) by its position's angle i."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class A3Linear(nn.Linear):
    """A linear layer that is fast for a handful of rows too, as decoding has them.

    On a CPU, x W^T in float32 takes a slow path where x has few rows. W x^T is the same product, up to five times as
    fast (benchmarks/decoding.py). A single row goes twice, since that is faster still than a matrix times a vector.
    """

    def forward(self, x: Tensor) -> Tensor:
        rows = x.numel() // self.in_features
        few = 0 < rows <= FEW_ROWS and not torch.is_grad_enabled()
        if not few or x.device.type != "cpu" or x.dtype != torch.float32:
            return super().forward(x)
        flat = x.reshape(rows, self.in_features)  # (M, in)
        out = (self.weight @ (flat if rows > 1 else flat.repeat(2, 1)).T).T[:rows]  # (M, out)
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


class A3Attention(nn.Module):
    """Two-stream attention: queries from both streams, keys and values from the content stream alone."""

    def __init__(self, config: A3Config, layer: int):
        super().__init__()
        self.config, self.head_dim, self.layer = config, config.head_dim, layer
        wide, narrow = config.num_attention_heads * self.head_dim, config.num_key_value_heads * self.head_dim
        self.q_proj = A3Linear(config.hidden_size, wide, bias=config.attention_bias)
        self.k_proj = A3Linear(config.hidden_size, narrow, bias=config.attention_bias)
        self.v_proj = A3Linear(config.hidden_size, narrow, bias=config.attention_bias)
        self.o_proj = A3Linear(wide, config.hidden_size, bias=config.attention_bias)

    def forward(
        self,
        x: Tensor,
        content: Tensor,
        rope: tuple[Tensor, Tensor],
        visible: Visibility | flex.Blocks,
        kernel: str,
        cache: ContentCache | None,
    ) -> tuple[Tensor, Tensor | None]:
        cos, sin = rope  # (B, 1, N, E/2) each: the angles of the content rows, then of the query rows
        n_content, first_row = content.shape[1], cos.shape[2] - x.shape[1]
        query, key, value = (
            projected.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, heads, rows, E)
            for projected in (self.q_proj(x), self.k_proj(content), self.v_proj(content))
        )
        query = rotate(query, cos[:, :, first_row:], sin[:, :, first_row:])
        key = rotate(key, cos[:, :, :n_content], sin[:, :, :n_content])
        if cache is not None:  # keys and values of earlier groups never change: put them before the new ones
            key, value = cache.update(key, value, self.layer)
        dropout = self.config.attention_dropout if self.training else 0.0
        output, weights = attend(query, key, value, visible, kernel, dropout)
        return self.o_proj(output.transpose(1, 2).flatten(2)), weights


class A3MLP(nn.Module):
    """SwiGLU: down(act(gate x) * up x)."""

    def __init__(self, config: A3Config):
        super().__init__()
        self.gate_proj = A3Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = A3Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = A3Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)
        self.act = ACT2FN[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))


class A3DecoderLayer(GradientCheckpointingLayer):
    """Norm, attention, residual; norm, MLP, residual: for both streams at once."""

    def __init__(self, config: A3Config, layer: int):
        super().__init__()
        self.self_attn = A3Attention(config, layer)
        self.mlp = A3MLP(config)
        self.input_layernorm = A3RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = A3RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        hidden: Tensor,
        n_content: int,
        rope: tuple[Tensor, Tensor],
        visible: Visibility | flex.Blocks,
        kernel: str,
        cache: ContentCache | None,
        first_row: int,
    ) -> tuple[Tensor, Tensor | None]:
        """From hidden (B, N, D), content rows first, to the rows from ``first_row`` on, and their attention."""
        normed = self.input_layernorm(hidden)
        visible = visible.rows(first_row)
        attended, weights = self.self_attn(normed[:, first_row:], normed[:, :n_content], rope, visible, kernel, cache)
        # The paper's own code adds the MLP to the normed state. Llama adds it to the state before the norm.
        hidden = hidden[:, first_row:] + attended
        return hidden + self.mlp(self.post_attention_layernorm(hidden)), weights


class A3PreTrainedModel(PreTrainedModel):
    """Saving, loading and initialising, from transformers."""

    config_class = A3Config
    base_model_prefix = "model"
    _no_split_modules = ["A3DecoderLayer"]
    _supports_sdpa = True
    _supports_flex_attn = True
    supports_gradient_checkpointing = True

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        return True  # ``forward`` reads the switch anew each time; transformers guesses from the source text, and wrong

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, A3Model):  # a fresh w looks like a token's embedding
            init.normal_(module.query_embedding, mean=0.0, std=self.config.initializer_range)


class A3Model(A3PreTrainedModel):
    """Embeddings, w, the layers and the last norm."""

    def __init__(self, config: A3Config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.query_embedding = nn.Parameter(torch.empty(config.hidden_size))  # w
        self.layers = nn.ModuleList(A3DecoderLayer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = A3RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_init()

    def rope(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine, (B, 1, N, E/2) each, of the angles at ``positions`` (B, N); computed in float32."""
        parameters = self.config.rope_parameters
        if parameters["rope_type"] == "default":
            exponent = torch.arange(0, self.config.head_dim, 2, dtype=torch.float32) / self.config.head_dim
            frequency, scale = 1.0 / parameters["rope_theta"] ** exponent, 1.0
        else:
            frequency, scale = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](self.config, device="cpu")
        angle = positions[:, None, :, None].float() * frequency.to(positions.device)  # (B, 1, N, E/2)
        return (angle.cos() * scale).to(dtype), (angle.sin() * scale).to(dtype)

    def forward(
        self,
        content_ids: Tensor,
        positions: Tensor,
        visible: Visibility | flex.Blocks,
        kernel: str,
        keep_content: bool,
        cache: ContentCache | None = None,
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Run both streams.

        Args:
            content_ids: int64, (B, C), the tokens of the content rows.
            positions: int64, (B, N), the positions of the content rows, then of the query rows.
            visible: what each of the N rows sees among the content rows: those in the cache, then these.
            kernel: which attention kernel; see ``attend``.
            keep_content: whether the content rows are wanted after the last layer.
            cache: keys and values of content rows computed before; the new ones are added to it. Its ``update``
                takes the new keys and values, (B, H_kv, C, E) each, and the layer's number, and returns all of them.

        Returns:
            the last hidden states, (B, N, D), or (B, Q, D) without content; and each layer's attention or None.
        """
        batch, n_content = content_ids.shape
        content = self.embed_tokens(content_ids)
        query = self.query_embedding.expand(batch, positions.shape[1] - n_content, -1)
        hidden = torch.cat((content, query.to(content.dtype)), dim=1)  # (B, N, D)
        rope = self.rope(positions, hidden.dtype)
        attentions = []
        for number, layer in enumerate(self.layers, start=1):
            first_row = 0 if keep_content or number < len(self.layers) else n_content
            hidden, weights = layer(hidden, n_content, rope, visible, kernel, cache, first_row)
            attentions.append(weights)
        return self.norm(hidden), attentions


class A3ForCausalLM(A3PreTrainedModel):
    """A3 with its language-model head. Call it with tokens and ``group_ids``; see ``forward``."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: A3Config):
        super().__init__(config)
        self.model = A3Model(config)
        self.lm_head = A3Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @classmethod
    def from_pretrained(cls, folder, **kwargs) -> "A3ForCausalLM":
        """Load what ``save_pretrained`` wrote: safetensors only, and every tensor must find its place.

        Raises:
            ValueError: a tensor is missing, left over, or of another shape.
        """
        return load_strictly(super().from_pretrained, folder, **kwargs)

    def forward(
        self,
        input_ids: Tensor,
        group_ids: Tensor,
        labels: Tensor | None = None,
        content_logits: bool = False,
        return_logits: bool | None = None,
        output_attentions: bool = False,
    ) -> A3Output:
        """Predict every token of each group from all earlier groups (paper: the groupwise factorisation).

        Args:
            input_ids: int64, (B, T). Tokens at predicted positions feed the content stream of later groups;
                those at padding are never read.
            group_ids: int64, (B, T): 0 given, 1 .. K predicted in that order, -1 padding; see ``groups``.
            labels: int64, (B, T), the token AT each position, not shifted; ``labels=input_ids`` is right.
                Positions whose group id is 0 or -1, or whose label is -100, do not count.
            content_logits: also carry the content stream through the last layer and the head.
            return_logits: dense query logits; by default only when there are no labels.
            output_attentions: also return every layer's attention weights, with the kernel that writes them out.

        Raises:
            TypeError, ValueError: an argument of the wrong type, shape or range; labels with nothing to predict; an
                attention kernel that cannot run here (``flex.check``).
        """
        config = self.config
        group_ids, counted = rows.check(input_ids, group_ids, labels, config.vocab_size, config.max_position_embeddings)
        kernel = "eager" if output_attentions else config._attn_implementation
        by_blocks = kernel == flex.KERNEL
        if by_blocks:
            trained = torch.is_grad_enabled() and any(weight.requires_grad for weight in self.parameters())
            flex.check(self.device, trained, config.attention_dropout if self.training else 0.0)
        if return_logits is None:
            return_logits = labels is None
        predicted = group_ids > 0 if return_logits else counted
        last_group = group_ids.masked_fill(~predicted, 0).amax(-1, keepdim=True)  # nothing looks at it, or beyond it
        keep_content = content_logits or output_attentions
        needed = group_ids >= 0 if keep_content else (group_ids >= 0) & (group_ids < last_group)

        order = group_ids if by_blocks else None  # blocks that nobody sees exist in the order of generation only
        content, query = Slots.where(needed, order), Slots.where(predicted, order)
        n_content, length = content.index.shape[1], input_ids.shape[1]
        content_groups, query_groups = (slots.take(group_ids, groups.PADDING) for slots in (content, query))
        if by_blocks and n_content:
            visible = flex.Blocks.of(content_groups, query_groups)
        else:
            content_mask = masks.may_attend(content_groups, content_groups, own_group=True)  # (B, C, C)
            query_mask = masks.may_attend(query_groups, content_groups, own_group=False)  # (B, Q, C)
            visible = Visibility.of(torch.cat((content_mask, query_mask), dim=1))
        hidden, attentions = self.model(
            content_ids=content.take(input_ids, 0),
            positions=torch.cat((content.index, query.index), dim=1),
            visible=visible,
            kernel=kernel,
            keep_content=keep_content,
        )

        out = A3Output()
        hidden_query = hidden[:, hidden.shape[1] - query.index.shape[1] :]  # (B, Q, D)
        if content_logits:
            out.content_logits = content.put_back(self.lm_head(hidden[:, :n_content]), length)
        if return_logits:
            out.logits = query.put_back(self.lm_head(hidden_query), length)
        if labels is not None:
            # the slots may stand in another order than the labels
            found = out.logits if return_logits else query.put_back(hidden_query, length)
            logits = found[counted] if return_logits else self.lm_head(found[counted])  # (M, V)
            log_probs = -F.cross_entropy(at_least_float32(logits), labels[counted], reduction="none")  # (M,)
            out.loss = -log_probs.mean()
            out.log_probs = log_probs.new_zeros(group_ids.shape).masked_scatter(counted, log_probs)
        if output_attentions:
            out.content_attentions = tuple(_unpack(content, content, w[:, :, :n_content], length) for w in attentions)
            out.query_attentions = tuple(_unpack(query, content, w[:, :, n_content:], length) for w in attentions)
        return out


AutoConfig.register(A3Config.model_type, A3Config)  # so that transformers knows a saved A3 by its config.json


def _unpack(row_slots: Slots, column_slots: Slots, weights: Tensor, length: int) -> Tensor:
    """Attention weights (B, H, R, C) of the slots at their positions: (B, H, T, T)."""
    by_row = row_slots.put_back(weights.permute(0, 2, 3, 1), length)  # (B, T, C, H)
    return column_slots.put_back(by_row.transpose(1, 2), length).permute(0, 3, 2, 1)


def load_strictly(load, source, **kwargs):
    """Call a ``from_pretrained`` that must use every tensor of the source and fill every tensor of the model.

    Raises:
        ValueError: a tensor is missing, left over, or of another shape; all are named.
    """
    model, report = load(source, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs)
    problems = {what: sorted(map(str, names)) for what, names in report.items() if names}
    if problems:
        raise ValueError(f"{source} does not fit {type(model).__name__} tensor by tensor: {problems}")
    return model
