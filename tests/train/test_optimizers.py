"""optimizers.py: which weights get what; Muon against PyTorch's and against singular values."""

from contextlib import contextmanager

import pytest
import torch
from laws import same
from torch import Tensor
from training_run import small_model

from a3mini.train import TrainConfig, add_lora, optimizers

CPU = torch.device("cpu")
PROJECTIONS = {*(f"{letter}_proj" for letter in "qkvo"), "gate_proj", "up_proj", "down_proj"}


def groups_of(model, **changes) -> list[dict]:
    return optimizers.optimizer_for(model, TrainConfig(**changes), CPU).param_groups


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_weight_decay_is_off_for_norms_embeddings_and_vectors(optimizer):
    model = small_model(attention_bias=True)
    matrices, plain, *layers = groups_of(model, optimizer=optimizer)
    names = {id(weight): name for name, weight in model.named_parameters()}
    decayed = [weight for group in (matrices, *layers) for weight in group["params"]]
    assert plain["weight_decay"] == 0.0 and {group["weight_decay"] for group in (matrices, *layers)} == {0.1}
    assert {names[id(weight)].split(".")[-2] for weight in decayed} == {*PROJECTIONS, "lm_head"}
    assert all(names[id(weight)].endswith("weight") for weight in decayed)
    assert {names[id(weight)].split(".")[-1] for weight in plain["params"]} == {"weight", "bias", "query_embedding"}
    assert len(decayed) + len(plain["params"]) == len(names)
    tied = small_model(tie_word_embeddings=True)
    assert not any(weight is tied.lm_head.weight for group in groups_of(tied)[::2] for weight in group["params"])


def test_muon_gets_the_matrices_of_the_layers_alone():
    model = small_model(attention_bias=True)
    matrices, plain, layers = groups_of(model, optimizer="muon")
    assert layers["muon"] and not matrices.get("muon") and not plain.get("muon")
    names = {id(weight): name for name, weight in model.named_parameters()}
    assert {names[id(weight)].split(".")[-2] for weight in layers["params"]} == PROJECTIONS
    assert [names[id(weight)] for weight in matrices["params"]] == ["lm_head.weight"]


def test_lora_has_no_muon():
    with pytest.raises(ValueError, match="lora_rank=4 use optimizer='adamw'"):
        TrainConfig(optimizer="muon", lora_rank=4)
    with pytest.raises(ValueError, match="one of adamw, muon; got 'sgd'"):
        TrainConfig(optimizer="sgd")
    assert not any(group.get("muon") for group in groups_of(add_lora(small_model(), 2, 4), lora_rank=2))


@pytest.mark.parametrize("shape", [(8, 8), (5, 24), (24, 5), (1, 7), (64, 48)])
def test_a_step_has_singular_values_near_one(shape):
    """Those of the gradient may differ a hundredfold. The directions stay: U^T O V is nearly diagonal."""
    generator = torch.Generator().manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=generator, dtype=torch.float64), full_matrices=False)
    values = torch.logspace(0, -2, min(shape), dtype=torch.float64)
    found = optimizers.orthogonal(u * values @ v)
    assert found.shape == shape and found.dtype == torch.float64
    inside = u.T @ found @ v.T
    same(inside, inside.diagonal().diag(), 1e-9)
    assert 0.3 < inside.diagonal().min() and inside.diagonal().max() < 1.3
    assert not optimizers.orthogonal(torch.zeros(shape)).any()


@contextmanager
def in_float32():
    """PyTorch's Muon asks for bfloat16 in so many words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "bfloat16", lambda tensor: tensor.to(torch.float32, copy=True))
        yield


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="an older PyTorch")
def test_equals_pytorchs_muon_and_adamw():
    settings = {"learning_rate": 3e-3, "weight_decay": 0.2}
    ours, theirs = small_model(), small_model()
    mixed = optimizers.optimizer_for(ours, TrainConfig(optimizer="muon", **settings), CPU)
    names = {id(weight): name for name, weight in ours.named_parameters()}
    of = dict(theirs.named_parameters())
    matrices, plain, layers = ([of[names[id(weight)]] for weight in group["params"]] for group in mixed.param_groups)
    muon = torch.optim.Muon(layers, lr=3e-3, weight_decay=0.2, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": matrices, "weight_decay": 0.2}, {"params": plain, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=3e-3, betas=optimizers.BETAS)
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        for name, weight in ours.named_parameters():
            weight.grad = torch.randn(weight.shape, generator=generator) * 0.1
            of[name].grad = weight.grad.clone()
        mixed.step(), adamw.step()
        with in_float32():
            muon.step()
    before = dict(small_model().named_parameters())
    for name, weight in ours.named_parameters():
        same(weight, of[name], 1e-6)
        assert (weight - before[name]).abs().max() > 1e-3, name


def test_a_weight_without_a_gradient_stays():
    model = small_model()
    optimizer = optimizers.optimizer_for(model, TrainConfig(optimizer="muon"), CPU)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    optimizer.step()
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert len(optimizer.param_groups) == 3
