"""infilling.py: every blank filled once and the rest kept, whatever the marker, the order and the lengths."""

import itertools

import laws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import same
from small_readers import BOS, LIMIT, MADE, MODEL, MODELS, SPECIAL, TOKENIZER, WARM, generator
from small_tokenizers import with_holes

from a3mini import A3ForCausalLM, decode, groups, objective, pretrained
from a3mini.decode import infilling
from a3mini.decode.infilling import CANDIDATES, ORDERS
from a3mini.groups import KNOWN_ORDERS
from a3mini.rows import QUERY_STARTS

# For lengths: a random model's shortest text is always its likeliest, unless some of its choices are nearly certain.
SHARP = laws.strong_model(vocab_size=len(TOKENIZER), max_position_embeddings=LIMIT)
with torch.no_grad():
    SHARP.lm_head.weight.mul_(8)
TWO = "The ____ sat on ____ mat."


def fill(text: str = TWO, model: A3ForCausalLM = MODEL, **options) -> decode.Infilling:
    return decode.infill(model, TOKENIZER, text, **{"tokens_per_blank": 3, "generator": generator(), **options})


def encode(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


def text_of(ids) -> str:
    return TOKENIZER.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def check_layout(out: decode.Infilling, kept: list[str], lengths: list[int]) -> None:
    """Start token, and the known parts at their places with blanks of the right lengths between them."""
    expected, unknown, blanks = [BOS], [False], []
    for number, part in enumerate(kept):
        if number:
            blanks.append(slice(len(expected), len(expected) + lengths[number - 1]))
            expected += [-1] * lengths[number - 1]
            unknown += [True] * lengths[number - 1]
        expected += encode(part)
        unknown += [False] * len(encode(part))
    sequence = out.sequences[0].tolist()
    assert out.sequences.shape == (1, len(expected))
    assert [token if not open_ else -1 for token, open_ in zip(sequence, unknown, strict=True)] == expected
    assert out.known[0].tolist() == [not open_ for open_ in unknown]
    assert ((out.log_probs[0] != 0) <= torch.tensor(unknown)).all()
    assert out.text == str(out) == text_of(sequence[1:])
    assert out.blanks == tuple(text_of(sequence[place]) for place in blanks)
    assert torch.equal(out.trace.replay(), out.sequences)
    committed = [t for step in out.trace.steps[0] for t in step.positions]
    assert sorted(committed) == [t for t, open_ in enumerate(unknown) if open_]  # each once


LAYOUTS = {
    "in the middle": ("The cat ____ on the mat.", ["The cat", " on the mat."]),
    "several": (TWO, ["The", " sat on", " mat."]),
    "at both ends": ("____ cat sat ____", ["", " cat sat", ""]),
    "everything": ("____", ["", ""]),
    "side by side": ("The ________ ran", ["The", "", " ran"]),
    "only a space between": ("____ ____", ["", "", ""]),
    "one underscore more": ("a _____ b", ["a", "_ b"]),
    "inside a word": ("the c____t", ["the c", "t"]),
    "several spaces": ("cat  ____  sat", ["cat", "  sat"]),
    "on a line of its own": ("The cat\n____\nThe dog", ["The cat\n", "\nThe dog"]),
    "other letters": ("Käthe ____ 猫 🐈____", ["Käthe", " 猫 🐈", ""]),
    "a space at the end": ("The ____ sat ", ["The", " sat "]),
}


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {}, {"order": "confidence", "size": 2}], ids=str)
@pytest.mark.parametrize("text, kept", LAYOUTS.values(), ids=LAYOUTS)
def test_each_blank_is_filled_once_and_the_rest_is_kept(text, kept, options):
    lengths = [3, 1, 2][: len(kept) - 1]
    out = fill(text, tokens_per_blank=lengths, **options)
    check_layout(out, kept, lengths)
    assert out.text.startswith(kept[0]) and out.text.endswith(kept[-1])


@pytest.mark.parametrize("blank", [" cat", "at", "t", "<blank>", "[?]", " ", "____", "<s>", "\n"])
def test_the_marker_is_cut_out_before_the_tokenizer_sees_it(blank):
    """Markers that the tokenizer would merge with their neighbours, split, or take for a special token."""
    text = f"The dog{blank}ran to{blank}the off"
    parts = [part.rstrip(" ") for part in text.split(blank)[:-1]] + text.split(blank)[-1:]
    out = fill(text, blank=blank, tokens_per_blank=1)
    check_layout(out, parts, [1] * (len(parts) - 1))


