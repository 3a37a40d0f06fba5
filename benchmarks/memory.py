"""The memory estimate of a training step against what is measured, for shapes from tiny to SmolLM2.

Each case runs in a process of its own: one step to make gradients and AdamW's state, then the step that is measured.
On a CPU twice: the bytes of all tensors that are alive (``memory.added``), and the peak of the process's resident
memory over what it was before there was a model (Linux only; with the kernels' own workspaces). For that the C library
is told to give large arrays back at once; as it comes, it keeps many of them. On a GPU: the bytes that PyTorch has
allocated. The weights are random: memory does not depend on them.

    python benchmarks/memory.py
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import torch
from record import record

from a3mini import A3Config, A3ForCausalLM, groups
from a3mini.train import add_lora, devices, memory

RANK = 32
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # glibc: an array of so many bytes goes back when it is freed
SMOLLM = "HuggingFaceTB/SmolLM2-135M"
SHAPES = {
    "compact": A3Config(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=True,
    ),
    "SmolLM2-135M": A3Config(**{key: value for key, value in devices.MODELS[SMOLLM].to_dict().items() if key[0] != "_"
                                and key not in ("model_type", "architectures", "transformers_version")}),
}  # fmt: skip
# shape, rows, length, share predicted, precision, trainable, checkpointing
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


def resident(what: str) -> int:
    """Bytes of memory of this process: "VmRSS", now, or "VmHWM", at its peak."""
    return 1024 * int(re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text()).group(1))


def measure(shape: str, rows: int, length: int, share: float, precision: str, trainable: str, checkpointing: bool):
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    linux = device == "cpu" and Path("/proc/self/clear_refs").exists()
    before = resident("VmRSS") if linux else None
    model = base = A3ForCausalLM(SHAPES[shape]).to(device).train()
    if trainable == memory.LORA:
        model = add_lora(model, RANK, 2 * RANK)
    if checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    ids = torch.randint(SHAPES[shape].vocab_size, (rows, length), device=device)
    position = torch.arange(length, device=device)
    group_ids = groups.infill((position >= round(length * (1 - share))) & (position > 0)).expand(rows, -1)
    optimizer = torch.optim.AdamW(weight for weight in model.parameters() if weight.requires_grad)

    def step():
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = model(input_ids=ids, group_ids=group_ids, labels=ids).loss
        loss.backward()

    step()
    optimizer.step()
    held = memory.held(model, optimizer)
    found = {"resident": None}
    if linux:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident now
        step()
        found["resident"] = resident("VmHWM") - before
    found["tensors"] = held + memory.added(step, device)
    options = {"checkpointing": checkpointing, "lora_rank": RANK, "device": device}
    estimate = memory.estimate(SHAPES[shape], rows, length, share, precision, trainable, **options)
    return {**found, "estimate": estimate._asdict(), "total": estimate.total}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", type=int, help="only measure this one, and print it as JSON")
    options = parser.parse_args()
    if options.case is not None:
        print(json.dumps(measure(*CASES[options.case])))
        return
    names = ("shape", "rows", "length", "query_share", "precision", "trainable", "checkpointing")
    rows = []
    for number, case in enumerate(CASES):
        command = [sys.executable, "-W", "ignore", __file__, "--case", str(number)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | GIVE_BACK)
        row = dict(zip(names, case, strict=True)) | json.loads(done.stdout.splitlines()[-1])
        rows.append(row)
        measured = [row[kind] for kind in ("tensors", "resident") if row[kind]]
        print(*case, f"estimate {row['total'] / memory.GB:.3f} GB;", "over measured:",
              *(f"{row['total'] / one:.2f}" for one in measured), flush=True)  # fmt: skip
    record("memory", seed=0, lora_rank=RANK, rows=rows)


if __name__ == "__main__":
    main()
