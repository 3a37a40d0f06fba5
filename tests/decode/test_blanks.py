"""blanks.py, and infilling where it uses it: fillings of all lengths are a distribution, and blanks end where drawn."""

import inspect
import itertools
import json
from types import ModuleType

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import same
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from a3mini import decode, groups, objective
from a3mini.decode import Trace, blanks, generate, groupwise, rewriting
from a3mini.decode.blanks import BLANK_ORDERS, Rooms, in_blanks
from a3mini.rows import QUERY_STARTS
from a3mini.train.tokens import encode_behind

SMALL = {"vocab_size": 5, "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
MODELS = {s: laws.in_double(laws.strong_model(query_start=s, **SMALL)) for s in QUERY_STARTS}
MODEL, V, END = MODELS["vector"], 5, 4
# two rooms, of three and of two positions, and a row in which they stand side by side
ROOMS = {"apart": [0, 1, 1, 1, 0, 2, 2, 0], "side by side": [0, 0, 1, 1, 1, 2, 2, 0]}
BOTH = torch.tensor(list(ROOMS.values()))
IDS = torch.tensor([[0, 1, 1, 2, 3, 0, 2, 1], [0, 3, 1, 1, 2, 0, 2, 2]])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mutant(module: ModuleType, old: str, new: str) -> ModuleType:
    """The module with one mistake in it."""
    source = inspect.getsource(module)
    assert source.count(old) == 1, f"the mutant does not fit the code any more: {old}"
    wrong = ModuleType(module.__name__)
    exec(source.replace(old, new), wrong.__dict__)
    return wrong


def contents(room: int, tokens: list[int]) -> list[tuple[int, ...]]:
    """Everything that can stand in a room, with its end: plain enumeration."""
    short = (itertools.product(tokens, repeat=length) for length in range(room))
    return [(*filling, END) for part in short for filling in part] + list(itertools.product(tokens, repeat=room))


def outcomes(ids: list[int], number: list[int], size: int, blank_order: str, known_order: str):
    """All results of filling the rooms of one row: sequences, group ids and ``known``; in plain Python."""
    places = [[at for at, n in enumerate(number) if n == blank] for blank in (1, 2)]
    order, taken = [0] * len(number), 0
    for own in places:
        for n, at in enumerate(own):
            order[at] = n // size + 1 + (taken if blank_order == "in_turn" else 0)
        taken += -(-len(own) // size)
    found = []
    for filled in itertools.product(*(contents(len(own), list(range(V - 1))) for own in places)):
        row, group_ids = list(ids), list(order)
        for own, tokens in zip(places, filled, strict=True):
            for n, at in enumerate(own):
                row[at], group_ids[at] = (tokens[n], order[at]) if n < len(tokens) else (0, -1)
        found.append((row, group_ids))
    sequences, group_ids = (torch.tensor(part) for part in zip(*found, strict=True))
    return sequences, *groups.read_given(group_ids, known_order)


def scores(model, *outcome) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([objective.log_likelihood(model, *(x[part] for x in outcome))
                          for part in torch.arange(len(outcome[0])).split(2000)])  # fmt: skip


def filled(
    model=MODEL, size=1, blank_order="in_turn", known_order="together", copies=1, ids=IDS, number=BOTH, least=0,
    module=groupwise, rooms=Rooms, **options,
):  # fmt: skip
    number, ids = number.repeat(copies, 1), ids.repeat(copies, 1)
    order = groups.read_given(in_blanks(number, size, blank_order=blank_order), known_order)
    return module.generate(
        model, ids, *order, rooms=rooms(number, END, least), **{"generator": generator(), "runners_up": 0, **options}
    )


# A distribution


@pytest.mark.parametrize("name", ROOMS)
@pytest.mark.parametrize("blank_order", BLANK_ORDERS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_all_fillings_of_all_lengths_sum_to_one(size, blank_order, name):
    """Law 3, the ends included; without their factors, or with fillings that break off unended, it does not hold."""
    row = list(ROOMS).index(name)
    for model, known_order in itertools.product(MODELS.values(), groups.KNOWN_ORDERS):
        every = outcomes(IDS[row].tolist(), ROOMS[name], size, blank_order, known_order)
        assert len(every[0]) == (1 + 4 + 16 + 64) * (1 + 4 + 16)
        total = scores(model, *every).exp().sum().item()
        assert abs(total - 1) <= laws.EXACT, f"the probabilities sum to {total}"
    sequences, group_ids, known = every
    unended = scores(model, sequences, group_ids, known | (sequences == END))  # the end's factor is left out
    assert unended.exp().sum() > 1.01
    visible = torch.where(group_ids < 0, 1, group_ids)  # what is left of the room is seen, and predicted
    assert abs(scores(model, sequences, visible, known).exp().sum() - 1) > 0.01


@pytest.mark.parametrize("blank_order", BLANK_ORDERS)
@pytest.mark.parametrize("size", [1, 2])
def test_draws_follow_these_probabilities(size, blank_order):
    every = outcomes(IDS[0].tolist(), ROOMS["apart"], size, blank_order, "together")
    expected = scores(MODEL, *every).exp()
    cells = {
        (*row, *order): n
        for n, (row, order) in enumerate(zip(every[0].tolist(), every[1].sign().tolist(), strict=True))
    }

    def fit(**options) -> float:
        done = filled(size=size, blank_order=blank_order, copies=6000, ids=IDS[:1], number=BOTH[:1], **options)
        there = done.sequences.masked_fill(done.group_ids < 0, 0)
        found = torch.tensor([cells[(*row, *order)] for row, order in
                              zip(there.tolist(), done.group_ids.sign().tolist(), strict=True)])  # fmt: skip
        return laws.follows(torch.bincount(found, minlength=len(cells)), expected)

    assert fit() > 1e-3
    assert fit(temperature=0.5) < 1e-6
    # the mutant that has an end count for what was drawn on its left in the same step
    if size == 2:
        wrong = mutant(blanks, "self._place > self._first(ends)", "self._place > self._first(ends).clamp(max=3)")
        with pytest.raises((AssertionError, KeyError)):
            assert fit(rooms=wrong.Rooms) > 1e-3


# What is drawn, dropped and scored


def check(done, number, ids, model=MODEL) -> int:
    """One pass over the result has its scores; each room holds tokens, then an end if it is not full, then nothing."""
    with torch.no_grad():
        same(done.log_probs, objective.log_likelihood(model, done.sequences, done.group_ids, done.known, "token"))
    assert torch.equal(done.sequences[number == 0], ids[number == 0])
    there = (done.group_ids > 0) & ~done.known
    assert torch.equal(done.known, number == 0) and torch.equal(there, done.log_probs < 0)
    ended = 0
    for row, order, places in zip(done.sequences.tolist(), done.group_ids.tolist(), number.tolist(), strict=True):
        for room in set(places) - {0}:
            inside = [at for at, n in enumerate(places) if n == room]
            kept = [row[at] for at in inside if order[at] > 0]
            assert [order[at] > 0 for at in inside] == [n < len(kept) for n in range(len(inside))]
            assert END not in kept[:-1] and (len(kept) == len(inside) or kept[-1] == END)
            assert [order[at] for at in inside[: len(kept)]] == sorted(order[at] for at in inside[: len(kept)])
            ended += kept[-1] == END
    replay = done.trace.replay()
    assert torch.equal(replay.masked_fill(done.group_ids < 0, -1), replay), "what was dropped comes back"
    assert torch.equal(replay[done.group_ids >= 0], done.sequences[done.group_ids >= 0])
    dropped = [sorted(t for s in steps if s.action == "stop" for t in s.positions) for steps in done.trace.steps]
    assert dropped == [(order < 0).nonzero()[:, 0].tolist() for order in done.group_ids]
    written = [t for steps in done.trace.steps for s in steps if s.action == "commit" for t in s.positions]
    assert len(written) == there.sum()
    assert Trace.from_json(done.trace.to_json()).steps == done.trace.steps
    return ended


OPTIONS = [{}, {"temperature": 0}, {"temperature": 0.5, "top_k": 3}, {"top_p": 0.6}, {"repetition_penalty": 2.0},
           {"banned": [1, 2]}, {"banned": [END]}, {"least": 2}]  # fmt: skip


@st.composite
def rows_with_rooms(draw):
    """Tokens and rooms (B, T): a given token, then stretches that are given or rooms, in any order."""
    batch, ids, numbers = draw(st.integers(1, 3)), [], []
    for _ in range(batch):
        row = [0]
        for n, (before, room) in enumerate(
            draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), min_size=1, max_size=3)), start=1
        ):
            row += [0] * before + [n] * room
        numbers.append(row + [0] * draw(st.integers(0, 2)))
    width = max(map(len, numbers))
    number = torch.tensor([row + [0] * (width - len(row)) for row in numbers])
    ids = torch.randint(V - 1, number.shape, generator=generator(draw(st.integers(0, 2**31))))
    return ids, number