def test_a_marker_that_would_merge():
    """Otherwise the test above would show nothing: with its neighbours " cat" has other tokens than by itself."""
    assert encode("The cat sat") != encode("The c") + encode("at") + encode(" sat")


def test_lengths_of_blanks():
    for lengths in ([1, 5], (4, 2), 2):
        check_layout(
            fill(tokens_per_blank=lengths), ["The", " sat on", " mat."], [2, 2] if lengths == 2 else list(lengths)
        )
    out = fill(tokens_per_blank=[1, 5])
    assert out.trace.passes == [6] and fill(tokens_per_blank=[1, 5], size=4).trace.passes == [2]


@pytest.mark.parametrize("known_order", KNOWN_ORDERS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [1, 2, 9])
def test_scores_are_those_of_one_pass_over_the_result(order, known_order, size):
    for model in (MODEL, WARM):
        out = fill(model=model, order=order, known_order=known_order, size=size)
        scores = objective.log_likelihood(model, out.sequences, out.group_ids, out.known, reduction="token").detach()
        same(out.log_probs, scores.to(out.log_probs.dtype))
        passes = 2 * -(-3 // size) if order == "strided" else -(-6 // size)  # strided: one blank after the other
        assert out.trace.passes == [passes]


def test_strided_blanks_are_filled_far_apart():
    """Blanks of 5 and 3 tokens, two at a time: the first and the fourth of a blank, and so on; then the next blank."""
    out = fill(order="strided", size=2, tokens_per_blank=[5, 3])
    assert out.group_ids[0][~out.known[0]].tolist() == [1, 2, 3, 1, 2, 4, 5, 4]
    assert [len(step.positions) for step in out.trace.steps[0]] == [2, 2, 1, 2, 1]


@pytest.mark.parametrize("model", [MODEL, WARM], ids=QUERY_STARTS)
def test_auto_lengths_and_strided_blanks(model):
    """Rows of several lengths at once, with padding: the row that is kept is the row alone."""
    out = fill(model=model, order="strided", size=2, tokens_per_blank="auto", candidates=(1, 3, 4), temperature=0)
    assert len(out.blanks) == 2 and (out.group_ids >= 0).all()
    scores = objective.log_likelihood(model, out.sequences, out.group_ids, out.known, reduction="token").detach()
    same(out.log_probs, scores.to(out.log_probs.dtype))
    assert torch.equal(out.group_ids, groups.infill(~out.known, 2, "strided"))


@pytest.mark.parametrize("order", ORDERS)
def test_known_orders(order):
    """Together: one given group. Left to right: singletons, all before the first blank's token."""
    together, ordered = (fill(order=order, known_order=known_order) for known_order in KNOWN_ORDERS)
    known = together.known[0]
    assert (together.group_ids[0][known] == 0).all()
    there = ordered.group_ids[0][known].tolist()
    assert there == sorted(set(there)) and there[0] == 0
    assert ordered.group_ids[0][~known].min() > max(there)
    for out in (together, ordered):
        assert len(set(out.group_ids[0][~known].tolist())) == 6
    # the context is really read in another way
    assert (together.log_probs - ordered.log_probs).abs().max() > 0.01
    with torch.no_grad():
        other = objective.log_likelihood(MODEL, ordered.sequences, together.group_ids, reduction="token")
    assert (other - ordered.log_probs).abs().max() > 0.01


@pytest.mark.parametrize("known_order", KNOWN_ORDERS)
@pytest.mark.parametrize("order", ["confidence", "entropy"])
@pytest.mark.parametrize("size, limits", [
    (2, {}), (None, {}), (None, {"bound": 3.0, "apart": 2}), (3, {"threshold": 0.2, "window": 4}),
    (2, {"shortlist": 3}),
])  # fmt: skip
def test_the_models_own_order_is_resample(order, known_order, size, limits):
    out = fill(order=order, known_order=known_order, size=size, top_p=0.9, **limits)
    position = torch.arange(out.sequences.shape[1])[None]
    right = decode.resample(
        MODEL, out.sequences, ~out.known, size, order, top_p=0.9, generator=generator(), banned=SPECIAL,
        known_groups=position if known_order == "left_to_right" else None, **limits,
    )  # fmt: skip
    assert torch.equal(out.sequences, right.sequences) and torch.equal(out.group_ids, right.group_ids)
    same(out.log_probs, right.log_probs)
    assert out.trace.steps == right.trace.steps and out.trace.steps[0][0].considered


@pytest.mark.parametrize("order", groups.INFILL_ORDERS)
def test_a_fixed_order_is_generate(order):
    source = generator()
    out = fill(order=order, size=2, temperature=0.7, top_k=5, repetition_penalty=1.3)
    group_ids = groups.infill(~out.known, 2, order, generator=source)
    right = decode.generate(
        MODEL, out.sequences, group_ids, None, 0.7, 5, generator=source, repetition_penalty=1.3, banned=SPECIAL
    )
    assert torch.equal(out.group_ids, group_ids) and torch.equal(out.sequences, right.sequences)
    same(out.log_probs, right.log_probs)
    assert len(fill(runners_up=5).trace.steps[0][0].runners_up[0]) == 5


def test_the_generator_decides_and_the_cache_does_not():
    for order in ORDERS:
        first, second, other = (fill(order=order, generator=generator(n)) for n in (1, 1, 2))
        assert first.text == second.text and torch.equal(first.sequences, second.sequences)
        assert first.trace == second.trace and not torch.equal(first.sequences, other.sequences)
        without = fill(order=order, generator=generator(1), use_cache=False)
        assert torch.equal(first.sequences, without.sequences)
        same(first.log_probs, without.log_probs)
    assert fill(temperature=0).text == fill(temperature=0, generator=generator(5)).text


def loving(*ids: int) -> A3ForCausalLM:
    """A model that wants nothing but the tokens ``ids``, the first most of all."""
    model = laws.strong_model(vocab_size=len(TOKENIZER) + 2, max_position_embeddings=LIMIT)
    return laws.loving(model, dict(zip(ids, range(len(ids), 0, -1), strict=True)))


def test_special_tokens_are_never_drawn():
    """Nor numbers beyond the tokenizer, unless the caller says so."""
    word = encode(" cat")[0]
    model = loving(len(TOKENIZER) + 1, *SPECIAL, word)
    options = {"tokens_per_blank": 2, "generator": generator()}
    for order in ORDERS:
        out = decode.infill(model, TOKENIZER, TWO, order=order, **options)
        assert set(out.sequences[~out.known].tolist()) == {word} and out.blanks == (text_of([word] * 2),) * 2
    model = loving(*SPECIAL, word)
    out = decode.infill(model, TOKENIZER, TWO, banned=(), temperature=0, **options)
    assert set(out.sequences[~out.known].tolist()) == {SPECIAL[0]}
    assert out.blanks == ("", "") and out.text == "The sat on mat."  # they are not text
    out = decode.infill(loving(word, encode("a")[0]), TOKENIZER, TWO, banned=[word], temperature=0, **options)
    assert out.blanks == ("aa", "aa")


def test_the_token_that_ends_a_blank_is_never_drawn():
    """A blank is filled to its last token; what would end it early, where a training had that, has no place in it."""
    word, nothing = encode(" cat")[0], encode("a")[0]
    model = loving(nothing, word)
    assert decode.infill(model, TOKENIZER, TWO, tokens_per_blank=2, temperature=0).blanks == ("aa", "aa")
    model.config.empty_token_id = nothing
    for order in ORDERS:
        out = decode.infill(model, TOKENIZER, TWO, tokens_per_blank=2, order=order, generator=generator())
        assert out.blanks == (text_of([word] * 2),) * 2
    assert type(model.config).from_dict(model.config.to_dict()).empty_token_id == nothing


@pytest.mark.parametrize("written", ["<s>", "</s>", "<pad>"])
def test_control_tokens_in_the_text_are_text(written):
    text = f"The{written} cat ____{written} mat{written}"
    out = fill(text)
    assert not set(SPECIAL) & set(out.sequences[0, 1:].tolist())
    assert out.text == f"The{written} cat{out.blanks[0]}{written} mat{written}" == text_of(out.sequences[0, 1:])


# --- every kind of tokenizer ------------------------------------------------------------------------------------

ANY = {
    **{name: text for name, (text, _) in LAYOUTS.items()},
    "emoji at a blank": "The 🐈____🐈 sat",
    "spaces at both ends": "  ____ sat  ",
    "two lines": "The cat\n\n____\n and",
    "before a word": "____the mat",
    "punctuation": "The cat ____, and ____.",
    "capitals": "THE ____ Sat",
}


@pytest.mark.parametrize("order", ["left_to_right", "entropy"])
@pytest.mark.parametrize("text", ANY.values(), ids=ANY)
@pytest.mark.parametrize("name", MADE)
def test_the_users_words_come_back_from_every_tokenizer(name, text, order):
    """WordPiece lowers case and loses spaces, another has no emoji: what the user wrote stands there all the same."""
    tokenizer = MADE[name]
    out = decode.infill(MODELS[name], tokenizer, text, tokens_per_blank=2, order=order, generator=generator())
    parts = text.split("____")
    kept = [part.rstrip(" ") for part in parts[:-1]] + parts[-1:]
    pieces = [piece for pair in itertools.zip_longest(kept, out.blanks, fillvalue="") for piece in pair]
    if "________" not in text.replace(" ", ""):  # a character may have bytes in two blanks side by side
        assert out.text == "".join(pieces)
    assert out.text.startswith(kept[0]) and out.text.endswith(kept[-1])
    assert (~out.known).sum() == 2 * len(out.blanks) and out.sequences[0, 0] == tokenizer.bos_token_id
    assert not set(tokenizer.all_special_ids) - {tokenizer.unk_token_id} & set(out.sequences[0, 1:].tolist())


@pytest.mark.parametrize("name", MADE)
def test_known_tokens_are_those_of_the_whole_text(name):
    """Oracle: a word stands where the blank is, and the tokens of the whole are cut."""
    tokenizer = MADE[name]
    for text, word in (("The cat____ on the mat.", " sat"), ("____ cat sat, and the", "The"), ("The ____ ran", "dog")):
        out = decode.infill(MODELS[name], tokenizer, text, tokens_per_blank=1, generator=generator())
        before, behind = text.split("____")
        whole = tokenizer.encode(text.replace("____", word), add_special_tokens=False)
        known = out.sequences[0, 1:][out.known[0, 1:]].tolist()
        first = tokenizer.encode(before.rstrip(" "), add_special_tokens=False)
        assert known[: len(first)] == first == whole[: len(first)]
        last = known[len(first) :]
        assert last == whole[len(whole) - len(last) :] and len(last) < len(whole) - len(first)
        assert tokenizer.decode(last).strip() == behind.strip()


def wanting(name: str, *tokens: str) -> tuple:
    """A model that fills these tokens in, and its tokenizer."""
    tokenizer = MADE[name]
    ids = tokenizer.convert_tokens_to_ids(list(tokens))
    assert tokenizer.unk_token_id not in ids or tokenizer.unk_token_id is None
    model = laws.strong_model(vocab_size=len(tokenizer), max_position_embeddings=LIMIT)
    model.lm_head = torch.nn.Linear(model.config.hidden_size, len(tokenizer)).double()
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.bias.fill_(-50.0)
        model.lm_head.bias[ids] = 0.0
    return model, tokenizer


@pytest.mark.parametrize(
    ("name", "token", "text", "filled"),
    [
        ("byte_level", "Ġcat", "The ____ sat", "The cat sat"),
        ("llama_2", "▁cat", "The ____ sat", "The cat sat"),
        ("sentence_piece", "▁cat", "The ____ sat", "The cat sat"),
        ("word_piece", "cat", "The  ____  Sat", "The cat  Sat"),
        ("byte_level", "at", "The c____\nsat", "The cat\nsat"),
        ("llama_2", "at", "The c____\nsat", "The cat\nsat"),
        ("sentence_piece", "at", "The c____\nsat", "The cat\nsat"),
        ("word_piece", "##ys", "He sa____: 🐈", "He says: 🐈"),
        ("llama_2", "▁The", "____ cat", "The cat"),
        ("sentence_piece", "▁cat", "____s ran", "cats ran"),
        ("word_piece", "cat", "____s ran", "cats ran"),
        ("llama_2", "<0xF0>", "A 🐈____🐈", "A 🐈\ufffd🐈"),
    ],
)
def test_a_blank_brings_its_own_space(name, token, text, filled):
    out = decode.infill(*wanting(name, token), text, tokens_per_blank=1, temperature=0)
    assert str(out) == filled


def test_a_character_may_have_bytes_in_two_blanks():
    tokenizer = MADE["llama_2"]
    ids = tokenizer.convert_tokens_to_ids(["<0xC3>", "<0xA4>"])
    assert infilling._put_together(tokenizer, ["K", "", "the"], [ids[:1], ids[1:]]) == "Käthe"
    assert infilling._put_together(tokenizer, ["K", "-", "the"], [ids[:1], ids[1:]]) == "K\ufffd-\ufffdthe"


def test_ids_that_are_left_out_are_never_drawn():
    tokenizer = with_holes()
    with pytest.raises(ValueError, match="largest id is 314, but the model's vocab_size is 300"):
        decode.infill(laws.strong_model(vocab_size=300), tokenizer, "The ____")
    model = laws.strong_model(vocab_size=317, max_position_embeddings=LIMIT)
    out = decode.infill(
        model, tokenizer, f"The ____{tokenizer.decode([314])} sat", tokens_per_blank=40, generator=generator()
    )
    assert out.trace.settings["banned"] == [0, 1, 2, *range(285, 300), 315, 316]
    drawn = out.sequences[~out.known].tolist()
    assert not set(drawn) & set(out.trace.settings["banned"]) and max(drawn) > 299 and 314 in out.sequences


def test_the_trace_can_do_without_the_choices():
    whole, slim = (fill(order="confidence", considered=considered) for considered in (True, False))
    assert whole.trace.steps[0][0].considered and slim.trace.steps[0][0].considered is None
    assert whole.text == slim.text and fill(considered=False).trace == fill().trace


# --- how long a blank is ----------------------------------------------------------------------------------------


def whole_text(out: decode.Generation) -> float:
    """Left-to-right log-likelihood of the text after its start token, nats."""
    order = groups.left_to_right(out.sequences.shape[1])[None]
    with torch.no_grad():
        return objective.log_likelihood(SHARP, out.sequences, order).item()


def best_lengths(text: str, candidates, **options) -> list[int]:
    """Oracle: blank after blank, the length whose whole text is the likeliest; a loop over fixed lengths."""
    lengths = [sorted(candidates)[len(candidates) // 2]] * text.count("____")
    for number in range(len(lengths)):
        score = {}
        for length in candidates:
            lengths[number] = length
            score[length] = whole_text(fill(text, SHARP, tokens_per_blank=lengths, **options))
        lengths[number] = max(score, key=score.get)
    return lengths


def chosen(out: decode.Infilling) -> list[int]:
    """The lengths of the blanks; none are side by side."""
    runs = "".join("?" if open_ else " " for open_ in (~out.known[0]).tolist()).split()
    return [len(run) for run in runs]


@pytest.mark.parametrize("known_order", KNOWN_ORDERS)
@pytest.mark.parametrize("order", ["left_to_right", "confidence"])
@pytest.mark.parametrize("text", ["The cat ____ on the mat.", TWO, "____ ran to the ____, and ____"])
def test_auto_takes_the_likeliest_length(text, order, known_order):
    options = {"order": order, "known_order": known_order, "temperature": 0}
    for candidates in ((1, 2, 3), (4, 2, 6), (5,)):
        expected = best_lengths(text, candidates, **options)
        out = fill(text, SHARP, tokens_per_blank="auto", candidates=candidates, **options)
        assert chosen(out) == expected
        right = fill(text, SHARP, tokens_per_blank=expected, **options)
        assert out.text == right.text and out.blanks == right.blanks
        assert torch.equal(out.sequences, right.sequences) and torch.equal(out.group_ids, right.group_ids)
        assert torch.equal(out.known, right.known) and out.trace.length == right.trace.length
        assert torch.equal(out.trace.replay(), out.sequences)
        scores = objective.log_likelihood(SHARP, out.sequences, out.group_ids, out.known, reduction="token").detach()
        same(out.log_probs, scores.to(out.log_probs.dtype))


RULES = {
    "the likeliest blank alone": lambda model, done: done.log_probs.sum(-1),
    "the likeliest token on average": lambda model, done: left_to_right(model, done) / (done.group_ids >= 0).sum(-1),
    "the shortest": lambda model, done: -(done.group_ids > 0).sum(-1),
}
left_to_right = infilling._left_to_right


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_other_rules_would_choose_other_lengths(rule, monkeypatch):
    """Otherwise the test above would show little: the right lengths are not those of a simpler rule."""
    words = ["The", "cat", "sat", "on", "the", "mat", "dog", "ran", "off", "to", "and"]
    texts = [f"{first} ____ {second}" for first, second in itertools.pairwise(words)]
    options = {"candidates": (4, 2, 6), "temperature": 0}
    expected = [best_lengths(text, **options) for text in texts]
    assert [chosen(fill(text, SHARP, tokens_per_blank="auto", **options)) for text in texts] == expected
    monkeypatch.setattr(infilling, "_left_to_right", rule)
    assert [chosen(fill(text, SHARP, tokens_per_blank="auto", **options)) for text in texts] != expected


def test_auto_is_repeatable():
    first, second = (fill(TWO, SHARP, tokens_per_blank="auto", generator=generator(4)) for _ in range(2))
    assert torch.equal(first.sequences, second.sequences) and first.trace == second.trace
    assert set(chosen(first)) <= set(CANDIDATES)


def test_auto_drops_lengths_that_do_not_fit():
    text = "____" + "a" * (LIMIT - 4)  # with the start token there is room for 3
    room = LIMIT - 1 - len(encode("a" * (LIMIT - 4)))
    assert room == 3
    out = fill(text, SHARP, tokens_per_blank="auto", candidates=(2, 3, 4, 50), temperature=0)
    assert chosen(out) == [max((2, 3), key=lambda n: whole_text(fill(text, SHARP, tokens_per_blank=n, temperature=0)))]
    two = f"____{'a' * (LIMIT - 4)}____"  # 2 and 1, or 1 and 2, or 1 and 1
    assert chosen(fill(two, SHARP, tokens_per_blank="auto")) in ([1, 1], [1, 2], [2, 1])
    with pytest.raises(ValueError, match="2 blanks of at least 2 tokens do not fit: .* room for 3 tokens; shorten"):
        fill(two, SHARP, tokens_per_blank="auto", candidates=(2, 3))
    with pytest.raises(ValueError, match="1 blanks? of at least 1 tokens? .* room for 0 tokens"):
        fill("____" + "a" * 99, tokens_per_blank="auto")


def test_the_longest_text_that_fits():
    text = "____" + "a" * (LIMIT - 4)
    assert fill(text, tokens_per_blank=3).sequences.shape == (1, LIMIT)
    with pytest.raises(ValueError, match="65 tokens, but the model takes 64; shorten the text"):
        fill(text, tokens_per_blank=4)


# --- bad input --------------------------------------------------------------------------------------------------

BAD = {
    "no blank": ({"text": "nothing is missing"}, ValueError, "there is no blank in the text; write '____'"),
    "an empty text": ({"text": ""}, ValueError, "there is no blank in the text"),
    "no text": ({"text": None}, TypeError, "must be strings, got NoneType and str"),
    "tokens for a text": ({"text": [1, 2]}, TypeError, "must be strings, got list"),
    "a number for a blank": ({"blank": 4}, TypeError, "must be strings, got str and int"),
    "an empty marker": ({"blank": ""}, ValueError, "blank is the empty string"),
    "another marker": ({"blank": "[?]"}, ValueError, r"there is no blank in the text; write '\[\?\]'"),
    "more blanks than places": ({"text": "____ " * 99, "tokens_per_blank": 1}, ValueError, "the model takes 64"),
    "a long text": ({"text": "____" + "a" * 99}, ValueError, "the model takes 64; shorten the text"),
    "no tokens": ({"tokens_per_blank": 0}, ValueError, "tokens_per_blank must be an integer, at least 1; got 0"),
    "half a token": ({"tokens_per_blank": 1.5}, ValueError, "tokens_per_blank must be an integer"),
    "a switch": ({"tokens_per_blank": True}, ValueError, "tokens_per_blank must be an integer"),
    "no tokens for one": ({"tokens_per_blank": [2, 0]}, ValueError, "tokens_per_blank must be an integer"),
    "too many lengths": ({"tokens_per_blank": [1, 2, 3]}, ValueError, "has 3 numbers, but the text has 2 blanks"),
    "no lengths": ({"tokens_per_blank": []}, ValueError, "has 0 numbers, but the text has 2 blanks"),
    "another word": ({"tokens_per_blank": "many"}, ValueError, "one number for each blank, or \"auto\"; got 'many'"),
    "no candidates": ({"tokens_per_blank": "auto", "candidates": ()}, ValueError, "candidates must be lengths"),
    "a candidate of zero": ({"tokens_per_blank": "auto", "candidates": (2, 0)}, ValueError, "each of candidates"),
    "half a candidate": ({"tokens_per_blank": "auto", "candidates": (1.5,)}, ValueError, "each of candidates"),
    "order": ({"order": "spiral"}, ValueError, "order must be one of left_to_right, random, .*; got 'spiral'"),
    "known order": ({"known_order": "random"}, ValueError, "known_order must be one of together, left_to_right"),
    "size": ({"size": 0}, ValueError, "size must be an integer, at least 1"),
    "a bound": ({"order": "left_to_right", "bound": 1.0}, ValueError, "order 'left_to_right' is fixed before: bound"),
    "a window": ({"order": "strided", "window": 4}, ValueError, "order 'strided' is fixed before"),
    "no bound": ({"order": "entropy", "bound": -1.0}, ValueError, "bound must be 0 or a positive number of nats"),
    "temperature": ({"temperature": -1.0}, ValueError, "temperature"),
    "top k": ({"top_k": 0}, ValueError, "top_k"),
    "top p": ({"top_p": 0.0}, ValueError, "top_p"),
    "penalty": ({"repetition_penalty": -1.0}, ValueError, "repetition_penalty"),
    "banned": ({"banned": [len(TOKENIZER)]}, ValueError, "banned holds"),
    "half a character": ({"text": "The t\udce9 ____"}, ValueError, r"holds '\\udce9' at character 6"),
}


@pytest.mark.parametrize("changes, error, message", BAD.values(), ids=BAD)
@pytest.mark.parametrize("order", ["left_to_right", "entropy"])
def test_bad_arguments_before_any_pass(changes, error, message, order, monkeypatch):
    monkeypatch.setattr(MODEL.model, "forward", lambda **_: pytest.fail("the model was run"))
    with pytest.raises(error, match=message):
        fill(**{"order": order, **changes})


def test_a_tokenizer_of_another_model():
    model = laws.strong_model()
    with pytest.raises(ValueError, match="largest id is 283, but the model's vocab_size is 11"):
        decode.infill(model, TOKENIZER, "a ____")


# --- any text, and a real model ---------------------------------------------------------------------------------


letters = st.characters(exclude_characters="<_", exclude_categories=["Cs"])  # no marker, no special token


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.text(letters, max_size=5), min_size=2, max_size=4),
    length=st.integers(1, 3),
    order=st.sampled_from(ORDERS),
    known_order=st.sampled_from(KNOWN_ORDERS),
)
def test_any_text(parts, length, order, known_order):
    out = fill("____".join(parts), tokens_per_blank=length, order=order, known_order=known_order)
    check_layout(out, [part.rstrip(" ") for part in parts[:-1]] + parts[-1:], [length] * (len(parts) - 1))
    assert out.text.startswith(parts[0].rstrip(" ")) and out.text.endswith(parts[-1])


def test_the_compact_model_fills_blanks_of_real_text():
    compact = pretrained.compact_model()
    text = "The ____ was thirsty. ____ Then he lay down under a tree and slept."
    out = decode.infill(compact.model, compact.tokenizer, text, tokens_per_blank="auto", temperature=0)
    before, between, after = "The", " was thirsty.", " Then he lay down under a tree and slept."
    assert out.text == before + out.blanks[0] + between + out.blanks[1] + after
    assert all(blank.strip() for blank in out.blanks)
    again = decode.infill(compact.model, compact.tokenizer, text, tokens_per_blank="auto", temperature=0)
    assert again.text == out.text
    scores = objective.log_likelihood(compact.model, out.sequences, out.group_ids, out.known, reduction="token")
    same(out.log_probs, scores.detach(), tolerance=1e-3)
    # what it writes is likelier than what another blank has
    swapped = out.sequences.clone()
    swapped[~out.known] = swapped[~out.known].flip(0)
    worse = objective.log_likelihood(compact.model, swapped, out.group_ids, out.known)
    assert torch.equal(swapped, out.sequences) or worse.item() < out.log_probs.sum().item()


def test_known_tokens_are_read_as_in_the_training(monkeypatch):
    """Without ``known_order`` the model's config decides; it survives saving."""
    for known_order in KNOWN_ORDERS:
        monkeypatch.setattr(MODEL.config, "known_order", known_order, raising=False)
        assert torch.equal(fill().group_ids, fill(known_order=known_order).group_ids)
        assert type(MODEL.config).from_dict(MODEL.config.to_dict()).known_order == known_order
    assert type(MODEL.config)().known_order == "together"
