"""How fast is a training step on a GPU? The trainer as it is, and the loop as it was, side by side.

    python benchmarks/gpu_step.py            three minutes on a CUDA GPU; writes book/results/gpu_step.json as it goes
    python benchmarks/gpu_step.py --smoke    a tiny model on the CPU, some seconds; writes nothing

Rows are those of the packaged texts, the curriculum is "mixed", and weights are random: a step takes as long as with
real ones. Before is the commit ``trainer.BEFORE``, where the history is there. A step is what ``train.loop`` does:
loss, gradient, clipping, the optimiser. Before, its groups were drawn inside it; now another process makes them ahead,
which takes ``making_seconds``. Tokens are those predicted. The share of the peak counts what a predicted token needs:
6 operations a weight and needed row of either stream, 4 where the weight is not trained.
"""

import argparse
import time

from record import record
from trainer import BEFORE, COMPACT, SMOLLM2, TINY, rows_of, running

from a3mini import flex
from a3mini.train import corpus, devices

SECONDS = 2.5  # of timed steps for each row
SMALL, LARGE = (96, {"batch_size": 32}), (256, {"batch_tokens": 32768})
PLAIN = {"compile": False}
STEPS = {  # which tree, shape, LoRA, length and batch, settings, kernel
    "before, all weights, 32 × 96": ("before", SMOLLM2, False, *SMALL, {}, ""),
    "now, all weights, 32 × 96": ("after", SMOLLM2, False, *SMALL, {}, ""),
    "before, LoRA, 32 × 96": ("before", SMOLLM2, True, *SMALL, {}, ""),
    "now, LoRA, 32 × 96": ("after", SMOLLM2, True, *SMALL, {}, ""),
    "now, all weights, 32,768 tokens": ("after", SMOLLM2, False, *LARGE, {}, ""),
    "now, LoRA, 32,768 tokens": ("after", SMOLLM2, True, *LARGE, {}, ""),
    "before, all weights, 128 × 256": ("before", SMOLLM2, False, 256, {"batch_size": 128}, {}, ""),
    "now, not compiled, all weights, 32,768 tokens": ("after", SMOLLM2, False, *LARGE, PLAIN, ""),
    "now, not compiled, LoRA, 32,768 tokens": ("after", SMOLLM2, True, *LARGE, PLAIN, ""),
    "now, not compiled, all weights, 32 × 96": ("after", SMOLLM2, False, *SMALL, PLAIN, ""),
    "now, not compiled, LoRA, 32 × 96": ("after", SMOLLM2, True, *SMALL, PLAIN, ""),
    "now, FlexAttention, all weights, 32,768 tokens": ("after", SMOLLM2, False, *LARGE, {}, flex.KERNEL),
    "now, compact, 32,768 tokens": ("after", COMPACT, False, *LARGE, {}, ""),
    "now, not compiled, compact, 32,768 tokens": ("after", COMPACT, False, *LARGE, PLAIN, ""),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a tiny model on the CPU")
    parser.add_argument("--budget", type=float, default=170.0, help="seconds; what does not fit is left out")
    options = parser.parse_args()
    began, found = time.perf_counter(), {}
    stories = corpus.documents("bible-bbe", "andersen")
    with running(on_gpu=not options.smoke) as (trees, folder):
        files = rows_of(stories[:: 10 if options.smoke else 1], (96, 256), folder)
        for name, (tree, shape, lora, length, batch, more, kernel) in STEPS.items():
            if tree not in trees or (options.smoke and kernel):  # a CPU has no backward pass of FlexAttention
                continue
            spent = time.perf_counter() - began
            if spent > options.budget and not options.smoke:
                found[name] = "left out: the time was over"
                continue
            if options.smoke:
                shape, batch = TINY, {key: max(2, value // 64) for key, value in batch.items()}
            seconds = 0.0 if options.smoke else SECONDS
            one = trees[tree].ask("profile", shape, files[length], "mixed", lora, batch | more, kernel, seconds)
            found[name] = one.get("failed", one)
            print(f"{time.perf_counter() - began:6.1f} s  {name}: {found[name]}", flush=True)
            if not options.smoke:
                record("gpu_step", seed=0, device=devices.this()._asdict(), before=BEFORE, steps=found)  # as it goes
    if options.smoke:
        failed = {name: row for name, row in found.items() if isinstance(row, str)}
        if failed:
            raise SystemExit(f"failed: {failed}")


if __name__ == "__main__":
    main()
