"""train.py: law 7 (resume equals an uninterrupted run), the global loss, a plain loop, precision, refusals."""

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from places import ROOT
from training_run import CONFIG, SHAPE, load_run, run_and_save, small_blocks, small_model, small_run
from transformers import LlamaConfig, LlamaForCausalLM

from a3mini import adapter, groups, objective, runs
from a3mini.evaluate import HeldOut
from a3mini.groups import KNOWN_ORDERS
from a3mini.model import A3MLP
from a3mini.rows import QUERY_STARTS
from a3mini.train import (
    AnyOrder,
    Autoregressive,
    Curriculum,
    MaskedDiffusion,
    MaskedDiffusionModel,
    Part,
    Stage,
    TrainConfig,
    generator_for,
    resume,
    train,
)
from a3mini.train import loop as train_file
from a3mini.train.curriculum import CHOICES, uniform
from a3mini.train.data import Order
from a3mini.train.loop import best_precision

BLOCKS = small_blocks()
RECIPE = AnyOrder(Curriculum.preset("spans"))
SCRIPT = ROOT / "tests" / "shared" / "training_run.py"


def config(**changes) -> TrainConfig:
    return TrainConfig(**{**CONFIG, "steps": 4, "eval_every": 0, "save_every": 0, **changes})


def weights_after(model=None, recipe=RECIPE, blocks=BLOCKS, folder=None, **changes) -> dict:
    model = model or small_model()
    train(model, recipe, blocks, config(**changes), folder, quiet=True)
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def distance(first: dict, second: dict) -> float:
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


def without_clock(metrics: list[dict]) -> list[dict]:
    return [{name: value for name, value in line.items() if name != "seconds"} for line in metrics]


def launch(command: list[str]) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


# Law 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_again_and_again_equals_uninterrupted(tmp_path):
    """SIGKILL at random moments; weights and metrics are equal bit for bit, with all weights trained and with LoRA.

    LoRA's query rows start from the token before, the others' from w.
    """
    kills = json.loads(launch([sys.executable, str(SCRIPT), str(tmp_path), "--kill"]).splitlines()[-1])
    assert min(kills) >= 1, "nothing was killed"
    for kind in ("full", "lora"):
        (weights, metrics), (again, metrics_again) = (load_run(tmp_path / kind / way) for way in ("whole", "killed"))
        assert metrics == metrics_again and [line["step"] for line in metrics] == list(range(13))
        assert distance(weights, again) == 0, kind
        assert distance(weights, {k: v for k, v in small_model().state_dict().items()}) > 1e-3


class Stop(Exception):
    pass


class StopAt:
    """An evaluation that stops the training when it is called for the n-th time; 0: never."""

    def __init__(self, n: int):
        self.left = n

    def __call__(self, model) -> dict:
        self.left -= 1
        if not self.left:
            raise Stop
        return {}


def interrupted(folder: Path, tied: bool = False, **changes) -> dict:
    """Stopped by an exception while step 8 is evaluated, then started again; the last checkpoint is of step 6."""
    settings = config(steps=12, save_every=3, eval_every=4, **changes)
    shape = {"attention_dropout": 0.1, "tie_word_embeddings": tied}
    with pytest.raises(Stop):
        train(small_model(**shape), RECIPE, BLOCKS, settings, folder, StopAt(3), quiet=True)
    assert runs.latest_checkpoint(folder / "checkpoints").name == "step-6"
    model = small_model(**shape)
    train(model, RECIPE, BLOCKS, settings, folder, StopAt(0), quiet=True)
    return model.state_dict()


def test_an_average_goes_on_where_it_was(tmp_path):
    changes = {"ema_tokens": 100}
    whole = small_model(attention_dropout=0.1)
    train(whole, RECIPE, BLOCKS, config(steps=12, save_every=3, eval_every=4, **changes), quiet=True)
    assert distance(interrupted(tmp_path, **changes), whole.state_dict()) == 0
    without = small_model(attention_dropout=0.1)
    train(without, RECIPE, BLOCKS, config(steps=12, save_every=3, eval_every=4), quiet=True)
    assert distance(without.state_dict(), whole.state_dict()) > 1e-3


@pytest.mark.parametrize("tied", [False, True])  # a tied head leaves AdamW no matrix
def test_muon_goes_on_where_it_was(tmp_path, tied):
    changes, shape = {"optimizer": "muon", "learning_rate": 3e-3}, {"tie_word_embeddings": tied}
    whole = small_model(attention_dropout=0.1, **shape)
    train(whole, RECIPE, BLOCKS, config(steps=12, save_every=3, eval_every=4, **changes), quiet=True)
    assert distance(interrupted(tmp_path, tied, **changes), whole.state_dict()) == 0
    other = small_model(attention_dropout=0.1, **shape)
    train(other, RECIPE, BLOCKS, config(steps=12, save_every=3, eval_every=4, learning_rate=3e-3), quiet=True)
    assert distance(other.state_dict(), whole.state_dict()) > 1e-3


