"""What does the second stream cost? One A3 step against one autoregressive step of the same weights.

Both steps are forward plus backward with SDPA: transformers' LlamaForCausalLM, and A3 at left-to-right singletons, each
with labels. They alternate in one run, and the median of the ratios is reported.

Memory, two figures: what the step keeps for its backward pass (the bytes of all distinct saved tensors but the
weights), and by how much one step raises the peak of a fresh process that holds the model and its gradients (resident
memory on a CPU, Linux only; allocated memory on a GPU).

    python benchmarks/two_stream.py
"""

import argparse
import statistics
from collections.abc import Callable, Iterable

import torch
from record import record
from timing import alone, resident, resident_peak, turns
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from a3mini import A3ForCausalLM, from_autoregressive, groups
from a3mini.train import memory

SHAPE = {
    "vocab_size": 4096, "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 1024, "tie_word_embeddings": True,
}  # fmt: skip
MIB = 2**20


def limit(length: int) -> float:
    """A3's multiplications over AR's, for SHAPE at left-to-right singletons: the same ratio, by count.

    Per token of width D, with S = 2 T D for attention; the head comes once. The causal kernel of the AR step may skip
    the upper half of S; the count gives neither side that.
        content, all but the last layer: q, k, v, o, MLP, S      content, last layer: k, v
        query, every layer:              q, o, MLP, S
    """
    width, layers = SHAPE["hidden_size"], SHAPE["num_hidden_layers"]
    square, mlp, scores = width**2, 3 * width * SHAPE["intermediate_size"], 2 * length * width
    head = width * SHAPE["vocab_size"]
    autoregressive = layers * (4 * square + mlp + scores) + head
    content = (layers - 1) * (4 * square + mlp + scores) + 2 * square
    query = layers * (2 * square + mlp + scores)
    return (content + query + head) * (length - 1) / (autoregressive * length)  # one position is given, one unseen


def saved_bytes(loss: Callable[[], Tensor], weights: Iterable[Tensor]) -> int:
    """Bytes of what a forward pass keeps for its backward pass, the weights aside."""
    own = {weight.untyped_storage().data_ptr() for weight in weights}
    saved = {}

    def note(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss()
    return sum(size for place, size in saved.items() if place not in own)


def make_models() -> dict[str, LlamaForCausalLM | A3ForCausalLM]:
    """Both from the same weights, on the GPU if there is one."""
    torch.manual_seed(0)
    llama = LlamaForCausalLM(LlamaConfig(**SHAPE)).to("cuda" if torch.cuda.is_available() else "cpu").train()
    return {"ar": llama, "a3": from_autoregressive(llama).train()}


def losses(models: dict, batch: int, length: int) -> dict[str, Callable[[], Tensor]]:
    """The forward pass of each kind of step, on the same tokens."""
    ids = torch.randint(SHAPE["vocab_size"], (batch, length), device=models["ar"].device)
    group_ids = groups.left_to_right(length).to(ids.device).expand_as(ids)
    return {
        "ar": lambda: models["ar"](ids, labels=ids, use_cache=False).loss,
        "a3": lambda: models["a3"](ids, group_ids, labels=ids).loss,
    }


def added_peak(kind: str, batch: int, length: int) -> int:
    """By how many bytes one step raises the peak memory of this process."""
    models = make_models()
    losses(models, 1, 8)[kind]().backward()  # gradients and kernels are there from now on
    loss = losses(models, batch, length)[kind]
    if torch.cuda.is_available():
        return memory.added(lambda: loss().backward(), "cuda")
    before = resident()
    return resident_peak(lambda: loss().backward()) - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    models, rows = make_models(), []
    for length in options.lengths:
        passes = losses(models, options.batch, length)
        saved = {kind: saved_bytes(loss, models[kind].parameters()) for kind, loss in passes.items()}
        seconds = turns({kind: lambda _, loss=loss: loss().backward() for kind, loss in passes.items()}, options.rounds)
        ratio = statistics.median(a3 / ar for ar, a3 in zip(seconds["ar"], seconds["a3"], strict=True))
        row = {"length": length, "ratio": ratio, "limit": limit(length)}
        for kind in passes:
            row[f"{kind}_ms"] = 1e3 * statistics.median(seconds[kind])
            row[f"{kind}_kept_mib"] = saved[kind] / MIB
            row[f"{kind}_peak_mib"] = alone(added_peak, kind, options.batch, length) / MIB
        rows.append({key: round(value, 3) for key, value in row.items()})
        print(rows[-1], flush=True)
    record("two_stream", seed=0, shape=SHAPE, batch=options.batch, rounds=options.rounds, rows=rows)


if __name__ == "__main__":
    main()
