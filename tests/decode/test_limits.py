"""limits.py: which positions are filled together, against the rule in plain Python; what a bound bounds."""

import inspect
import itertools
import random
from types import ModuleType

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import same

from a3mini.decode import limits, resample, resample_log_likelihood
from a3mini.decode.groupwise import Filling
from a3mini.decode.limits import Limits
from a3mini.decode.steps import Steps

GRID = [0.0, 0.25, 0.5, 0.75, 1.0]  # so that there are ties, and sums that equal a bound


def choose(kind, scores, confidence, entropy, open_, **options) -> list[list[int]]:
    """The positions that each row chooses."""
    scores = torch.tensor(scores, dtype=torch.float64).masked_fill(~torch.tensor(open_), float("-inf"))
    measured = {"confidence": confidence, "entropy": entropy}
    measured = {name: torch.tensor(values, dtype=torch.float64) for name, values in measured.items()}
    chosen = kind(**options).choose(scores, measured)
    return [row.nonzero()[:, 0].tolist() for row in chosen]


def by_rule(scores, confidence, entropy, open_, per_step=None, bound=None, threshold=None, apart=1) -> list[int]:
    """The same for one row, as ``Limits`` says it."""
    listed = sorted((t for t in range(len(open_)) if open_[t]), key=lambda t: (-scores[t], t))
    if threshold is not None:
        listed = [t for t in listed if confidence[t] >= threshold] or listed[:1]
    if per_step is None and bound is None and threshold is None:
        per_step = 1
    taken = []
    for t in listed:
        together = [entropy[s] for s in (*taken, t)]
        fits = [
            per_step is None or len(taken) < per_step,
            bound is None or sum(together) - max(together) <= bound,
            all(abs(s - t) >= apart for s in taken),
        ]
        if not taken or all(fits):
            taken.append(t)
    return sorted(taken)


def check_the_rule(kind, seed: int) -> None:
    """One batch of two rows."""
    pick = random.Random(seed)
    rows = [[[pick.choice(GRID) for _ in range(7)] for _ in range(3)] for _ in range(2)]
    open_ = [[pick.random() < 0.8 for _ in range(7)] for _ in range(2)]
    options = {
        "bound": pick.choice([None, 0.0, 0.25, 1.0, 2.5]),
        "threshold": pick.choice([None, 0.25, 0.75, 1.0]),
        "apart": pick.choice([1, 1, 2, 3]),
    }
    limited = options["bound"] is not None or options["threshold"] is not None
    options["per_step"] = pick.choice([None, *range(1 + limited, 8)])
    found = choose(kind, *zip(*rows, strict=True), open_, **options)
    for taken, row, is_open in zip(found, rows, open_, strict=True):
        assert taken == by_rule(*row, is_open, **options)
        assert all(is_open[t] for t in taken) and bool(taken) == any(is_open)  # at least one


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**31))
def test_the_rule(seed):
    check_the_rule(Limits, seed)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("largest = torch.maximum(largest, entropy.gather(-1, best))", "largest = entropy.gather(-1, best)"),
        ("total + entropy - torch.maximum(largest, entropy)", "total + entropy"),
        ("total + entropy - torch.maximum(largest, entropy)", "total - largest"),
        ("total = total + entropy.gather(-1, best)", "total = entropy.gather(-1, best)"),
        (".abs() >= self.apart", ".abs() > self.apart"),
        ("(position - best).abs()", "(position - best)"),
        (">= round(self.threshold", "> round(self.threshold"),
        ("<= round(self.bound", "< round(self.bound"),
        ("torch.where(sure.any(-1, keepdim=True), sure, first)", "sure"),
        ("torch.where(sure.any(-1, keepdim=True), sure, first)", "torch.where(sure.any(), sure, first)"),
        ("torch.where(sure.any(-1, keepdim=True), sure, first)", "torch.where(sure.any(-1, keepdim=True), sure, left)"),
        ("min(self.per_step, scores.shape[1])", "min(self.per_step + 1, scores.shape[1])"),
        ("scores.masked_fill(~left, float(\"-inf\")).argmax(-1, keepdim=True)  #",
         "scores.shape[1] - 1 - scores.masked_fill(~left, float(\"-inf\")).flip(-1).argmax(-1, keepdim=True)  #"),
    ],
)  # fmt: skip
def test_the_rule_catches(old, new):
    source = inspect.getsource(limits)
    assert source.count(old) == 1, f"the mutant does not fit the code any more: {old}"
    mutant = ModuleType("mutant")
    exec(source.replace(old, new), mutant.__dict__)
    with pytest.raises(AssertionError):
        for seed in range(1000):
            check_the_rule(mutant.Limits, seed)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 3), min_size=1, max_size=8), st.floats(0, 6))
