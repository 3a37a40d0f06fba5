"""cache.py and steps.py, law 4: decoding with the cache is exact, for any batch; and nothing is computed twice."""

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import same

from a3mini.decode import generate, resample
from a3mini.decode.cache import ContentCache
from a3mini.decode.steps import Steps
from a3mini.groups import PADDING
from a3mini.model import A3Model
from a3mini.rows import QUERY_STARTS, Slots

V = 11
GROUPED, PLAIN, WARM = (
    laws.in_double(laws.strong_model(num_key_value_heads=heads, query_start=start))
    for heads, start in ((2, "vector"), (4, "previous"), (2, "previous"))
)
MODELS = pytest.mark.parametrize(
    "model", [GROUPED, PLAIN], ids=["grouped-query attention, cold", "one head each, warm"]
)

# Rows of different lengths, groups that are not numbered without gaps, known tokens inside groups and in a group of
# their own, a row that is short from the start, and one that has nothing to predict.
GROUP_IDS = torch.tensor(
    [
        [0, 3, 1, 3, -1, -1, -1, -1],
        [0, 0, 2, 1, 1, 2, 4, 3],
        [0, 0, 0, 0, 5, 2, 2, 7],
        [0, 0, 0, -1, 0, -1, -1, -1],
    ]
)
KNOWN = torch.zeros(4, 8, dtype=torch.bool)
KNOWN[1, 4] = KNOWN[2, 5] = KNOWN[2, 6] = True
IDS = torch.randint(V, (4, 8), generator=torch.Generator().manual_seed(0))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def check_generate(model=GROUPED, ids=IDS, group_ids=GROUP_IDS, known=KNOWN, **options):
    return laws.exact_steps(
        model, lambda cached: generate(model, ids, group_ids, known, generator=generator(), use_cache=cached, **options)
    )


def check_resample(model=GROUPED, ids=IDS, group_ids=GROUP_IDS, known=KNOWN, ordered=True, **options):
    """The predicted positions are the unknown ones; ``ordered``: the other groups are those of the known tokens."""
    unknown = (group_ids > 0) & ~known
    options |= {"known": (group_ids >= 0) & ~unknown, "known_groups": group_ids.clamp(min=0) if ordered else None}
    return laws.exact_steps(
        model, lambda cached: resample(model, ids, unknown, generator=generator(), use_cache=cached, **options)
    )


@MODELS
@settings(max_examples=80, deadline=None)
@given(
    batch=laws.batches(),
    temperature=st.sampled_from([0.0, 1.0]),
    stop=st.sampled_from([None, 3]),
    penalty=st.sampled_from([1.0, 1.5]),
)
def test_generate_is_exact(model, batch, temperature, stop, penalty):
    check_generate(model, *batch, temperature=temperature, stop=stop, repetition_penalty=penalty)


@MODELS
@settings(max_examples=80, deadline=None)
@given(
    batch=laws.batches(given=2),
    per_step=st.integers(1, 3),
    criterion=st.sampled_from(["confidence", "entropy", "random"]),
    ordered=st.booleans(),
    stop=st.sampled_from([None, 3]),
)
def test_resample_is_exact(model, batch, per_step, criterion, ordered, stop):
    """Two different tokens are given: with fewer all positions predict the same, and rounding decides who is first."""
    batch[0][:, :2] = torch.tensor([0, 1])
    check_resample(model, *batch, per_step=per_step, criterion=criterion, ordered=ordered, stop=stop)


@pytest.mark.parametrize("model", [GROUPED, WARM], ids=QUERY_STARTS)
@pytest.mark.parametrize("check", [check_generate, check_resample])
def test_the_batch_of_the_mutants_is_exact(check, model):
    check(model)


