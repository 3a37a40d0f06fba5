"""How much memory a training step takes: an estimate in plain arithmetic, and a measurement to check it with.

Four things live in memory at the worst moment of a step, which is the beginning of the backward pass::

    parameters      4 bytes a weight; with mixed precision also a copy of each matrix in 2 bytes
    gradients       4 bytes a trained weight (they are there while the next microbatch is computed)
    optimiser       8 bytes a trained weight: AdamW's two moments
    activations     what each layer keeps for its backward pass, for both streams
    logits          three arrays in float32, log-probabilities and two gradients, of at most ``head.LARGEST`` bytes each

The first three depend on the model, the last two on the batch. ``estimate`` counts them, ``added`` measures. What the
estimate leaves out: memory of CUDA itself (about half a GB), fragments between arrays, and the workspace of kernels
and of the optimiser's step.

Letters as in ``model``: B rows, T tokens, C content rows, Q query rows, D hidden size, V vocabulary; W and K are the
widths of all query heads and of all key heads, F that of the MLP.
"""

import weakref
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary
from transformers import LlamaConfig

from a3mini.head import rows_at_a_time

PRECISIONS = {"fp32": 4, "bf16": 2, "fp16": 2}  # bytes of a number in a matrix product
OPTIMISERS = {"adamw": 8, "sgd": 0}  # bytes of state a trained weight
FULL, LORA = "full", "lora"
FLOAT32 = 4
GB = 10**9


class Estimate(NamedTuple):
    """Bytes at the worst moment of a training step, by part."""

    parameters: int
    gradients: int
    optimiser: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        return sum(self)

    @property
    def fixed(self) -> int:
        """What does not depend on the batch."""
        return self.parameters + self.gradients + self.optimiser

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {value / GB:.2f}" for name, value in self._asdict().items())
        return f"{self.total / GB:.2f} GB: {parts}"


class Weights(NamedTuple):
    """How many weights a model has, and how many are trained."""

    all: int  # a tied head counts once
    matrices: int  # in linear layers: what mixed precision copies; the head is one
    trained: int


def count(config: LlamaConfig, trainable: str = FULL, lora_rank: int = 32) -> Weights:
    """The number of weights of an A3 model; low-rank additions, if any, included.

    Args:
        config: of an A3 or Llama model; ``pretrained.a3_config`` makes A3's of those of other sources.
        trainable: "full", or "lora": low-rank additions to all linear layers but the head, and w.
        lora_rank: of the additions.
    """
    shapes = _layer_matrices(config)
    outputs = [out for _, out in shapes]
    qkv_bias = config.attention_bias or getattr(config, "qkv_bias", False)
    bias = qkv_bias * sum(outputs[:3]) + config.attention_bias * outputs[3] + config.mlp_bias * sum(outputs[4:])
    layer = sum(into * out for into, out in shapes)
    vocabulary, layers, width = config.vocab_size * config.hidden_size, config.num_hidden_layers, config.hidden_size
    norms = 2 * width + 2 * config.head_dim * getattr(config, "qk_norm", False)
    matrices = layers * layer + vocabulary
    total = layers * (layer + bias + norms) + vocabulary * (1 if config.tie_word_embeddings else 2) + 2 * width
    if trainable == FULL:
        return Weights(total, matrices, total)
    additions = layers * sum(lora_rank * (into + out) for into, out in shapes)
    return Weights(total + additions, matrices + additions, additions + width)


def estimate(
    config: LlamaConfig,
    rows: int,
    length: int,
    query_share: float = 1.0,
    precision: str = "fp32",
    trainable: str = FULL,
    optimiser: str = "adamw",
    checkpointing: bool = False,
    lora_rank: int = 32,
    kernel: str = "sdpa",
    device: str = "cpu",
) -> Estimate:
    """Memory of a training step of A3, in bytes.

    Args:
        config: as in ``count``.
        rows: B, the rows that are computed at a time (a microbatch).
        length: T, tokens of a row.
        query_share: the share of the tokens that is predicted: 1 for left to right, 0.2 for a blank of a fifth.
        precision: "fp32", "bf16" or "fp16".
        trainable: "full" or "lora".
        optimiser: "adamw", or "sgd", which keeps nothing.
        checkpointing: whether layers keep their input only, and are computed again in the backward pass.
        lora_rank: of the additions.
        kernel: of attention: "sdpa", which keeps a mask for each layer, or "flex_attention".
        device: "cpu", or "cuda", whose kernels want a key head for each query head.

    Raises:
        ValueError: a number or a name that makes no sense.
    """
    _check(rows, length, query_share, precision, trainable, optimiser)
    weights = count(config, trainable, lora_rank)
    number = PRECISIONS[precision]
    vocabulary = config.vocab_size * config.hidden_size
    if number == FLOAT32:
        copied = 0
    elif checkpointing and trainable == LORA:  # copies of frozen matrices go with the layer that made them
        copied = vocabulary
    else:
        copied = weights.matrices

    queries = max(1, round(query_share * length))
    layer, last = (
        rows * _kept_by_layer(config, length, queries, asking, number, trainable, lora_rank, kernel, device)
        for asking in (length + queries, queries)  # in the last layer no content row asks
    )
    state = FLOAT32 * rows * (length + queries) * config.hidden_size  # what goes from layer to layer
    asked = min(rows * queries, rows_at_a_time(config.vocab_size))  # the logits of so many rows are there at a time
    head = asked * config.vocab_size * FLOAT32
    logits = 3 * head  # log-probabilities, and two gradients
    head_gradient = FLOAT32 * vocabulary if trainable == FULL else 0
    logits = max(logits, head + head_gradient)  # later, the gradient of the logits meets that of the head's weights
    if checkpointing:  # a layer is computed again when the logits are gone; a tied head's gradient waits to the end
        again = layer + state + number * rows * (length + queries) * config.intermediate_size
        again += head_gradient if config.tie_word_embeddings else 0
        activations = config.num_hidden_layers * state + max(0, again - logits)
    else:
        activations = (config.num_hidden_layers - 1) * layer + last
    if kernel == "sdpa":
        activations += rows * (length + queries) * length  # the mask itself, in booleans
    return Estimate(
        parameters=FLOAT32 * weights.all + number * copied,
        gradients=FLOAT32 * weights.trained,
        optimiser=OPTIMISERS[optimiser] * weights.trained,
        activations=activations,
        logits=logits,
    )


