"""Autoregression, masked diffusion and A3 from the same weights, on the same tokens, with compute counted.

A compact autoregressive model is pretrained on the offline text. From its weights, every arm goes on with the same
rows in the same order, the same optimiser, schedule and precision:

    ar                    next-token prediction goes on
    diffusion             masked diffusion, adapted as DiffuLLaMA does it
    a3_paper              A3, three stages
    a3_stage3             A3, permuted groups only
    a3_no_stage2          A3, left to right, then permuted groups
    a3_spans              A3, three stages, spans and sentences mixed into the last
    a3_official           A3 with the group sizes of the paper's code
    ar_long, diffusion_long   the same two with as many operations as a3_paper, so with more tokens

Each arm runs with three seeds, which choose the rows' order and everything drawn. Comparisons are
paired: same seed, same held-out document, same blank, same order.

    python benchmarks/study.py                 everything; killed, it goes on where it was
    python benchmarks/study.py --only a3_paper-0    one arm with one seed
    python benchmarks/study.py --times         only measure the time of a step, on an idle machine
"""

import argparse
import copy
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import torch
from record import RESULTS, record
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from a3mini import from_autoregressive, groups, objective, pretrained, runs
from a3mini.decode import Sampler, generate
from a3mini.evaluate import (
    HeldOut,
    autoregressive_log_likelihood,
    bound_score,
    diffusion_bound,
    diffusion_log_likelihood,
    diffusion_sample,
    draw,
    quality,
    token_losses,
)
from a3mini.train import (
    AnyOrder,
    Autoregressive,
    Curriculum,
    Grouping,
    MaskedDiffusion,
    MaskedDiffusionModel,
    TrainConfig,
    corpus,
    data,
    generator_for,
    train,
)

FOLDER = RESULTS.parents[1] / "checkpoints" / "study"
TEXTS = ("bible-bbe", "andersen")
PRETRAINING_LENGTH, LENGTH = 128, 64  # tokens per row
SHAPE = {
    "vocab_size": 4096,
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": PRETRAINING_LENGTH,
    "tie_word_embeddings": True,
}
PRETRAINING = TrainConfig(
    steps=1200, batch_size=32, learning_rate=2e-3, warmup_steps=100, precision="bf16", save_every=100
)
STEPS, BATCH, RATE = 300, 32, 1e-3
SEEDS = (0, 1, 2)
A3_ARMS = {f"a3_{name}": name for name in ("paper", "stage3", "no_stage2", "spans", "official")}
ARMS = ("ar", "diffusion", *A3_ARMS, "ar_long", "diffusion_long")  # the last three run last
HELD_OUT = 64  # documents, one full row of each
WATCHED = 32  # of them, for the curves during training
SAMPLES = 16
SAMPLED = ("ar", "diffusion", "a3_paper", "a3_spans")  # arms that also write samples
BLANK = 8  # tokens, for the accuracy of infilling
STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % quantile, by the number of seeds


# --- the parts that every arm shares --------------------------------------------------------------------------


def prepare() -> None:
    """Tokenizer and pretrained model, once."""
    if (FOLDER / "pretrained" / "config.json").exists():
        return
    training, _ = corpus.split_documents(corpus.documents(*TEXTS))
    tokenizer = data.train_tokenizer(training, SHAPE["vocab_size"])
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(**SHAPE, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    )
    blocks = data.pack(training, tokenizer, PRETRAINING_LENGTH)
    print(f"pretraining on {int(blocks.lengths.sum())} tokens")
    train(model, Autoregressive(), blocks, PRETRAINING, FOLDER / "pretraining")
    tokenizer.save_pretrained(FOLDER / "pretrained")
    model.save_pretrained(FOLDER / "pretrained")