def test_refreshed_steps_are_exact():
    """Each step is one full pass over what is there; nothing is cached, and the content of all is computed anew."""
    unknown = (GROUP_IDS > 0) & ~KNOWN
    for model in (GROUPED, WARM):
        with laws.recorded_steps() as passes:
            resample(model, IDS, unknown, context="refreshed", known=(GROUP_IDS >= 0) & ~unknown, generator=generator())
        for step in passes:
            same(step.logits, model(step.tokens, step.group_ids).logits[step.ask])


# Drafts that did not last


def check_take_back(use_cache: bool = True, model=GROUPED) -> None:
    """Feed drafts, take them back, feed other tokens: each step's logits are those of a full pass.

    The first step feeds two groups at once, the later one further to the left.
    """
    group_ids = torch.tensor([[1, 0, 3, 2, 4], [2, 1, 0, 0, 3]])
    steps, tokens = Steps(model, (2, 5), use_cache), IDS[:2, :5].clone()

    def step(last, ask):
        """Feed all up to group ``last`` that is not fed yet."""
        hidden = steps(tokens, group_ids, (group_ids <= last) & ~steps.fed, group_ids == ask)
        same(steps.logits(hidden), model(tokens, group_ids).logits[group_ids == ask])

    with torch.no_grad():
        step(1, 2)
        step(2, 3)
        steps.take_back(group_ids, torch.tensor([1, 2]))  # row 0 loses groups 1 and 2, row 1 only group 2
        taken = group_ids >= torch.tensor([[1], [2]])
        assert torch.equal(steps.fed, ~taken)
        tokens[taken] = (tokens[taken] + 1) % V
        step(2, 3)
        step(3, 4)
        steps.take_back(group_ids, torch.tensor([0, 0]))  # and everything
        assert not steps.fed.any()
        step(0, 1)
    assert steps.passes.tolist() == [5, 4]  # row 1 has no group 4


