"""model.py: laws 1, 2, 4 and 5 on tiny models, each shown to catch a named mutant; arguments; kernels; saving."""

import json

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import same

from a3mini import A3Config, A3ForCausalLM, attention, from_autoregressive, groups, masks
from a3mini import model as model_file
from a3mini.rows import QUERY_STARTS

V = laws.TINY["vocab_size"]
VARIANTS = {
    "grouped-query": {},
    "tied": {"tie_word_embeddings": True},
    "one key head, wide heads": {"num_key_value_heads": 1, "head_dim": 16},
    "multi-head, biases": {"num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True},
    "llama3 rope": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 100.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8,
        }
    },
    "yarn rope": {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 100.0,
            "factor": 4.0,
            "original_max_position_embeddings": 8,
        }
    },
    "linear rope, gelu": {
        "rope_parameters": {"rope_type": "linear", "rope_theta": 50.0, "factor": 2.0},
        "hidden_act": "gelu",
    },
}
MODEL = laws.strong_model()
BOTH = {start: laws.strong_model(query_start=start) for start in QUERY_STARTS}
starts = pytest.mark.parametrize("model", BOTH.values(), ids=BOTH)

group_rows = st.lists(st.lists(st.integers(-1, 4), min_size=6, max_size=6), min_size=1, max_size=3)


