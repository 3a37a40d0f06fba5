"""dynamic.py: the order that the model chooses, its probability against a plain loop, both contexts, arguments."""

import itertools

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import same

from a3mini import groups, objective
from a3mini.decode import dynamic, generate, resample, resample_log_likelihood
from a3mini.decode.groupwise import Filling
from a3mini.decode.steps import Steps
from a3mini.rows import QUERY_STARTS

V = 11
MODEL, WARM = (laws.in_double(laws.strong_model(query_start=start)) for start in QUERY_STARTS)
SMALL, SMALL_WARM = (  # seeds whose order depends on what is filled
    laws.in_double(laws.strong_model(seed, vocab_size=3, query_start=start))
    for seed, start in zip((9, 0), QUERY_STARTS, strict=True)
)
STEP = Steps.__call__
CRITERIA, CONTEXTS = ("confidence", "entropy", "random"), ("committed", "refreshed")

# Two different tokens are given, for with fewer all positions predict the same; the last position is padding.
ROW = torch.tensor([[0, 0, 1, 0, 0, 2]])
UNKNOWN = torch.tensor([[False, True, False, True, True, False]])
KNOWN = torch.tensor([[True, False, True, False, False, False]])


def tokens(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(V, (batch, length), generator=torch.Generator().manual_seed(seed))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unknown_of(*positions: int, length: int = 8) -> torch.Tensor:
    return torch.isin(torch.arange(length), torch.tensor(positions))[None]


@st.composite
def limits(draw) -> dict:
    """How many positions at a time; entropies of ``MODEL`` are about 0.1 to 2 nats."""
    found = {
        "bound": draw(st.sampled_from([None, None, 0.0, 0.4, 1.5])),
        "threshold": draw(st.sampled_from([None, None, 0.4, 0.8])),
        "apart": draw(st.sampled_from([None, 2, 3])),
        "window": draw(st.sampled_from([None, None, 1, 2, 4])),
        "shortlist": draw(st.sampled_from([None, None, 1, 2, 3])),
    }
    found = {name: value for name, value in found.items() if value is not None}
    limited = "bound" in found or "threshold" in found
    most = min(found.get("window", 3), found.get("shortlist", 3))
    if most > 1 or not limited:
        per_step = draw(st.integers(1 + limited, min(most, 3)) if not limited or draw(st.booleans()) else st.none())
        found |= {"per_step": per_step} if per_step else {}
    return found


# The probability of an adaptive order


def by_loop(model, row, unknown, known, criterion, context, order, banned, penalty, limits) -> float:
    """Log-probability of one row (T,), nats: the definition, one full pass per step, plain Python."""
    per_step = limits.get("per_step", 1 if {"bound", "threshold"}.isdisjoint(limits) else 99)
    group_ids = [0 if is_known else -1 for is_known in known.tolist()]
    open_, total, step, last = unknown.nonzero()[:, 0].tolist(), 0.0, 0, {}
    while open_:
        step += 1
        for t in open_:
            group_ids[t] = step
        logits = model(row[None], torch.tensor([group_ids])).logits[0]
        scores, confidence, entropy = {}, {}, {}
        listed = open_[: limits.get("window")]
        best = sorted((t for t in listed if t in last), key=lambda t: (-round(last[t], 12), t))
        for t in {*(t for t in listed if t not in last), *best[: limits.get("shortlist")]}:
            allowed = logits[t].clone()
            for token in {row[s].item() for s in range(len(row)) if group_ids[s] >= 0 and s not in open_}:
                allowed[token] = allowed[token] / penalty if allowed[token] > 0 else allowed[token] * penalty
            allowed[list(banned)] = -torch.inf
            p = allowed.softmax(-1)
            confidence[t], entropy[t] = p.max().item(), -(p[p > 0] * p[p > 0].log()).sum().item()
            scores[t] = {"confidence": confidence[t], "entropy": -entropy[t], "random": order[t]}[criterion]
        last |= scores
        taken = []
        for t in sorted(scores, key=lambda t: (-scores[t], t)):
            if max(confidence.values()) >= limits.get("threshold", 0) > confidence[t]:
                continue
            nats = [entropy[s] for s in (*taken, t)]
            near = any(abs(s - t) < limits.get("apart", 1) for s in taken)
            dear = sum(nats) - max(nats) > limits.get("bound", 1e9)
            alone = max(confidence.values()) < limits.get("threshold", 0)
            if not taken or not (near or dear or alone or len(taken) >= per_step):
                taken.append(t)
        for t in taken:
            total += logits[t].log_softmax(-1)[row[t]].item()
            open_.remove(t)
            if context == "refreshed":
                group_ids[t] = 0
    return total


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("criterion", CRITERIA)
@settings(max_examples=12, deadline=None)
@given(
    batch=laws.batches(rows=2, length=6, last_group=2, given=2),
    limits=limits(),
    banned=st.sampled_from([(), (1, 2)]),
    penalty=st.sampled_from([1.0, 4.0]),
    model=st.sampled_from([MODEL, WARM]),
)
def test_the_probability_against_a_loop(context, criterion, batch, limits, banned, penalty, model):
    ids, group_ids, known = batch
    ids[:, :2] = torch.tensor([0, 1])
    unknown = (group_ids > 0) & ~known
    known = (group_ids >= 0) & ~unknown
    options = {"criterion": criterion, "context": context, "banned": banned}
    found = resample_log_likelihood(
        model, ids, unknown, **options, **limits, known=known, repetition_penalty=penalty, generator=generator()
    )
    order = torch.rand(unknown.shape, generator=generator())
    assert (found[~unknown] == 0).all()
    with torch.no_grad():
        for b in range(len(ids)):
            row = {"row": ids[b], "unknown": unknown[b], "known": known[b], "order": order[b].tolist()}
            expected = by_loop(model, **row, **options, penalty=penalty, limits=limits)
            assert abs(found[b].sum().item() - expected) <= laws.EXACT


def total(score=resample_log_likelihood, model=SMALL, **options) -> float:
    """The sum of the probabilities of all fillings, each alone where the order is drawn."""
    rows = laws.fillings(ROW, UNKNOWN, 3)
    if options.get("criterion") != "random":
        unknown, known = UNKNOWN.expand(len(rows), -1), KNOWN.expand(len(rows), -1)
        return score(model, rows, unknown, known=known, **options).sum(-1).exp().sum().item()
    parts = [score(model, row[None], UNKNOWN, known=KNOWN, generator=generator(3), **options) for row in rows]
    return torch.cat(parts).sum(-1).exp().sum().item()


@pytest.mark.parametrize("per_step", [1, 2, 3])
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("limits", [{}, {"banned": [1], "repetition_penalty": 3.0}], ids=["free", "limited"])
def test_law_3_all_fillings_sum_to_1(criterion, context, per_step, limits):
    found = total(criterion=criterion, context=context, per_step=per_step, **limits)
    assert abs(found - 1) <= laws.EXACT


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_law_3_with_a_warm_start(criterion, context):
    for per_step in (1, 2):
        found = total(model=SMALL_WARM, criterion=criterion, context=context, per_step=per_step)
        assert abs(found - 1) <= laws.EXACT


LIMITS = [  # in which the number of positions at a time depends on what is filled
    {"bound": 0.6},
    {"bound": 0.9},
    {"threshold": 0.7},
    {"bound": 0.9, "threshold": 0.5, "apart": 2},
    {"bound": 0.6, "window": 2},
    {"bound": 0.9, "shortlist": 2},
]
FIXED = [
    {"apart": 2, "per_step": 2},
    {"window": 1},
    {"window": 2},
    {"window": 2, "per_step": 2},
    {"bound": 0.0},
    {"shortlist": 1},
    {"shortlist": 2},
]


@pytest.mark.parametrize("limits", LIMITS + FIXED, ids=str)
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_law_3_with_limits(criterion, context, limits):
    for model in (SMALL, SMALL_WARM):
        assert abs(total(model=model, criterion=criterion, context=context, **limits) - 1) <= laws.EXACT


IN_ORDER = torch.tensor([[0, 0, 1, 0, 0, 0]])  # known_groups


@pytest.mark.parametrize("criterion", ["confidence", "entropy"])
def test_law_3_with_known_tokens_in_order(criterion):
    assert abs(total(criterion=criterion, known_groups=IN_ORDER.expand(27, -1)) - 1) <= laws.EXACT


@pytest.mark.parametrize("options", [{"context": "committed"}, {"context": "refreshed"}, {"known_groups": IN_ORDER}])
@pytest.mark.parametrize("criterion", ["confidence", "entropy"])
@pytest.mark.parametrize("model", [SMALL, SMALL_WARM], ids=QUERY_STARTS)
def test_in_these_tests_the_order_depends_on_what_is_filled(model, criterion, options, monkeypatch):
    """Otherwise law 3 would say nothing more than for fixed groups."""
    rows, right = laws.fillings(ROW, UNKNOWN, 3), Filling.write
    monkeypatch.setattr(
        Filling, "write", lambda self, at, drawn, p: right(self, at, rows[at], p)
    )  # "draw" each filling
    options = {name: value.expand(27, -1) if name == "known_groups" else value for name, value in options.items()}
    unknown, known = UNKNOWN.expand(27, -1), KNOWN.expand(27, -1)
    done = resample(model, rows, unknown, criterion=criterion, known=known, **options)
    assert torch.equal(done.sequences, rows) and len(done.group_ids.unique(dim=0)) > 1


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_in_these_tests_the_number_depends_on_what_is_filled(limits, context, monkeypatch):
    rows, right = laws.fillings(ROW, UNKNOWN, 3), Filling.write
    monkeypatch.setattr(Filling, "write", lambda self, at, drawn, p: right(self, at, rows[at], p))
    unknown, known = UNKNOWN.expand(27, -1), KNOWN.expand(27, -1)
    options = {"criterion": "entropy", "context": context, "known": known, **limits}
    numbers = [set(resample(model, rows, unknown, **options).trace.passes) for model in (SMALL, SMALL_WARM)]
    assert max(map(len, numbers)) > 1


@pytest.mark.parametrize("context", CONTEXTS)
def test_law_3_catches_a_choice_that_looks_at_the_drawn_token(context, monkeypatch):
    """The mutant fills first where the drawn token is likeliest: then the order depends on what is drawn."""
    now, rows = {}, laws.fillings(ROW, UNKNOWN, 3)
    right = Steps.__call__

    def call(self, tokens, group_ids, new, ask):
        now["drawn"] = rows[ask]
        return right(self, tokens, group_ids, new, ask)

    def measured(logits, seen, sampler, wanted, measured=dynamic._measured):
        drawn = logits.log_softmax(-1).gather(-1, now["drawn"][:, None])[:, 0]
        right = measured(logits, seen, sampler, wanted)
        return right | {name: value for name, value in now["wrong"](drawn).items() if name in wanted}

    monkeypatch.setattr(Steps, "__call__", call)
    monkeypatch.setattr(dynamic, "_measured", measured)
    now["wrong"] = lambda drawn: {"confidence": drawn.exp()}
    assert abs(total(context=context) - 1) > 0.01
    now["wrong"] = lambda drawn: {"entropy": -drawn}  # here the number alone depends on what is drawn
    assert abs(total(context=context, bound=0.5) - 1) > 0.001


@pytest.mark.parametrize("chunk", [1, 2, 7])
@pytest.mark.parametrize("criterion", ["confidence", "entropy"])
def test_rows_scored_at_a_time_do_not_matter(criterion, chunk, monkeypatch):
    ids, unknown = tokens(3, 8), unknown_of(2, 3, 5, 6, 7).expand(3, -1)
    options = {"criterion": criterion, "temperature": 0, "repetition_penalty": 5.0}
    expected = resample(MODEL, ids, unknown, **options)
    monkeypatch.setattr(dynamic, "CHUNK", chunk)
    found = resample(MODEL, ids, unknown, **options)
    assert torch.equal(found.group_ids, expected.group_ids) and torch.equal(found.sequences, expected.sequences)


# Sampling


def draws(count: int = 2500, **options):
    drawn = resample(
        SMALL, ROW.repeat(count, 1), UNKNOWN.expand(count, -1), known=KNOWN.expand(count, -1), generator=generator(),
        runners_up=0, **options,
    ).sequences[:, UNKNOWN[0]]  # fmt: skip
    return torch.bincount(drawn @ torch.tensor([9, 3, 1]), minlength=27)


def probabilities(**options) -> torch.Tensor:
    rows = laws.fillings(ROW, UNKNOWN, 3)
    unknown, known = UNKNOWN.expand(27, -1), KNOWN.expand(27, -1)
    return resample_log_likelihood(SMALL, rows, unknown, known=known, **options).sum(-1).exp()


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize(("criterion", "per_step"), [("confidence", 1), ("confidence", 2), ("entropy", 1)])
def test_samples_follow_the_adaptive_order(criterion, context, per_step):
    options = {"criterion": criterion, "context": context, "per_step": per_step}
    assert laws.follows(draws(**options), probabilities(**options)) > 1e-3


def test_samples_in_random_order_follow_the_mean_over_orders():
    """The oracle knows nothing of resampling: the mean over all orders of the groupwise likelihood."""
    rows, expected = laws.fillings(ROW, UNKNOWN, 3), torch.zeros(27, dtype=torch.float64)
    for order in itertools.permutations([1, 2, 3]):
        group_ids = torch.where(KNOWN, 0, -1).masked_scatter(UNKNOWN, torch.tensor(order)).expand(27, -1)
        with torch.no_grad():
            expected += objective.log_likelihood(SMALL, rows, group_ids).exp() / 6
    counts = draws(criterion="random")
    assert laws.follows(counts, expected) > 1e-3
    assert laws.follows(counts, probabilities(criterion="confidence")) < 1e-6


def test_the_check_catches_other_distributions():
    """Another temperature, everything at once, the order from the left, the other context."""
    expected = probabilities()
    left = groups.infill(UNKNOWN, padding=~UNKNOWN & ~KNOWN).expand(2500, -1)
    one_by_one = generate(SMALL, ROW.repeat(2500, 1), left, generator=generator(), runners_up=0).sequences
    counts = [
        draws(temperature=0.7),
        draws(per_step=3),
        draws(context="refreshed"),
        torch.bincount(one_by_one[:, UNKNOWN[0]] @ torch.tensor([9, 3, 1]), minlength=27),
    ]
    assert [laws.follows(count, expected) < 1e-6 for count in counts] == [True] * 4


# The result and its score


@pytest.mark.parametrize("context", CONTEXTS)
@settings(max_examples=40, deadline=None)
@given(
    batch=laws.batches(given=2),
    limits=limits(),
    criterion=st.sampled_from(CRITERIA),
    ordered=st.booleans(),
    options=st.sampled_from(
        [{}, {"temperature": 0}, {"temperature": 0.5, "top_k": 2}, {"stop": 3}, {"banned": [1, 9]}]
    ),
    model=st.sampled_from([MODEL, WARM]),
)
def test_log_probs_are_those_of_the_result(context, batch, limits, criterion, ordered, options, model):
    """One pass scores what was committed in order; the replay scores either."""
    ids, group_ids, known = batch
    ids[:, :2] = torch.tensor([0, 1])
    unknown = (group_ids > 0) & ~known
    known = (group_ids >= 0) & ~unknown
    how = {**limits, "criterion": criterion, "context": context, "known": known}
    if ordered and context == "committed":
        how["known_groups"] = group_ids.clamp(min=0)
    done = resample(model, ids, unknown, **how, **options, generator=generator())
    assert torch.equal(done.sequences[~unknown], ids[~unknown]) and torch.equal(done.known, known)
    if context == "committed":
        terms = objective.log_likelihood(model, done.sequences, done.group_ids, done.known, reduction="token")
        same(done.log_probs, terms)
    if "stop" not in options:  # an end leaves positions that the replay would fill
        banned = options.get("banned", ())
        replayed = resample_log_likelihood(model, done.sequences, unknown, **how, banned=banned, generator=generator())
        same(done.log_probs, replayed)
        assert (done.group_ids[unknown] > 0).all()
    for row, row_unknown in zip(done.group_ids, unknown, strict=True):
        filled = row[row_unknown & (row > 0)]
        counts = filled.unique(return_counts=True)[1]
        most = done.trace.settings["per_step"] or 99
        assert (counts <= min(most, limits.get("window", 99))).all()
        if limits.keys() <= {"per_step"}:
            assert (counts[:-1] == most).all()


@pytest.mark.parametrize("model", [MODEL, WARM], ids=QUERY_STARTS)
@settings(max_examples=25, deadline=None)
@given(
    batch=laws.batches(given=2), limits=limits(), criterion=st.sampled_from(CRITERIA), stop=st.sampled_from([None, 3])
)
def test_law_4_with_limits(model, batch, limits, criterion, stop):
    """Step by step as one full pass, with the cache and without; and one pass scores the result."""
    ids, group_ids, known = batch
    ids[:, :2] = torch.tensor([0, 1])
    unknown = (group_ids > 0) & ~known
    options = {**limits, "criterion": criterion, "stop": stop, "known": (group_ids >= 0) & ~unknown}
    laws.exact_steps(
        model, lambda cached: resample(model, ids, unknown, **options, use_cache=cached, generator=generator())
    )


def test_refreshed_is_another_number_than_any_single_pass():
    ids, unknown = tokens(1, 8), unknown_of(2, 3, 5, 6)
    done = resample(MODEL, ids, unknown, context="refreshed", generator=generator())
    replayed = resample_log_likelihood(MODEL, done.sequences, unknown, context="refreshed")
    single = objective.log_likelihood(MODEL, done.sequences, done.group_ids, done.known)
    same(done.log_probs, replayed)
    assert (done.log_probs.sum(-1) - single).abs() > 0.1


def test_known_tokens_left_to_right_are_another_context():
    """As the groups of one factorisation, and different from all known tokens at once."""
    ids, unknown = tokens(2, 8), torch.cat((unknown_of(4, 5), unknown_of(2, 6)))
    in_order = groups.left_to_right(8).expand(2, -1)
    together, ordered = (
        resample(MODEL, ids, unknown, temperature=0, known_groups=known_groups) for known_groups in (None, in_order)
    )
    expected = torch.arange(8).expand(2, -1)[~unknown].reshape(2, -1)
    found = ordered.group_ids[~unknown].reshape(2, -1)
    assert torch.equal(found.argsort(-1), expected.argsort(-1)) and (found.diff(dim=-1) > 0).all()
    assert (together.group_ids[~unknown] == 0).all()
    for done in (together, ordered):
        same(done.log_probs, objective.log_likelihood(MODEL, done.sequences, done.group_ids, done.known, "token"))
    again = resample_log_likelihood(MODEL, ordered.sequences, unknown, known_groups=in_order)
    same(again, ordered.log_probs)
    other = resample_log_likelihood(MODEL, ordered.sequences, unknown)
    assert (again - other).abs().max() > 0.01
    # what stands in known_groups at other positions is not read
    noise = torch.where(unknown, -1, in_order)
    assert torch.equal(resample(MODEL, ids, unknown, temperature=0, known_groups=noise).sequences, ordered.sequences)


# Which positions: a model by hand


def scripted(monkeypatch, table) -> None:
    """Logits (T, V) of each position, the same whatever is there; or a function of tokens and fed positions."""

    def call(self, tokens, group_ids, new, ask, right=STEP):
        right(self, tokens, group_ids, new, ask)
        logits = table(tokens, self.fed) if callable(table) else table.expand(len(tokens), -1, -1)
        return logits[ask]

    monkeypatch.setattr(Steps, "__call__", call)
    monkeypatch.setattr(Steps, "logits", lambda self, hidden: hidden)


def distributions(*rows) -> torch.Tensor:
    """Logits (T, V) from the probabilities of the first tokens; the rest has none to speak of."""
    table = torch.full((len(rows), V), 1e-12, dtype=torch.float64)
    for t, row in enumerate(rows):
        table[t, : len(row)] = torch.tensor(row, dtype=torch.float64)
    return table.log()


def order_of(monkeypatch, table, length=None, **options) -> list[int]:
    """The groups of the positions behind the first, which is given."""
    scripted(monkeypatch, table)
    length = length or len(table)
    ids, unknown = torch.zeros(1, length, dtype=torch.int64), unknown_of(*range(1, length), length=length)
    return resample(MODEL, ids, unknown, **{"temperature": 0, **options}).group_ids[0, 1:].tolist()


# best token 0.60 and three at 0.13; 0.58 against 0.42; 0.9; 0.30 four times
DISAGREE = distributions([1], [0.61, 0.13, 0.13, 0.13], [0.58, 0.42], [0.9, 0.1], [0.25, 0.25, 0.25, 0.25])


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize(
    ("criterion", "per_step", "expected"),
    [
        ("confidence", 1, [2, 3, 1, 4]),
        ("entropy", 1, [3, 2, 1, 4]),
        ("confidence", 2, [1, 2, 1, 2]),
        ("entropy", 2, [2, 1, 1, 2]),
        ("confidence", 3, [1, 1, 1, 2]),
        ("confidence", 4, [1, 1, 1, 1]),
        ("confidence", 99, [1, 1, 1, 1]),
    ],
)
def test_the_criteria_choose(criterion, per_step, expected, context, monkeypatch):
    found = order_of(monkeypatch, DISAGREE, criterion=criterion, per_step=per_step, context=context)
    assert found == expected


@pytest.mark.parametrize("options", [{"temperature": 5.0}, {"top_k": 1}, {"top_p": 0.1}])
@pytest.mark.parametrize(("criterion", "expected"), [("confidence", [2, 3, 1, 4]), ("entropy", [3, 2, 1, 4])])
def test_how_tokens_are_drawn_does_not_change_the_choice(options, criterion, expected, monkeypatch):
    assert order_of(monkeypatch, DISAGREE, criterion=criterion, generator=generator(), **options) == expected


@pytest.mark.parametrize("criterion", ["confidence", "entropy"])
def test_bans_and_repetition_do(criterion, monkeypatch):
    """Without token 0, position 2 is certain (token 1); with the penalty, a token that stands there is unlikely."""
    assert order_of(monkeypatch, DISAGREE, criterion=criterion, banned=[0])[1:3] == [1, 2]
    table = distributions([1], [0.9, 0.02, 0.08], [0.02, 0.8, 0.18], [0.02, 0.18, 0.8]) + 5
    assert order_of(monkeypatch, table, criterion=criterion) == [1, 2, 3]
    assert order_of(monkeypatch, table, criterion=criterion, repetition_penalty=100.0)[0] != 1  # token 0 is given


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("criterion", ["confidence", "entropy"])
@pytest.mark.parametrize(("per_step", "expected"), [(1, [2, 3, 1, 4]), (2, [1, 2, 1, 2]), (3, [1, 1, 1, 2])])
def test_ties_go_to_the_left(criterion, per_step, expected, context, monkeypatch):
    table = distributions([1], [0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.6, 0.4])
    assert order_of(monkeypatch, table, criterion=criterion, per_step=per_step, context=context) == expected


def test_the_choice_is_made_anew_at_every_step(monkeypatch):
    """Once position 3 is filled, position 1 is certain: the order of the first step would be 3, 2, 1."""

    def table(tokens, fed):
        logits = distributions([1], [0.5, 0.5], [0.7, 0.3], [0.9, 0.1]).repeat(len(tokens), 1, 1)
        logits[fed[:, 3], 1] = distributions([0.99, 0.01])
        return logits

    assert order_of(monkeypatch, table, length=4) == [2, 3, 1]


def test_rows_choose_for_themselves(monkeypatch):
    table = torch.stack((DISAGREE, DISAGREE.flip(0)))
    scripted(monkeypatch, lambda tokens, fed: table)
    unknown = torch.tensor([[False, True, True, True, True], [True, True, True, False, False]])
    done = resample(MODEL, torch.zeros(2, 5, dtype=torch.int64), unknown, 2, temperature=0)
    assert done.group_ids.tolist() == [[0, 1, 2, 1, 2], [2, 1, 1, 0, 0]]


def test_a_random_order_comes_from_the_generator_alone(monkeypatch):
    options = {"criterion": "random", "per_step": 2}
    first = [order_of(monkeypatch, DISAGREE, **options, generator=generator(n)) for n in range(30)]
    other = [order_of(monkeypatch, DISAGREE.flip(0), **options, generator=generator(n)) for n in range(30)]
    assert first == other and len({tuple(order) for order in first}) == 6  # all of 4 choose 2
    for n in range(5):  # the order is drawn before any token
        own = generator(n)
        order = torch.rand(1, 5, generator=own)
        expected = (order[0, 1:].argsort(descending=True).argsort() >= 2).long() + 1
        assert first[n] == expected.tolist()


def test_the_trace_says_what_the_choice_was_made_by(monkeypatch):
    scripted(monkeypatch, DISAGREE)
    ids, unknown = torch.zeros(1, 5, dtype=torch.int64), unknown_of(1, 2, 3, 4, length=5)
    done = resample(MODEL, ids, unknown, 2, temperature=0)
    first, second = done.trace.steps[0]
    assert first.considered["positions"] == [1, 2, 3, 4] and second.considered["positions"] == [2, 4]
    same(torch.tensor(first.considered["scores"]), torch.tensor([0.61, 0.58, 0.9, 0.25]), tolerance=1e-6)
    assert first.positions == [1, 3] and second.positions == [2, 4]


@pytest.mark.parametrize("criterion", ["confidence", "random"])
def test_the_trace_without_the_choices_grows_with_the_length(criterion):
    """With them it grows with the square: four times the numbers for twice the length."""

    def numbers(length: int, considered: bool) -> int:
        unknown = unknown_of(*range(1, length), length=length)
        ids, options = torch.zeros_like(unknown, dtype=torch.int64), {"generator": generator(), "runners_up": 0}
        done = resample(MODEL, ids, unknown, 1, criterion, considered=considered, **options)
        right = resample(MODEL, ids, unknown, 1, criterion, **{**options, "generator": generator()})
        assert torch.equal(done.sequences, right.sequences) and torch.equal(done.log_probs, right.log_probs)
        assert torch.equal(done.trace.replay(), right.trace.replay()) and done.trace.passes == right.trace.passes
        return sum(len(s.positions) + len((s.considered or {"scores": []})["scores"]) for s in done.trace.steps[0])

    assert [numbers(length, False) for length in (9, 17)] == [8, 16]
    assert [numbers(length, True) for length in (9, 17)] == [8 + 36, 16 + 136]


# The end of a text


def end(monkeypatch, best: list[list[int]], first: list[list[int]], **options):
    """Position t of row b gets the token ``best[b][t]``; those with the higher number in ``first`` go first."""
    sharp = torch.tensor(first).double()[..., None]
    table = torch.nn.functional.one_hot(torch.tensor(best), V) * (2 + sharp)
    scripted(monkeypatch, lambda tokens, fed: table)
    ids = torch.zeros(len(best), len(best[0]), dtype=torch.int64)
    unknown = unknown_of(*range(1, len(best[0])), length=len(best[0])).expand(len(best), -1)
    return resample(MODEL, ids, unknown, temperature=0, stop=9, **options)


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_stop_ends_its_row_once_all_before_it_is_filled(monkeypatch, context):
    """Position 3 is a stop and comes first; 4 comes before 2. Row 1 has no stop."""
    best = [[0, 1, 2, 9, 4, 5], [0, 1, 2, 3, 4, 5]]
    order = [[0, 4, 2, 5, 3, 1], [0, 4, 2, 5, 3, 1]]
    done = end(monkeypatch, best, order, context=context)
    assert done.group_ids.tolist() == [[0, 2, 4, 1, 3, -1], [0, 2, 4, 1, 3, 5]]
    assert done.sequences[0, :5].tolist() == best[0][:5] and done.sequences[1].tolist() == best[1]
    assert done.trace.passes == [4, 5]
    assert [step.positions for step in done.trace.steps[0] if step.action == "stop"] == [[5]]


def test_a_stop_in_the_known_text_ends_nothing(monkeypatch):
    scripted(monkeypatch, DISAGREE)
    ids = torch.full((1, 5), 9)
    done = resample(MODEL, ids, unknown_of(1, 3, length=5), temperature=0, stop=9)
    assert done.sequences.tolist() == [[9, 0, 9, 0, 9]]


# Reproducible, alone or in a batch


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_same_seed_gives_the_same_result(criterion, context):
    ids, unknown = tokens(2, 8), unknown_of(2, 3, 5, 6, 7).expand(2, -1)

    def run(seed):
        own = generator(seed)
        return resample(MODEL, ids, unknown, criterion=criterion, context=context, generator=own)

    first, second, other = run(1), run(1), run(2)
    assert torch.equal(first.sequences, second.sequences) and torch.equal(first.log_probs, second.log_probs)
    assert first.trace.to_json() == second.trace.to_json()
    assert not torch.equal(first.sequences, other.sequences)


def test_greedy_draws_nothing():
    before, own = torch.get_rng_state(), generator(4)
    own_before = own.get_state()
    for criterion in ("confidence", "entropy"):
        resample(MODEL, tokens(1, 8), unknown_of(2, 3), criterion=criterion, temperature=0, generator=own)
    assert torch.equal(before, torch.get_rng_state()) and torch.equal(own_before, own.get_state())


@settings(max_examples=30, deadline=None)
@given(laws.batches(given=2), st.sampled_from(["confidence", "entropy"]), st.sampled_from(CONTEXTS), limits())
def test_each_row_of_a_batch_is_the_row_alone(batch, criterion, context, limits):
    ids, group_ids, known = batch
    ids[:, :2] = torch.tensor([0, 1])
    unknown = (group_ids > 0) & ~known
    known = (group_ids >= 0) & ~unknown
    copies = ids.clone(), unknown.clone(), known.clone()
    options = {**limits, "criterion": criterion, "context": context, "temperature": 0}
    together = resample(MODEL, ids, unknown, known=known, **options)
    assert torch.equal(ids, copies[0]) and torch.equal(unknown, copies[1]) and torch.equal(known, copies[2])
    for row in range(len(ids)):
        one = slice(row, row + 1)
        if not unknown[row].any():
            assert together.trace.passes[row] == 0 and torch.equal(together.sequences[row], ids[row])
            continue
        alone = resample(MODEL, ids[one], unknown[one], known=known[one], **options)
        assert torch.equal(alone.sequences, together.sequences[one])
        assert torch.equal(alone.group_ids, together.group_ids[one])
        same(alone.log_probs, together.log_probs[one])


@settings(max_examples=25, deadline=None)
@given(laws.batches(given=2), st.integers(-2, V + 3), st.sampled_from(CONTEXTS))
def test_unknown_tokens_and_padding_are_never_read(batch, other, context):
    ids, group_ids, known = batch
    unknown = (group_ids > 0) & ~known
    known = (group_ids >= 0) & ~unknown
    first, second = (
        resample(MODEL, x, unknown, context=context, known=known, generator=generator())
        for x in (ids, ids.masked_fill(~known, other))
    )
    assert torch.equal(first.sequences[group_ids >= 0], second.sequences[group_ids >= 0])
    assert torch.equal(first.log_probs, second.log_probs)


@pytest.mark.parametrize("context", CONTEXTS)
def test_nothing_known_at_all(context):
    """It works, though at first all positions predict the same: see ``groups``."""
    ids, unknown = tokens(2, 4), torch.ones(2, 4, dtype=torch.bool)
    done = resample(MODEL, ids, unknown, context=context, generator=generator())
    assert not done.known.any() and done.trace.passes == [4, 4]
    if context == "committed":
        same(done.log_probs, objective.log_likelihood(MODEL, done.sequences, done.group_ids, done.known, "token"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("criterion", ["confidence", "entropy"])
def test_after_one_token_the_leftmost_comes_first(criterion, dtype):
    """A single token seen says nothing about positions: all predict the same, and the tie goes to the left."""
    model = laws.strong_model().to(dtype)
    for token in range(V):
        ids, unknown = torch.full((2, 12), token), unknown_of(*range(1, 12), length=12).expand(2, -1)
        known = torch.tensor([[True] + [False] * 11, [False] * 12])  # and in row 1 not even one
        done = resample(model, ids, unknown, criterion=criterion, known=known, generator=generator())
        assert done.group_ids[:, 1].tolist() == [1, 1]


# Arguments


BAD = [
    ({"per_step": 0}, ValueError, "per_step must be an integer, at least 1; got 0"),
    ({"per_step": 1.5}, ValueError, "per_step must be an integer, at least 1; got 1.5"),
    ({"bound": -0.1}, ValueError, "bound must be 0 or a positive number of nats, or None for no bound; got -0.1"),
    ({"bound": float("inf")}, ValueError, "bound must be 0 or a positive number of nats, .* got inf"),
    ({"bound": float("nan")}, ValueError, "bound must be 0 or a positive number of nats, .* got nan"),
    ({"bound": "1"}, ValueError, "bound must be 0 or a positive number of nats, .* got '1'"),
    ({"bound": True}, ValueError, "bound must be 0 or a positive number of nats, .* got True"),
    ({"threshold": 0.0}, ValueError, "threshold must be above 0 and at most 1, or None for no threshold; got 0.0"),
    ({"threshold": 1.1}, ValueError, "threshold must be above 0 and at most 1, .* got 1.1"),
    ({"threshold": float("nan")}, ValueError, "threshold must be above 0 and at most 1, .* got nan"),
    ({"threshold": "0.9"}, ValueError, "threshold must be above 0 and at most 1, .* got '0.9'"),
    ({"apart": 0}, ValueError, "apart must be an integer, at least 1; got 0"),
    ({"apart": None}, ValueError, "apart must be an integer, at least 1; got None"),
    ({"window": 0}, ValueError, "window must be an integer, at least 1; got 0"),
    ({"window": 2.0}, ValueError, "window must be an integer, at least 1; got 2.0"),
    ({"shortlist": 0}, ValueError, "shortlist must be an integer, at least 1; got 0"),
    ({"per_step": 5, "shortlist": 4}, ValueError, "per_step=5 positions cannot come from a shortlist of 4; change one"),
    ({"per_step": 5, "window": 4}, ValueError, "per_step=5 positions cannot come from a window of 4; change one"),
    ({"per_step": 1, "bound": 1.0}, ValueError, "per_step=1 leaves bound nothing to decide; give a larger one"),
    (
        {"per_step": 1, "bound": 1.0, "threshold": 0.9},
        ValueError,
        "per_step=1 leaves bound and threshold nothing to decide; give a larger one, or None: no limit",
    ),
    ({"criterion": "beauty"}, ValueError, "criterion must be one of confidence, entropy, random; got 'beauty'"),
    ({"context": "fresh"}, ValueError, "context must be one of committed, refreshed; got 'fresh'"),
    (
        {"context": "refreshed", "known_groups": torch.zeros(1, 6, dtype=torch.int64)},
        ValueError,
        'context="refreshed" makes one group of everything; known_groups has no place in it',
    ),
    ({"unknown": torch.zeros(1, 6, dtype=torch.bool)}, ValueError, "nothing to fill: unknown is False everywhere"),
    ({"unknown": torch.ones(1, 6)}, TypeError, "unknown must be a boolean torch.Tensor, got torch.float32"),
    ({"unknown": torch.ones(6, dtype=torch.bool)}, ValueError, r"unknown must have shape \(B, T\), got \(6,\)"),
    ({"unknown": None}, TypeError, "unknown must be a boolean torch.Tensor, got NoneType"),
    ({"unknown": torch.ones(1, 5, dtype=torch.bool)}, ValueError, r"input_ids has shape \(1, 6\)"),
    ({"unknown": torch.ones(2, 6, dtype=torch.bool)}, ValueError, r"input_ids has shape \(1, 6\)"),
    ({"known": torch.ones(1, 6, dtype=torch.bool)}, ValueError, "2 positions are both known and unknown; choose one"),
    ({"known": torch.ones(1, 6)}, TypeError, "known must be a boolean torch.Tensor, got torch.float32"),
    ({"known": torch.zeros(1, 5, dtype=torch.bool)}, ValueError, r"known has shape \(1, 5\) but unknown has \(1, 6\)"),
    ({"known_groups": torch.zeros(1, 6)}, TypeError, "known_groups must hold integers, got torch.float32"),
    (
        {"known_groups": torch.zeros(1, 5, dtype=torch.int64)},
        ValueError,
        r"known_groups has shape \(1, 5\) but unknown has \(1, 6\)",
    ),
    ({"known_groups": torch.full((1, 6), -1)}, ValueError, r"known_groups is -1 \(padding\) at a known position"),
    ({"known_groups": torch.full((1, 6), -2)}, ValueError, "known_groups holds -2"),
    ({"ids": torch.full((1, 6), V)}, ValueError, "holds 11, outside the vocabulary 0 .. 10"),
    ({"ids": torch.zeros(1, 6)}, TypeError, "input_ids must be an int64 tensor, got torch.float32"),
    ({"ids": None}, TypeError, "input_ids must be an int64 tensor, got NoneType"),
    (
        {"ids": tokens(1, 33), "unknown": torch.ones(1, 33, dtype=torch.bool)},
        ValueError,
        "33 tokens, but the model allows 32",
    ),
    ({"repetition_penalty": 0.0}, ValueError, "repetition_penalty must be a positive number, got 0.0"),
    ({"banned": [V]}, ValueError, "banned holds 11, outside the vocabulary 0 .. 10"),
    ({"banned": range(V)}, ValueError, "banned holds the whole vocabulary"),
]
BAD_TO_DRAW = [
    (
        {"context": "refreshed", "use_cache": True},
        ValueError,
        'context="refreshed" encodes everything anew at every step; use_cache must be False or None',
    ),
    ({"temperature": -1.0}, ValueError, r"temperature must be 0 \(greedy\) or a positive number, got -1.0"),
    ({"top_k": 0}, ValueError, "top_k must be an integer of at least 1"),
    ({"top_p": 2.0}, ValueError, "top_p must be above 0 and at most 1"),
    ({"stop": V}, ValueError, "stop must be a token id, 0 .. 10, or None; got 11"),
    ({"stop": 2.5}, ValueError, "stop must be a token id, 0 .. 10, or None; got 2.5"),
    ({"runners_up": -1}, ValueError, "runners_up must be an integer, at least 0; got -1"),
]
UNKNOWN_TOKEN = [({"ids": torch.tensor([[0, 0, V, 0, 0, 0]])}, ValueError, "holds 11, outside the vocabulary 0 .. 10")]


@pytest.mark.parametrize(
    ("function", "changes", "error", "message"),
    [
        *((resample, *case) for case in BAD + BAD_TO_DRAW),
        *((resample_log_likelihood, *case) for case in BAD + UNKNOWN_TOKEN),
    ],
)
def test_bad_arguments(function, changes, error, message, monkeypatch):
    monkeypatch.setattr(MODEL.model, "forward", lambda **_: pytest.fail("the model has run"))
    arguments = {"ids": tokens(1, 6), "unknown": unknown_of(2, 3, length=6), **changes}
    with pytest.raises(error, match=message):
        function(MODEL, arguments.pop("ids"), **arguments)


def test_refreshed_takes_no_cache_and_committed_both():
    ids, unknown = tokens(1, 8), unknown_of(2, 3, 5)
    first, second = (
        resample(MODEL, ids, unknown, context="refreshed", use_cache=use_cache, generator=generator())
        for use_cache in (None, False)
    )
    assert torch.equal(first.sequences, second.sequences)
