"""Which way of going on from the same weights is best: autoregression, masked diffusion or A3, with compute counted?

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

    python benchmarks/study.py                      everything; killed, it goes on where it was
    python benchmarks/study.py --only a3_paper-0    one arm with one seed
"""

import argparse
import copy
import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

import torch
from arms import begin
from kept import kept
from record import RESULTS, record
from study_report import COMPARED, SEEDS, difference, judge, summary
from timing import turns
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from a3mini import evaluate, groups, objective, runs, sources, train
from a3mini.decode import Sampler, generate
from a3mini.train import Curriculum, Grouping, TrainConfig, corpus, data, generator_for

FOLDER = RESULTS.parents[1] / "checkpoints" / "study"
TEXTS = ("bible-bbe", "andersen")
PRETRAINING_LENGTH, LENGTH = 128, 64  # tokens per row
SHAPE = {
    "vocab_size": 4096, "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": PRETRAINING_LENGTH, "tie_word_embeddings": True,
}  # fmt: skip
STEPS, BATCH = 300, 32
CONFIG = TrainConfig(batch_size=BATCH, warmup_steps=25, precision="bf16", eval_every=50, save_every=100)
PRETRAINING = replace(CONFIG, steps=1200, learning_rate=2e-3, warmup_steps=100, eval_every=0)
A3_ARMS = {f"a3_{name}": name for name in ("paper", "stage3", "no_stage2", "spans", "official")}
SHORT_ARMS = ("ar", "diffusion", *A3_ARMS)
ARMS = (*SHORT_ARMS, "ar_long", "diffusion_long")
HELD_OUT = 64  # documents, one full row of each
WATCHED = 32  # of them, for the curves during training
SAMPLES = 16
SAMPLED = ("ar", "diffusion", "a3_paper", "a3_spans")  # arms that also write samples
BLANK = 8  # tokens, for the accuracy of infilling
LEFT, RANDOM = {"left to right": Grouping("blocks")}, {"random order": Grouping("shuffled")}
SIDES = LEFT | {"a span": Grouping("span"), "a sentence": Grouping("sentence")}
EVERY = (
    SIDES
    | RANDOM
    | {
        "random groups of 4": Grouping("shuffled", 4),
        "strided groups of 4": Grouping("strided", 4),
        "blocks of 4": Grouping("blocks", 4),
    }
)
SCORES = {  # kind of arm: (model, input_ids, group_ids) to the log-probability of each predicted token, (B, T)
    "any-order": partial(objective.log_likelihood, reduction="token"),
    "diffusion": evaluate.diffusion_log_likelihood,
    "autoregressive": evaluate.autoregressive_log_likelihood,
}
WATCH = {  # kind of arm: the groupings of its curve, and the score; diffusion's exact one takes a pass per token
    "any-order": (evaluate.GROUPINGS, SCORES["any-order"]),
    "diffusion": (RANDOM, evaluate.bound_score),
    "autoregressive": (LEFT, SCORES["autoregressive"]),
}


def kind_of(arm: str) -> str:
    return "any-order" if arm in A3_ARMS else "diffusion" if arm.startswith("diffusion") else "autoregressive"


def prepare() -> None:
    """Tokenizer and pretrained model, once."""
    if (FOLDER / "pretrained" / "config.json").exists():
        return
    training, _ = corpus.split_documents(corpus.documents(*TEXTS))
    tokenizer = data.train_tokenizer(training, SHAPE["vocab_size"])
    torch.manual_seed(0)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, **ends))
    blocks = data.pack(training, tokenizer, PRETRAINING_LENGTH)
    train.train(model, train.Autoregressive(), blocks, PRETRAINING, FOLDER / "pretraining")
    tokenizer.save_pretrained(FOLDER / "pretrained")
    model.save_pretrained(FOLDER / "pretrained")


def shared() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, data.Blocks, data.Blocks]:
    """The pretrained model, the tokenizer, the training rows, and one full row of each held-out document."""
    tokenizer = sources.tokenizer(FOLDER / "pretrained")
    source = sources.model(LlamaForCausalLM, FOLDER / "pretrained")
    training, validation = corpus.split_documents(corpus.documents(*TEXTS))
    held_out = data.pack(validation, tokenizer, LENGTH)
    full = (held_out.lengths == LENGTH).nonzero().flatten()
    of_document = {}
    for row in full[torch.randperm(len(full), generator=generator_for(0, -4))].tolist():
        of_document.setdefault(int(held_out.documents[row]), row)
    chosen = torch.tensor(list(of_document.values())[:HELD_OUT])
    return source, tokenizer, data.pack(training, tokenizer, LENGTH), held_out.rows(chosen)


