"""What could not be tried without a GPU, in one command: `make gpu-check`.

On a machine with a CUDA GPU it runs every check below on SmolLM2, prints a line for each, writes what it measured to
book/results/gpu.json, and exits with 1 if a check failed. Without a GPU it says so in one line, writes nothing, and
exits with 0, so that it may stand in a script that runs everywhere. A few minutes.

    python -m tools.environments.gpu_check
    python -m tools.environments.gpu_check --rehearse     a tiny random model on the CPU; nothing is written
"""

import argparse
import copy
import sys
import tempfile
import time
import traceback
from typing import NamedTuple

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from a3mini import decode, flex, from_autoregressive, groups, objective, pretrained
from a3mini.train import AnyOrder, Curriculum, Part, Stage, TrainConfig, corpus, data, devices, memory, train
from benchmarks.record import record

CLOSE = 5e-3  # float32 on a GPU sums in another order than elsewhere; SmolLM2's logits reach 32
ESTIMATE = 0.25  # how far the estimate of memory may be off
SEED = 0


class Bench(NamedTuple):
    """What the checks work on."""

    source: LlamaForCausalLM
    tokenizer: object
    name: str
    device: str
    precisions: tuple[str, ...]  # of mixed training
    rows: data.Blocks  # to train on
    length: int
    steps: int
    rank: int

    def model(self, kernel: str = "sdpa"):
        """A fresh A3 model of the source, in float32."""
        model = from_autoregressive(self.source).to(self.device)
        model.set_attn_implementation(kernel)
        return model

    def tokens(self, batch: int, length: int) -> torch.Tensor:
        return self.rows.input_ids[:batch, :length].to(self.device)

    def peak(self, step) -> int:
        return memory.added(step, self.device)

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def gpu_bench() -> Bench:
    source, tokenizer, name = pretrained.small_model()
    device = devices.this()
    best = devices.best_precision(device.kind, device.capability)
    rows = data.pack(corpus.small_text().stories[:60], tokenizer, 256)
    whole = rows.rows((rows.lengths == 256).nonzero().flatten())
    return Bench(source, tokenizer, name, "cuda", ("bf16", "fp16") if best == "bf16" else ("fp16",), whole, 256, 30, 32)


def rehearsal_bench() -> Bench:
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(pretrained.COMPACT_MODEL)
    rows = data.pack([corpus.Story("", "Tom had a red ball. He lost it in the park. " * 40)] * 4, tokenizer, 32)
    whole = rows.rows((rows.lengths == 32).nonzero().flatten())
    return Bench(LlamaForCausalLM(config).eval(), tokenizer, "tiny", "cpu", ("bf16",), whole, 32, 12, 4)


