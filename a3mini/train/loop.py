"""The training loop: one process or many, on a CPU or on GPUs, resumable to the same result.

What is trained on is a *recipe* (``recipes``). A step draws its batches, computes the loss and its gradient, and
updates the weights; what stands around it in ``train`` are the run's folder, LoRA, precision and the log.

Three rules make a run repeatable:

- Everything random in a step comes from generators made of the seed and the number of the example or step. So there is
  no state of a sampler or of a random number generator to save: the number of the step is that state.
- The loss of a step is divided by the number of tokens that the whole step predicts, over all microbatches and
  processes. So it does not depend on how the batch is divided.
- A checkpoint holds the trained weights, the optimiser and the schedule, and is whole or not there; see ``resume``
  and ``runs``. What happens to the model when a training is cut short is in ``interrupt``.
"""

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedType
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import GradientAccumulationPlugin, parse_flag_from_env
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from tqdm.auto import tqdm
from transformers import get_cosine_schedule_with_warmup

from a3mini import adapter, runs
from a3mini.train.config import TrainConfig
from a3mini.train.data import Blocks, Order, check_rows
from a3mini.train.devices import best_precision, native_bf16
from a3mini.train.interrupt import Interrupted, Stop, undone_on_error
from a3mini.train.lora import add_lora, additions
from a3mini.train.recipes import Batch, Recipe, read_by, settled
from a3mini.train.resume import WHOLE, as_it_began, held_run, identity, open_run, restore_state, run_id, save_state

SAVE_SECONDS = 300  # between checkpoints, where save_every does not say


def train(
    model: nn.Module,
    recipe: Recipe,
    blocks: Blocks,
    config: TrainConfig,
    folder: str | Path | None = None,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    quiet: bool = False,
    command: dict | None = None,
    source: str = "",
    start: str | Path | None = None,
    about: dict | None = None,
) -> list[dict]:
    """Train ``model`` in place; go on where the run in ``folder`` stopped, if there is one.

    An interrupt or a SIGTERM ends the training after the step it is at, with a checkpoint. If the training does not
    come to its end, ``model`` is as it was before the call, so that the same call can be made again.

    Args:
        model: the model; LoRA weights, if any, are merged into it at the end.
        recipe: how rows become inputs and losses.
        blocks: the training rows.
        config: see ``TrainConfig``.
        folder: where run.json, metrics.jsonl and checkpoints go, and with LoRA the finished additions, as
            ``adapter.save`` writes them, in folder/adapter; None: nowhere.
        evaluate: called with the model in evaluation mode, without gradients, every ``eval_every`` steps, before the
            first and after the last; what it returns goes into the metrics.
        quiet: no progress bar.
        command: how the run was started, for run.json; plays no part in the training.
        source: what to call the untouched weights, for the adapter's record.
        start: an adapter to go on from; its rank and scale must be those of ``config``.
        about: what else decides the result and must be the same when the run goes on, such as the tokenizer's
            fingerprint; JSON.

    Returns:
        the metrics, one dict per logged step: step, tokens (real ones, given or predicted), loss (nats per predicted
        token), learning_rate, gradient_norm, seconds, and what ``evaluate`` returned. The model is on the CPU or GPU
        that it was trained on, in evaluation mode.

    Raises:
        ValueError: a batch that cannot be divided among the processes; rows that do not fit the model; a folder
            that holds a run of another configuration; a damaged checkpoint; a ``start`` that does not fit.
        FloatingPointError: the loss or its gradient is not finite; names the last good checkpoint.
        OSError: a checkpoint cannot be written; names the last good one. The folder is held by another process, or
            holds what no run of ours has written.
        KeyboardInterrupt: the training was interrupted; says where it is saved.
    """
    folder = Path(folder) if folder is not None else None
    config = as_it_began(config, folder)
    accelerator = _accelerator(config)
    parts = own_parts(config, accelerator)
    check_rows(blocks, model.config)
    recipe = settled(recipe, model, start)
    if start is not None and not config.lora_rank:
        raise ValueError(f"start={str(start)!r} is an adapter; set lora_rank to the rank that it has")
    who = identity(model, recipe, blocks, config, evaluate, start, about) if folder or config.lora_rank else {}

    def changed(name: str) -> bool:
        return not config.lora_rank or name.endswith(adapter.ADDED)  # LoRA leaves the source's own weights alone

    with held_run(folder), undone_on_error(model, changed), read_by(recipe, model), Stop() as stop:
        if folder:
            open_run(folder, who, accelerator, command)
        return _train(
            model, recipe, blocks, config, parts, folder, evaluate, quiet, source, start, who, accelerator, stop
        )


