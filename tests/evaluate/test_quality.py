"""evaluate/quality.py and benchmarks/quality.py: judges against plain sums, entropy and distinct-n by hand, mutants."""

import math
from collections import Counter
from itertools import pairwise

import kept
import pytest
import quality as benchmark
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import same, strong_llama
from small_tokenizers import KINDS

from a3mini import decode, from_autoregressive, groups
from a3mini.evaluate import quality
from a3mini.evaluate.stories import Batch
from a3mini.pretrained import SmallModel
from a3mini.train import MaskedDiffusionModel, data, generator_for
from a3mini.train.corpus import Story

WORDS = "the old king had a red dog and a small boat on the wide sea by a stone house where nobody sang".split()
STORIES = [
    Story(f"{n}", " ".join(WORDS[(7 * n + 3 * k * k + k) % len(WORDS)] for k in range(14 + n)) + ".") for n in range(12)
]
TOKENIZER = data.train_tokenizer(STORIES, 300)
LLAMA = strong_llama(vocab_size=len(TOKENIZER), max_position_embeddings=256)
A3 = from_autoregressive(LLAMA, dtype=torch.float64)
TEXTS = [story.text for story in STORIES]
IDS = st.lists(st.integers(0, 5), min_size=3, max_size=30)


def alone(text: str, prompt: str) -> float:
    """The judge's nats by the loss of transformers, one text at a time."""
    before = [TOKENIZER.bos_token_id, *TOKENIZER.encode(prompt)]
    ids = before + TOKENIZER.encode(text)
    labels = [-100] * len(before) + ids[len(before) :]
    with torch.no_grad():
        loss = LLAMA(torch.tensor([ids]), labels=torch.tensor([labels])).loss.item()
    return loss * (len(ids) - len(before))


# The judge


@pytest.mark.parametrize("batch_size", [1, 5, 32])
@pytest.mark.parametrize("with_prompts", [False, True])
def test_nats_are_transformers_loss_whatever_the_batch(batch_size, with_prompts):
    prompts = [text[: 3 * n] for n, text in enumerate(TEXTS)] if with_prompts else None
    judged = quality.judge(LLAMA, TOKENIZER, TEXTS, prompts, batch_size)
    right = torch.tensor([alone(*pair) for pair in zip(TEXTS, prompts or [""] * len(TEXTS), strict=True)])
    same(judged.nats, right.double(), tolerance=1e-3)
    assert judged.tokens.tolist() == [len(TOKENIZER.encode(text)) for text in TEXTS]


def test_the_prompt_is_read_and_not_counted():
    text, prompts = TEXTS[0], ["the old king", "a stone house"]
    judged = quality.judge(LLAMA, TOKENIZER, [text] * 2, prompts)
    assert abs(judged.nats[0] - judged.nats[1]) > 0.1  # the prompt matters
    counted = quality.judge(LLAMA, TOKENIZER, [prompts[0] + text])  # the mutant: the prompt counts
    assert judged.tokens[0] < counted.tokens[0] and abs(judged.nats[0] - counted.nats[0]) > 0.1
    assert torch.equal(judged.entropy[:1], judged.entropy[1:])


def test_perplexity_is_that_of_all_tokens():
    found = quality.judge(LLAMA, TOKENIZER, TEXTS)
    summary = found.summary()
    assert summary["perplexity"].mean == pytest.approx(math.exp(found.nats.sum() / found.tokens.sum()))
    assert all(one.low <= one.mean <= one.high for one in summary.values())
    assert summary["perplexity"].low < summary["perplexity"].high
    # the mutant: a mean of the texts' perplexities is another number
    assert abs((found.nats / found.tokens).exp().mean().item() / summary["perplexity"].mean - 1) > 1e-3
    assert found.summary() == summary and found.summary(seed=1) != summary


def test_a_repeating_text_is_caught():
    """The judge prefers it, and the numbers beside the perplexity say why."""
    width = 8  # a judge that expects the token before it: the logits are the embedding's own products
    judge = strong_llama(vocab_size=len(TOKENIZER), max_position_embeddings=256, tie_word_embeddings=True)
    with torch.no_grad():
        for name, weight in judge.named_parameters():
            if "embed" in name:
                weight.mul_(10)
            elif "norm" not in name:
                weight.mul_(0)
    varied = " ".join(WORDS[:width])
    found = quality.judge(judge, TOKENIZER, [TOKENIZER.decode(TOKENIZER.encode(" a") * 12), varied])
    loss = found.nats / found.tokens
    assert loss[0] < loss[1]
    assert found.entropy[0] == 0 and found.entropy[1] > 1
    assert found.distinct[2][0] < 0.1 < 0.5 < found.distinct[2][1]


