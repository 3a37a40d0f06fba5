"""The training loop: one process or many, on a CPU or on GPUs, resumable to the same result.

What is trained on is a *recipe*: it turns rows of tokens into a model's inputs and says how each predicted token
counts. ``AnyOrder`` is A3's; ``baselines`` has those of autoregression and of masked diffusion. All else, data order,
optimiser, schedule, precision, is the same for every recipe, so that a race between them is fair.

Three rules make a run repeatable:

- Everything random in a step comes from generators made of the seed and the number of the example or step. So there is
  no state of a sampler or of a random number generator to save: the number of the step is that state.
- The loss of a step is divided by the number of tokens that the whole step predicts, over all microbatches and
  processes. So it does not depend on how the batch is divided.
- A checkpoint holds the trained weights, the optimiser and the schedule, and is whole or not there; see ``resume``
  and ``runs``.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from accelerate import Accelerator, DistributedType
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from tqdm.auto import tqdm
from transformers import get_cosine_schedule_with_warmup

from a3mini import adapter, groups, runs
from a3mini.curriculum import Curriculum, generator_for
from a3mini.data import Blocks
from a3mini.devices import best_precision, native_bf16
from a3mini.objective import labels_for
from a3mini.resume import WHOLE, open_run, restore_state, save_state

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


class Batch(NamedTuple):
    """What a recipe makes of some rows."""

    inputs: dict[str, Tensor]  # of the model
    weights: Tensor  # (B, T) float, how much each position's negative log-likelihood counts
    count: int  # by how many tokens the loss is divided


class Recipe(Protocol):
    """How a kind of model is trained."""

    def settings(self) -> dict:
        """What defines the recipe, for the run's record."""

    def batch(self, rows: Blocks, progress: float, examples: list[int], seed: int) -> Batch:
        """Inputs for some rows, ``progress`` in [0, 1) of the way through the training."""

    def log_probs(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Log-probability of the token at each position, (B, T), nats; anything where the weight is 0."""


class AnyOrder:
    """A3: every example draws its own grouping from the curriculum; each predicted token counts once.

    Args:
        curriculum: which groups a step sees.
        known_order: how given tokens read each other: "together", all see all; or "left_to_right", each sees those on
            its left, as in the model that A3 is adapted from (``groups.given_in_order``).
    """

    def __init__(self, curriculum: Curriculum, known_order: str = "together"):
        if known_order not in groups.KNOWN_ORDERS:
            raise ValueError(f"known_order must be one of {', '.join(groups.KNOWN_ORDERS)}; got {known_order!r}")
        self.curriculum, self.known_order = curriculum, known_order

    def settings(self) -> dict:
        return {"recipe": "any order", "curriculum": self.curriculum.to_dict(), "known_order": self.known_order}

    def batch(self, rows: Blocks, progress: float, examples: list[int], seed: int) -> Batch:
        generators = [generator_for(seed, example) for example in examples]
        group_ids = self.curriculum.draw(progress, rows.lengths, rows.sentence_ends, generators)
        predicted = group_ids > 0
        group_ids, known = groups.read_given(group_ids, self.known_order)
        labels = labels_for(rows.input_ids, group_ids, known)
        inputs = {"input_ids": rows.input_ids, "group_ids": group_ids, "labels": labels}
        return Batch(inputs, predicted.float(), int(predicted.sum()))

    def log_probs(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        return model(**inputs).log_probs


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps.
        batch_size: rows per step, over all processes and microbatches.
        micro_batch_size: rows that one process computes at a time; 0: its whole share.
        learning_rate: the highest, after ``warmup_steps``; then it falls to 0 along a cosine.
        weight_decay: of matrices; norms, embeddings, biases and other vectors have none.
        clip_norm: the largest norm of the gradient.
        precision: "fp32", "bf16", "fp16" (mixed, weights stay float32), or "auto": what the device does best.
        activation_checkpointing: keep less for the backward pass, and compute it again.
        lora_rank: train low-rank additions to all linear layers (and A3's w) instead of the weights; 0: off.
        lora_alpha: their scale; 0: twice the rank.
        eval_every, save_every, log_every: in steps; 0: only at the end.

    Raises:
        ValueError: a number that makes no sense.
    """

    steps: int = 1000
    batch_size: int = 16
    micro_batch_size: int = 0
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    seed: int = 0
    precision: str = "auto"
    activation_checkpointing: bool = False
    lora_rank: int = 0
    lora_alpha: int = 0
    eval_every: int = 0
    save_every: int = 0
    log_every: int = 10

    @property
    def lora_scale(self) -> float:
        """By what the product of the low-rank additions is multiplied."""
        return (self.lora_alpha or 2 * self.lora_rank) / self.lora_rank

    def __post_init__(self):
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in (
            "micro_batch_size",
            "warmup_steps",
            "lora_rank",
            "lora_alpha",
            "eval_every",
            "save_every",
            "log_every",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not (self.learning_rate > 0 and self.clip_norm > 0 and self.weight_decay >= 0):
            raise ValueError("learning_rate and clip_norm must be positive, and weight_decay not negative")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {self.precision!r}")


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
) -> list[dict]:
    """Train ``model`` in place; go on where the run in ``folder`` stopped, if there is one.

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

    Returns:
        the metrics, one dict per logged step: step, tokens (real ones, given or predicted), loss (nats per predicted
        token), learning_rate, gradient_norm, seconds, and what ``evaluate`` returned. The model is on the CPU or GPU
        that it was trained on, in evaluation mode.

    Raises:
        ValueError: a batch that cannot be divided among the processes; rows that do not fit the model; a folder
            that holds a run of another configuration; a damaged checkpoint; a ``start`` that does not fit.
        FloatingPointError: the loss or its gradient is not finite; names the last good checkpoint.
        OSError: a checkpoint cannot be written; names the last good one.
    """
    accelerator = _accelerator(config)
    share, rest = divmod(config.batch_size, accelerator.num_processes)
    micro = config.micro_batch_size or share
    if rest or share % micro:
        raise ValueError(
            f"batch_size={config.batch_size} cannot be divided evenly into {accelerator.num_processes} processes "
            f"with microbatches of {micro} rows; change batch_size or micro_batch_size"
        )
    _check_rows(blocks, model.config)
    folder = Path(folder) if folder is not None else None
    if start is not None and not config.lora_rank:
        raise ValueError(f"start={str(start)!r} is an adapter; set lora_rank to the rank that it has")
    untouched = adapter.fingerprint(model) if config.lora_rank else None  # additions belong to these very weights
    if folder:
        open_run(folder, model, recipe, blocks, config, accelerator, command, untouched)
    base, was_trained = model, [weight for weight in model.parameters() if weight.requires_grad]
    before = {}
    if config.lora_rank:
        with torch.random.fork_rng():  # the additions start at random
            torch.manual_seed(config.seed)
            model = add_lora(model, config.lora_rank, config.lora_alpha or 2 * config.lora_rank)
        if start is not None:
            named = dict(additions(model.named_parameters()))
            before = adapter.go_on_from(start, untouched, named, config.lora_scale)
    if config.activation_checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    model, optimizer = accelerator.prepare(
        model,
        torch.optim.AdamW(_parameter_groups(model, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.95)),
    )
    # the schedule counts optimiser steps; accelerate's own wrapper would count processes too
    schedule = get_cosine_schedule_with_warmup(
        optimizer.optimizer, min(config.warmup_steps, config.steps), config.steps
    )
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
    if first == 0 and evaluate:
        log({"step": 0, "tokens": 0, "seconds": 0.0, **evaluated()})
    with torch.random.fork_rng():  # dropout is seeded below; the caller's random numbers stay as they were
        for step in range(first, config.steps):
            started = time.perf_counter()
            # --- the batch: this process's share of the step's examples, in microbatches
            examples = list(range(step * config.batch_size, (step + 1) * config.batch_size))
            rows = blocks.rows(order.rows(examples))
            mine = slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)
            batches = [
                recipe.batch(
                    _trim(rows.rows(slice(at, at + micro))), step / config.steps, examples[at : at + micro], config.seed
                )
                for at in range(mine.start, mine.stop, micro)
            ]
            count = accelerator.reduce(torch.tensor(float(sum(b.count for b in batches)), device=accelerator.device))
            torch.manual_seed(config.seed * 1_000_003 + step * accelerator.num_processes + accelerator.process_index)
            # --- the loss of the whole step, and its gradient
            total = torch.zeros((), device=accelerator.device)
            for number, batch in enumerate(batches, start=1):
                with accelerator.no_sync(model) if number < len(batches) else nullcontext():
                    inputs = {name: value.to(accelerator.device) for name, value in batch.inputs.items()}
                    log_probs = recipe.log_probs(model, inputs)
                    loss = -(batch.weights.to(accelerator.device) * log_probs).sum() / count
                    total += loss.detach()
                    accelerator.backward(loss * accelerator.num_processes)  # gradients are averaged over processes
            loss = accelerator.reduce(total).item()
            norm = float(accelerator.clip_grad_norm_(model.parameters(), config.clip_norm))
            if not math.isfinite(loss) or (not math.isfinite(norm) and accelerator.scaler is None):
                saved = runs.latest_checkpoint(folder / "checkpoints") if folder else None
                raise FloatingPointError(
                    f"the loss of step {step + 1} is {loss} and its gradient's norm {norm}; the last good checkpoint "
                    f"is {saved or 'none'}. Lower the learning rate ({config.learning_rate}), or train in fp32"
                )
            # --- the update; with fp16 a gradient that overflowed is skipped, and the loss scaled down
            learning_rate = schedule.get_last_lr()[0]
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            tokens += int(rows.lengths.sum())
            seconds += time.perf_counter() - started
            done = step + 1
            is_due = [
                (every and done % every == 0) or done == config.steps
                for every in (config.log_every, config.eval_every, config.save_every)
            ]
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
            if folder and is_due[2]:
                save_state(folder / "checkpoints", done, tokens, seconds, model, optimizer, schedule, accelerator)
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
    bar.close()
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
                about |= {key: value for key, value in recipe.settings().items() if key == "known_order"}
                named = dict(additions(weights.items()))
                adapter.save(folder / "adapter", named, config.lora_scale, untouched, about)
            accelerator.wait_for_everyone()
        trained.merge_and_unload()
        for weight in was_trained:
            weight.requires_grad_(True)
    if "known_order" in recipe.settings():
        base.config.known_order = recipe.settings()["known_order"]  # ``decode.infill`` goes by it
    base.eval()
    return metrics


