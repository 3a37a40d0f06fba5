"""The training loop: one process or many, on a CPU or on GPUs, resumable to the same result.

What is trained on is a *recipe* (``recipes``). A step is made ahead (``batches``), its loss and gradient are computed
(``step``), and the weights updated; what stands around it are the run's folder, LoRA, precision and the log.

Three rules make a run repeatable:

- Everything random in a step comes from generators made of the seed and the number of the example or step. So there is
  no state of a sampler or of a random number generator to save: the number of the step is that state.
- The loss of a step is divided by the number of tokens that the whole step predicts, over all microbatches and
  processes. So it does not depend on how the batch is divided.
- A checkpoint holds the trained weights, the optimiser and the schedule, and is whole or not there; see ``resume``
  and ``runs``. What happens to the model when a training is cut short is in ``interrupt``.
"""

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedType
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import GradientAccumulationPlugin, parse_flag_from_env
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from tqdm.auto import tqdm

from a3mini import adapter, runs
from a3mini.train.average import Average
from a3mini.train.batches import Batches, Step
from a3mini.train.compiling import Compiled
from a3mini.train.config import WORKERS, TrainConfig
from a3mini.train.data import Blocks, check_rows
from a3mini.train.devices import best_precision, native_bf16
from a3mini.train.interrupt import Interrupted, Stop, undone_on_error
from a3mini.train.lora import add_lora, additions
from a3mini.train.optimizers import optimizer_for
from a3mini.train.recipes import CONFIGURED, Recipe, for_model, read_by
from a3mini.train.resume import WHOLE, as_it_began, held_run, identity, open_run, restore_state, run_id, save_state
from a3mini.train.schedules import schedule_for
from a3mini.train.step import Watch, loss_and_gradient

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
    visits: Tensor | None = None,
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
        visits: int64, one for each row: how often one pass over the text shows it (see ``mixture``); None: once.

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
    recipe = for_model(recipe, model, start)
    few_shapes = config.compile is True or accelerator.device.type == "cuda"
    place = accelerator.process_index, accelerator.num_processes
    batches = Batches(blocks, recipe, config, *place, few_shapes, visits)
    check_rows(blocks, model.config)
    if start is not None and not config.lora_rank:
        raise ValueError(f"start={str(start)!r} is an adapter; set lora_rank to the rank that it has")
    who = identity(model, recipe, blocks, config, evaluate, start, about, visits) if folder or config.lora_rank else {}

    def changed(name: str) -> bool:
        return not config.lora_rank or name.endswith(adapter.ADDED)  # LoRA leaves the source's own weights alone

    with held_run(folder), undone_on_error(model, changed), read_by(recipe, model), Stop() as stop:
        if folder:
            open_run(folder, who, accelerator, command)
        was_trained = [weight for weight in model.parameters() if weight.requires_grad]
        trained, before = model, {}
        if config.lora_rank:
            trained, before = _with_additions(model, config, start, who)
        if config.activation_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        run = _Run(model, trained, recipe, config, accelerator, folder, evaluate)
        run.go_on()
        with torch.random.fork_rng(), run.compiled():  # the caller's random numbers stay as they were
            run.steps(batches, stop, quiet)
        stop.too_late = True
        if config.activation_checkpointing:
            model.gradient_checkpointing_disable()
        if run.average:
            run.average.keep()
        trained = accelerator.unwrap_model(run.model, keep_fp32_wrapper=False)
        if config.lora_rank:
            if folder:
                run.save_adapter(source, who, before)
            trained.merge_and_unload()
            for weight in was_trained:
                weight.requires_grad_(True)
        model.eval()
        return run.metrics


def _with_additions(model: nn.Module, config: TrainConfig, start: str | Path | None, who: dict) -> tuple:
    """The model with new low-rank additions, or those of the adapter ``start``; and what that one's record says."""
    with torch.random.fork_rng():  # the additions start at random
        torch.manual_seed(config.seed)
        trained = add_lora(model, config.lora_rank, config.lora_alpha or 2 * config.lora_rank)
    if start is None:
        return trained, {}
    named = dict(additions(trained.named_parameters()))
    query_start = getattr(model.config, "query_start", None)
    return trained, adapter.go_on_from(start, who["weights"], named, config.lora_scale, query_start)


