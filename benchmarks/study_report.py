"""How far apart are the arms of the study? Statistics over seeds and documents, and what a judge thinks of samples."""

import math
import statistics
from itertools import pairwise

import numpy as np
import torch

from a3mini import pretrained
from a3mini.evaluate import intervals, quality
from a3mini.train.data import start_token

SEEDS = (0, 1, 2)
STUDENT_T = 4.303  # 97.5 % quantile for three seeds
SIDES = ("left to right", "a span", "a sentence")
RIVALS = ("random order", *SIDES)  # groupings in which masked diffusion has a loss too
EVERY = (*RIVALS, "blocks of 4", "random groups of 4", "strided groups of 4")
COMPARED = [  # first minus second, in these groupings
    *((first, second, RIVALS) for first in ("a3_paper", "a3_stage3") for second in ("diffusion", "diffusion_long")),
    *(("a3_paper", second, SIDES) for second in ("ar", "ar_long")),
    ("a3_spans", "diffusion", RIVALS),
    ("a3_spans", "ar", SIDES),
    *(("a3_paper", second, EVERY) for second in ("a3_stage3", "a3_no_stage2", "a3_spans", "a3_official")),
]


def interval(values: list[float]) -> list[float]:
    """Mean and half-width of the 95 % t interval over seeds."""
    width = STUDENT_T * statistics.stdev(values) / len(SEEDS) ** 0.5
    return [round(statistics.fmean(values), 4), round(width, 4)]


def summary(found: list[dict], flops: float) -> dict:
    """The numbers of an arm from what was measured with each seed; ``flops`` of a training step."""
    nats = {name: interval([sum(one["nats"][name]) / sum(one["tokens"][name]) for one in found])
            for name in found[0]["nats"]}  # fmt: skip
    curve = []
    for lines in zip(*(one["curve"] for one in found), strict=True):
        losses = {name: interval([line[name] for line in lines]) for name in lines[0] if name not in ("step", "tokens")}
        curve.append({"step": lines[0]["step"], "tokens": lines[0]["tokens"], **losses})
    return {
        "steps": found[0]["steps"], "tokens": found[0]["training_tokens"],
        "teraflops": round(flops * found[0]["steps"] / 1e12, 3),
        "train_seconds": interval([one["train_seconds"] for one in found]), "nats": nats,
        "right": interval([sum(one["right"]) / sum(one["of"]) for one in found]), "curve": curve,
    }  # fmt: skip


def difference(first: list[dict], second: list[dict], name: str) -> dict:
    """First minus second, nats per token, paired by seed and by document."""
    ours, theirs = (torch.tensor([one["nats"][name] for one in arm], dtype=torch.float64) for arm in (first, second))
    nats, tokens = ours - theirs, torch.tensor(first[0]["tokens"][name], dtype=torch.float64)  # (seeds, documents)
    mean, width = interval((nats.sum(-1) / tokens.sum()).tolist())
    _, low, high = intervals.bootstrap(nats.mean(0) / tokens, tokens)
    return {"mean": mean, "over_seeds": width, "over_documents": [round(low, 4), round(high, 4)]}


def judge(texts: dict[str, list[list[str]]]) -> dict[str, dict]:
    """Perplexity under an independent model, beside what a low perplexity may hide: entropy and distinct pairs.

    Args:
        texts: name to samples, in one list per seed.
    """
    model, tokenizer, name_of_judge = pretrained.small_model()

    def perplexity(samples: list[str]) -> float:
        nats, tokens = quality.text_nats(model, tokenizer, samples, start=start_token(tokenizer))
        return math.exp(nats.sum() / tokens.sum())

    def entropy(samples: list[str]) -> float:  # of the words, bits
        words = np.unique(" ".join(samples).split(), return_inverse=True)[1]
        return quality.entropy(words) / math.log(2)

    def distinct_pairs(samples: list[str]) -> float:
        pairs = [pair for sample in samples for pair in pairwise(sample.split())]
        return len(set(pairs)) / len(pairs)

    measures = (perplexity, entropy, distinct_pairs)
    found = {name: {one.__name__: interval(list(map(one, by_seed))) for one in measures}
             for name, by_seed in texts.items()}  # fmt: skip
    return found | {"judge": name_of_judge}
