"""A training run's folder: opened for this run and no other, saved in the middle, and gone on with.

``train`` calls these three functions. They know PyTorch's and accelerate's side of it: which weights are trained, how
an optimiser's state is gathered from several processes, and how it is divided among them again. ``runs`` knows the
files.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from a3mini import runs
from a3mini.train.data import Blocks

# What may change between a run and its continuation, because it does not change the result.
FREE_TO_CHANGE = ("eval_every", "save_every", "log_every", "micro_batch_size", "activation_checkpointing")
WHOLE = StateDictOptions(
    full_state_dict=True, cpu_offload=True, flatten_optimizer_state_dict=True, ignore_frozen_params=True
)


def open_run(folder: Path, model, recipe, blocks: Blocks, config, accelerator: Accelerator, command, base) -> None:
    """Check that the folder holds this run or none, and write its record; ``base``: fingerprint of LoRA's source.

    Raises:
        ValueError: it holds a run of another configuration; what differs is named.
    """
    record = {
        "training": asdict(config),
        **recipe.settings(),
        "model": {
            k: v for k, v in model.config.to_dict().items() if k not in ("transformers_version", "dtype", "use_cache")
        },
        "data": {
            "rows": len(blocks.input_ids),
            "tokens": int(blocks.lengths.sum()),
            "fingerprint": _fingerprint(blocks.input_ids),
        },
    }
    if base:  # the checkpoints hold additions only
        record["base"] = base[:16]
    record = json.loads(json.dumps(record))  # as it will be read back
    path = folder / "run.json"
    if path.exists() and runs.latest_checkpoint(folder / "checkpoints"):
        before = json.loads(path.read_text())
        known = {key: before.get(key) for key in record}
        changed = [
            line
            for line in runs.differences(known, record)
            if not line.startswith(tuple(f"training.{name}:" for name in FREE_TO_CHANGE))
        ]
        if changed:
            raise ValueError(
                f"{folder} holds a run of another configuration ({'; '.join(changed)}); go on with the old one, "
                "or choose another folder"
            )
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        if not runs.latest_checkpoint(folder / "checkpoints"):
            (folder / "metrics.jsonl").unlink(missing_ok=True)
        machine = {
            "processes": accelerator.num_processes,
            "threads": torch.get_num_threads(),
            "precision": accelerator.mixed_precision,
            "hardware": runs.hardware(),
            "versions": runs.versions(),
        }
        runs.write_json(path, record | machine | ({"command": command} if command else {}))
    accelerator.wait_for_everyone()


def _fingerprint(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()[:16]


def save_state(folder: Path, step: int, tokens: int, seconds: float, model, optimizer, schedule, accelerator) -> None:
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
    if accelerator.is_main_process:
        tensors = {"trainable": weights, "optimizer": {k: v for k, v in moments.items() if isinstance(v, Tensor)}}
        state["schedule"].pop("lr_lambdas", None)
        runs.save_checkpoint(folder, step, tensors, state)
    accelerator.wait_for_everyone()


def restore_state(path: Path, model, optimizer, schedule, accelerator) -> tuple[int, int, float]:
    """Load a checkpoint into the model, the optimiser and the schedule; step, tokens and seconds so far."""
    tensors, state = runs.load_checkpoint(path, ("trainable", "optimizer"))
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