@settings(max_examples=60, deadline=None)
@given(
    rows=rows_with_rooms(),
    size=st.integers(1, 4),
    blank_order=st.sampled_from(BLANK_ORDERS),
    known_order=st.sampled_from(groups.KNOWN_ORDERS),
    start=st.sampled_from(QUERY_STARTS),
    options=st.sampled_from(OPTIONS),
)
def test_any_rooms(rows, size, blank_order, known_order, start, options):
    ids, number = rows
    model = MODELS[start]
    how = dict(ids=ids, number=number, size=size, blank_order=blank_order, known_order=known_order, **options)
    ended = check(done := filled(model, **how), number, ids, model)
    if options.get("banned") == [END]:
        assert ended == 0 and (done.log_probs < 0).sum() == (number > 0).sum()
    # law 4, step by step
    without = filled(model, use_cache=False, **how)
    assert torch.equal(done.sequences, without.sequences) and torch.equal(done.group_ids, without.group_ids)
    same(done.log_probs, without.log_probs)
    # what stands in the rooms before, and what is left of them after, is never read
    other = filled(model, **{**how, "ids": torch.where(number > 0, 99, ids)})
    assert torch.equal(other.sequences, done.sequences) and torch.equal(other.log_probs, done.log_probs)
    behind = torch.where(done.group_ids < 0, (done.sequences + 1) % V, done.sequences)
    with torch.no_grad():
        again = objective.log_likelihood(model, behind, done.group_ids, done.known, "token")
        assert torch.equal(again, objective.log_likelihood(model, done.sequences, done.group_ids, done.known, "token"))


