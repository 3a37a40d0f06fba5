"""Is the memory estimate of a training step right? Against what is measured, for shapes from tiny to SmolLM2.

Each case runs in a process of its own: one step to make gradients and AdamW's state, then the step that is measured.
On a CPU twice: the bytes of all tensors that are alive (``memory.added``), and the peak of the process's resident
memory over what it was before there was a model (Linux only; with the kernels' own workspaces). For that the C library
is told to give large arrays back at once; as it comes, it keeps many of them. On a GPU: the bytes that PyTorch has
allocated. The weights are random: memory does not depend on them.

    python benchmarks/memory.py
"""

import os
from pathlib import Path

import torch
from record import record
from timing import alone, resident, resident_peak
from two_stream import SHAPE

from a3mini import A3Config, A3ForCausalLM, groups
from a3mini.train import add_lora, devices, memory

RANK = 32
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # glibc: an array of so many bytes goes back when it is freed
SMOLLM = devices.MODELS["HuggingFaceTB/SmolLM2-135M"].to_dict() | {"model_type": A3Config.model_type}
SHAPES = {"compact": A3Config(**SHAPE), "SmolLM2-135M": A3Config.from_dict(SMOLLM)}
NAMES = ("shape", "rows", "length", "query_share", "precision", "trainable", "checkpointing")
CASES = [
    ("compact", 8, 128, 1.0, "fp32", "full", False),
    ("compact", 8, 128, 0.25, "fp32", "full", False),
    ("compact", 2, 128, 1.0, "bf16", "full", False),
    ("compact", 2, 512, 1.0, "fp32", "full", False),
    ("SmolLM2-135M", 1, 64, 1.0, "fp32", "full", False),
    ("SmolLM2-135M", 2, 128, 1.0, "fp32", "lora", False),
    ("SmolLM2-135M", 1, 64, 1.0, "bf16", "lora", False),
    ("SmolLM2-135M", 2, 128, 0.25, "fp32", "lora", False),
    ("SmolLM2-135M", 4, 128, 1.0, "fp32", "lora", True),
]


def measure(shape: str, rows: int, length: int, share: float, precision: str, trainable: str, checkpointing: bool):
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    linux = device == "cpu" and Path("/proc/self/clear_refs").exists()
    before = resident() if linux else None
    model = base = A3ForCausalLM(SHAPES[shape]).to(device).train()
    if trainable == memory.LORA:
        model = add_lora(model, RANK, 2 * RANK)
    if checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    ids = torch.randint(SHAPES[shape].vocab_size, (rows, length), device=device)
    position = torch.arange(length, device=device)
    group_ids = groups.infill((position >= round(length * (1 - share))) & (position > 0)).expand(rows, -1)
    optimizer = torch.optim.AdamW(weight for weight in model.parameters() if weight.requires_grad)

    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = model(input_ids=ids, group_ids=group_ids, labels=ids).loss
        loss.backward()

    step()
    optimizer.step()
    held = memory.held(model, optimizer)
    peak = resident_peak(step) - before if linux else None
    options = {"checkpointing": checkpointing, "lora_rank": RANK, "device": device}
    estimate = memory.estimate(SHAPES[shape], rows, length, share, precision, trainable, **options)
    measured = {"resident": peak, "tensors": held + memory.added(step, device)}
    return {**measured, "estimate": estimate._asdict(), "total": estimate.total}


def main() -> None:
    os.environ |= GIVE_BACK  # of the processes that are started
    rows = []
    for case in CASES:
        row = alone(measure, *case)
        over = {kind: round(row["total"] / row[kind], 2) for kind in ("tensors", "resident") if row[kind]}
        print(*case, f"estimate {row['total'] / memory.GB:.3f} GB; over measured: {over}", flush=True)
        rows.append(dict(zip(NAMES, case, strict=True)) | row)
    record("memory", seed=0, lora_rank=RANK, rows=rows)


if __name__ == "__main__":
    main()
