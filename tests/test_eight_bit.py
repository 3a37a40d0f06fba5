"""eight_bit.py: within half a scale everywhere, exact where it can be, readable without us, and one line for damage."""

import json
import struct

import laws
import numpy as np
import pytest
import small_tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from a3mini import A3ForCausalLM, eight_bit, groups, loading, objective, pretrained
from a3mini.train.tokens import decode, encode

WORDS = 290  # of the tokenizer
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


def model(tied: bool = True, **changes) -> A3ForCausalLM:
    return laws.strong_model(vocab_size=WORDS, tie_word_embeddings=tied, **changes).float()


def written(tmp_path, tied: bool = True, **changes):
    made = model(tied, **changes)
    return made, eight_bit.save(made, small_tokenizers.byte_level(), tmp_path / "model.safetensors")


def oracle(file) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What a page's JavaScript does: eight bytes, a header in JSON, and views of the numbers behind it."""
    raw = file.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header, found = json.loads(raw[8 : 8 + size]), {}
    texts = header.pop("__metadata__")
    for name, about in header.items():
        start, end = (8 + size + at for at in about["data_offsets"])
        kind = {"I8": "i1", "F32": "<f4"}[about["dtype"]]
        assert start % np.dtype(kind).itemsize == 0, "a Float32Array begins at a multiple of four bytes"
        found[name] = np.frombuffer(raw[start:end], kind).reshape(about["shape"])
    return found, texts


# The rounding


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=5))
def test_no_weight_moves_by_more_than_half_a_scale(rows):
    weight = torch.tensor(rows)
    whole, scale = eight_bit.rounded(weight)
    assert whole.dtype == torch.int8 and scale.dtype == torch.float32 and scale.shape == (len(rows),)
    assert (scale > 0).all() and scale.isfinite().all() and (whole >= -127).all()
    error = (weight.double() - whole.double() * scale.double()[:, None]).abs()
    assert (error <= scale.double()[:, None] * (0.5 + 1e-12)).all()
    assert eight_bit.scaled(whole, scale).isfinite().all()
    assert (whole[weight.abs().amax(-1) >= 1e-35].abs().amax(-1) == 127).all(), "the whole range is used"


def test_zero_tiny_and_huge_rows():
    largest = torch.finfo(torch.float32).max
    weight = torch.tensor([[0.0, 0.0], [1e-45, -1e-45], [largest, -largest], [1.0, 0.25]])
    whole, scale = eight_bit.rounded(weight)
    assert whole[0].tolist() == [0, 0] and whole[2].tolist() == [127, -127] and whole[3].tolist() == [127, 32]
    found = eight_bit.scaled(whole, scale)
    assert found[:2].abs().max() <= 1e-45 and found.isfinite().all()
    assert eight_bit.rounded(torch.zeros(2, 0))[1].shape == (2,)