def add_lora(model: nn.Module, rank: int, alpha: int, target: str | Sequence[str] = "all-linear") -> nn.Module:
    """Freeze the model but for new low-rank additions to its linear layers, and A3's w.

    Args:
        target: names of the layers that get additions, such as "q_proj"; default: all but the head.

    Returns:
        the peft wrapper; its ``merge_and_unload()`` merges the additions into ``model``.
    """
    from peft import LoraConfig, get_peft_model  # only here: a slow import

    wrapped = get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=target, lora_dropout=0.0))
    for name, weight in wrapped.named_parameters():
        if name.endswith(adapter.ADDED):
            weight.requires_grad_(True)
    return wrapped


def additions(named: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """What LoRA trains, under the names of ``adapter``: "model.layers.0.mlp.up_proj.lora_A"."""
    for name, weight in named:
        name = name.replace("base_model.model.", "", 1).replace(".default.weight", "")
        if name.endswith((adapter.DOWN, adapter.UP, *adapter.ADDED)):
            yield name, weight


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
    accelerator = Accelerator(mixed_precision={"fp32": "no"}.get(precision, precision))
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


class Order:
    """Which row is the n-th example: a new random order of all rows in each epoch."""

    def __init__(self, size: int, seed: int):
        self.size, self.seed, self.epoch, self.order = size, seed, -1, None

    def rows(self, examples: list[int]) -> Tensor:
        return torch.tensor([self._row(*divmod(example, self.size)) for example in examples])

    def _row(self, epoch: int, place: int) -> int:
        if epoch != self.epoch:
            self.epoch, self.order = epoch, torch.randperm(self.size, generator=generator_for(self.seed, -1, epoch))
        return int(self.order[place])


def _check_rows(blocks: Blocks, config) -> None:
    largest, length = int(blocks.input_ids.max()), blocks.input_ids.shape[1]
    if largest >= config.vocab_size:
        raise ValueError(
            f"the rows hold token {largest}, but the model's vocab_size is {config.vocab_size}; "
            "use the tokenizer that was saved with the model"
        )
    if length > config.max_position_embeddings:
        raise ValueError(
            f"the rows have {length} tokens, but the model allows {config.max_position_embeddings} "
            "(config.max_position_embeddings); pack the text into shorter rows"
        )


def _trim(rows: Blocks) -> Blocks:
    """Without the columns that are padding in every row."""
    longest = int(rows.lengths.max())
    return rows._replace(input_ids=rows.input_ids[:, :longest], sentence_ends=rows.sentence_ends[:, :longest])
