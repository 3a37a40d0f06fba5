"""What do some tens of millions of tokens make of SmolLM2, and of a compact model? A few minutes of a large GPU.

    python benchmarks/gpu_lab.py prepare --data FOLDER --out LAB    texts to rows of tokens; a CPU, some minutes
    python benchmarks/gpu_lab.py run --lab LAB --out OUT            trains all arms; writes each when it is done
    python benchmarks/gpu_lab.py run --lab LAB --out OUT --smoke    a tiny model and a few steps, on a CPU
    python benchmarks/gpu_lab.py report --out OUT                   OUT/gpu_lab.json to book/results, with intervals

The arms see the same rows in the same order. Every row of both streams is computed at every position, so a batch has
one shape, layers and head are compiled, and no operation waits for a value. A row's grouping is drawn on the device, by
``draw``, with the shares of ``MIX``; unlike ``train.Curriculum`` all its tokens are predicted but the first: those
around a blank come first, from left to right, then the blank. Half of the blanks have spare room: the token EMPTY
ends them, and the positions behind it hold nothing, so that a model learns to end a blank before its room is used up.

FOLDER has a file NAME.jsonl.gz for each of SOURCES, a document in each line under "text". Ours were cut from public
texts; the card of the adapter ``smollm2-a3-warm`` has their licences. Other texts make other numbers. With --smoke and
no FOLDER, Andersen's fairy tales stand for them all.

An arm that OUT has finished is not trained again; with --smoke, or another --batch, OUT is another folder.

SmolLM2 gets low-rank additions (rank 16); their product is added to the weight once a step. Steps, tokens and losses
go to OUT/gpu_lab.json; the additions of the arms to OUT/NAME, as ``adapter.save`` has them.
"""

import argparse
import gzip
import json
import lzma
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from record import RESULTS, command_line
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from a3mini import A3Config, A3ForCausalLM, adapter, flex, from_autoregressive, groups, pretrained, rows, runs, sources
from a3mini.attention import Visibility
from a3mini.evaluate import intervals
from a3mini.evaluate.held_out import draw as draw_groups
from a3mini.train import data
from a3mini.train.corpus import Story, documents
from a3mini.train.curriculum import Grouping, generator_for
from a3mini.train.data import Blocks

LENGTH = 256  # tokens of a row
BATCH = 64  # rows of a step, and of a pass that measures
COMPACT_SECONDS = 95  # what the long arm leaves to the compact model and its twins
ARMS = (
    "warm",
    "cold",
    "diffusion",
    "autoregressive",
    "warm_random",
    "long",
    "compact",
    "compact_ar",
    "compact_diffusion",
)
RANK, SCALE = 16, 2.0  # of the additions
EMPTY = "<filename>"  # ends a blank: among SmolLM2's unused tokens, one with an embedding of its own
ROOM = 24  # most spare positions of a blank
KINDS = ("left to right", "sentence", "span", "random", "strided")
MIX = (0.1, 0.2, 0.15, 0.4, 0.15)
RANDOM_ONLY, LEFT_TO_RIGHT = (0.0, 0.0, 0.0, 1.0, 0.0), (1.0, 0.0, 0.0, 0.0, 0.0)
STREAMS = (2, 4, 8)
SOURCES = {  # how often each is seen in a pass over everything
    "tinystories_next4m_truecased": 6, "african_storybook_en": 3, "pratham_en": 3, "onestopenglish": 2,
    "openstax_textbooks": 1, "wikinews_en": 1, "wikipedia_easy": 0.8, "gutenberg_children": 0.8,
    "gutenberg_fiction_simple": 0.2,
}  # fmt: skip
SIMPLE = {"tinystories_next4m_truecased": 4, "african_storybook_en": 4, "pratham_en": 4, "gutenberg_children": 0.8}
HELD_OUT = {"tinystories_next4m_truecased": 0.1, "wikinews_en": 0.02, "gutenberg_children": 0.02}
MEASURED, WATCHED = 192, 64  # held-out rows of each text: at the end of an arm, and on the way
GROUPINGS = {
    "left to right": Grouping("blocks"), "2 neighbours": Grouping("blocks", 2), "4 neighbours": Grouping("blocks", 4),
    "strided 2": Grouping("strided", 2), "strided 4": Grouping("strided", 4), "strided 8": Grouping("strided", 8),
    "random order": Grouping("shuffled"), "a sentence, both sides": Grouping("sentence"),
}  # fmt: skip


# Preparing


