"""flat.py: a line of rows computes what a rectangle does; every real row once, few sizes, texts apart."""

import copy
import inspect
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import EXACT, same, strong_model
from torch._subclasses.fake_tensor import FakeTensorMode

from a3mini import attention, flat, groups, masks, objective
from a3mini.rows import IGNORED_LABEL, QUERY_STARTS

SHARED = dict(num_attention_heads=4, num_key_value_heads=2)
MODELS = {start: strong_model(query_start=start, **SHARED) for start in QUERY_STARTS}
starts = pytest.mark.parametrize("start", QUERY_STARTS)
T = 9
GROUPS = torch.stack(
    [
        groups.shuffled(T, 2, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 0, 1, 1, 2, 0, -1, -1, -1]),
        torch.ones(T, dtype=torch.int64),  # nothing to see: empty rows, and no content
        groups.left_to_right(T),
        torch.tensor([-1, 0, 3, -1, 3, 0, 1, 2, -1]),
        torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 1]),
        torch.tensor([0, 3, 0, 3, 0, 3, 0, 0, 0]),
    ]
)
IDS = torch.randint(11, GROUPS.shape, generator=torch.Generator().manual_seed(1))
LABELS = objective.labels_for(IDS, GROUPS)
SIZES = {"exact": 0, "rounded": 4, "coarse": 50}
sizes = pytest.mark.parametrize("how", SIZES)


def dense(model) -> torch.Tensor:
    """The same log-probabilities from logits at every position: another plan, and no line."""
    logits = model(IDS, GROUPS).logits
    return logits.log_softmax(-1).gather(-1, IDS[..., None])[..., 0].masked_fill(GROUPS <= 0, 0)


def by_line(model, how: str, labels=LABELS) -> torch.Tensor:
    plan = flat.plan(IDS, GROUPS, labels, SIZES[how])
    found = model(plan=plan).log_probs
    return found.new_zeros(IDS.numel() + 1).index_put((plan.places,), found)[:-1].view_as(IDS)


