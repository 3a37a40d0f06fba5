"""SmolLM2-135M becomes an any-order model, and its rivals get the same text: one command an arm.

    python benchmarks/adaptation.py a3             the any-order model: three stages, blanks among the last
    python benchmarks/adaptation.py diffusion      masked diffusion
    python benchmarks/adaptation.py autoregressive goes on left to right
    python benchmarks/adaptation.py adapter        of an arm that was stopped: its last checkpoint as an adapter
    python benchmarks/adaptation.py search         short runs that each change one choice
    python benchmarks/adaptation.py losses         held-out losses of the source and of every finished arm

Each command goes on where it was stopped. An arm ends as an adapter in checkpoints/adaptation/ARM/adapter; ``losses``
writes book/results/adaptation.json, ``search`` book/results/adaptation_search.json (or --record NAME). An arm trains on
a GPU if there is one. The text: the first stories of TinyStories (from the hub, or with --tinystories from a file that
has one story after another, as the hub's text file has), each twice; Andersen's tales; and the books of --books, plain
texts.
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
from arms import KINDS, load_arm
from kept import kept
from record import command_line, record

from a3mini import A3ForCausalLM, adapter, from_autoregressive, groups, objective, pretrained, runs
from a3mini.evaluate import HeldOut, autoregressive_log_likelihood, bound_score, draw, intervals, token_losses
from a3mini.train import (
    AnyOrder,
    Autoregressive,
    Curriculum,
    Grouping,
    MaskedDiffusion,
    MaskedDiffusionModel,
    Part,
    Stage,
    TrainConfig,
    add_lora,
    corpus,
    data,
    generator_for,
    train,
)
from a3mini.train.config import PRECISIONS
from a3mini.train.lora import additions

CHECKPOINTS = Path("checkpoints/adaptation")
ARMS = ("a3", "diffusion", "autoregressive")
STORIES, HELD_OUT = 1100, 100  # of TinyStories: how many, and how many of them are never trained on
LENGTH, BATCH = 96, 8  # tokens a row, rows a step of a CPU
HELD_OUT_ROWS = 192
ONE = Stage("left to right", 1, (Part("blocks", (1,)),))
TWO = Stage("growing groups", 1, (Part("blocks", (1, 2, 4), grow=True),))
BLANKS = (
    Part("shuffled", (1, 2, 4), 1),
    Part("span", (1, 2, 4), 2),
    Part("sentence", (1, 2, 4), 2),
    Part("blocks", (1,), 0.5),
)
THREE = Stage("permuted groups, spans and sentences", 8, BLANKS)
STAGES = (ONE, TWO, THREE)
GROUPINGS = {
    "left to right": Grouping("blocks"),
    "a sentence": Grouping("sentence"),
    "a sentence, 2 at a time": Grouping("sentence", 2),
    "a sentence, 4 at a time": Grouping("sentence", 4),
    "random order": Grouping("shuffled"),
}
DIFFUSION = {"random order": GROUPINGS["random order"]}  # its bound is that of random orders
AUTOREGRESSIVE = {name: GROUPINGS[name] for name in ("left to right", "a sentence")}  # the latter given its left side
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
    """The rows that are trained on, and the held-out ones."""
    stories = tinystories(options.tinystories)
    training, held_out = stories[:-HELD_OUT], stories[-HELD_OUT:]
    packed = [data.pack(part, tokenizer, LENGTH) for part in (training, [*corpus.documents("andersen")])]
    packed += [data.pack([book(path)], tokenizer, LENGTH) for path in options.books]
    blocks = data.Blocks(*(torch.cat(parts) for parts in zip(packed[0], *packed, strict=True)))  # TinyStories twice
    kept = data.pack(held_out, tokenizer, LENGTH)
    chosen = torch.randperm(len(kept.input_ids), generator=generator_for(0))[:HELD_OUT_ROWS]
    return blocks, kept.rows(chosen.sort().values)


def a3_score(known_order: str, model: A3ForCausalLM, input_ids: torch.Tensor, group_ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (B, T), given tokens read in this order."""
    ordered, known = groups.read_given(group_ids, known_order)
    return objective.log_likelihood(model, input_ids, ordered, known, reduction="token")


def measures(kind: str, known_order: str = "together") -> tuple[dict[str, Grouping], Callable]:
    """What a kind of model (``arms.KINDS``) is measured by: groupings, and a score as ``HeldOut`` takes it."""
    return {
        "any-order": (GROUPINGS, partial(a3_score, known_order)),
        "diffusion": (DIFFUSION, bound_score),
        "autoregressive": (AUTOREGRESSIVE, autoregressive_log_likelihood),
    }[kind]


def config_of(options) -> TrainConfig:
    return replace(CONFIG, batch_size=options.batch_size, precision=options.precision)


# --- the arms ---------------------------------------------------------------------------------------------------------


