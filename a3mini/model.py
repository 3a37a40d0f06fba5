"""The A3 model: a Llama whose every layer carries two streams (paper: two-stream attention).

The **content stream** starts from token embeddings; the row of a token sees its own group and all earlier
ones, so it may encode the token itself. The **query stream** starts from one learned vector w, the same at
every position; the row of a token sees earlier groups only, so it may predict the token. Keys and values
always come from the content stream, and all other weights serve both streams. The parameter names are
Llama's, plus ``model.query_embedding``, so that a Llama checkpoint loads by name. What Mistral, Qwen and SmolLM3 change
of Llama is a few lines of the attention, switched on by the config. With ``query_start="previous"``, which is ours, a
query row starts from the embedding of the token before it wherever it may see that token.

How it is computed. Both streams go through a layer together, stacked along the sequence: one projection,
one attention call, one MLP. Only rows that something needs exist: query rows where a token is predicted,
content rows where some such query, directly or through other rows, can see them, and in the last layer no
content row at all beyond its keys and values. So each batch row has its own number of rows; they are packed
to the left, and shorter ones are filled up with slots that see nothing and are seen by nothing.

Shapes: B batch, T positions, C content slots, Q query slots, N = C + Q, D hidden size, H heads, E head size,
V vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, LlamaConfig, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.utils import ModelOutput

from a3mini import flat, flex, groups, head, rows
from a3mini.attention import A3Attention, A3Linear, A3RMSNorm, KeyValueCache, Texts, Visibility
from a3mini.flat import FlatPlan
from a3mini.head import Head
from a3mini.rows import Plan, Slots

ROPE_TYPES = ("default", "linear", "llama3", "yarn")  # those whose angles do not depend on the length at hand


class A3Config(LlamaConfig):
    """The size and shape of an A3 model; the fields are those of ``transformers.LlamaConfig``, and these.

    Attributes:
        qkv_bias: whether the projections to queries, keys and values have biases and the one back has none, as in
            Qwen2. Llama's ``attention_bias`` gives all four one.
        qk_norm: whether each head's query and key are normed (``A3RMSNorm``, one weight a layer for all heads) before
            they are rotated, as in Qwen3.
        no_rope_layers: which layers rotate queries and keys, one number a layer, as in SmolLM3, whose name this is: 1
            where a layer does, 0 where it has no positions at all. None: all do.
        known_order: how given tokens read each other in the training of the weights: "together" or "left_to_right"
            (``groups.read_given``). Chosen here once; training (``AnyOrder``), adapters, ``decode.infill`` and
            evaluation read it. The model itself takes any groups.
        query_start: what query rows start from: "vector", the paper's w at every position; or "previous", ours: the row
            at position i starts from the embedding of token i - 1, at its rotary position, where that token stands in
            an earlier group (given tokens do), else from w. Position 0, and a position whose left neighbour is padding
            or comes later, start from w.
        empty_token_id: the token that ends a blank before its room is used up, if the training had blanks with spare
            room. ``decode.infill`` fills blanks to their last token and never draws it.

    Raises:
        ValueError: another ``query_start`` or ``known_order``; rope parameters of a type whose angles change with the
            length of the text, or that turn a part of each head alone; ``no_rope_layers`` that are not one 0 or 1 for
            each layer.
    """

    model_type = "a3"
    qkv_bias = False
    qk_norm = False
    no_rope_layers = None
    known_order = "together"
    query_start = "vector"
    empty_token_id = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        rows.check_query_start(self.query_start)
        groups.check_known_order(self.known_order)
        if self.rope_parameters["rope_type"] not in ROPE_TYPES:
            raise ValueError(
                f"A3 does not cover rope_type {self.rope_parameters['rope_type']!r}; it covers {', '.join(ROPE_TYPES)}"
            )
        part = self.rope_parameters.get("partial_rotary_factor", 1)
        if part != 1 and self.rope_parameters["rope_type"] != "default":  # where Llama pays no attention to it
            raise ValueError(f"A3 does not cover partial_rotary_factor {part!r}, nor does Llama; it must be 1")
        rotated, layers = self.no_rope_layers, self.num_hidden_layers
        if rotated is not None and (len(rotated) != layers or not all(flag in (0, 1) for flag in rotated)):
            raise ValueError(f"no_rope_layers must have {layers} numbers, one a layer, each 0 or 1; got {rotated!r}")


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
        visible: Visibility | Texts | flex.Blocks,
        kernel: str,
        cache: KeyValueCache | None,
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
            pairs = torch.arange(0, self.config.head_dim, 2, dtype=torch.float32, device=positions.device)
            frequency, scale = 1.0 / parameters["rope_theta"] ** (pairs / self.config.head_dim), 1.0
        else:
            frequency, scale = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](self.config, device=positions.device)
        angle = positions[:, None, :, None].float() * frequency  # (B, 1, N, E/2)
        return (angle.cos() * scale).to(dtype), (angle.sin() * scale).to(dtype)

    def query_rows(self, positions: Tensor, query_ids: Tensor | None, dtype: torch.dtype) -> Tensor:
        """What the query rows start from, (B, Q, D): w, or the embedding of the token before.

        Args:
            positions: int64, (B, Q), their rotary positions: where a row starts from a token, that token's.
            query_ids: as ``forward`` has it.
            dtype: of the content rows.
        """
        query = self.query_embedding.expand(*positions.shape, -1).to(dtype)
        if query_ids is not None:
            warm = (query_ids != rows.FROM_VECTOR)[..., None]
            query = torch.where(warm, self.embed_tokens(query_ids.clamp(min=0)), query)
        return query

    def forward(
        self,
        content_ids: Tensor,
        positions: Tensor,
        visible: Visibility | Texts | flex.Blocks,
        kernel: str,
        keep_content: bool,
        cache: KeyValueCache | None = None,
        query_ids: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Run both streams.

        Args:
            content_ids: int64, (B, C), the tokens of the content rows.
            positions: int64, (B, N), the rotary positions of the content rows, then of the query rows.
            visible: what each of the N rows sees among the content rows: those in the cache, then these.
            kernel: which attention kernel; see ``attend``.
            keep_content: whether the content rows are wanted after the last layer.
            cache: keys and values of content rows computed before; the new ones are added to it. Its ``update``
                takes the new keys and values, (B, H_kv, C, E) each, and the layer's number, and returns all of them.
            query_ids: int64, (B, Q), the tokens from whose embeddings the query rows start, ``rows.FROM_VECTOR`` where
                from w; None: all from w. See ``rows.Starts``.

        Returns:
            the last hidden states, (B, N, D), or (B, Q, D) without content; and each layer's attention or None.
        """
        n_content = content_ids.shape[1]
        content = self.embed_tokens(content_ids)
        query = self.query_rows(positions[:, n_content:], query_ids, content.dtype)
        hidden = torch.cat((content, query), dim=1)  # (B, N, D)
        rope = self.rope(positions, hidden.dtype)
        shared = self.config.num_attention_heads // self.config.num_key_value_heads
        visible = visible.ready(kernel, matrix_dtype(hidden), shared)
        attentions = []
        for number, layer in enumerate(self.layers, start=1):
            first_row = 0 if keep_content or number < len(self.layers) else n_content
            hidden, weights = layer(hidden, n_content, rope, visible, kernel, cache, first_row)
            attentions.append(weights)
        return self.norm(hidden), attentions