def prepare(folder: Path | None, out: Path, smoke: bool) -> None:
    """Texts to rows: ``LAB/rows.xz``, ``LAB/held_out.xz``, and what else the machine with the GPU needs."""
    if folder is None and not smoke:
        raise SystemExit(f"prepare: --data is missing, the folder of {', '.join(SOURCES)}, each a .jsonl.gz file")
    tokenizer = pretrained.small_model().tokenizer
    out.mkdir(parents=True, exist_ok=True)
    found, held_out = {}, {}
    for name in SOURCES:
        if folder is None:
            stories = documents("andersen")[:40]
        else:
            with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
                stories = [Story("", json.loads(line)["text"]) for line in file]
        random.Random(0).shuffle(stories)
        stories = stories[:400] if smoke else stories
        kept = round(len(stories) * HELD_OUT.get(name, 0))
        if kept:
            held_out[name] = data.pack(stories[:kept], tokenizer, LENGTH)
        share = min(1, max(SOURCES[name], SIMPLE.get(name, 0)))
        found[name] = data.pack(stories[kept : kept + round(share * (len(stories) - kept))], tokenizer, LENGTH)
        print(f"{name}: {int(found[name].lengths.sum()):,} tokens", flush=True)
    simple = [story for name in SIMPLE for story in _texts(found[name], tokenizer)]
    data.train_tokenizer(simple, 8192).save_pretrained(out / "compact_tokenizer")
    tokenizer.save_pretrained(out / "tokenizer")
    for name, parts in (("rows", found), ("held_out", held_out)):
        about = {source: blocks.lengths.tolist() for source, blocks in parts.items()}
        ids = torch.cat([b.input_ids[torch.arange(LENGTH) < b.lengths[:, None]] for b in parts.values()])
        # the two bytes of all numbers apart: that is smaller
        raw = ids.numpy().astype("<u2").view("u1").reshape(-1, 2).T.tobytes()
        (out / f"{name}.xz").write_bytes(lzma.compress(raw, preset=6))
        runs.write_json(out / f"{name}.json", about)


def _texts(blocks: Blocks, tokenizer) -> list[Story]:
    """The text of every row; a long document comes in pieces."""
    ids = [row[1:n].tolist() for row, n in zip(blocks.input_ids, blocks.lengths.tolist(), strict=True)]
    return [Story("", text) for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]


def read(lab: Path, name: str) -> dict[str, Blocks]:
    """What ``prepare`` wrote, by source."""
    about = json.loads((lab / f"{name}.json").read_text())
    raw = torch.frombuffer(bytearray(lzma.decompress((lab / f"{name}.xz").read_bytes())), dtype=torch.uint8)
    low, high = raw.view(2, -1).long()
    ids, at, found = low + 256 * high, 0, {}
    for source, lengths in about.items():
        lengths = torch.tensor(lengths)
        real = torch.arange(LENGTH) < lengths[:, None]
        rows_ = torch.zeros(len(lengths), LENGTH, dtype=torch.int64)
        rows_[real] = ids[at : at + int(lengths.sum())]
        at += int(lengths.sum())
        found[source] = Blocks(rows_, lengths, torch.arange(len(lengths)), torch.zeros_like(real))
    return found


# What a step computes


class Text(NamedTuple):
    """Rows on the device, in the order in which they are seen."""

    ids: Tensor  # (N, T) int64
    lengths: Tensor  # (N,) int64
    ends: Tensor  # (V,) bool, tokens that end a sentence
    empty: int  # the token for nothing

    @classmethod
    def of(cls, parts: dict[str, Blocks], times: dict[str, float], ends: Tensor, empty: int, device: str) -> "Text":
        chosen = []
        for source, blocks in parts.items():
            if source in times:
                copies = max(1, round(times[source]))
                chosen += [(blocks.input_ids, blocks.lengths)] * copies
        ids, lengths = (torch.cat(part) for part in zip(*chosen, strict=True))
        order = torch.randperm(len(ids), generator=generator_for(0))
        return cls(ids[order].to(device), lengths[order].to(device), ends.to(device), empty)


