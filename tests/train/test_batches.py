"""batches.py: what a step sees follows from its number, whoever makes it; by rows and by tokens."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_run import CONFIG, small_blocks, small_model

from a3mini.rows import IGNORED_LABEL
from a3mini.train import AnyOrder, Autoregressive, Blocks, Curriculum, MaskedDiffusion, TrainConfig, train
from a3mini.train.batches import Batches, Examples
from a3mini.train.data import Order

BLOCKS = small_blocks()
RECIPES = {
    "any order": AnyOrder(Curriculum.preset("spans")),
    "autoregression": Autoregressive(),
    "masked diffusion": MaskedDiffusion(),
}
LENGTHS = torch.randint(5, 33, (70,), generator=torch.Generator().manual_seed(0))


def config(**changes) -> TrainConfig:
    return TrainConfig(**{**CONFIG, "eval_every": 0, "save_every": 0, **changes})


def leaves(step) -> list:
    return torch.utils._pytree.tree_leaves(step)


def equal(first, second) -> bool:
    pairs = zip(leaves(first), leaves(second), strict=True)
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("changes", [{}, {"batch_tokens": 60}], ids=["rows", "tokens"])
def test_a_step_is_the_same_whoever_makes_it_and_in_whatever_order(name, changes):
    steps = config(**changes)
    whole = [Batches(BLOCKS, RECIPES[name], steps)[n] for n in range(12)]  # each by an object of its own
    backwards = Batches(BLOCKS, RECIPES[name], steps)
    assert all(equal(backwards[n], whole[n]) for n in reversed(range(12)))
    assert not equal(whole[0], whole[1])
    ahead = Batches(BLOCKS, RECIPES[name], steps).loader(3, workers=2, pinned=False)
    assert all(equal(step, whole[n]) for n, step in enumerate(ahead, start=3))
    here = list(Batches(BLOCKS, RECIPES[name], steps).loader(0, workers=0, pinned=False))
    assert len(here) == 12 and all(map(equal, here, whole))


def test_the_loader_draws_from_no_global_generator():
    before = torch.get_rng_state()
    list(Batches(BLOCKS, RECIPES["any order"], config()).loader(10, 0, False))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("changes", [{"batch_size": 8}, {"batch_tokens": 400}], ids=["rows", "tokens"])
@pytest.mark.parametrize("name", RECIPES)
def test_the_number_of_processes_and_microbatches_changes_nothing(name, changes):
    """All parts of a step together hold the same predicted tokens as the step in one piece."""
    blocks = Blocks(torch.arange(70)[:, None].expand(-1, 32).contiguous() % 11, LENGTHS, torch.arange(70),
                    torch.zeros(70, 32, dtype=torch.bool))  # fmt: skip
    micro = {"micro_batch_size": 2} if "batch_size" in changes else {"micro_batch_tokens": 100}
    one = Batches(blocks, RECIPES[name], config(**changes))
    parts = [Batches(blocks, RECIPES[name], config(**changes, **micro), process, 2) for process in range(2)]
    for n in range(6):
        whole, divided = one[n], [part[n] for part in parts]
        assert {step.tokens for step in divided} == {whole.tokens}
        assert sum(step.count for step in divided) == whole.count
        assert all(len(step.batches) == 2 for step in divided)
        found = torch.cat([weights_of(batch) for step in divided for batch in step.batches])
        assert torch.equal(found.sort().values, weights_of(whole.batches[0]).sort().values)


def weights_of(batch) -> torch.Tensor:
    return batch.weights[batch.weights > 0]


# By tokens


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(2, 20), min_size=1, max_size=30), st.integers(40, 200), st.integers(0, 3), st.integers(1, 2)
)
def test_steps_by_tokens_against_a_loop(lengths, budget, seed, processes):
    lengths, order = torch.tensor(lengths), Order(len(lengths), seed)
    steps = config(batch_tokens=max(budget, 4 * processes * int(lengths.max())), seed=seed)
    found = Examples(lengths, order, steps, 0, processes)
    example = 0
    for n in range(7):
        total, expected = 0, []
        while True:
            row = int(Order(len(lengths), seed).rows(torch.tensor([example]))[0])
            if total + int(lengths[row]) > steps.batch_tokens:
                break
            total += int(lengths[row])
            expected.append(example)
            example += 1
        assert found.of(n).tolist() == expected
        rows = order.rows(found.of(n))
        cuts = [cut for p in range(processes) for cut in Examples(lengths, order, steps, p, processes).divided(rows)]
        assert [i for cut in cuts for i in range(cut.start, cut.stop)] == list(range(len(rows)))
        sizes = [int(lengths[rows[cut]].sum()) for cut in cuts]
        assert min(sizes) > 0 and max(sizes) - min(sizes) <= 2 * int(lengths.max())


def test_shapes_are_few_and_rows_are_real_by_tokens():
    """In every stage of the curricula, at the size of a GPU's step: nine of ten computed rows are real."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(40, 129, (400,), generator=generator)
    ends = (torch.rand(400, 128, generator=generator) < 0.07) & (torch.arange(128) < lengths[:, None])
    blocks = Blocks(torch.zeros(400, 128, dtype=torch.int64), lengths, torch.arange(400), ends)
    for name in ("paper", "spans", "mixed"):
        curriculum = Curriculum.preset(name)
        batches = Batches(blocks, AnyOrder(curriculum), config(steps=40, batch_tokens=8192), few_shapes=True)
        edges = [0.0, *curriculum.boundaries]
        for stage in range(len(edges) - 1):
            steps = [n for n in range(40) if edges[stage] <= n / 40 < edges[stage + 1]]
            plans = [batch.inputs["plan"] for n in steps for batch in batches[n].batches]
            assert sum(int(p.real) for p in plans) >= 0.9 * sum(p.computed for p in plans), (name, stage)
            assert len({p.shape for p in plans}) <= 8, (name, stage)


