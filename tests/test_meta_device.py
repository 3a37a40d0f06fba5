"""Every tensor is made on the model's device: tried without a GPU.

A tensor that is made on the CPU by mistake is found on a CUDA device only, where it meets another one. PyTorch's "meta"
device would find it here too, but it has no values, and A3's shapes depend on values: how many rows a stream has is
counted from ``group_ids``. So here is a device that computes: tensors that say they are on "meta", hold their values
on the CPU, and refuse to meet a tensor that is really on the CPU, as CUDA does. A forward pass, a loss, a training step
and decoding run on it; the code takes the branches of an accelerator, for the device is not "cpu".

It shows that no tensor is on the wrong device. That a GPU's kernels give the right numbers it cannot show.
"""

import copy

import pytest
import torch
from laws import same, strong_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from a3mini import attention, decode, groups, masks, objective, rows
from a3mini.decode import cache
from a3mini.model import A3Model

ELSEWHERE = torch.device("meta")


class Elsewhere(torch.Tensor):
    """A tensor on the other device; ``values`` is a tensor on the CPU."""

    @staticmethod
    def __new__(cls, values: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls, values.shape, values.stride(), values.storage_offset(), dtype=values.dtype, device=ELSEWHERE
        )

    def __init__(self, values: torch.Tensor):
        self.values_here = values

    def tolist(self):
        return self.values_here.tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), keywords=None):
        raise AssertionError(f"{function} outside of OtherDevice")


class OtherDevice(TorchDispatchMode):
    """Computes on the other device, and fails where two devices meet."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        keywords = dict(keywords or {})
        tensors = [leaf for leaf in tree_leaves((arguments, keywords)) if isinstance(leaf, torch.Tensor)]
        there = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
        here = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere)]
        copies = function in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        if there and not copies and any(tensor.dim() for tensor in here):  # CUDA too takes a single number
            shapes = [f"{type(tensor).__name__} {tuple(tensor.shape)}" for tensor in tensors]
            raise RuntimeError(f"{function} expects all tensors on one device, got {', '.join(shapes)}")
        device = keywords.get("device")
        goes = ELSEWHERE == torch.device(device) if device is not None else bool(there)
        if device is not None:
            keywords["device"] = torch.device("cpu")
        arguments, keywords = tree_map(
            lambda leaf: leaf.values_here if isinstance(leaf, Elsewhere) else leaf, (arguments, keywords)
        )
        out = function(*arguments, **keywords)
        if not goes:
            return out
        known = {id(tensor.values_here): tensor for tensor in there}  # an operation in place returns its own argument
        wrap = lambda leaf: known.get(id(leaf)) if id(leaf) in known else Elsewhere(leaf)  # noqa: E731
        return tree_map(lambda leaf: wrap(leaf) if isinstance(leaf, torch.Tensor) else leaf, out)


def moved(model: nn.Module) -> nn.Module:
    """A copy of the model on the other device; what is tied stays tied."""
    model, made = copy.deepcopy(model), {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None and id(weight) not in made:
                with OtherDevice():
                    made[id(weight)] = nn.Parameter(Elsewhere(weight.detach()))
            if weight is not None:
                module._parameters[name] = made[id(weight)]
    assert not list(model.buffers())
    return model


MODEL, WARM = (strong_model(query_start=start, tie_word_embeddings=True) for start in rows.QUERY_STARTS)
starts = pytest.mark.parametrize("model", [MODEL, WARM], ids=rows.QUERY_STARTS)
IDS = torch.randint(11, (3, 8), generator=torch.Generator().manual_seed(0))
GROUPS = torch.stack(
    [
        groups.shuffled(8, 2, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 0, 1, 1, 2, 0, -1, -1]),
        torch.ones(8, dtype=torch.int64),  # nothing to see: empty rows
    ]
)


def back(tensor: torch.Tensor) -> torch.Tensor:
    assert tensor.device == ELSEWHERE
    return tensor.detach().values_here


def forward_elsewhere(model=MODEL, **options):
    with OtherDevice():
        return moved(model)(Elsewhere(IDS), Elsewhere(GROUPS), **options)


@starts
def test_forward(model):
    there, here = forward_elsewhere(model, content_logits=True), model(IDS, GROUPS, content_logits=True)
    with OtherDevice():
        same(back(there.logits), here.logits.detach())
        same(back(there.content_logits), here.content_logits.detach())


def test_attention_weights():
    there, here = forward_elsewhere(output_attentions=True), MODEL(IDS, GROUPS, output_attentions=True)
    with OtherDevice():
        for one, other in zip(there.query_attentions, here.query_attentions, strict=True):
            same(back(one), other.detach())


def step(model, ids, group_ids, labels) -> torch.Tensor:
    """One step of AdamW, with what train.py does to the gradient; the loss before it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loss = model(ids, group_ids, labels=labels).loss
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss


