"""kernels.py: which kernels there are for a step, each really run; and what a plan makes of the times."""

import pytest
import torch
from laws import tiny_config
from transformers import LlamaConfig

from a3mini import attention, flex
from a3mini.train import AnyOrder, Blocks, Curriculum, devices, kernels

CONFIG = LlamaConfig(
    vocab_size=300, hidden_size=16, intermediate_size=24, num_hidden_layers=5, num_attention_heads=2,
    num_key_value_heads=1,
)  # fmt: skip
ROWS = Blocks(
    torch.randint(300, (4, 12), generator=torch.Generator().manual_seed(0)),
    torch.tensor([12, 12, 9, 12]), torch.arange(4), torch.zeros(4, 12) > 0,
)  # fmt: skip
H100 = devices.Device("cuda", "H100", 85_000_000_000, (9, 0))


@pytest.mark.parametrize(("preset", "progress", "names"), [
    ("paper", 0.01, {"sdpa", "sdpa, causal"}), ("spans", 0.9, {"sdpa"}),
])  # fmt: skip
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_each_kernel_that_fits_the_groups_is_run(preset, progress, names, precision, monkeypatch):
    called = []
    for name, kernel in (("sdpa", "_fused"), ("sdpa, causal", "_causal")):
        right = getattr(attention, kernel)

        def spy(*arguments, name=name, right=right):
            called.append((name, torch.is_autocast_enabled("cpu")))
            return right(*arguments)

        monkeypatch.setattr(attention, kernel, spy)
    recipe = AnyOrder(Curriculum.preset(preset))
    found = kernels.measure(CONFIG, recipe, ROWS, precision=precision, progress=progress, seconds=0.001)
    assert set(found) == names and all(0 < seconds < 60 for seconds in found.values())
    assert {name for name, _ in called} == names
    assert {lower for _, lower in called} == {precision == "bf16"}
    assert (CONFIG.num_hidden_layers, CONFIG.vocab_size) == (5, 300), "the model's config stays as it is"


def test_the_fastest_is_taken():
    config = tiny_config()
    for measured, kernel in (
        ({"sdpa": 2.0, flex.KERNEL: 1.0}, flex.KERNEL),
        ({"sdpa": 1.0, flex.KERNEL: 2.0}, "sdpa"),
        ({"sdpa": 3.0, "sdpa, causal": 1.0, flex.KERNEL: 2.0}, "sdpa"),
        ({"sdpa": 1.0}, "sdpa"),
    ):
        assert kernels.fastest(measured) == kernel
        for length in (64, 8192):
            plan = devices.plan(H100, config, 4, length, measured=measured)
            assert plan.kernel == kernel
    by_memory = [
        devices.plan(H100, config, 4, 8192, measured={kernel: 1.0}).estimate for kernel in ("sdpa", flex.KERNEL)
    ]
    assert by_memory[0].activations > by_memory[1].activations, "the estimate is that of the kernel"
    assert devices.plan(H100, config, 4, 8192).kernel == flex.KERNEL, "without times, by memory"