def tokens(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(V, (batch, length), generator=torch.Generator().manual_seed(seed))


def groupings(length: int = 9) -> torch.Tensor:
    """Five rows: one by one, blocks, shuffled, infilling with padding, and groups that see nothing at first."""
    generator = torch.Generator().manual_seed(1)
    unknown, padding = torch.zeros(length, dtype=torch.bool), torch.zeros(length, dtype=torch.bool)
    unknown[2:5], padding[-2:] = True, True
    return torch.stack(
        [
            groups.left_to_right(length),
            groups.blocks(length, 2, given=2),
            groups.shuffled(length, 3, generator=generator),
            groups.infill(unknown, 2, padding=padding),
            groups.shuffled(length, 2, given=0, generator=generator),
        ]
    )


# Law 1, and both streams against Hugging Face


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_content_stream_is_the_source_model(changes):
    laws.parity(laws.strong_model(**changes), laws.strong_llama(**changes), tokens(2, 12))


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_a_warm_query_stream_is_the_source_model_too(changes):
    """Nothing is trained, and w is random: from the second position on it is not read."""
    laws.query_parity(laws.strong_model(query_start="previous", **changes), laws.strong_llama(**changes), tokens(2, 12))


@pytest.mark.parametrize(
    "asked",
    [{}, {"content_logits": True}, {"output_attentions": True}, {"labels": tokens(2, 12), "return_logits": True}],
)
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_a_warm_query_stream_is_the_source_whatever_is_asked_for(kernel, asked):
    model, llama = laws.strong_model(query_start="previous"), laws.strong_llama()
    model.set_attn_implementation(kernel)
    laws.query_parity(model, llama, tokens(2, 12), **asked)


@starts
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_both_streams_equal_the_oracle(changes, model):
    laws.both_streams(laws.strong_model(query_start=model.config.query_start, **changes), tokens(5, 9), groupings())


@starts
@settings(max_examples=30, deadline=None)
@given(group_rows)
def test_both_streams_equal_the_oracle_at_any_grouping(model, rows):
    laws.both_streams(model, tokens(len(rows), 6), torch.tensor(rows))


# Law 2


@starts
@settings(max_examples=30, deadline=None)
@given(group_rows, st.integers(0, 5))
def test_no_leakage(model, rows, seed):
    laws.no_leakage(model, tokens(len(rows), 6, seed), torch.tensor(rows))


# Law 4


@starts
@pytest.mark.parametrize("row", range(5))
def test_the_cache_is_exact(row, model):
    laws.exact_cache(model, tokens(1, 9), groupings()[row : row + 1])


# The mutants: each law fails when the model is wrong in the way that it guards against.


def mutate_leak(monkeypatch):
    """A query sees its own group."""
    right = masks.may_attend
    monkeypatch.setattr(masks, "may_attend", lambda rows, columns, own_group: right(rows, columns, True))


def mutate_content_sees_all(monkeypatch):
    """Content sees later groups: invisible to one layer's masks, a leak from the second layer on."""
    right = masks.may_attend

    def wrong(rows, columns, own_group):
        all_seen = (columns >= 0)[..., None, :].expand(*rows.shape, columns.shape[-1])
        return all_seen if own_group else right(rows, columns, own_group)

    monkeypatch.setattr(masks, "may_attend", wrong)


def mutate_position(monkeypatch):
    """Query positions are off by one."""
    right = model_file.A3Model.forward

    def wrong(self, content_ids, positions, **rest):
        shift = torch.arange(positions.shape[1]) >= content_ids.shape[1]
        return right(self, content_ids, positions + shift, **rest)

    monkeypatch.setattr(model_file.A3Model, "forward", wrong)


def mutate_residual(monkeypatch):
    """The official code's departure: the MLP is added to the normed state."""

    def wrong(self, hidden, n_content, rope, visible, kernel, cache, first_row):
        normed, visible = self.input_layernorm(hidden), visible.rows(first_row)
        attended, weights = self.self_attn(normed[:, first_row:], normed[:, :n_content], rope, visible, kernel, cache)
        normed = self.post_attention_layernorm(hidden[:, first_row:] + attended)
        return normed + self.mlp(normed), weights

    monkeypatch.setattr(model_file.A3DecoderLayer, "forward", wrong)


def mutate_missing_residual(monkeypatch):
    """Attention replaces the state instead of adding to it."""

    def wrong(self, hidden, n_content, rope, visible, kernel, cache, first_row):
        normed, visible = self.input_layernorm(hidden), visible.rows(first_row)
        attended, weights = self.self_attn(normed[:, first_row:], normed[:, :n_content], rope, visible, kernel, cache)
        return attended + self.mlp(self.post_attention_layernorm(attended)), weights

    monkeypatch.setattr(model_file.A3DecoderLayer, "forward", wrong)


def mutate_stale_cache(monkeypatch):
    """The cache forgets where its content stood."""
    right = model_file.A3Model.rope
    monkeypatch.setattr(
        model_file.A3Model,
        "rope",
        lambda self, positions, dtype: right(self, torch.arange(positions.shape[1]).expand_as(positions), dtype),
    )


def check_parity():
    laws.parity(MODEL, laws.strong_llama(), tokens(2, 9))


def check_streams():
    laws.both_streams(MODEL, tokens(5, 9), groupings())


def check_leakage():
    laws.no_leakage(MODEL, tokens(5, 9), groupings())


def check_cache():
    laws.exact_cache(MODEL, tokens(1, 9), groupings()[2:3])


@pytest.mark.parametrize(
    ("mutate", "law"),
    [
        (mutate_leak, check_leakage),
        (mutate_content_sees_all, check_leakage),
        (mutate_content_sees_all, check_parity),
        (mutate_position, check_streams),
        (mutate_residual, check_parity),
        (mutate_residual, check_streams),
        (mutate_missing_residual, check_parity),
        (mutate_stale_cache, check_cache),
    ],
)
def test_the_law_catches_the_mutant(mutate, law, monkeypatch):
    law()
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        law()


# The same for what warm query rows start from

BEFORE = "(before >= 0) & (before < group_ids)"
PLACE = "query.index - query.take((found != FROM_VECTOR).long(), 0)"
START_MUTANTS = {  # what is wrong: where, what stands there instead, which laws see it
    "it starts from its own group": (BEFORE, "(before >= 0) & (before <= group_ids)", ("leakage", "streams")),
    "it starts from any group": (BEFORE, "before >= 0", ("leakage", "streams")),
    "it starts from padding": (BEFORE, "before < group_ids", ("padding", "streams")),
    "it does not start from given tokens": (BEFORE, "(before > 0) & (before < group_ids)", ("queries", "streams")),
    "it stands at its own position": (PLACE, "query.index", ("queries", "streams")),
    "w, too, stands one before": (PLACE, "query.index - 1", ("streams",)),
    "the token after": ("F.pad(tokens, (1, -1))", "F.pad(tokens, (-1, 1))", ("queries", "leakage", "streams")),
    "only w": ("masked_fill(~warm, FROM_VECTOR)", "fill_(FROM_VECTOR)", ("queries", "streams")),
}


def check_padding_is_not_read(model=MODEL):
    """Padding before a predicted token, and at the start, inside and at the end of a row."""
    ids, group_ids = tokens(2, 7), torch.tensor([[-1, 2, -1, 0, 1, -1, 3], [-1, -1, 0, -1, 1, 2, -1]])
    other = torch.where(group_ids < 0, (ids + 1) % V, ids)
    outside = ids.masked_fill(group_ids < 0, -1)  # allowed, since nothing reads it
    for changed in (other, outside):
        assert torch.equal(model(ids, group_ids).logits, model(changed, group_ids).logits)


WARM_LAWS = {
    "leakage": lambda: laws.no_leakage(BOTH["previous"], tokens(5, 9), groupings()),
    "streams": lambda: laws.both_streams(BOTH["previous"], tokens(5, 9), groupings()),
    "queries": lambda: laws.query_parity(BOTH["previous"], laws.strong_llama(), tokens(2, 9)),
    "padding": lambda: check_padding_is_not_read(BOTH["previous"]),
}


@pytest.mark.parametrize(
    ("mutant", "law"), [(mutant, law) for mutant, (*_, seen_by) in START_MUTANTS.items() for law in seen_by]
)
def test_the_law_catches_a_wrong_start(mutant, law, monkeypatch):
    WARM_LAWS[law]()
    laws.mutate_starts(monkeypatch, *START_MUTANTS[mutant][:2])
    with pytest.raises(AssertionError):
        WARM_LAWS[law]()


@starts
def test_the_query_embedding_matters(model):
    """With the warm start: where the token before is not seen, and nowhere else."""
    ids, group_ids = tokens(1, 6), torch.tensor([[0, 1, 2, 2, 4, 3]])
    other = laws.strong_model(query_start=model.config.query_start)
    with torch.no_grad():
        other.model.query_embedding.zero_()
    change = (model(ids, group_ids).logits - other(ids, group_ids).logits).abs().amax(-1)[0]
    cold = [1, 2, 3, 4, 5] if model.config.query_start == "vector" else [3, 5]
    assert (change[cold] > 0.1).all() and change.sum() == change[cold].sum()


# Law 5: invariances


@starts
@settings(max_examples=20, deadline=None)
@given(group_rows)
def test_relabelling_changes_nothing(model, rows):
    group_ids, ids = torch.tensor(rows), tokens(len(rows), 6)
    other = torch.where(group_ids > 0, group_ids * group_ids + 5, group_ids)
    assert torch.equal(model(ids, group_ids).logits, model(ids, other).logits)


@starts
def test_padding_changes_nothing(model):
    ids, group_ids = tokens(5, 9), groupings()
    padded_ids = torch.cat((ids, tokens(5, 4, seed=7)), dim=1)
    padded_groups = torch.cat((group_ids, torch.full((5, 4), -1)), dim=1)
    plain, padded = (model(i, g, content_logits=True) for i, g in ((ids, group_ids), (padded_ids, padded_groups)))
    same(plain.logits, padded.logits[:, :9])
    same(plain.content_logits, padded.content_logits[:, :9])
    assert padded.logits[:, 9:].abs().max() == 0 and padded.content_logits[:, 9:].abs().max() == 0


@starts
def test_padding_ids_are_never_read(model):
    check_padding_is_not_read(model)


@starts
def test_left_padding_shifts_positions_and_changes_nothing(model):
    """RoPE depends on differences of positions only. Its angles are float32, as in Llama: hence the tolerance."""
    ids, group_ids = tokens(5, 9), groupings()
    padded = model(
        torch.cat((torch.zeros(5, 3, dtype=torch.int64), ids), dim=1),
        torch.cat((torch.full((5, 3), -1), group_ids), dim=1),
    )
    same(model(ids, group_ids).logits, padded.logits[:, 3:], tolerance=1e-4)


@starts
def test_batching_changes_nothing(model):
    ids, group_ids = tokens(5, 9), groupings()
    together = model(ids, group_ids, labels=ids)
    alone = [model(ids[row : row + 1], group_ids[row : row + 1], labels=ids[row : row + 1]) for row in range(5)]
    same(together.log_probs, torch.cat([out.log_probs for out in alone]))


@starts
def test_unfilled_tokens_never_matter(model):
    """The last group's tokens feed nothing."""
    ids, group_ids = tokens(2, 6), torch.tensor([[0, 1, 2, 3, 3, 3], [3, 0, 3, 1, 3, 2]])
    other = ids.masked_fill(group_ids == 3, 0)
    assert torch.equal(model(ids, group_ids).logits, model(other, group_ids).logits)


# Only needed rows are computed, and asking for more changes no value.


@starts
def test_fewer_outputs_same_values(model):
    ids, group_ids = tokens(5, 9), groupings()
    full = model(ids, group_ids, labels=ids, content_logits=True, return_logits=True)
    lean = model(ids, group_ids, labels=ids)
    assert lean.logits is None and lean.content_logits is None
    same(full.log_probs, lean.log_probs)
    same(full.loss, lean.loss)
    same(full.logits, model(ids, group_ids).logits)
    assert model(ids, group_ids, content_logits=True, return_logits=False).logits is None


def test_a_few_labels_cost_a_few_rows(monkeypatch):
    ids, group_ids = tokens(1, 9), groups.left_to_right(9)[None]
    labels = torch.full_like(ids, -100)
    labels[0, 4] = ids[0, 4]
    shapes = []
    monkeypatch.setattr(
        MODEL.model.layers[0], "forward", lambda hidden, *rest: shapes.append(hidden.shape) or (hidden, None)
    )
    monkeypatch.setattr(
        MODEL.model.layers[2], "forward", lambda hidden, n_content, *rest: (hidden[:, n_content:], None)
    )
    MODEL(ids, group_ids, labels=labels)
    assert shapes == [
        (1, (4 + 1) + (1 + 1), 32)
    ]  # content of positions 0 to 3, the query at 4; each with one that fills up


# The loss


def test_loss_is_the_mean_over_predicted_tokens():
    ids, group_ids = tokens(5, 9), groupings()
    labels = ids.clone()
    labels[0, 3] = labels[2, 5] = -100
    out = MODEL(ids, group_ids, labels=labels, return_logits=True)
    terms, used = torch.zeros(5, 9, dtype=torch.float64), 0
    for row in range(5):
        for t in range(9):
            if group_ids[row, t] > 0 and labels[row, t] != -100:
                terms[row, t] = out.logits[row, t].log_softmax(-1)[ids[row, t]]
                used += 1
    same(out.log_probs, terms)
    same(out.loss, -terms.sum() / used)


def test_labels_are_not_shifted():
    """At left-to-right singletons a model whose query stream copied the content stream would score label t at t."""
    ids = tokens(1, 6)
    labels = torch.full_like(ids, -100)
    labels[0, 2] = 3
    group_ids = groups.left_to_right(6)[None]
    expected = MODEL(ids, group_ids).logits[0, 2].log_softmax(-1)[3]
    same(MODEL(ids, group_ids, labels=labels).loss, -expected)


# Rows that see nothing


@pytest.mark.parametrize("group_ids", [[[1, 1, 1, 1]], [[1, 2, 2, -1]], [[-1, -1, 2, 1]], [[1, 1, 1, 1], [0, 1, 2, 3]]])
@pytest.mark.parametrize("attentions", [False, True], ids=["sdpa", "eager"])
@pytest.mark.parametrize("start", QUERY_STARTS)
def test_rows_that_see_nothing(group_ids, attentions, start):
    """Forward: position-blind and finite. Backward: finite, and nothing flows into keys nobody may see."""
    model = laws.strong_model(seed=3, query_start=start)
    group_ids = torch.tensor(group_ids)
    ids = tokens(*group_ids.shape)
    out = model(ids, group_ids, labels=ids, return_logits=True, output_attentions=attentions)
    blind = (group_ids > 0) & ~masks.query_mask(group_ids).any(-1)
    first = out.logits[blind][0]
    same(out.logits[blind], first.expand_as(out.logits[blind]))
    out.loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert gradients["model.query_embedding"].abs().sum() > 0


@pytest.mark.parametrize("start", QUERY_STARTS)
def test_nothing_to_see_means_no_gradient_to_the_tokens(start):
    model = laws.strong_model(seed=3, query_start=start)
    ids = tokens(1, 4)
    model(ids, torch.tensor([[1, 1, 1, 1]]), labels=ids).loss.backward()
    assert model.model.embed_tokens.weight.grad is None or model.model.embed_tokens.weight.grad.abs().max() == 0


def test_nothing_predicted():
    ids = tokens(2, 4)
    out = MODEL(ids, torch.zeros_like(ids), content_logits=True)
    assert out.logits.shape == (2, 4, V) and out.logits.abs().max() == 0
    assert out.content_logits.abs().max() > 0
    assert MODEL(ids, torch.full_like(ids, -1)).logits.abs().max() == 0


# Kernels and attention weights


@starts
def test_kernels_agree(model):
    ids, group_ids = tokens(5, 9), groupings()
    eager = A3ForCausalLM._from_config(model.config, attn_implementation="eager").double().eval()
    eager.load_state_dict(model.state_dict())
    same(eager(ids, group_ids).logits, model(ids, group_ids).logits)
    same(model(ids, group_ids, output_attentions=True).logits, model(ids, group_ids).logits)


@starts
def test_attention_weights_follow_the_masks(model):
    ids, group_ids = tokens(5, 9), groupings()
    out = model(ids, group_ids, output_attentions=True)
    assert len(out.content_attentions) == len(out.query_attentions) == 3
    predicted = group_ids > 0
    for weights, allowed, rows in (
        (out.content_attentions, masks.content_mask(group_ids), group_ids >= 0),
        (out.query_attentions, masks.query_mask(group_ids) & predicted[..., None], predicted),
    ):
        for layer in weights:
            assert layer.shape == (5, 4, 9, 9)
            assert layer.masked_select(~allowed[:, None]).abs().sum() == 0
            sums = layer.sum(-1).transpose(1, 2)  # (B, T, H)
            same(sums, (allowed.any(-1) & rows)[..., None].expand_as(sums).double())


@pytest.mark.parametrize("start", QUERY_STARTS)
def test_gradients_of_both_kernels_agree(start):
    ids, group_ids, gradients = tokens(5, 9), groupings(), []
    for attentions in (False, True):
        model = laws.strong_model(query_start=start)
        model(ids, group_ids, labels=ids, output_attentions=attentions).loss.backward()
        gradients.append([weight.grad for weight in model.parameters()])
    for first, second in zip(*gradients, strict=True):
        same(first, second)


# Saving and loading


@pytest.mark.parametrize(
    "changes",
    [{}, {"tie_word_embeddings": True}, {"query_start": "previous"}],
    ids=["untied", "tied", "warm"],
)
def test_save_and_load(tmp_path, changes):
    model = laws.strong_model(**changes)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    again = A3ForCausalLM.from_pretrained(tmp_path)
    first, second = ({**m.config.to_dict(), "_name_or_path": ""} for m in (model, again))
    assert isinstance(again.config, A3Config) and first == second
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(again.state_dict()[name], weight) for name, weight in model.state_dict().items())
    ids, group_ids = tokens(5, 9), groupings()
    assert torch.equal(again(ids, group_ids).logits, model(ids, group_ids).logits)


