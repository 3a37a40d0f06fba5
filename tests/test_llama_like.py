"""Sources that are Llamas but for a few lines: Mistral, Qwen2, Qwen3 and SmolLM3, against Hugging Face's own code."""

import inspect
import json
import textwrap
from functools import partial

import laws
import pytest
import torch
from transformers import (
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    SmolLM3Config,
)

from a3mini import A3Config, A3ForCausalLM, adapter, attention, decode, from_autoregressive, groups, pretrained
from a3mini.attention import A3Attention, A3RMSNorm
from a3mini.rows import QUERY_STARTS
from a3mini.train import MaskedDiffusionModel, add_lora, lora, memory

V = laws.TINY["vocab_size"]
ROPE = {"rope_type": "default", "rope_theta": 100.0}
YARN = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 8}
EPS = 1e-3  # large enough that another one would show


def config(kind: type[PreTrainedConfig], **changes) -> PreTrainedConfig:
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return kind(**{**laws.TINY, **special, "rope_parameters": ROPE, "rms_norm_eps": EPS, **changes})


mistral = partial(config, MistralConfig, sliding_window=None)
qwen2 = partial(config, Qwen2Config)
qwen3 = partial(config, Qwen3Config, head_dim=16)
smollm3 = partial(config, SmolLM3Config, no_rope_layers=[1, 0, 1], tie_word_embeddings=True)
ONE_OF_EACH = {"mistral": mistral(), "qwen2": qwen2(), "qwen3": qwen3(), "smollm3": smollm3()}
CASES = ONE_OF_EACH | {
    "mistral, wide heads": mistral(head_dim=16, num_key_value_heads=4),
    "mistral, tied": mistral(tie_word_embeddings=True),
    "qwen2, tied": qwen2(tie_word_embeddings=True),
    "qwen2, as many key heads as heads": qwen2(num_key_value_heads=4),
    "qwen2, yarn": qwen2(rope_parameters=YARN),
    "qwen2, windows from a layer on that it does not have": qwen2(
        use_sliding_window=True, sliding_window=2, max_window_layers=3
    ),
    "qwen3, tied": qwen3(tie_word_embeddings=True),
    "qwen3, as many key heads as heads": qwen3(num_key_value_heads=4),
    "qwen3, biases, a width that the heads do not divide": qwen3(attention_bias=True, hidden_size=30),
    "smollm3, untied": smollm3(tie_word_embeddings=False),
    "smollm3, as many key heads as heads": smollm3(num_key_value_heads=4),
    "smollm3, biases, a list longer than the model": smollm3(
        attention_bias=True, mlp_bias=True, no_rope_layers=[0, 1, 0, 1]
    ),
    "smollm3, every second layer": smollm3(no_rope_layers=None, no_rope_layer_interval=2, num_hidden_layers=4),
}
all_cases = pytest.mark.parametrize("kind", CASES.values(), ids=CASES)
one_of_each = pytest.mark.parametrize("kind", ONE_OF_EACH.values(), ids=ONE_OF_EACH)


def tokens(batch: int = 2, length: int = 12) -> torch.Tensor:
    return torch.randint(V, (batch, length), generator=torch.Generator().manual_seed(0))


def made_of(source: PreTrainedModel, query_start: str = "vector") -> A3ForCausalLM:
    """A3 of a source, with a random w."""
    model = from_autoregressive(source, dtype=torch.float64, query_start=query_start)
    torch.manual_seed(1)
    torch.nn.init.normal_(model.model.query_embedding)
    return model


# Law 1, and both streams against Hugging Face


@all_cases
def test_both_streams_are_the_source_model(kind):
    source = laws.strong_source(kind)
    assert type(source) is pretrained.SOURCES[kind.model_type]
    model = made_of(source, "previous")
    assert laws.context_effect(model) >= 0.1
    laws.parity(model, source, tokens())
    laws.query_parity(model, source, tokens())


@all_cases
def test_from_a_folder(tmp_path, kind):
    source = laws.strong_source(kind)
    source.save_pretrained(tmp_path)
    for model in (from_autoregressive(tmp_path, dtype=torch.float64), from_autoregressive(source, dtype=torch.float64)):
        laws.parity(model, source, tokens())
        assert set(model.state_dict()) == {*source.state_dict(), "model.query_embedding"}
        tied = model.lm_head.weight is model.model.embed_tokens.weight
        assert tied == model.config.tie_word_embeddings == kind.tie_word_embeddings
        assert adapter.fingerprint(model.double()) == adapter.fingerprint(source)