def _layer_matrices(config: LlamaConfig) -> list[tuple[int, int]]:
    """Inputs and outputs of a layer's matrices: q, k, v, o, gate, up, down."""
    width, hidden, narrow = config.hidden_size, config.intermediate_size, config.num_key_value_heads * config.head_dim
    wide = config.num_attention_heads * config.head_dim
    return [(width, wide), (width, narrow), (width, narrow), (wide, width)] + [(width, hidden)] * 2 + [(hidden, width)]


def _kept_by_layer(
    config: LlamaConfig,
    content: int,
    queries: int,
    asking: int,
    number: int,
    trainable: str,
    lora_rank: int,
    kernel: str,
    device: str,
) -> int:
    """Bytes that a layer keeps for its backward pass, for one row of the batch.

    ``content`` and ``queries`` rows come in; ``asking`` of them attend and go out, all or, in the last layer, queries.
    The state between layers and its norms are float32; products are in ``number`` bytes.
    """
    width, hidden = config.hidden_size, config.intermediate_size
    wide, narrow = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    mixed, into = number < FLOAT32, content + queries
    # a norm keeps its input and, if its own weight is trained, the normed input
    norms = FLOAT32 * width * (into + asking) * (2 if trainable == FULL else 1)
    if getattr(config, "qk_norm", False):  # queries and keys before they are normed, and after
        norms += (FLOAT32 + (number if trainable == FULL else 0)) * (asking * wide + content * narrow)
    # q reads all rows that ask, k and v the content; gate and up share one array, but for autocast's own copies
    inputs = number * width * (asking + 2 * content + asking * (2 if mixed else 1))
    keys = 2 * content * (narrow if device == "cpu" or kernel != "sdpa" else wide)
    heads = asking * wide * (3 if device == "cpu" else 2)  # q and the output; a CPU's kernel also copies the output
    mask = asking * content if kernel == "sdpa" else 0  # as numbers to add to the scores
    mlp = 4 * asking * hidden  # gate, its activation, up, and their product
    low_rank = lora_rank * (5 * asking + 2 * content) if trainable == LORA else 0
    return norms + inputs + number * (keys + heads + mask + mlp + low_rank)


def _check(rows: int, length: int, query_share: float, precision: str, trainable: str, optimiser: str) -> None:
    for name, value in (("rows", rows), ("length", length)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not 0 < query_share <= 1:
        raise ValueError(f"query_share must be a share of the tokens, above 0 and up to 1; got {query_share}")
    for name, value, allowed in (
        ("precision", precision, PRECISIONS),
        ("trainable", trainable, (FULL, LORA)),
        ("optimiser", optimiser, OPTIMISERS),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")


# Measuring


class Allocations(TorchDispatchMode):
    """Watches every tensor that PyTorch makes, and when it goes: the bytes alive, and the most that ever were."""

    def __init__(self):
        super().__init__()
        self.alive = self.peak = 0
        self._seen = WeakIdKeyDictionary()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        for tensor in tree_leaves((arguments, keywords)):  # what was there before is not ours
            if isinstance(tensor, torch.Tensor):
                self._seen.setdefault(tensor.untyped_storage(), 0)
        out = function(*arguments, **(keywords or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage() not in self._seen:
                storage = tensor.untyped_storage()
                self._seen[storage] = storage.nbytes()
                self.alive += storage.nbytes()
                weakref.finalize(storage, self._freed, storage.nbytes())
        self.peak = max(self.peak, self.alive)
        return out

    def _freed(self, size: int) -> None:
        self.alive -= size


def added(step: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """By how many bytes calling ``step`` raises memory at its worst moment, over what is there when it is called.

    On CUDA the allocator says it. Elsewhere every tensor is watched, which slows the step down.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with Allocations() as watched:
        step()
    return watched.peak


def held(model: torch.nn.Module, optimizer: torch.optim.Optimizer | None = None) -> int:
    """Bytes of parameters, of gradients and of the optimiser's state that are there now."""
    weights = list(model.parameters())  # a tied one comes once
    tensors = weights + [weight.grad for weight in weights if weight.grad is not None]
    if optimizer is not None:
        tensors += [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
