"""rewriting.py: what stands outside of the stretch stays, and anyone can compute the scores again."""

import itertools

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import same
from small_readers import BOS, LIMIT, MADE, MODEL, MODELS, SPECIAL, TOKENIZER, WARM, generator

from a3mini import A3ForCausalLM, decode, groups, objective, pretrained
from a3mini.decode import rewriting
from a3mini.decode.infilling import ORDERS
from a3mini.groups import KNOWN_ORDERS
from a3mini.train import tokens

TEXT = "The cat (sat on) the mat."
HALVES = [token for token in range(len(TOKENIZER)) if "\ufffd" in TOKENIZER.decode([token])]  # no characters


def rewrite(text: str = TEXT, span="sat on", model: A3ForCausalLM = MODEL, **options) -> list[decode.Alternative]:
    return decode.rewrite(
        model, TOKENIZER, text, span, **{"generator": generator(), "banned": [*SPECIAL, *HALVES], **options}
    )


def encode(text: str) -> list[int]:
    return tokens.encode(TOKENIZER, [text])[0]


@torch.no_grad()
def nats(text: str, model: A3ForCausalLM = MODEL, tokenizer=TOKENIZER) -> float:
    """Oracle: the text alone, encoded as one, from left to right."""
    ids = [tokenizer.bos_token_id, *tokens.encode(tokenizer, [text])[0]]
    return objective.log_likelihood(model, torch.tensor([ids]), groups.left_to_right(len(ids))[None]).item()


def check_list(made: list[decode.Alternative], text: str, start: int, end: int, n: int, score=nats) -> None:
    """What every answer must be; ``start`` and ``end`` without the spaces at the ends of the stretch."""
    assert [one.text for one in made if one.original] == [text]
    assert 1 <= len(made) <= n + 1 and len({one.replacement for one in made}) == len(made)
    before = score(text)
    for one in made:
        assert str(one) == one.text == text[:start] + one.replacement + text[end:]
        assert one.original == (one.replacement == text[start:end])
        assert one.replacement.strip() and (one.original or "\ufffd" not in one.replacement)
        assert abs(one.score - score(one.text)) < 1e-9 and abs(one.gain - (one.score - before)) < 1e-9
    assert [one.score for one in made] == sorted((one.score for one in made), reverse=True)


# --- what stands outside of the stretch, and the scores -----------------------------------------------------------

letters = st.characters(exclude_categories=["Cs"])


@settings(max_examples=60, deadline=None)
@given(
    parts=st.tuples(
        st.text(letters, max_size=6), st.text(letters, min_size=1, max_size=5), st.text(letters, max_size=6)),
    n=st.integers(1, 4),
    order=st.sampled_from(ORDERS),
    known_order=st.sampled_from(KNOWN_ORDERS),
    warm=st.booleans(),
)  # fmt: skip
def test_any_text(parts, n, order, known_order, warm):
    """Byte for byte, whatever the letters and the spaces are."""
    text, (start, end) = "".join(parts), (len(parts[0]), len(parts[0]) + len(parts[1]))
    model = WARM if warm else MODEL
    if not parts[1].strip():
        with pytest.raises(ValueError, match="has no words"):
            rewrite(text, (start, end))
        return
    made = rewrite(text, (start, end), model, n=n, order=order, known_order=known_order, tries=2)
    while text[start].isspace():
        start += 1
    while text[end - 1].isspace():
        end -= 1
    check_list(made, text, start, end, n, lambda text: nats(text, model))
    assert all(one.tokens == len(encode(one.text)) for one in made)


@pytest.mark.parametrize(
    "text, span", [(TEXT, "sat on"), ("Käthe says: 猫.  Why?", "says"), ("cat", "cat"), ("A  b", "b")]
)
@pytest.mark.parametrize("name", MADE)
def test_every_tokenizer(name, text, span):
    """WordPiece lowers case and loses spaces: what the user wrote stands there all the same."""
    tokenizer, model = MADE[name], MODELS[name]
    start = text.index(span)
    made = decode.rewrite(model, tokenizer, text, span, generator=generator(), top_p=None)
    check_list(made, text, start, start + len(span), 4, lambda text: nats(text, model, tokenizer))