def shared():
    """The pretrained model, the tokenizer, the training rows, and one full row of each held-out document."""
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "pretrained")
    source = LlamaForCausalLM.from_pretrained(FOLDER / "pretrained")
    training, validation = corpus.split_documents(corpus.documents(*TEXTS))
    held_out = data.pack(validation, tokenizer, LENGTH)
    full = (held_out.lengths == LENGTH).nonzero().flatten().tolist()
    generator, of_document = generator_for(0, -4), {}
    for place in torch.randperm(len(full), generator=generator).tolist():
        of_document.setdefault(int(held_out.documents[full[place]]), full[place])
    chosen = torch.tensor(list(of_document.values())[:HELD_OUT])
    return source, tokenizer, data.pack(training, tokenizer, LENGTH), held_out.rows(chosen)


def make(arm: str, source: LlamaForCausalLM):
    """The arm's model and recipe."""
    if arm in A3_ARMS:
        return from_autoregressive(source), AnyOrder(Curriculum.preset(A3_ARMS[arm]))
    if arm.startswith("diffusion"):
        return MaskedDiffusionModel.from_autoregressive(source), MaskedDiffusion()
    return source, Autoregressive()


def flops_per_step(arm: str, source: LlamaForCausalLM, blocks: data.Blocks, samples: int = 10) -> float:
    """Floating-point operations of a training step, matrix products and attention, mean over the training."""
    model, recipe = make(arm, source)
    model.config._attn_implementation = "eager"  # the counter does not know the CPU's fused kernel
    total = 0
    for sample in range(samples):
        rows = blocks.rows(torch.arange(sample * BATCH, (sample + 1) * BATCH))
        batch = recipe.batch(rows, sample / samples, list(range(BATCH)), 0)
        with FlopCounterMode(display=False) as counter:
            (recipe.log_probs(model, batch.inputs) * batch.weights).sum().backward()
        total += counter.get_total_flops()
    return total / samples


def steps_of(arm: str, flops: dict[str, float]) -> int:
    return round(STEPS * flops["a3_paper"] / flops[arm.removesuffix("_long")]) if arm.endswith("_long") else STEPS


# --- one arm with one seed ------------------------------------------------------------------------------------


def scorer(arm: str):
    """(model, input_ids, group_ids) to the log-probability of each predicted token, (B, T)."""
    if arm in A3_ARMS:
        return partial(objective.log_likelihood, reduction="token")
    return diffusion_log_likelihood if arm.startswith("diffusion") else autoregressive_log_likelihood


def watch(arm: str, rows: data.Blocks) -> HeldOut:
    """What is measured while the arm trains: losses on held-out rows, by grouping."""
    if arm in A3_ARMS:
        return HeldOut(rows)
    if arm.startswith("diffusion"):  # its exact loss takes a pass per token
        return HeldOut(rows, {"random order": Grouping("shuffled")}, score=bound_score)
    return HeldOut(rows, {"left to right": Grouping("blocks")}, score=scorer(arm))


def fill(arm: str, model, ids, group_ids, temperature: float, seed: int):
    generator = generator_for(seed, -5)
    if arm in A3_ARMS:
        return generate(model, ids, group_ids, temperature=temperature, generator=generator).sequences
    if arm.startswith("diffusion"):
        return diffusion_sample(model, ids, group_ids, temperature, generator)
    for column in range(1, ids.shape[1]):  # left to right, the right side unread
        now = group_ids[:, column] > 0
        if now.any():
            logits = model(ids[now, :column], use_cache=False, logits_to_keep=1).logits[:, -1].float()
            ids = ids.clone()
            ids[now, column] = Sampler(temperature, generator=generator)(logits)
    return ids


