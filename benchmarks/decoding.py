"""How fast A3 decodes, on the shape and weights of SmolLM2-135M: with and without the cache, in groups, dynamically,
speculatively, and against transformers' own autoregressive ``generate`` with its cache, all in one process.

Times do not depend on how good the model is, so it is not adapted. What does depend on it, how many drafts pass, is
measured on the compact model as well, which is. Long cells without a cache, and dynamic ones, are extrapolated from
eight evenly spaced steps; they are marked so.

    python benchmarks/decoding.py                 about 25 minutes on two cores; leave the machine alone
    python benchmarks/decoding.py --quick         a minute; writes nothing
"""

import argparse
import os
import statistics
import time
from collections import defaultdict
from functools import partial
from unittest import mock

import torch
from record import record
from torch.profiler import ProfilerActivity, profile

from a3mini import decode, from_autoregressive, groups, speculative
from a3mini.decode import Trace
from a3mini.model import A3Linear
from a3mini.pretrained import compact_model, small_model
from a3mini.train import generator_for
from a3mini.train.data import start_token

PROMPT = 32  # tokens
STEPS = 8  # measured, where a cell is extrapolated
SIZES = (1, 2, 4, 8)
PROMPT_TEXT = "Once upon a time there was a little girl who lived with her mother in a small house by the sea. " * 2


class Enough(Exception):
    """The steps that were wanted have been timed."""


