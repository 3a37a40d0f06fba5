"""What a device can do, and how to train on it: precision, batch, checkpointing, kernel, what to train.

``this`` looks at the machine. All else are pure functions of what it found and of the memory estimate, so they can be
tried for a device that is not there. No device is known by its name.
"""

from typing import NamedTuple

import torch
from transformers import LlamaConfig

from a3mini import flex
from a3mini.train import kernels, memory

USABLE = 0.85  # of the memory; the rest is for the driver, for kernels' workspaces and for gaps between arrays
ENOUGH = 2048  # tokens at a time that keep a GPU busy; with fewer, most of its time is spent on starting kernels
LONG = 0.1  # the share of a step's memory in the default kernel's masks from which FlexAttention is worth it
MEASURED = 32  # rows of a pass without gradients, at most; more fill no GPU better


def _smollm2(hidden: int, intermediate: int, layers: int, heads: int, key_heads: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=49152,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        tie_word_embeddings=True,
    )


# The models that we offer, the largest first: hub id and shape. Anyone may fetch them, without asking for access.
MODELS = {
    "HuggingFaceTB/SmolLM2-1.7B": _smollm2(2048, 8192, 24, 32, 32),
    "HuggingFaceTB/SmolLM2-360M": _smollm2(960, 2560, 32, 15, 5),
    "HuggingFaceTB/SmolLM2-135M": _smollm2(576, 1536, 30, 9, 3),
}


class Device(NamedTuple):
    """A device to train on."""

    kind: str  # "cuda", "mps" or "cpu"
    name: str
    memory: int  # bytes
    capability: tuple[int, int] = (0, 0)  # of a CUDA device: T4 (7, 5), A100 (8, 0), L4 (8, 9), H100 (9, 0)
    native_bf16: bool = False  # whether a CPU has instructions for bfloat16

    def __str__(self) -> str:
        return f"{self.name} ({self.kind}), {self.memory / memory.GB:.0f} GB"


class Plan(NamedTuple):
    """How to train a model on a device."""

    precision: str
    trainable: str  # "full" or "lora"
    micro_batch_size: int  # rows at a time
    accumulation: int  # microbatches of a step
    activation_checkpointing: bool
    kernel: str  # of attention; for ``model.set_attn_implementation``
    estimate: memory.Estimate
    evaluation_batch_size: int  # rows of a pass without gradients

    def settings(self) -> dict:
        """The part that ``train.TrainConfig`` takes."""
        return {name: getattr(self, name) for name in ("precision", "micro_batch_size", "activation_checkpointing")}


def this() -> Device:
    """The device that PyTorch would train on here: a CUDA GPU, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        found = torch.cuda.get_device_properties(torch.cuda.current_device())
        return Device("cuda", found.name, found.total_memory, (found.major, found.minor))
    if torch.backends.mps.is_available():
        return Device("mps", "Apple GPU", torch.mps.recommended_max_memory())
    import psutil  # only here: it comes with accelerate

    return Device("cpu", "CPU", psutil.virtual_memory().total, native_bf16=native_bf16())


def native_bf16() -> bool:
    """Whether this CPU has instructions for bfloat16."""
    return getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()  # PyTorch's own test, under a private name


def best_precision(device: str, capability: tuple[int, int] = (0, 0), native_bf16: bool = False) -> str:
    """The mixed precision that a device does best; weights and optimiser stay float32 in any case.

    Args:
        device: "cuda", "cpu", "mps", ...
        capability: of a CUDA device, as ``torch.cuda.get_device_capability`` gives it: T4 (7, 5), A100 (8, 0).
        native_bf16: whether a CPU has instructions for bfloat16.
    """
    if device == "cuda":  # before Ampere bfloat16 is emulated
        return "bf16" if capability >= (8, 0) else "fp16"
    return "bf16" if device == "cpu" and native_bf16 else "fp32"


def best_kernel(device: Device, config: LlamaConfig, length: int, query_share: float = 1.0) -> str:
    """The attention kernel by memory alone: FlexAttention where the default one's masks, of T^2 numbers, take too much.

    FlexAttention is compiled for CUDA, and well supported from Ampere on (capability 8.0).
    """
    if device.kind != "cuda" or device.capability < (8, 0):
        return "sdpa"
    precision = best_precision(device.kind, device.capability)
    dense, sparse = (
        memory.estimate(config, 1, length, query_share, precision, kernel=kernel, device="cuda").activations
        for kernel in ("sdpa", flex.KERNEL)
    )
    return flex.KERNEL if 1 - sparse / dense > LONG else "sdpa"


def plan(
    device: Device,
    config: LlamaConfig,
    batch_size: int,
    length: int,
    query_share: float = 1.0,
    trainable: str | None = None,
    lora_rank: int = 32,
    measured: dict[str, float] | None = None,
) -> Plan:
    """How to compute a step of ``batch_size`` rows of ``length`` tokens in the memory of a device.

    It tries all weights, then LoRA, then LoRA with activation checkpointing, and takes the first that has room for the
    whole step, or for ``ENOUGH`` tokens at a time; if none has, the one with room for the most rows.

    Args:
        device: see ``this``.
        config: of the model.
        batch_size: rows of a step.
        length: tokens of a row.
        query_share: the share of the tokens that is predicted.
        trainable: "full" or "lora", if the choice is not to be made here.
        lora_rank: of the low-rank additions.
        measured: seconds of each kernel on this device, as ``kernels.measure`` gives them; the fastest is taken. None:
            ``best_kernel``.

    Raises:
        ValueError: not even one row fits; a number or a name that makes no sense.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if trainable not in (None, memory.FULL, memory.LORA):
        raise ValueError(f"trainable must be one of {memory.FULL}, {memory.LORA}, or None; got {trainable!r}")
    precision = best_precision(device.kind, device.capability, device.native_bf16)
    kernel = kernels.fastest(measured) if measured else best_kernel(device, config, length, query_share)
    sizes = [rows for rows in range(batch_size, 0, -1) if batch_size % rows == 0]
    ways = [(memory.FULL, False), (memory.LORA, False), (memory.LORA, True)]
    if trainable is not None:
        ways = [(trainable, False), (trainable, True)]
    best = smallest = None
    for kind, checkpointing in ways:
        for rows in sizes:
            found = _estimate(device, config, rows, length, query_share, kind, checkpointing, lora_rank, kernel)
            smallest = found
            if found.total <= USABLE * device.memory:
                if best is None or rows > best.micro_batch_size:
                    measured = evaluation_rows(device, config, length, kind, lora_rank)
                    best = Plan(
                        precision, kind, rows, batch_size // rows, checkpointing, kernel, found, measured or rows
                    )
                break
        if best is not None and (best.accumulation == 1 or best.micro_batch_size * length >= ENOUGH):
            return best
    if best is None:
        raise ValueError(
            f"one row of {length} tokens needs {smallest}, but of the {device.memory / memory.GB:.1f} GB of "
            f"{device.name} only {USABLE:.0%} can be used; {_would_fit(device, config, length, query_share, ways[-1])}"
        )
    return best