def make(arm: str, source: LlamaForCausalLM):
    """The arm's model and recipe."""
    return begin(kind_of(arm), copy.deepcopy(source), Curriculum.preset(A3_ARMS[arm]) if arm in A3_ARMS else None)


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


def all_flops(source: LlamaForCausalLM, blocks: data.Blocks) -> dict[str, float]:
    """Operations of a step of every arm that has a recipe of its own; counted once."""
    return kept(FOLDER, "flops", {}, lambda: {arm: flops_per_step(arm, source, blocks) for arm in SHORT_ARMS})


def steps_of(arm: str, flops: dict[str, float]) -> int:
    return round(STEPS * flops["a3_paper"] / flops[arm.removesuffix("_long")]) if arm.endswith("_long") else STEPS


def fill(arm: str, model, ids, group_ids, temperature: float, seed: int):
    """The predicted tokens as the arm writes them."""
    generator = generator_for(seed, -5)
    if arm in A3_ARMS:
        return generate(model, ids, group_ids, temperature=temperature, generator=generator).sequences
    if kind_of(arm) == "diffusion":
        return evaluate.diffusion_sample(model, ids, group_ids, temperature, generator)
    ids = ids.clone()
    for column in range(1, ids.shape[1]):  # left to right, the right side unread
        now = group_ids[:, column] > 0
        if now.any():
            logits = model(ids[now, :column], use_cache=False, logits_to_keep=1).logits[:, -1].float()
            ids[now, column] = Sampler(temperature, generator=generator)(logits)
    return ids


@torch.no_grad()
def measure(arm: str, seed: int, model, tokenizer, rows: data.Blocks) -> dict:
    """Everything that is reported of a trained arm; sums per held-out document, so that they can be paired."""
    kind, sums = kind_of(arm), {}
    for name, grouping in (SIDES if kind == "autoregressive" else EVERY).items():
        sums[name] = evaluate.token_losses(partial(SCORES[kind], model), rows, evaluate.draw(rows, grouping))
    if kind == "diffusion":
        order = evaluate.draw(rows, RANDOM["random order"])
        bound = evaluate.diffusion_bound(model, rows.input_ids, order, draws=32, seed=0)
        sums["diffusion bound"] = bound, (order > 0).sum(-1)
    # infilling: greedy, one token at a time; a token counts when it is the very one
    draws = (generator_for(0, -6, row) for row in range(len(rows.lengths)))
    place = torch.arange(LENGTH) - torch.stack([torch.randint(1, LENGTH - BLANK, (1,), generator=g) for g in draws])
    unknown = (place >= 0) & (place < BLANK)
    filled = fill(arm, model, rows.input_ids, groups.infill(unknown), 0.0, seed)
    found = {
        "nats": {name: nats.tolist() for name, (nats, _) in sums.items()},
        "tokens": {name: tokens.tolist() for name, (_, tokens) in sums.items()},
        "right": ((filled == rows.input_ids) & unknown).sum(-1).tolist(),
        "of": unknown.sum(-1).tolist(),
        "samples": {},
    }
    orders = LEFT if kind == "autoregressive" else LEFT | RANDOM
    for name, order in orders.items() if arm in SAMPLED else ():
        ids = torch.full((SAMPLES, LENGTH), tokenizer.bos_token_id)
        written = fill(arm, model, ids, evaluate.draw(rows.rows(slice(SAMPLES)), order, seed), 1.0, seed)
        found["samples"][name] = tokenizer.batch_decode(written, skip_special_tokens=True)
    return found


def trained(arm: str, seed: int) -> dict:
    """Train and measure."""
    source, tokenizer, blocks, rows = shared()
    model, recipe = make(arm, source)
    config = replace(CONFIG, steps=steps_of(arm, all_flops(source, blocks)), seed=seed)
    groupings, score = WATCH[kind_of(arm)]
    watch = evaluate.HeldOut(rows.rows(slice(WATCHED)), groupings, score=score)
    metrics = train.train(model, recipe, blocks, config, FOLDER / f"{arm}-{seed}", watch, quiet=True)
    curve = [{"step": line["step"], "tokens": line["tokens"], **{name: line[name] for name in groupings}}
             for line in metrics if groupings.keys() <= line.keys()]  # fmt: skip
    last = {"steps": config.steps, "training_tokens": metrics[-1]["tokens"], "train_seconds": metrics[-1]["seconds"]}
    return {**measure(arm, seed, model, tokenizer, rows), **last, "curve": curve}


