"""The compact model, its twins, and what they are worth: A3, autoregression and masked diffusion on the same rows.

    python benchmarks/compact.py train --data FOLDER --minutes 100    A3; goes on where it stopped
    python benchmarks/compact.py train --arm ar --minutes 100         a twin; --arm diffusion is the other
    python benchmarks/compact.py report                               of the arms that are there, finished or not
    python benchmarks/compact.py ship --to FOLDER                     A3 as one file of 8 bits, and its card
    python benchmarks/compact.py --smoke                              all of this on a tiny model; writes nothing

The first ``train`` reads FOLDER, which has a file NAME.jsonl.gz for each of ``gpu_lab.SIMPLE``, a document in each line
under "text", and keeps rows and tokenizer in checkpoints/compact_new; afterwards the texts are not needed. Some
documents are held out before anything is repeated. All arms begin with the same weights, and see the same rows in the
same order, as many tokens in each step, with the same rates; the sum of their layers is the same. With ``--size gpu``
the model is larger and so are its steps.

A training stops after so many minutes, with a checkpoint, and the same command goes on. It may be prolonged with
--tokens until its learning rate begins to fall, which is after four fifths. What is measured is the exponential moving
average of the weights (``TrainConfig.ema_tokens``), at whatever step the last checkpoint is.

The report has held-out losses, nats per token with 95 % intervals over rows, and differences paired over rows: A3 in
every way, autoregression from left to right, masked diffusion's bound in random order. Beginnings of held-out stories,
continued by each, before a judge: that is the untouched SmolLM2, and reads the beginning, too, as in ``tradeoff.py``.
And what each makes of beginnings and blanks of ours: the first try, none was chosen.
"""

import argparse
import gzip
import json
import math
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from adaptation import HELD_OUT as LAST_STORIES
from adaptation import tinystories
from gpu_lab import SIMPLE
from kept import weights_of
from quality import samples, strategies
from record import RESULTS, record
from safetensors.torch import load_file, save_file
from study_report import SEEDS, judge
from torch import Tensor
from tradeoff import GIVEN, NEW, REAL
from tradeoff import SAMPLES as TEXTS
from transformers import LlamaConfig, LlamaForCausalLM

from a3mini import A3Config, A3ForCausalLM, decode, eight_bit, pretrained, runs, sources
from a3mini.evaluate import HeldOut, intervals
from a3mini.evaluate.held_out import a3_score, draw, token_losses
from a3mini.evaluate.quality import Openings
from a3mini.evaluate.rivals import autoregressive_log_likelihood, bound_score, diffusion_bound
from a3mini.evaluate.stories import MIDDLE, PREFIX
from a3mini.train import (
    AnyOrder,
    Autoregressive,
    Curriculum,
    MaskedDiffusion,
    MaskedDiffusionModel,
    TrainConfig,
    corpus,
    data,
    generator_for,
    train,
)
from a3mini.train.curriculum import Grouping, Part, Stage
from a3mini.train.data import Blocks
from a3mini.train.interrupt import Interrupted
from a3mini.train.mixture import Mixture
from a3mini.train.tokens import encode, vocabulary_size

FOLDER = Path("checkpoints/compact_new")
HEAD = "tinystories_head"  # with --tinystories, as often as the first of SIMPLE
JUDGED_TEXT = "tinystories_next4m_truecased"  # its held-out stories are continued
LENGTH, END = 256, "<end>"  # tokens of a row; the token that ends a blank
HELD_OUT, MEASURED = 0.05, 192  # share of the documents; rows of each source in the report
KNOWN_ORDER, QUERY_START = "left_to_right", "previous"
ARMS = ("a3", "ar", "diffusion")
RECORDED = ("recipe", "curriculum", "known_order", "anneal")  # of a recipe
ROOM = 24  # of a blank whose length is unknown, in the training and when it is filled
DRAWS = 32  # passes of masked diffusion's bound for each row
GROUPINGS = {
    "left to right": Grouping("blocks"),
    **{f"neighbours {size}": Grouping("blocks", size) for size in (2, 4, 8)},
    **{f"strided {size}": Grouping("strided", size) for size in (2, 4, 8)},
    "random order": Grouping("shuffled"),
    "a span, both sides": Grouping("span"),
    "a sentence, both sides": Grouping("sentence"),
}
ON_THE_WAY = ("left to right", "strided 4", "random order", "a sentence, both sides")
LEFT_ALONE = {"left to right": "left to right", "a span, both sides": "a span, left side",
              "a sentence, both sides": "a sentence, left side"}  # fmt: skip
