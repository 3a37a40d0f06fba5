"""Where does a training step spend a GPU's time? The trainer as it is, and steps of settled shapes.

    python benchmarks/gpu_step.py            three minutes on a CUDA GPU; writes book/results/gpu_step.json as it goes
    python benchmarks/gpu_step.py --smoke    a tiny model on the CPU, a few seconds; writes nothing

Weights and tokens are random: a step takes as long as with real ones. ``trainer`` rows are ``train.loop``'s own step on
rows of the curriculum "mixed", drawing included. ``settled`` rows compute every row of both streams at every position,
so that a batch has one shape: the plan is made on the device, nothing waits for the host, and layers and head can be
compiled. Tokens are those predicted; the share of the peak counts 6 operations a weight and row of either stream.
"""

import argparse
import time
from collections import Counter

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from gpu_lab import RANK, settled_hidden, train_additions, wait
from record import record
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from a3mini import A3Config, A3ForCausalLM, Curriculum, flex, groups, rows, train
from a3mini.train import devices
from a3mini.train.data import Blocks, Order
from a3mini.train.loop import draw_batches, loss_and_gradient
from a3mini.train.lora import add_lora

PEAK = 989e12  # bf16 operations a second that an H100's or H200's data sheet promises
SMOLLM2 = devices.MODELS["HuggingFaceTB/SmolLM2-135M"].to_dict()
COMPACT = dict(vocab_size=8192, hidden_size=256, intermediate_size=704, num_hidden_layers=8, num_attention_heads=4,
               num_key_value_heads=4, tie_word_embeddings=True)  # fmt: skip
TINY = dict(COMPACT, vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2)
SECONDS = 2.5  # of timed steps for each row


def build(shape: dict, device: str) -> A3ForCausalLM:
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
             "num_key_value_heads", "tie_word_embeddings")  # fmt: skip
    config = A3Config(**{n: shape[n] for n in names}, query_start="previous", max_position_embeddings=2048)
    with torch.device(device):
        return A3ForCausalLM(config).train()


def sample(vocabulary: int, batch: int, length: int, seed: int = 0) -> Blocks:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, vocabulary, (batch, length), generator=generator)
    ends = torch.rand(batch, length, generator=generator) < 0.07
    return Blocks(ids, torch.full((batch,), length), torch.arange(batch), ends)


def trainer_step(model, rows_at_a_time: int, length: int):
    """The step of ``train.loop``: draws its batch, computes, clips, updates."""
    accelerator = Accelerator(mixed_precision="bf16" if torch.cuda.is_available() else "no")
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-4)
    model, optimizer = accelerator.prepare(model, optimizer)
    recipe, config = (
        train.AnyOrder(Curriculum.preset("mixed"), "left_to_right"),
        train.TrainConfig(batch_size=rows_at_a_time),
    )
    blocks = sample(accelerator.unwrap_model(model).config.vocab_size, 8 * rows_at_a_time, length)
    order, number = Order(len(blocks.input_ids), 0), 0

    def step() -> int:
        nonlocal number
        _, batches = draw_batches(blocks, order, recipe, number % 1000, config, [slice(0, rows_at_a_time)])
        number += 1
        loss_and_gradient(model, recipe, batches, 1.0, accelerator)
        optimizer.step()
        optimizer.zero_grad()
        return sum(batch.count for batch in batches)

    return step