def arm(options) -> None:
    """Train one arm; go on where it stopped."""
    source, tokenizer, _ = pretrained.small_model()
    blocks, held_out = rows(options, tokenizer)
    if options.what == "a3":
        stages = (THREE,) if options.last_stage else STAGES
        model, recipe = from_autoregressive(source), AnyOrder(Curriculum(stages), options.known_order)
    elif options.what == "diffusion":
        model, recipe = MaskedDiffusionModel.from_autoregressive(source), MaskedDiffusion()
    else:
        model, recipe = source, Autoregressive()
    groupings, score = measures("any-order" if options.what == "a3" else options.what, options.known_order)
    config = replace(
        config_of(options),
        steps=options.tokens // (options.batch_size * LENGTH),
        eval_every=options.eval_every,
        save_every=options.save_every,
        learning_rate=options.learning_rate,
    )
    folder = CHECKPOINTS / options.folder if options.folder else CHECKPOINTS / options.what
    evaluate = HeldOut(held_out.rows(slice(options.eval_rows)), groupings, batch_size=8, score=score)
    command = {"line": command_line(), "options": {"length": LENGTH, "stories": STORIES, "held_out": HELD_OUT}}
    about = {"command": command, "source": pretrained.SMALL, "start": options.start}
    train(model, recipe, blocks, config, folder, evaluate, **about)


def from_checkpoint(options) -> None:
    """The adapter of a run that was stopped in the middle, from its last checkpoint; ``--start`` goes on from it."""
    folder = CHECKPOINTS / (options.folder or "a3")
    last = runs.latest_checkpoint(folder / "checkpoints")
    if last is None:
        raise SystemExit(f"{folder} has no checkpoint")
    tensors, state = runs.load_checkpoint(last, ("trainable",))
    about = json.loads((folder / "run.json").read_text())
    training = about["training"]
    source = from_autoregressive(pretrained.small_model().autoregressive)
    record = {"kind": about["recipe"], "source": pretrained.SMALL, "rank": training["lora_rank"],
              "steps": state["step"], "tokens": state["tokens"], "seconds": round(state["seconds"], 1)}  # fmt: skip
    named = dict(additions(tensors["trainable"].items()))
    print(
        adapter.save(folder / "adapter", named, TrainConfig(**training).lora_scale, adapter.fingerprint(source), record)
    )


# --- the search -------------------------------------------------------------------------------------------------------


class Taught(AnyOrder):
    """Left to right, the query stream learns from the untouched content stream (law 1: it is the source model).

    In place of the log-probability of the one token that stands there comes the mean log-probability under the
    teacher's distribution: the negative cross-entropy of the two, (B, T).
    """

    def log_probs(self, model, inputs):
        group_ids = inputs["group_ids"]
        # one token at a time, each after its left neighbour; -1 is padding, behind all else
        is_left_to_right = (group_ids[:, 1:] > group_ids[:, :-1]) | (group_ids[:, 1:] < 0)
        if not is_left_to_right.all():
            return super().log_probs(model, inputs)
        with torch.no_grad(), model.disable_adapter():
            asked = {"input_ids": inputs["input_ids"], "group_ids": inputs["group_ids"]}
            teacher = model(**asked, content_logits=True, return_logits=False).content_logits[:, :-1].softmax(-1)
        student = model(**inputs, return_logits=True).logits[:, 1:]
        agreement = (teacher * student.log_softmax(-1)).sum(-1)
        return torch.nn.functional.pad(agreement, (1, 0))


def mixed(*parts: Part, first: Part | None = ONE.parts[0]) -> Curriculum:
    """A quarter of the steps left to right, then a mixture."""
    stages = [Stage("left to right", 1, (first,))] if first else []
    return Curriculum((*stages, Stage("blanks", 3, parts)))


SINGLE = (Part("sentence"), Part("span"))
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
# name: what differs from the first
VARIANTS: dict[str, dict] = {
    "base run": {},
    "given tokens together": {"known_order": "together"},
    "given tokens in order": {"known_order": "left_to_right"},
    "learning rate 3e-4": {"config": {"learning_rate": 3e-4}},
    "learning rate 3e-3": {"config": {"learning_rate": 3e-3}},
    "rank 4": {"config": {"lora_rank": 4}},
    "rank 64": {"config": {"lora_rank": 64}},
    "attention only": {"target": ATTENTION},
    "w from noise": {"w": "noise"},
    "w from the newline's embedding": {"w": "newline"},
    "no first stage": {"curriculum": mixed(*SINGLE, first=None)},
    "the first stage taught by the content stream": {"recipe": Taught},
    "blanks of groups of 1, 2, 4": {"curriculum": mixed(Part("sentence", (1, 2, 4)), Part("span", (1, 2, 4)))},
    "a third in random order": {"curriculum": mixed(*SINGLE, Part("shuffled"))},
}