def test_loading_is_strict(tmp_path):
    laws.strong_llama().save_pretrained(tmp_path)  # a Llama: its config and its missing w
    with pytest.raises(ValueError, match="query_embedding"):
        A3ForCausalLM.from_pretrained(tmp_path, config=laws.tiny_config())


def test_parameter_names_are_llamas():
    ours, llamas = set(laws.strong_model().state_dict()), set(laws.strong_llama().state_dict())
    assert ours == llamas | {"model.query_embedding"}


# What query rows start from, in the config


def test_a_config_keeps_its_start(tmp_path):
    """And one that says nothing, as all older ones, has the paper's."""
    assert laws.tiny_config().query_start == "vector" == A3Config.query_start
    for start in QUERY_STARTS:
        laws.tiny_config(query_start=start).save_pretrained(tmp_path)
        assert A3Config.from_pretrained(tmp_path).query_start == start
    laws.tiny_config().save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    saved.pop("query_start", None)
    (tmp_path / "config.json").write_text(json.dumps(saved))
    assert A3Config.from_pretrained(tmp_path).query_start == "vector"


@pytest.mark.parametrize("start", ["warm", "Previous", "", None, 1, ["vector"]])
def test_a_start_that_does_not_exist(start):
    with pytest.raises(ValueError, match="query_start must be one of vector, previous; got") as caught:
        laws.tiny_config(query_start=start)
    assert repr(start) in str(caught.value)
    with pytest.raises(ValueError, match="query_start must be one of vector, previous; got"):
        from_autoregressive("no such model", query_start=start)  # said before anything is read