def gradients(model, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    found = torch.autograd.grad(loss, list(model.parameters()))
    return dict(zip(dict(model.named_parameters()), found, strict=True))


@starts
@sizes
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_a_line_equals_a_rectangle_forward_and_backward(start, how, kernel):
    model = copy.deepcopy(MODELS[start])
    model.set_attn_implementation(kernel)
    right, found = dense(model), by_line(model, how)
    same(found, right)
    weights = torch.rand(IDS.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = gradients(model, (weights * right).sum())
    for name, gradient in gradients(model, (weights * found).sum()).items():
        same(gradient, expected[name]), name


@starts
def test_the_models_loss_is_that_of_a_line(start):
    out = MODELS[start](IDS, GROUPS, labels=LABELS)
    same(out.log_probs, dense(MODELS[start]))
    same(out.loss, -out.log_probs.sum() / (GROUPS > 0).sum())
    with torch.no_grad():
        both = MODELS[start](IDS, GROUPS, labels=LABELS, return_logits=True)
    same(both.log_probs, out.log_probs.detach())
    same(both.loss, out.loss.detach())


@torch.no_grad()
@starts
def test_by_blocks(start):
    """FlexAttention sees the line itself, and leaves other texts out."""
    model = copy.deepcopy(MODELS[start])
    model.set_attn_implementation("flex_attention")
    for how in SIZES:
        same(by_line(model, how), dense(MODELS[start]), 1e-6)


@sizes
def test_every_real_row_stands_in_the_line_once(how):
    plan = flat.plan(IDS, GROUPS, LABELS, SIZES[how])
    texts, content, queries, line, asked, _ = plan.shape
    assert (plan.computed, plan.rows.shape) == (line + asked, (texts, content + queries))
    expected_content = [
        (b, t) for b in range(len(GROUPS)) for t in range(T)
        if 0 <= GROUPS[b, t] < GROUPS[b].max()
    ]  # fmt: skip
    expected_queries = [(b, t) for b in range(len(GROUPS)) for t in range(T) if GROUPS[b, t] > 0]
    assert int(plan.real) == len(expected_content) + len(expected_queries) < plan.computed
    real = (plan.labels != IGNORED_LABEL).nonzero().flatten()
    assert [divmod(int(place), T) for place in plan.places[real]] == sorted(
        expected_queries, key=lambda at: (at[0], int(GROUPS[at]), at[1])
    )
    assert torch.equal(plan.labels[real], IDS.flatten()[plan.places[real]])
    assert (plan.places[len(real) :] == IDS.numel()).all()
    # line and rectangle lead to each other, and what fills up to what fills up
    there = plan.rows.flatten()[plan.back]
    filling = torch.ones(plan.computed, dtype=torch.bool)
    filling[: len(expected_content)] = False
    filling[line : line + len(real)] = False
    assert torch.equal(there[~filling], torch.arange(plan.computed)[~filling]) and filling[there[filling]].all()
    unused = torch.ones(plan.rows.numel(), dtype=torch.bool)
    unused[plan.back[~filling]] = False
    assert filling[plan.rows.flatten()[unused]].all() and unused[plan.back[filling]].all()
    assert ((plan.groups.flatten() == groups.PADDING) == unused).all()


def test_labels_that_do_not_count_have_no_row():
    labels = LABELS.clone()
    labels[0], labels[3, 4] = IGNORED_LABEL, IGNORED_LABEL
    plan = flat.plan(IDS, GROUPS, labels)
    assert (plan.labels != IGNORED_LABEL).sum() == (labels != IGNORED_LABEL).sum() < (LABELS != IGNORED_LABEL).sum()
    right = dense(MODELS["vector"]).masked_fill(labels == IGNORED_LABEL, 0)
    same(by_line(MODELS["vector"], "exact", labels), right)


ONE_BY_ONE = torch.stack(
    [
        groups.left_to_right(T),
        groups.shuffled(T, 1, generator=torch.Generator().manual_seed(3)),
        torch.tensor([0, 5, 1, 8, 2, -1, -1, -1, -1]),
        torch.tensor([-1, 7, 2, 0, 3, 9, -1, 12, 6]),
    ]
)
PARTLY = LABELS[:4].clone().masked_fill(torch.tensor([2, 4, 9, 1])[:, None] == ONE_BY_ONE, IGNORED_LABEL)


@starts
@sizes
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("labels", [IDS[:4], PARTLY], ids=["all", "some"])
def test_one_by_one_is_causal_forward_and_backward(start, how, kernel, labels, monkeypatch):
    """Without a mask; equal to all logits, and to the same plan with a mask."""
    model, called = copy.deepcopy(MODELS[start]), []
    model.set_attn_implementation(kernel)
    right = attention._causal
    monkeypatch.setattr(attention, "_causal", lambda *arguments: called.append(1) or right(*arguments))
    plan = flat.plan(IDS[:4], ONE_BY_ONE, labels, SIZES[how])
    assert plan.causal and plan.shape[-1] and plan.shape[1] == plan.shape[2]
    found, masked = model(plan=plan), model(plan=plan._replace(causal=False))
    assert len(called) == (0 if kernel == "eager" else model.config.num_hidden_layers)
    same(found.log_probs, masked.log_probs)
    dense = model(IDS[:4], ONE_BY_ONE).logits.log_softmax(-1).gather(-1, IDS[:4, :, None]).flatten()
    real = plan.labels != IGNORED_LABEL
    same(found.log_probs[real], dense[plan.places[real]])
    assert real.sum() == ((ONE_BY_ONE > 0) & (labels != IGNORED_LABEL)).sum()
    expected = gradients(model, masked.loss)
    for name, gradient in gradients(model, found.loss).items():
        same(gradient, expected[name]), name


def sees_a_prefix(group_ids: list[int]) -> bool:
    """By loops: the n-th content row of a text sees n tokens, and query rows see different numbers of tokens, not 0."""
    last = max(group_ids)
    content = sorted(g for g in group_ids if 0 <= g < last)
    seen = [sum(0 <= h < g for h in group_ids) for g in group_ids if g > 0]
    in_order = all(sum(0 <= h <= g for h in group_ids) == n for n, g in enumerate(content, start=1))
    return in_order and len(set(seen)) == len(seen) and 0 not in seen


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(-1, 9), min_size=5, max_size=5, unique_by=lambda g: g), min_size=1, max_size=3),
       st.lists(st.integers(-1, 9), min_size=5, max_size=5))  # fmt: skip
