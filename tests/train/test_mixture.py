"""mixture.py: what a pass shows follows from the weights, and no document stands on both sides. No network."""

import gzip
import json
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_run import CONFIG, small_blocks, small_model

from a3mini.train import AnyOrder, Blocks, Curriculum, Mixture, TrainConfig, corpus, data, loop, mixture, train
from a3mini.train.batches import Batches
from a3mini.train.corpus import Story
from a3mini.train.data import Order
from a3mini.train.mixture import Weighted

NAMES = ("a.txt", "b.jsonl", "c.csv")
WEIGHTS = st.one_of(st.sampled_from([1, 6, 0.8, 2.5]), st.floats(0.05, 4))


def given_texts(patch: pytest.MonkeyPatch, texts: dict[str, list[str]]) -> None:
    """Sources that need no files."""
    patch.setattr(corpus, "read", lambda source, *how: (Story(source, text) for text in texts[source]))


@st.composite
def sources(draw):
    """Up to three sources, with documents that some of them share."""
    names = NAMES[: draw(st.integers(1, 3))]
    texts = {name: [f"text {n}" for n in draw(st.lists(st.integers(0, 40), min_size=6, max_size=25))] for name in names}
    return texts, {name: draw(WEIGHTS) for name in names}


@settings(max_examples=100, deadline=None)
@given(sources(), st.sampled_from([0, 0.1, 0.5]), st.integers(0, 3), st.booleans())
def test_counts_follow_from_weights(found, validation, seed, streamed):
    texts, weights = found
    with pytest.MonkeyPatch.context() as patch:
        given_texts(patch, texts)
        whole = corpus.documents(*texts)
        plain, plain_held_out = corpus.split_documents(whole, validation, seed) if validation else (whole, [])
        owned = {name: [story for story in plain if story.title == name] for name in texts}
        if any(weight != 1 and round(weight * len(owned[name])) == 0 for name, weight in weights.items()):
            with pytest.raises(ValueError, match="nothing is left to train on"):
                Mixture(weights).split(validation, seed, streamed=streamed)
            return
        training, held_out = Mixture(weights).split(validation, seed, streamed=streamed)
        check(weights, training, held_out, plain, plain_held_out)


def check(weights: dict, training: Weighted, held_out, plain: list, plain_held_out: list) -> None:
    """What a split must be, of documents that without weights are ``plain`` and ``plain_held_out``."""
    documents = list(training.documents)
    assert list(held_out) == plain_held_out, "weights change nothing of what is held out"
    assert not {story.text for story in documents} & {story.text for story in held_out}
    assert len(documents) == len(training.owners) == len(training.visits)
    assert documents == [story for story in plain if story in documents], "each once, and in order"
    for number, (name, weight) in enumerate(weights.items()):
        owned = sum(story.title == name for story in plain)
        visits = training.visits[training.owners == number].tolist()
        assert [story.title for story in documents].count(name) == len(visits)
        assert sum(visits) == round(weight * owned)
        assert not visits or max(visits) - min(visits) <= 1 <= min(visits)
        assert len(visits) == min(owned, sum(visits))


def held_out_too(own: torch.Tensor, visits: torch.Tensor) -> torch.Tensor:
    return visits.where(own >= 0, 1)


def a_draw_for_each(own: torch.Tensor, visits: torch.Tensor) -> torch.Tensor:
    part = 1.5 + torch.rand(own.shape, generator=torch.Generator().manual_seed(0))
    return part.floor().long().where(own >= 0, 0)


def the_first_ones(own: torch.Tensor, visits: torch.Tensor) -> torch.Tensor:
    """All passes over few documents: the sum is right, the spread is not."""
    wrong = torch.zeros_like(visits)
    wrong[(own >= 0).nonzero()[0]] = visits.sum()
    return wrong


