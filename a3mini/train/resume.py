"""A training run's folder: opened for this run and no other, saved in the middle, and gone on with.

``train`` calls these functions. They know PyTorch's and accelerate's side of it: which weights are trained, how
an optimiser's state is gathered from several processes, and how it is divided among them again. ``runs`` knows the
files.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from a3mini import adapter, runs
from a3mini.train.config import TrainConfig
from a3mini.train.data import Blocks, fingerprint
from a3mini.train.schedules import free_to_prolong

RECORD, MARK = "run.json", "a3mini-run.json"  # a run's record; in what a run made, which run that was
MADE = {"model": MARK, "adapter": adapter.RECORD}  # what a run makes: where it says of which run it is
WRITTEN = (RECORD, "metrics.jsonl", "checkpoints", *MADE)
# What may change between a run and its continuation, because it does not change the result. (Of the precision, what is
# asked for: a run goes on in the one that it was computed in; see ``as_it_began``.)
FREE_TO_CHANGE = (
    "eval_every",
    "save_every",
    "log_every",
    "micro_batch_size",
    "micro_batch_tokens",
    "activation_checkpointing",
    "compile",
    "workers",
    "precision",
)
WHOLE = StateDictOptions(
    full_state_dict=True, cpu_offload=True, flatten_optimizer_state_dict=True, ignore_frozen_params=True
)


def identity(
    model: nn.Module,
    recipe,
    blocks: Blocks,
    config,
    evaluate: Callable | None,
    start,
    about: dict | None,
    visits: Tensor | None = None,
) -> dict:
    """Everything that decides what a run results in, as JSON: a folder is gone on with by the same run only.

    Args:
        model: with its untouched weights.
        evaluate: None, or what measures the model; one with a ``fingerprint``, as ``HeldOut`` has, is known by it.
        start: None, or the folder of an adapter to go on from.
        about: what else the caller knows, such as the tokenizer's fingerprint.
        visits: how often a pass shows each row; None: once.
    """
    left_out = {"transformers_version", "dtype", "use_cache", "known_order"}  # the last one is the recipe's to say
    if getattr(model.config, "query_start", None) == "vector":  # records that are older than the choice do not say so
        left_out.add("query_start")
    found = {
        "training": asdict(config),
        **recipe.settings(),
        "model": {k: v for k, v in model.config.to_dict().items() if k not in left_out},
        "weights": adapter.fingerprint(model),
        "start": runs.sha256(Path(start) / adapter.WEIGHTS)[:16] if start is not None else None,
        "data": {
            "rows": len(blocks.input_ids),
            "tokens": int(blocks.lengths.sum()),
            "fingerprint": fingerprint(blocks.input_ids, blocks.lengths, blocks.sentence_ends),
        },
        "held_out": getattr(evaluate, "fingerprint", evaluate is not None),
        "about": about or {},
    }
    if visits is not None:
        found["data"]["visits"] = fingerprint(visits)
    return json.loads(json.dumps(found))  # as it will be read back


def run_id(identity: dict) -> str:
    """A short name of a run, which what it makes carries."""
    training = {k: v for k, v in identity["training"].items() if k not in FREE_TO_CHANGE}
    return hashlib.sha256(json.dumps({**identity, "training": training}, sort_keys=True).encode()).hexdigest()[:16]


def as_it_began(config: TrainConfig, folder: Path | None) -> TrainConfig:
    """The config with the precision that the run in a folder was computed in, where it leaves that to the device.

    "auto" is fp16 on a T4 and bf16 on an L4. Both keep float32 weights, but the losses are not the same; so a run that
    began on one goes on in its own precision on the other.

    Raises:
        ValueError: that was fp16, and there is no CUDA device; the record is damaged.
    """
    if folder is None or config.precision != "auto" or not (folder / RECORD).exists():
        return config
    before = computed_in(runs.read_json(folder / RECORD))
    if before is None or not runs.latest_checkpoint(folder / "checkpoints"):
        return config
    if before == "fp16" and not torch.cuda.is_available():
        raise ValueError(
            f"the run in {folder} was computed in fp16, which needs a CUDA device, and here is none; go on where there "
            "is one, or choose another folder"
        )
    return replace(config, precision=before)


def computed_in(record: dict) -> str | None:
    """The precision of a run's record, by ``TrainConfig``'s name; None: it does not say."""
    return {"no": "fp32"}.get(record.get("precision"), record.get("precision"))


def check_precision(record: dict, now: str, folder: Path) -> None:
    """Raises ValueError if a run would go on in another precision, ``now``, than it was computed in; says how to."""
    before = computed_in(record)
    if before not in (None, now):
        raise ValueError(
            f"the run in {folder} was computed in {before} on {record.get('hardware', 'another machine')}, and would "
            f"go on in {now} on {runs.hardware()}; say precision={before!r} or 'auto' (--precision), or choose another "
            "folder"
        )


def check_folder(folder: Path) -> dict | None:
    """The record of the run that lives in a folder, which holds nothing that the run would replace and did not write.

    Raises:
        NotOurs: there is such a thing; it is named.
        ValueError: the record is damaged.
    """
    for old in folder.glob(f"{runs.REPLACED}*"):
        runs.put_back(old)
    path = folder / RECORD
    if not path.exists():
        strange = [folder / name for name in WRITTEN if (folder / name).exists()]
        if strange:
            raise runs.NotOurs(f"{strange[0]} is of no run in {folder}; move it away, or choose another folder")
        return None
    record = runs.read_json(path, {"training": dict, "recipe": str, "run": str})
    for name in MADE:
        if (folder / name).exists():
            check_made(folder / name, name, record["run"])
    return record


def check_made(made: Path, name: str, run: str) -> None:
    """Check that ``made``, a run's "model" or "adapter", is of this very run and may be replaced.

    Raises:
        NotOurs: it is not.
        ValueError: its mark is damaged.
    """
    mark = made / MADE[name]
    if not mark.is_file() or runs.read_json(mark).get("run") != run:
        raise runs.NotOurs(f"{made} is of another run, or of none; move it away, or choose another folder")


@contextmanager
def held_run(folder: Path | None) -> Iterator[None]:
    """Hold a run's folder for the processes of this run; see ``runs.held``. The first of them has the lock."""
    problem: list = [None]
    with ExitStack() as stack:
        if folder and PartialState().is_main_process:
            try:
                stack.enter_context(runs.held(folder))
            except OSError as error:
                problem = [error]
        if folder:
            broadcast_object_list(problem)
        if problem[0]:
            raise problem[0]
        yield


