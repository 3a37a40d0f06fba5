"""timing.py: minutes from a few timed steps; with a clock of our own."""

import time

import pytest
import torch
from laws import tiny_config

from a3mini import A3ForCausalLM
from a3mini.train import AnyOrder, Blocks, Curriculum, TrainConfig, forecast
from a3mini.train.timing import Forecast

ROWS = torch.randint(5, 90, (16, 12), generator=torch.Generator().manual_seed(0))
BLOCKS = Blocks(ROWS, torch.full((16,), 12), torch.arange(16), torch.zeros(16, 12, dtype=torch.bool))


class Clock:
    """A step takes 100 seconds, but the first ones longer; an evaluation 7, the first one 50."""

    def __init__(self, monkeypatch, first: list[float]):
        self.now, self.first, self.evaluations = 0.0, iter(first), iter([50.0])
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def recipe(self) -> AnyOrder:
        clock = self

        class Slow(AnyOrder):
            def log_probs(self, model, inputs):
                clock.now += next(clock.first, 100.0)
                return super().log_probs(model, inputs)

        return Slow(Curriculum.preset("spans"))

    def evaluate(self, model) -> dict:
        assert not torch.is_grad_enabled() and not model.training
        self.now += next(self.evaluations, 7.0)
        return {}


def model() -> A3ForCausalLM:
    torch.manual_seed(0)
    return A3ForCausalLM(tiny_config(vocab_size=90))


@pytest.mark.parametrize("warm_up, expected", [(1, 100.0), (2, 100.0)])
def test_the_first_steps_do_not_count(warm_up, expected, monkeypatch):
    clock = Clock(monkeypatch, [900.0, 500.0][:warm_up])
    config = TrainConfig(steps=300, batch_size=2, eval_every=100, precision="fp32", log_every=50)
    found = forecast(model(), clock.recipe(), BLOCKS, config, clock.evaluate, warm_up=warm_up, timed=3)
    assert found == (pytest.approx(expected), pytest.approx(7.0))
    assert found.minutes(config) == pytest.approx((300 * 100 + 4 * 7) / 60)


def test_microbatches_are_steps_of_the_run(monkeypatch):
    """A step of two microbatches takes twice as long."""
    clock = Clock(monkeypatch, [])
    config = TrainConfig(steps=30, batch_size=4, micro_batch_size=2, precision="fp32")
    assert forecast(model(), clock.recipe(), BLOCKS, config).step == pytest.approx(200.0)


def test_one_slow_step_does_not_count_much(monkeypatch):
    clock = Clock(monkeypatch, [900, 900, 100, 800, 100, 100])
    config = TrainConfig(steps=30, batch_size=2, precision="fp32")
    assert forecast(model(), clock.recipe(), BLOCKS, config) == (pytest.approx(100.0), 0.0)


@pytest.mark.parametrize(
    ("every", "done", "evaluations"),
    [(100, 0, 4), (100, 100, 2), (100, 299, 1), (0, 0, 2), (0, 10, 1), (70, 0, 6), (70, 140, 3)],
)
def test_minutes_of_what_is_left(every, done, evaluations):
    """Evaluations before the first step, every so often, and after the last."""
    config = TrainConfig(steps=300, eval_every=every)
    counted = [
        step for step in range(done, 301) if step == 300 or (every and step and step % every == 0 and step > done)
    ]
    assert evaluations == len(counted) + (done == 0)
    assert Forecast(60.0, 600.0).minutes(config, done) == pytest.approx(300 - done + 10 * evaluations)


def test_bad_numbers():
    with pytest.raises(ValueError, match="warm_up and timed must be at least 1, got 0 and 4"):
        forecast(model(), None, BLOCKS, TrainConfig(), warm_up=0)
