"""What does SmolLM2-135M become as an any-order model, and its rivals on the same text? One command an arm.

    python benchmarks/adaptation.py a3             the any-order model: three stages, blanks among the last
    python benchmarks/adaptation.py diffusion      masked diffusion
    python benchmarks/adaptation.py autoregressive goes on left to right
    python benchmarks/adaptation.py adapter        of an arm that was stopped: its last checkpoint as an adapter
    python benchmarks/adaptation.py search         short runs that each change one choice
    python benchmarks/adaptation.py losses         held-out losses of the source and of every finished arm

Each command goes on where it was stopped. An arm trains on a GPU if there is one, and ends as an adapter in
checkpoints/adaptation/ARM/adapter; ``losses`` writes book/results/adaptation.json, ``search`` adaptation_search.json
(or --record NAME). The text: the first stories of TinyStories (from the hub, or with --tinystories from a file as the
hub's text file), each twice; Andersen's tales; and the books of --books, plain texts.
"""

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from arms import OPTION, begin, load_arm
from kept import kept
from record import command_line, record

from a3mini import adapter, evaluate, from_autoregressive, groups, objective, pretrained, runs, train
from a3mini.evaluate import intervals
from a3mini.rows import QUERY_STARTS
from a3mini.train import Curriculum, Grouping, Part, Stage, TrainConfig, corpus, data
from a3mini.train.config import PRECISIONS
from a3mini.train.lora import add_lora, additions
from a3mini.train.recipes import Batch

CHECKPOINTS = Path("checkpoints/adaptation")
ARMS = {option: kind for kind, option in OPTION.items()}
STORIES, HELD_OUT = 1100, 100  # of TinyStories: how many, and how many of them are never trained on
LENGTH, BATCH = 96, 8  # tokens a row, rows a step of a CPU
HELD_OUT_ROWS = 192
SIZES = (1, 2, 4)
ONE = Stage("left to right", 1, (Part("blocks"),))
TWO = Stage("growing groups", 1, (Part("blocks", SIZES, grow=True),))
BLANKS = (Part("shuffled", SIZES, 1), Part("span", SIZES, 2), Part("sentence", SIZES, 2), Part("blocks", (1,), 0.5))
THREE = Stage("permuted groups, spans and sentences", 8, BLANKS)
STAGES = (ONE, TWO, THREE)
GROUPINGS = {
    "left to right": Grouping("blocks"),
    "a sentence": Grouping("sentence"),
    "a sentence, 2 at a time": Grouping("sentence", 2),
    "a sentence, 4 at a time": Grouping("sentence", 4),
    "random order": Grouping("shuffled"),
    "strided groups of 4": Grouping("strided", 4),
}
CONFIG = TrainConfig(
    batch_size=BATCH, learning_rate=1e-3, warmup_steps=20, weight_decay=0.0, precision="fp32", lora_rank=16,
    save_every=20, log_every=5,
)  # fmt: skip


def tinystories(path: Path | None) -> list[corpus.Story]:
    if path is None:
        return corpus.documents("tinystories", limit=STORIES)
    # between two stories stands one newline, inside a story two
    parts = re.split(r"(?<!\n)\n(?!\n)", path.read_text(encoding="utf-8").strip())[:STORIES]
    return [corpus.Story(f"TinyStories {n}", text) for n, text in enumerate(parts, start=1)]


def book(path: Path) -> corpus.Story:
    text = re.sub(r"FIM_DE_PARAGRAFO\.|_", "", path.read_text(encoding="utf-8-sig"))  # marks of one edition; italics
    paragraphs = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text))
    return corpus.Story(path.stem, "\n".join(paragraph for paragraph in paragraphs if paragraph))