@pytest.mark.parametrize("model", [GROUPED, WARM], ids=QUERY_STARTS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_tokens_that_did_not_last_leave_nothing_behind(use_cache, model):
    check_take_back(use_cache, model)


# Mutants: each must break the law


def forget_row_offsets(monkeypatch):
    right = ContentCache.extend

    def extend(self, content, content_groups):
        count, self.filled = self.filled, self.filled[:1].expand_as(self.filled)  # all rows like the first
        columns = right(self, content, content_groups)
        self.filled = count + content.valid.sum(-1)
        return columns

    monkeypatch.setattr(ContentCache, "extend", extend)


def write_one_column_off(monkeypatch):
    right = ContentCache.extend

    def extend(self, content, content_groups):
        groups = right(self, content, content_groups)
        self._slice, self._columns = None, (self._columns + 1).clamp(max=self.groups.shape[1] - 1)
        return groups

    monkeypatch.setattr(ContentCache, "extend", extend)


def show_unused_columns(monkeypatch):
    """What stands behind the content of a shorter row is seen, as if it were given."""
    right = ContentCache.extend
    monkeypatch.setattr(ContentCache, "extend", lambda self, *content: right(self, *content).clamp(min=0))


def move_queries(monkeypatch):
    def change(arguments):
        arguments["positions"] = arguments["positions"].clone()
        arguments["positions"][:, arguments["content_ids"].shape[1] :] += 1

    change_forward(monkeypatch, change)


def number_content_by_column(monkeypatch):
    """The position of a token is taken to be its column in the cache."""

    def change(arguments):
        number, cache = arguments["content_ids"].shape[1], arguments["cache"]
        arguments["positions"] = arguments["positions"].clone()
        start = cache.filled[:, None] - (cache._columns < cache.groups.shape[1] - 1).sum(-1, keepdim=True)
        arguments["positions"][:, :number] = start + torch.arange(number)

    change_forward(monkeypatch, change)


def change_forward(monkeypatch, change):
    right = A3Model.forward

    def forward(self, **arguments):
        if "cache" in arguments:  # a step of decoding
            change(arguments)
        return right(self, **arguments)

    monkeypatch.setattr(A3Model, "forward", forward)


def encode_in_a_later_group(monkeypatch):
    change_groups(monkeypatch, lambda group_ids, new: torch.where(new & (group_ids > 0), group_ids + 1, group_ids))


def encode_in_one_group(monkeypatch):
    """What is fed together sees each other, whatever its groups."""

    def change(group_ids, new):
        return torch.where(new, group_ids.masked_fill(~new, 0).amax(-1, keepdim=True), group_ids)

    change_groups(monkeypatch, change)


def change_groups(monkeypatch, change):
    right = Steps.__call__

    def call(self, tokens, group_ids, new, ask):
        return right(self, tokens, change(group_ids, new), new, ask)

    monkeypatch.setattr(Steps, "__call__", call)


def start_from_w_alone(monkeypatch):
    def change(arguments):
        arguments["query_ids"] = None

    change_forward(monkeypatch, change)


@pytest.mark.parametrize("check", [check_generate, check_resample])
@pytest.mark.parametrize("mutant", [start_from_w_alone, laws.start_one_step_late])
def test_the_law_catches_a_wrong_start(mutant, check, monkeypatch):
    mutant(monkeypatch)
    with pytest.raises(AssertionError, match="step . differs by"):
        check(WARM)


@pytest.mark.parametrize("check", [check_generate, check_resample])
@pytest.mark.parametrize(
    "mutant",
    [
        forget_row_offsets,
        write_one_column_off,
        show_unused_columns,
        move_queries,
        number_content_by_column,
        encode_in_a_later_group,
        encode_in_one_group,
    ],
)
def test_the_law_catches(mutant, check, monkeypatch):
    mutant(monkeypatch)
    with pytest.raises(AssertionError, match="step . differs by"):
        check()


def test_the_law_catches_columns_by_position(monkeypatch):
    """What is dropped must be the last columns of its row: content goes in by group."""
    right = Slots.where
    monkeypatch.setattr(Slots, "where", classmethod(lambda cls, keep, order=None: right(keep)))
    with pytest.raises(AssertionError):
        check_take_back()


@pytest.mark.parametrize(("owner", "name"), [(ContentCache, "drop"), (Steps, "take_back")])
def test_the_law_catches_drafts_that_stay(owner, name, monkeypatch):
    monkeypatch.setattr(owner, name, lambda *arguments: None)
    with pytest.raises(AssertionError):
        check_take_back()


def test_the_law_catches_content_that_is_dropped_too_early(monkeypatch):
    right = ContentCache.drop
    monkeypatch.setattr(ContentCache, "drop", lambda self, first_group: right(self, first_group - 1))
    with pytest.raises(AssertionError):
        check_take_back()


# The cache alone


@st.composite
def histories(draw):
    """Rows of content that come in, group after group, and first groups from which on it is dropped again."""
    batch = draw(st.integers(1, 3))
    events, last = [], [0] * batch
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.integers(0, 3)):
            rows = []
            for row in range(batch):
                new = sorted(last[row] + more for more in draw(st.lists(st.integers(0, 2), max_size=3)))
                rows.append(new)
                last[row] = max([last[row], *new])
            events.append(("add", rows))
        else:
            first = [draw(st.integers(0, last[row] + 1)) for row in range(batch)]
            events.append(("drop", first))
    return batch, events


