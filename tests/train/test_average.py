"""The moving average: against a plain loop, cut into other steps, saved, swapped in and out."""

import os

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from training_run import small_model

from a3mini.train.average import Average
from a3mini.train.lora import add_lora

HALF_LIFE = 1000


def a_walk(steps: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 2, generator=generator) for _ in range(steps)]


def put(weight: nn.Parameter, value: torch.Tensor) -> None:
    with torch.no_grad():
        weight.copy_(value)


def test_the_oracle_is_a_plain_loop():
    weight, tokens = nn.Parameter(torch.full((3, 2), 9.0)), [100, 700, 1, 350, 2000, 40]
    average = Average({"w": weight}, HALF_LIFE)
    seen = a_walk(len(tokens))
    for last in range(len(tokens)):
        put(weight, seen[last])
        average.update(tokens[last])
        total, parts = torch.zeros(3, 2, dtype=torch.float64), 0.0
        for step in range(last + 1):
            age = sum(tokens[step + 1 : last + 1])
            part = 0.5 ** (age / HALF_LIFE) * (1 - 0.5 ** (tokens[step] / HALF_LIFE))
            total, parts = total + part * seen[step].double(), parts + part
        torch.testing.assert_close(average.averages[0].double(), total / parts, rtol=1e-6, atol=1e-6)


def test_half_of_what_was_is_forgotten_in_a_half_life():
    weight = nn.Parameter(torch.ones(1))
    average = Average({"w": weight}, HALF_LIFE)
    average.update(10**9)  # long at 1
    put(weight, torch.zeros(1))
    average.update(HALF_LIFE)
    assert average.averages[0].item() == pytest.approx(0.5)


