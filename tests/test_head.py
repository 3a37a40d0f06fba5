"""head.py: log-probabilities in parts equal those of all logits at once, forward and backward, in bounded memory."""

import pytest
import torch
import torch.nn.functional as F
from laws import same

from a3mini import A3ForCausalLM, groups, head, objective
from a3mini.rows import IGNORED_LABEL
from a3mini.train import memory

ROWS, WIDTH, VOCABULARY = 23, 8, 50


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    made = head.Head(WIDTH, VOCABULARY, bias=False).double()
    labels = torch.randint(VOCABULARY, (ROWS,))
    labels[::5] = IGNORED_LABEL
    return torch.randn(ROWS, WIDTH, dtype=torch.float64, requires_grad=True), made, labels


def expected(hidden, made, labels) -> torch.Tensor:
    logits = hidden @ made.weight.T
    return torch.stack([row.log_softmax(-1)[label] if label >= 0 else row.sum() * 0
                        for row, label in zip(logits, labels, strict=True)])  # fmt: skip


@pytest.mark.parametrize("at_a_time", [1, 7, 22, 23, 1000])
def test_parts_equal_the_whole(inputs, at_a_time, monkeypatch):
    monkeypatch.setattr(head, "LARGEST", 4 * VOCABULARY * at_a_time)
    assert head.rows_at_a_time(VOCABULARY) == at_a_time
    hidden, made, labels = inputs
    found, right = head.log_probs(hidden, made, labels), expected(hidden, made, labels)
    same(found, right)
    weights = torch.rand(ROWS, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad((weights * found).sum(), (hidden, made.weight)),
        torch.autograd.grad((weights * right).sum(), (hidden, made.weight)), strict=True,
    ):  # fmt: skip
        same(one, other)
    with torch.no_grad():
        same(head.log_probs(hidden, made, labels), right.detach())


def test_the_head_is_a_linear_layer(inputs):
    hidden, made, labels = inputs
    same(made(hidden), F.linear(hidden, made.weight))
    assert head.log_probs(hidden[:0], made, labels[:0]).shape == (0,)


def test_half_precision_is_summed_in_float32(inputs):
    hidden, made, labels = inputs
    made, hidden = made.to(torch.bfloat16), hidden.detach().to(torch.bfloat16)
    assert made(hidden, labels).dtype == torch.float32


# Memory

SHAPE = dict(vocab_size=30_000, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
             num_key_value_heads=1, tie_word_embeddings=True)  # fmt: skip


@pytest.mark.parametrize("trained", [False, True])
def test_peak_memory_is_bounded_by_the_stated_number(trained, monkeypatch):
    """Three arrays of LARGEST bytes, whatever the batch; all logits of this one would take ten of them."""
    monkeypatch.setattr(head, "LARGEST", 4 * 30_000 * 100)  # 12 MB
    model = A3ForCausalLM(A3ForCausalLM.config_class(**SHAPE))
    ids = torch.randint(30_000, (16, 64))
    group_ids = groups.left_to_right(64).expand(16, -1)

    def step():
        if trained:
            model(ids, group_ids, labels=ids).loss.backward()
        else:
            with torch.no_grad():
                objective.log_likelihood(model, ids, group_ids)

    step()  # gradients are there
    rest = 16 * 128 * 16 * 4 * 60 + (
        2 * 4 * 30_000 * 16 if trained else 0
    )  # of the layers, and the head's own gradient
    peak = memory.added(step)
    assert peak < 3 * head.LARGEST + rest < 4 * 30_000 * 16 * 63, peak / head.LARGEST
    monkeypatch.setattr(head, "LARGEST", 2**40)
    assert memory.added(step) > 4 * 30_000 * 16 * 63, "all logits at once are more"