def _train(
    model, recipe, blocks, config, parts, folder, evaluate, quiet, source, start, who, accelerator, stop
) -> list[dict]:
    base, was_trained = model, [weight for weight in model.parameters() if weight.requires_grad]
    before = {}
    if config.lora_rank:
        with torch.random.fork_rng():  # the additions start at random
            torch.manual_seed(config.seed)
            model = add_lora(model, config.lora_rank, config.lora_alpha or 2 * config.lora_rank)
        if start is not None:
            named = dict(additions(model.named_parameters()))
            query_start = getattr(base.config, "query_start", None)
            before = adapter.go_on_from(start, who["weights"], named, config.lora_scale, query_start)
    if config.activation_checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    model, optimizer = accelerator.prepare(
        model,
        torch.optim.AdamW(_parameter_groups(model, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.95)),
    )
    # the schedule counts optimiser steps; accelerate's own wrapper would count processes too
    schedule = get_cosine_schedule_with_warmup(optimizer.optimizer, config.warmup, config.steps)
    metrics, first, tokens, seconds = [], 0, 0, 0.0
    last = runs.latest_checkpoint(folder / "checkpoints") if folder else None
    if last:
        first, tokens, seconds = restore_state(last, model, optimizer, schedule, accelerator)
        if accelerator.is_main_process:
            runs.cut_metrics(folder / "metrics.jsonl", first)
        accelerator.wait_for_everyone()
        metrics = runs.read_metrics(folder)
    order = Order(len(blocks.input_ids), config.seed)
    bar = tqdm(total=config.steps, initial=first, disable=quiet or not accelerator.is_main_process, unit="step")

    def log(line: dict) -> None:
        metrics.append(line)
        if folder and accelerator.is_main_process:
            with (folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")

    def evaluated() -> dict[str, float]:
        model.eval()
        with torch.no_grad(), accelerator.autocast():
            found = evaluate(accelerator.unwrap_model(model)) if evaluate else {}
        model.train()
        return found

    model.train()
    saved_at = time.monotonic()
    if first == 0 and evaluate:
        log({"step": 0, "tokens": 0, "seconds": 0.0, **evaluated()})
    with torch.random.fork_rng():  # dropout is seeded below; the caller's random numbers stay as they were
        for step in range(first, config.steps):
            started = time.perf_counter()
            rows, batches = draw_batches(blocks, order, recipe, step, config, parts)
            own = config.seed * 1_000_003 + step * accelerator.num_processes + accelerator.process_index
            torch.manual_seed(own % 2**63)
            loss, norm = loss_and_gradient(model, recipe, batches, config.clip_norm, accelerator)
            if not math.isfinite(loss) or (not math.isfinite(norm) and accelerator.scaler is None):
                saved = runs.latest_checkpoint(folder / "checkpoints") if folder else None
                raise FloatingPointError(
                    f"the loss of step {step + 1} is {loss} and its gradient's norm {norm}; the last good checkpoint "
                    f"is {saved or 'none'}. Lower the learning rate ({config.learning_rate}), or train in fp32"
                )
            learning_rate = schedule.get_last_lr()[0]
            optimizer.step()  # with fp16 a gradient that overflowed is skipped, and the loss scaled down
            optimizer.zero_grad()
            schedule.step()
            tokens += int(rows.lengths.sum())
            seconds += time.perf_counter() - started
            done = step + 1
            is_due = [
                (every and done % every == 0) or done == config.steps
                for every in (config.log_every, config.eval_every, config.save_every)
            ]
            by_clock = not config.save_every and time.monotonic() - saved_at > SAVE_SECONDS
            stopped, by_clock = _any_process(accelerator, bool(stop), by_clock)
            if is_due[0] or is_due[1]:
                line = {
                    "step": done,
                    "tokens": tokens,
                    "loss": loss,
                    "learning_rate": learning_rate,
                    "gradient_norm": norm,
                    "seconds": round(seconds, 3),
                }
                log(line | (evaluated() if is_due[1] else {}))
            if folder and (is_due[2] or by_clock or stopped):
                save_state(folder / "checkpoints", done, tokens, seconds, model, optimizer, schedule, accelerator)
                saved_at = time.monotonic()
            if stopped and done < config.steps:
                bar.close()
                saved = f"saved in {folder}; the same command goes on from there" if folder else "nothing is saved"
                raise Interrupted(f"stopped after step {done} of {config.steps}: {saved}")
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
    bar.close()
    stop.too_late = True
    if config.activation_checkpointing:
        base.gradient_checkpointing_disable()
    trained = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    if config.lora_rank:
        if folder:
            weights = get_model_state_dict(model, options=WHOLE)  # every process takes part
            if accelerator.is_main_process:
                done = {"steps": config.steps, "tokens": tokens, "seconds": round(seconds, 1)}
                done = {key: before.get(key, 0) + value for key, value in done.items()}  # of all trainings
                about = {"kind": recipe.settings()["recipe"], "source": source, "rank": config.lora_rank, **done}
                about["run"] = run_id(who)
                about |= {key: value for key, value in recipe.settings().items() if key == "known_order"}
                about |= {key: value for key, value in before.items() if key == "empty_token_id"}
                about |= {"query_start": base.config.query_start} if hasattr(base.config, "query_start") else {}
                named = dict(additions(weights.items()))
                adapter.save(folder / "adapter", named, config.lora_scale, who["weights"], about)
            accelerator.wait_for_everyone()
        trained.merge_and_unload()
        for weight in was_trained:
            weight.requires_grad_(True)
    base.eval()
    return metrics


def _any_process(accelerator: Accelerator, *flags: bool) -> list[bool]:
    """Whether any process has raised each flag, so that all do the same."""
    if accelerator.num_processes == 1:
        return list(flags)
    return (accelerator.reduce(torch.tensor([float(flag) for flag in flags], device=accelerator.device)) > 0).tolist()


def own_parts(config: TrainConfig, accelerator: Accelerator) -> list[slice]:
    """Which rows of a step this process computes: its microbatches, the same in every step.

    Raises:
        ValueError: the batch cannot be divided so.
    """
    share, rest = divmod(config.batch_size, accelerator.num_processes)
    micro = config.micro_batch_size or share
    if rest or share % micro:
        raise ValueError(
            f"batch_size={config.batch_size} cannot be divided evenly into {accelerator.num_processes} processes "
            f"with microbatches of {micro} rows; change batch_size or micro_batch_size"
        )
    first = accelerator.process_index * share
    return [slice(at, at + micro) for at in range(first, first + share, micro)]


def draw_batches(
    blocks: Blocks, order: Order, recipe: Recipe, step: int, config: TrainConfig, parts: list[slice]
) -> tuple[Blocks, list[Batch]]:
    """All rows of a step, and the batches of this process's ``parts`` of them."""
    examples = list(range(step * config.batch_size, (step + 1) * config.batch_size))
    rows = blocks.rows(order.rows(examples))
    progress = step / config.steps
    return rows, [recipe.batch(rows.rows(at).trimmed(), progress, examples[at], config.seed) for at in parts]


def loss_and_gradient(
    model: nn.Module, recipe: Recipe, batches: list[Batch], clip_norm: float, accelerator: Accelerator
) -> tuple[float, float]:
    """The loss of a step over all microbatches and processes, nats per predicted token, and its gradient's norm.

    The gradient itself is left in the weights, no longer than ``clip_norm``.
    """
    device = accelerator.device
    count = accelerator.reduce(torch.tensor(float(sum(batch.count for batch in batches)), device=device))
    total = torch.zeros((), device=device)
    for number, batch in enumerate(batches, start=1):
        with accelerator.no_sync(model) if number < len(batches) else nullcontext():
            log_probs = recipe.log_probs(model, {name: value.to(device) for name, value in batch.inputs.items()})
            loss = -(batch.weights.to(device) * log_probs).sum() / count
            total += loss.detach()
            accelerator.backward(loss * accelerator.num_processes)  # gradients are averaged over processes
    norm = accelerator.clip_grad_norm_(model.parameters(), clip_norm)
    return accelerator.reduce(total).item(), float(norm)


def _accelerator(config: TrainConfig) -> Accelerator:
    # accelerate keeps one state per process and refuses another precision; a notebook trains more than once
    AcceleratorState._reset_state(reset_partial_state=False)
    precision = config.precision
    device = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).device.type
    if precision == "auto":
        capability = torch.cuda.get_device_capability() if device == "cuda" else (0, 0)
        precision = best_precision(device, capability, native_bf16())
    if precision == "fp16" and device != "cuda":
        raise ValueError("precision='fp16' needs a CUDA device; use 'auto', 'fp32' or 'bf16'")
    # given as a plugin, no variable of the environment changes it
    once = GradientAccumulationPlugin(num_steps=1)
    accelerator = Accelerator(
        mixed_precision={"fp32": "no"}.get(precision, precision), gradient_accumulation_plugin=once
    )
    if accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ValueError("FSDP version 1 is not covered: set fsdp_version: 2 in accelerate's configuration")
    if accelerator.distributed_type == DistributedType.DEEPSPEED:  # its engine owns the step and the checkpoints
        raise ValueError("DeepSpeed is not covered: use FSDP, version 2, which divides the same things among the GPUs")
    return accelerator


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    decays = [weight.dim() >= 2 and id(weight) not in embeddings for weight in trained]
    return [
        {"params": [w for w, d in zip(trained, decays, strict=True) if d], "weight_decay": weight_decay},
        {"params": [w for w, d in zip(trained, decays, strict=True) if not d], "weight_decay": 0.0},
    ]