def test_it_rounds_to_the_nearest():
    """As truncation, for which the bound does not hold, would not."""
    weight = torch.tensor([[127.0, 0.6, -0.6, 1.4]])
    assert eight_bit.rounded(weight)[0].tolist() == [[127, 1, -1, 1]]
    truncated = (weight / 1.0).to(torch.int8)
    assert ((weight - truncated).abs() > 0.5).any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_named(tmp_path, bad):
    made, tokenizer = model(), small_tokenizers.byte_level()
    with torch.no_grad():
        made.model.layers[1].mlp.up_proj.weight[3, 4] = bad
    with pytest.raises(ValueError, match=r"model.layers.1.mlp.up_proj.weight cannot be rounded: row 3 .* not finite"):
        eight_bit.save(made, tokenizer, tmp_path / "a.safetensors")
    with torch.no_grad():
        made.model.layers[1].mlp.up_proj.weight[3, 4] = 0
        made.model.norm.weight[2] = bad
    with pytest.raises(ValueError, match=r"model.norm.weight holds a number that is not finite"):
        eight_bit.save(made, tokenizer, tmp_path / "a.safetensors")
    assert not [*tmp_path.iterdir()]
    with pytest.raises(ValueError, match="not finite in float32"):
        eight_bit.rounded(torch.tensor([[1e300]], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"matrix of real numbers, got torch.float32 \(3,\)"):
        eight_bit.rounded(torch.ones(3))


# The file


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_read_is_what_was_written(tmp_path, tied):
    made, file = written(tmp_path, tied, query_start="previous")
    made.config.known_order, made.config.empty_token_id = "left_to_right", 3
    file = eight_bit.save(made, small_tokenizers.byte_level(), file)
    drawn = torch.get_rng_state()
    read, tokenizer = eight_bit.load(file)
    assert torch.equal(torch.get_rng_state(), drawn), "reading draws nothing"
    assert not read.training and read.config.to_dict() == made.config.to_dict() | {
        "architectures": ["A3ForCausalLM"], "dtype": "float32", "_name_or_path": read.config._name_or_path,
    }  # fmt: skip
    assert (read.lm_head.weight is read.model.embed_tokens.weight) == tied
    weights = dict(read.named_parameters())
    assert weights.keys() == dict(made.named_parameters()).keys()
    for name, weight in made.named_parameters():
        if weight.dim() == 1:
            assert torch.equal(weights[name], weight)
        else:
            assert torch.equal(weights[name], eight_bit.scaled(*eight_bit.rounded(weight)))
            assert not torch.equal(weights[name], weight)
    own, text = small_tokenizers.byte_level(), "The cat ran off! </s> 猫"
    assert tokenizer.get_vocab() == own.get_vocab() and tokenizer.special_tokens_map == own.special_tokens_map
    assert encode(tokenizer, [text]) == encode(own, [text])
    assert decode(tokenizer, encode(tokenizer, [text])[0]) == text


def test_written_again_it_stays_the_same(tmp_path):
    """Numbers that lie on the grid are found again, to the bit; so a file that is read and written does not fade."""
    _, file = written(tmp_path)
    first = file.read_bytes()
    eight_bit.save(*eight_bit.load(file), file)
    tensors = load_file(file)
    (tmp_path / "first.safetensors").write_bytes(first)
    for name, tensor in load_file(tmp_path / "first.safetensors").items():
        if tensor.dtype == torch.int8:
            assert torch.equal(tensors[name], tensor), name
        else:
            torch.testing.assert_close(tensors[name], tensor, rtol=2e-7, atol=0)


def test_a_token_that_ends_blanks_is_special_still(tmp_path):
    tokenizer = small_tokenizers.byte_level()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end>"]})
    made = model()
    made.resize_token_embeddings(len(tokenizer))
    read = eight_bit.load(eight_bit.save(made, tokenizer, tmp_path / "a.safetensors")).tokenizer
    assert read.all_special_ids == tokenizer.all_special_ids and len(read.all_special_ids) == 4
    assert decode(read, [5, len(tokenizer) - 1]) == decode(tokenizer, [5])


def test_a_tied_head_is_written_once(tmp_path):
    _, file = written(tmp_path)
    assert "lm_head.weight" not in load_file(file)
    _, file = written(tmp_path, tied=False)
    assert "lm_head.weight" in load_file(file)


def test_a_reader_of_its_own_finds_the_same(tmp_path):
    made, file = written(tmp_path)
    numbers, texts = oracle(file)
    read, tokenizer = eight_bit.load(file)
    for name, weight in read.named_parameters():
        found = numbers[name]
        if weight.dim() == 2:
            found = found.astype(np.float32) * numbers[name + ".scale"][:, None]
        np.testing.assert_array_equal(found, weight.detach().numpy())
    expected = {name for name, _ in made.named_parameters()}
    assert numbers.keys() == expected | {f"{n}.scale" for n, weight in made.named_parameters() if weight.dim() == 2}
    config = json.loads(texts["config"])
    assert (config["model_type"], config["hidden_size"], config["vocab_size"]) == ("a3", 32, WORDS)
    assert json.loads(texts["tokenizer"])["model"]["vocab"] == tokenizer.get_vocab()
    assert json.loads(texts["special_tokens"])["bos_token"] == "<s>"
    assert texts["format"] == eight_bit.FORMAT


def test_it_predicts_nearly_the_same(tmp_path):
    made, file = written(tmp_path, query_start="previous")
    ids = torch.randint(WORDS, (4, 20), generator=torch.Generator().manual_seed(0))
    order = groups.shuffled(20, 1, 1, torch.Generator().manual_seed(0)).expand(4, -1)
    before, after = (objective.log_likelihood(one, ids, order) / 19 for one in (made, eight_bit.load(file).model))
    assert 0 < (before - after).abs().max() < 0.3  # on a model whose weights are many times as large as usual
    half = eight_bit.load(file, torch.bfloat16).model
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16} and half.config.dtype == torch.bfloat16
    assert (before - objective.log_likelihood(half, ids, order) / 19).abs().max() < 1


def test_any_dtype_can_be_written(tmp_path):
    made, file = written(tmp_path)
    other = eight_bit.save(made.double(), small_tokenizers.byte_level(), tmp_path / "double.safetensors")
    (numbers, texts), (others, also) = oracle(file), oracle(other)
    assert texts == also and numbers.keys() == others.keys()
    assert all(np.array_equal(numbers[name], others[name]) for name in numbers)


def test_it_replaces_a_file_whole_or_not_at_all(tmp_path, monkeypatch):
    made, file = written(tmp_path)
    first = file.read_bytes()

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(eight_bit, "save_file", full)
    with pytest.raises(OSError, match=r"could not be written to .*: no space left"):
        eight_bit.save(made, small_tokenizers.byte_level(), file)
    assert file.read_bytes() == first and [*tmp_path.iterdir()] == [file]


