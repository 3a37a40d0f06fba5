"""flex.py: FlexAttention gives what the default kernel gives, forward and backward; its blocks are PyTorch's own."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import EXACT, in_double, no_leakage, query_parity, same, strong_llama, strong_model
from torch.nn.attention import flex_attention as torch_flex

from a3mini import A3ForCausalLM, flex, from_autoregressive, groups, masks
from a3mini.attention import Visibility, attend
from a3mini.decode import generate
from a3mini.rows import QUERY_STARTS

# PyTorch says once that its plain reference is slow; on a CPU we want that one
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
FLOAT32 = 2e-5  # logits of a tiny model reach about 10
VARIANTS = {
    "grouped queries": {},
    "one head each": {"num_key_value_heads": 4},
    "one for all": {"num_key_value_heads": 1, "tie_word_embeddings": True},
    "warm queries": {"query_start": "previous"},
}
group_rows = st.lists(st.lists(st.integers(-1, 4), min_size=6, max_size=6), min_size=1, max_size=3)


def pair(seed: int = 0, **changes) -> tuple[A3ForCausalLM, A3ForCausalLM]:
    """The same tiny model twice: with the default kernel, and with FlexAttention."""
    model = in_double(strong_model(seed, **changes))
    other = copy.deepcopy(model)
    other.set_attn_implementation("flex_attention")
    return in_double(model), in_double(other)


SDPA, FLEX = pair()
WARM = pair(query_start="previous")


def tokens(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(11, (batch, length), generator=torch.Generator().manual_seed(seed))


def groupings(length: int = 9) -> torch.Tensor:
    """Shuffled, a blank, all at once with nothing given, padding on both sides, nothing given in order."""
    generator = torch.Generator().manual_seed(1)
    position = torch.arange(length)
    return torch.stack(
        [
            groups.shuffled(length, 1, generator=generator),
            groups.infill((position > 2) & (position < 6), 2),
            torch.ones(length, dtype=torch.int64),
            groups.infill(position < 4, padding=position > 6),
            torch.where(position < 3, -1, groups.shuffled(length, 2, given=0, generator=generator)),
        ]
    )


@pytest.fixture
def backward_on_cpu(monkeypatch):
    """PyTorch's plain reference can go backward on a CPU, if the two checks that forbid it are away."""
    monkeypatch.setattr(torch_flex, "_validate_device", lambda *tensors: None)
    monkeypatch.setattr(flex, "check", lambda *arguments: None)


# The same result


def equal_kernels(first: A3ForCausalLM, second: A3ForCausalLM, ids, group_ids, tolerance: float = EXACT) -> None:
    with torch.no_grad():
        found = [model(ids, group_ids, content_logits=True) for model in (first, second)]
        same(found[1].logits, found[0].logits, tolerance)
        same(found[1].content_logits, found[0].content_logits, tolerance)
        if (group_ids > 0).any():
            scores = [model(ids, group_ids, labels=ids) for model in (first, second)]
            same(scores[1].log_probs, scores[0].log_probs, tolerance)
            same(scores[1].loss, scores[0].loss, tolerance)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_forward_equals_the_default_kernel(changes):
    equal_kernels(*pair(**changes), tokens(5, 9), groupings())


@settings(max_examples=20, deadline=None)
@given(group_rows, st.integers(0, 5), st.booleans())
def test_forward_equals_at_any_grouping(rows, seed, warm):
    equal_kernels(*(WARM if warm else (SDPA, FLEX)), tokens(len(rows), 6, seed), torch.tensor(rows))


def test_forward_equals_in_float32_and_over_several_blocks():
    """300 positions are three blocks and a part; the labels leave some out, and some given tokens come in order."""
    first, second = pair(max_position_embeddings=300)
    first, second = first.float(), second.float()
    ids = tokens(2, 300)
    group_ids, known = groups.given_in_order(
        torch.stack([groups.shuffled(300, 4, given=100), groups.infill(torch.arange(300) > 50, 7, order="random")])
    )
    labels = ids.masked_fill(known | (torch.arange(300) % 5 == 0), -100)
    with torch.no_grad():
        found = [model(ids, group_ids, labels=labels) for model in (first, second)]
    same(found[1].log_probs, found[0].log_probs, 2e-4)
    same(found[1].loss, found[0].loss, FLOAT32)
    assert (found[0].log_probs < 0).sum() == (labels >= 0).sum()


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_gradients_equal_those_of_the_default_kernel(changes, backward_on_cpu):
    ids, group_ids = tokens(5, 9), groupings()
    labels = ids.masked_fill(torch.arange(9) == 4, -100)
    gradients = []
    for model in pair(**changes):
        model(ids, group_ids, labels=labels).loss.backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    assert max(gradient.abs().max() for gradient in gradients[0].values()) > 1e-3
    for name, gradient in gradients[0].items():
        same(gradients[1][name], gradient)


