"""benchmarks/study.py: the arithmetic of its report, and that its arms differ in nothing but the recipe."""

import pytest
import study
import study_report
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from a3mini import evaluate
from a3mini.train import data


def test_interval_is_students():
    assert study_report.interval([1.0, 2.0, 3.0]) == pytest.approx([2.0, 4.303 / 3**0.5], abs=1e-4)


def test_differences_are_paired_by_seed_and_document():
    """Documents and seeds differ wildly, the arms by exactly 0.5 nats per token."""
    tokens = [10, 20, 30]
    second = [{"nats": {"x": [seed * 100.0 + 7 * n for n in tokens]}, "tokens": {"x": tokens}} for seed in range(3)]
    first = [{**s, "nats": {"x": [v - 0.5 * n for v, n in zip(s["nats"]["x"], tokens, strict=True)]}} for s in second]
    found = study_report.difference(first, second, "x")
    assert found == {"mean": -0.5, "over_seeds": 0.0, "over_documents": [-0.5, -0.5]}


def test_equal_operations():
    flops = {"ar": 2.0, "diffusion": 4.0, "a3_paper": 3.0}
    assert study.steps_of("ar_long", flops) == round(1.5 * study.STEPS)
    assert study.steps_of("diffusion_long", flops) == round(0.75 * study.STEPS)
    assert study.steps_of("a3_paper", flops) == study.STEPS


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    shape = {**study.SHAPE, "vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    ids = torch.randint(3, 300, (study.BATCH * 2, study.LENGTH))
    ends = torch.zeros_like(ids).bool()
    ends[:, ::9] = True
    blocks = data.Blocks(ids, torch.full((len(ids),), study.LENGTH), torch.arange(len(ids)), ends)
    return LlamaForCausalLM(LlamaConfig(**shape)).eval(), blocks


def test_arms_start_from_the_same_weights(tiny):
    for arm in study.ARMS:
        model, _ = study.make(arm, tiny[0])
        for name, weight in tiny[0].state_dict().items():
            assert torch.equal(model.state_dict()[name], weight), (arm, name)


def test_the_counter_sees_attention_in_every_arm(tiny):
    """Per step: matrix products of weights, and the scores, whose count grows with the length."""
    for arm in ("ar", "diffusion", "a3_stage3"):
        source, blocks = tiny
        short = blocks.rows(slice(None))._replace(
            input_ids=blocks.input_ids[:, : study.LENGTH // 2],
            sentence_ends=blocks.sentence_ends[:, : study.LENGTH // 2],
            lengths=blocks.lengths // 2,
        )
        whole, half = (study.flops_per_step(arm, source, rows, samples=2) for rows in (blocks, short))
        assert whole > 2.1 * half, arm


def test_every_arm_fills_a_blank_and_keeps_the_rest(tiny):
    source, blocks = tiny
    rows = blocks.rows(slice(0, 2))
    group_ids = evaluate.draw(rows, study.Grouping("span"))
    for arm in ("ar", "diffusion", "a3_paper"):
        model, _ = study.make(arm, source)
        with torch.no_grad():
            filled = study.fill(arm, model.eval(), rows.input_ids, group_ids, 0.0, 0)
        assert torch.equal(filled[group_ids == 0], rows.input_ids[group_ids == 0]), arm
        assert not torch.equal(filled, rows.input_ids), arm
