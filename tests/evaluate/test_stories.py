"""evaluate/stories.py, fillers.py, continuations.py: the protocol, every system against an oracle, nobody cheats."""

import csv
import json
import sys
from dataclasses import replace

import pytest
import torch
from laws import TINY, same, strong_llama, strong_model, strong_source
from places import ROOT
from small_tokenizers import KINDS, with_holes
from transformers import GenerationConfig, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config, SmolLM3Config

from a3mini import decode, from_autoregressive, groups, objective
from a3mini.evaluate import continuations, diffusion_sample, stories
from a3mini.evaluate.continuations import BestOf, LeftOnly
from a3mini.evaluate.fillers import Copy, Diffusion, Dynamic, Filler, Groupwise
from a3mini.evaluate.stories import MIDDLE, PREFIX, SUFFIX, Filled, encode, fill, middle_nats, rouge
from a3mini.train import MaskedDiffusionModel, corpus, data, generator_for
from a3mini.train.corpus import Cloze

STORIES = [
    Cloze("The cat sat. It was old.", "It saw a red bird.", "The bird flew. The cat slept."),
    Cloze("A dog ran far. He was lost.", "He ate.", "A boy saw him there. They went home."),
    Cloze("Ann sang. All heard it.", "She sang a long song again.", "The king cried. Ann bowed."),
    Cloze("It rained for a week. The river rose.", "We went up the hill.", "Then the sun came. We were glad."),
    Cloze("Tom dug. He dug deep.", "He found gold.", "He was rich. He gave it all away."),
]
TOKENIZER = data.train_tokenizer([corpus.Story("", " ".join(story)) for story in STORIES], 290)
SIZES = dict(vocab_size=len(TOKENIZER) + 2, max_position_embeddings=256)  # two numbers that stand for no token
LLAMA = strong_llama(**SIZES)
MODEL = from_autoregressive(LLAMA, dtype=torch.float64)
WARM = from_autoregressive(LLAMA, dtype=torch.float64, query_start="previous")
DIFFUSION = MaskedDiffusionModel.from_autoregressive(LLAMA)
SYSTEMS = {
    "a3, 1": Groupwise(MODEL),
    "a3, 2": Groupwise(MODEL, 2),
    "a3, in order": Groupwise(MODEL, 1, "left_to_right"),
    "a3, left": Groupwise(MODEL, sides="left"),
    "a3, drawn": Groupwise(MODEL, temperature=1.0),
    "a3, far apart": Groupwise(WARM, 2, order="strided"),
    "dynamic": Dynamic(MODEL),
    "dynamic, 2, in order": Dynamic(MODEL, 2, known="left_to_right"),
    "diffusion": Diffusion(DIFFUSION),
    "diffusion, 2": Diffusion(DIFFUSION, 2),
    "diffusion, random": Diffusion(DIFFUSION, 1, "random"),
    "left only": LeftOnly(LLAMA),
    "best of 3": BestOf(LLAMA, 3, temperature=2.0, top_p=1.0),
}
LEFT = ("a3, left", "left only")
SCORED = [name for name, system in SYSTEMS.items() if type(system).log_probs is not Filler.log_probs]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def recorded(monkeypatch):
    """The tokens of every blank that is turned into text."""
    seen, right = [], stories.Batch.decode
    monkeypatch.setattr(stories.Batch, "decode", lambda batch, blanks: seen.extend(blanks) or right(batch, blanks))
    return seen