@pytest.mark.parametrize("start", QUERY_STARTS)
@all_cases
def test_both_streams_equal_the_oracle_at_any_grouping(kind, start):
    model = made_of(laws.strong_source(kind), start)
    generator = torch.Generator().manual_seed(1)
    group_ids = torch.stack(
        [
            groups.left_to_right(9),
            groups.blocks(9, 2, given=2),
            groups.shuffled(9, 3, generator=generator),
            groups.shuffled(9, 2, given=0, generator=generator),
        ]
    )
    laws.both_streams(model, tokens(4, 9), group_ids, kind=kind)


@one_of_each
def test_kernels_agree(kind):
    model, ids = made_of(laws.strong_source(kind)), tokens()
    group_ids = groups.shuffled(12, 2, generator=torch.Generator().manual_seed(0)).expand(2, -1)
    with torch.no_grad():
        expected = model(ids, group_ids).logits
        for kernel in ("eager", "flex_attention"):
            model.set_attn_implementation(kernel)
            torch.testing.assert_close(model(ids, group_ids).logits, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("start", QUERY_STARTS)
@one_of_each
def test_a_pass_over_labels_gives_the_log_probs_of_the_logits(kind, start):
    """What training computes, against what the oracle is compared with; the gradients reach every weight."""
    model, ids = laws.in_double(made_of(laws.strong_source(kind), start)), tokens()
    group_ids = torch.stack([groups.blocks(12, 2, given=2), groups.left_to_right(12)])
    out = model(ids, group_ids, labels=ids)
    logits = model(ids, group_ids).logits
    expected = logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0] * (group_ids > 0)
    laws.same(out.log_probs, expected)
    out.loss.backward()
    assert all(weight.grad.abs().sum() > 0 for weight in model.parameters())


# Mutants: each must break law 1


def mutate_forward(monkeypatch, *changes: tuple[str, str]) -> None:
    """Make a mistake in ``A3Attention.forward``."""
    code = textwrap.dedent(inspect.getsource(A3Attention.forward))
    for old, new in changes:
        assert code.count(old) == 1, f"the mutant does not fit the code any more: {old}"
        code = code.replace(old, new)
    names = dict(vars(attention))
    exec(code, names)
    monkeypatch.setattr(A3Attention, "forward", names["forward"])


def without_bias(name: str) -> tuple[str, str]:
    return f"self.{name}(", f"(lambda x: x @ self.{name}.weight.T)("


NORMS, ROTATES = "query, key = self.q_norm(query), self.k_norm(key)", "if self.rotates:"
AFTER = "if cache is not None:"
FORWARD = {
    "no bias on q": ("qwen2", without_bias("q_proj")),
    "no bias on k": ("qwen2", without_bias("k_proj")),
    "no bias on v": ("qwen2", without_bias("v_proj")),
    "no norm of q": ("qwen3", (NORMS, "key = self.k_norm(key)")),
    "no norm of k": ("qwen3", (NORMS, "query = self.q_norm(query)")),
    "norms swapped": ("qwen3", (NORMS, "query, key = self.k_norm(query), self.q_norm(key)")),
    "norms after the rotation": ("qwen3", (NORMS, "pass"), (AFTER, f"{NORMS}\n    {AFTER}")),
    "rotation in every layer": ("smollm3", (ROTATES, "if True:")),
    "rotation in the other layers": ("smollm3", (ROTATES, "if not self.rotates:")),
    "no rotation": ("mistral", (ROTATES, "if False:")),
}


@pytest.mark.parametrize(("name", "changes"), [(n, c) for n, *c in FORWARD.values()], ids=FORWARD)
def test_a_mistake_in_the_attention_is_caught(monkeypatch, name, changes):
    source = laws.strong_source(ONE_OF_EACH[name])
    model = made_of(source, "previous")
    mutate_forward(monkeypatch)  # the code itself, unchanged
    laws.parity(model, source, tokens())
    monkeypatch.undo()
    mutate_forward(monkeypatch, *changes)
    for law in (laws.parity, laws.query_parity):
        with pytest.raises(AssertionError, match="logits differ"):
            law(model, source, tokens())