def test_each_step_is_one_full_pass():
    for size, start, blank_order in itertools.product((1, 2), QUERY_STARTS, BLANK_ORDERS):
        model = MODELS[start]
        laws.exact_steps(
            model,
            lambda use_cache, m=model, s=size, b=blank_order: filled(m, s, b, "left_to_right", 8, use_cache=use_cache),
        )


MUTANTS = {
    "the end is dropped, too": (blanks, "self._place > self._first(ends)", "self._place >= self._first(ends)"),
    "an end ends all rooms": (blanks, ").gather(1, self.number)", ")[:, 1:].amin(-1, keepdim=True)"),
    "what is behind stays open": (
        groupwise,
        "filling.open & rooms.behind(ask, drawn)",
        "ask & rooms.behind(ask, drawn)",
    ),
    "drawn with the end, it stays": (groupwise, "filling.open & rooms.behind", "filling.open & ~ask & rooms.behind"),
    "the end is drawn anywhere": (
        groupwise,
        "sampler(rooms.allowed(logits, ask), context)",
        "sampler(logits, context)",
    ),
    "it stays in the order": (groupwise, "masked_fill(dropped, groups.PADDING)", "masked_fill(dropped, 0)"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_checks_catch_mutants(name):
    module, old, new = MUTANTS[name]
    wrong = mutant(module, old, new)
    found = {"module": wrong} if module is groupwise else {"rooms": wrong.Rooms}
    with pytest.raises((AssertionError, IndexError, RuntimeError, ValueError)):
        for seed, size in itertools.product(range(10), (2, 3)):
            number = BOTH.repeat(8, 1)
            done = filled(size=size, copies=8, generator=generator(seed), least=1, **found)
            check(done, number, IDS.repeat(8, 1))
            assert ((done.sequences == END) & (done.group_ids > 0)).sum() == (
                (done.sequences == END) & (number > 0) & (done.group_ids > 0)
            ).sum()
            for room in (1, 2):  # at least one token
                first = (number == room).long().argmax(-1, keepdim=True)
                assert (done.sequences.gather(1, first) != END).all()


def loving(*ids: int, vocab_size: int = V):
    """A model that wants nothing but the tokens ``ids``, the first most of all."""
    model = laws.strong_model(**{**SMALL, "vocab_size": vocab_size})
    return laws.loving(model, dict(zip(ids, range(len(ids), 0, -1), strict=True)))


def test_the_end_is_drawn_in_rooms_alone_and_not_before_the_least():
    model, number = loving(END, 2), torch.tensor([[0, 0, 1, 1, 1, 1, 0, 0]])
    order = groups.infill(torch.tensor([[False, True, True, True, True, True, False, True]]))
    for least in range(6):
        done = generate(model, IDS[:1], order, rooms=Rooms(number, END, least), temperature=0)
        expected = [2] * min(least, 4) + [END] * (least < 4)
        assert done.sequences[0, 2 : 2 + len(expected)].tolist() == expected
        assert done.sequences[0, [1, 7]].tolist() == [2, 2], "no room"
        assert (done.group_ids[0, 2 + len(expected) : 6] == -1).all()
        assert done.trace.settings["end"] == END and done.trace.settings["least"] == least
        # the model's own: it would have ended at once
        assert done.log_probs[0, 2] == pytest.approx((-1.31326 if least else -0.31326), abs=1e-4)


def test_ends_are_no_repetition():
    """The second blank ends though the first has; tokens are repetitions in both."""
    model, number = loving(END, 2), torch.tensor([[0, 1, 1, 0, 2, 2, 0, 0]])
    ids, how = torch.zeros_like(number), {"temperature": 0, "repetition_penalty": 1e6}
    done = generate(model, ids, in_blanks(number), rooms=Rooms(number, END), **how)
    assert done.sequences[0, [1, 4]].tolist() == [END, END]
    wrong = mutant(groupwise, "context.masked_fill(context == rooms.end, -1)", "context")
    done = wrong.generate(model, ids, in_blanks(number), rooms=Rooms(number, END), **how)
    assert done.sequences[0, [1, 4]].tolist() == [END, 2]
    done = generate(loving(1, 2), ids, in_blanks(number), rooms=Rooms(number, END), **how)
    assert done.sequences[0, [1, 2]].tolist() == [1, 2], "another token loses where it is there already"


def test_passes_end_with_the_blanks():
    model, number = loving(END, 2), torch.tensor([[0, 1, 1, 1, 1, 0, 2, 2, 2, 2, 0]])
    ids = torch.zeros_like(number)
    for blank_order, passes in (("in_turn", 6), ("together", 3)):
        order = in_blanks(number, 1, blank_order=blank_order)
        done = generate(model, ids, order, rooms=Rooms(number, END, 2), temperature=0)
        assert done.trace.passes == [passes]
        assert [s.action for s in done.trace.steps[0]].count("stop") == {"in_turn": 2, "together": 1}[blank_order]
    assert done.group_ids.tolist() == [[0, 1, 2, 3, -1, 0, 1, 2, 3, -1, 0]]


# Groups


@settings(max_examples=60, deadline=None)
@given(rows_with_rooms(), st.integers(1, 5), st.sampled_from(["left_to_right", "strided"]))
def test_groups_of_blanks(rows, size, order):
    """Each blank alone is ``groups.infill``; in turn they follow each other, together they begin as one."""
    _, number = rows
    in_turn, together = (in_blanks(number, size, order, way) for way in BLANK_ORDERS)
    for row, turn, joint in zip(number, in_turn, together, strict=True):
        before = 0
        for blank in range(1, int(row.max()) + 1):
            inside = row == blank
            alone = groups.infill(inside, size, order)[inside]
            assert torch.equal(joint[inside], alone) and torch.equal(turn[inside], alone + before)
            before += int(alone.max())
    assert (in_turn[number == 0] == 0).all() and (together[number == 0] == 0).all()


BAD = {
    "no tensor": ({"number": [[1]]}, TypeError, "number must be an int64 tensor, got list"),
    "booleans": ({"number": BOTH > 0}, TypeError, "number must be an int64 tensor, got torch.bool"),
    "another shape": ({"number": BOTH[:1]}, ValueError, r"number has shape \(1, 8\) but group_ids has \(2, 8\)"),
    "a negative room": ({"number": BOTH - 1}, ValueError, "number holds -1; allowed are 0"),
    "a given token": ({"number": BOTH.clamp(min=1)}, ValueError, "a room holds a position that is not predicted"),
    "a gap": ({"number": BOTH.clamp(max=1)}, ValueError, "a room has a gap; number each"),
    "from right to left": ({"order": -1}, ValueError, "a room is not filled from left to right"),
    "no token": ({"end": V}, ValueError, "end must be a token id, 0 .. 4; got 5"),
    "a switch": ({"end": True}, ValueError, "end must be a token id"),
    "a negative least": ({"least": -1}, ValueError, "least must be an integer, at least 0"),
    "nothing left": ({"banned": [0, 1, 2, 3]}, ValueError, "banned and end hold the whole vocabulary"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rooms_before_any_pass(name, monkeypatch):
    changes, error, message = BAD[name]
    monkeypatch.setattr(MODEL.model, "forward", lambda **_: pytest.fail("the model was run"))
    order = in_blanks(BOTH)
    order = order if changes.get("order", 1) > 0 else torch.where(order > 0, 9 - order, 0)
    rooms = Rooms(changes.get("number", BOTH), changes.get("end", END), changes.get("least", 0))
    with pytest.raises(error, match=message):
        generate(MODEL, IDS, order, rooms=rooms, banned=changes.get("banned", ()))


# Texts


def words() -> PreTrainedTokenizerFast:
    """A tokenizer of a few words, one token each, spaces included."""
    vocabulary = {token: n for n, token in enumerate(["<s>", "a", "▁a", "▁b", "<end>", "<unk>"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    tokenizer.add_special_tokens(["<s>", "<end>", "<unk>"])
    names = {"bos_token": "<s>", "eos_token": "<end>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


WORDS = words()
TEXT = "a b ____ a____ b"


READERS = {s: laws.in_double(laws.strong_model(query_start=s, **{**SMALL, "vocab_size": 6})) for s in QUERY_STARTS}


def ending(model, end: int | None = END):
    """The model, told that it has a token that ends blanks; the fixture takes it back."""
    model.config.empty_token_id = end
    return model


@pytest.fixture
def model(request):
    found = ending(READERS[getattr(request, "param", "vector")])
    yield found
    found.config.empty_token_id = None


def infill(model, text=TEXT, **options) -> decode.Infilling:
    return decode.infill(model, WORDS, text, **{"generator": generator(), **options})


@pytest.mark.parametrize("model", QUERY_STARTS, indirect=True)
@pytest.mark.parametrize("blank_order", BLANK_ORDERS)
@pytest.mark.parametrize("size", [1, 2])
def test_infill_ends_its_blanks_and_knows_their_probability(model, size, blank_order):
    ended, read_back = set(), 0
    for seed in range(12):
        how = {"most": [3, 2], "size": size, "blank_order": blank_order}
        out = infill(model, generator=generator(seed), least=0, **how)
        with torch.no_grad():
            terms = objective.log_likelihood(model, out.sequences, out.group_ids, out.known, "token")
            same(out.log_probs, terms)
            tokens = [[t for t, g in zip(out.sequences[0, at].tolist(), out.group_ids[0, at].tolist(), strict=True)
                       if g > 0 and t != END] for at in (slice(3, 6), slice(7, 9))]  # fmt: skip
            score = decode.infill_log_likelihood(model, WORDS, TEXT, tokens, **how)
            same(score, out.log_probs.sum())
            if [encode_behind(WORDS, blank) for blank in out.blanks] == tokens:
                assert decode.infill_log_likelihood(model, WORDS, TEXT, out.blanks, **how) == score
                read_back += 1
        assert out.blanks == tuple(WORDS.decode(t, skip_special_tokens=True) for t in tokens)
        assert out.ended == tuple(END in out.sequences[0, at].tolist() for at in (slice(3, 6), slice(7, 9)))
        assert out.text == f"a b{out.blanks[0]} a{out.blanks[1]} b" and "<end>" not in out.text
        assert out.sequences.shape == (1, 10), "what stands behind a room keeps its place"
        ended.add(out.ended)
    assert len(ended) > 1 and read_back


@pytest.mark.parametrize("blank_order", BLANK_ORDERS)
def test_the_probability_of_all_texts_sums_to_one(model, blank_order):
    """Law 3 for ``infill_log_likelihood``: two blanks, with room for two tokens and one."""
    every = [[t[:-1] if t[-1:] == (END,) else t for t in contents(room, [0, 1, 2, 3, 5])] for room in (2, 1)]
    with torch.no_grad():
        total = sum(
            decode.infill_log_likelihood(model, WORDS, TEXT, pair, most=[2, 1], blank_order=blank_order).exp()
            for pair in itertools.product(*every)
        )
    same(total, torch.ones_like(total))


def test_the_probability_depends_on_the_room_and_has_a_gradient(model):
    near, far = (decode.infill_log_likelihood(model, WORDS, "a ____ b", [" b"], most=most) for most in (2, 9))
    assert near.shape == () and (near - far).abs() > 1e-3
    near.backward()
    assert model.model.query_embedding.grad.abs().sum() > 0
    model.zero_grad(set_to_none=True)


def test_what_decides_how_long_a_blank_is(model):
    """The model where it can; a search where it cannot; what the user says, always."""
    rooms = {"most": 5}
    assert "end" in infill(model, **rooms).trace.settings
    for order in ("random", "strided", "confidence", "entropy"):
        out = infill(model, order=order, **rooms)
        right = infill(model, order=order, tokens_per_blank="auto", candidates=(1, 2, 3, 4))
        assert "end" not in out.trace.settings and torch.equal(out.sequences, right.sequences)
        assert not any(out.ended) and (out.group_ids >= 0).all()
    out = infill(model, tokens_per_blank=3)
    assert "end" not in out.trace.settings and END not in out.sequences and (~out.known).sum() == 6
    ending(model, None)
    assert torch.equal(infill(model).sequences, infill(model, tokens_per_blank="auto").sequences)
    with pytest.raises(ValueError, match="this model has no token that ends a blank"):
        decode.infill_log_likelihood(model, WORDS, TEXT, ["", ""])


def test_how_much_room_there_is(model):
    limit = model.config.max_position_embeddings
    assert limit == 32
    # 24 tokens, or what the model takes; the text has five tokens with the start
    assert infill(model, banned=[END]).sequences.shape == (1, 5 + 2 * 13)
    assert infill(model, "a ____", banned=[END]).sequences.shape == (1, 2 + 24)
    assert infill(model, most=[4, 1], banned=[END]).sequences.shape == (1, 5 + 5)
    assert infill(model, most=[4, 23], banned=[END]).sequences.shape == (1, limit)
    for wrong, message in (
        ({"most": [4, 24]}, "text and blanks have 33 tokens, but the model takes 32; lower most or shorten"),
        ({"most": 0}, "most must be an integer, at least 1"),
        ({"most": [1]}, "most has 1 numbers, but the text has 2 blanks"),
        ({"most": 2, "least": 3}, "most is 2, but a blank has at least least=3 tokens"),
        ({"least": 14}, "text and blanks have 33 tokens, but the model takes 32; shorten the text"),
        ({"text": "____" + " a" * 40}, "but the model takes 32; shorten the text"),
        ({"most": 4, "tokens_per_blank": 3}, "most=4 is for blanks whose length is not said"),
        ({"least": 4, "tokens_per_blank": 3}, "tokens_per_blank is 3, but a blank has at least least=4"),
        ({"tokens_per_blank": "auto", "least": 5, "most": 5}, "none of candidates=.* from least=5 to most=5"),
        ({"least": -1}, "least must be an integer"),
        ({"blank_order": "random"}, "blank_order must be one of in_turn, together; got 'random'"),
        ({"blank_order": "in_turn", "order": "entropy"}, "the order 'entropy' goes from blank to blank"),
    ):
        with pytest.raises(ValueError, match=message):
            infill(model, **wrong)


def test_an_empty_blank_and_what_is_banned():
    model = ending(loving(END, 2, vocab_size=6))
    assert infill(model, "a ____ b", least=0, temperature=0).text == "a b"
    out = infill(model, "a ____ b", least=2, temperature=0)
    assert out.text == "a a a b" and out.ended == (True,) and out.trace.passes == [3]
    # the user's bans go before: no end is drawn, or no other token
    assert infill(model, "a ____ b", banned=[END], most=4, temperature=0).text == "a a a a a b"
    assert infill(model, "a ____ b", banned=[2], most=4, least=0, temperature=0).text == "a b"
    # no special token but the end, and that in no blank whose length is said
    model = ending(loving(0, END, 3, vocab_size=6))
    assert infill(model, "a ____ b", most=4, temperature=0).blanks == (" b",)
    assert infill(model, "a ____ b", tokens_per_blank=2, temperature=0).blanks == (" b b",)


def test_blanks_together_and_in_turn_where_lengths_are_said(model):
    ending(model, None)
    how = {"tokens_per_blank": [4, 3], "size": 2}
    in_turn, default, together = (infill(model, blank_order=b, **how) for b in ("in_turn", None, "together"))
    assert torch.equal(in_turn.sequences, default.sequences)
    assert in_turn.group_ids[0][~in_turn.known[0]].tolist() == [1, 1, 2, 2, 3, 3, 4]
    assert together.group_ids[0][~together.known[0]].tolist() == [1, 1, 2, 2, 1, 1, 2]
    assert (in_turn.trace.passes, together.trace.passes) == ([4], [2])
    strided = infill(model, blank_order="together", order="strided", **how)
    assert strided.group_ids[0][~strided.known[0]].tolist() == [1, 2, 1, 2, 1, 2, 1]
    for order in ("random", "confidence"):
        one, other = (infill(model, order=order, blank_order=b, **how) for b in (None, "together"))
        assert torch.equal(one.sequences, other.sequences)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blanks": ["a"]}, "blanks must hold what stands in each of the 2 blanks"),
        ({"blanks": "ab"}, "blanks must hold what stands in each of the 2 blanks"),
        ({"blanks": [[1] * 4, []]}, "blank 1 holds 4 tokens, but has room for 3; raise most"),
        ({"blanks": [[1], [END]]}, "blank 2 holds the token 4, which ends a blank"),
        ({"blanks": ["", ""], "size": 0}, "size must be an integer"),
        ({"blanks": ["", ""], "text": "a"}, "there is no blank in the text"),
        ({"blanks": [[7], []]}, "7"),
    ],
)
def test_scores_of_what_cannot_be(model, changes, message):
    with pytest.raises(ValueError, match=message):
        decode.infill_log_likelihood(model, WORDS, **{"text": TEXT, "most": 3, **changes})


def test_the_trace_has_the_end_and_what_it_left(model):
    stopped = 0
    for seed in range(8):
        out = infill(model, most=4, size=3, generator=generator(seed))
        trace = json.loads(out.trace.to_json(WORDS))
        stops = [step for step in trace["rows"][0]["steps"] if step["action"] == "stop"]
        assert sorted(t for s in stops for t in s["positions"]) == (out.group_ids[0] < 0).nonzero()[:, 0].tolist()
        assert not any(out.ended) or trace["texts"][str(END)] == "<end>"
        assert trace["settings"]["end"] == END and END not in trace["settings"]["banned"]
        stopped += len(stops)
    assert stopped


# Rewriting


def rewrite(model, text="a b a b", span=(4, 5), **options) -> list[decode.Alternative]:
    return decode.rewrite(model, WORDS, text, span, **{"generator": generator(), "top_p": None, **options})


@torch.no_grad()
def nats_of_the_whole(model, words: str, most: int, known_order: str) -> tuple[float, float]:
    """Oracle for "a b a b" with other words in place of the second "a": with the end, and that of the end alone."""
    before, behind = [0, 1, 3], [3]  # <s> a b, and b
    row = torch.tensor([before + [END] * most + behind])
    around = torch.tensor([[0, 1, 2] + [groups.PADDING] * most + [3]])
    tokens = [*encode_behind(WORDS, f" {words}"), END][:most]
    row[0, 3 : 3 + len(tokens)] = torch.tensor(tokens)
    inside = torch.tensor([[0] * 3 + [*range(1, len(tokens) + 1)] + [groups.PADDING] * (most - len(tokens)) + [0]])
    order, known = groups.read_given(inside, known_order)
    terms = objective.log_likelihood(model, row, order, known, reduction="token")
    end = terms[0, 2 + len(tokens)].item() if tokens[-1] == END else 0.0
    return (objective.log_likelihood(model, row, around) + terms.sum()).item(), end


@pytest.mark.parametrize("known_order", groups.KNOWN_ORDERS)
@pytest.mark.parametrize("model", QUERY_STARTS, indirect=True)
def test_rewrite_ranks_alternatives_with_their_ends(model, known_order):
    most, without, lengths = 4, [], set()
    for seed in range(4):
        made = rewrite(model, n=9, most=most, known_order=known_order, generator=generator(seed))
        found = [nats_of_the_whole(model, one.replacement, most, known_order) for one in made]
        assert [one.replacement for one in made if one.original] == ["a"] and len(made) > 3
        for one, (score, _) in zip(made, found, strict=True):
            assert one.text == f"a b {one.replacement} b" and abs(one.score - score) < 1e-9
            assert abs(one.gain - (one.score - next(o.score for o in made if o.original))) < 1e-12
        assert [one.score for one in made] == sorted((one.score for one in made), reverse=True)
        without.append([score - end for score, end in found])
        lengths |= {len(encode_behind(WORDS, f" {one.replacement}")) for one in made}
    assert len(lengths) > 2
    assert any(nats != sorted(nats, reverse=True) for nats in without), "the ends decide nothing here"


def test_an_alternative_of_unknown_length_is_a_filled_blank(model):
    """Greedily it is what ``infill`` puts there; the room, which the text behind stands behind, is the same."""
    texts = [" ".join(words) for words in itertools.product("ab", repeat=4)]
    new = 0
    for text in texts:
        filled = infill(model, f"{text[:3]} ____{text[5:]}", most=3, temperature=0)
        made = rewrite(model, text, (4, 5), n=3, most=3, temperature=0)
        assert {one.text for one in made} <= {text, filled.text} and len(made) <= 2
        new += len(made) == 2
    assert new


def test_who_ends_an_alternative(model, monkeypatch):
    """The model where it can; else there are lengths to try, as with ``tokens_per_blank="near"``."""
    rooms = []
    real = rewriting.fill_rows

    def spy(model, given, lengths, end, least, **how):
        rooms.append((set(itertools.chain(*lengths)), end))
        return real(model, given, lengths, end, least, **how)

    monkeypatch.setattr(rewriting, "fill_rows", spy)
    rewrite(model, n=1, tries=1)
    assert rooms[-1] == ({24}, END)
    rewrite(model, "a " + "b " * 17 + "a", (2, 37), n=1, tries=1)  # 18 tokens: half as many again
    assert rooms[-1] == ({27}, END)
    rewrite(model, "a " + "b " * 24 + "a", (2, 51), n=1, tries=1)  # 25 tokens: what the model takes
    assert rooms[-1] == ({30}, END)
    for how in ({"tokens_per_blank": "near"}, {"order": "strided"}, {"tokens_per_blank": 2}):
        rewrite(model, n=1, tries=1, **how)
        assert rooms[-1][0] <= {1, 2} and rooms[-1][1] is None
    strided = {"order": "strided", "n": 1, "tries": 2}
    assert rewrite(model, **strided) == rewrite(model, **strided, tokens_per_blank="near")
    ending(model, None)
    assert rewrite(model, n=1) == rewrite(model, n=1, tokens_per_blank="near")
    ending(model)
    for wrong, message in (
        ({"most": 0}, "most must be an integer, at least 1"),
        ({"most": 99}, "most is 99, but besides what stands around the span the model has room for 28 tokens"),
        ({"span": (2, 7), "most": 2}, "most is 2, but the span itself has 3 tokens"),
        ({"most": 3, "tokens_per_blank": 2}, "most=3 is for alternatives whose length is not said"),
    ):
        with pytest.raises(ValueError, match=message):
            rewrite(model, **wrong)


def test_an_alternative_that_ends_at_once_is_none():
    model = ending(loving(END, 2, vocab_size=6))
    assert {one.text for one in rewrite(model, "a b b", (2, 3), n=2, temperature=0)} == {"a b b", "a a b"}
    made = rewrite(model, "a a b", (2, 3), temperature=0, banned=[0, 1, 2])  # "b" is as unlikely as all that is left
    assert {one.text for one in made} == {"a a b", "a b b"}