def draw(text: Text, step: int, batch: int, mix: tuple[float, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Rows of a step, and a grouping for each: int64 (B, T) both; see the top of this file."""
    device = text.ids.device
    generator = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
    chosen = torch.arange(step * batch, (step + 1) * batch, device=device) % len(text.ids)
    ids, size = text.ids[chosen], text.lengths[chosen][:, None]
    length = ids.shape[1]
    place = torch.arange(length, device=device).expand_as(ids)
    kind = torch.multinomial(torch.tensor(mix, device=device), batch, replacement=True, generator=generator)[:, None]

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape or (batch, 1), device=device, generator=generator)

    # the blank: a sentence, or a span; from first up to, not including, last
    real = place < size
    ends = text.ends[ids] & real & (place > 0)
    number = F.pad(ends.long().cumsum(-1), (1, -1))  # of the sentence that each token stands in
    sentences = number.masked_fill(~real, 0).amax(-1, keepdim=True) + 1
    inside = (number == (uniform() * sentences).long()) & real & (place > 0)
    first = place.masked_fill(~inside, length).amin(-1, keepdim=True)
    last = place.masked_fill(~inside, 0).amax(-1, keepdim=True) + 1
    span = (size * (1 / 16 + uniform() * (1 / 2 - 1 / 16))).long().clamp(min=1)
    start = 1 + (uniform() * (size - span).clamp(min=1)).long()
    is_sentence, is_blank = kind == 1, (kind == 1) | (kind == 2)
    first, last = torch.where(is_sentence, first, start), torch.where(is_sentence, last, start + span)
    last = torch.minimum(last, size)

    # spare room behind the blank: the empty token, then positions that hold nothing
    roomy = is_blank & (uniform() < 0.5)
    shift = torch.where(roomy, 1 + (uniform() * (ROOM + 1)).long(), 0)
    source = torch.where(place < last, place, (place - shift).clamp(min=0))
    nothing = roomy & (place > last) & (place < last + shift)
    ids = ids.gather(1, source).masked_fill(roomy & (place == last), text.empty)
    size = (size + shift).clamp(max=length)
    real = (place < size) & ~nothing
    blank = is_blank & (place >= first) & (place < last + roomy)

    key = place.float()
    noise = uniform(batch, length)
    key = torch.where(kind == 3, noise, key)
    within = torch.where(uniform() < 0.8, place.float(), noise * length)  # a blank is filled in order, or not
    key = torch.where(blank, 2 * length + within.masked_fill(place == last, length), key)  # its end comes last
    predicted = real & (place > 0)
    rank = key.masked_fill(~predicted, float("inf")).argsort(-1).argsort(-1) + 1
    streams = (uniform() * len(STREAMS)).long()
    for which, count in enumerate(STREAMS):
        strided = groups.infill(predicted, count, "strided")
        rank = torch.where((kind == 4) & (streams == which), strided, rank)
    group_ids = torch.where(predicted, rank, groups.PADDING)
    group_ids[:, 0] = groups.GIVEN
    return ids, group_ids


class Added(nn.Module):
    """W + s B A, formed once a step: the same function as low-rank additions beside W, in fewer operations."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        device = linear.weight.device
        self.linear = linear.requires_grad_(False)
        self.lora_A = nn.Parameter(torch.randn(RANK, linear.in_features, device=device) / RANK)
        self.lora_B = nn.Parameter(torch.zeros(linear.out_features, RANK, device=device))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.linear.weight + SCALE * (self.lora_B @ self.lora_A), self.linear.bias)


def train_additions(model: A3ForCausalLM) -> None:
    """Freeze the model but for additions to its linear layers, and w."""
    model.requires_grad_(False)
    model.model.query_embedding.requires_grad_(True)
    for layer in model.model.layers:
        for part in (layer.self_attn, layer.mlp):
            for name, module in list(part.named_children()):
                if isinstance(module, nn.Linear):
                    setattr(part, name, Added(module))


def settled_hidden(model: A3ForCausalLM, ids: Tensor, group_ids: Tensor, kernel: str = "sdpa") -> Tensor:
    """The last hidden states (B, T, D) of the query stream, every row of both streams computed.

    The plan is made on the device, with shapes that do not depend on a value; see ``rows.Plan.of`` for the other way.
    """
    batch, length = ids.shape
    place = torch.arange(length, device=ids.device).expand(batch, -1)
    content = rows.Slots(place, group_ids >= 0)
    query_groups = group_ids.masked_fill(group_ids <= 0, groups.PADDING)
    seen = group_ids.masked_fill(group_ids < 0, rows.NOBODY).amin(-1, keepdim=True)
    empty = (torch.cat((group_ids, query_groups - 1), dim=1) < seen)[..., None]
    starts = rows.Starts.of(model.config.query_start, content, ids, group_ids)
    kind = flex.Blocks if kernel == flex.KERNEL else Visibility
    hidden, _ = model.model(
        content_ids=ids,
        positions=torch.cat((place, starts.positions), dim=1),
        visible=kind.between(group_ids, query_groups, empty),
        kernel=kernel,
        keep_content=False,
        query_ids=starts.tokens,
    )
    return hidden


class Trainer:
    """A model on a device, its compiled parts, and one way to train it after another.

    Args:
        model: an A3 model; what is trained starts anew with every ``train``.
        low_rank: train additions and w; else all weights.
    """

    def __init__(self, model: A3ForCausalLM, low_rank: bool, compiled: bool):
        self.model, self.low_rank = model.train(), low_rank
        self.device = model.device.type
        if low_rank:
            train_additions(model)
        self.first = {n: w.detach().clone() for n, w in model.named_parameters() if w.requires_grad}
        self.nats = torch.compile(self._nats, dynamic=False) if compiled else self._nats
        for layer in model.model.layers if compiled else ():
            layer.compile(dynamic=False)

    def start(self, seed: int) -> None:
        """The trained weights as they were at first; additions drawn anew, with no effect yet."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                if name.endswith(adapter.DOWN):  # as peft has it
                    bound = weight.shape[1] ** -0.5
                    weight.copy_((torch.rand(weight.shape, generator=generator) * 2 - 1) * bound)
                elif name.endswith(adapter.UP):
                    weight.zero_()
                elif weight.requires_grad:
                    weight.copy_(self.first[name])

    def _nats(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Negative log-likelihoods (B, T); 0 where the label is ignored."""
        logits = F.linear(hidden, self.model.lm_head.weight)
        losses = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none", ignore_index=-100)
        return losses.unflatten(0, labels.shape)

    def any_order(self, ids: Tensor, group_ids: Tensor, labels: Tensor) -> Tensor:
        """Negative log-likelihoods (B, T) of A3, as ``A3ForCausalLM.forward`` has them, with every row computed."""
        return self.nats(settled_hidden(self.model, ids, group_ids), labels)

    def shifted(self, ids: Tensor, visible: Tensor, masked: Tensor | None, labels: Tensor) -> Tensor:
        """Of a plain Llama whose output at t - 1 predicts token t; masked tokens (B, T) enter as w."""
        core, length = self.model.model, ids.shape[1]
        hidden = core.embed_tokens(ids)
        if masked is not None:
            hidden = torch.where(masked[..., None], core.query_embedding, hidden)
        rope = core.rope(torch.arange(length, device=ids.device).expand_as(ids), hidden.dtype)
        empty = ~visible.any(-1, keepdim=True)
        for layer in core.layers:
            hidden, _ = layer(hidden, length, rope, Visibility(visible | empty, empty), "sdpa", None, 0)
        nats = self.nats(core.norm(hidden), F.pad(labels[:, 1:], (0, 1), value=rows.IGNORED_LABEL))
        return F.pad(nats[:, :-1], (1, 0))


class Arm(NamedTuple):
    """One training."""

    kind: str  # "any order", "masked diffusion" or "autoregressive"
    steps: int
    learning_rate: float
    query_start: str = "vector"
    mix: tuple[float, ...] = MIX
    weight_decay: float = 0.0


def losses(trainer: Trainer, kind: str, ids: Tensor, group_ids: Tensor, step: int, seed: int) -> tuple[Tensor, Tensor]:
    """The weighted sum of negative log-likelihoods of a training step, and the number of tokens it is divided by."""
    real = group_ids >= 0
    if kind == "any order":
        labels = ids.masked_fill(group_ids <= 0, rows.IGNORED_LABEL)
        return trainer.any_order(ids, group_ids, labels).sum(), (group_ids > 0).sum()
    if kind == "autoregressive":
        causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
        labels = ids.masked_fill(group_ids <= 0, rows.IGNORED_LABEL)
        return trainer.shifted(ids, causal & real[:, None], None, labels).sum(), (group_ids > 0).sum()
    generator = torch.Generator(ids.device).manual_seed(seed * 1_000_003 + step + 500_000)
    uniform = torch.rand(ids.shape, device=ids.device, generator=generator)
    spread = torch.rand((), device=ids.device, generator=generator)
    ratio = ((torch.arange(len(ids), device=ids.device) + spread) / len(ids)).clamp(min=1e-3)[:, None]
    masked = (uniform < ratio) & (group_ids > 0)
    labels = ids.masked_fill(~masked, rows.IGNORED_LABEL)
    visible = real[:, None].expand(-1, ids.shape[1], -1).contiguous()  # so that all compile alike
    return (trainer.shifted(ids, visible, masked, labels) / ratio).sum(), (group_ids > 0).sum()


class HeldOut:
    """Held-out rows of some texts, and their groups, drawn once: the same for every arm."""

    def __init__(self, texts: dict[str, Blocks], draws: int):
        self.texts, self.draws = texts, draws
        self.group_ids = {(name, title): draw_groups(blocks, grouping) for name, blocks in texts.items()
                          for title, grouping in GROUPINGS.items()}  # fmt: skip


def held_out_losses(trainer: Trainer, kind: str, held_out: HeldOut, count: int) -> dict:
    """Nats and tokens of the first ``count`` rows, by text and grouping: {text: {grouping: [[nats, tokens], ...]}}."""
    found, draws = {}, held_out.draws
    for name, blocks in held_out.texts.items():
        blocks = blocks.rows(slice(count))
        found[name] = {}
        if kind == "any order":
            orders = list(GROUPINGS)
        elif kind == "autoregressive":
            orders = ["left to right"]
        else:
            orders = ["random order"]
        for title in orders:
            group_ids = held_out.group_ids[name, title][:count]
            total = (group_ids > 0).sum(-1)
            sums = []
            for part in torch.arange(len(blocks.input_ids)).split(BATCH):
                ids, order = blocks.input_ids[part].to(trainer.device), group_ids[part]
                if kind == "any order":
                    order, known = groups.read_given(order, "left_to_right")
                    labels = ids.masked_fill((known | (order < 0)).to(ids.device), rows.IGNORED_LABEL)
                    with precision(trainer.device):
                        sums.append(trainer.any_order(ids, order.to(ids.device), labels).detach().sum(-1).cpu())
                elif kind == "autoregressive":
                    labels = ids.masked_fill((order <= 0).to(ids.device), rows.IGNORED_LABEL)
                    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool, device=ids.device).tril()
                    visible = causal & (order >= 0).to(ids.device)[:, None]
                    with precision(trainer.device):
                        sums.append(trainer.shifted(ids, visible, None, labels).detach().sum(-1).cpu())
                else:  # as ``evaluate.rivals.diffusion_bound``: the last n of a random order are masked
                    real = (order >= 0).to(ids.device)
                    visible, size_of = real[:, None].expand(-1, LENGTH, -1).contiguous(), total[part]
                    bound = torch.zeros(len(ids))
                    spread = torch.rand(len(ids), generator=generator_for(0, -3))
                    for number in range(draws):
                        size = torch.minimum(1 + (((spread + number) / draws) * size_of).long(), size_of)
                        masked = (order > (size_of - size)[:, None]).to(ids.device)
                        labels = ids.masked_fill(~masked, rows.IGNORED_LABEL)
                        with precision(trainer.device):
                            nats = trainer.shifted(ids, visible, masked, labels).detach().sum(-1).cpu()
                        bound += nats * size_of / size / draws
                    sums.append(bound)
            nats = torch.cat(sums)
            title += " (bound)" * (kind == "masked diffusion")
            found[name][title] = [[round(a, 3), b] for a, b in zip(nats.tolist(), total.tolist(), strict=True)]
    return found