@pytest.mark.parametrize("changes", [{"batch_tokens": 200, "log_every": 1}, {"batch_tokens": 200, "ema_tokens": 500}])
def test_training_by_tokens_in_parts(changes):
    """A microbatch of a quarter ends where the whole does; workers change nothing at all."""
    ends = []
    for more in ({}, {"micro_batch_tokens": 60}, {"workers": 2}):
        model = small_model()
        metrics = train(model, RECIPES["any order"], BLOCKS, config(steps=4, **changes, **more), quiet=True)
        ends.append(torch.cat([w.detach().flatten() for w in model.parameters()]))
    assert (ends[0] - ends[1]).abs().max() < 1e-4 and torch.equal(ends[0], ends[2])
    assert 4 * (200 - 12) < metrics[-1]["tokens"] <= 4 * 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_tokens": 20}, "batch_tokens=20 is too little for 1 parts.*raise it to 24"),
        ({"batch_tokens": 60, "micro_batch_tokens": 10}, "batch_tokens=60 is too little for 6 parts"),
        ({"batch_size": 5, "micro_batch_size": 2}, "batch_size=5 cannot be divided"),
    ],
)
def test_what_cannot_be_divided(changes, message):
    with pytest.raises(ValueError, match=message):
        train(small_model(), RECIPES["any order"], BLOCKS, config(**changes), quiet=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"micro_batch_tokens": 10}, "needs batch_tokens"),
        ({"batch_tokens": 100, "micro_batch_size": 2}, "use micro_batch_tokens"),
        ({"batch_tokens": -1}, "batch_tokens must not be negative"),
        ({"compile": "maybe"}, "compile must be one of auto, True, False; got 'maybe'"),
        ({"workers": -2}, "workers must be a number of processes, or -1; got -2"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_padding_has_no_row():
    plan = Batches(BLOCKS, RECIPES["any order"], config())[0].batches[0].inputs["plan"]
    assert plan.computed == int(plan.real) + 2 and (plan.labels == IGNORED_LABEL).sum() == 1