def groupings(length: int) -> torch.Tensor:
    """Left to right, random groups of 4, a blank, nothing given; (4, T)."""
    generator, position = torch.Generator().manual_seed(SEED), torch.arange(length)
    return torch.stack(
        [
            groups.left_to_right(length),
            groups.shuffled(length, 4, generator=generator),
            groups.infill((position > length // 4) & (position < length // 2), 2),
            groups.shuffled(length, 8, given=0, generator=generator),
        ]
    )


# The checks: each returns what it measured, and raises AssertionError if that is not right.


@torch.no_grad()
def parity(bench: Bench) -> dict:
    """The content stream is the source model."""
    ids = bench.tokens(2, bench.length)
    llama = copy.deepcopy(bench.source).to(bench.device)
    group_ids = torch.arange(ids.shape[1], device=bench.device).expand_as(ids)
    ours = bench.model()(ids, group_ids, content_logits=True, return_logits=False).content_logits
    difference = (ours - llama(ids).logits).abs().max().item()
    assert difference < CLOSE, f"content logits differ by {difference}"
    return {"largest_difference": difference}


@torch.no_grad()
def no_leakage(bench: Bench) -> dict:
    """Changing a group and all later ones leaves its logits bit for bit the same, with each kernel and dtype."""
    ids, group_ids = bench.tokens(4, 32), groupings(32).to(bench.device)
    checked = 0
    for kernel in ("sdpa", flex.KERNEL):
        for dtype in (torch.float32, torch.float16 if "bf16" not in bench.precisions else torch.bfloat16):
            model = bench.model(kernel).to(dtype)
            before = model(ids, group_ids).logits
            for group in (1, 2, int(group_ids.max())):
                changed = torch.where(group_ids >= group, (ids + 1 + group) % model.config.vocab_size, ids)
                after = model(changed, group_ids).logits
                at = group_ids == group
                assert torch.equal(before[at], after[at]), f"group {group} has seen itself or a later one ({kernel})"
                assert not torch.equal(before, after) or not (group_ids > group).any(), "the change changed nothing"
                checked += int(at.sum())
    return {"positions": checked}


@torch.no_grad()
def exact_cache(bench: Bench) -> dict:
    """What decoding with the cache scores is what one full pass scores."""
    ids, group_ids = bench.tokens(4, 32), groupings(32).to(bench.device)
    model = bench.model()
    done = decode.generate(model, ids, group_ids, temperature=0)
    full = objective.log_likelihood(model, done.sequences, done.group_ids, done.known, reduction="token")
    difference = (done.log_probs - full).abs().max().item()
    assert difference < CLOSE, f"log-probabilities differ by {difference}"
    return {"largest_difference": difference}


def flex_equals_sdpa(bench: Bench) -> dict:
    """Loss and gradients of both kernels agree, in float32; on a CPU the loss alone."""
    ids, group_ids = bench.tokens(4, bench.length), groupings(bench.length).to(bench.device)
    backward, found = bench.device == "cuda", {}
    for kernel in ("sdpa", flex.KERNEL):
        model = bench.model(kernel)
        with torch.set_grad_enabled(backward):
            out = model(ids, group_ids, labels=ids)
        if backward:
            out.loss.backward()
        found[kernel] = (out, [weight.grad for weight in model.parameters() if weight.grad is not None])
    (one, gradients), (other, others) = found.values()
    scores = (one.log_probs - other.log_probs).abs().max().item()
    apart = (
        max(((a - b).norm() / a.norm()).item() for a, b in zip(gradients, others, strict=True)) if backward else None
    )
    assert scores < CLOSE, f"log-probabilities differ by {scores}"
    assert apart is None or apart < CLOSE, f"a gradient differs by {apart:.2%} of its norm"
    return {"log_probs": scores, "gradients": apart}


def training(bench: Bench) -> dict:
    """A few steps with LoRA in each precision: the loss falls, and memory is what the estimate says."""
    found = {}
    for precision in bench.precisions:
        model = bench.model()
        config = TrainConfig(
            steps=bench.steps,
            batch_size=8,
            learning_rate=1e-3,
            warmup_steps=2,
            precision=precision,
            lora_rank=bench.rank,
            log_every=1,
        )
        held = memory.held(model)
        metrics = []
        recipe = AnyOrder(Curriculum(stages=(Stage("left to right", 1, (Part("blocks", (1,)),)),)))
        added = bench.peak(
            lambda m=model, c=config, r=recipe, o=metrics: o.extend(train(m, r, bench.rows, c, quiet=True))
        )
        losses = [line["loss"] for line in metrics]
        estimate = memory.estimate(
            model.config, 8, bench.length, 1.0, precision, memory.LORA, lora_rank=bench.rank, device=bench.device
        )
        first, last = sum(losses[:3]) / 3, sum(losses[-3:]) / 3
        ratio = estimate.total / (held + added)
        found[precision] = {
            "losses": [round(loss, 3) for loss in losses],
            "measured_gb": round((held + added) / memory.GB, 3),
            "estimate_gb": round(estimate.total / memory.GB, 3),
            "tokens_per_second": round(metrics[-1]["tokens"] / metrics[-1]["seconds"]),
        }
        assert last < first, f"{precision}: the loss did not fall: {losses}"
        assert abs(ratio - 1) < ESTIMATE, f"{precision}: the estimate is {ratio:.2f} times what was measured"
    return found


class Stopped(AnyOrder):
    """Stops the process in the middle of a step, once."""

    passes = 0

    def log_probs(self, model, inputs):
        self.passes += 1
        if self.passes == 5:
            raise KeyboardInterrupt
        return super().log_probs(model, inputs)


def resume(bench: Bench) -> dict:
    """A stopped and resumed run differs from an uninterrupted one no more than two uninterrupted ones do."""
    config = TrainConfig(
        steps=6, batch_size=4, warmup_steps=1, lora_rank=bench.rank, save_every=2, log_every=1, learning_rate=1e-3
    )
    curriculum = Curriculum.preset("spans")

    def weights(stopped: bool) -> dict:
        with tempfile.TemporaryDirectory() as folder:
            if stopped:
                try:
                    train(bench.model(), Stopped(curriculum), bench.rows, config, folder, quiet=True)
                except KeyboardInterrupt:
                    pass
                else:
                    raise AssertionError("nothing stopped the run")
            model = bench.model()
            train(model, AnyOrder(curriculum), bench.rows, config, folder, quiet=True)
        return {name: weight.cpu() for name, weight in model.state_dict().items()}

    def apart(first: dict, second: dict) -> float:
        return max((first[name] - second[name]).abs().max().item() for name in first)

    smooth, resumed = weights(False), weights(True)
    noise, difference = apart(smooth, weights(False)), apart(smooth, resumed)
    assert difference <= 10 * noise, f"resumed differs by {difference}, two whole runs by {noise}"
    return {"two_whole_runs": noise, "resumed": difference, "bitwise": difference == 0}


@torch.no_grad()
def speed(bench: Bench) -> dict:
    """Tokens per second of decoding with the cache, by batch and group size; the second of two runs counts."""
    model, length, found = bench.model(), bench.length, {}
    for batch in (1, 8):
        ids = bench.tokens(1, length).expand(batch, -1)
        for size in (1, 4):
            group_ids = groups.blocks(length, size, given=length // 4).expand(batch, -1).to(bench.device)
            for _ in range(2):
                bench.wait()
                start = time.perf_counter()
                decode.generate(model, ids, group_ids, generator=torch.Generator(bench.device).manual_seed(SEED))
                bench.wait()
                seconds = time.perf_counter() - start
            found[f"batch {batch}, groups of {size}"] = round(batch * int((group_ids[0] > 0).sum()) / seconds, 1)
    return found


CHECKS = (parity, no_leakage, exact_cache, flex_equals_sdpa, training, resume, speed)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rehearse", action="store_true", help="a tiny model on the CPU; nothing is written")
    parser.add_argument(
        "--beside", default="", help="what else uses the GPU meanwhile: speeds are then no measurements"
    )
    options = parser.parse_args(arguments)
    if not options.rehearse and not torch.cuda.is_available():
        print("gpu-check: there is no CUDA GPU here, so nothing was checked and nothing written")
        return 0
    bench = rehearsal_bench() if options.rehearse else gpu_bench()
    results, failed = {}, []
    for check in CHECKS:
        name, started = check.__name__, time.perf_counter()
        try:
            results[name] = {"passed": True, **check(bench)}
        except Exception as error:  # the other checks still have something to say
            results[name] = {"passed": False, "error": f"{type(error).__name__}: {error}"}
            failed.append(name)
            if not isinstance(error, AssertionError):
                traceback.print_exc()
        results[name]["seconds"] = round(time.perf_counter() - started, 1)
        print(f"{'ok  ' if results[name]['passed'] else 'FAIL'} {name}: {results[name]}", flush=True)
    if not options.rehearse:
        found = devices.this()._asdict()
        record("gpu", seed=SEED, model=bench.name, device=found, beside=options.beside, failed=failed, checks=results)
    print("all checks passed" if not failed else f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