def test_an_empty_text_has_no_nats():
    nats, tokens = quality.text_nats(LLAMA, TOKENIZER, ["", TEXTS[0], ""], batch_size=1)
    assert nats[[0, 2]].tolist() == [0, 0] and tokens[[0, 2]].tolist() == [0, 0]
    assert nats[1] == pytest.approx(alone(TEXTS[0], ""), rel=1e-5)
    other, _ = quality.text_nats(LLAMA, TOKENIZER, [TEXTS[0]], start=TOKENIZER.eos_token_id)
    assert abs(other[0] - nats[1]) > 0.1


def test_entropy_is_of_the_tokens_as_they_were_written():
    """A tokenizer may have one token for what a model wrote one by one: the mutant reads the text alone."""
    text = "the" * 8
    letters = TOKENIZER.convert_tokens_to_ids(list(text))
    assert len(TOKENIZER.encode(text)) < len(letters)
    written, mutant = (quality.judge(LLAMA, TOKENIZER, [one]) for one in (quality.Written(text, letters), text))
    assert written.entropy[0] == pytest.approx(math.log(3)) and written.entropy[0] > mutant.entropy[0] + 0.1
    assert torch.equal(written.nats, mutant.nats) and torch.equal(written.tokens, mutant.tokens)
    batch = quality.openings(STORIES, TOKENIZER, given=6, new=10, count=2)
    assert [text.ids for text in batch.real] == batch.input_ids[:, 6:].tolist()


def test_what_cannot_be_judged_is_named():
    with pytest.raises(ValueError, match=r"0 texts and 0 prompts"):
        quality.judge(LLAMA, TOKENIZER, [])
    with pytest.raises(ValueError, match=r"2 texts and 1 prompts; give one prompt for each"):
        quality.judge(LLAMA, TOKENIZER, TEXTS[:2], ["a"])
    with pytest.raises(ValueError, match=r"text 1 \(''\) has 0 tokens"):
        quality.judge(LLAMA, TOKENIZER, [TEXTS[0], ""])
    with pytest.raises(ValueError, match=r"text 0 has \d+ tokens with its prompt, but the judge takes 256"):
        quality.judge(LLAMA, TOKENIZER, [TEXTS[0]], [" ".join(TEXTS)])


# Entropy and distinct-n


@settings(max_examples=60, deadline=None)
@given(ids=IDS)
def test_entropy_and_distinct_are_counts(ids):
    shares = [count / len(ids) for count in Counter(ids).values()]
    assert quality.entropy(ids) == pytest.approx(-sum(share * math.log(share) for share in shares))
    assert 0 <= quality.entropy(ids) <= math.log(len(ids)) + 1e-9
    assert quality.distinct(ids, 1) == len(set(ids)) / len(ids)
    assert quality.distinct(ids, 2) == len(set(pairwise(ids))) / (len(ids) - 1)
    triples = {tuple(ids[start : start + 3]) for start in range(len(ids) - 2)}
    assert quality.distinct(ids, 3) == len(triples) / (len(ids) - 2)


def test_entropy_and_distinct_by_hand():
    assert quality.entropy([7] * 9) == 0 and quality.distinct([7] * 9, 2) == 1 / 8
    assert quality.entropy([1, 2, 3, 4]) == pytest.approx(math.log(4))  # nats; in bits it would be 2
    assert quality.distinct([1, 2, 1, 2, 1], 2) == 2 / 4


# Openings


def test_openings_are_beginnings_and_how_they_go_on():
    batch = quality.openings(STORIES, TOKENIZER, given=6, new=10, count=5)
    whole = [before + after for before, after in zip(batch.prompts, batch.real, strict=True)]
    assert all(any(text.startswith(one) for text in TEXTS) for one in whole) and len(set(whole)) == 5
    assert (batch.input_ids[:, 0] == TOKENIZER.bos_token_id).all() and batch.unknown.sum() == 5 * 10
    assert batch.lengths == [10] * 5
    more = quality.openings(STORIES, TOKENIZER, given=6, new=10, count=8)
    assert torch.equal(more.input_ids[:5], batch.input_ids)
    other = quality.openings(STORIES, TOKENIZER, given=6, new=10, count=5, seed=1)
    assert not torch.equal(other.input_ids, batch.input_ids)


def test_openings_name_what_is_wrong():
    with pytest.raises(ValueError, match="0 of the 12 stories have 1009 tokens, and 24 are wanted; lower count"):
        quality.openings(STORIES, TOKENIZER, given=10, new=1000)
    with pytest.raises(ValueError, match="new must be an integer, at least 3; got 2"):
        quality.openings(STORIES, TOKENIZER, new=2)