def test_a_text_has_one_score_however_it_was_drawn(monkeypatch):
    """Drawn bytes may be fewer tokens when the text is encoded as one; a score of the drawn tokens would differ."""
    drawn = []
    real = rewriting.fill_rows

    def spy(*arguments, **how):
        done, number = real(*arguments, **how)
        drawn.extend(row[order >= 0].tolist() for row, order in zip(done.sequences, done.group_ids, strict=True))
        return done, number

    monkeypatch.setattr(rewriting, "fill_rows", spy)
    model = loving("c", "a", "t")
    made = {one.text: one.score for one in rewrite(model=model, n=12, top_p=None, tokens_per_blank=[2, 3])}
    found = {TOKENIZER.decode(row, skip_special_tokens=True): row for row in drawn}
    others = [text for text in made if text in found and found[text] != [BOS, *encode(text)]]
    assert any("at" in text[5:-9] for text in others)
    for text in others:
        row = torch.tensor([found[text]])
        with torch.no_grad():
            wrong = objective.log_likelihood(model, row, groups.left_to_right(row.shape[1])[None]).item()
        assert abs(nats(text, model) - made[text]) < 1e-9 < 0.1 < abs(wrong - made[text])


# --- ranking ----------------------------------------------------------------------------------------------------------


def test_the_two_ways_to_rank():
    """The same texts and scores; in the second the mean over tokens decides, and the order is another one."""
    total, mean = (rewrite(n=8, rank=rank, tokens_per_blank=[1, 2, 6]) for rank in rewriting.RANKS)
    assert set(total) == set(mean) and len(total) == 9
    assert [one.score for one in total] == sorted((one.score for one in total), reverse=True)
    assert [one.score / one.tokens for one in mean] == sorted((one.score / one.tokens for one in mean), reverse=True)
    assert total != mean


def test_the_compact_model_prefers_sense():
    model, tokenizer, _ = pretrained.compact_model()
    text = "Once upon a time, there was a spoon spoon named Lily."
    made = decode.rewrite(model, tokenizer, text, "spoon spoon", generator=generator())
    assert len(made) == 5 and made[-1].original and made[0].gain > 5
    words = "little girl"
    right = decode.rewrite(model, tokenizer, text.replace("spoon spoon", words), words, generator=generator())
    assert right[0].original or right[0].gain < 2


# --- drawing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known_order", KNOWN_ORDERS)
@pytest.mark.parametrize("order", ["left_to_right", "strided", "confidence"])
def test_an_alternative_is_a_filled_blank(order, known_order):
    """Oracle: ``infill``, one length after the other, greedily. In one batch, padded, the same comes out."""
    options = {"order": order, "known_order": known_order, "size": 2, "temperature": 0}
    options["banned"] = [*SPECIAL, *HALVES]
    text, span = "The (cat sat) on the mat.", "cat sat"
    lengths = [1, 2, 3, 5, 6]
    for model in (MODEL, WARM):
        made = rewrite(text, span, model, n=9, tokens_per_blank=lengths, **options)
        blank = text.replace(span, "____")
        filled = [decode.infill(model, TOKENIZER, blank, tokens_per_blank=n, **options) for n in lengths]
        assert {one.text for one in made} == {text, *map(str, filled)} and len(made) > 4


def test_the_generator_decides():
    assert rewrite() == rewrite(generator=generator())
    assert rewrite() != rewrite(generator=generator(1))
    assert rewrite(temperature=0) == rewrite(temperature=0, generator=generator(1))
    greedy = [rewrite(temperature=0, batch_size=size) for size in (1, 2, 32)]
    for other in greedy[1:]:
        assert [one.text for one in other] == [one.text for one in greedy[0]]
        same(*(torch.tensor([one.score for one in made]) for made in (other, greedy[0])), tolerance=1e-9)


def test_options_reach_the_draws():
    base = rewrite(n=6)
    options = {"temperature": 0.3, "top_k": 2, "top_p": 0.3, "repetition_penalty": 1.9, "order": "random", "size": 2}
    options |= {"known_order": "left_to_right", "tokens_per_blank": 4, "banned": [*SPECIAL, *HALVES, *range(60, 90)]}
    for name, value in options.items():
        assert rewrite(n=6, **{name: value}) != base, name
    assert MODEL.config.known_order == "together" and rewrite(n=6, known_order="together") == base


def spied(monkeypatch) -> list[int]:
    """How many tokens each row got that was drawn."""
    lengths = []
    real = rewriting.fill_rows

    def spy(model, given, rows, *end, **how):
        lengths.extend(length for (length,) in rows)
        return real(model, given, rows, *end, **how)

    monkeypatch.setattr(rewriting, "fill_rows", spy)
    return lengths


