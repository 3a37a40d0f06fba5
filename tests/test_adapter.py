"""adapter.py: the saved additions give peft's merged model; another source, a damaged or a wrong file is refused."""

import json

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from a3mini import A3ForCausalLM, adapter, from_autoregressive, groups
from a3mini.rows import QUERY_STARTS
from a3mini.train import MaskedDiffusionModel, add_lora


def source(seed: int = 0, tied: bool = True) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 40}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": tied}
    return LlamaForCausalLM(LlamaConfig(**shape, **heads, max_position_embeddings=32)).eval()


def trained(model, rank: int = 3, alpha: int = 6):
    """The wrapped model with additions as a training would leave them, and their names as ``adapter.save`` has them."""
    wrapped = add_lora(model, rank, alpha)
    generator = torch.Generator().manual_seed(5)
    found = {}
    for name, weight in wrapped.named_parameters():
        if weight.requires_grad:
            with torch.no_grad():  # B starts at zero: without this nothing would be tested
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
            plain = name.removeprefix("base_model.model.").replace(".default.weight", "")
            found[plain] = weight.detach().clone()
    return wrapped, found


@pytest.mark.parametrize("make", [from_autoregressive, MaskedDiffusionModel.from_autoregressive, lambda model: model])
@pytest.mark.parametrize("tied", [True, False])
def test_what_is_loaded_equals_peft_merged(tmp_path, make, tied):
    base = make(source(tied=tied))
    before = adapter.fingerprint(base)
    wrapped, tensors = trained(base)
    adapter.save(tmp_path / "a", tensors, 2.0, before, {"source": "tiny"}, dtype=torch.float32)
    merged = wrapped.merge_and_unload()
    loaded = make(source(tied=tied))
    record = adapter.apply(loaded, tmp_path / "a")
    assert record["source"] == "tiny"
    weights = dict(merged.named_parameters())
    assert weights.keys() == dict(loaded.named_parameters()).keys()
    for name, weight in loaded.named_parameters():
        torch.testing.assert_close(weight, weights[name], rtol=0, atol=1e-6)
    moved = sum(
        not torch.equal(w, o) for w, o in zip(loaded.parameters(), make(source(tied=tied)).parameters(), strict=True)
    )
    assert moved >= 14  # seven linear layers in each of two layers


def test_an_adapted_a3_predicts_as_the_trained_one(tmp_path):
    base = from_autoregressive(source())
    print_of_source = adapter.fingerprint(base)
    wrapped, tensors = trained(base)
    adapter.save(tmp_path / "a", tensors, 2.0, print_of_source, {}, dtype=torch.float32)
    ids = torch.arange(10)[None]
    group_ids = groups.shuffled(10, 2, generator=torch.Generator().manual_seed(0))[None]
    expected = wrapped(input_ids=ids, group_ids=group_ids).logits
    model = from_autoregressive(source())
    adapter.apply(model, tmp_path / "a")
    torch.testing.assert_close(model(ids, group_ids).logits, expected, rtol=0, atol=1e-5)


def test_the_fingerprint_is_the_sources():
    own = adapter.fingerprint(source())
    assert adapter.fingerprint(from_autoregressive(source())) == own
    assert adapter.fingerprint(MaskedDiffusionModel.from_autoregressive(source())) == own
    assert adapter.fingerprint(source(seed=1)) != own
    changed = source()
    with torch.no_grad():
        changed.model.layers[1].mlp.up_proj.weight[3, 4] += 1e-6
    assert adapter.fingerprint(changed) != own
    assert adapter.fingerprint(source().to(torch.bfloat16)) != own


def test_another_source_is_refused_and_left_alone(tmp_path):
    base = from_autoregressive(source())
    mark = adapter.fingerprint(base)
    adapter.save(tmp_path / "a", trained(base)[1], 2.0, mark, {"source": "tiny"})
    other = from_autoregressive(source(seed=1))
    before = {name: weight.clone() for name, weight in other.named_parameters()}
    with pytest.raises(ValueError, match=f"trained on tiny with fingerprint {mark[:12]}"):
        adapter.apply(other, tmp_path / "a")
    assert all(torch.equal(weight, before[name]) for name, weight in other.named_parameters())
    model = from_autoregressive(source())
    adapter.apply(model, tmp_path / "a")
    with pytest.raises(ValueError, match="fingerprint"):  # a second time
        adapter.apply(model, tmp_path / "a")