def search(options) -> None:
    """Every variant from the same weights, on the same rows; each is kept as soon as it is there."""
    source, tokenizer, name = pretrained.small_model()
    blocks, held_out = rows(options, tokenizer)
    settings = {"steps": options.steps, "batch_size": options.batch_size, "precision": options.precision}
    settings |= {"known_order": options.known_order, "eval_rows": options.eval_rows}
    found = {}
    for title, changes in [("untouched", None), *VARIANTS.items()]:
        if changes == {"known_order": options.known_order}:
            continue  # that is "base run"
        if options.only and title not in options.only:
            continue
        make = partial(variant, source, tokenizer, blocks, held_out, options, changes)
        found[title] = kept(CHECKPOINTS / "search", title, settings, make)
        print(title, found[title], flush=True)
    record(
        options.record, seed=0, wall_seconds=sum(one["seconds"] for one in found.values()), model=name,
        steps=options.steps, batch_size=options.batch_size, length=LENGTH, precision=options.precision,
        known_order=options.known_order, rows={title: {"nats": one["nats"]} for title, one in found.items()},
    )  # fmt: skip


def variant(source, tokenizer, blocks, held_out, options, changes: dict | None) -> dict:
    model = from_autoregressive(source).to(options.device)
    start = model.model.query_embedding
    seconds = 0.0
    known_order = (changes or {}).get("known_order", options.known_order)
    if changes is not None:
        with torch.no_grad():
            if changes.get("w") == "noise":
                start.copy_(torch.randn(start.shape, generator=torch.Generator().manual_seed(0)))
            if changes.get("w") == "newline":
                start.copy_(model.model.embed_tokens.weight[tokenizer.encode("\n")[0]])
        recipe = changes.get("recipe", AnyOrder)(changes.get("curriculum", mixed(*SINGLE)), known_order)
        config = replace(config_of(options), steps=options.steps, warmup_steps=10, **changes.get("config", {}))
        lora = partial(add_lora, target=changes.get("target", "all-linear"))
        with mock.patch("a3mini.train.add_lora", lora):
            seconds = train(model, recipe, blocks, config, quiet=True)[-1]["seconds"]
    groupings, score = measures("any-order", known_order)
    held_out = held_out.rows(slice(options.eval_rows))
    return {"nats": HeldOut(held_out, groupings, batch_size=8, score=score)(model), "seconds": seconds}


# --- the numbers ------------------------------------------------------------------------------------------------------


def numbers(options) -> None:
    """Held-out losses with intervals over rows: of the source, and of the arms whose adapters are there."""
    source, tokenizer, name = pretrained.small_model()
    held_out = rows(options, tokenizer)[1].rows(slice(options.eval_rows))
    source.to(options.device)
    found = {"untouched, autoregressive": measured(source, held_out, *measures("autoregressive"))}
    untouched = from_autoregressive(source)
    for known_order in groups.KNOWN_ORDERS:
        measure = measures("any-order", known_order)
        found[f"untouched A3, given tokens {known_order}"] = measured(untouched, held_out, *measure)
    adapters = {name: CHECKPOINTS / name / "adapter" for name in ARMS}
    adapters = {name: folder for name, folder in adapters.items() if folder.is_dir()}
    trained = {}
    for arm_name, folder in adapters.items():
        _, about = adapter.read(folder)
        trained[arm_name] = {key: about[key] for key in ("kind", "rank", "steps", "tokens", "seconds")}
        kind = next(kind for kind, called in KINDS.items() if called == about["kind"])
        model = load_arm(kind, folder)[0].to(options.device)
        for known_order in groups.KNOWN_ORDERS if kind == "any-order" else ():
            measure = measures(kind, known_order)
            found[f"{arm_name}, given tokens {known_order}"] = measured(model, held_out, *measure)
        if kind != "any-order":
            found[arm_name] = measured(model, held_out, *measures(kind))
        print(arm_name, found, flush=True)
    text = f"{len(held_out.input_ids)} rows of up to {LENGTH} tokens from TinyStories that no arm was trained on"
    curves = {name: runs.read_metrics(folder.parent) for name, folder in adapters.items()}
    record("adaptation", seed=0, model=name, text=text, arms=trained, losses=found, curves=curves)


def measured(model, held_out: data.Blocks, groupings: dict, score: Callable) -> dict:
    """Nats per predicted token, with its interval over rows, for every grouping."""
    found = {}
    for title, grouping in groupings.items():
        group_ids = draw(held_out, grouping)
        nats, tokens = token_losses(partial(score, model), held_out, group_ids, model.device, batch_size=8)
        kept = tokens > 0
        found[title] = intervals.bootstrap((nats / tokens)[kept], tokens[kept]).rounded(3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=(*ARMS, "adapter", "search", "losses"))
    parser.add_argument("--tinystories", type=Path, help="file of stories; default: the hub's")
    parser.add_argument("--books", type=Path, nargs="*", default=[], help="plain texts that are trained on too")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="of an arm")
    parser.add_argument("--known-order", choices=groups.KNOWN_ORDERS, default="left_to_right")
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
    parser.add_argument("--only", nargs="*", help="variants of the search; default: all")
    options = parser.parse_args()
    {"adapter": from_checkpoint, "search": search, "losses": numbers}.get(options.what, arm)(options)


if __name__ == "__main__":
    main()