@torch.no_grad()
def measure(arm: str, seed: int, model, tokenizer, rows: data.Blocks) -> dict:
    """Everything that is reported of a trained arm; sums per held-out document, so that they can be paired."""
    model.eval()
    score, found = partial(scorer(arm), model), {"nats": {}, "tokens": {}}
    groupings = {"left to right": Grouping("blocks"), "a span": Grouping("span"), "a sentence": Grouping("sentence")}
    if not arm.startswith("ar"):
        groupings |= {"random order": Grouping("shuffled"), "random groups of 4": Grouping("shuffled", 4)}
        groupings |= {"blocks of 4": Grouping("blocks", 4)}
    for name, grouping in groupings.items():
        nats, tokens = token_losses(score, rows, draw(rows, grouping))
        found["nats"][name], found["tokens"][name] = nats.tolist(), tokens.tolist()
    if arm.startswith("diffusion"):
        order = draw(rows, Grouping("shuffled"))
        found["nats"]["diffusion bound"] = diffusion_bound(model, rows.input_ids, order, draws=32, seed=0).tolist()
        found["tokens"]["diffusion bound"] = (order > 0).sum(-1).tolist()
    # infilling: greedy, one token at a time; a token counts when it is the very one
    unknown = torch.zeros_like(rows.sentence_ends)
    for row in range(len(unknown)):
        start = int(torch.randint(1, LENGTH - BLANK, (), generator=generator_for(0, -6, row)))
        unknown[row, start : start + BLANK] = True
    filled = fill(arm, model, rows.input_ids, groups.infill(unknown), 0.0, seed)
    found["right"] = ((filled == rows.input_ids) & unknown).sum(-1).tolist()
    found["of"] = unknown.sum(-1).tolist()
    if arm in SAMPLED:
        orders = {"left to right": Grouping("blocks")}
        if not arm.startswith("ar"):
            orders["random order"] = Grouping("shuffled")
        ids = torch.full((SAMPLES, LENGTH), tokenizer.bos_token_id)
        blank = data.Blocks(
            ids, torch.full((SAMPLES,), LENGTH), torch.zeros(SAMPLES).long(), torch.zeros_like(ids).bool()
        )
        found["samples"] = {
            name: tokenizer.batch_decode(
                fill(arm, model, ids, draw(blank, order, seed), 1.0, seed), skip_special_tokens=True
            )
            for name, order in orders.items()
        }
    return found


def run(arm: str, seed: int) -> None:
    torch.set_num_threads(1)
    out = FOLDER / f"{arm}-{seed}"
    if (out / "measured.json").exists():
        return
    source, tokenizer, blocks, rows = shared()
    flops = json.loads((FOLDER / "flops.json").read_text())
    model, recipe = make(arm, source)
    steps = steps_of(arm, flops)
    config = TrainConfig(
        steps=steps, batch_size=BATCH, learning_rate=RATE, warmup_steps=25, seed=seed, precision="bf16",
        eval_every=50, save_every=100,
    )  # fmt: skip
    metrics = train(model, recipe, blocks, config, out, watch(arm, rows.rows(slice(0, WATCHED))), quiet=True)
    found = measure(arm, seed, model, tokenizer, rows)
    found |= {"steps": steps, "training_tokens": metrics[-1]["tokens"]}
    found["curve"] = [
        {k: v for k, v in line.items() if k not in ("learning_rate", "gradient_norm")}
        for line in metrics
        if set(line) - set(runs.LOGGED)
    ]
    runs.write_json(out / "measured.json", found)
    for checkpoint in (out / "checkpoints").glob("step-*/optimizer.safetensors"):
        checkpoint.unlink()  # a finished run is not continued


# --- the report -----------------------------------------------------------------------------------------------


def interval(values: list[float]) -> list[float]:
    """Mean and half-width of the 95 % t interval over seeds."""
    width = STUDENT_T[len(values)] * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return [round(statistics.fmean(values), 4), round(width, 4)]


def per_token(found: dict, name: str) -> float:
    return sum(found["nats"][name]) / sum(found["tokens"][name])


def difference(first: list[dict], second: list[dict], name: str) -> dict:
    """First minus second, nats per token, paired by seed and by document."""
    nats = torch.tensor(
        [
            [a - b for a, b in zip(x["nats"][name], y["nats"][name], strict=True)]
            for x, y in zip(first, second, strict=True)
        ],
        dtype=torch.float64,
    )  # (seeds, documents)
    tokens = torch.tensor(first[0]["tokens"][name], dtype=torch.float64)
    generator = generator_for(0, -7)
    drawn = torch.randint(len(tokens), (2000, len(tokens)), generator=generator)
    resampled = nats.mean(0)[drawn].sum(-1) / tokens[drawn].sum(-1)
    low, high = resampled.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    mean, width = interval((nats.sum(-1) / tokens.sum()).tolist())
    return {"mean": mean, "over_seeds": width, "over_documents": [round(low, 4), round(high, 4)]}