@pytest.mark.parametrize("old, near", [(1, [1, 2]), (2, [2, 3, 1]), (3, [3, 4, 2]), (6, [6, 7, 5, 8, 4, 9, 3])])
def test_near_lengths(old, near, monkeypatch):
    assert rewriting._lengths("near", old, 99) == near
    assert rewriting._lengths("near", old, 3) == [n for n in near if n <= 3]
    most = max(near) - 1
    assert rewriting._lengths(None, old, 99, most) == [n for n in near if n <= most]
    lengths = spied(monkeypatch)
    rewrite(span="cat", n=3)
    assert len(encode(" cat")) == 1 and lengths[:3] == [1, 2, 1]
    assert rewrite() == rewrite(tokens_per_blank="near")


def test_lengths_take_turns(monkeypatch):
    lengths = spied(monkeypatch)
    rewrite(n=5, tokens_per_blank=[3, 1], tries=3)
    assert lengths == list(itertools.islice(itertools.cycle([3, 1]), len(lengths)))
    lengths.clear()
    rewrite(n=2, tokens_per_blank=4)
    assert set(lengths) == {4}
    lengths.clear()
    rewrite(n=9, temperature=0, tokens_per_blank=[1, 2])
    assert lengths == [1, 2]  # a length has one greedy filling


def loving(*words: str) -> A3ForCausalLM:
    """A model that wants these tokens alone, all the same."""
    model = laws.strong_model(vocab_size=len(TOKENIZER), max_position_embeddings=LIMIT)
    return laws.loving(model, {encode(word)[0]: 0.0 for word in words})


def test_repetitions_are_merged_and_fewer_is_said_honestly(monkeypatch):
    """Three words can be drawn, one of which stands there already: after ``tries`` times ``n`` draws there are two."""
    lengths = spied(monkeypatch)
    made = rewrite("The cat sat", "cat", loving(" cat", " dog", " mat"), top_p=None, n=5, tokens_per_blank=1, tries=6)
    assert {one.replacement for one in made} == {"cat", "dog", "mat"} and len(lengths) == 30
    lengths.clear()
    made = rewrite("The cat sat", "cat", loving(" cat", " dog", " mat"), n=2, tokens_per_blank=1, tries=50)
    assert len(made) == 3 and 2 <= len(lengths) < 30  # it ends when there are enough


@pytest.mark.parametrize(
    "token, text, replacements",
    [
        ("at", "The dog ran", set()),  # it would be "Theat ran"
        ("at", "The (dog ran", {"at"}),
        (" cat", "The dog ran", {"cat"}),
        (" cat", "The  dog ran", {"cat"}),
        (" cat", "The (dog ran", {" cat"}),
        (" cat", "dog ran", {" cat"}),
        (" ", "The dog ran", set()),  # nothing but a space
        ("ä", "The (dog ran", set()),  # its first byte is half a character
    ],
)
def test_what_is_no_alternative(token, text, replacements):
    made = rewrite(text, "dog", loving(token), tokens_per_blank=1, banned=SPECIAL)
    assert {one.replacement for one in made if not one.original} == replacements


def test_special_tokens_are_never_drawn():
    """Nor what ends a blank early, nor numbers that stand for no token."""
    model = laws.strong_model(vocab_size=len(TOKENIZER) + 2, max_position_embeddings=LIMIT)
    model.config.empty_token_id = encode("a")[0]
    assert rewriting.never_drawn(model, TOKENIZER) == {*SPECIAL, encode("a")[0], len(TOKENIZER), len(TOKENIZER) + 1}
    blank = decode.infill(model, TOKENIZER, "The ____", tokens_per_blank=1)
    assert blank.trace.settings["banned"] == sorted(rewriting.never_drawn(model, TOKENIZER))
    one = loving(" cat", "</s>")
    made = decode.rewrite(one, TOKENIZER, "The dog", "dog", tokens_per_blank=1, generator=generator())
    assert {x.replacement for x in made} == {"dog", "cat"}


# --- the stretch ------------------------------------------------------------------------------------------------------