class A3ForCausalLM(A3PreTrainedModel):
    """A3 with its language-model head. Call it with tokens and ``group_ids``; see ``forward``."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    few_shapes = False  # whether ``forward`` rounds shapes up, as it should where it is compiled

    def __init__(self, config: A3Config):
        super().__init__(config)
        self.model = A3Model(config)
        self.lm_head = Head(config.hidden_size, config.vocab_size, bias=False)
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
        input_ids: Tensor | None = None,
        group_ids: Tensor | None = None,
        labels: Tensor | None = None,
        content_logits: bool = False,
        return_logits: bool | None = None,
        output_attentions: bool = False,
        plan: FlatPlan | None = None,
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
            plan: instead of all these: what ``flat.plan`` made of them ahead, on the model's device. Nothing is
                checked, and nothing waits for a value; ``log_probs`` is then that of each query row in the line, (Q,).

        Raises:
            TypeError, ValueError: an argument of the wrong type, shape or range; labels with nothing to predict; an
                attention kernel that cannot run here (``flex.check``).
        """
        config = self.config
        kernel = "eager" if output_attentions else config._attn_implementation
        if plan is not None:
            return self.score(plan, kernel)
        group_ids, counted = rows.check(input_ids, group_ids, labels, config.vocab_size, config.max_position_embeddings)
        if kernel == flex.KERNEL:
            trained = torch.is_grad_enabled() and any(weight.requires_grad for weight in self.parameters())
            flex.check(self.device, trained, config.attention_dropout if self.training else 0.0)
        if return_logits is None:
            return_logits = labels is None
        if not (return_logits or content_logits or output_attentions):
            unit = -(-group_ids.numel() // flat.LEVELS) if self.few_shapes else 0
            plan = flat.plan(input_ids, group_ids, labels, unit)
            out = self.score(plan, kernel)
            nothing = out.log_probs.new_zeros(group_ids.numel() + 1)  # one place more, for rows that only fill up
            out.log_probs = nothing.index_put((plan.places,), out.log_probs)[:-1].view_as(group_ids)
            return out
        plan = Plan.of(
            input_ids,
            group_ids,
            labels,
            counted,
            predicted=group_ids > 0 if return_logits else counted,
            keep_content=content_logits or output_attentions,
            in_order=kernel == flex.KERNEL,  # blocks that nobody sees exist in the order of generation only
            query_start=config.query_start,
        )
        return self.compute(plan, kernel, content_logits, return_logits, output_attentions)

    def score(self, plan: FlatPlan, kernel: str) -> A3Output:
        """The log-probabilities (Q,) of a plan's labels, 0 where a row only fills up, and their mean, the loss.

        Every shape here is one of the plan's: nothing depends on a value, so a GPU never waits for its host.
        """
        line, (start, before) = plan.positions, (self.config.query_start, plan.before)
        if start == "previous":  # such a row stands where the token before it does
            warm = F.pad((before != rows.FROM_VECTOR).long(), (line.shape[1] - before.shape[1], 0))
            line = line - warm
        hidden, _ = self.model(
            content_ids=plan.content_ids,
            positions=line,
            query_ids=before if start == "previous" else None,
            visible=flex.Blocks.of_texts(plan) if kernel == flex.KERNEL else Texts.of(plan),
            kernel=kernel,
            keep_content=False,
        )
        log_probs = head.log_probs(hidden[0], self.lm_head, plan.labels)
        return A3Output(loss=-log_probs.sum() / (plan.labels != rows.IGNORED_LABEL).sum(), log_probs=log_probs)

    def compute(
        self, plan: Plan, kernel: str, content_logits: bool, return_logits: bool, output_attentions: bool
    ) -> A3Output:
        """Dense logits, and what else ``forward`` was asked for, once it has made a plan; nothing waits for a value.

        Args:
            plan: which rows to compute; see ``rows.Plan``.
            kernel: which attention kernel; see ``attend``.
            content_logits, return_logits, output_attentions: as in ``forward``.
        """
        content, query, length = plan.content, plan.query, plan.length
        n_content, n_query = content.index.shape[1], query.index.shape[1]
        by_blocks = kernel == flex.KERNEL and n_content > 0
        visible = (flex.Blocks if by_blocks else Visibility).between(plan.content_groups, plan.query_groups, plan.empty)
        hidden, attentions = self.model(
            content_ids=plan.content_ids,
            positions=torch.cat((content.index, plan.starts.positions), dim=1),
            query_ids=plan.starts.tokens,
            visible=visible,
            kernel=kernel,
            keep_content=plan.keep_content,
        )

        out = A3Output()
        hidden_query = hidden[:, hidden.shape[1] - n_query :]  # (B, Q, D)
        if content_logits:
            out.content_logits = content.put_back(self.lm_head(hidden[:, :n_content]), length)
        if return_logits:
            out.logits = query.put_back(self.lm_head(hidden_query), length)
        if plan.labels is not None:
            log_probs = head.log_probs(hidden_query.flatten(0, 1), self.lm_head, plan.labels.flatten())
            out.loss = -log_probs.sum() / (plan.labels != rows.IGNORED_LABEL).sum()
            out.log_probs = query.put_back(log_probs.view_as(plan.labels), length)
        if output_attentions:
            out.content_attentions = tuple(_unpack(content, content, w[:, :, :n_content], length) for w in attentions)
            out.query_attentions = tuple(_unpack(query, content, w[:, :, n_content:], length) for w in attentions)
        return out


AutoConfig.register(A3Config.model_type, A3Config)  # so that transformers knows a saved A3 by its config.json


def matrix_dtype(values: Tensor) -> torch.dtype:
    """In what numbers attention computes: autocast's where it is on."""
    kind = values.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return values.dtype


def _unpack(row_slots: Slots, column_slots: Slots, weights: Tensor, length: int) -> Tensor:
    """Attention weights (B, H, R, C) of the slots at their positions: (B, H, T, T)."""
    by_row = row_slots.put_back(weights.permute(0, 2, 3, 1), length)  # (B, T, C, H)
    return column_slots.put_back(by_row.transpose(1, 2), length).permute(0, 3, 2, 1)


def load_strictly(load, source, **kwargs):
    """Call a ``from_pretrained`` that must use every tensor of the source and fill every tensor of the model.

    Code that comes with a model is never run.

    Raises:
        ValueError: a tensor is missing, left over, or of another shape; all are named.
    """
    kwargs |= {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    model, report = load(source, **kwargs | {"trust_remote_code": False})
    problems = {what: sorted(map(str, names)) for what, names in report.items() if names}
    if problems:
        raise ValueError(f"{source} does not fit {type(model).__name__} tensor by tensor: {problems}")
    return model