BOUND = "random order (bound)"
PAIRS = [  # first minus second, each an arm and its way
    (("a3", "left to right"), ("ar", "left to right")),
    (("a3", "random order"), ("diffusion", BOUND)),
    *((("a3", f"{kind} {size}"), ("a3", "left to right")) for kind in ("strided", "neighbours") for size in (2, 4, 8)),
    (("a3", "a sentence, both sides"), ("ar", "a sentence, left side")),
    (("a3", "a span, both sides"), ("ar", "a span, left side")),
]
SHOWN = {"a3": ["left to right 1", "strided 2", "strided 4", "strided 8", "left to right 4"],
         "ar": ["left to right 1"], "diffusion": ["random order 1"]}  # fmt: skip
JUDGED = SHOWN | {"diffusion": ["random order 1", "random order 4"]}
SHOWN_TOKENS = 64
BEGINNINGS = [
    "Once upon a time there was a little mouse who lived under the floor of a bakery.",
    "Tom had a red kite. One windy day he took it up the hill.",
    "\"Where is my other shoe?\" asked Ana. She looked under the bed.",
    "The old farmer had a donkey that would not walk.",
    "It was the first day of school, and Ben was afraid.",
    "A frog sat by the pond and sang. A bird heard him and said,",
    "Mia found a small key in the garden. She did not know what it was for.",
    "The king had three sons. The youngest of them",
    "It rained all night. In the morning the street",
    "Grandma told Sam that there was a bear in the forest.",
]  # fmt: skip
WITH_BLANKS = [
    "Lily had a cat named Snow. ____ Lily looked for her everywhere. At last she found her asleep in a basket.",
    "Tim wanted to make a cake for his mom. ____ He put it in the oven. His mom was very happy.",
    "The boy threw the ball. ____ \"I am sorry,\" he said to the lady. She smiled and gave him the ball.",
    "One day a fox came to the farm. The hens were afraid. ____ The fox ran away and never came back.",
    "Sara lost her tooth. ____ In the morning there was a coin under it.",
    "It was very hot. The dog was thirsty. ____ Then he lay down under a tree and slept.",
    "Max and Leo were ____. They played together every day.",
    "The little bird could not fly. Its mother said, \"____\" So the bird tried again.",
    "Grandpa opened the old box. Inside there was ____. He gave it to Nina.",
    "____ So she took an umbrella with her. When she came home, she was dry.",
]  # fmt: skip


class Size(NamedTuple):
    """How large a model is, its steps, and what it reads."""

    texts: dict[str, float]  # how many passes over each a pass over the rows makes
    vocabulary: int
    width: int
    layers: int
    batch_tokens: int
    micro_batch_tokens: int  # 0: all at once
    tokens: int  # of the whole training, unless --tokens says otherwise
    ema_tokens: int
    watched: int = 32  # rows of each source that are measured on the way

    @property
    def shape(self) -> dict:
        """Of the model's config, but for the vocabulary."""
        inner = 64 * math.ceil(self.width * 8 / 3 / 64)
        return {
            "hidden_size": self.width, "intermediate_size": inner, "num_hidden_layers": self.layers,
            "num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": True,
        }  # fmt: skip


FEW = {"tinystories_next4m_truecased": 5, "african_storybook_en": 4, "pratham_en": 4, "gutenberg_children": 0.15}
# Toward use in the second half: a blank predicts few tokens of its row, so that of all tokens few are of blanks
CURRICULUM = Curriculum((
    *Curriculum.preset("blanks").stages,
    Stage("toward use", 1, (
        Part("blocks", (1,), 0.15), Part("span", (1,), 0.1, room=ROOM), Part("sentence", (1,), 0.35, room=ROOM),
        Part("shuffled", (1,), 0.25), Part("strided", (2, 4, 8), 0.15),
    )),
), "toward use")  # fmt: skip
SIZES = {
    # old books are a fifth, so that a model of few tokens learns one way of writing well
    "cpu": Size(FEW, 4096, 192, 6, 8192, 0, 12_000_000, 300_000),
    "gpu": Size(SIMPLE, 5120, 256, 8, 32768, 0, 150_000_000, 3_000_000),
    "smoke": Size({"andersen": 1.5}, 300, 32, 2, 1024, 0, 6 * 1024, 2048, 2),
}


