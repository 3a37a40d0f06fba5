"""speculative.py: exactly the distribution of one-by-one decoding (law 6), in no more passes than tokens.

The oracle enumerates every text over a vocabulary of three and multiplies its conditionals in a plain loop. 20,000
samples are held against it with a chi-squared test. The same test must reject samples of broken versions.
"""

import inspect
import itertools
from dataclasses import dataclass, field
from types import ModuleType
from unittest import mock

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import chi_squared, same

from a3mini import A3ForCausalLM, decode, groups, objective, speculative
from a3mini.decode import Sampler, Trace
from a3mini.decode.steps import Steps
from a3mini.rows import QUERY_STARTS

V = 3
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY, TINY_WARM = (
    laws.strong_model(4, vocab_size=V, num_key_value_heads=1, query_start=start, **SMALL) for start in QUERY_STARTS
)
MODEL, WARM = (laws.strong_model(query_start=start) for start in QUERY_STARTS)
MODELS = st.sampled_from([MODEL, WARM])
SAMPLES = 20_000
RIGHT, WRONG = 1e-3, 1e-6  # a p-value above the first is what exact samples have; one below the second is a mistake


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tokens(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(MODEL.config.vocab_size, (batch, length), generator=generator(seed))


def singletons_by_loop(row: list[int], known: list[bool]) -> list[int]:
    """Oracle: one number for each predicted token, group by group, from left to right within a group."""
    out, number = [min(group, 0) for group in row], 0
    for group in sorted({group for group in row if group > 0}):
        places = [t for t, g in enumerate(row) if g == group]
        predicted = [t for t in places if not known[t]]
        for t in predicted:
            number += 1
            out[t] = number
        number += not predicted  # a group of known tokens alone
        for t in set(places) - set(predicted):
            out[t] = number
    return out


# --- law 6 ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One row to fill, and how."""

    groups: list[int]
    known: list[int] = field(default_factory=list)  # positions
    ids: list[int] = field(default_factory=lambda: [1, 2, 0, 1, 2, 0])
    draft: int = 4
    use_cache: bool = True
    options: dict = field(default_factory=dict)
    warm: bool = False  # the model whose query rows start from the token before

    @property
    def model(self) -> A3ForCausalLM:
        return TINY_WARM if self.warm else TINY

    def row(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        group_ids = torch.tensor(self.groups)
        known = group_ids == 0
        known[self.known] = True
        return torch.tensor(self.ids[: len(self.groups)]), group_ids, known


@torch.no_grad()
def exact(case: Case) -> dict[tuple[int, ...], float]:
    """The probability of every result of one-by-one decoding: its tokens at predicted positions, -1 where not drawn."""
    ids, group_ids, known = case.row()
    order = torch.tensor(singletons_by_loop(case.groups, known.tolist()))
    predicted = (~known & (group_ids > 0)).nonzero()[:, 0].tolist()
    options = {name: value for name, value in case.options.items() if name != "stop"}
    sampler, stop = Sampler(**options), case.options.get("stop")
    fillings = torch.tensor(list(itertools.product(range(V), repeat=len(predicted))))
    rows = ids.repeat(len(fillings), 1)
    rows[:, predicted] = fillings
    logits = case.model(rows, order.expand_as(rows)).logits
    conditional = {}
    for t in predicted:
        before = (order >= 0) & (order < order[t])
        chances = sampler.probabilities(logits[:, t], rows.masked_fill(~before, -1))
        conditional[t] = chances.gather(1, rows[:, t, None])[:, 0].tolist()
    found = {}
    for number, row in enumerate(rows.tolist()):
        chance, drawn = 1.0, set()
        for t in sorted(predicted, key=lambda t: order[t]):
            chance *= conditional[t][number]
            drawn.add(t)
            if any(row[s] == stop and all(u in drawn for u in predicted if u < s) for s in drawn):
                break
        found[tuple(row[t] if t in drawn else -1 for t in predicted)] = chance
    assert abs(sum(found.values()) - 1) < laws.EXACT
    return found


def sample(case: Case, generate=speculative.generate, seed: int = 0, **more) -> dict[tuple[int, ...], int]:
    """How often each result comes up in one batch of ``SAMPLES`` rows."""
    ids, group_ids, known = case.row()
    everything = {"use_cache": case.use_cache, "generator": generator(seed), "runners_up": 0, **case.options, **more}
    # 20,000 histories would take longer than everything else
    with mock.patch.object(Trace, "commit"), mock.patch.object(Trace, "note"):
        rows = [part.expand(SAMPLES, -1) for part in (ids, group_ids, known)]
        out = generate(case.model, *rows, **everything)
    predicted = ~known & (group_ids > 0)
    drawn = out.sequences.masked_fill(out.group_ids < 0, -1)[:, predicted]
    found, counts = torch.unique(drawn, dim=0, return_counts=True)
    return dict(zip(map(tuple, found.tolist()), counts.tolist(), strict=True))


LEFT_TO_RIGHT, PERMUTED = [0, 1, 2, 3, 4], [0, 3, 1, 0, 4, 2]
CASES = {
    "left to right, drafts of 2": Case(LEFT_TO_RIGHT, draft=2),
    "left to right, drafts longer than the text": Case(LEFT_TO_RIGHT, draft=9),
    "left to right, one by one": Case(LEFT_TO_RIGHT, draft=1),
    "permuted, drafts of 2, no cache": Case(PERMUTED, draft=2, use_cache=False),
    "permuted, drafts of 3": Case(PERMUTED, draft=3),
    "groups of two": Case([0, 2, 1, 2, 1]),
    "known tokens inside the order": Case([0, 2, 3, 1, 3, 2], known=[3, 4]),
    "known tokens in a group": Case([0, 1, 1, 2, 2, 2], known=[1, 4], draft=2),
    "temperature": Case(PERMUTED, options={"temperature": 0.7}),
    "top k": Case(PERMUTED, options={"top_k": 2}),
    "top p": Case(LEFT_TO_RIGHT, draft=3, options={"top_p": 0.8}),
    "repetition penalty": Case([0, 3, 1, 4, 2, 2], known=[5], options={"repetition_penalty": 1.8}),
    "banned, with all the rest": Case(
        PERMUTED, options={"banned": (2,), "temperature": 1.3, "top_p": 0.95, "repetition_penalty": 0.7}
    ),
    "stop": Case(LEFT_TO_RIGHT, options={"stop": 2}),
    "stop, permuted": Case([0, 3, 1, 4, 2], draft=3, options={"stop": 0, "temperature": 1.5}),
    "left to right, warm": Case(LEFT_TO_RIGHT, warm=True),
    "permuted, warm": Case(PERMUTED, draft=3, warm=True),
}


@pytest.mark.parametrize("name", CASES)
def test_samples_follow_the_exact_distribution(name):
    case = CASES[name]
    statistic, freedom, p = chi_squared(sample(case, draft=case.draft), exact(case))
    print(f"{name}: chi2 = {statistic:.1f}, df = {freedom}, p = {p:.3g}")
    assert p > RIGHT


@pytest.mark.parametrize("name", ["left to right, drafts of 2", "permuted, drafts of 3"])
def test_the_enumeration_is_the_models_joint_distribution(name):
    """The oracle multiplies conditionals; untempered, that is ``log_likelihood`` at the same single tokens."""
    case = CASES[name]
    ids, group_ids, known = case.row()
    found = exact(case)
    rows = ids.repeat(len(found), 1)
    rows[:, ~known] = torch.tensor(list(found))
    with torch.no_grad():
        joint = objective.log_likelihood(TINY, rows, group_ids.expand_as(rows)).exp()
    same(joint, torch.tensor(list(found.values()), dtype=joint.dtype))
    assert len(found) == V**4


@pytest.mark.parametrize("name", ["left to right, drafts of 2", "permuted, drafts of 3"])
def test_parallel_drafts_alone_are_rejected(name):
    """Tokens that were drawn at once, as one group, do not know of each other."""
    case = CASES[name]
    expected = exact(case)
    at_once = Case([min(group, 1) for group in case.groups])
    statistic, freedom, p = chi_squared(sample(at_once, decode.generate), expected)
    print(f"{name}, as one group: chi2 = {statistic:.1f}, df = {freedom}, p = {p:.3g}")
    assert p < WRONG
    one_by_one = chi_squared(sample(case, decode.generate), expected)
    assert one_by_one[2] > RIGHT


ACCEPT = "_chance(drawn[:, 0], sampler) * p.gather(1, drawn)[:, 0] < q.gather(1, drawn)[:, 0]"
RESIDUAL = "residual = (q[wrong] - p[wrong]).clamp(min=0)"
VERIFY = "q = sampler.probabilities(logits, filling.context(filling.group_ids, rest, sampler))"
FEED = "filling.ready(last, steps.fed), rest)"
BACK = "steps.take_back(filling.group_ids, failed[:, 0])"
ALL = "        filling.write(keep, filling.tokens[keep], log_probs[keep[rest]])"
LOOP = "        while (keep & filling.open).any():"
MUTANTS = {
    "every draft is accepted": (ACCEPT, "True", "permuted, drafts of 3"),
    "accepted with probability q": (ACCEPT, ACCEPT.replace(" * p.gather(1, drawn)[:, 0]", ""), "permuted, drafts of 3"),
    "the ratio upside down": (
        ACCEPT,
        "_chance(drawn[:, 0], sampler) * q.gather(1, drawn)[:, 0] < p.gather(1, drawn)[:, 0]",
        "permuted, drafts of 3",
    ),
    "drawn again from q": (RESIDUAL, "residual = q[wrong]", "permuted, drafts of 3"),
    "drawn again from p": (RESIDUAL, "residual = p[wrong]", "permuted, drafts of 3"),
    "stale cache": (BACK, "pass", "left to right, drafts longer than the text"),
    "drafts behind the failed one stay": (
        "keep = rest & (filling.group_ids <= failed)",
        "keep = rest",
        "left to right, drafts longer than the text",
    ),
    "verified without the drafts before": (FEED, "rest & ~rest, rest)", "permuted, drafts of 3"),
    "verified at temperature 1": (VERIFY, "q = logits.softmax(-1)", "temperature"),
    "verified without truncation": (VERIFY, "q = logits.softmax(-1)", "top p"),
    "the penalty does not see the drafts": (
        VERIFY,
        "q = sampler.probabilities(logits, filling.context(together, rest, sampler))",
        "repetition penalty",
    ),
    "no stop within a round": (LOOP, f"{ALL}\n{LOOP}", "stop"),
}  # fmt: skip


def mutant(old: str, new: str):
    """``speculative.generate`` with one mistake in it."""
    source = inspect.getsource(speculative)
    assert source.count(old) == 1, f"the mutant does not fit the code any more: {old}"
    module = ModuleType("mutant")
    exec(source.replace(old, new), module.__dict__)
    return module.generate


@pytest.mark.parametrize("name", MUTANTS)
def test_the_chi_squared_test_rejects_mistakes(name):
    old, new, of = MUTANTS[name]
    statistic, freedom, p = chi_squared(sample(CASES[of], mutant(old, new), draft=CASES[of].draft), exact(CASES[of]))
    print(f"{name} ({of}): chi2 = {statistic:.1f}, df = {freedom}, p = {p:.3g}")
    assert p < WRONG


def test_the_chi_squared_test_rejects_drafts_that_start_nothing(monkeypatch):
    """In the verifying pass a query row must start from the draft before it."""
    laws.start_one_step_late(monkeypatch)
    case = CASES["left to right, warm"]
    assert chi_squared(sample(case, draft=case.draft), exact(case))[2] < WRONG


@settings(max_examples=30, deadline=None)
@given(laws.batches(), st.integers(2, 8), MODELS)
def test_each_pass_is_a_full_pass_over_what_is_there(batch, draft, model):
    """Law 4, for drafts and for what verifies them."""
    ids, group_ids, known = batch
    laws.exact_steps(
        model,
        lambda cached: speculative.generate(
            model, ids, group_ids, known, generator=generator(), use_cache=cached, draft=draft
        ),
        1e-6,  # norms are float32
    )


def test_a_pass_whose_drafts_start_nothing_is_caught(monkeypatch):
    laws.start_one_step_late(monkeypatch)
    ids, group_ids = tokens(1, 8), groups.left_to_right(8)[None]
    with pytest.raises(AssertionError, match="step . differs by"):
        laws.exact_steps(
            WARM,
            lambda cached: speculative.generate(WARM, ids, group_ids, generator=generator(), use_cache=cached),
            1e-6,
        )


def test_the_chi_squared_test_itself():
    """Against a known quantile, with rare cells in one, and with a cell that cannot be."""
    statistic, freedom, p = chi_squared({"a": 60, "b": 40}, {"a": 0.5, "b": 0.5})
    assert (statistic, freedom) == (4.0, 1) and abs(p - 0.0455003) < 1e-6
    assert chi_squared({"a": 97, "c": 3}, {"a": 0.96, "b": 0.02, "c": 0.02})[:2] == (1 / 96 + 1 / 4, 1)
    assert chi_squared({"a": 99, "b": 1}, {"a": 1.0, "b": 0.0})[2] == 0
    assert chi_squared({"a": 99}, {"a": 1.0})[1] == 0


# --- what a generation says of itself -------------------------------------------------------------------------

rows_of_groups = st.lists(st.lists(st.integers(-1, 4), min_size=7, max_size=7), min_size=1, max_size=3)


@st.composite
def fillings(draw):
    """Group ids (B, T) of rows with different structures and lengths, and known tokens among them."""
    group_ids = torch.tensor(draw(rows_of_groups))
    known = torch.tensor(draw(st.lists(st.booleans(), min_size=group_ids.numel(), max_size=group_ids.numel())))
    known = known.view_as(group_ids) & torch.tensor(draw(st.booleans()))
    if not ((group_ids > 0) & ~known).any():
        group_ids[0, -1], known[0, -1] = 5, False
    return group_ids, known


options = st.fixed_dictionaries(
    {
        "draft": st.integers(1, 8),
        "use_cache": st.booleans(),
        "temperature": st.sampled_from([0.0, 0.8, 1.0, 2.0]),
        "top_k": st.sampled_from([None, 4]),
        "repetition_penalty": st.sampled_from([1.0, 1.4]),
        "stop": st.sampled_from([None, 3, 4]),
        "banned": st.sampled_from([(), (0, 7)]),
    }
)


def placed(steps, action: str) -> list:
    return [step for step in steps if step.action == action]


@settings(max_examples=120, deadline=None)
@given(fillings(), options, st.integers(0, 3), MODELS)
def test_every_generation(filling, chosen, seed, model):
    """Scores, passes and trace of rows with different structures, lengths and ends."""
    group_ids, known = filling
    ids = tokens(*group_ids.shape, seed)
    out = speculative.generate(model, ids, group_ids, known, generator=generator(seed), **chosen)
    order = torch.tensor([singletons_by_loop(*row) for row in zip(group_ids.tolist(), known.tolist(), strict=True)])
    drawn = (out.group_ids > 0) & ~out.known

    # what was there stays, and every open position is drawn, unless the text has ended before
    assert torch.equal(out.known, (group_ids == 0) | known & (group_ids > 0))
    kept = ~drawn & (out.group_ids >= 0) | (group_ids < 0)
    assert torch.equal(out.sequences[kept], ids[kept])
    ended = (group_ids > 0) & (out.group_ids < 0)
    if chosen["stop"] is None:
        assert not ended.any()
        assert torch.equal(out.group_ids, order)
    assert torch.equal(out.group_ids, groups.relabel(order.masked_fill(ended, -1)))
    assert not torch.isin(out.sequences[drawn], torch.tensor(chosen["banned"], dtype=torch.int64)).any()

    # its scores are those of one pass over the result
    scores = objective.log_likelihood(model, out.sequences, out.group_ids, known, reduction="token")
    same(out.log_probs, scores.detach().to(out.log_probs.dtype))

    # no more passes than tokens; one token at a time takes as many
    count = drawn.sum(-1).tolist()
    assert all(passes <= number for passes, number in zip(out.trace.passes, count, strict=True))
    if chosen["draft"] == 1:
        assert out.trace.passes == count

    there = out.group_ids >= 0
    assert torch.equal(out.trace.replay()[there], out.sequences[there])
    for row, steps in enumerate(out.trace.steps):
        check_rounds(steps, order[row].tolist(), chosen["draft"])


def check_rounds(steps: list, order: list[int], draft: int) -> None:
    """Each round: its first draft stays, those that fail come from behind it, and another token takes their place."""
    commits = placed(steps, "commit")
    assert all(len(step.positions) == 1 for step in commits)
    places = [order[step.positions[0]] for step in commits]
    assert places == sorted(set(places))  # one by one, in order
    passes = [step.passes for step in steps]
    assert passes == sorted(passes) and (not passes or passes[-1] <= len(commits))
    for number in set(passes):
        assert sum(step.passes == number for step in commits) <= max(1, draft - 1)
    for step in placed(steps, "reject"):
        first = next(other for other in commits if other.passes == step.passes - 1)  # of the pass that drafted
        failed = [order[position] for position in step.positions]
        assert len(step.tokens) == len(failed) < draft and failed == sorted(failed)
        assert failed[0] > order[first.positions[0]], "the first draft was rejected"
        new = [other for other in commits if other.positions == step.positions[:1] and other.passes == step.passes]
        assert not new or new[0].tokens[0] != step.tokens[0]  # there is none where the text ended before it
    assert all(len(step.positions) >= 1 for step in placed(steps, "stop"))


@settings(max_examples=60, deadline=None)
@given(fillings(), st.integers(1, 8), st.booleans(), st.sampled_from([1.0, 1.4]), st.sampled_from([None, 4]), MODELS)
def test_greedy_is_one_by_one_greedy_and_draws_nothing(filling, draft, use_cache, penalty, stop, model):
    group_ids, known = filling
    ids = tokens(*group_ids.shape)
    settings_ = {"temperature": 0.0, "repetition_penalty": penalty, "stop": stop}
    source = generator(5)
    before = source.get_state(), torch.get_rng_state()
    out = speculative.generate(
        model, ids, group_ids, known, generator=source, draft=draft, use_cache=use_cache, **settings_
    )
    assert torch.equal(before[0], source.get_state()) and torch.equal(before[1], torch.get_rng_state())
    right = decode.generate(model, ids, speculative.singletons(group_ids, known), known, **settings_)
    assert torch.equal(out.sequences, right.sequences) and torch.equal(out.group_ids, right.group_ids)
    same(out.log_probs, right.log_probs)
    assert all(fewer <= more for fewer, more in zip(out.trace.passes, right.trace.passes, strict=True))


@settings(max_examples=40, deadline=None)
@given(fillings(), options, st.integers(0, 3), MODELS)
def test_the_cache_changes_nothing(filling, chosen, seed, model):
    group_ids, known = filling
    ids = tokens(*group_ids.shape, seed)
    first, second = (
        speculative.generate(model, ids, group_ids, known, generator=generator(seed), **{**chosen, "use_cache": cached})
        for cached in (True, False)
    )
    assert torch.equal(first.sequences, second.sequences) and torch.equal(first.group_ids, second.group_ids)
    assert first.trace.passes == second.trace.passes
    same(first.log_probs, second.log_probs)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nothing_need_be_given(temperature):
    """As many groups as positions."""
    ids, group_ids = tokens(2, 6), torch.tensor([[3, 2, 1, 6, 5, 4], [1, 2, 3, 4, 5, 6]])
    assert torch.equal(speculative.singletons(group_ids), group_ids)
    out = speculative.generate(MODEL, ids, group_ids, temperature=temperature, generator=generator())
    scores = objective.log_likelihood(MODEL, out.sequences, group_ids, reduction="token").detach()
    same(out.log_probs, scores.to(out.log_probs.dtype))


def test_a_stale_cache_would_change_something(monkeypatch):
    ids, group_ids = tokens(8, 12), groups.left_to_right(12)[None].expand(8, -1)
    right = speculative.generate(MODEL, ids, group_ids, generator=generator())
    assert any(placed(steps, "reject") for steps in right.trace.steps)
    monkeypatch.setattr(Steps, "take_back", lambda *_: None)
    wrong = speculative.generate(MODEL, ids, group_ids, generator=generator())
    scores = objective.log_likelihood(MODEL, wrong.sequences, group_ids, reduction="token").detach()
    assert (wrong.log_probs - scores.to(wrong.log_probs.dtype)).abs().max() > 0.1


def test_the_generator_decides():
    ids, group_ids = tokens(2, 16), groups.left_to_right(16)[None].expand(2, -1)
    first, second, other = (speculative.generate(MODEL, ids, group_ids, generator=generator(n)) for n in (1, 1, 2))
    assert torch.equal(first.sequences, second.sequences) and torch.equal(first.log_probs, second.log_probs)
    assert first.trace == second.trace
    assert not torch.equal(first.sequences, other.sequences)


def test_without_a_generator_torchs_own_decides():
    ids, group_ids = tokens(1, 16), groups.left_to_right(16)[None]
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(speculative.generate(MODEL, ids, group_ids).sequences)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_tokens_to_be_drawn_are_never_read_and_the_callers_tensors_stay():
    ids, group_ids = tokens(2, 8), torch.tensor([[0, 3, 1, 1, 2, 0, 4, -1], [0, 1, 2, 3, 4, 5, 6, 7]])
    copies = ids.clone(), group_ids.clone()
    first = speculative.generate(MODEL, ids, group_ids, generator=generator())
    assert torch.equal(ids, copies[0]) and torch.equal(group_ids, copies[1])
    changed = ids.masked_fill(group_ids > 0, -7)  # no token at all
    second = speculative.generate(MODEL, changed, group_ids, generator=generator())
    drawn = group_ids > 0
    assert torch.equal(first.sequences[drawn], second.sequences[drawn])


@pytest.mark.parametrize(
    ("predicted", "draft", "passes"),
    [(1, 4, {1}), (2, 2, {2}), (2, 4, {2}), (3, 1, {3}), (3, 2, {3}), (3, 3, {2, 3}), (8, 8, set(range(2, 9)))],
)
def test_passes(predicted, draft, passes):
    """A lone last token needs no verification."""
    ids, group_ids = tokens(40, predicted + 1), groups.left_to_right(predicted + 1)[None].expand(40, -1)
    out = speculative.generate(MODEL, ids, group_ids, draft=draft, generator=generator())
    assert set(out.trace.passes) <= passes
    assert len(passes) <= 2 or len(set(out.trace.passes)) > 1


def test_drafts_that_are_right_save_passes():
    """With one token left to choose every draft is right, and two passes are enough for any number of tokens."""
    ids, group_ids = tokens(40, 8), groups.left_to_right(8)[None].expand(40, -1)
    out = speculative.generate(MODEL, ids, group_ids, draft=8, generator=generator(), banned=range(1, 11))
    assert out.trace.passes == [2] * 40 and not any(placed(steps, "reject") for steps in out.trace.steps)


def test_rows_that_are_finished_wait_without_passes():
    """A batch counts the passes of each row by itself, and greedy rows come out as they do alone."""
    group_ids = torch.tensor([[0, 1, -1, -1, -1, -1, -1], [0, 6, 5, 4, 3, 2, 1], [0, 0, 0, 0, 0, 0, 0]])
    ids = tokens(3, 7)
    out = speculative.generate(MODEL, ids, group_ids, temperature=0, draft=3)
    assert out.trace.passes[0] == 1 and out.trace.passes[2] == 0
    for row in (0, 1):
        alone = speculative.generate(MODEL, ids[row : row + 1], group_ids[row : row + 1], temperature=0, draft=3)
        assert torch.equal(alone.sequences[0], out.sequences[row])
        assert alone.trace.passes == [out.trace.passes[row]]
        assert [step.positions for step in alone.trace.steps[0]] == [step.positions for step in out.trace.steps[row]]


@settings(max_examples=200, deadline=None)
@given(fillings())
def test_singletons(filling):
    group_ids, known = filling
    expected = [singletons_by_loop(*row) for row in zip(group_ids.tolist(), known.tolist(), strict=True)]
    found = speculative.singletons(group_ids, known)
    assert found.tolist() == expected and found.dtype == torch.int64
    assert torch.equal(speculative.singletons(found, known), found)  # nothing is left to refine
    spread = torch.where(group_ids > 0, 10 * group_ids + 3, group_ids)
    assert torch.equal(speculative.singletons(spread, known), found)  # only the order of groups matters


def test_singletons_by_example():
    group_ids = torch.tensor([[0, 2, 1, 2, 1, 2, -1]])
    assert speculative.singletons(group_ids).tolist() == [[0, 3, 1, 4, 2, 5, -1]]
    known = torch.tensor([[False, False, True, True, False, False, False]])
    assert speculative.singletons(group_ids, known).tolist() == [[0, 2, 1, 3, 1, 3, -1]]
    known = torch.tensor([[False, False, True, False, True, False, False]])  # a group of known tokens alone
    assert speculative.singletons(group_ids, known).tolist() == [[0, 2, 1, 3, 1, 4, -1]]


@settings(max_examples=30, deadline=None)
@given(fillings(), st.sampled_from([TINY, TINY_WARM]))
def test_known_tokens_score_nothing_and_single_tokens_are_a_distribution(filling, model):
    """Law 3 for the refined order: the first row's results sum to 1 over a vocabulary of three."""
    group_ids, known = filling[0][:1], filling[1][:1]
    order = speculative.singletons(group_ids, known)
    scores = objective.log_likelihood(model, tokens(1, 7) % V, order, known, reduction="token").detach()
    assert scores.shape == (1, 7) and (scores[known | (order <= 0)] == 0).all()
    if int(((order > 0) & ~known).sum()) <= 5:
        laws.a_probability(model, tokens(1, 7) % V, order, known)


BAD = {
    "draft of zero": ({"draft": 0}, ValueError, "draft must be an integer, at least 1; got 0"),
    "half a draft": ({"draft": 2.5}, ValueError, "draft must be an integer, at least 1; got 2.5"),
    "no draft": ({"draft": None}, ValueError, "draft must be an integer"),
    "temperature": ({"temperature": -1.0}, ValueError, "temperature"),
    "top k": ({"top_k": 0}, ValueError, "top_k"),
    "top p": ({"top_p": 1.5}, ValueError, "top_p"),
    "penalty": ({"repetition_penalty": 0}, ValueError, "repetition_penalty"),
    "banned": ({"banned": [11]}, ValueError, "banned holds 11"),
    "everything banned": ({"banned": range(11)}, ValueError, "whole vocabulary"),
    "stop": ({"stop": 11}, ValueError, "stop must be a token id"),
    "nothing to predict": ({"group_ids": torch.zeros(1, 6, dtype=torch.int64)}, ValueError, "nothing to predict"),
    "everything known": ({"known": torch.ones(1, 6, dtype=torch.bool)}, ValueError, "nothing to predict"),
    "known of floats": ({"known": torch.ones(1, 6)}, TypeError, "known must be a boolean tensor"),
    "one row of groups": ({"group_ids": groups.left_to_right(6)}, ValueError, "expand"),
    "no such group": ({"group_ids": torch.full((1, 6), -2)}, ValueError, "group_ids holds -2"),
    "no such token": ({"input_ids": torch.full((1, 6), 11)}, ValueError, "outside the vocabulary"),
    "too long": (
        {"input_ids": tokens(1, 33), "group_ids": groups.left_to_right(33)[None]},
        ValueError,
        "33 tokens, but the model allows 32",
    ),
}


@pytest.mark.parametrize("changes, error, message", BAD.values(), ids=BAD)
def test_bad_arguments_before_any_pass(changes, error, message, monkeypatch):
    monkeypatch.setattr(MODEL.model, "forward", lambda **_: pytest.fail("the model was run"))
    with pytest.raises(error, match=message):
        speculative.generate(
            MODEL, **{"input_ids": tokens(1, 6), "group_ids": groups.left_to_right(6)[None], **changes}
        )