# The benchmark


def systems():
    return {
        "any-order": A3,
        "diffusion": MaskedDiffusionModel.from_autoregressive(LLAMA),
        "autoregressive": LLAMA,
    }


@pytest.mark.parametrize("kind", ["any-order", "diffusion", "autoregressive"])
def test_no_strategy_reads_how_the_story_goes_on(kind):
    batch = quality.openings(STORIES, TOKENIZER, given=6, new=8, count=3)
    hidden = quality.openings(STORIES, TOKENIZER, given=6, new=8, count=3)
    hidden.input_ids[hidden.unknown] = 5
    for (order, size), filler in benchmark.strategies(systems()[kind], "left_to_right", 1.0).items():
        first, second = filler(batch, generator_for(3)), filler(hidden, generator_for(3))
        assert first == second, (order, size)
        assert first.passes == [-(-8 // size)] * 3, (order, size)


def test_one_stream_is_no_strategy_of_its_own():
    """Strided with one stream is left to right."""
    orders = {order: {size for found, size in benchmark.strategies(A3, "together", 1.0) if found == order}
              for order in benchmark.ORDERS}  # fmt: skip
    assert orders.pop("strided") == {2, 4, 8} and all(sizes == {1, 2, 4, 8} for sizes in orders.values())
    assert {order for order, _ in benchmark.strategies(A3, "together", 1.0, orders=["strided"])} == {"strided"}


def test_far_apart_tokens_are_drawn_together():
    batch = quality.openings(STORIES, TOKENIZER, given=6, new=8, count=3)
    filler = benchmark.strategies(A3, "together", 0.0)["strided", 4]
    right = decode.generate(A3, batch.input_ids, groups.strided(14, 4, given=6).expand(3, -1), banned=batch.banned,
                            temperature=0)  # fmt: skip
    assert filler(batch, generator_for(0)).texts == batch.texts(right.sequences)


def test_a_beginning_of_ours_is_a_row_of_its_own():
    begun = benchmark.beginning(" ".join(WORDS[:5]), TOKENIZER, new=8, device="cpu")
    assert begun.prompts == [" ".join(WORDS[:5])] and begun.lengths == [8]
    assert begun.input_ids[0, 0] == TOKENIZER.bos_token_id and not begun.padding.any()


@pytest.mark.parametrize("known", groups.KNOWN_ORDERS)
def test_random_order_is_dynamic_resampling_at_random(known):
    """The order of ``resample`` at random, given beforehand to ``generate``, yields the same tokens."""
    batch = quality.openings(STORIES, TOKENIZER, given=6, new=8, count=3)
    position = torch.arange(14).expand(3, -1) if known == "left_to_right" else None
    options = dict(temperature=0, banned=batch.banned)
    dynamic = decode.resample(
        A3, batch.input_ids, batch.unknown, 2, "random", generator=generator_for(1), known_groups=position, **options
    )
    fixed = decode.generate(A3, batch.input_ids, dynamic.group_ids, dynamic.known, **options)
    assert torch.equal(dynamic.sequences, fixed.sequences)
    seen = {tuple(benchmark.RandomOrder(A3, 2, known)(batch, generator_for(seed)).texts) for seed in range(3)}
    assert len(seen) == 3, "the order must matter, or this test says nothing"


def test_control_tokens_in_a_text_are_text():
    text = "the</s> old<s> king<pad>"
    nats, counts = quality.text_nats(LLAMA, TOKENIZER, [text], [text])
    letters = TOKENIZER(text, split_special_tokens=True)["input_ids"]
    ids = torch.tensor([[TOKENIZER.bos_token_id, *letters, *letters]])
    with torch.no_grad():
        right = LLAMA(ids, labels=ids.index_fill(1, torch.arange(len(letters) + 1), -100)).loss.item() * len(letters)
    assert counts.tolist() == [len(letters)] and nats.item() == pytest.approx(right, abs=1e-3)
    assert len(letters) > len(TOKENIZER.encode(text)), "otherwise this test shows nothing"
    found = quality.openings([Story("", text * 20)], TOKENIZER, given=6, new=40, count=1)
    assert not set(TOKENIZER.all_special_ids) & set(found.input_ids[0, 1:].tolist())


@pytest.mark.parametrize("name", ["llama_2", "sentence_piece"])
def test_a_text_behind_a_prompt_gets_no_second_space(name):
    """Neither when it is read nor when it is written."""
    tokenizer = KINDS[name]()
    model = strong_llama(vocab_size=len(tokenizer), max_position_embeddings=256)
    whole = tokenizer.encode("The cat sat on the mat", add_special_tokens=False)
    before = tokenizer.encode("The cat", add_special_tokens=False)
    for text in (" sat on the mat", quality.Written(" sat on the mat", whole[len(before) :])):
        nats, counts = quality.text_nats(model, tokenizer, [text], ["The cat"])
        ids = torch.tensor([[tokenizer.bos_token_id, *whole]])
        with torch.no_grad():
            loss = model(ids, labels=ids.index_fill(1, torch.arange(len(before) + 1), -100)).loss.item()
        assert counts.tolist() == [len(whole) - len(before)]
        assert nats.item() == pytest.approx(loss * (len(whole) - len(before)), abs=1e-3)
        judged = quality.judge(model, tokenizer, [text], ["The cat"])
        assert judged.entropy.item() == pytest.approx(quality.entropy(whole[len(before) :]))
    found = quality.openings([Story("", "The cat sat on the mat")], tokenizer, len(before) + 1, 3, count=1)
    assert found.prompts == ["The cat"] and found.real[0].startswith(" sa")


def test_texts_keep_the_space_before_them():
    """Otherwise the judge reads a word that is glued to the prompt."""
    batch = quality.openings(STORIES, TOKENIZER, given=6, new=8, count=6)
    plain = [before + after for before, after in zip(batch.prompts, batch.real, strict=True)]
    assert [TOKENIZER.decode(row[1:]) for row in batch.input_ids] == plain
    blanks = [row[unknown].tolist() for row, unknown in zip(batch.input_ids, batch.unknown, strict=True)]
    assert batch.real == batch.decode(blanks) != Batch.decode(batch, blanks), "the mutant strips them"


def test_a_run_that_was_stopped_goes_on(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return {"texts": ["x"]}

    for size in (1, 1, 2):
        assert kept.kept(tmp_path / "new", "row", {"size": size}, make)["texts"] == ["x"]
    assert len(calls) == 2


def test_other_weights_are_another_row():
    before = kept.weights_of(LLAMA)
    other = strong_llama(vocab_size=len(TOKENIZER), max_position_embeddings=256)
    assert kept.weights_of(other) == before
    with torch.no_grad():
        other.model.norm.weight[0] += 1e-9
    assert kept.weights_of(other) != before


def test_the_whole_benchmark(tmp_path, monkeypatch):
    """With tiny models in place of the arms; a second run computes nothing."""
    written, loaded = [], []

    def load_arm(kind, folder):
        loaded.append((kind, folder))
        return systems()[kind], TOKENIZER, f"{kind} model"

    monkeypatch.setattr(benchmark, "FOLDER", tmp_path)
    monkeypatch.setattr(benchmark, "load_arm", load_arm)
    monkeypatch.setattr(benchmark, "tinystories", lambda path: STORIES)
    monkeypatch.setattr(benchmark, "judge_of", lambda source: SmallModel(LLAMA, TOKENIZER, "a judge"))
    monkeypatch.setattr(benchmark, "record", lambda name, **data: written.append({"name": name, **data}))
    options = "--diffusion folder --count 3 --given 6 --new 8 --sizes 2 4".split()
    benchmark.main(options)
    assert loaded == [("any-order", None), ("diffusion", "folder"), ("autoregressive", None)]
    rows = written[0]["rows"]
    assert len(rows) == 5 * 2 + 2 * 2 + 1 + 1
    assert rows["any-order, by entropy, 4"]["passes"] == 2 and rows["autoregressive, left to right, 1"]["passes"] == 8
    real = quality.judge(LLAMA, TOKENIZER, *(getattr(OPENINGS, name) for name in ("real", "prompts"))).summary()
    assert rows[benchmark.REAL]["measured"]["perplexity"]["mean"] == pytest.approx(real["perplexity"].mean, abs=0.01)

    def never(*_):
        raise AssertionError("computed again")

    begun = written[0]["beginnings"]
    assert all(len(row["ours"]) == len(begun) > 1 for name, row in rows.items() if name != benchmark.REAL)
    assert len({*rows["any-order, strided, 4"]["ours"]}) == len(begun), "each beginning goes on in its own way"
    monkeypatch.setattr(benchmark, "written", never)
    monkeypatch.setattr(benchmark, "judge", never)
    benchmark.main(options)
    assert written[1] == written[0]
    benchmark.main([*options, "--orders", "strided", "--record", "another"])
    asked = ("any-order, strided, 2", "any-order, strided, 4", "autoregressive, left to right, 1", benchmark.REAL)
    assert written[2]["name"] == "another" and written[2]["rows"] == {name: rows[name] for name in asked}


OPENINGS = quality.openings(STORIES, TOKENIZER, given=6, new=8, count=3)
