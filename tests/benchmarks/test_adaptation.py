"""benchmarks/adaptation.py: the free teacher of the search, against a loop over the source model."""

import adaptation
import arms
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from a3mini import from_autoregressive
from a3mini.groups import KNOWN_ORDERS
from a3mini.rows import QUERY_STARTS
from a3mini.train import AnyOrder, Curriculum, add_lora, data

ROWS, LENGTH, WORDS = 3, 12, 60
LENGTHS = [12, 12, 9]


@pytest.fixture
def source():
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=WORDS, num_key_value_heads=2, max_position_embeddings=64, **shape)
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def blocks():
    ids = torch.randint(WORDS, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    sentence_ends = torch.zeros(ROWS, LENGTH, dtype=torch.bool)
    sentence_ends[:, [3, 6]] = True
    return data.Blocks(ids, torch.tensor(LENGTHS), torch.arange(ROWS), sentence_ends)


@pytest.mark.parametrize("known_order", KNOWN_ORDERS)
@torch.no_grad()
def test_left_to_right_the_source_teaches_the_query_stream(source, blocks, known_order):
    model = add_lora(from_autoregressive(source), 2, 4)
    for name, weight in model.named_parameters():
        if "lora_B" in name:  # it starts at zero: the teacher would be the student's content stream
            weight.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    recipe = adaptation.Taught(Curriculum((adaptation.ONE,)), known_order)
    batch = recipe.batch(blocks, 0.5, [0, 1, 2], 0)
    found = recipe.log_probs(model, batch.inputs)
    student = model(**batch.inputs, return_logits=True).logits.log_softmax(-1)
    for row, length in enumerate(LENGTHS):
        for at in range(1, length):
            teacher = source(blocks.input_ids[row : row + 1, :at]).logits[0, -1].softmax(-1)
            assert found[row, at].item() == pytest.approx((teacher @ student[row, at]).item(), abs=1e-4)


@pytest.mark.parametrize("query_start", QUERY_STARTS)
def test_an_arm_begins_from_the_start_that_is_asked_for(source, query_start):
    model, recipe = arms.begin("any-order", source, Curriculum((adaptation.ONE,)), "left_to_right", query_start)
    assert model.config.query_start == query_start and recipe.known_order == "left_to_right"
    assert arms.begin("any-order", source, Curriculum((adaptation.ONE,)))[0].config.query_start == "vector"
    for kind in ("diffusion", "autoregressive"):
        assert not hasattr(arms.begin(kind, source, query_start=query_start)[0].config, "query_start")


def test_the_search_leaves_out_what_the_base_run_is(source, blocks, monkeypatch):
    tried, stored = [], {}
    monkeypatch.setattr(adaptation, "kept", lambda folder, title, settings, make: tried.append(title) or made)
    monkeypatch.setattr(adaptation, "rows", lambda options, tokenizer: (blocks, blocks))
    monkeypatch.setattr(adaptation.pretrained, "small_model", lambda: (source, None, "tiny"))
    monkeypatch.setattr(adaptation, "record", lambda name, **data: stored.update(data))
    made = {"nats": {}, "wall_seconds": 1.0}
    for start, other in (("vector", "the token before"), ("previous", "w")):
        tried.clear()
        monkeypatch.setattr("sys.argv", ["adaptation.py", "search", "--query-start", start])
        adaptation.main()
        assert [title for title in tried if "query rows" in title] == [f"query rows start from {other}"]
        assert stored["query_start"] == start


def test_in_other_orders_there_is_no_teacher(source, blocks):
    model = add_lora(from_autoregressive(source), 2, 4)
    curriculum = Curriculum((adaptation.THREE,))
    for known_order in KNOWN_ORDERS:
        inputs = adaptation.Taught(curriculum, known_order).batch(blocks, 0.5, [0, 1, 2], 0).inputs
        recipes = (kind(curriculum, known_order) for kind in (adaptation.Taught, AnyOrder))
        taught, plain = (recipe.log_probs(model, inputs) for recipe in recipes)
        assert torch.equal(taught, plain)