# The rows


class Text(NamedTuple):
    """What all arms see."""

    tokenizer: object
    rows: Blocks
    visits: Tensor  # int64, how often a pass shows each row
    held_out: dict[str, Blocks]  # by source
    about: dict


def read_text(folder: Path) -> Text:
    """What ``prepare`` wrote."""
    tokenizer, found = sources.tokenizer(folder / "tokenizer"), load_file(folder / "rows.safetensors")
    about = runs.read_json(folder / "text.json")
    ends = data._ends_sentence(tokenizer)

    def blocks(name: str) -> Blocks:
        ids, lengths = found[f"{name}.ids"].int(), found[f"{name}.lengths"]
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        return Blocks(ids, lengths, found[f"{name}.documents"], ends[ids.long()] & real)

    held_out = {name: blocks(f"held out {name}") for name in about["held_out"]}
    return Text(tokenizer, blocks("rows"), found["visits"], held_out, about)


def prepare(folder: Path, weights: dict[str, float], vocabulary: int, without=(), **how) -> None:
    """Texts to rows: folder/rows.safetensors, text.json and tokenizer.

    Args:
        folder: where they go.
        weights: of the sources, as ``Mixture`` has them.
        vocabulary: of the tokenizer, END included.
        without, how: as ``Mixture.split``.
    """
    mixture = Mixture(weights)
    weighted, held_out = mixture.split(HELD_OUT, 0, without=without, **how)
    shown = [story for story, n in zip(weighted.documents, weighted.visits.tolist(), strict=True) for _ in range(n)]
    tokenizer = data.train_tokenizer(shown, vocabulary - 1)
    tokenizer.add_special_tokens({"additional_special_tokens": [END]})
    rows, visits = weighted.pack(tokenizer, LENGTH)
    named = {source: re.sub(r"\.(jsonl\.gz|txt)$", "", Path(source).name) for source in mixture.weights}
    parts = {"rows": rows}
    for source, name in named.items():
        own = {story.text for story in corpus.documents(source, **how)}
        if stories := [story for story in held_out if story.text in own]:
            parts[f"held out {name}"] = data.pack(stories, tokenizer, LENGTH)
    tensors = {"visits": torch.ones(len(rows.lengths), dtype=torch.int64) if visits is None else visits}
    for name, blocks in parts.items():
        ids = blocks.input_ids.to(torch.uint16)
        tensors |= {f"{name}.ids": ids, f"{name}.lengths": blocks.lengths, f"{name}.documents": blocks.documents}
    about = {
        "weights": {named[source]: weight for source, weight in mixture.weights.items()},
        "tokens": {named[source]: tokens for source, tokens in weighted.tokens(rows).items()},
        "held_out": [name.removeprefix("held out ") for name in parts if name != "rows"],
        "documents": len(weighted.documents),
        "held_out_documents": len(held_out),
        "tokenizer": data.tokenizer_fingerprint(tokenizer),
    }
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder / "tokenizer")
    with runs.whole_file(folder / "rows.safetensors") as file:
        save_file(tensors, file)
    runs.write_json(folder / "text.json", about)  # the last: what is begun is made anew


def sources_in(folder: Path, texts: dict[str, float], head: Path | None, out: Path) -> tuple[dict[str, float], list]:
    """The weights of the files, and what must not be trained on; stories of a plain file become such a file."""
    weights, without = {str(folder / f"{name}.jsonl.gz"): weight for name, weight in texts.items()}, []
    if head is not None:
        stories, file = tinystories(head), out / f"{HEAD}.jsonl.gz"
        without = stories[-LAST_STORIES:]  # other benchmarks measure on these
        out.mkdir(parents=True, exist_ok=True)
        with gzip.open(file, "wt", encoding="utf-8") as opened:
            opened.writelines(json.dumps({"text": story.text}) + "\n" for story in stories[:-LAST_STORIES])
        weights[str(file)] = texts[JUDGED_TEXT]
    return weights, without


