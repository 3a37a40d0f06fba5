"""How fast does A3 decode, on the shape and weights of SmolLM2-135M, against transformers' own ``generate``?

With and without the cache, in groups, dynamically, speculatively, and autoregressively with a cache, all in one
process. Times do not depend on how good the model is, so it is not adapted. What does depend on it, how many drafts
pass, is measured on the compact model as well, which is. Long cells without a cache, and dynamic ones, are
extrapolated from eight evenly spaced steps; they are marked so.

    python benchmarks/decoding.py                 about 25 minutes on two cores; leave the machine alone
    python benchmarks/decoding.py --quick         a minute; writes nothing
"""

import argparse
import os
import statistics
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from itertools import product
from unittest import mock

import torch
from record import record
from timing import clock
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from a3mini import decode, from_autoregressive, groups, speculative
from a3mini.attention import A3Linear
from a3mini.decode import Trace
from a3mini.pretrained import compact_model, small_model
from a3mini.train import generator_for
from a3mini.train.data import start_token
from a3mini.train.tokens import encode

PROMPT = 32  # tokens
STEPS = 8  # measured, where a cell is extrapolated
SIZES = (1, 2, 4, 8)
ORDERS = ("left to right", "random order")
PROMPT_TEXT = "Once upon a time there was a little girl who lived with her mother in a small house by the sea. " * 2
KINDS = {  # of operations, and what their names hold; the first that fits
    "matrix products": ("addmm", "aten::mm", "linear", "mkldnn"),
    "attention": ("attention", "bmm"),
    "softmax and draws": ("softmax", "multinomial", "topk", "argmax"),
    "everything else": ("",),
}


class Enough(Exception):
    """The steps that were wanted have been timed."""


