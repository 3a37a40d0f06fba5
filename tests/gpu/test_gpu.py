"""What could not be tried without a GPU. `make gpu-check` runs these on SmolLM2 and a GPU, and keeps what they measure.

In any other run of the tests they rehearse: a tiny random model on the CPU.
"""

import copy
import os
import tempfile
from functools import partial
from typing import NamedTuple

import laws
import pytest
import torch
from torch.utils.benchmark import Timer
from transformers import LlamaConfig, LlamaForCausalLM

from a3mini import decode, flex, from_autoregressive, groups, objective, pretrained
from a3mini.rows import QUERY_STARTS
from a3mini.train import AnyOrder, Curriculum, Part, Stage, TrainConfig, corpus, data, devices, memory, train

pytestmark = [
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing"),  # peft uses an old name
]
CLOSE = 5e-3  # float32 on a GPU sums in another order than elsewhere; SmolLM2's logits reach 32
ESTIMATE = 0.25  # how far the estimate of memory may be off
SEED = 0
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float16}  # beside float32


class Bench(NamedTuple):
    """What the tests work on."""

    source: LlamaForCausalLM
    device: str
    precisions: tuple[str, ...]  # of mixed training
    rows: data.Blocks  # to train on
    length: int
    steps: int
    rank: int

    def model(self, kernel: str = "sdpa", start: str = "vector"):
        """A fresh A3 model of the source, in float32; ``start`` is what its query rows start from."""
        model = from_autoregressive(self.source, query_start=start).to(self.device)
        model.set_attn_implementation(kernel)
        return model

    def tokens(self, batch: int, length: int) -> torch.Tensor:
        return self.rows.input_ids[:batch, :length].to(self.device)


def full_rows(stories: list[corpus.Story], tokenizer, length: int) -> data.Blocks:
    rows = data.pack(stories, tokenizer, length)
    return rows.rows((rows.lengths == length).nonzero().flatten())


def gpu_bench() -> Bench:
    source, tokenizer, _ = pretrained.small_model()
    device = devices.this()
    best = devices.best_precision(device.kind, device.capability)
    rows = full_rows(corpus.small_text().stories[:60], tokenizer, 256)
    return Bench(source, "cuda", ("bf16", "fp16") if best == "bf16" else ("fp16",), rows, 256, 30, 32)


