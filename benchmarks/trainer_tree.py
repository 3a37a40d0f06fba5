"""The training step of the tree of this repository that stands first on the path, for ``trainer.py``; see there.

It reads a line of JSON, [method, arguments], and answers with a line. So it runs with a tree from before a change too.
"""

import gc
import json
import os
import sys
import time
from collections import Counter
from itertools import islice

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

import a3mini
from a3mini import A3Config, A3ForCausalLM, from_autoregressive, train
from a3mini.train import Curriculum, add_lora, devices, memory
from a3mini.train.curriculum import PRESETS, Stage
from a3mini.train.data import Blocks, Order

try:
    from a3mini.train.batches import Batches
    from a3mini.train.compiling import Compiled
    from a3mini.train.config import WORKERS
    from a3mini.train.step import Watch, loss_and_gradient
except ModuleNotFoundError:  # the loop as it was: it drew a step when it was due
    from a3mini.train.loop import draw_batches, loss_and_gradient

    Batches = Watch = None

RANK = 16
CYCLE = 3  # steps whose time is measured over and over on a GPU, so that all their shapes are compiled
PEAK = 989e12  # bf16 operations a second that an H100's or H200's data sheet promises
RIVALS = {"autoregression": train.Autoregressive, "masked diffusion": train.MaskedDiffusion}
READS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_consecutive", "unique_dim"}
BY_MASK = {"index", "index_put", "index_put_", "_index_put_impl_"}  # they wait if an index is a mask
READS_OF_PYTHON = {"tolist", "numpy"}


class Waits(TorchDispatchMode):
    """Counts the operations whose result, or its shape, the host must know before it goes on."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.overloadpacket.__name__
        if name in READS or (name in BY_MASK and _by_mask(arguments[1])):
            self.found[name] += 1
        elif name == "repeat_interleave" and (keywords or {}).get("output_size") is None:
            self.found[name] += 1
        return function(*arguments, **(keywords or {}))


class ReadsOfPython(TorchFunctionMode):
    """The same for what a CPU answers without an operation of PyTorch's."""

    def __init__(self, found: Counter):
        super().__init__()
        self.found = found

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        name = getattr(function, "__name__", "")
        if name in READS_OF_PYTHON:
            self.found[name] += 1
        return function(*arguments, **(keywords or {}))


def _by_mask(index: list[Tensor | None]) -> bool:
    return any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in index)


class _Enough(Exception):
    """What the layers would compute is known."""


class Trainer:
    """A model with what trains it, as the loop has it.

    Args:
        shape: of a Llama.
        recipe: "autoregression", "masked diffusion", a preset's name, or [a preset's name, the number of its stage].
        blocks: the training rows.
        lora: train additions of rank ``RANK``.
        fused: the optimiser that a GPU gets.
        kernel: of attention.
        settings: of ``TrainConfig``.
    """

    def __init__(self, shape: dict, recipe, blocks: Blocks, lora: bool, fused: bool, kernel: str = "", **settings):
        torch.manual_seed(0)
        self.config = train.TrainConfig(steps=1000, **settings)
        source = LlamaForCausalLM(LlamaConfig(**shape))
        self.recipe = made_recipe(recipe)
        if recipe == "masked diffusion":
            model = train.MaskedDiffusionModel.from_autoregressive(source)
        else:
            model = source if recipe == "autoregression" else from_autoregressive(source, query_start="previous")
        if kernel:
            model.set_attn_implementation(kernel)
        self.base = model
        model = (add_lora(model, RANK, 2 * RANK) if lora else model).train()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        capability = torch.cuda.get_device_capability() if device == "cuda" else (0, 0)
        self.precision = devices.best_precision(device, capability, devices.native_bf16())
        self.accelerator = Accelerator(mixed_precision={"fp32": "no"}.get(self.precision, self.precision))
        optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-4, fused=fused)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.made = made_ahead(blocks, self.recipe, self.config)
        self.watch = Watch and Watch(self.accelerator)
        self.number = 0

    def compute(self, made) -> None:
        found = loss_and_gradient(self.model, self.recipe, made, self.config.clip_norm, self.accelerator)
        if self.watch:
            self.watch.see(self.number + 1, *found)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.number += 1

    def step(self) -> None:
        """With the making of what it computes, as on a CPU, where nobody makes it ahead."""
        self.compute(self.made(self.number))