@one_of_each
def test_every_weight_and_every_epsilon_counts(kind):
    """A norm's weight, a bias or a matrix that was not copied, and another epsilon of a norm, would show."""
    source = laws.strong_source(kind)
    model = made_of(source)
    for name, weight in model.named_parameters():
        if name != "model.query_embedding":
            right = weight.detach().clone()
            with torch.no_grad():
                weight.fill_(float("norm" in name))  # what a fresh bias or norm is
            with pytest.raises(AssertionError, match="logits differ"):
                laws.parity(model, source, tokens())
            with torch.no_grad():
                weight.copy_(right)
    for name, norm in model.named_modules():
        if isinstance(norm, A3RMSNorm):
            assert norm.eps == EPS, name
            norm.eps = 1e-6
            with pytest.raises(AssertionError, match="logits differ"):
                laws.parity(model, source, tokens())
            norm.eps = EPS
    laws.parity(model, source, tokens())


# Saving, decoding, training


@pytest.mark.parametrize("start", QUERY_STARTS)
@one_of_each
def test_save_and_load(tmp_path, kind, start):
    model = made_of(laws.strong_source(kind), start)
    model.save_pretrained(tmp_path)
    again = A3ForCausalLM.from_pretrained(tmp_path)
    first, second = ({**m.config.to_dict(), "_name_or_path": ""} for m in (model, again))
    assert first == second
    ids, group_ids = tokens(), groups.left_to_right(12).expand(2, -1)
    assert torch.equal(again(ids, group_ids).logits, model(ids, group_ids).logits)


@pytest.mark.parametrize("start", QUERY_STARTS)
@one_of_each
def test_decoding_with_the_cache_is_decoding_without(kind, start):
    model = laws.in_double(made_of(laws.strong_source(kind), start))
    unknown = torch.zeros(2, 12, dtype=torch.bool)
    unknown[0, 2:7], unknown[1, 5:] = True, True
    group_ids = groups.infill(unknown, 2, "strided")

    def write(use_cache: bool):
        generator = torch.Generator().manual_seed(0)
        return decode.generate(model, tokens(), group_ids, generator=generator, use_cache=use_cache)

    laws.exact_steps(model, write)


@one_of_each
def test_additions_have_the_names_of_the_sources_matrices(kind, tmp_path):
    """LoRA on all linear layers but the head, and w; what it trains goes onto the source again."""
    source = laws.strong_source(kind)
    model = made_of(source)
    matrices = {
        name for name, part in source.named_modules() if isinstance(part, torch.nn.Linear) and name != "lm_head"
    }
    assert len(matrices) == 7 * kind.num_hidden_layers
    wrapped = add_lora(made_of(source), 2, 4)
    trained = dict(lora.additions(wrapped.named_parameters()))
    expected = {f"{name}{end}" for name in matrices for end in (adapter.DOWN, adapter.UP)} | {"model.query_embedding"}
    assert set(trained) == expected
    assert {name for name, weight in wrapped.named_parameters() if weight.requires_grad} == {
        name for name, weight in wrapped.named_parameters() if any(weight is other for other in trained.values())
    }
    with torch.no_grad():
        for weight in trained.values():
            weight.copy_(0.1 * torch.randn_like(weight))
    adapter.save(tmp_path / "adapter", trained, 2.0, adapter.fingerprint(source), {}, dtype=torch.float64)
    adapter.apply(model, tmp_path / "adapter")
    merged, ids = wrapped.merge_and_unload(), tokens()
    group_ids = groups.left_to_right(12).expand(2, -1)
    torch.testing.assert_close(model(ids, group_ids).logits, merged(ids, group_ids).logits, rtol=0, atol=laws.EXACT)


@all_cases
def test_weights_are_counted_exactly(kind):
    model = A3ForCausalLM(pretrained.a3_config(kind))
    assert memory.count(model.config).all == sum(weight.numel() for weight in model.parameters())
    wrapped = add_lora(model, 2, 4)
    counted = memory.count(model.config, "lora", 2)
    assert counted.all == sum(weight.numel() for weight in wrapped.parameters())
    assert counted.trained == sum(weight.numel() for weight in wrapped.parameters() if weight.requires_grad)


# The config


def test_a_config_of_llama_is_as_it_was():
    made = pretrained.a3_config(config(LlamaConfig))
    assert (made.qkv_bias, made.qk_norm, made.no_rope_layers) == (False, False, None)
    assert not {"qkv_bias", "qk_norm", "no_rope_layers"} & made.to_dict().keys()


@one_of_each
def test_fields_that_a_source_does_not_heed_are_not_taken(kind, tmp_path):
    """A file may say what the source's own code never reads."""
    source = laws.strong_source(kind)
    source.save_pretrained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    strange = {name: True for name in ("attention_bias", "mlp_bias", "qkv_bias") if not hasattr(kind, name)}
    (tmp_path / "config.json").write_text(json.dumps(said | strange))
    laws.parity(from_autoregressive(tmp_path, dtype=torch.float64), source, tokens())