def test_what_is_evaluated_and_kept_is_the_average():
    """By a plain sum over the weights after each step; the steps themselves are those of a training without it."""
    seen = {0: [], 100: []}
    for half_life, found in seen.items():

        def evaluate(model, found=found):
            found.append({name: weight.detach().clone().double() for name, weight in model.named_parameters()})
            return {}

        model = small_model()
        settings = config(steps=5, eval_every=1, ema_tokens=half_life)
        metrics = train(model, RECIPE, BLOCKS, settings, evaluate=evaluate, quiet=True)
    tokens = [line["tokens"] for line in metrics]
    for step in range(1, 6):
        parts = [(tokens[n] - tokens[n - 1], 2 ** ((tokens[n] - tokens[step]) / 100)) for n in range(1, step + 1)]
        # each step's part, before it has aged: 1 - 2^(-its tokens / half-life)
        shares = [(1 - 2 ** (-count / 100)) * aged for count, aged in parts]
        for name, weight in seen[100][step].items():
            right = sum(s * seen[0][n + 1][name] for n, s in enumerate(shares)) / sum(shares)
            assert (weight - right).abs().max() < 1e-6, (step, name)
    for name, weight in model.named_parameters():
        assert torch.equal(weight.double(), seen[100][5][name])


def test_a_stable_run_can_be_prolonged(tmp_path):
    """As if it had been planned so from the beginning, bit for bit; not when the learning rate falls already."""
    recipe = AnyOrder(Curriculum.preset("mixed"))
    settings = dict(schedule="wsd", warmup_steps=2, decay_steps=2, save_every=2, eval_every=4, ema_tokens=100)
    with pytest.raises(Stop):  # saved after step 4; step 6 would be the first of the decay
        train(small_model(), recipe, BLOCKS, config(steps=7, **settings), tmp_path, StopAt(2), quiet=True)
    longer, planned = small_model(), small_model()
    train(longer, recipe, BLOCKS, config(steps=9, **settings), tmp_path, StopAt(0), quiet=True)
    train(planned, recipe, BLOCKS, config(steps=9, **settings), tmp_path / "planned", StopAt(0), quiet=True)
    assert distance(longer.state_dict(), planned.state_dict()) == 0
    with pytest.raises(ValueError, match="training.steps: 9, now 12"):
        train(small_model(), recipe, BLOCKS, config(steps=12, **settings), tmp_path, StopAt(0), quiet=True)


def forget_moments(monkeypatch):
    right = runs.load_checkpoint

    def wrong(*arguments):
        tensors, state = right(*arguments)
        tensors["optimizer"] = {key: torch.zeros_like(value) for key, value in tensors["optimizer"].items()}
        return tensors, state

    monkeypatch.setattr(runs, "load_checkpoint", wrong)


def forget_the_schedule(monkeypatch):
    right = runs.load_checkpoint
    monkeypatch.setattr(
        runs, "load_checkpoint", lambda *a: (right(*a)[0], right(*a)[1] | {"schedule": {"last_epoch": 0}})
    )


def draw_dropout_anew(monkeypatch):
    """Dropout goes on with whatever the process's generator holds."""
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)


@pytest.mark.parametrize(
    "mutate", [None, forget_moments, forget_the_schedule, draw_dropout_anew], ids=lambda m: m and m.__name__
)
def test_resuming_catches_what_is_forgotten(mutate, tmp_path, monkeypatch):
    whole = weights_after(small_model(attention_dropout=0.1), steps=12)
    if mutate:
        mutate(monkeypatch)
    difference = distance(whole, interrupted(tmp_path))
    assert (difference == 0) if mutate is None else (difference > 1e-5)


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = small_model()
    metrics = train(first, RECIPE, BLOCKS, config(), tmp_path, quiet=True)
    again = small_model()
    assert train(again, RECIPE, BLOCKS, config(), tmp_path, quiet=True) == metrics
    assert distance(first.state_dict(), again.state_dict()) == 0


# The loss of a step is divided by the count of the whole step


@pytest.mark.parametrize("recipe", [RECIPE, MaskedDiffusion(), Autoregressive()], ids=lambda r: type(r).__name__)
def test_microbatches_give_the_weights_of_one_batch(recipe, monkeypatch):
    """The rows are very unequal in length. The mutant averages the means of the microbatches."""
    torch.manual_seed(0)
    source = LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()
    state = source.state_dict()

    def model():
        if isinstance(recipe, AnyOrder):
            return small_model()
        copy = LlamaForCausalLM(LlamaConfig(**SHAPE))
        copy.load_state_dict(state)
        return MaskedDiffusionModel.from_autoregressive(copy) if isinstance(recipe, MaskedDiffusion) else copy

    whole = weights_after(model(), recipe)
    for micro in (1, 2):
        assert distance(whole, weights_after(model(), recipe, micro_batch_size=micro)) < 1e-4
    right = type(recipe).batch

    def mean_of_means(self, *arguments):
        batch = right(self, *arguments)
        return batch._replace(weights=batch.weights / batch.count, count=1)

    monkeypatch.setattr(type(recipe), "batch", mean_of_means)
    assert distance(whole, weights_after(model(), recipe, micro_batch_size=1)) > 1e-3