class Bench:
    """A model, the autoregressive one that it came from, and a prompt; ``cells`` collects the results."""

    def __init__(self, tokenizer, model, llama=None):
        start = start_token(tokenizer)
        text = [start, *tokenizer.encode(PROMPT_TEXT, add_special_tokens=False)][:PROMPT]
        self.model, self.llama, self.prompt = model, llama, torch.tensor([text], device=model.device)
        self.cells: list[dict] = []

    def ids(self, batch: int, new: int) -> torch.Tensor:
        return torch.cat((self.prompt, self.prompt.new_zeros(1, new)), dim=1).expand(batch, -1)

    def add(self, what: str, batch: int, new: int, seconds: float, passes: float, extrapolated=False, **more) -> None:
        cell = {
            "what": what, "batch": batch, "new_tokens": new, "seconds": round(seconds, 3), "passes": round(passes, 1),
            "tokens_per_second": round(batch * new / seconds, 1), "ms_per_sample": round(1e3 * seconds / batch, 1),
            "ms_per_pass": round(1e3 * seconds / passes, 2), "extrapolated": extrapolated,
            "dtype": str(self.model.dtype).removeprefix("torch."), **more,
        }  # fmt: skip
        self.cells.append(cell)
        mark = "~" if extrapolated else " "
        print(
            f"{what:<42}{cell['dtype']:>9}{batch:>3}{new:>5}{mark}{cell['tokens_per_second']:>8.1f} tokens/s"
            f"{cell['ms_per_sample']:>10.0f} ms/sample{cell['ms_per_pass']:>9.1f} ms/pass{passes:>7.0f}",
            flush=True,
        )

    def autoregressive(self, batch: int, new: int, turned: bool = False) -> None:
        """transformers' ``generate``; ``turned`` gives it our linear layers, so that both have the same products."""
        for module in self.llama.modules():
            if isinstance(module, torch.nn.Linear):
                module.__class__ = A3Linear if turned else torch.nn.Linear
        prompt = self.prompt.expand(batch, -1)
        options = dict(max_new_tokens=new, min_new_tokens=new, do_sample=True, top_k=0, use_cache=True, pad_token_id=0)
        seconds = clock(lambda: self.llama.generate(prompt, attention_mask=torch.ones_like(prompt), **options))
        self.add("transformers generate" + ", our products" * turned, batch, new, seconds, new)

    def groupwise(self, batch: int, new: int, size: int) -> None:
        group_ids = groups.blocks(PROMPT + new, size, PROMPT).to(self.model.device).expand(batch, -1)
        run = partial(decode.generate, self.model, self.ids(batch, new), group_ids, runners_up=0)
        self.add(f"groups of {size}", batch, new, clock(run), -(-new // size))

    def uncached(self, batch: int, new: int, size: int) -> None:
        """The same without a cache, from eight steps: up to there everything is known, in its groups."""
        group_ids = groups.blocks(PROMPT + new, size, PROMPT).to(self.model.device).expand(batch, -1)
        passes = -(-new // size)
        run = partial(decode.generate, self.model, self.ids(batch, new), group_ids, use_cache=False, runners_up=0)
        times = [step_time(partial(run, known=(group_ids > 0) & (group_ids < g)), 1) for g in spread(passes)]
        self.add(f"groups of {size}, no cache", batch, new, passes * statistics.mean(times), passes, True)

    def dynamic(self, batch: int, new: int, per_step: int, context: str) -> None:
        """From eight steps: the positions open at a step are random; the second of two steps is timed, the first
        one has to feed all that is known."""
        passes = -(-new // per_step)
        times = []
        for number in spread(passes):
            filled = min((number - 1) * per_step, new - 2 * per_step)
            order = torch.randperm(new, generator=generator_for(0, number))[filled:].sort().values + PROMPT
            unknown = torch.zeros(batch, PROMPT + new, dtype=torch.bool)
            unknown[:, order] = True
            unknown = unknown.to(self.model.device)
            run = partial(
                decode.resample, self.model, self.ids(batch, new), unknown, per_step, context=context, runners_up=0
            )
            times.append(step_time(run, 2))
        what = f"confidence, {per_step} a step, {context}"
        self.add(what, batch, new, passes * statistics.mean(times), passes, True)

    def speculative(self, batch: int, new: int, draft: int, order: str, name: str = "speculative") -> None:
        length = PROMPT + new
        one = (
            groups.left_to_right(length, PROMPT)
            if order == "left to right"
            else groups.shuffled(length, 1, PROMPT, generator_for(0))
        )
        group_ids = one.to(self.model.device).expand(batch, -1)
        done = []
        run = partial(
            speculative.generate, self.model, self.ids(batch, new), group_ids, generator=generator_for(1), draft=draft,
            runners_up=0,
        )  # fmt: skip
        seconds = clock(lambda: done.append(run()))
        passes = done[0].trace.passes
        mean = round(statistics.mean(passes), 1)
        self.add(f"{name}, {order}, drafts of {draft}", batch, new, seconds, max(passes), mean_passes=mean)


def clock(run) -> float:
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def spread(passes: int) -> list[int]:
    """Eight steps of 1 .. passes, evenly spaced, each in the middle of its eighth."""
    return sorted({1 + int((n + 0.5) * passes / STEPS) for n in range(STEPS)})


def step_time(run, wanted: int) -> float:
    """Seconds of step number ``wanted`` of a decoding, which is broken off then."""
    ends, right = [time.perf_counter()], Trace.commit

    def commit(self, *arguments, **options):
        right(self, *arguments, **options)
        ends.append(time.perf_counter())
        if len(ends) > wanted:
            raise Enough

    with mock.patch.object(Trace, "commit", commit):
        try:
            ends[0] = time.perf_counter()
            run()
        except Enough:
            pass
    return ends[wanted] - ends[wanted - 1]


def what_bounds_it(bench: Bench, size: int, steps: int = 24) -> dict:
    """Where the time of a step goes: shares of CPU time by kind of operation, and the time to read all weights once."""
    new = steps * size
    group_ids = groups.blocks(PROMPT + new, size, PROMPT).expand(1, -1)
    run = partial(decode.generate, bench.model, bench.ids(1, new), group_ids, runners_up=0)
    run()
    seconds = clock(run)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run()
    shares: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        name = event.key
        kind = "everything else"
        if any(part in name for part in ("addmm", "aten::mm", "linear", "mkldnn")):
            kind = "matrix products"
        elif "attention" in name or "bmm" in name:
            kind = "attention"
        elif any(part in name for part in ("softmax", "multinomial", "topk", "argmax")):
            kind = "softmax and draws"
        shares[kind] += event.self_cpu_time_total
    total = sum(shares.values())
    weights = sum(p.numel() * p.element_size() for p in bench.model.parameters())
    big = torch.ones(2**28)  # 1 GiB
    read = min(clock(big.sum) for _ in range(5))
    return {
        "group_size": size,
        "ms_per_pass": round(1e3 * seconds / steps, 2),
        "share": {kind: round(value / total, 3) for kind, value in sorted(shares.items())},
        "weights_mb": round(weights / 1e6, 1),
        "memory_gb_per_second": round(big.numel() * 4 / 1e9 / read, 1),
        "ms_to_read_the_weights": round(1e3 * weights / (big.numel() * 4 / read), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few and short cells; nothing is written")
    options = parser.parse_args()
    lengths, batches = ((16,), (1,)) if options.quick else ((128, 512), (1, 8))
    load = os.getloadavg()[0]
    torch.manual_seed(0)

    small = small_model()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    llama = small.autoregressive.to(device)
    bench = Bench(small.tokenizer, from_autoregressive(llama), llama)
    bench.autoregressive(1, 16)  # to warm up
    bench.groupwise(1, 16, 1)
    bench.cells.clear()
    with torch.inference_mode():
        bounds = [] if device == "cuda" else [what_bounds_it(bench, size) for size in (1, 4)]
        for batch in batches:
            for new in lengths:
                bench.autoregressive(batch, new)
                bench.autoregressive(batch, new, turned=True)
                for size in SIZES:
                    bench.groupwise(batch, new, size)
                for size in (1, 4):
                    bench.uncached(batch, new, size)
                for context in ("committed", "refreshed"):
                    bench.dynamic(batch, new, 4, context)
                for order in ("left to right", "random order"):
                    bench.speculative(batch, new, 8, order)
        half = Bench(small.tokenizer, bench.model.to(torch.bfloat16), llama.to(torch.bfloat16))
        half.autoregressive(1, 16)
        half.cells.clear()
        for new in lengths:
            half.autoregressive(1, new)
            for size in SIZES:
                half.groupwise(1, new, size)

        compact = compact_model()
        small_bench = Bench(compact.tokenizer, compact.model.to(device))
        room = min(64, compact.model.config.max_position_embeddings - PROMPT)
        for order in ("left to right", "random order"):
            for draft in (1, 2, 4, 8, 16):
                small_bench.speculative(8, room, draft, order, "compact model")
    if options.quick:
        return
    record(
        "decoding",
        seed=0,
        model=small.name,
        compact_model=compact.name,
        prompt_tokens=PROMPT,
        load_before=round(load, 2),
        bounds=bounds,
        cells=bench.cells + half.cells,
        compact_cells=small_bench.cells,
    )


if __name__ == "__main__":
    main()
