"""memory.py: the count of weights is exact, the estimate of a step agrees with what is measured."""

import pytest
import torch
from laws import tiny_config

from a3mini import A3ForCausalLM, groups
from a3mini.train import add_lora, memory

CLOSE = 0.1  # DESIGN asks for a quarter
# Measured with PyTorch 2.7: it keeps more, and the estimate is up to 17% low.
CLOSE_HERE = CLOSE if torch.__version__ >= "2.13" else 2 * CLOSE
WIDE = {
    "vocab_size": 1000,
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_attention_heads": 6,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}
MANY_WORDS = {**WIDE, "vocab_size": 20000, "tie_word_embeddings": False}
# what: changes of the shape, rows, length, share predicted, precision, trainable, checkpointing
CASES = {
    "all weights": (WIDE, 4, 64, 1.0, "fp32", "full", False),
    "a blank": (WIDE, 4, 64, 0.25, "fp32", "full", False),
    "a longer text": (WIDE, 2, 160, 1.0, "fp32", "full", False),
    "a large vocabulary": (MANY_WORDS, 2, 64, 1.0, "fp32", "full", False),
    "LoRA": (WIDE, 4, 64, 1.0, "fp32", "lora", False),
    "mixed precision": (WIDE, 4, 64, 1.0, "bf16", "full", False),
    "mixed precision, LoRA": (WIDE, 4, 64, 0.25, "bf16", "lora", False),
    "checkpointing": (WIDE, 4, 64, 1.0, "fp32", "full", True),
    "checkpointing, LoRA": (WIDE, 4, 64, 0.25, "fp32", "lora", True),
    "biases and normed heads": ({**WIDE, "qkv_bias": True, "qk_norm": True}, 4, 64, 1.0, "fp32", "full", False),
    "wide normed heads": ({**WIDE, "qk_norm": True, "head_dim": 64}, 4, 64, 1.0, "fp32", "full", False),
    "wide normed heads, LoRA": ({**WIDE, "qk_norm": True, "head_dim": 64}, 4, 64, 1.0, "fp32", "lora", False),
    "wide normed heads, mixed precision": (
        {**WIDE, "qk_norm": True, "head_dim": 64},
        4,
        64,
        1.0,
        "bf16",
        "full",
        False,
    ),
    "a warm start": ({**WIDE, "query_start": "previous"}, 4, 64, 1.0, "fp32", "full", False),
    "a warm start, mixed precision, LoRA": ({**WIDE, "query_start": "previous"}, 4, 64, 0.25, "bf16", "lora", False),
}


def measured(changes, rows, length, share, precision, trainable, checkpointing) -> tuple[int, A3ForCausalLM]:
    """Bytes at the worst moment of a step, with the gradients of an earlier microbatch there; and the model."""
    torch.manual_seed(0)
    model = base = A3ForCausalLM(tiny_config(**changes)).train()
    if trainable == "lora":
        model = add_lora(model, 8, 16)
    if checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    ids = torch.randint(changes["vocab_size"], (rows, length))
    position = torch.arange(length)
    group_ids = groups.infill((position >= round(length * (1 - share))) & (position > 0)).expand(rows, -1)
    optimizer = torch.optim.AdamW(weight for weight in model.parameters() if weight.requires_grad)

    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = model(input_ids=ids, group_ids=group_ids, labels=ids).loss
        loss.backward()

    step()
    optimizer.step()
    return memory.held(model, optimizer) + memory.added(step), model


def estimated(changes, rows, length, share, precision, trainable, checkpointing) -> memory.Estimate:
    config = tiny_config(**changes)
    return memory.estimate(config, rows, length, share, precision, trainable, checkpointing=checkpointing, lora_rank=8)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_estimate_agrees_with_the_measurement(case):
    estimate, (found, model) = estimated(*case), measured(*case)
    assert abs(estimate.total / found - 1) < CLOSE_HERE, f"estimate {estimate}, measured {found / memory.GB:.4f} GB"
    weights = memory.count(model.config, case[5], 8)
    assert weights.all == sum(weight.numel() for weight in model.parameters())
    assert weights.trained == sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


@pytest.mark.parametrize("part", memory.Estimate._fields)
def test_an_estimate_without_a_part_would_be_caught(part):
    """Each part weighs more than the tolerance in some case, so no part can be forgotten."""
    shares = [getattr(estimate, part) / estimate.total for estimate in (estimated(*case) for case in CASES.values())]
    assert max(shares) > 1.5 * CLOSE


def test_one_stream_would_be_caught():
    """An estimate that forgets the query stream, as one would write it for a plain Llama."""
    case = CASES["all weights"]
    found, _ = measured(*case)
    config = tiny_config(**WIDE)
    one_stream = memory._kept_by_layer(config, 64, 0, 64, 4, "full", 8, "sdpa", "cpu")
    two_streams = memory._kept_by_layer(config, 64, 64, 128, 4, "full", 8, "sdpa", "cpu")
    wrong = estimated(*case).total - config.num_hidden_layers * 4 * (two_streams - one_stream)
    assert abs(wrong / found - 1) > 2 * CLOSE


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": True},
        {"attention_bias": True, "mlp_bias": True},
        {"head_dim": 16},
        {"num_key_value_heads": 4},
        {"qkv_bias": True},
        {"qkv_bias": True, "attention_bias": True},
        {"qk_norm": True, "head_dim": 16},
        {"no_rope_layers": [1, 0, 1]},
    ],
)
def test_weights_are_counted_exactly(changes):
    config = tiny_config(**changes)
    model = A3ForCausalLM(config)
    assert memory.count(config).all == sum(weight.numel() for weight in model.parameters())
    matrices = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    assert memory.count(config).matrices == matrices