def tokens(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


# --- the protocol -----------------------------------------------------------------------------------------------


def test_the_parts_of_a_story_are_tokenised_alone_and_joined_by_spaces():
    batch = encode(STORIES, TOKENIZER)
    for row, story in enumerate(STORIES):
        ids, part = batch.input_ids[row], batch.part[row]
        assert ids[part == PREFIX].tolist() == [TOKENIZER.bos_token_id, *tokens(story.prefix)]
        assert ids[part == MIDDLE].tolist() == tokens(f" {story.middle}")
        assert ids[part == SUFFIX].tolist() == tokens(f" {story.suffix}")
        assert TOKENIZER.decode(ids[1 : (part >= 0).sum()]) == " ".join(story)
        assert part.tolist() == sorted(part[part >= 0].tolist()) + [-1] * int((part < 0).sum())
    assert batch.texts(batch.input_ids) == [story.middle for story in STORIES]
    assert batch.lengths == [len(tokens(f" {story.middle}")) for story in STORIES]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_one_space_between_the_parts_whatever_the_tokenizer(kind):
    """Oracle: the tokens of the whole story, cut. No token reaches over a space."""
    tokenizer = kind()
    batch = encode(STORIES, tokenizer)
    for row, story in enumerate(STORIES):
        ids = batch.input_ids[row][1 : int((batch.part[row] >= 0).sum())].tolist()
        assert ids == tokenizer.encode(" ".join(story), add_special_tokens=False)
    known = Cloze("The cat sat.", "The dog ran.", "The cat sat.")
    batch = encode([known], tokenizer)
    assert [text.lower() for text in batch.texts(batch.input_ids)] == ["the dog ran."]


def test_control_tokens_in_a_story_are_text():
    batch = encode([Cloze("The</s> cat.", "It<s> sat.", "The<pad> end.")], TOKENIZER)
    assert not set(TOKENIZER.all_special_ids) & set(batch.input_ids[0, 1:].tolist())
    assert batch.texts(batch.input_ids) == ["It<s> sat."]


def test_ids_that_are_left_out_are_banned():
    tokenizer = with_holes()
    system = Groupwise(strong_model(vocab_size=317))
    assert system._banned(encode(STORIES, tokenizer)) == [0, 1, 2, *range(285, 300), 315, 316]


@pytest.mark.parametrize("known", groups.KNOWN_ORDERS)
def test_the_known_order_is_the_models_own(known, monkeypatch):
    monkeypatch.setattr(MODEL.config, "known_order", known)
    assert [Groupwise(MODEL).known, Dynamic(MODEL).known] == [known] * 2
    assert [Groupwise(MODEL, 1, "together").known, Dynamic(MODEL, known="together").known] == ["together"] * 2


def test_stray_spaces_change_nothing():
    messy = [Cloze(f" {a}\n", f"  {b} ", f"{c}  ") for a, b, c in STORIES]
    assert torch.equal(encode(messy, TOKENIZER).input_ids, encode(STORIES, TOKENIZER).input_ids)


def test_the_start_token_is_the_one_between_documents_where_there_is_one():
    assert data.start_token(TOKENIZER) == TOKENIZER.bos_token_id
    other = data.train_tokenizer([corpus.Story("", "some text")], 270)
    other.add_special_tokens({"additional_special_tokens": [corpus.END_OF_DOCUMENT]})
    assert other.decode([data.start_token(other)]) == corpus.END_OF_DOCUMENT != other.bos_token
    assert data.start_token(other) in encode(STORIES, other).banned
    assert (encode(STORIES, other).input_ids[:, 0] == data.start_token(other)).all()
    packed = data.pack([corpus.Story("", "some text " * 99)], other, 16).input_ids
    assert packed[0, 0] == data.start_token(other) and other.bos_token_id not in packed


@pytest.mark.parametrize("batch_size", [1, 2, 99])
def test_batches_hold_every_story_once_by_the_length_of_the_blank(batch_size):
    found = stories.batches(STORIES, TOKENIZER, batch_size)
    order = [n for part, _ in found for n in part]
    assert sorted(order) == list(range(len(STORIES)))
    lengths = [length for _, batch in found for length in batch.lengths]
    assert lengths == sorted(lengths) == [len(tokens(f" {STORIES[n].middle}")) for n in order]
    assert all(batch.stories == [STORIES[n] for n in part] for part, batch in found)


def test_subset():
    many = [Cloze(str(n), "b.", "c.") for n in range(50)]
    few = stories.subset(many, 10, seed=1, first=40)
    assert len(few) == 10 and few == sorted(few, key=lambda story: int(story.prefix)) != many[:10]
    assert all(int(story.prefix) < 40 for story in few), "the protocol ends there"
    assert set(few) < set(stories.subset(many, 20, seed=1, first=40))
    assert few == stories.subset(many, 10, seed=1, first=40) != stories.subset(many, 10, seed=2, first=40)
    assert stories.subset(many, 99) == many


def test_rouge_by_hand():
    """the cat sat down / the old cat sat: 3 of 4 words and 1 of 3 pairs; longest common subsequence "the cat sat"."""
    found = rouge(
        ["The cat sat down!", "cats", "nothing", "same words"], ["the old cat sat", "cat", "else", "same words"]
    )
    same(found["rouge1"], torch.tensor([75.0, 0, 0, 100], dtype=torch.float64))  # with a stemmer cats would be cat
    same(found["rouge2"], torch.tensor([100 / 3, 0, 0, 100], dtype=torch.float64))
    same(found["rougeL"], torch.tensor([75.0, 0, 0, 100], dtype=torch.float64))
    # F1, not recall: a long text that holds the sentence does not score 100
    assert rouge(["a b c d"], ["a b"])["rouge1"].item() == pytest.approx(100 * 2 / 3)


def test_sentences():
    assert stories.sentences('He left.  "Why?" she asked! "Go."  Then (at last.) an end') == [
        "He left.", '"Why?"', "she asked!", '"Go."', "Then (at last.)", "an end",
    ]  # fmt: skip


def test_copies():
    assert fill(Copy(), STORIES, TOKENIZER).texts == [
        "It was old.", "He was lost.", "All heard it.", "The river rose.", "He dug deep.",
    ]  # fmt: skip
    after = ["The bird flew.", "A boy saw him there.", "The king cried.", "Then the sun came.", "He was rich."]
    assert fill(Copy(which="after"), STORIES, TOKENIZER, 2) == (after, [0] * 5)


# --- all systems ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)
def test_as_many_tokens_as_the_blank_has_and_no_special_ones(system, recorded):
    filled = fill(system, STORIES, TOKENIZER, 3)
    assert len(filled.texts) == len(filled.passes) == len(STORIES) and min(filled.passes) > 0
    assert sorted(map(len, recorded)) == sorted(len(tokens(f" {story.middle}")) for story in STORIES)
    banned = {*TOKENIZER.all_special_ids, len(TOKENIZER), len(TOKENIZER) + 1}
    assert not banned & {token for blank in recorded for token in blank}


@pytest.mark.parametrize("kind", [Groupwise, Dynamic, Diffusion, LeftOnly, BestOf])
def test_a_model_that_wants_to_end_is_not_let(kind, recorded):
    llama = strong_llama(**SIZES)
    special = [*TOKENIZER.all_special_ids, len(TOKENIZER), len(TOKENIZER) + 1]
    llama.lm_head.weight[special] *= 100  # one of them wins nearly everywhere
    make = {Diffusion: MaskedDiffusionModel.from_autoregressive, LeftOnly: lambda m: m, BestOf: lambda m: m}
    system = kind(make.get(kind, lambda m: from_autoregressive(m, dtype=torch.float64))(llama))
    fill(system, STORIES, TOKENIZER)
    assert not set(special) & {token for blank in recorded for token in blank}
    recorded.clear()
    mutant = type("Mutant", (kind,), {"_banned": lambda self, batch: []})(system.model)
    fill(mutant, STORIES, TOKENIZER)
    assert set(special) & {token for blank in recorded for token in blank}


def other_middles(batch: stories.Batch) -> stories.Batch:
    """The same batch with other tokens in the blank."""
    ids = torch.where(batch.unknown, (batch.input_ids + 7) % len(TOKENIZER), batch.input_ids)
    return replace(batch, input_ids=ids)


def other_suffixes(batch: stories.Batch) -> stories.Batch:
    ids = torch.where(batch.part == SUFFIX, (batch.input_ids + 7) % len(TOKENIZER), batch.input_ids)
    return replace(batch, input_ids=ids)


def reads(system, change) -> bool:
    batch = encode(STORIES, TOKENIZER)
    return system(batch, generator_for(0)) != system(change(batch), generator_for(0))


@pytest.mark.parametrize("name", SYSTEMS)
def test_nobody_reads_the_true_sentence(name):
    assert not reads(SYSTEMS[name], other_middles)


def test_one_who_reads_it_is_caught():
    assert reads(lambda batch, _: Filled(batch.texts(batch.input_ids), batch.lengths), other_middles)


@pytest.mark.parametrize("name", SYSTEMS)
def test_who_reads_what_follows(name):
    assert reads(SYSTEMS[name], other_suffixes) == (name not in LEFT)


@pytest.mark.parametrize(
    "name", [name for name in SYSTEMS if name not in ("a3, drawn", "diffusion, random", "best of 3")]
)
def test_batches_and_padding_change_nothing(name):
    whole = fill(SYSTEMS[name], STORIES, TOKENIZER, 99)
    assert fill(SYSTEMS[name], STORIES, TOKENIZER, 1) == whole
    assert fill(SYSTEMS[name], STORIES[::-1], TOKENIZER, 2) == (whole.texts[::-1], whole.passes[::-1])


@pytest.mark.parametrize("name", ["a3, drawn", "diffusion, random", "best of 3"])
def test_draws_depend_on_the_seed(name):
    found = fill(SYSTEMS[name], STORIES, TOKENIZER, seed=1)
    assert found == fill(SYSTEMS[name], STORIES, TOKENIZER, seed=1) != fill(SYSTEMS[name], STORIES, TOKENIZER, seed=2)


# --- each system against an oracle ------------------------------------------------------------------------------


@pytest.mark.parametrize("known", groups.KNOWN_ORDERS)
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("order", ["left_to_right", "strided", "confidence"])
def test_a3_does_what_infill_does(order, size, known):
    fixed = order in groups.INFILL_ORDERS
    system = Groupwise(MODEL, size, known, order=order) if fixed else Dynamic(MODEL, size, known=known)
    filled = fill(system, STORIES, TOKENIZER)
    for n, story in enumerate(STORIES):
        length = len(tokens(f" {story.middle}"))
        text = f"{story.prefix} ____ {story.suffix}"
        right = decode.infill(MODEL, TOKENIZER, text, "____", length, size, order, 0.0, known_order=known)
        assert filled.texts[n] == right.blanks[0].strip()
        assert filled.passes[n] == right.trace.passes[0] == -(-length // size)


def diffusion_by_hand(story: Cloze, per_step: int) -> str:
    """One story, one pass after the other, the surest first."""
    batch = encode([story], TOKENIZER)
    ids, masked = batch.input_ids[0].clone(), batch.unknown[0].clone()
    allowed = [token for token in range(len(TOKENIZER)) if token not in TOKENIZER.all_special_ids]
    while masked.any():
        visible = torch.ones(1, len(ids), len(ids), dtype=torch.bool)
        probabilities = DIFFUSION(ids[None], masked[None], visible)[0][:, allowed].softmax(-1)
        sure = {int(t): probabilities[t - 1].max() for t in masked.nonzero()[:, 0]}
        for t in sorted(sure, key=sure.get, reverse=True)[:per_step]:
            ids[t], masked[t] = allowed[probabilities[t - 1].argmax()], False
    return batch.texts(ids[None])[0]


@pytest.mark.parametrize("per_step", [1, 3])
def test_diffusion_by_confidence(per_step):
    filled = fill(Diffusion(DIFFUSION, per_step), STORIES, TOKENIZER)
    assert filled.texts == [diffusion_by_hand(story, per_step) for story in STORIES]
    assert filled.passes == [-(-len(tokens(f" {story.middle}")) // per_step) for story in STORIES]


@pytest.mark.parametrize("per_step", [1, 2])
def test_diffusion_from_the_left_is_diffusion_sample(per_step):
    batch = replace(encode(STORIES, TOKENIZER), banned=[])
    order = groups.infill(batch.unknown, per_step, padding=batch.padding)
    right = diffusion_sample(DIFFUSION, batch.input_ids, order, 0.0, generator_for(0))
    system = type("Free", (Diffusion,), {"_banned": lambda self, batch: []})(DIFFUSION, per_step, "left_to_right")
    assert system(batch, generator_for(0)).texts == batch.texts(right)


def continued_by_transformers(story: Cloze, source=LLAMA) -> str:
    ids = torch.tensor([[TOKENIZER.bos_token_id, *tokens(story.prefix)]])
    length = len(tokens(f" {story.middle}"))
    config = GenerationConfig(
        max_new_tokens=length, do_sample=False, pad_token_id=0, eos_token_id=None,
        suppress_tokens=[*TOKENIZER.all_special_ids, len(TOKENIZER), len(TOKENIZER) + 1],
    )  # fmt: skip
    done = source.generate(ids, generation_config=config, attention_mask=torch.ones_like(ids))
    return TOKENIZER.decode(done[0, ids.shape[1] :], clean_up_tokenization_spaces=False).strip()


@pytest.mark.parametrize("kind", [LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config, SmolLM3Config])
def test_left_only_is_transformers_generate(kind):
    """With every kind of source that A3 can be made of; and what it thinks of the true sentence."""
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    source = strong_source(kind(**TINY | SIZES | special | ({"sliding_window": None} if kind is MistralConfig else {})))
    expected = [continued_by_transformers(story, source) for story in STORIES]
    assert fill(LeftOnly(source), STORIES, TOKENIZER).texts == expected
    batch = encode(STORIES, TOKENIZER)
    found, left = LeftOnly(source).log_probs(batch).sum(-1), source(batch.input_ids).logits.log_softmax(-1)
    own = left[:, :-1].gather(-1, batch.input_ids[:, 1:, None])[..., 0]  # nobody sees the padding on the right
    same(found, (own * batch.unknown[:, 1:]).sum(-1), 1e-5)


def test_best_of_takes_the_candidate_after_which_the_suffix_is_likeliest(monkeypatch):
    right, seen = continuations._suffix_log_likelihood, []

    def spy(reader, batch, found):
        seen.append((found, right(reader, batch, found)))
        return seen[-1][1]

    monkeypatch.setattr(continuations, "_suffix_log_likelihood", spy)
    batch = encode(STORIES, TOKENIZER)
    chosen = SYSTEMS["best of 3"](batch, generator_for(0)).texts
    candidates, scores = seen[0]
    for row, (story, length) in enumerate(zip(STORIES, batch.lengths, strict=True)):
        texts = []
        for number in range(3 * row, 3 * row + 3):
            blank = candidates[number, :length].tolist()
            suffix = tokens(f" {story.suffix}")
            ids = torch.tensor([[TOKENIZER.bos_token_id, *tokens(story.prefix), *blank, *suffix]])
            log_probs = LLAMA(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[-len(suffix) :]
            same(scores[number], log_probs.sum())
            texts.append(batch.decode([blank])[0])
        assert chosen[row] == texts[int(scores[3 * row : 3 * row + 3].argmax())]
        assert texts[0] == continued_by_transformers(story), "the first candidate is the greedy one"
    assert chosen != [
        batch.decode([candidates[3 * row, :length].tolist()])[0] for row, length in enumerate(batch.lengths)
    ]


def test_the_best_of_one_is_left_only():
    assert fill(BestOf(LLAMA, 1), STORIES, TOKENIZER).texts == fill(LeftOnly(LLAMA), STORIES, TOKENIZER).texts


# --- likelihood of the true sentence ----------------------------------------------------------------------------


def nats_by_hand(name: str, story: Cloze) -> torch.Tensor:
    """One story alone, by a plain pass over it."""
    batch, system = encode([story], TOKENIZER), SYSTEMS[name]
    ids, blank = batch.input_ids, batch.unknown
    if name == "left only":
        return -LLAMA(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[blank[0, 1:]].sum()
    if name == "a3, left":
        end = int(blank.nonzero()[-1, 1]) + 1
        return -objective.log_likelihood(MODEL, ids[:, :end], groups.infill(blank[:, :end]))[0]
    if name == "a3, in order":
        position = torch.arange(ids.shape[1])[None]
        return -objective.log_likelihood(MODEL, ids, torch.where(blank, 1000 + position, position), ~blank)[0]
    if name.startswith("a3"):
        return -objective.log_likelihood(system.model, ids, groups.infill(blank, system.size, system.order))[0]
    if name.startswith("dynamic"):
        positions = torch.arange(ids.shape[1])[None] if system.known == "left_to_right" else None
        return -decode.resample_log_likelihood(
            MODEL, ids, blank, system.per_step, known_groups=positions, banned=system._banned(batch)
        ).sum()
    total, masked = torch.zeros((), dtype=torch.float64), blank.clone()
    for t in blank[0].nonzero()[:, 0]:
        logits = DIFFUSION(ids, masked, torch.ones(1, ids.shape[1], ids.shape[1], dtype=torch.bool))[0, t - 1]
        total -= logits.log_softmax(-1)[ids[0, t]]
        masked[0, t] = False
    return total


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("name", SCORED)
def test_likelihood_of_the_true_sentence(name, batch_size):
    nats, count = middle_nats(SYSTEMS[name].log_probs, STORIES, TOKENIZER, batch_size)
    assert count.tolist() == [len(tokens(f" {story.middle}")) for story in STORIES]
    same(nats, torch.stack([nats_by_hand(name, story) for story in STORIES]), 1e-6)


def test_a_suffix_moves_the_likelihood_of_those_who_read_it():
    batch = encode(STORIES, TOKENIZER)
    for name in SCORED:
        change = SYSTEMS[name].log_probs(other_suffixes(batch)) - SYSTEMS[name].log_probs(batch)
        moved = (change * batch.unknown).abs().max() > 1e-3
        assert moved == (name not in LEFT), name


# --- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: encode([], TOKENIZER), ValueError, "no stories"),
        (lambda: encode([Cloze("One.", " ", "Two.")], TOKENIZER), ValueError, "'One.' ... has no middle"),
        (lambda: fill(Copy(), STORIES, TOKENIZER, 0), ValueError, "batch_size must be an integer, at least 1; got 0"),
        (lambda: stories.subset(STORIES, 0), ValueError, "count must be an integer, at least 1; got 0"),
        (lambda: rouge(["a"], []), ValueError, "1 texts but 0 references"),
        (lambda: Groupwise(LLAMA), TypeError, "Groupwise needs a A3ForCausalLM, got LlamaForCausalLM"),
        (lambda: Diffusion(LLAMA), TypeError, "Diffusion needs a MaskedDiffusionModel, got LlamaForCausalLM"),
        (lambda: LeftOnly(DIFFUSION), TypeError, "Qwen3ForCausalLM or SmolLM3ForCausalLM, got MaskedDiffusionModel"),
        (lambda: BestOf(MODEL), TypeError, "got A3ForCausalLM"),
        (lambda: Groupwise(MODEL, 0), ValueError, "size must be an integer, at least 1; got 0"),
        (
            lambda: Groupwise(MODEL, known="mixed"),
            ValueError,
            "known must be one of together, left_to_right; got 'mixed'",
        ),
        (lambda: Groupwise(MODEL, sides="right"), ValueError, "sides must be one of both, left"),
        (
            lambda: Groupwise(MODEL, order="random"),  # whose likelihood depends on the draw
            ValueError,
            "order must be one of left_to_right, strided; got 'random'",
        ),
        (lambda: Dynamic(MODEL, 0), ValueError, "per_step"),
        (lambda: Diffusion(DIFFUSION, order="spiral"), ValueError, "order must be one of confidence, random"),
        (lambda: LeftOnly(LLAMA, -1.0), ValueError, "temperature"),
        (lambda: BestOf(LLAMA, 0), ValueError, "count"),
        (lambda: BestOf(LLAMA, top_p=2.0), ValueError, "top_p"),
        (lambda: Copy(which="first"), ValueError, "which must be one of before, after"),
        (lambda: middle_nats(Copy().log_probs, STORIES, TOKENIZER), NotImplementedError, "Copy gives no likelihood"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error) as found:
        call()
    assert message in str(found.value)


def test_rouge_score_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(ImportError, match=r"a3mini\[eval\]"):
        rouge(["a"], ["a"])


# --- the benchmark ----------------------------------------------------------------------------------------------


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """benchmarks/infilling.py on tiny models and STORIES: a function of its options to the result."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import infilling

    file = tmp_path / "cloze.csv"
    names = [*(f"InputSentence{n}" for n in range(1, 5)), "RandomFifthSentenceQuiz1", "RandomFifthSentenceQuiz2"]
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["InputStoryid", *names, "AnswerRightEnding"])
        for n, story in enumerate(STORIES):
            before, after = stories.sentences(story.prefix), stories.sentences(story.suffix)
            rows.writerow([n, *before, story.middle, *after, "A wrong ending.", 1])
    models = {"any-order": MODEL, "diffusion": DIFFUSION, "autoregressive": LLAMA}
    monkeypatch.setattr(infilling, "load_arm", lambda kind, folder: (models[kind], TOKENIZER, f"tiny {kind}"))
    monkeypatch.setattr(infilling, "FOLDER", tmp_path / "kept")
    made = {}
    monkeypatch.setattr(infilling, "record", lambda name, **result: made.update(result))

    def run(*options: str) -> dict:
        infilling.main([f"--stories={file}", "--batch-size=3", *options])
        return json.loads(json.dumps(made))

    run.module, run.models, run.kept = infilling, models, tmp_path / "kept"
    return run


def test_the_benchmark(benchmark):
    found = benchmark("--diffusion=somewhere", "--candidates=2")
    assert found["count"] == len(STORIES) and found["stories"] == "cloze.csv"
    assert list(found["systems"]) == [
        name for name in benchmark.module.SYSTEMS if name not in benchmark.module.ON_REQUEST
    ]
    one = found["systems"]["a3-2"]
    right = rouge(fill(Groupwise(MODEL, 2, "left_to_right"), STORIES, TOKENIZER).texts, [s.middle for s in STORIES])
    assert one["rouge"]["rouge1"]["mean"] == round(right["rouge1"].mean().item(), 2)
    assert one["minus"].keys() == {"ar", "copy-before", "a3-left"}
    for other in one["minus"]:
        means = [found["systems"][name]["rouge"]["rougeL"]["mean"] for name in ("a3-2", other)]
        assert one["minus"][other]["rougeL"]["mean"] == pytest.approx(means[0] - means[1], abs=0.011)
    assert one["model"] == "tiny any-order" and found["systems"]["copy-before"]["model"] is None
    assert len(one["ours"]) == len(benchmark.module.OURS)
    with_nats = {name for name, system in found["systems"].items() if "nats_per_token" in system}
    strided = {"a3-strided-2", "a3-strided-4"}
    assert with_nats == {"ar", "a3-1", "a3-2", "a3-4", "a3-left", "a3-dynamic", "diffusion", *strided}


def test_the_result_holds_no_text_of_the_stories(benchmark):
    systems = ["--systems", "copy-before", "copy-after", "ar", "a3-1"]
    written = json.dumps(benchmark(*systems)) + "".join(path.read_text() for path in benchmark.kept.iterdir())
    parts = [sentence for story in STORIES for part in story for sentence in stories.sentences(part)]
    assert not [sentence for sentence in parts if sentence in written]
    assert all(sentence in written for sentence in ("Omar lost his red scarf", "She found an old recipe")), (
        "ours is there"
    )


def test_a_killed_benchmark_goes_on_and_new_weights_are_measured_anew(benchmark, monkeypatch):
    first = benchmark("--systems", "ar", "a3-1")
    files = sorted(benchmark.kept.iterdir())
    measured, right = [], benchmark.module.measure
    monkeypatch.setattr(benchmark.module, "measure", lambda name, *rest: measured.append(name) or right(name, *rest))
    again = benchmark("--systems", "ar", "a3-1", "a3-2")
    assert measured == ["a3-2"]
    assert {name: again["systems"][name] for name in ("ar", "a3-1")} == first["systems"]
    other = from_autoregressive(LLAMA, dtype=torch.float64)
    other.model.query_embedding.add_(0.1)
    benchmark.models["any-order"] = other
    benchmark("--systems", "ar", "a3-1")
    assert measured == ["a3-2", "a3-1"] and set(files) < set(benchmark.kept.iterdir())
    benchmark("--systems", "ar", "--count=3")
    assert measured == ["a3-2", "a3-1", "ar"]


def test_without_an_adapter_there_is_no_diffusion(benchmark):
    assert not [name for name in benchmark.module.parse(["--stories=x.csv"]).systems if "diffusion" in name]
    assert benchmark.module.parse(["--stories=x.csv", "--systems", "diffusion"]).systems == ["diffusion"]
