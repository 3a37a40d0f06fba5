"""The comparison of optimisers: who updates what, how rates are tuned, and that both arms see the same."""

import math
from contextlib import nullcontext

import muon
import pytest
import torch
from training_run import small_blocks

from a3mini import A3Config, A3ForCausalLM


@pytest.fixture
def model() -> A3ForCausalLM:
    return A3ForCausalLM(A3Config(vocab_size=40, **muon.TINY))


@pytest.mark.parametrize("arm", muon.ARMS)
def test_every_weight_has_one_optimiser(arm, model):
    made = muon.optimizers(model, arm, 1e-3)
    owned = [id(weight) for one in made for group in one.param_groups for weight in group["params"]]
    assert sorted(owned) == sorted(id(weight) for weight in model.parameters())
    by_muon = [one for one in made if isinstance(one, torch.optim.Muon)]
    assert len(by_muon) == (arm == "Muon")
    for one in by_muon:
        mine = {id(weight) for group in one.param_groups for weight in group["params"]}
        inside = {id(w) for name, w in model.named_parameters() if ".layers." in name and w.dim() == 2}
        assert mine == inside, "the embedding, w and norms are AdamW's"


def test_on_a_cpu_muon_computes_in_float32_and_nearly_the_same():
    torch.manual_seed(0)
    start, gradient, after = torch.randn(16, 24), torch.randn(16, 24), []
    for where in (nullcontext(), muon.products_in_float32()):
        weight = torch.nn.Parameter(start.clone())
        weight.grad = gradient.clone()
        with where:
            torch.optim.Muon([weight], lr=0.1, adjust_lr_fn="match_rms_adamw").step()
        assert torch.equal(weight.grad, gradient)
        after.append(weight.detach())
    assert not torch.equal(*after) and torch.allclose(*after, atol=2e-3)
    assert torch.ones(1).bfloat16().dtype == torch.bfloat16, "and outside nothing has changed"


def test_the_grid_goes_beyond_an_end_where_the_best_stands():
    low, *_, high = muon.RATES
    assert muon.next_rate(dict.fromkeys(muon.RATES, 2.0) | {muon.RATES[1]: 1.0}) is None
    falling = {rate: -rate for rate in muon.RATES}
    assert muon.next_rate(falling) == 2 * high and muon.next_rate(falling | {2 * high: -1.0}) == 4 * high
    assert muon.next_rate(falling | {2 * high: -1.0, 4 * high: -2.0}) is None, "twice, and no more"
    assert muon.next_rate({rate: rate for rate in muon.RATES}) == low / 2
    assert muon.best_rate({1e-3: 3.0, 2e-3: float("nan")}) == 1e-3, "what has broken is not the best"


def test_differences_are_paired():
    found = muon.compared({"AdamW": [1.0, 2.0, 3.0], "Muon": [0.9, 1.8, 2.7]})
    assert found["AdamW"] == 2.0 and found["Muon"] == 1.8
    assert found["difference"] == [-0.2, pytest.approx(4.303 * 0.1 / 3**0.5, abs=1e-3)]


def test_both_arms_see_the_same_and_learn():
    blocks, after = small_blocks(), {}
    for arm in muon.ARMS:
        training = muon.Training(muon.TINY, 17, blocks, arm, 4e-3, seed=1, steps=30)
        first = [weight.clone() for weight in training.model.parameters()]
        found = muon.trained(training, blocks)
        moved = [not torch.equal(a, b) for a, b in zip(first, training.model.parameters(), strict=True)]
        assert all(moved) and found["mean"] < math.log(17) - 0.2
        after[arm] = found
    assert after["AdamW"]["tokens"] == after["Muon"]["tokens"] and after["AdamW"]["losses"] != after["Muon"]["losses"]
