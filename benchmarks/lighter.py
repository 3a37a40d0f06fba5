"""What would make a pass at batch 1 cheaper on a CPU: weights of fewer bits, or compiled layers? And what does it lose?

    pip install torchao
    python benchmarks/lighter.py --tinystories FILE    about ten minutes on one CPU core
    python benchmarks/lighter.py --smoke               seconds, the compact model, nothing compiled; no result file

The adapter goes on from a prompt, one and four tokens at a time. All ways take turns; times are processor times of one
thread, medians over rounds. The loss is that of stories that it was not trained on, nats per token, exact, minus the
loss in float32, paired by rows. A compiled model computes the same, so its loss is not measured; it costs time before
its first pass, and ``passes_to_pay_back`` says after how many that is won again.
"""

import argparse
import copy
import os
import statistics
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from bounded import ADAPTER, GIVEN, LENGTH
from record import record
from texts import held_out
from timing import clock
from torch import Tensor, nn
from tradeoff import processor_time

from a3mini import decode, groups, objective, pretrained
from a3mini.decode.cache import ContentCache
from a3mini.evaluate import intervals
from a3mini.train import generator_for

PROMPT, NEW = 32, 24  # tokens
SIZES = (1, 4)  # tokens at a time
ROUNDS, ROWS = 5, 8
ORDERS = {
    "left to right": groups.blocks(LENGTH, 1, GIVEN),
    "far apart, 4": groups.strided(LENGTH, 4, GIVEN),
    "random": groups.shuffled(LENGTH, 1, GIVEN, generator=generator_for(0)),
}
AS_IT_IS, COMPILED = "float32", "float32, layers compiled"


def int8_weights(model: nn.Module) -> nn.Module:
    """torchao: a scale a row; each product unpacks the weights."""
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    quantize_(model, Int8WeightOnlyConfig())
    return model


def int8_products(model: nn.Module) -> nn.Module:
    """PyTorch's dynamic quantisation of the layers: rows are rounded too, as they come. PyTorch means to remove it."""
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

    for module in model.model.modules():
        if isinstance(module, nn.Linear):
            module.__class__ = nn.Linear  # it knows no other
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_dynamic(model.model, {nn.Linear: per_channel_dynamic_qconfig}, inplace=True)
    return model


def compiled(model: nn.Module) -> nn.Module:
    """Each layer, for any number of rows and columns, up to the cache and behind it."""
    for layer in model.model.layers:
        layer.compile(dynamic=True)
    return model


WAYS: dict[str, Callable[[nn.Module], nn.Module]] = {
    AS_IT_IS: lambda model: model,
    "bfloat16": lambda model: model.bfloat16(),
    "int8 weights (torchao)": int8_weights,
    "int8 products in the layers (PyTorch)": int8_products,
    COMPILED: compiled,
}


def work_done() -> float:
    """Processor seconds so far, of this process and of those that compiled for it."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def generate(model, prompt: Tensor, size: int, seed: int) -> decode.Generation:
    ids = torch.cat((prompt, prompt.new_zeros(1, NEW)), dim=1)
    order = groups.blocks(PROMPT + NEW, size, PROMPT)[None]
    return decode.generate(model, ids, order, generator=generator_for(seed), runners_up=0)


def losses(model, rows: Tensor) -> dict[str, Tensor]:
    """For each order the nats per token (B,) of each row."""
    known_order = model.config.known_order
    return {
        name: -objective.log_likelihood(model, rows, *groups.read_given(order.expand(len(rows), -1), known_order))
        / (LENGTH - GIVEN)
        for name, order in ORDERS.items()
    }


def measure(model, rows: Tensor, rounds: int, ways: list[str]) -> tuple[list[dict], float]:
    """A line for each way, and the milliseconds that reading all weights in float32 takes."""
    models, spent = {}, {}
    for name in ways:
        start = work_done()
        models[name] = WAYS[name](copy.deepcopy(model))
        for size in SIZES:  # the first run compiles, and reads what was packed
            generate(models[name], rows[:1, :PROMPT], size, 0)
        spent[name] = work_done() - start
        print(name, round(spent[name], 1), "seconds to make it and for its first tokens", flush=True)
    times = {(name, size): [] for name in ways for size in SIZES}
    for seed in range(rounds):
        for name, size in times:
            run = partial(generate, models[name], rows[:1, :PROMPT], size, seed)
            times[name, size].append(1e3 * processor_time(run)[0] * size / NEW)
    first, lines = losses(models[AS_IT_IS], rows), []
    for name, changed in models.items():
        line = {
            "way": name,
            "seconds_before": round(spent[name], 1),
            "ms_per_pass": {str(size): round(statistics.median(times[name, size]), 1) for size in SIZES},
        }
        if name == COMPILED:
            extra, before = 1e3 * (spent[name] - spent[AS_IT_IS]), lines[0]["ms_per_pass"]
            won = {size: before[size] - ms for size, ms in line["ms_per_pass"].items()}
            line["passes_to_pay_back"] = {size: round(extra / ms) if ms > 0 else None for size, ms in won.items()}
        elif name != AS_IT_IS:
            found = losses(changed, rows)
            line["more"] = {
                order: intervals.bootstrap(nats - first[order], torch.ones(len(rows))).rounded(4)
                for order, nats in found.items()
            }
        lines.append(line)
        print(line, flush=True)
    weights = sum(weight.nbytes for weight in model.parameters())
    big = torch.ones(2**28)  # 1 GiB
    return lines, 1e3 * weights / big.nbytes * min(clock(big.sum)[0] for _ in range(5))


@torch.inference_mode()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tinystories", type=Path, help="file of stories; default: the hub's TinyStories")
    parser.add_argument("--smoke", action="store_true", help="the compact model, nothing compiled, no result file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # several would wait for each other, and waiting counts as work
    if options.smoke:
        model, tokenizer, _ = pretrained.compact_model()
        rows = held_out(tokenizer, LENGTH, 2, options.tinystories)
        measure(model, rows, 1, [name for name in WAYS if name != COMPILED])
        return
    model, tokenizer, called = pretrained.adapted_model(ADAPTER)
    rows = held_out(tokenizer, LENGTH, ROWS, options.tinystories)
    from torch._dynamo import config as dynamo  # only here: slow imports
    from torch._inductor import config as inductor

    wanted = dict(allow_unspec_int_on_nn_module=True, recompile_limit=64, accumulated_recompile_limit=4096)
    cache = mock.patch.object(ContentCache, "update", torch.compiler.disable(ContentCache.update))
    with dynamo.patch(**wanted), inductor.patch(compile_threads=1), cache:
        lines, reading = measure(model, rows, ROUNDS, [*WAYS])
    record("lighter", seed=0, model=called, rows=len(rows), ms_to_read_the_weights=round(reading, 1), ways=lines)


if __name__ == "__main__":
    main()
