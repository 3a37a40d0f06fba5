"""What the second stream costs: one A3 step against one autoregressive step of the same weights.

Both steps are forward plus backward with SDPA: transformers' LlamaForCausalLM with labels, and A3 at
left-to-right singletons with labels. They alternate in one run, and the median of the ratios is reported.

The limit is the same ratio by count of multiplications. Per token of width D, with S = 2 T D for attention:
    content, all but the last layer: q, k, v, o, MLP, S      content, last layer: k, v
    query, every layer:              q, o, MLP, S            head: once
The causal kernel of the AR step may skip the upper half of S; the count gives neither side that.

Memory, two figures: what the step keeps for its backward pass (the bytes of all distinct saved tensors but
the weights), and by how much one step raises the peak of a fresh process that holds the model and its gradients
(resident memory on a CPU, allocated memory on a GPU).

    python benchmarks/two_stream.py
"""

import argparse
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from record import record
from transformers import LlamaConfig, LlamaForCausalLM

from a3mini import from_autoregressive, groups

SHAPE = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}


def limit(length: int) -> float:
    """A3's multiplications over AR's, for SHAPE at left-to-right singletons."""
    width, layers = SHAPE["hidden_size"], SHAPE["num_hidden_layers"]
    square, mlp, scores = width**2, 3 * width * SHAPE["intermediate_size"], 2 * length * width
    head = width * SHAPE["vocab_size"]
    autoregressive = layers * (4 * square + mlp + scores) + head
    content = (layers - 1) * (4 * square + mlp + scores) + 2 * square
    query = layers * (2 * square + mlp + scores)
    return (content + query + head) * (length - 1) / (autoregressive * length)  # one position is given, one unseen


def saved_bytes(step, weights) -> int:
    own = {weight.untyped_storage().data_ptr() for weight in weights}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = step()
        total = sum(kept.values())
    loss.backward()
    return total


def added_peak(step) -> float:
    """By how much one step raises the peak memory of this process, MiB. On a CPU: Linux only."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step().backward()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident now

    def peak() -> float:  # KiB
        return float(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text()).group(1))

    before = peak()
    step().backward()
    return (peak() - before) / 2**10


def peak_of_a_step(kind: str, batch: int, length: int) -> float:
    """Run this file again for one step of ``kind`` in a process of its own; MiB."""
    command = [sys.executable, __file__, "--peak", kind, "--batch", str(batch), "--lengths", str(length)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def make_step(kind: str, llama, model, batch: int, length: int):
    ids = torch.randint(SHAPE["vocab_size"], (batch, length), device=llama.device)
    group_ids = groups.left_to_right(length).to(ids.device).expand_as(ids)
    if kind == "ar":
        return lambda: llama(ids, labels=ids, use_cache=False).loss
    return lambda: model(ids, group_ids, labels=ids).loss


def timed(step) -> float:
    start = time.perf_counter()
    step().backward()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--peak", choices=["ar", "a3"], help="only print the peak memory of one such step, MiB")
    options = parser.parse_args()

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    llama = LlamaForCausalLM(LlamaConfig(**SHAPE)).to(device).train()
    model = from_autoregressive(llama).train()
    if options.peak:
        make_step(options.peak, llama, model, 1, 8)().backward()  # gradients and kernels are there from now on
        print(added_peak(make_step(options.peak, llama, model, options.batch, options.lengths[0])))
        return
    rows = []
    print("    T   AR ms   A3 ms   ratio   limit   ratio/limit   kept ratio   peak ratio")
    for length in options.lengths:
        steps = {kind: make_step(kind, llama, model, options.batch, length) for kind in ("ar", "a3")}
        memory = {"ar": saved_bytes(steps["ar"], llama.parameters())}  # these two also warm up
        memory["a3"] = saved_bytes(steps["a3"], model.parameters())
        pairs = [(timed(steps["ar"]), timed(steps["a3"])) for _ in range(options.rounds)]
        row = {
            "length": length,
            "ar_ms": 1e3 * statistics.median(ar for ar, _ in pairs),
            "a3_ms": 1e3 * statistics.median(a3 for _, a3 in pairs),
            "ratio": statistics.median(a3 / ar for ar, a3 in pairs),
            "limit": limit(length),
            "ar_kept_mib": memory["ar"] / 2**20,
            "a3_kept_mib": memory["a3"] / 2**20,
            "ar_peak_mib": peak_of_a_step("ar", options.batch, length),
            "a3_peak_mib": peak_of_a_step("a3", options.batch, length),
        }
        rows.append({key: round(value, 3) for key, value in row.items()})
        print(
            f"{length:5d} {row['ar_ms']:7.0f} {row['a3_ms']:7.0f} {row['ratio']:7.2f} {row['limit']:7.2f} "
            f"{row['ratio'] / row['limit']:13.2f} {memory['a3'] / memory['ar']:12.2f} "
            f"{row['a3_peak_mib'] / row['ar_peak_mib']:12.2f}"
        )
    record("two_stream", seed=0, shape=SHAPE, batch=options.batch, rounds=options.rounds, rows=rows)


if __name__ == "__main__":
    main()