def test_two_processes_give_the_result_of_one(tmp_path):
    """With gloo, on the CPU. ``accelerate launch --cpu`` would start one process; torchrun's launcher starts two."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
    with socket.socket() as free:  # an older accelerate does not look for a port by itself
        free.bind(("", 0))
        port = str(free.getsockname()[1])
    settings = ["--num_processes", "2", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launch([*launcher, *settings, "--main_process_port", port, str(SCRIPT), str(tmp_path / "two")])
    assert json.loads((tmp_path / "two" / "run.json").read_text())["processes"] == 2
    run_and_save(tmp_path / "one", dropout=0.0)
    (one, metrics), (two, metrics_two) = load_run(tmp_path / "one"), load_run(tmp_path / "two")
    assert distance(one, two) < 1e-4
    assert len(metrics) == len(metrics_two)
    for first, second in zip(metrics, metrics_two, strict=True):
        assert first == pytest.approx(second, rel=1e-3)


# A step is a plain PyTorch loop


def plain_loop(steps: int) -> tuple[dict, list[float]]:
    """Adam with weight decay, clipping, and the schedule, written out."""
    model, settings = small_model(), config(steps=steps)
    order = []
    for epoch in range(9):
        order += torch.randperm(len(BLOCKS.lengths), generator=generator_for(0, -1, epoch)).tolist()
    moments = {name: [torch.zeros_like(w), torch.zeros_like(w)] for name, w in model.named_parameters()}
    losses = []
    for step in range(steps):
        examples = range(step * 4, step * 4 + 4)
        rows = BLOCKS.rows(torch.tensor(order[step * 4 : step * 4 + 4]))
        numbers = uniform(0, torch.tensor(examples), rows.input_ids.shape[1] + CHOICES)
        group_ids = RECIPE.curriculum.draw(step / steps, rows.lengths, rows.sentence_ends, numbers)
        loss = -objective.log_likelihood(model, rows.input_ids, group_ids).sum() / (group_ids > 0).sum()
        model.zero_grad()
        loss.backward()
        losses.append(loss.item())
        norm = torch.cat([w.grad.flatten() for w in model.parameters()]).norm()
        if step < 2:  # warm-up
            rate = 1e-2 * step / 2
        else:
            rate = 1e-2 * 0.5 * (1 + math.cos(math.pi * (step - 2) / (steps - 2)))
        for name, weight in model.named_parameters():
            gradient = weight.grad * min(1.0, settings.clip_norm / (norm.item() + 1e-6))
            first, second = moments[name]
            first.mul_(0.9).add_(gradient, alpha=0.1)
            second.mul_(0.95).add_(gradient**2, alpha=0.05)
            decay = 0.1 if weight.dim() == 2 and "embed" not in name else 0.0
            with torch.no_grad():
                weight.mul_(1 - rate * decay)
                scaled = (second / (1 - 0.95 ** (step + 1))).sqrt() + 1e-8
                weight.sub_(rate * first / (1 - 0.9 ** (step + 1)) / scaled)
    return model.state_dict(), losses


def test_training_equals_a_plain_loop():
    model = small_model()
    metrics = train(model, RECIPE, BLOCKS, config(steps=6), quiet=True)
    weights, losses = plain_loop(6)
    assert [line["loss"] for line in metrics] == pytest.approx(losses, rel=1e-4)
    assert distance(model.state_dict(), weights) < 1e-4
    assert distance(model.state_dict(), small_model().state_dict()) > 1e-2


def test_training_learns():
    model = small_model()
    settings = config(steps=60, log_every=60, eval_every=60)

    def evaluate(model):
        return {"held out": float(model.training or torch.is_grad_enabled())}

    metrics = train(model, RECIPE, BLOCKS, settings, evaluate=evaluate, quiet=True)
    assert metrics[-1]["loss"] < 2.0 < math.log(14)
    assert [(line["step"], line["held out"]) for line in metrics] == [(0, 0.0), (60, 0.0)]
    assert metrics[-1]["tokens"] == sum(
        int(BLOCKS.lengths[torch.randperm(10, generator=generator_for(0, -1, epoch))].sum()) for epoch in range(24)
    )
    assert not model.training


def test_the_learning_rate_schedule():
    metrics = train(small_model(), RECIPE, BLOCKS, config(steps=8, warmup_steps=3), quiet=True)
    rates = [line["learning_rate"] for line in metrics]
    warm = [1e-2 * step / 3 for step in range(3)]
    falling = [1e-2 * 0.5 * (1 + math.cos(math.pi * step / 5)) for step in range(5)]
    assert rates == pytest.approx([*warm, *falling])
    assert all(line["gradient_norm"] > 0 for line in metrics)


@pytest.mark.parametrize(("steps", "first"), [(1, 0), (2, 1), (7, 3), (20, 10), (100, 50), (1000, 50)])
def test_a_short_run_is_warm_before_its_end(steps, first):
    """The warm-up is 50 steps by default; a run of 20 would end before its highest rate."""
    assert TrainConfig(steps=steps).warmup == first
    if steps == 7:
        metrics = train(small_model(), RECIPE, BLOCKS, config(steps=steps, warmup_steps=50), quiet=True)
        rates = [line["learning_rate"] for line in metrics]
        assert max(rates) == rates[first] == pytest.approx(1e-2)


@pytest.mark.parametrize("seed", [2**63 - 1, -(2**63), -1])
def test_every_seed_of_64_bits_will_do(seed):
    train(small_model(), RECIPE, BLOCKS, config(steps=2, seed=seed), quiet=True)


def test_logging_and_evaluation_change_nothing(tmp_path):
    base = weights_after()
    assert distance(base, small_run(None, dropout=0.0, steps=4, eval_every=1).state_dict()) == 0
    assert distance(base, weights_after(log_every=0, folder=tmp_path, save_every=1)) == 0
    lines = runs.read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [4]


def test_every_epoch_has_every_row_once_in_a_new_order():
    order = Order(10, seed=0)
    epochs = [order.rows(torch.arange(10 * n, 10 * n + 10)).tolist() for n in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    straddling = Order(10, seed=0).rows(torch.tensor([8, 9, 10, 11])).tolist()
    assert straddling == epochs[0][8:] + epochs[1][:2]
    assert Order(10, seed=0).rows(torch.tensor([21, 3, 15])).tolist() == [epochs[2][1], epochs[0][3], epochs[1][5]]
    assert Order(10, seed=1).rows(torch.arange(10)).tolist() != epochs[0]


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 2}], ids=["full", "lora"])
def test_the_callers_random_numbers_stay_as_they_were(changes):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = weights_after(small_model(attention_dropout=0.1), **changes)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)  # and they do not matter
    assert distance(first, weights_after(small_model(attention_dropout=0.1), **changes)) == 0
    assert distance(first, weights_after(small_model(attention_dropout=0.1), seed=1, **changes)) > 1e-3


# What is trained


def test_lora_trains_additions_and_w_alone(monkeypatch):
    model, before = small_model(), small_model().state_dict()
    trained = []
    right = train_file.optimizer_for
    monkeypatch.setattr(
        train_file,
        "optimizer_for",
        lambda m, *how: trained.extend(n for n, w in m.named_parameters() if w.requires_grad) or right(m, *how),
    )
    train(model, RECIPE, BLOCKS, config(lora_rank=2), quiet=True)
    assert trained and all("lora_" in name or name.endswith("query_embedding") for name in trained)
    after = model.state_dict()
    assert after.keys() == before.keys(), "the additions are merged into the model"
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert all("proj" in name or name == "model.query_embedding" for name in changed)
    assert {"model.query_embedding", "model.layers.0.self_attn.q_proj.weight"} <= changed
    difference = after["model.layers.0.mlp.up_proj.weight"] - before["model.layers.0.mlp.up_proj.weight"]
    assert torch.linalg.matrix_rank(difference, atol=1e-6) <= 2
    assert all(weight.requires_grad for weight in model.parameters()), "it can be trained on"


# Activation checkpointing


def test_activation_checkpointing_recomputes_and_changes_no_gradient(monkeypatch):
    calls, norms = [], []
    right = A3MLP.forward  # a layer's own forward holds the checkpointing

    def counted(self, x):
        calls.append(x.shape)
        return right(self, x)

    monkeypatch.setattr(A3MLP, "forward", counted)
    results = []
    for on in (False, True):
        calls.clear()
        model = small_model(attention_dropout=0.1)
        metrics = train(model, RECIPE, BLOCKS, config(activation_checkpointing=on), quiet=True)
        results.append(model.state_dict())
        norms.append([line["gradient_norm"] for line in metrics])
        assert len(calls) == 4 * 2 * (2 if on else 1)  # steps, layers, passes
        assert not any(layer.gradient_checkpointing for layer in model.model.layers)
    assert norms[0] == norms[1] and distance(*results) == 0


# Precision


@pytest.mark.parametrize(
    ("device", "capability", "native", "best"),
    [
        ("cuda", (7, 5), False, "fp16"),  # T4
        ("cuda", (8, 0), False, "bf16"),  # A100
        ("cuda", (8, 9), False, "bf16"),  # L4
        ("cuda", (9, 0), False, "bf16"),  # H100
        ("mps", (0, 0), True, "fp32"),
        ("cpu", (0, 0), True, "bf16"),
        ("cpu", (0, 0), False, "fp32"),
    ],
)
def test_best_precision(device, capability, native, best):
    assert best_precision(device, capability, native) == best


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("native", [True, False])
def test_auto_asks_the_cpu(native, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native, raising=False)
    assert train_file._accelerator(config(precision="auto")).mixed_precision == ("bf16" if native else "no")


def test_bf16_keeps_weights_in_float32_and_trains():
    model = small_model()
    metrics = train(model, RECIPE, BLOCKS, config(precision="bf16"), quiet=True)
    assert all(weight.dtype == torch.float32 for weight in model.parameters())
    exact = train(small_model(), RECIPE, BLOCKS, config(precision="fp32"), quiet=True)
    losses = [[line["loss"] for line in lines] for lines in (metrics, exact)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0] != losses[1]
    assert model(BLOCKS.input_ids[:1, :2], torch.tensor([[0, 1]])).logits.dtype == torch.float32


# Refusals and stops


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_fp16_needs_a_gpu():
    with pytest.raises(ValueError, match="precision='fp16' needs a CUDA device; use 'auto', 'fp32' or 'bf16'"):
        train(small_model(), RECIPE, BLOCKS, config(precision="fp16"), quiet=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"warmup_steps": -1}, "warmup_steps must not be negative, got -1"),
        ({"learning_rate": 0.0}, "learning_rate and clip_norm must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate and clip_norm must be positive"),
        ({"weight_decay": -0.1}, "weight_decay not negative"),
        ({"seed": 2**63}, "seed must have 64 bits, got 9223372036854775808"),
        ({"precision": "int8"}, "precision must be one of auto, fp32, bf16, fp16; got 'int8'"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_a_batch_that_cannot_be_divided():
    with pytest.raises(ValueError, match="batch_size=4 cannot be divided evenly .* microbatches of 3 rows"):
        train(small_model(), RECIPE, BLOCKS, config(micro_batch_size=3), quiet=True)


def test_rows_that_do_not_fit_the_model(tmp_path):
    large = BLOCKS._replace(input_ids=BLOCKS.input_ids + 10)
    with pytest.raises(ValueError, match="vocab_size is 17; use the tokenizer that was saved with the model"):
        train(small_model(), RECIPE, large, config(), tmp_path, quiet=True)
    with pytest.raises(ValueError, match="the rows have 12 tokens, but the model allows 8"):
        train(small_model(max_position_embeddings=8), RECIPE, BLOCKS, config(), tmp_path, quiet=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ({"learning_rate": 2e-2}, "training.learning_rate: 0.01, now 0.02"),
        ({"seed": 1, "steps": 9}, "training.seed: 0, now 1; training.steps: 4, now 9"),
        ({"recipe": AnyOrder(Curriculum.preset("stage3"))}, "curriculum.name: 'spans', now 'stage3'"),
        ({"recipe": Autoregressive()}, "recipe: 'any order', now 'autoregressive'"),
        ({"model": {"hidden_size": 32}}, "model.hidden_size: 16, now 32"),
        ({"blocks": small_blocks(rows=9)}, "data.rows: 10, now 9"),
    ],
    ids=["learning rate", "two", "curriculum", "recipe", "model", "data"],
)
def test_a_folder_with_another_run_is_refused(what, named, tmp_path):
    weights_after(folder=tmp_path)
    record = (tmp_path / "run.json").read_text()
    what = dict(what)
    recipe, blocks, model = what.pop("recipe", RECIPE), what.pop("blocks", BLOCKS), small_model(**what.pop("model", {}))
    with pytest.raises(ValueError, match="holds a run of another configuration") as caught:
        train(model, recipe, blocks, config(**what), tmp_path, quiet=True)
    assert named in str(caught.value) and "choose another folder" in str(caught.value)
    assert (tmp_path / "run.json").read_text() == record
    weights_after(folder=tmp_path)  # the old one can go on


@pytest.mark.parametrize(("first", "second"), [(None, "previous"), ("vector", "previous"), ("previous", "vector")])
@pytest.mark.parametrize("rank", [0, 2], ids=["full", "lora"])
def test_another_start_of_query_rows_is_another_run(first, second, rank, tmp_path):
    def run(start):
        model = small_model() if start is None else small_model(query_start=start)
        return weights_after(model, folder=tmp_path, lora_rank=rank)

    made = run(first)
    with pytest.raises(ValueError, match=r"another configuration \(model.query_start: .*now "):
        run(second)
    assert distance(made, run(first)) == 0
    if first != "previous":  # a config that does not say means the paper's, as every config before there was a choice
        assert distance(made, run("vector")) == distance(made, run(None)) == 0


@pytest.mark.parametrize("start", QUERY_STARTS)
def test_an_adapter_knows_its_start(start, tmp_path):
    """Applied to a model that was built with the other one, it predicts as the trained model does."""
    other = next(name for name in QUERY_STARTS if name != start)
    trained, fresh = small_model(query_start=start), small_model(query_start=other)
    train(trained, RECIPE, BLOCKS, config(lora_rank=2), tmp_path, quiet=True)
    assert adapter.apply(fresh, tmp_path / "adapter")["query_start"] == fresh.config.query_start == start
    ids, group_ids = BLOCKS.input_ids[:1], groups.left_to_right(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(fresh(ids, group_ids).logits, trained(ids, group_ids).logits, rtol=0, atol=1e-3)
        fresh.config.query_start = other
        assert (fresh(ids, group_ids).logits - trained(ids, group_ids).logits).abs().max() > 1e-2
    before = {name: weight.clone() for name, weight in small_model().state_dict().items()}
    again = small_model(query_start=other)
    with pytest.raises(ValueError, match=f'start from "{start}", but those of this model start from "{other}"'):
        train(again, RECIPE, BLOCKS, config(lora_rank=2), quiet=True, start=tmp_path / "adapter")
    assert distance(again.state_dict(), before) == 0
    train(small_model(query_start=start), RECIPE, BLOCKS, config(lora_rank=2), quiet=True, start=tmp_path / "adapter")


def moved(model, by: float = 0.01):
    with torch.no_grad():
        model.model.norm.weight[0] += by
    return model


def test_everything_that_decides_the_result_is_the_same_or_refused(tmp_path):
    """Other weights of the same shape, another start, other held-out rows, another tokenizer."""
    first = tmp_path / "first"
    weights_after(folder=first, lora_rank=2)
    held_out = HeldOut(BLOCKS.rows(slice(0, 4)))

    def run(model=None, evaluate=held_out, start=first / "adapter", about=None):
        train(model or small_model(), RECIPE, BLOCKS, config(lora_rank=2), tmp_path / "run", evaluate, quiet=True,
              start=start, about={"tokenizer": "a"} if about is None else about)  # fmt: skip

    run()
    for change, named in (
        ({"model": moved(small_model())}, "weights: "),
        ({"evaluate": None}, "held_out: "),
        ({"evaluate": HeldOut(BLOCKS.rows(slice(0, 5)))}, "held_out: "),
        ({"evaluate": lambda model: {}}, "held_out: "),
        ({"start": None}, "start: "),
        ({"about": {"tokenizer": "b"}}, "about.tokenizer: 'a', now 'b'"),
        ({"about": {}}, "about.tokenizer: 'a', now None"),
    ):
        with pytest.raises(ValueError, match=f"another configuration .{named}"):
            run(**change)
    changed = {name: value + 1 for name, value in adapter.read(first / "adapter")[0].items()}
    adapter.save(first / "adapter", changed, 2.0, adapter.fingerprint(small_model()), {})
    with pytest.raises(ValueError, match="another configuration .start: "):
        run()


def test_full_training_goes_on_only_from_its_own_weights(tmp_path):
    with pytest.raises(Stop):
        train(small_model(), RECIPE, BLOCKS, config(save_every=2, eval_every=3), tmp_path, StopAt(2), quiet=True)
    with pytest.raises(ValueError, match="another configuration .weights: "):
        train(moved(small_model()), RECIPE, BLOCKS, config(save_every=2), tmp_path, StopAt(0), quiet=True)


@pytest.mark.parametrize("name", resume.WRITTEN)
def test_what_no_run_has_written_is_left_alone(name, tmp_path):
    foreign = tmp_path / name
    if "." in name:
        foreign.write_text("{}")
    else:
        foreign.mkdir()
        (foreign / "thesis.txt").write_text("mine")
    with pytest.raises((FileExistsError, ValueError), match=name):
        weights_after(folder=tmp_path, lora_rank=2)
    if "." in name:
        assert foreign.read_text() == "{}"
    else:
        assert (foreign / "thesis.txt").read_text() == "mine"


def test_an_adapter_of_another_run_is_left_alone(tmp_path):
    weights_after(folder=tmp_path / "other", lora_rank=2)
    weights_after(folder=tmp_path / "run", steps=2, save_every=1)
    (tmp_path / "other" / "adapter").rename(tmp_path / "run" / "adapter")
    before = (tmp_path / "run" / "adapter" / "adapter.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="adapter is of another run"):
        weights_after(folder=tmp_path / "run", steps=2, save_every=1)
    assert (tmp_path / "run" / "adapter" / "adapter.safetensors").read_bytes() == before


def test_the_environment_changes_no_gradient(monkeypatch):
    expected = weights_after()
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert distance(expected, weights_after()) == 0


@pytest.mark.parametrize("field", ["step", "tokens", "seconds", "optimizer", "schedule", "shapes"])
def test_a_checkpoint_whose_state_lacks_a_field(field, tmp_path):
    weights_after(folder=tmp_path)
    file = runs.latest_checkpoint(tmp_path / "checkpoints") / "state.json"
    state = json.loads(file.read_text())
    for wrong in ({k: v for k, v in state.items() if k != field}, {**state, field: "x"}):
        file.write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=f"has no valid '{field}'"):
            weights_after(folder=tmp_path)


@pytest.mark.parametrize("text", ["[]", "{", '{"training": 3}'])
def test_a_damaged_record(text, tmp_path):
    weights_after(folder=tmp_path)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match="run.json (is damaged|has no valid)"):
        weights_after(folder=tmp_path)


def test_lora_goes_on_only_from_the_weights_it_was_added_to(tmp_path):
    weights_after(folder=tmp_path, lora_rank=2)
    other = small_model()
    with torch.no_grad():
        other.model.norm.weight[0] += 0.01
    with pytest.raises(ValueError, match="another configuration .weights: "):
        weights_after(other, folder=tmp_path, lora_rank=2)
    weights_after(folder=tmp_path, lora_rank=2)


@pytest.mark.parametrize("tied", [False, True])
def test_a_checkpoint_of_lora_holds_trained_weights_alone(tmp_path, tied):
    model = small_model(tie_word_embeddings=tied)
    train(model, RECIPE, BLOCKS, config(lora_rank=2), tmp_path, quiet=True)
    tensors, _ = runs.load_checkpoint(runs.latest_checkpoint(tmp_path / "checkpoints"), ("trainable",))
    wanted = set(adapter.read(tmp_path / "adapter")[0])
    assert {name for name, _ in train_file.additions(tensors["trainable"].items())} == wanted
    assert len(tensors["trainable"]) == len(wanted)  # and nothing else, the tied head least of all


@pytest.mark.parametrize("tied", [False, True])
def test_a_finished_lora_run_leaves_its_adapter(tmp_path, tied):
    model, fresh = small_model(tie_word_embeddings=tied), small_model(tie_word_embeddings=tied)
    train(model, RECIPE, BLOCKS, config(lora_rank=2), tmp_path, quiet=True, source="tiny")
    record = adapter.apply(fresh, tmp_path / "adapter")
    assert (record["kind"], record["source"], record["rank"], record["scale"]) == ("any order", "tiny", 2, 2.0)
    assert record["tokens"] == runs.read_metrics(tmp_path)[-1]["tokens"] and record["steps"] == config().steps
    untouched = small_model(tie_word_embeddings=tied).state_dict()
    for name, weight in model.state_dict().items():
        moved = (weight - untouched[name]).abs().max()  # the file is bfloat16: three digits of each addition
        assert (fresh.state_dict()[name] - weight).abs().max() <= 0.02 * moved + 1e-7


def test_training_goes_on_from_an_adapter(tmp_path):
    train(small_model(), RECIPE, BLOCKS, config(lora_rank=2), tmp_path / "first", quiet=True)
    first = tmp_path / "first" / "adapter"
    # a learning rate of next to nothing: what comes out is what went in
    still = config(lora_rank=2, steps=1, learning_rate=1e-12, weight_decay=0.0)
    train(small_model(), RECIPE, BLOCKS, still, tmp_path / "second", quiet=True, start=first)
    (before, made), (after, again) = adapter.read(first), adapter.read(tmp_path / "second" / "adapter")
    assert again["steps"] == made["steps"] + 1 and again["tokens"] > made["tokens"], "all trainings count"
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(ValueError, match="set lora_rank to the rank that it has"):
        train(small_model(), RECIPE, BLOCKS, config(), quiet=True, start=first)
    with pytest.raises(ValueError, match="has rank 2 and scale 2.0"):
        train(small_model(), RECIPE, BLOCKS, config(lora_rank=3), quiet=True, start=first)
    other = small_model()
    with torch.no_grad():
        other.model.norm.weight[0] += 0.01
    with pytest.raises(ValueError, match="was trained on other weights with fingerprint"):
        train(other, RECIPE, BLOCKS, config(lora_rank=2), quiet=True, start=first)


def test_given_tokens_in_order_are_known_and_never_predicted():
    curriculum = Curriculum((Stage("spans", 1, (Part("span"),)),))
    recipes = [AnyOrder(curriculum, order) for order in KNOWN_ORDERS]
    drawn = recipes[0].group_ids(BLOCKS, 0.5, torch.arange(10), 0)
    together, ordered = (recipe.batch(BLOCKS, 0.5, torch.arange(10), 0) for recipe in recipes)
    assert together.count == ordered.count == (drawn > 0).sum()
    for batch, group_ids in ((together, drawn), (ordered, groups.given_in_order(drawn)[0])):
        plan, inside = batch.inputs["plan"], batch.weights > 0
        assert torch.equal(plan.labels != -100, inside) and inside.sum() == batch.count
        places = plan.places[inside]  # the predicted positions, and no given one, in the order of generation
        assert sorted(places.tolist()) == (drawn > 0).flatten().nonzero().flatten().tolist()
        assert torch.equal(plan.labels[inside], BLOCKS.input_ids.flatten()[places])
        for text, columns in enumerate(plan.groups[:10, : plan.width]):
            seen = group_ids[text][group_ids[text].ge(0) & group_ids[text].lt(group_ids[text].max())].sort().values
            assert torch.equal(columns[columns >= 0], seen)
    with pytest.raises(ValueError, match="known_order must be one of together, left_to_right; got 'right'"):
        AnyOrder(curriculum, "right")


def test_a_model_knows_how_it_read_given_tokens(tmp_path):
    model = small_model()
    recipe = AnyOrder(Curriculum((Stage("spans", 1, (Part("span"),)),)), "left_to_right")
    train(model, recipe, BLOCKS, config(steps=1, lora_rank=2), tmp_path, quiet=True)
    assert model.config.known_order == "left_to_right"
    assert adapter.read(tmp_path / "adapter")[1]["known_order"] == "left_to_right"


def test_the_recipe_reads_given_tokens_as_the_model_says():
    """What the recipe leaves open the config decides; what it says, the model keeps; cut short, it is as before."""
    spans, seen = Curriculum((Stage("spans", 1, (Part("span"),)),)), []

    class Watched(AnyOrder):
        def log_probs(self, model, inputs):
            seen.append((self.known_order, base.config.known_order))
            if fails:
                raise ConnectionError
            return super().log_probs(model, inputs)

    fails = False
    for told, kept, used in (
        (None, "left_to_right", "left_to_right"),
        (None, "together", "together"),
        ("left_to_right", "together", "left_to_right"),
        ("together", "left_to_right", "together"),
    ):
        base, recipe = small_model(known_order=kept), Watched(spans, told)
        train(base, recipe, BLOCKS, config(steps=1), quiet=True)
        assert set(seen) == {(used, used)} and base.config.known_order == used and recipe.known_order == told
        seen.clear()
    fails = True
    for kept in KNOWN_ORDERS:
        base, other = small_model(known_order=kept), KNOWN_ORDERS[KNOWN_ORDERS.index(kept) - 1]
        before = dict(vars(base.config))
        with pytest.raises(ConnectionError):
            train(base, Watched(spans, other), BLOCKS, config(steps=1), quiet=True)
        assert vars(base.config) == before and seen.pop() == (other, other)


def test_a_training_goes_on_from_an_adapter_as_that_read_given_tokens(tmp_path):
    first, base = small_model(known_order="left_to_right"), small_model()
    train(first, RECIPE, BLOCKS, config(steps=1, lora_rank=2), tmp_path / "a", quiet=True)
    how = {"quiet": True, "start": tmp_path / "a" / "adapter"}
    train(base, RECIPE, BLOCKS, config(steps=1, lora_rank=2), tmp_path / "b", **how)
    assert base.config.known_order == "left_to_right"
    assert adapter.read(tmp_path / "b" / "adapter")[1]["known_order"] == "left_to_right"


@pytest.mark.parametrize("asked", ["auto", "fp32", "bf16"])
def test_a_run_goes_on_in_the_precision_it_began_in(asked, tmp_path, monkeypatch):
    """Another device would do bf16 best; the run was computed in fp32."""
    whole, how = weights_after(steps=6), {"steps": 6, "save_every": 2, "eval_every": 3}
    with pytest.raises(Stop):
        train(small_model(), RECIPE, BLOCKS, config(**how), tmp_path, StopAt(2), quiet=True)
    monkeypatch.setattr(train_file, "best_precision", lambda *_: "bf16")
    model, again = small_model(), config(**how, precision=asked)
    if asked == "bf16":
        said = "was computed in fp32 on .*, and would go on in bf16 on .*; say precision='fp32' or 'auto'"
        with pytest.raises(ValueError, match=said) as caught:
            train(model, RECIPE, BLOCKS, again, tmp_path, StopAt(0), quiet=True)
        assert "\n" not in str(caught.value)
    else:
        train(model, RECIPE, BLOCKS, again, tmp_path, StopAt(0), quiet=True)
        assert distance(whole, model.state_dict()) == 0
        assert json.loads((tmp_path / "run.json").read_text())["precision"] == "no"


def test_a_run_in_fp16_does_not_go_on_without_a_gpu(tmp_path, monkeypatch):
    weights_after(folder=tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record | {"precision": "fp16", "hardware": "Tesla T4"}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="was computed in fp16, which needs a CUDA device, and here is none; go on"):
        weights_after(precision="auto", folder=tmp_path)


def test_the_precision_of_a_run_is_no_part_of_its_name():
    """So what it made stays its own when it goes on elsewhere."""
    names = set()
    for precision in ("auto", "fp16", "fp32"):
        about = resume.identity(small_model(), RECIPE, BLOCKS, config(precision=precision), None, None, None)
        names.add(resume.run_id(about))
    assert len(names) == 1


def test_free_settings_may_change(tmp_path):
    whole = weights_after(steps=6)
    with pytest.raises(Stop):
        train(
            small_model(), RECIPE, BLOCKS, config(steps=6, save_every=2, eval_every=3), tmp_path, StopAt(2), quiet=True
        )
    changed = {
        "eval_every": 5,
        "save_every": 1,
        "log_every": 2,
        "micro_batch_size": 2,
        "activation_checkpointing": True,
        "workers": 2,
        "compile": False,
        "precision": "auto",  # the run goes on in fp32, as it began
    }
    in_tokens = {"micro_batch_tokens"}  # with batch_tokens only: test_batches
    assert changed.keys() | in_tokens == set(resume.FREE_TO_CHANGE)
    model = small_model()
    train(model, RECIPE, BLOCKS, config(steps=6, **changed), tmp_path, StopAt(0), quiet=True)
    assert distance(whole, model.state_dict()) < 1e-4


def test_a_damaged_checkpoint_says_so(tmp_path):
    weights_after(folder=tmp_path, save_every=2)
    file = tmp_path / "checkpoints" / "step-4" / "trainable.safetensors"
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(ValueError, match="step-4 is damaged"):
        weights_after(folder=tmp_path, save_every=2)


class Broken(AnyOrder):
    """The loss is not finite from the fourth step on."""

    def batch(self, rows, progress, examples, *others):
        batch = super().batch(rows, progress, examples, *others)
        return batch._replace(weights=batch.weights * (float("nan") if examples[0] >= 12 else 1.0))


def test_a_loss_that_is_not_finite_stops(tmp_path):
    model = small_model()
    with pytest.raises(FloatingPointError, match="the loss of step 4, or its .* is nan, .*good checkpoint is .*step-2"):
        train(model, Broken(RECIPE.curriculum), BLOCKS, config(steps=8, save_every=2), tmp_path, quiet=True)
    assert all(weight.isfinite().all() for weight in model.parameters()), "the model is as it was"
    assert runs.latest_checkpoint(tmp_path / "checkpoints").name == "step-2"
    with pytest.raises(FloatingPointError, match="the loss of step 4.*the last good checkpoint is none"):
        train(small_model(), Broken(RECIPE.curriculum), BLOCKS, config(steps=8, log_every=0), quiet=True)
    with pytest.raises(FloatingPointError, match="the loss of step 4.*the last good checkpoint is none"):
        settings = config(steps=9, save_every=5, log_every=0)
        train(small_model(), Broken(RECIPE.curriculum), BLOCKS, settings, tmp_path / "b", quiet=True)
    assert runs.latest_checkpoint(tmp_path / "b" / "checkpoints") is None, "nothing that is not finite is saved"


def test_a_full_disk_stops_and_names_the_last_good_checkpoint(tmp_path, monkeypatch):
    right = runs._write_over

    def full(path, contents):
        if "4" in path.parent.name:
            raise OSError(28, "No space left on device")
        right(path, contents)

    monkeypatch.setattr(runs, "_write_over", full)
    with pytest.raises(OSError, match="step 4 could not be written.*the last good checkpoint is .*step-2"):
        weights_after(folder=tmp_path, steps=6, save_every=2)
    monkeypatch.undo()
    assert distance(weights_after(steps=6), weights_after(folder=tmp_path, steps=6, save_every=2)) == 0


def test_the_record_of_a_run(tmp_path):
    weights_after(folder=tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["training"]["seed"] == 0 and record["processes"] == 1 and record["precision"] == "no"
    assert record["data"]["tokens"] == int(BLOCKS.lengths.sum())
    assert torch.__version__.startswith(record["versions"]["torch"])  # the former may name its build, too: 2.9.0+cu130
    assert Curriculum(**record["curriculum"]) == RECIPE.curriculum
    assert record["recipe"] == "any order" and record["model"]["hidden_size"] == 16 and record["hardware"]
