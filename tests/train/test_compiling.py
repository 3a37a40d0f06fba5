"""compiling.py: layers and head are captured whole, give the same numbers, and a failure costs a line, not the run."""

import pytest
import torch
from laws import same
from training_run import CONFIG, small_blocks, small_model

from a3mini import flat, groups, objective
from a3mini.rows import QUERY_STARTS
from a3mini.train import AnyOrder, Curriculum, TrainConfig, compiling, train
from a3mini.train.compiling import Compiled

BLOCKS, RECIPE = small_blocks(), AnyOrder(Curriculum.preset("spans"))
CPU = torch.device("cpu")


@pytest.fixture
def captured(monkeypatch):
    """Layers and head are captured in one graph each, as on a GPU, and then run without a compiler: that is quick."""
    right = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: right(self, backend="aot_eager", **how))
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("start", QUERY_STARTS)
def test_layers_and_head_are_captured_whole(start, captured):
    """No graph breaks, forward or backward, in training and in evaluation; the numbers are the same."""
    model = small_model(query_start=start).double()
    ids = torch.randint(14, (6, 12), generator=torch.Generator().manual_seed(0))
    group_ids = torch.stack([groups.shuffled(12, 2), *[groups.left_to_right(12)] * 4, torch.ones(12).long()])
    plan = flat.plan(ids, group_ids, ids, 8)
    expected = model(plan=plan).log_probs
    gradients = torch.autograd.grad(expected.sum(), list(model.parameters()))
    counters = torch._dynamo.utils.counters
    counters.clear()
    with Compiled(model, True, CPU)() as compiled:
        assert model.few_shapes and compiled.also_in_evaluation
        found = model(plan=plan).log_probs
        same(found.detach(), expected.detach(), 1e-6)
        for one, other in zip(torch.autograd.grad(found.sum(), list(model.parameters())), gradients, strict=True):
            same(one, other, 1e-6)
        with torch.no_grad():
            score = objective.log_likelihood(model, ids, group_ids)
    assert counters["stats"]["unique_graphs"] >= 2 and not counters["graph_break"]
    assert not model.few_shapes and "few_shapes" not in vars(model)
    assert all(part._compiled_call_impl is None for part in compiled.parts)
    with torch.no_grad():
        same(objective.log_likelihood(model, ids, group_ids), score, 1e-6)


def test_a_compiled_training_ends_where_the_other_does(captured):
    models = [small_model(), small_model()]
    for model, choice in zip(models, (False, True), strict=True):
        settings = TrainConfig(**{**CONFIG, "steps": 3, "save_every": 0, "eval_every": 0}, compile=choice)
        train(model, RECIPE, BLOCKS, settings, quiet=True)
    pairs = zip(*(model.parameters() for model in models), strict=True)
    assert max((one - other).abs().max().item() for one, other in pairs) < 1e-4


def test_it_is_off_where_it_does_not_pay():
    assert not compiling.pays(CPU)
    model = small_model()
    with Compiled(model, "auto", CPU)() as compiled:
        assert not compiled.on and all(part._compiled_call_impl is None for part in compiled.parts)


def test_an_evaluation_is_not_compiled_unless_asked_for(captured):
    model = small_model()
    compiled = Compiled(model, True, CPU)
    compiled.also_in_evaluation = False  # as with "auto" on a GPU
    ids = torch.randint(14, (2, 12))
    with compiled():
        torch._dynamo.utils.counters.clear()
        with compiled.in_evaluation(), torch.no_grad():
            objective.log_likelihood(model, ids, groups.left_to_right(12).expand(2, -1))
        assert not torch._dynamo.utils.counters["stats"]["unique_graphs"]
        with torch.no_grad():
            objective.log_likelihood(model, ids, groups.left_to_right(12).expand(2, -1))
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"]


def test_a_failure_falls_back_and_says_so(monkeypatch):
    """A compiler that is not there: the run goes on without, to the same result."""

    def broken(graph, inputs):
        raise RuntimeError("no C++ compiler found")

    right = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: right(self, backend=broken, **how))
    torch._dynamo.reset()
    models, settings = [small_model(), small_model()], {**CONFIG, "steps": 3, "save_every": 0, "eval_every": 0}
    with pytest.warns(UserWarning, match="cannot be compiled here .*no C\\+\\+ compiler found.*goes on without"):
        train(models[0], RECIPE, BLOCKS, TrainConfig(**settings, compile=True), quiet=True)
    torch._dynamo.reset()
    train(models[1], RECIPE, BLOCKS, TrainConfig(**settings, compile=False), quiet=True)
    pairs = zip(*(model.parameters() for model in models), strict=True)
    assert max((one - other).abs().max().item() for one, other in pairs) < 1e-5


def test_another_error_is_not_taken_for_one_of_the_compiler():
    compiled = Compiled(small_model(), True, CPU)
    assert not compiled.failed(ValueError("something else")) and compiled.on
    off = Compiled(small_model(), False, CPU)
    assert not off.failed(torch._dynamo.exc.TorchDynamoException("not ours"))
