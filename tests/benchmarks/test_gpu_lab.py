"""The benchmark that trains on a GPU: what it draws, and that its steps compute what the package computes."""

import gpu_lab
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from a3mini import A3Config, A3ForCausalLM, adapter, from_autoregressive, groups, objective
from a3mini.evaluate.rivals import autoregressive_log_likelihood
from a3mini.train.recipes import MaskedDiffusionModel
from tests.shared.laws import TINY

VOCABULARY, LENGTH, ROWS, EMPTY = 29, 32, 64, 28
ENDS = torch.arange(VOCABULARY) % 5 == 1


@pytest.fixture
def text() -> gpu_lab.Text:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, EMPTY, (ROWS, LENGTH), generator=generator)
    return gpu_lab.Text(ids, torch.randint(2, LENGTH + 1, (ROWS,), generator=generator), ENDS, EMPTY)


def only(kind: str) -> tuple[float, ...]:
    return tuple(float(name == kind) for name in gpu_lab.KINDS)


@pytest.mark.parametrize("kind", gpu_lab.KINDS)
def test_a_row_keeps_its_tokens_in_their_order(text, kind):
    """Given the first, predicted all others, each once; spare room shifts what is behind a blank, and nothing else."""
    for step in range(3):
        ids, group_ids = gpu_lab.draw(text, step, ROWS, only(kind), seed=3)
        groups.check(group_ids)
        assert (group_ids[:, 0] == 0).all() and not (group_ids[:, 1:] == 0).any()
        for row in range(ROWS):
            there = ids[row][group_ids[row] >= 0].tolist()
            kept = [token for token in there if token != EMPTY]
            assert kept == text.ids[row][: len(kept)].tolist(), "the tokens, but for those beyond the end"
            lost = int(text.lengths[row]) - len(kept)
            ended = EMPTY in there
            assert there.count(EMPTY) <= 1 and (lost == 0 or (ended and kind in ("sentence", "span")))
            behind = (group_ids[row] >= 0).nonzero()[-1, 0] + 1
            hidden = int((group_ids[row, :behind] < 0).sum())
            assert hidden == 0 or (ended and hidden <= gpu_lab.ROOM)
        if kind != "strided":
            assert all(len(set(row[row > 0].tolist())) == int((row > 0).sum()) for row in group_ids), "singletons"


def test_orders(text):
    _, in_order = gpu_lab.draw(text, 0, ROWS, only("left to right"), 0)
    real = torch.arange(LENGTH) < text.lengths[:, None]
    assert torch.equal(in_order, torch.arange(LENGTH).expand(ROWS, -1).masked_fill(~real, -1))
    _, shuffled = gpu_lab.draw(text, 0, ROWS, only("random"), 0)
    assert torch.equal(shuffled.sort(-1).values, in_order.sort(-1).values) and not torch.equal(shuffled, in_order)
    _, strided = gpu_lab.draw(text, 0, ROWS, only("strided"), 0)
    for row, length in zip(strided, text.lengths.tolist(), strict=True):
        allowed = [groups.strided(length, streams).tolist() for streams in gpu_lab.STREAMS]
        assert row[:length].tolist() in allowed


def test_a_blank_comes_after_what_stands_around_it(text):
    """And its end, if it has one, last of all: the number of its group is the number of tokens."""
    for kind in ("sentence", "span"):
        ids, group_ids = gpu_lab.draw(text, 0, ROWS, only(kind), 0)
        ended = (ids == EMPTY) & (group_ids > 0)
        assert 10 < ended.any(-1).sum() < 60
        for row in range(ROWS):
            order = group_ids[row].masked_fill(group_ids[row] <= 0, 999).argsort()[: int((group_ids[row] > 0).sum())]
            turned = (order.diff() < 0).nonzero()  # the blank lies on the left of the end of what is around it
            around = order[: int(turned[0]) + 1] if len(turned) else order
            assert (around.diff() > 0).all()
            if ended[row].any():
                assert group_ids[row][ended[row]] == group_ids[row].max()


def test_the_draw_is_a_function_of_seed_and_step(text):
    first, again, other = (gpu_lab.draw(text, 1, ROWS, gpu_lab.MIX, seed) for seed in (0, 0, 1))
    assert torch.equal(first[1], again[1]) and not torch.equal(first[1], other[1])


