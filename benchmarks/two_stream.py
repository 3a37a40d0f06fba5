"""What the second stream costs: one A3 step against one autoregressive step of the same weights.

Both steps are forward plus backward with SDPA: transformers' LlamaForCausalLM with labels, and A3 at
left-to-right singletons with labels. They alternate in one run, and the median of the ratios is reported.

The limit is the same ratio by count of multiplications. Per token of width D, with S = 2 T D for attention:
    content, all but the last layer: q, k, v, o, MLP, S      content, last layer: k, v
    query, every layer:              q, o, MLP, S            head: once
The causal kernel of the AR step may skip the upper half of S; the count gives neither side that.

Memory is what the step keeps for its backward pass: the bytes of all distinct saved tensors but the weights.

    python benchmarks/two_stream.py
"""

import argparse
import statistics
import time

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
    options = parser.parse_args()

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    llama = LlamaForCausalLM(LlamaConfig(**SHAPE)).to(device).train()
    model = from_autoregressive(llama).train()
    rows = []
    print("    T   AR ms   A3 ms   ratio   limit   ratio/limit   memory ratio")
    for length in options.lengths:
        ids = torch.randint(SHAPE["vocab_size"], (options.batch, length), device=device)
        group_ids = groups.left_to_right(length).to(device).expand_as(ids)
        steps = {"ar": lambda ids=ids: llama(ids, labels=ids, use_cache=False).loss}
        steps["a3"] = lambda ids=ids, group_ids=group_ids: model(ids, group_ids, labels=ids).loss
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
        }
        rows.append({key: round(value, 3) for key, value in row.items()})
        print(
            f"{length:5d} {row['ar_ms']:7.0f} {row['a3_ms']:7.0f} {row['ratio']:7.2f} {row['limit']:7.2f} "
            f"{row['ratio'] / row['limit']:13.2f} {memory['a3'] / memory['ar']:14.2f}"
        )
    record("two_stream", seed=0, shape=SHAPE, batch=options.batch, rounds=options.rounds, rows=rows)


if __name__ == "__main__":
    main()
