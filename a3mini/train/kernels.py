"""Which attention kernel is the fastest here? Measured on the machine that will train, not guessed.

All kernels compute the same (``attention``, ``flex``). Which of them is fast depends on the device, the length and the
groups, so two layers of the model's shape are trained for a moment with each::

    "sdpa"             PyTorch's fused attention with a mask
    "sdpa, causal"     the same without one, where every text of a batch is generated token by token
    "flex_attention"   leaves out the blocks of the mask in which nothing may be seen

The first two are one switch of the model, which takes the second where it can. ``devices.plan`` takes what is found.
"""

import torch
from torch.utils.benchmark import Timer
from transformers import LlamaConfig

from a3mini import flat, flex
from a3mini.attention import Causal
from a3mini.model import A3Config, A3ForCausalLM
from a3mini.train.compiling import Compiled
from a3mini.train.data import Blocks
from a3mini.train.recipes import AnyOrder

MASKED, CAUSAL = "sdpa", "sdpa, causal"
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
LAYERS, VOCABULARY = 2, 256  # in the last layer content rows stop at their keys and values, in the first they do not


def measure(
    config: LlamaConfig,
    recipe: AnyOrder,
    rows: Blocks,
    device: str | torch.device = "cpu",
    precision: str = "fp32",
    compile: bool | str = "auto",
    progress: float = 0.9,
    seconds: float = 0.3,
) -> dict[str, float]:
    """Seconds of a forward and backward pass through two layers, the median, for each kernel that trains here.

    Args:
        config: of the model, whose layers are measured; how many it has, and its vocabulary, do not matter.
        recipe: says which groups a step sees.
        rows: of one step, or a part of it.
        device: where to measure.
        precision, compile: as of ``TrainConfig``.
        progress: in [0, 1), at which moment of the training.
        seconds: how long each kernel is tried, once it is compiled.

    Returns:
        kernel to seconds; see the top of this file.
    """
    device, dtype = torch.device(device), DTYPES.get(precision)
    shape = {"num_hidden_layers": LAYERS, "vocab_size": VOCABULARY, "no_rope_layers": None}
    model = A3ForCausalLM(A3Config.from_dict(config.to_dict() | shape)).to(device).train()
    unit = -(-rows.input_ids.numel() // flat.LEVELS) if device.type == "cuda" else 0
    rows = rows._replace(input_ids=rows.input_ids % VOCABULARY)
    batch = recipe.batch(rows, progress, torch.arange(len(rows.input_ids)), 0, unit).inputs["plan"]
    batch = batch._replace(**{name: part.to(device) for name, part in batch._asdict().items() if torch.is_tensor(part)})
    kernels = [MASKED]
    if batch.causal and Causal.runs(device, dtype or model.dtype):
        kernels.append(CAUSAL)
    try:
        flex.check(device, True, config.attention_dropout)
        kernels.append(flex.KERNEL)
    except ValueError:  # it cannot be trained here
        pass

    found = {}
    for name in kernels:
        model.set_attn_implementation(switch(name))
        own = batch._replace(causal=name == CAUSAL)

        def step(own=own) -> None:
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                loss = model(plan=own).loss
            loss.backward()
            model.zero_grad()

        with Compiled(model, compile, device)():
            step()
            timer = Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads())
            found[name] = timer.blocked_autorange(min_run_time=seconds).median
    return found


def switch(kernel: str) -> str:
    """What ``model.set_attn_implementation`` takes for a kernel of ``measure``."""
    return MASKED if kernel == CAUSAL else kernel


def fastest(measured: dict[str, float]) -> str:
    """The switch for the fastest kernel of ``measure``."""
    return switch(min(measured, key=measured.get))