# The arms


def new_model(arm: str, size: Size, tokenizer, seed: int = 0):
    """A model before its training; the arms begin with the same weights, w being what stands for a masked token."""
    (bos, eos, _), words = data.special_ids(tokenizer), vocabulary_size(tokenizer)
    shape = size.shape | {"vocab_size": words, "max_position_embeddings": LENGTH, "bos_token_id": bos,
                          "eos_token_id": eos}  # fmt: skip
    end = data.empty_token(tokenizer, torch.empty(words, 1), END)
    torch.manual_seed(seed)
    config = A3Config(**shape, query_start=QUERY_START, known_order=KNOWN_ORDER, empty_token_id=end)
    model = A3ForCausalLM(config)
    if arm == "a3":
        return model
    weights = model.state_dict()
    vector = weights.pop("model.query_embedding")
    twin = (LlamaForCausalLM if arm == "ar" else MaskedDiffusionModel)(LlamaConfig(**shape))
    twin.load_state_dict(weights | ({"mask_embedding": vector} if arm == "diffusion" else {}))
    return twin


def recipe_of(arm: str, curriculum: str | None = None):
    if arm == "a3":
        load = Curriculum.load if Path(curriculum or "").is_file() else Curriculum.preset
        return AnyOrder(load(curriculum) if curriculum else CURRICULUM)  # the rest is in the model's config
    return Autoregressive() if arm == "ar" else MaskedDiffusion(anneal=0)  # from scratch there is nothing to turn


