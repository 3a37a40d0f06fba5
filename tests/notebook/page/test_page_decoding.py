"""Orders, draws and blanks in the page: each is the package's, or follows the same law."""

import itertools
import math
from collections import Counter

import pytest
import small_tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from page_engines import JavaScriptError
from page_models import OURS, PAPER, saved

from a3mini import decode, eight_bit, groups, pretrained
from a3mini.decode.blanks import in_blanks
from a3mini.decode.dynamic import _measured
from a3mini.decode.infilling import Given, never_drawn
from a3mini.decode.limits import Limits
from a3mini.decode.sampling import Sampler

END = 0  # the token that ends a blank: <pad>
ROOMS = st.lists(st.sampled_from([0, 0, 1, 1, 1]), min_size=1, max_size=14)  # where something is missing


def many(check, *strategies, examples: int = 60):
    """Hypothesis inside of a test, whose fixtures outlive its examples."""
    settings(max_examples=examples, deadline=None)(given(*strategies)(check))()


def numbered(unknown: list[int]) -> list[int]:
    """0 where a token is there; the blanks 1, 2, ..."""
    starts = [here and not before for before, here in itertools.pairwise([0, *unknown])]
    return [sum(starts[: at + 1]) if here else 0 for at, here in enumerate(unknown)]


# Orders


@pytest.mark.parametrize("order", ["left_to_right", "strided"])
def test_fixed_orders(engine, order):
    def check(unknown, size):
        blank = numbered(unknown)
        code = "({ blank, how }) => [p.infill(blank, how), p.inTurn(blank, how)]"
        plain, turns = engine(code, {"blank": blank, "how": {"size": size, "order": order}})
        assert plain == groups.infill(torch.tensor(blank) > 0, size, order).tolist()
        assert turns == in_blanks(torch.tensor([blank]), size, order)[0].tolist()

    many(check, ROOMS, st.integers(1, 5))


def test_a_random_order(engine):
    code = "({ blank, size, seed }) => p.infill(blank, { size, order: 'random', random: p.seeded(seed) })"
    blank = [0, 1, 1, 1, 0, 2, 2, 2, 2]
    found = [engine(code, {"blank": blank, "size": 2, "seed": seed}) for seed in range(40)]
    for group_ids in found:
        assert [group == 0 for group in group_ids] == [number == 0 for number in blank]
        assert Counter(group_ids) == {0: 2, 1: 2, 2: 2, 3: 2, 4: 1}
    assert len({tuple(group_ids) for group_ids in found}) > 30
    first = Counter(group_ids.index(4) for group_ids in found)
    assert len(first) == 7, "any position may be the last"
    assert found[3] == engine(code, {"blank": blank, "size": 2, "seed": 3}), "a seed is an order"


def test_how_given_tokens_are_read(engine):
    code = "({ order }) => p.readGiven([7, 8, 9], [0, 1, 0], order)"
    assert engine(code, {"order": "together"}) == [[[0, 7], [2, 9]]]
    assert engine(code, {"order": "left_to_right"}) == [[[0, 7]], [[2, 9]]]
    assert engine("() => p.readGiven([7], [1], 'together')") == []