@pytest.mark.parametrize("pieces", [2, 5, 10])
def test_it_does_not_depend_on_how_the_tokens_are_cut(pieces):
    """The same weights over the same tokens, taken in at once or in pieces, are the same average."""
    at_once, in_pieces = (Average({"w": nn.Parameter(torch.zeros(3, 2))}, HALF_LIFE) for _ in range(2))
    for value in a_walk(6):
        for average in (at_once, in_pieces):
            put(average.weights[0], value)
        at_once.update(400)
        for _ in range(pieces):
            in_pieces.update(400 // pieces)
    torch.testing.assert_close(at_once.averages, in_pieces.averages, rtol=1e-6, atol=1e-6)
    for average, times in ((at_once, 1), (in_pieces, pieces)):  # a decay by steps would not pass
        for _ in range(times):
            average.averages[0].lerp_(average.weights[0], 0.3)
    assert not torch.allclose(at_once.averages[0], in_pieces.averages[0], atol=1e-3)


def test_it_goes_on_bit_for_bit():
    whole, first = (Average({"w": nn.Parameter(torch.zeros(3, 2))}, HALF_LIFE) for _ in range(2))
    walk = a_walk(8)
    for value in walk:
        put(whole.weights[0], value)
        whole.update(77)
    for value in walk[:5]:
        put(first.weights[0], value)
        first.update(77)
    state = {name: value.clone() for name, value in first.state_dict().items()}
    assert set(state) == {"tokens", "average.w"} and state["average.w"].dtype == torch.float32
    second = Average({"w": nn.Parameter(torch.zeros(3, 2))}, HALF_LIFE)
    second.load_state_dict(state)
    for value in walk[5:]:
        put(second.weights[0], value)
        second.update(77)
    assert torch.equal(whole.averages[0], second.averages[0]) and whole.tokens == second.tokens


def test_a_state_of_other_weights_changes_nothing():
    average = Average({"w": nn.Parameter(torch.zeros(3, 2))}, HALF_LIFE)
    average.update(5)
    for state, said in (
        ({"average.w": torch.ones(3, 2)}, "holds no 'tokens'"),
        ({"tokens": torch.tensor(3)}, "average.w has the shape None there"),
        ({"tokens": torch.tensor(3), "average.w": torch.ones(2, 2)}, r"has the shape \(2, 2\) there, \(3, 2\) here"),
        ({"tokens": torch.tensor(3), "average.w": torch.ones(3, 2), "average.v": torch.ones(1)}, "average.v"),
    ):
        with pytest.raises(ValueError, match=said):
            average.load_state_dict(state)
        assert average.tokens == 5 and not average.averages[0].any()


def test_swapped_in_and_out():
    model = small_model()
    average = Average(model.named_parameters(), HALF_LIFE)
    with torch.no_grad():
        for step in range(3):
            for weight in model.parameters():
                weight.add_(0.1 * (step + 1))
            average.update(100)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    places = [weight.data_ptr() for weight in model.parameters()]
    with average.swapped():
        for name, weight in model.named_parameters():
            assert torch.equal(weight, average.state_dict()[f"average.{name}"])
            assert not torch.equal(weight, before[name])
        assert places == [weight.data_ptr() for weight in model.parameters()]
        with pytest.raises(RuntimeError, match="swapped"):
            average.update(1)
        with pytest.raises(RuntimeError, match="swapped"), average.swapped():
            pass
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    average.update(1)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_inside_leaves_the_weights_as_they_were(error):
    weight = nn.Parameter(torch.zeros(3, 2))
    average = Average({"w": weight}, HALF_LIFE)
    average.update(10)
    put(weight, torch.ones(3, 2))
    with pytest.raises(error), average.swapped():
        assert not weight.any()
        raise error
    assert bool((weight == 1).all())
    with average.swapped():  # and it works again
        assert not weight.any()


def test_before_the_first_update_the_weights_stay():
    weight = nn.Parameter(torch.zeros(2))
    average = Average({"w": weight}, HALF_LIFE)
    put(weight, torch.ones(2))
    with average.swapped():
        assert bool((weight == 1).all())


def test_weights_of_16_bits_are_averaged_in_32_and_come_back_exactly():
    weight = nn.Parameter(torch.zeros(3, 2, dtype=torch.bfloat16))
    average = Average({"w": weight}, HALF_LIFE)
    for value in a_walk(20):
        put(weight, value)
        average.update(100)
    was, averages = weight.detach().clone(), average.averages[0].clone()
    with average.swapped():
        assert torch.equal(weight, averages.bfloat16())
    assert torch.equal(weight, was) and torch.equal(average.averages[0], averages)
    assert averages.dtype == torch.float32 and not torch.equal(averages, averages.bfloat16().float())


def test_a_tied_head_is_averaged_once():
    model = small_model(tie_word_embeddings=True)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    average = Average(model.named_parameters(remove_duplicate=False), HALF_LIFE)
    assert average.names == [name for name, _ in model.named_parameters()]
    average.update(10)
    with torch.no_grad():
        model.lm_head.weight.add_(1)
    with average.swapped():
        assert model.lm_head.weight is model.model.embed_tokens.weight
    assert "average.lm_head.weight" not in average.state_dict()


def test_with_lora_only_the_additions_and_w_are_averaged():
    model = small_model()
    wrapped = add_lora(model, 2, 4)
    average = Average(wrapped.named_parameters(), HALF_LIFE)
    assert average.names == [name for name, weight in wrapped.named_parameters() if weight.requires_grad]
    assert all("lora_" in name or "query_embedding" in name for name in average.names)
    assert sum(one.numel() for one in average.averages) < sum(w.numel() for w in model.parameters()) / 2
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to average"):
        Average(wrapped.named_parameters(), HALF_LIFE)


class Watched(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def test_an_update_is_one_operation_and_waits_for_nothing():
    model = small_model()
    average = Average(model.named_parameters(), HALF_LIFE)
    with Watched() as watched:
        average.update(10)
    assert [name for name in watched.seen if name != "aten::detach"] == ["aten::_foreach_lerp_"]
    with Watched() as watched:
        average.averages[0].sum().item()
    assert "aten::_local_scalar_dense" in watched.seen, "else the test above could not fail"


@pytest.mark.parametrize("half_life", [0, -1, float("nan"), float("inf")])
def test_a_half_life_that_makes_no_sense(half_life):
    with pytest.raises(ValueError, match="half_life_tokens must be a positive number"):
        Average({"w": nn.Parameter(torch.zeros(1))}, half_life)


def test_an_update_without_tokens():
    with pytest.raises(ValueError, match="at least one token, got 0"):
        Average({"w": nn.Parameter(torch.zeros(1))}, 1).update(0)


@pytest.fixture
def mesh(monkeypatch):
    """One process as a group, so that weights are divided as FSDP has them."""
    from torch.distributed.device_mesh import init_device_mesh

    if torch.distributed.is_initialized():
        pytest.skip("another test has a process group")
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1"}
    for name, value in address.items():
        monkeypatch.setitem(os.environ, name, value)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def test_divided_weights(mesh):
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor

    walk, plain = a_walk(4), Average({"w": nn.Parameter(torch.zeros(3, 2))}, HALF_LIFE)
    divided = nn.Parameter(distribute_tensor(torch.zeros(3, 2), mesh, [Shard(0)]))
    average = Average({"w": divided}, HALF_LIFE)
    for value in walk:
        put(plain.weights[0], value)
        put(divided, distribute_tensor(value, mesh, [Shard(0)]))
        plain.update(100)
        average.update(100)
    state = average.state_dict()
    assert torch.equal(state["average.w"], plain.averages[0]) and not isinstance(state["average.w"], DTensor)
    average.load_state_dict(state)
    with average.swapped():
        assert torch.equal(divided.full_tensor(), plain.averages[0])
    assert torch.equal(divided.full_tensor(), walk[-1])
