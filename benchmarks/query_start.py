"""What is a warm start of the query stream worth, before any training and after equal training?

    python benchmarks/query_start.py --tinystories FILE    about 15 minutes on two CPU cores

First SmolLM2 as A3, untouched, on stories that it was not trained on here: held-out losses in every order, with query
rows that start from w ("cold", the paper's) and from the token before ("warm"), beside the source's own loss; this part
is kept in checkpoints/query_start. Then a compact model: trained left to right for a while, made A3 with either start,
and adapted with the curriculum "mixed" on the same rows and groups; several seeds. Losses are nats per predicted token;
given tokens are read from left to right. Intervals: of SmolLM2's losses over rows, of the compact model's differences,
warm minus cold, over seeds (Student's t).

How the two starts compare on SmolLM2 after millions of tokens is in ``gpu_lab.py``.
"""

import argparse
from functools import partial
from pathlib import Path
from statistics import mean, stdev

import torch
from adaptation import HELD_OUT, tinystories
from kept import digest, kept
from record import record
from texts import book_tokenizer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from a3mini import from_autoregressive, groups, objective, pretrained, train
from a3mini.evaluate import intervals
from a3mini.evaluate.held_out import HeldOut, draw, token_losses
from a3mini.evaluate.rivals import autoregressive_log_likelihood
from a3mini.rows import QUERY_STARTS
from a3mini.train import Curriculum, corpus, data
from a3mini.train.curriculum import Grouping
from a3mini.train.tokens import vocabulary_size

NAMES = dict(zip(QUERY_STARTS, ("cold", "warm"), strict=True))
GROUPINGS = {
    "left to right": Grouping("blocks"), "a sentence, both sides": Grouping("sentence"),
    "far apart, 2 at a time": Grouping("strided", 2), "far apart, 4 at a time": Grouping("strided", 4),
    "neighbours, 4 at a time": Grouping("blocks", 4), "random order": Grouping("shuffled"),
}  # fmt: skip
LENGTH, ROWS = 96, 24
T_975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # Student's t for a 95% interval, by the number of seeds


def score(model, input_ids: Tensor, group_ids: Tensor) -> Tensor:
    return objective.log_likelihood(model, input_ids, *groups.read_given(group_ids, "left_to_right"), reduction="token")


def held_out(stories, tokenizer, count: int) -> data.Blocks:
    rows = data.pack(stories, tokenizer, LENGTH)
    return rows.rows(torch.randperm(len(rows.lengths), generator=train.generator_for(0))[:count])


@torch.no_grad()
def untouched(stories) -> dict:
    """SmolLM2's losses with both starts, and the source's own."""
    source, tokenizer, called = pretrained.small_model()
    rows = held_out(stories, tokenizer, ROWS)
    found = {title: {} for title in GROUPINGS}
    scores = {NAMES[start]: partial(score, from_autoregressive(source, query_start=start)) for start in QUERY_STARTS}
    for title, grouping in GROUPINGS.items():
        group_ids = draw(rows, grouping)
        asked = dict(scores)
        if title in ("left to right", "a sentence, both sides"):  # the source can give the left side alone
            asked["source"] = partial(autoregressive_log_likelihood, source)
        for name, how in asked.items():
            nats, tokens = token_losses(how, rows, group_ids, batch_size=16)
            found[title][name] = intervals.bootstrap(nats / tokens, tokens).rounded(3)
        print(title, found[title], flush=True)
    return {"model": called, "rows": len(rows.lengths), "losses": found}


def adapted(options) -> dict:
    """A compact model's losses with both starts, on the way of an adaptation."""
    tokenizer = book_tokenizer()
    stories, others = corpus.split_documents(corpus.documents("andersen", "bible-bbe"))
    blocks, rows = data.pack(stories, tokenizer, LENGTH), held_out(others, tokenizer, ROWS)
    shape = dict(vocab_size=vocabulary_size(tokenizer), hidden_size=192, intermediate_size=512, num_hidden_layers=6,
                 num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=LENGTH,
                 tie_word_embeddings=True)  # fmt: skip
    torch.manual_seed(0)
    source = LlamaForCausalLM(LlamaConfig(**shape))
    how = {"batch_size": options.batch_size, "precision": "fp32"}
    before = train.TrainConfig(steps=options.source_steps, learning_rate=2e-3, **how)
    train.train(source, train.Autoregressive(), blocks, before, quiet=True)
    measure = HeldOut(rows, GROUPINGS, score=score)
    left = HeldOut(rows, {"left to right": GROUPINGS["left to right"]}, score=autoregressive_log_likelihood)(source)
    print("the source", left, flush=True)
    curves = {}
    for seed in range(options.seeds):
        config = train.TrainConfig(steps=options.steps, seed=seed, eval_every=max(1, options.steps // 4),
                                   warmup_steps=10, **how)  # fmt: skip
        for start in QUERY_STARTS:
            model = from_autoregressive(source, query_start=start, known_order="left_to_right")
            recipe = train.AnyOrder(Curriculum.preset("mixed"))
            metrics = train.train(model, recipe, blocks, config, evaluate=measure, quiet=True)
            curves[seed, NAMES[start]] = [line for line in metrics if "random order" in line]
            print(seed, NAMES[start], metrics[-1], flush=True)
    return {
        "source": round(left["left to right"], 3), "rows": len(rows.lengths), "steps": options.steps,
        "batch_size": options.batch_size, "source_steps": options.source_steps, "seeds": options.seeds,
        "curve": [compared(curves, number, options.seeds) for number in range(len(curves[0, "warm"]))],
    }  # fmt: skip


def compared(curves: dict, number: int, seeds: int) -> dict:
    """At the ``number``-th measurement: the means over seeds, and the difference with its interval."""
    lines = {name: [curves[seed, name][number] for seed in range(seeds)] for name in NAMES.values()}
    found = {}
    for title in GROUPINGS:
        by = {name: [line[title] for line in those] for name, those in lines.items()}
        gain = [warm - cold for warm, cold in zip(by["warm"], by["cold"], strict=True)]
        half = T_975[seeds] * stdev(gain) / seeds**0.5 if seeds > 1 else 0.0
        found[title] = {name: round(mean(values), 3) for name, values in by.items()}
        found[title]["difference"] = [round(mean(gain), 3), round(half, 3)]
    first = lines["warm"]
    return {"step": first[0]["step"], "tokens": round(mean(line["tokens"] for line in first)), "losses": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tinystories", type=Path, help="file of stories; default: the hub's TinyStories")
    parser.add_argument("--source-steps", type=int, default=240, help="left to right, before the adaptation")
    parser.add_argument("--steps", type=int, default=60, help="of the adaptation")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3, choices=(1, *T_975))
    options = parser.parse_args()
    stories = tinystories(options.tinystories)[-HELD_OUT:]  # no model of the book was trained on them
    settings = {"rows": ROWS, "length": LENGTH, "text": digest([story.text for story in stories])}
    first = kept(Path("checkpoints/query_start"), "untouched", settings, lambda: untouched(stories))
    first = {key: first[key] for key in ("model", "rows", "losses")}
    record("query_start", seed=0, length=LENGTH, untouched=first, adapted=adapted(options))


if __name__ == "__main__":
    main()
