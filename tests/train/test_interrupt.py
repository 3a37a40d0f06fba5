"""interrupt.py: a training that is cut short saves itself, and leaves the model as it was."""

import os
import random
import signal
import threading

import pytest
import torch
from training_run import CONFIG, small_blocks, small_model

from a3mini import adapter, runs
from a3mini.train import AnyOrder, Curriculum, TrainConfig, train
from a3mini.train import loop as train_file
from a3mini.train.interrupt import undone_on_error

BLOCKS = small_blocks()
WAYS = {"full": {}, "LoRA": {"lora_rank": 2}, "checkpointing": {"activation_checkpointing": True}}


class Interrupting(AnyOrder):
    """Ends the training, or asks for its end, when it makes its n-th batch or computes its n-th loss."""

    def __init__(self, how, draws: int = -1, losses: int = -1):
        super().__init__(Curriculum.preset("spans"))
        self.how, self.draws, self.losses = how, draws, losses

    def batch(self, *arguments):
        self.draws -= 1
        if self.draws == 0:
            self.how()
        return super().batch(*arguments)

    def log_probs(self, *arguments):
        self.losses -= 1
        if self.losses == 0:
            self.how()
        return super().log_probs(*arguments)


def stop_at_once():
    raise KeyboardInterrupt


def config(**changes) -> TrainConfig:
    return TrainConfig(**{**CONFIG, "steps": 6, "eval_every": 0, "save_every": 2, **changes})


def looks(model) -> tuple:
    """All that a user can see of a model."""
    names = [(name, type(module)) for name, module in model.named_modules()]
    trained = {name: weight.requires_grad for name, weight in model.named_parameters()}
    no_gradients = all(weight.grad is None for weight in model.parameters())
    return names, trained, no_gradients, model.training, model.is_gradient_checkpointing, sorted(vars(model))


def equal(first, second) -> bool:
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("saved", [True, False], ids=["saved", "not saved"])
def test_a_stop_at_once_leaves_the_model_as_it_was(way, saved, tmp_path):
    whole = small_model(attention_dropout=0.1)
    train(whole, Interrupting(stop_at_once), BLOCKS, config(**WAYS[way]), quiet=True)
    dice, model = random.Random(way), small_model(attention_dropout=0.1)
    before, folder = looks(model), tmp_path / "run" if saved else None
    for _ in range(3):
        recipe = Interrupting(stop_at_once, **{dice.choice(["draws", "losses"]): dice.randint(1, 4)})
        try:
            train(model, recipe, BLOCKS, config(**WAYS[way]), folder, quiet=True)
            break
        except KeyboardInterrupt:
            assert equal(model, small_model()) and looks(model) == before
    else:
        train(model, Interrupting(stop_at_once), BLOCKS, config(**WAYS[way]), folder, quiet=True)
    assert equal(model, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_where(number, tmp_path, capfd):
    handlers = [signal.getsignal(other) for other in (signal.SIGINT, signal.SIGTERM)]
    whole, model = small_model(), small_model()
    train(whole, Interrupting(stop_at_once), BLOCKS, config(), quiet=True)
    recipe = Interrupting(lambda: os.kill(os.getpid(), number), losses=3)
    with pytest.raises(KeyboardInterrupt, match=f"stopped after step 3 of 6: saved in {tmp_path}"):
        train(model, recipe, BLOCKS, config(save_every=0), tmp_path, quiet=True)
    assert "once more" in capfd.readouterr().err
    assert runs.latest_checkpoint(tmp_path / "checkpoints").name == "step-3"
    assert [signal.getsignal(other) for other in (signal.SIGINT, signal.SIGTERM)] == handlers
    train(model, recipe, BLOCKS, config(save_every=0), tmp_path, quiet=True)
    assert equal(model, whole)


def test_the_second_signal_stops_at_once(tmp_path):
    recipe = Interrupting(lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)], losses=3)
    with pytest.raises(KeyboardInterrupt):
        train(small_model(), recipe, BLOCKS, config(), tmp_path, quiet=True)
    assert runs.latest_checkpoint(tmp_path / "checkpoints").name == "step-2"


def test_what_ends_a_training_is_not_cut(tmp_path, monkeypatch):
    """Signals that come while the additions are merged."""
    from peft.tuners.lora import LoraModel

    right = LoraModel.merge_and_unload

    def merge(self):
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
        return right(self)

    whole, model = small_model(), small_model()
    train(whole, Interrupting(None), BLOCKS, config(lora_rank=2), quiet=True)
    monkeypatch.setattr(LoraModel, "merge_and_unload", merge)
    train(model, Interrupting(None), BLOCKS, config(lora_rank=2), tmp_path, quiet=True)
    assert equal(model, whole)


def test_lora_keeps_no_copy_of_frozen_weights():
    """Else a model that just fits would not."""
    model = small_model()
    kept = []
    with undone_on_error(model, lambda name: kept.append(name) or name.endswith(adapter.ADDED)):
        for weight in model.parameters():
            weight.data.add_(1)
        with pytest.raises(KeyboardInterrupt), undone_on_error(model, lambda name: name.endswith(adapter.ADDED)):
            for weight in model.parameters():
                weight.data.add_(1)
            raise KeyboardInterrupt
    started = small_model().state_dict()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, started[name] + (1 if name.endswith(adapter.ADDED) else 2))
    assert "model.query_embedding" in kept


def test_a_run_saves_by_the_clock(tmp_path, monkeypatch):
    monkeypatch.setattr(train_file, "SAVE_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        train(small_model(), Interrupting(stop_at_once, draws=5), BLOCKS, config(save_every=0), tmp_path, quiet=True)
    assert runs.latest_checkpoint(tmp_path / "checkpoints").name == "step-4"


def test_a_thread_can_train():
    """It may not listen to signals."""
    done = []
    thread = threading.Thread(
        target=lambda: done.append(train(small_model(), Interrupting(None), BLOCKS, config(), quiet=True))
    )
    thread.start()
    thread.join()
    assert len(done) == 1