@pytest.mark.parametrize("mutant", [None, held_out_too, a_draw_for_each, the_first_ones])
def test_mutants_are_caught(monkeypatch, mutant):
    given_texts(monkeypatch, {"a.txt": [f"text {n}" for n in range(101)]})
    right = Mixture._visits
    if mutant:
        monkeypatch.setattr(Mixture, "_visits", lambda self, own, seed: mutant(own, right(self, own, seed)))
    parts = *Mixture({"a.txt": 1.5}).split(0.1), *corpus.split_documents(corpus.documents("a.txt"))
    if mutant is None:
        check({"a.txt": 1.5}, *parts)
        return
    with pytest.raises(AssertionError):
        check({"a.txt": 1.5}, *parts)


def test_a_share_is_chosen_by_the_seed():
    """The same each time; another seed takes other documents, and a larger share takes all of a smaller one."""
    with pytest.MonkeyPatch.context() as patch:
        given_texts(patch, {"a.txt": [f"text {n}" for n in range(40)], "b.jsonl": [f"other {n}" for n in range(40)]})

        def chosen(weight: float, seed: int, streamed: bool = False) -> list[str]:
            training, _ = Mixture({"a.txt": weight, "b.jsonl": weight}).split(0, seed, streamed=streamed)
            return [story.text for story in training.documents]

        assert chosen(0.5, 1) == chosen(0.5, 1) == chosen(0.5, 1, streamed=True) != chosen(0.5, 2)
        assert set(chosen(0.25, 1)) < set(chosen(0.5, 1)) < set(chosen(0.8, 1)) and len(chosen(0.8, 1)) == 64
        numbers = [[text.split()[1] for text in chosen(0.5, 1) if text.startswith(name)] for name in ("text", "other")]
        assert numbers[0] != numbers[1], "each source is drawn from by itself"


def test_real_files_and_what_is_left_out(tmp_path):
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps({"text": f"tale {n}"}) + "\n" for n in range(10)))
    (tmp_path / "b.txt").write_text("\n\n".join([f"verse {n}" for n in range(10)] + ["tale 3"]))
    found = Mixture.parse([f"{tmp_path / 'a.jsonl.gz'}=2", tmp_path / "b.txt"])
    for streamed in (False, True):
        training, held_out = found.split(0, without=[Story("", "tale 4"), Story("", "verse 0")], streamed=streamed)
        assert training.visits.tolist() == [2] * 9 + [1] * 9 and list(held_out) == []
        assert [story.text for story in training.documents][8:10] == ["tale 9", "verse 1"]
        training, held_out = found.split(0, limit=3, streamed=streamed)
        assert training.visits.tolist() == [2] * 3 + [1] * 3
        kept, held_out = found.split(0.2, 0, keep_out=["Tale, 3", "verse 5", "no such"], words=2, streamed=streamed)
        texts = {story.text for story in kept.documents}
        lost = {"tale 3", "verse 5"} - {story.text for story in held_out}
        assert kept.dropped == len(lost) and not texts & lost and len(texts) == 20 - 4 - len(lost)
        with pytest.raises(ValueError, match="nothing is left to train on"):
            found.split(0, keep_out=["tale", "verse"], words=1, streamed=streamed)


def word_rows(count: int) -> tuple[Weighted, Blocks, torch.Tensor]:
    """Documents of different lengths of two sources, their rows, and what a pass shows of them."""
    documents = [Story("", "one two three " * (1 + 5 * (n % 3)) + f"number {n}") for n in range(count)]
    training = Weighted(
        Mixture({"a.txt": 3, "b.txt": 0.5}), documents, torch.arange(count) % 2, 1 + 2 * (1 - torch.arange(count) % 2)
    )
    return training, *training.pack(data.train_tokenizer(documents, 300), 16)