def test_files_that_are_not_an_adapter(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no adapter: adapter.safetensors and adapter.json not found"):
        adapter.read(tmp_path)
    base = from_autoregressive(source())
    mark = adapter.fingerprint(base)
    tensors = trained(base)[1]
    folder = adapter.save(tmp_path / "a", tensors, 2.0, mark, {})
    content = (folder / adapter.WEIGHTS).read_bytes()
    (folder / adapter.WEIGHTS).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="is damaged"):
        adapter.read(folder)
    with pytest.raises(ValueError, match=r"not the tensors of an adapter: model.layers.0.mlp.up_proj"):
        adapter.save(
            folder, {n: v for n, v in tensors.items() if n != "model.layers.0.mlp.up_proj.lora_B"}, 2.0, mark, {}
        )
    with pytest.raises(ValueError, match="does not fit LlamaForCausalLM: model.query_embedding"):
        adapter.apply(source(), adapter.save(folder, tensors, 2.0, mark, {}))


def test_saving_again_replaces_and_a_failure_keeps_the_old(tmp_path, monkeypatch):
    base = from_autoregressive(source())
    mark = adapter.fingerprint(base)
    tensors = trained(base)[1]
    folder = adapter.save(tmp_path / "a", tensors, 2.0, mark, {"n": 1})
    assert json.loads((folder / adapter.RECORD).read_text())["n"] == 1

    def full(*_, **__):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(adapter, "save_file", full)
        with pytest.raises(OSError, match="could not be written"):
            adapter.save(folder, tensors, 2.0, mark, {"n": 2})
    assert json.loads((folder / adapter.RECORD).read_text())["n"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    adapter.save(folder, tensors, 2.0, mark, {"n": 3})
    assert adapter.read(folder)[1]["n"] == 3


@pytest.mark.parametrize("built", QUERY_STARTS)
@pytest.mark.parametrize("start", [*QUERY_STARTS, None])
def test_the_start_of_query_rows_is_the_adapters(tmp_path, start, built):
    """Whatever the model was built with; an older record does not say, and then it was the paper's."""
    model = from_autoregressive(source(), query_start=built)
    tensors = trained(from_autoregressive(source()))[1]
    record = {} if start is None else {"query_start": start}
    adapter.save(tmp_path / "a", tensors, 2.0, adapter.fingerprint(model), record)
    adapter.apply(model, tmp_path / "a")
    assert model.config.query_start == (start or "vector")
    model.save_pretrained(tmp_path / "model")
    again = A3ForCausalLM.from_pretrained(tmp_path / "model")
    assert again.config.query_start == (start or "vector")
    ids, group_ids = torch.arange(10)[None], groups.left_to_right(10)[None]
    assert torch.equal(model(ids, group_ids).logits, again(ids, group_ids).logits)


@pytest.mark.parametrize("start", ["warm", "", None, 1, ["previous"]])
def test_a_start_that_does_not_exist_is_refused(tmp_path, start):
    model = from_autoregressive(source(), query_start="previous")
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    tensors = trained(from_autoregressive(source()))[1]
    adapter.save(tmp_path / "a", tensors, 2.0, adapter.fingerprint(model), {"query_start": start})
    with pytest.raises(ValueError, match=r"the adapter .*a is damaged \(query_start must be one of vector, previous"):
        adapter.apply(model, tmp_path / "a")
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert model.config.query_start == "previous"


def test_an_adapter_of_a_model_without_query_rows_says_nothing_of_them(tmp_path):
    base = source()
    mark = adapter.fingerprint(base)
    adapter.save(tmp_path / "a", trained(base)[1], 2.0, mark, {})
    model = source()
    adapter.apply(model, tmp_path / "a")
    assert not hasattr(model.config, "query_start")


def test_how_given_tokens_were_read_goes_into_the_config(tmp_path):
    model, other = from_autoregressive(source()), from_autoregressive(source())
    mark = adapter.fingerprint(model)
    _, tensors = trained(from_autoregressive(source()))
    adapter.save(tmp_path / "a", tensors, 2.0, mark, {"known_order": "left_to_right"})
    adapter.save(tmp_path / "b", tensors, 2.0, mark, {})
    adapter.apply(model, tmp_path / "a")
    adapter.apply(other, tmp_path / "b")
    assert (model.config.known_order, other.config.known_order) == ("left_to_right", "together")
    model.save_pretrained(tmp_path / "model")
    assert A3ForCausalLM.from_pretrained(tmp_path / "model").config.known_order == "left_to_right"