def test_by_entropy_a_bound_takes_the_longest_beginning(entropy, bound):
    """As Ben-Hamu et al. have it: of all beginnings of the sorted list, the longest whose sum less its maximum fits."""
    ordered = sorted(range(len(entropy)), key=lambda t: (round(entropy[t], 12), t))
    fits = [
        size for size in range(1, len(ordered) + 1)
        if size == 1 or round(sum(entropy[t] for t in ordered[: size - 1]), 9) <= round(bound, 9)
    ]  # fmt: skip
    scores = [-nats for nats in entropy]
    found = choose(Limits, [scores], [scores], [entropy], [[True] * len(entropy)], bound=bound)[0]
    same_up_to_rounding = [sorted(ordered[:size]) for size in (max(fits) - 1, max(fits), max(fits) + 1)]
    edge = any(abs(sum(entropy[t] for t in ordered[:n]) - bound) < 1e-8 for n in range(len(ordered)))
    assert found == sorted(ordered[: max(fits)]) or (edge and found in same_up_to_rounding)


def test_equal_up_to_rounding_is_equal():
    """In float32, as where nothing is seen: the left one of two that differ in the seventh place."""
    scores = torch.tensor([[0.3, 0.3 + 6e-8, 0.1]])
    assert Limits().choose(scores, {}).tolist() == [[True, False, False]]
    entropy = torch.full((1, 3), 0.1)
    assert Limits(bound=0.2).choose(-entropy, {"entropy": entropy}).all()  # though 0.1 + 0.1 + 0.1 - 0.1 is a bit more


def test_what_is_measured():
    names = {criterion: Limits().measures(criterion) for criterion in ("confidence", "entropy", "random")}
    assert names == {"confidence": ["confidence"], "entropy": ["entropy"], "random": []}
    assert Limits(bound=1).measures("random") == ["entropy"] and Limits(threshold=1).measures("entropy") == [
        "confidence", "entropy"
    ]  # fmt: skip


# What a bound bounds: a model that predicts the marginals of one joint distribution

WORDS, PLACES = 3, 4
MODEL = laws.strong_model(vocab_size=WORDS)
ROWS = torch.cat((torch.zeros(WORDS**PLACES, 1, dtype=torch.int64),
                  torch.tensor(list(itertools.product(range(WORDS), repeat=PLACES)))), dim=1)  # fmt: skip
UNKNOWN = torch.tensor([[False, True, True, True, True]]).expand(len(ROWS), -1)