def means(found: dict) -> dict:
    return {name: {how: round(sum(a for a, _ in per_row) / max(1, sum(b for _, b in per_row)), 4)
                   for how, per_row in by.items()} for name, by in found.items()}  # fmt: skip


def precision(device: str):
    return torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda")


def train(
    trainer: Trainer, arm: Arm, text: Text, batch: int, held_out: HeldOut, seed: int, say: Callable, keep: Callable
) -> None:
    """Train an arm from the start; ``keep`` gets what there is at every measurement, its curve and the rows' losses."""
    trainer.start(seed)
    trainer.model.config.query_start = arm.query_start
    trained = [w for w in trainer.model.parameters() if w.requires_grad]
    matrices = [w for w in trained if w.dim() > 1]
    others = [w for w in trained if w.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": arm.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=arm.learning_rate, betas=(0.9, 0.95), fused=trainer.device == "cuda",
    )  # fmt: skip
    warm_up = max(1, min(50, arm.steps // 10))
    curve, tokens, began, training = [], torch.zeros((), device=trainer.device), time.perf_counter(), 0.0
    marks = {0, arm.steps // 20, arm.steps // 10, arm.steps // 4, arm.steps // 2, arm.steps}
    settings = arm._asdict() | {"batch_rows": batch, "length": LENGTH, "seed": seed, "low_rank": trainer.low_rank}
    for step in range(arm.steps + 1):
        if step in marks:
            wait()
            training += time.perf_counter() - began
            found = held_out_losses(trainer, arm.kind, held_out, MEASURED if step == arm.steps else WATCHED)
            curve.append({"step": step, "tokens": int(tokens), "seconds": round(training, 2), "losses": means(found)})
            say(f"    {curve[-1]}")
            keep({"settings": settings, "curve": curve, "held_out_rows": found,
                  "tokens_per_second": round(int(tokens) / max(training, 1e-9))})  # fmt: skip
            began = time.perf_counter()
        if step == arm.steps:
            break
        share = min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / arm.steps))
        for group in optimizer.param_groups:
            group["lr"] = arm.learning_rate * share
        ids, group_ids = draw(text, step, batch, arm.mix, seed)
        with precision(trainer.device):
            total, count = losses(trainer, arm.kind, ids, group_ids, step, seed)
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad()
        tokens += count


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


# Running


def save_additions(trainer: Trainer, arm: Arm, folder: Path, fingerprint: str, empty: int, about: dict) -> None:
    """The trained additions as an adapter; a diffusion model's w is its mask embedding."""
    named = {name: weight for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    if arm.kind == "masked diffusion":
        named = {n.replace("model.query_embedding", "mask_embedding"): w for n, w in named.items()}
    about = {"kind": arm.kind, "source": pretrained.SMALL, "rank": RANK, **about}
    if arm.kind == "any order":
        about |= {"known_order": "left_to_right", "query_start": arm.query_start, "empty_token_id": empty}
    adapter.save(folder, named, SCALE, fingerprint, about)


def compact_rows(lab: Path, out: Path) -> None:
    """The simple part of the text in the compact model's own tokens; a process of its own, beside the training."""
    tokenizer, own = sources.tokenizer(lab / "tokenizer"), sources.tokenizer(lab / "compact_tokenizer")
    found = {}
    for name in ("rows", "held_out"):
        parts = read(lab, name)
        for source in SIMPLE:
            if source in parts:
                found[name, source] = data.pack(_texts(parts[source], tokenizer), own, LENGTH)
    save_file({"/".join((*key, str(n))): part for key, parts in found.items() for n, part in enumerate(parts)}, out)


class Lab:
    """What all arms of a run share: the clock, what was found so far, and where it is written."""

    def __init__(self, folder: Path, out: Path, smoke: bool, seconds: float, arms: list[str], batch: int):
        self.folder, self.out, self.smoke, self.seconds, self.arms = folder, out, smoke, seconds, arms
        self.batch = 4 if smoke else batch  # rows of a step
        self.began, self.device = time.perf_counter(), "cuda" if torch.cuda.is_available() else "cpu"
        self.draws, self.measured = (2, 8) if smoke else (32, MEASURED)
        self.result = {
            "command": command_line(), "versions": runs.versions(), "hardware": runs.hardware(),
            "date": datetime.now(UTC).date().isoformat(), "threads": torch.get_num_threads(), "arms": {},
            "settings": {"smoke": smoke, "batch": self.batch},
        }  # fmt: skip
        self.earlier = 0.0  # seconds
        out.mkdir(parents=True, exist_ok=True)
        if (out / "gpu_lab.json").exists():
            self.go_on(json.loads((out / "gpu_lab.json").read_text()))

    def go_on(self, before: dict) -> None:
        """Keep what an earlier run into the same folder has found; leave out the arms that it has finished."""
        settings = self.result["settings"]
        if before.get("settings", settings) != settings:
            raise SystemExit(f"{self.out} holds arms of {before['settings']}, now {settings}; choose another --out")
        done = {name for name, arm in before["arms"].items() if arm["curve"][-1]["step"] == arm["settings"]["steps"]}
        self.result = before | self.result | {"arms": before["arms"]}
        self.arms = [name for name in self.arms if name not in done]
        self.earlier = before.get("seconds", 0.0)

    def say(self, *what) -> None:
        print(f"{time.perf_counter() - self.began:6.1f} s ", *what, flush=True)

    def left(self) -> float:
        return self.seconds - (time.perf_counter() - self.began)

    def keep(self, name: str, found: dict) -> None:
        """What was measured so far is written at once: a machine can go at any time."""
        self.result["arms"][name] = found
        self.result["seconds"] = round(self.earlier + time.perf_counter() - self.began, 1)
        runs.write_json(self.out / "gpu_lab.json", self.result)

    def held_out(self, texts: dict[str, Blocks], ends: Tensor) -> HeldOut:
        """Some rows of each text, and which of their tokens end a sentence."""
        found = {}
        for name, blocks in list(texts.items())[: 1 if self.smoke else None]:
            chosen = torch.randperm(len(blocks.lengths), generator=generator_for(1))[: self.measured]
            blocks = blocks.rows(chosen)
            real = torch.arange(LENGTH) < blocks.lengths[:, None]
            found[name] = blocks._replace(sentence_ends=ends[blocks.input_ids] & real)
        return HeldOut(found, self.draws)

    def train(self, trainer: Trainer, name: str, arm: Arm, text: Text, held_out: HeldOut, batch: int) -> None:
        self.say(name, arm)
        train(trainer, arm, text, batch, held_out, 0, self.say, partial(self.keep, name))
        self.say(f"{name}: {self.result['arms'][name]['tokens_per_second']:,} tokens a second")

    def warm_up(self, trainer: Trainer, kind: str, text: Text, held_out: HeldOut, batch: int) -> float:
        """A few steps, so that compiling is in no arm's time; tokens a second after that."""
        steps = 2 if self.smoke else 5
        found = []
        for _ in range(2):
            train(trainer, Arm(kind, steps, 1e-3), text, batch, held_out, 0, lambda *_: None, found.append)
        return found[-1]["tokens_per_second"]


def smollm2_arms(lab: Lab) -> None:
    """All arms from SmolLM2's weights, with additions; then one for the rest of the time, less that of the others."""
    tokenizer = sources.tokenizer(lab.folder / "tokenizer")
    ends = data._ends_sentence(tokenizer)
    parts, held_out = read(lab.folder, "rows"), read(lab.folder, "held_out")
    size, empty = 49152, tokenizer.convert_tokens_to_ids(EMPTY)
    if lab.smoke:  # a small vocabulary; the text makes no sense
        size = 512
        parts, held_out = (
            {name: blocks._replace(input_ids=blocks.input_ids % size) for name, blocks in texts.items()}
            for texts in (parts, held_out)
        )
    ends = F.pad(ends, (0, 49152 - len(ends)))[:size]
    text, held_out = Text.of(parts, SOURCES, ends, empty, lab.device), lab.held_out(held_out, ends)
    share = round(text.lengths.float().mean().item() / LENGTH, 4)
    lab.result |= {"real_share": share, "tokenizer": data.tokenizer_fingerprint(tokenizer)}
    lab.say(f"{len(text.ids):,} rows, {share:.1%} of their positions hold tokens")
    if lab.smoke:
        shape = dict(vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2)
        source = A3ForCausalLM(A3Config(**shape, num_attention_heads=4, tie_word_embeddings=True))
    else:
        source = from_autoregressive(pretrained.small_model().autoregressive)
    fingerprint = adapter.fingerprint(source)
    lab.say("the source is there")
    trainer = Trainer(source.to(lab.device), True, compiled=not lab.smoke)

    def steps_of(tokens: float) -> int:
        return 4 if lab.smoke else max(50, round(tokens / (lab.batch * LENGTH * share)))

    short = steps_of(6e6)
    arms = {
        "warm": Arm("any order", short, 1e-3, "previous"),
        "cold": Arm("any order", short, 1e-3, "vector"),
        "diffusion": Arm("masked diffusion", short, 1e-3),
        "autoregressive": Arm("autoregressive", short, 1e-3, mix=LEFT_TO_RIGHT),
        "warm_random": Arm("any order", short, 1e-3, "previous", RANDOM_ONLY),
        "long": None,  # planned when its turn comes
    }
    speed = {}
    for name, arm in arms.items():
        if name not in lab.arms:
            continue
        kind = arm.kind if arm else "any order"
        stack = "both streams" if kind == "any order" else "one stream"
        if stack not in speed:
            speed[stack] = lab.warm_up(trainer, kind, text, held_out, lab.batch)
        if arm is None:
            others = COMPACT_SECONDS * any(one.startswith("compact") for one in lab.arms)
            arm = Arm("any order", steps_of((lab.left() - others) * speed[stack] * 0.9), 1e-3, "previous")
        lab.train(trainer, name, arm, text, held_out, lab.batch)
        speed[stack] = lab.result["arms"][name]["tokens_per_second"]
        done = {"tokens": lab.result["arms"][name]["curve"][-1]["tokens"], "steps": arm.steps}
        save_additions(trainer, arm, lab.out / name, fingerprint, empty, done)


def compact_arms(lab: Lab, rows_file: Path) -> None:
    """A compact A3 model from scratch, and its twins on the same rows and tokens, with half the steps' work each."""
    tokenizer = sources.tokenizer(lab.folder / "compact_tokenizer")
    bos, eos, _ = data.special_ids(tokenizer)
    found = load_file(rows_file)
    parts, held_out = (
        {source: Blocks(*(found[f"{name}/{source}/{n}"] for n in range(4))) for source in SIMPLE
         if f"{name}/{source}/0" in found}
        for name in ("rows", "held_out")
    )  # fmt: skip
    ends = F.pad(data._ends_sentence(tokenizer), (0, 8192))[:8192]
    text = Text.of(parts, SIMPLE, ends, tokenizer.pad_token_id, lab.device)
    held_out = lab.held_out(held_out, ends)
    share = round(text.lengths.float().mean().item() / LENGTH, 4)
    shape = dict(vocab_size=8192, hidden_size=256, intermediate_size=704, num_hidden_layers=7, num_attention_heads=4,
                 num_key_value_heads=4, tie_word_embeddings=True, max_position_embeddings=LENGTH, bos_token_id=bos,
                 eos_token_id=eos)  # fmt: skip
    if lab.smoke:
        shape |= dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2)
    torch.manual_seed(0)
    model = A3ForCausalLM(A3Config(**shape)).to(lab.device)
    trainer, batch = Trainer(model, False, compiled=not lab.smoke), 4 if lab.smoke else 256
    weights = sum(weight.numel() for weight in model.parameters())
    lab.result |= {"compact_real_share": share, "compact_tokens": int(text.lengths.sum()), "compact_weights": weights}
    speed = lab.warm_up(trainer, "any order", text, held_out, batch)
    steps = 4 if lab.smoke else round(min(1e8, 0.45 * lab.left() * speed) / (batch * LENGTH * share))
    for name, arm in {
        "compact": Arm("any order", steps, 3e-3, "previous", weight_decay=0.1),
        "compact_ar": Arm("autoregressive", steps, 3e-3, mix=LEFT_TO_RIGHT, weight_decay=0.1),
        "compact_diffusion": Arm("masked diffusion", steps, 3e-3, mix=RANDOM_ONLY, weight_decay=0.1),
    }.items():
        if name not in lab.arms:
            continue
        lab.train(trainer, name, arm, text, held_out, batch)
        if name == "compact":
            model.config.known_order, model.config.empty_token_id = "left_to_right", tokenizer.pad_token_id
            model.to(torch.bfloat16).save_pretrained(lab.out / name)
            model.float()


def run(lab: Lab) -> None:
    torch._dynamo.config.recompile_limit = 64  # one layer's code serves all layers, kinds and models
    compact, beside = [name for name in lab.arms if name.startswith("compact")], None
    rows_file = lab.folder / "compact_rows.safetensors"
    if compact:
        command = [sys.executable, __file__, "compact", "--lab", str(lab.folder), "--out", str(rows_file)]
        beside = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "4"})
    if len(compact) < len(lab.arms):
        smollm2_arms(lab)
    if compact:
        beside.wait()
        compact_arms(lab, rows_file)
    lab.say("done")