def made_recipe(recipe):
    if isinstance(recipe, list):
        name, number = recipe
        return train.AnyOrder(Curriculum((PRESETS[name][number],)), "left_to_right")
    return RIVALS[recipe]() if recipe in RIVALS else train.AnyOrder(Curriculum.preset(recipe), "left_to_right")


def made_ahead(blocks: Blocks, recipe, config, few_shapes: bool = False):
    """A function from the number of a step to what ``loss_and_gradient`` gets."""
    if Batches:
        return Batches(blocks, recipe, config, few_shapes=few_shapes).__getitem__
    order = Order(len(blocks.input_ids), config.seed)
    return lambda number: draw_batches(blocks, order, recipe, number, config, [slice(0, config.batch_size)])[1]


class Answers:
    """What can be asked for."""

    def __init__(self):
        self.trainer = None

    def where(self) -> str:
        return os.path.dirname(a3mini.__file__)

    def count(self, rows: str, presets: list[str], settings: dict, settled: bool, steps: int) -> dict:
        """Of runs over ``steps`` steps: real and computed rows of every stage, and each run's distinct shapes."""
        blocks, found = Blocks(**load_file(rows)), {}
        shape = dict(hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1, head_dim=4,
                     num_key_value_heads=1, vocab_size=int(blocks.input_ids.max()) + 1)  # fmt: skip
        model = A3ForCausalLM(A3Config(**shape, max_position_embeddings=blocks.input_ids.shape[1]))
        seen = look(model, stop=True)
        config = train.TrainConfig(steps=steps, **settings)
        for preset in presets:
            recipe, shapes, stages = made_recipe(preset), set(), {}
            made = made_ahead(blocks, recipe, config, settled)
            for number in range(steps):
                stage: Stage = recipe.curriculum.stage_at(number / steps)[0]
                rows_of = stages.setdefault(stage.name, [0, 0])
                step = made(number)
                for batch in parts(step):
                    try:
                        recipe.log_probs(model, batch.inputs)
                    except _Enough:
                        pass
                    content, both = seen.pop()
                    shapes.add(batch.inputs["plan"].shape if Batches else (content, both))
                    rows_of[0] += needed(batch.inputs)
                    rows_of[1] += both.numel()
            found[preset] = {"shapes": len(shapes), "stages": stages}
        return found

    def waits(self, shape: dict, rows: str, recipe, settings: dict) -> dict[str, int]:
        """How often a step on the device must wait for a value, by operation; what it computes is there already."""
        trainer = Trainer(shape, recipe, Blocks(**load_file(rows)), False, True, **settings)
        trainer.step()  # the optimiser's state is made
        made = trainer.made(trainer.number)
        with Waits() as waits, ReadsOfPython(waits.found):
            trainer.compute(made)
        return dict(waits.found)

    def begin(self, shape: dict, rows: str, recipe, lora: bool, settings: dict, threads: int) -> dict:
        """Make a trainer, and some of its steps: the first makes what stays, three more say what memory they take."""
        torch.set_num_threads(threads)
        self.trainer = None  # so that the one before is gone
        self.trainer = Trainer(shape, recipe, Blocks(**load_file(rows)), lora, False, **settings)
        self.trainer.step()
        added = memory.added(lambda: [self.trainer.step() for _ in range(3)], self.trainer.accelerator.device)
        return {"precision": self.trainer.precision, "added": added}

    def step(self) -> float:
        """Seconds of the next step."""
        began = time.perf_counter()
        self.trainer.step()
        return time.perf_counter() - began

    def profile(self, shape: dict, rows: str, recipe, lora: bool, settings: dict, kernel: str, seconds: float) -> dict:
        """Speed, memory and kernels of a step on this device, over ``seconds`` of steps; or what went wrong, a line."""
        try:
            return profiled(shape, Blocks(**load_file(rows)), recipe, lora, settings, kernel, seconds)
        except Exception as error:  # one that fails must not cost the others
            return {"failed": f"{type(error).__name__}: {str(error)[:600]}"}
        finally:
            gc.collect()
            torch.compiler.reset()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def profiled(shape: dict, blocks: Blocks, recipe, lora: bool, settings: dict, kernel: str, seconds: float) -> dict:
    """As ``Answers.profile``.

    Steps that another process makes ahead are made before, and seen in turn; the loop as it was draws each step.
    """
    on_gpu = torch.cuda.is_available()
    began = time.perf_counter()
    trainer = Trainer(shape, recipe, blocks, lora, Batches is not None and on_gpu, kernel, **settings)
    if Batches:
        settled = on_gpu or trainer.config.compile is True
        batches = Batches(blocks, trainer.recipe, trainer.config, few_shapes=settled)
        made = list(islice(batches.loader(0, WORKERS * on_gpu, on_gpu), CYCLE))
        compiled = Compiled(trainer.base, trainer.config.compile, trainer.accelerator.device)
        around = compiled()
        around.__enter__()
    seen, real, predicted, steps = look(trainer.base), 0, 0, 0
    clock = time.perf_counter()
    batches.__getitem__(CYCLE) if Batches else trainer.made(CYCLE)
    making = time.perf_counter() - clock

    def step() -> None:
        nonlocal real, predicted, steps
        now = made[steps % CYCLE] if Batches else trainer.made(steps)
        trainer.compute(now)
        real += sum(needed(batch.inputs) for batch in parts(now))
        predicted += sum(batch.count for batch in parts(now))
        steps += 1

    def wait() -> None:
        if on_gpu:
            torch.cuda.synchronize()

    try:
        for _ in range(2 * CYCLE):
            step()
        wait()
        warm = time.perf_counter() - began
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        seen.clear()
        real = predicted = steps = 0
        clock = time.perf_counter()
        while time.perf_counter() - clock < seconds or steps < CYCLE:
            for _ in range(CYCLE):
                step()
            wait()
        spent = time.perf_counter() - clock
        share = real / sum(both.numel() for _, both in seen)
        found = {"seconds_per_step": round(spent / steps, 4), "tokens_per_second": round(predicted / spent),
                 "real_rows": round(share, 4), "making_seconds": round(making, 4),
                 "warm_up_seconds": round(warm, 1), "precision": trainer.precision}  # fmt: skip
        body = sum(
            w.numel() for name, w in trainer.base.named_parameters() if ".layers." in name and "lora" not in name
        )
        vocabulary = shape["vocab_size"] * shape["hidden_size"]
        operations = (4 if lora else 6) * (body * real + vocabulary * predicted)  # a weight that stays has no gradient
        found["share_of_peak"] = round(operations / spent / PEAK, 4)
        if Batches:
            found["compiled"] = compiled.on
        if on_gpu:
            found["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu) as watched:
            step()
            wait()
    finally:
        if Batches:
            around.__exit__(None, None, None)
    events = watched.events()
    kernels = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    found["kernels"] = len(kernels)
    found["busy_seconds"] = round(sum(event.self_device_time_total for event in kernels) / 1e6, 4)
    found["waits"] = sum(event.name == "cudaStreamSynchronize" for event in events)
    found["value_reads"] = sum(event.name == "aten::_local_scalar_dense" for event in events)
    longest = Counter()
    for event in kernels:
        longest[event.name[:90]] += event.self_device_time_total / 1e3
    found["longest_kernels_ms"] = {name: round(ms, 2) for name, ms in longest.most_common(12)}
    return found


def look(model: A3ForCausalLM, stop: bool = False) -> list:
    """A list into which the model writes the shapes of the content rows and of all rows that enter its layers."""
    seen = []

    def note(module, arguments, keywords):
        seen.append((keywords["content_ids"].shape, keywords["positions"].shape))
        if stop:
            raise _Enough

    model.model.register_forward_pre_hook(note, with_kwargs=True)
    return seen


def parts(step) -> list:
    """The microbatches of a step."""
    return step.batches if Batches else step


def needed(inputs: dict) -> int:
    """Rows of either stream that a predicted token needs: its own, and those of what is given or predicted before."""
    if "plan" in inputs:
        return int(inputs["plan"].real)
    group_ids, counted = inputs["group_ids"], inputs["labels"] != -100
    counted = counted & (group_ids > 0)
    last = group_ids.masked_fill(~counted, 0).amax(-1, keepdim=True)
    return int(counted.sum()) + int(((group_ids >= 0) & (group_ids < last)).sum())


def main() -> None:
    answers, out = Answers(), sys.stdout
    sys.stdout = sys.stderr  # what a library prints is no answer
    for line in sys.stdin:
        method, arguments = json.loads(line)
        print(json.dumps(getattr(answers, method)(*arguments)), file=out, flush=True)


if __name__ == "__main__":
    main()