def test_spaces_at_the_ends_are_left_alone():
    for span in ("cat", " cat ", (3, 8), (4, 7), "cat "):
        made = rewrite("The cat sat", span)
        check_list(made, "The cat sat", 4, 7, 4)
        assert made == rewrite("The cat sat", "cat")
    check_list(rewrite("aa b", "b"), "aa b", 3, 4, 4)
    made = rewrite(" dog ran", "dog", loving(" cat"), tokens_per_blank=1)  # what begins a text has no space to bring
    assert {one.text for one in made} == {" dog ran", "  cat ran"}
    check_list(rewrite("c\n cat\t\n", "\n cat\t"), "c\n cat\t\n", 3, 6, 4)


def test_a_stretch_that_fills_the_text():
    check_list(rewrite("The cat", (0, 7)), "The cat", 0, 7, 4)


def test_the_longest_text_that_fits():
    text = "a" * (LIMIT - 1)
    room = LIMIT - 1 - len(encode(text))
    text += "!" * room
    assert len(encode(text)) == LIMIT - 1
    made = rewrite(text, (len(text) - 1, len(text)))
    assert all(one.tokens < LIMIT for one in made)
    with pytest.raises(ValueError, match="the text has 65 tokens, but the model takes 64; shorten the text"):
        rewrite(text + "!", (0, 1))
    with pytest.raises(ValueError, match="tokens_per_blank is 9, but .* room for 1 tokens"):
        rewrite(text, (len(text) - 1, len(text)), tokens_per_blank=[1, 9])


BAD = {
    "no text": ({"text": None}, TypeError, "text must be a string, got NoneType"),
    "not there": ({"span": "dog"}, ValueError, "the span 'dog' is not in the text"),
    "an empty span": ({"span": ""}, ValueError, "the span '' is not in the text"),
    "twice": ({"span": "at"}, ValueError, r"in the text 3 times, at the characters 5, 10, 22; .* span=\(5, 7\)"),
    "overlapping": ({"text": "aaa", "span": "aa"}, ValueError, "2 times, at the characters 0, 1"),
    "nothing": ({"span": (3, 3)}, ValueError, "the span '' has no words; .* decode.infill"),
    "a space": ({"span": (3, 4)}, ValueError, "the span ' ' has no words"),
    "backwards": ({"span": (5, 3)}, ValueError, "span must be .* <= 25, the text's length"),
    "from the end": ({"span": (-3, 3)}, ValueError, "span must be .* got"),
    "beyond": ({"span": (3, 26)}, ValueError, "span must be .* <= 25"),
    "half a character": ({"span": (0, 2.5)}, TypeError, "span must be two whole numbers, .* its end is 2.5"),
    "a switch": ({"span": (False, 3)}, TypeError, "its start is False"),
    "a number": ({"span": 3}, TypeError, "span must be words of the text, or the pair"),
    "three numbers": ({"span": (1, 2, 3)}, TypeError, "span must be words of the text, or the pair"),
    "none of them": ({"n": 0}, ValueError, "n must be an integer, at least 1; got 0"),
    "tries": ({"tries": 0}, ValueError, "tries must be an integer, at least 1"),
    "size": ({"size": 0}, ValueError, "size must be an integer, at least 1"),
    "batch": ({"batch_size": 0}, ValueError, "batch_size must be an integer, at least 1"),
    "order": ({"order": "spiral"}, ValueError, "order must be one of .*; got 'spiral'"),
    "rank": ({"rank": "length"}, ValueError, "rank must be one of nats, nats_per_token; got 'length'"),
    "known order": ({"known_order": "random"}, ValueError, "known_order must be one of together, left_to_right"),
    "auto": ({"tokens_per_blank": "auto"}, ValueError, "must be a number, several, or \"near\"; got 'auto'"),
    "no tokens": ({"tokens_per_blank": 0}, ValueError, "tokens_per_blank must be an integer, at least 1; got 0"),
    "no lengths": ({"tokens_per_blank": []}, ValueError, "tokens_per_blank has no numbers"),
    "most": ({"most": 0}, ValueError, "most must be an integer, at least 1; got 0"),
    "most of a length": ({"most": 4, "tokens_per_blank": 2}, ValueError, "most=4 is for alternatives whose length"),
    "far from near": ({"span": TEXT[:-1], "most": 2}, ValueError, "most is 2, but near the .* are .* or more; raise"),
    "too many": ({"tokens_per_blank": 99}, ValueError, "tokens_per_blank is 99, but .* room for"),
    "temperature": ({"temperature": -1.0}, ValueError, "temperature"),
    "top k": ({"top_k": 0}, ValueError, "top_k"),
    "top p": ({"top_p": 0.0}, ValueError, "top_p"),
    "penalty": ({"repetition_penalty": -1.0}, ValueError, "repetition_penalty"),
    "banned": ({"banned": [len(TOKENIZER)]}, ValueError, "banned holds"),
    "no Unicode": ({"text": "sat\udce9", "span": "sat"}, ValueError, r"holds '\\udce9'"),
}  # fmt: skip