def joint(seed: int, sharpness: float) -> torch.Tensor:
    """A distribution over all ``ROWS``, (81,), whose places depend on each other."""
    values = torch.randn(len(ROWS), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (sharpness * values).softmax(-1)


def given_in(row: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Which of ``ROWS`` agree with ``row`` (T,) where it is ``seen`` (T,), bool (81,)."""
    return ((ROWS == row) | ~seen).all(-1)


def predict(monkeypatch, p: torch.Tensor) -> None:
    """The model predicts at every position the marginal of ``p`` given what it has seen."""

    def call(self, tokens, group_ids, new, ask, right=Steps.__call__):
        right(self, tokens, group_ids, new, ask)
        found = []
        for b, t in ask.nonzero().tolist():
            weights = p * given_in(tokens[b], self.fed[b])
            found.append(torch.stack([weights[ROWS[:, t] == word].sum() for word in range(WORDS)]).log())
        return torch.stack(found)

    monkeypatch.setattr(Steps, "__call__", call)
    monkeypatch.setattr(Steps, "logits", lambda self, hidden: hidden)


def entropy_of(weights: torch.Tensor) -> float:
    return torch.special.entr(weights / weights.sum()).sum().item()


def total_correlation(p: torch.Tensor, positions: list[int]) -> float:
    """Of the positions under the weights ``p`` (81,) of ``ROWS``: the sum of their entropies less that of all, nats."""

    def entropy(of: list[int]) -> float:
        cells: dict[tuple, torch.Tensor] = {}
        for row, weight in zip(ROWS[:, of].tolist(), p, strict=True):
            cells[tuple(row)] = cells.get(tuple(row), 0) + weight
        return entropy_of(torch.stack(list(cells.values())))

    return sum(entropy([t]) for t in positions) - entropy(positions)


def steps_of(monkeypatch, p, **options) -> list[list[list[int]]]:
    """For each of ``ROWS``: the sets of positions in which it comes to be filled."""
    predict(monkeypatch, p)
    right = Filling.write
    with monkeypatch.context() as draw_them:
        draw_them.setattr(Filling, "write", lambda self, at, drawn, log_probs: right(self, at, ROWS[at], log_probs))
        done = resample(MODEL, ROWS, UNKNOWN, criterion="entropy", **options)
    assert torch.equal(done.sequences, ROWS)
    return [[step.positions for step in steps] for steps in done.trace.steps]


def losses(p, sets) -> dict[tuple, tuple[float, int]]:
    """What each set of positions loses, and how many positions it has, by what is known when it is filled."""
    found = {}
    for row, in_turn in zip(ROWS, sets, strict=True):
        seen = torch.tensor([True, False, False, False, False])
        for positions in in_turn:
            case = (*torch.where(seen, row, -1).tolist(), *positions)
            if case not in found:
                found[case] = total_correlation(p * given_in(row, seen), positions), len(positions)
            seen = seen | torch.isin(torch.arange(len(row)), torch.tensor(positions))
    return found


@pytest.mark.parametrize("bound", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("sharpness", [1.0, 3.0])
def test_no_set_loses_more_than_the_bound(sharpness, bound, monkeypatch):
    p = joint(0, sharpness)
    found = losses(p, steps_of(monkeypatch, p, bound=bound)).values()
    assert max(loss for loss, _ in found) <= bound + 1e-9
    if bound > 0.3 or sharpness > 1:  # else no two positions are so sure
        assert max(size for _, size in found) > 1 and max(loss for loss, _ in found) > bound / 50


def test_a_wrong_bound_would_be_seen(monkeypatch):
    """The mutant takes the largest entropy off twice."""
    p, old = joint(0, 1.0), "total + entropy - torch.maximum(largest, entropy)"
    mutant = ModuleType("mutant")
    exec(inspect.getsource(limits).replace(old, old.replace("- torch", "- 2 * torch")), mutant.__dict__)
    monkeypatch.setattr("a3mini.decode.dynamic.Limits", mutant.Limits)
    found = losses(p, steps_of(monkeypatch, p, bound=0.05)).values()
    assert max(loss for loss, _ in found) > 0.06


def test_what_parallel_drawing_loses_is_the_total_correlation(monkeypatch):
    """KL(p || resample) is the sum of what the sets lose, each weighed by how often it comes up."""
    p, options = joint(1, 2.0), {"criterion": "entropy", "bound": 0.8}
    sets = steps_of(monkeypatch, p, bound=0.8)
    q = resample_log_likelihood(MODEL, ROWS, UNKNOWN, **options).sum(-1)
    assert abs(q.exp().sum().item() - 1) <= laws.EXACT
    expected = sum(
        loss * (p * given_in(torch.tensor(case[:5]), torch.tensor(case[:5]) >= 0)).sum().item()
        for case, (loss, _) in losses(p, sets).items()
    )
    same((p * (p.log() - q)).sum(), torch.tensor(expected, dtype=torch.float64))
    assert expected > 0.05


# The window


def test_a_window_asks_the_first_open_positions(monkeypatch):
    """Of a row with two blanks: two open positions at each step, and the trace keeps their scores alone."""
    model = laws.in_double(laws.strong_model())
    ids = torch.arange(9)[None] % 11
    unknown = torch.tensor([[False, False, True, True, True, False, True, True, False]])
    options = {"temperature": 0, "runners_up": 0}
    with laws.counted_work(model) as work:
        done = resample(model, ids, unknown, window=2, **options)
    asked = [step.considered["positions"] for step in done.trace.steps[0]]
    left = [2, 3, 4, 6, 7]
    for step, positions in zip(done.trace.steps[0], asked, strict=True):
        assert positions == left[:2]
        left.remove(step.positions[0])
    assert not left and sum(work.queries.values()) == 9  # two at each of four steps, then one
    every = resample(model, ids, unknown, **options)
    wide = resample(model, ids, unknown, window=5, **options)
    assert torch.equal(wide.sequences, every.sequences) and torch.equal(wide.group_ids, every.group_ids)
    one = resample(model, ids, unknown, window=1, **options)
    assert one.group_ids[unknown].tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("open_.long().cumsum(-1) <= self.window", "open_.flip(-1).cumsum(-1).flip(-1) <= self.window"),
        ("open_.long().cumsum(-1) <= self.window", "torch.ones_like(open_).cumsum(-1) <= self.window"),
        ("open_.long().cumsum(-1) <= self.window", "open_.long().cumsum(-1) < self.window"),
    ],
)  # fmt: skip
def test_a_wrong_window_would_be_seen(old, new, monkeypatch):
    source = inspect.getsource(limits)
    assert source.count(old) == 1, f"the mutant does not fit the code any more: {old}"
    mutant = ModuleType("mutant")
    exec(source.replace(old, new), mutant.__dict__)
    monkeypatch.setattr("a3mini.decode.dynamic.Limits", mutant.Limits)
    with pytest.raises((AssertionError, IndexError)):
        with monkeypatch.context() as bounded:
            bounded.setattr(Steps, "__call__", at_most(9, Steps.__call__))
            test_a_window_asks_the_first_open_positions(monkeypatch)


def check_the_shortlist() -> None:
    """After the first step, the two open positions that scored best when they were last asked."""
    model = laws.in_double(laws.strong_model(3))
    ids = torch.arange(9)[None] % 11
    open_, last = [2, 3, 4, 6, 7], {}
    unknown = torch.isin(torch.arange(9), torch.tensor(open_))[None]
    options = {"temperature": 0, "runners_up": 0}
    with laws.counted_work(model) as work:
        done = resample(model, ids, unknown, shortlist=2, **options)
    for step in done.trace.steps[0]:
        best = sorted(open_, key=lambda t: (-last.get(t, 1), t))[: 2 if last else 5]
        assert step.considered["positions"] == sorted(best)
        last |= dict(zip(step.considered["positions"], step.considered["scores"], strict=True))
        assert step.positions == [max(best, key=last.get)]
        open_.remove(step.positions[0])
    assert not open_ and sum(work.queries.values()) == 5 + 2 * 3 + 1
    every = resample(model, ids, unknown, **options)
    wide = resample(model, ids, unknown, shortlist=4, **options)
    assert torch.equal(wide.sequences, every.sequences) and torch.equal(wide.group_ids, every.group_ids)


def test_a_shortlist_asks_those_that_were_best():
    check_the_shortlist()


def test_a_shortlist_in_a_window():
    """What comes into the window is asked once, whatever else is."""
    open_, inf = torch.tensor([[True, True, False, True, True, True]]), float("inf")
    last = torch.tensor([[0.2, 0.9, 0.8, inf, 0.7, inf]])
    expected = [[False, True, False, True, False, False]]
    assert Limits(window=3, shortlist=1).asked(open_, last).tolist() == expected
    assert Limits(window=4, shortlist=2).asked(open_, last).tolist() == [[False, True, False, True, True, False]]
    ties = torch.tensor([[0.3, 0.3 + 6e-8, 0.3, 0.3, 0.3, 0.3]])
    assert Limits(shortlist=1).asked(open_, ties).tolist() == [[True] + [False] * 5]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[:, : self.shortlist]", "[:, : self.shortlist + 1]"),
        ("argsort(dim=-1, descending=True,", "argsort(dim=-1,"),
        ("_rounded(last).masked_fill(~open_ | never", "_rounded(last).masked_fill(never"),
    ],
)
def test_a_wrong_shortlist_would_be_seen(old, new, monkeypatch):
    source = inspect.getsource(limits)
    assert source.count(old) == 1, f"the mutant does not fit the code any more: {old}"
    mutant = ModuleType("mutant")
    exec(source.replace(old, new), mutant.__dict__)
    monkeypatch.setattr("a3mini.decode.dynamic.Limits", mutant.Limits)
    monkeypatch.setattr(Steps, "__call__", at_most(9, Steps.__call__))
    with pytest.raises((AssertionError, IndexError)):
        check_the_shortlist()


def at_most(count: int, right):
    """``Steps.__call__`` that fails after ``count`` steps: a mutant may ask nobody for ever."""
    left = iter(range(count))

    def call(*arguments):
        assert next(left, None) is not None, "no end"
        return right(*arguments)

    return call


def test_the_trace_keeps_the_limits():
    ids, unknown = torch.zeros(1, 4, dtype=torch.int64), torch.tensor([[False, True, True, True]])
    options = {"bound": 0.5, "threshold": 0.25, "apart": 2, "window": 3, "shortlist": 2}
    done = resample(MODEL, ids, unknown, **options)
    assert {name: done.trace.settings[name] for name in options} == options and done.trace.settings["per_step"] is None
    assert done.trace.from_json(done.trace.to_json()).settings == done.trace.settings
    assert resample(MODEL, ids, unknown).trace.settings["per_step"] == 1