# Reporting

PAIRS = {  # what is compared row by row: two arms, each with its grouping
    "warm - cold": ("warm", "cold"), "warm - diffusion": ("warm", "diffusion"),
    "warm_random - diffusion": ("warm_random", "diffusion"), "warm - autoregressive": ("warm", "autoregressive"),
}  # fmt: skip
BOUND = "random order (bound)"


def report(out: Path) -> None:
    """Losses of each arm with intervals over rows, and differences between arms, paired by rows, into book/results."""
    found = json.loads((out / "gpu_lab.json").read_text())
    final, differences, rows_of = {}, {}, {}
    for name, arm in found["arms"].items():
        done = arm["curve"][-1]["step"] == arm["settings"]["steps"]
        arm["finished"] = done
        rows_of[name] = arm.pop("held_out_rows") if done else {}
        if done:  # a curve is of the same rows everywhere
            first = {
                text: {how: per_row[:WATCHED] for how, per_row in by.items()} for text, by in rows_of[name].items()
            }
            arm["curve"][-1]["losses"] = means(first)
        final[name] = {text: {how: interval(*zip(*per_row, strict=True)) for how, per_row in by.items()}
                       for text, by in rows_of[name].items()}  # fmt: skip
    for title, (one, other) in PAIRS.items():
        for text in rows_of.get(one, {}):
            for how, mine in rows_of[one][text].items():
                theirs = rows_of.get(other, {}).get(text, {})
                theirs = theirs.get(how) or (theirs.get(BOUND) if how == "random order" else None)
                if theirs:
                    gains = [a - b for (a, _), (b, _) in zip(mine, theirs, strict=True)]
                    by = differences.setdefault(title, {}).setdefault(text, {})
                    by[how] = interval(gains, [tokens for _, tokens in mine])
    runs.write_json(RESULTS / "gpu_lab.json", {
        "command": found["command"], "seed": 0, "versions": found["versions"], "hardware": found["hardware"],
        "threads": found.get("threads", os.cpu_count()), "date": found["date"], "wall_seconds": found["seconds"],
        "real_share": found["real_share"], "length": LENGTH, "rank": RANK, "mix": dict(zip(KINDS, MIX, strict=True)),
        "sources": SOURCES, "rows": MEASURED, "rows_on_the_way": WATCHED, "arms": found["arms"], "losses": final,
        "differences": differences,
    })  # fmt: skip


def interval(nats, tokens) -> dict:
    nats, tokens = (torch.tensor(values, dtype=torch.float64) for values in (nats, tokens))
    return intervals.bootstrap(nats / tokens, tokens).rounded(3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("prepare", "run", "compact", "report"))
    parser.add_argument("--data", type=Path, help="folder of .jsonl.gz files")
    parser.add_argument("--lab", type=Path, default=Path("runs/gpu_lab"))
    parser.add_argument("--out", type=Path, default=Path("runs/gpu_lab"))
    parser.add_argument("--seconds", type=float, default=500.0, help="for everything")
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS, help="which, in this order; default: all")
    parser.add_argument("--batch", type=int, default=BATCH, help="rows of a step; 128 takes hardly longer than 64")
    parser.add_argument("--smoke", action="store_true", help="tiny models, four steps each")
    options = parser.parse_args()
    if options.what == "prepare":
        prepare(options.data, options.out, options.smoke)
    elif options.what == "report":
        report(options.out)
    elif options.what == "compact":
        compact_rows(options.lab, options.out)
    else:
        run(Lab(options.lab, options.out, options.smoke, options.seconds, options.arms, options.batch))


if __name__ == "__main__":
    main()