def config_of(size: Size, tokens: int | None = None) -> TrainConfig:
    steps = (tokens or size.tokens) // size.batch_tokens
    return TrainConfig(
        steps=steps, batch_tokens=size.batch_tokens, micro_batch_tokens=size.micro_batch_tokens, learning_rate=8e-3,
        warmup_steps=min(200, steps // 4), schedule="wsd", ema_tokens=size.ema_tokens, optimizer="muon",
        eval_every=max(3, size.tokens // size.batch_tokens // 20), log_every=20,
    )  # fmt: skip


def watched(arm: str, held_out: dict[str, Blocks], rows: int) -> HeldOut:
    """What is measured on the way, on so many rows of each source."""
    parts = [some_rows(blocks, rows) for blocks in held_out.values()]
    blocks = Blocks(*(torch.cat(part) for part in zip(*parts, strict=True)))
    if arm == "ar":
        return HeldOut(blocks, {"left to right": GROUPINGS["left to right"]}, score=autoregressive_log_likelihood)
    if arm == "diffusion":
        return HeldOut(blocks, {BOUND: GROUPINGS["random order"]}, score=bound_score)
    return HeldOut(blocks, {name: GROUPINGS[name] for name in ON_THE_WAY})


def some_rows(blocks: Blocks, count: int) -> Blocks:
    """The first of the held-out rows in a random order, so that fewer are a part of more."""
    return blocks.rows(torch.randperm(len(blocks.lengths), generator=generator_for(1))[:count])


@contextmanager
def stopped_after(minutes: float | None) -> Iterator[None]:
    """After so many minutes the training is asked to stop, as ``kill`` asks: it ends its step and saves."""
    timer = threading.Timer(60 * (minutes or 0), os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    if minutes:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def train_arm(
    folder: Path, arm: str, size: Size, tokens: int | None = None, minutes: float | None = None,
    curriculum: str | None = None, quiet: bool = False,
) -> bool:  # fmt: skip
    """Train, or go on; whether the training came to its end."""
    text = read_text(folder)
    about = {"tokenizer": text.about["tokenizer"], "weights": text.about["weights"]}
    model = new_model(arm, size, text.tokenizer)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with stopped_after(minutes):
            train(
                model, recipe_of(arm, curriculum), text.rows, config_of(size, tokens), folder / arm,
                watched(arm, text.held_out, size.watched), quiet, about=about, visits=text.visits,
            )  # fmt: skip
    except Interrupted as stop:
        print(stop, flush=True)
        return False
    return True


class Trained(NamedTuple):
    """An arm as far as it is."""

    model: object
    state: dict


def load_arm(folder: Path, arm: str) -> Trained | None:
    """The averaged weights of an arm's last checkpoint, and how it was trained so far; None: there is none."""
    last = runs.latest_checkpoint(folder / arm / "checkpoints")
    if last is None:
        return None
    info = runs.read_json(folder / arm / "run.json", {"model": dict, "training": dict})
    tensors, state = runs.load_checkpoint(last, ("average",), {"step": int, "tokens": int})
    if arm == "a3":
        model = A3ForCausalLM(A3Config.from_dict(info["model"] | {"known_order": info["known_order"]}))
    else:
        kind = LlamaForCausalLM if arm == "ar" else MaskedDiffusionModel
        model = kind(LlamaConfig.from_dict(info["model"]))
    averages = {name.removeprefix("average."): one for name, one in tensors["average"].items() if name != "tokens"}
    missing, left_over = model.load_state_dict(averages, strict=False)
    if left_over or set(missing) - {"lm_head.weight"}:
        raise SystemExit(f"{last} is not of this arm: {sorted({*missing, *left_over})}")
    curve = [line for line in runs.read_metrics(folder / arm) if "left to right" in line or BOUND in line]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kept = ("step", "tokens", "seconds")
    return Trained(
        model.to(device).eval(),
        {key: state[key] for key in kept}
        | {"steps": info["training"]["steps"], "finished": state["step"] == info["training"]["steps"]}
        | {"hardware": info["hardware"], "threads": info["threads"], "precision": info["precision"]}
        | {
            "training": info["training"],
            "recipe": {k: info[k] for k in ("recipe", "curriculum", "anneal") if k in info},
        }
        | {"curve": [{k: round(v, 4) for k, v in line.items() if k in (*kept, *GROUPINGS, BOUND)} for line in curve]},
    )


# The report


def losses(arm: str, model, blocks: Blocks) -> dict[str, tuple[Tensor, Tensor]]:
    """By way of predicting, the nats and tokens of each row, (N,) each."""
    found, device = {}, model.device
    for name, grouping in GROUPINGS.items():
        group_ids = draw(blocks, grouping)
        if arm == "a3":
            found[name] = token_losses(partial(a3_score, model), blocks, group_ids, device)
        elif arm == "ar" and name in LEFT_ALONE:
            score = partial(autoregressive_log_likelihood, model)
            found[LEFT_ALONE[name]] = token_losses(score, blocks, group_ids, device)
        elif arm == "diffusion" and name == "random order":

            def score(ids: Tensor, order: Tensor) -> Tensor:
                return -diffusion_bound(model, ids, order, DRAWS, 0)[:, None]

            found[BOUND] = token_losses(score, blocks, group_ids, device)
    return found


def summaries(found: dict[str, dict[str, tuple[Tensor, Tensor]]]) -> tuple[dict, dict]:
    """Losses by arm and way, nats per token; and the differences of PAIRS, paired over rows."""
    means = {
        arm: {way: intervals.bootstrap(nats / tokens, tokens).rounded(4) for way, (nats, tokens) in by.items()}
        for arm, by in found.items()
    }
    differences = {}
    for (first, way), (second, other) in PAIRS:
        if way in found.get(first, {}) and other in found.get(second, {}):
            (nats, tokens), (others, _) = found[first][way], found[second][other]
            title = f"{first}, {way} - {second}, {other}"
            differences[title] = intervals.paired(nats / tokens, others / tokens, tokens).rounded(4)
    return means, differences


def rounding(model: A3ForCausalLM, tokenizer, blocks: Blocks) -> dict:
    """What 8 bits cost beside bfloat16: the difference of losses, paired over rows; and the sizes."""
    with tempfile.TemporaryDirectory() as folder:
        file = eight_bit.save(model, tokenizer, Path(folder) / eight_bit.FILE)
        found = {"bytes": file.stat().st_size, "more": {}}
        small = eight_bit.load(file).model.to(model.device)
    half = A3ForCausalLM(model.config).to(model.device)
    half.load_state_dict({name: weight.bfloat16().float() for name, weight in model.state_dict().items()})
    for name in ("left to right", "random order"):
        group_ids = draw(blocks, GROUPINGS[name])
        (nats, tokens), (others, _) = (
            token_losses(partial(a3_score, one.eval()), blocks, group_ids, model.device) for one in (small, half)
        )
        found["more"][name] = intervals.paired(nats / tokens, others / tokens, tokens).rounded(5)
    return found


def beginnings(blocks: Blocks, tokenizer, count: int, device) -> Openings:
    """The first tokens of held-out stories that are long enough, and a blank behind them."""
    own = (blocks.input_ids[:, 0] == data.start_token(tokenizer)) & (blocks.lengths > GIVEN + NEW)
    rows = some_rows(blocks.rows(own), count).input_ids[:, : GIVEN + NEW]
    part = torch.full_like(rows, PREFIX)
    part[:, GIVEN:] = MIDDLE
    return Openings([], rows.to(device), part.to(device), tokenizer, sorted(tokenizer.all_special_ids))


def ways_of(arm: str, model) -> dict:
    """How an arm goes on: one token at a time and more; special tokens are never drawn."""
    orders, sizes = ("left to right", "strided", "random order"), (1, 2, 4, 8)
    if arm == "a3":
        orders = orders[:2]
    if arm == "diffusion":
        sizes = (1, 4)
    found = strategies(model, getattr(model.config, "known_order", None), 1.0, sizes, orders)
    return {f"{order} {size}": filler for (order, size), filler in found.items()}


def judged(trained: dict[str, Trained], batch: Openings, tokenizer) -> dict:
    """What the judge thinks of each arm's continuations, with three seeds, and of how the stories go on."""
    read = partial(tokenizer.batch_decode, skip_special_tokens=True)
    prompts, texts = batch.input_ids[:, :GIVEN].tolist(), {REAL: [read(batch.input_ids.tolist())] * len(SEEDS)}
    for arm, (model, _) in trained.items():
        for way, filler in ways_of(arm, model).items():
            if way not in JUDGED[arm]:
                continue
            texts[f"{arm}, {way}"] = []
            for seed in SEEDS:
                written = filler(batch, generator_for(seed, 1)).texts
                rows = [[*ids, *text.ids] for ids, text in zip(prompts, written, strict=True)]
                texts[f"{arm}, {way}"].append(read(rows))
            print(arm, way, texts[f"{arm}, {way}"][0][0], flush=True)
    return judge(texts)


def opening(text: str, tokenizer, device) -> Openings:
    """One beginning of ours, and a blank behind it."""
    ids = [data.start_token(tokenizer), *encode(tokenizer, [text])[0]]
    part = torch.tensor([[PREFIX] * len(ids) + [MIDDLE] * SHOWN_TOKENS], device=device)
    rows = torch.tensor([ids + [ids[0]] * SHOWN_TOKENS], device=device)  # what stands in the blank is never read
    return Openings([], rows, part, tokenizer, sorted(tokenizer.all_special_ids))


def shown(trained: dict[str, Trained], tokenizer, count: int) -> dict:
    """What each arm makes of beginnings of ours, and A3 of blanks of which nobody says how long they are."""
    found = {"beginnings": BEGINNINGS[:count], "continuations": {}, "blanks": []}
    for arm, (model, _) in trained.items():
        begun, ways = [opening(text, tokenizer, model.device) for text in BEGINNINGS[:count]], ways_of(arm, model)
        for way in SHOWN[arm]:
            found["continuations"][f"{arm}, {way}"] = samples(ways[way], begun, 0)
    if "a3" in trained:
        for number, text in enumerate(WITH_BLANKS[:count]):
            done = decode.infill(trained["a3"].model, tokenizer, text, most=ROOM, generator=generator_for(0, number))
            found["blanks"].append({"text": text, "filled": done.blanks[0], "ended": done.ended[0]})
    return found


@torch.no_grad()
def report(folder: Path, rows: int = MEASURED, texts: int = TEXTS, count: int = len(BEGINNINGS)) -> dict:
    """What the arms are worth, as far as they are trained; ``texts`` for the judge, ``count`` to be shown."""
    text = read_text(folder)
    trained = {arm: one for arm in ARMS if (one := load_arm(folder, arm)) is not None}
    if "a3" not in trained:
        raise SystemExit(f"there is no checkpoint in {folder / 'a3'}; train first")
    (model, _), tokenizer = trained["a3"], text.tokenizer
    measured, means, differences = {}, {}, {}
    for name, blocks in text.held_out.items():
        blocks = some_rows(blocks, rows)
        measured[name] = {arm: losses(arm, one.model, blocks) for arm, one in trained.items()}
        means[name], differences[name] = summaries(measured[name])
        print(name, json.dumps({"losses": means[name], "differences": differences[name]}), flush=True)
    judged_text = JUDGED_TEXT if JUDGED_TEXT in text.held_out else next(iter(text.held_out))
    batch = beginnings(text.held_out[judged_text], tokenizer, texts, model.device)
    return {
        "weights": sum(weight.numel() for weight in model.parameters()),
        "shape": {key: getattr(model.config, key) for key in ("hidden_size", "num_hidden_layers", "vocab_size")},
        "mark": weights_of(model), "length": LENGTH, "text": text.about, "rows": rows,
        "arms": {arm: one.state for arm, one in trained.items()}, "losses": means, "differences": differences,
        "rounding": rounding(model, tokenizer, some_rows(text.held_out[judged_text], rows)),
        "given": GIVEN, "new": NEW, "texts": len(batch.input_ids), "judged_text": judged_text,
        "judged": judged(trained, batch, tokenizer), "samples": shown(trained, tokenizer, count),
    }  # fmt: skip


# Shipping

LICENCES = {
    "tinystories_next4m_truecased": "rows of TinyStories (roneneldan/TinyStories), CDLA-Sharing-1.0",
    HEAD: "rows of TinyStories (roneneldan/TinyStories), CDLA-Sharing-1.0",
    "african_storybook_en": "African Storybook (global-asp/asp-source), CC BY, said per story",
    "pratham_en": "Pratham Books' StoryWeaver (global-asp/pb-source), CC BY 4.0",
    "gutenberg_children": "children's books of Project Gutenberg (mlschmitt/classic-books-markdown and "
    "mahlberg-lab/corpora), public domain in the US",
}
CARD = """---
license: apache-2.0
library_name: a3mini
language: en
---

# The compact model of A3 Book

An A3 model (any-order, any-subset autoregressive) of {weights:,} weights in one file of {megabytes:.1f} MB, for
lessons: it loads at once, predicts in any order, and ends blanks of a whole sentence itself. It writes stories for
small children. Do not use it for anything but learning.

```python
from a3mini import decode, pretrained

model, tokenizer, name = pretrained.compact_model()
print(decode.infill(model, tokenizer, "Tom had a red kite. ____ It was stuck in a tree."))
```

## How it was made

| what | how |
|---|---|
| commands | `python benchmarks/compact.py train --data FOLDER`, then `report`, then `ship` |
| text | {tokens:,} tokens seen in {steps:,} of {planned:,} steps; {held_out} of {documents} documents held out |
| curriculum | {curriculum}; AnyOrder, known tokens read `{known_order}` |
| query rows | start from the token before (`query_start="{query_start}"`) |
| optimiser | {optimizer}, highest rate {rate:g}, schedule {schedule}; moving average over {ema:,} tokens |
| rows | up to {length} tokens, the largest context |
| seed | {seed} |
| training | {seconds:,.0f} s; {hardware}, {threads} threads, {precision} |
| stored | 8 bits, one scale a row (`a3mini.eight_bit`); {rounding} |

## Held-out losses

Nats per predicted token, with 95 % intervals over {rows} rows of held-out documents.

{losses}

## Licences

The weights are Apache-2.0, as the package. What they were trained on, with the tokens of one pass:

{licences}
"""


def card(found: dict) -> str:
    """The model card, from the report."""
    arm, names = found["arms"]["a3"], list(found["losses"])
    lines = ["| way | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for way in found["losses"][names[0]]["a3"]:
        cells = (found["losses"][name]["a3"][way] for name in names)
        lines.append(f"| {way} | " + " | ".join(map(shown_interval, cells)) + " |")
    passes = arm["tokens"] / sum(found["text"]["tokens"].values())
    licences = [
        f"- {LICENCES.get(name, name)}: {tokens:,} tokens, weight {found['text']['weights'][name]:g}"
        for name, tokens in found["text"]["tokens"].items()
    ]
    more = "; ".join(f"{name} {shown_interval(one)}" for name, one in found["rounding"]["more"].items())
    training = arm["training"]
    return CARD.format(
        weights=found["weights"], megabytes=found["rounding"]["bytes"] / 1e6, tokens=arm["tokens"], steps=arm["step"],
        planned=arm["steps"], held_out=found["text"]["held_out_documents"],
        documents=found["text"]["documents"] + found["text"]["held_out_documents"],
        curriculum=f"`{arm['recipe']['curriculum']['name']}`, {passes:.2f} passes", known_order=KNOWN_ORDER,
        query_start=QUERY_START, optimizer=training["optimizer"], rate=training["learning_rate"],
        schedule=training["schedule"], ema=training["ema_tokens"], length=LENGTH, seed=training["seed"],
        seconds=arm["seconds"], hardware=arm["hardware"], threads=arm["threads"], precision=arm["precision"],
        rounding=f"beside bfloat16, nats per token: {more}", rows=found["rows"], losses="\n".join(lines),
        licences="\n".join(licences),
    )  # fmt: skip


def shown_interval(one: dict) -> str:
    return "{} [{}, {}]".format(*one.values()) if isinstance(one, dict) else "{} [{}, {}]".format(*one)


def ship(folder: Path, to: Path, found: dict) -> Path:
    """The averaged weights as one file, and its card, which says what ``report`` found of these very weights."""
    model, _ = load_arm(folder, "a3")
    if weights_of(model) != found["mark"]:
        raise SystemExit("the report is of other weights; run `python benchmarks/compact.py report` first")
    to.mkdir(parents=True, exist_ok=True)
    file = eight_bit.save(model, read_text(folder).tokenizer, to / eight_bit.FILE)
    runs.write_text(to / "README.md", card(found))
    return file


def smoke() -> dict:
    """Everything on a tiny model and Andersen's fairy tales; the judge is the autoregressive twin."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        prepare(folder, SIZES["smoke"].texts, SIZES["smoke"].vocabulary, limit=4)
        for arm in ARMS:
            train_arm(folder, arm, SIZES["smoke"], quiet=True)
        twin = pretrained.SmallModel(load_arm(folder, "ar").model.cpu(), read_text(folder).tokenizer, "the twin")
        with mock.patch.object(pretrained, "small_model", lambda: twin):
            found = json.loads(json.dumps(report(folder, rows=4, texts=2, count=2)))
        ship(folder, folder / "shipped", found)
        return found | {"card": (folder / "shipped" / "README.md").read_text()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("train", "report", "ship"))
    parser.add_argument("--data", type=Path, help="folder of .jsonl.gz files; needed once")
    parser.add_argument("--tinystories", type=Path, help="a file of more stories; used with --data")
    parser.add_argument("--arm", choices=ARMS, default="a3")
    parser.add_argument("--size", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--tokens", type=int, help="of the whole training; default: as the size has it")
    parser.add_argument("--minutes", type=float, help="then it stops, and can be gone on with; default: to the end")
    parser.add_argument("--curriculum", help="of A3: a preset, or a file; default: CURRICULUM of this file")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where rows and runs are kept")
    parser.add_argument("--to", type=Path, help="ship: the folder of the file and the card; default: FOLDER/shipped")
    parser.add_argument("--smoke", action="store_true", help="a tiny model, a few steps; nothing is written")
    options = parser.parse_args(arguments)
    if options.smoke:
        smoke()
    elif options.what == "train":
        if not (options.folder / "text.json").exists():
            if options.data is None:
                raise SystemExit(f"--data is missing, the folder of {', '.join(SIMPLE)}, each a .jsonl.gz file")
            size = SIZES[options.size]
            weights, without = sources_in(options.data, size.texts, options.tinystories, options.folder)
            prepare(options.folder, weights, size.vocabulary, without)
        train_arm(options.folder, options.arm, SIZES[options.size], options.tokens, options.minutes, options.curriculum)
    elif options.what == "report":
        found = report(options.folder)
        spent = sum(arm["seconds"] for arm in found["arms"].values())
        record("compact", seed=0, training_seconds=round(spent, 1), **found)
    elif options.what == "ship":
        made = json.loads((RESULTS / "compact.json").read_text())
        print(ship(options.folder, options.to or options.folder / "shipped", made))
    else:
        parser.error("say train, report or ship; or --smoke")


if __name__ == "__main__":
    main()