def test_causal_is_what_sees_a_prefix(rows, more):
    rows = [*rows, more] if more[0] % 2 else rows
    group_ids = torch.tensor(rows)
    plan = flat.plan(group_ids.clamp(min=0), group_ids, group_ids.clamp(min=0))
    assert plan.causal == all(map(sees_a_prefix, rows))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(-1, 4), min_size=6, max_size=6), min_size=1, max_size=5),
    st.sampled_from(list(SIZES)), st.sampled_from(QUERY_STARTS),
)  # fmt: skip
def test_any_groups(group_rows, how, start):
    group_ids = torch.tensor(group_rows)
    if not (group_ids > 0).any():
        return
    ids = torch.randint(11, group_ids.shape, generator=torch.Generator().manual_seed(0))
    model = MODELS[start]
    with torch.no_grad():
        plan = flat.plan(ids, group_ids, ids, SIZES[how])
        found = model(plan=plan).log_probs
        found = found.new_zeros(ids.numel() + 1).index_put((plan.places,), found)[:-1].view_as(ids)
        right = model(ids, group_ids).logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    same(found, right.masked_fill(group_ids <= 0, 0))


def test_what_fills_up_plays_no_part():
    """Whatever stands in the rows that only fill up: the same log-probabilities, bit for bit, and no gradient there."""
    model = MODELS["previous"]
    plan = flat.plan(IDS, GROUPS, LABELS, 50)
    real = int((plan.groups[:, : plan.width] >= 0).sum())
    other = plan.content_ids.clone()
    other[0, real:] = 7
    before = plan.before.clone()
    before[0, (plan.labels == IGNORED_LABEL)] = 3
    first, second = (model(plan=p) for p in (plan, plan._replace(content_ids=other, before=before)))
    inside = plan.labels != IGNORED_LABEL
    assert torch.equal(first.log_probs[inside], second.log_probs[inside]) and (first.log_probs[~inside] == 0).all()
    for name, gradient in gradients(model, first.loss).items():
        other_gradient = gradients(model, model(plan=plan._replace(content_ids=other, before=before)).loss)[name]
        same(gradient, other_gradient), name


def test_texts_do_not_see_each_other():
    """Bit for bit: changing one text changes nothing in another."""
    changed = IDS.clone()
    changed[3] = (changed[3] + 1) % 11
    with torch.no_grad():
        first = by_line(MODELS["previous"], "rounded")
        plan = flat.plan(changed, GROUPS, objective.labels_for(changed, GROUPS), SIZES["rounded"])
        found = MODELS["previous"](plan=plan).log_probs
        second = found.new_zeros(IDS.numel() + 1).index_put((plan.places,), found)[:-1].view_as(IDS)
    others = torch.arange(len(IDS)) != 3
    assert torch.equal(first[others], second[others]) and not torch.equal(first[3], second[3])