def rows(options, tokenizer) -> tuple[data.Blocks, data.Blocks]:
    """The rows that are trained on, and the held-out ones that are measured."""
    stories = tinystories(options.tinystories)
    texts = [stories[:-HELD_OUT], corpus.documents("andersen"), *([book(path)] for path in options.books)]
    packed = [data.pack(text, tokenizer, LENGTH) for text in texts]
    held_out = data.pack(stories[-HELD_OUT:], tokenizer, LENGTH)
    chosen = torch.randperm(len(held_out.input_ids), generator=train.generator_for(0))[:HELD_OUT_ROWS]
    blocks = data.Blocks(*(torch.cat(parts) for parts in zip(packed[0], *packed, strict=True)))  # TinyStories twice
    return blocks, held_out.rows(chosen.sort().values[: options.eval_rows])


def measures(kind: str, known_order: str = "together") -> tuple[dict[str, Grouping], Callable]:
    """What a kind of model is measured by: groupings, and a score as ``HeldOut`` takes it.

    Diffusion's bound is that of random orders; autoregression is given the left side of a sentence.
    """

    def a3_score(model, input_ids: torch.Tensor, group_ids: torch.Tensor) -> torch.Tensor:
        return objective.log_likelihood(model, input_ids, *groups.read_given(group_ids, known_order), reduction="token")

    names, score = {
        "any-order": (GROUPINGS, a3_score),
        "diffusion": (("random order",), evaluate.bound_score),
        "autoregressive": (("left to right", "a sentence"), evaluate.autoregressive_log_likelihood),
    }[kind]
    return {name: GROUPINGS[name] for name in names}, score


def arm(options) -> None:
    """Train one arm; go on where it stopped."""
    source, tokenizer, _ = pretrained.small_model()
    blocks, held_out = rows(options, tokenizer)
    curriculum = Curriculum((THREE,) if options.last_stage else STAGES)
    model, recipe = begin(ARMS[options.what], source, curriculum, options.known_order, options.query_start)
    groupings, score = measures(ARMS[options.what], options.known_order)
    chosen = ("batch_size", "precision", "eval_every", "save_every", "learning_rate")
    config = replace(
        CONFIG, steps=options.tokens // (options.batch_size * LENGTH), **{name: vars(options)[name] for name in chosen}
    )
    watch = evaluate.HeldOut(held_out, groupings, batch_size=8, score=score)
    command = {"line": command_line(), "options": {"length": LENGTH, "stories": STORIES, "held_out": HELD_OUT}}
    about = {"command": command, "source": pretrained.SMALL, "start": options.start}
    train.train(model, recipe, blocks, config, CHECKPOINTS / (options.folder or options.what), watch, **about)


def from_checkpoint(options) -> None:
    """The adapter of a run that was stopped in the middle, from its last checkpoint; ``--start`` goes on from it."""
    folder = CHECKPOINTS / (options.folder or "a3")
    last = runs.latest_checkpoint(folder / "checkpoints")
    if last is None:
        raise SystemExit(f"{folder} has no checkpoint")
    tensors, state = runs.load_checkpoint(last, ("trainable",))
    about = json.loads((folder / "run.json").read_text())
    config = TrainConfig(**about["training"])
    trained = {"kind": about["recipe"], "source": pretrained.SMALL, "rank": config.lora_rank, "steps": state["step"],
               "tokens": state["tokens"], "seconds": round(state["seconds"], 1), "run": about["run"]}  # fmt: skip
    trained |= {"known_order": about["known_order"]} if "known_order" in about else {}
    trained |= {"query_start": about["model"]["query_start"]} if "query_start" in about["model"] else {}
    named, source = dict(additions(tensors["trainable"].items())), pretrained.small_model().autoregressive
    print(adapter.save(folder / "adapter", named, config.lora_scale, adapter.fingerprint(source), trained))