def rehearsal_bench() -> Bench:
    torch.manual_seed(SEED)
    sizes = {"vocab_size": 4096, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    config = LlamaConfig(**{**laws.TINY, **sizes, "max_position_embeddings": 64, "tie_word_embeddings": True})
    tokenizer = pretrained.compact_model().tokenizer
    rows = full_rows([corpus.Story("", "Tom had a red ball. He lost it in the park. " * 40)] * 4, tokenizer, 32)
    # the precision that any CPU computes natively; emulated bfloat16 is slow
    return Bench(LlamaForCausalLM(config).eval(), "cpu", ("fp32",), rows, 32, 12, 4)


@pytest.fixture(scope="session")
def bench() -> Bench:
    return gpu_bench() if os.environ.get("A3_GPU") else rehearsal_bench()


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


def test_parity(bench, record_property):
    """The content stream is the source model."""
    llama = copy.deepcopy(bench.source).to(bench.device)
    difference = laws.parity(bench.model(), llama, bench.tokens(2, bench.length), CLOSE)
    record_property("largest_difference", difference)


def test_warm_parity(bench, record_property):
    """With the warm start the query stream, too, is the source model, untrained."""
    llama = copy.deepcopy(bench.source).to(bench.device)
    difference = laws.query_parity(bench.model(start="previous"), llama, bench.tokens(2, bench.length), CLOSE)
    record_property("largest_difference", difference)


def test_no_leakage(bench, record_property):
    """Changing a group and all later ones leaves its logits bit for bit the same, with each kernel and dtype."""
    ids, group_ids = bench.tokens(4, 16), groupings(16).to(bench.device)
    kernels, dtypes = ("sdpa", flex.KERNEL), (torch.float32, DTYPES[bench.precisions[0]])
    cases = [(kernel, dtype, "vector") for kernel in kernels for dtype in dtypes]
    cases += [(kernel, torch.float32, "previous") for kernel in kernels]
    for kernel, dtype, start in cases:
        laws.no_leakage(bench.model(kernel, start).to(dtype), ids, group_ids)
    record_property("positions", len(cases) * int((group_ids > 0).sum()))


@torch.no_grad()
def test_exact_cache(bench, record_property):
    """What decoding with the cache scores is what one full pass scores."""
    ids, group_ids = bench.tokens(4, 32), groupings(32).to(bench.device)
    found = []
    for start in QUERY_STARTS:
        model = bench.model(start=start)
        done = decode.generate(model, ids, group_ids, temperature=0)
        full = objective.log_likelihood(model, done.sequences, done.group_ids, done.known, reduction="token")
        found.append((done.log_probs - full).abs().max().item())
    record_property("largest_difference", max(found))
    assert max(found) < CLOSE


def test_flex_equals_sdpa(bench, record_property):
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
    apart = [((a - b).norm() / a.norm()).item() for a, b in zip(gradients, others, strict=True)]
    record_property("log_probs", scores)
    record_property("gradients", max(apart, default=None))
    assert scores < CLOSE
    assert max(apart, default=0) < CLOSE  # of a gradient's norm


def test_training(bench, record_property):
    """A few steps with LoRA in each precision: the loss falls, and memory is what the estimate says."""
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
        added = memory.added(
            lambda m=model, c=config, r=recipe, o=metrics: o.extend(train(m, r, bench.rows, c, quiet=True)),
            bench.device,
        )
        losses = [line["loss"] for line in metrics]
        estimate = memory.estimate(
            model.config, 8, bench.length, 1.0, precision, memory.LORA, lora_rank=bench.rank, device=bench.device
        )
        found = {
            "losses": [round(loss, 3) for loss in losses],
            "measured_gb": round((held + added) / memory.GB, 3),
            "estimate_gb": round(estimate.total / memory.GB, 3),
            "tokens_per_second": round(metrics[-1]["tokens"] / metrics[-1]["seconds"]),
        }
        record_property(precision, found)
        assert sum(losses[-3:]) < sum(losses[:3]), f"{precision}: the loss did not fall"
        assert abs(estimate.total / (held + added) - 1) < ESTIMATE, f"{precision}: {found}"


class Stopped(AnyOrder):
    """Stops the process in the middle of a step, once."""

    passes = 0

    def log_probs(self, model, inputs):
        self.passes += 1
        if self.passes == 5:
            raise KeyboardInterrupt
        return super().log_probs(model, inputs)


def test_resume(bench, record_property):
    """A stopped and resumed run differs from an uninterrupted one no more than two uninterrupted ones do."""
    config = TrainConfig(
        steps=6, batch_size=4, warmup_steps=1, lora_rank=bench.rank, save_every=2, log_every=1, learning_rate=1e-3
    )
    curriculum = Curriculum.preset("spans")

    def weights(stopped: bool) -> dict:
        with tempfile.TemporaryDirectory() as folder:
            if stopped:
                with pytest.raises(KeyboardInterrupt):
                    train(bench.model(), Stopped(curriculum), bench.rows, config, folder, quiet=True)
            model = bench.model()
            train(model, AnyOrder(curriculum), bench.rows, config, folder, quiet=True)
        return {name: weight.cpu() for name, weight in model.state_dict().items()}

    def apart(first: dict, second: dict) -> float:
        return max((first[name] - second[name]).abs().max().item() for name in first)

    smooth, resumed = weights(False), weights(True)
    noise, difference = apart(smooth, weights(False)), apart(smooth, resumed)
    for name, value in {"two_whole_runs": noise, "resumed": difference, "bitwise": difference == 0}.items():
        record_property(name, value)
    assert difference <= 10 * noise


@torch.no_grad()
def test_speed(bench, record_property):
    """Tokens per second of decoding with the cache, by batch and group size; Timer warms up and waits for the GPU."""
    model, length = bench.model(), bench.length
    for batch in (1, 8):
        ids = bench.tokens(1, length).expand(batch, -1)
        for size in (1, 4):
            group_ids = groups.blocks(length, size, given=length // 4).expand(batch, -1).to(bench.device)
            generator = torch.Generator(bench.device).manual_seed(SEED)
            run = partial(decode.generate, model, ids, group_ids, generator=generator)
            seconds = Timer("run()", globals={"run": run}).timeit(1).mean
            tokens = batch * int((group_ids[0] > 0).sum())
            record_property(f"batch {batch}, groups of {size}", round(tokens / seconds, 1))