def test_sizes_are_few_and_rows_are_real():
    """Random lengths and blanks; at most a sixteenth of each stream is added, and sizes repeat."""
    generator = torch.Generator().manual_seed(0)
    shapes, shares = set(), []
    for _ in range(40):
        lengths = torch.randint(40, 97, (32, 1), generator=generator)
        place = torch.arange(96).expand(32, -1)
        group_ids = groups.infill(place > 0, 1).masked_fill(place >= lengths, groups.PADDING)
        plan = flat.plan(group_ids.clamp(min=0), group_ids, group_ids.clamp(min=0), 32 * 96 // flat.LEVELS)
        shapes.add(plan.shape)
        shares.append(int(plan.real) / plan.computed)
        exact = flat.plan(group_ids.clamp(min=0), group_ids, group_ids.clamp(min=0))
        assert exact.computed == int(exact.real) + 2 == int(plan.real) + 2
        assert plan.computed - int(plan.real) <= 2 * (32 * 96 // flat.LEVELS + 1)
    assert len(shapes) <= 6 and sum(shares) / len(shares) > 0.93, (shapes, shares)


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@starts
def test_computing_a_plan_needs_no_values(start, kernel):
    """Tensors that have shapes and no values: what asks for a value is an error. Neither does the backward pass."""
    model = copy.deepcopy(MODELS[start])
    model.set_attn_implementation(kernel)
    plan = flat.plan(IDS, GROUPS, LABELS, SIZES["rounded"])
    assert plan.empty is not None  # a text that has nothing to see is among them
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = torch.utils._pytree.tree_map_only(torch.Tensor, mode.from_tensor, plan)
        out = model(plan=fake)
        assert out.log_probs.shape == plan.labels.shape
        torch.autograd.grad(out.loss, list(model.parameters()), allow_unused=True)


# Mutants

MUTANTS = {
    "fillers are seen": ("rectangle(group_ids, groups.PADDING,", "rectangle(group_ids, 0,"),
    "what fills up stands at a real place": ("value=nowhere)\n\n\ndef _up", "value=offset)\n\n\ndef _up"),
    "unused places hold a real row": (
        "new_full((texts, self.width), self.size - 1)",
        "new_full((texts, self.width), 0)",
    ),
    "the content of the last group": ("(group_ids < last)", "(group_ids < last - 1)"),
    "positions by column": ("return cls(text, order[text, column], column", "return cls(text, column, column"),
    "empty rows are forgotten": ("empty=empty if empty.any() else None", "empty=None"),
}
CAUSAL_MUTANTS = {
    "a query row sees its own token": ("return seen - 1", "return seen.clamp(max=columns.shape[1] - 1)"),
    "content in parallel": ("columns[:, 1:] > columns", "columns[:, 1:] >= columns"),
    "queries in parallel": ("seen[1:] > seen", "seen[1:] >= seen"),
    "nothing to see": ("(seen > 0).all()", "True"),
}


def put_in_place(mutant: tuple[str, str], monkeypatch) -> None:
    source = inspect.getsource(flat)
    old, new = mutant
    assert source.count(old) == 1, f"the mutant does not fit the code any more: {old}"
    wrong = ModuleType("mutant")
    exec(source.replace(old, new), wrong.__dict__)
    monkeypatch.setattr(flat, "plan", wrong.plan)


@pytest.mark.parametrize("mutant", CAUSAL_MUTANTS)
def test_a_mistake_in_causal_plans_is_caught(mutant, monkeypatch):
    put_in_place(CAUSAL_MUTANTS[mutant], monkeypatch)
    with pytest.raises((AssertionError, RuntimeError, IndexError)):
        test_one_by_one_is_causal_forward_and_backward("vector", "exact", "sdpa", LABELS[:4], monkeypatch)
        test_causal_is_what_sees_a_prefix()


def test_a_causal_kernel_that_mixes_streams_up_is_caught(monkeypatch):
    right = attention._causal

    def wrong(query, key, value, streams, dropout):
        if streams == 2:  # query heads by stream, then by head
            query = query.unflatten(2, (2, -1)).transpose(1, 2).flatten(1, 2).unflatten(1, (-1, 2)).flatten(2, 3)
        return right(query, key, value, streams, dropout)

    monkeypatch.setattr(attention, "_causal", wrong)
    with pytest.raises(AssertionError):
        test_one_by_one_is_causal_forward_and_backward("vector", "exact", "sdpa", LABELS[:4], monkeypatch)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mistake_in_the_plan_is_caught(mutant, monkeypatch):
    put_in_place(MUTANTS[mutant], monkeypatch)
    with pytest.raises((AssertionError, RuntimeError, IndexError)):
        for how in SIZES:
            test_every_real_row_stands_in_the_line_once(how)
            for kernel in ("sdpa", "eager"):  # PyTorch's fused kernel on a CPU forgives rows that see nothing
                test_a_line_equals_a_rectangle_forward_and_backward("previous", how, kernel)


def test_a_query_that_sees_its_own_group_is_caught(monkeypatch):
    right = masks.may_attend
    expected = by_line(MODELS["vector"], "exact")
    monkeypatch.setattr(masks, "may_attend", lambda rows, columns, own_group: right(rows, columns, True))
    with pytest.raises(AssertionError):
        same(by_line(MODELS["vector"], "exact"), expected)


def test_a_gradient_that_is_put_back_wrong_is_caught(monkeypatch):
    """The backward pass of picking rows, shifted by one."""
    right = attention.Pick.backward
    monkeypatch.setattr(
        attention.Pick, "backward", staticmethod(lambda ctx, g: (right(ctx, g)[0].roll(1, 0), None, None))
    )
    with pytest.raises(AssertionError):
        test_a_line_equals_a_rectangle_forward_and_backward("vector", "exact", "sdpa")


def test_pick_against_indexing():
    """Rows that are picked once, in another order, and one that nobody picks."""
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([2, 0, 4, 4, 1])  # row 3 is never picked; row 4 fills up, twice
    back = torch.tensor([1, 4, 0, 2, 2])  # so the gradient at places 2 and 3 must be zero
    outer = torch.randn(5, 3, dtype=torch.float64)
    outer[2:4] = 0
    found = attention.Pick.apply(x, index, back)
    assert torch.equal(found, x[index])
    (gradient,) = torch.autograd.grad((found * outer).sum(), x)
    (right,) = torch.autograd.grad((x[index] * outer).sum(), x)
    same(gradient, right, EXACT)