@pytest.mark.parametrize("group_ids", [[[1, 1, 1, 1]], [[1, 2, 2, -1]], [[-1, -1, 2, 1]], [[1, 1, 1, 1], [0, 1, 2, 3]]])
def test_rows_that_see_nothing(group_ids, backward_on_cpu):
    """Zero attention forward, nothing backward: the prediction is blind, and nothing flows into unseen tokens."""
    group_ids = torch.tensor(group_ids)
    ids, (_, model) = tokens(*group_ids.shape), pair(seed=3)
    out = model(ids, group_ids, labels=ids, return_logits=True)
    blind = (group_ids > 0) & ~masks.query_mask(group_ids).any(-1)
    same(out.logits[blind], out.logits[blind][:1].expand_as(out.logits[blind]))
    out.logits[blind].sum().backward()
    assert all(w.grad is None or w.grad.isfinite().all() for w in model.parameters())
    embeddings = model.model.embed_tokens.weight.grad
    assert embeddings is None or embeddings.abs().max() == 0


def test_empty_rows_are_zero_in_attention_itself():
    content, query = torch.tensor([[1, 2, -1], [-1, -1, -1]]), torch.tensor([[1, 2], [-1, 3]])
    shape = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, n, 8, generator=shape) for n in (5, 3, 3))
    visible = flex.Blocks.of(content, query)
    dense = torch.cat(
        (masks.may_attend(content, content, own_group=True), masks.may_attend(query, content, own_group=False)), dim=1
    )
    assert torch.equal(visible.empty, ~dense.any(-1, keepdim=True)) and visible.empty.any()
    output, weights = attend(q, k, v, visible, "flex_attention")
    same(output, attend(q, k, v, Visibility.of(dense), "sdpa")[0], 1e-6)
    assert weights is None and output[1].abs().max() == 0


@pytest.mark.parametrize("model", [FLEX, WARM[1]], ids=QUERY_STARTS)
@settings(max_examples=5, deadline=None)
@given(group_rows, st.integers(0, 5))
def test_no_leakage(model, rows, seed):
    no_leakage(model, tokens(len(rows), 6, seed), torch.tensor(rows))


@pytest.mark.parametrize("asked", [{}, {"content_logits": True}])
def test_a_warm_query_stream_is_the_source_model(asked):
    """Law 1 with this kernel, whose rows stand in the order of generation."""
    model = strong_model(query_start="previous")
    model.set_attn_implementation("flex_attention")
    query_parity(model, strong_llama(), tokens(2, 12), **asked)


def test_mixed_precision_has_one_dtype():
    """Autocast casts what goes into the default kernel; rotary embedding has made queries and keys float32 again."""
    first, second = (model.float() for model in pair())
    ids, group_ids = tokens(5, 9), groupings()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        one, other = (model(ids, group_ids).logits.float().softmax(-1) for model in (first, second))
    assert (one - other).abs().max() < 0.2  # bfloat16: the point is that it runs


# The mutants: what the tests above would catch


def mutate_limit(monkeypatch):
    """Queries see their own group."""
    right = flex.Blocks.between.__func__
    monkeypatch.setattr(
        flex.Blocks, "between", classmethod(lambda cls, content, query, empty: right(cls, content, query + 1, empty))
    )


def mutate_positions(monkeypatch):
    """Sorting moves the positions too."""
    model, forward = FLEX.model, FLEX.model.forward
    monkeypatch.setattr(
        model, "forward", lambda positions, **rest: forward(positions=positions.sort(-1).values, **rest), raising=False
    )


def mutate_empty(monkeypatch):
    """Empty rows keep what the kernel made of them."""
    right = flex.Blocks.between.__func__
    monkeypatch.setattr(
        flex.Blocks, "between", classmethod(lambda cls, content, query, empty: right(cls, content, query, None))
    )