@pytest.mark.parametrize("changes, error, message", BAD.values(), ids=BAD)
def test_bad_arguments_before_any_pass(changes, error, message, monkeypatch):
    monkeypatch.setattr(MODEL.model, "forward", lambda **_: pytest.fail("the model was run"))
    with pytest.raises(error, match=message):
        rewrite(**changes)


def test_a_tokenizer_of_another_model():
    for call in (
        lambda model: decode.rewrite(model, TOKENIZER, "a b", "b"),
        lambda m: decode.revise_text(m, TOKENIZER, "a"),
    ):
        with pytest.raises(ValueError, match="largest id is 283, but the model's vocab_size is 11"):
            call(laws.strong_model())


# --- revising a text --------------------------------------------------------------------------------------------------


def test_a_text_is_revised_as_its_tokens():
    ids = torch.tensor([[BOS, *encode(TEXT)]])
    order = groups.left_to_right(ids.shape[1])[None]
    more = {
        "temperature": 0.5,
        "top_p": 0.9,
        "repetition_penalty": 1.1,
        "keep_worse": True,
        "known_order": "left_to_right",
    }
    for options in ({"least_gain": 0.0}, {"reopen": 2, "rounds": 3, "least_gain": 0.5}, {"least_gain": 4.0, **more}):
        out = decode.revise_text(MODEL, TOKENIZER, TEXT, generator=generator(), **options)
        right = decode.revise(MODEL, ids, order, generator=generator(), banned=sorted(SPECIAL), **options)
        assert torch.equal(out.sequences, right.sequences) and out.trace == right.trace
        assert out.changes == right.changes and out.changes[0]
        assert out.text == str(out) == TOKENIZER.decode(right.sequences[0], skip_special_tokens=True)
        assert list(out.lines) == right.report(TOKENIZER)
        assert not set(out.sequences[0, 1:].tolist()) & set(SPECIAL)
    free = decode.revise_text(MODEL, TOKENIZER, TEXT, banned=())
    assert free.trace.settings["banned"] == [] and free.trace.settings["least_gain"] == 4.0


@pytest.mark.parametrize("name", MADE)
def test_an_unchanged_text_comes_back_as_it_was(name):
    """Capitals and spaces too, which some tokenizers lose; a text at its best stays."""
    tokenizer = MADE[name]
    text = "  The  Cat\n"
    model = laws.strong_model(vocab_size=len(tokenizer), max_position_embeddings=LIMIT)
    with torch.no_grad():
        model.lm_head.weight.zero_()  # all tokens are alike: nothing is better
    out = decode.revise_text(model, tokenizer, text)
    assert out.text == text and out.changes == ((),) and out.lines == () and out.before == out.after


def test_a_planted_word_is_mended():
    model, tokenizer, _ = pretrained.compact_model()
    out = decode.revise_text(model, tokenizer, "He opened the song and went into the house.")
    assert out.text == "He opened the door and went into the house."
    assert [line.split("  ")[0] for line in out.lines] == ['"song" -> "door"']
    assert out.after.item() > out.before.item() + 5


@pytest.mark.parametrize(
    "text, options, error, message",
    [
        (None, {}, TypeError, "text must be a string, got NoneType"),
        ("", {}, ValueError, "the text is empty"),
        ("a" * 99, {}, ValueError, "the model takes 64; shorten the text"),
        ("a", {"rounds": 0}, ValueError, "rounds must be an integer"),
        ("a", {"known_order": "random"}, ValueError, "known_order must be one of"),
        ("a", {"spoon": 1}, TypeError, "spoon"),
    ],
)
def test_bad_texts_before_any_pass(text, options, error, message, monkeypatch):
    monkeypatch.setattr(MODEL.model, "forward", lambda **_: pytest.fail("the model was run"))
    with pytest.raises(error, match=message):
        decode.revise_text(MODEL, TOKENIZER, text, **options)