def test_the_next_positions_are_those_of_the_package(engine):
    code = """({ asked, logits, how }) =>
        p.choose(asked, logits.map((row) => p.measured(Float32Array.from(row))), how)"""
    limited = st.fixed_dictionaries(
        {
            "order": st.sampled_from(["confidence", "entropy"]),
            "bound": st.none() | st.sampled_from([0.0, 0.3, 1.0, 3.0]),
            "threshold": st.none() | st.sampled_from([0.1, 0.4, 0.6, 0.9]),
            "apart": st.integers(1, 4),
            "size": st.none() | st.integers(2, 5),
        }
    )

    def check(open_, seed, how):
        asked = [at for at, here in enumerate(open_) if here]
        if not asked:
            return
        logits = 2 * torch.randn(len(asked), 6, generator=torch.Generator().manual_seed(seed))
        shift = torch.arange(len(asked) // 2)[:, None] / 7
        logits[: len(shift)] = logits[0] + shift  # the same distribution, up to rounding
        limits = Limits(how["size"], how["bound"], how["threshold"], how["apart"])
        measured = _measured(logits, None, Sampler(), ["confidence", "entropy"])
        at = torch.tensor([open_]) > 0
        spread = {name: torch.zeros(at.shape).masked_scatter(at, values) for name, values in measured.items()}
        scores = measured["confidence"] if how["order"] == "confidence" else -measured["entropy"]
        scores = torch.full(at.shape, float("-inf")).masked_scatter(at, scores)
        wanted = limits.choose(scores, spread)[0].nonzero()[:, 0].tolist()
        assert engine(code, {"asked": asked, "logits": logits.tolist(), "how": how}) == wanted

    many(check, ROOMS, st.integers(0, 1000), limited, examples=150)


# Draws


def test_the_distribution_is_that_of_the_package(engine):
    code = "({ logits, how }) => [...p.probabilities(Float32Array.from(logits), how)]"

    def check(seed, temperature, top_p, banned):
        logits = 3 * torch.randn(1, 9, generator=torch.Generator().manual_seed(seed))
        wanted = Sampler(temperature, top_p=top_p, banned=banned).probabilities(logits)[0]
        how = {"temperature": temperature, "topP": top_p, "banned": banned}
        found = engine(code, {"logits": logits[0].tolist(), "how": how})
        torch.testing.assert_close(torch.tensor(found, dtype=torch.float32), wanted, atol=1e-5, rtol=1e-4)

    temperatures, top_ps = st.sampled_from([0, 0.3, 1.0, 2.0]), st.sampled_from([0.2, 0.7, 0.95, 1.0])
    many(check, st.integers(0, 1000), temperatures, top_ps, st.lists(st.integers(0, 8), max_size=4))


def test_draws_follow_the_distribution(engine):
    code = """({ logits, how, count }) => {
        const random = p.seeded(7);
        return Array.from({ length: count }, () => p.draw(Float32Array.from(logits), random, how));
      }"""
    how, count = {"temperature": 0.8, "topP": 0.9, "banned": [1]}, 20_000
    logits = torch.tensor([[1.0, 5.0, 0.0, 2.0, -4.0]])
    drawn = Counter(engine(code, {"logits": logits[0].tolist(), "how": how, "count": count}))
    wanted = Sampler(0.8, top_p=0.9, banned=[1]).probabilities(logits)[0]
    assert set(drawn) == set(wanted.nonzero()[:, 0].tolist())
    for token, times in drawn.items():
        p = float(wanted[token])
        assert abs(times - count * p) < 4 * math.sqrt(count * p * (1 - p))
    greedy = engine(code, {"logits": logits[0].tolist(), "how": {"temperature": 0, "banned": [1]}, "count": 2})
    assert greedy == [3, 3]
    ends = "({ logits, how }) => [0, 1].map((end) => p.draw(Float32Array.from(logits), () => end, how))"
    logits, how = [-50.0, 1.0, 2.0, 3.0], {"banned": [0, 3]}
    assert engine(ends, {"logits": logits, "how": how}) == [1, 2], "never what is banned, at the ends of the range too"


def test_random_numbers(engine):
    """The generator is mulberry32: the first numbers of seed 1 by its definition, in whole numbers."""

    def mulberry(state: int) -> tuple[int, float]:
        state = (state + 0x6D2B79F5) % 2**32
        mixed = (state ^ state >> 15) * (state | 1) % 2**32
        mixed ^= (mixed + (mixed ^ mixed >> 7) * (mixed | 61)) % 2**32
        return state, (mixed ^ mixed >> 14) / 2**32

    wanted, state = [], 1
    for _ in range(50):
        state, number = mulberry(state)
        wanted.append(number)
    assert engine("() => { const next = p.seeded(1); return Array.from({ length: 50 }, next); }") == wanted
    assert all(0 <= number < 1 for number in wanted)


# Whole fillings

TEXT = "The cat ____ on the mat. The ____ ran!"
FILL = """({ name, text, lengths, how }) => {
    const tokenizer = (globalThis.tokenizer ??= (() => {
      const { tokenizer, special } = p.readFile(file(name));
      return new p.Tokenizer(tokenizer, special);
    })());
    const { tokens, blank } = p.cut(tokenizer, text, lengths);
    const never = p.neverDrawn(model(name), tokenizer);
    const banned = never.filter((token) => token !== how.end);
    const random = p.seeded(how.seed ?? 0);
    const steps = [...p.fill(model(name), tokens, blank, { ...how, banned, random })];
    return { tokens, blank, never, steps: steps.map(({ logits, sure, ...step }) => step) };
  }"""


@pytest.fixture(scope="module")
def models(tmp_path_factory, engine):
    folder, found = tmp_path_factory.mktemp("models"), {}
    for name, kind in (("paper", PAPER), ("ours", {**OURS, "empty_token_id": END})):
        found[name], file = saved(folder, name, 5, **kind, max_position_embeddings=64)
        engine.put(name, file)
    return found


def greedy(engine, model, name: str, lengths: list[int], options: dict, how: dict):
    """The page's filling at temperature 0 is the package's: the same steps, tokens and log-probabilities."""
    tokenizer = small_tokenizers.byte_level()
    options = {"tokens_per_blank": lengths} | options
    wanted = decode.infill(model, tokenizer, TEXT, temperature=0, **options)
    found = engine(FILL, {"name": name, "text": TEXT, "lengths": lengths, "how": {"temperature": 0, **how}})
    row, number, _ = Given.of(model, tokenizer, TEXT, "____", None).rows([lengths])
    assert found["tokens"] == row[0].tolist() and found["blank"] == number[0].tolist()
    assert found["never"] == sorted(never_drawn(model, tokenizer))
    steps = [step for step in wanted.trace.steps[0] if step.action == "commit"]
    assert [step["positions"] for step in found["steps"] if step["positions"]] == [step.positions for step in steps]
    for step, here in zip(steps, (step for step in found["steps"] if step["positions"]), strict=True):
        assert here["tokens"] == step.tokens
        assert here["logProbs"] == pytest.approx(step.log_probs, abs=1e-3)
    stopped = [step.positions for step in wanted.trace.steps[0] if step.action == "stop"]
    assert [step["stopped"] for step in found["steps"] if step["stopped"]] == stopped
    return wanted


@pytest.mark.parametrize("name", ["paper", "ours"])
@pytest.mark.parametrize(
    ("options", "how"),
    [
        ({"size": 1}, {}),
        ({"size": 3}, {"size": 3}),
        ({"order": "strided", "size": 2}, {"order": "strided", "size": 2}),
        ({"order": "confidence"}, {"order": "confidence"}),
        ({"order": "entropy", "bound": 4.0}, {"order": "entropy", "bound": 4.0}),
        ({"order": "confidence", "threshold": 0.2, "apart": 2}, {"order": "confidence", "threshold": 0.2, "apart": 2}),
    ],
    ids=["one", "three", "strided", "confidence", "bounded", "threshold"],
)
def test_fillings_are_those_of_the_package(engine, models, name, options, how):
    greedy(engine, models[name], name, [5, 7], options, how)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("factor", [0, 30], ids=["never", "early"])
def test_blanks_that_end_are_those_of_the_package(engine, tmp_path, size, factor):
    """A model that never ends a blank, and one that does wherever its large number falls so."""

    def change(model):
        model.lm_head.weight[END] *= factor

    kind = {**OURS, "empty_token_id": END, "tie_word_embeddings": False, "max_position_embeddings": 64}
    model, file = saved(tmp_path, "ends", 6, change, **kind)
    engine.put(f"ends {factor}", file)
    ended = set()
    for least in (1, 3):
        options = {"most": [6, 8], "least": least, "size": size, "tokens_per_blank": None}
        how = {"end": END, "least": least, "size": size}
        ended |= set(greedy(engine, model, f"ends {factor}", [6, 8], options, how).ended)
    assert (True in ended) == (factor > 0)


def test_the_compact_model(engine, tmp_path):
    """The model that ships, a whole text: the page writes what the package writes."""
    model, tokenizer, _ = pretrained.compact_model()
    file = eight_bit.save(model, tokenizer, tmp_path / eight_bit.FILE)
    model, tokenizer = eight_bit.load(file)
    engine.put("compact", file)
    text, lengths = "Once upon a time there ____ little ____. Then he went home.", [3, 6]
    code = """({ text, lengths }) => {
        const { tokenizer: of, special } = p.readFile(file("compact"));
        const tokenizer = new p.Tokenizer(of, special);
        const { tokens, blank } = p.cut(tokenizer, text, lengths);
        const how = { temperature: 0, banned: p.neverDrawn(model("compact"), tokenizer) };
        for (const { positions, tokens: drawn } of p.fill(model("compact"), tokens, blank, how)) {
          positions.forEach((position, n) => (tokens[position] = drawn[n]));
        }
        return tokenizer.decode(tokens);
      }"""
    wanted = decode.infill(model, tokenizer, text, tokens_per_blank=lengths, temperature=0)
    assert engine(code, {"text": text, "lengths": lengths}) == str(wanted)


def test_a_seed_is_a_filling(engine, models):
    how = {"order": "random", "size": 2, "temperature": 1.0}
    ask = {"name": "ours", "text": TEXT, "lengths": [5, 7]}
    first, again, other = (engine(FILL, {**ask, "how": {**how, "seed": seed}})["steps"] for seed in (1, 1, 2))
    assert first == again != other


def test_wrong_questions_are_refused(engine, models):
    ask = {"name": "ours", "text": TEXT, "lengths": [5, 7], "how": {"temperature": 0}}
    with pytest.raises(JavaScriptError, match="2 blanks need as many lengths"):
        engine(FILL, {**ask, "lengths": [5]})
    with pytest.raises(JavaScriptError, match="blanks that end are filled from left to right"):
        engine(FILL, {**ask, "how": {"end": END, "order": "entropy"}})
    with pytest.raises(JavaScriptError, match="order must be left_to_right, random or strided; got back"):
        engine(FILL, {**ask, "how": {"order": "back"}})
