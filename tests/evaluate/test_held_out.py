"""evaluate/held_out.py: the same groups for every model, losses equal to log_likelihood, padding."""

import pytest
import torch
from laws import same, strong_llama, strong_model

from a3mini import groups, objective
from a3mini.evaluate import GROUPINGS, HeldOut, autoregressive_log_likelihood, draw, token_losses
from a3mini.train import Blocks, Grouping

V, WIDTH = 11, 16
MODEL = strong_model()
LENGTHS = torch.tensor([16, 5, 2, 16, 9])


def blocks() -> Blocks:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(V, (5, WIDTH), generator=generator)
    ends = (torch.rand(5, WIDTH, generator=generator) < 0.3) & (torch.arange(WIDTH) < LENGTHS[:, None])
    return Blocks(ids, LENGTHS, torch.arange(5), ends)


BLOCKS = blocks()


def score(input_ids, group_ids):
    return objective.log_likelihood(MODEL, input_ids, group_ids, reduction="token")


@pytest.mark.parametrize("grouping", GROUPINGS.values(), ids=GROUPINGS)
def test_groups_are_the_same_for_every_model(grouping):
    group_ids = draw(BLOCKS, grouping, seed=3)
    torch.rand(5)
    assert torch.equal(group_ids, draw(BLOCKS, grouping, seed=3))
    some = BLOCKS.rows(slice(0, 2))
    assert torch.equal(group_ids[:2], draw(some, grouping, seed=3)), "fewer rows, the same groups"
    assert torch.equal(group_ids < 0, torch.arange(WIDTH) >= LENGTHS[:, None])
    assert (group_ids[:, 0] == 0).all() and (group_ids > 0).any(-1).all()
    if grouping.kind not in ("blocks", "strided"):  # these are not drawn
        assert not torch.equal(group_ids, draw(BLOCKS, grouping, seed=4))


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_token_losses_equal_log_likelihood(batch_size):
    group_ids = draw(BLOCKS, Grouping("shuffled", 2))
    nats, tokens = token_losses(score, BLOCKS, group_ids, batch_size=batch_size)
    assert not nats.requires_grad and torch.equal(tokens, LENGTHS - 1)
    with torch.no_grad():
        for row, length in enumerate(LENGTHS.tolist()):
            alone = objective.log_likelihood(
                MODEL, BLOCKS.input_ids[row : row + 1, :length], group_ids[row : row + 1, :length]
            )
            same(nats[row], -alone[0].float(), tolerance=1e-4)


def test_held_out_is_the_mean_over_predicted_tokens_and_never_reads_padding():
    held_out = HeldOut(BLOCKS, batch_size=2)
    found = held_out(MODEL)
    assert found.keys() == GROUPINGS.keys() == held_out.tokens.keys()
    behind = torch.arange(WIDTH) >= LENGTHS[:, None]
    other = BLOCKS._replace(input_ids=BLOCKS.input_ids.masked_fill(behind, V - 1))
    assert HeldOut(other, batch_size=2)(MODEL) == found
    for name, group_ids in held_out.group_ids.items():
        with torch.no_grad():
            total = objective.log_likelihood(MODEL, BLOCKS.input_ids, group_ids).sum()
        assert found[name] == pytest.approx(-total.item() / held_out.tokens[name], rel=1e-5)
    # the mutant: a mean of the rows' means is another number, since rows have unequal lengths
    nats, tokens = token_losses(score, BLOCKS, held_out.group_ids["random order"])
    assert abs((nats / tokens).mean().item() - found["random order"]) > 1e-2


def test_two_models_are_compared_on_the_same_groups():
    """Two evaluations that know nothing of each other draw the same; a model equals itself exactly."""
    assert HeldOut(BLOCKS)(MODEL) == HeldOut(BLOCKS)(MODEL)
    assert HeldOut(BLOCKS)(MODEL) != HeldOut(BLOCKS, seed=1)(MODEL)


def test_given_tokens_are_read_as_the_model_says(monkeypatch):
    """Else a model would be measured on what its training never showed it."""
    held_out, found = HeldOut(BLOCKS, {"a span": GROUPINGS["a span"]}), {}
    for order in groups.KNOWN_ORDERS:
        monkeypatch.setattr(MODEL.config, "known_order", order, raising=False)
        found[order] = held_out(MODEL)["a span"]
        read = groups.read_given(held_out.group_ids["a span"], order)
        with torch.no_grad():
            total = objective.log_likelihood(MODEL, BLOCKS.input_ids, *read).sum()
        assert found[order] == pytest.approx(-total.item() / held_out.tokens["a span"], rel=1e-5)
    assert abs(found["together"] - found["left_to_right"]) > 1e-4


def test_another_score():
    llama = strong_llama()
    held_out = HeldOut(BLOCKS, {"left to right": Grouping("blocks")}, score=autoregressive_log_likelihood)
    labels = BLOCKS.input_ids.masked_fill(torch.arange(WIDTH) >= LENGTHS[:, None], -100)
    with torch.no_grad():
        assert held_out(llama)["left to right"] == pytest.approx(llama(BLOCKS.input_ids, labels=labels).loss.item())