class Taught(train.AnyOrder):
    """Left to right, the query stream learns from the untouched content stream (law 1: it is the source model).

    In place of the log-probability of the one token that stands there comes the mean log-probability under the
    teacher's distribution: the negative cross-entropy of the two, (B, T).
    """

    def batch(self, rows, progress, examples, seed, unit=0):
        drawn = self.group_ids(rows, progress, examples, seed)
        group_ids, _ = groups.read_given(drawn, self.known_order)
        # one token at a time, each after its left neighbour; -1 is padding, behind all else
        is_left_to_right = (group_ids[:, 1:] > group_ids[:, :-1]) | (group_ids[:, 1:] < 0)
        if not is_left_to_right.all():
            return super().batch(rows, progress, examples, seed, unit)
        inputs = {"input_ids": rows.input_ids, "group_ids": group_ids}
        return Batch(inputs, (drawn > 0).float(), int((drawn > 0).sum()))

    def log_probs(self, model, inputs):
        if "plan" in inputs:
            return super().log_probs(model, inputs)
        with torch.no_grad(), model.disable_adapter():
            teacher = model(**inputs, content_logits=True, return_logits=False).content_logits[:, :-1].softmax(-1)
        student = model(**inputs, return_logits=True).logits[:, 1:]
        return torch.nn.functional.pad((teacher * student.log_softmax(-1)).sum(-1), (1, 0))


def after(first: Stage | None, *blanks: Part) -> Curriculum:
    """A quarter of the steps in the first stage, if there is one, then a mixture of blanks."""
    return Curriculum((*((first,) if first else ()), Stage("blanks", 3, blanks)))


SINGLE = (Part("sentence"), Part("span"))
VARIANTS: dict[str, dict | None] = {  # name: what differs from the base run
    "untouched": None,
    "base run": {},
    "given tokens together": {"known_order": "together"},
    "given tokens in order": {"known_order": "left_to_right"},
    "learning rate 3e-4": {"config": {"learning_rate": 3e-4}},
    "learning rate 3e-3": {"config": {"learning_rate": 3e-3}},
    "rank 4": {"config": {"lora_rank": 4}},
    "rank 64": {"config": {"lora_rank": 64}},
    "attention only": {"target": ("q_proj", "k_proj", "v_proj", "o_proj")},
    "no first stage": {"curriculum": after(None, *SINGLE)},
    "the first stage taught by the content stream": {"recipe": Taught},
    "blanks of groups of 1, 2, 4": {"curriculum": after(ONE, Part("sentence", SIZES), Part("span", SIZES))},
    "a third in random order": {"curriculum": after(ONE, *SINGLE, Part("shuffled"))},
    "a third strided": {"curriculum": after(ONE, *SINGLE, Part("strided", (2, 4, 8)))},
    "query rows start from w": {"query_start": "vector"},
    "query rows start from the token before": {"query_start": "previous"},
}


def search(options) -> None:
    """Every variant from the same weights, on the same rows; each is kept as soon as it is there."""
    source, tokenizer, name = pretrained.small_model()
    blocks, held_out = rows(options, tokenizer)
    shown = {key: vars(options)[key] for key in ("steps", "batch_size", "precision", "known_order", "query_start")}
    found = {}
    for title in options.only or VARIANTS:
        if VARIANTS[title] not in ({key: shown[key]} for key in ("known_order", "query_start")):  # that is the base run
            make = partial(variant, VARIANTS[title], source, blocks, held_out, options)
            found[title] = kept(CHECKPOINTS / "search", title, shown | {"eval_rows": options.eval_rows}, make)
            print(title, found[title], flush=True)
    wall, nats = sum(one["wall_seconds"] for one in found.values()), {t: {"nats": found[t]["nats"]} for t in found}
    record(options.record, seed=0, wall_seconds=wall, model=name, length=LENGTH, **shown, rows=nats)


def variant(changes: dict | None, source, blocks, held_out, options) -> dict:
    """Held-out losses after a short training with these changes; None: without training."""
    query_start = (changes or {}).get("query_start", options.query_start)
    model = from_autoregressive(source, query_start=query_start).to(options.device)
    known_order = (changes or {}).get("known_order", options.known_order)
    if changes is not None:
        recipe = changes.get("recipe", train.AnyOrder)(changes.get("curriculum", after(ONE, *SINGLE)), known_order)
        same = {"steps": options.steps, "batch_size": options.batch_size, "precision": options.precision}
        config = replace(CONFIG, warmup_steps=10, **same, **changes.get("config", {}))
        lora = partial(add_lora, target=changes.get("target", "all-linear"))
        with mock.patch("a3mini.train.loop.add_lora", lora):
            train.train(model, recipe, blocks, config, quiet=True)
    groupings, score = measures("any-order", known_order)
    return {"nats": evaluate.HeldOut(held_out, groupings, batch_size=8, score=score)(model)}