def test_the_allocations_of_a_known_program():
    def program():
        a = torch.zeros(1000, dtype=torch.float32)  # 4000
        b = a + 1  # 8000
        view = b[10:]  # the same memory
        del a  # 4000
        return view.double().sum()  # 4000 + 8 * 990 + 8

    assert memory.added(program) == 4000 + 8 * 990 + 8
    before = torch.zeros(1000)
    assert memory.added(lambda: before.add_(1)) == 0  # what was there is not counted
    assert memory.added(lambda: before * 2) == 4000


def test_held_counts_what_is_there():
    layer = torch.nn.Linear(10, 10, bias=False)
    optimizer = torch.optim.AdamW(layer.parameters())
    assert memory.held(layer) == 400
    layer(torch.ones(1, 10)).sum().backward()
    assert memory.held(layer) == 800
    optimizer.step()
    assert memory.held(layer, optimizer) == 1600 + 4  # and the number of the step


def test_what_the_switches_save():
    config = tiny_config(**WIDE)
    plain = memory.estimate(config, 8, 256)
    assert memory.estimate(config, 8, 256, kernel="flex_attention").activations < plain.activations
    assert memory.estimate(config, 8, 256, checkpointing=True).activations < plain.activations / 2
    assert memory.estimate(config, 8, 256, optimiser="sgd").optimiser == 0
    lora = memory.estimate(config, 8, 256, trainable="lora", precision="bf16")
    assert lora.gradients < plain.gradients / 2 and lora.parameters > plain.parameters
    assert "GB: parameters" in str(plain) and plain.total == sum(plain)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rows": 0}, "rows must be at least 1, got 0"),
        ({"length": 0}, "length must be at least 1, got 0"),
        ({"query_share": 0}, "query_share must be a share of the tokens, above 0 and up to 1; got 0"),
        ({"query_share": 20}, "got 20"),
        ({"precision": "int8"}, "precision must be one of fp32, bf16, fp16; got 'int8'"),
        ({"trainable": "half"}, "trainable must be one of full, lora; got 'half'"),
        ({"optimiser": "lion"}, "optimiser must be one of adamw, sgd; got 'lion'"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        memory.estimate(tiny_config(), **{"rows": 2, "length": 8, **wrong})