class _Run:
    """A training under way: what its steps change, and what they write down.

    Args:
        base: the caller's model.
        trained: the same, or what LoRA made of it.
    """

    def __init__(self, base, trained, recipe, config: TrainConfig, accelerator: Accelerator, folder, evaluate):
        self.base, self.recipe, self.config, self.accelerator = base, recipe, config, accelerator
        self.folder, self.evaluate = folder, evaluate
        self.compiled = Compiled(base, config.compile, accelerator.device)
        optimizer = optimizer_for(trained, config, accelerator.device)
        self.model, self.optimizer = accelerator.prepare(trained, optimizer)
        # the schedule counts optimiser steps; accelerate's own wrapper would count processes too
        self.schedule = schedule_for(self.optimizer.optimizer, config)
        self.average = Average(self.model.named_parameters(), config.ema_tokens) if config.ema_tokens else None
        self.watch = Watch(accelerator)
        self.metrics, self.first, self.tokens, self.seconds = [], 0, 0, 0.0

    @property
    def checkpoints(self) -> Path | None:
        return self.folder / "checkpoints" if self.folder else None

    def go_on(self) -> None:
        """From the last checkpoint, if there is one."""
        last = runs.latest_checkpoint(self.checkpoints) if self.folder else None
        if last is None:
            return
        state = restore_state(last, self.model, self.optimizer, self.schedule, self.accelerator, self.average)
        self.first, self.tokens, self.seconds = state
        if self.accelerator.is_main_process:
            runs.cut_metrics(self.folder / "metrics.jsonl", self.first)
        self.accelerator.wait_for_everyone()
        self.metrics = runs.read_metrics(self.folder)

    def steps(self, batches: Batches, stop: Stop, quiet: bool) -> None:
        """The steps that remain."""
        config, accelerator = self.config, self.accelerator
        on_gpu = accelerator.device.type == "cuda"
        workers = config.workers if config.workers >= 0 else WORKERS * on_gpu
        bar = tqdm(
            total=config.steps, initial=self.first, disable=quiet or not accelerator.is_main_process, unit="step"
        )
        self.model.train()
        if self.first == 0 and self.evaluate:
            self.log({"step": 0, "tokens": 0, "seconds": 0.0, **self.evaluated()})
        saved_at, began = time.monotonic(), time.perf_counter()
        for number, step in enumerate(batches.loader(self.first, workers, on_gpu), start=self.first + 1):
            loss, norm = self.loss_and_gradient(number - 1, step)
            self.watch.see(number, loss, norm)
            learning_rate = self.schedule.get_last_lr()[0]
            self.optimizer.step()  # with fp16 a gradient that overflowed is skipped, and the loss scaled down
            self.optimizer.zero_grad()
            self.schedule.step()
            self.tokens += step.tokens
            if self.average:
                self.average.update(step.tokens)
            log_due, eval_due, save_due = (
                (every and number % every == 0) or number == config.steps
                for every in (config.log_every, config.eval_every, config.save_every)
            )
            by_clock = not config.save_every and time.monotonic() - saved_at > SAVE_SECONDS
            if accelerator.num_processes == 1:
                stopped = bool(stop)
            else:  # all must do the same; asking each other takes time, so it is done when they wait in any case
                stopped, by_clock = _any_process(accelerator, stop, by_clock) if log_due or save_due else (False, False)
            saves = self.folder and (save_due or by_clock or stopped)
            if log_due or eval_due or saves or stopped:
                loss, norm = self.checked(loss, norm)
                self.seconds += time.perf_counter() - began
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                if log_due or eval_due:
                    line = {
                        "step": number,
                        "tokens": self.tokens,
                        "loss": loss,
                        "learning_rate": learning_rate,
                        "gradient_norm": norm,
                        "seconds": round(self.seconds, 3),
                    }
                    self.log(line | (self.evaluated() if eval_due else {}))
                if saves:
                    self.save(number)
                    saved_at = time.monotonic()
                began = time.perf_counter()
            if stopped and number < config.steps:
                bar.close()
                saved = f"saved in {self.folder}; the same command goes on from there"
                raise Interrupted(
                    f"stopped after step {number} of {config.steps}: {saved if self.folder else 'nothing is saved'}"
                )
            bar.update()
        bar.close()

    def loss_and_gradient(self, before: int, step: Step) -> tuple[Tensor, Tensor]:
        """Those of a step, ``before`` steps after the first."""
        processes, process = self.accelerator.num_processes, self.accelerator.process_index
        own = (self.config.seed * 1_000_003 + before * processes + process) % 2**63
        inputs = self.model, self.recipe, step, self.config.clip_norm, self.accelerator
        torch.manual_seed(own)  # of dropout
        try:
            return loss_and_gradient(*inputs)
        except Exception as error:
            if not self.compiled.failed(error):
                raise
        self.optimizer.zero_grad()
        torch.manual_seed(own)
        return loss_and_gradient(*inputs)

    def checked(self, loss: Tensor, norm: Tensor) -> tuple[float, float]:
        """The values, after the only wait for the device.

        Raises:
            FloatingPointError: these, or those of a step since the last call, are not finite.
        """
        loss, norm, bad = self.watch.values(loss, norm)
        if bad:
            saved = runs.latest_checkpoint(self.checkpoints) if self.folder else None
            raise FloatingPointError(
                f"the loss of step {bad}, or its gradient, is not finite (now the loss is {loss}, the gradient's norm "
                f"{norm}); the last good checkpoint is {saved or 'none'}. Lower the learning rate "
                f"({self.config.learning_rate}), or train in fp32"
            )
        return loss, norm

    def evaluated(self) -> dict[str, float]:
        if not self.evaluate:
            return {}
        self.model.eval()
        averaged = self.average.swapped() if self.average else nullcontext()
        with torch.no_grad(), averaged, self.accelerator.autocast(), self.compiled.in_evaluation():
            found = self.evaluate(self.accelerator.unwrap_model(self.model))
        self.model.train()
        return found

    def log(self, line: dict) -> None:
        self.metrics.append(line)
        if self.folder and self.accelerator.is_main_process:
            with (self.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")

    def save(self, number: int) -> None:
        state = self.tokens, self.seconds, self.model, self.optimizer, self.schedule, self.accelerator, self.average
        save_state(self.checkpoints, number, *state)

    def save_adapter(self, source: str, who: dict, before: dict) -> None:
        """The additions, with a record of all trainings that they had."""
        config, settings = self.config, self.recipe.settings()
        weights = get_model_state_dict(self.model, options=WHOLE)  # every process takes part
        if self.accelerator.is_main_process:
            done = {"steps": config.steps, "tokens": self.tokens, "seconds": round(self.seconds, 1)}
            done = {key: before.get(key, 0) + value for key, value in done.items()}
            about = {"kind": settings["recipe"], "source": source, "rank": config.lora_rank, **done}
            about["run"] = run_id(who)
            about |= {key: value for key, value in before.items() if key == "empty_token_id"}
            about |= {key: value for key, value in settings.items() if key in CONFIGURED}
            about |= {"query_start": self.base.config.query_start} if hasattr(self.base.config, "query_start") else {}
            named = dict(additions(weights.items()))
            adapter.save(self.folder / "adapter", named, config.lora_scale, who["weights"], about)
        self.accelerator.wait_for_everyone()


def _any_process(accelerator: Accelerator, *flags) -> list[bool]:
    """Whether any process has raised each flag, so that all do the same."""
    flags = torch.tensor([float(bool(flag)) for flag in flags], device=accelerator.device)
    return (accelerator.reduce(flags) > 0).tolist()


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
    if accelerator.distributed_type == DistributedType.FSDP and config.optimizer == "muon":
        raise ValueError("Muon needs whole matrices, and FSDP divides them: use optimizer='adamw', or no FSDP")
    if accelerator.distributed_type == DistributedType.DEEPSPEED:  # its engine owns the step and the checkpoints
        raise ValueError("DeepSpeed is not covered: use FSDP, version 2, which divides the same things among the GPUs")
    return accelerator