def test_rows_and_tokens():
    """Every row of a document is shown as often as the document is; nothing is copied."""
    training, blocks, visits = word_rows(12)
    assert blocks.documents.unique().tolist() == list(range(12)) and len(visits) == len(blocks.documents) > 12
    assert visits.tolist() == [training.visits[owner] for owner in blocks.documents]
    tokens = Counter()
    for row, owner in enumerate(blocks.documents.tolist()):
        for _ in range(int(training.visits[owner])):
            tokens["ab"[owner % 2] + ".txt"] += int(blocks.lengths[row])
    assert training.tokens(blocks) == tokens
    once = training._replace(visits=torch.ones(12, dtype=torch.int64))
    assert once.pack(data.train_tokenizer(training.documents, 300), 16)[1] is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=20).filter(any), st.integers(0, 5), st.integers(1, 7))
def test_a_pass_shows_each_row_as_often_as_it_says(visits, seed, batch):
    """Whole passes, whatever the steps are; and a step sees the same, whatever was asked before."""
    order, size = Order(len(visits), seed, torch.tensor(visits)), sum(visits)
    assert order.size == size
    numbers = torch.cat([order.rows(part) for part in torch.arange(3 * size).split(batch)])
    for one in numbers.split(size):
        assert torch.bincount(one, minlength=len(visits)).tolist() == visits
    middle = torch.arange(size, 2 * size)
    assert torch.equal(Order(len(visits), seed, torch.tensor(visits)).rows(middle), numbers[middle])
    same = Order(len(visits), seed), Order(len(visits), seed, torch.ones(len(visits), dtype=torch.int64))
    assert torch.equal(*(one.rows(torch.arange(2 * len(visits))) for one in same))


class Seen:
    """A recipe that keeps the rows it is given."""

    def batch(self, rows, progress, examples, seed, unit):
        return rows