@settings(max_examples=100, deadline=None)
@given(histories())
def test_columns_against_lists(history):
    """Every row shows exactly what came in and was not dropped: its groups, its keys, its values, in every layer."""
    batch, events = history
    cache, expected = ContentCache(batch, 20, layers=2, device=torch.device("cpu")), [[] for _ in range(batch)]
    name = 0.0
    for event, argument in events:
        if event == "drop":
            cache.drop(torch.tensor(argument))
            expected = [
                [item for item in row if item[0] < first] for row, first in zip(expected, argument, strict=True)
            ]
            continue
        longest = max(map(len, argument))
        groups = torch.tensor([row + [PADDING] * (longest - len(row)) for row in argument], dtype=torch.int64)
        valid = groups >= 0
        keys = (name + 1 + torch.arange(float(batch * longest))).reshape(batch, 1, longest, 1)
        name += batch * longest
        seen = cache.extend(Slots(torch.zeros_like(groups), valid), groups)
        for row, new in enumerate(argument):
            expected[row] += [(group, keys[row, 0, slot, 0].item()) for slot, group in enumerate(new)]
        for layer, sign in enumerate((1, -1)):
            all_keys, all_values = cache.update(sign * keys, 10 * sign * keys, layer)
            assert seen.shape == (batch, all_keys.shape[2]) and all_keys.shape == all_values.shape
            for row in range(batch):
                there = seen[row] >= 0
                found = zip(seen[row, there].tolist(), (sign * all_keys[row, 0, there, 0]).tolist(), strict=True)
                assert list(found) == expected[row]
                assert torch.equal(all_values[row, 0, there], 10 * all_keys[row, 0, there])
        assert cache.width == max(map(len, expected)) and cache.filled.tolist() == list(map(len, expected))


# What is fed


def needed(group_ids, known):
    """Content that some query sees: everything before the row's last predicted group. And what is predicted."""
    predicted = (group_ids > 0) & ~known
    last = group_ids.masked_fill(~predicted, 0).amax(-1, keepdim=True)
    return (group_ids >= 0) & (group_ids < last), predicted


def positions(mask) -> set[tuple[int, int]]:
    return {tuple(pair) for pair in mask.nonzero().tolist()}


def check_work(ids, group_ids, known, use_cache=True, model=GROUPED):
    content, predicted = needed(group_ids, known)
    with laws.counted_work(model) as work:
        done = generate(model, ids, group_ids, known, use_cache=use_cache)
    passes = [len(row[row_predicted].unique()) for row, row_predicted in zip(group_ids, predicted, strict=True)]
    assert len(work.passes) == max(passes) and done.trace.passes == passes
    assert set(work.queries) == positions(predicted) and set(work.queries.values()) == {1}, "each is asked once"
    assert set(work.content) == positions(content), "content that no query sees, or not all that one sees"
    assert not content.any() or set(work.content.values()) == {1}, "content is computed twice"


@settings(max_examples=80, deadline=None)
@given(laws.batches(given=1), st.sampled_from([GROUPED, WARM]))
def test_each_content_is_computed_once_and_each_position_asked_once(batch, model):
    check_work(*batch, model=model)


def test_the_spy_sees_content_that_is_computed_twice():
    check_work(IDS, GROUP_IDS, KNOWN)
    with pytest.raises(AssertionError, match="content is computed twice"):
        check_work(IDS, GROUP_IDS, KNOWN, use_cache=False)


@pytest.mark.parametrize("per_step", [1, 3])
def test_resampling_computes_each_content_once_too(per_step):
    unknown = (GROUP_IDS > 0) & ~KNOWN
    with laws.counted_work(GROUPED) as work:
        done = resample(GROUPED, IDS, unknown, per_step, known=(GROUP_IDS >= 0) & ~unknown, generator=generator())
    content, _ = needed(done.group_ids, done.known)
    assert set(work.content) == positions(content) and set(work.content.values()) == {1}
    steps = [-(-int(row.sum()) // per_step) for row in unknown]
    assert done.trace.passes == steps and len(work.passes) == max(steps)
    # a position is asked at every step until it is filled: as often as the number of its group
    assert work.queries == {pair: int(done.group_ids[pair]) for pair in positions(unknown)}
    with laws.counted_work(GROUPED) as work:  # "refreshed" encodes all that is finished at every step
        done = resample(GROUPED, IDS, unknown, per_step, context="refreshed", known=(GROUP_IDS >= 0) & ~unknown)
    assert [work.content[row, 0] for row in range(4)] == done.trace.passes