def run(arm: str, seed: int) -> dict:
    """An arm with one seed, unless it is there."""
    torch.set_num_threads(1)
    found = kept(FOLDER, f"{arm}-{seed}", {}, partial(trained, arm, seed))
    for checkpoint in FOLDER.glob(f"{arm}-{seed}/checkpoints/step-*/optimizer.safetensors"):
        checkpoint.unlink()  # a finished run is not continued
    print(f"{arm}-{seed}: {found['wall_seconds']:.0f} s", flush=True)
    return found


def step_seconds(source: LlamaForCausalLM, blocks: data.Blocks, rounds: int = 10) -> dict[str, float]:
    """Median time of a training step of each kind, alternating in one run, on one thread."""

    def step(model, recipe, number: int) -> None:
        rows = blocks.rows(torch.arange(number * BATCH, (number + 1) * BATCH))
        batch = recipe.batch(rows, number / (rounds + 1), list(range(BATCH)), number)
        with torch.autocast("cpu", torch.bfloat16):
            log_probs = recipe.log_probs(model, batch.inputs)
        (log_probs * batch.weights).sum().backward()

    seconds = turns({arm: partial(step, *make(arm, source)) for arm in SHORT_ARMS}, rounds)
    return {arm: round(statistics.median(found), 4) for arm, found in seconds.items()}


def report(arms: dict[str, list[dict]]) -> None:
    """Write what the arms have measured, by arm and seed, into the book."""
    source, tokenizer, blocks, rows = shared()
    flops = all_flops(source, blocks)
    score = partial(SCORES["autoregressive"], source)
    nats, tokens = evaluate.token_losses(score, rows, evaluate.draw(rows, LEFT["left to right"]))
    texts = {
        f"{arm}, {order}": [one["samples"][order] for one in arms[arm]]
        for arm in SAMPLED
        for order in arms[arm][0]["samples"]
    }
    real = tokenizer.batch_decode(rows.input_ids, skip_special_tokens=True)
    texts["held-out text"] = [real[SAMPLES * n : SAMPLES * (n + 1)] for n in range(len(SEEDS))]
    start = runs.read_metrics(FOLDER / "pretraining")[-1]
    seconds = start["seconds"] + sum(one["wall_seconds"] for found in arms.values() for one in found)
    record(
        "study", seed=0, wall_seconds=seconds, seeds=SEEDS, texts=TEXTS, shape=SHAPE,
        parameters=source.num_parameters(), length=LENGTH, batch=BATCH, learning_rate=CONFIG.learning_rate,
        pretraining={
            "steps": PRETRAINING.steps, "batch": PRETRAINING.batch_size, "tokens": start["tokens"],
            "left to right": round((nats.sum() / tokens.sum()).item(), 4),
        },
        training_text_tokens=int(blocks.lengths.sum()), held_out=len(rows.input_ids), watched=WATCHED, blank=BLANK,
        samples=SAMPLES, arms={arm: summary(found, flops[arm.removesuffix("_long")]) for arm, found in arms.items()},
        differences=[
            {"first": first, "second": second, "grouping": name, **difference(arms[first], arms[second], name)}
            for first, second, names in COMPARED
            for name in names
        ],
        judged=judge(texts), step_seconds=step_seconds(source, blocks),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="arms trained at the same time")
    parser.add_argument("--only", help="train and measure one arm with one seed, such as a3_paper-0")
    options = parser.parse_args()
    prepare()
    torch.set_num_threads(1)
    if options.only:
        arm, seed = options.only.rsplit("-", 1)
        run(arm, int(seed))
        return
    source, _, blocks, _ = shared()
    all_flops(source, blocks)  # before the arms ask for it at the same time
    jobs = [(arm, seed) for arm in ARMS for seed in SEEDS]
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        found = dict(zip(jobs, pool.map(run, *zip(*jobs, strict=True)), strict=True))
    report({arm: [found[arm, seed] for seed in SEEDS] for arm in ARMS})


if __name__ == "__main__":
    main()