# Arguments


def bad(**changes):
    arguments = {"input_ids": tokens(2, 6), "group_ids": groups.left_to_right(6).expand(2, -1)}
    return {**arguments, **changes}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"input_ids": [[1, 2]]}, TypeError, "input_ids must be an int64 tensor, got list"),
        ({"input_ids": torch.zeros(2, 6)}, TypeError, "torch.float32"),
        ({"input_ids": tokens(2, 5)}, ValueError, r"input_ids has shape \(2, 5\) but group_ids has \(2, 6\)"),
        ({"input_ids": tokens(2, 6)[0]}, ValueError, r"shape \(B, T\)"),
        ({"input_ids": tokens(2, 6) + V}, ValueError, f"outside the vocabulary 0 .. {V - 1}"),
        ({"input_ids": tokens(2, 6) - V}, ValueError, "outside the vocabulary"),
        ({"input_ids": torch.zeros(2, 0, dtype=torch.int64)}, ValueError, "neither of them zero"),
        ({"group_ids": groups.left_to_right(6)}, ValueError, r"use group_ids.expand\(B, -1\)"),
        ({"group_ids": torch.zeros(2, 6)}, TypeError, "group_ids must hold integers, got torch.float32"),
        ({"group_ids": torch.full((2, 6), -2)}, ValueError, "group_ids holds -2"),
        ({"labels": tokens(2, 6).float()}, TypeError, "labels must be an int64 tensor"),
        ({"labels": tokens(2, 5)}, ValueError, "labels has shape"),
        ({"labels": tokens(2, 6) + V}, ValueError, "labels holds"),
        ({"labels": torch.full((2, 6), -100)}, ValueError, "nothing is predicted"),
        ({"labels": torch.full((2, 6), -3)}, ValueError, "labels holds -3"),
        (
            {"labels": tokens(2, 6), "group_ids": torch.tensor([[0, 0, 0, -1, -1, -1]] * 2)},
            ValueError,
            "nothing is predicted",
        ),
        (
            {"input_ids": tokens(1, 33), "group_ids": groups.left_to_right(33)[None]},
            ValueError,
            "33 tokens, but the model allows 32",
        ),
    ],
)
def test_bad_arguments(changes, error, message):
    with pytest.raises(error, match=message):
        MODEL(**bad(**changes))


