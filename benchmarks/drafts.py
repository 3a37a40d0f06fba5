"""A draft worth verifying: in which order, how many at a time, and does a small joint head make better drafts?

    python benchmarks/drafts.py --tinystories FILE    some hours on one CPU core, most of them for the adapter's head
    python benchmarks/drafts.py --heads compact       an hour: the adapter's drafts are drawn independently alone
    python benchmarks/drafts.py --only compact        this model anew; the rest of the stored result stays
    python benchmarks/drafts.py --smoke               half a minute, the compact model alone; no result file

Two models: the compact one on its own held-out text, the adapter on stories that it was not trained on; a row is 16
given tokens and 80 to predict. A head (``joint_head.py``) is trained on text that the model itself was trained
on, or text like it, with groups of neighbours, far-apart and random tokens of 2 to 8.

The loss, nats per token, exact: a group's tokens drawn independently, or one after another by the head; how much more
each is than one at a time in the same order; 95 % intervals over rows. The speed: passes of speculative decoding, and
processor time as a ratio to one at a time in the same order, batch 1, one thread. All ways take turns on each row;
other programs hardly change a ratio of processor times.

What is finished is kept in checkpoints/drafts, so a run that was stopped goes on.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import torch
from adaptation import HELD_OUT, tinystories
from bounded import ADAPTER, GIVEN, LENGTH
from joint_head import JointHead, ask, drafting, nats, train
from kept import digest, kept, weights_of
from record import record, renew
from safetensors.torch import load_file, save_file
from texts import held_out
from torch import Tensor
from tradeoff import processor_time

from a3mini import decode, groups, objective, pretrained, speculative
from a3mini.evaluate import intervals
from a3mini.train import data, generator_for

FOLDER = Path("checkpoints/drafts")
NEW = LENGTH - GIVEN
TOGETHER = ("neighbours", "strided", "random")
SIZES = (2, 4, 8)  # tokens of a group that are drawn without being verified
DRAFTS = {"compact": (2, 4, 8, 16), ADAPTER: (4, 8)}
TRAINING = {  # of the heads
    "compact": {"batches": 400, "batch": 16, "epochs": 1, "rate": 1e-3},
    ADAPTER: {"batches": 500, "batch": 4, "epochs": 3, "rate": 5e-4},
}
TIMED = {"compact": 6, ADAPTER: 3}  # rows
SHORTLIST = {"compact": 0, ADAPTER: 256}  # tokens whose logits the head changes when it drafts; 0: all


def grouping(together: str, size: int, count: int) -> Tensor:
    """Group ids (count, LENGTH)."""
    if together == "random":
        source = generator_for(size)
        return torch.stack([groups.shuffled(LENGTH, size, GIVEN, source) for _ in range(count)])
    make = groups.blocks if together == "neighbours" else groups.strided
    return make(LENGTH, size, GIVEN).expand(count, -1)


def one_by_one(model, ids: Tensor, order: Tensor) -> Tensor:
    """Nats (B,) of the same order at single tokens."""
    order = speculative.singletons(order)
    return -objective.log_likelihood(model, ids, *groups.read_given(order, model.config.known_order))


def losses(model, joint: JointHead, rows: Tensor, batch: int) -> dict[str, list[float]]:
    """Nats of each row, by way: one at a time in the same order, and groups drawn independently and by the head."""
    found = {}
    for together in TOGETHER:
        for size in SIZES:
            orders = grouping(together, size, len(rows))
            ways = {way: [] for way in ("one", "independent", "head")}
            for part, order in zip(rows.split(batch), orders.split(batch), strict=True):
                asked = ask(model, part, *groups.read_given(order, model.config.known_order))
                ways["one"] += one_by_one(model, part, order).tolist()
                ways["independent"] += nats(model, asked).tolist()
                ways["head"] += nats(model, asked, joint).tolist()
            found |= {f"{together}, {size}, {way}": by_row for way, by_row in ways.items()}
            print(together, size, {way: round(sum(by) / NEW / len(rows), 3) for way, by in ways.items()}, flush=True)
    return found


def loss_rows(found: dict) -> list[dict]:
    """A line for each order and size: the losses, what drawing at once costs, and how much of that the head gives back.

    The order's own price is in ``one``: the head can win back what is lost by drawing at once, and no more.
    """
    lines = []
    for together, size in product(TOGETHER, SIZES) if found else ():
        key = f"{together}, {size}"
        by = {way: torch.tensor(found[f"{key}, {way}"]) / NEW for way in ("one", "independent", "head")}
        one, independent, head = by.values()
        line = {"together": together, "size": size}
        line |= {way: intervals.bootstrap(values).rounded(3) for way, values in by.items()}
        line |= {
            "lost": intervals.paired(independent, one).rounded(3),
            "lost_with_head": intervals.paired(head, one).rounded(3),
            "gain": intervals.paired(independent, head).rounded(3),
        }
        if line["lost"]["low"] > 0:  # a part of nothing says nothing
            line["won_back"] = round(line["gain"]["mean"] / line["lost"]["mean"], 2)
        lines.append(line)
    return lines


def ways_to_time(model, joint: JointHead | None, order: Tensor, size: int, shortlist: int) -> dict[str, Callable]:
    """What takes turns; each takes a row (1, LENGTH) and a seed."""
    order, known = groups.read_given(speculative.singletons(order), model.config.known_order)

    def one(ids, seed):
        return decode.generate(model, ids, order, known, generator=generator_for(seed), runners_up=0)

    def plain(ids, seed):
        return speculative.generate(model, ids, order, known, generator=generator_for(seed), draft=size, runners_up=0)

    def by_head(ids, seed):
        with drafting(model, joint, shortlist):
            return plain(ids, seed)

    return {"one": one, "plain": plain} | ({"head": by_head} if joint else {})


def speed(model, joint: JointHead | None, rows: Tensor, together: str, size: int, shortlist: int) -> dict[str, dict]:
    """By way, passes and processor seconds of each row."""
    found = {}
    orders = grouping(together, size, len(rows))
    for number, (ids, order) in enumerate(zip(rows.split(1), orders.split(1), strict=True)):
        if number == 0:  # to warm up
            few = GIVEN + size
            for run in ways_to_time(model, joint, order[:, :few], size, shortlist).values():
                run(ids[:, :few], 0)
        for way, run in ways_to_time(model, joint, order, size, shortlist).items():
            seconds, done = processor_time(partial(run, ids, number))
            at = found.setdefault(way, {"passes": [], "seconds": []})
            at["passes"] += done.trace.passes
            at["seconds"].append(seconds)
    return found


def speed_row(together: str, size: int, found: dict) -> dict:
    one = torch.tensor(found["one"]["seconds"])
    row = {"together": together, "size": size, "one": {"seconds": round(one.mean().item(), 3)}}
    for way in [way for way in ("plain", "head") if way in found]:
        seconds = torch.tensor(found[way]["seconds"])
        row[way] = {
            "passes": intervals.bootstrap(torch.tensor(found[way]["passes"])).rounded(1),
            "ratio": intervals.bootstrap(one / seconds, seconds).rounded(2),
        }
    if "head" in found:
        head, plain = (torch.tensor(found[way]["seconds"]) for way in ("head", "plain"))
        row["head_against_plain"] = intervals.bootstrap(plain / head, head).rounded(2)
    return row


def head_of(name: str, model, blocks: data.Blocks, how: dict) -> tuple[JointHead, dict]:
    """The trained head of a model, and how its training went."""
    settings = {"model": name, "weights": weights_of(model), "rows": digest(blocks.input_ids.numpy().tobytes()), **how}
    path = FOLDER / f"head-{digest(repr(settings).encode())}.safetensors"

    def make() -> dict:
        with torch.enable_grad():
            joint, course = train(model, blocks, **how)
        FOLDER.mkdir(parents=True, exist_ok=True)
        save_file(joint.state_dict(), path)
        return {"course": course}

    made = kept(FOLDER, f"{name} head", settings, make)
    joint = JointHead(model).eval()
    joint.load_state_dict(load_file(path))
    about = {
        "weights": sum(weight.numel() for weight in joint.parameters()),
        "rows": len(blocks.lengths),
        "shortlist": SHORTLIST[name],
        **how,
    }
    return joint, about | {"course": made["course"], "wall_seconds": round(made["wall_seconds"])}


def training_rows(tokenizer, path: Path | None) -> data.Blocks:
    return data.pack(tinystories(path)[:-HELD_OUT], tokenizer, LENGTH)


def measure(name: str, loaded, rows: Tensor, path: Path | None, smoke: bool, with_head: bool) -> dict:
    """Everything about one model."""
    model, tokenizer, called = loaded
    settings, joint, about = {"model": name, "weights": weights_of(model), "rows": rows.tolist()}, None, None
    if with_head:
        how = TRAINING[name] | ({"batches": 3} if smoke else {})
        joint, about = head_of(name, model, training_rows(tokenizer, path), how)
        settings["head"] = weights_of(joint)
    found = {}  # orders.py has the losses without a head
    if with_head:
        found = kept(FOLDER, f"{name} losses", settings, partial(losses, model, joint, rows, 8))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several would wait for each other, and waiting counts as work
    lines = []
    for together in TOGETHER:
        for size in (4,) if smoke else DRAFTS[name]:
            timed = rows[: 2 if smoke else TIMED[name]]
            at = {**settings, "rows": timed.tolist(), "together": together, "size": size, "shortlist": SHORTLIST[name]}
            run = partial(speed, model, joint, timed, together, size, SHORTLIST[name])
            lines.append(speed_row(together, size, kept(FOLDER, f"{name} speed {together} {size}", at, run)))
            print(name, lines[-1], flush=True)
    torch.set_num_threads(threads)
    return {
        "model": called, "head": about, "rows": len(rows), "timed_rows": len(timed),
        "losses": loss_rows(found), "speed": lines,
    }  # fmt: skip


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tinystories", type=Path, help="file of stories; default: the hub's TinyStories")
    parser.add_argument("--rows", type=int, default=32, help="held-out rows")
    parser.add_argument("--only", choices=TRAINING, help="measure this model, anew in a stored result")
    parser.add_argument("--heads", nargs="*", choices=TRAINING, default=list(TRAINING), help="models that get a head")
    parser.add_argument("--smoke", action="store_true", help="three rows, a head of three steps, no result file")
    options = parser.parse_args(arguments)
    load = round(os.getloadavg()[0], 1)
    count, found = 3 if options.smoke else options.rows, {}
    for name in ["compact"] if options.smoke else [options.only] if options.only else TRAINING:
        loaded = pretrained.compact_model() if name == "compact" else pretrained.adapted_model(name)
        rows = held_out(loaded.tokenizer, LENGTH, count, options.tinystories)
        with_head = name in options.heads
        found[name] = measure(name, loaded, rows, options.tinystories, options.smoke, with_head)
    if options.only and not options.smoke:
        renew("drafts", f"*{options.only}* was measured anew", seed=0, load_before=load, systems=found)
    elif not options.smoke:
        record("drafts", seed=0, load_before=load, given=GIVEN, new_tokens=NEW, systems=found)


if __name__ == "__main__":
    main()
