"""live.py: the figure says what the folder says, whenever it looks, and never disturbs the training."""

import json
import threading

import pytest
import torch

from a3mini import A3Config, A3ForCausalLM, runs
from a3mini.notebook import live
from a3mini.train import AnyOrder, Blocks, Curriculum, TrainConfig, train

LENGTH = 8


def model() -> A3ForCausalLM:
    torch.manual_seed(0)
    size = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2)
    return A3ForCausalLM(A3Config(vocab_size=12, max_position_embeddings=LENGTH, **size))


def rows(count: int = 16) -> Blocks:
    ids = torch.randint(12, (count, LENGTH), generator=torch.Generator().manual_seed(0))
    return Blocks(ids, torch.full((count,), LENGTH), torch.arange(count), torch.zeros_like(ids, dtype=torch.bool))


def run(folder, steps: int = 6, evaluate=None):
    trained = model()
    config = TrainConfig(steps=steps, batch_size=2, warmup_steps=1, log_every=1, eval_every=3, save_every=2)
    train(trained, AnyOrder(Curriculum.preset("paper")), rows(), config, folder, evaluate, quiet=True)
    return trained


class Handle:
    """What ``display`` returns in a notebook."""

    def __init__(self):
        self.figures, self.threads = [], set()

    def update(self, figure):
        self.figures.append(figure)
        self.threads.add(threading.get_ident())


@pytest.fixture
def handle(monkeypatch):
    handle = Handle()
    monkeypatch.setattr(live, "display", lambda *_, **__: handle)
    return handle


def points(figure) -> dict[str, list[tuple[float, float]]]:
    lines = [line for line in figure.axes[0].lines if not line.get_label().startswith("_")]
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in lines}


# What the folder says


def test_the_figure_has_every_logged_number(tmp_path):
    run(tmp_path, evaluate=lambda model: {"left to right": 2.5, "a span": 3.5})
    metrics = runs.read_metrics(tmp_path)
    progress = live.Progress(tmp_path)
    assert progress.metrics == metrics and progress.steps == 6
    drawn = points(progress.figure())
    assert drawn.pop("training, groups as drawn") == [(x["step"], x["loss"]) for x in metrics if "loss" in x]
    assert drawn == {"left to right": [(0, 2.5), (3, 2.5), (6, 2.5)], "a span": [(0, 3.5), (3, 3.5), (6, 3.5)]}


def test_the_axis_is_the_whole_training_and_stages_stand_where_they_end(tmp_path):
    run(tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "metrics.jsonl").write_text(lines[0] + "\n")  # as after the first step
    figure = live.Progress(tmp_path).figure()
    assert figure.axes[0].get_xlim() == (0, 6)
    boundaries = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_label().startswith("_")]
    assert boundaries == pytest.approx([6 * end for end in Curriculum.preset("paper").boundaries[:-1]])
    assert {stage.name for stage in Curriculum.preset("paper").stages} <= {t.get_text() for t in figure.axes[0].texts}


def test_the_line_in_words(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"training": {"steps": 100}}))
    line = {"step": 25, "tokens": 5000, "seconds": 50.0, "loss": 3.14159, "learning_rate": 1e-3, "gradient_norm": 1.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    said = str(live.Progress(tmp_path))
    # 50 s for 25 steps, so 150 s for 75 more
    assert said == (
        "step 25 of 100, 5,000 tokens, 100 tokens per second, loss 3.14 nats per token; training left: 2 min"
    )


def test_an_unfinished_line_is_left_out(tmp_path):
    run(tmp_path, steps=2)
    complete = live.Progress(tmp_path).metrics
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "tok')
    with pytest.raises(json.JSONDecodeError):  # the mutant: read every line
        runs.read_metrics(tmp_path)
    assert live.Progress(tmp_path).metrics == complete != []


@pytest.mark.parametrize("there", [False, True])
def test_a_run_that_has_not_begun(tmp_path, there):
    folder = tmp_path / "run"
    if there:
        folder.mkdir()
    assert str(live.Progress(folder)) == live.WAITING and live.Progress(folder).metrics == []


# While it trains


def test_it_shows_the_run_and_changes_nothing(tmp_path, handle):
    waited = threading.Event()
    handle_update = handle.update

    def update(figure):
        handle_update(figure)
        waited.set()

    handle.update = update

    def evaluate(model):
        if (tmp_path / "watched" / "metrics.jsonl").exists():
            assert waited.wait(20)  # the figure was drawn in the middle, not only at the end
        return {"loss elsewhere": 1.0}

    with live.Follow(tmp_path / "watched", every=0.01):
        watched = run(tmp_path / "watched", evaluate=evaluate)
    alone = run(tmp_path / "alone", evaluate=lambda model: {"loss elsewhere": 1.0})
    assert all(torch.equal(a, b) for a, b in zip(watched.parameters(), alone.parameters(), strict=True))
    assert len(handle.figures) >= 2 and handle.threads - {threading.get_ident()}
    assert len(points(handle.figures[-1])["training, groups as drawn"]) == 6


def test_nothing_new_is_not_drawn_again(tmp_path, handle):
    run(tmp_path, steps=1)
    with live.Follow(tmp_path, every=100) as follow:
        follow.look()
        follow.look()
    assert len(handle.figures) == 1


def test_a_stopped_run_is_shown_as_far_as_it_came(tmp_path, handle):
    def stop(model):  # in the evaluation of step 3, which is logged after it
        if (tmp_path / "metrics.jsonl").exists() and len(runs.read_metrics(tmp_path)) > 2:
            raise KeyboardInterrupt
        return {"x": 0.0}

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), live.Follow(tmp_path, every=100):
        run(tmp_path, evaluate=stop)
    assert threading.active_count() == threads
    assert len(points(handle.figures[-1])["training, groups as drawn"]) == 2


def test_a_broken_picture_does_not_stop_the_training(tmp_path, handle, monkeypatch):
    monkeypatch.setattr(live.Progress, "figure", lambda self: 1 / 0)
    with pytest.warns(UserWarning, match="division by zero"), live.Follow(tmp_path, every=0.01):
        run(tmp_path)
    assert runs.read_metrics(tmp_path)[-1]["step"] == 6


def test_an_interval_that_makes_no_sense(tmp_path):
    with pytest.raises(ValueError, match="every must be a positive number of seconds, got 0"):
        live.Follow(tmp_path, every=0)