def settled_step(model, batch: int, length: int, kernel: str = "sdpa", compiled: str = "", lora: str = ""):
    """A step whose shapes are settled: draws nothing, waits for nothing. ``compiled``: "", "layers" or "whole"."""
    device = model.device.type
    if lora == "peft":
        model = add_lora(model, RANK, 2 * RANK).base_model.model
    elif lora == "materialised":
        train_additions(model)
    trained = [w for w in model.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    ids = torch.randint(3, model.config.vocab_size, (batch, length), device=device)
    group_ids = groups.shuffled(length, 1).expand(batch, -1).contiguous().to(device)
    labels = ids.masked_fill(group_ids <= 0, rows.IGNORED_LABEL)

    def head(hidden: Tensor, labels: Tensor) -> Tensor:
        logits = F.linear(hidden, model.lm_head.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=rows.IGNORED_LABEL)

    def forward(ids: Tensor, group_ids: Tensor, labels: Tensor) -> Tensor:
        return head(settled_hidden(model, ids, group_ids, kernel), labels)

    if compiled == "layers":
        head = torch.compile(head, dynamic=False)
        for layer in model.model.layers:
            layer.compile(dynamic=False)
    elif compiled == "whole":
        forward = torch.compile(forward, dynamic=False, fullgraph=True)

    def step() -> int:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            loss = forward(ids, group_ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad()
        return batch * (length - 1)

    return step


def measure(make, profiled: bool) -> dict:
    """Seconds of a step, tokens a second, memory; where asked, kernels, copies that wait, and the longest kernels."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    model, step = make()
    for _ in range(3):
        step()
    wait()
    warm, seconds, tokens, steps = time.perf_counter() - began, 0.0, 0, 0
    began = time.perf_counter()
    while seconds < SECONDS or steps < 3:
        tokens, steps = tokens + step(), steps + 1
        if steps % 3 == 0:
            wait()
            seconds = time.perf_counter() - began
    body = sum(w.numel() for name, w in model.named_parameters() if ".layers." in name and "lora" not in name)
    vocabulary = model.config.vocab_size * model.config.hidden_size
    operations = 6 * (2 * body + vocabulary) * tokens / seconds
    found = {"seconds_per_step": round(seconds / steps, 4), "tokens_per_second": round(tokens / seconds),
             "share_of_peak": round(operations / PEAK, 4), "warm_up_seconds": round(warm, 1)}  # fmt: skip
    if torch.cuda.is_available():
        found["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    if profiled:
        kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
        with profile(activities=kinds) as watched:
            step()
            wait()
        events = watched.events()
        kernels = [e for e in events if e.device_type == torch.autograd.DeviceType.CUDA]
        found["kernels"] = len(kernels)
        found["busy_seconds"] = round(sum(e.self_device_time_total for e in kernels) / 1e6, 4)
        found["waits"] = sum(e.name in ("cudaStreamSynchronize", "cudaDeviceSynchronize") for e in events)
        found["value_reads"] = sum(e.name == "aten::_local_scalar_dense" for e in events)
        longest = Counter()
        for event in kernels:
            longest[event.name[:90]] += event.self_device_time_total / 1e3
        found["longest_kernels_ms"] = {name: round(ms, 2) for name, ms in longest.most_common(12)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a tiny model on the CPU")
    parser.add_argument("--budget", type=float, default=170.0, help="seconds; what does not fit is left out")
    options = parser.parse_args()
    device = "cpu" if options.smoke else "cuda"
    large, small, n, t = (TINY, TINY, 1 / 32, 1 / 8) if options.smoke else (SMOLLM2, COMPACT, 1, 1)

    def trainer(shape, batch, length, lora=False):
        def make():
            model = build(shape, device)
            wrapped = add_lora(model, RANK, 2 * RANK) if lora else model
            return model, trainer_step(wrapped, max(1, round(batch * n)), round(length * t))

        return make

    def settled(shape, batch, length, *how, **more):
        def make():
            model = build(shape, device)
            return model, settled_step(model, max(1, round(batch * n)), round(length * t), *how, **more)

        return make

    table = {
        "trainer, all weights, 32 x 96": (trainer(large, 32, 96), True),
        "trainer, LoRA, 32 x 96": (trainer(large, 32, 96, True), True),
        "settled, compiled layers, all weights, 128 x 256": (settled(large, 128, 256, compiled="layers"), True),
        "settled, all weights, 128 x 256": (settled(large, 128, 256), True),
        "settled, compiled layers, LoRA materialised, 128 x 256":
            (settled(large, 128, 256, compiled="layers", lora="materialised"), False),
        "settled, compiled layers, LoRA by peft, 128 x 256":
            (settled(large, 128, 256, compiled="layers", lora="peft"), False),
        "trainer, all weights, 128 x 256": (trainer(large, 128, 256), False),
        "trainer, LoRA, 128 x 256": (trainer(large, 128, 256, True), False),
        "settled, compiled layers, FlexAttention, all weights, 128 x 256":
            (settled(large, 128, 256, flex.KERNEL, compiled="layers"), True),
        "settled, compiled layers, compact, 512 x 256": (settled(small, 512, 256, compiled="layers"), True),
        "trainer, compact, 128 x 256": (trainer(small, 128, 256), False),
        "settled, compiled layers, all weights, 256 x 256": (settled(large, 256, 256, compiled="layers"), False),
        "settled, compiled whole, all weights, 128 x 256": (settled(large, 128, 256, compiled="whole"), True),
    }  # fmt: skip
    found, began = {}, time.perf_counter()
    for name, (make, profiled) in table.items():
        if options.smoke and "Flex" in name:
            continue
        if time.perf_counter() - began > options.budget:
            found[name] = "left out: the time was over"
            continue
        try:
            found[name] = measure(make, profiled)
        except Exception as error:  # one row that fails must not cost the others
            found[name] = f"{type(error).__name__}: {str(error)[:600]}"
        torch.compiler.reset()
        print(f"{time.perf_counter() - began:6.1f} s  {name}: {found[name]}", flush=True)
        if not options.smoke:
            record("gpu_step", seed=0, device=devices.this()._asdict(), steps=found)


if __name__ == "__main__":
    main()