@pytest.mark.parametrize("wrong", [[1, 0], [1, 0, 1, 1], [1, 0, 2], [], ["1", "0", "1"]])
def test_layers_without_rotation_are_one_number_each(wrong):
    with pytest.raises(ValueError, match="no_rope_layers must have 3 numbers, one a layer, each 0 or 1; got"):
        laws.tiny_config(no_rope_layers=wrong)
    assert A3Config(**laws.TINY, no_rope_layers=[1, 0, 1]).no_rope_layers == [1, 0, 1]


# What is refused, by name, before any weights are read

WINDOW = "sliding-window attention"
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0] * 4}
LONGROPE |= {"original_max_position_embeddings": 8, "rope_theta": 100.0, "factor": 4.0}
REFUSED = {
    "mistral, window": (mistral(sliding_window=4), f"this mistral model: it has {WINDOW}$"),
    "qwen2, window in the last layer": (
        qwen2(use_sliding_window=True, sliding_window=4, max_window_layers=2),
        f"this qwen2 model: it has {WINDOW}$",
    ),
    "qwen3, window in one layer": (
        qwen3(use_sliding_window=True, layer_types=["full_attention", "sliding_attention", "full_attention"]),
        f"this qwen3 model: it has {WINDOW}$",
    ),
    "smollm3, window": (smollm3(use_sliding_window=True, sliding_window=4), f"this smollm3 model: it has {WINDOW}$"),
    "qwen2, other layers": (qwen2(layer_types=["full_attention", "chunked_attention"] * 1 + ["full_attention"]),
                            "it has chunked_attention layers$"),
    "llama, window": (config(LlamaConfig, sliding_window=4), WINDOW),
    "llama, no rotation": (config(LlamaConfig, no_rope_layers=[1, 0, 1]), "layers without rotary embedding$"),
    "llama, norms": (config(LlamaConfig, qk_norm=True), "query/key normalisation$"),
    "llama, softcap": (config(LlamaConfig, attn_logit_softcapping=50.0), "a softcap on attention scores$"),
    "gemma2": (
        config(Gemma2Config, head_dim=8),
        "a softcap on attention scores; a softcap on logits; another architecture than llama, mistral, qwen2, qwen3, "
        f"smollm3: gemma2; {WINDOW}$",
    ),
    "mixtral": (config(MixtralConfig, num_local_experts=2), "a mixture of experts; another architecture .*: mixtral$"),
    "qwen3, experts": (
        config(Qwen3MoeConfig, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=8),
        "a mixture of experts; another architecture .*: qwen3_moe$",
    ),
    "qwen2, longrope": (qwen2(rope_parameters=LONGROPE), "A3 does not cover rope_type 'longrope'; it covers default"),
    "qwen3, a part of each head": (
        qwen3(rope_parameters={**YARN, "partial_rotary_factor": 0.5}),
        "A3 does not cover partial_rotary_factor 0.5, nor does Llama; it must be 1$",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_covered_is_refused_by_name(kind, message, tmp_path, monkeypatch):
    kind.save_pretrained(tmp_path)  # no weights: nobody gets as far as to miss them
    with pytest.raises(ValueError, match=message) as caught:
        from_autoregressive(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=message):
        pretrained.a3_config(kind)


def test_a_tensor_that_a_source_does_not_heed_is_named():
    for kind in (qwen2(), smollm3()):
        source = laws.strong_source(kind)
        source.model.layers[0].self_attn.q_norm = A3RMSNorm(8, 1e-6)
        with pytest.raises(ValueError, match=f"this {kind.model_type} model: it has query/key normalisation"):
            from_autoregressive(source)


def test_a_wrapped_source_is_refused():
    source = laws.strong_source(qwen3())
    with pytest.raises(TypeError, match="source must be a Qwen3ForCausalLM, got PeftModel; merge adapters first"):
        from_autoregressive(add_lora(source, 2, 4))


@one_of_each
def test_masked_diffusion_starts_from_a_llama(kind):
    name = pretrained.SOURCES[kind.model_type].__name__
    with pytest.raises(ValueError, match=f"masked diffusion starts from a LlamaForCausalLM, got {name}; take a Llama"):
        MaskedDiffusionModel.from_autoregressive(laws.strong_source(kind))