def test_int32_group_ids_are_accepted():
    arguments = bad()
    assert torch.equal(
        MODEL(**arguments).logits, MODEL(**{**arguments, "group_ids": arguments["group_ids"].int()}).logits
    )


@pytest.mark.parametrize("rope_type", ["linear", "yarn", "llama3"])
def test_rope_of_a_part_of_each_head_is_refused(rope_type):
    more = {"rope_theta": 100.0, "factor": 2.0, "original_max_position_embeddings": 8}
    more |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0} if rope_type == "llama3" else {}
    for part in ({"partial_rotary_factor": 0.5}, {}):
        settings = {"rope_parameters": {"rope_type": rope_type, **more, **part}}
        with pytest.raises(ValueError, match=r"does not cover partial_rotary_factor 0.5"):
            A3Config(**laws.TINY, **settings, **({} if part else {"partial_rotary_factor": 0.5}))


@pytest.mark.parametrize("rope_type", ["dynamic", "longrope"])
def test_rope_that_depends_on_the_length_is_refused(rope_type):
    with pytest.raises(ValueError, match=rope_type):
        A3Config(
            **laws.TINY,
            rope_parameters={
                "rope_type": rope_type,
                "rope_theta": 100.0,
                "factor": 2.0,
                "original_max_position_embeddings": 8,
                "short_factor": [1.0] * 4,
                "long_factor": [1.0] * 4,
            },
        )