class Bench:
    """A model, the autoregressive one that it came from, and a prompt; ``cells`` collects the results."""

    def __init__(self, tokenizer, model, llama=None):
        text = [start_token(tokenizer), *encode(tokenizer, [PROMPT_TEXT])[0]][:PROMPT]
        self.model, self.llama, self.prompt = model, llama, torch.tensor([text], device=model.device)
        self.cells: list[dict] = []

    def ids(self, batch: int, new: int) -> Tensor:
        return torch.cat((self.prompt, self.prompt.new_zeros(1, new)), dim=1).expand(batch, -1)

    def order(self, batch: int, new: int, size: int, name: str = "left to right") -> Tensor:
        """Group ids behind the prompt."""
        make = groups.shuffled if name == "random order" else groups.blocks
        group_ids = make(PROMPT + new, size, PROMPT, generator=generator_for(0))
        return group_ids.to(self.model.device).expand(batch, -1)

    def add(self, what: str, batch: int, new: int, seconds: float, passes: float, extrapolated=False, **more) -> None:
        self.cells.append({
            "what": what, "batch": batch, "new_tokens": new, "seconds": round(seconds, 3), "passes": round(passes, 1),
            "tokens_per_second": round(batch * new / seconds, 1), "ms_per_sample": round(1e3 * seconds / batch, 1),
            "ms_per_pass": round(1e3 * seconds / passes, 2), "extrapolated": extrapolated,
            "dtype": str(self.model.dtype).removeprefix("torch."), **more,
        })  # fmt: skip
        print(*(f"{name} {value};" for name, value in self.cells[-1].items()), flush=True)

    def autoregressive(self, batch: int, new: int, turned: bool = False) -> None:
        """transformers' ``generate``; ``turned`` gives it our linear layers, so that both have the same products."""
        for module in self.llama.modules():
            if isinstance(module, torch.nn.Linear):
                module.__class__ = A3Linear if turned else torch.nn.Linear
        prompt = self.prompt.expand(batch, -1)
        options = dict(max_new_tokens=new, min_new_tokens=new, do_sample=True, top_k=0, use_cache=True, pad_token_id=0)
        run = partial(self.llama.generate, prompt, attention_mask=torch.ones_like(prompt), **options)
        self.add("transformers generate" + ", our products" * turned, batch, new, clock(run)[0], new)

    def groupwise(self, batch: int, new: int, size: int) -> None:
        run = partial(decode.generate, self.model, self.ids(batch, new), self.order(batch, new, size), runners_up=0)
        self.add(f"groups of {size}", batch, new, clock(run)[0], -(-new // size))

    def uncached(self, batch: int, new: int, size: int) -> None:
        """The same without a cache, from eight steps: up to there everything is known, in its groups."""
        order, passes = self.order(batch, new, size), -(-new // size)
        run = partial(decode.generate, self.model, self.ids(batch, new), order, use_cache=False, runners_up=0)
        times = [step_time(partial(run, known=(order > 0) & (order < group)), 1) for group in spread(passes)]
        self.add(f"groups of {size}, no cache", batch, new, passes * statistics.mean(times), passes, True)

    def dynamic(self, batch: int, new: int, per_step: int, context: str) -> None:
        """From eight steps, open positions at random; the second of two is timed: the first feeds all that is known."""
        passes, times = -(-new // per_step), []
        for number in spread(passes):
            filled = min((number - 1) * per_step, new - 2 * per_step)
            turn = torch.cat((torch.full((PROMPT,), -1), torch.randperm(new, generator=generator_for(0, number))))
            unknown = (turn >= filled).expand(batch, -1).to(self.model.device)
            run = partial(decode.resample, self.model, self.ids(batch, new), unknown, per_step, context=context)
            times.append(step_time(partial(run, runners_up=0), 2))
        seconds = passes * statistics.mean(times)
        self.add(f"confidence, {per_step} a step, {context}", batch, new, seconds, passes, True)

    def speculative(self, batch: int, new: int, draft: int, order: str, name: str = "speculative") -> None:
        run = partial(speculative.generate, self.model, self.ids(batch, new), self.order(batch, new, 1, order))
        seconds, done = clock(partial(run, generator=generator_for(1), draft=draft, runners_up=0))
        passes = done.trace.passes
        what, mean = f"{name}, {order}, drafts of {draft}", round(statistics.mean(passes), 1)
        self.add(what, batch, new, seconds, max(passes), mean_passes=mean)


def spread(passes: int) -> list[int]:
    """Eight steps of 1 .. passes, evenly spaced, each in the middle of its eighth."""
    return sorted({1 + int((n + 0.5) * passes / STEPS) for n in range(STEPS)})


def step_time(run, wanted: int) -> float:
    """Seconds of step number ``wanted`` of a decoding, which is broken off then."""
    ends, right = [], Trace.commit

    def commit(self, *arguments, **options):
        right(self, *arguments, **options)
        ends.append(time.perf_counter())
        if len(ends) > wanted:
            raise Enough

    with mock.patch.object(Trace, "commit", commit), suppress(Enough):
        ends.append(time.perf_counter())
        run()
    return ends[wanted] - ends[wanted - 1]


def what_bounds_it(bench: Bench, size: int, steps: int = 24) -> dict:
    """Where the time of a step goes: shares of CPU time by kind of operation, and the time to read all weights once."""
    new = steps * size
    run = partial(decode.generate, bench.model, bench.ids(1, new), bench.order(1, new, size), runners_up=0)
    run()
    seconds, _ = clock(run)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run()
    spent = Counter()
    for event in profiler.key_averages():
        kind = next(kind for kind, parts in KINDS.items() if any(part in event.key for part in parts))
        spent[kind] += event.self_cpu_time_total
    weights = sum(weight.nbytes for weight in bench.model.parameters())
    big = torch.ones(2**28)  # 1 GiB
    read = big.nbytes / min(clock(big.sum)[0] for _ in range(5))
    return {
        "group_size": size, "ms_per_pass": round(1e3 * seconds / steps, 2), "weights_mb": round(weights / 1e6, 1),
        "share": {kind: round(value / spent.total(), 3) for kind, value in sorted(spent.items())},
        "memory_gb_per_second": round(read / 1e9, 1), "ms_to_read_the_weights": round(1e3 * weights / read, 2),
    }  # fmt: skip


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few and short cells; nothing is written")
    options = parser.parse_args()
    lengths, batches = ((16,), (1,)) if options.quick else ((128, 512), (1, 8))
    load = os.getloadavg()[0]
    torch.manual_seed(0)

    small, compact = small_model(), compact_model()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    llama = small.autoregressive.to(device)
    bench = Bench(small.tokenizer, from_autoregressive(llama), llama)
    bench.autoregressive(1, 16)  # to warm up
    bench.groupwise(1, 16, 1)
    bench.cells.clear()
    bounds = [] if device == "cuda" else [what_bounds_it(bench, size) for size in (1, 4)]
    for batch, new in product(batches, lengths):
        bench.autoregressive(batch, new)
        bench.autoregressive(batch, new, turned=True)
        for size in SIZES:
            bench.groupwise(batch, new, size)
        for size in (1, 4):
            bench.uncached(batch, new, size)
        for context in ("committed", "refreshed"):
            bench.dynamic(batch, new, 4, context)
        for order in ORDERS:
            bench.speculative(batch, new, 8, order)
    half = Bench(small.tokenizer, bench.model.to(torch.bfloat16), llama.to(torch.bfloat16))
    half.autoregressive(1, 16)  # to warm up
    half.cells.clear()
    for new in lengths:
        half.autoregressive(1, new)
        for size in SIZES:
            half.groupwise(1, new, size)
    other = Bench(compact.tokenizer, compact.model.to(device))
    for order, draft in product(ORDERS, (1, 2, 4, 8, 16)):
        other.speculative(8, 64, draft, order, "compact model")
    if not options.quick:
        record(
            "decoding", seed=0, model=small.name, compact_model=compact.name, prompt_tokens=PROMPT,
            load_before=round(load, 2), bounds=bounds, cells=bench.cells + half.cells, compact_cells=other.cells,
        )  # fmt: skip


if __name__ == "__main__":
    main()