def judge(texts: dict[str, list[list[str]]]) -> dict[str, dict]:
    """Perplexity under an independent model, beside what a low perplexity may hide: entropy and distinct pairs.

    Args:
        texts: name to samples, in one list per seed.
    """
    source = pretrained.small_model()
    model, tokenizer, found = source.autoregressive, source.tokenizer, {}

    def perplexity(samples: list[str]) -> float:
        nats, tokens = quality.text_nats(model, tokenizer, samples, start=data.start_token(tokenizer))
        return math.exp(nats.sum() / tokens.sum())

    def entropy(samples: list[str]) -> float:  # of the words, bits
        counts = torch.tensor(list(Counter(" ".join(samples).split()).values()), dtype=torch.float64)
        share = counts / counts.sum()
        return -(share * share.log2()).sum().item()

    def distinct_pairs(samples: list[str]) -> float:
        pairs = [pair for sample in samples for pair in pairwise(sample.split())]
        return len(set(pairs)) / len(pairs)

    for name, by_seed in texts.items():
        found[name] = {
            measure.__name__: interval([measure(samples) for samples in by_seed])
            for measure in (perplexity, entropy, distinct_pairs)
        }
    return found | {"judge": source.name}


def step_seconds(rounds: int = 10) -> dict[str, float]:
    """Median time of a training step of each kind, alternating in one run, on one thread."""
    torch.set_num_threads(1)
    source, _, blocks, _ = shared()
    kinds = {arm: make(arm, copy.deepcopy(source)) for arm in ("ar", "diffusion", *A3_ARMS)}
    times = {arm: [] for arm in kinds}
    for number in range(rounds + 1):
        rows = blocks.rows(torch.arange(number * BATCH, (number + 1) * BATCH))
        for arm, (model, recipe) in kinds.items():
            started = time.perf_counter()
            batch = recipe.batch(rows, number / (rounds + 1), list(range(BATCH)), number)
            with torch.autocast("cpu", torch.bfloat16):
                log_probs = recipe.log_probs(model, batch.inputs)
            (log_probs * batch.weights).sum().backward()
            times[arm].append(time.perf_counter() - started)
    return {arm: round(statistics.median(seconds[1:]), 4) for arm, seconds in times.items()}