def mutate_shared_mask(monkeypatch):
    """The last layer, which has query rows only, takes the first layers' mask."""
    monkeypatch.setattr(flex.Blocks, "rows", lambda self, start: self._replace(limit=self.limit.roll(1, 1)[:, start:],
                        empty=None if self.empty is None else self.empty[:, start:], start=start))  # fmt: skip


@pytest.mark.parametrize("mutate", [mutate_limit, mutate_positions, mutate_empty, mutate_shared_mask])
def test_the_mutant_is_caught(mutate, monkeypatch):
    equal_kernels(SDPA, FLEX, tokens(5, 9), groupings())
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        equal_kernels(SDPA, FLEX, tokens(5, 9), groupings())


def test_labels_in_the_order_of_positions_would_be_caught():
    """What comes out of the slots stands in the order of generation; a label must meet its own position."""
    ids, group_ids = tokens(1, 9), groups.shuffled(9, 1, generator=torch.Generator().manual_seed(0))[None]
    with torch.no_grad():
        scores, logits = FLEX(ids, group_ids, labels=ids).log_probs, FLEX(ids, group_ids).logits.log_softmax(-1)
    right = logits.gather(-1, ids[..., None])[..., 0].masked_fill(group_ids == 0, 0)
    same(scores, right)
    in_slots = group_ids[0].argsort(stable=True)
    assert (scores - right[:, in_slots]).abs().max() > 0.1  # the test can tell the two orders apart


# The blocks


def oracle(limit: torch.Tensor, column: torch.Tensor, block: int):
    """PyTorch's own way from a rule to blocks: write the mask out, then look at each block."""
    return torch_flex.create_block_mask(
        lambda b, h, i, j: column[b, j] <= limit[b, i],
        len(limit),
        None,
        limit.shape[1],
        column.shape[1],
        device="cpu",
        BLOCK_SIZE=block,
    )


def listed(count: torch.Tensor, indices: torch.Tensor) -> list[set[int]]:
    """The blocks of every row of blocks."""
    return [set(row[:n].tolist()) for n, row in zip(count.flatten(), indices.flatten(0, -2), strict=True)]


def same_blocks(limit: torch.Tensor, column: torch.Tensor, block: int) -> None:
    ours, theirs = flex.block_mask(limit, column, block), oracle(limit, column, block)
    for name in ("kv", "full_kv", "q", "full_q"):
        pairs = [
            listed(getattr(mask, f"{name}_num_blocks"), getattr(mask, f"{name}_indices")) for mask in (ours, theirs)
        ]
        assert pairs[0] == pairs[1], name
    assert ours.shape == theirs.shape and ours.BLOCK_SIZE == theirs.BLOCK_SIZE


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 14), st.integers(0, 14), st.sampled_from([1, 2, 4]), st.integers(0, 2**31))
def test_blocks_are_those_of_the_whole_mask(batch, content, query, block, seed):
    """In any order of the slots, not only in the sorted one."""
    generator = torch.Generator().manual_seed(seed)
    content_groups, query_groups = (torch.randint(-1, 6, (batch, n), generator=generator) for n in (content, query))
    visible = flex.Blocks.of(content_groups, query_groups)
    if (visible.column < flex.NOBODY).any(-1).all():
        same_blocks(visible.limit, visible.column, block)
    mask = visible.block_mask()
    rows, columns = torch.arange(content + query)[None, :, None], torch.arange(content)[None, None]
    allowed = mask.mask_mod(torch.arange(batch)[:, None, None], None, rows, columns)
    dense = torch.cat(
        (
            masks.may_attend(content_groups, content_groups, own_group=True),
            masks.may_attend(query_groups, content_groups, own_group=False),
        ),
        dim=1,
    )
    empty = ~dense.any(-1, keepdim=True)
    assert torch.equal(allowed & ~empty, dense)
    assert allowed.any(-1).all(), "the kernel must never meet a row that sees nothing"


def test_a_wrong_block_would_be_caught(monkeypatch):
    limit, column = torch.tensor([[0, 1, 2, 3, 4, 5]]), torch.tensor([[0, 1, 2, 3, 4, 5]])
    same_blocks(limit, column, 2)
    monkeypatch.setattr(flex, "PADDING", 6)  # rows that only fill up the last block would see all
    with pytest.raises(AssertionError):
        same_blocks(limit[:, :5], column, 2)


