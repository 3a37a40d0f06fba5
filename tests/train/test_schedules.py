"""The learning rate of every step, and which runs can be prolonged."""

import math
from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from a3mini.train import AnyOrder, Autoregressive, Curriculum, MaskedDiffusion, TrainConfig, uniform
from a3mini.train.curriculum import CHOICES
from a3mini.train.schedules import free_to_prolong, schedule_for

WSD = {"schedule": "wsd", "warmup_steps": 3, "steps": 20, "decay_steps": 5, "learning_rate": 1e-2}


def rates(config: TrainConfig, count: int | None = None) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=config.learning_rate)
    schedule, found = schedule_for(optimizer, config), []
    for _ in range(config.steps if count is None else count):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


def test_wsd_by_hand():
    expected = [1e-2 * step / 3 for step in range(3)] + [1e-2] * 12
    expected += [1e-2 * (1 - math.sqrt(step / 5)) for step in range(5)]
    assert rates(TrainConfig(**WSD)) == pytest.approx(expected)
    assert rates(TrainConfig(**WSD), 21)[-1] == 0


def test_cosine_by_hand():
    config = TrainConfig(steps=8, warmup_steps=3, learning_rate=1e-2)
    falling = [1e-2 * 0.5 * (1 + math.cos(math.pi * step / 5)) for step in range(5)]
    assert rates(config) == pytest.approx([1e-2 * step / 3 for step in range(3)] + falling)


@given(
    steps=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    decay=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    warmup=st.integers(0, 10),
)
def test_what_comes_before_the_decay_does_not_depend_on_the_number_of_steps(steps, decay, warmup):
    plans = []
    for n, d in zip(steps, decay, strict=True):
        try:
            plans.append(TrainConfig(steps=n, decay_steps=d, warmup_steps=warmup, schedule="wsd"))
        except ValueError:
            return
    first, second = map(rates, plans)
    same = min(plan.steps - plan.decay for plan in plans)
    assert first[:same] == second[:same]
    for plan in plans:
        whole = rates(plan)
        assert whole[plan.warmup] == plan.learning_rate == max(whole)


def test_a_cosine_depends_on_the_number_of_steps():
    """Else the test above could not fail."""
    assert rates(TrainConfig(steps=20, warmup_steps=3))[:10] != rates(TrainConfig(steps=30, warmup_steps=3))[:10]


def test_a_prolonged_run_goes_on_from_the_state_of_the_first():
    short, long = TrainConfig(**WSD), TrainConfig(**WSD | {"steps": 31, "decay_steps": 9})
    optimizers = [torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-2) for _ in range(2)]
    schedule = schedule_for(optimizers[0], short)
    for _ in range(15):  # the last step before the decay is done
        optimizers[0].step()
        schedule.step()
    other = schedule_for(optimizers[1], long)
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    state = {key: value for key, value in schedule.state_dict().items() if key != "lr_lambdas"}
    other.load_state_dict(state | {"lr_lambdas": [None]})
    found = []
    for _ in range(15, 31):
        found.append(optimizers[1].param_groups[0]["lr"])
        optimizers[1].step()
        other.step()
    assert found == rates(long)[15:]


def record(recipe=None, **changes) -> dict:
    return {"training": asdict(TrainConfig(**WSD | changes)), **(recipe or Autoregressive()).settings()}


def one_stage(grow: bool) -> Curriculum:
    return Curriculum(({"name": "one", "share": 1, "parts": [{"kind": "blocks", "sizes": [1, 2], "grow": grow}]},))


@pytest.mark.parametrize("step", [0, 7, 15])
def test_free_while_it_is_stable(step):
    assert free_to_prolong(record(), record(steps=100), step) == ("steps", "decay_steps")
    assert free_to_prolong(record(), record(steps=100, decay_steps=0), step) == ("steps", "decay_steps")


def test_not_free_once_a_plan_decays():
    assert not free_to_prolong(record(), record(steps=100), 16)  # the old one
    assert not free_to_prolong(record(), record(steps=19), 15)  # the new one would have
    assert free_to_prolong(record(), record(steps=19), 14)  # a shorter run is fine before that
    cosine = record(schedule="cosine", decay_steps=0)
    assert not free_to_prolong(cosine, cosine, 1)
    assert not free_to_prolong(record(), cosine, 1) and not free_to_prolong(cosine, record(), 1)


@pytest.mark.parametrize(
    ("recipe", "free"),
    [
        (AnyOrder(Curriculum.preset("mixed")), True),
        (AnyOrder(Curriculum.preset("paper")), False),
        (AnyOrder(Curriculum.preset("spans")), False),
        (AnyOrder(one_stage(grow=False)), True),
        (AnyOrder(one_stage(grow=True)), False),
        (MaskedDiffusion(anneal=0.0), True),
        (MaskedDiffusion(anneal=0.5), False),
    ],
)
def test_free_only_if_the_draw_does_not_depend_on_how_far_it_is(recipe, free):
    assert bool(free_to_prolong(record(recipe), record(recipe, steps=40), 5)) == free


def test_a_steady_recipe_draws_the_same_whatever_the_progress():
    """What ``is_steady`` says of a record is so."""
    lengths, ends = torch.tensor([16] * 8), torch.zeros(8, 16, dtype=torch.bool)

    def drawn(curriculum: Curriculum, progress: float) -> torch.Tensor:
        return curriculum.draw(progress, lengths, ends, uniform(0, torch.arange(8), 16 + CHOICES))

    for name in ("mixed", "stage3", "paper", "official"):
        curriculum = Curriculum.preset(name)
        same = all(torch.equal(drawn(curriculum, 0.0), drawn(curriculum, p)) for p in (0.2, 0.5, 0.9))
        free = free_to_prolong(record(AnyOrder(curriculum)), record(AnyOrder(curriculum)), 1)
        assert same == bool(free), name


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"schedule": "linear"}, "schedule must be one of cosine, wsd; got 'linear'"),
        ({"decay_steps": 5}, "decay_steps=5 is for schedule='wsd'"),
        ({"decay_steps": -1, "schedule": "wsd"}, "decay_steps must not be negative, got -1"),
        ({"ema_tokens": -1}, "ema_tokens must not be negative, got -1"),
        ({"schedule": "wsd", "steps": 40}, "a warm-up of 50 steps and a decay of 8 do not fit into 40"),
        ({"schedule": "wsd", "decay_steps": 960}, "a warm-up of 50 steps and a decay of 960 do not fit into 1000"),
    ],
)
def test_a_plan_that_makes_no_sense(settings, said):
    with pytest.raises(ValueError, match=said):
        TrainConfig(**settings)
