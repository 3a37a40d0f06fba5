"""devices.py: what follows from a device is a pure function, tried here for devices that are not here."""

import itertools

import pytest
import torch
from laws import tiny_config

from a3mini import pretrained
from a3mini.train import devices, memory
from a3mini.train.devices import MODELS, Device

LLAMA, SMOLLM = MODELS
# kind, memory and capability as PyTorch reports them
DEVICES = {
    "T4": Device("cuda", "Tesla T4", 15_835_660_288, (7, 5)),
    "L4": Device("cuda", "NVIDIA L4", 23_580_639_232, (8, 9)),
    "A100": Device("cuda", "NVIDIA A100-SXM4-40GB", 42_298_834_944, (8, 0)),
    "H100": Device("cuda", "NVIDIA H100 80GB HBM3", 85_017_493_504, (9, 0)),
    "MPS": Device("mps", "Apple GPU", 11_453_251_584),
    "CPU": Device("cpu", "CPU", 13_000_000_000, native_bf16=True),
    "old CPU": Device("cpu", "CPU", 13_000_000_000),
}


@pytest.mark.parametrize(
    ("name", "precision", "model"),
    [
        ("T4", "fp16", SMOLLM),
        ("L4", "bf16", LLAMA),
        ("A100", "bf16", LLAMA),
        ("H100", "bf16", LLAMA),
        ("MPS", "fp32", SMOLLM),
        ("CPU", "bf16", SMOLLM),
        ("old CPU", "fp32", SMOLLM),
    ],
)
def test_precision_and_model(name, precision, model):
    device = DEVICES[name]
    assert devices.offer(device) == model
    assert devices.plan(device, MODELS[model], 32, 256).precision == precision


def test_the_offer_follows_from_memory_and_not_from_a_name():
    t4 = DEVICES["T4"]
    assert devices.offer(t4._replace(memory=3 * t4.memory)) == LLAMA
    assert devices.offer(DEVICES["H100"]._replace(memory=12 * 10**9)) == SMOLLM
    assert devices.offer(DEVICES["MPS"]._replace(memory=60 * 10**9)) == LLAMA
    assert devices.offer(DEVICES["CPU"]._replace(memory=10**12)) == SMOLLM  # there time is short, not memory
    assert devices.offer(t4._replace(name="NVIDIA H100")) == SMOLLM


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("batch_size", [1, 6, 32, 64])
def test_a_plan_computes_the_step_and_fits(name, model, batch_size):
    device = DEVICES[name]
    plan = devices.plan(device, MODELS[model], batch_size, 256)
    assert plan.micro_batch_size * plan.accumulation == batch_size
    assert plan.estimate.total <= devices.USABLE * device.memory
    again = memory.estimate(
        MODELS[model],
        plan.micro_batch_size,
        256,
        1.0,
        plan.precision,
        plan.trainable,
        checkpointing=plan.activation_checkpointing,
        kernel=plan.kernel,
        device="cpu" if device.kind == "cpu" else "cuda",
    )
    assert again == plan.estimate
    assert set(plan.settings()) == {"precision", "micro_batch_size", "activation_checkpointing"}


def test_what_is_trained_follows_from_memory():
    """The 1B model: too large for all weights on an L4, not on an A100; on a T4 layers are computed twice."""
    plans = {name: devices.plan(DEVICES[name], MODELS[LLAMA], 32, 512) for name in ("T4", "L4", "A100", "H100")}
    assert {name: plan.trainable for name, plan in plans.items()} == {
        "T4": "lora",
        "L4": "lora",
        "A100": "full",
        "H100": "full",
    }
    assert [name for name, plan in plans.items() if plan.activation_checkpointing] == ["T4"]
    assert plans["A100"].micro_batch_size < plans["H100"].micro_batch_size
    assert devices.plan(DEVICES["A100"], MODELS[LLAMA], 32, 512, trainable="lora").trainable == "lora"


def test_more_memory_never_means_smaller_microbatches():
    sizes = []
    for size in range(4, 80, 4):
        device = DEVICES["H100"]._replace(memory=size * 10**9)
        sizes.append(devices.plan(device, MODELS[SMOLLM], 32, 512, trainable="lora"))
    for smaller, larger in itertools.pairwise(sizes):
        if smaller.activation_checkpointing == larger.activation_checkpointing:
            assert smaller.micro_batch_size <= larger.micro_batch_size
        assert smaller.activation_checkpointing >= larger.activation_checkpointing
    assert sizes[0].micro_batch_size < sizes[-1].micro_batch_size == 32


def test_a_plan_that_cannot_be_is_said():
    tiny_gpu = DEVICES["T4"]._replace(memory=2 * 10**9)
    with pytest.raises(ValueError, match=r"one row of 512 tokens needs .* GB.*2\.0 GB of Tesla T4.*smaller model"):
        devices.plan(tiny_gpu, MODELS[LLAMA], 8, 512)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        devices.plan(tiny_gpu, MODELS[SMOLLM], 0, 512)
    with pytest.raises(ValueError, match="trainable must be one of full, lora, or None; got 'some'"):
        devices.plan(tiny_gpu, MODELS[SMOLLM], 8, 512, trainable="some")


def test_the_kernel_follows_from_the_length_and_the_device():
    for name in ("A100", "L4", "H100"):
        assert devices.best_kernel(DEVICES[name], MODELS[SMOLLM], 256) == "sdpa"
        assert devices.best_kernel(DEVICES[name], MODELS[SMOLLM], 8192) == "flex_attention"
    for name in ("T4", "MPS", "CPU"):
        assert devices.best_kernel(DEVICES[name], MODELS[SMOLLM], 8192) == "sdpa"


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("native", [True, False])
def test_this_machine(native, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native, raising=False)
    device = devices.this()
    assert device.kind == "cpu" and device.native_bf16 == native and device.memory > 10**8
    assert devices.plan(device, tiny_config(), 4, 16).precision == ("bf16" if native else "fp32")
    assert "CPU" in str(device)


def test_this_machine_with_a_gpu(monkeypatch):
    """What PyTorch says of a GPU arrives in the description."""
    found = type("Properties", (), {"name": "Tesla T4", "total_memory": 15_835_660_288, "major": 7, "minor": 5})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: found)
    assert devices.this() == DEVICES["T4"]


def test_the_smallest_offer_is_the_small_model():
    assert SMOLLM == pretrained.HUB_MODEL
    assert 134e6 < memory.count(MODELS[SMOLLM]).all < 136e6
    assert 1.23e9 < memory.count(MODELS[LLAMA]).all < 1.24e9