def share_skipped(group_ids: torch.Tensor, in_order: bool) -> float:
    slots = group_ids.sort().values if in_order else group_ids
    visible = flex.Blocks.of(slots[None], slots[slots > 0][None])
    mask = visible.block_mask()
    computed = int(mask.kv_num_blocks.sum() + mask.full_kv_num_blocks.sum())
    return 1 - computed / (mask.kv_indices.shape[-2] * mask.kv_indices.shape[-1])


def test_the_order_of_generation_is_what_leaves_blocks_out():
    group_ids = groups.shuffled(4096, 4, generator=torch.Generator().manual_seed(0))
    assert share_skipped(group_ids, in_order=False) < 0.05
    assert 0.45 < share_skipped(group_ids, in_order=True) < 0.5


def test_masks_are_made_once_for_all_layers(monkeypatch):
    made, right = [], flex.block_mask
    monkeypatch.setattr(flex, "block_mask", lambda *arguments, **more: made.append(1) or right(*arguments, **more))
    with torch.no_grad():
        FLEX(tokens(5, 9), groupings())
    assert len(made) == 2  # all layers but the last, which has no content rows; and the last


# The switch


def test_a_user_turns_it_on(tmp_path):
    strong_model().save_pretrained(tmp_path)
    model = A3ForCausalLM.from_pretrained(tmp_path, attn_implementation="flex_attention")
    assert model.config._attn_implementation == flex.KERNEL
    model.save_pretrained(tmp_path / "again")
    again = A3ForCausalLM.from_pretrained(tmp_path / "again")
    assert again.config._attn_implementation == "sdpa"  # a choice of the session, not a part of the model
    ids, group_ids = tokens(5, 9), groupings()
    with torch.no_grad():
        before = again(ids, group_ids).logits
        again.set_attn_implementation("flex_attention")
        assert torch.equal(again(ids, group_ids).logits, model(ids, group_ids).logits)
        same(again(ids, group_ids).logits, before, 1e-4)  # the norms' statistics are float32 here


def test_it_is_really_used(monkeypatch):
    calls, right = [], flex.attend
    monkeypatch.setattr(flex, "attend", lambda *arguments: calls.append(1) or right(*arguments))
    ids, group_ids = tokens(5, 9), groupings()
    with torch.no_grad():
        SDPA(ids, group_ids)
        assert not calls
        FLEX(ids, group_ids)
        assert len(calls) == 3  # one per layer
        same(FLEX(ids, group_ids, output_attentions=True).logits, SDPA(ids, group_ids).logits)
        assert len(calls) == 3  # attention weights come from the kernel that writes them out


def test_decoding_takes_the_default_kernel(monkeypatch):
    monkeypatch.setattr(flex, "attend", None)
    ids, group_ids = tokens(1, 9), groups.shuffled(9, 2, generator=torch.Generator().manual_seed(0))[None]
    found = [generate(model, ids, group_ids, temperature=0).sequences for model in (SDPA, FLEX)]
    assert torch.equal(*found)


def test_no_backward_on_a_cpu_is_said_before_any_work(monkeypatch):
    monkeypatch.setattr(FLEX.model, "forward", None)
    with pytest.raises(ValueError, match=r"no backward pass on a CPU.*no_grad.*set_attn_implementation\('sdpa'\)"):
        FLEX(tokens(1, 6), groups.left_to_right(6)[None])


def test_dropout_is_refused():
    model = strong_model(attention_dropout=0.1)
    model.set_attn_implementation("flex_attention")
    ids, group_ids = tokens(1, 6), groups.left_to_right(6)[None]
    with torch.no_grad():
        model(ids, group_ids)
        with pytest.raises(ValueError, match="no dropout.*0.1"):
            model.train()(ids, group_ids)


def test_an_old_pytorch_and_another_device_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="'mps'"):
        flex.check(torch.device("mps"), False, 0.0)
    flex.check(torch.device("cuda"), True, 0.0)
    monkeypatch.setattr(flex, "BlockMask", None)
    with pytest.raises(ValueError, match="too old"):
        flex.check(torch.device("cpu"), False, 0.0)


def test_the_source_model_need_not_know_it():
    """from_autoregressive takes any Llama; the switch belongs to A3."""
    from laws import strong_llama

    model = from_autoregressive(strong_llama())
    model.set_attn_implementation("flex_attention")
    assert model.config._attn_implementation == flex.KERNEL