@pytest.mark.parametrize("settings", [{"batch_size": 4}, {"batch_tokens": 70}])
def test_a_training_sees_the_mixture(settings):
    """Over whole passes, its share of every source's tokens is what ``tokens`` says; from any step on, too."""
    training, blocks, visits = word_rows(12)
    shown = int(visits.sum())
    config = TrainConfig(steps=4 * shown, seed=3, **settings)
    batches, later = (Batches(blocks, Seen(), config, visits=visits) for _ in range(2))
    rows, step = [], 0
    while len(rows) < 4 * shown:
        found = batches[step]
        rows += [(owner, length) for one in found.batches for owner, length in zip(*one[2:0:-1], strict=True)]
        step += 1
    seen = Counter()
    for owner, length in rows[: 4 * shown]:
        seen["ab"[int(owner) % 2] + ".txt"] += int(length)
    assert seen == {name: 4 * count for name, count in training.tokens(blocks).items()}
    for one, other in zip(batches[step - 1].batches, later[step - 1].batches, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_a_mixture_goes_on_as_it_began(tmp_path):
    """Ten rows, some of them three times: a run that was stopped ends as one that was not, with this mixture alone."""
    visits = torch.tensor([1, 3, 1, 1, 3, 1, 1, 3, 1, 1])
    blocks, recipe, shape = small_blocks(), AnyOrder(Curriculum.preset("spans")), {**CONFIG, "eval_every": 0}

    def trained(name: str, visits: torch.Tensor | None) -> dict:
        model = small_model()
        train(model, recipe, blocks, TrainConfig(**shape), tmp_path / name, quiet=True, visits=visits)
        return model.state_dict()

    whole, save = trained("whole", visits), loop.save_state

    def full(folder, step, *rest):
        if step > 6:
            raise OSError("No space left on device")
        save(folder, step, *rest)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(loop, "save_state", full)
        trained("stopped", visits)
    for other in (None, visits.roll(1)):
        with pytest.raises(ValueError, match="data.visits"):
            trained("stopped", other)
    again = trained("stopped", visits)
    assert all(torch.equal(whole[name], weight) for name, weight in again.items())
    assert any(not torch.equal(whole[name], weight) for name, weight in trained("plain", None).items())


@pytest.mark.parametrize("visits", [torch.ones(3).long(), torch.tensor([1, -1]), torch.tensor([0, 0])])
def test_visits_that_fit_no_rows(visits):
    with pytest.raises(ValueError, match="visits must say for each of the 2 rows"):
        Order(2, 0, visits)


READ = {
    "andersen": {"andersen": 1.0},
    "a.jsonl.gz=6": {"a.jsonl.gz": 6.0},
    "tinystories=.5": {"tinystories": 0.5},
    "lr=3.txt": {"lr=3.txt": 1.0},
    "lr=3.txt=6": {"lr=3.txt": 6.0},
    r"C:\books=old\a.txt=2e1": {r"C:\books=old\a.txt": 20.0},
    "owner/name=0.25": {"owner/name": 0.25},
    "simple": mixture.PRESETS["simple"],
    "simple=2": {name: 2 * weight for name, weight in mixture.PRESETS["simple"].items()},
}


@pytest.mark.parametrize("text, weights", READ.items(), ids=READ)
def test_how_a_mixture_is_written(text, weights):
    assert Mixture.parse([text]).weights == weights


def test_presets():
    found = Mixture.preset("simple")
    assert next(iter(found.weights)) == "tinystories" and found == Mixture.parse(["simple"])
    for name in found.weights:  # as the hub or a package calls it: no file of ours
        assert name in {*corpus.PACKAGED, *corpus.HUB} or name.count("/") == 1
    with pytest.raises(ValueError, match="no mixture 'hard'; there is simple"):
        Mixture.preset("hard")


def test_names_for_a_record():
    assert Mixture({"x/a.txt": 2, "andersen": 1}).names() == {"a.txt": 2.0, "andersen": 1.0}
    assert Mixture({"x/a.txt": 2, "y/a.txt": 1}).names() == {"x/a.txt": 2.0, "y/a.txt": 1.0}


BAD = {
    **{f"weight {bad!r}": ({"a.txt": bad}, "weight of a.txt must be a number above 0, at most 1,000, got")
       for bad in (0, -1, float("nan"), float("inf"), 1001, "6", True, None)},
    "none": ({}, "at least one source"),
}  # fmt: skip


@pytest.mark.parametrize("weights, message", BAD.values(), ids=BAD)
def test_bad_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        Mixture(weights)


@pytest.mark.parametrize(
    "texts, message",
    [
        (["a.txt=2", "a.txt"], "a.txt is named twice"),
        (["simple", "andersen=3"], "andersen is named twice"),
        (["a.txt=six"], "the weight of a.txt must be a number, got 'six'"),
        (["andersen="], "the weight of andersen must be a number, got ''"),
        (["simple=0"], "must be a number above 0"),
        ([], "at least one source"),
    ],
)
def test_bad_ways_to_write_it(texts, message):
    with pytest.raises(ValueError, match=message):
        Mixture.parse(texts)


def test_texts_that_cannot_be_mixed(tmp_path):
    (tmp_path / "one.txt").write_text("One document alone.")
    (tmp_path / "two.txt").write_text("One document alone.\n\nAnother one.")
    one, two = str(tmp_path / "one.txt"), str(tmp_path / "two.txt")
    for weights, validation, how, message in (
        ({one: 1}, 0.1, {}, "the text is one document"),
        ({one: 0.3}, 0, {}, "0.3 of its 1 documents is none"),
        ({two: 1, one: 6}, 0, {}, "one.txt: it has no document"),
        ({one: 1}, 0, {"without": [Story("", "One document alone.")]}, "nothing is left"),
        ({two: 1}, 2, {}, "validation must be a share"),
        ({two: 1, "nowhere": 2}, 0.1, {}, "unknown text 'nowhere'"),
    ):
        with pytest.raises(ValueError, match=message):
            Mixture(weights).split(validation, **how)
    read = []
    with pytest.MonkeyPatch.context() as patch, pytest.raises(FileNotFoundError, match="no file"):
        patch.setattr(corpus, "_local", lambda *how: iter(read.append(how) or []))
        Mixture({two: 1, str(tmp_path / "none.txt"): 2}).split(0.1)
    assert not [path for path, *_ in read if path.name == "none.txt"]