# Damage


def test_what_cannot_be_written(tmp_path):
    tokenizer = small_tokenizers.byte_level()
    with pytest.raises(TypeError, match="must be an A3ForCausalLM, got LlamaForCausalLM"):
        eight_bit.save(laws.strong_llama(), tokenizer, tmp_path / "a.safetensors")
    with pytest.raises(TypeError, match="must be a fast one"):
        eight_bit.save(model(), object(), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"ends with .safetensors; got 'a.bin'"):
        eight_bit.save(model(), tokenizer, tmp_path / "a.bin")


def test_a_file_that_is_cut_or_no_model(tmp_path):
    _, file = written(tmp_path)
    whole = file.read_bytes()
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nothing.safetensors"):
        eight_bit.load(tmp_path / "nothing.safetensors")
    for size in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"model.safetensors is damaged .*; get it again"):
            eight_bit.load(file)
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ValueError, match="git lfs pull"):
        eight_bit.load(file)
    save_file({"a": torch.ones(2)}, file)
    with pytest.raises(ValueError, match="is no model of 8 bits: its format is None"):
        eight_bit.load(file)


def changed(file, change) -> None:
    """The file with other tensors or texts."""
    tensors, (_, texts) = load_file(file), oracle(file)
    change(tensors, texts)
    save_file(tensors, file, texts)


UP = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t, _: t.pop(UP + ".scale"), rf"{UP}.scale is missing, and should be float32 \(48,\)"),
        (lambda t, _: t.pop("model.norm.weight"), "model.norm.weight is missing"),
        (lambda t, _: t.update(more=torch.ones(2)), r"more is float32 \(2,\), and should be missing"),
        (lambda t, _: t.update({UP: t[UP][:5].clone()}), rf"{UP} is int8 \(5, 32\), and should be int8 \(48, 32\)"),
        (lambda t, _: t.update({UP: t[UP].float()}), rf"{UP} is float32 \(48, 32\), and should be int8"),
        (lambda t, _: t[UP + ".scale"].fill_(float("nan")), rf"{UP}.scale holds a number that is not finite"),
        (lambda _, texts: texts.update(config="{"), "no valid 'config'"),
        (lambda _, texts: texts.pop("tokenizer"), "no valid 'tokenizer'"),
        (lambda _, texts: texts.update(tokenizer="{}"), "tokenizer cannot be read"),
        (lambda _, texts: texts.update(special_tokens="[]"), "no valid 'special_tokens'"),
        (lambda _, texts: texts.update(config='{"model_type": "llama"}'), "a model of the type 'llama', not 'a3'"),
        (lambda _, texts: texts.update(config='{"model_type": "a3", "hidden_size": "x"}'), "config makes no model"),
        (lambda _, texts: texts.update(config='{"model_type": "a3", "hidden_size": 64}'), "is .* and should be"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_told_in_one_line(tmp_path, change, said):
    _, file = written(tmp_path)
    changed(file, change)
    with pytest.raises(ValueError, match=rf"model.safetensors is damaged \(.*{said}") as error:
        eight_bit.load(file)
    assert "\n" not in str(error.value)


# Where it is used


def test_a_command_reads_it(tmp_path):
    _, file = written(tmp_path)
    read, tokenizer, kind = loading.load(str(file))
    assert kind == "any-order" and isinstance(read, A3ForCausalLM) and len(tokenizer) == WORDS
    with pytest.raises(ValueError, match="--source is for an adapter"):
        loading.load(str(file), source="small")


def test_the_compact_model_is_read_from_it_where_it_ships(tmp_path, monkeypatch):
    """Written again, it is the same: its weights are whole numbers of steps already."""
    before = pretrained.compact_model()
    eight_bit.save(before.model, before.tokenizer, tmp_path / eight_bit.FILE)
    monkeypatch.setattr(pretrained, "COMPACT_MODEL", tmp_path)
    after = pretrained.compact_model()
    assert after.name == before.name and after.tokenizer.get_vocab() == before.tokenizer.get_vocab()
    assert (tmp_path / eight_bit.FILE).stat().st_size < 3.8e6
    text = "Tom had a red ball. He went to the park to play with his dog. The dog ran after the ball and barked."
    ids = torch.tensor([[before.tokenizer.bos_token_id, *encode(before.tokenizer, [text])[0]]])
    order = groups.shuffled(ids.shape[1], 1, 1, torch.Generator().manual_seed(0))[None]
    before, after = (objective.log_likelihood(one.model, ids, order) / (ids.shape[1] - 1) for one in (before, after))
    assert (before - after).abs() < 1e-3
