"""The comparison of optimisers: who updates what, how rates are tuned, and that both arms see the same."""

import math

import muon
import pytest
import torch
from training_run import small_blocks

from a3mini.train import optimizers


@pytest.mark.parametrize("arm", muon.ARMS)
def test_each_arm_has_its_optimiser(arm):
    blocks = small_blocks()
    training = muon.Training(muon.TINY, 40, blocks, arm, 1e-3, 0, 4)
    owned = [id(weight) for group in training.optimizer.param_groups for weight in group["params"]]
    assert sorted(owned) == sorted(id(weight) for weight in training.model.parameters())
    assert isinstance(training.optimizer, optimizers.Muon) == (arm == "Muon")
    assert {group["initial_lr"] for group in training.optimizer.param_groups} == {1e-3}


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
