"""step.py: a step on the device waits for no value, whatever the recipe; what is not finite is found all the same."""

import contextlib

import pytest
import torch
from accelerate import Accelerator
from torch.utils._python_dispatch import TorchDispatchMode
from training_run import CONFIG, SHAPE, small_blocks, small_model
from transformers import LlamaConfig, LlamaForCausalLM

from a3mini import flat, from_autoregressive, rows
from a3mini.train import (
    AnyOrder,
    Autoregressive,
    Curriculum,
    MaskedDiffusion,
    MaskedDiffusionModel,
    TrainConfig,
    add_lora,
    recipes,
)
from a3mini.train.batches import Batches
from a3mini.train.step import Watch, loss_and_gradient

BLOCKS = small_blocks()
# Operations that need a value on the host, or whose result has a shape that depends on values.
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "item", "unique", "is_nonzero", "equal", "bincount",
         "repeat_interleave.Tensor", "allclose")  # fmt: skip


class Waits(TorchDispatchMode):
    """Counts the operations for which a GPU would wait for its host, or the host for it."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = str(function).removeprefix("aten.")
        masks = [a for a in torch.utils._pytree.tree_leaves(arguments) if isinstance(a, torch.Tensor)][1:]
        by_mask = name.startswith(("index.", "index_put")) and any(mask.dtype == torch.bool for mask in masks)
        if by_mask or any(name.startswith(wait) for wait in WAITS):
            self.seen.append(name)
        return function(*arguments, **(keywords or {}))


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SHAPE))


SPANS = Curriculum.preset("spans")
KINDS = {
    "any order": lambda: (small_model(), AnyOrder(SPANS)),
    "known tokens in order, from the token before": lambda: (
        from_autoregressive(llama(), query_start="previous"), AnyOrder(SPANS, "left_to_right")
    ),
    "LoRA": lambda: (add_lora(small_model(), 2, 4), AnyOrder(SPANS)),
    "autoregression": lambda: (llama(), Autoregressive()),
    "masked diffusion": lambda: (MaskedDiffusionModel.from_autoregressive(llama()), MaskedDiffusion()),
}  # fmt: skip


def waits_in_a_step(kind: str, number: int = 9, **settings) -> list[str]:
    """Of forward pass, backward pass, clipping, watch and optimiser; what the recipe made ahead is not in it."""
    model, recipe = KINDS[kind]()
    model.train()
    accelerator = Accelerator(cpu=True)
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], fused=True)
    model, optimizer = accelerator.prepare(model, optimizer)
    batches = Batches(BLOCKS, recipe, TrainConfig(**{**CONFIG, **settings}))
    watch = Watch(accelerator)
    for step in (batches[0], batches[number]):
        with Waits() if step is not None else contextlib.nullcontext() as watched:
            loss, norm = loss_and_gradient(model, recipe, step, 1.0, accelerator)
            watch.see(1, loss, norm)
            optimizer.step()
            optimizer.zero_grad()
    assert loss.isfinite() and norm > 0
    return watched.seen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"micro_batch_size": 2}, {"batch_tokens": 60}], ids=str)
def test_a_step_waits_for_nothing(kind, settings):
    assert waits_in_a_step(kind, **settings) == []


def mutate_loss(monkeypatch):
    """The loss is looked at."""
    right = AnyOrder.log_probs
    monkeypatch.setattr(AnyOrder, "log_probs", lambda *a: right(*a) * (1 if float(right(*a).sum()) < 9 else 2))


def mutate_labels(monkeypatch):
    """Ignored labels are left out by a mask instead of put aside."""
    import a3mini.head

    def log_probs(hidden, head, labels):
        inside = labels != rows.IGNORED_LABEL
        return hidden.new_zeros(len(labels)).index_put((inside,), head(hidden[inside], labels[inside]))

    monkeypatch.setattr(a3mini.head, "log_probs", log_probs)


def mutate_plan(monkeypatch):
    """The plan is made in the step."""

    def log_probs(self, model, inputs):
        flat.plan(BLOCKS.input_ids, BLOCKS.input_ids.clamp(max=3), BLOCKS.input_ids)
        return model(**inputs).log_probs

    monkeypatch.setattr(AnyOrder, "log_probs", log_probs)


@pytest.mark.parametrize("mutate", [mutate_loss, mutate_labels, mutate_plan])
def test_a_value_that_is_asked_for_is_counted(mutate, monkeypatch):
    mutate(monkeypatch)
    assert waits_in_a_step("any order")


def test_shifted_log_probabilities_wait_for_nothing():
    with Waits() as watched:
        recipes.shifted_log_probs(torch.randn(2, 5, 7), torch.randint(7, (2, 5)))
    assert watched.seen == []


# The watch


class NoScaler:
    scaler, device = None, torch.device("cpu")


class Scaler(NoScaler):
    scaler = object()


GOOD, BAD = torch.tensor(1.0), torch.tensor(float("nan"))


@pytest.mark.parametrize(
    ("seen", "accelerator", "first"),
    [
        ([(GOOD, GOOD), (GOOD, GOOD)], NoScaler, 0),
        ([(GOOD, GOOD), (BAD, GOOD), (BAD, BAD)], NoScaler, 2),
        ([(GOOD, BAD), (GOOD, GOOD)], NoScaler, 1),
        ([(GOOD, BAD), (GOOD, GOOD)], Scaler, 0),  # fp16: the gradient overflowed, and the step is left out
        ([(GOOD, BAD), (BAD, GOOD)], Scaler, 2),
        ([(torch.tensor(float("inf")), GOOD)], NoScaler, 1),
    ],
)
def test_the_watch_names_the_first_bad_step(seen, accelerator, first):
    watch = Watch(accelerator())
    with Waits() as watched:
        for number, (loss, norm) in enumerate(seen, start=1):
            watch.see(number, loss, norm)
    assert watched.seen == []
    assert watch.values(GOOD, GOOD) == (1.0, 1.0, first)