def report() -> None:
    """Gather what the arms have measured, and write it into the book."""
    torch.set_num_threads(1)  # as in the arms; the record says so
    arms = {
        arm: [json.loads((FOLDER / f"{arm}-{seed}" / "measured.json").read_text()) for seed in SEEDS] for arm in ARMS
    }
    flops = json.loads((FOLDER / "flops.json").read_text())
    rows, source = {}, shared()
    for arm, found in arms.items():
        rows[arm] = {
            "steps": found[0]["steps"],
            "tokens": found[0]["training_tokens"],
            "teraflops": round(flops[arm.removesuffix("_long")] * found[0]["steps"] / 1e12, 3),
            "train_seconds": interval([seed["curve"][-1]["seconds"] for seed in found]),
            "nats": {name: interval([per_token(seed, name) for seed in found]) for name in found[0]["nats"]},
            "right": interval([sum(seed["right"]) / sum(seed["of"]) for seed in found]),
            "curve": [
                {
                    name: (
                        line[name]
                        if name in ("step", "tokens")
                        else interval([seed["curve"][at][name] for seed in found])
                    )
                    for name in line
                    if name not in ("loss", "seconds")
                }
                for at, line in enumerate(found[0]["curve"])
            ],
        }
    every = ("random order", "left to right", "a span", "a sentence", "blocks of 4", "random groups of 4")
    sides = ("left to right", "a span", "a sentence")
    compared = [
        *(
            (a3, rival, ("random order", *sides))
            for a3 in ("a3_paper", "a3_stage3")
            for rival in ("diffusion", "diffusion_long")
        ),
        *(("a3_paper", rival, sides) for rival in ("ar", "ar_long")),
        ("a3_spans", "diffusion", ("random order", *sides)),
        ("a3_spans", "ar", sides),
        *(("a3_paper", arm, every) for arm in A3_ARMS if arm != "a3_paper"),
    ]
    differences = [
        {"first": first, "second": second, "grouping": name, **difference(arms[first], arms[second], name)}
        for first, second, names in compared
        for name in names
    ]
    untouched = partial(scorer("ar"), source[0])
    nats, tokens = token_losses(untouched, source[3], draw(source[3], Grouping("blocks")))
    texts = {
        f"{arm}, {order}": [seed["samples"][order] for seed in arms[arm]]
        for arm in SAMPLED
        for order in arms[arm][0]["samples"]
    }
    real = source[1].batch_decode(source[3].input_ids, skip_special_tokens=True)
    texts["held-out text"] = [real[SAMPLES * n : SAMPLES * (n + 1)] for n in range(len(SEEDS))]
    walls = sum(line["wall"] for line in json.loads((FOLDER / "walls.json").read_text()).values())
    start = runs.read_metrics(FOLDER / "pretraining")[-1]
    record(
        "study",
        seed=0,
        wall_seconds=walls + start["seconds"],
        seeds=SEEDS,
        texts=TEXTS,
        shape=SHAPE,
        parameters=sum(weight.numel() for weight in source[0].parameters()),
        length=LENGTH,
        batch=BATCH,
        learning_rate=RATE,
        pretraining={"steps": PRETRAINING.steps, "batch": PRETRAINING.batch_size,
                     "tokens": start["tokens"],
                     "left to right": round((nats.sum() / tokens.sum()).item(), 4)},
        training_text_tokens=int(source[2].lengths.sum()),
        held_out=len(source[3].input_ids),
        watched=WATCHED,
        blank=BLANK,
        samples=SAMPLES,
        arms=rows,
        differences=differences,
        judged=judge(texts),
        step_seconds=json.loads((FOLDER / "times.json").read_text()),
    )  # fmt: skip


# --- all of it ------------------------------------------------------------------------------------------------


def count_flops() -> None:
    if not (FOLDER / "flops.json").exists():
        source, _, blocks, _ = shared()
        kinds = ("ar", "diffusion", *A3_ARMS)
        counted = {arm: flops_per_step(arm, copy.deepcopy(source), blocks) for arm in kinds}
        runs.write_json(FOLDER / "flops.json", counted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="arms trained at the same time")
    parser.add_argument("--only", help="train and measure one arm with one seed, such as a3_paper-0")
    parser.add_argument("--times", action="store_true", help="measure the time of a step; nothing else may run")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if options.only:
        arm, seed = options.only.rsplit("-", 1)
        run(arm, int(seed))
        return
    if options.times:
        runs.write_json(FOLDER / "times.json", step_seconds())
        return
    prepare()
    count_flops()
    walls = FOLDER / "walls.json"
    seconds = json.loads(walls.read_text()) if walls.exists() else {}

    def start(name: str) -> None:
        if (FOLDER / name / "measured.json").exists():
            return
        started = time.time()
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, __file__, "--only", name], check=True, env=environment)
        seconds[name] = {"wall": round(time.time() - started, 1)}
        runs.write_json(walls, seconds)
        print(f"{name}: {seconds[name]['wall']:.0f} s", flush=True)

    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(start, [f"{arm}-{seed}" for arms in (ARMS[:-3], ARMS[-3:]) for seed in SEEDS for arm in arms]))
    if not (FOLDER / "times.json").exists():
        subprocess.run([sys.executable, __file__, "--times"], check=True)
    report()


if __name__ == "__main__":
    main()