def numbers(options) -> None:
    """Held-out losses with intervals over rows: of the source, and of the arms whose adapters are there."""
    source, tokenizer, name = pretrained.small_model()
    _, held_out = rows(options, tokenizer)
    losses, arms, curves = {}, {}, {}

    def measure(title: str, kind: str, model) -> None:
        for known_order in groups.KNOWN_ORDERS if kind == "any-order" else ("",):
            how = f"{title}, given tokens {known_order}" if known_order else title
            losses[how] = measured(model.to(options.device), held_out, *measures(kind, known_order))
            print(how, losses[how], flush=True)

    measure("untouched, autoregressive", "autoregressive", source)
    measure("untouched A3", "any-order", from_autoregressive(source))
    warm = from_autoregressive(source, query_start="previous")
    measure("untouched A3, query rows from the token before", "any-order", warm)
    for arm, kind in ARMS.items():
        folder = CHECKPOINTS / arm / "adapter"
        if folder.is_dir():
            _, about = adapter.read(folder)
            arms[arm] = {key: about[key] for key in ("kind", "rank", "steps", "tokens", "seconds")}
            curves[arm] = runs.read_metrics(folder.parent)
            measure(arm, kind, load_arm(kind, folder)[0])
    text = f"{len(held_out.input_ids)} rows of up to {LENGTH} tokens from TinyStories that no arm was trained on"
    record("adaptation", seed=0, model=name, text=text, arms=arms, losses=losses, curves=curves)


def measured(model, held_out: data.Blocks, groupings: dict, score: Callable) -> dict:
    """Nats per predicted token, with its interval over rows, for every grouping."""
    found = {}
    for title, grouping in groupings.items():
        group_ids = evaluate.draw(held_out, grouping)
        nats, tokens = evaluate.token_losses(partial(score, model), held_out, group_ids, model.device, batch_size=8)
        found[title] = intervals.bootstrap((nats / tokens)[tokens > 0], tokens[tokens > 0]).rounded(3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=(*ARMS, "adapter", "search", "losses"))
    parser.add_argument("--tinystories", type=Path, help="file of stories; default: the hub's")
    parser.add_argument("--books", type=Path, nargs="*", default=[], help="plain texts that are trained on too")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="of an arm")
    parser.add_argument("--known-order", choices=groups.KNOWN_ORDERS, default="left_to_right")
    parser.add_argument("--query-start", choices=QUERY_STARTS, default="vector", help="of A3; default: the paper's w")
    parser.add_argument("--learning-rate", type=float, default=CONFIG.learning_rate, help="the highest")
    parser.add_argument("--last-stage", action="store_true", help="a3: permuted groups and blanks alone")
    parser.add_argument("--start", type=Path, help="adapter to go on from")
    parser.add_argument("--folder", help="below checkpoints/adaptation; default: the arm's name")
    parser.add_argument("--eval-every", type=int, default=100, help="steps of an arm between held-out losses")
    parser.add_argument("--save-every", type=int, default=CONFIG.save_every, help="steps of an arm between checkpoints")
    parser.add_argument("--eval-rows", type=int, default=24, help="held-out rows that are measured")
    parser.add_argument("--steps", type=int, default=40, help="of each run of the search")
    parser.add_argument("--batch-size", type=int, default=BATCH, help="rows a step")
    parser.add_argument("--precision", choices=PRECISIONS, default=CONFIG.precision)
    parser.add_argument("--device", default="cpu", help="of losses and search; an arm takes the GPU if there is one")
    parser.add_argument("--record", default="adaptation_search", help="name of the search's result")
    parser.add_argument("--only", nargs="*", choices=VARIANTS, help="variants of the search; default: all")
    options = parser.parse_args()
    {"adapter": from_checkpoint, "search": search, "losses": numbers}.get(options.what, arm)(options)


if __name__ == "__main__":
    main()