@pytest.mark.parametrize("start", ["vector", "previous"])
def test_a_step_computes_what_the_package_computes(text, start, tmp_path):
    """All rows of both streams, with additions formed in the weights: the same as A3 with the adapter applied."""
    torch.manual_seed(0)
    source = A3ForCausalLM(A3Config(**TINY | {"vocab_size": VOCABULARY, "initializer_range": 0.3}))
    mark, plain = adapter.fingerprint(source), {n: w.clone() for n, w in source.state_dict().items()}
    trainer = gpu_lab.Trainer(source, low_rank=True, compiled=False)
    trainer.start(0)
    source.config.query_start = start
    with torch.no_grad():
        for name, weight in source.named_parameters():
            if name.endswith(adapter.UP):
                weight.normal_(0, 0.1)
    ids, group_ids = gpu_lab.draw(text, 0, ROWS, gpu_lab.MIX, 0)
    labels = ids.masked_fill(group_ids <= 0, -100)

    arm = gpu_lab.Arm("any order", 1, 1e-3, start)
    model = A3ForCausalLM(A3Config(**TINY | {"vocab_size": VOCABULARY}))
    model.load_state_dict(plain)
    named = dict(source.named_parameters())
    gpu_lab.save_additions(trainer, arm, tmp_path / "a", mark, EMPTY, {})
    assert adapter.apply(model, tmp_path / "a")["query_start"] == start
    assert model.config.empty_token_id == EMPTY
    # the file is bfloat16: the exact comparison needs the same numbers
    for name, weight in named.items():
        if name.endswith((adapter.DOWN, adapter.UP)):
            weight.data = weight.data.bfloat16().float()
    named["model.query_embedding"].data = named["model.query_embedding"].data.bfloat16().float()
    found = trainer.any_order(ids, group_ids, labels)
    expected = -objective.log_likelihood(model, ids, group_ids, reduction="token")
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)


def test_the_rivals_steps_are_llamas(text):
    torch.manual_seed(0)
    llama = LlamaForCausalLM(LlamaConfig(**TINY | {"vocab_size": VOCABULARY, "initializer_range": 0.3})).eval()
    trainer = gpu_lab.Trainer(from_autoregressive(llama), low_rank=False, compiled=False)
    real = torch.arange(LENGTH) < text.lengths[:, None]
    group_ids = torch.arange(LENGTH).expand(ROWS, -1).masked_fill(~real, -1)
    labels = text.ids.masked_fill(group_ids <= 0, -100)
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    found = trainer.shifted(text.ids, causal & real[:, None], None, labels)
    expected = -autoregressive_log_likelihood(llama, text.ids, group_ids)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)

    diffusion = MaskedDiffusionModel.from_autoregressive(llama)
    masked = (torch.rand(ROWS, LENGTH) < 0.5) & (group_ids > 0)
    visible = real[:, None].expand(-1, LENGTH, -1)
    found = trainer.shifted(text.ids, visible, masked, text.ids.masked_fill(~masked, -100))
    logits = diffusion(text.ids, masked, visible)
    expected = -logits.log_softmax(-1)[:, :-1].gather(-1, text.ids[:, 1:, None])[..., 0] * masked[:, 1:]
    torch.testing.assert_close(found[:, 1:], expected, rtol=0, atol=2e-4)


def test_a_finished_arm_is_not_trained_again(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_lab, "command_line", str)

    def lab(arms=("long", "compact"), batch=4, smoke=False) -> gpu_lab.Lab:
        return gpu_lab.Lab(tmp_path, tmp_path / "out", smoke, 100.0, list(arms), batch)

    def found(step: int) -> dict:
        return {"settings": {"steps": 8}, "curve": [{"step": 0}, {"step": step}]}

    first = lab()
    assert first.arms == ["long", "compact"]
    first.result["real_share"] = 0.9
    first.keep("long", found(8))
    first.keep("compact", found(4))
    second = lab()
    assert second.arms == ["compact"] and second.result["real_share"] == 0.9
    second.keep("compact", found(8))
    assert lab().arms == [] and set(lab().result["arms"]) == {"long", "compact"}
    with pytest.raises(SystemExit, match="choose another --out"):
        lab(batch=8)


def test_texts_to_prepare_must_be_named(tmp_path):
    with pytest.raises(SystemExit, match="--data is missing"):
        gpu_lab.prepare(None, tmp_path, smoke=False)