def _estimate(
    device, config, rows, length, query_share, kind, checkpointing, lora_rank=32, kernel=None
) -> memory.Estimate:
    """What a step takes on a device, in its precision and with its kernel."""
    return memory.estimate(
        config,
        rows,
        length,
        query_share,
        best_precision(device.kind, device.capability, device.native_bf16),
        kind,
        checkpointing=checkpointing,
        lora_rank=lora_rank,
        kernel=kernel or best_kernel(device, config, length, query_share),
        device="cpu" if device.kind == "cpu" else "cuda",
    )


def _would_fit(device: Device, config: LlamaConfig, length: int, query_share: float, way: tuple[str, bool]) -> str:
    """What fits instead, for an error: shorter rows of the same model, and another model with rows of this length."""

    def fits(other: LlamaConfig, tokens: int, way: tuple[str, bool]) -> bool:
        return _estimate(device, other, 1, tokens, query_share, *way).total <= USABLE * device.memory

    shorter = next((n for n in (length >> shift for shift in range(1, 12)) if n >= 64 and fits(config, n, way)), None)
    smaller = [name for name, other in MODELS.items() if fits(other, length, (memory.LORA, True))]
    found = [f"rows of {shorter} tokens"] if shorter else []
    found += [f"{smaller[0]} with LoRA"] if smaller else []
    return f"what would fit: {', or '.join(found)}" if found else "a smaller model or a larger device is needed"


def evaluation_rows(
    device: Device, config: LlamaConfig, length: int, trainable: str = memory.LORA, lora_rank: int = 32
) -> int:
    """How many rows of ``length`` tokens a pass without gradients may have, in the middle of a training.

    Weights and optimiser stay where they are; a pass holds one layer at a time, and the logits. What a step with
    activation checkpointing takes is no less than that. A power of 2, at most ``MEASURED``; 0: not even one row fits.
    """
    for rows in (MEASURED >> shift for shift in range(MEASURED.bit_length())):
        found = _estimate(device, config, rows, length, 1.0, trainable, True, lora_rank)
        if found.total <= USABLE * device.memory:
            return rows
    return 0


def offer(device: Device, length: int = 512) -> str:
    """The hub id of the largest of ``MODELS`` that a device trains at a good pace.

    On a GPU: with ``ENOUGH`` tokens at a time, with LoRA at least, without checkpointing. On a CPU the smallest, for
    there time is short before memory is.
    """
    *larger, smallest = MODELS
    rows = -(-ENOUGH // length)
    for name in larger if device.kind != "cpu" else ():
        if _estimate(device, MODELS[name], rows, length, 1.0, memory.LORA, False).total <= USABLE * device.memory:
            return name
    return smallest