def test_half_precision_keeps_the_loss_in_float32():
    model = from_autoregressive(laws.strong_llama(), dtype=torch.bfloat16)
    ids = tokens(2, 6)
    out = model(ids, groups.left_to_right(6).expand(2, -1), labels=ids)
    assert out.loss.dtype == torch.float32 and out.loss.isfinite()


# A linear layer for few rows


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(0,), (1,), (2,), (8,), (9,), (1, 1), (2, 3), (1, 0), (2, 2, 2)])
def test_few_rows_give_the_same_product(shape, bias, monkeypatch):
    torch.manual_seed(0)
    layer = attention.A3Linear(12, 7, bias=bias)
    x = torch.randn(*shape, 12)
    turned, right = [], torch.nn.Linear.forward
    monkeypatch.setattr(torch.nn.Linear, "forward", lambda *args: turned.append(False) or right(*args))
    with torch.no_grad():
        found = layer(x)
        assert (not turned) == (1 < x[..., 0].numel() <= attention.FEW_ROWS)  # whether the product was turned round
        torch.testing.assert_close(found, torch.nn.functional.linear(x, layer.weight, layer.bias))


def test_training_and_other_types_take_the_usual_product():
    layer, x = attention.A3Linear(12, 7), torch.randn(2, 12)
    assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
    for dtype in (torch.bfloat16, torch.float64):
        layer, x = layer.to(dtype), x.to(dtype)
        with torch.no_grad():
            assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))


class Packed(torch.Tensor):
    """Knows the usual product alone, as the weights that torchao packs do."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function in (torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.mm):
            raise NotImplementedError(function)
        return super().__torch_function__(function, types, args, kwargs or {})


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 2, 8])
def test_packed_weights_take_the_usual_product(rows):
    layer, x = attention.A3Linear(12, 7), torch.randn(rows, 12)
    expected = torch.nn.functional.linear(x, layer.weight, layer.bias)
    layer.weight = torch.nn.Parameter(layer.weight.data.as_subclass(Packed), requires_grad=False)
    with pytest.raises(NotImplementedError):
        layer.weight @ x.T
    assert torch.equal(layer(x).as_subclass(torch.Tensor), expected)
