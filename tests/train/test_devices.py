"""devices.py: what follows from a device is a pure function, tried here for devices that are not here."""

import itertools

import pytest
import torch
from faked_devices import DEVICES
from laws import tiny_config

from a3mini import pretrained
from a3mini.train import devices, memory
from a3mini.train.devices import MODELS

LARGE, MIDDLE, SMOLLM = MODELS


@pytest.mark.parametrize(
    ("name", "precision", "model"),
    [
        ("T4", "fp16", MIDDLE),
        ("L4", "bf16", MIDDLE),
        ("A100", "bf16", LARGE),
        ("H100", "bf16", LARGE),
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
    assert devices.offer(t4._replace(memory=3 * t4.memory)) == LARGE
    assert devices.offer(DEVICES["H100"]._replace(memory=10 * 10**9)) == SMOLLM
    assert devices.offer(DEVICES["MPS"]._replace(memory=60 * 10**9)) == LARGE
    assert devices.offer(DEVICES["CPU"]._replace(memory=10**12)) == SMOLLM  # there time is short, not memory
    assert devices.offer(t4._replace(name="NVIDIA H100")) == MIDDLE


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
    """The 1.7B model: too large for all weights but on an H100; on a T4 and an L4 layers are computed twice."""
    plans = {name: devices.plan(DEVICES[name], MODELS[LARGE], 32, 512) for name in ("T4", "L4", "A100", "H100")}
    assert {name: plan.trainable for name, plan in plans.items()} == {
        "T4": "lora",
        "L4": "lora",
        "A100": "lora",
        "H100": "full",
    }
    assert [name for name, plan in plans.items() if plan.activation_checkpointing] == ["T4", "L4"]
    assert devices.plan(DEVICES["H100"], MODELS[LARGE], 32, 512, trainable="lora").trainable == "lora"
    assert {name: devices.plan(DEVICES[name], MODELS[MIDDLE], 32, 512).trainable for name in plans} == {
        "T4": "lora",
        "L4": "full",
        "A100": "full",
        "H100": "full",
    }
    assert {devices.plan(DEVICES[name], MODELS[SMOLLM], 32, 256).trainable for name in DEVICES} == {"full"}


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
    said = r"one row of 512 tokens needs .* GB.*2\.0 GB of Tesla T4.*"
    with pytest.raises(ValueError, match=f"{said}what would fit: {SMOLLM} with LoRA"):
        devices.plan(tiny_gpu, MODELS[LARGE], 8, 512)
    long = DEVICES["T4"]._replace(memory=10 * 10**9)
    with pytest.raises(ValueError, match=f"what would fit: rows of 512 tokens, or {MIDDLE} with LoRA$") as caught:
        devices.plan(long, MODELS[LARGE], 8, 1024)
    assert "\n" not in str(caught.value)
    devices.plan(long, MODELS[LARGE], 8, 512), devices.plan(long, MODELS[MIDDLE], 8, 1024)  # what it said
    with pytest.raises(ValueError, match="a smaller model or a larger device is needed"):
        devices.plan(tiny_gpu._replace(memory=10**8), MODELS[SMOLLM], 8, 512)
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
    assert 1.71e9 < memory.count(MODELS[LARGE]).all < 1.72e9
    assert 361e6 < memory.count(MODELS[MIDDLE]).all < 363e6


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("model", MODELS)
def test_an_evaluation_fits_beside_the_training(name, model):
    """Weights, optimiser, and two arrays of logits in float32, which is more than a pass without gradients makes."""
    device, config = DEVICES[name], MODELS[model]
    plan = devices.plan(device, config, 64, 512)
    rows = plan.evaluation_batch_size
    assert 1 <= rows <= devices.MEASURED
    logits = 2 * rows * 512 * config.vocab_size * 4
    assert plan.estimate.fixed + logits <= devices.USABLE * device.memory
    assert rows == devices.evaluation_rows(device, config, 512, plan.trainable)


def test_more_memory_never_means_smaller_evaluations():
    sizes = [
        devices.evaluation_rows(DEVICES["L4"]._replace(memory=size * 10**9), MODELS[MIDDLE], 512)
        for size in range(2, 40, 2)
    ]
    assert sizes == sorted(sizes) and sizes[0] == 0 and sizes[-1] == devices.MEASURED and len(set(sizes)) > 3