def open_run(folder: Path, identity: dict, accelerator: Accelerator, command: dict | None) -> None:
    """Check that the folder holds this run or none, and write its record.

    Raises:
        ValueError: it holds a run of another configuration, or one in another precision; what differs is named.
        NotOurs: as ``check_folder``.
    """
    before = check_folder(folder)
    begun = runs.latest_checkpoint(folder / "checkpoints")
    if before and (begun or any((folder / name).exists() for name in MADE)):
        free = FREE_TO_CHANGE
        if begun:
            free += free_to_prolong(before, identity, runs.read_json(begun / runs.STATE, {"step": int})["step"])
        changed = [
            line
            for line in runs.differences({key: before.get(key) for key in identity}, identity)
            if not line.startswith(tuple(f"training.{name}:" for name in free))
        ]
        if changed:
            raise ValueError(
                f"{folder} holds a run of another configuration ({'; '.join(changed)}); go on with the old one, "
                "or choose another folder"
            )
        if begun:
            check_precision(before, computed_in({"precision": accelerator.mixed_precision}), folder)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        if not begun:
            (folder / "metrics.jsonl").unlink(missing_ok=True)
        machine = {
            "run": run_id(identity),
            "processes": accelerator.num_processes,
            "threads": torch.get_num_threads(),
            "precision": accelerator.mixed_precision,
            "hardware": runs.hardware(),
            "versions": runs.versions(),
        }
        runs.write_json(folder / RECORD, identity | machine | ({"command": command} if command else {}))
    accelerator.wait_for_everyone()


def save_state(
    folder: Path, step: int, tokens: int, seconds: float, model, optimizer, schedule, accelerator, average=None
) -> None:
    """Write a checkpoint of everything that the next step depends on; see ``runs.save_checkpoint``."""
    weights, moments = get_state_dict(model, optimizer.optimizer, options=WHOLE)  # every process takes part
    # PyTorch leaves out a frozen weight under its first name only; a tied head would come along under its second
    named = accelerator.unwrap_model(model).named_parameters(remove_duplicate=False)
    frozen = {name for name, weight in named if not weight.requires_grad}
    weights = {name: weight for name, weight in weights.items() if name not in frozen}
    numbers = {name: value for name, value in moments.items() if not isinstance(value, Tensor)}
    state = {
        "step": step,
        "tokens": tokens,
        "seconds": seconds,
        "optimizer": numbers,
        "schedule": schedule.state_dict(),
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
    }
    averages = {"average": average.state_dict()} if average else {}  # every process takes part
    if accelerator.is_main_process:
        tensors = {"trainable": weights, "optimizer": {k: v for k, v in moments.items() if isinstance(v, Tensor)}}
        tensors |= averages
        state["schedule"].pop("lr_lambdas", None)
        runs.save_checkpoint(folder, step, tensors, state)
    accelerator.wait_for_everyone()


def restore_state(path: Path, model, optimizer, schedule, accelerator, average=None) -> tuple[int, int, float]:
    """Load a checkpoint into the model, the optimiser, the schedule and the average; step, tokens, seconds so far."""
    fields = {"step": int, "tokens": int, "seconds": (int, float), "optimizer": dict, "schedule": dict}
    names = ("trainable", "optimizer", *(["average"] if average else []))
    tensors, state = runs.load_checkpoint(path, names, fields)
    moments = tensors["optimizer"] | state["optimizer"]
    sharded = accelerator.distributed_type == DistributedType.FSDP
    set_state_dict(
        model,
        optimizer.optimizer,
        model_state_dict=tensors["trainable"],
        optim_state_dict=_nested(moments, model, optimizer.optimizer) if sharded else moments,
        options=StateDictOptions(
            flatten_optimizer_state_dict=not sharded,
            full_state_dict=sharded,
            strict=False,  # the file holds trained weights only
        ),
    )
    schedule.load_state_dict(state["schedule"] | {"lr_lambdas": [None] * len(schedule.lr_lambdas)})
    if average:
        average.load_state_dict(tensors["average"])
    if accelerator.scaler:
        accelerator.scaler.load_state_dict(state["scaler"])
    return state["step"], state["tokens"], state["seconds"]


def _nested(moments: dict, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    """An optimizer's flat state in the form that PyTorch can divide among processes; the flat one it cannot."""
    state = {}
    for key, value in moments.items():
        if key.startswith("state."):
            name, _, what = key.removeprefix("state.").rpartition(".")
            state.setdefault(name, {})[what] = value
    names = {id(weight): name for name, weight in model.named_parameters()}
    groups = []
    for group in optimizer.param_groups:
        members = [names[id(weight)] for weight in group["params"]]
        settings = {
            key: moments.get(f"param_groups.{members[0]}.{key}", group[key]) for key in group if key != "params"
        }
        groups.append({**settings, "params": members})
    return {"state": state, "param_groups": groups}