@starts
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing")
def test_a_training_step(checkpointing, model):
    labels = IDS.masked_fill(IDS == 3, -100)
    here, there = copy.deepcopy(model).train(), moved(model).train()
    if checkpointing:
        for one in (here, there):
            one.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    expected = step(here, IDS, GROUPS, labels)
    with OtherDevice():
        loss = step(there, Elsewhere(IDS), Elsewhere(GROUPS), Elsewhere(labels))
        same(back(loss), expected.detach())
        weights = dict(here.named_parameters())
        for name, weight in there.named_parameters():
            assert back(weight.grad).abs().sum() > 0 or weights[name].grad.abs().sum() == 0
            same(back(weight), weights[name].detach(), 1e-6)  # Adam divides small gradients by small gradients


@starts
def test_likelihood_and_decoding(model):
    score = objective.log_likelihood(model, IDS, GROUPS)
    group_ids = GROUPS[:2]
    greedy = decode.generate(model, IDS[:2], group_ids, temperature=0)
    dynamic = decode.resample(model, IDS[:1], GROUPS[:1] > 0, temperature=0)
    model = moved(model)
    with OtherDevice():
        ids, ids_of_groups = Elsewhere(IDS), Elsewhere(GROUPS)
        same(back(objective.log_likelihood(model, ids, ids_of_groups)), score.detach())
        found = decode.generate(model, ids[:2], ids_of_groups[:2], temperature=0)
        assert torch.equal(back(found.sequences), greedy.sequences)
        found = decode.resample(model, ids[:1], ids_of_groups[:1] > 0, temperature=0)
        assert torch.equal(back(found.sequences), dynamic.sequences)


# The mutants: a tensor that somebody forgot to put on the model's device


def mutate_rope(monkeypatch):
    """The frequencies stay on the CPU."""
    right = A3Model.rope
    monkeypatch.setattr(A3Model, "rope", lambda self, positions, dtype: right(self, torch.arange(9)[None], dtype))


def mutate_slots(monkeypatch):
    """torch.arange without a device, as it is easily written."""

    def where(cls, keep, order=None):
        count = keep.sum(-1, keepdim=True)
        index = (~keep).to(torch.uint8).argsort(dim=-1, stable=True)[:, : int(count.max())]
        return cls(index, torch.arange(index.shape[1]) < count)

    monkeypatch.setattr(rows.Slots, "where", classmethod(where))


def mutate_mask(monkeypatch):
    """A mask that is made anew instead of from the group ids."""
    right = masks.may_attend
    monkeypatch.setattr(
        masks, "may_attend", lambda *a, **k: right(*a, **k) & torch.ones(right(*a, **k).shape, dtype=torch.bool)
    )


def mutate_empty_rows(monkeypatch):
    """Zeros for the rows that see nothing come from the CPU."""
    right = attention.attend

    def wrong(query, key, value, *rest):
        output, weights = right(query, key, value, *rest)
        return output + torch.zeros(output.shape, dtype=output.dtype), weights

    monkeypatch.setattr(attention, "attend", wrong)


def mutate_starts(monkeypatch):
    """What is taken from the rotary positions comes from the CPU."""
    right = rows.Starts.of

    def wrong(start, query, tokens, group_ids, seen=None):
        made = right(start, query, tokens, group_ids, seen)
        return made._replace(positions=made.positions - torch.zeros(made.positions.shape, dtype=torch.int64))

    monkeypatch.setattr(rows.Starts, "of", wrong)


@pytest.mark.parametrize("mutate", [mutate_rope, mutate_slots, mutate_mask, mutate_empty_rows, mutate_starts])
def test_a_tensor_on_the_cpu_is_caught(mutate, monkeypatch):
    forward_elsewhere(WARM, labels=None)
    mutate(monkeypatch)
    with pytest.raises(RuntimeError, match="expects all tensors on one device"):
        forward_elsewhere(WARM, labels=None)


def test_a_cache_on_the_cpu_is_caught(monkeypatch):
    right = cache.ContentCache.__init__
    monkeypatch.setattr(
        cache.ContentCache,
        "__init__",
        lambda self, b, t, layers, device: right(self, b, t, layers, torch.device("cpu")),
    )
    with OtherDevice(), pytest.raises(RuntimeError, match="expects all tensors on one device"):
        decode.generate(moved(MODEL), Elsewhere(IDS[:2]), Elsewhere(GROUPS[:2]), temperature=0)
